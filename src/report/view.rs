//! The texts and rows that page and mails show. Every figure is put into words only here, so that page and mails show
//! the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::chart;
use super::people::{self, Person};
use super::words::{Meaning, Note, ReportContents, Unit, Words};
use super::{Context, colour, feedback};
use crate::analysis::{
    Analysis, Certainty, Emotion, FaceSummary, Findings, Interval, Speech, SpeechQuality, Story, percentages,
};

/// Below this number of samples, a warning says that the figures are rough.
const FEW_SAMPLES: usize = 10;

/// The texts of a report.
pub struct View {
    pub words: Words,
    pub headline: String,
    pub lead: String,
    pub tiles: Vec<Tile>,
    /// The figures of speech; empty if the sound was not analyzed.
    pub speech: Vec<Tile>,
    pub shares: Vec<Share>,
    pub people: Vec<Person>,
    /// A sentence about the people who are not in [`View::people`], since they were seen too briefly.
    pub others: Option<String>,
    /// Feedback: the most notable findings, and one thing to try.
    pub feedback: Vec<String>,
    /// Facts of the video and of the analysis, as label and value.
    pub facts: Vec<(String, String)>,
    pub warnings: Vec<String>,
    /// Names and checksums.
    pub models: Vec<(String, String)>,
    /// The version of the definitions of the figures.
    pub metrics_version: String,
    /// Advice if no face was found.
    pub advice: Vec<String>,
    pub meanings: Vec<Meaning>,
    pub created: String,
    /// The address of the result, always http or https.
    pub result_url: Option<String>,
    pub token: String,
}

/// A figure with label and note.
pub struct Tile {
    pub label: String,
    pub value: String,
    pub note: String,
}

/// The share of one of the seven expressions.
pub struct Share {
    pub emotion: Emotion,
    pub name: String,
    pub colour: &'static str,
    /// The percentage with its sign.
    pub value: String,
    /// 0 to 100.
    pub percent: f64,
    /// The percentage as a whole number, at least 1, for bars made of table cells.
    pub width: u32,
    /// The number of samples in which it was the strongest, and the number of all samples.
    pub samples: String,
    /// The mean confidence of the model in those samples.
    pub sure: String,
}

const NO_FACE_ADVICE: [&str; 4] = ["size", "light", "hidden", "brief"];

impl View {
    /// Builds the texts. At most `most` people are shown one by one, those with the most samples.
    pub fn new(findings: &Findings, context: &Context, most: usize) -> Self {
        let words = Words(context.language);
        let analysis = &findings.analysis;
        let mut faces: Vec<&FaceSummary> = analysis.faces.iter().collect();
        faces.sort_by_key(|face| (Reverse(face.frames), face.id));
        let hidden = faces.len().saturating_sub(most);
        faces.truncate(most);
        faces.sort_by_key(|face| face.id);
        let (headline, lead) = headline(words, analysis);
        let nobody = analysis.faces.is_empty();
        let contents = ReportContents {
            by_eyes: analysis.sees_eyes(),
            scores: analysis.summary.presence.is_some(),
            intervals: analysis.summary.intervals.is_some(),
            metrics_version: analysis.metrics_version,
        };
        Self {
            words,
            headline,
            lead,
            tiles: tiles(words, analysis),
            speech: analysis.speech.as_ref().map_or_else(Vec::new, |speech| speech_tiles(words, speech)),
            shares: analysis
                .summary
                .emotions
                .as_ref()
                .map_or_else(Vec::new, |emotions| shares(words, emotions, &analysis.faces)),
            people: faces.into_iter().map(|face| people::person(words, findings, face)).collect(),
            others: (hidden > 0).then(|| words.count("others", hidden as u64, &[])),
            feedback: feedback::sentences(words, analysis),
            facts: facts(words, findings, context),
            warnings: warnings(words, findings),
            models: analysis.models.iter().map(|model| (model.name.clone(), model.sha256.clone())).collect(),
            metrics_version: words.fill("fact.metrics_value", &[("n", &analysis.metrics_version.to_string())]),
            advice: NO_FACE_ADVICE.iter().filter(|_| nobody).map(|name| words.say(&format!("advice.{name}"))).collect(),
            meanings: words.meanings(contents),
            created: words.date(context.created_at),
            result_url: web_address(context),
            token: context.token.to_string(),
        }
    }
}

impl View {
    /// Returns the first line of a person's table in a plain-text mail.
    pub fn table_head(&self) -> String {
        let [name, share, strongest, sure] =
            ["expression", "share", "strongest", "sure"].map(|head| self.words.say(&format!("head.{head}")));
        format!("  {name:<12}{share:>7}{strongest:>14}{sure:>7}")
    }
}

/// Returns the address of the result if it is a valid http or https address.
pub fn web_address(context: &Context) -> Option<String> {
    let url = context.result_url.as_deref()?;
    let is_web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    (is_web && !url.chars().any(|c| c.is_control() || c.is_whitespace())).then(|| url.to_owned())
}

