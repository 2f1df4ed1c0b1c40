//! The notice that the people in a video got before it was sent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The statement of a sender that the people in the video were informed. It is stored with the job and erased with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    /// When the service received the statement.
    pub given_at: Timestamp,
    /// The notice of this service that was shown; null if the sender informed the people in another way.
    pub shown: Option<ShownNotice>,
}

/// The notice of the service, as it was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShownNotice)]
pub struct ShownNotice {
    pub version: String,
    /// Tag of the language of `text`.
    pub language: String,
    /// Paragraphs, separated by empty lines.
    pub text: String,
}
