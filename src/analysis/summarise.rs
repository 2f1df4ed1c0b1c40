//! Computes the result from the tracks.
//!
//! A sample stands for the time around it, from halfway to the previous sample to halfway to the next one. So a video
//! with a variable frame rate is weighted by time and not by frames. In the averages of a person, a sample is
//! weighted by that time and by its quality ([`super::quality`]). People are weighted by their time on screen.

use std::collections::BTreeMap;

use super::blinks::Blinks;
use super::contact::{Contact, contacts};
use super::feedback::{FeedbackInput, remarks_on_one, remarks_on_one_of_several};
use super::intervals::{Block, blocks, intervals};
use super::segments::{away_s, segments};
use super::steadiness::steadiness;
use super::summary::sees_eyes;
use super::tally::{Figures, Tally};
use super::usual::Usual;
use super::weights::{Scores, SpeechScores};
use super::{
    Analysis, Emotion, FaceSummary, Findings, METRICS_VERSION, ModelUsed, Observation, Parts, Relative, Speech, Story,
    Summary, Timeline, TimelineRow, Track, VideoFacts, Warning,
};

/// Shortest time that a sample stands for, in seconds. It protects against wrong time stamps.
const MIN_SPAN_S: f64 = 1e-6;
/// Below this share of the time on screen in which eye contact could be read, the result has a warning.
const LITTLE_COVERAGE: f64 = 0.7;
/// From this share of the time with covered eyes or a covered mouth on, the result has a warning.
const COVERED: f64 = 0.1;
/// Seed of the random draws for the intervals. It is fixed, so that the same video gives the same intervals.
const SEED: u64 = 1977;

/// Computes the result of one video. `samples` are the times of all samples in order, including those without a face.
/// The `sample` of an observation is an index into them. `warnings` are those of the earlier stages. The result has
/// no sentences yet. [`crate::report`] adds them.
pub fn summarise(
    video: VideoFacts,
    samples: &[f64],
    tracks: &[Track],
    speech: Option<Speech>,
    models: Vec<ModelUsed>,
    mut warnings: Vec<Warning>,
) -> Findings {
    let interval_s = median_interval(samples);
    let sample_spans = sample_spans(samples, video.duration_s, interval_s);
    let length_s = sample_spans.last().map_or(MIN_SPAN_S, |(_, to)| to.max(MIN_SPAN_S));
    let by_eyes = sees_eyes(&models);
    let people: Vec<Person> =
        tracks.iter().filter_map(|track| Person::of(track, &sample_spans, (length_s, interval_s), by_eyes)).collect();
    if people.is_empty() {
        warnings.push(Warning::NoFace);
    }
    if !video.has_audio {
        warnings.push(Warning::NoSound);
    }
    let speech_scores = speech.as_ref().map_or_else(SpeechScores::default, |speech| SpeechScores {
        fluency: speech.fluency,
        clarity: speech.clarity.filter(|_| speech.ratio > 0.0),
    });
    // If there are several people, it is unknown who speaks.
    let own_speech_scores = if people.len() == 1 { speech_scores } else { SpeechScores::default() };
    let faces: Vec<FaceSummary> =
        people.iter().map(|person| person.summary(own_speech_scores, away_s(interval_s), by_eyes)).collect();
    let mut summary = whole(&people, speech_scores, by_eyes);
    let runs = if let [face] = faces.as_slice() { face.segments.as_slice() } else { &[] };
    summary.story = summary.emotions.as_ref().and_then(|emotions| Story::of(emotions, runs));
    summary.remarks = match (faces.as_slice(), people.as_slice()) {
        ([face], [_]) => {
            let moments = moments(&people[0]);
            let (parts, speech) = (summary.parts.as_ref(), speech.as_ref());
            remarks_on_one(&FeedbackInput { face, parts, speech, moments: &moments, by_eyes })
        }
        _ => {
            let one = |(face, person): (&FaceSummary, &Person)| {
                let (parts, moments) = (face.parts.as_ref(), moments(person));
                remarks_on_one_of_several(&FeedbackInput { face, parts, speech: None, moments: &moments, by_eyes })
            };
            faces.iter().zip(&people).map(one).collect()
        }
    };
    if summary.eye_contact.is_some() && !by_eyes {
        warnings.push(Warning::EyeContactByHead);
    }
    let coverage = summary.eye_contact_coverage.unwrap_or(1.0);
    // Covered eyes have a warning of their own.
    if by_eyes && coverage + summary.eyes_covered.unwrap_or(0.0) < LITTLE_COVERAGE {
        warnings.push(Warning::EyesRarelyRead { share: coverage });
    }
    let covered = |share: Option<f64>| share.filter(|share| *share >= COVERED);
    warnings.extend(covered(summary.eyes_covered).map(|share| Warning::EyesCovered { share }));
    warnings.extend(covered(summary.mouth_covered).map(|share| Warning::MouthCovered { share }));
    let timeline = Timeline { interval_s, rows: rows(&people) };
    let (warnings, warning_codes) = (Vec::new(), warnings);
    let analysis =
        Analysis { video, summary, speech, faces, models, metrics_version: METRICS_VERSION, warnings, warning_codes };
    Findings { analysis, timeline }
}

