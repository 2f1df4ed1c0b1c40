//! The queue: rows of `jobs` that wait or run.
//!
//! Delivery is at least once. A worker claims a job for a lease and renews it while it runs; a job whose lease ran out
//! goes to the next worker, until its runs are used up: then it becomes failed, with its reason (the dead letter).
//! Every write of a worker carries the number of its claim, so that one whose job went to another changes nothing.
//!
//! Why not a ready-made queue: `apalis` 1.0 (with `apalis-postgres` and `apalis-sqlite`) was read and not taken. Its
//! lease belongs to the worker, not to the job; putting the jobs of a dead worker back sets them to pending, and what
//! fetches pending jobs does not look at their attempts, so that a video which kills its worker would run for ever
//! instead of reaching the dead letter. It has no backoff between runs, its times are the database's, and it puts jobs
//! in and finishes them in transactions of its own, while here a result, its mails and the end of the job are one.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{Failure, JobProgress, MailKind, NewMail, Store, StoreError, Wake, bigint, decode, millis};
use crate::analysis::{Findings, Options};

/// A job that this worker holds: proof for everything it writes. A write with a claim that was lost (the lease ran
/// out and another took it, the job was erased) changes nothing and says so.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Says which job it is in logs, where the token must not stand.
    pub id: i64,
    pub token: Uuid,
    /// Which run of the job this is, from 1.
    pub attempt: u32,
    pub video_key: String,
    pub options: Options,
    pub recipients: Vec<String>,
    /// Where a program wants to hear of its end.
    pub webhook: Option<String>,
    /// Rises with every claim of the job.
    number: i64,
}

/// Whether a claim is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Yes,
    /// Another worker has it, or it was erased: stop.
    Lost,
}

impl Held {
    const fn from_rows(changed: u64) -> Self {
        if changed == 0 { Self::Lost } else { Self::Yes }
    }
}

/// Which jobs a claim may take.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// Due, or left by a worker that went silent, with runs left.
    Runnable,
    /// Left by a worker that went silent, without runs left.
    WornOut,
}

impl Wanted {
    const fn condition(self) -> &'static str {
        match self {
            Self::Runnable => {
                "((status = 'queued' AND run_at <= $1) OR \
                  (status = 'running' AND lease_until <= $1 AND attempts < $2))"
            }
            Self::WornOut => "(status = 'running' AND lease_until <= $1 AND attempts >= $2)",
        }
    }

    const fn counts(self) -> &'static str {
        match self {
            Self::Runnable => "attempts + 1",
            Self::WornOut => "attempts",
        }
    }
}

impl Store {
    /// Takes the job that has been due for longest, or one whose lease ran out, for the worker named `worker`, until
    /// `now + lease`. A job whose runs are used up is never taken; see [`Store::claim_worn_out`].
    pub async fn claim(
        &self,
        worker: &str,
        max_attempts: u32,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.take(Wanted::Runnable, worker, max_attempts, now, lease).await
    }

    /// Takes a job whose last worker went silent in its last allowed run: to be given up, not to be run.
    pub async fn claim_worn_out(
        &self,
        worker: &str,
        max_attempts: u32,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.take(Wanted::WornOut, worker, max_attempts, now, lease).await
    }

