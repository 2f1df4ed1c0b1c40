//! The place of a waiting job in the queue, and an estimate of the time until it starts.
//!
//! A process reads the queue for all its clients together, and only if a client asks. It reads again after
//! [`SHORTEST_AGE`], or later if the queue is so long that reading it takes longer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use parking_lot::{Mutex, MutexGuard};
use sqlx::Row;
use tokio::time::Instant;

use super::workers::SILENT_S;
use super::{Job, Status, Store, StoreError, millis, unsigned};

/// The shortest time between two readings of the queue.
const SHORTEST_AGE: Duration = Duration::from_secs(2);
/// A reading serves for this many times the time that it took, so that readings load the database by at most 2%, but
/// not longer than [`LONGEST_AGE`].
const AGE_PER_READING: u32 = 50;
const LONGEST_AGE: Duration = Duration::from_secs(30);

/// The place of a waiting job in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// Number of waiting jobs that will be claimed before this one. Exact up to 1000, then rounded down to hundreds.
    pub ahead: u64,
    /// Estimated time until the job starts. `None` if no worker is alive, or if no job has ended yet to estimate from.
    pub starts_in: Option<Duration>,
}

/// The last reading of the queue by this process.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    last: Mutex<Last>,
    /// Held while the queue is read, so that one task reads and the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Last {
    /// Time from which on the queue may be read again.
    due_at: Option<Instant>,
    /// `None` if the last reading failed.
    queue: Option<Arc<Queue>>,
}

impl Last {
    fn is_due(&self) -> bool {
        self.due_at.is_none_or(|due_at| due_at <= Instant::now())
    }
}

/// The queue as it was read.
#[derive(Debug)]
struct Queue {
    /// The first 1000 waiting jobs and every hundredth of the others, in the order of claims.
    waiting: Vec<WaitingJob>,
    read_at: i64,
    /// The largest id of a job, waiting or not. A job with a larger id is newer than the reading.
    newest: i64,
    rate: Rate,
}

/// The order of claims. Jobs that are due come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// The rank of a job that is due, and its id.
    Due(i64, i64),
    /// The time from which on a job is due, and its id.
    Later(i64, i64),
}

impl Order {
    const fn new(rank: i64, run_at: i64, id: i64, now: i64) -> Self {
        if run_at <= now { Self::Due(rank, id) } else { Self::Later(run_at, id) }
    }
}

#[derive(Debug, Clone, Copy)]
struct WaitingJob {
    order: Order,
    /// Its number in this order, from 1.
    number: u64,
    /// The work of all jobs up to this one.
    work: Work,
}

/// Jobs to run, with their cost as [`Options::cost`](crate::analysis::Options::cost) expects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Work {
    /// The total cost of the jobs whose cost is known.
    cost: u64,
    /// Number of jobs of unknown cost.
    unknown: u64,
}

/// How fast the workers analyze.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    /// Number of jobs that the live workers run at the same time.
    places: u64,
    /// Number of running jobs.
    running: u64,
    /// The work that is left of them.
    left: Work,
    /// Total running time of the jobs that ended last, their total cost, and their number.
    recent_run_ms: u64,
    recent_cost: u64,
    recent: u64,
}

impl Rate {
    /// Estimates the time until a job starts that has `ahead` jobs with this work before it.
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
    fn starts_in_ms(&self, ahead: u64, work: Work) -> Option<u64> {
        let &Self { places, running, left, recent_run_ms, recent_cost, recent } = self;
        if places == 0 || recent == 0 || recent_cost == 0 {
            return None;
        }
        if running + ahead < places {
            return Some(0);
        }
        let mean_cost = recent_cost as f64 / recent as f64;
        let cost = |work: Work| work.cost as f64 + work.unknown as f64 * mean_cost;
        let run_ms = (cost(left) + cost(work)) * recent_run_ms as f64 / recent_cost as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and the cast saturates")]
        Some((run_ms / places as f64).round() as u64)
    }
}

impl Queue {
    fn place(&self, job: &Job, now: Timestamp) -> QueuePlace {
        let run_at = millis(job.run_at);
        let order = Order::new(job.rank, run_at, job.id, self.read_at);
        let before = self.waiting.partition_point(|waiting| waiting.order < order);
        let last = before.checked_sub(1).and_then(|at| self.waiting.get(at));
        let (ahead, work) = last.map_or((0, Work::default()), |last| (last.number, last.work));
        let due_in_ms = unsigned(run_at.saturating_sub(millis(now)));
        let starts_in = self.rate.starts_in_ms(ahead, work).map(|ms| Duration::from_millis(ms.max(due_in_ms)));
        QueuePlace { ahead, starts_in }
    }
}

impl Forecast {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock()
    }
}

impl Store {
    /// Returns the place of a job in the queue. `None` if the job does not wait, if it was queued after the last
    /// reading of the queue and the next one is not due, or if the queue cannot be read.
    pub async fn queue_place(&self, job: &Job, now: Timestamp) -> Option<QueuePlace> {
        if job.status != Status::Queued {
            return None;
        }
        let forecast = &self.0.forecast;
        if forecast.last().is_due() {
            let _reading = forecast.reading.lock().await;
            // Another task may have read the queue meanwhile.
            if forecast.last().is_due() {
                let started = Instant::now();
                let queue = self.within(self.read_queue(now)).await;
                let queue = queue.inspect_err(|error| tracing::warn!(%error, "cannot read the queue for estimates"));
                let pause = started.elapsed().saturating_mul(AGE_PER_READING).clamp(SHORTEST_AGE, LONGEST_AGE);
                *forecast.last() = Last { due_at: Some(Instant::now() + pause), queue: queue.ok().map(Arc::new) };
            }
        }
        let queue = forecast.last().queue.clone()?;
        (job.id <= queue.newest).then(|| queue.place(job, now))
    }

