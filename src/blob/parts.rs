//! Blobs that come in numbered parts, in any order and from anywhere, until they are joined.
//!
//! A bucket takes the parts straight from the client, by addresses that open for one part each; a folder takes them through
//! this program. A part that comes again replaces the one before. What is never joined is removed by
//! [`BlobStore::abort_abandoned`](super::BlobStore::abort_abandoned).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use bytes::Bytes;

use super::BlobError;

/// Bytes of a part that every store takes (AWS wants at least 5 MiB).
pub const PART: u64 = 8 << 20;
/// Most parts of a blob.
pub const MAX_PARTS: u64 = 10_000;

/// A part that lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub size_bytes: u64,
    /// What the store calls these bytes (the ETag of a bucket); `None` where it gives them no name.
    pub tag: Option<String>,
}

/// A part being written. Dropped without [`finish`](PartUpload::finish), nothing of it stays.
#[async_trait]
pub trait PartUpload: Send {
    /// Writes the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes the part appear.
    async fn finish(self: Box<Self>) -> Result<Part, BlobError>;
}

/// A store of blobs that takes them in parts. Parts count from 1.
#[async_trait]
pub trait Parts: Send + Sync + 'static {
    /// Begins a blob; the handle that the other calls want.
    async fn begin_parts(&self, key: &str) -> Result<String, BlobError>;

    /// The address to which a client puts a part (HTTP PUT) of that many bytes within `life`. `None`: through
    /// [`Parts::begin_part`].
    async fn part_address(
        &self,
        key: &str,
        handle: &str,
        number: u32,
        size_bytes: u64,
        life: Duration,
    ) -> Result<Option<String>, BlobError>;

    /// Starts to write a part; it is there only after [`PartUpload::finish`].
    async fn begin_part(&self, key: &str, handle: &str, number: u32) -> Result<Box<dyn PartUpload>, BlobError>;

    /// The parts that are there. `NotFound`: they were joined or aborted. `None`: this store cannot tell; then the caller
    /// remembers what [`PartUpload::finish`] said, and [`Parts::part_address`] gives no addresses.
    async fn parts(&self, key: &str, handle: &str) -> Result<Option<BTreeMap<u32, Part>>, BlobError>;

    /// Makes the blob appear from these parts. Where that was done already, nothing is done; without parts it must have
    /// been.
    async fn join_parts(&self, key: &str, handle: &str, parts: &BTreeMap<u32, Part>) -> Result<(), BlobError>;

    /// Throws the parts away; where there are none, nothing is done.
    async fn abort_parts(&self, key: &str, handle: &str) -> Result<(), BlobError>;
}