    async fn take(
        &self,
        wanted: Wanted,
        worker: &str,
        max_attempts: u32,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        // One statement, so that nothing can come between choosing and taking.
        let sql = format!(
            "UPDATE jobs \
             SET status = 'running', worker = $3, lease_until = $4, attempts = {counts}, claim = claim + 1, \
                 started_at = COALESCE(started_at, $1), frames_done = 0, frames_total = 0, version = version + 1 \
             WHERE id = (SELECT id FROM jobs WHERE status IN ('queued', 'running') AND {condition} \
                         ORDER BY run_at, id LIMIT 1{skip_locked}) \
             RETURNING id, token, attempts, claim, video_key, options, recipients, webhook",
            counts = wanted.counts(),
            condition = wanted.condition(),
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(millis(now))
            .bind(i64::from(max_attempts))
            .bind(worker)
            .bind(millis(after(now, lease)))
            .fetch_optional(self.pool())
            .await?;
        let Some(claim) = row.map(|row| from_row(&row)).transpose()? else { return Ok(None) };
        self.tell(Wake::Job(claim.token)).await?;
        Ok(Some(claim))
    }

    /// Renews the lease and records progress.
    pub async fn heartbeat(
        &self,
        claim: &Claim,
        progress: JobProgress,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        let changed = sqlx::query(
            "UPDATE jobs \
             SET lease_until = $3, frames_done = $4, frames_total = $5, \
                 version = version + CASE WHEN frames_done = $4 AND frames_total = $5 THEN 0 ELSE 1 END \
             WHERE token = $1 AND claim = $2 AND status = 'running'",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(millis(after(now, lease)))
        .bind(bigint(progress.frames_done))
        .bind(bigint(progress.frames_total))
        .execute(self.pool())
        .await?
        .rows_affected();
        self.tell(Wake::Job(claim.token)).await?;
        Ok(Held::from_rows(changed))
    }

    /// Saves the findings, finishes the job and queues its mails, in one transaction. Doing it again with the same
    /// claim changes nothing and is no loss: so a caller that heard no answer can ask again.
    pub async fn complete(
        &self,
        claim: &Claim,
        findings: &Findings,
        mails: &[NewMail],
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<Held, StoreError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE jobs \
             SET status = 'done', finished_at = $3, expires_at = $4, lease_until = NULL, worker = NULL, \
                 recipients = NULL, webhook = NULL, frames_done = $5, frames_total = $5, version = version + 1 \
             WHERE token = $1 AND claim = $2 AND status = 'running'",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(millis(now))
        .bind(expires_at.map(millis))
        .bind(bigint(findings.analysis.video.frames_total))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if changed == 0 {
            drop(tx);
            return self.ended(claim, "done").await;
        }
        super::results::put(&mut tx, claim.token, findings).await?;
        super::outbox::put(&mut tx, claim.token, MailKind::Report, mails, now).await?;
        super::outbox::put_webhook(&mut tx, claim, now).await?;
        self.commit(tx, &[Wake::Job(claim.token), Wake::Mail]).await?;
        Ok(Held::Yes)
    }

    /// Fails the job for good and queues the mails that say so, in one transaction. As with [`Store::complete`], once
    /// more is no harm.
    pub async fn give_up(
        &self,
        claim: &Claim,
        failure: &Failure,
        mails: &[NewMail],
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<Held, StoreError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE jobs \
             SET status = 'failed', failure_code = $3, failure_detail = $4, finished_at = $5, expires_at = $6, \
                 lease_until = NULL, worker = NULL, recipients = NULL, webhook = NULL, version = version + 1 \
             WHERE token = $1 AND claim = $2 AND status = 'running'",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(&failure.code)
        .bind(&failure.detail)
        .bind(millis(now))
        .bind(expires_at.map(millis))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if changed == 0 {
            drop(tx);
            return self.ended(claim, "failed").await;
        }
        super::outbox::put(&mut tx, claim.token, MailKind::Failure, mails, now).await?;
        super::outbox::put_webhook(&mut tx, claim, now).await?;
        self.commit(tx, &[Wake::Job(claim.token), Wake::Mail]).await?;
        Ok(Held::Yes)
    }

    /// Puts the job back for another run, due at `due`.
    pub async fn retry(&self, claim: &Claim, due: Timestamp) -> Result<Held, StoreError> {
        let sql = "UPDATE jobs \
                   SET status = 'queued', run_at = $3, lease_until = NULL, worker = NULL, frames_done = 0, \
                       frames_total = 0, version = version + 1 \
                   WHERE token = $1 AND claim = $2 AND status = 'running'";
        let query = sqlx::query(sql).bind(claim.token.to_string()).bind(claim.number).bind(millis(due));
        self.put_back(claim, query).await
    }

    /// Puts the job back as if it had not been taken: it keeps its place and the run does not count. For a worker that
    /// is shut down.
    pub async fn hand_back(&self, claim: &Claim) -> Result<Held, StoreError> {
        let sql = "UPDATE jobs \
                   SET status = 'queued', attempts = attempts - 1, lease_until = NULL, worker = NULL, \
                       frames_done = 0, frames_total = 0, version = version + 1 \
                   WHERE token = $1 AND claim = $2 AND status = 'running'";
        let query = sqlx::query(sql).bind(claim.token.to_string()).bind(claim.number);
        self.put_back(claim, query).await
    }

    async fn put_back(
        &self,
        claim: &Claim,
        query: sqlx::query::Query<'_, sqlx::Any, sqlx::any::AnyArguments>,
    ) -> Result<Held, StoreError> {
        let mut tx = self.begin().await?;
        let changed = query.execute(&mut *tx).await?.rows_affected();
        self.commit(tx, &[Wake::Job(claim.token), Wake::Work]).await?;
        Ok(Held::from_rows(changed))
    }

    /// Jobs that wait, and jobs that run.
    pub async fn queue_depth(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(CASE WHEN status = 'queued' THEN 1 END) AS queued, \
                    COUNT(CASE WHEN status = 'running' THEN 1 END) AS running \
             FROM jobs WHERE status IN ('queued', 'running')",
        )
        .fetch_one(self.pool())
        .await?;
        Ok((super::unsigned(row.try_get("queued")?), super::unsigned(row.try_get("running")?)))
    }

    /// Whether it was this claim that brought the job to its end.
    async fn ended(&self, claim: &Claim, status: &'static str) -> Result<Held, StoreError> {
        let ours = sqlx::query("SELECT id FROM jobs WHERE token = $1 AND claim = $2 AND status = $3")
            .bind(claim.token.to_string())
            .bind(claim.number)
            .bind(status)
            .fetch_optional(self.pool())
            .await?;
        Ok(if ours.is_some() { Held::Yes } else { Held::Lost })
    }

    /// Tells of a change that is committed already.
    async fn tell(&self, wake: Wake) -> Result<(), StoreError> {
        self.0.wakes.send(wake);
        if self.dialect().notifies {
            let mut connection = self.pool().acquire().await?;
            self.announce(&mut connection, wake).await?;
        }
        Ok(())
    }
}

/// The end of a lease.
pub(super) fn after(now: Timestamp, time: Duration) -> Timestamp {
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}

fn from_row(row: &AnyRow) -> Result<Claim, StoreError> {
    let token: &str = row.try_get("token")?;
    let attempts: i64 = row.try_get("attempts")?;
    let recipients: Option<&str> = row.try_get("recipients")?;
    let video_key: Option<String> = row.try_get("video_key")?;
    Ok(Claim {
        id: row.try_get("id")?,
        token: uuid(token)?,
        attempt: u32::try_from(attempts).unwrap_or_default(),
        video_key: video_key
            .ok_or_else(|| StoreError::Corrupt { what: "job", reason: "open, but without a video".to_owned() })?,
        options: decode("options", row.try_get("options")?)?,
        recipients: recipients.map_or(Ok(Vec::new()), |text| decode("recipients", text))?,
        webhook: row.try_get("webhook")?,
        number: row.try_get("claim")?,
    })
}

/// A stored token or id.
pub(super) fn uuid(text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what: "id", reason: "not a UUID".to_owned() })
}
