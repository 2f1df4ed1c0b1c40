//! Sends the webhooks that wait in the outbox.

use std::time::Duration;

use super::Worker;
use super::delivery::Tries;
use crate::report::webhook::{Event, EventData, EventError, WebhookError, Webhooks};
use crate::store::{OutgoingMail, Status, StoreError};

impl Worker {
    /// Sends the webhook that has been due for longest; `false` if there is none.
    pub(super) async fn send_next_webhook(&self, webhooks: &Webhooks) -> Result<bool, StoreError> {
        let settings = &self.settings.webhooks;
        let lease = Duration::from_secs(settings.timeout_s.saturating_mul(2).max(10));
        let Some(hook) = self.store.claim_webhook(self.clock.now(), lease).await? else { return Ok(false) };
        let tries = Tries {
            most: settings.max_attempts,
            backoff_base_s: settings.backoff_base_s,
            backoff_max_s: settings.backoff_max_s,
        };
        let sent = if hook.attempt > tries.most {
            Err(WebhookError { permanent: true, reason: "the process died in the last try".to_owned() })
        } else {
            self.try_webhook(&hook, webhooks).await?
        };
        let Err(failed) = sent else {
            self.store.mail_sent(&hook, self.clock.now()).await?;
            tracing::info!(webhook = %hook.id, attempt = hook.attempt, "webhook sent");
            return Ok(true);
        };
        self.not_taken(&hook, failed.permanent, &failed.reason, &tries).await?;
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
