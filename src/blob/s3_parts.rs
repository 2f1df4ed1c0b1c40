//! Parts as those of a multipart upload of the bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};

use super::parts::Parts;
use super::s3::{Bucket, S3, remote};
use super::s3_upload::{abort, create, failed};
use super::{BlobError, Upload};

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
        let life = PresigningConfig::expires_in(life).map_err(|error| failed("presign", &error.to_string()))?;
        let put = public.upload_part().bucket(&self.bucket().name).key(self.bucket().object(key)?);
        let put = put.upload_id(handle).part_number(i32::try_from(number).unwrap_or(i32::MAX));
        // Signed along: another length is refused by the bucket.
        let put = put.content_length(i64::try_from(size_bytes).unwrap_or(i64::MAX));
        let request = put.presigned(life).await.map_err(|error| remote("presign", &error))?;
        Ok(Some(request.uri().to_owned()))
    }

    async fn begin_part(&self, key: &str, handle: &str, number: u32) -> Result<Box<dyn Upload>, BlobError> {
        let (bucket, object) = (self.bucket().clone(), self.bucket().object(key)?);
        Ok(Box::new(PartUpload { bucket, object, handle: handle.to_owned(), number, part: BytesMut::new() }))
    }

    async fn parts(&self, key: &str, handle: &str) -> Result<BTreeMap<u32, u64>, BlobError> {
        let listed = self.listed(key, handle).await?;
        Ok(listed.into_iter().map(|(number, part)| (number, part.size_bytes)).collect())
    }

    async fn join_parts(&self, key: &str, handle: &str, count: u32) -> Result<(), BlobError> {
        let object = self.bucket().object(key)?;
        let joined = async {
            let listed = self.listed(key, handle).await?;
            let parts = listed.into_iter().filter(|(number, _)| *number <= count).map(|(number, part)| {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).build()
            });
            let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
            let complete = self.bucket().client.complete_multipart_upload().bucket(&self.bucket().name).key(&object);
            let done = complete.upload_id(handle).multipart_upload(parts).send().await;
            done.map(drop).map_err(|error| remote("complete upload", &error))
        };
        match joined.await {
            // Joined before, if the object is there.
            Err(BlobError::NotFound) => {
                let head = self.bucket().client.head_object().bucket(&self.bucket().name).key(&object).send().await;
                head.map(drop).map_err(|error| remote("head", &error))
            }
            joined => joined,
        }
    }

    async fn abort_parts(&self, key: &str, handle: &str) -> Result<(), BlobError> {
        abort(self.bucket(), &self.bucket().object(key)?, handle.to_owned()).await
    }
}

/// A part as the bucket lists it.
struct Listed {
    size_bytes: u64,
    e_tag: Option<String>,
}

impl S3 {
    async fn listed(&self, key: &str, handle: &str) -> Result<BTreeMap<u32, Listed>, BlobError> {
        let (object, mut found, mut after) = (self.bucket().object(key)?, BTreeMap::new(), None);
        loop {
            let list = self.bucket().client.list_parts().bucket(&self.bucket().name).key(&object).upload_id(handle);
            let page = list.set_part_number_marker(after).send().await.map_err(|error| remote("list parts", &error))?;
            for part in page.parts() {
                let Some(number) = part.part_number().and_then(|number| u32::try_from(number).ok()) else { continue };
                let size_bytes = part.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                found.insert(number, Listed { size_bytes, e_tag: part.e_tag().map(str::to_owned) });
            }
            after = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || after.is_none() {
                return Ok(found);
            }
        }
    }
}

/// A part that comes through this program: collected, and sent when it is whole.
struct PartUpload {
    bucket: Bucket,
    object: String,
    handle: String,
    number: u32,
    part: BytesMut,
}

#[async_trait]
impl Upload for PartUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.part.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, BlobError> {
        let written = self.part.len() as u64;
        let send = self.bucket.client.upload_part().bucket(&self.bucket.name).key(&self.object);
        let send = send.upload_id(&self.handle).part_number(i32::try_from(self.number).unwrap_or(i32::MAX));
        let sent = send.body(ByteStream::from(self.part.split().freeze())).send().await;
        sent.map_err(|error| remote("upload part", &error))?;
        Ok(written)
    }

    async fn abort(self: Box<Self>) -> Result<(), BlobError> {
        Ok(())
    }
}
