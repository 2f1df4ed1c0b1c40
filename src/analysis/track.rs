//! Assigns observations to people.
//!
//! Each person has an affinity to each face of a sample. It is computed from position, motion and appearance:
//!
//! - Position: the velocity of a person predicts the position of the face in the next sample ([`super::motion`]). The
//!   affinity is the overlap with the predicted or the last position. Without overlap (few samples a second, quick
//!   movement) it comes from the distance, if the size is similar.
//! - Appearance: the colours of hair, skin and clothes ([`super::appearance`]). A face that looks like another person
//!   has no affinity at any position, because a cut may put one person in the place of another. A face that looks like
//!   the same person has an affinity at any position, because a person may be elsewhere in the picture after a cut. If
//!   the appearance is unknown, the position alone counts.
//!
//! Faces are assigned so that the sum of the affinities is largest. So two people keep their identities when they
//! cross, when one hides the other for a while, and when they change places at a cut. A person who is not seen for a
//! while (a hand before the face, a head turned away) stays the same person.

use serde::{Deserialize, Serialize};

use super::motion::{Motion, assign};
use super::{Appearance, BBox, Observation};

/// Minimum intersection over union for an affinity by overlap.
const SAME_IOU: f32 = 0.2;
/// Largest distance of the centres for an affinity without overlap, in sides of the face. It doubles over the first
/// second between the samples.
const REACH: f32 = 1.0;
/// Largest ratio of the sizes for an affinity without overlap.
const SIZE_RATIO: f32 = 1.8;
/// A person who was not seen for longer than this, in seconds, has no affinity by position.
const MAX_GAP_S: f64 = 10.0;
/// Loss of affinity for each second since the person was last seen.
const STALENESS: f32 = 0.05;
/// Loss of affinity by the last position instead of the predicted one.
const LAST_POSITION_PENALTY: f32 = 0.4;
/// Smallest affinity. A face with it is assigned if nothing else competes.
const MIN_AFFINITY: f32 = 0.01;

/// Appearances with a smaller [`Appearance::similarity`] are different people. The same person has 0.8 or more, two
/// people mostly less than 0.6.
const DIFFERENT_PERSON: f32 = 0.68;
/// Affinity that appearance adds to the one by position: 0 at that similarity, and this value at similarity 1.
const APPEARANCE_WEIGHT: f32 = 1.0;
/// Minimum similarity for an affinity by appearance alone, at any position.
pub(super) const SAME_APPEARANCE: f32 = 0.8;
/// Largest affinity by appearance alone. It is small, so that near people come first.
const APPEARANCE_ALONE: f32 = 0.4;
/// A person who was not seen for longer than this, in seconds, has no affinity by appearance either. It is longer than
/// [`MAX_GAP_S`], because a cut to another person may last.
const APPEARANCE_LASTS_S: f64 = 30.0;

/// A track is dropped as a false alarm if it has fewer samples than this, a smaller share than [`SMALL_SHARE`], and
/// no score of [`SURE_SCORE`].
const FEW_SAMPLES: usize = 3;
/// Share of the samples of the video.
const SMALL_SHARE: f64 = 0.02;
/// Score of a certain detection.
const SURE_SCORE: f32 = 0.85;

/// One person's observations, in order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// From 1, in order of first appearance.
    pub id: u32,
    pub observations: Vec<Observation>,
}

/// A face of one sample and the appearance of the person. The appearance is dropped with the tracker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    pub seen: Observation,
    pub appearance: Option<Appearance>,
}

/// Assigns the faces of each sample to people.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: Vec<Vec<Observation>>,
    /// Motion of the face of each track.
    motions: Vec<Motion>,
    /// Appearance of the person of each track.
    appearances: Vec<Option<Appearance>>,
    /// Whether the last observation of each track is dropped when the track continues.
    is_passing: Vec<bool>,
    /// Indices of the tracks that may continue.
    active: Vec<usize>,
    /// Number of samples so far.
    samples: u32,
}

impl Tracker {
    /// Takes the faces of the next sample, in order of time. It has to be called for samples without faces, too. Returns
    /// the number of each face's track, from 1. It counts false alarms, too, so it is not the id of the finished track.
    pub fn push(&mut self, faces: Vec<Sighting>) -> Vec<u32> {
        self.samples += 1;
        self.assign(faces, false)
    }

    /// Takes the faces of a picture between two samples, like [`Tracker::push`]. They are used to follow the people, but
    /// are not in the finished tracks.
    pub fn pass(&mut self, faces: Vec<Sighting>) -> Vec<u32> {
        self.assign(faces, true)
    }

