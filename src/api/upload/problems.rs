//! The problem (RFC 9457) for each [`UploadError`]: status, code, and a text that tells the client what to change.

use axum::http::StatusCode;

use super::error::{
    BodyError, FormError, IdempotencyKeyError, LimitError, OptionError, RecipientError, ServiceError,
    UNSUPPORTED_ENCODING, UploadError, VideoError,
};
use crate::analysis::Language;
use crate::api::Problem;
use crate::api::file_source::FileSource;
use crate::api::places::NoPlace;
use crate::config::ByteSize;
use crate::media::ProbeError;
use crate::pipeline::PipelineError;
use crate::report::{self, Unsendable};
use crate::store::{MailCount, UsedUp};

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        error.problem(FileSource::Field)
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
                "The body does not contain the boundary named in Content-Type, or the headers of a field are too long.",
            ),
            Self::TooLarge { limit } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "upload_too_large",
                "The upload is too large",
                format!("A request may have at most {}. {}", ByteSize(limit), source.smaller()),
            )
            .with("limit_bytes", limit),
            Self::Idle(pause) => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_stalled",
                "The upload stalled",
                format!("No data arrived for {} s. Send the upload again.", pause.as_secs()),
            ),
            Self::BelowRate { min_rate } => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_too_slow",
                "The upload took too long",
                format!("An upload must send at least {} per second. Use a faster connection.", ByteSize(min_rate)),
            )
            .with("limit_bytes_per_s", min_rate),
            Self::TooSlow { limit_s } => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_too_slow",
                "The upload took too long",
                format!("An upload may take at most {limit_s} s. Send a smaller file, or use a faster connection."),
            ),
            Self::Left => Problem::new(
                StatusCode::BAD_REQUEST,
                "upload_broken_off",
                "The upload is incomplete",
                "The connection was closed before the end of the upload. Send it again.",
            ),
            Self::UnknownEncoding => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                UNSUPPORTED_ENCODING,
                "The content encoding is not supported",
                "Send the body without Content-Encoding, or compress it with gzip and send Content-Encoding: gzip.",
            ),
            Self::BrokenEncoding => Problem::new(
                StatusCode::BAD_REQUEST,
                "broken_encoding",
                "The body cannot be decompressed",
                "The header Content-Encoding says gzip, but the body is not valid gzip or is incomplete. Compress it \
                 again, or send it uncompressed and without that header.",
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
                "The body is not a form",
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
                "The header Content-Type says multipart/form-data, but the body cannot be parsed as such. Check the \
                 boundary, and that the upload was complete.",
            ),
            Self::MissingVideo => {
                unprocessable("missing_video", "The video is missing", "Send the file in the field video.")
                    .with("field", "video")
            }
            Self::SeveralVideos => {
                unprocessable("two_videos", "There is more than one video", "Send one video per request.")
                    .with("field", "video")
            }
            Self::UnknownField { field } => unprocessable(
                "unknown_field",
                "A field is unknown",
                "The form may have the fields video, email, sample_every, samples_per_second, sampling, max_faces, \
                 language, gaze, speech, detail, notice, notice_version and webhook_url. Check the spelling, or leave \
                 the field out.",
            )
            .with("field", field),
            Self::TooManyFields { most } => unprocessable(
                "too_many_fields",
                "There are too many fields",
                format!("A form may have at most {most} fields."),
            ),
            Self::EncodedField { field } => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "encoded_field",
                "A field is encoded",
                "Send each field without Content-Encoding and Content-Transfer-Encoding.",
            )
            .with("field", field),
            Self::FieldTooLarge { field, most } => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "field_too_large",
                "A field is too large",
                format!("The field {field} may have at most {most} bytes."),
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
                format!("{subject} has no bytes. Check the path, and send it again."),
            ),
            Self::Unusable(ProbeError::NotAVideo) => unprocessable(
                "not_a_video",
                "The file is not a video",
                format!(
                    "{subject} is not a readable video in MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, FLV or GIF. \
                     Export the video again, and send the new file."
                ),
            ),
            Self::Unusable(
                reason @ (ProbeError::NoDecoder { .. }
                | ProbeError::CodecNotAllowed { .. }
                | ProbeError::ContainerNotAllowed { .. }
                | ProbeError::TooCostly { .. }
                | ProbeError::Undecodable { .. }
                | ProbeError::DecoderEnded(_)
                | ProbeError::Encrypted
                | ProbeError::Picture { .. }),
            ) => {
                let reason = PipelineError::from(reason).reason();
                unprocessable(reason.code(), "The video cannot be decoded", report::failure(&reason, Language::EN))
            }
            Self::Unusable(reason) => {
                let detail = sentence(&reason.to_string());
                unprocessable(PipelineError::from(reason).reason().code(), "The video exceeds a limit", detail)
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
                "Write options in the address like this: ?sample_every=10&detail=expressions. Or send them as fields.",
            ),
            Self::UnknownParameter { parameter } => unprocessable(
                "unknown_parameter",
                "A parameter is unknown",
                "The address may have the parameters sample_every, samples_per_second, sampling, max_faces, language, \
                 gaze, speech, detail, notice and notice_version. Check the spelling, or send other fields in the \
                 form.",
            )
            .with("parameter", parameter),
            Self::OutOfRange { field, least, most } => unprocessable(
                "bad_option",
                "An option is out of range",
                format!("Set {field} to a whole number from {least} to {most}, or leave it out."),
            )
            .with("field", field),
            Self::UnknownChoice { field, choices } => unprocessable(
                "bad_option",
                "An option has an unknown value",
                format!("Set {field} to {choices}, or leave it out."),
            )
            .with("field", field),
            Self::UnknownLanguage => unprocessable(
                "bad_option",
                "An option has an unknown value",
                format!("Set language to {}, or leave it out.", Language::choice()),
            )
            .with("field", "language"),
            Self::Contradiction => unprocessable(
                "contradiction",
                "Two options exclude each other",
                match source {
                    FileSource::Upload => {
                        "\"detail\": \"expressions\" needs the landmarks, and \"gaze\": false switches them off. Leave \
                         out one of the two."
                    }
                    _ => {
                        "detail=expressions needs the landmarks, and gaze=off switches them off. Leave out one of the \
                          two."
                    }
                },
            )
            .with("field", "detail"),
        }
    }
}

