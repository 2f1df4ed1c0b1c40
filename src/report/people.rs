//! The part of a report about each person: figures, and the course of expressions in words.

use super::chart::{self, Size, stretches};
use super::colour;
use super::view::{Share, shares};
use super::words::{Unit, Words};
use crate::analysis::{Emotion, FaceSummary, Findings, Segment, Story};

/// Numbers of steps for the course of a person's expressions in words. A coarser one is used if the finer one gives
/// more than [`MOST_PHASES`] lines.
const COURSE_STEPS: [usize; 3] = [60, 24, 10];
const MOST_PHASES: usize = 10;

/// One person.
pub struct Person {
    pub id: u32,
    pub name: String,
    pub headline: String,
    pub first: String,
    pub last: String,
    pub samples: u32,
    pub calmness: String,
    pub eye_contact: String,
    pub shares: Vec<Share>,
    pub course: Vec<Phase>,
    /// The description of the chart in words.
    pub label: String,
}

/// A span of time in which one expression was the strongest.
pub struct Phase {
    pub from: String,
    pub to: String,
    pub emotion: Emotion,
    pub name: String,
    pub colour: &'static str,
    /// Its start, in percent of the length of the video.
    pub from_percent: f64,
    /// Its length, in percent of the length of the video.
    pub percent: f64,
}

impl Person {
    /// Returns a sentence with the figures: from when to when and in how many samples the person was seen, and how.
    pub fn line(&self, words: &Words) -> String {
        words.fill(
            "line.seen",
            &[
                ("from", &self.first),
                ("to", &self.last),
                ("samples", &self.samples.to_string()),
                ("calmness", &self.calmness),
                ("eye_contact", &self.eye_contact),
            ],
        )
    }
}

impl Phase {
    /// Returns its length in whole percent, at least 1, for rows made of table cells.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 100")]
    pub fn width(&self) -> u32 {
        self.percent.round().clamp(1.0, 100.0) as u32
    }
}

/// Builds the part about one person.
pub fn person(words: Words, findings: &Findings, face: &FaceSummary) -> Person {
    let duration_s = findings.analysis.video.duration_s;
    let story = face
        .story
        .or_else(|| Story::of(&face.emotions, &face.segments))
        .unwrap_or(Story::Mixed { emotion: face.dominant_emotion });
    let course = course(words, findings, face);
    let told: Vec<String> = course
        .iter()
        .map(|phase| words.fill("told", &[("from", &phase.from), ("to", &phase.to), ("emotion", &phase.name)]))
        .collect();
    let id = face.id.to_string();
    let sure = face.intervals.as_ref();
    Person {
        id: face.id,
        name: words.fill("person", &[("n", &id)]),
        headline: words.story(story, sure.and_then(|all| all.emotions.get(&face.dominant_emotion).copied())),
        label: words.fill("chart", &[("n", &id), ("story", &told.join(", "))]),
        first: words.moment(face.first_s, duration_s),
        last: words.moment(face.last_s, duration_s),
        samples: face.frames,
        calmness: words.figure(face.calmness, sure.map(|all| all.calmness), Unit::Of100),
        eye_contact: face.eye_contact.map_or_else(
            || words.say("unread"),
            |v| words.figure(v, sure.and_then(|all| all.eye_contact), Unit::Percent),
        ),
        shares: shares(words, &face.emotions, std::slice::from_ref(face)),
        course,
    }
}

/// Returns the course of a person's expressions: the segments of the result, or coarser phases if there are too many.
fn course(words: Words, findings: &Findings, face: &FaceSummary) -> Vec<Phase> {
    let duration_s = findings.analysis.video.duration_s;
    if (1..=MOST_PHASES).contains(&face.segments.len()) {
        let of_segment = |segment: &Segment| phase(words, duration_s, segment.emotion, segment.start_s, segment.end_s);
        return face.segments.iter().map(of_segment).collect();
    }
    let mut course = Vec::new();
    for steps in COURSE_STEPS {
        course = phases(words, findings, face.id, steps);
        if course.len() <= MOST_PHASES {
            break;
        }
    }
    course
}

fn phase(words: Words, duration_s: f64, emotion: Emotion, from_s: f64, to_s: f64) -> Phase {
    let percent = |time_s: f64| 100.0 * time_s / duration_s.max(0.001);
    Phase {
        from: words.moment(from_s, duration_s),
        to: words.moment(to_s, duration_s),
        emotion,
        name: words.noun(emotion),
        colour: colour::of_emotion(emotion),
        from_percent: percent(from_s),
        percent: percent(to_s - from_s),
    }
}

fn phases(words: Words, findings: &Findings, face: u32, steps: usize) -> Vec<Phase> {
    let duration_s = findings.analysis.video.duration_s;
    let mut course = Vec::new();
    for stretch in stretches(&findings.timeline, face, duration_s, steps) {
        for same in stretch.chunk_by(|a, b| a.top().0 == b.top().0) {
            let emotion = same[0].top().0;
            let (from_s, to_s) = (same[0].from_s, same[same.len() - 1].to_s);
            course.push(phase(words, duration_s, emotion, from_s, to_s));
        }
    }
    course
}

/// Draws the timeline of a person.
pub fn timeline(words: Words, findings: &Findings, person: &Person, size: Size) -> String {
    chart::timeline(words, findings, person.id, size, &person.label)
}

/// Draws the ribbon of a person's expressions over time.
pub fn ribbon(person: &Person) -> String {
    let runs: Vec<_> = person.course.iter().map(|phase| (phase.emotion, phase.from_percent, phase.percent)).collect();
    chart::ribbon(&runs, &person.label)
}
