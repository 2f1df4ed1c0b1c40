//! `POST /v1/batches`: starts the analyses of several videos at addresses.
//!
//! An item that is wrong does not spoil the others: the batch tells its problem. If all are wrong, there is no batch.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tracing::Instrument;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::analysis::{Detail, Language, Sampling};
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::batch_view::BatchView;
use crate::api::endpoint::Endpoint;
use crate::api::file_source::FileSource;
use crate::api::json_body;
use crate::api::limits::Client;
use crate::api::notice::{NoticeStatement, NoticeValue};
use crate::api::openapi::NATIVE;
use crate::api::outer::RequestId;
use crate::api::problem::detail;
use crate::api::upload;
use crate::api::upload::enqueue::{self, AnalysisRequest};
use crate::api::upload::error::{IdempotencyKeyError, UploadError};
use crate::api::upload::form;
use crate::api::upload::members::{self, OptionMembers};
use crate::api::view::{NO_STORE, POLL_AGAIN_S};
use crate::api::{Api, Caller, Problem, quota};
use crate::sources::VideoAddress;
use crate::store::{EnqueuedBatch, NewBatch, NewItem, Priority, Repeatable};
use crate::telemetry::step;
use crate::telemetry::trace::TraceContext;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The videos of a batch, and the options of all their analyses.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The videos. At most `sources.max_batch_items`.
    #[schema(min_items = 1)]
    items: Vec<ItemRequest>,
    /// The https:// address to which one webhook is sent when the last analysis has ended.
    #[schema(format = "uri", pattern = "^https://", max_length = 2000)]
    webhook_url: Option<String>,
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
    /// Language of the reports; by default that of the reader's browser.
    language: Option<Language>,
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
    priority: Option<Priority>,
    /// `given` states that the people in the videos were told that a computer reads their faces and voices.
    #[schema(value_type = Option<NoticeValue>)]
    notice: Option<String>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
}

/// A video of a batch.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BatchItemRequest)]
struct ItemRequest {
    /// Address of the video: `https://...`, from which the service fetches it, or `s3://BUCKET/KEY`, if the operator
    /// allows the bucket.
    #[schema(format = "uri", pattern = "^(https|s3)://", max_length = 2000)]
    video_url: String,
    /// Name of the file, for page, report and the list of analyses.
    file_name: Option<String>,
}

/// Start a batch
///
/// Queues the analyses of several videos, each by its address. Each accepted item is an analysis of its own, with a
/// token. An item that is refused does not stop the others: its `status` is `refused`, and its `error` says why.
///
/// `webhook_url` gets one webhook when the last analysis has ended. A repeated request with the same `Idempotency-Key` is
/// answered with the same batch.
#[utoipa::path(post, path = "/v1/batches", operation_id = "start_batch", tag = NATIVE,
    params(("idempotency-key" = Option<String>, Header, description = "Any 1 to 255 printable ASCII characters, \
                                                                       such as a UUID",
               min_length = 1, max_length = 255, pattern = "^[ -~]+$")),
    request_body(content = BatchRequest),
    responses((status = 202, description = "The analyses of the accepted items are queued", body = BatchView,
                  headers(("location" = String, description = "Address of the batch"),
                          ("retry-after" = u64, description = "Seconds after which to ask for its state"))),
              (status = 400, description = "The body is not JSON or was cut off, or the Idempotency-Key is invalid"),
              (status = 408, description = "The body stalled"),
              (status = 413, description = "The body is too large"),
              (status = 415, description = "Not application/json"),
              (status = 422, description = "No item was accepted (`items` lists their errors), or a member is wrong"),
              (status = 507, description = "The storage is full")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let client = Client::of(&caller, request.extensions());
    let request_id = RequestId::of(request.extensions());
    let key = enqueue::idempotency_key(request.headers());
    let most = api.app.settings.sources.max_batch_items;
    let request: BatchRequest =
        json_body::json_up_to(&api, request, json_body::MAX_BYTES + most as u64 * ITEM_BYTES).await?;
    let name_sha256 = key.map_err(problem)?;
    if request.items.is_empty() {
        return Err(json_body::wrong(detail::empty_batch()).with("field", "items"));
    }
    if request.items.len() > most {
        return Err(json_body::wrong(detail::too_many_items(most)).with("field", "items").with("limit", most));
    }
    let mut analysis = requested_analysis(&api, &caller, client, &request).map_err(problem)?;
    analysis.request_id = request_id;
    if let Some(url) = &request.webhook_url {
        enqueue::check_webhook(&api.app, url).await.map_err(problem)?;
    }
    // Hashes the parsed request, so that its spelling does not matter.
    let body_sha256 = hex::encode(Sha256::digest(serde_json::to_vec(&request).unwrap_or_default()));
    let repeatable = name_sha256.map(|name_sha256| Repeatable { name_sha256, body_sha256 });
    if let Some(repeatable) = &repeatable {
        // Before the items are counted: the first request may have used up the quota.
        match api.app.store.repeated_batch(caller.owner(), repeatable, api.app.clock.now()).await? {
            Some(EnqueuedBatch::Before(id)) => return accepted(&api, id).await,
            Some(EnqueuedBatch::Reused) => return Err(problem(IdempotencyKeyError::Reused.into())),
            Some(EnqueuedBatch::New) | None => {}
        }
    }
    let items = checked(&api, &request.items)?;
    quota::check_storage(&api, &analysis.client, 0).await.map_err(problem)?;
    let starting = start(api.clone(), Caller::clone(&caller), analysis, request.webhook_url, items, repeatable);
    let id = upload::in_task(starting.instrument(step!("enqueue"))).await.map_err(problem)?;
    accepted(&api, id).await
}

