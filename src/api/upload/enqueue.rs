//! Queues the analysis of a stored video.

use std::time::Duration;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use tracing::Instrument;
use uuid::Uuid;

use super::error::{IdempotencyKeyError, OptionError, RecipientError, ServiceError, UploadError, VideoError};
use super::form;
use crate::analysis::{Notice, Options};
use crate::api::limits::Client;
use crate::api::quota::{CountedMails, CountedVideos};
use crate::api::{Api, AppState, Caller};
use crate::config::{MailTransport, Secret};
use crate::confirmation;
use crate::fault::Fault;
use crate::media::{Probe, ProbeError, Source};
use crate::report::webhook::check_target;
use crate::sources::{AddressRules, VideoAddress};
use crate::store::{Enqueued, JobVideo, NewJob, Origin, Priority, Repeatable, Scope};
use crate::telemetry::step;
use crate::telemetry::trace::TraceContext;

/// Longest time to open a container. Opening usually takes a moment; if it takes longer than this, the storage hangs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The analysis that a request asks for.
pub struct AnalysisRequest {
    pub client: Client,
    pub options: Options,
    pub notice: Option<Notice>,
    pub priority: Priority,
    pub recipients: Vec<String>,
    pub webhook: Option<String>,
    /// SHA-256 of the `Idempotency-Key`, in hexadecimal.
    pub idempotency_key_sha256: Option<String>,
    /// SHA-256 of the content of the request, in hexadecimal.
    pub content_sha256: String,
    /// The name of the client's file.
    pub file_name: Option<String>,
    pub request_id: Option<String>,
}

/// Opens the video with this storage key and of this size, and queues its analysis. Returns the token, and whether the
/// job is new. `upload` is the id of an upload in parts. If the job is not queued, the caller deletes the video.
pub async fn enqueue(
    api: &Api,
    caller: &Caller,
    analysis: &AnalysisRequest,
    key: &str,
    size_bytes: u64,
    upload: Option<Uuid>,
) -> Result<(Uuid, Enqueued), UploadError> {
    let probe = open(api, key).instrument(step!("probe video")).await?;
    let cost = probe.and_then(|probe| analysis.options.cost(probe.duration_s, probe.fps));
    // Rejects a video that was written to the wrong storage, such as the mount point of a disk that is not mounted.
    api.app.identity.verify(api.app.blobs.as_ref()).await?;
    let video = Video { place: JobVideo::Stored(key.to_owned()), size_bytes, cost };
    queue(api, caller, analysis, video, upload).instrument(step!("enqueue")).await
}

/// Queues the analysis of the video at an address, and returns the token. A worker fetches the video and checks it then.
pub async fn enqueue_address(
    api: Api,
    caller: Caller,
    mut analysis: AnalysisRequest,
    address: VideoAddress,
    (counted, counted_mails): (CountedVideos, CountedMails),
) -> Result<Uuid, UploadError> {
    let place = place_of(address, &mut analysis);
    let video = Video { place, size_bytes: 0, cost: None };
    let (token, queued) = queue(&api, &caller, &analysis, video, None).instrument(step!("enqueue")).await?;
    match queued {
        Enqueued::New => {
            counted.keep();
            counted_mails.keep();
        }
        Enqueued::Before(_) => {}
        Enqueued::Reused => return Err(IdempotencyKeyError::Reused.into()),
    }
    tracing::info!(is_new = queued == Enqueued::New, "the address of a video was accepted");
    Ok(token)
}

/// The job of the analysis of the video at an address.
pub async fn job_of_address(
    api: &Api,
    caller: &Caller,
    analysis: &mut AnalysisRequest,
    address: VideoAddress,
) -> Result<NewJob, UploadError> {
    let place = place_of(address, analysis);
    new_job(api, caller, analysis, Video { place, size_bytes: 0, cost: None }).await
}

/// The place of the video at an address. An object names the file if the request does not.
fn place_of(address: VideoAddress, analysis: &mut AnalysisRequest) -> JobVideo {
    match address {
        VideoAddress::Web(url) => JobVideo::Remote(Secret::new(url)),
        VideoAddress::Object(object) => {
            let named = || form::plain_file_name(object.file_name());
            analysis.file_name = analysis.file_name.take().or_else(named);
            JobVideo::Object(object.to_string())
        }
    }
}

/// The video of a new job.
pub struct Video {
    pub place: JobVideo,
    pub size_bytes: u64,
    /// Expected cost of the analysis; `None` if unknown.
    pub cost: Option<u64>,
}

async fn queue(
    api: &Api,
    caller: &Caller,
    analysis: &AnalysisRequest,
    video: Video,
    upload: Option<Uuid>,
) -> Result<(Uuid, Enqueued), UploadError> {
    let (store, now) = (&api.app.store, api.app.clock.now());
    let job = new_job(api, caller, analysis, video).await?;
    let repeatable = analysis
        .idempotency_key_sha256
        .clone()
        .map(|name_sha256| Repeatable { name_sha256, body_sha256: analysis.content_sha256.clone() });
    let queued = match upload {
        None => store.enqueue_once(caller.owner(), repeatable.as_ref(), &job, now).await?,
        Some(upload) => store.enqueue_upload(caller.owner(), repeatable.as_ref(), &job, upload, now).await?,
    };
    Ok(match queued {
        Enqueued::Before(before) => (before, queued),
        Enqueued::New | Enqueued::Reused => (job.token, queued),
    })
}

