//! Queries for the operator's page: the state of the queue, and running a failed job again.

use jiff::{Timestamp, ToSpan};
use sqlx::Row;
use uuid::Uuid;

use super::jobs::{COLUMNS, HAS_VIDEO, from_row};
use super::results::StoredAnalysis;
use super::{Job, Store, StoreError, Wake, millis, unsigned, uuid};

/// The longest list of jobs.
const LIST_LIMIT: i64 = 100;

/// A running job and the name of its worker.
#[derive(Debug, Clone)]
pub struct RunningJob {
    pub job: Job,
    pub worker: Option<String>,
}

/// A job that failed.
#[derive(Debug, Clone)]
pub struct FailedJob {
    pub job: Job,
    /// Whether its video is still stored or can be fetched, so that the job can run again.
    pub has_video: bool,
}

/// Numbers of jobs that ended in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hour {
    pub from: Timestamp,
    pub done: u64,
    pub failed: u64,
}

/// The result of a request to run a job again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    Queued,
    /// Its video has been deleted.
    NoVideo,
    /// There is no such job, or it has not failed.
    NotFailed,
}

impl Store {
    /// Returns the number of messages in the outbox that wait to be sent, mails and webhooks.
    pub async fn mails_waiting(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM outbox WHERE status = 'queued') \
                  + (SELECT COUNT(*) FROM batch_outbox WHERE status = 'queued')",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(unsigned(count))
    }

    /// Returns the seconds for which the first waiting job has been due, and the age in seconds of the oldest message in
    /// the outbox. Messages that wait for a confirmation do not count. 0 stands for none.
    pub async fn longest_waits(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT MIN(run_at) FROM jobs WHERE status = 'queued') AS job, \
                    (SELECT MIN(created_at) FROM \
                       (SELECT created_at FROM outbox WHERE status = 'queued' AND consent IS NULL \
                        UNION ALL \
                        SELECT created_at FROM batch_outbox WHERE status = 'queued') AS unsent) AS message",
        )
        .fetch_one(self.pool())
        .await?;
        let seconds = |column| {
            let since: Option<i64> = row.try_get(column)?;
            Ok::<_, StoreError>(since.map_or(0, |since| unsigned(millis(now).saturating_sub(since)) / 1000))
        };
        Ok((seconds("job")?, seconds("message")?))
    }

    /// Returns the running jobs, oldest first.
    pub async fn running_jobs(&self) -> Result<Vec<RunningJob>, StoreError> {
        let sql =
            format!("SELECT token, {COLUMNS}, worker FROM jobs WHERE status = 'running' ORDER BY started_at LIMIT $1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(LIST_LIMIT).fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                let token = uuid(row.try_get("token")?)?;
                Ok(RunningJob { job: from_row(token, row)?, worker: row.try_get("worker")? })
            })
            .collect()
    }

    /// Returns the failed jobs, latest first.
    pub async fn failed_jobs(&self) -> Result<Vec<FailedJob>, StoreError> {
        let sql = format!(
            "SELECT token, {COLUMNS}, CASE WHEN {HAS_VIDEO} THEN 1 ELSE 0 END AS has_video \
             FROM jobs WHERE status = 'failed' ORDER BY finished_at DESC LIMIT $1"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(LIST_LIMIT).fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                let token = uuid(row.try_get("token")?)?;
                Ok(FailedJob { job: from_row(token, row)?, has_video: row.try_get::<i32, _>("has_video")? == 1 })
            })
            .collect()
    }

    /// Returns the name of the database system and the number of the last migration.
    pub async fn version(&self) -> Result<(&'static str, i64), StoreError> {
        let migration = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(self.pool()).await?;
        Ok((self.dialect().name, migration))
    }

    /// Returns the last analysis that was finished.
    pub async fn last_analysis(&self) -> Result<Option<StoredAnalysis>, StoreError> {
        let analysis: Option<String> = sqlx::query_scalar(
            "SELECT analysis FROM results \
             WHERE token = (SELECT token FROM jobs WHERE finished_at IS NOT NULL AND status = 'done' \
                            ORDER BY finished_at DESC LIMIT 1)",
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(analysis.map(StoredAnalysis))
    }

    /// Counts the jobs that ended in each of the 24 hours before `now`, oldest hour first.
    pub async fn last_day(&self, now: Timestamp) -> Result<Vec<Hour>, StoreError> {
        const HOUR_MS: i64 = 3_600_000;
        let begin = millis(now) - 24 * HOUR_MS;
        let rows = sqlx::query(
            "SELECT (finished_at - $1) / 3600000 AS hour, \
                    COUNT(CASE WHEN status = 'done' THEN 1 END) AS done, \
                    COUNT(CASE WHEN status = 'failed' THEN 1 END) AS failed \
             FROM jobs WHERE finished_at > $1 AND finished_at <= $2 GROUP BY 1",
        )
        .bind(begin)
        .bind(millis(now))
        .fetch_all(self.pool())
        .await?;
        let mut hours: Vec<Hour> = (0..24)
            .map(|n| Hour { from: now.saturating_sub((24 - n).hours()).unwrap_or(Timestamp::MIN), done: 0, failed: 0 })
            .collect();
        for row in rows {
            let at = unsigned(row.try_get("hour")?).min(23);
            if let Some(hour) = usize::try_from(at).ok().and_then(|at| hours.get_mut(at)) {
                hour.done += unsigned(row.try_get("done")?);
                hour.failed += unsigned(row.try_get("failed")?);
            }
        }
        Ok(hours)
    }

    /// Queues a failed job again and resets its attempts. No mail is sent for the new run, since the recipients were
    /// erased when the job failed.
    pub async fn revive(&self, token: Uuid, now: Timestamp) -> Result<Revived, StoreError> {
        self.within(self.revive_now(token, now)).await
    }

    async fn revive_now(&self, token: Uuid, now: Timestamp) -> Result<Revived, StoreError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE jobs \
             SET status = 'queued', run_at = $2, attempts = 0, setbacks = 0, failure_code = NULL, \
                 failure_detail = NULL, failure_reason = NULL, finished_at = NULL, expires_at = NULL, \
                 frames_done = 0, frames_total = 0, version = version + 1 \
             WHERE token = $1 AND status = 'failed' AND {HAS_VIDEO}",
        )))
        .bind(token.to_string())
        .bind(millis(now))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if changed > 0 {
            self.commit(tx, &[Wake::Job(token), Wake::Work]).await?;
            return Ok(Revived::Queued);
        }
        drop(tx);
        let failed = sqlx::query("SELECT id FROM jobs WHERE token = $1 AND status = 'failed'")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        Ok(if failed.is_some() { Revived::NoVideo } else { Revived::NotFailed })
    }
}
