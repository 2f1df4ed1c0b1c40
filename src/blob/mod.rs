//! Storage of videos between upload and analysis: a folder ([`Folder`]) or a bucket ([`S3`]). It stores bytes under
//! keys, and imports neither the jobs nor the database. [`Objects`] reads from buckets of others.
//!
//! Both stores give the same guarantees, and one test suite checks both:
//!
//! - A blob is visible completely or not at all.
//! - An interrupted write leaves nothing, or at worst a leftover that [`BlobStore::abort_abandoned`] removes.
//! - At most one part of each running upload is in memory.

mod bucket;
mod folder;
mod folder_parts;
mod objects;
mod parts;
mod s3;
mod s3_parts;
mod s3_upload;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::{Storage, StorageKind};
use crate::fault::{self, Fault};
use crate::media::Source;

pub use folder::Folder;
pub use objects::{ObjectError, Objects};
pub use parts::{MAX_PARTS, PART, Part, PartUpload, Parts};
pub use s3::S3;

/// An error of the storage. Its text is for logs and is never sent to clients.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("there is no blob with this key")]
    NotFound,
    #[error("{0:?} is not a valid key")]
    BadKey(String),
    #[error("storage: {0}")]
    Io(#[from] std::io::Error),
    #[error("storage: {action}: {reason}")]
    Remote { action: &'static str, reason: String },
    /// The folder or bucket does not belong to the database, or the folder is not mounted.
    #[error(
        "storage: expected the identity {expected}, found {}",
        found.map_or_else(|| "none".to_owned(), |id| id.to_string())
    )]
    Foreign { expected: Uuid, found: Option<Uuid> },
}

impl BlobError {
    /// Returns the fault. For a missing blob it is unclear, since the blob may come back (a cache, a mount).
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NotFound | Self::BadKey(_) => Fault::Unclear,
            Self::Io(_) | Self::Remote { .. } | Self::Foreign { .. } => Fault::Ours(fault::Part::Storage),
        }
    }
}

/// A stored blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    pub key: String,
    pub size_bytes: u64,
    pub modified: Timestamp,
}

/// A store of videos. visage makes the keys (`[a-z0-9/._-]`); clients never choose them.
#[async_trait]
pub trait BlobStore: Parts {
    /// Starts to write a blob. It becomes visible with [`Upload::finish`].
    async fn begin(&self, key: &str) -> Result<Box<dyn Upload>, BlobError>;

    /// Returns the source from which the decoder reads the blob. A bucket does not check that the blob exists.
    async fn source(&self, key: &str) -> Result<Source, BlobError>;

    /// Copies the blob to a file, as a stream. Returns the number of bytes. After an error the file may be incomplete.
    async fn fetch(&self, key: &str, to: &Path) -> Result<u64, BlobError>;

    /// Deletes the blob. Succeeds if there is none.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;

    /// Returns at most `limit` blobs last changed before `before`.
    async fn list_older(&self, before: Timestamp, limit: usize) -> Result<Vec<BlobInfo>, BlobError>;

    /// Aborts unfinished uploads that were begun (in a bucket) or last written to (in a folder) before `before`.
    /// Returns their number. Uploads to the keys in `kept` are not aborted. A running upload of this age is aborted
    /// too.
    async fn abort_abandoned(&self, before: Timestamp, kept: &HashSet<String>) -> Result<usize, BlobError>;

    /// Returns whether the blob exists.
    async fn exists(&self, key: &str) -> Result<bool, BlobError>;

    /// Reads the identity of the storage; `None` if it has none.
    async fn identity(&self) -> Result<Option<Uuid>, BlobError>;

    /// Writes the identity of the storage, and replaces an earlier one.
    async fn set_identity(&self, id: Uuid) -> Result<(), BlobError>;

    /// Checks that the storage can be written and read now: writes, reads and deletes a few bytes.
    async fn check(&self) -> Result<(), BlobError>;
}

/// A blob being written. Dropping it without [`finish`](Upload::finish) discards what was written.
#[async_trait]
pub trait Upload: Send {
    /// Writes the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes the blob visible. Returns its size in bytes.
    async fn finish(self: Box<Self>) -> Result<u64, BlobError>;

    /// Discards what was written.
    async fn abort(self: Box<Self>) -> Result<(), BlobError>;
}

/// Opens the store that the settings select.
pub async fn open(storage: &Storage, clock: Arc<dyn Clock>) -> Result<Arc<dyn BlobStore>, BlobError> {
    Ok(match storage.kind {
        StorageKind::Folder => Arc::new(Folder::open(&storage.folder, clock).await?),
        StorageKind::S3 => Arc::new(S3::open(&storage.s3, clock).await),
    })
}

/// The name of the file or object with the identity. It is not a valid key, so no blob has this name and no listing
/// returns it.
const IDENTITY: &str = ".visage-storage";

/// Parses the file of the identity. The id is its first word; the rest of the text is for people.
fn parse_identity(text: &str) -> Result<Uuid, BlobError> {
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(|_| BlobError::Remote { action: "identity", reason: format!("{IDENTITY} contains no id") })
}

/// Returns the content of the file of the identity.
fn identity_text(id: Uuid) -> String {
    format!("{id}\nvisage knows by this id that this storage belongs to its database. Leave it here.\n")
}

/// The bytes that `check` writes and reads back.
const PROBE: &[u8] = b"visage";

/// Returns whether a key is valid: `[a-z0-9/._-]`, at most 512 bytes, and no component that is empty or starts with a
/// dot. Such a component could be `..` or the name of an unfinished file.
fn is_key(key: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'/' | b'.' | b'_' | b'-');
    key.len() <= 512 && key.bytes().all(known) && key.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

/// Returns the key if it is valid.
fn checked(key: &str) -> Result<&str, BlobError> {
    if is_key(key) { Ok(key) } else { Err(BlobError::BadKey(key.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn keys_that_could_leave_the_store_are_invalid() {
        for key in ["a", "videos/3f1c-9", "2026/11/a.b_c"] {
            assert!(is_key(key), "{key}");
        }
        let long = "a".repeat(513);
        for key in
            ["", "/a", "a/", "a//b", "..", "a/../b", "./a", ".hidden", "a/.part", "A", "a b", "a\0b", "a\\b", &long]
        {
            assert!(!is_key(key), "{key}");
        }
    }
}
