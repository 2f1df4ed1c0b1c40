//! Why an upload is rejected or fails, and the answer that its client gets.
//!
//! [`UploadError`] groups the reasons by what the client has to change: the form, the video, an option, and so on.
//! Every call that takes a video or a picture uses it.

use axum::http::StatusCode;

use super::body::BodyError;
use crate::analysis::Language;
use crate::api::Problem;
use crate::api::notice::NoticeError;
use crate::api::places::NoPlace;
use crate::blob::BlobError;
use crate::config::ByteSize;
use crate::media::ProbeError;
use crate::pipeline::PipelineError;
use crate::report::webhook::UrlError;
use crate::report::{self, Unsendable};
use crate::store::{StoreError, UsedUp};

/// The code of the problem for an unsupported `Content-Encoding`.
pub const UNSUPPORTED_ENCODING: &str = "unsupported_encoding";

/// Why an upload is rejected or fails. The text of each error goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The body is too large, too slow, or incomplete.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is not a form, or its fields are not those of the call.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The file is not a video that can be analyzed.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// An option is unknown or its value is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The request does not say that the people in the video were informed.
    #[error(transparent)]
    Notice(#[from] NoticeError),
    /// No mail or webhook can be sent to the given address.
    #[error(transparent)]
    Recipient(#[from] RecipientError),
    /// The `Idempotency-Key` is invalid, or another request has used it.
    #[error(transparent)]
    IdempotencyKey(#[from] IdempotencyKeyError),
    /// The service or the key has reached a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A part of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Why a form is rejected.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    #[error("the body is not multipart/form-data")]
    NotMultipart,
    #[error("the multipart/form-data cannot be parsed")]
    Malformed,
    #[error("the form has no field video")]
    MissingVideo,
    #[error("the form has more than one field video")]
    SeveralVideos,
    #[error("the form has the unknown field {field:?}")]
    UnknownField { field: String },
    #[error("the form has more than {most} fields")]
    TooManyFields { most: usize },
    #[error("the field {field:?} has a content encoding or a transfer encoding")]
    EncodedField { field: String },
    #[error("the field {field} has more than {most} bytes")]
    FieldTooLarge { field: &'static str, most: usize },
    #[error("the field {field} is not UTF-8")]
    NotText { field: &'static str },
}

/// Why a file is not a video that can be analyzed.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    #[error("the video has no bytes")]
    Empty,
    #[error("the video cannot be analyzed: {0}")]
    Unusable(ProbeError),
}

/// Why an option is rejected.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("the query cannot be parsed")]
    BadQuery,
    #[error("the query has the unknown parameter {parameter:?}")]
    UnknownParameter { parameter: String },
    #[error("the option {field} is not a whole number from {least} to {most}")]
    OutOfRange { field: &'static str, least: u32, most: u32 },
    #[error("the option {field} is not {choices}")]
    UnknownChoice { field: &'static str, choices: &'static str },
    #[error("the language is not supported")]
    UnknownLanguage,
    #[error("detail=expressions and gaze=off exclude each other")]
    Contradiction,
}

/// Why no mail or webhook can be sent to a given address.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    #[error("no mail can be sent to an address: {0}")]
    BadAddress(#[from] Unsendable),
    #[error("there are more than {most} addresses")]
    TooMany { most: usize },
    #[error("the service sends no mail")]
    MailOff,
    #[error("the service sends no webhooks")]
    WebhooksOff,
    #[error("no webhook can be sent to the address: {0}")]
    BadWebhook(#[from] UrlError),
}

/// Why an `Idempotency-Key` is rejected.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyKeyError {
    #[error("the Idempotency-Key is invalid")]
    Invalid,
    #[error("the Idempotency-Key was used for another request")]
    Reused,
}

/// Which limit is reached.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error("the stored videos have storage.quota ({} bytes)", .0.0)]
    StorageFull(ByteSize),
    #[error("the stored videos of the client have storage.quota_client ({} bytes)", .0.0)]
    ClientStorageFull(ByteSize),
    #[error("the key has sent its {} videos of the {}", .0.limit, .0.period)]
    QuotaUsedUp(UsedUp),
}

/// Which part of the service failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the video could not be opened: {0}")]
    Unopened(String),
}

impl From<BlobError> for UploadError {
    fn from(error: BlobError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<NoPlace> for UploadError {
    fn from(error: NoPlace) -> Self {
        LimitError::from(error).into()
    }
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<Unsendable> for UploadError {
    fn from(error: Unsendable) -> Self {
        RecipientError::from(error).into()
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        error.problem(FileSource::Field)
    }
}

/// How a call receives its file. Messages name the field or the member that the call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSource {
    /// The form field `video`.
    Field,
    /// The whole body.
    Body,
    /// The JSON member `content`, in base64.
    Content,
    /// An upload in parts, or a JSON body that refers to one.
    Upload,
    /// A picture in the form field `frame`.
    Frame,
}

impl FileSource {
    /// The file as the subject of a sentence, and the field or member that holds it.
    const fn subject(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Field => ("The file in the field video", Some("video")),
            Self::Body => ("The body", None),
            Self::Content => ("The video in content", Some("content")),
            Self::Upload => ("The uploaded file", Some("upload")),
            Self::Frame => ("The file in the field frame", Some("frame")),
        }
    }

    /// Tells the client how to send fewer bytes.
    const fn smaller(self) -> &'static str {
        match self {
            Self::Field | Self::Body | Self::Content => "Send a shorter or smaller video.",
            Self::Upload => "Send only the members that the call has.",
            Self::Frame => "Send a smaller picture.",
        }
    }
}

impl UploadError {
    /// The answer of a call that receives its file from this source.
    pub fn problem(self, source: FileSource) -> Problem {
        match self {
            Self::Body(error) => error.problem(source),
            Self::Form(error) => error.problem(source),
            Self::Video(error) => error.problem(source),
            Self::Option(error) => error.problem(source),
            Self::Notice(error) => error.problem(source),
            Self::Recipient(error) => error.problem(source),
            Self::IdempotencyKey(error) => error.problem(),
            Self::Limit(error) => error.problem(),
            Self::Service(error) => error.problem(),
        }
    }
}

/// A problem with status 422.
fn unprocessable(code: &str, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail)
}

