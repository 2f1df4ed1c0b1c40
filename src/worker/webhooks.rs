//! Sends the webhooks that wait in the outbox.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use super::delivery::{Sent, Tries};
use crate::fault::Fault;
use crate::report::webhook::{Event, EventData, EventError, WebhookError, Webhooks};
use crate::store::{OutgoingMail, Status, StoreError};

impl Worker {
    /// Sends the webhook that has been due for longest.
    pub(super) async fn send_next_webhook(
        &self,
        webhooks: &Webhooks,
        stop: &CancellationToken,
    ) -> Result<Sent, StoreError> {
        let settings = &self.settings.webhooks;
        let lease = Duration::from_secs(settings.timeout_s.saturating_mul(2).max(10));
        let Some(hook) = self.store.claim_webhook(self.clock.now(), lease).await? else { return Ok(Sent::NoMessage) };
        let tries = Tries::of_webhooks(settings.max_attempts, settings.backoff_base_s, settings.backoff_max_s);
        let sent = if hook.attempt > tries.most {
            Err(WebhookError { fault: Fault::Unclear, reason: "the process died in the last try".to_owned() })
        } else {
            self.try_webhook(&hook, webhooks).await?
        };
        let Err(failed) = sent else {
            self.record_sent(&hook, stop).await?;
            tracing::info!(webhook = %hook.id, attempt = hook.attempt, "webhook sent");
            return Ok(Sent::Answered);
        };
        self.not_taken(&hook, failed.fault, &failed.reason, &tries).await
    }

    /// One try. The outer error is the database's, the inner one the webhook's.
    async fn try_webhook(
        &self,
        hook: &OutgoingMail,
        webhooks: &Webhooks,
    ) -> Result<Result<(), WebhookError>, StoreError> {
        let gone = || WebhookError { fault: Fault::Client, reason: "what it was to tell is gone".to_owned() };
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
