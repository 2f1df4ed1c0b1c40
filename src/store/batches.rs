//! The tables `batches` and `batch_items`: videos that one request sends by address. Each accepted item is a job of the
//! table `jobs`, with the id of its batch.
//!
//! A batch ends in the transaction that ends its last job ([`job_ended`]), which also queues its webhook. Erasing or
//! expiring a job leaves its item in the batch.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use tokio::time::timeout;
use uuid::Uuid;

use super::idempotency::{Earlier, remembered};
use super::{
    Job, NewJob, Repeatable, Status, Store, StoreError, Wake, decode, encode, millis, outbox, time, unsigned, uuid,
};
use crate::telemetry::trace::TraceContext;

/// Additional time that each item of a new batch may take to store.
const TIME_PER_ITEM: Duration = Duration::from_millis(20);

/// The columns that [`from_row`] reads.
const COLUMNS: &str = "id, number, owner, created_at, ended_at, cancelled_at";

/// An item of a new batch.
#[derive(Debug, Clone)]
pub enum NewItem {
    Job(Box<NewJob>),
    /// The body of the problem for which the item was refused.
    Refused(Map<String, Value>),
}

/// A batch to store.
#[derive(Debug, Clone)]
pub struct NewBatch {
    pub id: Uuid,
    /// The address of the webhook to send when the batch ends.
    pub webhook: Option<String>,
    /// Id of the request that sent the batch, for the log.
    pub request_id: Option<String>,
    /// The span that queues the batch, for the span of its webhook.
    pub trace: Option<TraceContext>,
    /// In the order of the request. At least one is a job.
    pub items: Vec<NewItem>,
}

/// The result of storing a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueuedBatch {
    New,
    /// The request is a repetition; this is the batch from the first one. Nothing was stored.
    Before(Uuid),
    /// The `Idempotency-Key` was used before for another request. Nothing was stored.
    Reused,
}

/// A batch as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub id: Uuid,
    /// Rises from batch to batch.
    pub number: i64,
    /// The id of the API key that sent it.
    pub owner: Option<String>,
    pub created_at: Timestamp,
    /// The end of the last job.
    pub ended_at: Option<Timestamp>,
    pub cancelled_at: Option<Timestamp>,
}

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    /// There is no job, because the item was wrong.
    Refused,
    /// Its job was erased when the batch was cancelled.
    Cancelled,
    /// Its job was erased.
    Erased,
    /// Its job has this status.
    Job(Status),
}

/// An item of a stored batch.
#[derive(Debug, Clone)]
pub struct BatchItem {
    pub state: ItemState,
    /// `None` if the item was refused.
    pub token: Option<Uuid>,
    /// `None` if there is no job, or no longer.
    pub job: Option<Job>,
    /// The body of the problem for which the item was refused.
    pub refusal: Option<Map<String, Value>>,
}

impl Store {
    /// Stores a batch and queues its jobs for the API key `owner`, in one transaction, unless its request is a
    /// repetition.
    pub async fn enqueue_batch(
        &self,
        owner: Option<&str>,
        request: Option<&Repeatable>,
        batch: &NewBatch,
        now: Timestamp,
    ) -> Result<EnqueuedBatch, StoreError> {
        let limit = self.1 + TIME_PER_ITEM * u32::try_from(batch.items.len()).unwrap_or(u32::MAX);
        let stored = timeout(limit, self.enqueue_batch_with(owner, request, batch, now)).await;
        stored.unwrap_or(Err(StoreError::Sql(sqlx::Error::PoolTimedOut)))
    }

