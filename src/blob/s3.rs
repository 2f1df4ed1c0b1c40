//! Stores blobs as objects of a bucket, on AWS or another S3-compatible server.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, Credentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use jiff::Timestamp;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::bucket::{Bucket, remote};
use super::s3_upload::S3Upload;
use super::{BlobError, BlobInfo, BlobStore, IDENTITY, PROBE, Upload, identity_text, parse_identity};
use crate::clock::Clock;
use crate::config;
use crate::media::Source;

/// A store in a bucket. Credentials come from the settings or from the default AWS chain.
pub struct S3 {
    bucket: Bucket,
    /// Signs addresses for clients; `None`: clients send parts through this program.
    public: Option<Client>,
    presign_ttl: Duration,
    clock: Arc<dyn Clock>,
    serial: AtomicU64,
    /// Whether the server can list the parts of an upload, and when this was tested.
    listing: Mutex<Option<(bool, Instant)>>,
}

impl S3 {
    /// Sets up the client. It sends no request; [`BlobStore::check`] does.
    pub async fn open(settings: &config::S3, clock: Arc<dyn Clock>) -> Self {
        let builder = client_config(settings).await;
        let public = settings.direct_uploads.then(|| {
            let builder = builder.clone();
            let own = &settings.public_endpoint;
            Client::from_conf(if own.is_empty() { builder } else { builder.endpoint_url(own) }.build())
        });
        let prefix = match settings.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let bucket = Bucket { client: Client::from_conf(builder.build()), name: settings.bucket.clone(), prefix };
        Self {
            bucket,
            public,
            presign_ttl: Duration::from_secs(settings.presign_ttl_s),
            clock,
            serial: AtomicU64::new(0),
            listing: Mutex::default(),
        }
    }

    pub(super) const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(super) const fn listing(&self) -> &Mutex<Option<(bool, Instant)>> {
        &self.listing
    }

    /// Returns a name for a test object. It is not a valid key, so listings ignore the object if its deletion fails.
    pub(super) fn check_object(&self) -> String {
        let (now, serial) = (self.clock.now().as_nanosecond(), self.serial.fetch_add(1, Ordering::Relaxed));
        format!("{}.check-{now}-{}-{serial}", self.bucket.prefix, std::process::id())
    }

    pub(super) const fn public(&self) -> Option<&Client> {
        self.public.as_ref()
    }
}

/// The configuration of a client: endpoint, region, credentials and timeouts.
pub(super) async fn client_config(settings: &config::S3) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(60))
        // Enough for one part of an upload over a slow connection. It does not include the body of a download.
        .operation_attempt_timeout(Duration::from_secs(120))
        .build();
    let mut chain = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .http_client(http_client())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(4));
    if !settings.access_key.is_empty() {
        let secret = settings.secret_key.expose();
        chain =
            chain.credentials_provider(Credentials::new(&settings.access_key, secret, None, None, "visage settings"));
    }
    let mut builder = Builder::from(&chain.load().await)
        .force_path_style(settings.path_style)
        // Many S3-compatible servers refuse the newer checksum trailers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if !settings.endpoint.is_empty() {
        builder = builder.endpoint_url(&settings.endpoint);
    }
    builder
}

/// Builds the SDK's HTTP client, with the proxies of the environment and with TLS by ring.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

#[async_trait]
impl BlobStore for S3 {
    async fn begin(&self, key: &str) -> Result<Box<dyn Upload>, BlobError> {
        Ok(Box::new(S3Upload::new(self.bucket.clone(), self.bucket.object(key)?)))
    }

    async fn source(&self, key: &str) -> Result<Source, BlobError> {
        let life = PresigningConfig::expires_in(self.presign_ttl)
            .map_err(|error| BlobError::Remote { action: "presign", reason: error.to_string() })?;
        let get = self.bucket.client.get_object().bucket(&self.bucket.name).key(self.bucket.object(key)?);
        let request = get.presigned(life).await.map_err(|error| remote("presign", &error))?;
        Ok(Source::Url(request.uri().to_owned()))
    }

