//! The texts and rows that page and mails show. Every figure is put into words only here, so that page and mails show
//! the same.

use std::cmp::Reverse;

use super::people::{self, Person};
use super::shares::{Share, shares};
use super::words::{Meaning, Note, ReportContents, Unit, Words};
use super::{Context, feedback};
use crate::analysis::{
    Analysis, Certainty, Emotion, FaceSummary, Findings, Interval, Relative, Speech, SpeechQuality, Story, Warning,
    WeightedPart, percentages,
};

/// Below this number of samples, a warning says that the figures are rough.
const FEW_SAMPLES: usize = 10;

/// The texts of a report.
pub struct View {
    pub words: Words,
    pub headline: String,
    /// The headline of the subject of a mail, within a line.
    pub subject: String,
    /// The largest shares, or that no face was found. Empty with several people.
    pub lead: String,
    /// The number of people, the length and the number of samples.
    pub about: String,
    pub file_name: Option<String>,
    pub tiles: Vec<Tile>,
    /// The figures of speech; empty if the sound was not analyzed.
    pub speech: Vec<Tile>,
    pub shares: Vec<Share>,
    pub people: Vec<Person>,
    /// A sentence about the people who are not in [`View::people`], since they were seen too briefly.
    pub others: Option<String>,
    /// Feedback: the most notable findings, and one thing to try.
    pub feedback: Vec<String>,
    /// The part of the feedback that is shown in mails.
    pub try_this: Vec<String>,
    /// Warnings about a damaged file, which are shown in mails.
    pub damage: Vec<String>,
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

const NO_FACE_ADVICE: [&str; 4] = ["size", "light", "hidden", "brief"];

impl View {
    /// Builds the texts. At most `most` people are shown one by one, those with the most samples.
    pub fn new(findings: &Findings, context: &Context, most: usize) -> Self {
        let words = Words(context.language);
        let analysis = &findings.analysis.rounded();
        let mut faces: Vec<&FaceSummary> = analysis.faces.iter().collect();
        faces.sort_by_key(|face| (Reverse(face.frames), face.id));
        let hidden = faces.len().saturating_sub(most);
        faces.truncate(most);
        faces.sort_by_key(|face| face.id);
        let people: Vec<Person> = faces.into_iter().map(|face| people::person(words, findings, face)).collect();
        let (headline, lead) = headline(words, analysis);
        let told: Vec<&str> = people.iter().map(|person| person.headline.as_str()).collect();
        let subject = match (analysis.faces.len(), told.as_slice()) {
            (2 | 3, told) if hidden == 0 => format!("{headline}: {}", told.join("; ")),
            _ => headline.clone(),
        };
        let nobody = analysis.faces.is_empty();
        let contents = ReportContents {
            by_eyes: analysis.sees_eyes(),
            relative: analysis.faces.iter().any(|face| matches!(face.relative, Some(Relative::Compared { .. }))),
            scores: analysis.summary.presence.is_some(),
            intervals: analysis.summary.intervals.is_some(),
            metrics_version: analysis.metrics_version,
        };
        Self {
            words,
            headline,
            subject,
            lead,
            about: about(words, findings),
            file_name: context.file_name.clone(),
            tiles: tiles(words, analysis),
            speech: analysis.speech.as_ref().map_or_else(Vec::new, |speech| speech_tiles(words, speech)),
            shares: analysis
                .summary
                .emotions
                .as_ref()
                .map_or_else(Vec::new, |emotions| shares(words, emotions, &analysis.faces)),
            people,
            others: (hidden > 0).then(|| words.count("others", hidden as u64, &[])),
            feedback: feedback::sentences(words, analysis),
            try_this: feedback::advice(words, analysis),
            damage: damage(words, analysis),
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
    if analysis.faces.len() > 1 {
        return (words.count("people", analysis.faces.len() as u64, &[]), String::new());
    }
    let emotions = &percentages(emotions);
    let share = |emotion: Emotion| words.percent(emotions.get(&emotion).copied().unwrap_or_default());
    // The share in this video is exact. The interval says how much the share of a similar video may differ.
    let interval = analysis.summary.intervals.as_ref().and_then(|all| all.emotions.get(&top).copied());
    let varies =
        interval.filter(|interval| interval.certainty() >= Certainty::Rough).map_or_else(String::new, |wide| {
            let (low, high) = (words.number(wide.low, 0), words.share(wide.high / 100.0));
            words.fill("lead_varies", &[("low", &low), ("high", &high)])
        });
    let next = emotions.iter().filter(|(emotion, _)| **emotion != top).max_by(|a, b| a.1.total_cmp(b.1));
    let next = next.filter(|(_, share)| **share >= 5.0).map_or_else(String::new, |(emotion, _)| {
        words.fill("lead_next", &[("second", &words.adjective(*emotion)), ("share", &share(*emotion))])
    });
    let values = [("first", words.label(top)), ("share", share(top)), ("next", next), ("varies", varies)];
    let lead = words.fill("lead", &values.each_ref().map(|(name, text)| (*name, text.as_str())));
    // Results of older versions have no story.
    let runs = analysis.faces.first().map_or(&[][..], |face| &face.segments);
    let story = analysis.summary.story.or_else(|| Story::of(emotions, runs));
    let story = story.unwrap_or(Story::Mixed { emotion: top });
    (words.story(story, interval), lead)
}

/// Returns how many people were seen, how long the video is, and how many samples were taken.
fn about(words: Words, findings: &Findings) -> String {
    let (video, faces) = (&findings.analysis.video, &findings.analysis.faces);
    let mut told = vec![words.length(video.duration_s)];
    if !faces.is_empty() {
        // With several people, the headline has their number.
        told.splice(0..0, (faces.len() == 1).then(|| words.count("people", 1, &[])));
        told.push(words.count("samples", video.frames_analyzed, &[]));
    }
    told.join(" · ")
}

/// Returns the warnings about a damaged file.
fn damage(words: Words, analysis: &Analysis) -> Vec<String> {
    let is_damage = |code: &&Warning| {
        matches!(code, Warning::VideoCutOff { .. } | Warning::PicturesDamaged { .. } | Warning::SoundUndecodable)
    };
    analysis.warning_codes.iter().filter(is_damage).filter_map(|code| words.warning(code)).collect()
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
    let part = |part: &WeightedPart| words.say(&format!("tile.part.{}", feedback::name(&part.part)));
    let mut tiles = Vec::new();
    if let Some(parts) = &summary.parts {
        let scores = [
            ("overall", summary.overall_score, &parts.overall_score, intervals.and_then(|all| all.overall_score)),
            ("presence", summary.presence, &parts.presence, intervals.and_then(|all| all.presence)),
        ];
        for (label, value, parts, interval) in scores {
            let Some(value) = value else { continue };
            let names: Vec<String> = parts.iter().map(part).collect();
            tiles.push(tile(label, Some((value, Unit::Of100, Note::Made(names.join(", ")))), interval, None));
        }
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
    let file = context.file_name.clone().map(|name| ("file", name));
    let facts = [
        ("length", words.length(video.duration_s)),
        ("picture", picture),
        ("codec", codec(&video.codec)),
        ("sound", sound),
        ("looked", looked),
        ("date", words.date(context.created_at)),
    ];
    file.into_iter().chain(facts).map(|(name, text)| (words.say(&format!("fact.{name}")), text)).collect()
}

/// Returns the usual name of a codec for FFmpeg's short name.
fn codec(name: &str) -> String {
    let known = [
        ("h264", "H.264"),
        ("hevc", "H.265 (HEVC)"),
        ("av1", "AV1"),
        ("vp8", "VP8"),
        ("vp9", "VP9"),
        ("mpeg4", "MPEG-4"),
        ("mpeg2video", "MPEG-2"),
        ("mjpeg", "Motion JPEG"),
        ("prores", "ProRes"),
        ("gif", "GIF"),
    ];
    known.iter().find(|(short, _)| *short == name).map_or(name, |(_, usual)| usual).to_owned()
}
