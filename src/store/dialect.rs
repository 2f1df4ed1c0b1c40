//! The differences between SQLite and Postgres: how to connect, and a few fragments of SQL.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{MigrateError, Migration};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor};

use super::StoreError;
use super::migrations::MIGRATIONS;
use crate::config::Database;

/// One database system's side of each difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The name of the database system.
    pub name: &'static str,
    /// The statement that starts a writing transaction.
    pub begin: &'static str,
    /// Appended to a `SELECT ... LIMIT 1` that picks a row to claim, to skip rows locked by other transactions. Empty
    /// for SQLite, which has one writer at a time.
    pub skip_locked: &'static str,
    /// Appended to `jobs` in a `SELECT` that reads waiting jobs by rank. SQLite would choose the index of due times, and
    /// sort.
    pub by_rank: &'static str,
    /// A query for the strings of a JSON list that is bound as `$1`.
    pub json_list: &'static str,
    /// Statements that run on every new connection.
    prepare: &'static [&'static str],
    /// Whether the database has LISTEN and NOTIFY.
    pub notifies: bool,
    /// Whether a failed write can end a transaction without the driver noticing.
    loses_transactions: bool,
    /// Whether the migrator takes a lock itself, so that one process at a time migrates.
    migrator_locks: bool,
}

const SQLITE: Dialect = Dialect {
    name: "SQLite",
    begin: "BEGIN IMMEDIATE",
    skip_locked: "",
    by_rank: " INDEXED BY jobs_ranked",
    json_list: "SELECT value FROM json_each($1)",
    prepare: &["PRAGMA busy_timeout = 15000", "PRAGMA foreign_keys = ON"],
    notifies: false,
    loses_transactions: true,
    migrator_locks: false,
};

const POSTGRES: Dialect = Dialect {
    name: "Postgres",
    begin: "BEGIN",
    skip_locked: " FOR UPDATE SKIP LOCKED",
    by_rank: "",
    json_list: "SELECT json_array_elements_text(CAST($1 AS JSON))",
    prepare: &[],
    notifies: true,
    loses_transactions: false,
    migrator_locks: true,
};

/// The options of a connection.
pub(super) struct Address {
    pub options: AnyConnectOptions,
    /// The database is in memory, so only one connection can see it.
    pub in_memory: bool,
}

impl Address {
    /// Statements are not logged, not even slow ones. While sqlx asked for the log filter after each slow one, log lines
    /// of a test under load lacked the span of their job.
    fn new(options: AnyConnectOptions, in_memory: bool) -> Self {
        Self { options: options.disable_statement_logging(), in_memory }
    }
}

impl Dialect {
    /// Returns the dialect and address for the settings. Creates the folder of an SQLite file.
    pub fn of(database: &Database) -> Result<(&'static Self, Address), StoreError> {
        sqlx::any::install_default_drivers();
        let url = database.url.expose();
        if !url.starts_with("sqlite:") {
            return Ok((&POSTGRES, Address::new(url.parse()?, false)));
        }
        let options = SqliteConnectOptions::from_str(url)?;
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let parent = options.get_filename().parent().filter(|parent| !in_memory && *parent != Path::new(""));
        if let Some(parent) = parent {
            std::fs::create_dir_all(parent).map_err(|source| StoreError::Folder { path: parent.to_owned(), source })?;
        }
        let url = if in_memory || url.contains("mode=") {
            options.to_url_lossy()
        } else {
            options.create_if_missing(true).to_url_lossy()
        };
        Ok((&SQLITE, Address::new(AnyConnectOptions::from_url(&url)?, in_memory)))
    }

    pub async fn prepare(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        for statement in self.prepare {
            connection.execute(*statement).await?;
        }
        Ok(())
    }

