//! Multipart uploads to a bucket, by S3's multipart uploads.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::list_parts::ListPartsError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::bucket::{Bucket, remote};
use super::parts::{Part, PartUpload, Parts};
use super::s3::S3;
use super::s3_upload::{abort, complete, create, failed, size_of};
use super::{BlobError, PROBE};

/// How long the result of [`S3::lists_parts`] is kept.
const LISTING_VALIDITY: Duration = Duration::from_secs(600);

#[async_trait]
impl Parts for S3 {
    async fn begin_parts(&self, key: &str) -> Result<String, BlobError> {
        create(self.bucket(), &self.bucket().object(key)?).await
    }

    async fn part_address(
        &self,
        key: &str,
        handle: &str,
        number: u32,
        size_bytes: u64,
        life: Duration,
    ) -> Result<Option<String>, BlobError> {
        let Some(public) = self.public() else { return Ok(None) };
        // If the bucket cannot list parts, they must go through this program, which then records them.
        if !self.lists_parts().await? {
            return Ok(None);
        }
        let life = PresigningConfig::expires_in(life).map_err(|error| failed("presign", &error.to_string()))?;
        let put = public.upload_part().bucket(&self.bucket().name).key(self.bucket().object(key)?);
        let put = put.upload_id(handle).part_number(i32::try_from(number).unwrap_or(i32::MAX));
        // Signs the length too, so that the bucket refuses another length.
        let put = put.content_length(i64::try_from(size_bytes).unwrap_or(i64::MAX));
        let request = put.presigned(life).await.map_err(|error| remote("presign", &error))?;
        Ok(Some(request.uri().to_owned()))
    }

    async fn begin_part(&self, key: &str, handle: &str, number: u32) -> Result<Box<dyn PartUpload>, BlobError> {
        let (bucket, object) = (self.bucket().clone(), self.bucket().object(key)?);
        Ok(Box::new(BucketPart { bucket, object, handle: handle.to_owned(), number, part: BytesMut::new() }))
    }

    async fn parts(&self, key: &str, handle: &str) -> Result<Option<BTreeMap<u32, Part>>, BlobError> {
        if !self.lists_parts().await? {
            return Ok(None);
        }
        let listed = self.listed(&self.bucket().object(key)?, handle).await;
        listed.map(Some).map_err(|error| remote("list parts", &error))
    }

    async fn join_parts(&self, key: &str, handle: &str, parts: &BTreeMap<u32, Part>) -> Result<(), BlobError> {
        let object = self.bucket().object(key)?;
        let joined = if parts.is_empty() { Err(BlobError::NotFound) } else { self.join(&object, handle, parts).await };
        match joined {
            // If the object exists, the parts were joined before.
            Err(BlobError::NotFound) => size_of(self.bucket(), &object).await.map(drop),
            joined => joined,
        }
    }

    async fn abort_parts(&self, key: &str, handle: &str) -> Result<(), BlobError> {
        abort(self.bucket(), &self.bucket().object(key)?, handle.to_owned()).await
    }
}

impl S3 {
    async fn join(&self, object: &str, handle: &str, parts: &BTreeMap<u32, Part>) -> Result<(), BlobError> {
        let size_bytes = parts.values().map(|part| part.size_bytes).sum();
        let parts = parts.iter().map(|(number, part)| {
            let number = i32::try_from(*number).unwrap_or(i32::MAX);
            CompletedPart::builder().part_number(number).set_e_tag(part.tag.clone()).build()
        });
        complete(self.bucket(), object, handle, parts.collect(), size_bytes).await
    }

    async fn listed(&self, object: &str, handle: &str) -> Result<BTreeMap<u32, Part>, SdkError<ListPartsError>> {
        let (mut found, mut after) = (BTreeMap::new(), None);
        loop {
            let list = self.bucket().client.list_parts().bucket(&self.bucket().name).key(object).upload_id(handle);
            let page = list.set_part_number_marker(after).send().await?;
            for part in page.parts() {
                let Some(number) = part.part_number().and_then(|number| u32::try_from(number).ok()) else { continue };
                let size_bytes = part.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                found.insert(number, Part { size_bytes, tag: part.e_tag().map(str::to_owned) });
            }
            after = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Returns whether the server can list the parts of an upload, with sizes and ETags. Some S3-compatible servers
    /// return an error or an empty list, so this tests it with a part of a few bytes. The result is kept for
    /// [`LISTING_VALIDITY`].
    async fn lists_parts(&self) -> Result<bool, BlobError> {
        let mut known = self.listing().lock().await;
        if let Some((lists, since)) = *known
            && since.elapsed() < LISTING_VALIDITY
        {
            return Ok(lists);
        }
        let object = self.check_object();
        let handle = create(self.bucket(), &object).await?;
        let tried = self.try_listing(&object, &handle).await;
        if let Err(error) = abort(self.bucket(), &object, handle).await {
            tracing::warn!(%error, "cannot abort a test upload; housekeeping will try again");
        }
        let lists = tried?;
        if !lists {
            tracing::warn!(
                "the S3 server cannot list the parts of an upload; parts go through this program and are recorded in \
                 the database"
            );
        }
        *known = Some((lists, Instant::now()));
        Ok(lists)
    }

    async fn try_listing(&self, object: &str, handle: &str) -> Result<bool, BlobError> {
        let send = self.bucket().client.upload_part().bucket(&self.bucket().name).key(object);
        let send = send.upload_id(handle).part_number(1).body(ByteStream::from_static(PROBE));
        let sent = send.send().await.map_err(|error| remote("upload part", &error))?;
        let bare = |tag: Option<&str>| tag.map(|tag| tag.trim_matches('"').to_owned());
        match self.listed(object, handle).await {
            Ok(parts) => Ok(parts.len() == 1
                && parts.get(&1).is_some_and(|part| {
                    part.size_bytes == PROBE.len() as u64
                        && part.tag.is_some()
                        && bare(part.tag.as_deref()) == bare(sent.e_tag())
                })),
            // The server has just accepted the part, so this refusal or unreadable answer concerns the listing.
            Err(SdkError::ServiceError(_) | SdkError::ResponseError(_)) => Ok(false),
            Err(error) => Err(remote("list parts", &error)),
        }
    }
}

/// A part that goes through this program. It is collected in memory and sent when it is complete.
struct BucketPart {
    bucket: Bucket,
    object: String,
    handle: String,
    number: u32,
    part: BytesMut,
}

#[async_trait]
impl PartUpload for BucketPart {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.part.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Part, BlobError> {
        let size_bytes = self.part.len() as u64;
        let send = self.bucket.client.upload_part().bucket(&self.bucket.name).key(&self.object);
        let send = send.upload_id(&self.handle).part_number(i32::try_from(self.number).unwrap_or(i32::MAX));
        let sent = send.body(ByteStream::from(self.part.split().freeze())).send().await;
        let sent = sent.map_err(|error| remote("upload part", &error))?;
        Ok(Part { size_bytes, tag: sent.e_tag })
    }
}
