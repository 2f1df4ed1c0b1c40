//! What mails and webhooks have in common: both wait in the outbox, are sent one after the other, and are tried again when
//! they were not taken.
//!
//! A try that reached no server does not count: the mail server, or our way to it, is away. Mails then wait together, one
//! of them is tried from time to time, and all go as soon as it was taken.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::backoff::backoff;
use super::outbox::Post;
use crate::fault::{Fault, Part};
use crate::report::webhook::Webhooks;
use crate::store::{OutgoingMail, StoreError, Wake};
use crate::telemetry::metrics;

/// A mail that reached no server for this long is tried like one that was put off (RFC 5321, 4.5.4.1).
const MAIL_PATIENCE: Duration = Duration::from_secs(5 * 24 * 3600);
/// Likewise a webhook.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Between two tries while the mail server is away, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Which messages are sent, and through what. Neither kind waits for the other.
pub(super) enum Channel {
    Mails(Arc<dyn Post>),
    Webhooks(Webhooks),
}

/// What became of a look for the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was taken, put off or given up: there may be another.
    Answered,
    /// No server was reached.
    Unreached,
    NoMessage,
}

/// How often a message is tried, and how long is waited between.
pub(super) struct Tries {
    pub most: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
    /// For so long tries that reach no server do not count.
    pub patience: Duration,
}

impl Tries {
    pub const fn of_mails(most: u32, backoff_base_s: u64, backoff_max_s: u64) -> Self {
        Self { most, backoff_base_s, backoff_max_s, patience: MAIL_PATIENCE }
    }

    pub const fn of_webhooks(most: u32, backoff_base_s: u64, backoff_max_s: u64) -> Self {
        Self { most, backoff_base_s, backoff_max_s, patience: WEBHOOK_PATIENCE }
    }
}

/// Sends due messages until `stop`; looks when a job ends, and every `queue.poll_s` for those that are due again.
pub(super) async fn run(worker: Worker, channel: Channel, stop: CancellationToken) {
    let poll = Duration::from_secs(worker.settings.queue.poll_s);
    let mut wakes = worker.store.subscribe();
    // Tries in succession that reached no server, and when the next may be made.
    let (mut unreached, mut paused_until) = (0, Timestamp::MIN);
    while !stop.is_cancelled() {
        if worker.clock.now() < paused_until {
            stop.run_until_cancelled(tokio::time::sleep(poll)).await;
            continue;
        }
        let sent = match &channel {
            Channel::Mails(post) => worker.send_next_mail(post, &stop).await,
            Channel::Webhooks(webhooks) => worker.send_next_webhook(webhooks, &stop).await,
        };
        match (sent, &channel) {
            (Ok(Sent::Answered), _) => unreached = 0,
            // The next one goes to another server.
            (Ok(Sent::Unreached), Channel::Webhooks(_)) => {}
            (Ok(Sent::Unreached), Channel::Mails(_)) => {
                unreached += 1;
                let base = Duration::from_secs(worker.settings.mail.backoff_base_s);
                let pause = backoff(unreached, base, LONGEST_PAUSE);
                paused_until = worker.clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX);
                tracing::error!(part = "mail", pause_s = pause.as_secs(), "the mail server is away; mails wait");
            }
            (Ok(Sent::NoMessage), _) => {
                stop.run_until_cancelled(wakes.wait(Wake::Mail, poll)).await;
            }
            (Err(error), _) => {
                tracing::warn!(%error, "the outbox cannot be read or written now");
                stop.run_until_cancelled(tokio::time::sleep(poll)).await;
            }
        }
    }
}

impl Worker {
    /// After a try in which the message was not taken: the next is due later, or there is none.
    pub(super) async fn not_taken(
        &self,
        message: &OutgoingMail,
        fault: Fault,
        reason: &str,
        tries: &Tries,
    ) -> Result<Sent, StoreError> {
        let OutgoingMail { id, kind, attempt, created_at, .. } = message;
        let now = self.clock.now();
        let (base, max) = (Duration::from_secs(tries.backoff_base_s), Duration::from_secs(tries.backoff_max_s));
        let due = |wait| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let age = Duration::try_from(now.duration_since(*created_at)).unwrap_or_default();
        if let Fault::Ours(part) = fault
            && age < tries.patience
        {
            tracing::warn!(message = %id, ?kind, part = part.name(), reason, "a message reached no server");
            metrics().message_put_off(part);
            // The older, the longer: no count is kept.
            let wait = if part == Part::Mail { base } else { (age / 2).clamp(base.min(max), max) };
            self.store.mail_put_off(message, reason, due(wait)).await?;
            return Ok(Sent::Unreached);
        }
        if fault == Fault::Client || *attempt >= tries.most {
            tracing::warn!(message = %id, ?kind, attempt, reason, "a message was given up");
            self.store.mail_given_up(message, reason).await?;
        } else {
            tracing::warn!(message = %id, ?kind, attempt, reason, "a message was not sent yet");
            self.store.mail_failed(message, reason, due(backoff(*attempt, base, max))).await?;
        }
        Ok(Sent::Answered)
    }

    /// A message that is not recorded as sent is sent again: the database is asked until it answers, or the process ends.
    pub(super) async fn record_sent(&self, message: &OutgoingMail, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut tried = 0;
        loop {
            let error = match self.store.mail_sent(message, self.clock.now()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tried += 1;
            tracing::warn!(message = %message.id, tried, %error, "that it was sent cannot be recorded yet");
            let wait = backoff(tried, Duration::from_millis(250), Duration::from_secs(5));
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Err(error);
            }
        }
    }
}
