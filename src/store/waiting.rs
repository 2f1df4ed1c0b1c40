//! Clients that wait for jobs. One task in each process queries the jobs of all waiting clients together, at most once
//! a second.
//!
//! - With Postgres, it queries the jobs for which the process received a notification (LISTEN and NOTIFY).
//! - With SQLite, or while the connection for notifications is lost, it queries all jobs that clients wait for.
//!
//! When a job ends, the task informs its clients without a query, since they read the result themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast::error::RecvError, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use super::{Job, Store, StoreError, Wake};

/// The shortest time between two queries.
const QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two queries of all jobs while notifications arrive, since one can be lost with its connection.
const FULL_QUERY_INTERVAL: Duration = Duration::from_secs(15);
/// The time limit of a query.
const QUERY_TIMEOUT: Duration = Duration::from_millis(2500);

/// The last known state of a job.
#[derive(Debug, Clone, Default)]
pub enum Sight {
    /// Not queried yet.
    #[default]
    None,
    Job(Arc<Job>),
    /// The job ended or was erased; the caller reads it from the database.
    Ended,
    /// The database did not answer.
    Unknown,
}

/// The jobs that clients of this process wait for.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<Uuid, watch::Sender<Sight>>,
    /// Whether the task that queries the jobs is running.
    is_task_running: bool,
    /// Time of its last query.
    queried_at: Option<Instant>,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// Waits for changes of one job. Create it before reading the job, so that no change is missed in between.
pub struct Waiter {
    store: Store,
    token: Uuid,
    sight: watch::Receiver<Sight>,
}

impl Waiter {
    /// Waits until the job has a version above `version`, has ended, or cannot be queried. After `at_most` it returns
    /// [`Sight::None`].
    pub async fn changed(&mut self, version: i64, at_most: Duration) -> Sight {
        let change = async {
            loop {
                let sight = self.sight.borrow().clone();
                if matches!(&sight, Sight::Job(job) if job.version > version) {
                    return sight;
                }
                // Ignores an older `Ended`, since the job may have been queued again since.
                if self.sight.changed().await.is_err() {
                    return Sight::Unknown;
                }
                let sight = self.sight.borrow_and_update().clone();
                if matches!(sight, Sight::Ended | Sight::Unknown) {
                    return sight;
                }
            }
        };
        timeout(at_most, change).await.unwrap_or_default()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.store.0.waiting.state();
        // The count still includes the receiver of this value.
        if state.jobs.get(&self.token).is_some_and(|job| job.receiver_count() <= 1) {
            state.jobs.remove(&self.token);
        }
    }
}

impl Store {
    /// Starts to wait for the job of a token.
    pub fn wait_for(&self, token: Uuid) -> Waiter {
        let mut state = self.0.waiting.state();
        let sight = state.jobs.entry(token).or_insert_with(|| watch::Sender::new(Sight::None)).subscribe();
        if !state.is_task_running {
            state.is_task_running = true;
            tokio::spawn(query_jobs(self.clone()));
        }
        drop(state);
        Waiter { store: self.clone(), token, sight }
    }

    /// Returns the number of waiters in this process.
    pub fn waiters(&self) -> usize {
        self.0.waiting.state().jobs.values().map(watch::Sender::receiver_count).sum()
    }
}

/// Queries the jobs until no client waits any more.
async fn query_jobs(store: Store) {
    let mut wakes = store.subscribe();
    let mut changed: HashSet<Uuid> = HashSet::new();
    let mut all_queried_at = Instant::now();
    loop {
        let queried_at = store.0.waiting.state().queried_at;
        let earliest = queried_at.map_or_else(Instant::now, |queried_at| queried_at + QUERY_INTERVAL);
        let all_due = all_queried_at + if store.0.wakes.is_listening() { FULL_QUERY_INTERVAL } else { QUERY_INTERVAL };
        // Collects changed jobs until a query is due.
        let mut is_all = false;
        loop {
            let until = if changed.is_empty() { all_due } else { earliest.min(all_due) };
            match timeout_at(until, wakes.next()).await {
                Ok(Ok(Wake::Ended(token))) => pass_on(&store, token, Sight::Ended),
                Ok(Ok(Wake::Job(token))) => {
                    if store.0.waiting.state().jobs.contains_key(&token) {
                        changed.insert(token);
                    }
                }
                Ok(Ok(Wake::Unknown) | Err(RecvError::Lagged(_))) => {
                    is_all = true;
                    break;
                }
                Ok(Ok(Wake::Work | Wake::Mail)) => {}
                Ok(Err(RecvError::Closed)) => return,
                Err(_) => {
                    is_all = Instant::now() >= all_due;
                    break;
                }
            }
            if !changed.is_empty() && Instant::now() >= earliest {
                break;
            }
        }
        sleep_until(earliest).await;
        let tokens: Vec<Uuid> = {
            let mut state = store.0.waiting.state();
            if state.jobs.is_empty() {
                state.is_task_running = false;
                return;
            }
            state.queried_at = Some(Instant::now());
            state.jobs.keys().copied().filter(|token| is_all || changed.contains(token)).collect()
        };
        changed.clear();
        if is_all {
            all_queried_at = Instant::now();
        }
        if tokens.is_empty() {
            continue;
        }
        let jobs = timeout(QUERY_TIMEOUT, store.jobs_of(&tokens))
            .await
            .unwrap_or(Err(StoreError::Sql(sqlx::Error::PoolTimedOut)));
        match jobs {
            Ok(mut jobs) => {
                for token in tokens {
                    let sight = jobs.remove(&token).map_or(Sight::Ended, |job| Sight::Job(Arc::new(job)));
                    pass_on(&store, token, sight);
                }
            }
            Err(error) => {
                tracing::warn!(%error, waiting = tokens.len(), "cannot query the jobs that clients wait for");
                for token in tokens {
                    pass_on(&store, token, Sight::Unknown);
                }
            }
        }
    }
}

/// Gives the state of a job to its waiters.
fn pass_on(store: &Store, token: Uuid, sight: Sight) {
    if let Some(job) = store.0.waiting.state().jobs.get(&token) {
        job.send_replace(sight);
    }
}
