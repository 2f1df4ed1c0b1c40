//! The findings as the texts and rows that page and mails show: every figure is put into words once, here, so that no
//! two of them can say different things.

use std::cmp::Reverse;

use super::chart::{self, Size, stretches};
use super::{Context, colour, words};
use crate::analysis::{Analysis, Emotion, FaceSummary, Findings, Speech, SpeechQuality, percentages};

/// Fewer samples than this give rough figures.
const FEW_SAMPLES: usize = 10;
/// Steps in which the course of a person's expressions is told in words: fine ones, and coarse ones where the fine
/// ones would make more than [`MOST_PHASES`] lines.
const COURSE_STEPS: [usize; 3] = [60, 24, 10];
const MOST_PHASES: usize = 10;

/// Everything a report says.
pub struct View {
    pub headline: String,
    pub lead: String,
    pub tiles: Vec<Tile>,
    /// What was heard; empty where nothing was listened to.
    pub speech: Vec<Tile>,
    pub shares: Vec<Share>,
    pub people: Vec<Person>,
    /// People beyond [`View::people`]: seen too briefly to be shown one by one.
    pub others: Option<String>,
    /// Lines of what and when.
    pub facts: Vec<(&'static str, String)>,
    pub warnings: Vec<String>,
    pub models: Vec<(String, String)>,
    /// What may help where no face was found.
    pub advice: Vec<&'static str>,
    pub meanings: Vec<words::Meaning>,
    pub created: String,
    /// Only ever an http or https address.
    pub result_url: Option<String>,
    pub token: String,
}

/// One of the headline figures.
pub struct Tile {
    pub label: &'static str,
    pub value: String,
    pub note: String,
}

/// One of the seven expressions.
pub struct Share {
    pub name: &'static str,
    pub colour: &'static str,
    /// With its sign.
    pub value: String,
    /// 0 to 100.
    pub percent: f64,
    /// The same in whole numbers, at least 1, for bars made of table cells.
    pub width: u32,
    /// Samples in which it was the strongest, of how many, and how sure the model was of these.
    pub samples: String,
    pub sure: String,
}

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
    /// What the chart shows, in words.
    pub label: String,
}

/// A span of time in which one expression was the strongest.
pub struct Phase {
    pub from: String,
    pub to: String,
    pub name: &'static str,
    pub colour: &'static str,
}

const NO_FACE_ADVICE: [&str; 4] = [
    "Let the whole face be in the picture, at least a tenth of its height, and look towards the camera.",
    "Put the light in front of the face rather than behind it.",
    "Masks, sunglasses, hands and strong blur hide a face.",
    "If people are seen only briefly, look at more frames: send the video again with a smaller sample_every.",
];

impl View {
    /// `most` people are shown one by one, those with the most samples.
    pub fn new(findings: &Findings, context: &Context, most: usize) -> Self {
        let analysis = &findings.analysis;
        let mut faces: Vec<&FaceSummary> = analysis.faces.iter().collect();
        faces.sort_by_key(|face| (Reverse(face.frames), face.id));
        let hidden = faces.len().saturating_sub(most);
        faces.truncate(most);
        faces.sort_by_key(|face| face.id);
        let (headline, lead) = headline(analysis);
        Self {
            headline,
            lead,
            tiles: tiles(analysis),
            speech: analysis.speech.as_ref().map_or_else(Vec::new, speech),
            shares: analysis
                .summary
                .emotions
                .as_ref()
                .map_or_else(Vec::new, |emotions| shares(emotions, &analysis.faces)),
            people: faces.into_iter().map(|face| person(findings, face)).collect(),
            others: (hidden > 0).then(|| {
                let people = words::count(hidden as u64, "more person was", "more people were");
                format!(
                    "{people} seen more briefly: the figures above count them in; the result as JSON lists them all."
                )
            }),
            facts: facts(findings, context),
            warnings: warnings(findings),
            models: analysis.models.iter().map(|model| (model.name.clone(), model.sha256.clone())).collect(),
            advice: if analysis.faces.is_empty() { NO_FACE_ADVICE.to_vec() } else { Vec::new() },
            meanings: words::meanings(findings.analysis.sees_eyes()),
            created: words::date(context.created_at),
            result_url: web_address(context),
            token: context.token.to_string(),
        }
    }
}

/// The address of the result, if a browser can be sent there.
pub fn web_address(context: &Context) -> Option<String> {
    let url = context.result_url.as_deref()?;
    let is_web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    (is_web && !url.chars().any(|c| c.is_control() || c.is_whitespace())).then(|| url.to_owned())
}

