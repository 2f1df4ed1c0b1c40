//! How long a caller waits for the database. A server that is down makes the pool try again and again, and one that is
//! frozen answers nothing, for as long as anybody waits: so every statement has a limit here.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::{Any, AnyPool, Either, Error, Execute, Executor, SqlStr};
use tokio::time::{Instant, timeout, timeout_at};

/// For a worker, which has nothing else to do: as long as the pool itself waits.
pub(super) const OF_A_WORKER: Duration = Duration::from_secs(30);
/// For a request: its client is told within three seconds.
pub(super) const OF_A_REQUEST: Duration = Duration::from_millis(2500);

/// The pool, whose statements end after a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patient<'p> {
    pub pool: &'p AnyPool,
    pub patience: Duration,
}

impl<'p> Executor<'p> for Patient<'p> {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let rows = self.pool.fetch_many(query);
        let until = Instant::now() + self.patience;
        let next = |(mut rows, until): (BoxStream<'e, _>, Instant)| async move {
            match timeout_at(until, rows.next()).await {
                Ok(row) => row.map(|row| (row, (rows, until))),
                // Without rows, the stream ends after the error.
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
        Box::pin(async move { timeout(self.patience, row).await.unwrap_or(Err(Error::PoolTimedOut)) })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'p: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }
}