    async fn enqueue_batch_with(
        &self,
        owner: Option<&str>,
        request: Option<&Repeatable>,
        batch: &NewBatch,
        now: Timestamp,
    ) -> Result<EnqueuedBatch, StoreError> {
        let mut tx = self.begin().await?;
        // Locks the row of the job counter, as each job does, so that the requests read below cannot change meanwhile.
        sqlx::query("UPDATE counters SET value = value WHERE name = 'jobs'").execute(&mut *tx).await?;
        if let Some(request) = request
            && let Some(earlier) = remembered(&mut tx, owner.unwrap_or_default(), &request.name_sha256, now).await?
        {
            tx.rollback().await?;
            return Ok(repeated(&earlier, request));
        }
        let number: i64 =
            sqlx::query_scalar("UPDATE counters SET value = value + 1 WHERE name = 'batches' RETURNING value")
                .fetch_one(&mut *tx)
                .await?;
        let id = batch.id.to_string();
        sqlx::query(
            "INSERT INTO batches (id, number, owner, version, webhook, request_id, created_at, trace) \
             VALUES ($1, $2, $3, 1, $4, $5, $6, $7)",
        )
        .bind(&id)
        .bind(number)
        .bind(owner)
        .bind(batch.webhook.as_deref())
        .bind(batch.request_id.as_deref())
        .bind(millis(now))
        .bind(batch.trace.as_ref().map(ToString::to_string))
        .execute(&mut *tx)
        .await?;
        let mut tokens = Vec::with_capacity(batch.items.len());
        for (position, item) in (0_i64..).zip(&batch.items) {
            let (token, refusal) = match item {
                NewItem::Job(job) => {
                    Self::put_job(&mut tx, owner, job, now).await?;
                    tokens.push(job.token);
                    (Some(job.token.to_string()), None)
                }
                NewItem::Refused(problem) => (None, Some(encode("refusal", problem)?)),
            };
            sqlx::query("INSERT INTO batch_items (batch, position, token, refusal) VALUES ($1, $2, $3, $4)")
                .bind(&id)
                .bind(position)
                .bind(token)
                .bind(refusal)
                .execute(&mut *tx)
                .await?;
        }
        let sql = format!("UPDATE jobs SET batch = $2 WHERE token IN ({})", self.dialect().json_list);
        sqlx::query(AssertSqlSafe(sql)).bind(encode("tokens", &tokens)?).bind(&id).execute(&mut *tx).await?;
        if let Some(request) = request {
            sqlx::query(
                "INSERT INTO batch_requests (owner, name_sha256, body_sha256, batch, created_at) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(owner.unwrap_or_default())
            .bind(&request.name_sha256)
            .bind(&request.body_sha256)
            .bind(&id)
            .bind(millis(now))
            .execute(&mut *tx)
            .await?;
        }
        self.commit(tx, &[Wake::Work]).await?;
        Ok(EnqueuedBatch::New)
    }

    /// Returns what the request of a batch would be answered with if it is a repetition, and otherwise `None`.
    pub async fn repeated_batch(
        &self,
        owner: Option<&str>,
        request: &Repeatable,
        now: Timestamp,
    ) -> Result<Option<EnqueuedBatch>, StoreError> {
        let earlier = async {
            let mut tx = self.begin().await?;
            let earlier = remembered(&mut tx, owner.unwrap_or_default(), &request.name_sha256, now).await?;
            self.commit(tx, &[]).await?;
            Ok(earlier.map(|earlier| repeated(&earlier, request)))
        };
        self.within(earlier).await
    }

    /// Returns the batch with this id.
    pub async fn batch(&self, id: Uuid) -> Result<Option<Batch>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM batches WHERE id = $1")))
            .bind(id.to_string())
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Returns at most `limit` batches with a number below `below`, newest first; those of one key, or all.
    pub async fn batches(&self, owner: Option<&str>, below: Option<i64>, limit: u32) -> Result<Vec<Batch>, StoreError> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM batches WHERE (CAST($1 AS TEXT) IS NULL OR owner = $1) AND number < $2 \
             ORDER BY number DESC LIMIT $3",
        )))
        .bind(owner)
        .bind(below.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Returns the items of a batch in the order of the request.
    pub async fn batch_items(&self, id: Uuid) -> Result<Vec<BatchItem>, StoreError> {
        let rows = sqlx::query("SELECT token, refusal, cancelled FROM batch_items WHERE batch = $1 ORDER BY position")
            .bind(id.to_string())
            .fetch_all(self.pool())
            .await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            let (token, refusal): (Option<&str>, Option<&str>) = (row.try_get("token")?, row.try_get("refusal")?);
            let refusal = refusal.map(|refusal| decode("refusal", refusal)).transpose()?;
            let is_cancelled = row.try_get::<i64, _>("cancelled")? == 1;
            items.push((token.map(uuid).transpose()?, refusal, is_cancelled));
        }
        let tokens: Vec<Uuid> = items.iter().filter_map(|(token, ..)| *token).collect();
        let mut jobs = self.jobs_of(&tokens).await?;
        let item = |(token, refusal, is_cancelled): (Option<Uuid>, _, bool)| {
            let job = token.and_then(|token| jobs.remove(&token));
            let state = match &job {
                Some(job) => ItemState::Job(job.status),
                None if token.is_none() => ItemState::Refused,
                None if is_cancelled => ItemState::Cancelled,
                None => ItemState::Erased,
            };
            BatchItem { state, token, job, refusal }
        };
        Ok(items.into_iter().map(item).collect())
    }

    /// Counts the items of these batches by their state.
    pub async fn batch_states(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, ItemState, u64)>, StoreError> {
        let sql = format!(
            "SELECT batch_items.batch AS batch, \
                    CASE WHEN batch_items.token IS NULL THEN 'refused' \
                         WHEN jobs.status IS NOT NULL THEN jobs.status \
                         WHEN batch_items.cancelled = 1 THEN 'erased by cancelling' \
                         ELSE 'erased' END AS state, \
                    COUNT(*) AS items \
             FROM batch_items LEFT JOIN jobs ON jobs.token = batch_items.token \
             WHERE batch_items.batch IN ({}) GROUP BY 1, 2",
            self.dialect().json_list
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(encode("ids", &ids)?).fetch_all(self.pool()).await?;
        let count = |row: &AnyRow| {
            let state: &str = row.try_get("state")?;
            let state = match state {
                "refused" => ItemState::Refused,
                "erased by cancelling" => ItemState::Cancelled,
                "erased" => ItemState::Erased,
                status => ItemState::Job(Status::from_stored(status)?),
            };
            Ok((uuid(row.try_get("batch")?)?, state, unsigned(row.try_get("items")?)))
        };
        rows.iter().map(count).collect()
    }

    /// Cancels a batch: erases its jobs that have not ended, and ends the batch. Returns the keys of their stored videos.
    /// A batch that has ended stays as it is.
    pub async fn cancel_batch(&self, id: Uuid, now: Timestamp) -> Result<Vec<String>, StoreError> {
        self.within(self.cancel_batch_now(id, now)).await
    }

    async fn cancel_batch_now(&self, id: Uuid, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        // The jobs first, in the order in which the end of a job locks both.
        let rows = sqlx::query(
            "DELETE FROM jobs \
             WHERE batch = $1 AND status IN ('queued', 'running') \
               AND EXISTS (SELECT id FROM batches WHERE id = $1 AND ended_at IS NULL) \
             RETURNING token, video_key",
        )
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await?;
        let (mut wakes, mut keys) = (vec![Wake::Mail], Vec::new());
        for row in &rows {
            let token: &str = row.try_get("token")?;
            sqlx::query("UPDATE batch_items SET cancelled = 1 WHERE batch = $1 AND token = $2")
                .bind(id.to_string())
                .bind(token)
                .execute(&mut *tx)
                .await?;
            wakes.push(Wake::Ended(uuid(token)?));
            keys.extend(row.try_get::<Option<String>, _>("video_key")?);
        }
        if !rows.is_empty() {
            sqlx::query("UPDATE batches SET cancelled_at = $2 WHERE id = $1 AND ended_at IS NULL")
                .bind(id.to_string())
                .bind(millis(now))
                .execute(&mut *tx)
                .await?;
        }
        job_ended(&mut tx, &id.to_string(), now).await?;
        self.commit(tx, &wakes).await?;
        Ok(keys)
    }

    /// Erases a batch with all its jobs and results. Returns the keys of their stored videos, and `None` if there was no
    /// such batch.
    pub async fn erase_batch(&self, id: Uuid) -> Result<Option<Vec<String>>, StoreError> {
        self.within(self.erase_batch_now(id)).await
    }

    async fn erase_batch_now(&self, id: Uuid) -> Result<Option<Vec<String>>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query("DELETE FROM jobs WHERE batch = $1 RETURNING token, video_key")
            .bind(id.to_string())
            .fetch_all(&mut *tx)
            .await?;
        let (mut wakes, mut keys) = (Vec::new(), Vec::new());
        for row in &rows {
            wakes.push(Wake::Ended(uuid(row.try_get("token")?)?));
            keys.extend(row.try_get::<Option<String>, _>("video_key")?);
        }
        let erased = sqlx::query("DELETE FROM batches WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        self.commit(tx, &wakes).await?;
        Ok((erased.rows_affected() > 0).then_some(keys))
    }

    /// Ends at most `limit` batches whose jobs have all ended, but whose last job was ended by a process of an older
    /// version. Returns their number.
    pub async fn end_batches(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM batches WHERE ended_at IS NULL \
               AND NOT EXISTS (SELECT id FROM jobs WHERE jobs.batch = batches.id AND status IN ('queued', 'running')) \
             ORDER BY number LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        for id in &ids {
            let mut tx = self.begin().await?;
            job_ended(&mut tx, id, now).await?;
            self.commit(tx, &[Wake::Mail]).await?;
        }
        Ok(ids.len() as u64)
    }
}

