//! Sends the mails of the outbox. If the mail server is down, mails are delayed and no job fails.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::Worker;
use super::delivery::{RetryPolicy, SendResult, message_span};
use super::mail_sender::MailSender;
use crate::confirmation::{self, Confirmation, Withdrawal};
use crate::fault::{Fault, Part};
use crate::report::{Context, MailError, Message};
use crate::share::{self, ShareLinks};
use crate::store::{Job, MailKind, OutgoingMail, StoreError};

impl Worker {
    /// Sends the mail that has been due for longest.
    pub(super) async fn send_next_mail(
        &self,
        sender: &Arc<dyn MailSender>,
        stop: &CancellationToken,
    ) -> Result<SendResult, StoreError> {
        let mail_settings = &self.settings.mail;
        // Longer than any attempt that gets an answer: each of a few commands to the server waits for `timeout_s`.
        let limit = Duration::from_secs(mail_settings.smtp.timeout_s.saturating_mul(5).max(5));
        let lease = limit.saturating_mul(5) / 4;
        let Some(mail) = self.store.claim_mail(self.clock.now(), lease).await? else {
            return Ok(SendResult::NoMessage);
        };
        let span = message_span(&mail);
        self.send_mail(&mail, limit, sender, stop).instrument(span).await
    }

    /// Makes one attempt within the time limit, and records its result.
    async fn send_mail(
        &self,
        mail: &OutgoingMail,
        limit: Duration,
        sender: &Arc<dyn MailSender>,
        stop: &CancellationToken,
    ) -> Result<SendResult, StoreError> {
        let mail_settings = &self.settings.mail;
        let policy = RetryPolicy::of_mails(
            mail_settings.max_attempts,
            mail_settings.backoff_base_s,
            mail_settings.backoff_max_s,
        );
        if mail.attempt > policy.max_attempts {
            return self
                .record_failure(mail, Fault::Unclear, "the process died during the last attempt", &policy)
                .await;
        }
        let failed = match tokio::time::timeout(limit, self.try_to_send(mail, sender)).await {
            Ok(sent) => match sent? {
                Ok(()) => {
                    self.record_sent(mail, stop).await?;
                    tracing::info!("mail sent");
                    return Ok(SendResult::Answered);
                }
                Err(failed) => failed,
            },
            Err(_) => {
                let reason = format!("no answer within {} s", limit.as_secs());
                MailError { fault: Fault::Ours(Part::Mail), reason }
            }
        };
        self.record_failure(mail, failed.fault, &failed.reason, &policy).await
    }

    /// The address of a result for its recipients. If a key is needed to see it, the address is a share link, because
    /// recipients have no key. It is the same in each attempt.
    async fn result_address(&self, job: &Job) -> Result<String, StoreError> {
        let settings = &self.settings;
        if !settings.auth.required && job.owner.is_none() {
            return Ok(format!("{}/results/{}", settings.http.base_url(), job.token));
        }
        let expires_at = share::expiry(settings, job.finished_at.unwrap_or(job.created_at));
        // An erased job gets no mail, so the link of a missing id is never sent.
        let id = self.store.share_id(job.token, self.tokens.next()).await?.unwrap_or_default();
        let share = ShareLinks::new(settings, &self.store).await?.sign(id, expires_at);
        Ok(share::address(settings, id, &share))
    }

    /// Makes one attempt. The outer error is of the database, the inner one of the mail.
    async fn try_to_send(
        &self,
        mail: &OutgoingMail,
        sender: &Arc<dyn MailSender>,
    ) -> Result<Result<(), MailError>, StoreError> {
        let gone =
            || Err(MailError { fault: Fault::Client, reason: "there is no outcome to report any more".to_owned() });
        let Some(job) = self.store.job(mail.token).await? else { return Ok(gone()) };
        let findings = match mail.kind {
            MailKind::Report => self.store.findings(mail.token).await?,
            MailKind::Failure | MailKind::Confirm | MailKind::Webhook | MailKind::Batch => None,
        };
        let base = self.settings.http.base_url();
        let language = job.options.language.unwrap_or_default();
        let secret = self.store.secret().await?;
        // A question that an older version queued has no pseudonym.
        let asked = (mail.kind == MailKind::Confirm).then(|| confirmation::pseudonym(secret, &mail.recipient));
        let (confirm_url, withdraw_url) = match mail.consent.clone().or(asked) {
            Some(address) => {
                let expires = confirmation::expiry(&self.settings, mail.created_at);
                let confirm = Confirmation::new(secret, address.clone(), expires).link(&base, language);
                (confirm, Some(Withdrawal::new(secret, address.clone()).link(&base, language)))
            }
            None => (String::new(), None),
        };
        let context = Context {
            token: mail.token,
            created_at: job.created_at,
            language,
            file_name: job.file_name.clone(),
            result_url: Some(self.result_address(&job).await?),
            withdraw_url,
            notice: job.notice.clone(),
        };
        let (sender, id, recipient, kind) = (sender.clone(), mail.id, mail.recipient.clone(), mail.kind);
        // Runs in a task of its own, so that a panic in the renderer does not end the delivery of all other mails.
        let sending = async move {
            let message = match (kind, &findings, &job.failure) {
                (MailKind::Confirm, ..) => Message::Confirm { url: &confirm_url },
                (MailKind::Report, Some(findings), _) => Message::Report(findings),
                (MailKind::Failure, _, Some(failure)) => {
                    Message::Failure { reason: failure.reason.as_ref(), detail: &failure.detail }
                }
                _ => return gone(),
            };
            sender.send(id, &recipient, message, &context).await
        };
        let sending = AbortOnDropHandle::new(tokio::spawn(sending.in_current_span()));
        let panicked = "composing or sending the mail panicked".to_owned();
        Ok(sending.await.unwrap_or(Err(MailError { fault: Fault::Unclear, reason: panicked })))
    }
}
