//! The rows from which the summary is computed: one for each face in each sample.

mod stored;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::contact::Contact;
use super::expressions::share;
use super::rounding::{to, to_f32};
use super::{BBox, Covered, Emotion, Expressions, Gaze, Observation, Pose, Probabilities};

/// One face in one sample. The JSON and CSV for clients have names and derived values. The stored form is short
/// ([`Timeline`]).
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineRow {
    /// Seconds from the start of the video.
    pub time_s: f64,
    /// `id` of the face in [`super::Analysis::faces`].
    pub face: u32,
    pub bbox: BBox,
    pub emotions: Probabilities,
    pub pose: Option<Pose>,
    /// Whether there was eye contact with the camera, or `None` if that could not be read.
    pub eye_contact: Option<bool>,
    pub quality: f32,
    /// Measured direction, or `None` if the eyes could not be read or were shut.
    pub gaze: Option<Gaze>,
    /// `None` if the eyes could not be read.
    pub eyes_shut: Option<bool>,
    /// `None` if the landmarks could not be read.
    pub covered: Option<Covered>,
    /// `None` if they were not asked for, or the landmarks could not be read.
    pub expressions: Option<Expressions>,
    /// How far each emotion is above its usual level ([`super::Relative`]), or `None` if the person was seen too
    /// briefly, and in pictures.
    pub relative: Option<[f32; 7]>,
}

/// One face in one sample. Unknown values are null.
#[derive(Serialize, ToSchema)]
#[schema(as = TimelineRow)]
struct Row {
    /// Seconds from the start of the video.
    time_s: f64,
    /// `id` of the face in the analysis.
    face: u32,
    bbox: BBox,
    /// Probability of each emotion, 0 to 1.
    emotions: BTreeMap<Emotion, f32>,
    /// How far each emotion is above its usual level of this person in this video: the natural logarithm of the ratio of
    /// its odds. 0: as usual; 1: clearly more. Null if the person was seen for less than 30 seconds or in less than 30
    /// samples.
    relative: Option<BTreeMap<Emotion, f32>>,
    /// -1 (unpleasant) to 1 (pleasant).
    valence: f64,
    /// -1 (passive) to 1 (active).
    arousal: f64,
    pose: Option<Pose>,
    gaze: Option<Gaze>,
    eyes_shut: Option<bool>,
    /// Whether both eyes are covered, for example by sunglasses.
    eyes_covered: Option<bool>,
    /// Whether the mouth is covered, for example by a mask.
    mouth_covered: Option<bool>,
    /// Whether there was eye contact with the camera.
    eye_contact: Option<bool>,
    /// Weight of the sample in means, above 0 and at most 1.
    quality: f32,
    /// Movements of the face, 0 to 1, if they were requested. Movements with 0 are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    expressions: Option<Expressions>,
}

impl PartialSchema for TimelineRow {
    fn schema() -> RefOr<Schema> {
        Row::schema()
    }
}

impl ToSchema for TimelineRow {
    fn name() -> Cow<'static, str> {
        Row::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Row::schemas(schemas);
    }
}

impl Serialize for TimelineRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (valence, arousal) = self.valence_arousal();
        let Self {
            time_s,
            face,
            bbox,
            emotions,
            pose,
            eye_contact,
            quality,
            gaze,
            eyes_shut,
            covered,
            expressions,
            relative,
        } = self.rounded();
        let by_emotion = |values: &[f32; 7]| {
            Emotion::ALL.into_iter().map(|emotion| (emotion, values[emotion.index()])).collect::<BTreeMap<_, _>>()
        };
        let row = Row {
            time_s,
            face,
            bbox,
            emotions: by_emotion(&emotions.0),
            relative: relative.as_ref().map(by_emotion),
            valence,
            arousal,
            pose,
            gaze,
            eyes_shut,
            eyes_covered: covered.map(|covered| covered.eyes),
            mouth_covered: covered.map(|covered| covered.mouth),
            eye_contact,
            quality,
            expressions,
        };
        row.serialize(serializer)
    }
}

impl TimelineRow {
    /// The row of one observation of the person with this id.
    pub(super) fn of(face: u32, seen: &Observation, contact: &Contact) -> Self {
        Self {
            time_s: seen.time_s,
            face,
            bbox: seen.face.bbox,
            emotions: seen.emotions,
            pose: seen.pose,
            eye_contact: contact.met,
            quality: seen.quality,
            // The network invents a gaze for shut eyes.
            gaze: seen.eyes.map(|eyes| eyes.gaze).filter(|_| contact.eyes_shut == Some(false)),
            eyes_shut: contact.eyes_shut,
            covered: seen.covered,
            expressions: seen.expressions,
            relative: None,
        }
    }

    /// First line of the CSV, without movements of the face.
    const CSV_HEADER: &str = "time_s,face,x,y,width,height,angry,disgust,fear,happy,sad,surprise,neutral,\
                                  valence,arousal,yaw,pitch,roll,eye_contact,quality,gaze_yaw,gaze_pitch,eyes_shut,\
                                  eyes_covered,mouth_covered,relative_angry,relative_disgust,relative_fear,\
                                  relative_happy,relative_sad,relative_surprise,relative_neutral";