impl RecipientError {
    fn problem(self, source: FileSource) -> Problem {
        let bad_address = |detail: &str| unprocessable("bad_email", "The mail address is invalid", detail);
        let (field, problem) = match self {
            Self::BadAddress(Unsendable::LocalPart) => (
                "email",
                bad_address(
                    "Many mail servers do not accept non-ASCII letters before the @. Use another address of that \
                     mailbox.",
                ),
            ),
            Self::BadAddress(Unsendable::Quoted) => (
                "email",
                bad_address(
                    "No mail can be sent to an address with a quoted part before the @. Use another address of that \
                     mailbox.",
                ),
            ),
            Self::BadAddress(Unsendable::Host) => {
                ("email", bad_address("Use an address with a domain name after the @, instead of an IP address."))
            }
            Self::BadAddress(Unsendable::Domain) => {
                ("email", bad_address("The part of the address after the @ is not a domain name. Check its spelling."))
            }
            Self::BadAddress(Unsendable::Malformed | Unsendable::TooLong) => (
                "email",
                bad_address(match source {
                    FileSource::Upload => {
                        "Set email to one address, such as ann@example.org, or to a list of addresses."
                    }
                    _ => "Send one address per field, such as email=ann@example.org.",
                }),
            ),
            Self::TooMany { most } => (
                "email",
                unprocessable(
                    "too_many_recipients",
                    "There are too many addresses",
                    format!("The report can be sent to at most {most} addresses."),
                ),
            ),
            Self::OneWithoutKey => (
                "email",
                unprocessable(
                    "too_many_recipients",
                    "Too many addresses",
                    "Without a key, one address gets the report. Give one address, or send a key.",
                ),
            ),
            Self::MailOff => (
                "email",
                unprocessable(
                    "mail_off",
                    "This service sends no mail",
                    "Leave email out, and fetch the report from the links in the answer.",
                ),
            ),
            Self::WebhooksOff => (
                "webhook_url",
                unprocessable(
                    "webhooks_off",
                    "This service sends no webhooks",
                    "Leave webhook_url out, and fetch the result from the links in the answer.",
                ),
            ),
            Self::BadWebhook(reason) => {
                ("webhook_url", unprocessable("bad_webhook_url", "The webhook address is invalid", reason.to_string()))
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
                "The Idempotency-Key is invalid",
                "Send one Idempotency-Key of 1 to 255 printable ASCII characters, such as a UUID, or none.",
            ),
            Self::Reused => unprocessable(
                "idempotency_key_reused",
                "The Idempotency-Key was used before",
                "Another request with this Idempotency-Key was accepted within the last 24 hours. Use a new key for \
                 each new request. Repeat a key only with exactly the same fields.",
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
                format!("The service has reached its limit of concurrent uploads. Try again in {wait_s} s."),
            )
            .retry_after(wait_s),
            Self::NoPlace(NoPlace::Client { most, wait_s }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "Too many uploads at once",
                format!(
                    "You have {most} uploads running, which is the limit for one key or address. Try again in {wait_s} \
                     s."
                ),
            )
            .with("limit", most)
            .retry_after(wait_s),
            Self::TooManyMails(MailCount { kind, limit, .. }, wait_s) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_mails",
                "Too many mails",
                format!(
                    "One {kind} may have {limit} mails a day. The next day begins in {wait_s} s (UTC). Or leave email out, \
                     and get the report from the links in the answer."
                ),
            )
            .with("of", kind)
            .with("limit", limit)
            .retry_after(wait_s),
            Self::StorageFull(quota) => Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage_full",
                "The storage is full",
                "The storage is full of videos that wait for their analysis. Try again later.",
            )
            .with("limit_bytes", quota.0),
            Self::ClientStorageFull(quota) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "storage_quota_used_up",
                "The storage quota is used up",
                format!(
                    "Your stored videos may have at most {quota} in total. Try again when some of them are analyzed, \
                     or delete some of them."
                ),
            )
            .with("limit_bytes", quota.0),
            Self::QuotaUsedUp(UsedUp { period, limit, wait_s }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "quota_used_up",
                "The quota is used up",
                format!("This key may send {limit} videos per {period}. The next {period} begins in {wait_s} s (UTC)."),
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
