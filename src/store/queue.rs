//! The queue: the rows of `jobs` with the status `queued` or `running`.
//!
//! A job runs at least once. A worker claims a job for the time of a lease, and renews the lease while it works. If the
//! lease runs out, the job is queued again ([`Store::release_lost`]) and another worker claims it. A run counts as an
//! attempt only if the video itself may have caused its failure. After the last attempt the worker fails the job. Every
//! write of a worker carries the number of its claim. If another worker has claimed the job since, the write changes
//! nothing.
//!
//! The crate `apalis` 1.0 (with `apalis-postgres` and `apalis-sqlite`) was considered and rejected, for these reasons:
//!
//! - Its lease belongs to the worker, not to the job. When a worker dies, its jobs become pending again, and the query
//!   that fetches pending jobs does not check their attempts. A video that kills its worker would run for ever.
//! - It has no backoff between runs.
//! - It takes times from the database.
//! - It queues and finishes jobs in transactions of its own. Here the result, its mails and the end of the job are
//!   written in one transaction.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{
    Backoff, Claim, ClaimState, JobFailure, JobProgress, JobVideo, LostRun, MailKind, NewMail, Store, StoreError, Wake,
    after, bigint, decode, encode, millis, trace, unsigned, uuid,
};
use crate::analysis::Findings;

/// The columns that [`from_row`] reads.
pub(super) const CLAIMED: &str = "id, token, attempts, setbacks, deaths, parts, claim, video_key, video_url, video_object, \
                                  live_until, options, recipients, webhook, consent, request_id, trace, client, cost";

impl Store {
    /// Claims the first of the due jobs in the [order of claims](super::rank), for the worker named `worker`, until
    /// `now + lease`. Leaves jobs out whose video has yet to be fetched.
    pub async fn claim(&self, worker: &str, now: Timestamp, lease: Duration) -> Result<Option<Claim>, StoreError> {
        self.claim_first(self.dialect().by_rank, "video_url IS NULL", worker, now, lease).await
    }

    /// Claims the first job that [`Store::claim`] leaves out, to fetch its video. Leaves jobs out of clients of which
    /// `most_of_client` videos are being fetched (0: no limit).
    pub async fn claim_unfetched(
        &self,
        worker: &str,
        most_of_client: u32,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        // Most of the time there is none. A look at an index then spares an attempt to write.
        let waiting = sqlx::query(
            "SELECT id FROM jobs WHERE video_url IS NOT NULL AND status = 'queued' AND run_at <= $1 LIMIT 1",
        );
        if waiting.bind(millis(now)).fetch_optional(self.pool()).await?.is_none() {
            return Ok(None);
        }
        let fits = match most_of_client {
            0 => "video_url IS NOT NULL".to_owned(),
            most => format!(
                "video_url IS NOT NULL \
                 AND (client IS NULL \
                      OR {most} > (SELECT COUNT(*) FROM jobs AS other \
                                   WHERE other.status = 'running' AND other.video_url IS NOT NULL \
                                     AND other.client = jobs.client))"
            ),
        };
        self.claim_first("", &fits, worker, now, lease).await
    }

