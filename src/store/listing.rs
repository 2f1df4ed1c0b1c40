//! Lists jobs by filter, a page at a time.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use super::jobs::{COLUMNS, from_row};
use super::{Job, Status, Store, StoreError, millis, uuid};

/// A filter of jobs. A field that is `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub owner: Option<String>,
    pub status: Option<Status>,
    /// Created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// The beginning of the token, or a part of the file name.
    pub text: Option<String>,
    /// Only jobs with an id below this one: the last id of the previous page.
    pub below: Option<i64>,
}

impl Store {
    /// Returns at most `limit` jobs that match the filter, newest first.
    pub async fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, StoreError> {
        let sql = format!(
            "SELECT token, {COLUMNS} FROM jobs \
             WHERE (CAST($1 AS TEXT) IS NULL OR owner = $1) AND (CAST($2 AS TEXT) IS NULL OR status = $2) \
               AND created_at >= $3 AND created_at < $4 AND id < $5 \
               AND (CAST($7 AS TEXT) IS NULL OR token LIKE LOWER($7) || '%' ESCAPE '!' \
                    OR LOWER(file_name) LIKE '%' || LOWER($7) || '%' ESCAPE '!') \
             ORDER BY id DESC LIMIT $6"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.owner.as_deref())
            .bind(filter.status.map(Status::name))
            .bind(filter.created_from.map_or(i64::MIN, millis))
            .bind(filter.created_before.map_or(i64::MAX, millis))
            .bind(filter.below.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .bind(filter.text.as_deref().map(literal))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| from_row(uuid(row.try_get("token")?)?, row)).collect()
    }
}

/// Returns a pattern of LIKE with the escape `!` that matches this text only.
fn literal(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
