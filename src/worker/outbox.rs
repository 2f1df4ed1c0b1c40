//! Sends what waits in the outbox. A mail server that is down delays mails and fails no job.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Worker;
use super::backoff::backoff;
use crate::report::{Context, MailError, Mailer, Message};
use crate::store::{MailKind, OutgoingMail, StoreError, Wake};

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

/// Sends due mails until `stop`; looks when a job ends, and every `queue.poll_s` for those that are due again.
pub(super) async fn run(worker: Worker, post: Arc<dyn Post>, stop: CancellationToken) {
    let poll = Duration::from_secs(worker.settings.queue.poll_s);
    let mut wakes = worker.store.subscribe();
    while !stop.is_cancelled() {
        match worker.send_next(&post).await {
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
    /// Sends the mail that has been due for longest; `false` if there is none.
    async fn send_next(&self, post: &Arc<dyn Post>) -> Result<bool, StoreError> {
        let mail_settings = &self.settings.mail;
        // Longer than any try that gets an answer: a command to the server waits for `timeout_s`, and there are a few.
        let limit = Duration::from_secs(mail_settings.smtp.timeout_s.saturating_mul(5).max(5));
        let lease = limit.saturating_mul(5) / 4;
        let Some(mail) = self.store.claim_mail(self.clock.now(), lease).await? else {
            return Ok(false);
        };
        if mail.attempt > mail_settings.max_attempts {
            self.give_up_mail(&mail, "the process died in the last try").await?;
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
        if failed.permanent || mail.attempt >= mail_settings.max_attempts {
            self.give_up_mail(&mail, &failed.reason).await?;
        } else {
            let base = Duration::from_secs(mail_settings.backoff_base_s);
            let wait = backoff(mail.attempt, base, Duration::from_secs(mail_settings.backoff_max_s));
            tracing::warn!(mail = %mail.id, attempt = mail.attempt, reason = failed.reason, "mail not sent yet");
            let due = self.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
            self.store.mail_failed(&mail, &failed.reason, due).await?;
        }
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
        let page = if mail.kind == MailKind::Report { "/report" } else { "" };
        let context = Context {
            token: mail.token,
            created_at: job.created_at,
            result_url: Some(format!("{base}/results/{}{page}", mail.token)),
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

    async fn give_up_mail(&self, mail: &OutgoingMail, reason: &str) -> Result<(), StoreError> {
        tracing::warn!(mail = %mail.id, attempt = mail.attempt, reason, "mail given up");
        self.store.mail_given_up(mail, reason).await
    }
}

fn transient(reason: String) -> MailError {
    MailError { permanent: false, reason }
}
