//! Why a video was not taken, and what its sender is told: one list for all calls that take one.

use axum::http::StatusCode;

use super::body::BodyError;
use crate::api::Problem;
use crate::blob::BlobError;
use crate::config::ByteSize;
use crate::media::ProbeError;
use crate::pipeline::PipelineError;
use crate::report::Unsendable;
use crate::report::webhook::UrlError;
use crate::store::{StoreError, UsedUp};

/// The code of a refused `Content-Encoding`.
pub const UNKNOWN_ENCODING: &str = "unsupported_encoding";

/// Why a video was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    #[error("the body is not multipart/form-data")]
    NotAForm,
    #[error("the form cannot be read")]
    BadForm,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the upload took longer than {limit_s} s")]
    TooSlow { limit_s: u64 },
    #[error("all places for uploads are taken")]
    Busy,
    #[error("{} videos a {} are used up", .0.limit, .0.period)]
    UsedUp(UsedUp),
    #[error("no field video")]
    MissingVideo,
    #[error("more than one field video")]
    TwoVideos,
    #[error("the video is empty")]
    EmptyVideo,
    #[error("refused: {0}")]
    Refused(ProbeError),
    #[error("unknown field {field:?}")]
    UnknownField { field: String },
    #[error("unknown parameter {parameter:?}")]
    UnknownParameter { parameter: String },
    #[error("field {field} has a transfer encoding")]
    EncodedField { field: String },
    #[error("more than {most} fields")]
    TooManyFields { most: usize },
    #[error("field {field} has more than {most} bytes")]
    FieldTooLarge { field: &'static str, most: usize },
    #[error("field {field} is not text")]
    NotText { field: &'static str },
    #[error("field {field} is not a number from {least} to {most}")]
    BadOption { field: &'static str, least: u32, most: u32 },
    #[error("{field} is none of its choices")]
    BadChoice { field: &'static str, choices: &'static str },
    #[error("movements of the face without landmarks")]
    Contradiction,
    #[error("the query cannot be read")]
    BadQuery,
    #[error("not a language that is known")]
    BadLanguage,
    #[error("no mail can be sent to an address: {0}")]
    BadEmail(#[from] Unsendable),
    #[error("more than {most} addresses")]
    TooManyRecipients { most: usize },
    #[error("mail is switched off")]
    MailOff,
    #[error("webhooks are switched off")]
    WebhooksOff,
    #[error("not an address for webhooks: {0}")]
    BadWebhook(UrlError),
    #[error("the Idempotency-Key is none")]
    BadIdempotencyKey,
    #[error("the Idempotency-Key was used for another request")]
    IdempotencyKeyReused,
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the video could not be opened: {0}")]
    Unopened(String),
}

/// How a call gets its file: messages name the member that the call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The form field `video`.
    Field,
    /// The whole body.
    Body,
    /// The JSON member `content`, in base64.
    Content,
    /// Parts that were sent before; the body is a JSON object that names the upload.
    Upload,
    /// A picture in the form field `frame`.
    Frame,
}

impl Carrier {
    /// The file as the subject of a sentence, and the member that holds it.
    const fn subject(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Field => ("The file in the field video", Some("video")),
            Self::Body => ("The body", None),
            Self::Content => ("The video in content", Some("content")),
            Self::Upload => ("The uploaded file", Some("upload")),
            Self::Frame => ("The file in the field frame", Some("frame")),
        }
    }

    const fn smaller(self) -> &'static str {
        match self {
            Self::Field | Self::Body | Self::Content => "Send a shorter or smaller video.",
            Self::Upload => "Send only the members that the call has.",
            Self::Frame => "Send a smaller picture.",
        }
    }
}

impl From<AnalyzeError> for Problem {
    fn from(error: AnalyzeError) -> Self {
        error.problem(Carrier::Field)
    }
}

