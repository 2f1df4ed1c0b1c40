//! A connection pool with a time limit for each statement. Without a limit, the pool retries for ever while the
//! database server is down, and a statement waits for ever while the server is frozen.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::{Any, AnyPool, Either, Error, Execute, Executor, SqlStr};
use tokio::time::{Instant, timeout, timeout_at};

/// The limit for workers, which can wait: as long as the pool itself waits for a connection.
pub(super) const WORKER_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for HTTP requests, so that a client gets an answer within three seconds.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_millis(2500);

/// The pool, with a time limit for each statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimedPool<'p> {
    pub pool: &'p AnyPool,
    pub limit: Duration,
}

impl<'p> Executor<'p> for TimedPool<'p> {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let rows = self.pool.fetch_many(query);
        let until = Instant::now() + self.limit;
        let next = |(mut rows, until): (BoxStream<'e, _>, Instant)| async move {
            match timeout_at(until, rows.next()).await {
                Ok(row) => row.map(|row| (row, (rows, until))),
                // The empty stream ends the iteration after the error.
                Err(_) => Some((Err(Error::PoolTimedOut), (stream::empty().boxed(), until))),
            }
        };
        stream::unfold((rows, until), next).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let row = self.pool.fetch_optional(query);
        Box::pin(async move { timeout(self.limit, row).await.unwrap_or(Err(Error::PoolTimedOut)) })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'p: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }
}
