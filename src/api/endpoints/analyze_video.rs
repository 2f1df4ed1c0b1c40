//! `POST /analyze-video`: takes a video and queues its analysis.
//!
//! The video streams into the blob store: the first bytes are looked at before anything is written, the container is
//! opened before the job is queued, and what is refused leaves nothing. **202** gives `token`, `status` and `links`,
//! with `Location` and `Retry-After`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::analysis::{Detail, Language, Options, Sampling};
use crate::api::openapi::NATIVE;
use crate::api::upload::body::{BodyError, Incoming};
use crate::api::upload::encoding::announced;
use crate::api::upload::enqueue::{self, Wanted};
use crate::api::upload::error::AnalyzeError;
use crate::api::upload::form::{self, Form, Stored, Unknown};
use crate::api::view::{Links, POLL_AGAIN_S};
use crate::api::{Api, AppState, Caller, Problem, quota};
use crate::blob::Upload;
use crate::store::{Enqueued, Status};

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

/// What the form may hold, in any order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `form` reads")]
struct VideoForm {
    /// The file, MP4/MOV, Matroska/WebM or AVI; once. Its name is not looked at.
    #[schema(value_type = String, format = Binary, content_media_type = "video/mp4")]
    video: Vec<u8>,
    /// An address that gets the report; none, one or several fields of that name, at most 10.
    #[schema(format = Email)]
    email: Option<String>,
    /// Look at every n-th frame.
    #[schema(minimum = 1, maximum = 10_000)]
    sample_every: Option<u32>,
    /// Those very frames, or others near them that cost less to decode, at the times that the result says.
    sampling: Option<Sampling>,
    /// Read at most so many faces a frame.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
    /// Of report and mail; by default as the reader's browser asks.
    language: Option<Language>,
    /// Where a program wants to hear of the end of the analysis: an https:// address.
    #[schema(format = "uri", pattern = "^https://", max_length = 2000)]
    webhook_url: Option<String>,
    /// `off` leaves out the landmarks, so that eye contact is judged by the head alone.
    gaze: Option<Switch>,
    /// `off` leaves the sound track alone.
    speech: Option<Switch>,
    /// More of each sample than is usual. Excludes `gaze=off`.
    detail: Option<Detail>,
}

/// Whether a part is wanted.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `form` reads")]
pub(in crate::api) enum Switch {
    On,
    Off,
}

/// Send a video
///
/// Takes a video and queues its analysis. A field that is not known is refused by name, so that a misspelt option does not
/// pass for a taken one. With `Idempotency-Key`, a repetition within 24 hours gets the answer of the first; the same
/// key with other fields is refused. Refused requests are not remembered.
#[utoipa::path(post, path = "/analyze-video", operation_id = "analyze_video", tag = NATIVE,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 255 printable ASCII characters, such as a UUID",
               min_length = 1, max_length = 255, pattern = "^[ -~]+$"),
           ("detail" = Option<Detail>, Query, description = "This and every other option may stand here too; a field counts more")),
    request_body(content = VideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted,
                  headers(("location" = String, description = "Where the result will be"),
                          ("retry-after" = u64, description = "Seconds after which to look there"))),
              (status = 400, description = "The form or the Idempotency-Key cannot be read, or the upload broke off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 415, description = "Not multipart/form-data"),
              (status = 422, description = "No video that can be analyzed, or a field is wrong; `field` names it"),
              (status = 429, description = "Too many uploads at once; `Retry-After` says when to try again")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let token = accept(&api, &caller, request, Unknown::Refuse).await?;
    Ok(queued(token, Json(Accepted::new(&api.app, token))))
}

/// The answer to an accepted video, with this body.
pub(in crate::api) fn queued(token: Uuid, body: impl IntoResponse) -> Response {
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    let answer = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/results/{token}")) {
        answer.insert(header::LOCATION, location);
    }
    answer.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Takes a form with a video and queues its analysis; its token.
