//! The stored form of a timeline: rows without names.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Timeline, TimelineRow};
use crate::analysis::rounding::to;
use crate::analysis::{BBox, Covered, Expressions, Gaze, Pose, Probabilities};

/// A row in its stored form.
#[derive(Serialize, Deserialize)]
struct StoredRow(
    f64,
    u32,
    [f32; 4],
    [f32; 7],
    Option<[f32; 3]>,
    Option<bool>,
    f32,
    #[serde(default)] Option<[f32; 2]>,
    #[serde(default)] Option<bool>,
    #[serde(default)] Option<Vec<u8>>,
    /// `Some(None)` is null, and `None` is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    Option<Option<[bool; 2]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<[i16; 7]>,
);

#[expect(clippy::cast_possible_truncation, reason = "a value of `relative` is at most 10")]
fn hundredths(value: f32) -> i16 {
    (100.0 * value).round() as i16
}

impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Rows<'a>(&'a [TimelineRow]);
        impl Serialize for Rows<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|row| -> StoredRow {
                    let row = row.rounded();
                    let BBox { x, y, width, height } = row.bbox;
                    let pose = row.pose.map(|pose| [pose.yaw, pose.pitch, pose.roll]);
                    let gaze = row.gaze.map(|gaze| [gaze.yaw, gaze.pitch]);
                    let covered = row.covered.map(|covered| [covered.eyes, covered.mouth]);
                    StoredRow(
                        row.time_s,
                        row.face,
                        [x, y, width, height],
                        row.emotions.0,
                        pose,
                        row.eye_contact,
                        row.quality,
                        gaze,
                        row.eyes_shut,
                        row.expressions.map(|seen| seen.percent().to_vec()),
                        (covered.is_some() || row.relative.is_some()).then_some(covered),
                        row.relative.map(|relative| relative.map(hundredths)),
                    )
                }))
            }
        }
        #[derive(Serialize)]
        struct Timeline<'a> {
            interval_s: f64,
            rows: Rows<'a>,
        }
        Timeline { interval_s: to(self.interval_s, 3), rows: Rows(&self.rows) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            interval_s: f64,
            rows: Vec<StoredRow>,
        }
        let stored = Stored::deserialize(deserializer)?;
        let row = |row: StoredRow| {
            let StoredRow(
                time_s,
                face,
                bbox,
                emotions,
                pose,
                eye_contact,
                quality,
                gaze,
                eyes_shut,
                expressions,
                covered,
                relative,
            ) = row;
            let [x, y, width, height] = bbox;
            TimelineRow {
                time_s,
                face,
                bbox: BBox { x, y, width, height },
                emotions: Probabilities(emotions),
                pose: pose.map(|[yaw, pitch, roll]| Pose { yaw, pitch, roll }),
                eye_contact,
                quality,
                gaze: gaze.map(|[yaw, pitch]| Gaze { yaw, pitch }),
                eyes_shut,
                covered: covered.flatten().map(|[eyes, mouth]| Covered { eyes, mouth }),
                expressions: expressions.and_then(|percent| Expressions::of_percent(&percent)),
                relative: relative.map(|relative| relative.map(|it| f32::from(it) / 100.0)),
            }
        };
        Ok(Self { interval_s: stored.interval_s, rows: stored.rows.into_iter().map(row).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::timeline::tests::{row, smiling};

    #[test]
    fn a_stored_timeline_is_short_and_is_read_back() {
        let blind = TimelineRow { pose: None, eye_contact: None, gaze: None, eyes_shut: None, ..row() };
        let timeline = Timeline { interval_s: 0.834_167, rows: vec![row(), blind] };
        let text = serde_json::to_string(&timeline).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"interval_s":0.834,"rows":["#,
                "[1.235,2,[10.0,20.1,30.0,40.0],[0.0123,0.0,0.0,0.9,0.05,0.0,0.0377],",
                "[-3.2,4.0,0.0],true,0.877,[1.3,-0.5],false,null],",
                "[1.235,2,[10.0,20.1,30.0,40.0],[0.0123,0.0,0.0,0.9,0.05,0.0,0.0377],null,null,0.877,null,null,null]]}"
            )
        );
        let back: Timeline = serde_json::from_str(&text).unwrap();
        assert_eq!(back.rows, timeline.rows.iter().map(TimelineRow::rounded).collect::<Vec<_>>());
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn movements_are_stored_in_percent_and_only_if_they_were_read() {
        let timeline = Timeline { interval_s: 0.5, rows: vec![smiling(), row()] };
        let text = serde_json::to_string(&timeline).unwrap();
        assert!(text.contains(",false,[0,") && text.contains("93,0,") && text.ends_with(",false,null]]}"), "{text}");
        let back: Timeline = serde_json::from_str(&text).unwrap();
        assert_eq!(back.rows, [smiling().rounded(), row().rounded()]);
        assert!(back.has_expressions());
    }

    #[test]
    fn rows_of_older_versions_without_gaze_are_read() {
        let old = r#"{"interval_s":1.0,"rows":[[1.0,1,[1.0,2.0,3.0,4.0],[0,0,0,1,0,0,0],null,true,0.5]]}"#;
        let rows = serde_json::from_str::<Timeline>(old).unwrap().rows;
        assert_eq!((rows[0].eye_contact, rows[0].gaze, rows[0].eyes_shut), (Some(true), None, None));
    }
}
