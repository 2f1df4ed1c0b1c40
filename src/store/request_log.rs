//! The table `request_log`: one row for each answered request.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{Store, StoreError, bigint, millis, time, unsigned};

/// An answered request. It holds no personal data, no token and no secret.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    pub answered_at: Timestamp,
    pub method: String,
    /// The template of the route, such as `/results/{token}`.
    pub endpoint: String,
    pub status_code: u16,
    pub latency_ms: u64,
    /// The name that the client gives itself.
    pub client_id: Option<String>,
    /// The public part of the API key used.
    pub key_id: Option<String>,
    /// The emotion in the answer, if it has one.
    pub prediction: Option<String>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    pub error_message: Option<String>,
}

/// A filter of entries. A field that is `None` does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Answered at this time or later.
    pub from: Option<Timestamp>,
    /// Answered before this time.
    pub before: Option<Timestamp>,
    pub status_code: Option<u16>,
    /// Whether the status is below 400.
    pub success: Option<bool>,
    pub client_id: Option<String>,
    pub key_id: Option<String>,
}

/// Number of values of an entry.
const COLUMNS: usize = 11;
/// Entries written by one statement.
const ROWS: usize = 64;

impl Store {
    /// Writes all entries in one transaction. `ids` makes the id of each entry.
    pub async fn log_requests(&self, entries: &[LogEntry], mut ids: impl FnMut() -> Uuid) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for entries in entries.chunks(ROWS) {
            // Writes many rows with one statement: one statement for each row costs several times as much.
            let row = |row: usize| {
                let places = (1..=COLUMNS).map(|column| format!("${}", row * COLUMNS + column));
                format!("({})", places.collect::<Vec<_>>().join(", "))
            };
            let rows = (0..entries.len()).map(row).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "INSERT INTO request_log (id, answered_at, request_method, endpoint, status_code, latency_ms, \
                                          client_id, key_id, prediction, confidence, error_message) VALUES {rows}"
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for entry in entries {
                query = query
                    .bind(ids().to_string())
                    .bind(millis(entry.answered_at))
                    .bind(&entry.method)
                    .bind(&entry.endpoint)
                    .bind(i64::from(entry.status_code))
                    .bind(bigint(entry.latency_ms))
                    .bind(entry.client_id.as_deref())
                    .bind(entry.key_id.as_deref())
                    .bind(entry.prediction.as_deref())
                    .bind(entry.confidence)
                    .bind(entry.error_message.as_deref());
            }
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Returns at most `limit` entries that match the filter, newest first.
    pub async fn logged_requests(&self, filter: &LogFilter, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        // One statement has a place for every filter, set or not. The casts tell Postgres the types.
        let rows = sqlx::query(
            "SELECT answered_at, request_method, endpoint, status_code, latency_ms, client_id, key_id, prediction, \
                    confidence, error_message \
             FROM request_log \
             WHERE answered_at >= $1 AND answered_at < $2 \
               AND status_code BETWEEN $3 AND $4 AND status_code BETWEEN $5 AND $6 \
               AND (CAST($7 AS TEXT) IS NULL OR client_id = $7) AND (CAST($8 AS TEXT) IS NULL OR key_id = $8) \
             ORDER BY answered_at DESC, id DESC LIMIT $9",
        )
        .bind(filter.from.map_or(i64::MIN, millis))
        .bind(filter.before.map_or(i64::MAX, millis))
        .bind(filter.status_code.map_or(0, i64::from))
        .bind(filter.status_code.map_or(999, i64::from))
        .bind(if filter.success == Some(false) { 400_i64 } else { 0 })
        .bind(if filter.success == Some(true) { 399_i64 } else { 999 })
        .bind(filter.client_id.as_deref())
        .bind(filter.key_id.as_deref())
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes at most `limit` entries answered by `answered_by`. Returns their number.
    pub async fn forget_log(&self, answered_by: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let deleted = sqlx::query(
            "DELETE FROM request_log WHERE id IN (SELECT id FROM request_log WHERE answered_at <= $1 \
             ORDER BY answered_at LIMIT $2)",
        )
        .bind(millis(answered_by))
        .bind(i64::from(limit))
        .execute(self.pool())
        .await?;
        Ok(deleted.rows_affected())
    }
}

fn from_row(row: &AnyRow) -> Result<LogEntry, StoreError> {
    let status: i64 = row.try_get("status_code")?;
    Ok(LogEntry {
        answered_at: time(row.try_get("answered_at")?)?,
        method: row.try_get("request_method")?,
        endpoint: row.try_get("endpoint")?,
        status_code: u16::try_from(status).unwrap_or_default(),
        latency_ms: unsigned(row.try_get("latency_ms")?),
        client_id: row.try_get("client_id")?,
        key_id: row.try_get("key_id")?,
        prediction: row.try_get("prediction")?,
        confidence: row.try_get("confidence")?,
        error_message: row.try_get("error_message")?,
    })
}