/// Returns the median of the times between samples in seconds, or 0 for fewer than two samples.
fn median_interval(samples: &[f64]) -> f64 {
    let mut intervals: Vec<f64> = samples.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_by(f64::total_cmp);
    intervals.get(intervals.len() / 2).copied().unwrap_or(0.0)
}

/// Returns the time that each sample stands for, from and to, in seconds. The first and the last one extend to the
/// start and the end of the video, but by at most one interval, because a longer part without samples was not seen.
pub(super) fn sample_spans(samples: &[f64], duration_s: f64, interval_s: f64) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    if samples.len() == 1 {
        return vec![(0.0, duration_s.max(MIN_SPAN_S))];
    }
    let start = (first - interval_s).max(0.0).min(*first);
    let end = (last + interval_s).min(duration_s.max(*last));
    (0..samples.len())
        .map(|i| {
            let before = if i == 0 { start } else { f64::midpoint(samples[i - 1], samples[i]) };
            let after = samples.get(i + 1).map_or(end, |next| f64::midpoint(samples[i], *next));
            (before, after.max(before + MIN_SPAN_S))
        })
        .collect()
}

/// One person and the sums over the samples.
struct Person<'a> {
    track: &'a Track,
    contacts: Vec<Contact>,
    /// One for each sample.
    tallies: Vec<Tally>,
    blocks: Vec<Block>,
    /// The sum over all samples.
    tally: Tally,
    figures: Figures,
    blinks: Blinks,
    /// The time that each sample stands for.
    spans: Vec<(f64, f64)>,
    /// `None` if the person was seen too briefly.
    usual: Option<Usual>,
}

impl<'a> Person<'a> {
    /// Computes the sums of a track. Returns `None` for a track without observations.
    fn of(
        track: &'a Track,
        sample_spans: &[(f64, f64)],
        (length_s, interval_s): (f64, f64),
        by_eyes: bool,
    ) -> Option<Self> {
        let seen = &track.observations;
        let contacts = contacts(seen, by_eyes);
        let spans: Vec<(f64, f64)> = seen.iter().map(|seen| sample_span(sample_spans, seen)).collect();
        let tallies: Vec<Tally> = seen
            .iter()
            .zip(&contacts)
            .zip(steadiness(seen))
            .zip(&spans)
            .map(|(((seen, contact), steadiness), (from, to))| Tally::of(seen, *contact, steadiness, to - from))
            .collect();
        let mut tally = Tally::default();
        for sample in &tallies {
            tally.add(sample, 1.0);
        }
        let timed = seen.iter().zip(&tallies).map(|(seen, tally)| (seen.time_s, *tally));
        let blocks = blocks(timed, length_s);
        let blinks = Blinks::count(seen, &contacts, interval_s);
        let usual = Usual::of(seen, &spans);
        Some(Self { track, contacts, blocks, tally, figures: tally.figures()?, blinks, tallies, spans, usual })
    }

