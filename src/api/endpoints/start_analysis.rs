//! `POST /v1/analyses`: starts the analysis of an upload in parts (see [`parts`](crate::api::upload::parts)), or of the
//! video at an address.
//!
//! A repeated request for an upload gives the same token, so a client that got no answer can send it again. For an
//! address, an `Idempotency-Key` does the same.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::Instrument;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, OneOf, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use crate::analysis::{Detail, Language, Notice, Sampling};
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::file_source::FileSource;
use crate::api::json_body;
use crate::api::limits::Client;
use crate::api::notice::{NoticeError, NoticeStatement, NoticeValue};
use crate::api::openapi::NATIVE;
use crate::api::outer::RequestId;
use crate::api::upload::enqueue::{self, AnalysisRequest};
use crate::api::upload::error::{
    FormError, IdempotencyKeyError, RecipientError, ServiceError, UploadError, VideoError,
};
use crate::api::upload::form::{self, MAX_RECIPIENTS};
use crate::api::upload::members::{self, OptionMembers};
use crate::api::upload::parts::{self, PartsError};
use crate::api::upload::{self, Accepted};
use crate::api::{Api, Caller, Problem, quota};
use crate::blob::BlobError;
use crate::report::Unsendable;
use crate::store::{Enqueued, PartedUpload, Priority};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// How long a request reserves an upload. Joining the parts and opening the video takes less, so after this time the
/// process that reserved it must have ended.
const LEASE: Duration = Duration::from_secs(600);

/// The video to analyze, as an upload or by its address, and the options of the analysis.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// Id of the upload, from `POST /v1/uploads`. Either this or `video_url` is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<Uuid>,
    /// Address of the video instead of an upload: `https://...`, from which the service fetches it, or
    /// `s3://BUCKET/KEY`, if the operator allows the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri", pattern = "^(https|s3)://", max_length = 2000)]
    video_url: Option<String>,
    /// Mail address that gets the report, or a list of at most 10.
    email: Option<Addresses>,
    /// Analyze every n-th frame.
    #[serde(default, deserialize_with = "json_body::maybe_whole")]
    #[schema(schema_with = members::sample_every)]
    sample_every: Option<u32>,
    /// Analyze about this many frames a second, instead of every n-th.
    #[serde(default, deserialize_with = "json_body::maybe_whole")]
    #[schema(schema_with = members::samples_per_second)]
    samples_per_second: Option<u32>,
    /// `exact` analyzes exactly these frames. `fast` analyzes frames near them that cost less to decode.
    sampling: Option<Sampling>,
    /// Largest number of faces to read in a frame. The largest faces are read first.
    #[serde(default, deserialize_with = "json_body::maybe_whole")]
    #[schema(schema_with = members::max_faces)]
    max_faces: Option<u32>,
    /// Language of the report and the mail; by default that of the reader's browser.
    language: Option<Language>,
    /// The https:// address to which a webhook is sent when the analysis ends.
    #[schema(format = "uri", pattern = "^https://", max_length = 2000)]
    webhook_url: Option<String>,
    /// `false` skips the landmarks. Eye contact then depends on the head pose only.
    #[serde(default, deserialize_with = "json_body::maybe_switch")]
    #[schema(schema_with = members::gaze)]
    gaze: Option<bool>,
    /// `false` skips the sound track.
    #[serde(default, deserialize_with = "json_body::maybe_switch")]
    #[schema(schema_with = members::speech)]
    speech: Option<bool>,
    /// Additional details of each sample. Excludes `"gaze": false`.
    detail: Option<Detail>,
    /// Which of the waiting videos go first: `high` before all others, `low` when no other waits. `high` needs a key with
    /// the scope `urgent`. By default `normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    /// Name of the file, for page, report, mail and the list of analyses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    /// `given` states that the people in the video were told that a computer reads their faces and voices. Not needed
    /// if the request that began the upload said so.
    #[schema(value_type = Option<NoticeValue>)]
    notice: Option<String>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Several(Vec<String>),
}

impl PartialSchema for Addresses {
    fn schema() -> RefOr<Schema> {
        let email = SchemaFormat::KnownFormat(KnownFormat::Email);
        let one = ObjectBuilder::new().schema_type(Type::String).format(Some(email)).build();
        let several = ArrayBuilder::new().items(one.clone()).max_items(Some(MAX_RECIPIENTS));
        OneOf::builder().item(one).item(several).into()
    }
}

