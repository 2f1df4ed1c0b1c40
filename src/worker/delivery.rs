//! What mails and webhooks have in common: both wait in the outbox, are sent one after the other, and are tried again when
//! they were not taken.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::backoff::backoff;
use super::outbox::Post;
use crate::report::webhook::Webhooks;
use crate::store::{OutgoingMail, StoreError, Wake};

/// Which messages are sent, and through what. Neither kind waits for the other.
pub(super) enum Channel {
    Mails(Arc<dyn Post>),
    Webhooks(Webhooks),
}

/// How often a message is tried, and how long is waited between.
pub(super) struct Tries {
    pub most: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
}

/// Sends due messages until `stop`; looks when a job ends, and every `queue.poll_s` for those that are due again.
pub(super) async fn run(worker: Worker, channel: Channel, stop: CancellationToken) {
    let poll = Duration::from_secs(worker.settings.queue.poll_s);
    let mut wakes = worker.store.subscribe();
    while !stop.is_cancelled() {
        let sent = match &channel {
            Channel::Mails(post) => worker.send_next_mail(post).await,
            Channel::Webhooks(webhooks) => worker.send_next_webhook(webhooks).await,
        };
        match sent {
            Ok(true) => {}
            Ok(false) => {
                stop.run_until_cancelled(wakes.wait(Wake::Mail, poll)).await;
            }
            Err(error) => {
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
        permanent: bool,
        reason: &str,
        tries: &Tries,
    ) -> Result<(), StoreError> {
        let OutgoingMail { id, kind, attempt, .. } = message;
        if permanent || *attempt >= tries.most {
            tracing::warn!(message = %id, ?kind, attempt, reason, "a message was given up");
            return self.store.mail_given_up(message, reason).await;
        }
        tracing::warn!(message = %id, ?kind, attempt, reason, "a message was not sent yet");
        let base = Duration::from_secs(tries.backoff_base_s);
        let wait = backoff(*attempt, base, Duration::from_secs(tries.backoff_max_s));
        let due = self.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.store.mail_failed(message, reason, due).await
    }
}
