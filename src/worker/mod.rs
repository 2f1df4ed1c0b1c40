//! One job from claim to clean-up: fetch, analyze, save, mail, delete the video; and the housekeeping beside it
//! (sending the outbox, expiring results, sweeping what crashes left in storage).
//!
//! Every step can be cut off at any instant and is done again by whoever comes next: the queue gives a job whose
//! worker is gone to another, results are saved together with the end of the job, mails wait in the outbox, and what
//! lies in storage without need is swept. A worker that lost its job to another writes nothing any more.

mod analyzer;
mod backoff;
mod delivery;
mod heartbeat;
mod janitor;
mod job;
mod outbox;
mod presence;
mod scratch;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blob::BlobStore;
use crate::clock::{Clock, Tokens};
use crate::config::Settings;
use crate::report::webhook::Webhooks;
use crate::store::{Store, StoreError, Wake};

pub use analyzer::{Analyzer, Trouble};
use delivery::Channel;
pub use janitor::Swept;
pub use outbox::Post;
pub use presence::SILENT_S;
use scratch::Scratch;

/// After the grace of a shutdown, jobs get this long to be handed back.
const HAND_BACK: Duration = Duration::from_secs(8);

/// Webhooks on their way at the same time: one that does not answer keeps few others waiting.
const WEBHOOKS: usize = 4;

/// What workers work with.
#[derive(Clone)]
pub struct Worker {
    /// Says in the database who holds a job; another for every process.
    pub name: String,
    pub settings: Arc<Settings>,
    pub store: Store,
    pub blobs: Arc<dyn BlobStore>,
    pub analyzer: Arc<dyn Analyzer>,
    /// `None` where mail is switched off.
    pub post: Option<Arc<dyn Post>>,
    pub clock: Arc<dyn Clock>,
    pub tokens: Arc<dyn Tokens>,
}

impl Worker {
    /// Works until `stop` is cancelled; then lets running jobs finish for `queue.shutdown_grace_s`, hands back the
    /// others, and returns.
    pub async fn run(self, stop: CancellationToken) {
        let scratch = Arc::new(Scratch::open(&std::env::temp_dir(), self.tokens.next()));
        // Said when the grace is over.
        let cut = CancellationToken::new();
        // Mails and housekeeping end after the jobs, which still give them something to do.
        let jobs_ended = CancellationToken::new();
        let grace = Duration::from_secs(self.settings.queue.shutdown_grace_s);
        let concurrency = self.settings.queue.concurrency();
        tracing::info!(worker = self.name, concurrency, "working");

        let mut jobs = JoinSet::new();
        for _ in 0..concurrency {
            jobs.spawn(self.clone().work(scratch.clone(), stop.clone(), cut.clone()));
        }
        let mut chores = JoinSet::new();
        chores.spawn(presence::run(self.clone(), jobs_ended.clone()));
        chores.spawn(janitor::run(self.clone(), jobs_ended.clone()));
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
    async fn work(self, scratch: Arc<Scratch>, stop: CancellationToken, cut: CancellationToken) {
        let poll = Duration::from_secs(self.settings.queue.poll_s);
        let mut wakes = self.store.subscribe();
        while !stop.is_cancelled() {
            let pause = match self.next(&scratch, &cut).await {
                Ok(true) => continue,
                Ok(false) => stop.run_until_cancelled(wakes.wait(Wake::Work, poll)).await.is_some(),
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

    /// Takes the next job and brings it as far as it goes; `false` if there is none.
    async fn next(&self, scratch: &Scratch, cut: &CancellationToken) -> Result<bool, StoreError> {
        let (lease, max_attempts) = (self.settings.queue.lease(), self.settings.queue.max_attempts);
        while let Some(claim) = self.store.claim_worn_out(&self.name, max_attempts, self.clock.now(), lease).await? {
            self.bury(&claim).await;
        }
        let claim = self.store.claim(&self.name, max_attempts, self.clock.now(), lease).await?;
        let Some(claim) = claim else { return Ok(false) };
        self.run_job(&claim, scratch, cut).await;
        Ok(true)
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
