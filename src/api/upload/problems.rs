//! The problem (RFC 9457) for each [`UploadError`]: status, detail and further members.

use axum::http::StatusCode;

use super::error::{
    BodyError, FormError, IdempotencyKeyError, LimitError, OptionError, RecipientError, ServiceError, UploadError,
    VideoError,
};
use crate::api::Problem;
use crate::api::file_source::FileSource;
use crate::api::problem::detail::{self, Detail, Value};
use crate::api::upload_permits::NoPermit;
use crate::config::ByteSize;
use crate::media::ProbeError;
use crate::pipeline::PipelineError;
use crate::report::Unsendable;
use crate::report::webhook::UrlError;
use crate::sources::AddressError;
use crate::store::{MailCount, MailSubject, Period, Scope, UsedUp};

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
            Self::Address(error) => address_problem(error),
            Self::Option(error) => error.problem(source),
            Self::Notice(error) => error.problem(source),
            Self::Recipient(error) => error.problem(source),
            Self::IdempotencyKey(error) => error.problem(),
            Self::Limit(error) => error.problem(),
            Self::Service(error) => error.problem(),
        }
    }
}

/// The problem of an address from which no video is taken.
fn address_problem(error: AddressError) -> Problem {
    let detail = match error {
        AddressError::Off => detail::video_urls_off(),
        AddressError::Malformed => detail::bad_video_url(),
        AddressError::Plain => detail::bad_video_url_plain(),
        AddressError::Private => detail::bad_video_url_private(),
        AddressError::Host { host } => detail::bad_video_url_host(host),
        AddressError::Bucket { bucket } => detail::bad_video_url_bucket(bucket),
    };
    unprocessable(detail).with("field", "video_url")
}

/// A problem with status 422.
fn unprocessable(detail: Detail) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

impl BodyError {
    fn problem(self, source: FileSource) -> Problem {
        match self {
            Self::Stray => Problem::new(StatusCode::BAD_REQUEST, detail::bad_form_stray()),
            Self::TooLarge { limit } => {
                let detail = detail::upload_too_large(ByteSize(limit), Value::Part(source.smaller()));
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).with("limit_bytes", limit)
            }
            Self::Idle(pause) => Problem::new(StatusCode::REQUEST_TIMEOUT, detail::upload_stalled(pause.as_secs())),
            Self::BelowRate { min_rate } => {
                let detail = detail::upload_too_slow_rate(ByteSize(min_rate));
                Problem::new(StatusCode::REQUEST_TIMEOUT, detail).with("limit_bytes_per_s", min_rate)
            }
            Self::TooSlow { limit_s } => Problem::new(StatusCode::REQUEST_TIMEOUT, detail::upload_too_slow(limit_s)),
            Self::Left => Problem::new(StatusCode::BAD_REQUEST, detail::upload_broken_off()),
            Self::UnknownEncoding => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail::unsupported_encoding()),
            Self::BrokenEncoding => Problem::new(StatusCode::BAD_REQUEST, detail::broken_encoding()),
        }
    }
}

impl FormError {
    fn problem(self, source: FileSource) -> Problem {
        match self {
            Self::NotMultipart => {
                let detail = match source {
                    FileSource::Frame => detail::not_a_form_frame(),
                    _ => detail::not_a_form(),
                };
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
            }
            Self::Malformed => Problem::new(StatusCode::BAD_REQUEST, detail::bad_form()),
            Self::MissingVideo => unprocessable(detail::missing_video()).with("field", "video"),
            Self::MissingUpload => unprocessable(detail::missing_video_json()).with("field", "upload"),
            Self::VideoAndAddress => {
                let detail = match source {
                    FileSource::Upload => detail::two_videos_json(),
                    _ => detail::two_videos_address(),
                };
                unprocessable(detail).with("field", "video_url")
            }
            Self::SeveralVideos => unprocessable(detail::two_videos()).with("field", "video"),
            Self::UnknownField { field } => unprocessable(detail::unknown_field()).with("field", field),
            Self::TooManyFields { most } => unprocessable(detail::too_many_fields(most)),
            Self::EncodedField { field } => {
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail::encoded_field()).with("field", field)
            }
            Self::FieldTooLarge { field, most } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail::field_too_large(field, most)).with("field", field)
            }
            Self::NotText { field } => unprocessable(detail::not_text(field)).with("field", field),
        }
    }
}

