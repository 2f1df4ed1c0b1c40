//! Sends the webhooks of the outbox.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Worker;
use super::delivery::{RetryPolicy, SendResult, message_span};
use crate::fault::Fault;
use crate::report::webhook::{
    BatchData, BatchEvent, BatchEventItem, BatchEventType, BatchItemOutcome, BatchOutcome, Event, EventData,
    EventError, EventStatus, EventType, WebhookError, Webhooks,
};
use crate::store::{BatchItem, ItemState, MailKind, OutgoingMail, Status, StoreError};

impl Worker {
    /// Sends the webhook that has been due for longest.
    pub(super) async fn send_next_webhook(
        &self,
        webhooks: &Webhooks,
        stop: &CancellationToken,
    ) -> Result<SendResult, StoreError> {
        let settings = &self.settings.webhooks;
        let lease = Duration::from_secs(settings.timeout_s.saturating_mul(2).max(10));
        let Some(hook) = self.store.claim_webhook(self.clock.now(), lease).await? else {
            return Ok(SendResult::NoMessage);
        };
        let span = message_span(&hook);
        self.send_webhook(&hook, webhooks, stop).instrument(span).await
    }

    /// Makes one attempt, and records its result.
    async fn send_webhook(
        &self,
        hook: &OutgoingMail,
        webhooks: &Webhooks,
        stop: &CancellationToken,
    ) -> Result<SendResult, StoreError> {
        let settings = &self.settings.webhooks;
        let policy = RetryPolicy::of_webhooks(settings.max_attempts, settings.backoff_base_s, settings.backoff_max_s);
        let sent = if hook.attempt > policy.max_attempts {
            Err(WebhookError { fault: Fault::Unclear, reason: "the process died during the last attempt".to_owned() })
        } else {
            match hook.kind {
                MailKind::Batch => self.try_batch_webhook(hook, webhooks).await?,
                _ => self.try_webhook(hook, webhooks).await?,
            }
        };
        let Err(failed) = sent else {
            self.record_sent(hook, stop).await?;
            tracing::info!("webhook sent");
            return Ok(SendResult::Answered);
        };
        self.record_failure(hook, failed.fault, &failed.reason, &policy).await
    }

    /// Makes one attempt. The outer error is of the database, the inner one of the webhook.
    async fn try_webhook(
        &self,
        hook: &OutgoingMail,
        webhooks: &Webhooks,
    ) -> Result<Result<(), WebhookError>, StoreError> {
        let Some(job) = self.store.job(hook.token).await? else { return Ok(Err(gone())) };
        let analysis = self.store.analysis(hook.token).await?;
        let (kind, status) = match job.status {
            Status::Done => (EventType::Done, EventStatus::Done),
            Status::Failed => (EventType::Failed, EventStatus::Failed),
            _ => return Ok(Err(gone())),
        };
        let event = Event {
            r#type: kind,
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

    /// Like [`Worker::try_webhook`], for the webhook of a batch.
    async fn try_batch_webhook(
        &self,
        hook: &OutgoingMail,
        webhooks: &Webhooks,
    ) -> Result<Result<(), WebhookError>, StoreError> {
        let Some(batch) = self.store.batch(hook.token).await? else { return Ok(Err(gone())) };
        let items = self.store.batch_items(hook.token).await?;
        let event = BatchEvent {
            r#type: BatchEventType::Ended,
            timestamp: batch.ended_at.unwrap_or(hook.created_at),
            data: BatchData {
                batch: batch.id,
                status: if batch.cancelled_at.is_some() { BatchOutcome::Cancelled } else { BatchOutcome::Ended },
                result: format!("{}/v1/batches/{}", self.settings.http.base_url(), batch.id),
                items: items.iter().enumerate().map(|(index, item)| event_item(index, item)).collect(),
            },
        };
        Ok(webhooks.send(hook.id, &hook.recipient, &event, self.clock.now()).await)
    }
}

fn gone() -> WebhookError {
    WebhookError { fault: Fault::Client, reason: "there is no outcome to report any more".to_owned() }
}

fn event_item(index: usize, item: &BatchItem) -> BatchEventItem<'_> {
    let status = match item.state {
        ItemState::Refused => BatchItemOutcome::Refused,
        ItemState::Cancelled | ItemState::Job(Status::Cancelled) => BatchItemOutcome::Cancelled,
        ItemState::Erased => BatchItemOutcome::Erased,
        ItemState::Job(Status::Queued) => BatchItemOutcome::Queued,
        ItemState::Job(Status::Running) => BatchItemOutcome::Running,
        ItemState::Job(Status::Done) => BatchItemOutcome::Done,
        ItemState::Job(Status::Failed) => BatchItemOutcome::Failed,
        ItemState::Job(Status::Expired) => BatchItemOutcome::Expired,
    };
    let refusal = item.refusal.as_ref().and_then(|refusal| {
        Some(EventError { code: refusal.get("code")?.as_str()?, detail: refusal.get("detail")?.as_str()? })
    });
    let failure = item.job.as_ref().and_then(|job| job.failure.as_ref());
    let failure = failure.map(|failure| EventError { code: &failure.code, detail: &failure.detail });
    BatchEventItem { index, token: item.token, status, error: refusal.or(failure) }
}
