//! Views of a job for clients.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::analysis::{Analysis, Language, Notice, Options};
use crate::api::problem::{FailureBody, detail};
use crate::api::{AppState, Caller, Problem};
use crate::store::{Job, Priority, QueuePlace, Status, StoredAnalysis};

/// Seconds after which asking again makes sense, while a job is unfinished.
pub const POLL_AGAIN_S: u64 = 2;

/// Largest fraction of a running job.
const ALMOST: f64 = 0.99;

/// The state of an analysis, and its result when it is done.
#[derive(Serialize, ToSchema)]
#[schema(as = Result)]
pub struct JobView {
    /// The token of the analysis. With a share link: the id in that link.
    token: Uuid,
    /// The name of the sent file; null if it is not known or not kept.
    file_name: Option<String>,
    status: Status,
    progress: ProgressView,
    /// The place in the queue. Null unless `status` is `queued`, and for a moment after the video was sent.
    queue: Option<QueueView>,
    options: Options,
    priority: Priority,
    /// Number of runs that were started.
    attempts: u32,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// Time at which the result is erased. Null: never.
    expires_at: Option<Timestamp>,
    links: Links,
    /// What the sender stated about informing the people in the video. Null if the sender stated nothing.
    notice: Option<Notice>,
    /// The reason for a failed analysis, as a problem (RFC 9457). Otherwise null.
    #[schema(value_type = Option<FailureBody>)]
    error: Option<Map<String, Value>>,
    /// The result. Null unless `status` is `done`.
    #[schema(value_type = Option<Analysis>)]
    analysis: Option<Box<RawValue>>,
}

/// An analysis in a list, without its result.
#[derive(Serialize, ToSchema)]
#[schema(as = Listed)]
pub struct ListedView {
    token: Uuid,
    /// The name of the sent file; null if it is not known or not kept.
    file_name: Option<String>,
    status: Status,
    progress: ProgressView,
    /// The place in the queue. Null unless `status` is `queued`, and for a moment after the video was sent.
    queue: Option<QueueView>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// Time at which the result is erased. Null: never.
    expires_at: Option<Timestamp>,
    links: Links,
    /// The reason for a failed analysis, as a problem (RFC 9457). Otherwise null.
    #[schema(value_type = Option<FailureBody>)]
    error: Option<Map<String, Value>>,
}

impl ListedView {
    pub fn new(app: &AppState, job: &Job, place: Option<QueuePlace>) -> Self {
        Self {
            token: job.token,
            file_name: job.file_name.clone(),
            status: job.status,
            progress: ProgressView::new(job),
            queue: place.map(QueueView::from),
            created_at: job.created_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            links: Links::new(app, job.token),
            error: failure_body(job, None),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Progress)]
pub struct ProgressView {
    /// 0 to 1. Null if the number of frames is unknown.
    fraction: Option<f64>,
    frames_done: u64,
    frames_total: u64,
    /// `waiting`, `fetching` (from the address that was sent), `opening`, `analyzing` or `finished`.
    stage: &'static str,
}

/// The place of a waiting analysis in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = QueuePlace)]
pub struct QueueView {
    /// Number of waiting videos that would be analyzed before this one. Exact up to 1000, then rounded down to hundreds.
    /// It can grow: videos of other senders, and more urgent ones, may go first.
    ahead: u64,
    /// Estimated seconds until the analysis starts, from the running times of the last analyses, the number of workers,
    /// and the lengths and samples of the videos before it. Null if no worker is active or nothing was measured yet.
    starts_in_s: Option<u64>,
}

impl From<QueuePlace> for QueueView {
    fn from(place: QueuePlace) -> Self {
        let starts_in_s = place.starts_in.map(|time| time.as_millis().div_ceil(1000));
        Self { ahead: place.ahead, starts_in_s: starts_in_s.map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX)) }
    }
}

/// Addresses of the calls about an analysis.
#[derive(Debug, Serialize, ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    this: String,
    report: String,
    timeline: String,
    events: String,
}

impl Links {
    pub fn new(app: &AppState, token: Uuid) -> Self {
        let this = format!("{}/results/{token}", app.settings.http.base_url());
        Self {
            report: format!("{this}/report"),
            timeline: format!("{this}/timeline"),
            events: format!("{this}/events"),
            this,
        }
    }
}

impl JobView {
    /// `id` is the token, or the share id for a reader with a share link. `language` is that of the error; by default
    /// English.
    pub fn new(
        app: &AppState,
        id: Uuid,
        job: &Job,
        place: Option<QueuePlace>,
        analysis: Option<Box<RawValue>>,
        language: Option<Language>,
    ) -> Self {
        Self {
            token: id,
            file_name: job.file_name.clone(),
            status: job.status,
            progress: ProgressView::new(job),
            queue: place.map(QueueView::from),
            options: job.options,
            priority: job.priority,
            attempts: job.attempts,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            links: Links::new(app, id),
            notice: job.notice.clone(),
            error: failure_body(job, language),
            analysis,
        }
    }
}

impl ProgressView {
    /// 0 to 1; `None` if the number of frames is unknown.
    pub const fn fraction(&self) -> Option<f64> {
        self.fraction
    }

