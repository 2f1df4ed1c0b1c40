//! The tables `results` and `timeline_parts`: one row of `results` for each finished job, and one row of
//! `timeline_parts` for every thousand rows of its timeline. [`Store::complete`] writes them.

use serde_json::value::RawValue;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use super::{Store, StoreError, decode, encode};
use crate::analysis::{Analysis, Findings, Timeline, TimelineRow};

/// Timeline rows in one row of `timeline_parts`: about 100 kB.
const PART_ROWS: usize = 1000;

/// A page of timeline rows.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelinePage {
    pub interval_s: f64,
    pub rows: Vec<TimelineRow>,
    /// Whether further rows follow.
    pub more: bool,
}

/// An analysis as stored: JSON text, which most callers pass on without parsing it.
#[derive(Debug, Clone)]
pub struct StoredAnalysis(pub(super) String);

impl StoredAnalysis {
    pub fn read(&self) -> Result<Analysis, StoreError> {
        decode("analysis", &self.0)
    }

    pub fn into_json(self) -> Result<Box<RawValue>, StoreError> {
        RawValue::from_string(self.0)
            .map_err(|error| StoreError::Corrupt { what: "analysis", reason: error.to_string() })
    }
}

impl Store {
    /// Returns the findings of a finished job.
    pub async fn findings(&self, token: Uuid) -> Result<Option<Findings>, StoreError> {
        let Some(analysis) = self.analysis(token).await? else { return Ok(None) };
        let timeline = self.timeline(token, 0, usize::MAX).await?;
        Ok(timeline.map(|TimelinePage { interval_s, rows, .. }| Findings {
            analysis,
            timeline: Timeline { interval_s, rows },
        }))
    }

    /// Returns the analysis of a finished job, without its timeline, which can be thousands of times larger.
    pub async fn analysis(&self, token: Uuid) -> Result<Option<Analysis>, StoreError> {
        let row = sqlx::query("SELECT analysis FROM results WHERE token = $1")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| decode("analysis", row.try_get("analysis")?)).transpose()
    }

    /// Returns at most `limit` timeline rows of a finished job, starting with row `from`. Rows count from 0.
    pub async fn timeline(&self, token: Uuid, from: usize, limit: usize) -> Result<Option<TimelinePage>, StoreError> {
        let row = sqlx::query("SELECT timeline FROM results WHERE token = $1")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let Timeline { interval_s, mut rows } = decode("timeline", row.try_get("timeline")?)?;
        // Reads one row more than requested, to know whether further rows follow.
        let until = from.saturating_add(limit).saturating_add(1);
        let mut start = 0;
        // Results of older versions hold their rows in `results`.
        if rows.is_empty() {
            start = from / PART_ROWS * PART_ROWS;
            let parts = sqlx::query(
                "SELECT timeline FROM timeline_parts WHERE token = $1 AND start_row >= $2 AND start_row < $3 \
                 ORDER BY start_row",
            )
            .bind(token.to_string())
            .bind(row_index(start))
            .bind(row_index(until))
            .fetch_all(self.pool())
            .await?;
            for part in parts {
                rows.extend(decode::<Timeline>("timeline", part.try_get("timeline")?)?.rows);
            }
        }
        rows.truncate(until - start);
        let mut rows = rows.split_off((from - start).min(rows.len()));
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok(Some(TimelinePage { interval_s, rows, more }))
    }
}

/// Writes the findings of a job, and replaces older ones.
pub(super) async fn put(tx: &mut Transaction<'_, Any>, token: Uuid, findings: &Findings) -> Result<(), StoreError> {
    let Findings { analysis, timeline } = findings;
    let part =
        |rows: &[TimelineRow]| encode("timeline", &Timeline { interval_s: timeline.interval_s, rows: rows.to_vec() });
    sqlx::query(
        "INSERT INTO results (token, analysis, timeline) VALUES ($1, $2, $3) \
         ON CONFLICT (token) DO UPDATE SET analysis = excluded.analysis, timeline = excluded.timeline",
    )
    .bind(token.to_string())
    .bind(encode("analysis", analysis)?)
    .bind(part(&[])?)
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM timeline_parts WHERE token = $1").bind(token.to_string()).execute(&mut **tx).await?;
    for (number, rows) in timeline.rows.chunks(PART_ROWS).enumerate() {
        sqlx::query("INSERT INTO timeline_parts (token, start_row, timeline) VALUES ($1, $2, $3)")
            .bind(token.to_string())
            .bind(row_index(number * PART_ROWS))
            .bind(part(rows)?)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

fn row_index(row: usize) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}
