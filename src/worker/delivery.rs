//! Delivery of mails and webhooks: sends the messages of the outbox one after the other, and retries those that were
//! not accepted.
//!
//! An attempt that reached no server does not count. While the mail server is unreachable, all mails wait. From time to
//! time one of them is tried, and when it is accepted, the others follow.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::Span;
use tracing::field::Empty;

use super::Worker;
use super::backoff::backoff;
use super::mail_sender::MailSender;
use crate::fault::{Fault, Part};
use crate::report::webhook::Webhooks;
use crate::store::{MailKind, OutgoingMail, StoreError, Wake};
use crate::telemetry::{metrics, trace};

/// After this time, attempts to send a mail count even if they reach no server (RFC 5321, 4.5.4.1).
const MAIL_OUTAGE_LIMIT: Duration = Duration::from_secs(5 * 24 * 3600);
/// The same limit for webhooks.
const WEBHOOK_OUTAGE_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// The longest pause between two attempts while the mail server is unreachable.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The kind of messages that a task sends, and the client for sending them. Each kind has tasks of its own.
pub(super) enum Channel {
    Mails(Arc<dyn MailSender>),
    Webhooks(Webhooks),
}

/// The result of one step of a delivery task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendResult {
    /// The message was accepted, refused or given up. Another one may be due.
    Answered,
    /// No server was reached.
    Unreached,
    /// No message is due.
    NoMessage,
}

/// How often a message is tried, and the wait between attempts.
pub(super) struct RetryPolicy {
    pub max_attempts: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
    /// Attempts that reach no server do not count until the message is this old.
    pub outage_limit: Duration,
}

impl RetryPolicy {
    pub const fn of_mails(max_attempts: u32, backoff_base_s: u64, backoff_max_s: u64) -> Self {
        Self { max_attempts, backoff_base_s, backoff_max_s, outage_limit: MAIL_OUTAGE_LIMIT }
    }

    pub const fn of_webhooks(max_attempts: u32, backoff_base_s: u64, backoff_max_s: u64) -> Self {
        Self { max_attempts, backoff_base_s, backoff_max_s, outage_limit: WEBHOOK_OUTAGE_LIMIT }
    }
}

/// Sends due messages until `stop`. Checks for messages when a job ends, and every `queue.poll_s` seconds for retries.
pub(super) async fn run(worker: Worker, channel: Channel, stop: CancellationToken) {
    let poll = Duration::from_secs(worker.settings.queue.poll_s);
    let mut wakes = worker.store.subscribe();
    // The number of consecutive attempts that reached no server, and the time before which no other is made.
    let (mut unreached, mut paused_until) = (0, Timestamp::MIN);
    while !stop.is_cancelled() {
        if worker.clock.now() < paused_until {
            stop.run_until_cancelled(tokio::time::sleep(poll)).await;
            continue;
        }
        let sent = match &channel {
            Channel::Mails(sender) => worker.send_next_mail(sender, &stop).await,
            Channel::Webhooks(webhooks) => worker.send_next_webhook(webhooks, &stop).await,
        };
        match (sent, &channel) {
            (Ok(SendResult::Answered), _) => unreached = 0,
            // The next webhook goes to another server.
            (Ok(SendResult::Unreached), Channel::Webhooks(_)) => {}
            (Ok(SendResult::Unreached), Channel::Mails(_)) => {
                unreached += 1;
                let base = Duration::from_secs(worker.settings.mail.backoff_base_s);
                let pause = backoff(unreached, base, LONGEST_PAUSE);
                paused_until = worker.clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX);
                tracing::error!(part = "mail", pause_s = pause.as_secs(), "the mail server is unreachable; mails wait");
            }
            (Ok(SendResult::NoMessage), _) => {
                stop.run_until_cancelled(wakes.wait(Wake::Mail, poll)).await;
            }
            (Err(error), _) => {
                tracing::warn!(%error, "cannot read or write the outbox now");
                stop.run_until_cancelled(tokio::time::sleep(poll)).await;
            }
        }
    }
}

/// The span of an attempt to send a message. Its log lines have the id of the message and of the request that sent the
/// video. It belongs to the trace of that request.
pub(super) fn message_span(message: &OutgoingMail) -> Span {
    let OutgoingMail { id, kind, job, attempt, request_id, .. } = message;
    let span = tracing::info_span!("message", %id, ?kind, job, attempt, request_id, trace_id = Empty);
    trace::join(&span, message.trace.as_ref());
    let name = match kind {
        MailKind::Webhook | MailKind::Batch => "send webhook",
        MailKind::Report | MailKind::Failure | MailKind::Confirm => "send mail",
    };
    trace::rename(&span, name.to_owned());
    trace::attribute(&span, "visage.message.kind", kind.name());
    trace::attribute(&span, "visage.message.attempt", i64::from(*attempt));
    span
}

impl Worker {
    /// Records an attempt in which the message was not accepted: schedules the next attempt or gives the message up.
    pub(super) async fn record_failure(
        &self,
        message: &OutgoingMail,
        fault: Fault,
        reason: &str,
        policy: &RetryPolicy,
    ) -> Result<SendResult, StoreError> {
        let OutgoingMail { attempt, created_at, .. } = message;
        let now = self.clock.now();
        let (base, max) = (Duration::from_secs(policy.backoff_base_s), Duration::from_secs(policy.backoff_max_s));
        let due = |wait| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let part = if let Fault::Ours(part) = fault { part.name() } else { "refused" };
        trace::failed(&Span::current(), part);
        let age = Duration::try_from(now.duration_since(*created_at)).unwrap_or_default();
        if let Fault::Ours(part) = fault
            && age < policy.outage_limit
        {
            tracing::warn!(part = part.name(), reason, "a message reached no server");
            metrics().message_put_off(part);
            // Uncounted attempts leave no count for the backoff, so the wait grows with the age of the message.
            let wait = if part == Part::Mail { base } else { (age / 2).clamp(base.min(max), max) };
            trace::attribute(&Span::current(), "visage.outcome", "put_off");
            self.store.mail_failed(message, reason, due(wait), false).await?;
            return Ok(SendResult::Unreached);
        }
        if fault == Fault::Client || *attempt >= policy.max_attempts {
            tracing::warn!(reason, "gave up a message");
            trace::attribute(&Span::current(), "visage.outcome", "given_up");
            self.store.mail_given_up(message, reason, now).await?;
            if self.settings.retention.failed_messages_h == 0 {
                self.store.forget_recipients(now).await?;
            }
        } else {
            tracing::warn!(reason, "a message was not accepted; it will be tried again");
            trace::attribute(&Span::current(), "visage.outcome", "will_be_sent_again");
            self.store.mail_failed(message, reason, due(backoff(*attempt, base, max)), true).await?;
        }
        Ok(SendResult::Answered)
    }

    /// Records that a message was sent. Retries until the database answers or `stop` is cancelled, since a message
    /// without this record is sent again.
    pub(super) async fn record_sent(&self, message: &OutgoingMail, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut tried = 0;
        loop {
            let error = match self.store.mail_sent(message, self.clock.now()).await {
                Ok(()) => {
                    trace::attribute(&Span::current(), "visage.outcome", "sent");
                    return Ok(());
                }
                Err(error) => error,
            };
            tried += 1;
            tracing::warn!(tried, %error, "cannot record yet that a message was sent");
            let wait = backoff(tried, Duration::from_millis(250), Duration::from_secs(5));
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Err(error);
            }
        }
    }
}
