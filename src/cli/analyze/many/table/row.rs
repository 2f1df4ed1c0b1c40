//! The rows of the table, from the results as JSON. Results of this run and of earlier ones are read alike.

use std::path::Path;

use serde_json::{Value, json};

use super::columns::{Column, Kind, Place};
use crate::cli::analyze::many::failed::{Failed, shown};

/// An input that has a result or failed.
pub struct Entry<'a> {
    pub file: &'a Path,
    pub result: &'a str,
    pub failed: Option<&'a Failed>,
    /// `None` if it failed.
    pub json: Option<Value>,
}

/// A value of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Empty,
    Text(String),
    Integer(i64),
    Number(f64),
}

impl Entry<'_> {
    /// Returns a row for each person. An input without people and one that failed have one row.
    pub fn rows(&self, columns: &[Column]) -> Vec<Vec<Cell>> {
        let picture = self.json.as_ref().filter(|json| json.get("video").is_none());
        let as_video = picture.map(as_video);
        let result = as_video.as_ref().or(self.json.as_ref());
        let faces = result.and_then(|result| result["faces"].as_array()).map_or(&[][..], Vec::as_slice);
        let media = result.map(|_| if as_video.is_some() { "picture" } else { "video" });
        let whole = Whole { entry: self, result, media, people: faces.len() };
        let row = |person| columns.iter().map(|column| whole.cell(column, person)).collect();
        match faces {
            [] => vec![row(None)],
            faces => faces.iter().map(|person| row(Some(person))).collect(),
        }
    }
}

/// What the rows of an input have in common.
struct Whole<'a> {
    entry: &'a Entry<'a>,
    result: Option<&'a Value>,
    media: Option<&'static str>,
    people: usize,
}

impl Whole<'_> {
    fn cell(&self, column: &Column, person: Option<&Value>) -> Cell {
        let text = |text: &str| Cell::Text(text.to_owned());
        let (result, failed) = (self.result, self.entry.failed);
        match &column.place {
            Place::File => Cell::Text(shown(self.entry.file)),
            Place::Result => result.map_or(Cell::Empty, |_| text(self.entry.result)),
            Place::Status => text(if failed.is_some() { "failed" } else { "done" }),
            Place::ErrorCode => failed.map_or(Cell::Empty, |failed| text(failed.code)),
            Place::Error => failed.map_or(Cell::Empty, |failed| text(&failed.text)),
            Place::Media => self.media.map_or(Cell::Empty, text),
            Place::People => {
                result.map_or(Cell::Empty, |_| Cell::Integer(i64::try_from(self.people).unwrap_or(i64::MAX)))
            }
            Place::Whole(pointer) => cell(result.and_then(|result| result.pointer(pointer)), column.kind),
            Place::Person(pointer) => cell(person.and_then(|person| person.pointer(pointer)), column.kind),
        }
    }
}

/// Returns a value of JSON as a value of this kind. A value of another kind is missing.
fn cell(value: Option<&Value>, kind: Kind) -> Cell {
    let Some(value) = value else { return Cell::Empty };
    let found = match kind {
        Kind::Text => value.as_str().map(|text| Cell::Text(text.to_owned())),
        Kind::Integer => value.as_i64().map(Cell::Integer),
        Kind::Number => value.as_f64().map(Cell::Number),
    };
    found.unwrap_or(Cell::Empty)
}

/// Returns the result of a picture in the shape of that of a video of one frame, with its figures in the same units.
/// Calmness and presence are figures of a span of time, which a picture does not have.
fn as_video(picture: &Value) -> Value {
    let face = |face: &Value| {
        let in_percent = |(name, share): (&String, &Value)| (name.clone(), json!(share.as_f64().map(percent)));
        let emotions: serde_json::Map<String, Value> =
            face["emotions"].as_object().into_iter().flatten().map(in_percent).collect();
        let share = |fact: &Value| fact.as_bool().map(|fact| if fact { 1.0 } else { 0.0 });
        json!({
            "id": face["id"],
            "frames": 1,
            "dominant_emotion": face["dominant_emotion"],
            "emotions": emotions,
            "valence": face["valence"],
            "arousal": face["arousal"],
            "eye_contact": share(&face["eye_contact"]).map(|share| share * 100.0),
            "eyes_covered": share(&face["eyes_covered"]),
            "mouth_covered": share(&face["mouth_covered"]),
            "emotions_coverage": face["eyes_covered"].as_bool().zip(face["mouth_covered"].as_bool())
                .map(|(eyes, mouth)| if eyes || mouth { 0.0 } else { 1.0 }),
        })
    };
    json!({
        "video": {"width": picture["width"], "height": picture["height"], "frames_analyzed": 1},
        "faces": picture["faces"].as_array().into_iter().flatten().map(face).collect::<Vec<_>>(),
    })
}

