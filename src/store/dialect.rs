//! What must differ between SQLite and Postgres: how to open them, and a few words of SQL.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor};

use super::StoreError;
use super::migrations::MIGRATIONS;
use crate::config::Database;

/// The differences, by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Starts a transaction that writes.
    pub begin: &'static str,
    /// Behind a `SELECT ... LIMIT 1` that picks a row to take: passes over those that another is just taking.
    /// SQLite has one writer at a time, so there is no other.
    pub skip_locked: &'static str,
    /// The texts of a JSON list that is given as the first value.
    pub listed: &'static str,
    /// Said on every new connection.
    prepare: &'static [&'static str],
    /// Whether changes can be told to other processes by LISTEN and NOTIFY.
    pub notifies: bool,
    /// Whether a failed write may end a transaction without the driver's knowledge.
    loses_transactions: bool,
    /// Whether one process at a time changes the tables by a lock of the migrator's own.
    migrator_locks: bool,
}

const SQLITE: Dialect = Dialect {
    begin: "BEGIN IMMEDIATE",
    skip_locked: "",
    listed: "SELECT value FROM json_each($1)",
    prepare: &["PRAGMA busy_timeout = 15000", "PRAGMA foreign_keys = ON"],
    notifies: false,
    loses_transactions: true,
    migrator_locks: false,
};

const POSTGRES: Dialect = Dialect {
    begin: "BEGIN",
    skip_locked: " FOR UPDATE SKIP LOCKED",
    listed: "SELECT json_array_elements_text(CAST($1 AS JSON))",
    prepare: &[],
    notifies: true,
    loses_transactions: false,
    migrator_locks: true,
};

/// Where to connect.
pub(super) struct Address {
    pub options: AnyConnectOptions,
    /// A database in memory, which only one connection can see.
    pub private: bool,
}

impl Dialect {
    /// The dialect of a database and its address. Makes the folder of an SQLite file.
    pub fn of(database: &Database) -> Result<(&'static Self, Address), StoreError> {
        sqlx::any::install_default_drivers();
        let url = database.url.expose();
        if !url.starts_with("sqlite:") {
            return Ok((&POSTGRES, Address { options: url.parse()?, private: false }));
        }
        let options = SqliteConnectOptions::from_str(url)?;
        let private = url.contains(":memory:") || url.contains("mode=memory");
        let parent = options.get_filename().parent().filter(|parent| !private && *parent != Path::new(""));
        if let Some(parent) = parent {
            std::fs::create_dir_all(parent).map_err(|source| StoreError::Folder { path: parent.to_owned(), source })?;
        }
        let url = if private || url.contains("mode=") {
            options.to_url_lossy()
        } else {
            options.create_if_missing(true).to_url_lossy()
        };
        Ok((&SQLITE, Address { options: AnyConnectOptions::from_url(&url)?, private }))
    }

    pub async fn prepare(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        for statement in self.prepare {
            connection.execute(*statement).await?;
        }
        Ok(())
    }

    /// Whether a connection may be used again. SQLite ends a transaction by itself when a write fails for want of room
    /// or by an I/O error; sqlx-sqlite 0.9.0 still counts it as open, and every later transaction on the connection
    /// fails. The ping waits for the rollback that a dropped transaction has queued.
    pub async fn keeps(&self, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        if !self.loses_transactions {
            return Ok(true);
        }
        connection.ping().await?;
        let is_usable = !connection.is_in_transaction();
        if !is_usable {
            tracing::warn!("a database connection is closed: its last transaction was ended by the database");
        }
        Ok(is_usable)
    }

    /// Brings the tables up to date, or checks that they are.
    pub async fn migrate(&self, pool: &AnyPool, allowed: bool) -> Result<(), StoreError> {
        if !allowed {
            return check(pool).await;
        }
        if self.migrator_locks {
            MIGRATIONS.run(pool).await?;
            return Ok(());
        }
        write_ahead(pool).await?;
        // The migrator takes no lock on SQLite: the transaction around all of it is one.
        let mut tx = pool.begin_with(self.begin).await?;
        MIGRATIONS.run_direct(None, &mut *tx, false).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Switches an SQLite file to a write-ahead log, which it remembers: readers and the writer no longer wait for each
/// other. While another process switches, SQLite refuses at once instead of waiting.
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

/// Whether every migration of this program is in the tables. Those of a newer program do not matter.
async fn check(pool: &AnyPool) -> Result<(), StoreError> {
    let applied = sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations").fetch_all(pool).await;
    let applied = match applied {
        Ok(applied) => applied,
        // No such table: no migration was ever made.
        Err(sqlx::Error::Database(_)) => return Err(StoreError::OldTables),
        Err(error) => return Err(error.into()),
    };
    let all = MIGRATIONS.iter().all(|migration| applied.contains(&migration.version));
    if all { Ok(()) } else { Err(StoreError::OldTables) }
}
