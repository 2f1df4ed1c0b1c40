//! `POST /save_frame` of Emotion Detection from Video: keeps one picture for a while; `GET` and `DELETE` of
//! `/frames/{frame}` give it back and erase it.
//!
//! The picture lies in the storage under a name that
//! does not give `frame` away. No analysis knows it, so the housekeeping erases it after an hour.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::TryStreamExt;
use multer::Multipart;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::endpoints::analyze_video;
use crate::api::openapi::COMPAT;
use crate::api::problem::Plain;
use crate::api::upload::body::Incoming;
use crate::api::upload::error::{AnalyzeError, Carrier};
use crate::api::upload::form;
use crate::api::{Api, Problem};
use crate::blob::{BlobError, Upload};

/// Most bytes of a request with a picture.
const MOST: u64 = 10_000_000;
/// Bytes that tell the kind of a picture.
const HEAD: usize = 8;

/// What the form may hold; other fields are read over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `keep` reads")]
struct FrameForm {
    /// A JPEG or PNG file of at most 10 MB; `image` is taken too.
    #[schema(value_type = String, format = Binary, content_media_type = "image/png")]
    frame: Vec<u8>,
}

#[derive(Serialize, ToSchema)]
struct SavedFrame {
    /// Its name: whoever has it may see and erase the picture.
    frame: Uuid,
    size_bytes: u64,
    links: FrameLinks,
}

#[derive(Serialize, ToSchema)]
struct FrameLinks {
    #[serde(rename = "self")]
    this: String,
}

/// Why a picture was not kept or not given back.
#[derive(Debug, thiserror::Error)]
enum FrameError {
    #[error("no field frame or image")]
    Missing,
    #[error("more than one picture")]
    Two,
    #[error("neither JPEG nor PNG")]
    NotAPicture,
    #[error("no such frame")]
    Unknown,
    #[error(transparent)]
    Upload(#[from] AnalyzeError),
    #[error("a temporary file failed: {0}")]
    File(#[from] std::io::Error),
}

impl From<FrameError> for Problem {
    fn from(error: FrameError) -> Self {
        use FrameError as E;
        match error {
            E::Missing => Self::new(
                StatusCode::BAD_REQUEST,
                "missing_frame",
                "No picture",
                "Send a JPEG or PNG file in the field frame.",
            ),
            E::Two => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "two_frames",
                "More than one picture",
                "Send one picture a request.",
            ),
            E::NotAPicture => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_a_picture",
                "Not a picture",
                "The file in the field frame is neither JPEG nor PNG. Save it as one of these and send that.",
            ),
            E::Unknown => Self::new(
                StatusCode::NOT_FOUND,
                "unknown_frame",
                "No such picture",
                "No picture is kept under this name. It may have been erased; POST /save_frame keeps a new one.",
            ),
            E::Upload(AnalyzeError::NotAForm) => {
                Self { status: StatusCode::BAD_REQUEST, ..AnalyzeError::NotAForm.problem(Carrier::Frame) }
            }
            E::Upload(error) => error.problem(Carrier::Frame),
            E::File(reason) => {
                tracing::error!(%reason, "a picture could not be read back");
                Self::unavailable("storage")
            }
        }
    }
}

/// Keep a picture
///
/// `POST /save_frame` of Emotion Detection from Video: keeps one picture for an hour.
#[utoipa::path(post, path = "/save_frame", operation_id = "save_frame", tag = COMPAT,
    request_body(content = FrameForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "It is kept", body = SavedFrame),
              (status = 400, description = "No form or no file in it, or the upload broke off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than 10 MB"),
              (status = 422, description = "Neither JPEG nor PNG, or more than one"),
              (status = 429, description = "Too many uploads at once; `Retry-After` says when to try again")))]