    async fn read_queue(&self, now: Timestamp) -> Result<Queue, StoreError> {
        let read_at = millis(now);
        // Read first: jobs that are queued meanwhile are then in the list, and at worst count as newer than it.
        let newest =
            sqlx::query_scalar("SELECT value FROM counters WHERE name = 'jobs'").fetch_one(self.pool()).await?;
        let rows = sqlx::query(
            "SELECT rank, run_at, id, number, CAST(cost AS BIGINT) AS cost, unknown \
             FROM (SELECT rank, run_at, id, ROW_NUMBER() OVER ahead AS number, \
                          SUM(COALESCE(cost, 0)) OVER ahead AS cost, \
                          COUNT(*) OVER ahead - COUNT(cost) OVER ahead AS unknown \
                   FROM jobs WHERE status = 'queued' \
                   WINDOW ahead AS (ORDER BY CASE WHEN run_at <= $1 THEN 0 ELSE 1 END, \
                                             CASE WHEN run_at <= $1 THEN rank ELSE run_at END, id \
                                    ROWS UNBOUNDED PRECEDING)) AS waiting \
             WHERE number <= 1000 OR number % 100 = 0 \
             ORDER BY number",
        )
        .bind(read_at)
        .fetch_all(self.pool())
        .await?;
        let count = |row: &sqlx::any::AnyRow, column| Ok::<_, StoreError>(unsigned(row.try_get(column)?));
        let work =
            |row, cost, unknown| Ok::<_, StoreError>(Work { cost: count(row, cost)?, unknown: count(row, unknown)? });
        let waiting = rows.iter().map(|row| {
            Ok(WaitingJob {
                order: Order::new(row.try_get("rank")?, row.try_get("run_at")?, row.try_get("id")?, read_at),
                number: count(row, "number")?,
                work: work(row, "cost", "unknown")?,
            })
        });
        let waiting = waiting.collect::<Result<Vec<_>, StoreError>>()?;
        // Only jobs that ended in their first run: of others, the time between the runs would count too.
        let row = sqlx::query(
            "SELECT (SELECT CAST(COALESCE(SUM(concurrency), 0) AS BIGINT) FROM workers WHERE seen_at >= $1) AS places, \
                    running, left_cost, left_unknown, run_ms, recent_cost, recent \
             FROM (SELECT COUNT(*) AS running, COUNT(*) - COUNT(cost) AS left_unknown, \
                          CAST(COALESCE(SUM(cost * CASE WHEN frames_total <= 0 THEN 1.0 \
                                                            WHEN frames_done >= frames_total THEN 0.0 \
                                                            ELSE 1.0 - 1.0 * frames_done / frames_total END), 0) \
                               AS BIGINT) AS left_cost \
                   FROM jobs WHERE status = 'running' AND video_url IS NULL) AS runs, \
                  (SELECT COUNT(*) AS recent, \
                          CAST(COALESCE(SUM(finished_at - started_at), 0) AS BIGINT) AS run_ms, \
                          CAST(COALESCE(SUM(cost), 0) AS BIGINT) AS recent_cost \
                   FROM (SELECT status, claim, started_at, finished_at, cost FROM jobs \
                         WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 100) AS ended \
                   WHERE status = 'done' AND claim = 1 AND cost > 0) AS done",
        )
        .bind(millis(now.saturating_sub(SILENT_S.seconds()).unwrap_or(Timestamp::MIN)))
        .fetch_one(self.pool())
        .await?;
        let rate = Rate {
            places: count(&row, "places")?,
            running: count(&row, "running")?,
            left: work(&row, "left_cost", "left_unknown")?,
            recent_run_ms: count(&row, "run_ms")?,
            recent_cost: count(&row, "recent_cost")?,
            recent: count(&row, "recent")?,
        };
        Ok(Queue { waiting, read_at, newest, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two places. The last four jobs took 20 s and cost 40 samples.
    const RATE: Rate = Rate {
        places: 2,
        running: 2,
        left: Work { cost: 10, unknown: 0 },
        recent_run_ms: 20_000,
        recent_cost: 40,
        recent: 4,
    };

    #[test]
    fn the_estimate_is_the_work_ahead_at_the_measured_speed_shared_by_the_places() {
        let work = Work { cost: 50, unknown: 0 };
        // (10 + 50 samples) / 2 places, at half a second a sample.
        assert_eq!(RATE.starts_in_ms(3, work), Some(15_000));
        // A job of unknown cost counts as much as the mean of the last ones, 10 samples.
        assert_eq!(RATE.starts_in_ms(4, Work { unknown: 1, ..work }), Some(17_500));
        assert_eq!(RATE.starts_in_ms(0, Work::default()), Some(2500), "only the running jobs are ahead");
    }

    #[test]
    fn a_job_starts_at_once_if_a_place_is_free_for_it() {
        let rate = Rate { running: 0, left: Work::default(), ..RATE };
        assert_eq!(rate.starts_in_ms(1, Work { cost: 90, unknown: 0 }), Some(0));
        assert_eq!(rate.starts_in_ms(2, Work { cost: 90, unknown: 0 }), Some(22_500));
    }

    #[test]
    fn without_workers_or_measurements_there_is_no_estimate() {
        for rate in [
            Rate { places: 0, ..RATE },
            Rate { recent: 0, recent_run_ms: 0, recent_cost: 0, ..RATE },
            Rate { recent_cost: 0, ..RATE },
        ] {
            assert_eq!(rate.starts_in_ms(0, Work::default()), None, "{rate:?}");
        }
    }
}
