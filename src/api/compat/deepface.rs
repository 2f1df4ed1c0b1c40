//! `POST /analyze` of DeepFace's own REST service: reads the emotions of the faces in one picture.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa_axum::routes;

use super::error::{DeepFaceError, DeepFaceErrorBody, DeepFaceRejectionBody};
use crate::analysis::{BBox, Emotion, Face, Point, Probabilities, Sighting};
use crate::api::Api;
use crate::api::access::{Analyze, DeepFaceKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::{
    Content, FormPicture, GivenPicture, ImmediateAnalyzer, MayFetch, PictureBody, PicturesError, RequestShape,
    base64_picture, picture_problem, with_pictures,
};
use crate::api::json_body;
use crate::api::notice::{NoticeStatement, NoticeValue};
use crate::api::openapi::DEEPFACE;
use crate::api::problem::detail;
use crate::api::upload::form::{MAX_FACES, MAX_TEXT, UnknownFields};
use crate::config::Secret;
use crate::pipeline::{Cancel, PictureOptions, ReadPicture, WholePicture};

type Rule = DeepFaceKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The fields of the form that have an effect.
const TEXTS: [(&str, usize); 7] = [
    ("actions", MAX_TEXT),
    ("detector_backend", MAX_TEXT),
    ("enforce_detection", MAX_TEXT),
    ("anti_spoofing", MAX_TEXT),
    ("max_faces", MAX_TEXT),
    ("notice", MAX_TEXT),
    ("notice_version", MAX_TEXT),
];
/// The action that this service has.
const EMOTION: &str = "emotion";
/// The actions that only DeepFace has.
const OTHER_ACTIONS: [&str; 3] = ["age", "gender", "race"];
/// The `detector_backend` that searches no face.
const SKIP: &str = "skip";

#[derive(ToSchema)]
#[schema(as = DeepFaceAction, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `check_actions` reads")]
enum Action {
    Emotion,
}

/// The picture and the parameters. Other members are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Asked::of_json` reads")]
struct DeepFaceRequest {
    /// A JPEG, PNG or WebP file in base64, with or without `data:image/jpeg;base64,` or the like in front, or the
    /// `https://` address of one. Paths are refused.
    #[schema(content_encoding = "base64", content_media_type = "image/jpeg")]
    img: String,
    /// Only `emotion`, which is also the default. `age`, `gender` and `race` are refused.
    #[schema(min_items = 1)]
    actions: Option<Vec<Action>>,
    /// `skip` reads the whole picture as one face. Other values are ignored.
    #[schema(schema_with = detector_backend)]
    detector_backend: Option<Value>,
    /// Whether a picture without a face is an error; true by default. With `false`, the whole picture is read as one
    /// face, with a `face_confidence` of 0.
    #[schema(schema_with = enforce_detection)]
    enforce_detection: Option<bool>,
    /// Ignored. Faces are always aligned.
    #[schema(schema_with = align)]
    align: Option<Value>,
    /// Only `false`, which is also the default.
    #[schema(schema_with = anti_spoofing)]
    anti_spoofing: Option<bool>,
    /// Largest number of faces to read. The largest faces are read first.
    #[schema(schema_with = max_faces)]
    max_faces: Option<u32>,
    /// `given` states that the people in the picture were told that a computer reads their faces.
    notice: Option<NoticeValue>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
}

fn detector_backend() -> RefOr<Schema> {
    any_value("`skip` reads the whole picture as one face. Other values are ignored.")
}

fn align() -> RefOr<Schema> {
    any_value("Ignored. Faces are always aligned.")
}

fn any_value(description: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(description)).into()
}

fn enforce_detection() -> RefOr<Schema> {
    let description = "Whether a picture without a face is an error; true by default. With `false`, the whole picture \
                       is read as one face, with a `face_confidence` of 0.";
    switch_schema([true, false].as_slice(), "^([Tt]rue|[Ff]alse)?$", description)
}

fn anti_spoofing() -> RefOr<Schema> {
    switch_schema(&[false], "^([Ff]alse)?$", "Only `false`, which is also the default.")
}

