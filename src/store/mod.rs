//! The database: jobs (the queue is a set of jobs), results, outgoing mail, keys. All SQL of the crate is here, one
//! file for each table. Statements are written once, in the SQL that SQLite and Postgres share. The file `dialect`
//! names each difference between the two.
//!
//! Times are milliseconds since 1970 (UTC). They come from the caller's [`crate::clock::Clock`], never from the
//! database. The clocks of machines that share a Postgres must therefore agree to well within `queue.lease_s`.

mod analysis_parts;
mod analysis_pieces;
mod announcer;
mod batches;
mod claim;
mod consents;
mod dialect;
mod fault;
mod forecast;
mod housekeeping;
mod idempotency;
mod identity;
mod jobs;
mod keys;
mod listing;
mod live;
mod migrations;
mod operation;
mod outbox;
mod queue;
mod rank;
mod request_log;
mod results;
mod saved_frames;
mod secrets;
mod timed_pool;
mod uploads;
mod usage;
mod waiting;
mod wake;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Row, Transaction};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::config::Database;
use crate::secret::InstallationSecret;
use crate::telemetry::trace::TraceContext;

use announcer::Announcer;
use dialect::Dialect;
use forecast::Forecast;
use timed_pool::TimedPool;
use waiting::Waiting;
use wake::Wakes;

pub use analysis_pieces::{PieceClaim, PieceCounts};
pub use batches::{Batch, BatchItem, EnqueuedBatch, ItemState, NewBatch, NewItem};
pub use claim::{Backoff, Claim, ClaimState, LostRun};
pub use forecast::QueuePlace;
pub use housekeeping::DueVideo;
pub use idempotency::{Enqueued, REMEMBERED, Repeatable};
pub use identity::KnownStorage;
pub use jobs::{Job, JobFailure, JobProgress, JobVideo, NewJob, Origin, Status};
pub use keys::{ApiKey, NewKey, Scope};
pub use listing::JobFilter;
pub use operation::{FailedJob, Hour, Revived, RunningJob};
pub use outbox::{FailedMessage, MailKind, NewMail, OutgoingMail, Resent};
pub use rank::Priority;
pub use request_log::{LogEntry, LogFilter};
pub use results::{StoredAnalysis, TimelinePage};
pub use uploads::{PartedUpload, SentPart};
pub use usage::{MailCount, MailSubject, Period, Quotas, StoredBytes, UsedUp};
pub use waiting::{Sight, Waiter};
pub use wake::{Subscription, Wake};
pub use workers::{SILENT_S, WorkerSeen};

/// An error of the database. Its text is for logs and is never sent to clients.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("database: migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("database: the tables are older than this program; run it with database.migrate = true once")]
    OldTables,
    #[error(
        "database: a newer version of visage has migrated the tables (migration {0}); start that version, or restore the \
         backup made before"
    )]
    NewerTables(i64),
    #[error(
        "database: the tables cannot be migrated, because another session holds a lock on them; end its transaction, then \
         start again"
    )]
    Locked,
    #[error("database: cannot create the folder {}: {source}", path.display())]
    Folder { path: std::path::PathBuf, source: std::io::Error },
    #[error("database: cannot read a stored {what}: {reason}")]
    Corrupt { what: &'static str, reason: String },
}

/// A connection that was used within this time is used again without a check.
const UNCHECKED: Duration = Duration::from_secs(1);

/// A handle to the database, with the time limit of each statement. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>, Duration);

struct Inner {
    pool: AnyPool,
    dialect: &'static Dialect,
    wakes: Wakes,
    /// `None` if the database has no notifications.
    announcer: Option<Arc<Announcer>>,
    waiting: Waiting,
    forecast: Forecast,
    secret: OnceCell<InstallationSecret>,
    /// Stops the tasks that listen and announce on Postgres when the last clone is dropped.
    _listening: DropGuard,
}

