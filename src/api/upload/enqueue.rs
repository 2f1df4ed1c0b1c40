//! A video that has come, however it came, becomes a job.

use std::time::Duration;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::error::{IdempotencyKeyError, RecipientError, ServiceError, UploadError, VideoError};
use super::form;
use crate::analysis::Options;
use crate::api::{Api, AppState, Caller};
use crate::config::MailTransport;
use crate::media::{self, ProbeError, Source};
use crate::report::webhook::check_url;
use crate::store::{Enqueued, NewJob, Repeatable};

/// Opening a container takes a moment; one that takes longer than this hangs on its storage.
const PROBE: Duration = Duration::from_secs(60);

/// What a request wants beside the video.
pub struct Wanted {
    pub options: Options,
    pub recipients: Vec<String>,
    pub webhook: Option<String>,
    /// The hash of its `Idempotency-Key`.
    pub repeated_as: Option<String>,
    /// SHA-256 of what it holds, in hexadecimal.
    pub digest: String,
}

/// Opens the video of that key and queues its job; its token, and what became of it. `upload`: the one that came in
/// parts. A video that is not queued is left to the caller.
pub async fn enqueue(
    api: &Api,
    caller: &Caller,
    wanted: &Wanted,
    key: &str,
    upload: Option<Uuid>,
) -> Result<(Uuid, Enqueued), UploadError> {
    open(api, key).await?;
    // A video that went into another folder, such as the place of a disk that is not mounted, must not be taken.
    api.app.identity.verify(api.app.blobs.as_ref()).await?;
    let (store, token, now) = (&api.app.store, api.app.tokens.next(), api.app.clock.now());
    let Wanted { options, recipients, webhook, repeated_as, digest } = wanted;
    let job = NewJob {
        token,
        video_key: key.to_owned(),
        options: *options,
        recipients: recipients.clone(),
        webhook: webhook.clone(),
    };
    let repeatable = repeated_as.clone().map(|name_sha256| Repeatable { name_sha256, body_sha256: digest.clone() });
    let queued = match upload {
        None => store.enqueue_once(caller.owner(), repeatable.as_ref(), &job, now).await?,
        Some(upload) => store.enqueue_upload(caller.owner(), repeatable.as_ref(), &job, upload, now).await?,
    };
    Ok(match queued {
        Enqueued::Before(before) => (before, queued),
        Enqueued::New | Enqueued::Reused => (token, queued),
    })
}

/// Refuses addresses to which no webhooks go.
pub fn check_webhook(app: &AppState, url: &str) -> Result<(), UploadError> {
    let settings = &app.settings.webhooks;
    if settings.secrets().next().is_none() {
        return Err(RecipientError::WebhooksOff.into());
    }
    check_url(url, settings.allow_private).map_err(RecipientError::BadWebhook)?;
    Ok(())
}

/// Refuses addresses where no mail is sent.
pub fn check_mail(app: &AppState, recipients: &[String]) -> Result<(), UploadError> {
    let off = app.settings.mail.transport == MailTransport::None && !recipients.is_empty();
    if off { Err(RecipientError::MailOff.into()) } else { Ok(()) }
}

/// The hash of the header `Idempotency-Key`, if there is one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, UploadError> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(key) = given.next() else { return Ok(None) };
    let text = key.to_str().unwrap_or_default();
    if given.next().is_some() || !(1..=255).contains(&text.len()) {
        return Err(IdempotencyKeyError::Invalid.into());
    }
    Ok(Some(form::hex(&Sha256::digest(text.as_bytes()))))
}

/// Whether the container can be opened and is within the limits. A bucket whose address the decoder cannot read from
/// leaves that to the worker, which copies the video first.
async fn open(api: &Api, key: &str) -> Result<(), UploadError> {
    let source = api.app.blobs.source(key).await?;
    let is_remote = matches!(source, Source::Url(_));
    let _turn = api.probes.acquire().await.map_err(|error| ServiceError::Unopened(error.to_string()))?;
    let limits = api.app.settings.video.clone();
    let probed = tokio::task::spawn_blocking(move || media::probe(&source, &limits));
    match tokio::time::timeout(PROBE, probed).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(ProbeError::Unreadable(reason)))) if is_remote => {
            tracing::warn!(reason, "an upload cannot be streamed from storage; the worker will look into it");
            Ok(())
        }
        Ok(Ok(Err(ProbeError::Unreadable(reason)))) => Err(ServiceError::Unopened(reason).into()),
        Ok(Ok(Err(refusal))) => Err(VideoError::Unusable(refusal).into()),
        Ok(Err(error)) => Err(ServiceError::Unopened(error.to_string()).into()),
        Err(_) => Err(ServiceError::Unopened(format!("no answer within {} s", PROBE.as_secs())).into()),
    }
}
