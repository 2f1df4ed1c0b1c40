//! Queries of the periodic housekeeping: expired results, videos to delete, keys of all stored videos. Several
//! processes may run them at the same time.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::Row;
use uuid::Uuid;

use super::jobs::{ERASED_OPTIONS, HAS_VIDEO};
use super::{JobVideo, Store, StoreError, Wake, encode, millis, unsigned, uuid};

/// A video whose retention time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueVideo {
    pub token: Uuid,
    pub video: JobVideo,
    /// Whether its analysis is done, not failed.
    pub is_done: bool,
}

impl Store {
    /// Erases results, mails, options, file names, request ids, traces, notices, failure reasons and addresses of videos of jobs
    /// that expired by `now`, for at most `limit` jobs. Returns their number. Their tokens stay, with the status
    /// [`super::Status::Expired`].
    pub async fn expire(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query(
            "UPDATE jobs \
             SET status = 'expired', options = $2, failure_code = NULL, failure_detail = NULL, failure_reason = NULL, \
                 recipients = NULL, webhook = NULL, consent = NULL, notice = NULL, file_name = NULL, request_id = NULL, \
                 trace = NULL, expires_at = NULL, video_url = NULL, video_object = NULL, \
                 version = version + 1 \
             WHERE id IN (SELECT id FROM jobs WHERE expires_at <= $1 AND status IN ('done', 'failed') \
                          ORDER BY expires_at LIMIT $3) \
             RETURNING token",
        )
        .bind(millis(now))
        .bind(encode("options", &ERASED_OPTIONS)?)
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await?;
        let mut wakes = Vec::with_capacity(rows.len());
        for row in &rows {
            let token: &str = row.try_get("token")?;
            sqlx::query("DELETE FROM results WHERE token = $1").bind(token).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM outbox WHERE token = $1").bind(token).execute(&mut *tx).await?;
            wakes.push(Wake::Job(uuid(token)?));
        }
        self.commit(tx, &wakes).await?;
        Ok(wakes.len() as u64)
    }

    /// Returns at most `limit` videos, stored or known by address, of jobs that failed by `failed_by`, or ended in another way by `ended_by`.
    pub async fn due_videos(
        &self,
        ended_by: Timestamp,
        failed_by: Timestamp,
        limit: u32,
    ) -> Result<Vec<DueVideo>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT token, status, video_key, video_url, video_object FROM jobs \
             WHERE {HAS_VIDEO} AND status NOT IN ('queued', 'running') \
               AND finished_at <= CASE WHEN status = 'failed' THEN CAST($2 AS BIGINT) ELSE CAST($1 AS BIGINT) END \
             ORDER BY finished_at LIMIT $3",
        )))
        .bind(millis(ended_by))
        .bind(millis(failed_by))
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            let status: &str = row.try_get("status")?;
            if let Some(video) = JobVideo::from_row(row)? {
                due.push(DueVideo { token: uuid(row.try_get("token")?)?, video, is_done: status == "done" });
            }
        }
        Ok(due)
    }

    /// Records that the video of a token is deleted, and forgets its address. Call it after deleting the blob: after a crash in between, the
    /// deletion is repeated. In the opposite order a crash would leave a blob that no job refers to.
    pub async fn video_deleted(&self, token: Uuid) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET video_key = NULL, video_url = NULL, video_object = NULL, client = NULL \
             WHERE token = $1 AND status NOT IN ('queued', 'running')",
        )
        .bind(token.to_string())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the number of stored videos.
    pub async fn video_count(&self) -> Result<u64, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE video_key IS NOT NULL").fetch_one(self.pool()).await?;
        Ok(unsigned(count))
    }

    /// Returns the number and the total size of the stored videos.
    pub async fn video_space(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS videos, CAST(COALESCE(SUM(video_bytes), 0) AS BIGINT) AS bytes \
             FROM jobs WHERE video_key IS NOT NULL",
        )
        .fetch_one(self.pool())
        .await?;
        Ok((unsigned(row.try_get("videos")?), unsigned(row.try_get("bytes")?)))
    }

    /// Returns the keys of all stored videos.
    pub async fn video_keys(&self) -> Result<HashSet<String>, StoreError> {
        let keys =
            sqlx::query_scalar("SELECT video_key FROM jobs WHERE video_key IS NOT NULL").fetch_all(self.pool()).await?;
        Ok(keys.into_iter().collect())
    }
}
