//! The table `uploads`: videos that come in parts, until each is a job or its time is over.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::queue::{after, uuid};
use super::{Store, StoreError, bigint, millis, time, unsigned};

/// An upload that comes in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartedUpload {
    pub id: Uuid,
    /// The key with which it was begun; `None`: without one.
    pub owner: Option<String>,
    /// Where the video will lie in the blob store.
    pub video_key: String,
    /// What the blob store calls it.
    pub handle: String,
    pub size_bytes: u64,
    /// Of every part but the last, in bytes.
    pub part_size: u64,
    pub expires_at: Timestamp,
    /// The job that it became.
    pub token: Option<Uuid>,
}

impl PartedUpload {
    /// How many parts it has.
    pub fn parts(&self) -> u32 {
        u32::try_from(self.size_bytes.div_ceil(self.part_size.max(1))).unwrap_or(u32::MAX)
    }

    /// The bytes of a part, numbered from 1; `None`: there is no such part.
    pub fn size_of(&self, number: u32) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?).checked_mul(self.part_size)?;
        self.size_bytes.checked_sub(before).filter(|left| *left > 0).map(|left| left.min(self.part_size))
    }
}

/// A part that the storage took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPart {
    pub size_bytes: u64,
    /// What the storage calls it; `None`: it gave no name.
    pub tag: Option<String>,
}

const COLUMNS: &str = "id, owner, video_key, handle, size_bytes, part_size, expires_at, token";

impl Store {
    /// Records an upload that was begun.
    pub async fn begin_upload(&self, upload: &PartedUpload, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO uploads (id, owner, video_key, handle, size_bytes, part_size, created_at, expires_at, busy_until) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
        )
        .bind(upload.id.to_string())
        .bind(upload.owner.as_deref())
        .bind(&upload.video_key)
        .bind(&upload.handle)
        .bind(bigint(upload.size_bytes))
        .bind(bigint(upload.part_size))
        .bind(millis(now))
        .bind(millis(upload.expires_at))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The upload of that id, unless its time is over at `now`.
    pub async fn upload(&self, id: Uuid, now: Timestamp) -> Result<Option<PartedUpload>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM uploads WHERE id = $1 AND expires_at > $2");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).bind(millis(now));
        query.fetch_optional(self.pool()).await?.map(|row| from_row(&row)).transpose()
    }

    /// How many uploads of the key of that id, or of callers without one, are neither jobs nor over at `now`.
    pub async fn open_uploads(&self, owner: Option<&str>, now: Timestamp) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM uploads \
             WHERE token IS NULL AND expires_at > $2 AND COALESCE(owner, '') = $1",
        )
        .bind(owner.unwrap_or_default())
        .bind(millis(now))
        .fetch_one(self.pool())
        .await?;
        Ok(unsigned(count))
    }

    /// Takes the upload to put its parts together, until `now + lease`; `false`: it is a job already, another has it, or
    /// there is none.
    pub async fn take_upload(&self, id: Uuid, now: Timestamp, lease: Duration) -> Result<bool, StoreError> {
        let taken =
            sqlx::query("UPDATE uploads SET busy_until = $3 WHERE id = $1 AND token IS NULL AND busy_until <= $2")
                .bind(id.to_string())
                .bind(millis(now))
                .bind(millis(after(now, lease)))
                .execute(self.pool())
                .await?;
        Ok(taken.rows_affected() > 0)
    }

    /// Gives an upload back that was taken and is no job.
    pub async fn let_go_upload(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("UPDATE uploads SET busy_until = 0 WHERE id = $1")
            .bind(id.to_string())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Where the videos lie whose parts may still come.
    pub async fn open_upload_keys(&self) -> Result<HashSet<String>, StoreError> {
        let keys = sqlx::query_scalar("SELECT video_key FROM uploads WHERE token IS NULL").fetch_all(self.pool());
        Ok(keys.await?.into_iter().collect())
    }

    /// Remembers a part that the storage took; one of that number before is replaced.
    pub async fn remember_part(&self, upload: Uuid, number: u32, part: &SentPart) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO upload_parts (upload, number, size_bytes, tag) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (upload, number) DO UPDATE SET size_bytes = $3, tag = $4",
        )
        .bind(upload.to_string())
        .bind(i64::from(number))
        .bind(bigint(part.size_bytes))
        .bind(part.tag.as_deref())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The parts of an upload that were remembered, by number.
    pub async fn remembered_parts(&self, upload: Uuid) -> Result<BTreeMap<u32, SentPart>, StoreError> {
        let rows = sqlx::query("SELECT number, size_bytes, tag FROM upload_parts WHERE upload = $1")
            .bind(upload.to_string())
            .fetch_all(self.pool())
            .await?;
        let part = |row: &AnyRow| -> Result<(u32, SentPart), StoreError> {
            let number: i64 = row.try_get("number")?;
            let size_bytes = unsigned(row.try_get("size_bytes")?);
            Ok((u32::try_from(number).unwrap_or_default(), SentPart { size_bytes, tag: row.try_get("tag")? }))
        };
        rows.iter().map(part).collect()
    }

    /// Forgets an upload, and its parts.
    pub async fn forget_upload(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM uploads WHERE id = $1").bind(id.to_string()).execute(self.pool()).await?;
        Ok(())
    }

    /// Uploads whose time is over at `now` and that nobody is just putting together, at most `limit`.
    pub async fn due_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<PartedUpload>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM uploads WHERE expires_at <= $1 AND busy_until <= $1 ORDER BY expires_at LIMIT $2"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(millis(now)).bind(i64::from(limit));
        query.fetch_all(self.pool()).await?.iter().map(from_row).collect()
    }
}

/// Within the transaction that queues the job: the upload is that job now. The token of another job that it is already, or
/// an error where there is no such upload any more.
pub(super) async fn becomes(tx: &mut AnyConnection, id: Uuid, token: Uuid) -> Result<Option<Uuid>, StoreError> {
    let changed = sqlx::query("UPDATE uploads SET token = $2 WHERE id = $1 AND token IS NULL")
        .bind(id.to_string())
        .bind(token.to_string())
        .execute(&mut *tx)
        .await?;
    if changed.rows_affected() > 0 {
        return Ok(None);
    }
    let before: Option<String> =
        sqlx::query_scalar("SELECT token FROM uploads WHERE id = $1").bind(id.to_string()).fetch_one(&mut *tx).await?;
    before.as_deref().map(uuid).transpose()
}

fn from_row(row: &AnyRow) -> Result<PartedUpload, StoreError> {
    let token: Option<&str> = row.try_get("token")?;
    Ok(PartedUpload {
        id: uuid(row.try_get("id")?)?,
        owner: row.try_get("owner")?,
        video_key: row.try_get("video_key")?,
        handle: row.try_get("handle")?,
        size_bytes: unsigned(row.try_get("size_bytes")?),
        part_size: unsigned(row.try_get("part_size")?),
        expires_at: time(row.try_get("expires_at")?)?,
        token: token.map(uuid).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_of_an_upload_are_all_of_it(size_bytes in 1..10_000_u64, part_size in 1..3000_u64) {
            let upload = PartedUpload {
                id: Uuid::nil(), owner: None, video_key: String::new(), handle: String::new(), size_bytes, part_size,
                expires_at: Timestamp::UNIX_EPOCH, token: None,
            };
            let sizes: Vec<u64> = (1..=upload.parts()).map(|number| upload.size_of(number).unwrap()).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), size_bytes);
            prop_assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == part_size));
            prop_assert_eq!((upload.size_of(0), upload.size_of(upload.parts() + 1)), (None, None));
        }
    }
}
