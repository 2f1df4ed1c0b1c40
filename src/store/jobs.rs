//! The table `jobs`: one row for each uploaded video. The [`queue`](super::queue) is a set of these rows.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::results::StoredAnalysis;
use super::{Priority, Store, StoreError, Wake, bigint, decode, encode, millis, rank, time, unsigned};
use crate::analysis::{FailureReason, Notice, Options};
use crate::config::Secret;
use crate::telemetry::trace::TraceContext;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Queued,
    Running,
    Done,
    /// The analysis failed. [`Job::failure`] has the reason.
    Failed,
    Cancelled,
    /// The result was erased at the end of its retention. Only the token is still known.
    Expired,
}

impl Status {
    const ALL: [Self; 6] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled, Self::Expired];

    /// The name in the database and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Returns the status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    pub(super) fn from_stored(text: &str) -> Result<Self, StoreError> {
        let unknown = || StoreError::Corrupt { what: "status", reason: format!("{text:?} is not known") };
        Self::from_name(text).ok_or_else(unknown)
    }
}

/// Where the video of a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobVideo {
    /// In the blob store, under this key.
    Stored(String),
    /// At this address, from which a worker has yet to fetch it.
    Remote(Secret),
    /// In another bucket, as `s3://BUCKET/KEY`. It is read there, and is not visage's to delete.
    Object(String),
    /// Nowhere. The pictures come in a live session and are not stored.
    Live,
}

impl JobVideo {
    /// The values of the columns `video_key`, `video_url` and `video_object`.
    fn columns(&self) -> [Option<&str>; 3] {
        match self {
            Self::Stored(key) => [Some(key), None, None],
            Self::Remote(url) => [None, Some(url.expose()), None],
            Self::Object(object) => [None, None, Some(object)],
            Self::Live => [None; 3],
        }
    }

    /// Reads the columns `video_key`, `video_url` and `video_object`. `None` if all are NULL.
    pub(super) fn from_row(row: &AnyRow) -> Result<Option<Self>, StoreError> {
        if let Some(key) = row.try_get("video_key")? {
            return Ok(Some(Self::Stored(key)));
        }
        let url: Option<String> = row.try_get("video_url")?;
        let object: Option<String> = row.try_get("video_object")?;
        Ok(url.map(|url| Self::Remote(Secret::new(url))).or(object.map(Self::Object)))
    }
}

/// A job to queue.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub token: Uuid,
    pub video: JobVideo,
    pub options: Options,
    /// Mail addresses to which the report is sent.
    pub recipients: Vec<String>,
    /// The address of a webhook to call when the job ends.
    pub webhook: Option<String>,
    /// What the people in the video were told.
    pub notice: Option<Notice>,
    pub priority: Priority,
    pub origin: Origin,
}

/// Where the video of a job comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Pseudonym of the client that sent the video.
    pub client: Option<String>,
    /// Size of the stored video.
    pub size_bytes: u64,
    /// Id of the request that sent the video, for the log.
    pub request_id: Option<String>,
    /// The span that queues the job, for the spans of its runs.
    pub trace: Option<TraceContext>,
    /// Expected cost of the analysis, see [`Options::cost`]; `None` if unknown.
    pub cost: Option<u64>,
    /// The name of the client's file.
    pub file_name: Option<String>,
    /// Pseudonym of the recipient who has to confirm before mails are sent; `None` if nobody has to. Such a job has one
    /// recipient.
    pub consent: Option<String>,
}

/// The failure of a job, as told to the person who sent the video.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFailure {
    /// Stable snake_case code, such as `not_a_video`.
    pub code: String,
    /// In English.
    pub detail: String,
    /// `None` if an older version stored the failure, or if a newer version stored a reason unknown to this one.
    pub reason: Option<FailureReason>,
}

/// The progress of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobProgress {
    pub frames_done: u64,
    pub frames_total: u64,
}

/// A job as stored.
#[derive(Debug, Clone)]
pub struct Job {
    /// Increases from job to job.
    pub id: i64,
    pub token: Uuid,
    pub status: Status,
    /// Increases with every change of the job.
    pub version: i64,
    /// Erased in an expired job: both values are 0.
    pub options: Options,
    pub progress: JobProgress,
    /// Counted attempts. Runs that a shutdown, a lost worker or a part of the service broke off are not counted.
    pub attempts: u32,
    pub failure: Option<JobFailure>,
    pub created_at: Timestamp,
    /// Time at which a waiting job is due.
    pub run_at: Timestamp,
    pub priority: Priority,
    /// Its place in the [order of claims](super::rank).
    pub(super) rank: i64,
    /// Start of the first run.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Time at which the result will be erased; `None` if never, or if the job has not ended.
    pub expires_at: Option<Timestamp>,
    /// The id of the API key that sent the video; `None` if it was sent without a key.
    pub owner: Option<String>,
    /// The name of the client's file; `None` if it is not known or not kept.
    pub file_name: Option<String>,
    /// What the people in the video were told; `None` if the sender said nothing about it. Erased in an expired job.
    pub notice: Option<Notice>,
    /// Whether a worker has yet to fetch the video from its address.
    pub is_unfetched: bool,
}

