//! Blobs that come in numbered parts, in any order and from anywhere, until they are joined.
//!
//! A bucket takes the parts straight from the client, by addresses that open for one part each; a folder takes them through
//! this program. A part that comes again replaces the one before. What is never joined is removed by
//! [`BlobStore::abort_abandoned`](super::BlobStore::abort_abandoned).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{BlobError, Upload};

/// Bytes of a part that every store takes (AWS wants at least 5 MiB).
pub const PART: u64 = 8 << 20;
/// Most parts of a blob.
pub const MAX_PARTS: u64 = 10_000;

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

    /// Starts to write a part; it is there only after [`Upload::finish`].
    async fn begin_part(&self, key: &str, handle: &str, number: u32) -> Result<Box<dyn Upload>, BlobError>;

    /// The parts that are there, and the bytes of each. `NotFound`: they were joined or aborted.
    async fn parts(&self, key: &str, handle: &str) -> Result<BTreeMap<u32, u64>, BlobError>;

    /// Makes the blob appear from its first `count` parts. Where that was done already, nothing is done.
    async fn join_parts(&self, key: &str, handle: &str, count: u32) -> Result<(), BlobError>;

    /// Throws the parts away; where there are none, nothing is done.
    async fn abort_parts(&self, key: &str, handle: &str) -> Result<(), BlobError>;
}