pub async fn handle(State(api): State<Api>, request: Request) -> Result<Response, Plain> {
    let http = &api.app.settings.http;
    let (head, body) = request.into_parts();
    let limit = MOST.min(http.max_upload.0);
    let incoming = Incoming::new(&head.headers, body, limit, Duration::from_secs(http.idle_timeout_s));
    let frame = api.app.tokens.next();
    match keep(&api, &head.headers, &incoming, frame).await {
        Ok(size_bytes) => {
            let links = FrameLinks { this: format!("{}/frames/{frame}", http.base_url()) };
            let body = SavedFrame { frame, size_bytes, links };
            let mut response = (StatusCode::CREATED, Json(body)).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if let Ok(location) = HeaderValue::from_str(&format!("/frames/{frame}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Err(FrameError::Upload(error)) => {
            analyze_video::refuse(&error, &head.headers, incoming);
            Err(FrameError::Upload(error).into())
        }
        Err(error) => {
            tracing::info!(reason = %error, "a picture was refused");
            incoming.drain(head.headers.contains_key(header::EXPECT));
            Err(error.into())
        }
    }
}

/// Streams the picture of the form into the storage; its bytes.
async fn keep(api: &Api, headers: &HeaderMap, incoming: &Incoming, frame: Uuid) -> Result<u64, FrameError> {
    let limit_s = api.app.settings.http.max_upload_s;
    let _place = api.uploads.try_acquire().map_err(|_| AnalyzeError::Busy)?;
    analyze_video::check_announced(headers, MOST).map_err(AnalyzeError::from)?;
    let kept = tokio::time::timeout(Duration::from_secs(limit_s), async {
        let mut multipart = Multipart::new(incoming.clone(), form::boundary(headers)?);
        let mut kept: Option<Box<dyn Upload>> = None;
        loop {
            incoming.between_fields();
            let Some(mut field) = multipart.next_field().await.map_err(form::unreadable)? else { break };
            incoming.in_field();
            form::check_plain(&field)?;
            if !matches!(field.name(), Some("frame" | "image")) {
                while field.try_next().await.map_err(form::unreadable)?.is_some() {}
                continue;
            }
            if kept.is_some() {
                return Err(FrameError::Two);
            }
            let mut head = BytesMut::new();
            while head.len() < HEAD {
                let Some(chunk) = field.try_next().await.map_err(form::unreadable)? else { break };
                head.extend_from_slice(&chunk);
            }
            kind(&head).ok_or(FrameError::NotAPicture)?;
            let mut upload = api.app.blobs.begin(&key(frame)).await.map_err(AnalyzeError::from)?;
            upload.write(head.freeze()).await.map_err(AnalyzeError::from)?;
            while let Some(chunk) = field.try_next().await.map_err(form::unreadable)? {
                upload.write(chunk).await.map_err(AnalyzeError::from)?;
            }
            kept = Some(upload);
        }
        kept.ok_or(FrameError::Missing)
    });
    let kept = kept.await.map_err(|_| AnalyzeError::TooSlow { limit_s })??;
    Ok(kept.finish().await.map_err(AnalyzeError::from)?)
}

/// A kept picture
#[utoipa::path(get, path = "/frames/{frame}", operation_id = "frame", tag = COMPAT,
    params(("frame" = Uuid, Path, description = "From the answer to the upload")),
    responses((status = 200, description = "The picture, PNG or JPEG", content(("image/png"), ("image/jpeg"))),
              (status = 404, description = "No picture is kept under this name")))]
pub async fn show(State(api): State<Api>, Path(frame): Path<String>) -> Result<Response, Plain> {
    let frame = Uuid::try_parse(&frame).map_err(|_| FrameError::Unknown)?;
    let copy = tokio::task::spawn_blocking(tempfile::NamedTempFile::new).await.map_err(std::io::Error::other);
    let copy = copy.and_then(|made| made).map_err(FrameError::from)?;
    match api.app.blobs.fetch(&key(frame), copy.path()).await {
        Err(BlobError::NotFound) => return Err(FrameError::Unknown.into()),
        Err(error) => return Err(AnalyzeError::from(error).into()),
        Ok(_) => {}
    }
    let bytes = tokio::fs::read(copy.path()).await.map_err(FrameError::from)?;
    let kind = HeaderValue::from_static(kind(&bytes).ok_or(FrameError::Unknown)?);
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, bytes).into_response())
}

/// Erase a kept picture
#[utoipa::path(delete, path = "/frames/{frame}", operation_id = "erase_frame", tag = COMPAT,
    params(("frame" = Uuid, Path, description = "From the answer to the upload")),
    responses((status = 204, description = "Nothing of it is left, if there was something"),
              (status = 404, description = "That is no name of a picture")))]
pub async fn erase(State(api): State<Api>, Path(frame): Path<String>) -> Result<StatusCode, Plain> {
    let frame = Uuid::try_parse(&frame).map_err(|_| FrameError::Unknown)?;
    api.app.blobs.delete(&key(frame)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a picture lies: a UUID, as all names that the housekeeping looks after, and one from which the name that
/// opens the picture cannot be worked out.
fn key(frame: Uuid) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(frame.as_bytes())[..16]);
    Uuid::from_bytes(bytes).to_string()
}

/// The content type of a picture, by its first bytes.
fn kind(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Some("image/jpeg")
    } else if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else {
        None
    }
}