    /// Returns the last observations of the track with this number, at most `most`.
    pub fn recent(&self, number: u32, most: usize) -> &[Observation] {
        let track = self.tracks.get((number as usize).wrapping_sub(1)).map_or(&[][..], Vec::as_slice);
        &track[track.len().saturating_sub(most)..]
    }

    /// Assigns faces to tracks. Returns the number of each face's track.
    fn assign(&mut self, faces: Vec<Sighting>, is_passing: bool) -> Vec<u32> {
        let Some(now) = faces.first().map(|face| face.seen.time_s) else { return Vec::new() };
        let tracks = &self.tracks;
        let last = |track: usize| tracks[track].last();
        let (active, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.active)
            .into_iter()
            .partition(|&track| last(track).is_some_and(|last| now - last.time_s <= APPEARANCE_LASTS_S));
        self.active = active;
        for track in ended {
            self.appearances[track] = None;
            self.drop_passing(track);
        }

        let affinities: Vec<Vec<f32>> =
            faces.iter().map(|seen| self.active.iter().map(|&track| self.affinity(track, seen)).collect()).collect();
        let owners = assign(&affinities);
        // `owners` are indices into the active tracks before new ones are added.
        let active = self.active.clone();
        let mut numbers = Vec::with_capacity(faces.len());
        for (Sighting { seen, appearance }, owner) in faces.into_iter().zip(owners) {
            let (bbox, time_s) = (seen.face.bbox, seen.time_s);
            let track = if let Some(track) = owner.map(|owner| active[owner]) {
                self.motions[track].update(bbox, time_s);
                self.drop_passing(track);
                self.tracks[track].push(seen);
                self.is_passing[track] = is_passing;
                match (&mut self.appearances[track], appearance) {
                    (Some(known), Some(appearance)) => known.update(&appearance),
                    (known @ None, appearance) => *known = appearance,
                    (Some(_), None) => {}
                }
                track
            } else {
                let track = self.tracks.len();
                self.active.push(track);
                self.motions.push(Motion::new(bbox, time_s));
                self.tracks.push(vec![seen]);
                self.appearances.push(appearance);
                self.is_passing.push(is_passing);
                track
            };
            numbers.push(u32::try_from(track + 1).unwrap_or(u32::MAX));
        }
        numbers
    }

    /// Drops the last observation of a track if it is not one of a sample.
    fn drop_passing(&mut self, track: usize) {
        if std::mem::take(&mut self.is_passing[track]) {
            self.tracks[track].pop();
        }
    }