impl VideoError {
    fn problem(self, source: FileSource) -> Problem {
        let (subject, member) = source.subject();
        let problem = match self {
            Self::Empty => unprocessable(detail::empty_video(Value::Part(subject))),
            Self::Unusable(ProbeError::NotAVideo) => unprocessable(detail::not_a_video(Value::Part(subject))),
            Self::Unusable(reason) => {
                Problem::of_failure(StatusCode::UNPROCESSABLE_ENTITY, PipelineError::from(reason).reason())
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
            Self::BadQuery => Problem::new(StatusCode::BAD_REQUEST, detail::bad_query()),
            Self::UnknownParameter { parameter } => {
                unprocessable(detail::unknown_parameter()).with("parameter", parameter)
            }
            Self::OutOfRange { field, least, most } => {
                unprocessable(detail::bad_option_range(field, least, most)).with("field", field)
            }
            Self::UnknownChoice { field, choices } => {
                unprocessable(detail::bad_option_choice(field, Value::Choice(choices))).with("field", field)
            }
            Self::NotUrgent { has_key: false } => Problem::new(StatusCode::UNAUTHORIZED, detail::key_required()),
            Self::NotUrgent { has_key: true } => Problem::scope_required(Scope::Urgent),
            Self::Contradiction => {
                let detail = match source {
                    FileSource::Upload => detail::contradiction_json(),
                    _ => detail::contradiction(),
                };
                unprocessable(detail).with("field", "detail")
            }
        }
    }
}

impl RecipientError {
    fn problem(self, source: FileSource) -> Problem {
        let (field, detail) = match self {
            Self::BadAddress(Unsendable::LocalPart) => ("email", detail::bad_email_local_part()),
            Self::BadAddress(Unsendable::Quoted) => ("email", detail::bad_email_quoted()),
            Self::BadAddress(Unsendable::Host) => ("email", detail::bad_email_host()),
            Self::BadAddress(Unsendable::Domain) => ("email", detail::bad_email_domain()),
            Self::BadAddress(Unsendable::Malformed | Unsendable::TooLong) => match source {
                FileSource::Upload => ("email", detail::bad_email_json()),
                _ => ("email", detail::bad_email()),
            },
            Self::TooMany { most } => ("email", detail::too_many_recipients(most)),
            Self::OneWithoutKey => ("email", detail::too_many_recipients_without_key()),
            Self::MailOff => ("email", detail::mail_off()),
            Self::WebhooksOff => ("webhook_url", detail::webhooks_off()),
            Self::BadWebhook(UrlError::Malformed) => ("webhook_url", detail::bad_webhook_url()),
            Self::BadWebhook(UrlError::Plain) => ("webhook_url", detail::bad_webhook_url_plain()),
            Self::BadWebhook(UrlError::Private) => ("webhook_url", detail::bad_webhook_url_private()),
        };
        unprocessable(detail).with("field", field)
    }
}

impl IdempotencyKeyError {
    fn problem(self) -> Problem {
        match self {
            Self::Invalid => Problem::new(StatusCode::BAD_REQUEST, detail::bad_idempotency_key()),
            Self::Reused => unprocessable(detail::idempotency_key_reused()),
        }
    }
}

impl LimitError {
    fn problem(self) -> Problem {
        let too_many = |detail| Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        match self {
            Self::NoPermit(NoPermit::Full { wait_s }) => too_many(detail::too_many_uploads(wait_s)).retry_after(wait_s),
            Self::NoPermit(NoPermit::Client { most, wait_s }) => {
                let problem = too_many(detail::too_many_uploads_client(most, wait_s));
                problem.with("limit", most).retry_after(wait_s)
            }
            Self::TooManyMails(MailCount { kind, limit, .. }, wait_s) => {
                let detail = match kind {
                    MailSubject::Recipient => detail::too_many_mails_recipient(limit, wait_s),
                    MailSubject::Domain => detail::too_many_mails_domain(limit, wait_s),
                    MailSubject::Address => detail::too_many_mails_address(limit, wait_s),
                    MailSubject::Key => detail::too_many_mails_key(limit, wait_s),
                };
                too_many(detail).with("of", kind.name()).with("limit", limit).retry_after(wait_s)
            }
            Self::StorageFull(quota) => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail::storage_full()).with("limit_bytes", quota.0)
            }
            Self::ClientStorageFull(quota) => {
                too_many(detail::storage_quota_used_up(quota)).with("limit_bytes", quota.0)
            }
            Self::QuotaUsedUp(UsedUp { period, limit, wait_s }) => {
                let detail = match period {
                    Period::Day => detail::quota_used_up_day(limit, wait_s),
                    Period::Month => detail::quota_used_up_month(limit, wait_s),
                };
                too_many(detail).with("limit", limit).retry_after(wait_s)
            }
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
                Problem::unavailable(detail::storage_unavailable())
            }
        }
    }
}
