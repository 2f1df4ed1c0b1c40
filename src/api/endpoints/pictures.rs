//! `POST /v1/pictures`: reads the faces of single pictures and answers with them. Nothing is stored. The ids of people
//! continue in another request by `face_state`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa_axum::routes;

use crate::analysis::{Detail, Language, ModelUsed, Options, People, PictureFace, Warning};
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::{
    Content, FACE_STATE_PATTERN, ImmediateAnalyzer, MAX_FACE_STATE, MayFetch, PictureBody, PicturesError, RequestShape,
    base64_picture, base64_problem, decode_face_state, encode_face_state, picture_problem, with_pictures,
};
use crate::api::json_body;
use crate::api::notice::{NoticeStatement, NoticeValue};
use crate::api::openapi::NATIVE;
use crate::api::problem::FailureBody;
use crate::api::upload::error::OptionError;
use crate::api::upload::form::{self, MAX_FACES, MAX_TEXT, UnknownFields};
use crate::api::{Api, Problem, negotiation};
use crate::pipeline::{Cancel, PictureOptions, PipelineError, WholePicture};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The fields of the form besides the pictures, and the maximum number of bytes of each.
const TEXTS: [(&str, usize); 6] = [
    ("max_faces", MAX_TEXT),
    ("gaze", MAX_TEXT),
    ("detail", MAX_TEXT),
    ("face_state", MAX_FACE_STATE),
    ("notice", MAX_TEXT),
    ("notice_version", MAX_TEXT),
];

/// The fields of the form. Unknown fields are rejected.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `of_form` reads")]
struct PictureForm {
    #[schema(schema_with = picture_files)]
    picture: Vec<Vec<u8>>,
    /// Largest number of faces to read in a picture. The largest faces are read first.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
    /// `off` skips the landmarks. Eye contact then depends on the head pose only.
    gaze: Option<Switch>,
    /// `expressions` adds the movements of each face. Excludes `gaze=off`.
    detail: Option<Detail>,
    /// `face_state` of the last answer. People of earlier pictures then keep their ids.
    #[schema(schema_with = face_state)]
    face_state: Option<String>,
    /// `given` states that the people in the pictures were told that a computer reads their faces.
    notice: Option<NoticeValue>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = PictureSwitch, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `form::set` reads")]
enum Switch {
    On,
    Off,
    True,
    False,
}

fn picture_files() -> RefOr<Schema> {
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    let file = ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).content_media_type("image/jpeg");
    let description = "JPEG, PNG or WebP files, each in a field of its own, at most `pictures.max_count`.";
    ArrayBuilder::new().items(file).min_items(Some(1)).max_items(Some(32)).description(Some(description)).into()
}

fn picture_texts() -> RefOr<Schema> {
    let text =
        ObjectBuilder::new().schema_type(Type::String).content_encoding("base64").content_media_type("image/jpeg");
    let description = "JPEG, PNG or WebP files in base64 (standard or URL-safe), with or without \
                       `data:image/jpeg;base64,` or the like in front, at most `pictures.max_count`.";
    ArrayBuilder::new().items(text).min_items(Some(1)).max_items(Some(32)).description(Some(description)).into()
}

fn face_state() -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_FACE_STATE));
    let description = "`face_state` of the last answer. People of earlier pictures then keep their ids.";
    text.pattern(Some(FACE_STATE_PATTERN)).description(Some(description)).into()
}

fn max_faces() -> RefOr<Schema> {
    json_body::whole_schema(MAX_FACES, "^([1-9][0-9]?|100)$", "Largest number of faces to read in a picture.")
}

fn gaze() -> RefOr<Schema> {
    json_body::switch_schema("`false` skips the landmarks. Eye contact then depends on the head pose only.")
}