impl BodyError {
    fn problem(self, source: FileSource) -> Problem {
        match self {
            Self::Stray => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_form",
                "The form cannot be read",
                "The boundary named in Content-Type does not come, or the headers of a field are too long.",
            ),
            Self::TooLarge { limit } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "upload_too_large",
                "The upload is too large",
                format!("A request may have {}. {}", ByteSize(limit), source.smaller()),
            )
            .with("limit_bytes", limit),
            Self::Idle(pause) => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_stalled",
                "The upload stalled",
                format!("Nothing came for {} s. Send it again.", pause.as_secs()),
            ),
            Self::BelowRate { min_rate } => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_too_slow",
                "The upload took too long",
                format!("An upload must send {} per second. Send it over a faster line.", ByteSize(min_rate)),
            )
            .with("limit_bytes_per_s", min_rate),
            Self::TooSlow { limit_s } => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_too_slow",
                "The upload took too long",
                format!("An upload may take {limit_s} s. Send less, or send it over a faster line."),
            ),
            Self::Left => Problem::new(
                StatusCode::BAD_REQUEST,
                "upload_broken_off",
                "The upload broke off",
                "The connection ended before the upload did. Send it again.",
            ),
            Self::UnknownEncoding => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                UNSUPPORTED_ENCODING,
                "Not this content encoding",
                "Send the body as it is, or compressed with Content-Encoding: gzip.",
            ),
            Self::BrokenEncoding => Problem::new(
                StatusCode::BAD_REQUEST,
                "broken_encoding",
                "The body cannot be decompressed",
                "The body is not the gzip that its Content-Encoding announces, or it is cut off. Compress it again, or send \
                 it as it is and without that header.",
            ),
        }
    }
}