/// The columns that [`from_row`] reads.
pub(super) const COLUMNS: &str = "id, status, version, options, frames_done, frames_total, attempts, failure_code, \
                                  failure_detail, failure_reason, created_at, run_at, started_at, finished_at, \
                                  expires_at, owner, notice, file_name, rank, \
                                  CASE WHEN video_url IS NULL THEN 0 ELSE 1 END AS unfetched";

/// Whether the video of a job is stored, or still known by its address.
pub(super) const HAS_VIDEO: &str = "(video_key IS NOT NULL OR video_url IS NOT NULL OR video_object IS NOT NULL)";

/// Placeholder options in the row of an expired job.
pub(super) const ERASED_OPTIONS: Options = Options::new(0, 0);

impl Store {
    /// Adds a job to the queue.
    ///
    /// # Errors
    /// The database does not answer, or another job has the token.
    pub async fn enqueue(&self, job: &NewJob, now: Timestamp) -> Result<(), StoreError> {
        self.enqueue_for(None, job, now).await
    }

    /// Like [`Store::enqueue`], for the API key `owner`.
    pub async fn enqueue_for(&self, owner: Option<&str>, job: &NewJob, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        Self::put_job(&mut tx, owner, job, now).await?;
        self.commit(tx, &[Wake::Work]).await
    }

    pub(super) async fn put_job(
        tx: &mut AnyConnection,
        owner: Option<&str>,
        job: &NewJob,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let options = encode("options", &job.options)?;
        let recipients = if job.recipients.is_empty() { None } else { Some(encode("recipients", &job.recipients)?) };
        let notice = job.notice.as_ref().map(|notice| encode("notice", notice)).transpose()?;
        let id: i64 = sqlx::query_scalar("UPDATE counters SET value = value + 1 WHERE name = 'jobs' RETURNING value")
            .fetch_one(&mut *tx)
            .await?;
        let rank = rank::of_new(tx, job, now).await?;
        let [key, url, object] = job.video.columns();
        sqlx::query(
            "INSERT INTO jobs (id, token, status, version, options, recipients, video_key, run_at, attempts, claim, \
                               frames_done, frames_total, created_at, owner, webhook, client, video_bytes, notice, \
                               consent, file_name, cost, request_id, video_url, video_object, rank, trace) \
             VALUES ($1, $2, 'queued', 1, $3, $4, $5, $6, 0, 0, 0, 0, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                     $16, $17, $18, $19)",
        )
        .bind(id)
        .bind(job.token.to_string())
        .bind(options)
        .bind(recipients)
        .bind(key)
        .bind(millis(now))
        .bind(owner)
        .bind(job.webhook.as_deref())
        .bind(job.origin.client.as_deref())
        .bind(bigint(job.origin.size_bytes))
        .bind(notice)
        .bind(job.origin.consent.as_deref())
        .bind(job.origin.file_name.as_deref())
        .bind(job.origin.cost.map(bigint))
        .bind(job.origin.request_id.as_deref())
        .bind(url)
        .bind(object)
        .bind(rank)
        .bind(job.origin.trace.as_ref().map(ToString::to_string))
        .execute(&mut *tx)
        .await?;
        match &job.origin.consent {
            Some(consent) => super::consents::ask(tx, consent, job, now).await,
            None => Ok(()),
        }
    }