/// The pictures in base64, and options.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PicturesRequest {
    #[schema(schema_with = picture_texts)]
    pictures: Vec<String>,
    /// Largest number of faces to read in a picture. The largest faces are read first.
    #[serde(default, deserialize_with = "json_body::maybe_whole")]
    #[schema(schema_with = max_faces)]
    max_faces: Option<u32>,
    /// `false` skips the landmarks. Eye contact then depends on the head pose only.
    #[serde(default, deserialize_with = "json_body::maybe_switch")]
    #[schema(schema_with = gaze)]
    gaze: Option<bool>,
    /// `expressions` adds the movements of each face. Excludes `"gaze": false`.
    detail: Option<Detail>,
    /// `face_state` of the last answer. People of earlier pictures then keep their ids.
    #[schema(max_length = 49152, pattern = "^[A-Za-z0-9_-]*$")]
    face_state: Option<String>,
    /// `given` states that the people in the pictures were told that a computer reads their faces.
    #[schema(value_type = Option<NoticeValue>)]
    notice: Option<String>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
}

/// The faces of pictures.
#[derive(Serialize, ToSchema)]
#[schema(as = Pictures)]
struct Answer {
    /// In the order of the request.
    pictures: Vec<Picture>,
    /// The people of these pictures and of those before, for the next request. It has the colours of their hair, skin
    /// and clothes.
    face_state: String,
    /// The models that were used.
    models: Vec<ModelUsed>,
    /// Limits of the figures.
    warning_codes: Vec<Warning>,
}

/// A picture and its faces, or the reason why it was not read.
#[derive(Serialize, ToSchema)]
struct Picture {
    /// Name of the file, if the form gave one.
    #[schema(max_length = 120)]
    file_name: Option<String>,
    /// In pixels, upright (EXIF orientation applied). Null if the picture was not read.
    width: Option<u32>,
    height: Option<u32>,
    /// The largest face first. Empty if there is none, or if the picture was not read.
    faces: Vec<PictureFace>,
    /// Why the picture was not read; null if it was.
    #[schema(value_type = Option<FailureBody>)]
    problem: Option<Map<String, Value>>,
}

/// A request that was taken apart.
struct Asked {
    pictures: Vec<(Option<String>, Content)>,
    options: Options,
    people: People,
}

impl MayFetch for Asked {}

