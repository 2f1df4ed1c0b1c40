//! Pictures that `POST /save_frame` of Emotion Detection from Video keeps: their errors, names and content types.
//!
//! A picture is stored under a key from which the id `frame` cannot be derived. No job refers to it, so the janitor
//! deletes it after an hour.

use axum::http::StatusCode;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::api::file_source::FileSource;
use crate::api::problem::detail;
use crate::api::upload::error::{FormError, UploadError};
use crate::api::{Caller, Problem};

/// Why a picture is rejected or cannot be returned.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the form has no field frame or image")]
    Missing,
    #[error("the form has more than one picture")]
    Two,
    #[error("the picture is neither JPEG nor PNG")]
    NotAPicture,
    #[error("no picture has this id")]
    Unknown,
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("a temporary file failed: {0}")]
    File(#[from] std::io::Error),
}

impl From<FrameError> for Problem {
    fn from(error: FrameError) -> Self {
        use FrameError as E;
        match error {
            E::Missing => Self::new(StatusCode::BAD_REQUEST, detail::missing_frame()),
            E::Two => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail::two_frames()),
            E::NotAPicture => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail::not_a_picture()),
            E::Unknown => Self::new(StatusCode::NOT_FOUND, detail::unknown_frame()),
            E::Upload(error @ UploadError::Form(FormError::NotMultipart)) => {
                error.problem(FileSource::Frame).with_status(StatusCode::BAD_REQUEST)
            }
            E::Upload(error) => error.problem(FileSource::Frame),
            E::File(reason) => {
                tracing::error!(%reason, "a picture could not be read back");
                Self::unavailable(detail::storage_unavailable())
            }
        }
    }
}

/// Returns the storage key of a picture: a hash of the picture's id and of the API key that saved it, in the form of a
/// UUID. So another API key does not find the picture, and a listing of the storage does not reveal the id. The janitor
/// removes only blobs whose key is a UUID.
pub fn key(frame: Uuid, owner: Option<&str>) -> String {
    let mut digest = Sha256::new();
    digest.update(frame.as_bytes());
    digest.update(owner.unwrap_or_default());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    Uuid::from_bytes(bytes).to_string()
}

/// The storage keys under which a caller may find a picture: saved with its own API key, or saved without one.
pub fn keys(frame: Uuid, caller: &Caller) -> Vec<String> {
    let mut keys = vec![key(frame, caller.owner()), key(frame, None)];
    keys.dedup();
    keys
}

/// The content type of a picture, from its first bytes.
pub fn content_type(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Some("image/jpeg")
    } else if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_its_own_key_for_a_picture() {
        let frame = Uuid::from_u128(7);
        let keys = [key(frame, None), key(frame, Some("ann")), key(frame, Some("bob")), key(Uuid::from_u128(8), None)];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(super::keys(frame, &Caller::Anonymous), [key(frame, None)]);
    }
}
