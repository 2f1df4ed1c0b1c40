//! `POST /save_frame` of Emotion Detection from Video: keeps one picture for an hour.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::TryStreamExt;
use multer::Multipart;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::error::CompatError;
use super::frames::{FrameError, content_type, key};
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::limits::Client;
use crate::api::notice::{NoticeStatement, NoticeValue};
use crate::api::openapi::COMPAT;
use crate::api::upload;
use crate::api::upload::body::{IncomingBody, Pace};
use crate::api::upload::error::{BodyError, UploadError};
use crate::api::upload::form;
use crate::api::{Api, quota};
use crate::blob::Upload;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Maximum number of bytes of a request with a picture.
const MOST: u64 = 10_000_000;
/// Bytes from which the format of a picture is recognized.
const HEAD: usize = 8;

/// The field of the form. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `keep` reads")]
struct FrameForm {
    /// A JPEG or PNG file of at most 10 MB. The field may also be named `image`.
    #[schema(value_type = String, format = Binary, content_media_type = "image/png")]
    frame: Vec<u8>,
    /// `given` states that the people in the picture were told that a computer reads their faces and voices.
    notice: Option<NoticeValue>,
}

#[derive(Serialize, ToSchema)]
struct SavedFrame {
    /// Id of the picture. If the picture was sent without a key, anyone who knows the id can get and erase it.
    frame: Uuid,
    size_bytes: u64,
    links: FrameLinks,
}

#[derive(Serialize, ToSchema)]
struct FrameLinks {
    #[serde(rename = "self")]
    this: String,
}

/// Store a picture
///
/// The call `POST /save_frame` of Emotion Detection from Video. Stores a picture for an hour. If it was sent with a
/// key, only that key can get and erase it.
#[utoipa::path(post, path = "/save_frame", operation_id = "save_frame", tag = COMPAT,
    request_body(content = FrameForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "The picture is stored", body = SavedFrame),
              (status = 400, description = "The body is not a form, has no file, or was cut off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than 10 MB"),
              (status = 422, description = "The file is neither JPEG nor PNG, or there is more than one"),
              (status = 429, description = "Too many uploads at once (`Retry-After` says when to try again), or the client's quota of stored bytes is used up"),
              (status = 507, description = "The storage is full")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, CompatError> {
    let http = &api.app.settings.http;
    let (head, body) = request.into_parts();
    let limit = MOST.min(http.max_upload.0);
    let incoming = IncomingBody::new(&head.headers, body, limit, Pace::of(http));
    let frame = api.app.tokens.next();
    let client = Client::of(&caller, &head.extensions);
    match keep(&api, &client, &head, &incoming, &key(frame, caller.owner())).await {
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
        Err(error) => {
            upload::reject(&error, &head.headers, incoming);
            Err(error.into())
        }
    }
}

/// Streams the picture of the form to storage. Returns its size in bytes.
async fn keep(api: &Api, client: &Client, head: &Parts, incoming: &IncomingBody, key: &str) -> Result<u64, FrameError> {
    let limit_s = api.app.settings.http.max_upload_s;
    let _permit = upload::take_permit(api, client, &head.headers, incoming, true).map_err(UploadError::from)?;
    quota::check_storage(api, client, 0).await?;
    upload::check_announced(&head.headers, MOST).map_err(UploadError::from)?;
    let kept = tokio::time::timeout(Duration::from_secs(limit_s), async {
        let mut multipart = Multipart::new(incoming.clone(), form::boundary(&head.headers)?);
        let mut kept: Option<Box<dyn Upload>> = None;
        let mut notice = NoticeStatement::from_query(&head.uri).map_err(UploadError::from)?;
        loop {
            incoming.between_fields();
            let Some(mut field) = multipart.next_field().await.map_err(form::unreadable)? else { break };
            incoming.in_field();
            form::check_plain(&field)?;
            if let Some(name) = field.name().and_then(NoticeStatement::field) {
                let given = form::text(&mut field, name).await?;
                notice.set(name, &given).map_err(UploadError::from)?;
                continue;
            }
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
            content_type(&head).ok_or(FrameError::NotAPicture)?;
            let mut upload = api.app.blobs.begin(key).await.map_err(UploadError::from)?;
            upload.write(head.freeze()).await.map_err(UploadError::from)?;
            while let Some(chunk) = field.try_next().await.map_err(form::unreadable)? {
                upload.write(chunk).await.map_err(UploadError::from)?;
            }
            kept = Some(upload);
        }
        let kept = kept.ok_or(FrameError::Missing)?;
        quota::check_storage(api, client, 0).await?;
        notice.record(&api.app, None).map_err(UploadError::from)?;
        Ok(kept)
    });
    let kept = kept.await.map_err(|_| UploadError::from(BodyError::TooSlow { limit_s }))??;
    let (store, now) = (&api.app.store, api.app.clock.now());
    let owner = client.stored(store).await.map_err(UploadError::from)?;
    let size_bytes = kept.finish().await.map_err(UploadError::from)?;
    if let Err(error) = store.add_saved_frame(key, &owner, size_bytes, now).await {
        // A picture that no quota counts must not stay.
        if let Err(error) = api.app.blobs.delete(key).await {
            tracing::warn!(%error, "a picture could not be deleted; the janitor deletes it");
        }
        return Err(UploadError::from(error).into());
    }
    Ok(size_bytes)
}
