//! `PUT /v1/uploads/{upload}/parts/{number}`: stores one part of an upload.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::access::Link;
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::limits::Client;
use crate::api::openapi::NATIVE;
use crate::api::upload::body::{IncomingBody, Pace};
use crate::api::upload::encoding::announced;
use crate::api::upload::error::{BodyError, UploadError};
use crate::api::upload::parts::PartsError;
use crate::api::upload::{reject, take_permit};
use crate::api::{Api, Problem};
use crate::blob::Part;
use crate::store::SentPart;

type Rule = Link;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Send a part
///
/// Stores a part of an upload, at the address that the answer to `POST /v1/uploads` gives for it. Needs no key. If
/// videos are stored in a bucket, send the parts to the addresses of the bucket instead.
#[utoipa::path(put, path = "/v1/uploads/{upload}/parts/{number}", operation_id = "send_part", tag = NATIVE,
    params(("upload" = Uuid, Path, description = "The id of the upload"),
           ("number" = u32, Path, description = "Number of the part, from 1", minimum = 1, maximum = 10_000)),
    request_body(content(("application/octet-stream")), description = "The bytes of the part"),
    responses((status = 204, description = "The part is stored",
                  headers(("etag" = String, description = "Tag of the part"))),
              (status = 400, description = "The part was cut off"),
              (status = 404, description = "No such upload or part"),
              (status = 408, description = "The part stalled or took too long"),
              (status = 409, description = "The analysis of the upload was started"),
              (status = 422, description = "The part does not have the expected size"),
              (status = 429, description = "Too many uploads at once")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path((upload, number)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let client = Client::of(&caller, &head.extensions);
    let incoming = IncomingBody::new(&head.headers, body, u64::MAX, Pace::of(&api.app.settings.http));
    let received = receive(&api, &client, &upload, &number, &head.headers, &incoming).await;
    received.map_err(|error| {
        reject(&error, &head.headers, incoming);
        match error {
            PartsError::Upload(error) => error.into(),
            error => Problem::from(error),
        }
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn receive(
    api: &Api,
    client: &Client,
    upload: &str,
    number: &str,
    headers: &HeaderMap,
    incoming: &IncomingBody,
) -> Result<(), PartsError> {
    let (app, limit_s) = (&api.app, api.app.settings.http.max_upload_s);
    let id = Uuid::try_parse(upload).map_err(|_| PartsError::Unknown)?;
    let found = app.store.upload(id, app.clock.now()).await.map_err(UploadError::from)?;
    let upload = found.ok_or(PartsError::Unknown)?;
    let sized = number.parse().ok().and_then(|number| Some((number, upload.size_of(number)?)));
    let (number, expected) = sized.ok_or_else(|| PartsError::NoPart { parts: upload.parts() })?;
    if upload.token.is_some() {
        return Err(PartsError::Started);
    }
    if announced(headers).is_some_and(|bytes| bytes != expected) {
        return Err(PartsError::Size { expected });
    }
    let _permit = take_permit(api, client, headers, incoming, false).map_err(UploadError::from)?;
    let mut part = app.blobs.begin_part(&upload.video_key, &upload.handle, number).await.map_err(UploadError::from)?;
    incoming.in_field();
    let write = async {
        let (mut chunks, mut written) = (incoming.clone(), 0);
        while let Some(chunk) = chunks.try_next().await.map_err(UploadError::from)? {
            written += chunk.len() as u64;
            if written > expected {
                return Err(PartsError::Size { expected });
            }
            part.write(chunk).await.map_err(UploadError::from)?;
        }
        if written < expected { Err(PartsError::Size { expected }) } else { Ok(()) }
    };
    let written = tokio::time::timeout(Duration::from_secs(limit_s), write).await;
    written.map_err(|_| UploadError::from(BodyError::TooSlow { limit_s }))??;
    let Part { size_bytes, tag } = part.finish().await.map_err(UploadError::from)?;
    // Recorded before the answer: if the record fails, the client learns of it and sends the part again.
    let sent = SentPart { size_bytes, tag };
    app.store.remember_part(upload.id, number, &sent).await.map_err(UploadError::from)?;
    Ok(())
}