    /// Claims the first of the due jobs that meet a condition. `index` says to SQLite which index to use.
    async fn claim_first(
        &self,
        index: &str,
        condition: &str,
        worker: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        // Selects and claims in one statement, so that no other worker can claim the job in between.
        let sql = format!(
            "UPDATE jobs \
             SET status = 'running', worker = $2, lease_until = $3, attempts = attempts + 1, claim = claim + 1, \
                 started_at = COALESCE(started_at, $1), frames_done = 0, frames_total = 0, version = version + 1 \
             WHERE id = (SELECT id FROM jobs{index} \
                         WHERE status = 'queued' AND run_at <= $1 AND {condition} \
                         ORDER BY rank, id LIMIT 1{skip_locked}) \
             RETURNING {CLAIMED}",
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
        self.wake(Wake::Job(claim.token));
        Ok(Some(claim))
    }

    /// Queues a job again that this program cannot read, such as one of a newer version: another process may read it.
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

    /// Returns whether it is this process's turn to look for lost jobs. Of all processes, one has it in each `every`.
    pub async fn takes_turn_at_lost_jobs(&self, now: Timestamp, every: Duration) -> Result<bool, StoreError> {
        // A later time than the next turn was written by a clock that was wrong.
        let changed = sqlx::query(
            "INSERT INTO counters (name, value) VALUES ('lost_jobs', $1) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value \
             WHERE counters.value <= $2 OR counters.value > $3",
        )
        .bind(millis(now))
        .bind(millis(now) - duration_ms(every))
        .bind(millis(after(now, every)))
        .execute(self.pool())
        .await?
        .rows_affected();
        Ok(changed > 0)
    }

    /// Queues the jobs again whose lease has run out at `now`. The lost run does not count as an attempt. The first
    /// time, a job keeps its place in the queue; each further time it waits longer.
    pub async fn release_lost(&self, now: Timestamp, backoff: Backoff) -> Result<Vec<LostRun>, StoreError> {
        let (base, max) = (duration_ms(backoff.base), duration_ms(backoff.max));
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "UPDATE jobs \
             SET status = 'queued', attempts = attempts - 1, deaths = deaths + 1, lease_until = NULL, worker = NULL, \
                 frames_done = 0, frames_total = 0, version = version + 1, \
                 run_at = CASE WHEN deaths = 0 THEN run_at \
                               WHEN deaths > 20 \
                                    OR CAST($2 AS BIGINT) << CAST(deaths - 1 AS INTEGER) > CAST($3 AS BIGINT) \
                               THEN CAST($1 AS BIGINT) + CAST($3 AS BIGINT) \
                               ELSE CAST($1 AS BIGINT) + (CAST($2 AS BIGINT) << CAST(deaths - 1 AS INTEGER)) END \
             WHERE status = 'running' AND lease_until <= CAST($1 AS BIGINT) AND live_until IS NULL \
             RETURNING id, token, deaths, request_id",
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
            let request_id = row.try_get("request_id")?;
            lost.push(LostRun { id: row.try_get("id")?, request_id, deaths: count(row, "deaths")? });
        }
        if !lost.is_empty() {
            wakes.push(Wake::Work);
        }
        self.commit(tx, &wakes).await?;
        Ok(lost)
    }

    /// Renews the lease and records the progress. A job that was queued again after its lease ran out is claimed back,
    /// unless another worker has claimed it.
    pub async fn heartbeat(
        &self,
        claim: &Claim,
        progress: JobProgress,
        now: Timestamp,
        lease: Duration,
    ) -> Result<ClaimState, StoreError> {
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
        self.wake(Wake::Job(claim.token));
        Ok(ClaimState::from_rows(changed))
    }

