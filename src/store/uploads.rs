//! The tables `uploads` and `upload_parts`: multipart uploads, until each becomes a job or expires.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError, after, bigint, decode, encode, millis, time, unsigned, uuid};
use crate::analysis::Notice;

/// A multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartedUpload {
    pub id: Uuid,
    /// The API key that began it; `None` if it was begun without a key.
    pub owner: Option<String>,
    /// The key of the video in the blob store.
    pub video_key: String,
    /// The blob store's id of the upload.
    pub handle: String,
    pub size_bytes: u64,
    /// Size of every part but the last, in bytes.
    pub part_size: u64,
    pub expires_at: Timestamp,
    /// The token of the job that it became.
    pub token: Option<Uuid>,
    /// What the people in the video were told, if the request that began the upload said so.
    pub notice: Option<Notice>,
}

impl PartedUpload {
    /// Returns the number of parts.
    pub fn parts(&self) -> u32 {
        u32::try_from(self.size_bytes.div_ceil(self.part_size.max(1))).unwrap_or(u32::MAX)
    }

    /// Returns the size of a part in bytes; `None` if there is no such part. Parts count from 1.
    pub fn size_of(&self, number: u32) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?).checked_mul(self.part_size)?;
        self.size_bytes.checked_sub(before).filter(|left| *left > 0).map(|left| left.min(self.part_size))
    }
}

/// A part that is in the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPart {
    pub size_bytes: u64,
    /// The storage's name of the part (the ETag in S3); `None` if it has none.
    pub tag: Option<String>,
}

const COLUMNS: &str = "id, owner, video_key, handle, size_bytes, part_size, expires_at, token, notice";

impl Store {
    /// Inserts an upload of the client with this pseudonym.
    pub async fn begin_upload(&self, upload: &PartedUpload, client: &str, now: Timestamp) -> Result<(), StoreError> {
        let notice = upload.notice.as_ref().map(|notice| encode("notice", notice)).transpose()?;
        sqlx::query(
            "INSERT INTO uploads (id, owner, video_key, handle, size_bytes, part_size, created_at, expires_at, \
                                  busy_until, client, notice) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10)",
        )
        .bind(upload.id.to_string())
        .bind(upload.owner.as_deref())
        .bind(&upload.video_key)
        .bind(&upload.handle)
        .bind(bigint(upload.size_bytes))
        .bind(bigint(upload.part_size))
        .bind(millis(now))
        .bind(millis(upload.expires_at))
        .bind(client)
        .bind(notice)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns an upload that has not expired at `now`.
    pub async fn upload(&self, id: Uuid, now: Timestamp) -> Result<Option<PartedUpload>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM uploads WHERE id = $1 AND expires_at > $2");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).bind(millis(now));
        query.fetch_optional(self.pool()).await?.map(|row| from_row(&row)).transpose()
    }

    /// Counts the uploads of a client that are neither jobs nor expired at `now`. Returns their number, and when the
    /// first of them expires.
    pub async fn open_uploads(&self, client: &str, now: Timestamp) -> Result<(u64, Option<Timestamp>), StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS uploads, MIN(expires_at) AS first FROM uploads \
             WHERE token IS NULL AND expires_at > $2 AND client = $1",
        )
        .bind(client)
        .bind(millis(now))
        .fetch_one(self.pool())
        .await?;
        let first: Option<i64> = row.try_get("first")?;
        Ok((unsigned(row.try_get("uploads")?), first.map(time).transpose()?))
    }

    /// Claims an upload until `now + lease`, to join its parts. Returns `false` if it is a job already, if another
    /// request has claimed it, or if it does not exist.
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

    /// Releases a claimed upload that did not become a job.
    pub async fn let_go_upload(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("UPDATE uploads SET busy_until = 0 WHERE id = $1")
            .bind(id.to_string())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Returns the video keys of uploads that are not jobs yet.
    pub async fn open_upload_keys(&self) -> Result<HashSet<String>, StoreError> {
        let keys = sqlx::query_scalar("SELECT video_key FROM uploads WHERE token IS NULL").fetch_all(self.pool());
        Ok(keys.await?.into_iter().collect())
    }

    /// Records a part that is in the storage. It replaces an earlier part with the same number.
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

    /// Returns the recorded parts of an upload, by number.
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

    /// Deletes an upload and its parts from the database.
    pub async fn forget_upload(&self, id: Uuid) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM uploads WHERE id = $1").bind(id.to_string()).execute(self.pool()).await?;
        Ok(())
    }

    /// Returns at most `limit` uploads that have expired at `now` and are not claimed.
    pub async fn due_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<PartedUpload>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM uploads WHERE expires_at <= $1 AND busy_until <= $1 ORDER BY expires_at LIMIT $2"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(millis(now)).bind(i64::from(limit));
        query.fetch_all(self.pool()).await?.iter().map(from_row).collect()
    }
}

/// Links an upload to a job, within the transaction that queues the job. Returns the token of another job if the upload
/// is linked to that one already.
///
/// # Errors
/// The upload no longer exists.
pub(super) async fn link_to_job(tx: &mut AnyConnection, id: Uuid, token: Uuid) -> Result<Option<Uuid>, StoreError> {
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
    let notice: Option<&str> = row.try_get("notice")?;
    Ok(PartedUpload {
        id: uuid(row.try_get("id")?)?,
        owner: row.try_get("owner")?,
        video_key: row.try_get("video_key")?,
        handle: row.try_get("handle")?,
        size_bytes: unsigned(row.try_get("size_bytes")?),
        part_size: unsigned(row.try_get("part_size")?),
        expires_at: time(row.try_get("expires_at")?)?,
        token: token.map(uuid).transpose()?,
        notice: notice.map(|notice| decode("notice", notice)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn part_sizes_add_up_to_the_size_of_the_upload(size_bytes in 1..10_000_u64, part_size in 1..3000_u64) {
            let upload = PartedUpload {
                id: Uuid::nil(), owner: None, video_key: String::new(), handle: String::new(), size_bytes, part_size,
                expires_at: Timestamp::UNIX_EPOCH, token: None, notice: None,
            };
            let sizes: Vec<u64> = (1..=upload.parts()).map(|number| upload.size_of(number).unwrap()).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), size_bytes);
            prop_assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == part_size));
            prop_assert_eq!((upload.size_of(0), upload.size_of(upload.parts() + 1)), (None, None));
        }
    }
}
