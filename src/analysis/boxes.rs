//! The boxes of all people at any time of a video, for drawing.
//!
//! A sample stands for the time around it, as in [`super::summarise`]. A person has a box at a time if the sample that
//! stands for that time has their face. Between two samples with the face, the box moves evenly from one to the other,
//! unless the two boxes do not overlap: then the picture was cut, or the face moved too fast, and each box stays in the
//! place where it was seen. In a gap of a track there is no box.

use super::summarise::sample_spans;
use super::{BBox, Emotion, Findings, Segment, TimelineRow};

/// The boxes of all people.
#[derive(Debug, Clone)]
pub struct Boxes {
    /// Times of the samples.
    samples: Vec<f64>,
    /// The time that each sample stands for, from and to, in seconds.
    spans: Vec<(f64, f64)>,
    people: Vec<Person>,
}

#[derive(Debug, Clone)]
struct Person {
    id: u32,
    segments: Vec<Segment>,
    /// In the order of the samples.
    seen: Vec<Seen>,
}

/// The face in one sample.
#[derive(Debug, Clone, Copy)]
struct Seen {
    sample: usize,
    bbox: BBox,
    emotion: Emotion,
    eye_contact: Option<bool>,
}

/// The box of a person at some time, and what it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelledBox {
    /// `id` of the person in [`super::Analysis::faces`].
    pub person: u32,
    pub bbox: BBox,
    /// The emotion of the segment, or that of the sample if there is none.
    pub emotion: Emotion,
    /// `None` if it could not be read.
    pub eye_contact: Option<bool>,
}

impl Boxes {
    /// Takes the boxes from an analysis. `samples` are the times of all samples, including those without a face.
    pub fn new(findings: &Findings, samples: &[f64]) -> Self {
        let spans = sample_spans(samples, findings.analysis.video.duration_s, findings.timeline.interval_s);
        let mut people: Vec<Person> = findings
            .analysis
            .faces
            .iter()
            .map(|face| Person { id: face.id, segments: face.segments.clone(), seen: Vec::new() })
            .collect();
        for row in &findings.timeline.rows {
            let person = people.iter_mut().find(|person| person.id == row.face);
            let sample = samples.binary_search_by(|time| time.total_cmp(&row.time_s));
            if let (Some(person), Ok(sample)) = (person, sample) {
                person.seen.push(Seen::of(row, sample));
            }
        }
        for person in &mut people {
            person.seen.sort_by_key(|seen| seen.sample);
        }
        Self { samples: samples.to_vec(), spans, people }
    }

    /// The boxes at a time in seconds, in the order of the people.
    pub fn at(&self, time_s: f64) -> Vec<LabelledBox> {
        let sample = self.spans.partition_point(|(_, to)| *to <= time_s);
        match self.spans.get(sample) {
            Some((from, _)) if *from <= time_s => {}
            _ => return Vec::new(),
        }
        self.people.iter().filter_map(|person| self.of_person(person, sample, time_s)).collect()
    }

    fn of_person(&self, person: &Person, sample: usize, time_s: f64) -> Option<LabelledBox> {
        let seen = person.at(sample)?;
        let own_s = self.samples[sample];
        let other = if time_s < own_s { sample.checked_sub(1) } else { Some(sample + 1) };
        let bbox = match other.and_then(|other| person.at(other)) {
            Some(other) if other.bbox.iou(&seen.bbox) > 0.0 => {
                let way = (time_s - own_s) / (self.samples[other.sample] - own_s);
                between(&seen.bbox, &other.bbox, way)
            }
            _ => seen.bbox,
        };
        let segment = person.segments.iter().find(|segment| (segment.start_s..segment.end_s).contains(&time_s));
        let emotion = segment.map_or(seen.emotion, |segment| segment.emotion);
        Some(LabelledBox { person: person.id, bbox, emotion, eye_contact: seen.eye_contact })
    }
}

impl Person {
    fn at(&self, sample: usize) -> Option<&Seen> {
        self.seen.binary_search_by_key(&sample, |seen| seen.sample).ok().map(|at| &self.seen[at])
    }
}

