//! The parts of analyses that were broken off. A later run of the job continues after them. They are erased in the
//! transaction that ends the job, or with the job.

use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::{Claim, ClaimState, Store, StoreError, bigint};

impl Store {
    /// Keeps a part of the analysis of a claimed job, in place of the part of this number and all later ones.
    pub async fn keep_part(&self, claim: &Claim, number: u32, content: &str) -> Result<ClaimState, StoreError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE jobs SET parts = $3 WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running')",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .bind(bigint(u64::from(number) + 1))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if changed == 0 {
            return Ok(ClaimState::Lost);
        }
        sqlx::query("DELETE FROM analysis_parts WHERE token = $1 AND number >= $2")
            .bind(claim.token.to_string())
            .bind(i64::from(number))
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO analysis_parts (token, number, content) VALUES ($1, $2, $3)")
            .bind(claim.token.to_string())
            .bind(i64::from(number))
            .bind(content)
            .execute(&mut *tx)
            .await?;
        self.commit(tx, &[]).await?;
        Ok(ClaimState::Held)
    }

    /// Returns the parts that the runs of a job have kept, in order.
    pub async fn parts(&self, token: Uuid) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT content FROM analysis_parts WHERE token = $1 ORDER BY number")
            .bind(token.to_string())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("content")?)).collect()
    }
}

/// Erases the parts and the pieces of a job that has ended. `parts` is the number that the job has kept.
pub(super) async fn erase(connection: &mut AnyConnection, claim: &Claim, parts: i64) -> Result<(), StoreError> {
    if parts > 0 {
        sqlx::query("DELETE FROM analysis_parts WHERE token = $1")
            .bind(claim.token.to_string())
            .execute(&mut *connection)
            .await?;
        super::analysis_pieces::erase(connection, &claim.token.to_string()).await?;
    }
    Ok(())
}
