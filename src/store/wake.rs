//! Wake-ups: announce a change of a job at once, within this process by a broadcast and, on Postgres, to all other processes
//! by LISTEN and NOTIFY. A lost wake-up causes a delay and nothing else: every receiver also polls the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Store;
use crate::config::Secret;

/// The channel of NOTIFY.
pub(super) const CHANNEL: &str = "visage";
/// Between two tries to listen.
const PAUSE: Duration = Duration::from_secs(2);
/// Before the token of a job that came to its end. An older process takes what it does not know for [`Wake::Unknown`].
const ENDED: &str = "ended ";

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The job of this token changed.
    Job(Uuid),
    /// The job of this token is done, failed or erased.
    Ended(Uuid),
    /// A job waits to be run.
    Work,
    /// A mail waits to be sent.
    Mail,
    /// Anything may have changed: the connection that listens was away.
    Unknown,
}

impl Wake {
    pub(super) fn to_payload(self) -> String {
        match self {
            Self::Job(token) => token.to_string(),
            Self::Ended(token) => format!("{ENDED}{token}"),
            Self::Work => "work".to_owned(),
            Self::Mail => "mail".to_owned(),
            Self::Unknown => String::new(),
        }
    }

    fn from_payload(payload: &str) -> Self {
        match payload {
            "work" => Self::Work,
            "mail" => Self::Mail,
            job => match job.strip_prefix(ENDED) {
                Some(token) => token.parse().map_or(Self::Unknown, Self::Ended),
                None => job.parse().map_or(Self::Unknown, Self::Job),
            },
        }
    }

    /// Whether somebody who waits for `wanted` must look.
    fn concerns(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Self::Unknown, _) => true,
            (Self::Ended(token), Self::Job(job)) => token == job,
            _ => self == wanted,
        }
    }
}

/// The broadcast of this process.
#[derive(Clone)]
pub(super) struct Wakes {
    to: Sender<Wake>,
    /// Whether the changes of other processes are told now.
    is_told: Arc<AtomicBool>,
}

impl Default for Wakes {
    fn default() -> Self {
        Self { to: broadcast::channel(1024).0, is_told: Arc::default() }
    }
}

impl Wakes {
    /// Whether the changes of other processes are told now, so that nobody needs to look for them.
    pub fn are_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    pub fn send(&self, wake: Wake) {
        // Nobody listening is no error.
        let _ = self.to.send(wake);
    }
}

/// Hears of changes from the moment it was made, so that none is missed between a look and a wait.
pub struct Subscription(Receiver<Wake>);

impl Subscription {
    /// The next wake-up of any kind.
    pub(super) async fn next(&mut self) -> Result<Wake, RecvError> {
        self.0.recv().await
    }

    /// Returns when `wanted` may have happened since the last call, or after `at_most`; whether it was the former.
    pub async fn wait(&mut self, wanted: Wake, at_most: Duration) -> bool {
        let heard = async {
            loop {
                match self.0.recv().await {
                    Ok(wake) if wake.concerns(wanted) => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    // Cannot be while a store lives; then there is nothing to hear.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::time::timeout(at_most, heard).await.is_ok()
    }
}

impl Store {
    /// Wake-ups from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.wakes.to.subscribe())
    }
}

/// Passes on what Postgres tells, until `stop`. Listens before it returns, unless Postgres refuses that now.
pub(super) async fn listen(url: Secret, wakes: Wakes, stop: CancellationToken) {
    let mut listener = connect(&url).await;
    tokio::spawn(async move {
        let listening = async {
            loop {
                wakes.is_told.store(listener.is_ok(), Ordering::Relaxed);
                let ended = match listener {
                    Ok(listener) => pass_on(listener, &wakes).await,
                    Err(error) => error,
                };
                wakes.is_told.store(false, Ordering::Relaxed);
                tracing::warn!(error = %ended, "no wake-ups from the database; polling until it listens again");
                tokio::time::sleep(PAUSE).await;
                listener = connect(&url).await;
                // What changed meanwhile was not heard.
                wakes.send(Wake::Unknown);
            }
        };
        stop.run_until_cancelled(listening).await;
    });
}

async fn connect(url: &Secret) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect(url.expose()).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Passes on until the connection is lost for good; why it was.
async fn pass_on(mut listener: PgListener, wakes: &Wakes) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
            Ok(Some(told)) => wakes.send(Wake::from_payload(told.payload())),
            Ok(None) => wakes.send(Wake::Unknown),
            Err(error) => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_survives_the_way_through_the_database() {
        for wake in
            [Wake::Job(Uuid::from_u128(7)), Wake::Ended(Uuid::from_u128(7)), Wake::Work, Wake::Mail, Wake::Unknown]
        {
            assert_eq!(Wake::from_payload(&wake.to_payload()), wake);
        }
    }

    #[tokio::test]
    async fn a_wake_between_two_waits_is_not_missed() {
        let wakes = Wakes::default();
        let mut subscription = Subscription(wakes.to.subscribe());
        wakes.send(Wake::Mail);
        wakes.send(Wake::Work);
        assert!(subscription.wait(Wake::Work, Duration::from_secs(60)).await);
        assert!(!subscription.wait(Wake::Work, Duration::from_millis(1)).await);
    }
}
