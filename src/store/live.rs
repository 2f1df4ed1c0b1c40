//! Live sessions: jobs whose pictures come while they run. The process that has the connection of the client holds the
//! claim, and ends the job with [`Store::complete`] or [`Store::give_up`]. No worker claims such a job. If the process
//! no longer renews it, [`Store::claim_lost_live`] hands it to a worker, which ends it.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::queue::{CLAIMED, from_row};
use super::{Claim, ClaimState, NewJob, Store, StoreError, Wake, after, bigint, millis};

impl Store {
    /// Adds the running job of a live session for the API key `owner`, kept until `now + lease`.
    pub async fn begin_live(
        &self,
        owner: Option<&str>,
        job: &NewJob,
        worker: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let mut tx = self.begin().await?;
        Self::put_job(&mut tx, owner, job, now).await?;
        let sql = format!(
            "UPDATE jobs \
             SET status = 'running', worker = $2, live_until = $3, started_at = $4, attempts = 1, claim = 1 \
             WHERE token = $1 RETURNING {CLAIMED}"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(job.token.to_string())
            .bind(worker)
            .bind(millis(after(now, lease)))
            .bind(millis(now))
            .fetch_one(&mut *tx)
            .await?;
        let claim = from_row(&row, worker)?;
        self.commit(tx, &[Wake::Job(job.token)]).await?;
        Ok(claim)
    }

    /// Keeps a live session until `now + lease`, and records the number of its pictures.
    pub async fn keep_live(
        &self,
        claim: &Claim,
        pictures: u64,
        now: Timestamp,
        lease: Duration,
    ) -> Result<ClaimState, StoreError> {
        let changed = sqlx::query(
            "UPDATE jobs \
             SET live_until = $3, frames_done = $4, version = version + CASE WHEN frames_done = $4 THEN 0 ELSE 1 END \
             WHERE token = $1 AND claim = $2 AND status = 'running'",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(millis(after(now, lease)))
        .bind(bigint(pictures))
        .execute(self.pool())
        .await?
        .rows_affected();
        self.wake(Wake::Job(claim.token));
        Ok(ClaimState::from_rows(changed))
    }

    /// Claims a live session that its process has not kept until `now`, for the worker named `worker`, until
    /// `now + lease`. The claim of its process is lost.
    pub async fn claim_lost_live(
        &self,
        worker: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let sql = format!(
            "UPDATE jobs SET worker = $2, live_until = $3, claim = claim + 1 \
             WHERE id = (SELECT id FROM jobs WHERE status = 'running' AND live_until <= $1 \
                         ORDER BY live_until LIMIT 1{skip_locked}) \
             RETURNING {CLAIMED}",
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(millis(now))
            .bind(worker)
            .bind(millis(after(now, lease)))
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| from_row(&row, worker)).transpose()
    }
}
