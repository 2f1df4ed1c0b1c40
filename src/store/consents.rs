//! The table `mail_consents`: which recipients have confirmed that they want mails about videos that were sent without
//! a key. [`crate::confirmation`] explains the purpose.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::AnyConnection;
use uuid::Uuid;

use super::outbox;
use super::{MailKind, NewJob, NewMail, Store, StoreError, Wake, millis};

/// How long an address gets no second confirmation mail, however many videos name it.
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// Queues a confirmation mail to the recipients of a new job, within the transaction that queues the job. Does nothing
/// if the address with this pseudonym has confirmed or withdrawn, or was asked a short time ago.
pub(super) async fn ask(tx: &mut AnyConnection, consent: &str, job: &NewJob, now: Timestamp) -> Result<(), StoreError> {
    let again = millis(now).saturating_sub(i64::try_from(ASK_AGAIN.as_millis()).unwrap_or(i64::MAX));
    let asked = sqlx::query(
        "INSERT INTO mail_consents (address, asked_at) VALUES ($1, $2) \
         ON CONFLICT (address) DO UPDATE SET asked_at = excluded.asked_at \
         WHERE mail_consents.confirmed_at IS NULL AND mail_consents.withdrawn_at IS NULL \
           AND mail_consents.asked_at <= $3",
    )
    .bind(consent)
    .bind(millis(now))
    .bind(again)
    .execute(&mut *tx)
    .await?;
    if asked.rows_affected() == 0 {
        return Ok(());
    }
    // An id that is derived from the token, since a job asks once. It is a hash, since ids are logged.
    let digest = Sha256::digest(format!("confirm {}", job.token));
    let id = digest.first_chunk::<16>().map_or(Uuid::nil(), |bytes| Uuid::from_bytes(*bytes));
    let mails: Vec<_> = job.recipients.iter().map(|to| NewMail { id, recipient: to.clone() }).collect();
    outbox::put(tx, job.token, MailKind::Confirm, &mails, Some(consent), now).await
}

impl Store {
    /// Records that the recipient with this pseudonym wants mails. The mails that wait are then due.
    pub async fn confirm_recipient(&self, address: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO mail_consents (address, asked_at, confirmed_at) VALUES ($1, $2, $2) \
             ON CONFLICT (address) DO UPDATE SET withdrawn_at = NULL, \
               confirmed_at = COALESCE(mail_consents.confirmed_at, excluded.confirmed_at)",
        )
        .bind(address)
        .bind(millis(now))
        .execute(self.pool())
        .await?;
        self.wake(Wake::Mail);
        Ok(())
    }

    /// Records that the recipient with this pseudonym wants no mails, and drops the mails that wait.
    pub async fn withdraw_recipient(&self, address: &str, now: Timestamp) -> Result<(), StoreError> {
        self.within(self.withdraw_recipient_now(address, now)).await
    }

    async fn withdraw_recipient_now(&self, address: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO mail_consents (address, asked_at, withdrawn_at) VALUES ($1, $2, $2) \
             ON CONFLICT (address) DO UPDATE SET confirmed_at = NULL, \
               withdrawn_at = COALESCE(mail_consents.withdrawn_at, excluded.withdrawn_at)",
        )
        .bind(address)
        .bind(millis(now))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE outbox SET status = 'dead', recipient = NULL, last_error = 'the recipient withdrew the consent' \
             WHERE status = 'queued' AND consent = $1",
        )
        .bind(address)
        .execute(&mut *tx)
        .await?;
        self.commit(tx, &[]).await
    }

    /// Whether the recipient with this pseudonym has withdrawn the consent.
    pub async fn has_withdrawn(&self, address: &str) -> Result<bool, StoreError> {
        let withdrawn = sqlx::query("SELECT 1 FROM mail_consents WHERE address = $1 AND withdrawn_at IS NOT NULL")
            .bind(address)
            .fetch_optional(self.pool())
            .await?;
        Ok(withdrawn.is_some())
    }

    /// Drops the mails queued by `before` whose recipients have not confirmed, and forgets who was asked by then.
    pub async fn forget_unconfirmed(&self, before: Timestamp) -> Result<u64, StoreError> {
        let dropped = sqlx::query(
            "UPDATE outbox SET status = 'dead', recipient = NULL, last_error = 'the recipient did not confirm' \
             WHERE status = 'queued' AND consent IS NOT NULL AND created_at <= $1 \
               AND NOT EXISTS (SELECT 1 FROM mail_consents WHERE address = outbox.consent AND confirmed_at IS NOT NULL)",
        )
        .bind(millis(before))
        .execute(self.pool())
        .await?;
        sqlx::query("DELETE FROM mail_consents WHERE confirmed_at IS NULL AND withdrawn_at IS NULL AND asked_at <= $1")
            .bind(millis(before))
            .execute(self.pool())
            .await?;
        Ok(dropped.rows_affected())
    }
}
