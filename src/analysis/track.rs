//! Which observations are the same person.
//!
//! By place, movement and looks. Each person's velocity tells where the face should be in the next sample
//! ([`super::motion`]), the colours of hair, skin and clothes tell who it may be ([`super::appearance`]), and the faces found
//! are given out so that all claims together are met best. So two people who cross keep their identities, also when one
//! hides the other for a while, and those who change places at a cut. A face claims by overlap with where it should be or
//! was, or, failing that (few samples a second, quick movement), by being near and of about the same size. Who looks like
//! somebody else has no claim, wherever he is: at a cut, one takes another's place. Who looks the same may come back
//! anywhere, after a cut to somebody else. A person may be gone for a while (a hand before the face, a head turned away) and
//! stays the same on coming back. Where looks are not known, places alone count.

use super::motion::{Motion, assign};
use super::{Appearance, BBox, Observation};

/// Boxes that overlap at least this much (intersection over union) are the same face.
const SAME_IOU: f32 = 0.2;
/// Without overlap: how far the centre may have moved from one sample to the next, in sides of the face; after a
/// longer gap twice that.
const REACH: f32 = 1.0;
/// ... and by what factor its size may have changed.
const SIZE_RATIO: f32 = 1.8;
/// A person who was gone for longer than this is somebody new, in seconds.
const MAX_GAP_S: f64 = 10.0;
/// What each second of absence takes from the claim on a face.
const STALENESS: f32 = 0.05;
/// What a claim is less worth that goes by where a face was and not by where it should be.
const WAS_THERE: f32 = 0.4;
/// The least claim: it counts if there is no other.
const LEAST_CLAIM: f32 = 0.01;

/// Looks that are less alike than this are those of two people ([`Appearance::likeness`]: the same person has 0.8 or more,
/// two people mostly less than 0.6).
const SOMEBODY_ELSE: f32 = 0.68;
/// What looks add to a claim by place, from nothing at that likeness to this at the highest.
const BY_LOOKS: f32 = 1.0;
/// Looks that are at least as alike as this are a claim of their own, wherever the face is ...
const SAME_LOOKS: f32 = 0.8;
/// ... worth at most this, so that those who are near come first ...
const LOOKS_ALONE: f32 = 0.4;
/// ... and for this long, in seconds: a cut to somebody else may last.
const LOOKS_LAST_S: f64 = 30.0;

/// Detections that look like false alarms: fewer than this many samples ...
const FEW_SAMPLES: usize = 3;
/// ... in less than this share of the video ...
const SMALL_SHARE: f64 = 0.02;
/// ... and none of them with a score of this or more.
const SURE_SCORE: f32 = 0.85;

/// One person's observations, in order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// From 1, in order of first appearance.
    pub id: u32,
    pub observations: Vec<Observation>,
}

/// A face of one sample, and what the person looks like. Looks are forgotten with the tracker.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    pub seen: Observation,
    pub looks: Option<Appearance>,
}

/// Puts the faces of each sample to the people seen before.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: Vec<Vec<Observation>>,
    /// How the face of each track moves.
    motions: Vec<Motion>,
    /// What each person looks like.
    looks: Vec<Option<Appearance>>,
    /// Indices of the tracks that may still go on.
    active: Vec<usize>,
    samples: u32,
}

impl Tracker {
    /// Takes the faces of the next sample: also when there is none, and in order of time.
    pub fn push(&mut self, faces: Vec<Sighting>) {
        self.samples += 1;
        let Some(now) = faces.first().map(|face| face.seen.time_s) else { return };
        let tracks = &self.tracks;
        let last = |track: usize| tracks[track].last();
        self.active.retain(|&track| last(track).is_some_and(|last| now - last.time_s <= LOOKS_LAST_S));

        let claims: Vec<Vec<f32>> =
            faces.iter().map(|seen| self.active.iter().map(|&track| self.claim(track, seen)).collect()).collect();
        let owners = assign(&claims);
        // Those who come new must not move the places that the owners are counted by.
        let active = self.active.clone();
        for (Sighting { seen, looks }, owner) in faces.into_iter().zip(owners) {
            let (bbox, time_s) = (seen.face.bbox, seen.time_s);
            if let Some(track) = owner.map(|owner| active[owner]) {
                self.motions[track].see(bbox, time_s);
                self.tracks[track].push(seen);
                match (&mut self.looks[track], looks) {
                    (Some(known), Some(looks)) => known.take_in(&looks),
                    (known @ None, looks) => *known = looks,
                    (Some(_), None) => {}
                }
            } else {
                self.active.push(self.tracks.len());
                self.motions.push(Motion::new(bbox, time_s));
                self.tracks.push(vec![seen]);
                self.looks.push(looks);
            }
        }
    }