/// Returns the headline and the sentence below it.
fn headline(words: Words, analysis: &Analysis) -> (String, String) {
    let (Some(top), Some(emotions)) = (analysis.summary.dominant_emotion, &analysis.summary.emotions) else {
        return (words.say("headline_nobody"), words.say("lead_nobody"));
    };
    let emotions = &percentages(emotions);
    let share = emotions.get(&top).copied().unwrap_or_default();
    let people = match analysis.faces.len() {
        1 => words.say("one_person"),
        n => words.fill("people_seen", &[("n", &n.to_string())]),
    };
    // The share in this video is exact. The interval says how much the share of a similar video may differ.
    let interval = analysis.summary.intervals.as_ref().and_then(|all| all.emotions.get(&top).copied());
    let varies =
        interval.filter(|interval| interval.certainty() >= Certainty::Rough).map_or_else(String::new, |wide| {
            let (low, high) = (words.number(wide.low, 0), words.share(wide.high / 100.0));
            words.fill("lead_varies", &[("low", &low), ("high", &high)])
        });
    let sure = interval.is_none_or(|interval| interval.certainty() == Certainty::Clear);
    let exactly = |share: f64| if sure { words.percent(share) } else { words.share(share / 100.0) };
    let percent = if sure { words.percent(share) } else { words.figure_about(share) };
    let next = emotions.iter().filter(|(emotion, _)| **emotion != top).max_by(|a, b| a.1.total_cmp(b.1));
    let next = next.filter(|(_, share)| **share >= 5.0).map_or_else(String::new, |(emotion, share)| {
        words.fill("lead_next", &[("second", &noun_in_sentence(words, *emotion)), ("share", &exactly(*share))])
    });
    let values = [
        ("first", capital(&noun_in_sentence(words, top))),
        ("share", percent),
        ("next", next),
        ("varies", varies),
        ("people", people),
    ];
    let lead = words.fill("lead", &values.each_ref().map(|(name, text)| (*name, text.as_str())));
    let story = analysis.summary.story.unwrap_or(Story::Mixed { emotion: top });
    (words.story(story, interval), lead)
}

