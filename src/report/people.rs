//! The part of a report about each person: figures, and the course of expressions as a ribbon and in words.

use super::chart::{self, Size, stretches};
use super::colour;
use super::shares::{Share, shares};
use super::words::{Unit, Words};
use crate::analysis::{
    AgainstUsual, Emotion, FaceSummary, Findings, Relative, Rise, Segment, Story, USUAL_S, USUAL_SAMPLES,
};

/// Number of equal steps in the course of a result without segments, which an older version stored.
const COURSE_STEPS: usize = 60;
/// Maximum number of phases that are listed, and of rises. The ribbon shows all phases.
const MOST_LISTED: usize = 10;
/// An expression belongs to the usual face from this probability on.
const USUAL: f64 = 0.1;
/// Number of equal steps of the ribbon in a mail, which is made of table cells.
const CELLS: usize = 100;

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
    /// All phases, for the ribbon.
    pub course: Vec<Phase>,
    /// The longest phases in order of time, for lists.
    pub listed: Vec<Phase>,
    /// A sentence about the phases that are not in [`Person::listed`].
    pub unlisted: Option<String>,
    /// How the expressions compare with the usual ones of this person. `None` in results of older versions.
    pub against: Option<Against>,
    /// The legend of the ribbon: each expression of the course once.
    pub legend: Vec<LegendEntry>,
    /// The description of the chart in words.
    pub label: String,
}

/// How the expressions of a person compare with the usual ones of this person.
pub struct Against {
    /// What is usual, and whether anything rose above it. Or why nothing is compared.
    pub sentences: Vec<String>,
    /// The longest rises above the usual level, in order of time.
    pub rises: Vec<Phase>,
    /// A sentence about the rises that are not in [`Against::rises`].
    pub unlisted: Option<String>,
}

/// One expression in the legend of a ribbon.
pub struct LegendEntry {
    pub emotion: Emotion,
    pub name: String,
    pub colour: &'static str,
    /// Start and end of the only phase, or the number of phases and their total time.
    pub time: String,
}

/// A cell of the ribbon in a mail.
pub struct Cell {
    /// Name and colour of the expression, or `None` if the face was not seen.
    pub emotion: Option<(String, &'static str)>,
    /// In percent of the length of the video.
    pub width: usize,
}

/// A span of time in which one expression was the strongest.
#[derive(Clone)]
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
    /// How the expression compares with the usual one of this person. `None` if the result does not have that.
    pub against: Option<String>,
}

impl Person {
    /// Returns a line with the figures.
    pub fn figures(&self, words: &Words) -> String {
        words.fill("line.figures", &[("calmness", &self.calmness), ("eye_contact", &self.eye_contact)])
    }

    /// Whether the phases are compared with the usual expressions of this person.
    pub fn has_comparison(&self) -> bool {
        self.listed.iter().any(|phase| phase.against.is_some())
    }

    /// Returns the ribbon as table cells. Each step shows the expression that lasts longest in it, or that the face was
    /// not seen for most of it. Adjacent steps with the same content are one cell.
    pub fn cells(&self) -> Vec<Cell> {
        #[expect(clippy::cast_precision_loss, reason = "at most CELLS")]
        let at = |index: usize| {
            let (from, to) = (100.0 * index as f64 / CELLS as f64, 100.0 * (index + 1) as f64 / CELLS as f64);
            let covered = |phase: &Phase| (phase.to_percent().min(to) - phase.from_percent.max(from)).max(0.0);
            let seen: f64 = self.course.iter().map(covered).sum();
            let longest = self.course.iter().max_by(|a, b| covered(a).total_cmp(&covered(b)));
            longest.filter(|_| seen >= (to - from) / 2.0).map(|phase| phase.emotion)
        };
        let emotions: Vec<Option<Emotion>> = (0..CELLS).map(at).collect();
        let cell = |same: &[Option<Emotion>]| {
            let phase = self.course.iter().find(|phase| Some(phase.emotion) == same[0]);
            let emotion = phase.map(|phase| (phase.name.clone(), phase.colour));
            Cell { emotion, width: 100 * same.len() / CELLS }
        };
        emotions.chunk_by(|a, b| a == b).map(cell).collect()
    }
}

