//! `POST /v1/uploads`: a video in parts, which may be sent again, in any order, and after a broken line; `GET` and `DELETE` of
//! `/v1/uploads/{upload}`, and `PUT` of its parts.
//!
//! A bucket takes the parts straight from the client, by addresses that open for one part each; a folder takes them here,
//! under an address that is as unguessable as the upload's id and asks for no key either. So a client does the same in
//! both cases: PUT the bytes of a part to its `url`, with no header of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use uuid::Uuid;

use super::analyze_video;
use crate::api::json_body;
use crate::api::openapi::NATIVE;
use crate::api::upload::body::Incoming;
use crate::api::upload::encoding::announced;
use crate::api::upload::error::{AnalyzeError, Carrier};
use crate::api::{Api, Caller, Problem};
use crate::blob::{MAX_PARTS, PART, Part};
use crate::config::ByteSize;
use crate::store::{PartedUpload, SentPart};

/// An upload that is not started within this time is thrown away; the housekeeping ends what the storage has of it by
/// then.
const LIFE_H: i64 = 24;
/// Uploads that a caller may have begun at the same time.
const MOST_OPEN: u64 = 100;

/// What is to come.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// Of the whole video; at most `http.max_upload`.
    #[serde(deserialize_with = "json_body::whole_number")]
    #[schema(schema_with = size_bytes)]
    size_bytes: u64,
}

fn size_bytes() -> RefOr<Schema> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    json_body::written_schema(number, "^[1-9][0-9]{0,8}$", "Of the whole video; at most `http.max_upload`.").into()
}

/// An upload that comes in parts.
#[derive(Serialize, ToSchema)]
#[schema(as = Upload)]
pub struct UploadView {
    /// For `POST /v1/analyses`. Whoever has it may send parts: keep it to yourself.
    upload: Uuid,
    size_bytes: u64,
    /// Of every part but the last, in bytes.
    part_size: u64,
    /// Until then the video must be there and its analysis started.
    expires_at: Timestamp,
    parts: Vec<PartView>,
    links: UploadLinks,
}

#[derive(Serialize, ToSchema)]
#[schema(as = UploadPart)]
struct PartView {
    /// From 1.
    number: u32,
    /// Where its bytes begin in the video.
    offset: u64,
    size_bytes: u64,
    /// Whether it is there.
    done: bool,
    /// PUT the bytes of the part here, without any header of visage's. A part that is sent again replaces the one before.
    url: String,
}

#[derive(Serialize, ToSchema)]
struct UploadLinks {
    #[serde(rename = "self")]
    this: String,
    /// POST {"upload": ...} here when all parts are there.
    start: String,
}

/// Why an upload or a part was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("no such upload")]
    Unknown,
    #[error("no such part")]
    NoPart { parts: u32 },
    #[error("the upload is an analysis already")]
    Started,
    #[error("a part of {expected} bytes, not of that size")]
    Size { expected: u64 },
    #[error("{most} uploads are open")]
    TooMany { most: u64 },
    #[error("a video of {size} bytes")]
    TooLarge { size: u64, limit: u64 },
    #[error("parts are missing")]
    Incomplete { missing: Vec<u32> },
    #[error("the upload is just being started")]
    Busy,
    #[error(transparent)]
    Body(#[from] AnalyzeError),
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        use UploadError as E;
        let of = |status, code: &str, title, detail: String| Self::new(status, code, title, detail);
        match error {
            E::Unknown => of(
                StatusCode::NOT_FOUND,
                "unknown_upload",
                "No such upload",
                "No upload has this id, or its time is over. POST /v1/uploads begins one.".to_owned(),
            ),
            E::NoPart { parts } => of(
                StatusCode::NOT_FOUND,
                "unknown_part",
                "No such part",
                format!("The parts of this upload are numbered from 1 to {parts}."),
            ),
            E::Started => of(
                StatusCode::CONFLICT,
                "upload_started",
                "The upload is an analysis already",
                "No more parts are taken. POST /v1/analyses with the same upload gives the token.".to_owned(),
            ),
            E::Size { expected } => of(
                StatusCode::UNPROCESSABLE_ENTITY,
                "wrong_part_size",
                "The part has another size",
                format!("This part has {expected} bytes. Send exactly these."),
            )
            .with("expected_bytes", expected),
            E::TooMany { most } => of(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "Too many uploads at once",
                format!("{most} uploads are open. Start or delete some of them first."),
            )
            .retry_after(60),
            E::TooLarge { size, limit } => of(
                StatusCode::PAYLOAD_TOO_LARGE,
                "upload_too_large",
                "The upload is too large",
                format!("A video may have {}; this one has {}.", ByteSize(limit), ByteSize(size)),
            )
            .with("limit_bytes", limit),
            E::Incomplete { missing } => of(
                StatusCode::CONFLICT,
                "upload_incomplete",
                "Parts are missing",
                "Send the parts named in missing, then try again. GET /v1/uploads/{upload} lists all of them."
                    .to_owned(),
            )
            .with("missing", missing),
            E::Busy => of(
                StatusCode::CONFLICT,
                "upload_busy",
                "The upload is just being started",
                "Another request starts this upload at the moment. Try again in a few seconds.".to_owned(),
            )
            .retry_after(2),
            E::Body(error) => error.problem(Carrier::Upload),
        }
    }
}