    /// Returns whether a connection may go back to the pool. SQLite ends a transaction by itself when a write fails
    /// because the disk is full or has an I/O error. sqlx-sqlite 0.9.0 still counts the transaction as open, and every
    /// later transaction on the connection fails. The ping waits for the rollback that a dropped transaction has
    /// queued.
    pub async fn is_reusable(&self, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        if !self.loses_transactions {
            return Ok(true);
        }
        connection.ping().await?;
        let is_usable = !connection.is_in_transaction();
        if !is_usable {
            tracing::warn!("closing a database connection: the database ended its last transaction by itself");
        }
        Ok(is_usable)
    }

    /// Migrates the tables if `allowed`; otherwise checks that they are up to date.
    pub async fn migrate(&self, pool: &AnyPool, allowed: bool) -> Result<(), StoreError> {
        if !allowed {
            return check(pool).await;
        }
        if self.migrator_locks {
            return migrate_with_locks(pool).await;
        }
        write_ahead(pool).await?;
        // The migrator takes no lock on SQLite, so one transaction around all migrations serves as the lock.
        let mut tx = pool.begin_with(self.begin).await?;
        MIGRATIONS.run_direct(None, &mut *tx, false).await.map_err(migration_error)?;
        tx.commit().await?;
        Ok(())
    }
}

/// Migrates a Postgres database. A statement that changes a table waits for every transaction that uses it, and all
/// later queries wait behind that statement. So it waits for 2 seconds only, and lets the queries pass before it tries
/// again.
async fn migrate_with_locks(pool: &AnyPool) -> Result<(), StoreError> {
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let mut connection = pool.acquire().await?;
        // Closing the connection ends the limit, and the lock that the migrator keeps after an error.
        connection.close_on_drop();
        sqlx::query("SET lock_timeout = '2s'").execute(&mut *connection).await?;
        match MIGRATIONS.run_direct(None, &mut *connection, false).await.map_err(migration_error) {
            Err(StoreError::Locked) => {
                tracing::warn!("another session holds a lock on the tables that are to be migrated; trying again");
                connection.close().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
    Err(StoreError::Locked)
}

/// Tells apart the errors that an operator can do something about.
fn migration_error(error: MigrateError) -> StoreError {
    /// The code of Postgres for a lock that was not had in time.
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    if let MigrateError::VersionMissing(version) = error {
        return StoreError::NewerTables(version);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        let database = this.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        if database.is_some_and(|database| database.code().as_deref() == Some(LOCK_NOT_AVAILABLE)) {
            return StoreError::Locked;
        }
        cause = this.source();
    }
    error.into()
}

/// Switches an SQLite file to a write-ahead log, so that readers and the writer do not wait for each other. The setting
/// is stored in the file. If another process is switching at the same moment, SQLite fails at once; then this tries
/// again.
async fn write_ahead(pool: &AnyPool) -> Result<(), StoreError> {
    const TRIES: u32 = 100;
    let mut tried = 0;
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL").execute(pool).await {
            Ok(_) => return Ok(()),
            Err(sqlx::Error::Database(error)) if tried < TRIES && error.message().contains("locked") => {
                tried += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Checks that every migration of this program was applied, and none of a newer one.
async fn check(pool: &AnyPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    if missing(&mut connection).await?.is_empty() { Ok(()) } else { Err(StoreError::OldTables) }
}

/// Returns the migrations of this program that were not applied. Fails if one of a newer program was.
pub(super) async fn missing(connection: &mut AnyConnection) -> Result<Vec<&'static Migration>, StoreError> {
    let applied = sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations").fetch_all(connection).await;
    let applied = match applied {
        Ok(applied) => applied,
        // The table of migrations does not exist: none was ever applied.
        Err(sqlx::Error::Database(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let known = |version: &i64| MIGRATIONS.iter().any(|migration| migration.version == *version);
    if let Some(newer) = applied.iter().find(|version| !known(version)) {
        return Err(StoreError::NewerTables(*newer));
    }
    Ok(MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).collect())
}