fn headline(analysis: &Analysis) -> (String, String) {
    let (Some(top), Some(emotions)) = (analysis.summary.dominant_emotion, &analysis.summary.emotions) else {
        return (
            "No face was found".to_owned(),
            "The video was read to its end, but no face was clear and large enough to be read. There are therefore no \
             figures."
                .to_owned(),
        );
    };
    let emotions = &percentages(emotions);
    let share = emotions.get(&top).copied().unwrap_or_default();
    let people = match analysis.faces.len() {
        1 => "One person was seen.".to_owned(),
        n => format!("{n} people were seen; the figures count each by the time on screen."),
    };
    let next = emotions.iter().filter(|(emotion, _)| **emotion != top).max_by(|a, b| a.1.total_cmp(b.1));
    let next = next.filter(|(_, share)| **share >= 5.0).map_or_else(String::new, |(emotion, share)| {
        format!(", followed by {} ({})", expression(*emotion), words::percent(*share))
    });
    let lead = format!(
        "{} makes up {} of what the faces showed{next}. {people}",
        capital(&expression(top)),
        words::percent(share)
    );
    (words::mostly(top, share), lead)
}

/// As a part of a sentence.
fn expression(emotion: Emotion) -> String {
    if emotion == Emotion::Neutral { "a neutral expression".to_owned() } else { words::noun(emotion).to_owned() }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn tiles(analysis: &Analysis) -> Vec<Tile> {
    let summary = &analysis.summary;
    if analysis.faces.is_empty() {
        return Vec::new();
    }
    let tile = |label, value: Option<(String, &str)>| {
        let (value, note) = value.unwrap_or_else(|| ("–".to_owned(), "could not be read"));
        Tile { label, value, note: note.to_owned() }
    };
    vec![
        tile("Calmness", summary.calmness.map(|v| (format!("{v:.0} of 100"), words::calm(v)))),
        tile("Eye contact", summary.eye_contact.map(|v| (words::percent(v), words::facing(v)))),
        tile("How sure the model is", summary.model_confidence.map(|v| (words::share(v), words::sure(v)))),
    ]
}

fn speech(speech: &Speech) -> Vec<Tile> {
    let mut tiles =
        vec![Tile { label: "Speech", value: words::share(speech.ratio), note: "of the sound track".to_owned() }];
    let mut tile = |label, value, note: String| tiles.push(Tile { label, value, note });
    if let Some(clarity) = speech.clarity {
        tile("Clarity", format!("{clarity:.0} of 100"), words::clear(clarity).to_owned());
    }
    if let Some(SpeechQuality { sig, bak, ovr }) = speech.quality_mos {
        let note = format!("the voice alone {sig:.1}, the background {bak:.1}");
        tile("Quality of the recording", format!("{ovr:.1} of 5"), note);
    }
    if let Some(rate) = speech.syllables_per_s {
        tile("Syllables a second", format!("{rate:.1}"), words::pace(rate).to_owned());
    }
    if speech.ratio > 0.0 {
        let note = if speech.pauses == 0 {
            "none was long enough to count".to_owned()
        } else {
            format!("the longest {:.1} s", speech.longest_pause_s)
        };
        tile("Pauses", speech.pauses.to_string(), note);
    }
    tiles
}

/// The seven, the largest first.
fn shares(emotions: &std::collections::BTreeMap<Emotion, f64>, faces: &[FaceSummary]) -> Vec<Share> {
    // The very figures of the JSON, so that nobody finds two for one thing.
    let emotions = percentages(emotions);
    let mut shares: Vec<Share> = Emotion::ALL
        .into_iter()
        .map(|emotion| {
            let percent = emotions.get(&emotion).copied().unwrap_or_default();
            let counts = faces.iter().map(|face| face.emotion_counts.get(&emotion).copied().unwrap_or_default());
            let samples = format!("{} of {}", counts.sum::<u32>(), faces.iter().map(|face| face.frames).sum::<u32>());
            // One person's mean, or none: several people's are in their own tables.
            let sure = match faces {
                [face] => face.average_confidence.get(&emotion).copied(),
                _ => None,
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 100")]
            let width = percent.round().clamp(1.0, 100.0) as u32;
            Share {
                name: words::noun(emotion),
                colour: colour::of_emotion(emotion),
                value: words::percent(percent),
                percent,
                width,
                samples,
                sure: sure.map_or_else(|| "–".to_owned(), words::share),
            }
        })
        .collect();
    shares.sort_by(|a, b| b.percent.total_cmp(&a.percent));
    shares
}

fn person(findings: &Findings, face: &FaceSummary) -> Person {
    let duration_s = findings.analysis.video.duration_s;
    let share = face.emotions.get(&face.dominant_emotion).copied().unwrap_or_default();
    let course = course(findings, face.id);
    let told: Vec<String> =
        course.iter().map(|phase| format!("{} to {} {}", phase.from, phase.to, phase.name)).collect();
    let (first, last) = (words::moment(face.first_s, duration_s), words::moment(face.last_s, duration_s));
    Person {
        id: face.id,
        name: format!("Person {}", face.id),
        headline: words::mostly(face.dominant_emotion, share),
        label: format!("Expressions of person {} over time. Strongest: {}.", face.id, told.join(", ")),
        first,
        last,
        samples: face.frames,
        calmness: format!("{:.0} of 100", face.calmness),
        eye_contact: face.eye_contact.map_or_else(|| "could not be read".to_owned(), words::percent),
        shares: shares(&face.emotions, std::slice::from_ref(face)),
        course,
    }
}

/// The strongest expression over time, neighbours that agree put together.
fn course(findings: &Findings, face: u32) -> Vec<Phase> {
    let mut course = Vec::new();
    for steps in COURSE_STEPS {
        course = phases(findings, face, steps);
        if course.len() <= MOST_PHASES {
            break;
        }
    }
    course
}

fn phases(findings: &Findings, face: u32, steps: usize) -> Vec<Phase> {
    let duration_s = findings.analysis.video.duration_s;
    let mut course = Vec::new();
    for stretch in stretches(&findings.timeline, face, duration_s, steps) {
        for same in stretch.chunk_by(|a, b| a.top().0 == b.top().0) {
            let emotion = same[0].top().0;
            course.push(Phase {
                from: words::moment(same[0].from_s, duration_s),
                to: words::moment(same[same.len() - 1].to_s, duration_s),
                name: words::noun(emotion),
                colour: colour::of_emotion(emotion),
            });
        }
    }
    course
}

fn warnings(findings: &Findings) -> Vec<String> {
    let mut warnings = findings.analysis.warnings.clone();
    let samples = findings.timeline.rows.len();
    if (1..FEW_SAMPLES).contains(&samples) {
        let read = words::count(samples as u64, "sample", "samples");
        warnings.insert(0, format!("Only {read} could be read: the figures are rough. A longer video, or a smaller sample_every, gives better ones."));
    }
    warnings
}

fn facts(findings: &Findings, context: &Context) -> Vec<(&'static str, String)> {
    let video = &findings.analysis.video;
    let interval_s = findings.timeline.interval_s;
    let sound = match (video.has_audio, &findings.analysis.speech) {
        (true, Some(_)) => "a sound track",
        (true, None) => "a sound track, not analyzed",
        (false, _) => "none",
    };
    let mut samples = words::count(video.frames_analyzed, "frame", "frames");
    samples.push_str(&format!(" of {}", video.frames_total));
    if interval_s > 0.0 {
        samples.push_str(&format!(", one every {interval_s:.2} s"));
    }
    vec![
        ("Length", words::length(video.duration_s)),
        ("Picture", format!("{} × {} pixels, {} frames a second", video.width, video.height, Fps(video.fps))),
        ("Coding", video.codec.clone()),
        ("Sound", sound.to_owned()),
        ("Looked at", samples),
        ("Date", words::date(context.created_at)),
    ]
}

/// Frames a second with no more decimals than it has.
struct Fps(f64);

impl std::fmt::Display for Fps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The bars of a person or a video.
pub fn bars(shares: &[Share]) -> String {
    let told: Vec<String> = shares.iter().map(|share| format!("{} {}", share.name, share.value)).collect();
    let bars: Vec<chart::Bar<'_>> = shares
        .iter()
        .map(|share| chart::Bar {
            label: share.name,
            value: &share.value,
            percent: share.percent,
            colour: share.colour,
        })
        .collect();
    chart::bars(&bars, &format!("Shares of the seven expressions: {}.", told.join(", ")))
}

/// The timeline of a person.
pub fn timeline(findings: &Findings, person: &Person, size: Size) -> String {
    chart::timeline(findings, person.id, size, &person.label)
}
