//! Runs jobs from claim to clean-up: fetch the video, analyze it, save the result, queue the mails, delete the video.
//! Also does the housekeeping: sends the outbox, expires results, deletes leftovers of crashes from the storage.
//!
//! A process may be killed at any moment. Every step can then be repeated by another process:
//!
//! - The queue gives the job of a dead worker to another worker. The old worker can write nothing for it any more.
//! - A result is saved in the transaction that ends its job.
//! - Mails stay in the outbox until they are sent.
//! - The janitor deletes blobs that no job refers to.

mod analyzer;
mod backoff;
mod delivery;
mod fetch;
mod gate;
mod heartbeat;
mod janitor;
mod job;
mod job_process;
mod mail_sender;
mod object;
mod outbox;
mod parts;
mod presence;
mod reaper;
mod scratch;
mod together;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;

use crate::blob::{BlobStore, Objects};
use crate::clock::{Clock, Tokens};
use crate::config::Settings;
use crate::identity::StorageIdentity;
use crate::report::webhook::Webhooks;
use crate::sources::Downloads;
use crate::store::{Store, StoreError, Wake};

pub use analyzer::{AnalysisError, Analyzer, Splitter};
use delivery::Channel;
use gate::{Closed, StorageGate};
pub use janitor::Swept;
pub use job::{failure, result_expiry};
pub use job_process::{AnalysisRequest, ChildMessage, JobProcess};
pub use mail_sender::MailSender;
use scratch::Scratch;

/// After the grace period of a shutdown, this much time is left to hand jobs back to the queue.
const HAND_BACK_TIMEOUT: Duration = Duration::from_secs(8);

/// Number of webhooks sent at the same time, so that a receiver that does not answer delays few others.
const WEBHOOK_TASKS: usize = 4;

/// State that all jobs of one process share.
struct SharedState {
    scratch: Scratch,
    gate: StorageGate,
    /// Reads videos from buckets of others.
    objects: OnceCell<Objects>,
    /// Cancelled when the grace period of a shutdown is over.
    abort: CancellationToken,
}

/// The result of one step of a worker task.
enum Step {
    /// A job ran.
    Ran,
    /// No job is due.
    NoJob,
    /// The storage is unavailable: claim no job for this long.
    Paused(Duration),
}

/// The dependencies of a worker.
#[derive(Clone)]
pub struct Worker {
    /// Identifies the worker in the database; each process has its own name.
    pub name: String,
    pub settings: Arc<Settings>,
    pub store: Store,
    pub blobs: Arc<dyn BlobStore>,
    /// The id of the storage that belongs to the database.
    pub identity: StorageIdentity,
    pub analyzer: Arc<dyn Analyzer>,
    /// Analyzes a video in a child process if a process died during an earlier run of its job. `None`: such videos are
    /// analyzed like all others.
    pub job_process: Option<Arc<dyn Analyzer>>,
    /// `None` if mail is switched off.
    pub mail_sender: Option<Arc<dyn MailSender>>,
    pub clock: Arc<dyn Clock>,
    pub tokens: Arc<dyn Tokens>,
}