/// The schema of a switch that is one of these values, text with this pattern, or null.
fn switch_schema(values: &[bool], pattern: &str, description: &str) -> RefOr<Schema> {
    let plain = ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some(values.to_vec()));
    json_body::written_schema(plain, pattern, description).item(json_body::null()).into()
}

fn max_faces() -> RefOr<Schema> {
    let description = "Largest number of faces to read. The largest faces are read first.";
    json_body::whole_schema(MAX_FACES, "^([1-9][0-9]?|100)$", description)
}

/// The fields of the form. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Asked::of_form` reads")]
struct DeepFaceForm {
    /// A JPEG, PNG or WebP file. A field without the name of a file may have it in base64.
    #[schema(value_type = String, format = Binary, content_media_type = "image/jpeg")]
    img: Vec<u8>,
    /// Only `emotion`, which is also the default.
    #[schema(pattern = r#"^(emotion|\["emotion"\])$"#)]
    actions: Option<String>,
    /// `skip` reads the whole picture as one face. Other values are ignored.
    detector_backend: Option<String>,
    /// Whether a picture without a face is an error; true by default.
    enforce_detection: Option<bool>,
    /// Largest number of faces to read. The largest faces are read first.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
    /// `given` states that the people in the picture were told that a computer reads their faces.
    notice: Option<NoticeValue>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeepFaceAnswer)]
pub struct Answer {
    /// The largest face first.
    results: Vec<FaceResult>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeepFaceResult)]
struct FaceResult {
    /// Percent for each emotion, summing to 100.
    emotion: BTreeMap<Emotion, f64>,
    dominant_emotion: Emotion,
    region: Region,
    /// The detector's score, two decimals. 0 if the whole picture was read.
    #[schema(minimum = 0, maximum = 1)]
    face_confidence: f64,
}

/// The box of a face in whole pixels, inside the picture. Left and right are the person's own.
#[derive(Debug, Serialize, PartialEq, ToSchema)]
#[schema(as = DeepFaceRegion)]
struct Region {
    #[schema(minimum = 0)]
    x: i64,
    #[schema(minimum = 0)]
    y: i64,
    #[schema(minimum = 0)]
    w: i64,
    #[schema(minimum = 0)]
    h: i64,
    /// x and y; null if unknown or outside the picture.
    #[schema(min_items = 2, max_items = 2)]
    left_eye: Option<[i64; 2]>,
    /// x and y; null if unknown or outside the picture.
    #[schema(min_items = 2, max_items = 2)]
    right_eye: Option<[i64; 2]>,
}

/// A request that was taken apart.
#[derive(Debug)]
struct Asked {
    picture: GivenPicture,
    max_faces: u32,
    enforces_detection: bool,
    skips_detection: bool,
}

/// Read the emotions of a picture
///
/// The call `POST /analyze` of DeepFace's own REST service, with the action `emotion`.
#[utoipa::path(post, path = "/analyze", operation_id = "deepface_analyze", tag = DEEPFACE,
    params(("notice" = Option<NoticeValue>, Query,
               description = "`given`: the people in the picture were told that a computer reads their faces")),
    request_body(content((DeepFaceRequest = "application/json"), (DeepFaceForm = "multipart/form-data"))),
    responses((status = 200, description = "The faces", body = Answer),
              (status = 400,
                  description = "There is no picture or no face, the picture cannot be read, or a parameter is wrong",
                  body = DeepFaceErrorBody),
              (status = 401, description = "The key is missing or invalid", body = DeepFaceRejectionBody),
              (status = 403, description = "The key lacks the scope that this call needs",
                  body = DeepFaceRejectionBody),
              (status = 408, description = "The body stalled or took too long", body = DeepFaceErrorBody),
              (status = 413, description = "More than `pictures.max_upload`, or a field is too long",
                  body = DeepFaceErrorBody),
              (status = 415, description = "The body or a field has an unsupported encoding", body = DeepFaceErrorBody),
              (status = 422, description = "`notice` is missing or wrong, or a field is not text",
                  body = DeepFaceErrorBody),
              (status = 429, description = "Too many immediate calls at once; `Retry-After` says when to try again",
                  body = DeepFaceErrorBody),
              (status = 503, description = "The model cannot be loaded, or there is too little memory",
                  body = DeepFaceErrorBody),
              (status = 504, description = "Not done within `sync.deadline_s`", body = DeepFaceErrorBody)))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Json<Answer>, DeepFaceError> {
    let max_pixels = api.app.settings.pictures.max_pixels;
    let shape = RequestShape {
        field: "img",
        max_count: 1,
        texts: &TEXTS,
        unknown_fields: UnknownFields::Ignore,
        // The calls in DeepFace's README have JSON bodies with the content type that curl sends by default.
        json_by_default: true,
    };
    let parse = |body, statement: &mut NoticeStatement| match body {
        PictureBody::Form(form) => Asked::of_form(form.pictures, form.texts),
        PictureBody::Json(bytes) => Asked::of_json(&bytes, statement),
    };
    let work = move |analyzer: &dyn ImmediateAnalyzer, asked: Asked, _: &Cancel| asked.answer(analyzer, max_pixels);
    Ok(Json(with_pictures(&api, &caller, request, shape, parse, work).await?))
}