    /// Saves the findings, ends the job and queues its mails, in one transaction. A repeated call with the same claim
    /// changes nothing and returns [`ClaimState::Held`], so a caller that got no answer can call again.
    pub async fn complete(
        &self,
        claim: &Claim,
        findings: &Findings,
        mails: &[NewMail],
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<ClaimState, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "UPDATE jobs \
             SET status = 'done', finished_at = $3, expires_at = $4, lease_until = NULL, worker = NULL, \
                 recipients = NULL, webhook = NULL, frames_done = $5, frames_total = $5, version = version + 1 \
             WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running') RETURNING batch, parts",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(millis(now))
        .bind(expires_at.map(millis))
        .bind(bigint(findings.analysis.video.frames_total))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            drop(tx);
            return self.was_ended_by(claim, "done").await;
        };
        super::analysis_parts::erase(&mut tx, claim, row.try_get("parts")?).await?;
        super::results::put(&mut tx, claim.token, findings).await?;
        super::outbox::put(&mut tx, claim.token, MailKind::Report, mails, claim.consent.as_deref(), now).await?;
        super::outbox::put_webhook(&mut tx, claim, now).await?;
        if let Some(batch) = row.try_get("batch")? {
            super::batches::job_ended(&mut tx, batch, now).await?;
        }
        self.commit(tx, &[Wake::Ended(claim.token), Wake::Mail]).await?;
        Ok(ClaimState::Held)
    }

    /// Marks the job as failed and queues the mails about it, in one transaction. Like [`Store::complete`], it can be
    /// called again.
    pub async fn give_up(
        &self,
        claim: &Claim,
        failure: &JobFailure,
        mails: &[NewMail],
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<ClaimState, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "UPDATE jobs \
             SET status = 'failed', failure_code = $3, failure_detail = $4, failure_reason = $5, finished_at = $6, \
                 expires_at = $7, lease_until = NULL, worker = NULL, recipients = NULL, webhook = NULL, \
                 version = version + 1 \
             WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running') RETURNING batch, parts",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(&failure.code)
        .bind(&failure.detail)
        .bind(failure.reason.as_ref().map(|reason| encode("failure reason", reason)).transpose()?)
        .bind(millis(now))
        .bind(expires_at.map(millis))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            drop(tx);
            return self.was_ended_by(claim, "failed").await;
        };
        super::analysis_parts::erase(&mut tx, claim, row.try_get("parts")?).await?;
        super::outbox::put(&mut tx, claim.token, MailKind::Failure, mails, claim.consent.as_deref(), now).await?;
        super::outbox::put_webhook(&mut tx, claim, now).await?;
        if let Some(batch) = row.try_get("batch")? {
            super::batches::job_ended(&mut tx, batch, now).await?;
        }
        self.commit(tx, &[Wake::Ended(claim.token), Wake::Mail]).await?;
        Ok(ClaimState::Held)
    }

    /// Queues the job for another attempt, due at `due`.
    pub async fn retry(&self, claim: &Claim, due: Timestamp) -> Result<ClaimState, StoreError> {
        let sql = "UPDATE jobs \
                   SET status = 'queued', run_at = $3, lease_until = NULL, worker = NULL, frames_done = 0, \
                       frames_total = 0, version = version + 1 \
                   WHERE token = $1 AND claim = $2 AND status = 'running'";
        let query = sqlx::query(sql).bind(claim.token.to_string()).bind(claim.number).bind(millis(due));
        self.put_back(claim, query).await
    }

    /// Queues the job again, due at `due`, after a run that failed because of a part of the service. The run does not
    /// count as an attempt.
    pub async fn set_back(&self, claim: &Claim, due: Timestamp) -> Result<ClaimState, StoreError> {
        let sql = "UPDATE jobs \
                   SET status = 'queued', run_at = $3, attempts = attempts - 1, setbacks = setbacks + 1, \
                       lease_until = NULL, worker = NULL, frames_done = 0, frames_total = 0, version = version + 1 \
                   WHERE token = $1 AND claim = $2 AND status = 'running'";
        let query = sqlx::query(sql).bind(claim.token.to_string()).bind(claim.number).bind(millis(due));
        self.put_back(claim, query).await
    }

    /// Queues the job again as if it had not been claimed: it keeps its place, and the run does not count. For a worker
    /// that shuts down.
    pub async fn hand_back(&self, claim: &Claim) -> Result<ClaimState, StoreError> {
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
    ) -> Result<ClaimState, StoreError> {
        let changed = query.execute(self.pool()).await?.rows_affected();
        self.wake(Wake::Job(claim.token));
        self.wake(Wake::Work);
        Ok(ClaimState::from_rows(changed))
    }

    /// Records that the video of a job was fetched into the blob store, and queues the job for its analysis, at its old
    /// place and as if it had not run. A repeated call with the same claim and key changes nothing and returns
    /// [`ClaimState::Held`].
    pub async fn fetched(&self, claim: &Claim, key: &str, size_bytes: u64) -> Result<ClaimState, StoreError> {
        let changed = sqlx::query(
            "UPDATE jobs \
             SET status = 'queued', video_key = $3, video_url = NULL, video_bytes = $4, attempts = 0, setbacks = 0, \
                 deaths = 0, started_at = NULL, lease_until = NULL, worker = NULL, version = version + 1 \
             WHERE token = $1 AND claim = $2 AND video_url IS NOT NULL AND status IN ('queued', 'running')",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(key)
        .bind(bigint(size_bytes))
        .execute(self.pool())
        .await?
        .rows_affected();
        if changed == 0 {
            // An earlier call may have recorded it, and the job may be running or done since.
            let recorded = sqlx::query("SELECT id FROM jobs WHERE token = $1 AND video_key = $2")
                .bind(claim.token.to_string())
                .bind(key)
                .fetch_optional(self.pool())
                .await?;
            return Ok(if recorded.is_some() { ClaimState::Held } else { ClaimState::Lost });
        }
        self.wake(Wake::Job(claim.token));
        self.wake(Wake::Work);
        Ok(ClaimState::Held)
    }

    /// Returns a job whose tasks other workers do, to read its video and options. `None` if it was erased. The worker of
    /// the job still holds its claim.
    pub async fn job_of_piece(&self, token: Uuid) -> Result<Option<Claim>, StoreError> {
        let sql = format!("SELECT {CLAIMED} FROM jobs WHERE token = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(token.to_string()).fetch_optional(self.pool()).await?;
        row.map(|row| from_row(&row, "")).transpose()
    }

    /// Returns the number of waiting and of running jobs.
    pub async fn queue_depth(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM jobs WHERE status = 'queued') AS queued, \
                    (SELECT COUNT(*) FROM jobs WHERE status = 'running') AS running",
        )
        .fetch_one(self.pool())
        .await?;
        Ok((unsigned(row.try_get("queued")?), unsigned(row.try_get("running")?)))
    }

    /// Returns whether an earlier call with this claim already gave the job the status `status`.
    async fn was_ended_by(&self, claim: &Claim, status: &'static str) -> Result<ClaimState, StoreError> {
        let ours = sqlx::query("SELECT id FROM jobs WHERE token = $1 AND claim = $2 AND status = $3")
            .bind(claim.token.to_string())
            .bind(claim.number)
            .bind(status)
            .fetch_optional(self.pool())
            .await?;
        Ok(if ours.is_some() { ClaimState::Held } else { ClaimState::Lost })
    }
}