impl AnalyzeError {
    /// The answer of a call that gets its file that way.
    pub fn problem(self, carrier: Carrier) -> Problem {
        use AnalyzeError as E;
        let new = |status, code: &str, title, detail: &str| Problem::new(status, code, title, detail);
        let refused =
            |code: &str, title, detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail);
        let of_field =
            |field: &str, code: &str, title, detail: String| refused(code, title, detail).with("field", field);
        let (subject, member) = carrier.subject();
        let of_file = |code: &str, title, detail: String| match member {
            Some(member) => of_field(member, code, title, detail),
            None => refused(code, title, detail),
        };
        match self {
            E::NotAForm => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_a_form",
                "Not a form",
                match carrier {
                    Carrier::Frame => {
                        "Send multipart/form-data with the picture in the field frame, as curl -F frame=@FILE does."
                    }
                    _ => "Send multipart/form-data with the file in the field video, as curl -F video=@FILE does.",
                },
            ),
            E::BadForm => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_form",
                "The form cannot be read",
                "The body is not the multipart/form-data that its Content-Type announces. Check the boundary and that \
                 the upload was sent to its end.",
            ),
            E::Body(BodyError::Stray) => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_form",
                "The form cannot be read",
                "The boundary named in Content-Type does not come, or the headers of a field are too long.",
            ),
            E::Body(BodyError::TooLarge { limit }) => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "upload_too_large",
                "The upload is too large",
                format!("A request may have {}. {}", ByteSize(limit), carrier.smaller()),
            )
            .with("limit_bytes", limit),
            E::Body(BodyError::Idle(pause)) => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_stalled",
                "The upload stalled",
                format!("Nothing came for {} s. Send it again.", pause.as_secs()),
            ),
            E::Body(BodyError::Left) => Problem::new(
                StatusCode::BAD_REQUEST,
                "upload_broken_off",
                "The upload broke off",
                "The connection ended before the upload did. Send it again.",
            ),
            E::Body(BodyError::UnknownEncoding) => new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                UNKNOWN_ENCODING,
                "Not this content encoding",
                "Send the body as it is, or compressed with Content-Encoding: gzip.",
            ),
            E::Body(BodyError::BrokenEncoding) => new(
                StatusCode::BAD_REQUEST,
                "broken_encoding",
                "The body cannot be decompressed",
                "The body is not the gzip that its Content-Encoding announces, or it is cut off. Compress it again, or send \
                 it as it is and without that header.",
            ),
            E::TooSlow { limit_s } => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_too_slow",
                "The upload took too long",
                format!("An upload may take {limit_s} s. Send less, or send it over a faster line."),
            ),
            E::Busy => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "Too many uploads at once",
                "All places for uploads are taken. Try again in a few seconds.",
            )
            .retry_after(5),
            E::UsedUp(UsedUp { period, limit, wait_s }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "quota_used_up",
                "The quota is used up",
                format!("This key may send {limit} videos a {period}. The next {period} begins in {wait_s} s (UTC)."),
            )
            .with("limit", limit)
            .retry_after(wait_s),
            E::MissingVideo => {
                of_field("video", "missing_video", "No video", "Send the file in the field video.".to_owned())
            }
            E::TwoVideos => {
                of_field("video", "two_videos", "More than one video", "Send one video a request.".to_owned())
            }
            E::EmptyVideo => of_file(
                "empty_video",
                "The video is empty",
                format!("{subject} has no bytes. Check the path and send it again."),
            ),
            E::Refused(ProbeError::NotAVideo) => of_file(
                "not_a_video",
                "Not a video",
                format!(
                    "{subject} is not an MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV or GIF video with a picture \
                     that can be read. Export it again and send that."
                ),
            ),
            E::Refused(
                reason @ (ProbeError::NoDecoder { .. }
                | ProbeError::Undecodable { .. }
                | ProbeError::Encrypted
                | ProbeError::Picture { .. }),
            ) => {
                let code = reason.code();
                of_file(code, "The video cannot be decoded", PipelineError::from(reason).detail())
            }
            E::Refused(reason) => {
                let detail = sentence(&reason.to_string());
                of_file(reason.code(), "The video is outside of the limits", detail)
            }
            E::UnknownParameter { parameter } => refused(
                "unknown_parameter",
                "A parameter that is not known",
                "The address takes sample_every, sampling, max_faces, language, gaze, speech and detail. Check the spelling, \
                 or send other fields in the form."
                    .to_owned(),
            )
            .with("parameter", parameter),
            E::EncodedField { field } => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "encoded_field",
                "A field is encoded",
                "Send the bytes of each field as they are, without Content-Encoding or Content-Transfer-Encoding.",
            )
            .with("field", field),
            E::UnknownField { field } => of_field(
                &field,
                "unknown_field",
                "A field that is not known",
                "Known are video, email, sample_every, sampling, max_faces, language, gaze, speech, detail and webhook_url. \
                 Check the spelling or leave the field out."
                    .to_owned(),
            ),
            E::TooManyFields { most } => {
                refused("too_many_fields", "Too many fields", format!("A form may have {most} fields."))
            }
            E::FieldTooLarge { field, most } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "field_too_large",
                "A field is too large",
                format!("The field {field} may have {most} bytes."),
            )
            .with("field", field),
            E::NotText { field } => {
                of_field(field, "not_text", "A field is not text", format!("Send {field} as text in UTF-8."))
            }
            E::BadOption { field, least, most } => of_field(
                field,
                "bad_option",
                "An option is out of range",
                format!("Give {field} as a whole number from {least} to {most}, or leave it out."),
            ),
            E::BadChoice { field, choices } => of_field(
                field,
                "bad_option",
                "An option is not known",
                format!("Give {field} as {choices}, or leave it out."),
            ),
            E::BadQuery => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_query",
                "The query cannot be read",
                "Write options in the address as ?sample_every=10&detail=expressions, or send them as fields.",
            ),
            E::Contradiction => of_field(
                "detail",
                "contradiction",
                "Two options exclude each other",
                match carrier {
                    Carrier::Upload => {
                        "\"detail\": \"expressions\" is read from the landmarks that \"gaze\": false leaves out. Leave out one \
                         of the two."
                    }
                    _ => "detail=expressions is read from the landmarks that gaze=off leaves out. Leave out one of the two.",
                }
                .to_owned(),
            ),
            E::BadLanguage => of_field(
                "language",
                "bad_option",
                "An option is out of range",
                "Give language as en or de, or leave it out.".to_owned(),
            ),
            E::BadEmail(Unsendable::LocalPart) => of_field(
                "email",
                "bad_email",
                "Not a mail address",
                "Many mail servers take no address with letters beyond ASCII before the @. Give another address of that \
                 mailbox."
                    .to_owned(),
            ),
            E::BadEmail(Unsendable::Quoted) => of_field(
                "email",
                "bad_email",
                "Not a mail address",
                "No mail can be sent to an address with a quoted part before the @. Give another address of that mailbox."
                    .to_owned(),
            ),
            E::BadEmail(Unsendable::Host) => of_field(
                "email",
                "bad_email",
                "Not a mail address",
                "Give an address with a domain name after the @, not with the address of a host.".to_owned(),
            ),
            E::BadEmail(Unsendable::Domain) => of_field(
                "email",
                "bad_email",
                "Not a mail address",
                "The part of the address after the @ is not a domain name. Check its spelling.".to_owned(),
            ),
            E::BadEmail(Unsendable::Malformed | Unsendable::TooLong) => of_field(
                "email",
                "bad_email",
                "Not a mail address",
                match carrier {
                    Carrier::Upload => "Give email as one address, such as ann@example.org, or as a list of them.",
                    _ => "Give one address a field, such as email=ann@example.org.",
                }
                .to_owned(),
            ),
            E::TooManyRecipients { most } => of_field(
                "email",
                "too_many_recipients",
                "Too many addresses",
                format!("At most {most} addresses get the report."),
            ),
            E::MailOff => of_field(
                "email",
                "mail_off",
                "This service sends no mail",
                "Leave email out, and get the report from the links in the answer.".to_owned(),
            ),
            E::WebhooksOff => of_field(
                "webhook_url",
                "webhooks_off",
                "This service sends no webhooks",
                "Leave webhook_url out, and ask for the result under the links in the answer.".to_owned(),
            ),
            E::BadWebhook(reason) => {
                of_field("webhook_url", "bad_webhook_url", "Not an address for webhooks", reason.to_string())
            }
            E::BadIdempotencyKey => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_idempotency_key",
                "The Idempotency-Key cannot be used",
                "Give one Idempotency-Key of 1 to 255 printable ASCII characters, such as a UUID, or none.",
            ),
            E::IdempotencyKeyReused => refused(
                "idempotency_key_reused",
                "The Idempotency-Key was used before",
                "Another request was taken under this Idempotency-Key within the last 24 hours. Choose a new one for \
                 every new request, and repeat an old one only with the very same fields."
                    .to_owned(),
            ),
            E::Blob(error) => error.into(),
            E::Store(error) => error.into(),
            E::Unopened(reason) => {
                tracing::error!(reason, "an upload could not be opened");
                Problem::unavailable("storage")
            }
        }
    }
}

/// Upper case in front, full stop behind.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