impl FormError {
    fn problem(self, source: FileSource) -> Problem {
        match self {
            Self::NotMultipart => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_a_form",
                "Not a form",
                match source {
                    FileSource::Frame => {
                        "Send multipart/form-data with the picture in the field frame, as curl -F frame=@FILE does."
                    }
                    _ => "Send multipart/form-data with the file in the field video, as curl -F video=@FILE does.",
                },
            ),
            Self::Malformed => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_form",
                "The form cannot be read",
                "The body is not the multipart/form-data that its Content-Type announces. Check the boundary and that \
                 the upload was sent to its end.",
            ),
            Self::MissingVideo => {
                unprocessable("missing_video", "No video", "Send the file in the field video.").with("field", "video")
            }
            Self::SeveralVideos => {
                unprocessable("two_videos", "More than one video", "Send one video a request.").with("field", "video")
            }
            Self::UnknownField { field } => unprocessable(
                "unknown_field",
                "A field that is not known",
                "Known are video, email, sample_every, sampling, max_faces, language, gaze, speech, detail, notice, \
                 notice_version and webhook_url. Check the spelling or leave the field out.",
            )
            .with("field", field),
            Self::TooManyFields { most } => {
                unprocessable("too_many_fields", "Too many fields", format!("A form may have {most} fields."))
            }
            Self::EncodedField { field } => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "encoded_field",
                "A field is encoded",
                "Send the bytes of each field as they are, without Content-Encoding or Content-Transfer-Encoding.",
            )
            .with("field", field),
            Self::FieldTooLarge { field, most } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "field_too_large",
                "A field is too large",
                format!("The field {field} may have {most} bytes."),
            )
            .with("field", field),
            Self::NotText { field } => {
                unprocessable("not_text", "A field is not text", format!("Send {field} as text in UTF-8."))
                    .with("field", field)
            }
        }
    }
}

impl VideoError {
    fn problem(self, source: FileSource) -> Problem {
        let (subject, member) = source.subject();
        let problem = match self {
            Self::Empty => unprocessable(
                "empty_video",
                "The video is empty",
                format!("{subject} has no bytes. Check the path and send it again."),
            ),
            Self::Unusable(ProbeError::NotAVideo) => unprocessable(
                "not_a_video",
                "Not a video",
                format!(
                    "{subject} is not an MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV or GIF video with a picture \
                     that can be read. Export it again and send that."
                ),
            ),
            Self::Unusable(
                reason @ (ProbeError::NoDecoder { .. }
                | ProbeError::Undecodable { .. }
                | ProbeError::Encrypted
                | ProbeError::Picture { .. }),
            ) => {
                let reason = PipelineError::from(reason).reason();
                unprocessable(reason.code(), "The video cannot be decoded", report::failure(&reason, Language::EN))
            }
            Self::Unusable(reason) => {
                let detail = sentence(&reason.to_string());
                unprocessable(PipelineError::from(reason).reason().code(), "The video is outside of the limits", detail)
            }
        };
        match member {
            Some(member) => problem.with("field", member),
            None => problem,
        }
    }
}

impl OptionError {
    fn problem(self, source: FileSource) -> Problem {
        match self {
            Self::BadQuery => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_query",
                "The query cannot be read",
                "Write options in the address as ?sample_every=10&detail=expressions, or send them as fields.",
            ),
            Self::UnknownParameter { parameter } => unprocessable(
                "unknown_parameter",
                "A parameter that is not known",
                "The address takes sample_every, sampling, max_faces, language, gaze, speech, detail, notice and \
                 notice_version. Check the spelling, or send other fields in the form.",
            )
            .with("parameter", parameter),
            Self::OutOfRange { field, least, most } => unprocessable(
                "bad_option",
                "An option is out of range",
                format!("Give {field} as a whole number from {least} to {most}, or leave it out."),
            )
            .with("field", field),
            Self::UnknownChoice { field, choices } => unprocessable(
                "bad_option",
                "An option is not known",
                format!("Give {field} as {choices}, or leave it out."),
            )
            .with("field", field),
            Self::UnknownLanguage => unprocessable(
                "bad_option",
                "An option is out of range",
                format!("Give language as {}, or leave it out.", Language::choice()),
            )
            .with("field", "language"),
            Self::Contradiction => unprocessable(
                "contradiction",
                "Two options exclude each other",
                match source {
                    FileSource::Upload => {
                        "\"detail\": \"expressions\" is read from the landmarks that \"gaze\": false leaves out. Leave out one \
                         of the two."
                    }
                    _ => "detail=expressions is read from the landmarks that gaze=off leaves out. Leave out one of the two.",
                },
            )
            .with("field", "detail"),
        }
    }
}

