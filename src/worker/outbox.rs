//! Sends the mails that wait in the outbox. A mail server that is down delays mails and fails no job.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Worker;
use super::backoff::backoff;
use super::delivery::Tries;
use crate::report::{Context, MailError, Mailer, Message};
use crate::store::{MailKind, OutgoingMail, StoreError};

/// How often it is tried to record that a mail was sent, before it would be sent again.
const RECORD_TRIES: u32 = 6;

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
    /// Sends the mail that has been due for longest; `false` if there is none.
    pub(super) async fn send_next_mail(&self, post: &Arc<dyn Post>) -> Result<bool, StoreError> {
        let mail_settings = &self.settings.mail;
        // Longer than any try that gets an answer: a command to the server waits for `timeout_s`, and there are a few.
        let limit = Duration::from_secs(mail_settings.smtp.timeout_s.saturating_mul(5).max(5));
        let lease = limit.saturating_mul(5) / 4;
        let Some(mail) = self.store.claim_mail(self.clock.now(), lease).await? else {
            return Ok(false);
        };
        let tries = Tries {
            most: mail_settings.max_attempts,
            backoff_base_s: mail_settings.backoff_base_s,
            backoff_max_s: mail_settings.backoff_max_s,
        };
        if mail.attempt > tries.most {
            self.not_taken(&mail, true, "the process died in the last try", &tries).await?;
            return Ok(true);
        }
        let failed = match tokio::time::timeout(limit, self.try_to_send(&mail, post)).await {
            Ok(sent) => match sent? {
                Ok(()) => {
                    self.record_sent(&mail).await?;
                    tracing::info!(mail = %mail.id, attempt = mail.attempt, "mail sent");
                    return Ok(true);
                }
                Err(failed) => failed,
            },
            Err(_) => transient(format!("no answer within {} s", limit.as_secs())),
        };
        self.not_taken(&mail, failed.permanent, &failed.reason, &tries).await?;
        Ok(true)
    }

    /// One try. The outer error is the database's, the inner one the mail's.
    async fn try_to_send(
        &self,
        mail: &OutgoingMail,
        post: &Arc<dyn Post>,
    ) -> Result<Result<(), MailError>, StoreError> {
        let gone = || Err(MailError { permanent: true, reason: "what it was to tell is gone".to_owned() });
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
                (MailKind::Failure, _, Some(failure)) => Message::Failure { detail: &failure.detail },
                _ => return gone(),
            };
            post.send(id, &recipient, message, &context).await
        }));
        Ok(sending.await.unwrap_or_else(|_| Err(transient("making or sending it broke off".to_owned()))))
    }

    /// A mail that is not recorded is sent again: worth some patience with a database that does not answer.
    async fn record_sent(&self, mail: &OutgoingMail) -> Result<(), StoreError> {
        for tried in 1..RECORD_TRIES {
            match self.store.mail_sent(mail, self.clock.now()).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(mail = %mail.id, %error, "that it was sent cannot be recorded yet"),
            }
            tokio::time::sleep(backoff(tried, Duration::from_millis(250), Duration::from_secs(5))).await;
        }
        self.store.mail_sent(mail, self.clock.now()).await
    }
}

fn transient(reason: String) -> MailError {
    MailError { permanent: false, reason }
}
