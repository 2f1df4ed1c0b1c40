//! One job from claim to clean-up: fetch, analyze, save, mail, delete the video; and the housekeeping beside it
//! (sending the outbox, expiring results, sweeping what crashes left in storage).
//!
//! Every step can be cut off at any instant and is done again by whoever comes next: the queue gives a job whose
//! worker is gone to another, results are saved together with the end of the job, mails wait in the outbox, and what
//! lies in storage without need is swept. A worker that lost its job to another writes nothing any more.

mod analyzer;
mod backoff;
mod confined;
mod delivery;
mod gate;
mod heartbeat;
mod janitor;
mod job;
mod outbox;
mod presence;
mod reaper;
mod scratch;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blob::BlobStore;
use crate::clock::{Clock, Tokens};
use crate::config::Settings;
use crate::identity::StorageIdentity;
use crate::report::webhook::Webhooks;
use crate::store::{Store, StoreError, Wake};

pub use analyzer::{Analyzer, Trouble};
pub use confined::{Confined, Line, Order};
use delivery::Channel;
use gate::{Closed, Gate};
pub use janitor::Swept;
pub use outbox::Post;
pub use presence::SILENT_S;
use scratch::Scratch;

/// After the grace of a shutdown, jobs get this long to be handed back.
const HAND_BACK: Duration = Duration::from_secs(8);

/// Webhooks on their way at the same time: one that does not answer keeps few others waiting.
const WEBHOOKS: usize = 4;

/// What the jobs of one process share.
struct Desk {
    scratch: Scratch,
    gate: Gate,
    /// Cancelled when the grace of a shutdown is over.
    cut: CancellationToken,
}

/// What became of a look for the next job.
enum Next {
    Ran,
    NoJob,
    /// No job may be taken before this time has passed.
    Paused(Duration),
}

/// What workers work with.
#[derive(Clone)]
pub struct Worker {
    /// Says in the database who holds a job; another for every process.
    pub name: String,
    pub settings: Arc<Settings>,
    pub store: Store,
    pub blobs: Arc<dyn BlobStore>,
    /// Of the storage that belongs to the database.
    pub identity: StorageIdentity,
    pub analyzer: Arc<dyn Analyzer>,
    /// Analyzes in a process of its own the videos during whose analysis a process died. `None`: they are analyzed like
    /// all others.
    pub confined: Option<Arc<dyn Analyzer>>,
    /// `None` where mail is switched off.
    pub post: Option<Arc<dyn Post>>,
    pub clock: Arc<dyn Clock>,
    pub tokens: Arc<dyn Tokens>,
}

impl Worker {
    /// Works until `stop` is cancelled; then lets running jobs finish for `queue.shutdown_grace_s`, hands back the
    /// others, and returns.
    pub async fn run(self, stop: CancellationToken) {
        let scratch = Scratch::open(&std::env::temp_dir(), self.tokens.next());
        let cut = CancellationToken::new();
        let desk = Arc::new(Desk { scratch, gate: Gate::default(), cut: cut.clone() });
        // Mails and housekeeping end after the jobs, which still give them something to do.
        let jobs_ended = CancellationToken::new();
        let grace = Duration::from_secs(self.settings.queue.shutdown_grace_s);
        let concurrency = self.settings.queue.concurrency();
        tracing::info!(worker = self.name, concurrency, "working");

        let mut jobs = JoinSet::new();
        for _ in 0..concurrency {
            jobs.spawn(self.clone().work(desk.clone(), stop.clone()));
        }
        let mut chores = JoinSet::new();
        chores.spawn(presence::run(self.clone(), jobs_ended.clone()));
        chores.spawn(janitor::run(self.clone(), jobs_ended.clone()));
        chores.spawn(reaper::run(self.clone(), jobs_ended.clone()));
        if let Some(post) = self.post.clone() {
            chores.spawn(delivery::run(self.clone(), Channel::Mails(post), jobs_ended.clone()));
        }

        match Webhooks::new(&self.settings.webhooks) {
            Ok(Some(webhooks)) => {
                for _ in 0..WEBHOOKS {
                    let channel = Channel::Webhooks(webhooks.clone());
                    chores.spawn(delivery::run(self.clone(), channel, jobs_ended.clone()));
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "no webhooks are sent"),
        }

        stop.cancelled().await;
        if tokio::time::timeout(grace, all(&mut jobs)).await.is_err() {
            cut.cancel();
            if tokio::time::timeout(HAND_BACK, all(&mut jobs)).await.is_err() {
                tracing::warn!("some jobs could not be handed back; they run again when their lease is over");
            }
        }
        jobs_ended.cancel();
        if tokio::time::timeout(HAND_BACK, all(&mut chores)).await.is_err() {
            tracing::warn!("the mail on its way at shutdown may be sent once more, under the same Message-ID");
        }
        tracing::info!(worker = self.name, "stopped");
    }

    /// Runs jobs one after the other until `stop`.
    async fn work(self, desk: Arc<Desk>, stop: CancellationToken) {
        let poll = Duration::from_secs(self.settings.queue.poll_s);
        let mut wakes = self.store.subscribe();
        while !stop.is_cancelled() {
            let pause = match self.next(&desk).await {
                Ok(Next::Ran) => continue,
                Ok(Next::NoJob) => stop.run_until_cancelled(wakes.wait(Wake::Work, poll)).await.is_some(),
                Ok(Next::Paused(wait)) => stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some(),
                Err(error) => {
                    tracing::warn!(%error, "no job can be taken now");
                    stop.run_until_cancelled(tokio::time::sleep(poll)).await.is_some()
                }
            };
            if !pause {
                return;
            }
        }
    }

    /// Takes the next job and brings it as far as it goes.
    async fn next(&self, desk: &Desk) -> Result<Next, StoreError> {
        let check = || desk.gate.check(self.blobs.as_ref(), self.identity);
        if desk.gate.is_closed().await
            && let Err(Closed(wait)) = check().await
        {
            return Ok(Next::Paused(wait));
        }
        let claim = self.store.claim(&self.name, self.clock.now(), self.settings.queue.lease()).await?;
        let Some(claim) = claim else { return Ok(Next::NoJob) };
        // Asked only when there is a job: an idle worker leaves storage alone.
        if let Err(Closed(wait)) = check().await {
            self.hand_back(&claim).await;
            return Ok(Next::Paused(wait));
        }
        self.run_job(&claim, desk).await;
        Ok(Next::Ran)
    }
}

/// Waits for all tasks of a set. They end by themselves; one that panics must not take the others with it.
async fn all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the worker broke off");
        }
    }
}