impl RecipientError {
    fn problem(self, source: FileSource) -> Problem {
        let bad_address = |detail: &str| unprocessable("bad_email", "Not a mail address", detail);
        let (field, problem) = match self {
            Self::BadAddress(Unsendable::LocalPart) => (
                "email",
                bad_address(
                    "Many mail servers take no address with letters beyond ASCII before the @. Give another address of that \
                     mailbox.",
                ),
            ),
            Self::BadAddress(Unsendable::Quoted) => (
                "email",
                bad_address(
                    "No mail can be sent to an address with a quoted part before the @. Give another address of that mailbox.",
                ),
            ),
            Self::BadAddress(Unsendable::Host) => (
                "email",
                bad_address("Give an address with a domain name after the @, not with the address of a host."),
            ),
            Self::BadAddress(Unsendable::Domain) => {
                ("email", bad_address("The part of the address after the @ is not a domain name. Check its spelling."))
            }
            Self::BadAddress(Unsendable::Malformed | Unsendable::TooLong) => (
                "email",
                bad_address(match source {
                    FileSource::Upload => "Give email as one address, such as ann@example.org, or as a list of them.",
                    _ => "Give one address a field, such as email=ann@example.org.",
                }),
            ),
            Self::TooMany { most } => (
                "email",
                unprocessable(
                    "too_many_recipients",
                    "Too many addresses",
                    format!("At most {most} addresses get the report."),
                ),
            ),
            Self::MailOff => (
                "email",
                unprocessable(
                    "mail_off",
                    "This service sends no mail",
                    "Leave email out, and get the report from the links in the answer.",
                ),
            ),
            Self::WebhooksOff => (
                "webhook_url",
                unprocessable(
                    "webhooks_off",
                    "This service sends no webhooks",
                    "Leave webhook_url out, and ask for the result under the links in the answer.",
                ),
            ),
            Self::BadWebhook(reason) => {
                ("webhook_url", unprocessable("bad_webhook_url", "Not an address for webhooks", reason.to_string()))
            }
        };
        problem.with("field", field)
    }
}

impl IdempotencyKeyError {
    fn problem(self) -> Problem {
        match self {
            Self::Invalid => Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_idempotency_key",
                "The Idempotency-Key cannot be used",
                "Give one Idempotency-Key of 1 to 255 printable ASCII characters, such as a UUID, or none.",
            ),
            Self::Reused => unprocessable(
                "idempotency_key_reused",
                "The Idempotency-Key was used before",
                "Another request was taken under this Idempotency-Key within the last 24 hours. Choose a new one for \
                 every new request, and repeat an old one only with the very same fields.",
            ),
        }
    }
}

impl LimitError {
    fn problem(self) -> Problem {
        match self {
            Self::NoPlace(NoPlace::Full { wait_s }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "Too many uploads at once",
                format!("All places for uploads are taken. One is expected to be free in {wait_s} s."),
            )
            .retry_after(wait_s),
            Self::NoPlace(NoPlace::Client { most, wait_s }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "Too many uploads at once",
                format!(
                    "You have {most} uploads running, the most for one key or address. One is expected to end in {wait_s} \
                     s."
                ),
            )
            .with("limit", most)
            .retry_after(wait_s),
            Self::StorageFull(quota) => Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage_full",
                "The storage is full",
                "The videos that wait for their analysis fill the storage. Try again when some of them are analyzed.",
            )
            .with("limit_bytes", quota.0),
            Self::ClientStorageFull(quota) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "storage_quota_used_up",
                "Too many stored videos",
                format!(
                    "Your stored videos may have {quota} together. Try again when some of them are analyzed, or delete some."
                ),
            )
            .with("limit_bytes", quota.0),
            Self::QuotaUsedUp(UsedUp { period, limit, wait_s }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "quota_used_up",
                "The quota is used up",
                format!("This key may send {limit} videos a {period}. The next {period} begins in {wait_s} s (UTC)."),
            )
            .with("limit", limit)
            .retry_after(wait_s),
        }
    }
}

impl ServiceError {
    fn problem(self) -> Problem {
        match self {
            Self::Blob(error) => error.into(),
            Self::Store(error) => error.into(),
            Self::Unopened(reason) => {
                tracing::error!(reason, "an uploaded video could not be opened");
                Problem::unavailable("storage")
            }
        }
    }
}

/// The text with a capital first letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