    pub fn new(job: &Job) -> Self {
        let (frames_done, frames_total) = (job.progress.frames_done, job.progress.frames_total);
        #[expect(clippy::cast_precision_loss, reason = "no video has 2^52 frames")]
        let share = |done: u64, total: u64| (done as f64 / total as f64).min(1.0);
        let (stage, fraction) = match job.status {
            Status::Queued => ("waiting", Some(0.0)),
            Status::Running if job.is_unfetched => ("fetching", Some(0.0)),
            Status::Running if frames_done == 0 => ("opening", Some(0.0)),
            // After the last frame, the results still have to be summarised.
            Status::Running => ("analyzing", (frames_total > 0).then(|| share(frames_done, frames_total).min(ALMOST))),
            Status::Done => ("finished", Some(1.0)),
            Status::Failed | Status::Cancelled | Status::Expired => {
                ("finished", (frames_total > 0).then(|| share(frames_done, frames_total)))
            }
        };
        Self { fraction, frames_done, frames_total, stage }
    }
}

/// Whether the job has reached its final state. It may still be erased.
pub fn is_settled(job: &Job) -> bool {
    !matches!(job.status, Status::Queued | Status::Running)
}

/// The problem of a failed job.
pub fn failure(job: &Job) -> Option<Problem> {
    let failure = job.failure.as_ref().filter(|_| job.status == Status::Failed)?;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Some(match &failure.reason {
        Some(reason) => Problem::of_failure(status, reason.clone()),
        None => Problem::of_stored_failure(status, failure),
    })
}

/// The problem inside a failed job: in the given language, or in English as it is stored.
pub fn failure_body(job: &Job, language: Option<Language>) -> Option<Map<String, Value>> {
    let problem = match (language, &job.failure) {
        (None, Some(stored)) => {
            failure(job).map(|_| Problem::of_stored_failure(StatusCode::UNPROCESSABLE_ENTITY, stored))
        }
        _ => failure(job),
    };
    Some(problem?.body(language.unwrap_or_default()))
}

/// Parses the token in a path, or the share id of a reader with a share link, and returns the token. The problem of
/// invalid text is the same as that of an unknown token.
pub fn shared_token(caller: &Caller, text: &str) -> Result<Uuid, Problem> {
    Ok(caller.token_of(token(text)?))
}

/// Parses the token of a path. Invalid text gives the same problem as an unknown token.
pub fn token(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| unknown())
}

pub fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, detail::unknown_token())
}

/// The job of a token in any state. 404 if the token is unknown or the caller may not see the job.
pub async fn known(app: &AppState, caller: &Caller, token: Uuid) -> Result<Job, Problem> {
    seen_by(caller, app.store.job(token).await?)
}

/// The job, if it exists and the caller may see it.
fn seen_by(caller: &Caller, job: Option<Job>) -> Result<Job, Problem> {
    job.filter(|job| caller.may_see(job.owner.as_deref()) || caller.shares(job.token)).ok_or_else(unknown)
}

/// The job of a token, unless its result has expired. 404 like [`known`], 410 if the result has expired.
pub async fn find(app: &AppState, caller: &Caller, token: Uuid) -> Result<Job, Problem> {
    unexpired(known(app, caller, token).await?)
}

/// The job like [`find`], with its analysis if it is done.
pub async fn find_with_analysis(
    app: &AppState,
    caller: &Caller,
    token: Uuid,
) -> Result<(Job, Option<StoredAnalysis>), Problem> {
    let (job, analysis) = app.store.job_with_analysis(token).await?.unzip();
    Ok((unexpired(seen_by(caller, job)?)?, analysis.flatten()))
}

fn unexpired(job: Job) -> Result<Job, Problem> {
    if job.status == Status::Expired {
        return Err(Problem::new(StatusCode::GONE, detail::expired()));
    }
    Ok(job)
}

/// The job of a token, if it has a result. Otherwise the errors of [`find`], 409 with `Retry-After` for an unfinished
/// job, 409 for a cancelled one, or the problem of a failed one.
pub async fn done(app: &AppState, caller: &Caller, token: Uuid) -> Result<Job, Problem> {
    let job = find(app, caller, token).await?;
    match job.status {
        Status::Done => Ok(job),
        Status::Failed => Err(failure(&job).unwrap_or_else(Problem::internal)),
        Status::Cancelled => Err(Problem::new(StatusCode::CONFLICT, detail::cancelled())),
        Status::Queued | Status::Running | Status::Expired => {
            let problem = Problem::new(StatusCode::CONFLICT, detail::not_finished());
            Err(problem.retry_after(POLL_AGAIN_S))
        }
    }
}

/// The entity tag of the current state of a job. It is weak, because compression may change the bytes.
pub fn etag(job: &Job) -> String {
    format!("W/\"v{}\"", job.version)
}

/// Whether `If-None-Match` names this tag (RFC 9110, weak comparison).
pub fn matches(headers: &HeaderMap, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || bare(tag) == bare(etag))
}

/// `Cache-Control` of answers with personal data: no cache may keep them, that of the browser neither.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
