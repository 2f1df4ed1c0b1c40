//! The table `api_keys`: API keys and their scopes.
//!
//! A key has the form `vis_<id>_<secret>`. The id is public and finds the row. The secret is 256 random bits from the
//! operating system; only its SHA-256 is stored. Passwords need a slow hash because they can be guessed. 256 random
//! bits cannot be guessed, so a fast hash is enough.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::any::AnyRow;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::{Store, StoreError, millis, time};

const PREFIX: &str = "vis_";
/// Number of hexadecimal digits of an id.
const ID_LEN: usize = 12;
/// The last use of a key is recorded at most this often, so that a busy key does not cause a write for each request.
const USE_EVERY_MS: i64 = 60_000;

/// A permission of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send videos, and erase one's own.
    Analyze,
    /// Read results.
    Read,
    /// Read the request log.
    Logs,
    /// Send videos with the priority `high`.
    Urgent,
    /// All of the above, for the videos of all keys.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 5] = [Self::Analyze, Self::Read, Self::Logs, Self::Urgent, Self::Admin];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Analyze => "analyze",
            Self::Read => "read",
            Self::Logs => "logs",
            Self::Urgent => "urgent",
            Self::Admin => "admin",
        }
    }

    fn from_stored(text: &str) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| StoreError::Corrupt { what: "scope", reason: format!("{text:?} is not known") })
    }
}

/// A key to create.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// A label for the operator.
    pub name: String,
    pub scopes: Vec<Scope>,
    /// Requests per minute; `None`: the default of the settings.
    pub rate_per_minute: Option<u32>,
    /// Concurrent requests; `None`: the default of the settings.
    pub max_concurrent: Option<u32>,
    /// Videos per day (UTC); `None`: the default of the settings.
    pub videos_per_day: Option<u32>,
    /// Videos per month (UTC); `None`: the default of the settings.
    pub videos_per_month: Option<u32>,
    pub expires_at: Option<Timestamp>,
}

/// A key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub rate_per_minute: Option<u32>,
    pub max_concurrent: Option<u32>,
    /// Videos per day (UTC); `None`: the default of the settings.
    pub videos_per_day: Option<u32>,
    /// Videos per month (UTC); `None`: the default of the settings.
    pub videos_per_month: Option<u32>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// Exact to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Returns whether the key has the scope, or the scope `admin`.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Returns whether the key is neither revoked nor expired at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

const COLUMNS: &str = "id, name, secret_sha256, scopes, rate_per_minute, max_concurrent, videos_per_day, \
                       videos_per_month, created_at, expires_at, \
                       revoked_at, last_used_at";

impl Store {
    /// Creates a key from the first bytes of a random `id` and a random secret. Returns the text of the key, which
    /// cannot be recovered later.
    pub async fn create_key(
        &self,
        key: &NewKey,
        id: uuid::Uuid,
        secret: &[u8; 32],
        now: Timestamp,
    ) -> Result<String, StoreError> {
        let id = &id.simple().to_string()[..ID_LEN];
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
        sqlx::query(
            "INSERT INTO api_keys (id, name, secret_sha256, scopes, rate_per_minute, max_concurrent, created_at, \
                                   expires_at, videos_per_day, videos_per_month) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(id)
        .bind(&key.name)
        .bind(digest(&secret))
        .bind(scopes.join(","))
        .bind(key.rate_per_minute.map(i64::from))
        .bind(key.max_concurrent.map(i64::from))
        .bind(millis(now))
        .bind(key.expires_at.map(millis))
        .bind(key.videos_per_day.map(i64::from))
        .bind(key.videos_per_month.map(i64::from))
        .execute(self.pool())
        .await?;
        Ok(format!("{PREFIX}{id}_{secret}"))
    }

    /// Returns the key with this text if it exists and is valid at `now`.
    pub async fn key(&self, text: &str, now: Timestamp) -> Result<Option<ApiKey>, StoreError> {
        let Some((id, secret)) = split(text) else { return Ok(None) };
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(self.pool()).await?;
        let Some(row) = row else { return Ok(None) };
        let stored: &str = row.try_get("secret_sha256")?;
        // Compares in constant time: the time must not reveal how many bytes of a wrong secret were right.
        let same: bool = stored.as_bytes().ct_eq(digest(secret).as_bytes()).into();
        let key = from_row(&row)?;
        Ok(Some(key).filter(|key| same && key.is_good(now)))
    }

    /// Returns the key with this id if it exists and is valid at `now`. For a caller that has proved otherwise that it
    /// has the key.
    pub async fn key_by_id(&self, id: &str, now: Timestamp) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(self.pool()).await?;
        Ok(row.as_ref().map(from_row).transpose()?.filter(|key| key.is_good(now)))
    }

    /// Records the use of a key, unless a use within the last minute is recorded.
    pub async fn key_used(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        let now = millis(now);
        if key.last_used_at.is_some_and(|last| now < millis(last) + USE_EVERY_MS) {
            return Ok(());
        }
        // Checks the time again, since another request with the same key may have read the same row.
        sqlx::query(
            "UPDATE api_keys SET last_used_at = $2 \
             WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)",
        )
        .bind(&key.id)
        .bind(now)
        .bind(now - USE_EVERY_MS)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns all keys, oldest first, with the revoked ones.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_keys ORDER BY created_at, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(self.pool()).await?;
        rows.iter().map(from_row).collect()
    }

    /// Revokes a key. Returns `false` if there is no such key or it was revoked before.
    pub async fn revoke_key(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let changed = sqlx::query("UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
            .bind(id)
            .bind(millis(now))
            .execute(self.pool())
            .await?
            .rows_affected();
        Ok(changed > 0)
    }
}

/// Splits the text of a key into id and secret.
fn split(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    // No key of another form was ever created, so the database need not be asked.
    let plausible = id.len() == ID_LEN && id.bytes().all(|b| b.is_ascii_hexdigit()) && secret.len() < 100;
    plausible.then_some((id, secret))
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn from_row(row: &AnyRow) -> Result<ApiKey, StoreError> {
    let moment = |column| row.try_get::<Option<i64>, _>(column)?.map(time).transpose();
    let number = |column| {
        let stored = row.try_get::<Option<i64>, _>(column)?;
        Ok::<_, StoreError>(stored.and_then(|number| u32::try_from(number).ok()))
    };
    let scopes: &str = row.try_get("scopes")?;
    Ok(ApiKey {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: scopes.split(',').filter(|name| !name.is_empty()).map(Scope::from_stored).collect::<Result<_, _>>()?,
        rate_per_minute: number("rate_per_minute")?,
        max_concurrent: number("max_concurrent")?,
        videos_per_day: number("videos_per_day")?,
        videos_per_month: number("videos_per_month")?,
        created_at: time(row.try_get("created_at")?)?,
        expires_at: moment("expires_at")?,
        revoked_at: moment("revoked_at")?,
        last_used_at: moment("last_used_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_keys_are_rejected_without_a_query() {
        let good = "vis_0123456789ab_c2Vj_cmV0-A";
        assert_eq!(split(good), Some(("0123456789ab", "c2Vj_cmV0-A")));
        for text in ["", "vis_", "vis_0123456789ab", "vis_0123_x", "vis_0123456789zz_x", "sk_0123456789ab_x"] {
            assert_eq!(split(text), None, "{text}");
        }
        assert_eq!(split(&format!("vis_0123456789ab_{}", "x".repeat(5000))), None);
    }

    #[test]
    fn the_stored_hash_is_sha_256() {
        // FIPS 180-2, B.1.
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
