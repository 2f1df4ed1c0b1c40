//! The table `workers`: the worker processes, for the operator's page. The queue does not use it.

use jiff::Timestamp;
use sqlx::Row;

use super::{Store, StoreError, bigint, millis, time, unsigned};

/// Seconds without a record after which a worker counts as dead.
pub const SILENT_S: i64 = 30;

/// A worker process.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSeen {
    pub name: String,
    /// Largest number of videos that it analyzes at the same time.
    pub concurrency: u64,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// Number of jobs that it runs.
    pub running: u64,
}

impl Store {
    /// Records that a worker is alive at `now`.
    pub async fn worker_seen(&self, name: &str, concurrency: usize, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO workers (name, concurrency, started_at, seen_at) VALUES ($1, $2, $3, $3) \
             ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, seen_at = excluded.seen_at",
        )
        .bind(name)
        .bind(bigint(concurrency as u64))
        .bind(millis(now))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Removes a worker that stopped regularly.
    pub async fn worker_left(&self, name: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM workers WHERE name = $1").bind(name).execute(self.pool()).await?;
        Ok(())
    }

    /// Deletes workers last seen by `seen_by`. Returns their number.
    pub async fn forget_workers(&self, seen_by: Timestamp) -> Result<u64, StoreError> {
        let gone =
            sqlx::query("DELETE FROM workers WHERE seen_at <= $1").bind(millis(seen_by)).execute(self.pool()).await?;
        Ok(gone.rows_affected())
    }

    /// Returns all known workers, the last seen first.
    pub async fn workers(&self) -> Result<Vec<WorkerSeen>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, concurrency, started_at, seen_at, \
                    (SELECT COUNT(*) FROM jobs \
                     WHERE jobs.worker = workers.name AND jobs.status = 'running' \
                       AND jobs.video_url IS NULL) AS running \
             FROM workers ORDER BY seen_at DESC, name LIMIT 200",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(WorkerSeen {
                    name: row.try_get("name")?,
                    concurrency: unsigned(row.try_get("concurrency")?),
                    started_at: time(row.try_get("started_at")?)?,
                    seen_at: time(row.try_get("seen_at")?)?,
                    running: unsigned(row.try_get("running")?),
                })
            })
            .collect()
    }
}
