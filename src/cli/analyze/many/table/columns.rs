//! The columns of the table, and where their values are in a result.

use crate::analysis::Emotion;

/// The type of the values of a column. Any value may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Number,
}

/// Where the value of a column is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The path of the input.
    File,
    /// The name of the result, without an ending.
    Result,
    /// `done` or `failed`.
    Status,
    ErrorCode,
    Error,
    /// `video` or `picture`.
    Media,
    /// The number of people.
    People,
    /// A JSON pointer in the result.
    Whole(String),
    /// A JSON pointer in the member of `faces` for the person.
    Person(String),
}

pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub place: Place,
}

/// Columns about the whole video or picture. They are the same in all rows of an input.
const WHOLE: [(&str, Kind, &str); 15] = [
    ("width", Kind::Integer, "/video/width"),
    ("height", Kind::Integer, "/video/height"),
    ("duration_s", Kind::Number, "/video/duration_s"),
    ("fps", Kind::Number, "/video/fps"),
    ("frames_total", Kind::Integer, "/video/frames_total"),
    ("frames_analyzed", Kind::Integer, "/video/frames_analyzed"),
    ("overall_score", Kind::Number, "/summary/overall_score"),
    ("speech_ratio", Kind::Number, "/speech/ratio"),
    ("speech_clarity", Kind::Number, "/speech/clarity"),
    ("speech_fluency", Kind::Number, "/speech/fluency"),
    ("speech_quality", Kind::Number, "/speech/quality_mos/ovr"),
    ("syllables_per_s", Kind::Number, "/speech/syllables_per_s"),
    ("pauses", Kind::Integer, "/speech/pauses"),
    ("longest_pause_s", Kind::Number, "/speech/longest_pause_s"),
    ("metrics_version", Kind::Integer, "/metrics_version"),
];

/// Columns about one person, before the emotions.
const PERSON: [(&str, Kind, &str); 5] = [
    ("person", Kind::Integer, "/id"),
    ("first_s", Kind::Number, "/first_s"),
    ("last_s", Kind::Number, "/last_s"),
    ("frames", Kind::Integer, "/frames"),
    ("dominant_emotion", Kind::Text, "/dominant_emotion"),
];

/// Figures of one person that have an interval. Those of the emotions come before them.
const FIGURES: [&str; 6] = ["valence", "arousal", "calmness", "eye_contact", "presence", "model_confidence"];

/// Figures of one person without an interval.
const OTHERS: [&str; 5] =
    ["eye_contact_coverage", "eyes_covered", "mouth_covered", "emotions_coverage", "blinks_per_minute"];

pub fn columns() -> Vec<Column> {
    let column = |name: &str, kind, place| Column { name: name.to_owned(), kind, place };
    let mut all = vec![
        column("file", Kind::Text, Place::File),
        column("result", Kind::Text, Place::Result),
        column("status", Kind::Text, Place::Status),
        column("error_code", Kind::Text, Place::ErrorCode),
        column("error", Kind::Text, Place::Error),
        column("media", Kind::Text, Place::Media),
        column("people", Kind::Integer, Place::People),
    ];
    all.extend(WHOLE.map(|(name, kind, pointer)| column(name, kind, Place::Whole(pointer.to_owned()))));
    all.extend(PERSON.map(|(name, kind, pointer)| column(name, kind, Place::Person(pointer.to_owned()))));
    let emotions = Emotion::ALL.map(|emotion| (emotion.label(), format!("/emotions/{}", emotion.label())));
    let figures = FIGURES.map(|figure| (figure, format!("/{figure}")));
    for (name, pointer) in emotions.into_iter().chain(figures) {
        let end = |end| Place::Person(format!("/intervals{pointer}/{end}"));
        all.extend([
            column(name, Kind::Number, Place::Person(pointer.clone())),
            column(&format!("{name}_low"), Kind::Number, end(0)),
            column(&format!("{name}_high"), Kind::Number, end(1)),
        ]);
    }
    all.extend(OTHERS.map(|name| column(name, Kind::Number, Place::Person(format!("/{name}")))));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        let columns = columns();
        let names: BTreeSet<&str> = columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names.len(), columns.len());
        let docs = include_str!("../../../../../docs/BATCH.md");
        for column in &columns {
            // One row describes the intervals of all figures.
            let name = column.name.trim_end_matches("_low").trim_end_matches("_high");
            assert!(docs.contains(&format!("`{name}`")), "docs/BATCH.md lacks {name}");
        }
    }
}
