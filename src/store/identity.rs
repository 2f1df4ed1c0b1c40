//! The table `storage_identity`: the id of the storage that belongs to this database. [`crate::identity`] explains its
//! purpose.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, millis, uuid};

/// The row of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownStorage {
    pub id: Uuid,
    /// Whether the id has been written to the storage. Before that, a process is about to write it.
    pub is_written: bool,
}

impl Store {
    /// Returns the storage that belongs to this database; `None` before the first start.
    pub async fn known_storage(&self) -> Result<Option<KnownStorage>, StoreError> {
        let row = sqlx::query("SELECT id, is_written FROM storage_identity WHERE name = 'storage'")
            .fetch_optional(self.pool())
            .await?;
        let known = |row: sqlx::any::AnyRow| {
            Ok(KnownStorage { id: uuid(row.try_get("id")?)?, is_written: row.try_get::<i64, _>("is_written")? == 1 })
        };
        row.map(known).transpose()
    }

    /// Records that this process is going to write `id` to its storage. Returns `false` if another process did so less
    /// than `patience` ago.
    pub async fn claim_storage(&self, id: Uuid, now: Timestamp, patience: Duration) -> Result<bool, StoreError> {
        let mine = sqlx::query(
            "INSERT INTO storage_identity (name, id, is_written, claimed_at) VALUES ('storage', $1, 0, $2) \
             ON CONFLICT (name) DO UPDATE SET id = excluded.id, claimed_at = excluded.claimed_at \
             WHERE storage_identity.is_written = 0 AND storage_identity.claimed_at <= $3",
        )
        .bind(id.to_string())
        .bind(millis(now))
        .bind(millis(now).saturating_sub(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX)))
        .execute(self.pool())
        .await?;
        Ok(mine.rows_affected() > 0)
    }

    /// Records that `id` has been written to the storage. Returns `false` if another process has taken over meanwhile.
    pub async fn storage_written(&self, id: Uuid) -> Result<bool, StoreError> {
        let written = sqlx::query("UPDATE storage_identity SET is_written = 1 WHERE name = 'storage' AND id = $1")
            .bind(id.to_string())
            .execute(self.pool())
            .await?;
        Ok(written.rows_affected() > 0)
    }

    /// Makes the storage with this id the one of this database, and replaces an earlier id.
    pub async fn set_storage(&self, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO storage_identity (name, id, is_written, claimed_at) VALUES ('storage', $1, 1, $2) \
             ON CONFLICT (name) DO UPDATE SET id = excluded.id, is_written = 1, claimed_at = excluded.claimed_at",
        )
        .bind(id.to_string())
        .bind(millis(now))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the keys of at most `limit` videos of waiting and running jobs.
    pub async fn needed_videos(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let keys = sqlx::query_scalar(
            "SELECT video_key FROM (SELECT video_key FROM jobs WHERE status = 'running' AND video_key IS NOT NULL \
                                    ORDER BY id LIMIT $1) AS running \
             UNION ALL \
             SELECT video_key FROM (SELECT video_key FROM jobs WHERE status = 'queued' AND video_key IS NOT NULL \
                                    ORDER BY run_at, id LIMIT $1) AS waiting \
             LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        Ok(keys)
    }
}
