//! The database: jobs (which are the queue), results, outgoing mail, keys. All SQL of the crate is here, one file a table,
//! written once in the dialect that SQLite and Postgres share; what must differ is a constant in `dialect`.
//!
//! Times are milliseconds since 1970 (UTC) from the caller's [`crate::clock::Clock`], never from the database, so
//! machines that share a Postgres need clocks that agree to well within `queue.lease_s`.

mod dialect;
mod fault;
mod housekeeping;
mod idempotency;
mod identity;
mod jobs;
mod keys;
mod listing;
mod migrations;
mod operation;
mod outbox;
mod patience;
mod queue;
mod request_log;
mod results;
mod uploads;
mod usage;
mod waiting;
mod wake;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyPoolOptions;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Database;

use dialect::Dialect;
use patience::Patient;
use waiting::Waiting;
use wake::Wakes;

pub use housekeeping::DueVideo;
pub use idempotency::{Enqueued, REMEMBERED, Repeatable};
pub use identity::KnownStorage;
pub use jobs::{Failure, Job, JobProgress, NewJob, Status};
pub use keys::{ApiKey, NewKey, Scope};
pub use listing::JobFilter;
pub use operation::{FailedJob, Hour, Revived, RunningJob};
pub use outbox::{MailKind, NewMail, OutgoingMail};
pub use queue::{Backoff, Claim, Held, LostRun};
pub use request_log::{LogEntry, LogFilter};
pub use results::{StoredAnalysis, TimelinePage};
pub use uploads::{PartedUpload, SentPart};
pub use usage::{Quotas, UsedUp};
pub use waiting::{Sight, Waiter};
pub use wake::{Subscription, Wake};
pub use workers::WorkerSeen;

/// Why the database gave no answer. The text is for logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("database: migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("database: the tables are older than this program; run it with database.migrate = true once")]
    OldTables,
    #[error("database: the folder {} cannot be made: {source}", path.display())]
    Folder { path: std::path::PathBuf, source: std::io::Error },
    #[error("database: a stored {what} cannot be read: {reason}")]
    Corrupt { what: &'static str, reason: String },
}

/// The database, and how long this handle waits for it. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>, Duration);

struct Inner {
    pool: AnyPool,
    dialect: &'static Dialect,
    wakes: Wakes,
    waiting: Waiting,
    /// Ends the task that listens on Postgres with the last clone.
    _listening: DropGuard,
}

impl Store {
    /// Connects, and brings the tables up to date if the settings say so. Any number of processes may do this at the
    /// same time.
    ///
    /// # Errors
    /// The database cannot be reached, or its tables are older than this program and may not be changed.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let (dialect, address) = Dialect::of(database)?;
        let pool = AnyPoolOptions::new()
            .max_connections(if address.private { 1 } else { database.max_connections })
            // A private database in memory lives as long as its one connection.
            .idle_timeout((!address.private).then_some(Duration::from_secs(600)))
            .max_lifetime((!address.private).then_some(Duration::from_secs(1800)))
            .after_connect(|connection, _| Box::pin(dialect.prepare(connection)))
            .after_release(move |connection, _| Box::pin(dialect.keeps(connection)))
            .connect_with(address.options)
            .await?;
        dialect.migrate(&pool, database.migrate).await?;
        let wakes = Wakes::default();
        let stop = CancellationToken::new();
        if dialect.notifies {
            wake::listen(database.url.clone(), wakes.clone(), stop.clone()).await;
        }
        let inner = Inner { pool, dialect, wakes, waiting: Waiting::default(), _listening: stop.drop_guard() };
        Ok(Self(Arc::new(inner), patience::OF_A_WORKER))
    }

    /// The same database for requests, whose clients are told within three seconds that it does not answer.
    #[must_use]
    pub fn for_requests(&self) -> Self {
        Self(self.0.clone(), patience::OF_A_REQUEST)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(self.pool()).await?;
        Ok(())
    }

    /// Whether the database can be written now: commits a number, since a database on a full disk still answers reads.
    pub async fn check(&self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO counters (name, value) VALUES ('check', $1) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(millis(now))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Closes all connections, so that SQLite puts its log into the database file. Every clone is closed with it.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Connections for single statements.
    fn pool(&self) -> Patient<'_> {
        Patient { pool: &self.0.pool, patience: self.1 }
    }

    /// Some statements together, which have the time of one. One that is cut off may have been committed all the same.
    async fn within<T>(&self, statements: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(self.1, statements).await.unwrap_or(Err(StoreError::Sql(sqlx::Error::PoolTimedOut)))
    }

    fn dialect(&self) -> &'static Dialect {
        self.0.dialect
    }

    /// A transaction that writes: on SQLite it takes the write lock at once, since one that takes it after a read can
    /// find the database changed under it.
    async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = timeout(self.1, self.0.pool.begin_with(self.dialect().begin)).await;
        Ok(begun.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    /// Tells other processes, once the transaction of `connection` is committed.
    async fn announce(&self, connection: &mut AnyConnection, wake: Wake) -> Result<(), StoreError> {
        if self.dialect().notifies {
            sqlx::query("SELECT pg_notify($1, $2)")
                .bind(wake::CHANNEL)
                .bind(wake.to_payload())
                .execute(connection)
                .await?;
        }
        Ok(())
    }

    /// Commits, and tells this process.
    async fn commit(&self, mut tx: Transaction<'static, Any>, wakes: &[Wake]) -> Result<(), StoreError> {
        for wake in wakes {
            self.announce(&mut tx, *wake).await?;
        }
        tx.commit().await?;
        for wake in wakes {
            self.0.wakes.send(*wake);
        }
        Ok(())
    }
}

/// A time as it is stored.
fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// A stored time.
fn time(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|error| StoreError::Corrupt { what: "time", reason: error.to_string() })
}

/// A number that may be larger than what the database holds; no counter of ours is.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored number that is never below 0.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A stored JSON text.
fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}

/// A value as JSON text to store.
fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}