impl Worker {
    /// Works until `stop` is cancelled. Then it waits up to `queue.shutdown_grace_s` for running jobs, hands the others
    /// back to the queue, and returns.
    pub async fn run(self, stop: CancellationToken) {
        let scratch = Scratch::open(&std::env::temp_dir(), self.tokens.next());
        let abort = CancellationToken::new();
        let shared = Arc::new(SharedState {
            scratch,
            gate: StorageGate::default(),
            objects: OnceCell::new(),
            abort: abort.clone(),
        });
        // The background tasks stop after the jobs, since ending jobs still queue mails.
        let jobs_ended = CancellationToken::new();
        let grace = Duration::from_secs(self.settings.queue.shutdown_grace_s);
        let concurrency = self.settings.queue.concurrency();
        tracing::info!(worker = self.name, concurrency, "working");

        let mut jobs = JoinSet::new();
        for _ in 0..concurrency {
            jobs.spawn(self.clone().work(shared.clone(), stop.clone()));
        }
        match Downloads::new(&self.settings) {
            Ok(downloads) => {
                jobs.spawn(fetch::run(self.clone(), shared.clone(), downloads, stop.clone()));
            }
            Err(error) => tracing::error!(%error, "cannot set up downloads; videos given by address wait"),
        }
        let mut background = JoinSet::new();
        background.spawn(presence::run(self.clone(), jobs_ended.clone()));
        background.spawn(janitor::run(self.clone(), jobs_ended.clone()));
        background.spawn(reaper::run(self.clone(), shared.clone(), jobs_ended.clone()));
        if let Some(sender) = self.mail_sender.clone() {
            background.spawn(delivery::run(self.clone(), Channel::Mails(sender), jobs_ended.clone()));
        }

        match Webhooks::new(&self.settings.webhooks) {
            Ok(Some(webhooks)) => {
                for _ in 0..WEBHOOK_TASKS {
                    let channel = Channel::Webhooks(webhooks.clone());
                    background.spawn(delivery::run(self.clone(), channel, jobs_ended.clone()));
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "cannot set up webhooks; none are sent"),
        }

        stop.cancelled().await;
        if tokio::time::timeout(grace, wait_for_all(&mut jobs)).await.is_err() {
            abort.cancel();
            if tokio::time::timeout(HAND_BACK_TIMEOUT, wait_for_all(&mut jobs)).await.is_err() {
                tracing::warn!("could not hand back some jobs; they run again when their leases have run out");
            }
        }
        jobs_ended.cancel();
        if tokio::time::timeout(HAND_BACK_TIMEOUT, wait_for_all(&mut background)).await.is_err() {
            tracing::warn!("a message was being sent at shutdown; it may be sent once more, under the same id");
        }
        tracing::info!(worker = self.name, "stopped");
    }

    /// Runs jobs one after the other until `stop`.
    async fn work(self, shared: Arc<SharedState>, stop: CancellationToken) {
        let poll = Duration::from_secs(self.settings.queue.poll_s);
        let mut wakes = self.store.subscribe();
        while !stop.is_cancelled() {
            let is_running = match self.next(&shared).await {
                Ok(Step::Ran) => continue,
                Ok(Step::NoJob) => stop.run_until_cancelled(wakes.wait(Wake::Work, poll)).await.is_some(),
                Ok(Step::Paused(wait)) => stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some(),
                Err(error) => {
                    tracing::warn!(%error, "cannot claim a job now");
                    stop.run_until_cancelled(tokio::time::sleep(poll)).await.is_some()
                }
            };
            if !is_running {
                return;
            }
        }
    }

    /// Claims the next job and runs it.
    async fn next(&self, shared: &SharedState) -> Result<Step, StoreError> {
        let check = || shared.gate.check(self.blobs.as_ref(), self.identity);
        if shared.gate.is_closed().await
            && let Err(Closed(wait)) = check().await
        {
            return Ok(Step::Paused(wait));
        }
        let claim = self.store.claim(&self.name, self.clock.now(), self.settings.queue.lease()).await?;
        let Some(claim) = claim else {
            return Ok(if self.help(shared).await? { Step::Ran } else { Step::NoJob });
        };
        let request_id = claim.request_id.as_deref();
        let span = tracing::info_span!("job", job = claim.id, attempt = claim.attempt, request_id, trace_id = Empty);
        job::join_trace(&span, &claim);
        let step = async {
            // Checks only when there is a job, so that an idle worker sends no requests to the storage.
            if let Err(Closed(wait)) = check().await {
                self.hand_back(&claim).await;
                return Step::Paused(wait);
            }
            self.run_job(&claim, shared).await;
            Step::Ran
        };
        Ok(step.instrument(span).await)
    }
}

/// Waits for all tasks of a set. A task that panics is logged and does not affect the others.
async fn wait_for_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the worker failed");
        }
    }
}
