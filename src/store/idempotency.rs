//! The tables `idempotency` and `batch_requests`: a client may repeat a request if it did not get the answer. The repetition gets the token
//! of the first request. The row is written in the transaction that queues the job. If the same request arrives twice
//! at the same moment, one of them queues the job and the other finds its token.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use uuid::Uuid;

use super::{NewJob, Store, StoreError, Wake, millis, uuid};

/// How long a repetition is recognized.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// A request that may be a repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeatable {
    /// SHA-256 of the `Idempotency-Key` header, in hexadecimal.
    pub name_sha256: String,
    /// SHA-256 of the request's fields, in hexadecimal.
    pub body_sha256: String,
}

/// The result of queueing a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    New,
    /// The request is a repetition; this is the token of the job from the first one. Nothing was queued.
    Before(Uuid),
    /// The `Idempotency-Key` was used before for another request. Nothing was queued.
    Reused,
}

impl Store {
    /// Queues a job for the API key `owner`, unless its request is a repetition.
    ///
    /// # Errors
    /// The database does not answer, or another job has the token.
    pub async fn enqueue_once(
        &self,
        owner: Option<&str>,
        request: Option<&Repeatable>,
        job: &NewJob,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        self.within(self.enqueue_with(owner, request, job, None, now)).await
    }

    /// Like [`Store::enqueue_once`], for the video of a multipart upload. Links the upload to the job. An upload that
    /// is linked to a job already keeps it.
    pub async fn enqueue_upload(
        &self,
        owner: Option<&str>,
        request: Option<&Repeatable>,
        job: &NewJob,
        upload: Uuid,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        self.within(self.enqueue_with(owner, request, job, Some(upload), now)).await
    }

    async fn enqueue_with(
        &self,
        owner: Option<&str>,
        request: Option<&Repeatable>,
        job: &NewJob,
        upload: Option<Uuid>,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        let mut tx = self.begin().await?;
        // Locks the row of the job counter until the transaction ends, so the rows read below cannot change meanwhile.
        Self::put_job(&mut tx, owner, job, now).await?;
        if let Some(upload) = upload
            && let Some(token) = super::uploads::link_to_job(&mut tx, upload, job.token).await?
        {
            tx.rollback().await?;
            return Ok(Enqueued::Before(token));
        }
        let Some(request) = request else {
            self.commit(tx, &[Wake::Work]).await?;
            return Ok(Enqueued::New);
        };
        if let Some(earlier) = remembered(&mut tx, owner.unwrap_or_default(), &request.name_sha256, now).await? {
            tx.rollback().await?;
            return Ok(match earlier {
                Earlier::Job { body_sha256, token } if body_sha256 == request.body_sha256 => Enqueued::Before(token),
                Earlier::Job { .. } | Earlier::Batch { .. } => Enqueued::Reused,
            });
        }
        sqlx::query(
            "INSERT INTO idempotency (owner, name_sha256, body_sha256, token, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(owner.unwrap_or_default())
        .bind(&request.name_sha256)
        .bind(&request.body_sha256)
        .bind(job.token.to_string())
        .bind(millis(now))
        .execute(&mut *tx)
        .await?;
        self.commit(tx, &[Wake::Work]).await?;
        Ok(Enqueued::New)
    }

    /// Deletes requests older than [`REMEMBERED`]. Returns their number.
    pub async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM idempotency WHERE created_at <= $1")
            .bind(cutoff(now))
            .execute(self.pool())
            .await?;
        let batches = sqlx::query("DELETE FROM batch_requests WHERE created_at <= $1")
            .bind(cutoff(now))
            .execute(self.pool())
            .await?;
        Ok(forgotten.rows_affected() + batches.rows_affected())
    }
}

/// An earlier request with the same key.
pub(super) enum Earlier {
    Job { body_sha256: String, token: Uuid },
    Batch { body_sha256: String, id: Uuid },
}

/// Returns the earlier request with the same key. Forgets it if it is too old.
pub(super) async fn remembered(
    tx: &mut AnyConnection,
    owner: &str,
    name: &str,
    now: Timestamp,
) -> Result<Option<Earlier>, StoreError> {
    for table in ["idempotency", "batch_requests"] {
        let sql = format!("DELETE FROM {table} WHERE owner = $1 AND name_sha256 = $2 AND created_at <= $3");
        sqlx::query(AssertSqlSafe(sql)).bind(owner).bind(name).bind(cutoff(now)).execute(&mut *tx).await?;
    }
    let row = sqlx::query("SELECT body_sha256, token FROM idempotency WHERE owner = $1 AND name_sha256 = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(row) = row {
        return Ok(Some(Earlier::Job {
            body_sha256: row.try_get("body_sha256")?,
            token: uuid(row.try_get("token")?)?,
        }));
    }
    let row = sqlx::query("SELECT body_sha256, batch FROM batch_requests WHERE owner = $1 AND name_sha256 = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
    row.map(|row| Ok(Earlier::Batch { body_sha256: row.try_get("body_sha256")?, id: uuid(row.try_get("batch")?)? }))
        .transpose()
}

/// Requests from this time or before are no longer recognized.
fn cutoff(now: Timestamp) -> i64 {
    let remembered = i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
    millis(now).saturating_sub(remembered)
}