    /// Returns the first line of the CSV. `expressions`: with a column for each movement of the face.
    pub fn csv_header(expressions: bool) -> String {
        let movements = if expressions { &Expressions::NAMES[..] } else { &[] };
        std::iter::once(&Self::CSV_HEADER).chain(movements).copied().collect::<Vec<_>>().join(",")
    }

    /// Returns the row as a line of the CSV, without a line end. Unknown values are empty.
    pub fn csv(&self, expressions: bool) -> String {
        let row = self.rounded();
        let BBox { x, y, width, height } = row.bbox;
        let mut line = format!("{},{},{x},{y},{width},{height}", row.time_s, row.face);
        for emotion in Emotion::ALL {
            let _ = write!(line, ",{}", row.emotions.of(emotion));
        }
        let (valence, arousal) = self.valence_arousal();
        let _ = write!(line, ",{valence},{arousal}");
        match row.pose {
            Some(Pose { yaw, pitch, roll }) => {
                let _ = write!(line, ",{yaw},{pitch},{roll}");
            }
            None => line.push_str(",,,"),
        }
        let text = |fact: Option<bool>| fact.map_or("", |fact| if fact { "true" } else { "false" });
        let _ = write!(line, ",{},{}", text(row.eye_contact), row.quality);
        match row.gaze {
            Some(Gaze { yaw, pitch }) => {
                let _ = write!(line, ",{yaw},{pitch}");
            }
            None => line.push_str(",,"),
        }
        let (eyes, mouth) = (row.covered.map(|covered| covered.eyes), row.covered.map(|covered| covered.mouth));
        let _ = write!(line, ",{},{},{}", text(row.eyes_shut), text(eyes), text(mouth));
        for at in 0..Emotion::ALL.len() {
            line.push(',');
            if let Some(relative) = row.relative {
                let _ = write!(line, "{}", relative[at]);
            }
        }
        match row.expressions {
            Some(seen) if expressions => {
                for percent in seen.percent() {
                    let _ = write!(line, ",{}", share(*percent));
                }
            }
            None if expressions => line.push_str(&",".repeat(Expressions::NAMES.len())),
            _ => {}
        }
        line
    }

    /// Returns valence, -1 (unpleasant) to 1 (pleasant), and arousal, -1 (passive) to 1 (active), rounded to three
    /// decimals.
    pub(super) fn valence_arousal(&self) -> (f64, f64) {
        let (valence, arousal) = self.emotions.valence_arousal();
        (to(valence, 3), to(arousal, 3))
    }

    /// Rounds all values to their significant digits: milliseconds, tenths of pixels and degrees.
    pub(super) fn rounded(&self) -> Self {
        let BBox { x, y, width, height } = self.bbox;
        Self {
            time_s: to(self.time_s, 3),
            face: self.face,
            bbox: BBox { x: to_f32(x, 1), y: to_f32(y, 1), width: to_f32(width, 1), height: to_f32(height, 1) },
            emotions: Probabilities(self.emotions.0.map(|p| to_f32(p, 4))),
            pose: self.pose.map(|Pose { yaw, pitch, roll }| Pose {
                yaw: to_f32(yaw, 1),
                pitch: to_f32(pitch, 1),
                roll: to_f32(roll, 1),
            }),
            eye_contact: self.eye_contact,
            quality: to_f32(self.quality, 3),
            gaze: self.gaze.map(|Gaze { yaw, pitch }| Gaze { yaw: to_f32(yaw, 1), pitch: to_f32(pitch, 1) }),
            eyes_shut: self.eyes_shut,
            covered: self.covered,
            expressions: self.expressions,
            // Adding 0 turns -0 into 0.
            relative: self.relative.map(|relative| relative.map(|it| to_f32(it, 2) + 0.0)),
        }
    }
}

/// All rows, in order of time, then face. It is stored apart from the [`super::Analysis`], because it grows with the
/// video.
///
/// For the same reason the rows in its JSON have no names: `[time_s, face, [x, y, width, height], [seven
/// probabilities], [yaw, pitch, roll] or null, eye_contact or null, quality, [gaze's yaw, pitch] or null, eyes_shut
/// or null, [52 movements of the face in percent] or null, [eyes covered, mouth covered] or null, [seven values of
/// `relative` in hundredths] or null]`. The last two elements are left out if they and those after them are null. Rows
/// of older versions, which have fewer elements, are read too.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// Seconds between samples (the median).
    pub interval_s: f64,
    pub rows: Vec<TimelineRow>,
}

