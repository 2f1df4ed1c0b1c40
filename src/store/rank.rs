//! The order in which waiting jobs are claimed. It is fair between senders, whatever number of jobs each of them queues.
//!
//! Each job has a rank, and the one with the lowest is claimed first, of equal ones the oldest. A rank consists of these
//! numbers, the first one in the highest bits:
//!
//! 1. The priority.
//! 2. The turn: that of the next job to be claimed, or one more than that of its sender's last waiting job, whichever is
//!    later. This is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with a length of 1 for each job: of N
//!    senders with waiting jobs each gets every N-th claim.
//! 3. The length: the binary logarithm of the expected cost. Among the jobs of a turn, short ones go first. A long one
//!    waits for one job of each other sender at most.
//!
//! A job keeps its rank when it is queued again. A sender is a key, or a network for requests without a key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};
use utoipa::ToSchema;

use super::{NewJob, StoreError, millis};

const LENGTH_BITS: u32 = 8;
const TURN_BITS: u32 = 40;
/// Sorts jobs of unknown cost behind all others of their turn.
const UNKNOWN_LENGTH: i64 = (1 << LENGTH_BITS) - 1;
const LAST_TURN: i64 = (1 << TURN_BITS) - 1;

/// Which of the waiting jobs go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    #[default]
    Normal,
    /// When no other job waits.
    Low,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Returns the priority with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name() == name)
    }

    /// The lowest rank of this priority. 0 is the rank of jobs of earlier versions.
    const fn first_rank(self) -> i64 {
        let number = match self {
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        };
        number << (TURN_BITS + LENGTH_BITS)
    }

    /// The priority of a job with this rank.
    pub(super) const fn of_rank(rank: i64) -> Self {
        match rank >> (TURN_BITS + LENGTH_BITS) {
            1 => Self::High,
            3 => Self::Low,
            _ => Self::Normal,
        }
    }
}

/// Returns the rank of a new job. The caller holds the lock of the counter of jobs, so no other job is added meanwhile.
pub(super) async fn of_new(tx: &mut AnyConnection, job: &NewJob, now: Timestamp) -> Result<i64, StoreError> {
    let base = job.priority.first_rank();
    let row = sqlx::query(
        "SELECT (SELECT rank FROM jobs \
                 WHERE status = 'queued' AND video_url IS NULL AND rank >= $1 AND rank < $2 AND run_at <= $3 \
                 ORDER BY rank LIMIT 1) AS next, \
                (SELECT rank FROM jobs \
                 WHERE status = 'queued' AND client = $4 AND rank >= $1 AND rank < $2 \
                 ORDER BY rank DESC LIMIT 1) AS own",
    )
    .bind(base)
    .bind(base + (1 << (TURN_BITS + LENGTH_BITS)))
    .bind(millis(now))
    .bind(job.origin.client.as_deref())
    .fetch_one(&mut *tx)
    .await?;
    let turn = |rank: Option<i64>| rank.map(|rank| (rank - base) >> LENGTH_BITS);
    let (next, own) = (turn(row.try_get("next")?), turn(row.try_get("own")?));
    let turn = next.unwrap_or_default().max(own.map_or(0, |own| own + 1)).min(LAST_TURN);
    Ok(base + (turn << LENGTH_BITS) + length(job.origin.cost))
}

fn length(cost: Option<u64>) -> i64 {
    cost.map_or(UNKNOWN_LENGTH, |cost| i64::from(cost.max(1).ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_of_a_rank_is_the_one_that_it_was_made_of() {
        for priority in Priority::ALL {
            let last = priority.first_rank() + (LAST_TURN << LENGTH_BITS) + UNKNOWN_LENGTH;
            assert_eq!(Priority::of_rank(priority.first_rank()), priority);
            assert_eq!(Priority::of_rank(last), priority);
            assert_eq!(Priority::from_name(priority.name()), Some(priority));
        }
        assert_eq!(Priority::of_rank(0), Priority::Normal, "a job of an earlier version");
    }

    #[test]
    fn jobs_of_unknown_length_come_behind_the_longest() {
        assert_eq!((length(Some(0)), length(Some(1)), length(Some(1024))), (0, 0, 10));
        assert!(length(Some(u64::MAX)) < length(None));
    }
}