    fn summary(&self, speech_scores: SpeechScores, away_s: f64, by_eyes: bool) -> FaceSummary {
        let seen = &self.track.observations;
        let mut counts: BTreeMap<Emotion, u32> = BTreeMap::new();
        let mut confidence: BTreeMap<Emotion, f64> = BTreeMap::new();
        for seen in seen {
            let (emotion, p) = seen.emotions.top();
            *counts.entry(emotion).or_default() += 1;
            *confidence.entry(emotion).or_default() += f64::from(p);
        }
        for (emotion, sum) in &mut confidence {
            *sum /= f64::from(counts[emotion]);
        }
        let frames = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let scores = Scores::of(&self.figures, speech_scores);
        let mut intervals = intervals(&[&self.blocks], speech_scores, SEED);
        if let Some(intervals) = &mut intervals {
            intervals.overall_score = None;
        }
        let emotions = percent(&self.figures.emotions);
        let segments = segments(seen, &self.spans, away_s, self.usual.as_ref());
        FaceSummary {
            id: self.track.id,
            first_s: seen.first().map_or(0.0, |seen| seen.time_s),
            last_s: seen.last().map_or(0.0, |seen| seen.time_s),
            frames,
            dominant_emotion: dominant(&self.figures.emotions),
            story: Story::of(&emotions, &segments),
            emotions,
            emotion_counts: counts,
            average_confidence: confidence,
            embeddings_shape: [frames, 7],
            example_embedding: seen.first().map_or([0.0; 7], |seen| seen.emotions.0),
            eye_contact: self.figures.eye_contact,
            eye_contact_coverage: self.figures.eye_contact_coverage,
            eyes_covered: self.figures.eyes_covered,
            mouth_covered: self.figures.mouth_covered,
            emotions_coverage: self.figures.bare.filter(|_| by_eyes),
            blinks_per_minute: self.blinks.per_minute(),
            calmness: self.figures.calmness,
            valence: self.figures.valence,
            arousal: self.figures.arousal,
            model_confidence: Some(self.figures.confidence),
            presence: scores.presence,
            parts: Some(Parts { overall_score: Vec::new(), ..scores.parts }),
            intervals,
            segments,
            relative: Some(self.usual.map_or(Relative::TooBrief, |usual| usual.compared(seen, &self.spans, away_s))),
        }
    }
}

/// Returns the time that the sample of an observation stands for.
fn sample_span(sample_spans: &[(f64, f64)], seen: &Observation) -> (f64, f64) {
    sample_spans.get(seen.sample as usize).copied().unwrap_or((seen.time_s, seen.time_s + MIN_SPAN_S))
}

/// Summarises all people together, each weighted by time on screen.
fn whole(people: &[Person], speech_scores: SpeechScores, by_eyes: bool) -> Summary {
    let mut all = Tally::default();
    for person in people {
        all.add(&person.tally.among_others(), 1.0);
    }
    let figures = all.figures();
    let scores = figures.as_ref().map(|figures| Scores::of(figures, speech_scores));
    let blocks: Vec<&[Block]> = people.iter().map(|person| person.blocks.as_slice()).collect();
    Summary {
        dominant_emotion: figures.map(|figures| dominant(&figures.emotions)),
        story: None,
        emotions: figures.map(|figures| percent(&figures.emotions)),
        calmness: figures.map(|figures| figures.calmness),
        eye_contact: figures.and_then(|figures| figures.eye_contact),
        eye_contact_coverage: figures.and_then(|figures| figures.eye_contact_coverage),
        eyes_covered: figures.and_then(|figures| figures.eyes_covered),
        mouth_covered: figures.and_then(|figures| figures.mouth_covered),
        emotions_coverage: figures.and_then(|figures| figures.bare).filter(|_| by_eyes),
        blinks_per_minute: people.iter().map(|person| person.blinks).fold(Blinks::default(), Blinks::plus).per_minute(),
        model_confidence: figures.map(|figures| figures.confidence),
        valence: figures.map(|figures| figures.valence),
        arousal: figures.map(|figures| figures.arousal),
        presence: scores.as_ref().and_then(|scores| scores.presence),
        overall_score: scores.as_ref().and_then(|scores| scores.overall),
        parts: scores.map(|scores| scores.parts),
        intervals: intervals(&blocks, speech_scores, SEED),
        feedback: Vec::new(),
        remarks: Vec::new(),
    }
}