impl Timeline {
    /// Whether any row has movements of the face.
    pub fn has_expressions(&self) -> bool {
        self.rows.iter().any(|row| row.expressions.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn row() -> TimelineRow {
        TimelineRow {
            time_s: 1.234_567,
            face: 2,
            bbox: BBox { x: 10.04, y: 20.06, width: 30.0, height: 40.0 },
            emotions: Probabilities([0.012_34, 0.0, 0.0, 0.9, 0.05, 0.0, 0.037_66]),
            pose: Some(Pose { yaw: -3.21, pitch: 4.0, roll: 0.04 }),
            eye_contact: Some(true),
            quality: 0.876_54,
            gaze: Some(Gaze { yaw: 1.26, pitch: -0.5 }),
            eyes_shut: Some(false),
            covered: None,
            expressions: None,
            relative: None,
        }
    }

    pub fn smiling() -> TimelineRow {
        let mut percent = [0; 52];
        (percent[44], percent[51]) = (93, 100);
        TimelineRow { expressions: Expressions::of_percent(&percent), ..row() }
    }

    #[test]
    fn covered_parts_are_in_the_stored_form_in_json_and_in_csv() {
        let masked = TimelineRow { covered: Some(Covered { eyes: false, mouth: true }), ..row() };
        let timeline = Timeline { interval_s: 0.5, rows: vec![masked.clone(), row()] };
        let text = serde_json::to_string(&timeline).unwrap();
        assert!(text.contains(",false,null,[false,true]],"), "{text}");
        let back: Timeline = serde_json::from_str(&text).unwrap();
        assert_eq!(back.rows, [masked.rounded(), row().rounded()]);
        let json = serde_json::to_value(&masked).unwrap();
        assert_eq!((&json["eyes_covered"], &json["mouth_covered"]), (&false.into(), &true.into()));
        assert!(masked.csv(false).ends_with(",false,false,true,,,,,,,"), "{}", masked.csv(false));
        assert!(serde_json::to_value(row()).unwrap()["mouth_covered"].is_null());
    }

    #[test]
    fn differences_from_the_usual_level_are_in_the_stored_form_in_json_and_in_csv() {
        let relative = Some([0.0, -0.004, 1.234, 2.0, -9.215, 0.01, -1.0]);
        let smiling = TimelineRow { relative, ..row() };
        let masked = TimelineRow { covered: Some(Covered { eyes: false, mouth: true }), ..smiling.clone() };
        let timeline = Timeline { interval_s: 0.5, rows: vec![smiling.clone(), masked.clone(), row()] };
        let text = serde_json::to_string(&timeline).unwrap();
        assert!(text.contains(",null,null,[0,0,123,200,-922,1,-100]],"), "{text}");
        assert!(text.contains(",null,[false,true],[0,0,123,200,-922,1,-100]],") && text.ends_with(",false,null]]}"));
        let back: Timeline = serde_json::from_str(&text).unwrap();
        assert_eq!(back.rows, [smiling.rounded(), masked.rounded(), row().rounded()]);
        let json = serde_json::to_value(&smiling).unwrap();
        assert_eq!(json["relative"]["happy"], 2.0);
        assert!(serde_json::to_value(row()).unwrap()["relative"].is_null());
        assert!(smiling.csv(false).ends_with(",false,,,0,0,1.23,2,-9.22,0.01,-1"), "{}", smiling.csv(false));
    }

    #[test]
    fn a_row_in_json_has_names() {
        let json = serde_json::to_value(row()).unwrap();
        assert_eq!(json["time_s"], 1.235);
        assert_eq!(json["bbox"]["width"], 30.0);
        assert_eq!(json["eye_contact"], true);
        assert_eq!(json["emotions"]["happy"].as_f64().map(|p| (p * 1e4).round()), Some(9000.0));
        assert_eq!((json["valence"].as_f64(), json["arousal"].as_f64()), (Some(0.691), Some(0.453)));
        let blind = TimelineRow { pose: None, eye_contact: None, gaze: None, eyes_shut: None, ..row() };
        assert!(serde_json::to_value(blind).unwrap()["pose"].is_null());
        assert!(json.get("expressions").is_none());
        let json = serde_json::to_value(smiling()).unwrap();
        assert_eq!(json["expressions"], serde_json::json!({"mouthSmileLeft": 0.93, "noseSneerRight": 1.0}));
    }

    #[test]
    fn a_csv_line_has_a_field_for_each_column() {
        let plain = "1.235,2,10,20.1,30,40,0.0123,0,0,0.9,0.05,0,0.0377,0.691,0.453,-3.2,4,0,true,0.877,1.3,-0.5,false,,,,,,,,,";
        assert_eq!((row().csv(false), smiling().csv(false)), (plain.to_owned(), plain.to_owned()));
        let line = smiling().csv(true);
        assert!(line.starts_with(&format!("{plain},0,0,")) && line.ends_with(",0,0,0,0,0,0,1"), "{line}");
        let blind = TimelineRow { pose: None, eye_contact: None, gaze: None, eyes_shut: None, ..row() };
        for expressions in [false, true] {
            let columns = TimelineRow::csv_header(expressions).split(',').count();
            assert_eq!(columns, if expressions { 84 } else { 32 });
            for row in [row(), smiling(), blind.clone()] {
                assert_eq!(row.csv(expressions).split(',').count(), columns);
            }
        }
    }
}
