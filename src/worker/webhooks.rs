//! Sends the webhooks that wait in the outbox, beside the mails: neither waits for the other.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::backoff::backoff;
use crate::report::webhook::{Event, EventData, EventError, WebhookError, Webhooks};
use crate::store::{OutgoingMail, Status, StoreError, Wake};

/// Sends due webhooks until `stop`; looks when a job ends, and every `queue.poll_s` for those that are due again.
pub(super) async fn run(worker: Worker, webhooks: Webhooks, stop: CancellationToken) {
    let poll = Duration::from_secs(worker.settings.queue.poll_s);
    let mut wakes = worker.store.subscribe();
    while !stop.is_cancelled() {
        match worker.send_next_webhook(&webhooks).await {
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
    /// Sends the webhook that has been due for longest; `false` if there is none.
    async fn send_next_webhook(&self, webhooks: &Webhooks) -> Result<bool, StoreError> {
        let settings = &self.settings.webhooks;
        let lease = Duration::from_secs(settings.timeout_s.saturating_mul(2).max(10));
        let Some(hook) = self.store.claim_webhook(self.clock.now(), lease).await? else { return Ok(false) };
        let sent = if hook.attempt > settings.max_attempts {
            Err(WebhookError { permanent: true, reason: "the process died in the last try".to_owned() })
        } else {
            self.try_webhook(&hook, webhooks).await?
        };
        let Err(failed) = sent else {
            self.store.mail_sent(&hook, self.clock.now()).await?;
            tracing::info!(webhook = %hook.id, attempt = hook.attempt, "webhook sent");
            return Ok(true);
        };
        if failed.permanent || hook.attempt >= settings.max_attempts {
            tracing::warn!(webhook = %hook.id, attempt = hook.attempt, reason = failed.reason, "webhook given up");
            self.store.mail_given_up(&hook, &failed.reason).await?;
        } else {
            tracing::warn!(webhook = %hook.id, attempt = hook.attempt, reason = failed.reason, "webhook not sent yet");
            let base = Duration::from_secs(settings.backoff_base_s);
            let wait = backoff(hook.attempt, base, Duration::from_secs(settings.backoff_max_s));
            let due = self.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
            self.store.mail_failed(&hook, &failed.reason, due).await?;
        }
        Ok(true)
    }

    /// One try. The outer error is the database's, the inner one the webhook's.
    async fn try_webhook(
        &self,
        hook: &OutgoingMail,
        webhooks: &Webhooks,
    ) -> Result<Result<(), WebhookError>, StoreError> {
        let gone = || WebhookError { permanent: true, reason: "what it was to tell is gone".to_owned() };
        let Some(job) = self.store.job(hook.token).await? else { return Ok(Err(gone())) };
        let analysis = self.store.analysis(hook.token).await?;
        let (name, status) = match job.status {
            Status::Done => ("analysis.done", "done"),
            Status::Failed => ("analysis.failed", "failed"),
            _ => return Ok(Err(gone())),
        };
        let event = Event {
            r#type: name,
            timestamp: job.finished_at.unwrap_or(hook.created_at),
            data: EventData {
                token: hook.token,
                status,
                result: format!("{}/results/{}", self.settings.http.base_url(), hook.token),
                summary: analysis.as_ref().map(|analysis| &analysis.summary),
                error: job.failure.as_ref().map(|failure| EventError { code: &failure.code, detail: &failure.detail }),
            },
        };
        Ok(webhooks.send(hook.id, &hook.recipient, &event, self.clock.now()).await)
    }
}
