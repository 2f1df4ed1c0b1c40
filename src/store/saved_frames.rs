//! The table `saved_frames`: the pictures that `POST /save_frame` keeps in the storage. They count against the quotas
//! of the storage.

use jiff::Timestamp;

use super::{Store, StoreError, millis};

impl Store {
    /// Records a picture with this storage key, of the client with this pseudonym.
    pub async fn add_saved_frame(
        &self,
        key: &str,
        client: &str,
        size_bytes: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO saved_frames (frame_key, client, size_bytes, created_at) VALUES ($1, $2, $3, $4)")
            .bind(key)
            .bind(client)
            .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
            .bind(millis(now))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Removes the record of a picture that was deleted.
    pub async fn forget_saved_frame(&self, key: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM saved_frames WHERE frame_key = $1").bind(key).execute(self.pool()).await?;
        Ok(())
    }

    /// Removes the records of the pictures that were saved by `before`.
    pub async fn forget_saved_frames(&self, before: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM saved_frames WHERE created_at <= $1")
            .bind(millis(before))
            .execute(self.pool())
            .await?;
        Ok(forgotten.rows_affected())
    }
}
