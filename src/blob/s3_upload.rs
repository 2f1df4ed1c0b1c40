//! Writes one object. Bytes are collected into parts, which are sent one at a time as a multipart upload. An object
//! that fits into one part is sent with one request.

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};

use super::bucket::{Bucket, remote};
use super::{BlobError, Upload};

/// Size of every part but the last, in bytes. Some servers need all parts to have the same size. AWS accepts at most
/// [`MAX_PARTS`] parts, which allows objects of up to 78 GiB.
const PART: usize = super::PART as usize;
const MAX_PARTS: usize = super::MAX_PARTS as usize;

pub(super) struct S3Upload {
    bucket: Bucket,
    object: String,
    /// The part being collected, at most [`PART`] bytes.
    part: BytesMut,
    /// The id of the multipart upload, while one is open.
    id: Option<String>,
    sent: Vec<CompletedPart>,
    written: u64,
}

impl S3Upload {
    pub fn new(bucket: Bucket, object: String) -> Self {
        Self { bucket, object, part: BytesMut::new(), id: None, sent: Vec::new(), written: 0 }
    }

    async fn id(&mut self) -> Result<String, BlobError> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let id = create(&self.bucket, &self.object).await?;
        self.id = Some(id.clone());
        Ok(id)
    }

    async fn send_part(&mut self) -> Result<(), BlobError> {
        if self.sent.len() == MAX_PARTS {
            return Err(failed("upload part", "the video has more parts than a bucket accepts"));
        }
        let id = self.id().await?;
        let number = i32::try_from(self.sent.len() + 1).unwrap_or(i32::MAX);
        let body = ByteStream::from(self.part.split().freeze());
        let send = self.bucket.client.upload_part().bucket(&self.bucket.name).key(&self.object);
        let done = send.upload_id(id).part_number(number).body(body).send().await;
        let done = done.map_err(|error| remote("upload part", &error))?;
        self.sent.push(CompletedPart::builder().part_number(number).set_e_tag(done.e_tag).build());
        // Frees the memory of the sent part before the next one is collected.
        self.part = BytesMut::new();
        Ok(())
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PART - self.part.len();
            self.part.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if self.part.len() == PART {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, BlobError> {
        if self.id.is_none() {
            let body = ByteStream::from(self.part.split().freeze());
            let put = self.bucket.client.put_object().bucket(&self.bucket.name).key(&self.object).body(body);
            put.send().await.map_err(|error| remote("put", &error))?;
            return Ok(self.written);
        }
        if !self.part.is_empty() {
            self.send_part().await?;
        }
        let id = self.id().await?;
        let parts = std::mem::take(&mut self.sent);
        complete(&self.bucket, &self.object, &id, parts, self.written).await?;
        self.id = None;
        Ok(self.written)
    }

    async fn abort(mut self: Box<Self>) -> Result<(), BlobError> {
        let Some(id) = self.id.take() else { return Ok(()) };
        abort(&self.bucket, &self.object, id).await
    }
}

/// Joins the parts of an upload. If the answer is missing or unreadable, checks whether the object exists. Some
/// S3-compatible servers answer with an XML element that the SDK refuses (moto 5.2: `CompleteMultipartUploadResponse`).
pub(super) async fn complete(
    bucket: &Bucket,
    object: &str,
    id: &str,
    parts: Vec<CompletedPart>,
    size_bytes: u64,
) -> Result<(), BlobError> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = bucket.client.complete_multipart_upload().bucket(&bucket.name).key(object);
    let Err(error) = complete.upload_id(id).multipart_upload(parts).send().await else { return Ok(()) };
    let is_whole = size_of(bucket, object).await.is_ok_and(|size| size == size_bytes);
    if is_whole { Ok(()) } else { Err(remote("complete upload", &error)) }
}

/// The size of an object in bytes.
pub(super) async fn size_of(bucket: &Bucket, object: &str) -> Result<u64, BlobError> {
    let head = bucket.client.head_object().bucket(&bucket.name).key(object).send().await;
    let head = head.map_err(|error| remote("head", &error))?;
    Ok(head.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default())
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        // Without a runtime the process is exiting; `abort_abandoned` aborts the upload later.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (bucket, object) = (self.bucket.clone(), std::mem::take(&mut self.object));
        runtime.spawn(async move {
            if let Err(error) = abort(&bucket, &object, id).await {
                tracing::warn!(%error, "cannot abort an unfinished upload; housekeeping will try again");
            }
        });
    }
}

/// Begins a multipart upload. Returns its id.
pub(super) async fn create(bucket: &Bucket, object: &str) -> Result<String, BlobError> {
    let create = bucket.client.create_multipart_upload().bucket(&bucket.name).key(object);
    let created = create.send().await.map_err(|error| remote("begin upload", &error))?;
    let id = created.upload_id().map(str::to_owned);
    id.ok_or_else(|| failed("begin upload", "the server returned no upload id"))
}

/// Aborts a multipart upload. Succeeds if there is none.
pub(super) async fn abort(bucket: &Bucket, object: &str, id: String) -> Result<(), BlobError> {
    let abort = bucket.client.abort_multipart_upload().bucket(&bucket.name).key(object).upload_id(id);
    match abort.send().await.map_err(|error| remote("abort upload", &error)) {
        Ok(_) | Err(BlobError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn failed(action: &'static str, reason: &str) -> BlobError {
    BlobError::Remote { action, reason: reason.to_owned() }
}