    async fn fetch(&self, key: &str, to: &Path) -> Result<u64, BlobError> {
        let get = self.bucket.client.get_object().bucket(&self.bucket.name).key(self.bucket.object(key)?);
        let mut body = get.send().await.map_err(|error| remote("get", &error))?.body.into_async_read();
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to).await?;
        let copied = tokio::io::copy(&mut body, &mut file).await?;
        file.flush().await?;
        Ok(copied)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let object = self.bucket.object(key)?;
        let sent = self.bucket.client.delete_object().bucket(&self.bucket.name).key(object).send().await;
        match sent.map_err(|error| remote("delete", &error)) {
            Ok(_) | Err(BlobError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list_older(&self, before: Timestamp, limit: usize) -> Result<Vec<BlobInfo>, BlobError> {
        let list = self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix(&self.bucket.prefix);
        let (mut pages, mut found) = (list.into_paginator().send(), Vec::new());
        while let Some(page) = pages.next().await {
            for object in page.map_err(|error| remote("list", &error))?.contents() {
                let key = object.key().and_then(|key| self.bucket.key(key));
                let (Some(key), Some(modified)) = (key, object.last_modified().and_then(timestamp)) else { continue };
                if modified < before {
                    let size_bytes = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                    found.push(BlobInfo { key, size_bytes, modified });
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    async fn abort_abandoned(&self, before: Timestamp, kept: &HashSet<String>) -> Result<usize, BlobError> {
        let mut ended = 0;
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let list = self.bucket.client.list_multipart_uploads().bucket(&self.bucket.name);
            let list = list.prefix(&self.bucket.prefix).set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let page = match list.send().await {
                // The server does not support this call. There a lifecycle rule of the bucket must remove abandoned
                // uploads.
                Err(error) if error.code() == Some("NotImplemented") => return Ok(ended),
                page => page.map_err(|error| remote("list uploads", &error))?,
            };
            for upload in page.uploads() {
                let (Some(object), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                let begun = upload.initiated().and_then(timestamp);
                if self.bucket.key(object).is_none_or(|key| kept.contains(&key))
                    || begun.is_none_or(|begun| begun >= before)
                {
                    continue;
                }
                let abort = self.bucket.client.abort_multipart_upload().bucket(&self.bucket.name);
                match abort.key(object).upload_id(id).send().await.map_err(|error| remote("abort upload", &error)) {
                    Ok(_) => ended += 1,
                    Err(BlobError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
                return Ok(ended);
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            id_marker = page.next_upload_id_marker().map(str::to_owned);
        }
    }

    async fn exists(&self, key: &str) -> Result<bool, BlobError> {
        let head = self.bucket.client.head_object().bucket(&self.bucket.name).key(self.bucket.object(key)?);
        match head.send().await.map_err(|error| remote("head", &error)) {
            Ok(_) => Ok(true),
            Err(BlobError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn identity(&self) -> Result<Option<Uuid>, BlobError> {
        let object = format!("{}{IDENTITY}", self.bucket.prefix);
        let got = self.bucket.client.get_object().bucket(&self.bucket.name).key(object).send().await;
        let body = match got.map_err(|error| remote("get identity", &error)) {
            Ok(got) => got.body.collect().await,
            Err(BlobError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = body.map_err(|error| BlobError::Remote { action: "get identity", reason: error.to_string() })?;
        parse_identity(&String::from_utf8_lossy(&bytes.into_bytes())).map(Some)
    }

    async fn set_identity(&self, id: Uuid) -> Result<(), BlobError> {
        let object = format!("{}{IDENTITY}", self.bucket.prefix);
        let put = self.bucket.client.put_object().bucket(&self.bucket.name).key(object);
        let sent = put.body(ByteStream::from(identity_text(id).into_bytes())).send().await;
        sent.map(drop).map_err(|error| remote("put identity", &error))
    }

    async fn check(&self) -> Result<(), BlobError> {
        let object = self.check_object();
        let (client, name) = (&self.bucket.client, &self.bucket.name);
        let put = client.put_object().bucket(name).key(&object).body(ByteStream::from_static(PROBE));
        put.send().await.map_err(|error| remote("put", &error))?;
        let got = client.get_object().bucket(name).key(&object).send().await.map_err(|error| remote("get", &error))?;
        let bytes = got.body.collect().await.map(aws_sdk_s3::primitives::AggregatedBytes::into_bytes);
        let deleted = client.delete_object().bucket(name).key(&object).send().await;
        deleted.map_err(|error| remote("delete", &error))?;
        match bytes {
            Ok(bytes) if bytes == PROBE => Ok(()),
            Ok(_) => Err(BlobError::Remote {
                action: "get",
                reason: "the object read back differs from the object written".to_owned(),
            }),
            Err(error) => Err(BlobError::Remote { action: "get", reason: error.to_string() }),
        }
    }
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.secs()).ok()
}