/// Returns the time from and to, and the sums, for each sample with the person.
fn moments(person: &Person) -> Vec<(f64, f64, Tally)> {
    person.spans.iter().zip(&person.tallies).map(|((from, to), tally)| (*from, *to, *tally)).collect()
}

fn rows(people: &[Person]) -> Vec<TimelineRow> {
    let mut rows: Vec<TimelineRow> = people
        .iter()
        .flat_map(|Person { track, contacts, usual, .. }| {
            track.observations.iter().zip(contacts).map(|(seen, contact)| TimelineRow {
                relative: usual.map(|usual| usual.relative(&seen.emotions)),
                ..TimelineRow::of(track.id, seen, contact)
            })
        })
        .collect();
    rows.sort_by(|a, b| a.time_s.total_cmp(&b.time_s).then(a.face.cmp(&b.face)));
    rows
}

/// Returns the emotion with the highest mean. On a tie it is the earlier label.
fn dominant(means: &[f64; 7]) -> Emotion {
    Emotion::ALL
        .into_iter()
        .fold(Emotion::Angry, |best, e| if means[e.index()] > means[best.index()] { e } else { best })
}

fn percent(means: &[f64; 7]) -> BTreeMap<Emotion, f64> {
    Emotion::ALL.into_iter().map(|emotion| (emotion, 100.0 * means[emotion.index()])).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::{all, facts, probabilities, track};
    use crate::analysis::{Covered, LANDMARK_MODEL, Pose, Probabilities};

    #[test]
    fn a_sample_stands_for_the_time_around_it() {
        let spans = |samples: &[f64], duration_s, interval_s| -> Vec<f64> {
            sample_spans(samples, duration_s, interval_s).iter().map(|(from, to)| to - from).collect()
        };
        assert_eq!(sample_spans(&[0.0, 1.0, 2.0], 3.0, 1.0), [(0.0, 0.5), (0.5, 1.5), (1.5, 3.0)]);
        assert_eq!(spans(&[0.0, 1.0, 2.0], 3.0, 1.0), [0.5, 1.0, 1.5]);
        assert_eq!(spans(&[0.0, 1.0, 5.0], 5.5, 1.0), [0.5, 2.5, 2.5]);
        // A duration of the container beyond the last picture is not counted.
        assert_eq!(spans(&[0.0, 1.0, 2.0], 3600.0, 1.0), [0.5, 1.0, 1.5]);
        assert_eq!(spans(&[0.0], 4.0, 0.0), [4.0]);
        assert!(spans(&[], 4.0, 0.0).is_empty());
    }

    #[test]
    fn samples_are_weighted_by_time() {
        // There are many samples in the first second, and few in the next nine.
        let times: Vec<f64> = (0..10).map(|i| f64::from(i) / 10.0).chain([4.0, 7.0, 10.0]).collect();
        let shown: Vec<Probabilities> =
            times.iter().map(|t| if *t < 1.0 { all(Emotion::Happy) } else { all(Emotion::Sad) }).collect();
        let found = summarise(facts(10.0, true), &times, &[track(1, &times, &shown)], None, vec![], vec![]);
        assert_eq!(found.analysis.summary.dominant_emotion, Some(Emotion::Sad));
        assert!(found.analysis.summary.emotions.unwrap()[&Emotion::Sad] > 70.0);
        assert_eq!(found.analysis.faces[0].emotion_counts, [(Emotion::Happy, 10), (Emotion::Sad, 3)].into());
    }

    #[test]
    fn people_are_weighted_by_their_time_on_screen() {
        let times: Vec<f64> = (0..10).map(f64::from).collect();
        let long = track(1, &times, &[all(Emotion::Sad); 10]);
        let short = track(2, &times[..2], &[all(Emotion::Happy); 2]);
        let found = summarise(facts(10.0, true), &times, &[long, short], None, vec![], vec![]);
        let emotions = found.analysis.summary.emotions.unwrap();
        // One person is on screen for 10 s and the other one for 1.5 s.
        assert!((emotions[&Emotion::Happy] - 100.0 * 1.5 / 11.5).abs() < 1e-9, "{emotions:?}");
    }

    #[test]
    fn eye_contact_is_the_share_of_the_time_in_which_it_could_be_read() {
        let times = [0.0, 1.0, 2.0, 3.0];
        let mut person = track(1, &times, &[all(Emotion::Neutral); 4]);
        person.observations[1].pose = Some(Pose { yaw: 50.0, ..Pose::default() });
        // A turned head has a low quality, which must not change its weight in eye contact.
        person.observations[1].quality = 0.1;
        person.observations[3].pose = None;
        let found = summarise(facts(3.5, true), &times, std::slice::from_ref(&person), None, vec![], vec![]);
        assert_eq!(found.analysis.summary.eye_contact, Some(100.0 * 1.5 / 2.5));
        assert_eq!(
            found.timeline.rows.iter().map(|row| row.eye_contact).collect::<Vec<_>>(),
            [Some(true), Some(false), Some(true), None]
        );
        for seen in &mut person.observations {
            seen.pose = None;
        }
        let found = summarise(facts(3.5, true), &times, &[person], None, vec![], vec![]);
        assert_eq!((found.analysis.summary.eye_contact, found.analysis.faces[0].eye_contact), (None, None));
    }

    #[test]
    fn expressions_count_as_read_if_the_landmarks_show_bare_eyes_and_a_bare_mouth() {
        let times = [0.0, 1.0, 2.0, 3.0];
        let mut person = track(1, &times, &[all(Emotion::Neutral); 4]);
        let covered = [Some(Covered::default()), Some(Covered { eyes: false, mouth: true }), None, None];
        for (seen, covered) in person.observations.iter_mut().zip(covered) {
            seen.covered = covered;
        }
        let coverage = |models: Vec<ModelUsed>| {
            let found = summarise(facts(3.5, true), &times, std::slice::from_ref(&person), None, models, vec![]);
            (found.analysis.summary.emotions_coverage, found.analysis.faces[0].emotions_coverage)
        };
        let landmarks = ModelUsed { name: LANDMARK_MODEL.to_owned(), sha256: String::new() };
        assert_eq!(coverage(vec![landmarks]), (Some(0.5 / 3.5), Some(0.5 / 3.5)));
        assert_eq!(coverage(vec![]), (None, None));
    }

    #[test]
    fn a_video_without_faces_has_no_figures_and_says_why() {
        let found = summarise(facts(4.0, false), &[0.0, 1.0], &[], None, vec![], vec![Warning::NoSpeech]);
        insta::assert_json_snapshot!(found.analysis);
        assert!(found.timeline.rows.is_empty());
    }

    #[test]
    fn an_analysis_reads_like_the_contract() {
        let times: Vec<f64> = (0..24).map(|i| f64::from(i) * 0.834).collect();
        let sad = Probabilities([0.02, 0.01, 0.1, 0.05, 0.7, 0.02, 0.1]);
        let happy = Probabilities([0.01, 0.0, 0.01, 0.93, 0.0, 0.02, 0.03]);
        let shown: Vec<Probabilities> = (0..24).map(|i| if i < 13 { sad } else { happy }).collect();
        let people = [track(1, &times, &shown), track(2, &times[..7], &shown[..7])];
        let models = vec![ModelUsed { name: "yunet".to_owned(), sha256: "00ff".to_owned() }];
        let found = summarise(facts(19.69, true), &times, &people, None, models, vec![]);
        insta::assert_json_snapshot!(found.analysis);
        assert_eq!(found.timeline.rows.len(), 31);
        assert!((found.timeline.interval_s - 0.834).abs() < 1e-9);
        let order: Vec<(u64, u32)> =
            found.timeline.rows.iter().map(|row| ((row.time_s * 1000.0) as u64, row.face)).collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn figures_are_in_range_and_percentages_sum_to_a_hundred(
            people in prop::collection::vec(prop::collection::vec((probabilities(), 0.05_f32..=1.0), 1..30), 1..4),
            gaps in prop::collection::vec(0.0_f64..5.0, 30),
        ) {
            let times: Vec<f64> = gaps.iter().scan(0.0, |t, gap| { *t += gap; Some(*t) }).collect();
            let tracks: Vec<Track> = people.iter().zip(1_u32..).map(|(shown, id)| {
                let emotions: Vec<Probabilities> = shown.iter().map(|(emotions, _)| *emotions).collect();
                let mut track = track(id, &times, &emotions);
                for (seen, (_, quality)) in track.observations.iter_mut().zip(shown) {
                    seen.quality = *quality;
                }
                track
            }).collect();
            let found = summarise(facts(200.0, true), &times, &tracks, None, vec![], vec![]);
            let summary = &found.analysis.summary;
            let sums = found.analysis.faces.iter().map(|face| &face.emotions).chain(&summary.emotions);
            for emotions in sums {
                prop_assert!((emotions.values().sum::<f64>() - 100.0).abs() < 1e-6);
                prop_assert!(emotions.values().all(|share| (0.0..=100.0 + 1e-9).contains(share)));
            }
            prop_assert!((0.0..=100.0 + 1e-9).contains(&summary.calmness.unwrap()));
            prop_assert!((0.0..=100.0 + 1e-9).contains(&summary.eye_contact.unwrap()));
            prop_assert!((1.0 / 7.0 - 1e-6..=1.0).contains(&summary.model_confidence.unwrap()));
            prop_assert!((-1.0..=1.0).contains(&summary.valence.unwrap()));
            prop_assert!((-1.0..=1.0).contains(&summary.arousal.unwrap()));
            prop_assert_eq!(found.timeline.rows.len(), people.iter().map(Vec::len).sum::<usize>());
        }

        #[test]
        fn permuting_the_labels_permutes_the_shares(
            shown in prop::collection::vec(probabilities(), 2..20),
            order in Just([0_usize, 1, 2, 3, 4, 5, 6]).prop_shuffle(),
        ) {
            let times: Vec<f64> = (0..shown.len()).map(|i| i as f64).collect();
            let shuffled: Vec<Probabilities> =
                shown.iter().map(|p| Probabilities(order.map(|from| p.0[from]))).collect();
            let percent = |emotions: &[Probabilities]| {
                let found = summarise(facts(20.0, true), &times, &[track(1, &times, emotions)], None, vec![], vec![]);
                found.analysis.summary.emotions.unwrap()
            };
            let (plain, mixed) = (percent(&shown), percent(&shuffled));
            for (to, from) in order.iter().enumerate() {
                prop_assert!((mixed[&Emotion::ALL[to]] - plain[&Emotion::ALL[*from]]).abs() < 1e-9);
            }
        }
    }
}
