//! The table `results`: what an analysis found, one row a finished job. Written by [`Store::complete`].

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, decode};
use crate::analysis::{Analysis, Findings};

impl Store {
    /// The findings of a finished job.
    pub async fn findings(&self, token: Uuid) -> Result<Option<Findings>, StoreError> {
        let row = sqlx::query("SELECT analysis, timeline FROM results WHERE token = $1")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| {
            Ok(Findings {
                analysis: decode("analysis", row.try_get("analysis")?)?,
                timeline: decode("timeline", row.try_get("timeline")?)?,
            })
        })
        .transpose()
    }

    /// The analysis of a finished job without its timeline, which can be thousands of times larger.
    pub async fn analysis(&self, token: Uuid) -> Result<Option<Analysis>, StoreError> {
        let row = sqlx::query("SELECT analysis FROM results WHERE token = $1")
            .bind(token.to_string())
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| decode("analysis", row.try_get("analysis")?)).transpose()
    }
}
