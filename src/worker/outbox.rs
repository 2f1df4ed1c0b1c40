//! Sends the mails that wait in the outbox. A mail server that is down delays mails and fails no job.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Worker;
use super::delivery::{Sent, Tries};
use crate::fault::{Fault, Part};
use crate::report::{Context, MailError, Mailer, Message};
use crate::store::{MailKind, OutgoingMail, StoreError};

/// Sends one mail. A trait, so that the way of a mail can be tested without a server.
#[async_trait]
pub trait Post: Send + Sync + 'static {
    /// Composes and sends one mail; `id` makes its Message-ID, the same in every try.
    async fn send(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Result<(), MailError>;
}

#[async_trait]
impl Post for Mailer {
    async fn send(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Result<(), MailError> {
        Self::send(self, id, recipient, message, context).await
    }
}

impl Worker {
    /// Sends the mail that has been due for longest.
    pub(super) async fn send_next_mail(
        &self,
        post: &Arc<dyn Post>,
        stop: &CancellationToken,
    ) -> Result<Sent, StoreError> {
        let mail_settings = &self.settings.mail;
        // Longer than any try that gets an answer: a command to the server waits for `timeout_s`, and there are a few.
        let limit = Duration::from_secs(mail_settings.smtp.timeout_s.saturating_mul(5).max(5));
        let lease = limit.saturating_mul(5) / 4;
        let Some(mail) = self.store.claim_mail(self.clock.now(), lease).await? else {
            return Ok(Sent::NoMessage);
        };
        let tries =
            Tries::of_mails(mail_settings.max_attempts, mail_settings.backoff_base_s, mail_settings.backoff_max_s);
        if mail.attempt > tries.most {
            return self.not_taken(&mail, Fault::Unclear, "the process died in the last try", &tries).await;
        }
        let failed = match tokio::time::timeout(limit, self.try_to_send(&mail, post)).await {
            Ok(sent) => match sent? {
                Ok(()) => {
                    self.record_sent(&mail, stop).await?;
                    tracing::info!(mail = %mail.id, attempt = mail.attempt, "mail sent");
                    return Ok(Sent::Answered);
                }
                Err(failed) => failed,
            },
            Err(_) => {
                let reason = format!("no answer within {} s", limit.as_secs());
                MailError { fault: Fault::Ours(Part::Mail), reason }
            }
        };
        self.not_taken(&mail, failed.fault, &failed.reason, &tries).await
    }

    /// One try. The outer error is the database's, the inner one the mail's.
    async fn try_to_send(
        &self,
        mail: &OutgoingMail,
        post: &Arc<dyn Post>,
    ) -> Result<Result<(), MailError>, StoreError> {
        let gone = || Err(MailError { fault: Fault::Client, reason: "what it was to tell is gone".to_owned() });
        let Some(job) = self.store.job(mail.token).await? else { return Ok(gone()) };
        let findings = match mail.kind {
            MailKind::Report => self.store.findings(mail.token).await?,
            MailKind::Failure | MailKind::Webhook => None,
        };
        let base = self.settings.http.base_url();
        let context = Context {
            token: mail.token,
            created_at: job.created_at,
            language: job.options.language.unwrap_or_default(),
            result_url: Some(format!("{base}/results/{}", mail.token)),
        };
        let (post, id, recipient, kind) = (post.clone(), mail.id, mail.recipient.clone(), mail.kind);
        // A task of its own, so that one mail on which the renderer breaks does not end the sending of all others.
        let sending = AbortOnDropHandle::new(tokio::spawn(async move {
            let message = match (kind, &findings, &job.failure) {
                (MailKind::Report, Some(findings), _) => Message::Report(findings),
                (MailKind::Failure, _, Some(failure)) => {
                    Message::Failure { reason: failure.reason.as_ref(), detail: &failure.detail }
                }
                _ => return gone(),
            };
            post.send(id, &recipient, message, &context).await
        }));
        let broke_off = "making or sending it broke off".to_owned();
        Ok(sending.await.unwrap_or(Err(MailError { fault: Fault::Unclear, reason: broke_off })))
    }
}