/// Makes the job of a request, with a new token. The current span becomes the parent of its runs.
pub async fn new_job(
    api: &Api,
    caller: &Caller,
    analysis: &AnalysisRequest,
    video: Video,
) -> Result<NewJob, UploadError> {
    let store = &api.app.store;
    let consent = match analysis.recipients.first() {
        Some(recipient) if needs_consent(&api.app, caller) => {
            Some(confirmation::pseudonym(store.secret().await?, recipient))
        }
        _ => None,
    };
    Ok(NewJob {
        token: api.app.tokens.next(),
        video: video.place,
        options: analysis.options,
        recipients: analysis.recipients.clone(),
        webhook: analysis.webhook.clone(),
        origin: Origin {
            client: Some(analysis.client.stored(store).await?),
            size_bytes: video.size_bytes,
            request_id: analysis.request_id.clone(),
            trace: TraceContext::current(),
            cost: video.cost,
            consent,
            file_name: analysis.file_name.clone().filter(|_| api.app.settings.retention.file_names),
        },
        notice: analysis.notice.clone(),
        priority: analysis.priority,
    })
}

/// Checks the address of a video, without connecting to it.
pub fn check_address(app: &AppState, address: &str) -> Result<VideoAddress, UploadError> {
    let rules = AddressRules::new(&app.settings.sources);
    let rules = rules.map_err(|error| ServiceError::Unopened(error.to_string()))?;
    Ok(rules.parse(address)?)
}

/// Rejects an address to which no webhook can be sent.
pub async fn check_webhook(app: &AppState, url: &str) -> Result<(), UploadError> {
    let settings = &app.settings.webhooks;
    if !settings.is_on() {
        return Err(RecipientError::WebhooksOff.into());
    }
    check_target(url, settings.allow_private).await.map_err(RecipientError::BadWebhook)?;
    Ok(())
}

/// Rejects the priority `high` if the caller has no key that allows it.
pub fn check_priority(caller: &Caller, priority: Priority) -> Result<(), OptionError> {
    match caller {
        _ if priority != Priority::High => Ok(()),
        Caller::Key(key) if key.allows(Scope::Urgent) => Ok(()),
        _ => Err(OptionError::NotUrgent { has_key: caller.owner().is_some() }),
    }
}

/// Rejects mail addresses if the service sends no mail, or if a caller without a key gives more than one.
pub fn check_mail(app: &AppState, caller: &Caller, recipients: &[String]) -> Result<(), UploadError> {
    if app.settings.mail.transport == MailTransport::None && !recipients.is_empty() {
        return Err(RecipientError::MailOff.into());
    }
    if needs_consent(app, caller) && recipients.len() > 1 {
        return Err(RecipientError::OneWithoutKey.into());
    }
    Ok(())
}

/// Whether the recipient of the mails must confirm.
fn needs_consent(app: &AppState, caller: &Caller) -> bool {
    app.settings.mails_need_consent() && caller.owner().is_none()
}

/// SHA-256 of the header `Idempotency-Key`, in hexadecimal; `None` without the header.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, UploadError> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(key) = given.next() else { return Ok(None) };
    let text = key.to_str().unwrap_or_default();
    let is_text = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if given.next().is_some() || !is_text || !(1..=255).contains(&text.len()) {
        return Err(IdempotencyKeyError::Invalid.into());
    }
    Ok(Some(hex::encode(Sha256::digest(text.as_bytes()))))
}

/// Checks that the container can be opened and is within the limits, and returns its properties. If the decoder cannot
/// read from the address of the bucket, it returns `None`, and the worker checks the video after it has copied it.
async fn open(api: &Api, key: &str) -> Result<Option<Probe>, UploadError> {
    let source = api.app.blobs.source(key).await?;
    let is_remote = matches!(source, Source::Url(_));
    let _permit = api.probes.acquire().await.map_err(|error| ServiceError::Unopened(error.to_string()))?;
    let (decoders, span) = (api.app.decoders.clone(), tracing::Span::current());
    let probed = tokio::task::spawn_blocking(move || span.in_scope(|| decoders.probe(&source)));
    match tokio::time::timeout(PROBE_TIMEOUT, probed).await {
        Ok(Ok(Ok(probe))) => Ok(Some(probe)),
        Ok(Ok(Err(ProbeError::Unreadable(reason)))) if is_remote => {
            tracing::warn!(reason, "an uploaded video cannot be streamed from storage; the worker copies it first");
            Ok(None)
        }
        Ok(Ok(Err(error))) if matches!(error.fault(), Fault::Ours(_)) => {
            Err(ServiceError::Unopened(error.to_string()).into())
        }
        Ok(Ok(Err(error))) => Err(VideoError::Unusable(error).into()),
        Ok(Err(error)) => Err(ServiceError::Unopened(error.to_string()).into()),
        Err(_) => Err(ServiceError::Unopened(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())).into()),
    }
}