/// Returns the name of an emotion for use within a sentence.
fn noun_in_sentence(words: Words, emotion: Emotion) -> String {
    if emotion == Emotion::Neutral { words.say("neutral_thing") } else { words.noun(emotion) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the headline figures.
fn tiles(words: Words, analysis: &Analysis) -> Vec<Tile> {
    let summary = &analysis.summary;
    if analysis.faces.is_empty() {
        return Vec::new();
    }
    let intervals = summary.intervals.as_ref();
    let tile = |label: &str, value: Option<(f64, Unit, Note)>, interval: Option<Interval>, coverage: Option<f64>| {
        let told =
            value.map(|(value, unit, note)| (words.figure(value, interval, unit), words.remark(&note, interval)));
        let (value, mut note) = told.unwrap_or_else(|| ("–".to_owned(), words.say("unread")));
        if let Some(coverage) = coverage {
            note = format!("{note}; {}", words.fill("coverage", &[("share", &words.share(coverage))]));
        }
        Tile { label: words.say(&format!("tile.{label}")), value, note }
    };
    let parts = |value: Option<f64>, note: &str| {
        value.map(|v| (v, Unit::Of100, Note::Made(words.say(&format!("tile.{note}")))))
    };
    let mut tiles = Vec::new();
    if summary.overall_score.is_some() {
        let interval = intervals.and_then(|all| all.overall_score);
        tiles.push(tile("overall", parts(summary.overall_score, "overall_note"), interval, None));
    }
    if summary.presence.is_some() {
        let interval = intervals.and_then(|all| all.presence);
        tiles.push(tile("presence", parts(summary.presence, "presence_note"), interval, None));
    }
    let calm = summary.calmness.map(|v| (v, Unit::Of100, Note::Grade(words.calm(v))));
    tiles.push(tile("calmness", calm, intervals.map(|all| all.calmness), None));
    let contact = summary.eye_contact.map(|v| (v, Unit::Percent, Note::Grade(words.facing(v))));
    let interval = intervals.and_then(|all| all.eye_contact);
    tiles.push(tile("eye_contact", contact, interval, summary.eye_contact_coverage));
    // The mean confidence in these samples is exact, so it has no interval.
    let sure = summary.model_confidence.map(|v| (words.share(v), words.sure(v)));
    tiles.extend(sure.map(|(value, note)| Tile { label: words.say("tile.sure"), value, note }));
    tiles
}

/// Returns the figures of speech.
fn speech_tiles(words: Words, speech: &Speech) -> Vec<Tile> {
    let tile =
        |label: &str, value: String, note: String| Tile { label: words.say(&format!("tile.{label}")), value, note };
    let mut tiles = vec![tile("speech", words.share(speech.ratio), words.say("tile.speech_note"))];
    if let Some(clarity) = speech.clarity {
        tiles.push(tile("clarity", words.of_100(clarity), words.clear(clarity)));
    }
    if let Some(SpeechQuality { sig, bak, ovr }) = &speech.quality_mos {
        let (voice, background) = (words.number(*sig, 1), words.number(*bak, 1));
        let note = words.fill("tile.quality_note", &[("voice", &voice), ("background", &background)]);
        tiles.push(tile("quality", words.fill("of5", &[("value", &words.number(*ovr, 1))]), note));
    }
    if let Some(rate) = speech.syllables_per_s {
        tiles.push(tile("pace", words.number(rate, 1), words.pace(rate)));
    }
    if speech.ratio > 0.0 {
        let note = if speech.pauses == 0 {
            words.say("tile.no_pause")
        } else {
            let time = format!("{} s", words.number(speech.longest_pause_s, 1));
            words.fill("tile.longest", &[("time", &time)])
        };
        tiles.push(tile("pauses", speech.pauses.to_string(), note));
    }
    tiles
}

/// Returns the shares of the seven expressions, largest first.
pub(super) fn shares(words: Words, emotions: &BTreeMap<Emotion, f64>, faces: &[FaceSummary]) -> Vec<Share> {
    // Rounds like the JSON, so that report and JSON show the same figures.
    let emotions = percentages(emotions);
    let mut shares: Vec<Share> = Emotion::ALL
        .into_iter()
        .map(|emotion| {
            let percent = emotions.get(&emotion).copied().unwrap_or_default();
            let counts = faces.iter().map(|face| face.emotion_counts.get(&emotion).copied().unwrap_or_default());
            let (n, all) = (counts.sum::<u32>(), faces.iter().map(|face| face.frames).sum::<u32>());
            let samples = words.fill("samples_of", &[("n", &n.to_string()), ("all", &all.to_string())]);
            // Shown for one person only; with several people it is in the table of each.
            let sure = match faces {
                [face] => face.average_confidence.get(&emotion).copied(),
                _ => None,
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 100")]
            let width = percent.round().clamp(1.0, 100.0) as u32;
            Share {
                emotion,
                name: words.noun(emotion),
                colour: colour::of_emotion(emotion),
                value: words.percent(percent),
                percent,
                width,
                samples,
                sure: sure.map_or_else(|| "–".to_owned(), |sure| words.share(sure)),
            }
        })
        .collect();
    shares.sort_by(|a, b| b.percent.total_cmp(&a.percent));
    shares
}

fn warnings(words: Words, findings: &Findings) -> Vec<String> {
    let mut warnings = words.warnings(&findings.analysis);
    let samples = findings.timeline.rows.len();
    if (1..FEW_SAMPLES).contains(&samples) {
        warnings.insert(0, words.count("few", samples as u64, &[]));
    }
    warnings
}

fn facts(words: Words, findings: &Findings, context: &Context) -> Vec<(String, String)> {
    let video = &findings.analysis.video;
    let interval_s = findings.timeline.interval_s;
    let sound = words.say(match (video.has_audio, &findings.analysis.speech) {
        (true, Some(_)) => "fact.sound_yes",
        (true, None) => "fact.sound_unheard",
        (false, _) => "fact.sound_no",
    });
    let mut looked = words.count("fact.looked", video.frames_analyzed, &[("all", &video.frames_total.to_string())]);
    if interval_s > 0.0 {
        looked.push_str(&words.fill("fact.every", &[("time", &words.number(interval_s, 2))]));
    }
    let fps = words.number(video.fps, 2);
    // Removes trailing zeros.
    let fps = fps.trim_end_matches('0').trim_end_matches(['.', ',']);
    let (width, height) = (video.width.to_string(), video.height.to_string());
    let picture = words.fill("fact.picture_value", &[("width", &width), ("height", &height), ("fps", fps)]);
    [
        ("length", words.length(video.duration_s)),
        ("picture", picture),
        ("codec", video.codec.clone()),
        ("sound", sound),
        ("looked", looked),
        ("date", words.date(context.created_at)),
    ]
    .map(|(name, text)| (words.say(&format!("fact.{name}")), text))
    .into()
}

/// Draws the bars of a person or of a video.
pub fn bars(words: Words, shares: &[Share]) -> String {
    let told: Vec<String> = shares.iter().map(|share| format!("{} {}", share.name, share.value)).collect();
    let bars: Vec<chart::Bar<'_>> = shares
        .iter()
        .map(|share| chart::Bar {
            label: &share.name,
            value: &share.value,
            percent: share.percent,
            colour: share.colour,
        })
        .collect();
    chart::bars(&bars, &words.fill("shares", &[("list", &told.join(", "))]))
}
