//! Why an upload is rejected or fails.
//!
//! [`UploadError`] groups the reasons by what the client has to change: the form, the video, an option, and so on.
//! Every call that takes a video or a picture uses it. [`super::problems`] has the answer for each of them.

use std::time::Duration;

use crate::api::notice::NoticeError;
use crate::api::upload_permits::NoPermit;
use crate::blob::BlobError;
use crate::config::ByteSize;
use crate::media::ProbeError;
use crate::report::Unsendable;
use crate::report::webhook::UrlError;
use crate::sources::AddressError;
use crate::store::{MailCount, StoreError, UsedUp};

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
    /// No video is taken from the given address.
    #[error(transparent)]
    Address(#[from] AddressError),
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

/// Why a body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the client sent nothing for {0:?}")]
    Idle(Duration),
    #[error("the client sent fewer than {min_rate} bytes per second")]
    BelowRate { min_rate: u64 },
    #[error("the body did not arrive within {limit_s} s")]
    TooSlow { limit_s: u64 },
    /// The boundary is missing, or the headers of a field do not end.
    #[error("the form has too many bytes outside of its fields")]
    Stray,
    #[error("the client closed the connection before the end of the body")]
    Left,
    #[error("the Content-Encoding is not supported")]
    UnknownEncoding,
    #[error("the body is not what its Content-Encoding announces, or it is cut off")]
    BrokenEncoding,
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
    #[error("the request has neither an upload nor the address of a video")]
    MissingUpload,
    #[error("the form has more than one field video")]
    SeveralVideos,
    #[error("the request has a video and the address of another one")]
    VideoAndAddress,
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
    /// The priority `high` needs a key with the scope `urgent`.
    #[error("the caller may not send videos with the priority high")]
    NotUrgent { has_key: bool },
    #[error("the option {field} is not a whole number from {least} to {most}")]
    OutOfRange { field: &'static str, least: u32, most: u32 },
    #[error("the option {field} is not one of {choices:?}")]
    UnknownChoice { field: &'static str, choices: Vec<&'static str> },
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
    #[error("a request without a key names more than one address")]
    OneWithoutKey,
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
    NoPermit(#[from] NoPermit),
    #[error("the {} has its {} mails of the day", .0.kind.name(), .0.limit)]
    TooManyMails(MailCount, u64),
    #[error("the stored videos have storage.quota ({} bytes)", .0.0)]
    StorageFull(ByteSize),
    #[error("the stored videos of the client have storage.quota_client ({} bytes)", .0.0)]
    ClientStorageFull(ByteSize),
    #[error("the key has sent its {} videos of the period ({:?})", .0.limit, .0.period)]
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

impl From<NoPermit> for UploadError {
    fn from(error: NoPermit) -> Self {
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