/// Read the faces of pictures
///
/// Takes one or many pictures and answers at once with the faces of each: box, emotions, valence, arousal, head pose,
/// gaze and eye contact. A picture that cannot be read has a `problem` in its place; the others are read, and the
/// status is 200. Nothing is stored. To recognize people of earlier pictures, send the `face_state` of the last answer.
/// An id holds as long as a person wears the same clothes.
#[utoipa::path(post, path = "/v1/pictures", operation_id = "pictures", tag = NATIVE,
    params(("notice" = Option<NoticeValue>, Query,
               description = "`given`: the people in the pictures were told that a computer reads their faces")),
    request_body(content((PictureForm = "multipart/form-data"), (PicturesRequest = "application/json"))),
    responses((status = 200, description = "The faces of each picture", body = Answer),
              (status = 400, description = "The body cannot be read or was cut off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `pictures.max_upload`, or a field is too long"),
              (status = 415, description = "Neither a form nor JSON, or an unsupported encoding"),
              (status = 422,
                  description = "There is no picture or there are too many, an option is wrong, or `face_state` is \
                                 not that of an answer"),
              (status = 429, description = "Too many immediate calls at once; `Retry-After` says when to try again"),
              (status = 503, description = "The model cannot be loaded, or there is too little memory"),
              (status = 504, description = "Not analyzed within `sync.deadline_s`")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let settings = &api.app.settings;
    let (most, max_pixels) = (settings.pictures.max_count, settings.pictures.max_pixels);
    let options = Options::new(1, settings.video.max_faces);
    let shape = RequestShape {
        field: "picture",
        max_count: most,
        texts: &TEXTS,
        unknown_fields: UnknownFields::Reject,
        json_by_default: false,
    };
    let parse = move |body, statement: &mut NoticeStatement| {
        let asked = match body {
            PictureBody::Form(form) => {
                let pictures = form.pictures.into_iter();
                let named = pictures.map(|picture| (picture.file_name, Content::Bytes(picture.bytes)));
                of_form(named.collect(), form.texts, options)?
            }
            PictureBody::Json(bytes) => of_json(&bytes, statement, options)?,
        };
        match asked.pictures.len() {
            0 => Err(PicturesError::Missing),
            count if count > most => Err(PicturesError::TooMany { most }),
            _ if asked.options.is_contradiction() => Err(OptionError::Contradiction.into()),
            _ => Ok(asked),
        }
    };
    let language = negotiation::language_of(&request);
    let work = move |analyzer: &dyn ImmediateAnalyzer, asked, cancel: &Cancel| {
        answer(analyzer, asked, max_pixels, language, cancel)
    };
    let answer = with_pictures(&api, &caller, request, shape, parse, work).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

fn of_form(
    pictures: Vec<(Option<String>, Content)>,
    texts: Vec<(&'static str, String)>,
    mut options: Options,
) -> Result<Asked, PicturesError> {
    let mut people = People::default();
    for (name, text) in texts {
        match name {
            "face_state" => people = decode_face_state(&text).ok_or(PicturesError::BadFaceState)?,
            _ => form::set(&mut options, name, &text)?,
        }
    }
    Ok(Asked { pictures, options, people })
}

fn of_json(bytes: &[u8], statement: &mut NoticeStatement, options: Options) -> Result<Asked, PicturesError> {
    let request: PicturesRequest = json_body::parse(bytes).map_err(PicturesError::Json)?;
    statement.set_members(request.notice.as_deref(), request.notice_version.as_deref())?;
    let (least, most) = (*MAX_FACES.start(), *MAX_FACES.end());
    if request.max_faces.is_some_and(|given| !MAX_FACES.contains(&given)) {
        return Err(OptionError::OutOfRange { field: "max_faces", least, most }.into());
    }
    let options = Options {
        max_faces: request.max_faces.unwrap_or(options.max_faces),
        gaze: request.gaze.unwrap_or(true),
        detail: request.detail,
        ..options
    };
    let state = request.face_state.unwrap_or_default();
    let people = decode_face_state(&state).ok_or(PicturesError::BadFaceState)?;
    let pictures = request.pictures.into_iter().map(|text| (None, base64_picture(&text))).collect();
    Ok(Asked { pictures, options, people })
}

/// Reads the pictures one after the other.
fn answer(
    analyzer: &dyn ImmediateAnalyzer,
    Asked { pictures, options, mut people }: Asked,
    max_pixels: u64,
    language: Language,
    cancel: &Cancel,
) -> Result<Answer, PicturesError> {
    let options = PictureOptions {
        max_faces: options.max_faces,
        gaze: options.gaze,
        expressions: options.detail == Some(Detail::Expressions),
        whole: WholePicture::Never,
        max_pixels,
    };
    let (mut answers, mut models, mut warning_codes) = (Vec::new(), Vec::new(), Vec::new());
    for (file_name, content) in pictures {
        if cancel.is_cancelled() {
            return Err(PicturesError::Immediate(PipelineError::Cancelled.into()));
        }
        let file_name = file_name.as_deref().and_then(form::plain_file_name);
        let failed = |problem: &Problem| Picture {
            file_name: file_name.clone(),
            width: None,
            height: None,
            faces: Vec::new(),
            problem: Some(problem.body(language)),
        };
        let Content::Bytes(bytes) = content else {
            answers.push(failed(&base64_problem()));
            continue;
        };
        let read = match analyzer.read_picture(&bytes, options) {
            Ok(read) => read,
            Err(error) => {
                answers.push(failed(&picture_problem(error)?));
                continue;
            }
        };
        answers.push(Picture {
            file_name: file_name.clone(),
            width: Some(read.width),
            height: Some(read.height),
            faces: PictureFace::of_picture(&mut people, &read.faces, read.by_eyes),
            problem: None,
        });
        models = read.models;
        warning_codes
            .extend(read.warnings.into_iter().filter(|warning| !warning_codes.contains(warning)).collect::<Vec<_>>());
    }
    Ok(Answer { pictures: answers, face_state: encode_face_state(&people), models, warning_codes })
}