    /// Returns the job of a token.
    pub async fn job(&self, token: Uuid) -> Result<Option<Job>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE token = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(token.to_string()).fetch_optional(self.pool()).await?;
        row.map(|row| from_row(token, &row)).transpose()
    }

    /// Returns the share id of a job; `fresh` if it has none yet. `None` if there is no such job.
    pub async fn share_id(&self, token: Uuid, fresh: Uuid) -> Result<Option<Uuid>, StoreError> {
        let id: Option<String> =
            sqlx::query_scalar("UPDATE jobs SET share_id = COALESCE(share_id, $2) WHERE token = $1 RETURNING share_id")
                .bind(token.to_string())
                .bind(fresh.to_string())
                .fetch_optional(self.pool())
                .await?;
        id.map(|id| super::uuid(&id)).transpose()
    }

    /// Returns the token of the job with this share id.
    pub async fn shared_token(&self, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        let token: Option<String> = sqlx::query_scalar("SELECT token FROM jobs WHERE share_id = $1")
            .bind(id.to_string())
            .fetch_optional(self.pool())
            .await?;
        token.map(|token| super::uuid(&token)).transpose()
    }

    /// Returns the jobs of these tokens, in one query. Erased jobs are left out.
    pub(super) async fn jobs_of(&self, tokens: &[Uuid]) -> Result<HashMap<Uuid, Job>, StoreError> {
        let sql = format!("SELECT token, {COLUMNS} FROM jobs WHERE token IN ({})", self.dialect().json_list);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(encode("tokens", &tokens)?);
        let rows = query.fetch_all(self.pool()).await?;
        let job = |row: &AnyRow| {
            let token = super::uuid(row.try_get("token")?)?;
            Ok((token, from_row(token, row)?))
        };
        rows.iter().map(job).collect()
    }

    /// Returns the job of a token, with its analysis if it is done.
    pub async fn job_with_analysis(&self, token: Uuid) -> Result<Option<(Job, Option<StoredAnalysis>)>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, analysis FROM jobs LEFT JOIN results ON results.token = jobs.token WHERE jobs.token = $1"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(token.to_string()).fetch_optional(self.pool()).await?;
        let both = |row: AnyRow| {
            let analysis: Option<String> = row.try_get("analysis")?;
            Ok((from_row(token, &row)?, analysis.map(StoredAnalysis)))
        };
        row.map(both).transpose()
    }

    /// Erases everything of a token: job, result, mail rows. Returns the key of its video if that is still stored, and
    /// `None` if there was no such job. A worker that runs the job gets [`super::ClaimState::Lost`] at its next
    /// heartbeat; this is how a running job is cancelled. The batch of the job ends if this was its last one.
    pub async fn erase(&self, token: Uuid, now: Timestamp) -> Result<Option<Option<String>>, StoreError> {
        self.within(self.erase_all_of(token, now)).await
    }

    async fn erase_all_of(&self, token: Uuid, now: Timestamp) -> Result<Option<Option<String>>, StoreError> {
        let mut tx = self.begin().await?;
        // Results and mails are deleted by ON DELETE CASCADE.
        let row = sqlx::query("DELETE FROM jobs WHERE token = $1 RETURNING video_key, batch")
            .bind(token.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let batch: Option<String> = row.as_ref().map(|row| row.try_get("batch")).transpose()?.flatten();
        if let Some(batch) = batch {
            super::batches::job_ended(&mut tx, &batch, now).await?;
            self.commit(tx, &[Wake::Ended(token), Wake::Mail]).await?;
        } else {
            self.commit(tx, &[Wake::Ended(token)]).await?;
        }
        Ok(row.map(|row| row.try_get("video_key")).transpose()?)
    }
}

pub(super) fn from_row(token: Uuid, row: &AnyRow) -> Result<Job, StoreError> {
    let moment = |column| row.try_get::<Option<i64>, _>(column)?.map(time).transpose();
    let code: Option<String> = row.try_get("failure_code")?;
    let detail: Option<String> = row.try_get("failure_detail")?;
    let reason: Option<String> = row.try_get("failure_reason")?;
    let reason = reason.and_then(|reason| serde_json::from_str(&reason).ok());
    let notice: Option<&str> = row.try_get("notice")?;
    let (attempts, rank): (i64, i64) = (row.try_get("attempts")?, row.try_get("rank")?);
    Ok(Job {
        id: row.try_get("id")?,
        token,
        status: Status::from_stored(row.try_get("status")?)?,
        version: row.try_get("version")?,
        options: decode("options", row.try_get("options")?)?,
        progress: JobProgress {
            frames_done: unsigned(row.try_get("frames_done")?),
            frames_total: unsigned(row.try_get("frames_total")?),
        },
        attempts: u32::try_from(attempts).unwrap_or_default(),
        failure: code.map(|code| JobFailure { code, detail: detail.unwrap_or_default(), reason }),
        created_at: time(row.try_get("created_at")?)?,
        run_at: time(row.try_get("run_at")?)?,
        priority: Priority::of_rank(rank),
        rank,
        started_at: moment("started_at")?,
        finished_at: moment("finished_at")?,
        expires_at: moment("expires_at")?,
        owner: row.try_get("owner")?,
        file_name: row.try_get("file_name")?,
        notice: notice.map(|notice| decode("notice", notice)).transpose()?,
        is_unfetched: row.try_get::<i32, _>("unfetched")? == 1,
    })
}
