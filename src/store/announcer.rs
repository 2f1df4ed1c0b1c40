//! Announces wake-ups to other processes, on Postgres by NOTIFY.
//!
//! One task of each process sends the wake-ups of all its transactions, many in one statement, after these have been
//! committed. Postgres commits transactions with a NOTIFY one after the other, so a NOTIFY in the transactions themselves
//! would make all processes wait for each other.
//!
//! A process that is killed between a commit and its wake-up announces nothing. Receivers then find the change when
//! they poll.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::AnyPool;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::timed_pool::REQUEST_TIMEOUT;
use super::wake::{CHANNEL, Wake};

/// More wake-ups than this are announced as one [`Wake::Unknown`], for example after an outage.
const MOST_WAKES: usize = 1000;

/// The wake-ups of this process that other processes have not been told yet.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    pending: Mutex<HashSet<Wake>>,
    has_pending: Notify,
}

impl Announcer {
    /// Starts the task that announces through `pool` until `stop`.
    pub fn start(pool: AnyPool, stop: CancellationToken) -> Arc<Self> {
        let announcer = Arc::new(Self::default());
        let task = announcer.clone();
        tokio::spawn(async move {
            let announcing = async {
                loop {
                    task.has_pending.notified().await;
                    task.flush(&pool).await;
                }
            };
            stop.run_until_cancelled(announcing).await;
        });
        announcer
    }

    /// Announces a wake-up soon.
    pub fn push(&self, wake: Wake) {
        let mut pending = self.pending.lock();
        pending.insert(wake);
        if pending.len() > MOST_WAKES {
            *pending = HashSet::from([Wake::Unknown]);
        }
        drop(pending);
        self.has_pending.notify_one();
    }

    /// Announces all pending wake-ups now. After an error they are lost, and receivers have to poll.
    pub async fn flush(&self, pool: &AnyPool) {
        let wakes = std::mem::take(&mut *self.pending.lock());
        if wakes.is_empty() {
            return;
        }
        let payloads: Vec<String> = wakes.into_iter().map(Wake::to_payload).collect();
        let number = payloads.len();
        let payloads = serde_json::Value::from(payloads).to_string();
        let notify = sqlx::query(
            "SELECT pg_notify($1, payload) FROM json_array_elements_text(CAST($2 AS JSON)) AS pending (payload)",
        )
        .bind(CHANNEL)
        .bind(payloads)
        .execute(pool);
        match timeout(REQUEST_TIMEOUT, notify).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, number, "cannot announce changes to other processes"),
            Err(_) => tracing::debug!(number, "could not announce changes to other processes in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn equal_wake_ups_are_announced_once_and_too_many_as_one_unknown_change() {
        let announcer = Announcer::default();
        for _ in 0..2 {
            announcer.push(Wake::Work);
            announcer.push(Wake::Job(Uuid::from_u128(1)));
        }
        assert_eq!(announcer.pending.lock().len(), 2);
        for number in 0..=MOST_WAKES {
            announcer.push(Wake::Job(Uuid::from_u128(number as u128)));
        }
        assert!(announcer.pending.lock().contains(&Wake::Unknown));
        assert!(announcer.pending.lock().len() <= 3);
    }
}
