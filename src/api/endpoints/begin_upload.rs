//! `POST /v1/uploads`: begins an upload in parts (see [`parts`](crate::api::upload::parts)).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa_axum::routes;

use crate::analysis::Language;
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::file_source::FileSource;
use crate::api::json_body;
use crate::api::limits::Client;
use crate::api::notice::{NoticeStatement, NoticeValue};
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::upload::parts::{PartsError, UploadView};
use crate::api::{Api, Problem, quota};
use crate::blob::{MAX_PARTS, PART};
use crate::store::PartedUpload;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Hours after which an upload expires if its analysis was not started. The janitor then deletes its parts.
const LIFETIME_H: i64 = 24;

/// The size of the video, and whether the people in it were informed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// Size of the whole video; at most `http.max_upload`.
    #[serde(deserialize_with = "json_body::whole_number")]
    #[schema(schema_with = size_bytes)]
    size_bytes: u64,
    /// `given` states that the people in the video were told that a computer reads their faces and voices.
    #[schema(value_type = Option<NoticeValue>)]
    notice: Option<String>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
    /// Language of the notice that was shown; by default English.
    language: Option<Language>,
}

fn size_bytes() -> RefOr<Schema> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    json_body::written_schema(number, "^[1-9][0-9]{0,8}$", "Size of the whole video; at most `http.max_upload`.").into()
}

/// Begin an upload in parts
///
/// Returns an address for each part of the video. PUT the parts there, in any order. If a connection breaks, send that
/// part again. Then start the analysis with `POST /v1/analyses`. If videos are stored in a bucket, the addresses are
/// those of the bucket.
#[utoipa::path(post, path = "/v1/uploads", operation_id = "begin_upload", tag = NATIVE,
    request_body(content = UploadRequest),
    responses((status = 201, description = "The upload has begun", body = UploadView,
                  headers(("location" = String, description = "Address of its state"))),
              (status = 400, description = "The body is not JSON, or was cut off"),
              (status = 408, description = "The body stalled"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 415, description = "Not application/json"),
              (status = 422, description = "A member is missing or wrong"),
              (status = 429, description = "Too many uploads are open, or the storage quota of the client is used up"),
              (status = 507, description = "The storage is full")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let client = Client::of(&caller, request.extensions());
    let UploadRequest { size_bytes, notice, notice_version, language } = json_body::json(&api, request).await?;
    let (app, limit) = (&api.app, api.app.settings.http.max_upload.0);
    if size_bytes == 0 {
        return Err(json_body::wrong(detail::bad_body_size()));
    }
    if size_bytes > limit {
        return Err(PartsError::TooLarge { size: size_bytes, limit }.into());
    }
    let mut statement = NoticeStatement::default();
    let stated = statement.set_members(notice.as_deref(), notice_version.as_deref());
    let notice = stated.and_then(|()| statement.record(app, language));
    let notice = notice.map_err(|error| error.problem(FileSource::Upload))?;
    let now = app.clock.now();
    let (client_name, most) = (client.stored(&app.store).await?, app.settings.http.max_open_uploads_client);
    let (open, first) = app.store.open_uploads(&client_name, now).await?;
    if open >= most {
        let wait_s = first.map_or(1, |first| (first.as_second() - now.as_second()).max(1).unsigned_abs());
        return Err(PartsError::TooMany { most, wait_s }.into());
    }
    quota::check_storage(&api, &client, size_bytes).await?;
    let key = app.tokens.next().to_string();
    let upload = PartedUpload {
        id: app.tokens.next(),
        owner: caller.owner().map(str::to_owned),
        handle: app.blobs.begin_parts(&key).await?,
        video_key: key,
        size_bytes,
        // Whole mebibytes, and large enough that MAX_PARTS parts suffice.
        part_size: PART.max(size_bytes.div_ceil(MAX_PARTS).next_multiple_of(1 << 20)),
        expires_at: now.checked_add(LIFETIME_H.hours()).unwrap_or(Timestamp::MAX),
        token: None,
        notice,
    };
    app.store.begin_upload(&upload, &client_name, now).await?;
    let view = UploadView::new(&api, &upload, &BTreeMap::new()).await?;
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/uploads/{}", upload.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
