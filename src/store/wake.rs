//! Wake-ups: announce a change in the database at once. A broadcast channel reaches the tasks of this process. On
//! Postgres, LISTEN and NOTIFY reach all other processes. A lost wake-up only causes a delay, since every receiver also
//! polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Store;
use crate::config::Secret;

/// The name of the NOTIFY channel.
pub(super) const CHANNEL: &str = "visage";
/// Pause between two attempts to listen.
const RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// Prefix of the payload for [`Wake::Ended`]. A process of an older version reads this payload as [`Wake::Unknown`].
const ENDED_PREFIX: &str = "ended ";

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wake {
    /// The job with this token changed.
    Job(Uuid),
    /// The job with this token is done, failed or erased.
    Ended(Uuid),
    /// A job was queued.
    Work,
    /// A mail or webhook was queued.
    Mail,
    /// Anything may have changed, since the connection that listens was lost for a while.
    Unknown,
}

impl Wake {
    pub(super) fn to_payload(self) -> String {
        match self {
            Self::Job(token) => token.to_string(),
            Self::Ended(token) => format!("{ENDED_PREFIX}{token}"),
            Self::Work => "work".to_owned(),
            Self::Mail => "mail".to_owned(),
            Self::Unknown => String::new(),
        }
    }

    fn from_payload(payload: &str) -> Self {
        match payload {
            "work" => Self::Work,
            "mail" => Self::Mail,
            job => match job.strip_prefix(ENDED_PREFIX) {
                Some(token) => token.parse().map_or(Self::Unknown, Self::Ended),
                None => job.parse().map_or(Self::Unknown, Self::Job),
            },
        }
    }

    /// Returns whether this wake-up concerns a task that waits for `wanted`.
    fn concerns(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Self::Unknown, _) => true,
            (Self::Ended(token), Self::Job(job)) => token == job,
            _ => self == wanted,
        }
    }
}

/// The broadcast channel of this process.
#[derive(Clone)]
pub(super) struct Wakes {
    to: Sender<Wake>,
    /// Whether notifications of other processes arrive now.
    is_listening: Arc<AtomicBool>,
}

impl Default for Wakes {
    fn default() -> Self {
        Self { to: broadcast::channel(1024).0, is_listening: Arc::default() }
    }
}

impl Wakes {
    /// Returns whether notifications of other processes arrive now, so that polling is not needed.
    pub fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Relaxed)
    }

    pub fn send(&self, wake: Wake) {
        // An error means that there are no receivers.
        let _ = self.to.send(wake);
    }
}

/// Receives wake-ups from its creation on, so that none is missed between a query and a wait.
pub struct Subscription(Receiver<Wake>);

impl Subscription {
    /// Returns the next wake-up of any kind.
    pub(super) async fn next(&mut self) -> Result<Wake, RecvError> {
        self.0.recv().await
    }

    /// Waits until `wanted` may have happened since the last call. Returns `false` after `at_most`.
    pub async fn wait(&mut self, wanted: Wake, at_most: Duration) -> bool {
        let received = async {
            loop {
                match self.0.recv().await {
                    Ok(wake) if wake.concerns(wanted) => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    // The channel closes with the store; then no wake-up can arrive.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::time::timeout(at_most, received).await.is_ok()
    }
}

impl Store {
    /// Subscribes to wake-ups from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.wakes.to.subscribe())
    }
}

/// Forwards the notifications of Postgres to `wakes` until `stop`. It tries to connect before it returns, and later in
/// the background.
pub(super) async fn listen(url: Secret, wakes: Wakes, stop: CancellationToken) {
    let mut listener = connect(&url).await;
    tokio::spawn(async move {
        let listening = async {
            loop {
                wakes.is_listening.store(listener.is_ok(), Ordering::Relaxed);
                let ended = match listener {
                    Ok(listener) => forward(listener, &wakes).await,
                    Err(error) => error,
                };
                wakes.is_listening.store(false, Ordering::Relaxed);
                tracing::warn!(error = %ended, "no notifications from the database; polling until it reconnects");
                tokio::time::sleep(RECONNECT_PAUSE).await;
                listener = connect(&url).await;
                // Notifications were lost meanwhile.
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

/// Forwards notifications until the connection is lost. Returns the error.
async fn forward(mut listener: PgListener, wakes: &Wakes) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => wakes.send(Wake::from_payload(notification.payload())),
            Ok(None) => wakes.send(Wake::Unknown),
            Err(error) => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wake_up_can_be_read_back_from_its_payload() {
        for wake in
            [Wake::Job(Uuid::from_u128(7)), Wake::Ended(Uuid::from_u128(7)), Wake::Work, Wake::Mail, Wake::Unknown]
        {
            assert_eq!(Wake::from_payload(&wake.to_payload()), wake);
        }
    }

    #[tokio::test]
    async fn a_wake_up_between_two_waits_is_not_missed() {
        let wakes = Wakes::default();
        let mut subscription = Subscription(wakes.to.subscribe());
        wakes.send(Wake::Mail);
        wakes.send(Wake::Work);
        assert!(subscription.wait(Wake::Work, Duration::from_secs(60)).await);
        assert!(!subscription.wait(Wake::Work, Duration::from_millis(1)).await);
    }
}