impl Seen {
    fn of(row: &TimelineRow, sample: usize) -> Self {
        Self { sample, bbox: row.bbox, emotion: row.emotions.top().0, eye_contact: row.eye_contact }
    }
}

/// The box at this part of the way, 0 to 1, from one box to another.
fn between(from: &BBox, to: &BBox, way: f64) -> BBox {
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let mix = |from: f32, to: f32| (f64::from(from) + (f64::from(to) - f64::from(from)) * way) as f32;
    BBox {
        x: mix(from.x, to.x),
        y: mix(from.y, to.y),
        width: mix(from.width, to.width),
        height: mix(from.height, to.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing::{all, facts, seen};
    use crate::analysis::{Observation, Track, summarise};

    /// The boxes of people who are seen in these samples, with the left edge of each box and the emotion shown. There is
    /// a sample in every second.
    fn boxes(samples: u32, people: &[&[(u32, f32, Emotion)]]) -> Boxes {
        let times: Vec<f64> = (0..samples).map(f64::from).collect();
        let track = |(id, seen_in): (u32, &&[(u32, f32, Emotion)])| {
            let one = |(sample, x, emotion): &(u32, f32, Emotion)| Observation {
                emotions: all(*emotion),
                ..seen(*sample, f64::from(*sample), (*x, 100.0), 80.0)
            };
            Track { id, observations: seen_in.iter().map(one).collect() }
        };
        let tracks: Vec<Track> = (1..).zip(people).map(track).collect();
        let facts = facts(samples.into(), false);
        let findings = summarise(facts, &times, &tracks, None, Vec::new(), Vec::new());
        Boxes::new(&findings, &times)
    }

    const A: Emotion = Emotion::Happy;
    const B: Emotion = Emotion::Sad;

    /// The left edges of the boxes relative to that of the first sample.
    fn moved(boxes: &Boxes, time_s: f64) -> Vec<f32> {
        let left = boxes.people[0].seen[0].bbox.x;
        boxes.at(time_s).iter().map(|shown| shown.bbox.x - left).collect()
    }

    #[test]
    fn a_box_moves_evenly_between_samples_and_stays_at_the_ends() {
        let boxes = boxes(4, &[&[(0, 100.0, A), (1, 120.0, A), (2, 130.0, A), (3, 130.0, A)]]);
        let at = |time_s| moved(&boxes, time_s);
        assert_eq!([at(0.0), at(0.25), at(0.75), at(1.0)], [[0.0], [5.0], [15.0], [20.0]]);
        assert_eq!([at(1.5), at(3.0), at(3.75)], [[25.0], [30.0], [30.0]]);
        assert_eq!([at(-0.1), at(4.0), at(100.0)], [[0.0; 0], [], []]);
    }

    #[test]
    fn a_gap_of_a_track_has_no_box() {
        let boxes = boxes(4, &[&[(0, 100.0, A), (2, 120.0, A), (3, 120.0, A)], &[(1, 300.0, B)]]);
        let people = |time_s| boxes.at(time_s).iter().map(|shown| shown.person).collect::<Vec<_>>();
        assert_eq!([people(0.4), people(0.6), people(1.0), people(1.4), people(1.6)], [[1], [2], [2], [2], [1]]);
        assert_eq!(moved(&boxes, 0.4), [0.0], "nothing leads into the gap");
        assert_eq!(moved(&boxes, 1.6), [20.0]);
    }

    #[test]
    fn boxes_that_do_not_overlap_are_not_joined() {
        let boxes = boxes(2, &[&[(0, 100.0, A), (1, 400.0, A)]]);
        assert_eq!([moved(&boxes, 0.4), moved(&boxes, 0.6)], [[0.0], [300.0]]);
    }

    #[test]
    fn the_emotion_is_that_of_the_segment() {
        let one = |sample| (sample, 100.0, if sample == 2 { B } else { A });
        let boxes = boxes(6, &[&[one(0), one(1), one(2), one(3), one(4), one(5)]]);
        assert_eq!(boxes.people[0].seen[2].emotion, B);
        assert_eq!(boxes.at(2.0)[0].emotion, A, "a single sample makes no segment");
    }
}
