//! The queue: rows of `jobs` that wait or run.
//!
//! Delivery is at least once. A worker claims a job for a lease and renews it while it runs; a job whose lease ran out
//! waits again ([`Store::release_lost`]) and goes to the next worker. Only runs that the video itself may have broken off
//! count as attempts; when they are used up, the worker fails the job with its reason (the dead letter). Every write of a
//! worker carries the number of its claim, so that one whose job went to another changes nothing.
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

use super::{Failure, JobProgress, MailKind, NewMail, Store, StoreError, Wake, bigint, decode, encode, millis};
use crate::analysis::{Findings, Options};

/// A job that this worker holds: proof for everything it writes. A write with a claim that was lost (the lease ran
/// out and another took it, the job was erased) changes nothing and says so.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Says which job it is in logs, where the token must not stand.
    pub id: i64,
    pub token: Uuid,
    /// Which run of the job this is, from 1; runs that do not count are left out.
    pub attempt: u32,
    pub video_key: String,
    pub options: Options,
    pub recipients: Vec<String>,
    /// Where a program wants to hear of its end.
    pub webhook: Option<String>,
    /// Runs that a part of the service broke off.
    pub setbacks: u32,
    /// Runs whose process went silent.
    pub deaths: u32,
    /// Who holds it.
    worker: String,
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

/// A job whose worker went silent, and that waits again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRun {
    /// Says which job it is in logs.
    pub id: i64,
    /// Runs of the job that ended so.
    pub deaths: u32,
}

