//! The table `key_usage`: the number of videos sent with each API key on each day (UTC), for quotas. Also the
//! bytes that stored videos take, and the table `mail_usage`: the mails that somebody has caused on a day.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sqlx::Row;

use super::{Store, StoreError, millis, unsigned};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// How many days rows are kept: more than the longest month.
const REMEMBERED_DAYS: i64 = 40;

/// The quotas of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quotas {
    /// Videos per day; 0: no limit.
    pub per_day: u32,
    /// Videos per month; 0: no limit.
    pub per_month: u32,
}

/// The bytes of stored videos and saved pictures, and those reserved for open uploads in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBytes {
    pub total: u64,
    /// Of one client.
    pub client: u64,
}

/// Mails to count for one subject, such as a recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MailCount {
    /// Pseudonym of the subject.
    pub subject: String,
    pub kind: MailSubject,
    pub mails: u32,
    /// Most mails in a day; 0: no limit.
    pub limit: u32,
}

/// The kind of subject for which mails are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MailSubject {
    Recipient,
    /// The domain of a recipient.
    Domain,
    /// The network address of the sender.
    Address,
    Key,
}

impl MailSubject {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Domain => "domain",
            Self::Address => "address",
            Self::Key => "key",
        }
    }
}

/// The period of a quota, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Day,
    Month,
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedUp {
    pub period: Period,
    pub limit: u32,
    /// Seconds until the next day or month begins (UTC).
    pub wait_s: u64,
}

/// Returns the number of days since 1970.
fn day(now: Timestamp) -> i64 {
    now.as_millisecond().div_euclid(DAY_MS)
}

impl Store {
    /// Counts videos of a key at `now`. If they exceed a quota, counts nothing and returns that quota.
    pub async fn count_videos(
        &self,
        key_id: &str,
        videos: u32,
        quotas: Quotas,
        now: Timestamp,
    ) -> Result<Option<UsedUp>, StoreError> {
        self.within(self.count_videos_now(key_id, videos, quotas, now)).await
    }

    async fn count_videos_now(
        &self,
        key_id: &str,
        videos: u32,
        quotas: Quotas,
        now: Timestamp,
    ) -> Result<Option<UsedUp>, StoreError> {
        let date = now.to_zoned(TimeZone::UTC).date();
        let (today, first) = (day(now), day(now) - i64::from(date.day()) + 1);
        let mut tx = self.begin().await?;
        let of_day: i64 = sqlx::query_scalar(
            "INSERT INTO key_usage (key_id, day, videos) VALUES ($1, $2, $3) \
             ON CONFLICT (key_id, day) DO UPDATE SET videos = key_usage.videos + excluded.videos RETURNING videos",
        )
        .bind(key_id)
        .bind(today)
        .bind(i64::from(videos))
        .fetch_one(&mut *tx)
        .await?;
        let of_month: i64 =
            sqlx::query_scalar("SELECT CAST(SUM(videos) AS BIGINT) FROM key_usage WHERE key_id = $1 AND day >= $2")
                .bind(key_id)
                .bind(first)
                .fetch_one(&mut *tx)
                .await?;
        let until = |day: i64| unsigned((day * DAY_MS - now.as_millisecond()) / 1000 + 1);
        let is_over = |used: i64, limit: u32| limit > 0 && used > i64::from(limit);
        let used_up = if is_over(of_month, quotas.per_month) {
            let wait_s = until(first + i64::from(date.days_in_month()));
            Some(UsedUp { period: Period::Month, limit: quotas.per_month, wait_s })
        } else if is_over(of_day, quotas.per_day) {
            Some(UsedUp { period: Period::Day, limit: quotas.per_day, wait_s: until(today + 1) })
        } else {
            None
        };
        if used_up.is_some() {
            tx.rollback().await?;
        } else {
            self.commit(tx, &[]).await?;
        }
        Ok(used_up)
    }

    /// Returns the bytes that videos and saved pictures take in the storage, in total and of the client with this
    /// pseudonym.
    pub async fn stored_bytes(&self, client: &str, now: Timestamp) -> Result<StoredBytes, StoreError> {
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS total, \
                    CAST(COALESCE(SUM(CASE WHEN client = $1 THEN bytes ELSE 0 END), 0) AS BIGINT) AS own \
             FROM (SELECT client, video_bytes AS bytes FROM jobs WHERE video_key IS NOT NULL \
                   UNION ALL \
                   SELECT client, size_bytes FROM uploads WHERE token IS NULL AND expires_at > $2 \
                   UNION ALL \
                   SELECT client, size_bytes FROM saved_frames) AS stored",
        )
        .bind(client)
        .bind(millis(now))
        .fetch_one(self.pool())
        .await?;
        Ok(StoredBytes { total: unsigned(row.try_get("total")?), client: unsigned(row.try_get("own")?) })
    }

    /// Uncounts videos that were counted at `counted` and then refused.
    pub async fn uncount_videos(&self, key_id: &str, videos: u32, counted: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_usage SET videos = videos - $3 WHERE key_id = $1 AND day = $2 AND videos >= $3")
            .bind(key_id)
            .bind(day(counted))
            .bind(i64::from(videos))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Counts mails for all these subjects at `now`. If one of them exceeds its limit, counts nothing and returns it,
    /// with the seconds until the next day (UTC).
    pub async fn count_mails(
        &self,
        counts: &[MailCount],
        now: Timestamp,
    ) -> Result<Option<(MailCount, u64)>, StoreError> {
        self.within(self.count_mails_now(counts, now)).await
    }

    async fn count_mails_now(
        &self,
        counts: &[MailCount],
        now: Timestamp,
    ) -> Result<Option<(MailCount, u64)>, StoreError> {
        let (today, mut sorted) = (day(now), counts.to_vec());
        // In the same order in all transactions, so that none waits for another in a circle.
        sorted.sort();
        let mut tx = self.begin().await?;
        for count in sorted {
            let mails: i64 = sqlx::query_scalar(
                "INSERT INTO mail_usage (subject, day, mails) VALUES ($1, $2, $3) \
                 ON CONFLICT (subject, day) DO UPDATE SET mails = mail_usage.mails + excluded.mails RETURNING mails",
            )
            .bind(&count.subject)
            .bind(today)
            .bind(i64::from(count.mails))
            .fetch_one(&mut *tx)
            .await?;
            if count.limit > 0 && mails > i64::from(count.limit) {
                tx.rollback().await?;
                let wait_s = unsigned(((today + 1) * DAY_MS - now.as_millisecond()) / 1000 + 1);
                return Ok(Some((count, wait_s)));
            }
        }
        self.commit(tx, &[]).await?;
        Ok(None)
    }

    /// Uncounts mails that were counted at `counted` for a request that was then refused.
    pub async fn uncount_mails(&self, counts: &[MailCount], counted: Timestamp) -> Result<(), StoreError> {
        for count in counts {
            sqlx::query("UPDATE mail_usage SET mails = mails - $3 WHERE subject = $1 AND day = $2 AND mails >= $3")
                .bind(&count.subject)
                .bind(day(counted))
                .bind(i64::from(count.mails))
                .execute(self.pool())
                .await?;
        }
        Ok(())
    }

    /// Deletes the rows of days that no quota needs any more.
    pub async fn forget_usage(&self, now: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM key_usage WHERE day < $1")
            .bind(day(now) - REMEMBERED_DAYS)
            .execute(self.pool())
            .await?;
        sqlx::query("DELETE FROM mail_usage WHERE day < $1").bind(day(now)).execute(self.pool()).await?;
        Ok(forgotten.rows_affected())
    }
}
