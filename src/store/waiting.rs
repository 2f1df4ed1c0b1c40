//! Clients that wait for jobs. However many they are, a process looks for all of them together, in one query, and at most
//! once a second: at those jobs of which the database told a change (LISTEN and NOTIFY), and at all of them where changes
//! are not told (SQLite, or a connection that is lost). The end of a job is passed on without a look, since whoever waits
//! for it reads the result anyway.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast::error::RecvError, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use super::{Job, Store, StoreError, Wake};

/// Between two looks, at least.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Between two looks at all jobs while changes are told, since a message can be lost with its connection.
const ALL_WHILE_TOLD: Duration = Duration::from_secs(15);
/// A look that takes longer has failed.
const PATIENCE: Duration = Duration::from_millis(2500);

/// What the last look found of a job.
#[derive(Debug, Clone, Default)]
pub enum Sight {
    /// There was no look yet.
    #[default]
    None,
    Job(Arc<Job>),
    /// The job came to its end, or was erased: the caller reads it.
    Ended,
    /// The database does not answer.
    Unknown,
}

/// The jobs that are waited for in this process.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<Uuid, watch::Sender<Sight>>,
    /// Whether the task that looks is running.
    is_looking: bool,
    /// When it last looked.
    looked: Option<Instant>,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for one job; made before the job is read, so that no change is missed in between.
pub struct Waiter {
    store: Store,
    token: Uuid,
    sight: watch::Receiver<Sight>,
}

impl Waiter {
    /// Returns when the job is another than in that version, has ended, or cannot be seen, or after `at_most`: then with
    /// [`Sight::None`].
    pub async fn changed(&mut self, version: i64, at_most: Duration) -> Sight {
        let news = async {
            loop {
                let sight = self.sight.borrow().clone();
                if matches!(&sight, Sight::Job(job) if job.version > version) {
                    return sight;
                }
                // An end that was seen before is none of now: the job may have been run again.
                if self.sight.changed().await.is_err() {
                    return Sight::Unknown;
                }
                let sight = self.sight.borrow_and_update().clone();
                if matches!(sight, Sight::Ended | Sight::Unknown) {
                    return sight;
                }
            }
        };
        timeout(at_most, news).await.unwrap_or_default()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.store.0.waiting.state();
        // This one's own receiver is still counted.
        if state.jobs.get(&self.token).is_some_and(|job| job.receiver_count() <= 1) {
            state.jobs.remove(&self.token);
        }
    }
}

impl Store {
    /// Somebody waits for the job of a token.
    pub fn wait_for(&self, token: Uuid) -> Waiter {
        let mut state = self.0.waiting.state();
        let sight = state.jobs.entry(token).or_insert_with(|| watch::Sender::new(Sight::None)).subscribe();
        if !state.is_looking {
            state.is_looking = true;
            tokio::spawn(look_for_all(self.clone()));
        }
        drop(state);
        Waiter { store: self.clone(), token, sight }
    }

    /// How many wait in this process, each for one job.
    pub fn waiters(&self) -> usize {
        self.0.waiting.state().jobs.values().map(watch::Sender::receiver_count).sum()
    }
}

/// Looks for as long as somebody waits.
async fn look_for_all(store: Store) {
    let mut wakes = store.subscribe();
    let mut told: HashSet<Uuid> = HashSet::new();
    let mut all_seen = Instant::now();
    loop {
        let looked = store.0.waiting.state().looked;
        let earliest = looked.map_or_else(Instant::now, |looked| looked + BETWEEN_LOOKS);
        let all_due = all_seen + if store.0.wakes.are_told() { ALL_WHILE_TOLD } else { BETWEEN_LOOKS };
        // Until there is something to look at, and the last look is long enough ago.
        let mut is_all = false;
        loop {
            let until = if told.is_empty() { all_due } else { earliest.min(all_due) };
            match timeout_at(until, wakes.next()).await {
                Ok(Ok(Wake::Ended(token))) => pass_on(&store, token, Sight::Ended),
                Ok(Ok(Wake::Job(token))) => {
                    if store.0.waiting.state().jobs.contains_key(&token) {
                        told.insert(token);
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
            if !told.is_empty() && Instant::now() >= earliest {
                break;
            }
        }
        sleep_until(earliest).await;
        let tokens: Vec<Uuid> = {
            let mut state = store.0.waiting.state();
            if state.jobs.is_empty() {
                state.is_looking = false;
                return;
            }
            state.looked = Some(Instant::now());
            state.jobs.keys().copied().filter(|token| is_all || told.contains(token)).collect()
        };
        told.clear();
        if is_all {
            all_seen = Instant::now();
        }
        if tokens.is_empty() {
            continue;
        }
        let jobs =
            timeout(PATIENCE, store.jobs_of(&tokens)).await.unwrap_or(Err(StoreError::Sql(sqlx::Error::PoolTimedOut)));
        match jobs {
            Ok(mut jobs) => {
                for token in tokens {
                    let sight = jobs.remove(&token).map_or(Sight::Ended, |job| Sight::Job(Arc::new(job)));
                    pass_on(&store, token, sight);
                }
            }
            Err(error) => {
                tracing::warn!(%error, waiting = tokens.len(), "jobs that are waited for cannot be looked at");
                for token in tokens {
                    pass_on(&store, token, Sight::Unknown);
                }
            }
        }
    }
}

fn pass_on(store: &Store, token: Uuid, sight: Sight) {
    if let Some(job) = store.0.waiting.state().jobs.get(&token) {
        job.send_replace(sight);
    }
}