/// Ends a batch and queues its webhook if its last job has ended, within the transaction that ends or erases a job of
/// it. The row of that job must have been changed before.
pub(super) async fn job_ended(tx: &mut AnyConnection, id: &str, now: Timestamp) -> Result<(), StoreError> {
    // Locks the row. On Postgres, the next query then sees the end of each job whose transaction had the lock before.
    let row =
        sqlx::query("UPDATE batches SET version = version + 1 WHERE id = $1 AND ended_at IS NULL RETURNING webhook")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(row) = row else { return Ok(()) };
    let webhook: Option<String> = row.try_get("webhook")?;
    let open: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE batch = $1 AND status IN ('queued', 'running')")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
    if open > 0 {
        return Ok(());
    }
    sqlx::query("UPDATE batches SET ended_at = $2, webhook = NULL WHERE id = $1")
        .bind(id)
        .bind(millis(now))
        .execute(&mut *tx)
        .await?;
    match webhook {
        Some(webhook) => outbox::put_batch_webhook(tx, id, &webhook, now).await,
        None => Ok(()),
    }
}

fn repeated(earlier: &Earlier, request: &Repeatable) -> EnqueuedBatch {
    match earlier {
        Earlier::Batch { body_sha256, id } if *body_sha256 == request.body_sha256 => EnqueuedBatch::Before(*id),
        _ => EnqueuedBatch::Reused,
    }
}

fn from_row(row: &AnyRow) -> Result<Batch, StoreError> {
    let moment = |column| row.try_get::<Option<i64>, _>(column)?.map(time).transpose();
    Ok(Batch {
        id: uuid(row.try_get("id")?)?,
        number: row.try_get("number")?,
        owner: row.try_get("owner")?,
        created_at: time(row.try_get("created_at")?)?,
        ended_at: moment("ended_at")?,
        cancelled_at: moment("cancelled_at")?,
    })
}