/// How long a job waits after its second silent worker and each one more: doubling from the base up to the most.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Store {
    /// Takes the job that has been due for longest, for the worker named `worker`, until `now + lease`.
    pub async fn claim(&self, worker: &str, now: Timestamp, lease: Duration) -> Result<Option<Claim>, StoreError> {
        // One statement, so that nothing can come between choosing and taking.
        let sql = format!(
            "UPDATE jobs \
             SET status = 'running', worker = $2, lease_until = $3, attempts = attempts + 1, claim = claim + 1, \
                 started_at = COALESCE(started_at, $1), frames_done = 0, frames_total = 0, version = version + 1 \
             WHERE id = (SELECT id FROM jobs WHERE status IN ('queued', 'running') AND status = 'queued' AND run_at <= $1 \
                         ORDER BY run_at, id LIMIT 1{skip_locked}) \
             RETURNING id, token, attempts, setbacks, deaths, claim, video_key, options, recipients, webhook",
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(millis(now))
            .bind(worker)
            .bind(millis(after(now, lease)))
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let claim = match from_row(&row, worker) {
            Ok(claim) => claim,
            Err(error) => {
                self.set_aside(&row, after(now, lease)).await?;
                return Err(error);
            }
        };
        self.tell(Wake::Job(claim.token)).await?;
        Ok(Some(claim))
    }

    /// Puts a job back that this program cannot read, as one of a newer version may be: another process may.
    async fn set_aside(&self, row: &AnyRow, due: Timestamp) -> Result<(), StoreError> {
        let (id, number): (i64, i64) = (row.try_get("id")?, row.try_get("claim")?);
        sqlx::query(
            "UPDATE jobs \
             SET status = 'queued', run_at = $3, attempts = attempts - 1, lease_until = NULL, worker = NULL, \
                 version = version + 1 \
             WHERE id = $1 AND claim = $2 AND status = 'running'",
        )
        .bind(id)
        .bind(number)
        .bind(millis(due))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Puts jobs back whose lease ran out at `now`: their workers went silent. The lost run does not count. A job keeps
    /// its place the first time, and waits longer with each further time.
    pub async fn release_lost(&self, now: Timestamp, backoff: Backoff) -> Result<Vec<LostRun>, StoreError> {
        let (base, max) = (span(backoff.base), span(backoff.max));
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "UPDATE jobs \
             SET status = 'queued', attempts = attempts - 1, deaths = deaths + 1, lease_until = NULL, worker = NULL, \
                 frames_done = 0, frames_total = 0, version = version + 1, \
                 run_at = CASE WHEN deaths = 0 THEN run_at \
                               WHEN deaths > 20 OR CAST($2 AS BIGINT) << CAST(deaths - 1 AS INTEGER) > CAST($3 AS BIGINT) \
                               THEN CAST($1 AS BIGINT) + CAST($3 AS BIGINT) \
                               ELSE CAST($1 AS BIGINT) + (CAST($2 AS BIGINT) << CAST(deaths - 1 AS INTEGER)) END \
             WHERE status = 'running' AND lease_until <= CAST($1 AS BIGINT) \
             RETURNING id, token, deaths",
        )
        .bind(millis(now))
        .bind(base)
        .bind(max)
        .fetch_all(&mut *tx)
        .await?;
        let mut wakes = Vec::with_capacity(rows.len() + 1);
        let mut lost = Vec::with_capacity(rows.len());
        for row in &rows {
            wakes.push(Wake::Job(uuid(row.try_get("token")?)?));
            lost.push(LostRun { id: row.try_get("id")?, deaths: count(row, "deaths")? });
        }
        if !lost.is_empty() {
            wakes.push(Wake::Work);
        }
        self.commit(tx, &wakes).await?;
        Ok(lost)
    }

    /// Renews the lease and records progress. A job that was taken for lost is taken back, unless another has it.
    pub async fn heartbeat(
        &self,
        claim: &Claim,
        progress: JobProgress,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Held, StoreError> {
        let changed = sqlx::query(
            "UPDATE jobs \
             SET lease_until = $3, frames_done = $4, frames_total = $5, status = 'running', worker = $6, \
                 attempts = attempts + CASE WHEN status = 'queued' THEN 1 ELSE 0 END, \
                 deaths = deaths - CASE WHEN status = 'queued' AND deaths > 0 THEN 1 ELSE 0 END, \
                 version = version \
                     + CASE WHEN frames_done = $4 AND frames_total = $5 AND status = 'running' THEN 0 ELSE 1 END \
             WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running')",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(millis(after(now, lease)))
        .bind(bigint(progress.frames_done))
        .bind(bigint(progress.frames_total))
        .bind(&claim.worker)
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
             WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running')",
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
        self.commit(tx, &[Wake::Ended(claim.token), Wake::Mail]).await?;
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
             SET status = 'failed', failure_code = $3, failure_detail = $4, failure_reason = $5, finished_at = $6, expires_at = $7, \
                 lease_until = NULL, worker = NULL, recipients = NULL, webhook = NULL, version = version + 1 \
             WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running')",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(&failure.code)
        .bind(&failure.detail)
        .bind(failure.reason.as_ref().map(|reason| encode("failure reason", reason)).transpose()?)
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
        self.commit(tx, &[Wake::Ended(claim.token), Wake::Mail]).await?;
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

    /// Puts the job back after a run that a part of the service broke off, due at `due`; the run does not count.
    pub async fn set_back(&self, claim: &Claim, due: Timestamp) -> Result<Held, StoreError> {
        let sql = "UPDATE jobs \
                   SET status = 'queued', run_at = $3, attempts = attempts - 1, setbacks = setbacks + 1, \
                       lease_until = NULL, worker = NULL, frames_done = 0, frames_total = 0, version = version + 1 \
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
            let telling = async {
                let mut connection = self.0.pool.acquire().await?;
                self.announce(&mut connection, wake).await
            };
            self.within(telling).await?;
        }
        Ok(())
    }
}

/// The end of a lease.
pub(super) fn after(now: Timestamp, time: Duration) -> Timestamp {
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// A stored number of runs.
fn count(row: &AnyRow, column: &str) -> Result<u32, StoreError> {
    Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

/// A duration as times are stored.
fn span(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX >> 24)
}

fn from_row(row: &AnyRow, worker: &str) -> Result<Claim, StoreError> {
    let token: &str = row.try_get("token")?;
    let recipients: Option<&str> = row.try_get("recipients")?;
    let video_key: Option<String> = row.try_get("video_key")?;
    Ok(Claim {
        id: row.try_get("id")?,
        token: uuid(token)?,
        attempt: count(row, "attempts")?,
        setbacks: count(row, "setbacks")?,
        deaths: count(row, "deaths")?,
        worker: worker.to_owned(),
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
