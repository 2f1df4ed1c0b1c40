//! Where videos lie between upload and analysis: a folder ([`Folder`]) or a bucket ([`S3`]). Knows keys and bytes, no
//! jobs and no database.
//!
//! Both keep the same promises, and one test suite holds both to them: a blob is there whole or not at all, a write
//! that is broken off leaves nothing (at worst something that [`BlobStore::abort_abandoned`] removes), and neither
//! ever holds more of a video in memory than one part of a running upload.

mod folder;
mod folder_parts;
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
pub use parts::{MAX_PARTS, PART, Part, PartUpload, Parts};
pub use s3::S3;

/// Why a blob could not be written or read. The text is for logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("no blob of that key")]
    NotFound,
    #[error("{0:?} cannot be a key")]
    BadKey(String),
    #[error("storage: {0}")]
    Io(#[from] std::io::Error),
    #[error("storage: {action}: {reason}")]
    Remote { action: &'static str, reason: String },
    /// The folder or bucket is another than the database knows, or it is not mounted.
    #[error("storage: it should carry the identity {expected}, but carries {}", found.map_or_else(|| "none".to_owned(), |id| id.to_string()))]
    Foreign { expected: Uuid, found: Option<Uuid> },
}

impl BlobError {
    /// Whose fault it is. A blob that is not there may come back (a cache, a mount), so one look decides nothing.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NotFound | Self::BadKey(_) => Fault::Unclear,
            Self::Io(_) | Self::Remote { .. } | Self::Foreign { .. } => Fault::Ours(fault::Part::Storage),
        }
    }
}

/// A blob that lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    pub key: String,
    pub size_bytes: u64,
    pub modified: Timestamp,
}

/// A place for videos. Keys are made by visage (`[a-z0-9/._-]`), never by clients.
#[async_trait]
pub trait BlobStore: Parts {
    /// Starts to write a blob; it is there only after [`Upload::finish`].
    async fn begin(&self, key: &str) -> Result<Box<dyn Upload>, BlobError>;

    /// Where the decoder reads the blob. A bucket does not look whether it is there.
    async fn source(&self, key: &str) -> Result<Source, BlobError>;

    /// Copies the blob to a file, in a stream; bytes copied. After an error the file may hold a part of it.
    async fn fetch(&self, key: &str, to: &Path) -> Result<u64, BlobError>;

    /// Deletes the blob; one that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;

    /// Blobs last changed before `before`, at most `limit`.
    async fn list_older(&self, before: Timestamp, limit: usize) -> Result<Vec<BlobInfo>, BlobError>;

    /// Ends uploads that were begun (a bucket) or last written to (a folder) before `before` and neither finished nor
    /// aborted, but for those of the keys in `kept`; how many. A running upload that is older than that is ended too.
    async fn abort_abandoned(&self, before: Timestamp, kept: &HashSet<String>) -> Result<usize, BlobError>;

    /// Whether the blob is there.
    async fn exists(&self, key: &str) -> Result<bool, BlobError>;

    /// The identity that the place carries; `None` where it carries none.
    async fn identity(&self) -> Result<Option<Uuid>, BlobError>;

    /// Gives the place an identity, in place of one that it may carry.
    async fn set_identity(&self, id: Uuid) -> Result<(), BlobError>;

    /// Whether the place can be written and read now: writes, reads and deletes a few bytes.
    async fn check(&self) -> Result<(), BlobError>;
}

/// A blob being written. Dropped without [`finish`](Upload::finish), nothing of it stays.
#[async_trait]
pub trait Upload: Send {
    /// Writes the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes the blob appear; its size in bytes.
    async fn finish(self: Box<Self>) -> Result<u64, BlobError>;

    /// Throws away what was written.
    async fn abort(self: Box<Self>) -> Result<(), BlobError>;
}

/// The store that the settings name.
pub async fn open(storage: &Storage, clock: Arc<dyn Clock>) -> Result<Arc<dyn BlobStore>, BlobError> {
    Ok(match storage.kind {
        StorageKind::Folder => Arc::new(Folder::open(&storage.folder, clock).await?),
        StorageKind::S3 => Arc::new(S3::open(&storage.s3, clock).await),
    })
}

/// Where the identity lies. No key: no blob can have this name, and no listing gives it.
const IDENTITY: &str = ".visage-storage";

/// The identity in the text of its file; the rest of the text is for people.
fn parse_identity(text: &str) -> Result<Uuid, BlobError> {
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(|_| BlobError::Remote { action: "identity", reason: format!("{IDENTITY} holds no id") })
}

/// The text of the file.
fn identity_text(id: Uuid) -> String {
    format!("{id}\nvisage knows by this id that this storage belongs to its database. Leave it here.\n")
}

/// What `check` writes and expects to read back.
const PROBE: &[u8] = b"visage";

/// Whether a key may name a blob: `[a-z0-9/._-]`, at most 512 bytes, and no component that is empty or starts with a dot
/// (which would be `..`, or the name of an unfinished file).
fn is_key(key: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'/' | b'.' | b'_' | b'-');
    key.len() <= 512 && key.bytes().all(known) && key.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn checked(key: &str) -> Result<&str, BlobError> {
    if is_key(key) { Ok(key) } else { Err(BlobError::BadKey(key.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn keys_stay_inside_the_store() {
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
