//! Wake-ups: who waits for a change hears of it at once, in this process by a broadcast and, on Postgres, in every
//! other by LISTEN and NOTIFY. They only save waiting: nothing is lost with one, since everybody also polls.

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
/// [`Store::changed`] returns after this time at the latest, so that a change between a caller's read and its wait
/// costs no more.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The job of this token changed.
    Job(Uuid),
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
            Self::Work => "work".to_owned(),
            Self::Mail => "mail".to_owned(),
            Self::Unknown => String::new(),
        }
    }

    fn from_payload(payload: &str) -> Self {
        match payload {
            "work" => Self::Work,
            "mail" => Self::Mail,
            token => token.parse().map_or(Self::Unknown, Self::Job),
        }
    }

    /// Whether somebody who waits for `wanted` must look.
    fn concerns(self, wanted: Self) -> bool {
        self == wanted || self == Self::Unknown
    }
}

/// The broadcast of this process.
#[derive(Clone)]
pub(super) struct Wakes(Sender<Wake>);

impl Default for Wakes {
    fn default() -> Self {
        Self(broadcast::channel(1024).0)
    }
}

impl Wakes {
    pub fn send(&self, wake: Wake) {
        // Nobody listening is no error.
        let _ = self.0.send(wake);
    }
}

/// Hears of changes from the moment it was made, so that none is missed between a look and a wait.
pub struct Subscription(Receiver<Wake>);

impl Subscription {
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
        Subscription(self.0.wakes.0.subscribe())
    }

    /// Returns when the job's row may have changed, in this process or (on Postgres) any other, or after `at_most`, or
    /// after one second, whichever is first; callers read the job again and compare [`super::Job::version`].
    pub async fn changed(&self, token: Uuid, at_most: Duration) {
        self.subscribe().wait(Wake::Job(token), at_most.min(LONGEST_WAIT)).await;
    }
}

/// Passes on what Postgres tells, until `stop`. Listens before it returns, unless Postgres refuses that now.
pub(super) async fn listen(url: Secret, wakes: Wakes, stop: CancellationToken) {
    let mut listener = connect(&url).await;
    tokio::spawn(async move {
        let listening = async {
            loop {
                let ended = match listener {
                    Ok(listener) => pass_on(listener, &wakes).await,
                    Err(error) => error,
                };
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
        for wake in [Wake::Job(Uuid::from_u128(7)), Wake::Work, Wake::Mail, Wake::Unknown] {
            assert_eq!(Wake::from_payload(&wake.to_payload()), wake);
        }
    }

    #[tokio::test]
    async fn a_wake_between_two_waits_is_not_missed() {
        let wakes = Wakes::default();
        let mut subscription = Subscription(wakes.0.subscribe());
        wakes.send(Wake::Mail);
        wakes.send(Wake::Work);
        assert!(subscription.wait(Wake::Work, Duration::from_secs(60)).await);
        assert!(!subscription.wait(Wake::Work, Duration::from_millis(1)).await);
    }
}
