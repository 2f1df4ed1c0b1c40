//! Follows the people of a live session from picture to picture.
//!
//! Every picture is read, but only some are samples of the result: at most [`SAMPLES_PER_SECOND`] faces a second. So the
//! memory of a session does not depend on its frame rate, and hardly on the number of people.
//!
//! The smoothed state of a person is a mean in which a picture counts less the older it is (exponential smoothing).

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::contact::contacts;
use super::rounding;
use super::{BBox, Emotion, Observation, PictureFace, Probabilities, Sighting, TimelineRow, Track, Tracker};

/// Maximum number of faces a second that are kept for the result.
const SAMPLES_PER_SECOND: f64 = 10.0;
/// A sample may be this many seconds early, because times of pictures jitter.
const JITTER_S: f64 = 0.005;
/// After this time in seconds, a picture has 1/e of its weight in the smoothed emotions. An expression lasts half a
/// second or more (see [`super::segments`]).
const EMOTIONS_TIME_S: f64 = 0.7;
/// The same for eye contact.
const CONTACT_TIME_S: f64 = 3.0;
/// The smoothed state of a person begins anew after an absence of this time in seconds.
const AWAY_S: f64 = 2.0;
/// Number of observations of a person from which eye contact is calibrated.
const CALIBRATION: usize = 300;

/// One face of a live picture.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveFace {
    /// `id` is the same in all pictures of the session in which the person is followed.
    #[serde(flatten)]
    face: PictureFace,
    state: LiveState,
}

/// The smoothed state of a person.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LiveState {
    /// The emotion with the highest smoothed probability.
    emotion: Emotion,
    /// Time of the picture from which on it has been this emotion, in seconds of the session.
    #[serde(serialize_with = "rounding::three")]
    since_s: f64,
    /// Smoothed probability of this emotion, 0 to 1.
    #[serde(serialize_with = "rounding::three")]
    confidence: f64,
    /// Smoothed valence, -1 to 1.
    #[serde(serialize_with = "rounding::three")]
    valence: f64,
    /// Smoothed arousal, -1 to 1.
    #[serde(serialize_with = "rounding::three")]
    arousal: f64,
    /// Smoothed share of the time with eye contact, 0 to 1. Null if it could not be read yet.
    #[serde(serialize_with = "rounding::maybe_three")]
    eye_contact: Option<f64>,
}

/// The people of a live session.
#[derive(Debug, Default)]
pub struct LivePeople {
    tracker: Tracker,
    /// By number of the track.
    smoothed: HashMap<u32, Smoothed>,
    /// Times of the samples.
    samples: Vec<f64>,
    /// Time from which on the next picture is a sample.
    next_sample_s: f64,
}

#[derive(Debug, Clone)]
struct Smoothed {
    time_s: f64,
    emotions: Probabilities,
    emotion: Emotion,
    since_s: f64,
    eye_contact: Option<f64>,
}

impl LivePeople {
    /// The index of the next sample, which the observations of the next picture must have.
    pub fn next_sample(&self) -> u32 {
        u32::try_from(self.samples.len()).unwrap_or(u32::MAX)
    }

    /// Takes the faces of the next picture, in order of time, in the coordinates of the first picture. Returns them in
    /// the same order, with their boxes in pixels of this picture, which are given. `by_eyes`: whether the landmark model
    /// was used.
    pub fn push(&mut self, time_s: f64, faces: Vec<Sighting>, boxes: &[BBox], by_eyes: bool) -> Vec<LiveFace> {
        let seen: Vec<Observation> = faces.iter().map(|face| face.seen.clone()).collect();
        let is_sample = time_s + JITTER_S >= self.next_sample_s;
        let numbers = if is_sample {
            #[expect(clippy::cast_precision_loss, reason = "a picture has few faces")]
            let weight = faces.len().max(1) as f64;
            let interval_s = weight / SAMPLES_PER_SECOND;
            self.next_sample_s = (self.next_sample_s + interval_s).max(time_s + interval_s / 2.0);
            self.samples.push(time_s);
            self.tracker.push(faces)
        } else {
            self.tracker.pass(faces)
        };
        self.smoothed.retain(|_, smoothed| time_s - smoothed.time_s <= AWAY_S);
        let faces = numbers.into_iter().zip(&seen).zip(boxes);
        faces.map(|((number, seen), bbox)| self.face(number, seen, *bbox, by_eyes)).collect()
    }

    fn face(&mut self, number: u32, seen: &Observation, bbox: BBox, by_eyes: bool) -> LiveFace {
        let contacts = contacts(self.tracker.recent(number, CALIBRATION), by_eyes);
        let contact = contacts.last().copied().unwrap_or_default();
        let smoothed = match self.smoothed.remove(&number) {
            None => Smoothed::new(seen, contact.met),
            Some(before) => before.next(seen, contact.met),
        };
        let state = smoothed.state();
        self.smoothed.insert(number, smoothed);
        let row = TimelineRow { bbox, ..TimelineRow::of(number, seen, &contact) };
        LiveFace { face: PictureFace::new(&row, seen.face.score), state }
    }

