//! The bucket that an S3 store and its uploads share.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::{BlobError, checked, is_key};

/// The client and names that the store and its uploads share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bucket {
    pub client: Client,
    pub name: String,
    /// Empty, or ends with a slash.
    pub prefix: String,
}

impl Bucket {
    /// Returns the name of the object for a key.
    pub fn object(&self, key: &str) -> Result<String, BlobError> {
        Ok(format!("{}{}", self.prefix, checked(key)?))
    }

    /// Returns the key of an object, if its name has the prefix and a valid key.
    pub fn key(&self, object: &str) -> Option<String> {
        object.strip_prefix(&self.prefix).filter(|key| is_key(key)).map(str::to_owned)
    }
}

/// Converts the error of a call. It is `NotFound` if the server says so. Otherwise it holds the server's code and
/// message, or the whole chain of errors if the server did not answer.
pub(super) fn remote<E>(action: &'static str, error: &SdkError<E>) -> BlobError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some("NoSuchKey" | "NotFound" | "NoSuchUpload") => BlobError::NotFound,
        Some(code) => BlobError::Remote { action, reason: format!("{code}: {}", error.message().unwrap_or_default()) },
        None => BlobError::Remote { action, reason: DisplayErrorContext(error).to_string() },
    }
}
