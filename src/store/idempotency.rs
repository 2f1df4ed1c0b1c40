//! The table `idempotency`: a client that repeats a request, not knowing whether it was taken, gets the answer of the
//! first. The row is written in the transaction that queues the job, so of two repetitions at the same moment one
//! queues and the other finds its token.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::queue::uuid;
use super::{NewJob, Store, StoreError, Wake, millis};

/// For so long a repetition is recognized.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// A request that may be a repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeatable {
    /// SHA-256 of the client's name for the request, in hexadecimal.
    pub name_sha256: String,
    /// SHA-256 of what the request holds, in hexadecimal.
    pub body_sha256: String,
}

/// What became of a job to queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    New,
    /// The request was taken before, and this is the token of its job. Nothing was queued.
    Before(Uuid),
    /// The name was used before for something else. Nothing was queued.
    Reused,
}

impl Store {
    /// Puts a job into the queue for the key of that id, if its request is no repetition.
    ///
    /// # Errors
    /// The database does not answer, or the token is taken.
    pub async fn enqueue_once(
        &self,
        owner: Option<&str>,
        request: Option<&Repeatable>,
        job: &NewJob,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        self.within(self.enqueue_with(owner, request, job, None, now)).await
    }

    /// As [`Store::enqueue_once`]; the video came in parts, as this upload, which becomes the job. One that became a job
    /// before keeps it.
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
        // Takes the lock under which jobs are numbered, so what is read below cannot change until the end.
        Self::put_job(&mut tx, owner, job, now).await?;
        if let Some(upload) = upload
            && let Some(token) = super::uploads::becomes(&mut tx, upload, job.token).await?
        {
            tx.rollback().await?;
            return Ok(Enqueued::Before(token));
        }
        let Some(request) = request else {
            self.commit(tx, &[Wake::Work]).await?;
            return Ok(Enqueued::New);
        };
        if let Some((body, token)) = taken(&mut tx, owner.unwrap_or_default(), &request.name_sha256, now).await? {
            tx.rollback().await?;
            return Ok(if body == request.body_sha256 { Enqueued::Before(token) } else { Enqueued::Reused });
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

    /// Forgets requests whose repetition is no longer recognized at `now`; how many.
    pub async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM idempotency WHERE created_at <= $1")
            .bind(oldest(now))
            .execute(self.pool())
            .await?;
        Ok(forgotten.rows_affected())
    }
}

/// Body and token of the request of that name, if it is remembered.
async fn taken(
    tx: &mut AnyConnection,
    owner: &str,
    name: &str,
    now: Timestamp,
) -> Result<Option<(String, Uuid)>, StoreError> {
    sqlx::query("DELETE FROM idempotency WHERE owner = $1 AND name_sha256 = $2 AND created_at <= $3")
        .bind(owner)
        .bind(name)
        .bind(oldest(now))
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query("SELECT body_sha256, token FROM idempotency WHERE owner = $1 AND name_sha256 = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
    row.map(|row| Ok((row.try_get("body_sha256")?, uuid(row.try_get("token")?)?))).transpose()
}

/// What was taken by then is forgotten.
fn oldest(now: Timestamp) -> i64 {
    let remembered = i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
    millis(now).saturating_sub(remembered)
}