    /// Returns the times of the samples, and the tracks with their numbers.
    pub fn finish(self) -> (Vec<f64>, Vec<(u32, Track)>) {
        (self.samples, self.tracker.finish_with_numbers())
    }
}

impl Smoothed {
    fn new(seen: &Observation, met: Option<bool>) -> Self {
        let emotion = seen.emotions.top().0;
        let eye_contact = met.map(share);
        Self { time_s: seen.time_s, emotions: seen.emotions, emotion, since_s: seen.time_s, eye_contact }
    }

    /// The state after a further picture. A picture in which the face is seen poorly counts less.
    fn next(self, seen: &Observation, met: Option<bool>) -> Self {
        let passed_s = seen.time_s - self.time_s;
        let weight = |time_s: f64| 1.0 - (-passed_s / time_s).exp();
        let emotions = self.emotions.towards(&seen.emotions, weight(EMOTIONS_TIME_S) * f64::from(seen.quality));
        let emotion = emotions.top().0;
        let since_s = if emotion == self.emotion { self.since_s } else { seen.time_s };
        let eye_contact = match (self.eye_contact, met.map(share)) {
            (Some(before), Some(now)) => Some(before + weight(CONTACT_TIME_S) * (now - before)),
            (before, now) => now.or(before),
        };
        Self { time_s: seen.time_s, emotions, emotion, since_s, eye_contact }
    }

    fn state(&self) -> LiveState {
        let (valence, arousal) = self.emotions.valence_arousal();
        LiveState {
            emotion: self.emotion,
            since_s: self.since_s,
            confidence: f64::from(self.emotions.of(self.emotion)),
            valence,
            arousal,
            eye_contact: self.eye_contact,
        }
    }
}

fn share(met: bool) -> f64 {
    f64::from(u8::from(met))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing::seen;

    /// A picture of one face with this emotion.
    fn face(people: &LivePeople, time_s: f64, emotion: Emotion) -> Vec<Sighting> {
        let mut emotions = Probabilities([0.0; 7]);
        emotions.0[Emotion::ALL.iter().position(|other| *other == emotion).unwrap()] = 1.0;
        let seen = Observation { emotions, ..seen(people.next_sample(), time_s, (100.0, 100.0), 80.0) };
        vec![Sighting { seen, appearance: None }]
    }

    fn push(people: &mut LivePeople, time_s: f64, emotion: Emotion) -> LiveState {
        let faces = face(people, time_s, emotion);
        let bbox = BBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 };
        let face = people.push(time_s, faces, &[bbox], false).remove(0);
        let json = serde_json::to_value(&face).unwrap();
        assert_eq!((json["id"].as_u64(), json["bbox"]["width"].as_f64()), (Some(1), Some(3.0)));
        face.state
    }

    #[test]
    fn the_state_follows_lasting_expressions_and_not_single_pictures() {
        let mut people = LivePeople::default();
        for n in 0..30 {
            push(&mut people, f64::from(n) / 30.0, Emotion::Neutral);
        }
        let flicker = push(&mut people, 1.0, Emotion::Happy);
        assert_eq!((flicker.emotion, flicker.since_s), (Emotion::Neutral, 0.0));
        let states: Vec<_> = (31..60).map(|n| push(&mut people, f64::from(n) / 30.0, Emotion::Happy)).collect();
        let turned = states.iter().position(|state| state.emotion == Emotion::Happy).unwrap();
        assert!((5..25).contains(&turned), "{turned}");
        let last = states.last().unwrap();
        assert_eq!(last.since_s, f64::from(31 + u8::try_from(turned).unwrap()) / 30.0);
        assert!(last.confidence > 0.6 && last.valence > 0.5, "{last:?}");
        // After an absence, the state begins anew.
        let back = push(&mut people, 5.0, Emotion::Sad);
        assert_eq!((back.emotion, back.since_s, back.confidence), (Emotion::Sad, 5.0, 1.0));
    }

    #[test]
    fn the_result_has_ten_faces_a_second_whatever_the_frame_rate() {
        for (rate, faces, samples) in [(30_u32, 1_usize, 100), (5, 1, 50), (30, 5, 20)] {
            let mut people = LivePeople::default();
            for n in 0..10 * rate {
                let time_s = f64::from(n) / f64::from(rate);
                let one = face(&people, time_s, Emotion::Neutral).remove(0);
                let several = (0..faces).map(|place| {
                    let mut one = one.clone();
                    one.seen.face.bbox.x += 300.0 * place as f32;
                    one
                });
                let (several, boxes) = (several.collect(), vec![one.seen.face.bbox; faces]);
                assert_eq!(people.push(time_s, several, &boxes, true).len(), faces);
            }
            let (times, tracks) = people.finish();
            assert!(times.len().abs_diff(samples) <= samples / 10, "{rate} {faces}: {}", times.len());
            assert_eq!(tracks.len(), faces);
            for (_, track) in tracks {
                assert_eq!(track.observations.len(), times.len());
                let placed = track.observations.iter().all(|seen| times[seen.sample as usize] == seen.time_s);
                assert!(placed, "an observation has the index of another sample");
            }
        }
    }
}