impl Store {
    /// Connects, and migrates the tables if `database.migrate` is set. Several processes may do this at the same time.
    ///
    /// # Errors
    /// The database cannot be reached, or its tables are older than this program and the settings forbid a migration.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let (dialect, address) = Dialect::of(database)?;
        let pool = AnyPoolOptions::new()
            .max_connections(if address.in_memory { 1 } else { database.max_connections })
            // A database in memory is lost when its only connection closes.
            .idle_timeout((!address.in_memory).then_some(Duration::from_secs(600)))
            .max_lifetime((!address.in_memory).then_some(Duration::from_secs(1800)))
            // Without this, the pool asks before each statement whether the connection is alive.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| Box::pin(is_alive(connection, meta.idle_for)))
            .after_connect(|connection, _| Box::pin(dialect.prepare(connection)))
            .after_release(move |connection, _| Box::pin(dialect.is_reusable(connection)))
            .connect_with(address.options)
            .await?;
        dialect.migrate(&pool, database.migrate).await?;
        let wakes = Wakes::default();
        let stop = CancellationToken::new();
        let mut announcer = None;
        if dialect.notifies {
            wake::listen(database.url.clone(), wakes.clone(), stop.clone()).await;
            announcer = Some(Announcer::start(pool.clone(), stop.clone()));
        }
        let (waiting, forecast, secret) = (Waiting::default(), Forecast::default(), OnceCell::new());
        let inner = Inner { pool, dialect, wakes, announcer, waiting, forecast, secret, _listening: stop.drop_guard() };
        Ok(Self(Arc::new(inner), timed_pool::WORKER_TIMEOUT))
    }

    /// Returns number, description and SQL of the migrations that the tables lack. Changes no table.
    pub async fn missing_migrations(database: &Database) -> Result<Vec<(i64, String, String)>, StoreError> {
        let (dialect, address) = Dialect::of(database)?;
        let mut connection = AnyConnection::connect_with(&address.options).await?;
        dialect.prepare(&mut connection).await?;
        let missing = dialect::missing(&mut connection).await?;
        connection.close().await?;
        let described =
            |one: &&sqlx::migrate::Migration| (one.version, one.description.to_string(), one.sql.as_str().to_owned());
        Ok(missing.iter().map(described).collect())
    }

    /// Returns a handle for HTTP requests. Its time limit is short, so that a client learns within three seconds that
    /// the database does not answer.
    #[must_use]
    pub fn for_requests(&self) -> Self {
        Self(self.0.clone(), timed_pool::REQUEST_TIMEOUT)
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(self.pool()).await?;
        Ok(())
    }

    /// Checks that the database can be written. It commits a number, since a database on a full disk still answers
    /// reads.
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

    /// Closes all connections, those of every clone too. SQLite then merges its write-ahead log into the database file.
    pub async fn close(&self) {
        if let Some(announcer) = &self.0.announcer {
            announcer.flush(&self.0.pool).await;
        }
        self.0.pool.close().await;
    }

    /// Returns the pool for single statements, with this handle's time limit.
    fn pool(&self) -> TimedPool<'_> {
        TimedPool { pool: &self.0.pool, limit: self.1 }
    }

    /// Runs several statements within the time limit of one. After a time-out the transaction may still have been
    /// committed.
    async fn within<T>(&self, statements: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(self.1, statements).await.unwrap_or(Err(StoreError::Sql(sqlx::Error::PoolTimedOut)))
    }

    fn dialect(&self) -> &'static Dialect {
        self.0.dialect
    }

    /// Starts a transaction that writes. On SQLite it takes the write lock at once: a transaction that reads first and
    /// takes the lock later fails if another one wrote in between.
    async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = timeout(self.1, self.0.pool.begin_with(self.dialect().begin)).await;
        Ok(begun.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    /// Commits, and wakes the waiting tasks of all processes.
    async fn commit(&self, tx: Transaction<'static, Any>, wakes: &[Wake]) -> Result<(), StoreError> {
        tx.commit().await?;
        for wake in wakes {
            self.wake(*wake);
        }
        Ok(())
    }

    /// Wakes the waiting tasks of all processes.
    fn wake(&self, wake: Wake) {
        self.0.wakes.send(wake);
        if let Some(announcer) = &self.0.announcer {
            announcer.push(wake);
        }
    }
}

/// Checks a connection that was not used for a while. The server may have closed it meanwhile.
async fn is_alive(connection: &mut AnyConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    if idle_for > UNCHECKED {
        connection.ping().await?;
    }
    Ok(true)
}

/// Returns `now + time`, such as the end of a lease.
fn after(now: Timestamp, time: Duration) -> Timestamp {
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}

/// Reads a stored token or id.
fn uuid(text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what: "id", reason: "not a UUID".to_owned() })
}

/// Reads the column `trace`. A value that this program cannot read counts as none.
fn trace(row: &AnyRow) -> Result<Option<TraceContext>, StoreError> {
    let text: Option<&str> = row.try_get("trace")?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Converts a time to its stored form.
fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// Reads a stored time.
fn time(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|error| StoreError::Corrupt { what: "time", reason: error.to_string() })
}

/// Converts a count to a BIGINT. A larger number becomes the largest BIGINT; no counter gets that far.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a stored count; a negative number becomes 0.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Parses a stored JSON text.
fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}

/// Serializes a value to JSON for storing.
fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}