impl Phase {
    fn to_percent(&self) -> f64 {
        self.from_percent + self.percent
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
    let listed = longest(&course);
    let unlisted = course.len() - listed.len();
    let told: Vec<String> = listed
        .iter()
        .map(|phase| words.fill("told", &[("from", &phase.from), ("to", &phase.to), ("emotion", &phase.name)]))
        .collect();
    let id = face.id.to_string();
    let intervals = face.intervals.as_ref();
    Person {
        id: face.id,
        name: words.fill("person", &[("n", &id)]),
        headline: words.story(story, intervals.and_then(|all| all.emotions.get(&face.dominant_emotion).copied())),
        label: words.fill("chart", &[("n", &id), ("story", &told.join(", "))]),
        first: words.moment(face.first_s, duration_s),
        last: words.moment(face.last_s, duration_s),
        samples: face.frames,
        calmness: words.figure(face.calmness, intervals.map(|all| all.calmness), Unit::Of100),
        eye_contact: face.eye_contact.map_or_else(
            || words.say("unread"),
            |v| words.figure(v, intervals.and_then(|all| all.eye_contact), Unit::Percent),
        ),
        shares: shares(words, &face.emotions, std::slice::from_ref(face)),
        against: face.relative.as_ref().map(|relative| against(words, relative, duration_s)),
        legend: legend(words, &course, duration_s),
        unlisted: (unlisted > 0).then(|| words.count("unlisted", unlisted as u64, &[])),
        listed,
        course,
    }
}

/// Returns the course of a person's expressions: the segments of the result, or phases of equal steps if the result has
/// no segments.
fn course(words: Words, findings: &Findings, face: &FaceSummary) -> Vec<Phase> {
    let duration_s = findings.analysis.video.duration_s;
    let of_segment = |segment: &Segment| Phase {
        against: segment.relative.map(|relative| {
            words.say(match AgainstUsual::of(relative) {
                AgainstUsual::Less => "relative.less",
                AgainstUsual::Same => "relative.same",
                AgainstUsual::More => "relative.more",
            })
        }),
        ..phase(words, duration_s, segment.emotion, segment.start_s, segment.end_s)
    };
    if face.segments.is_empty() {
        phases(words, findings, face.id, COURSE_STEPS)
    } else {
        face.segments.iter().map(of_segment).collect()
    }
}

/// Returns the longest phases, in order of time.
fn longest(course: &[Phase]) -> Vec<Phase> {
    let mut order: Vec<usize> = (0..course.len()).collect();
    order.sort_by(|a, b| course[*b].percent.total_cmp(&course[*a].percent));
    order.truncate(MOST_LISTED);
    order.sort_unstable();
    order.into_iter().map(|index| course[index].clone()).collect()
}

/// Tells how the expressions of a person compare with the usual ones.
fn against(words: Words, relative: &Relative, duration_s: f64) -> Against {
    let (usual, rises) = match relative {
        Relative::Compared { usual, rises } => (usual, rises),
        Relative::TooBrief => {
            let least = [("seconds", &*words.number(USUAL_S, 0)), ("samples", &*USUAL_SAMPLES.to_string())];
            let sentences = vec![words.fill("relative.brief", &least)];
            return Against { sentences, rises: Vec::new(), unlisted: None };
        }
    };
    let mut shares: Vec<(Emotion, f64)> = usual.iter().map(|(emotion, p)| (*emotion, *p)).collect();
    shares.retain(|(_, p)| *p >= USUAL);
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shares: Vec<String> =
        shares.iter().map(|(emotion, p)| format!("{} {}", words.adjective(*emotion), words.share(*p))).collect();
    let usual = if shares.is_empty() {
        words.say("relative.varied")
    } else {
        words.fill("relative.usual", &[("list", &shares.join(", "))])
    };
    let told = words.say(if rises.is_empty() { "relative.none" } else { "relative.some" });
    let of_rise = |rise: &Rise| phase(words, duration_s, rise.emotion, rise.start_s, rise.end_s);
    let all: Vec<Phase> = rises.iter().map(of_rise).collect();
    let listed = longest(&all);
    let unlisted = all.len() - listed.len();
    Against {
        sentences: vec![usual, told],
        unlisted: (unlisted > 0).then(|| words.count("relative.unlisted", unlisted as u64, &[])),
        rises: listed,
    }
}

/// Returns the legend of the ribbon: each expression once, in the order of appearance.
fn legend(words: Words, course: &[Phase], duration_s: f64) -> Vec<LegendEntry> {
    let mut legend: Vec<LegendEntry> = Vec::new();
    for phase in course {
        if legend.iter().any(|entry| entry.emotion == phase.emotion) {
            continue;
        }
        let same: Vec<&Phase> = course.iter().filter(|other| other.emotion == phase.emotion).collect();
        let time = match same.as_slice() {
            [only] => words.fill("to", &[("from", &only.from), ("to", &only.to)]),
            _ => {
                let percent: f64 = same.iter().map(|phase| phase.percent).sum();
                let time = words.moment(percent * duration_s / 100.0, duration_s);
                words.fill("runs", &[("n", &same.len().to_string()), ("time", &time)])
            }
        };
        let Phase { emotion, ref name, colour, .. } = *phase;
        legend.push(LegendEntry { emotion, name: name.clone(), colour, time });
    }
    legend
}

fn phase(words: Words, duration_s: f64, emotion: Emotion, from_s: f64, to_s: f64) -> Phase {
    let percent = |time_s: f64| 100.0 * time_s / duration_s.max(0.001);
    Phase {
        from: words.moment(from_s, duration_s),
        to: words.moment(to_s, duration_s),
        emotion,
        name: words.label(emotion),
        colour: colour::of_emotion(emotion),
        from_percent: percent(from_s),
        percent: percent(to_s - from_s),
        against: None,
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
