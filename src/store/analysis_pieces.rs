//! The pieces of jobs whose videos several workers analyze together. The worker that has claimed the job plans the pieces,
//! does some of them, and joins the results. Other workers claim pieces one by one when they have no job of their own.
//! Like a job, a piece is claimed for the time of a lease. Pieces are erased in the transaction that ends the job, or with
//! the job.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row};
use uuid::Uuid;

use super::{Claim, ClaimState, Store, StoreError, Wake, after, bigint, millis, unsigned, uuid};

/// Other workers do no more pieces of a job when this many of them have died.
const MOST_DEATHS: u32 = 3;
/// Whether the worker with the claim `$2` still holds the job `$1`.
const HOLDS_JOB: &str =
    "EXISTS (SELECT 1 FROM jobs WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running'))";

/// A piece that this worker has claimed.
#[derive(Debug)]
pub struct PieceClaim {
    pub token: Uuid,
    pub number: u32,
    /// As the worker of the job has written it.
    pub piece: String,
    /// What an earlier worker has read of it.
    pub begun: Option<String>,
    claim: i64,
}

/// The pieces of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PieceCounts {
    pub all: u64,
    pub done: u64,
    /// Frames in pieces that are done, and in those that run.
    pub frames_done: u64,
}

impl Store {
    /// Adds the pieces of a claimed job. Pieces that the job has already stay as they are.
    pub async fn put_pieces(&self, claim: &Claim, pieces: &[String]) -> Result<ClaimState, StoreError> {
        let mut tx = self.begin().await?;
        // A job that has kept no part erases nothing when it ends.
        let changed = sqlx::query(
            "UPDATE jobs SET parts = CASE WHEN parts = 0 THEN 1 ELSE parts END \
             WHERE token = $1 AND claim = $2 AND status IN ('queued', 'running')",
        )
        .bind(claim.token.to_string())
        .bind(claim.number)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if changed == 0 {
            return Ok(ClaimState::Lost);
        }
        for (number, piece) in (0_i64..).zip(pieces) {
            sqlx::query(
                "INSERT INTO analysis_pieces (token, number, piece) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind(claim.token.to_string())
            .bind(number)
            .bind(piece)
            .execute(&mut *tx)
            .await?;
        }
        self.commit(tx, &[Wake::Work]).await?;
        Ok(ClaimState::Held)
    }

    /// Returns the pieces of a job, in order.
    pub async fn pieces(&self, token: Uuid) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT piece FROM analysis_pieces WHERE token = $1 ORDER BY number")
            .bind(token.to_string())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("piece")?)).collect()
    }

    /// Counts the pieces of a job.
    pub async fn piece_counts(&self, token: Uuid) -> Result<PieceCounts, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS every, COUNT(result) AS done, CAST(COALESCE(SUM(frames_done), 0) AS BIGINT) AS frames \
             FROM analysis_pieces WHERE token = $1",
        )
        .bind(token.to_string())
        .fetch_one(self.pool())
        .await?;
        Ok(PieceCounts {
            all: unsigned(row.try_get("every")?),
            done: unsigned(row.try_get("done")?),
            frames_done: unsigned(row.try_get("frames")?),
        })
    }

    /// Returns the results of the pieces of a job, in order. `None` if one is not done.
    pub async fn piece_results(&self, token: Uuid) -> Result<Option<Vec<String>>, StoreError> {
        let rows = sqlx::query("SELECT result FROM analysis_pieces WHERE token = $1 ORDER BY number")
            .bind(token.to_string())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("result")?)).collect()
    }

    /// Claims a piece of any running job that workers of other jobs may do.
    pub async fn claim_shared_piece(&self, now: Timestamp, lease: Duration) -> Result<Option<PieceClaim>, StoreError> {
        // Most of the time there is none. A look at a small index then spares an attempt to write.
        let waiting = "SELECT number FROM analysis_pieces WHERE status = 'waiting' AND shared = 1 LIMIT 1";
        if sqlx::query(waiting).fetch_optional(self.pool()).await?.is_none() {
            return Ok(None);
        }
        let sql = format!(
            "UPDATE analysis_pieces SET status = 'running', claim = claim + 1, lease_until = $1, frames_done = 0 \
             WHERE (token, number) = \
                   (SELECT token, number FROM analysis_pieces AS open \
                    WHERE status = 'waiting' AND shared = 1 \
                      AND {MOST_DEATHS} > (SELECT COALESCE(SUM(other.deaths), 0) FROM analysis_pieces AS other \
                                           WHERE other.token = open.token) \
                    ORDER BY token, number LIMIT 1{skip_locked}) \
             RETURNING token, number, piece, begun, claim",
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(millis(after(now, lease))).fetch_optional(self.pool()).await?;
        row.map(|row| piece(&row)).transpose()
    }

    /// Claims a piece of this job: one that waits, or one whose lease has run out.
    pub async fn claim_own_piece(
        &self,
        job: &Claim,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<PieceClaim>, StoreError> {
        let sql = format!(
            "UPDATE analysis_pieces \
             SET claim = claim + 1, lease_until = $3, frames_done = 0, \
                 deaths = deaths + CASE WHEN status = 'running' THEN 1 ELSE 0 END, status = 'running' \
             WHERE (token, number) = \
                   (SELECT token, number FROM analysis_pieces \
                    WHERE token = $1 AND (status = 'waiting' OR status = 'running' AND lease_until <= $2) \
                    ORDER BY number LIMIT 1{skip_locked}) \
             RETURNING token, number, piece, begun, claim",
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(job.token.to_string())
            .bind(millis(now))
            .bind(millis(after(now, lease)))
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| piece(&row)).transpose()
    }

    /// Renews the lease of a piece and records its progress.
    pub async fn renew_piece(
        &self,
        piece: &PieceClaim,
        frames_done: u64,
        now: Timestamp,
        lease: Duration,
    ) -> Result<ClaimState, StoreError> {
        let change = change(piece, "lease_until = $4, frames_done = $5");
        self.execute(change.bind(millis(after(now, lease))).bind(bigint(frames_done))).await
    }

    /// Keeps what was read of a piece, for a worker that continues.
    pub async fn keep_begun(&self, piece: &PieceClaim, begun: &str) -> Result<ClaimState, StoreError> {
        self.execute(change(piece, "begun = $4").bind(begun)).await
    }

    /// Saves the result of a piece.
    pub async fn finish_piece(&self, piece: &PieceClaim, result: &str) -> Result<ClaimState, StoreError> {
        let change = change(piece, "status = 'done', lease_until = NULL, begun = NULL, result = $4");
        let state = self.execute(change.bind(result)).await?;
        self.wake(Wake::Job(piece.token));
        Ok(state)
    }

    /// Gives a piece back, with what was kept of it. `is_shared`: whether other workers may do it.
    pub async fn release_piece(&self, piece: &PieceClaim, is_shared: bool) -> Result<ClaimState, StoreError> {
        let change = change(piece, "status = 'waiting', shared = $4, lease_until = NULL, frames_done = 0");
        let state = self.execute(change.bind(i64::from(is_shared))).await?;
        self.wake(Wake::Job(piece.token));
        self.wake(Wake::Work);
        Ok(state)
    }

    async fn execute(&self, query: Query<'_, Any, AnyArguments>) -> Result<ClaimState, StoreError> {
        Ok(ClaimState::from_rows(query.execute(self.pool()).await?.rows_affected()))
    }

    /// Has a piece of a claimed job done again, in another form if one is given. `is_shared`: whether other workers may do
    /// it. After the loss of the claim, it changes nothing.
    pub async fn redo_piece(
        &self,
        job: &Claim,
        number: u32,
        piece: Option<&str>,
        is_shared: bool,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE analysis_pieces \
             SET status = 'waiting', piece = COALESCE($4, piece), shared = $5, lease_until = NULL, frames_done = 0, begun = NULL, \
                 result = NULL \
             WHERE token = $1 AND number = $3 AND status = 'done' AND {HOLDS_JOB}"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(job.token.to_string())
            .bind(job.number)
            .bind(i64::from(number))
            .bind(piece)
            .bind(i64::from(is_shared))
            .execute(self.pool())
            .await?;
        self.wake(Wake::Work);
        Ok(())
    }

    /// Erases the pieces of a claimed job, whose video is analyzed as a whole now. After the loss of the claim, it erases
    /// nothing.
    pub async fn drop_pieces(&self, job: &Claim) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM analysis_pieces WHERE token = $1 AND {HOLDS_JOB}");
        sqlx::query(AssertSqlSafe(sql)).bind(job.token.to_string()).bind(job.number).execute(self.pool()).await?;
        Ok(())
    }
}

/// Erases the pieces of a job.
pub(super) async fn erase(connection: &mut AnyConnection, token: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM analysis_pieces WHERE token = $1").bind(token).execute(connection).await?;
    Ok(())
}

/// Changes columns of a claimed piece. Their values begin with `$4`.
fn change<'q>(piece: &PieceClaim, columns: &str) -> Query<'q, Any, AnyArguments> {
    let sql = format!(
        "UPDATE analysis_pieces SET {columns} WHERE token = $1 AND number = $2 AND claim = $3 AND status = 'running'"
    );
    let query = sqlx::query(AssertSqlSafe(sql));
    query.bind(piece.token.to_string()).bind(i64::from(piece.number)).bind(piece.claim)
}

fn piece(row: &sqlx::any::AnyRow) -> Result<PieceClaim, StoreError> {
    Ok(PieceClaim {
        token: uuid(row.try_get("token")?)?,
        number: u32::try_from(row.try_get::<i64, _>("number")?).unwrap_or_default(),
        piece: row.try_get("piece")?,
        begun: row.try_get("begun")?,
        claim: row.try_get("claim")?,
    })
}