impl ToSchema for Addresses {}

/// Start an analysis
///
/// Queues the analysis of an upload, or of the video at an address (`video_url`). All parts of an upload must have been
/// sent. A repeated request for an upload is answered with the same token.
///
/// The video at an address is fetched after the answer. If that fails, the analysis fails, and its `error` says why.
#[utoipa::path(post, path = "/v1/analyses", operation_id = "start_analysis", tag = NATIVE,
    params(("idempotency-key" = Option<String>, Header, description = "Any 1 to 255 printable ASCII characters, \
                                                                       such as a UUID",
               min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body(content = StartRequest),
    responses((status = 202, description = "The analysis is queued", body = Accepted,
                  headers(("location" = String, description = "Address of the result"),
                          ("retry-after" = u64, description = "Seconds after which to ask for the result"))),
              (status = 400, description = "The body is not JSON or was cut off, or the Idempotency-Key is invalid"),
              (status = 404, description = "No upload has this id, or it has expired"),
              (status = 408, description = "The body stalled"),
              (status = 409,
                  description = "Parts are missing; `missing` lists them. Or another request is starting the upload"),
              (status = 413, description = "The body is too large"),
              (status = 415, description = "Not application/json"),
              (status = 422, description = "The video cannot be analyzed, or a member is wrong")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let client = Client::of(&caller, request.extensions());
    let request_id = RequestId::of(request.extensions());
    let idempotency_key_sha256 = enqueue::idempotency_key(request.headers());
    let request: StartRequest = json_body::json(&api, request).await?;
    let mut analysis = requested_analysis(&api, &caller, client, &request, idempotency_key_sha256?)
        .map_err(|error| error.problem(FileSource::Upload))?;
    if let Some(url) = &analysis.webhook {
        enqueue::check_webhook(&api.app, url).await.map_err(|error| error.problem(FileSource::Upload))?;
    }
    analysis.request_id = request_id;
    let token = match (request.upload, &request.video_url) {
        (Some(upload), None) => {
            let upload = parts::find(&api, &caller, upload).await?;
            analysis.notice =
                notice(&api, &request, Some(&upload)).map_err(|error| error.problem(FileSource::Upload))?;
            // The task runs to its end even if the client leaves now.
            let starting = start(api.clone(), Caller::clone(&caller), upload, analysis);
            let started = tokio::spawn(starting.in_current_span()).await;
            started.map_err(|error| UploadError::from(ServiceError::Unopened(error.to_string())))??
        }
        (None, Some(address)) => {
            analysis.notice = notice(&api, &request, None).map_err(|error| error.problem(FileSource::Upload))?;
            let queued = start_from_address(&api, &caller, address, analysis).await;
            queued.map_err(|error| error.problem(FileSource::Upload))?
        }
        (Some(_), Some(_)) => return Err(UploadError::from(FormError::VideoAndAddress).problem(FileSource::Upload)),
        (None, None) => return Err(UploadError::from(FormError::MissingUpload).problem(FileSource::Upload)),
    };
    Ok(upload::accepted(token, Json(Accepted::new(&api.app, token))))
}

/// Queues the job of the video at an address. Returns its token.
async fn start_from_address(
    api: &Api,
    caller: &Caller,
    address: &str,
    analysis: AnalysisRequest,
) -> Result<Uuid, UploadError> {
    let address = enqueue::check_address(&api.app, address)?;
    quota::check_storage(api, &analysis.client, 0).await?;
    let counted = quota::count(api, caller).await?;
    let counted_mails = quota::count_mails(api, caller, &analysis.client, &analysis.recipients).await?;
    let counted = (counted, counted_mails);
    upload::in_task(enqueue::enqueue_address(api.clone(), caller.clone(), analysis, address, counted)).await
}

/// The record of the notice: that of this request, or that of the request which began the upload.
fn notice(api: &Api, request: &StartRequest, upload: Option<&PartedUpload>) -> Result<Option<Notice>, NoticeError> {
    let mut statement = NoticeStatement::default();
    statement.set_members(request.notice.as_deref(), request.notice_version.as_deref())?;
    match statement.record(&api.app, request.language) {
        Ok(None) | Err(NoticeError::Missing) if let Some(earlier) = upload.and_then(|upload| upload.notice.clone()) => {
            Ok(Some(earlier))
        }
        recorded => recorded,
    }
}

fn requested_analysis(
    api: &Api,
    caller: &Caller,
    client: Client,
    request: &StartRequest,
    idempotency_key_sha256: Option<String>,
) -> Result<AnalysisRequest, UploadError> {
    let members = OptionMembers {
        sample_every: request.sample_every,
        samples_per_second: request.samples_per_second,
        sampling: request.sampling,
        max_faces: request.max_faces,
        language: request.language,
        gaze: request.gaze,
        speech: request.speech,
        detail: request.detail,
    };
    let options = members.options(&api.app.settings.video)?;
    let mut recipients = Vec::new();
    let addresses = match &request.email {
        None => &[][..],
        Some(Addresses::One(address)) => std::slice::from_ref(address),
        Some(Addresses::Several(addresses)) => addresses,
    };
    if addresses.len() > MAX_RECIPIENTS {
        return Err(RecipientError::TooMany { most: MAX_RECIPIENTS }.into());
    }
    for address in addresses {
        // A form may have an empty field, but a JSON body may not.
        if address.trim().is_empty() {
            return Err(Unsendable::Malformed.into());
        }
        form::add_recipient(address.trim(), &mut recipients)?;
    }
    let priority = request.priority.unwrap_or_default();
    enqueue::check_priority(caller, priority)?;
    enqueue::check_mail(&api.app, caller, &recipients)?;
    // Hashes the parsed request, so that its spelling does not matter.
    let content_sha256 = hex::encode(Sha256::digest(serde_json::to_vec(request).unwrap_or_default()));
    Ok(AnalysisRequest {
        client,
        options,
        notice: None,
        priority,
        recipients,
        webhook: request.webhook_url.clone(),
        idempotency_key_sha256,
        content_sha256,
        file_name: request.file_name.as_deref().and_then(form::plain_file_name),
        request_id: None,
    })
}

/// Joins the parts and queues the job. Returns its token. Deletes an upload that is not a video.
async fn start(api: Api, caller: Caller, upload: PartedUpload, analysis: AnalysisRequest) -> Result<Uuid, Problem> {
    let (store, blobs) = (&api.app.store, &api.app.blobs);
    if let Some(token) = upload.token {
        return Ok(token);
    }
    let counted = quota::count(&api, &caller).await?;
    let counted_mails = quota::count_mails(&api, &caller, &analysis.client, &analysis.recipients).await?;
    if !store.take_upload(upload.id, api.app.clock.now(), LEASE).await? {
        // Another request has reserved the upload, and may have queued the job by now.
        let token = parts::find(&api, &caller, upload.id).await?.token;
        return token.ok_or_else(|| PartsError::Busy.into());
    }
    let queued = queue(&api, &caller, &upload, &analysis).await;
    match &queued {
        Ok((_, Enqueued::New | Enqueued::Before(_))) => {}
        Err(PartsError::Upload(UploadError::Video(VideoError::Unusable(_)))) => {
            tracing::info!("the file of an upload in parts cannot be analyzed and is deleted");
            blobs.delete(&upload.video_key).await?;
            store.forget_upload(upload.id).await?;
        }
        Ok((_, Enqueued::Reused)) | Err(_) => store.let_go_upload(upload.id).await?,
    }
    match queued? {
        (_, Enqueued::Reused) => Err(UploadError::from(IdempotencyKeyError::Reused).into()),
        (token, Enqueued::Before(_)) => Ok(token),
        (token, Enqueued::New) => {
            counted.keep();
            counted_mails.keep();
            Ok(token)
        }
    }
}

async fn queue(
    api: &Api,
    caller: &Caller,
    upload: &PartedUpload,
    analysis: &AnalysisRequest,
) -> Result<(Uuid, Enqueued), PartsError> {
    let (blobs, key, handle) = (&api.app.blobs, &upload.video_key, &upload.handle);
    let parts = match parts::present(api, upload).await {
        Ok(present) => {
            let missing: Vec<u32> = (1..=upload.parts()).filter(|number| !present.contains_key(number)).collect();
            if !missing.is_empty() {
                return Err(PartsError::Incomplete { missing });
            }
            present
        }
        // An earlier request joined the parts, but did not queue the job.
        Err(UploadError::Service(ServiceError::Blob(BlobError::NotFound))) => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    blobs.join_parts(key, handle, &parts).await.map_err(UploadError::from)?;
    Ok(enqueue::enqueue(api, caller, analysis, key, upload.size_bytes, Some(upload.id)).await?)
}