/// Begin a video in parts
///
/// Answers with an address for each part. PUT the parts there, in any order and again where a line broke, then start the
/// analysis with `POST /v1/analyses`. With a bucket the parts go straight to it.
#[utoipa::path(post, path = "/v1/uploads", operation_id = "begin_upload", tag = NATIVE,
    request_body(content = UploadRequest),
    responses((status = 201, description = "The upload is begun", body = UploadView,
                  headers(("location" = String, description = "Where its state is"))),
              (status = 400, description = "The body is no JSON, or broke off"),
              (status = 408, description = "The body stalled"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 415, description = "Not application/json"),
              (status = 422, description = "A member is missing or wrong"),
              (status = 429, description = "Too many uploads are open")))]
pub(in crate::api) async fn begin(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let UploadRequest { size_bytes } = json_body::json(&api, request).await?;
    let (app, limit) = (&api.app, api.app.settings.http.max_upload.0);
    if size_bytes == 0 {
        return Err(json_body::wrong("size_bytes is 0. Give the bytes of the whole video."));
    }
    if size_bytes > limit {
        return Err(UploadError::TooLarge { size: size_bytes, limit }.into());
    }
    let now = app.clock.now();
    if app.store.open_uploads(caller.owner(), now).await? >= MOST_OPEN {
        return Err(UploadError::TooMany { most: MOST_OPEN }.into());
    }
    let key = app.tokens.next().to_string();
    let upload = PartedUpload {
        id: app.tokens.next(),
        owner: caller.owner().map(str::to_owned),
        handle: app.blobs.begin_parts(&key).await?,
        video_key: key,
        size_bytes,
        // Whole mebibytes, so many that no more than the most parts are needed.
        part_size: PART.max(size_bytes.div_ceil(MAX_PARTS).next_multiple_of(1 << 20)),
        expires_at: now.checked_add(LIFE_H.hours()).unwrap_or(Timestamp::MAX),
        token: None,
    };
    app.store.begin_upload(&upload, now).await?;
    let view = view(&api, &upload, &BTreeMap::new()).await?;
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/uploads/{}", upload.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// State of an upload
///
/// Which parts are there, and fresh addresses for all of them: what a client needs to go on after a break.
#[utoipa::path(get, path = "/v1/uploads/{upload}", operation_id = "upload_state", tag = NATIVE,
    params(("upload" = Uuid, Path, description = "From the answer that began it")),
    responses((status = 200, description = "The state", body = UploadView),
              (status = 404, description = "No upload has this id, or its time is over"),
              (status = 409, description = "It is an analysis already")))]
pub(in crate::api) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(upload): Path<String>,
) -> Result<Response, Problem> {
    let upload = open(&api, &caller, &upload).await?;
    let parts = there(&api, &upload).await?;
    let view = view(&api, &upload, &parts).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// Throw an upload away
#[utoipa::path(delete, path = "/v1/uploads/{upload}", operation_id = "abort_upload", tag = NATIVE,
    params(("upload" = Uuid, Path, description = "From the answer that began it")),
    responses((status = 204, description = "Nothing of it is left"),
              (status = 404, description = "No upload has this id, or its time is over"),
              (status = 409, description = "It is an analysis already; `DELETE /results/{token}` erases that")))]
pub(in crate::api) async fn abort(
    State(api): State<Api>,
    caller: Caller,
    Path(upload): Path<String>,
) -> Result<StatusCode, Problem> {
    let upload = open(&api, &caller, &upload).await?;
    api.app.blobs.abort_parts(&upload.video_key, &upload.handle).await?;
    api.app.blobs.delete(&upload.video_key).await?;
    api.app.store.forget_upload(upload.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a part
///
/// Only where an upload's parts lie at addresses of this service. The address is all that is needed: no key.
#[utoipa::path(put, path = "/v1/uploads/{upload}/parts/{number}", operation_id = "send_part", tag = NATIVE,
    params(("upload" = Uuid, Path, description = "From the answer that began it"),
           ("number" = u32, Path, description = "Of the part, from 1", minimum = 1, maximum = 10_000)),
    request_body(content(("application/octet-stream")), description = "The bytes of the part"),
    responses((status = 204, description = "The part is there",
                  headers(("etag" = String, description = "Of the part"))),
              (status = 400, description = "The part broke off"),
              (status = 404, description = "No such upload or part"),
              (status = 408, description = "The part stalled or took too long"),
              (status = 409, description = "The upload is an analysis already"),
              (status = 422, description = "The part has another size"),
              (status = 429, description = "Too many uploads at once")))]