/// Maximum number of bytes of an item in the body.
const ITEM_BYTES: u64 = 4 << 10;

/// An item whose address was checked, or the body of the problem for which it is refused.
type CheckedItem = Result<(VideoAddress, Option<String>), Map<String, Value>>;

fn problem(error: UploadError) -> Problem {
    error.problem(FileSource::Upload)
}

/// Checks the addresses of the items. Fails if the service fails, or if all items are refused.
fn checked(api: &Api, items: &[ItemRequest]) -> Result<Vec<CheckedItem>, Problem> {
    let mut checked = Vec::with_capacity(items.len());
    for item in items {
        checked.push(match enqueue::check_address(&api.app, &item.video_url) {
            Ok(address) => Ok((address, item.file_name.as_deref().and_then(form::plain_file_name))),
            Err(error @ UploadError::Address(_)) => Err(problem(error).body(Language::EN)),
            Err(error) => return Err(problem(error)),
        });
    }
    if checked.iter().any(Result::is_ok) {
        return Ok(checked);
    }
    let refused = checked.into_iter().enumerate().filter_map(|(index, item)| Some((index, item.err()?)));
    let refused: Vec<Value> = refused.map(|(index, error)| json!({"index": index, "error": error})).collect();
    Err(json_body::wrong(detail::no_item_accepted()).with("items", refused))
}

/// The analysis of each item. It has no webhook of its own, and the file name of none.
fn requested_analysis(
    api: &Api,
    caller: &Caller,
    client: Client,
    request: &BatchRequest,
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
    let priority = request.priority.unwrap_or_default();
    enqueue::check_priority(caller, priority)?;
    let mut statement = NoticeStatement::default();
    statement.set_members(request.notice.as_deref(), request.notice_version.as_deref())?;
    Ok(AnalysisRequest {
        client,
        options,
        notice: statement.record(&api.app, request.language)?,
        priority,
        recipients: Vec::new(),
        webhook: None,
        idempotency_key_sha256: None,
        content_sha256: String::new(),
        file_name: None,
        request_id: None,
    })
}

/// Stores the batch and queues its jobs. Returns its id.
async fn start(
    api: Api,
    caller: Caller,
    mut analysis: AnalysisRequest,
    webhook: Option<String>,
    items: Vec<CheckedItem>,
    repeatable: Option<Repeatable>,
) -> Result<Uuid, UploadError> {
    let accepted = items.iter().filter(|item| item.is_ok()).count();
    let counted = quota::count_several(&api, &caller, u32::try_from(accepted).unwrap_or(u32::MAX)).await?;
    let mut jobs = Vec::with_capacity(items.len());
    for item in items {
        jobs.push(match item {
            Ok((address, file_name)) => {
                analysis.file_name = file_name;
                NewItem::Job(Box::new(enqueue::job_of_address(&api, &caller, &mut analysis, address).await?))
            }
            Err(refusal) => NewItem::Refused(refusal),
        });
    }
    let id = api.app.tokens.next();
    let (request_id, trace) = (analysis.request_id.clone(), TraceContext::current());
    let batch = NewBatch { id, webhook, request_id, trace, items: jobs };
    let stored = api.app.store.enqueue_batch(caller.owner(), repeatable.as_ref(), &batch, api.app.clock.now()).await?;
    match stored {
        EnqueuedBatch::New => {
            counted.keep();
            tracing::info!(items = batch.items.len(), accepted, "a batch was accepted");
            Ok(id)
        }
        EnqueuedBatch::Before(before) => Ok(before),
        EnqueuedBatch::Reused => Err(IdempotencyKeyError::Reused.into()),
    }
}

/// The answer to an accepted batch.
async fn accepted(api: &Api, id: Uuid) -> Result<Response, Problem> {
    let store = &api.app.store;
    let batch = store.batch(id).await?.ok_or_else(Problem::internal)?;
    let view = BatchView::new(&api.app, &batch, store.batch_items(id).await?);
    let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/batches/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}