/// Reads a stored number of runs.
fn count(row: &AnyRow, column: &str) -> Result<u32, StoreError> {
    Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

/// Converts a duration to milliseconds. The limit leaves room for the shift in [`Store::release_lost`].
fn duration_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX >> 24)
}

pub(super) fn from_row(row: &AnyRow, worker: &str) -> Result<Claim, StoreError> {
    let token: &str = row.try_get("token")?;
    let live_until: Option<i64> = row.try_get("live_until")?;
    let recipients: Option<&str> = row.try_get("recipients")?;
    Ok(Claim {
        id: row.try_get("id")?,
        token: uuid(token)?,
        request_id: row.try_get("request_id")?,
        trace: trace(row)?,
        attempt: count(row, "attempts")?,
        setbacks: count(row, "setbacks")?,
        deaths: count(row, "deaths")?,
        parts: count(row, "parts")?,
        worker: worker.to_owned(),
        video: JobVideo::from_row(row)?
            .or_else(|| live_until.map(|_| JobVideo::Live))
            .ok_or_else(|| StoreError::Corrupt { what: "job", reason: "open, but without a video".to_owned() })?,
        options: decode("options", row.try_get("options")?)?,
        recipients: recipients.map_or(Ok(Vec::new()), |text| decode("recipients", text))?,
        webhook: row.try_get("webhook")?,
        client: row.try_get("client")?,
        cost: row.try_get::<Option<i64>, _>("cost")?.map(unsigned),
        consent: row.try_get("consent")?,
        number: row.try_get("claim")?,
    })
}