    /// How strongly a person claims a face; 0 for not at all.
    fn claim(&self, track: usize, Sighting { seen, looks }: &Sighting) -> f32 {
        let Some(last) = self.tracks[track].last() else { return 0.0 };
        let likeness = self.looks[track].as_ref().zip(looks.as_ref()).and_then(|(known, looks)| known.likeness(looks));
        if likeness.is_some_and(|likeness| likeness < SOMEBODY_ELSE) {
            return 0.0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most LOOKS_LAST_S")]
        let gap_s = (seen.time_s - last.time_s) as f32;
        let by = |bbox: &BBox| claim(bbox, &seen.face.bbox, gap_s).filter(|_| f64::from(gap_s) <= MAX_GAP_S);
        let (should_be, was) = (by(&self.motions[track].expected(seen.time_s)), by(&last.face.bbox));
        let by_place = should_be.into_iter().chain(was.map(|claim| claim - WAS_THERE)).reduce(f32::max);
        let by_place = by_place.map(|claim| claim.max(LEAST_CLAIM));
        match (by_place, likeness) {
            (Some(claim), Some(likeness)) => claim + BY_LOOKS * (likeness - SOMEBODY_ELSE) / (1.0 - SOMEBODY_ELSE),
            (Some(claim), None) => claim,
            (None, Some(likeness)) if likeness >= SAME_LOOKS => {
                LEAST_CLAIM + LOOKS_ALONE * (likeness - SAME_LOOKS) / (1.0 - SAME_LOOKS)
            }
            (None, _) => 0.0,
        }
    }

    /// The people seen, in order of first appearance. Left out is what looks like a false alarm of the detector: seen
    /// in fewer than 3 samples and in less than 2 % of them all, never with a score of 0.85 or more.
    pub fn finish(self) -> Vec<Track> {
        let samples = f64::from(self.samples);
        let is_person = |track: &Vec<Observation>| {
            #[expect(clippy::cast_precision_loss, reason = "less than FEW_SAMPLES matters")]
            let share = track.len() as f64 / samples.max(1.0);
            let sure = track.iter().any(|seen| seen.face.score >= SURE_SCORE);
            track.len() >= FEW_SAMPLES || share >= SMALL_SHARE || sure
        };
        self.tracks
            .into_iter()
            .filter(is_person)
            .zip(1..)
            .map(|(observations, id)| Track { id, observations })
            .collect()
    }
}

/// How strongly a person last seen in one box claims a face in another: above 1 by overlap, up to 1 by nearness.
fn claim(last: &BBox, now: &BBox, gap_s: f32) -> Option<f32> {
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

    /// Faces without looks.
    fn follow(samples: Vec<Vec<Observation>>) -> Vec<Track> {
        let mut tracker = Tracker::default();
        for faces in samples {
            tracker.push(faces.into_iter().map(|seen| Sighting { seen, looks: None }).collect());
        }
        tracker.finish()
    }

    /// Somebody in a red or blue shirt, or with hair, skin and shirt of other colours.
    fn looks(who: char) -> Appearance {
        match who {
            'r' => wearing([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [45.0, 48.0, 30.0]),
            'b' => wearing([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [35.0, 5.0, -30.0]),
            _ => wearing([70.0, 5.0, 40.0], [40.0, 15.0, 25.0], [80.0, 0.0, 0.0]),
        }
    }

    /// A sample a second, each as who is where; the people that come out of it, each as who they are.
    fn watch(samples: &[&[(char, f32)]]) -> Vec<String> {
        let mut tracker = Tracker::default();
        // Who is who shows by the side of the face.
        let side = |who: char| 80.0 + f32::from(who as u8 - b'a') / 10.0;
        for (faces, i) in samples.iter().zip(0_u32..) {
            let face = |&(who, x): &(char, f32)| Sighting {
                seen: seen(i, f64::from(i), (x, 100.0), side(who)),
                looks: Some(looks(who)),
            };
            tracker.push(faces.iter().map(face).collect());
        }
        let who = |seen: &Observation| ['r', 'b', 'x'].into_iter().find(|who| side(*who) == seen.face.bbox.width);
        tracker.finish().iter().map(|track| track.observations.iter().filter_map(who).collect()).collect()
    }

    #[test]
    fn two_who_change_places_at_a_cut_keep_their_identities() {
        let (before, after): (&[_], &[_]) = (&[('r', 100.0), ('b', 400.0)], &[('b', 100.0), ('r', 400.0)]);
        assert_eq!(watch(&[before, before, before, after, after, after]), ["rrrrrr", "bbbbbb"]);
        assert_eq!(watch(&[before, before, after, before, after]), ["rrrrr", "bbbbb"]);
    }

    #[test]
    fn who_takes_another_s_place_at_a_cut_is_not_that_other() {
        assert_eq!(watch(&[&[('r', 100.0)], &[('r', 100.0)], &[('x', 100.0)], &[('x', 100.0)]]), ["rr", "xx"]);
    }

    #[test]
    fn who_is_cut_back_to_is_the_one_from_before_also_elsewhere_in_the_picture() {
        let samples: [&[_]; 7] = [
            &[('r', 100.0)],
            &[('r', 100.0)],
            &[('x', 100.0)],
            &[('x', 100.0)],
            &[('r', 100.0)],
            &[('x', 100.0)],
            &[('r', 420.0)],
        ];
        assert_eq!(watch(&samples), ["rrrr", "xxx"]);
        // Without looks a second place is a second person.
        let at = |i: u32, x| vec![seen(i, f64::from(i), (x, 100.0), 80.0)];
        assert_eq!(follow(vec![at(0, 100.0), at(1, 100.0), at(2, 420.0)]).len(), 2);
    }

    #[test]
    fn two_who_look_alike_are_told_apart_by_where_they_are() {
        let both: &[_] = &[('r', 100.0), ('r', 300.0)];
        assert_eq!(watch(&[both, both, both]), ["rrr", "rrr"]);
    }

    #[test]
    fn a_face_behind_a_hand_stays_the_same_person() {
        let samples = (0..30_u32)
            .map(|i| {
                let hidden = (5..15).contains(&i);
                if hidden { vec![] } else { vec![seen(i, f64::from(i) * 0.8, (200.0, 150.0), 80.0)] }
            })
            .collect();
        let tracks = follow(samples);
        assert_eq!(tracks.iter().map(|track| track.observations.len()).collect::<Vec<_>>(), [20]);
    }

    #[test]
    fn who_is_gone_for_long_comes_back_as_somebody_new() {
        let at = |i: u32, time_s| vec![seen(i, time_s, (200.0, 150.0), 80.0)];
        assert_eq!(follow(vec![at(0, 0.0), at(1, 1.0), at(2, 12.0), at(3, 13.0)]).len(), 2);
    }

    #[test]
    fn a_quick_head_is_followed_without_overlap_but_not_across_the_room() {
        let at = |i: u32, x| vec![seen(i, f64::from(i) * 0.8, (x, 100.0), 80.0)];
        assert_eq!(follow(vec![at(0, 100.0), at(1, 195.0), at(2, 290.0)]).len(), 1);
        assert_eq!(follow(vec![at(0, 100.0), at(1, 400.0)]).len(), 2);
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
        let tracks = follow(samples);
        assert_eq!(
            tracks.iter().map(|t| (t.id, t.observations.len())).collect::<Vec<_>>(),
            [(1, 20), (2, 20), (3, 10)]
        );
        assert!(tracks[0].observations.iter().all(|seen| seen.face.bbox.centre().x < 130.0));
        assert!(tracks[2].observations.iter().all(|seen| seen.face.bbox.centre().x > 300.0));
    }

    /// Two people who walk towards each other and on, the upper one from the left; who is hidden is not seen.
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
        follow(all)
    }

    #[test]
    fn two_people_who_cross_keep_their_identities_also_when_one_hides_the_other() {
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
    fn one_doubtful_detection_in_a_long_video_is_no_person() {
        let video = |score: f32, samples: u32| {
            let mut faces: Vec<Vec<Observation>> = vec![vec![]; samples as usize];
            let mut face = seen(0, 0.0, (50.0, 50.0), 40.0);
            face.face.score = score;
            faces[0] = vec![face];
            follow(faces).len()
        };
        assert_eq!(video(0.65, 100), 0);
        assert_eq!(video(0.95, 100), 1, "a sure one is");
        assert_eq!(video(0.65, 3), 1, "in a short clip each sample counts");
    }

    proptest! {
        #[test]
        fn small_movements_never_lose_anybody(
            steps in prop::collection::vec(prop::array::uniform3((-25.0_f32..25.0, -25.0_f32..25.0)), 1..60)
        ) {
            // Three people far apart, each wandering around a place of their own.
            let samples = steps
                .iter()
                .zip(0_u32..)
                .map(|(step, i)| {
                    let place = |p: usize| (200.0 + 300.0 * p as f32 + step[p].0, 200.0 + step[p].1);
                    (0..3).map(|p| seen(i, f64::from(i) * 0.5, place(p), 100.0)).collect()
                })
                .collect();
            let tracks = follow(samples);
            prop_assert_eq!(tracks.len(), 3);
            for (p, track) in tracks.iter().enumerate() {
                prop_assert_eq!(track.observations.len(), steps.len());
                let home = 200.0 + 300.0 * p as f32;
                prop_assert!(track.observations.iter().all(|seen| (seen.face.bbox.centre().x - home).abs() < 30.0));
            }
        }

        #[test]
        fn every_face_goes_to_exactly_one_track(
            places in prop::collection::vec(prop::collection::vec((0.0_f32..600.0, 0.0_f32..400.0, 30.0_f32..120.0), 0..5), 1..40)
        ) {
            let mut tracker = Tracker::default();
            let mut all = 0;
            for (faces, i) in places.iter().zip(0_u32..) {
                all += faces.len();
                let look = |n: usize| (n % 4 != 3).then(|| looks(['r', 'b', 'x'][n % 4]));
                let sighting = |(n, f): (usize, &(f32, f32, f32))| Sighting {
                    seen: seen(i, f64::from(i), (f.0, f.1), f.2),
                    looks: look(n + f.0 as usize),
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
