//! Multipart uploads: a blob is sent in numbered parts, in any order, and the parts are joined at the end.
//!
//! With a bucket, clients send parts directly to it, with a presigned address for each part. With a folder, they send
//! them through this program. A part sent again replaces the earlier one.
//! [`BlobStore::abort_abandoned`](super::BlobStore::abort_abandoned) removes parts that are never joined.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use bytes::Bytes;

use super::BlobError;

/// Part size in bytes that every store accepts (AWS needs at least 5 MiB).
pub const PART: u64 = 8 << 20;
/// The largest number of parts of a blob.
pub const MAX_PARTS: u64 = 10_000;

/// A stored part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub size_bytes: u64,
    /// The store's tag of the content (the ETag in S3); `None` if the store has no tags.
    pub tag: Option<String>,
}

/// A part being written. Dropping it without [`finish`](PartUpload::finish) discards what was written.
#[async_trait]
pub trait PartUpload: Send {
    /// Writes the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes the part visible.
    async fn finish(self: Box<Self>) -> Result<Part, BlobError>;
}

/// A store that accepts multipart uploads. Parts count from 1.
#[async_trait]
pub trait Parts: Send + Sync + 'static {
    /// Begins a multipart upload. Returns the handle that the other calls need.
    async fn begin_parts(&self, key: &str) -> Result<String, BlobError>;

    /// Returns the address to which a client can send a part of `size_bytes` by HTTP PUT within `life`. `None`: parts
    /// must go through [`Parts::begin_part`].
    async fn part_address(
        &self,
        key: &str,
        handle: &str,
        number: u32,
        size_bytes: u64,
        life: Duration,
    ) -> Result<Option<String>, BlobError>;

    /// Starts to write a part. It becomes visible with [`PartUpload::finish`].
    async fn begin_part(&self, key: &str, handle: &str, number: u32) -> Result<Box<dyn PartUpload>, BlobError>;

    /// Lists the stored parts. Returns `NotFound` if they were joined or aborted. `None`: this store cannot list parts.
    /// Then the caller must record what [`PartUpload::finish`] returns, and [`Parts::part_address`] returns no
    /// addresses.
    async fn parts(&self, key: &str, handle: &str) -> Result<Option<BTreeMap<u32, Part>>, BlobError>;

    /// Joins these parts to the blob. Does nothing if the blob exists already. Without parts, the blob must exist
    /// already.
    async fn join_parts(&self, key: &str, handle: &str, parts: &BTreeMap<u32, Part>) -> Result<(), BlobError>;

    /// Discards the parts. Succeeds if there are none.
    async fn abort_parts(&self, key: &str, handle: &str) -> Result<(), BlobError>;
}
