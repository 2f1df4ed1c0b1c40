//! The tables `results` and `timeline_parts`: what an analysis found, one row a finished job and one a thousand rows of its
//! timeline. Written by [`Store::complete`].

use serde_json::value::RawValue;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use super::{Store, StoreError, decode, encode};
use crate::analysis::{Analysis, Findings, Timeline, TimelineRow};

/// Rows of a timeline that are stored together: about 100 kB.
const PART: usize = 1000;

/// Rows of a timeline, and whether others follow.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelinePage {
    pub interval_s: f64,
    pub rows: Vec<TimelineRow>,
    pub more: bool,
}

/// An analysis as it stands in the database: JSON that most readers only pass on.
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
    /// The findings of a finished job.
    pub async fn findings(&self, token: Uuid) -> Result<Option<Findings>, StoreError> {
        let Some(analysis) = self.analysis(token).await? else { return Ok(None) };
        let timeline = self.timeline(token, 0, usize::MAX).await?;
        Ok(timeline.map(|TimelinePage { interval_s, rows, .. }| Findings {
            analysis,
            timeline: Timeline { interval_s, rows },
        }))
    }

    /// The analysis of a finished job without its timeline, which can be thousands of times larger.
    pub async fn analysis(&self, token: Uuid) -> Result<Option<Analysis>, StoreError> {
        let row = sqlx::query("SELECT analysis FROM results WHERE token = $1")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| decode("analysis", row.try_get("analysis")?)).transpose()
    }

    /// At most `limit` rows of the timeline of a finished job, from the row `from` on, which counts from 0.
    pub async fn timeline(&self, token: Uuid, from: usize, limit: usize) -> Result<Option<TimelinePage>, StoreError> {
        let row = sqlx::query("SELECT timeline FROM results WHERE token = $1")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let Timeline { interval_s, mut rows } = decode("timeline", row.try_get("timeline")?)?;
        // One row more than asked for tells whether others follow.
        let until = from.saturating_add(limit).saturating_add(1);
        let mut start = 0;
        if rows.is_empty() {
            start = from / PART * PART;
            let parts = sqlx::query(
                "SELECT timeline FROM timeline_parts WHERE token = $1 AND start_row >= $2 AND start_row < $3 \
                 ORDER BY start_row",
            )
            .bind(token.to_string())
            .bind(place(start))
            .bind(place(until))
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

/// Writes the findings of a job in place of older ones.
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
    for (number, rows) in timeline.rows.chunks(PART).enumerate() {
        sqlx::query("INSERT INTO timeline_parts (token, start_row, timeline) VALUES ($1, $2, $3)")
            .bind(token.to_string())
            .bind(place(number * PART))
            .bind(part(rows)?)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

fn place(row: usize) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}