pub(in crate::api) async fn part(
    State(api): State<Api>,
    Path((upload, number)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let incoming =
        Incoming::new(&head.headers, body, u64::MAX, Duration::from_secs(api.app.settings.http.idle_timeout_s));
    match take_part(&api, &upload, &number, &head.headers, &incoming).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(UploadError::Body(error)) => {
            analyze_video::refuse(&error, &head.headers, incoming);
            Err(error.into())
        }
        Err(error) => {
            incoming.drain(head.headers.contains_key(header::EXPECT));
            Err(error.into())
        }
    }
}

async fn take_part(
    api: &Api,
    upload: &str,
    number: &str,
    headers: &HeaderMap,
    incoming: &Incoming,
) -> Result<(), UploadError> {
    let (app, limit_s) = (&api.app, api.app.settings.http.max_upload_s);
    let id = Uuid::try_parse(upload).map_err(|_| UploadError::Unknown)?;
    let found = app.store.upload(id, app.clock.now()).await.map_err(AnalyzeError::from)?;
    let upload = found.ok_or(UploadError::Unknown)?;
    let sized = number.parse().ok().and_then(|number| Some((number, upload.size_of(number)?)));
    let (number, expected) = sized.ok_or_else(|| UploadError::NoPart { parts: upload.parts() })?;
    if upload.token.is_some() {
        return Err(UploadError::Started);
    }
    if announced(headers).is_some_and(|bytes| bytes != expected) {
        return Err(UploadError::Size { expected });
    }
    let _place = api.uploads.try_acquire().map_err(|_| AnalyzeError::Busy)?;
    let mut part = app.blobs.begin_part(&upload.video_key, &upload.handle, number).await.map_err(AnalyzeError::from)?;
    incoming.in_field();
    let write = async {
        let (mut chunks, mut written) = (incoming.clone(), 0);
        while let Some(chunk) = chunks.try_next().await.map_err(AnalyzeError::from)? {
            written += chunk.len() as u64;
            if written > expected {
                return Err(UploadError::Size { expected });
            }
            part.write(chunk).await.map_err(AnalyzeError::from)?;
        }
        if written < expected { Err(UploadError::Size { expected }) } else { Ok(()) }
    };
    let written = tokio::time::timeout(Duration::from_secs(limit_s), write).await;
    written.map_err(|_| AnalyzeError::TooSlow { limit_s })??;
    let Part { size_bytes, tag } = part.finish().await.map_err(AnalyzeError::from)?;
    // Before the client hears of it: a part that is not remembered is sent again.
    let sent = SentPart { size_bytes, tag };
    app.store.remember_part(upload.id, number, &sent).await.map_err(AnalyzeError::from)?;
    Ok(())
}

/// The upload of that id, if the caller may know of it.
pub(super) async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<PartedUpload, Problem> {
    let upload = api.app.store.upload(id, api.app.clock.now()).await?;
    let upload = upload.filter(|upload| caller.may_see(upload.owner.as_deref()));
    upload.ok_or_else(|| UploadError::Unknown.into())
}

/// ... and is no analysis yet.
async fn open(api: &Api, caller: &Caller, id: &str) -> Result<PartedUpload, Problem> {
    let id = Uuid::try_parse(id).map_err(|_| UploadError::Unknown)?;
    let upload = find(api, caller, id).await?;
    if upload.token.is_some() { Err(UploadError::Started.into()) } else { Ok(upload) }
}

/// The parts that are there and have the size that they should.
pub(super) async fn there(api: &Api, upload: &PartedUpload) -> Result<BTreeMap<u32, Part>, AnalyzeError> {
    let mut parts = match api.app.blobs.parts(&upload.video_key, &upload.handle).await? {
        Some(parts) => parts,
        None => {
            let remembered = api.app.store.remembered_parts(upload.id).await?;
            remembered
                .into_iter()
                .map(|(number, SentPart { size_bytes, tag })| (number, Part { size_bytes, tag }))
                .collect()
        }
    };
    parts.retain(|number, part| upload.size_of(*number) == Some(part.size_bytes));
    Ok(parts)
}

async fn view(api: &Api, upload: &PartedUpload, there: &BTreeMap<u32, Part>) -> Result<UploadView, Problem> {
    let (blobs, base, id) = (&api.app.blobs, api.app.settings.http.base_url(), upload.id);
    let left = upload.expires_at.duration_since(api.app.clock.now()).max(jiff::SignedDuration::from_secs(1));
    let life = left.unsigned_abs();
    let mut parts = Vec::new();
    for number in 1..=upload.parts() {
        let Some(size_bytes) = upload.size_of(number) else { break };
        let url = blobs.part_address(&upload.video_key, &upload.handle, number, size_bytes, life).await?;
        let url = url.unwrap_or_else(|| format!("{base}/v1/uploads/{id}/parts/{number}"));
        let offset = u64::from(number - 1) * upload.part_size;
        parts.push(PartView { number, offset, size_bytes, done: there.contains_key(&number), url });
    }
    let links = UploadLinks { this: format!("{base}/v1/uploads/{id}"), start: format!("{base}/v1/analyses") };
    let PartedUpload { size_bytes, part_size, expires_at, .. } = *upload;
    Ok(UploadView { upload: id, size_bytes, part_size, expires_at, parts, links })
}