pub(in crate::api) async fn accept(
    api: &Api,
    caller: &Caller,
    request: Request,
    unknown: Unknown,
) -> Result<Uuid, AnalyzeError> {
    let http = &api.app.settings.http;
    let (head, body) = request.into_parts();
    let incoming = Incoming::new(&head.headers, body, http.max_upload.0, Duration::from_secs(http.idle_timeout_s));
    let taken = take(api, caller, &head, &incoming, unknown).await;
    taken.inspect_err(|error| refuse(error, &head.headers, incoming))
}

/// What is done about the rest of an upload that is refused.
pub(in crate::api) fn refuse(error: &AnalyzeError, headers: &HeaderMap, incoming: Incoming) {
    tracing::info!(reason = %error, "an upload was refused");
    // Who has stalled or left is not waited for.
    if !matches!(error, AnalyzeError::Body(BodyError::Idle(_) | BodyError::Left)) {
        incoming.drain(headers.contains_key(header::EXPECT));
    }
}

/// Refuses a body that says of itself that it is too large.
pub(in crate::api) fn check_announced(headers: &HeaderMap, limit: u64) -> Result<(), BodyError> {
    if announced(headers).is_some_and(|bytes| bytes > limit) { Err(BodyError::TooLarge { limit }) } else { Ok(()) }
}

async fn take(
    api: &Api,
    caller: &Caller,
    head: &Parts,
    incoming: &Incoming,
    unknown: Unknown,
) -> Result<Uuid, AnalyzeError> {
    let (app, http) = (&api.app, &api.app.settings.http);
    check_announced(&head.headers, http.max_upload.0)?;
    let repeated_as = enqueue::idempotency_key(&head.headers)?;
    let place = api.uploads.clone().try_acquire_owned().map_err(|_| AnalyzeError::Busy)?;
    let counted = quota::count(api, caller).await?;
    // Of its own, so that a listing of the storage gives no tokens away.
    let key = app.tokens.next().to_string();
    let shelf = Stored { blobs: app.blobs.as_ref(), key: &key };
    let video = &app.settings.video;
    let options = Options { sampling: video.sampling, ..Options::new(video.sample_every, video.max_faces) };
    let form = form::read(head, incoming, &shelf, options, unknown);
    let form = tokio::time::timeout(Duration::from_secs(http.max_upload_s), form).await;
    let form = form.map_err(|_| AnalyzeError::TooSlow { limit_s: http.max_upload_s })??;
    enqueue::check_mail(app, &form.recipients)?;
    // All of it has come. From here on the client's leaving changes nothing: the job is queued or the video deleted.
    let Form { video, options, recipients, webhook, digest } = form;
    if let Some(url) = &webhook {
        enqueue::check_webhook(app, url)?;
    }
    let wanted = Wanted { options, recipients, webhook, repeated_as, digest };
    let settled = tokio::spawn(settle(api.clone(), caller.clone(), video, wanted, key, place)).await;
    let (token, queued) = settled.map_err(|error| AnalyzeError::Unopened(error.to_string()))??;
    // A repetition was counted the first time.
    if queued == Enqueued::New {
        counted.keep();
    }
    Ok(token)
}

/// Makes the video appear, opens it, and queues its job; what is refused is deleted.
async fn settle(
    api: Api,
    caller: Caller,
    video: Box<dyn Upload>,
    wanted: Wanted,
    key: String,
    place: OwnedSemaphorePermit,
) -> Result<(Uuid, Enqueued), AnalyzeError> {
    let size_bytes = video.finish().await?;
    let queued = enqueue::enqueue(&api, &caller, &wanted, &key, None).await;
    drop(place);
    // A database that gave no answer may have taken the job all the same: then the video is needed, and else the sweep
    // finds that no job knows it.
    if !matches!(queued, Ok((_, Enqueued::New)) | Err(AnalyzeError::Store(_)))
        && let Err(error) = api.app.blobs.delete(&key).await
    {
        tracing::error!(%error, "a video that was not queued could not be deleted; the sweep tries again");
    }
    let (token, queued) = queued?;
    tracing::info!(size_bytes, ?queued, "an upload was taken");
    match queued {
        Enqueued::New | Enqueued::Before(_) => Ok((token, queued)),
        Enqueued::Reused => Err(AnalyzeError::IdempotencyKeyReused),
    }
}