/// The parameters of a request. In a form, each is text.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Parameters {
    img: Value,
    actions: Value,
    detector_backend: Value,
    enforce_detection: Value,
    anti_spoofing: Value,
    max_faces: Value,
    notice: Option<String>,
    notice_version: Option<String>,
}

impl MayFetch for Asked {
    fn by_address(&mut self) -> Option<&mut GivenPicture> {
        Some(&mut self.picture)
    }
}

impl Asked {
    fn of_form(pictures: Vec<FormPicture>, texts: Vec<(&'static str, String)>) -> Result<Self, DeepFaceError> {
        let picture = pictures.into_iter().next().ok_or_else(DeepFaceError::missing)?;
        let mut parameters = Parameters::default();
        for (name, text) in texts {
            let place = match name {
                "actions" => &mut parameters.actions,
                "detector_backend" => &mut parameters.detector_backend,
                "enforce_detection" => &mut parameters.enforce_detection,
                "anti_spoofing" => &mut parameters.anti_spoofing,
                _ => &mut parameters.max_faces,
            };
            *place = Value::String(text);
        }
        check_actions(&parameters.actions)?;
        let picture = match picture.file_name {
            Some(_) => GivenPicture::Bytes(picture.bytes),
            None => match std::str::from_utf8(&picture.bytes) {
                Ok(text) => content(text)?,
                Err(_) => GivenPicture::Bytes(picture.bytes),
            },
        };
        Self::new(picture, &parameters)
    }

    fn of_json(bytes: &[u8], statement: &mut NoticeStatement) -> Result<Self, DeepFaceError> {
        let members: Map<String, Value> = json_body::parse(bytes).map_err(PicturesError::Json)?;
        let parameters = Parameters::deserialize(Value::Object(members));
        let parameters = parameters.map_err(|_| json_body::wrong(detail::bad_body_notice()))?;
        let given = statement.set_members(parameters.notice.as_deref(), parameters.notice_version.as_deref());
        given.map_err(PicturesError::from)?;
        check_actions(&parameters.actions)?;
        let img = parameters.img.as_str().filter(|img| !img.trim().is_empty()).ok_or_else(DeepFaceError::missing)?;
        Self::new(content(img)?, &parameters)
    }

    /// `actions` was checked before the picture, as in DeepFace.
    fn new(picture: GivenPicture, parameters: &Parameters) -> Result<Self, DeepFaceError> {
        if switch("anti_spoofing", &parameters.anti_spoofing)? == Some(true) {
            return Err(DeepFaceError::no_anti_spoofing());
        }
        let max_faces = match &parameters.max_faces {
            Value::Null => *MAX_FACES.end(),
            given => {
                let whole = match given {
                    Value::String(text) => json_body::whole(text),
                    given => json_body::whole(&given.to_string()),
                };
                let whole = whole.and_then(|whole| u32::try_from(whole).ok());
                whole.filter(|whole| MAX_FACES.contains(whole)).ok_or_else(DeepFaceError::bad_max_faces)?
            }
        };
        Ok(Self {
            picture,
            max_faces,
            enforces_detection: switch("enforce_detection", &parameters.enforce_detection)?.unwrap_or(true),
            skips_detection: parameters.detector_backend.as_str() == Some(SKIP),
        })
    }

    fn answer(self, analyzer: &dyn ImmediateAnalyzer, max_pixels: u64) -> Result<Answer, DeepFaceError> {
        let whole = match (self.skips_detection, self.enforces_detection) {
            (true, _) => WholePicture::Always,
            (false, true) => WholePicture::Never,
            (false, false) => WholePicture::WithoutFace,
        };
        let options = PictureOptions { max_faces: self.max_faces, gaze: false, expressions: false, whole, max_pixels };
        let GivenPicture::Bytes(picture) = self.picture else { return Err(DeepFaceError::missing()) };
        let read = match analyzer.read_picture(&picture, options) {
            Ok(read) => read,
            Err(error) => return Err(DeepFaceError::of_picture(picture_problem(error)?)),
        };
        let size = (i64::from(read.width), i64::from(read.height));
        let results = results(&read, size);
        if results.is_empty() { Err(DeepFaceError::no_face()) } else { Ok(Answer { results }) }
    }
}

/// The picture in the text `img`.
fn content(img: &str) -> Result<GivenPicture, DeepFaceError> {
    let img = img.trim();
    let start = img.get(..8).unwrap_or(img).to_ascii_lowercase();
    if start.starts_with("http://") || start.starts_with("https://") {
        return Ok(GivenPicture::Address(Secret::new(img)));
    }
    match base64_picture(img) {
        Content::Bytes(bytes) => Ok(GivenPicture::Bytes(bytes)),
        Content::NotBase64 => Err(DeepFaceError::not_base64()),
    }
}

/// Checks that the only action is `emotion`. A form may have the list as text: `emotion` or `["emotion"]`.
fn check_actions(given: &Value) -> Result<(), DeepFaceError> {
    let names: Vec<String> = match given {
        Value::Null => return Ok(()),
        Value::String(text) => {
            let plain =
                text.replace(|c: char| matches!(c, '[' | ']' | '(' | ')' | '"' | '\'') || c.is_whitespace(), "");
            plain.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        Value::Array(names) if names.iter().all(Value::is_string) => {
            names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let refused: Vec<&str> = OTHER_ACTIONS.into_iter().filter(|name| names.iter().any(|given| given == name)).collect();
    if !refused.is_empty() {
        return Err(DeepFaceError::refused_actions(&refused));
    }
    let is_emotion = !names.is_empty() && names.iter().all(|name| name == EMOTION);
    if is_emotion { Ok(()) } else { Err(DeepFaceError::unknown_action()) }
}

/// Reads a switch: true or false, as text too, in any case. `None` for null and for empty text.
fn switch(name: &str, value: &Value) -> Result<Option<bool>, DeepFaceError> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Bool(given) => return Ok(Some(*given)),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return Err(DeepFaceError::bad_switch(name)),
    };
    match text.as_str() {
        "" => Ok(None),
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        _ => Err(DeepFaceError::bad_switch(name)),
    }
}

fn results(read: &ReadPicture, (width, height): (i64, i64)) -> Vec<FaceResult> {
    if let Some(emotions) = &read.whole {
        let region = Region { x: 0, y: 0, w: width - 1, h: height - 1, left_eye: None, right_eye: None };
        return vec![FaceResult::new(emotions, region, 0.0)];
    }
    let result = |face: &Sighting| {
        let region = Region::new(&face.seen.face, width, height);
        FaceResult::new(&face.seen.emotions, region, f64::from(face.seen.face.score))
    };
    read.faces.iter().map(result).collect()
}

impl FaceResult {
    fn new(emotions: &Probabilities, region: Region, score: f64) -> Self {
        let percent = |emotion| (emotion, (1e6 * f64::from(emotions.of(emotion))).round() / 1e4);
        Self {
            emotion: Emotion::ALL.into_iter().map(percent).collect(),
            dominant_emotion: emotions.top().0,
            region,
            face_confidence: (100.0 * score).round() / 100.0,
        }
    }
}

impl Region {
    /// DeepFace keeps boxes one pixel inside the picture, and drops eyes outside of it.
    fn new(face: &Face, width: i64, height: i64) -> Self {
        let BBox { x, y, width: w, height: h } = face.bbox;
        let (x, y) = (whole(x).clamp(0, width - 1), whole(y).clamp(0, height - 1));
        let inside = |Point { x, y }: Point| {
            let eye = [whole(x), whole(y)];
            let is_inside = x >= 0.0 && y >= 0.0 && eye[0] < width && eye[1] < height;
            is_inside.then_some(eye)
        };
        let eyes = face.landmarks.map(|landmarks| landmarks.eyes());
        Self {
            x,
            y,
            w: whole(w).clamp(0, width - x - 1),
            h: whole(h).clamp(0, height - y - 1),
            left_eye: eyes.and_then(|(_, left)| inside(left)),
            right_eye: eyes.and_then(|(right, _)| inside(right)),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "pixels, and the cast saturates")]
const fn whole(value: f32) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analysis::Landmarks;

    fn refusal(actions: Value) -> Option<String> {
        check_actions(&actions).err().map(|error| error.to_string())
    }

    #[test]
    fn only_the_action_emotion_is_accepted_however_it_is_written() {
        for actions in
            [json!(["emotion"]), json!("emotion"), json!("[\"emotion\"]"), json!("('emotion',)"), json!(null)]
        {
            assert_eq!(refusal(actions.clone()), None, "{actions}");
        }
        let both = refusal(json!(["gender", "emotion", "age"])).unwrap();
        assert!(both.contains("age") && both.contains("gender") && !both.contains("race"), "{both}");
        assert!(refusal(json!("[\"race\"]")).unwrap().contains("race"));
        for unknown in [json!([]), json!(""), json!(["emotions"]), json!([1]), json!(7), json!({})] {
            assert!(refusal(unknown.clone()).unwrap().contains("emotion"), "{unknown}");
        }
    }

    #[test]
    fn a_switch_may_be_text_and_other_values_are_refused_by_name() {
        let read = |value: Value| switch("enforce_detection", &value);
        for (value, is) in [
            (json!(true), Some(true)),
            (json!("True"), Some(true)),
            (json!(false), Some(false)),
            (json!(" false "), Some(false)),
            (json!(null), None),
            (json!(""), None),
        ] {
            assert_eq!(read(value.clone()).unwrap(), is, "{value}");
        }
        for wrong in [json!("flase"), json!(0), json!(1), json!([]), json!({})] {
            assert!(read(wrong.clone()).unwrap_err().to_string().contains("enforce_detection"), "{wrong}");
        }
    }

    #[test]
    fn regions_stay_inside_the_picture() {
        let eyes = [Point { x: 12.9, y: 15.2 }, Point { x: 101.0, y: 20.0 }, Point::default(), Point::default()];
        let [right, left, a, b] = eyes;
        let face = Face {
            bbox: BBox { x: -3.5, y: 10.7, width: 130.0, height: 20.9 },
            score: 0.9,
            landmarks: Some(Landmarks::MouthCorners([right, left, a, b, b])),
        };
        let region = Region { x: 0, y: 10, w: 99, h: 20, left_eye: None, right_eye: Some([12, 15]) };
        assert_eq!(Region::new(&face, 100, 80), region);
        let unknown = Face { landmarks: None, bbox: BBox { x: 500.0, y: 500.0, ..face.bbox }, ..face };
        let outside = Region { x: 99, y: 79, w: 0, h: 0, left_eye: None, right_eye: None };
        assert_eq!(Region::new(&unknown, 100, 80), outside);
    }

    #[test]
    fn a_picture_is_base64_or_an_address_and_no_path() {
        for address in ["https://example.org/a.jpg", "HTTP://127.0.0.1/a.jpg"] {
            assert_eq!(content(&format!(" {address}\n")).unwrap(), GivenPicture::Address(Secret::new(address)));
        }
        for (img, says) in [("dataset/img1.jpg", "base64"), ("data:image/jpeg,abc", "base64")] {
            assert!(content(img).unwrap_err().to_string().contains(says), "{img}");
        }
        let bytes = GivenPicture::Bytes(bytes::Bytes::from_static(&[0, 255, 2]));
        assert_eq!(content(" data:image/png;base64,AP8C ").unwrap(), bytes);
    }
}
