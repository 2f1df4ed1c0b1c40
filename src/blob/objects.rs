//! Objects of buckets that are not visage's own. Clients name them by address, and the settings list the buckets. They
//! are only read, except that an operator can have them deleted after their analysis.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::s3;
use crate::config;
use crate::media::Source;

/// An error of a bucket. Its text is for logs.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The server answered with this status, such as 403 or 404.
    #[error("{action}: status {status} ({reason})")]
    Status { action: &'static str, status: u16, reason: String },
    /// The server did not answer.
    #[error("{action}: {reason}")]
    Unavailable { action: &'static str, reason: String },
    /// The copy cannot be written.
    #[error("copy: {0}")]
    Local(#[from] std::io::Error),
}

/// Reads objects with the endpoint, the region and the key of `[storage.s3]`.
pub struct Objects {
    client: Client,
    presign_ttl: Duration,
}

impl Objects {
    /// Sets up the client. It sends no request.
    pub async fn open(settings: &config::S3) -> Self {
        // The future of the chain of credentials is large.
        let config = Box::pin(s3::client_config(settings)).await;
        let client = Client::from_conf(config.build());
        Self { client, presign_ttl: Duration::from_secs(settings.presign_ttl_s) }
    }

    /// Returns the size of an object in bytes.
    pub async fn size(&self, bucket: &str, key: &str) -> Result<u64, ObjectError> {
        let head = self.client.head_object().bucket(bucket).key(key).send().await;
        let head = head.map_err(|error| failed("head", &error))?;
        Ok(head.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default())
    }

    /// Returns the source from which the decoder reads an object.
    pub async fn source(&self, bucket: &str, key: &str) -> Result<Source, ObjectError> {
        let unsigned = |reason: String| ObjectError::Unavailable { action: "presign", reason };
        let life = PresigningConfig::expires_in(self.presign_ttl).map_err(|error| unsigned(error.to_string()))?;
        let request = self.client.get_object().bucket(bucket).key(key).presigned(life).await;
        Ok(Source::Url(request.map_err(|error| failed("presign", &error))?.uri().to_owned()))
    }

    /// Copies an object to a file, as a stream.
    pub async fn fetch(&self, bucket: &str, key: &str, to: &Path) -> Result<(), ObjectError> {
        let got = self.client.get_object().bucket(bucket).key(key).send().await;
        let mut body = got.map_err(|error| failed("get", &error))?.body;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to).await?;
        while let Some(chunk) = body.next().await {
            let broken =
                |error: &dyn std::fmt::Display| ObjectError::Unavailable { action: "get", reason: error.to_string() };
            file.write_all(&chunk.map_err(|error| broken(&error))?).await?;
        }
        file.flush().await?;
        Ok(())
    }

    /// Deletes an object. Succeeds if there is none.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), ObjectError> {
        let deleted = self.client.delete_object().bucket(bucket).key(key).send().await;
        deleted.map(drop).map_err(|error| failed("delete", &error))
    }
}

fn failed<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> ObjectError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(status) if status >= 300 => {
            let reason = error.code().unwrap_or("no code").to_owned();
            ObjectError::Status { action, status, reason }
        }
        _ => ObjectError::Unavailable { action, reason: DisplayErrorContext(error).to_string() },
    }
}
