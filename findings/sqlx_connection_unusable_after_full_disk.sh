#!/usr/bin/env bash
# After "database or disk is full", an sqlx connection to SQLite refuses every later BEGIN IMMEDIATE, although SQLite itself goes on.
#
# Expected: when a write in a transaction fails, `rollback()` ends the transaction, and the next one on the same connection works
# once there is room again.
# Seen: SQLite rolls the transaction back by itself when it is full (SQLITE_FULL). sqlx counts transactions on its own and
# does not notice. `rollback()` fails with "cannot rollback - no transaction is active" and the count stays at one. From then on
# `begin_with("BEGIN IMMEDIATE")` fails each time, while a BEGIN IMMEDIATE sent as a plain statement works on the same connection. The pool keeps
# lending the connection out.
# Versions: sqlx 0.9.0 with SQLite 3.51.3. A limit on pages stands in for the full disk: the error is the same.
# Why it matters here: a disk that was full for a moment stopped every write until somebody restarted the service, while reads and
# health checks that only read still succeeded.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "full"
version = "0.0.0"
edition = "2021"

[dependencies]
sqlx = { version = "=0.9.0", default-features = false, features = ["runtime-tokio", "sqlite"] }
tokio = { version = "1", features = ["rt", "macros"] }

[profile.dev]
debug = false
TOML
cat >src/main.rs <<'RUST'
use sqlx::{Connection, Executor, Row, SqliteConnection};

const LARGE: &str = "INSERT INTO t VALUES (zeroblob(1000000))";

fn told<T>(what: &str, result: Result<T, sqlx::Error>) -> bool {
    match &result {
        Ok(_) => println!("{what}: ok"),
        Err(error) => println!("{what}: {error}"),
    }
    result.is_ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), sqlx::Error> {
    let mut db = SqliteConnection::connect("sqlite::memory:").await?;
    let version: String = sqlx::query("SELECT sqlite_version()").fetch_one(&mut db).await?.get(0);
    println!("sqlx 0.9.0, SQLite {version}");
    db.execute("CREATE TABLE t (b BLOB)").await?;
    db.execute("PRAGMA max_page_count = 20").await?;
    let mut transaction = db.begin_with("BEGIN IMMEDIATE").await?;
    let is_full = !told("insert with no room left", transaction.execute(LARGE).await);
    let is_rolled_back = told("rollback", transaction.rollback().await);

    db.execute("PRAGMA max_page_count = 100000").await?;
    println!("-- there is room again");
    let first = told("begin_with", db.begin_with("BEGIN IMMEDIATE").await);
    let second = told("begin_with, once more", db.begin_with("BEGIN IMMEDIATE").await);
    let plain = told("BEGIN IMMEDIATE as a statement", db.execute("BEGIN IMMEDIATE").await);
    let insert = told("insert", db.execute(LARGE).await);
    let commit = told("COMMIT", db.execute("COMMIT").await);

    let seen = [is_full, is_rolled_back, first, second, plain, insert, commit];
    if seen != [true, false, false, false, true, true, true] {
        println!("changed: {seen:?}");
        std::process::exit(1);
    }
    Ok(())
}
RUST
CARGO_TARGET_DIR=$work/target cargo run --quiet