    /// Returns the affinity of a person to a face, or 0 for none.
    fn affinity(&self, track: usize, Sighting { seen, appearance }: &Sighting) -> f32 {
        let Some(last) = self.tracks[track].last() else { return 0.0 };
        let similarity = self.appearances[track]
            .as_ref()
            .zip(appearance.as_ref())
            .and_then(|(known, appearance)| known.similarity(appearance));
        if similarity.is_some_and(|similarity| similarity < DIFFERENT_PERSON) {
            return 0.0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most APPEARANCE_LASTS_S")]
        let gap_s = (seen.time_s - last.time_s) as f32;
        let by =
            |bbox: &BBox| affinity_by_position(bbox, &seen.face.bbox, gap_s).filter(|_| f64::from(gap_s) <= MAX_GAP_S);
        let (predicted, last) = (by(&self.motions[track].predict(seen.time_s)), by(&last.face.bbox));
        let by_position =
            predicted.into_iter().chain(last.map(|affinity| affinity - LAST_POSITION_PENALTY)).reduce(f32::max);
        let by_position = by_position.map(|affinity| affinity.max(MIN_AFFINITY));
        match (by_position, similarity) {
            (Some(affinity), Some(similarity)) => {
                affinity + APPEARANCE_WEIGHT * (similarity - DIFFERENT_PERSON) / (1.0 - DIFFERENT_PERSON)
            }
            (Some(affinity), None) => affinity,
            (None, Some(similarity)) if similarity >= SAME_APPEARANCE => {
                MIN_AFFINITY + APPEARANCE_ALONE * (similarity - SAME_APPEARANCE) / (1.0 - SAME_APPEARANCE)
            }
            (None, _) => 0.0,
        }
    }

    /// Returns the tracks in order of first appearance. Drops false alarms of the detector: tracks with fewer than 3
    /// samples, less than 2 % of all samples, and no score of 0.85 or more.
    pub fn finish(self) -> Vec<Track> {
        self.finish_with_numbers().into_iter().map(|(_, track)| track).collect()
    }

    /// Does the same as [`Tracker::finish`]. Returns the number of each track, too.
    pub fn finish_with_numbers(mut self) -> Vec<(u32, Track)> {
        for track in 0..self.tracks.len() {
            self.drop_passing(track);
        }
        let samples = f64::from(self.samples);
        let is_person = |track: &Vec<Observation>| {
            #[expect(clippy::cast_precision_loss, reason = "less than FEW_SAMPLES matters")]
            let share = track.len() as f64 / samples.max(1.0);
            let sure = track.iter().any(|seen| seen.face.score >= SURE_SCORE);
            !track.is_empty() && (track.len() >= FEW_SAMPLES || share >= SMALL_SHARE || sure)
        };
        (1..)
            .zip(self.tracks)
            .filter(|(_, track)| is_person(track))
            .zip(1..)
            .map(|((number, observations), id)| (number, Track { id, observations }))
            .collect()
    }
}

/// Returns the affinity by position of a person in one box to a face in another: above 1 by overlap, up to 1 by
/// distance.
fn affinity_by_position(last: &BBox, now: &BBox, gap_s: f32) -> Option<f32> {
    let stale = gap_s * STALENESS;
    let iou = last.iou(now);
    if iou >= SAME_IOU {
        return Some(1.0 + iou - stale);
    }
    let (before, after) = (last.area().sqrt(), now.area().sqrt());
    if before <= 0.0 || after <= 0.0 || before.max(after) / before.min(after) > SIZE_RATIO {
        return None;
    }
    let (from, to) = (last.centre(), now.centre());
    let moved = (from.x - to.x).hypot(from.y - to.y) / f32::midpoint(before, after);
    let reach = REACH * (1.0 + gap_s.clamp(0.0, 1.0));
    (moved < reach).then(|| 1.0 - moved / reach - stale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::appearance::tests::wearing;
    use crate::analysis::testing::seen;

    /// Tracks faces without an appearance.
    fn tracks_of(samples: Vec<Vec<Observation>>) -> Vec<Track> {
        let mut tracker = Tracker::default();
        for faces in samples {
            tracker.push(faces.into_iter().map(|seen| Sighting { seen, appearance: None }).collect());
        }
        tracker.finish()
    }

    /// Returns the appearance of a person in a red (`r`) or blue (`b`) shirt, or of one with other colours (`x`).
    fn appearance(who: char) -> Appearance {
        match who {
            'r' => wearing([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [45.0, 48.0, 30.0]),
            'b' => wearing([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [35.0, 5.0, -30.0]),
            _ => wearing([70.0, 5.0, 40.0], [40.0, 15.0, 25.0], [80.0, 0.0, 0.0]),
        }
    }

    /// Tracks the people of one sample a second, given as letters with positions. Returns the letters of each track.
    fn track_letters(samples: &[&[(char, f32)]]) -> Vec<String> {
        let mut tracker = Tracker::default();
        // The side of the face encodes the letter.
        let side = |who: char| 80.0 + f32::from(who as u8 - b'a') / 10.0;
        for (faces, i) in samples.iter().zip(0_u32..) {
            let face = |&(who, x): &(char, f32)| Sighting {
                seen: seen(i, f64::from(i), (x, 100.0), side(who)),
                appearance: Some(appearance(who)),
            };
            tracker.push(faces.iter().map(face).collect());
        }
        let who = |seen: &Observation| ['r', 'b', 'x'].into_iter().find(|who| side(*who) == seen.face.bbox.width);
        tracker.finish().iter().map(|track| track.observations.iter().filter_map(who).collect()).collect()
    }

    #[test]
    fn two_people_who_change_places_at_a_cut_keep_their_identities() {
        let (before, after): (&[_], &[_]) = (&[('r', 100.0), ('b', 400.0)], &[('b', 100.0), ('r', 400.0)]);
        assert_eq!(track_letters(&[before, before, before, after, after, after]), ["rrrrrr", "bbbbbb"]);
        assert_eq!(track_letters(&[before, before, after, before, after]), ["rrrrr", "bbbbb"]);
    }

    #[test]
    fn a_person_in_the_place_of_another_after_a_cut_is_a_new_track() {
        assert_eq!(track_letters(&[&[('r', 100.0)], &[('r', 100.0)], &[('x', 100.0)], &[('x', 100.0)]]), ["rr", "xx"]);
    }

    #[test]
    fn a_person_keeps_the_identity_after_a_cut_back_at_any_position() {
        let samples: [&[_]; 7] = [
            &[('r', 100.0)],
            &[('r', 100.0)],
            &[('x', 100.0)],
            &[('x', 100.0)],
            &[('r', 100.0)],
            &[('x', 100.0)],
            &[('r', 420.0)],
        ];
        assert_eq!(track_letters(&samples), ["rrrr", "xxx"]);
        // Without an appearance, a face at a distant position is a second person.
        let at = |i: u32, x| vec![seen(i, f64::from(i), (x, 100.0), 80.0)];
        assert_eq!(tracks_of(vec![at(0, 100.0), at(1, 100.0), at(2, 420.0)]).len(), 2);
    }

    #[test]
    fn pictures_between_samples_guide_the_tracks_and_are_not_in_them() {
        let face = |sample: u32, time_s: f64, x: f32, score: f32| {
            let mut seen = seen(sample, time_s, (x, 100.0), 80.0);
            seen.face.score = score;
            vec![Sighting { seen, appearance: None }]
        };
        let mut tracker = Tracker::default();
        // A false alarm, then somebody who moves too far between two samples to be followed by the samples alone.
        assert_eq!(tracker.pass(face(0, 0.0, 900.0, 0.6)), [1]);
        assert_eq!(tracker.push(face(0, 0.1, 100.0, 0.9)), [2]);
        for (n, x) in (1..=5_u8).zip([160.0, 220.0, 280.0, 340.0, 400.0]) {
            assert_eq!(tracker.pass(face(1, 0.1 + 0.1 * f64::from(n), x, 0.9)), [2]);
        }
        assert_eq!(tracker.recent(2, 5).iter().map(|seen| seen.face.bbox.x).collect::<Vec<_>>(), [60.0, 360.0]);
        assert_eq!(tracker.push(face(1, 0.7, 460.0, 0.9)), [2]);
        assert_eq!(tracker.pass(face(2, 0.8, 520.0, 0.9)), [2]);
        assert_eq!((tracker.recent(2, 1).len(), tracker.recent(0, 9).len(), tracker.recent(9, 9).len()), (1, 0, 0));
        let tracks = tracker.finish_with_numbers();
        let found: Vec<_> =
            tracks.iter().map(|(number, track)| (*number, track.id, track.observations.len())).collect();
        assert_eq!(found, [(2, 1, 2)]);
    }

    #[test]
    fn two_people_who_look_alike_are_distinguished_by_position() {
        let both: &[_] = &[('r', 100.0), ('r', 300.0)];
        assert_eq!(track_letters(&[both, both, both]), ["rrr", "rrr"]);
    }

    #[test]
    fn a_face_behind_a_hand_stays_the_same_person() {
        let samples = (0..30_u32)
            .map(|i| {
                let hidden = (5..15).contains(&i);
                if hidden { vec![] } else { vec![seen(i, f64::from(i) * 0.8, (200.0, 150.0), 80.0)] }
            })
            .collect();
        let tracks = tracks_of(samples);
        assert_eq!(tracks.iter().map(|track| track.observations.len()).collect::<Vec<_>>(), [20]);
    }

    #[test]
    fn a_person_who_returns_after_a_long_absence_is_a_new_track() {
        let at = |i: u32, time_s| vec![seen(i, time_s, (200.0, 150.0), 80.0)];
        assert_eq!(tracks_of(vec![at(0, 0.0), at(1, 1.0), at(2, 12.0), at(3, 13.0)]).len(), 2);
    }

    #[test]
    fn a_quick_head_is_tracked_without_overlap_up_to_a_limit() {
        let at = |i: u32, x| vec![seen(i, f64::from(i) * 0.8, (x, 100.0), 80.0)];
        assert_eq!(tracks_of(vec![at(0, 100.0), at(1, 195.0), at(2, 290.0)]).len(), 1);
        assert_eq!(tracks_of(vec![at(0, 100.0), at(1, 400.0)]).len(), 2);
    }

    #[test]
    fn neighbours_keep_their_identities_and_their_order_of_appearance() {
        let samples = (0..20_u32)
            .map(|i| {
                let (time_s, sway) = (f64::from(i) * 0.8, (f64::from(i)).sin() as f32 * 20.0);
                let mut faces =
                    vec![seen(i, time_s, (100.0 + sway, 100.0), 60.0), seen(i, time_s, (220.0, 100.0), 60.0)];
                if i % 2 == 1 {
                    faces.reverse();
                }
                if i >= 10 {
                    faces.insert(1, seen(i, time_s, (400.0, 100.0), 60.0));
                }
                faces
            })
            .collect();
        let tracks = tracks_of(samples);
        assert_eq!(
            tracks.iter().map(|t| (t.id, t.observations.len())).collect::<Vec<_>>(),
            [(1, 20), (2, 20), (3, 10)]
        );
        assert!(tracks[0].observations.iter().all(|seen| seen.face.bbox.centre().x < 130.0));
        assert!(tracks[2].observations.iter().all(|seen| seen.face.bbox.centre().x > 300.0));
    }

    /// Tracks two people who walk past each other, the upper one from the left. While they are closer than
    /// `hidden_within`, the second one is not seen.
    fn cross(step: f32, apart: f32, hidden_within: f32, samples: u32) -> Vec<Track> {
        let width = step * (samples - 1) as f32;
        let all = (0..samples)
            .map(|i| {
                let (time_s, x) = (f64::from(i) * 0.7, step * i as f32);
                let (right, left) = ((100.0 + x, 200.0), (100.0 + width - x, 200.0 + apart));
                let mut faces = vec![seen(i, time_s, right, 80.0)];
                if (right.0 - left.0).abs() >= hidden_within {
                    faces.push(seen(i, time_s, left, 84.0));
                }
                faces
            })
            .collect();
        tracks_of(all)
    }

    #[test]
    fn two_people_who_cross_keep_their_identities() {
        for (step, hidden_within) in [(30.0, 0.0), (45.0, 0.0), (45.0, 60.0), (25.0, 55.0)] {
            let tracks = cross(step, 12.0, hidden_within, 21);
            assert_eq!(tracks.len(), 2, "{step} {hidden_within}");
            for (track, side) in tracks.iter().zip([80.0, 84.0]) {
                let whose = track.observations.iter().filter(|seen| seen.face.bbox.width == side).count();
                assert_eq!(whose, track.observations.len(), "{step} {hidden_within}");
            }
        }
    }

    #[test]
    fn one_uncertain_detection_in_a_long_video_is_dropped() {
        let video = |score: f32, samples: u32| {
            let mut faces: Vec<Vec<Observation>> = vec![vec![]; samples as usize];
            let mut face = seen(0, 0.0, (50.0, 50.0), 40.0);
            face.face.score = score;
            faces[0] = vec![face];
            tracks_of(faces).len()
        };
        assert_eq!(video(0.65, 100), 0);
        assert_eq!(video(0.95, 100), 1, "a certain detection is kept");
        assert_eq!(video(0.65, 3), 1, "a detection in a short clip is kept");
    }

    proptest! {
        #[test]
        fn small_movements_never_split_a_track(
            steps in prop::collection::vec(prop::array::uniform3((-25.0_f32..25.0, -25.0_f32..25.0)), 1..60)
        ) {
            // Three people far apart, each moving around a position.
            let samples = steps
                .iter()
                .zip(0_u32..)
                .map(|(step, i)| {
                    let place = |p: usize| (200.0 + 300.0 * p as f32 + step[p].0, 200.0 + step[p].1);
                    (0..3).map(|p| seen(i, f64::from(i) * 0.5, place(p), 100.0)).collect()
                })
                .collect();
            let tracks = tracks_of(samples);
            prop_assert_eq!(tracks.len(), 3);
            for (p, track) in tracks.iter().enumerate() {
                prop_assert_eq!(track.observations.len(), steps.len());
                let home = 200.0 + 300.0 * p as f32;
                prop_assert!(track.observations.iter().all(|seen| (seen.face.bbox.centre().x - home).abs() < 30.0));
            }
        }

        #[test]
        fn every_face_goes_to_exactly_one_track(
            places in prop::collection::vec(
                prop::collection::vec((0.0_f32..600.0, 0.0_f32..400.0, 30.0_f32..120.0), 0..5), 1..40,
            )
        ) {
            let mut tracker = Tracker::default();
            let mut all = 0;
            for (faces, i) in places.iter().zip(0_u32..) {
                all += faces.len();
                let appearance_of = |n: usize| (n % 4 != 3).then(|| appearance(['r', 'b', 'x'][n % 4]));
                let sighting = |(n, f): (usize, &(f32, f32, f32))| Sighting {
                    seen: seen(i, f64::from(i), (f.0, f.1), f.2),
                    appearance: appearance_of(n + f.0 as usize),
                };
                tracker.push(faces.iter().enumerate().map(sighting).collect());
            }
            let tracks = tracker.finish();
            prop_assert_eq!(tracks.iter().map(|track| track.observations.len()).sum::<usize>(), all);
            for track in &tracks {
                prop_assert!(track.observations.windows(2).all(|pair| pair[0].sample < pair[1].sample));
            }
        }
    }
}
