//! The messages of a live session. JSON is in text messages. Pictures and sound are in binary messages with a header of 9
//! bytes: the kind, and the time of the capture in seconds as a 64-bit floating-point number, high byte first.

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use uuid::Uuid;

use crate::analysis::{Detail, Language, LiveFace, ModelUsed, Warning};
use crate::api::Problem;
use crate::api::json_body;
use crate::api::notice::NoticeValue;
use crate::api::problem::{FailureBody, detail};
use crate::api::upload::form::MAX_FACES;
use crate::api::view::Links;
use crate::pipeline::LIVE_SOUND_RATE;
use crate::store::Status;

/// Bytes of the header of a binary message.
const HEADER: usize = 9;
/// Maximum length of a block of sound in seconds.
pub const MAX_SOUND_S: u32 = 10;

/// A text message of the client.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = LiveCommand)]
pub enum Command {
    /// Begins the session. It is the first message.
    Configure(Box<Configure>),
    /// Ends the session and stores its result.
    Finish,
}

/// What the session reads, and who gets its result.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LiveConfigure)]
pub struct Configure {
    /// Largest number of faces to read in a picture. The largest faces are read first.
    #[serde(default, deserialize_with = "json_body::maybe_whole")]
    #[schema(schema_with = max_faces)]
    pub max_faces: Option<u32>,
    /// `false` skips the landmarks. Eye contact then depends on the head pose only.
    #[serde(default, deserialize_with = "json_body::maybe_switch")]
    #[schema(schema_with = gaze)]
    pub gaze: Option<bool>,
    /// `expressions` adds the movements of each face. Excludes `"gaze": false`.
    pub detail: Option<Detail>,
    /// `true` analyzes the sound that the session sends. Without it, sound is refused.
    #[serde(default, deserialize_with = "json_body::maybe_switch")]
    #[schema(schema_with = speech)]
    pub speech: Option<bool>,
    /// Language of the report, the mail and the errors.
    pub language: Option<Language>,
    /// A name for the session, for page, report, mail and the list of analyses.
    #[schema(max_length = 120)]
    pub name: Option<String>,
    /// Mail address that gets the report.
    #[schema(format = "email")]
    pub email: Option<String>,
    /// The https:// address to which a webhook is sent when the session has ended.
    #[schema(format = "uri", pattern = "^https://", max_length = 2000)]
    pub webhook_url: Option<String>,
    /// `given` states that the people in the pictures were told that a computer reads their faces and voices.
    #[schema(value_type = Option<NoticeValue>)]
    pub notice: Option<String>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    pub notice_version: Option<String>,
}

fn max_faces() -> RefOr<Schema> {
    json_body::whole_schema(MAX_FACES, "^([1-9][0-9]?|100)$", "Largest number of faces to read in a picture.")
}

fn gaze() -> RefOr<Schema> {
    json_body::switch_schema("`false` skips the landmarks. Eye contact then depends on the head pose only.")
}

fn speech() -> RefOr<Schema> {
    json_body::switch_schema("`true` analyzes the sound that the session sends. Without it, sound is refused.")
}

/// A message of the service.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = LiveAnswer)]
pub enum Answer {
    Configured(Configured),
    Faces(Faces),
    Skipped(Skipped),
    Error(Failed),
    Finished(Finished),
}

/// The session has begun. Pictures can be sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveConfigured)]
pub struct Configured {
    /// The token of the result.
    pub token: Uuid,
    pub links: Links,
    /// The models that are used.
    pub models: Vec<ModelUsed>,
    pub limits: Limits,
}

/// The limits of a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveLimits)]
pub struct Limits {
    /// Seconds after which the session ends.
    pub max_session_s: u64,
    /// Seconds without a message after which it ends.
    pub idle_s: u64,
    /// Maximum number of bytes of a message.
    pub max_message: u64,
    /// Maximum width times height of a picture.
    pub max_pixels: u64,
}

/// The faces of a picture.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveFaces)]
pub struct Faces {
    /// Number of the picture in the session, from 1.
    pub picture: u64,
    /// Seconds since the first picture or block of sound, by the times of the client.
    pub time_s: f64,
    /// In pixels, upright (EXIF orientation applied).
    pub width: u32,
    pub height: u32,
    /// The largest face first.
    pub faces: Vec<LiveFace>,
    /// Milliseconds from the arrival of the picture to this answer.
    pub latency_ms: f64,
}

/// The picture was passed over, because a newer one arrived before it could be read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveSkipped)]
pub struct Skipped {
    pub picture: u64,
    pub time_s: f64,
}