/// Returns a share of four decimals in percent, without the digits that the multiplication adds.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::super::columns::columns;
    use super::*;

    /// Returns the values of some columns in each row.
    fn values(entry: &Entry<'_>, names: &[&str]) -> Vec<Vec<Cell>> {
        let columns = columns();
        let at = |name: &&str| columns.iter().position(|column| column.name == **name).unwrap();
        entry.rows(&columns).into_iter().map(|row| names.iter().map(|name| row[at(name)].clone()).collect()).collect()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn a_video_has_a_row_for_each_person() {
        let json = json!({
            "video": {"duration_s": 2.5, "width": 640},
            "faces": [
                {"id": 1, "emotions": {"happy": 97.5}, "calmness": 80, "intervals": {"emotions": {"happy": [90.1, 99]}}},
                {"id": 2, "emotions": {"happy": 3}, "calmness": 70.5, "eye_contact": null},
            ],
        });
        let entry = Entry { file: Path::new("a.mp4"), result: "a.mp4-1", failed: None, json: Some(json) };
        let names = ["file", "status", "media", "people", "person", "duration_s", "happy", "happy_high", "eye_contact"];
        let same = |person, happy, high| {
            let number = Cell::Number;
            vec![
                text("a.mp4"),
                text("done"),
                text("video"),
                Cell::Integer(2),
                person,
                number(2.5),
                number(happy),
                high,
                Cell::Empty,
            ]
        };
        assert_eq!(
            values(&entry, &names),
            [same(Cell::Integer(1), 97.5, Cell::Number(99.0)), same(Cell::Integer(2), 3.0, Cell::Empty)]
        );
        assert_eq!(values(&entry, &["calmness"]), [[Cell::Number(80.0)], [Cell::Number(70.5)]]);
    }

    #[test]
    fn a_picture_has_the_units_of_a_video() {
        let face = json!({"id": 1, "emotions": {"happy": 0.9312}, "eye_contact": true, "eyes_covered": false});
        let json = json!({"width": 100, "height": 50, "faces": [face]});
        let entry = Entry { file: Path::new("a.jpg"), result: "a.jpg-1", failed: None, json: Some(json) };
        let names = ["media", "width", "happy", "eye_contact", "eyes_covered", "mouth_covered", "calmness", "frames"];
        let number = Cell::Number;
        assert_eq!(
            values(&entry, &names),
            [[
                text("picture"),
                Cell::Integer(100),
                number(93.12),
                number(100.0),
                number(0.0),
                Cell::Empty,
                Cell::Empty,
                Cell::Integer(1),
            ]]
        );
    }

    #[test]
    fn nobody_and_a_failure_have_one_row() {
        let names = ["result", "status", "error_code", "people", "person", "frames_analyzed"];
        let json = json!({"video": {"frames_analyzed": 7}, "faces": []});
        let nobody = Entry { file: Path::new("a"), result: "a-1", failed: None, json: Some(json) };
        assert_eq!(
            values(&nobody, &names),
            [[text("a-1"), text("done"), Cell::Empty, Cell::Integer(0), Cell::Empty, Cell::Integer(7)]]
        );
        let failed = Failed::changed();
        let failed = Entry { file: Path::new("a"), result: "a-1", failed: Some(&failed), json: None };
        let empty = Cell::Empty;
        assert_eq!(
            values(&failed, &names),
            [[empty.clone(), text("failed"), text("source_changed"), empty.clone(), empty.clone(), empty]]
        );
    }
}
