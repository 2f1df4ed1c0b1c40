//! Receives videos, in the same way for every call that takes one: reads the body and the form, streams the video to
//! storage, rejects bad requests, and queues the analysis.

pub mod body;
pub mod encoding;
pub mod enqueue;
pub mod error;
pub mod form;
pub mod members;
pub mod parts;
pub mod problems;

use std::fmt::Display;
use std::time::Duration;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;
use tracing::Instrument;
use utoipa::ToSchema;
use uuid::Uuid;

use super::limits::Client;
use super::outer::RequestId;
use super::upload_permits::{NoPermit, Progress, UploadPermit};
use super::view::{Links, POLL_AGAIN_S};
use super::{Api, AppState, Caller, quota};
use crate::analysis::Options;
use crate::blob::Upload;
use crate::store::{Enqueued, Status};
use crate::telemetry::step;
use body::{IncomingBody, Pace};
use encoding::announced;
use enqueue::AnalysisRequest;
use error::{BodyError, IdempotencyKeyError, ServiceError, UploadError};
use form::{BlobSink, Form, FormVideo, UnknownFields};

/// The answer to an accepted video.
#[derive(Serialize, ToSchema)]
pub struct Accepted {
    token: Uuid,
    status: Status,
    links: Links,
}

impl Accepted {
    pub fn new(app: &AppState, token: Uuid) -> Self {
        Self { token, status: Status::Queued, links: Links::new(app, token) }
    }
}

/// The answer 202 to an accepted video, with this body.
pub fn accepted(token: Uuid, body: impl IntoResponse) -> Response {
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/results/{token}")) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Reads a form with a video and queues the analysis. Returns the token of the analysis.
pub async fn accept(api: &Api, caller: &Caller, request: Request, unknown: UnknownFields) -> Result<Uuid, UploadError> {
    let http = &api.app.settings.http;
    let (head, body) = request.into_parts();
    let incoming = IncomingBody::new(&head.headers, body, http.max_upload.0, Pace::of(http));
    let received = receive(api, caller, &head, &incoming, unknown).await;
    received.inspect_err(|error| reject(error, &head.headers, incoming))
}

/// Logs why a request with a body is answered with an error, and drains the rest of the body.
pub fn reject(reason: &impl Display, headers: &HeaderMap, incoming: IncomingBody) {
    tracing::info!(%reason, "an upload was not accepted");
    incoming.drain(headers.contains_key(header::EXPECT));
}

/// Takes a permit for an upload of this client. `is_new`: its bytes are not in the storage yet.
pub fn take_permit(
    api: &Api,
    client: &Client,
    headers: &HeaderMap,
    incoming: &IncomingBody,
    is_new: bool,
) -> Result<UploadPermit, NoPermit> {
    let limit = Duration::from_secs(api.app.settings.http.max_upload_s);
    let progress = Progress { received: incoming.received(), announced: announced(headers), limit, is_new };
    api.uploads.take(client, progress, Instant::now())
}

/// Rejects a body whose `Content-Length` exceeds the limit.
pub fn check_announced(headers: &HeaderMap, limit: u64) -> Result<(), BodyError> {
    if announced(headers).is_some_and(|bytes| bytes > limit) { Err(BodyError::TooLarge { limit }) } else { Ok(()) }
}

async fn receive(
    api: &Api,
    caller: &Caller,
    head: &Parts,
    incoming: &IncomingBody,
    unknown: UnknownFields,
) -> Result<Uuid, UploadError> {
    let (app, http) = (&api.app, &api.app.settings.http);
    check_announced(&head.headers, http.max_upload.0)?;
    let idempotency_key_sha256 = enqueue::idempotency_key(&head.headers)?;
    let client = Client::of(caller, &head.extensions);
    let permit = take_permit(api, &client, &head.headers, incoming, true)?;
    quota::check_storage(api, &client, 0).await?;
    let counted = quota::count(api, caller).await?;
    // The key differs from the token, so that a listing of the storage reveals no tokens.
    let key = app.tokens.next().to_string();
    let sink = BlobSink { blobs: app.blobs.as_ref(), key: &key };
    let video = &app.settings.video;
    let options = Options { sampling: video.sampling, ..Options::new(video.sample_every, video.max_faces) };
    let form = form::read(head, incoming, &sink, video, options, unknown).instrument(step!("receive form"));
    let form = tokio::time::timeout(Duration::from_secs(http.max_upload_s), form);
    let form = tokio::select! {
        form = form => form.map_err(|_| BodyError::TooSlow { limit_s: http.max_upload_s })??,
        full = quota::watch_storage(api, &client) => return Err(full),
    };
    let notice = form.notice.record(app, form.options.language)?;
    enqueue::check_priority(caller, form.priority)?;
    enqueue::check_mail(app, caller, &form.recipients)?;
    let counted_mails = quota::count_mails(api, caller, &client, &form.recipients).await?;
    let Form { video, options, priority, recipients, webhook, content_sha256, file_name, .. } = form;
    if let Some(url) = &webhook {
        enqueue::check_webhook(app, url).await?;
    }
    let analysis = AnalysisRequest {
        client,
        options,
        notice,
        priority,
        recipients,
        webhook,
        idempotency_key_sha256,
        content_sha256,
        file_name,
        request_id: RequestId::of(&head.extensions),
    };
    let video = match video {
        FormVideo::File(upload) => upload,
        FormVideo::Address(address) => {
            let address = enqueue::check_address(app, &address)?;
            let counted = (counted, counted_mails);
            return in_task(enqueue::enqueue_address(api.clone(), caller.clone(), analysis, address, counted)).await;
        }
    };
    // The whole body has arrived, and the task queues the job or deletes the video.
    let finishing = finish_and_enqueue(api.clone(), caller.clone(), video, analysis, key, permit);
    let (token, queued) = in_task(finishing).await?;
    // A repeated request was counted when it was sent first.
    if queued == Enqueued::New {
        counted.keep();
        counted_mails.keep();
    }
    Ok(token)
}

/// Runs work in a task of its own, to its end even if the client leaves now.
pub async fn in_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, UploadError>> + Send + 'static,
) -> Result<T, UploadError> {
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|error| Err(ServiceError::Unopened(error.to_string()).into()))
}

/// Finishes the stored video, opens it and queues its job. Deletes the video if it is rejected.
async fn finish_and_enqueue(
    api: Api,
    caller: Caller,
    video: Box<dyn Upload>,
    analysis: AnalysisRequest,
    key: String,
    permit: UploadPermit,
) -> Result<(Uuid, Enqueued), UploadError> {
    let size_bytes = video.finish().instrument(step!("finish storing")).await?;
    let queued = async {
        quota::check_storage(&api, &analysis.client, 0).await?;
        enqueue::enqueue(&api, &caller, &analysis, &key, size_bytes, None).await
    };
    let queued = queued.await;
    drop(permit);
    // If the database gave no answer, it may still have stored the job, which then needs the video. If it did not, the
    // sweep deletes the video, because no job refers to it.
    if !matches!(queued, Ok((_, Enqueued::New)) | Err(UploadError::Service(ServiceError::Store(_))))
        && let Err(error) = api.app.blobs.delete(&key).await
    {
        tracing::error!(%error, "a video that was not queued could not be deleted; the sweep tries again");
    }
    let (token, queued) = queued?;
    tracing::info!(size_bytes, ?queued, "an upload was accepted");
    match queued {
        Enqueued::New | Enqueued::Before(_) => Ok((token, queued)),
        Enqueued::Reused => Err(IdempotencyKeyError::Reused.into()),
    }
}