/// A message was refused. The session goes on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveError)]
pub struct Failed {
    /// Number of the picture; null if the message was no picture.
    pub picture: Option<u64>,
    #[schema(value_type = FailureBody)]
    pub problem: Map<String, Value>,
}

/// The session has ended. The connection is closed after this message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveFinished)]
pub struct Finished {
    pub reason: EndReason,
    pub token: Uuid,
    /// Null if the result was erased, or is not stored yet.
    pub status: Option<Status>,
    pub links: Links,
    /// The people in the result. False alarms of the detector are left out.
    pub people: Vec<Person>,
    /// Limits of the figures.
    pub warning_codes: Vec<Warning>,
}

/// A person of a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LivePerson)]
pub struct Person {
    /// `id` in the answers of the session.
    pub id: u32,
    /// `id` in the result.
    pub face: u32,
}

impl From<(u32, u32)> for Person {
    fn from((id, face): (u32, u32)) -> Self {
        Self { id, face }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LiveEndReason)]
pub enum EndReason {
    /// The client finished it.
    Finish,
    /// The connection broke.
    LineLost,
    /// No message arrived for `live.idle_s`.
    Idle,
    /// It reached `live.max_session_s`.
    TooLong,
    /// The service shuts down.
    Shutdown,
    /// The result was erased during the session.
    Erased,
    /// The service could not go on with it.
    Failed,
}

/// A binary message of the client.
#[derive(Debug, Clone, PartialEq)]
pub enum Capture {
    /// A JPEG, PNG or WebP file.
    Picture { at_s: f64, file: Bytes },
    /// Samples of sound.
    Sound { at_s: f64, samples: Vec<f32> },
}

impl Capture {
    /// Whether a binary message is a picture, so that its answer has a number.
    pub fn is_picture(message: &[u8]) -> bool {
        message.first() == Some(&1)
    }

    /// Reads a binary message.
    pub fn parse(message: &Bytes) -> Result<Self, Problem> {
        let wrong = |detail| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let header: [u8; HEADER] = message
            .get(..HEADER)
            .and_then(|header| header.try_into().ok())
            .ok_or_else(|| wrong(detail::bad_live_message_header()))?;
        let [kind, time @ ..] = header;
        let at_s = f64::from_be_bytes(time);
        if !at_s.is_finite() {
            return Err(wrong(detail::bad_live_message_time()));
        }
        let content = message.slice(HEADER..);
        match kind {
            1 => Ok(Self::Picture { at_s, file: content }),
            2 => {
                let most = MAX_SOUND_S * LIVE_SOUND_RATE * 2;
                if !content.len().is_multiple_of(2) || content.len() > most as usize {
                    return Err(wrong(detail::bad_live_message_sound(MAX_SOUND_S)));
                }
                let sample = |bytes: &[u8]| f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32768.0;
                Ok(Self::Sound { at_s, samples: content.chunks_exact(2).map(sample).collect() })
            }
            _ => Err(wrong(detail::bad_live_message_header())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, at_s: f64, content: &[u8]) -> Bytes {
        [&[kind][..], &at_s.to_be_bytes(), content].concat().into()
    }

    #[test]
    fn binary_messages_have_a_kind_and_a_time() {
        let picture = Capture::Picture { at_s: 1.5, file: Bytes::from_static(b"file") };
        assert_eq!(Capture::parse(&message(1, 1.5, b"file")).unwrap(), picture);
        let sound = Capture::Sound { at_s: 2.0, samples: vec![0.5, -1.0] };
        assert_eq!(Capture::parse(&message(2, 2.0, &[0, 0x40, 0, 0x80])).unwrap(), sound);
        for wrong in [
            message(0, 1.0, b"file"),
            message(3, 1.0, b"file"),
            message(1, f64::NAN, b"file"),
            message(1, f64::INFINITY, b"file"),
            message(2, 1.0, b"odd"),
            message(2, 1.0, &vec![0; 320_002]),
            Bytes::from_static(b"\x01short"),
            Bytes::new(),
        ] {
            let problem = Capture::parse(&wrong).unwrap_err();
            assert_eq!(problem.code, "bad_live_message", "{wrong:?}");
        }
    }

    #[test]
    fn text_messages_are_strict() {
        let read = |text: &str| json_body::parse::<Command>(text.as_bytes());
        assert!(matches!(read(r#"{"type": "finish"}"#), Ok(Command::Finish)));
        let Ok(Command::Configure(asked)) = read(r#"{"type":"configure","max_faces":"2","speech":true}"#) else {
            panic!("not read");
        };
        assert_eq!((asked.max_faces, asked.speech, asked.gaze), (Some(2), Some(true), None));
        for wrong in [r#"{"type":"configure","faces":1}"#, r#"{"type":"go"}"#, "{}", "[]", "", "finish"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
