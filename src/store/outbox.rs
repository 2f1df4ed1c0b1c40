//! The tables `outbox` and `batch_outbox`: one row for each message, a mail or a webhook. A message is sent at least once,
//! under a fixed id. A message of `outbox` is about a job, and one of `batch_outbox` about a batch.
//!
//! A message is sent twice only if the process dies after the server accepted it and before that is recorded. The
//! Message-ID is the same both times.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use uuid::Uuid;

use super::{Claim, Store, StoreError, Wake, after, millis, time, trace, uuid};
use crate::telemetry::trace::TraceContext;

/// A message to queue in the transaction that ends a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMail {
    /// Also the left part of the Message-ID, the same in every attempt.
    pub id: Uuid,
    pub recipient: String,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    /// A mail with the report.
    Report,
    /// A mail that says that the job failed.
    Failure,
    /// A mail that asks its recipient to confirm the address.
    Confirm,
    /// An HTTP request that tells a program how the job ended.
    Webhook,
    /// An HTTP request that tells a program how the batch ended.
    Batch,
}

impl MailKind {
    /// The name in the database and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Failure => "failure",
            Self::Confirm => "confirm",
            Self::Webhook => "webhook",
            Self::Batch => "batch",
        }
    }

    /// The table of its messages.
    const fn table(self) -> &'static str {
        match self {
            Self::Report | Self::Failure | Self::Confirm | Self::Webhook => "outbox",
            Self::Batch => "batch_outbox",
        }
    }

    fn from_stored(text: &str) -> Result<Self, StoreError> {
        match text {
            "report" => Ok(Self::Report),
            "failure" => Ok(Self::Failure),
            "confirm" => Ok(Self::Confirm),
            "webhook" => Ok(Self::Webhook),
            "batch" => Ok(Self::Batch),
            other => Err(StoreError::Corrupt { what: "kind of mail", reason: format!("{other:?} is not known") }),
        }
    }
}

/// A message claimed by this process.
#[derive(Debug, Clone)]
pub struct OutgoingMail {
    pub id: Uuid,
    /// The token of its job, or the id of its batch.
    pub token: Uuid,
    /// Identifies its job or its batch in logs.
    pub job: i64,
    /// Id of the request that sent the video.
    pub request_id: Option<String>,
    /// The span that queued the job or the batch.
    pub trace: Option<TraceContext>,
    pub kind: MailKind,
    pub recipient: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    pub created_at: Timestamp,
    /// The pseudonym of a recipient who must consent.
    pub consent: Option<String>,
}

/// A message that was not accepted, for the operator's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedMessage {
    pub id: Uuid,
    /// The token of its job, or the id of its batch.
    pub token: Uuid,
    pub kind: MailKind,
    /// Whether it was given up. Otherwise it will be tried again.
    pub is_given_up: bool,
    pub attempts: u32,
    /// The reason of the last failure.
    pub error: String,
    pub created_at: Timestamp,
    /// When it was given up, or when it is tried again.
    pub run_at: Timestamp,
    /// Whether the recipient is still stored, so that the message can be sent again.
    pub has_recipient: bool,
}

/// The result of a request to send a message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    Queued,
    /// Its recipient has been erased.
    NoRecipient,
    /// It was sent, or has not been tried yet.
    NotFailed,
    /// There is no such message.
    Unknown,
}

/// Inserts messages within the transaction that queues or ends their job. A recipient listed twice gets one message.
/// The messages wait until the recipient with the pseudonym `consent` has confirmed, unless they ask for that.
pub(super) async fn put(
    connection: &mut AnyConnection,
    token: Uuid,
    kind: MailKind,
    mails: &[NewMail],
    consent: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for mail in mails {
        sqlx::query(
            "INSERT INTO outbox (id, token, kind, recipient, status, run_at, attempts, created_at, consent) \
             VALUES ($1, $2, $3, $4, 'queued', $5, 0, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(mail.id.to_string())
        .bind(token.to_string())
        .bind(kind.name())
        .bind(&mail.recipient)
        .bind(millis(now))
        .bind(consent)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Inserts the webhook message of a job, if it has a webhook, within the transaction that ends the job.
pub(super) async fn put_webhook(
    connection: &mut AnyConnection,
    claim: &Claim,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(url) = &claim.webhook else { return Ok(()) };
    let id = webhook_id(&claim.token.to_string());
    put(connection, claim.token, MailKind::Webhook, &[NewMail { id, recipient: url.clone() }], None, now).await
}

/// Inserts the webhook message of a batch within the transaction that ends the batch.
pub(super) async fn put_batch_webhook(
    connection: &mut AnyConnection,
    batch: &str,
    url: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO batch_outbox (id, batch, recipient, status, run_at, attempts, created_at) \
         VALUES ($1, $2, $3, 'queued', $4, 0, $4) ON CONFLICT DO NOTHING",
    )
    .bind(webhook_id(batch).to_string())
    .bind(batch)
    .bind(url)
    .bind(millis(now))
    .execute(connection)
    .await?;
    Ok(())
}

/// The id of the webhook of a job or batch, which has only one. It is a hash, since ids are logged and tokens must not
/// be.
fn webhook_id(token: &str) -> Uuid {
    let digest = Sha256::digest(format!("webhook {token}"));
    digest.first_chunk::<16>().map_or(Uuid::nil(), |bytes| Uuid::from_bytes(*bytes))
}

/// The conditions on `kind` for claims of mails and of webhooks.
const MAILS: &str = "kind IN ('report', 'failure', 'confirm') AND (consent IS NULL OR kind = 'confirm' OR EXISTS \
                     (SELECT 1 FROM mail_consents WHERE address = outbox.consent AND confirmed_at IS NOT NULL))";
const WEBHOOKS: &str = "kind = 'webhook'";

/// The tables of messages.
const TABLES: [&str; 2] = ["outbox", "batch_outbox"];

impl Store {
    /// Like [`Store::claim_mail`], for webhooks.
    pub async fn claim_webhook(&self, now: Timestamp, lease: Duration) -> Result<Option<OutgoingMail>, StoreError> {
        match self.claim_message(WEBHOOKS, now, lease).await? {
            None => self.claim_batch_webhook(now, lease).await,
            hook => Ok(hook),
        }
    }

    async fn claim_batch_webhook(&self, now: Timestamp, lease: Duration) -> Result<Option<OutgoingMail>, StoreError> {
        // Most of the time there is none. A look at an index then spares an attempt to write.
        let due = sqlx::query("SELECT id FROM batch_outbox WHERE status = 'queued' AND run_at <= $1 LIMIT 1");
        if due.bind(millis(now)).fetch_optional(self.pool()).await?.is_none() {
            return Ok(None);
        }
        let sql = format!(
            "UPDATE batch_outbox SET run_at = $2, attempts = attempts + 1 \
             WHERE id = (SELECT id FROM batch_outbox WHERE status = 'queued' AND run_at <= $1 \
                         ORDER BY run_at, id LIMIT 1{skip_locked}) \
             RETURNING id, batch AS token, 'batch' AS kind, recipient, attempts, created_at, \
                       CAST(NULL AS TEXT) AS consent, \
                       (SELECT number FROM batches WHERE batches.id = batch_outbox.batch) AS job, \
                       (SELECT request_id FROM batches WHERE batches.id = batch_outbox.batch) AS request_id, \
                       (SELECT trace FROM batches WHERE batches.id = batch_outbox.batch) AS trace",
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(millis(now))
            .bind(millis(after(now, lease)))
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Claims the mail that has been due for longest. It becomes due again at `now + lease` unless the result is
    /// recorded before, so an attempt must not take longer than `lease`.
    pub async fn claim_mail(&self, now: Timestamp, lease: Duration) -> Result<Option<OutgoingMail>, StoreError> {
        self.claim_message(MAILS, now, lease).await
    }

    async fn claim_message(
        &self,
        kinds: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<OutgoingMail>, StoreError> {
        let sql = format!(
            "UPDATE outbox SET run_at = $2, attempts = attempts + 1 \
             WHERE id = (SELECT id FROM outbox WHERE status = 'queued' AND run_at <= $1 AND {kinds} \
                         ORDER BY run_at, id LIMIT 1{skip_locked}) \
             RETURNING id, token, kind, recipient, attempts, created_at, consent, \
                       (SELECT jobs.id FROM jobs WHERE jobs.token = outbox.token) AS job, \
                       (SELECT request_id FROM jobs WHERE jobs.token = outbox.token) AS request_id, \
                       (SELECT trace FROM jobs WHERE jobs.token = outbox.token) AS trace",
            skip_locked = self.dialect().skip_locked,
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(millis(now))
            .bind(millis(after(now, lease)))
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Records that the server accepted the message, and erases the recipient. Also valid after the lease has run out.
    pub async fn mail_sent(&self, mail: &OutgoingMail, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE {} SET status = 'sent', recipient = NULL, last_error = NULL, sent_at = $2 WHERE id = $1",
            mail.kind.table()
        )))
        .bind(mail.id.to_string())
        .bind(millis(now))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records that the attempt failed; the next one is due at `due`. An attempt that is not `counted` is taken off the
    /// number of attempts. Changes nothing if a later attempt has begun.
    pub async fn mail_failed(
        &self,
        mail: &OutgoingMail,
        reason: &str,
        due: Timestamp,
        counted: bool,
    ) -> Result<(), StoreError> {
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE {} SET run_at = $3, last_error = $4, attempts = attempts - $5 \
             WHERE id = $1 AND attempts = $2 AND status = 'queued'",
            mail.kind.table()
        )))
        .bind(mail.id.to_string())
        .bind(i64::from(mail.attempt))
        .bind(millis(due))
        .bind(reason)
        .bind(i64::from(!counted))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Marks the message as undeliverable (a dead letter) at `now`. [`Store::forget_recipients`] erases the recipient
    /// later. Changes nothing if a later attempt has begun.
    pub async fn mail_given_up(&self, mail: &OutgoingMail, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE {} SET status = 'dead', run_at = $4, last_error = $3 \
             WHERE id = $1 AND attempts = $2 AND status = 'queued'",
            mail.kind.table()
        )))
        .bind(mail.id.to_string())
        .bind(i64::from(mail.attempt))
        .bind(reason)
        .bind(millis(now))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Erases the recipients of messages that were given up by `given_up_by`. Returns their number. They cannot be sent
    /// again.
    pub async fn forget_recipients(&self, given_up_by: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for table in TABLES {
            let sql = format!(
                "UPDATE {table} SET recipient = NULL WHERE status = 'dead' AND run_at <= $1 AND recipient IS NOT NULL"
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(millis(given_up_by));
            forgotten += query.execute(self.pool()).await?.rows_affected();
        }
        Ok(forgotten)
    }

    /// Returns messages that were given up, the last ones first, then those that failed and are tried again, the next
    /// ones first; at most `limit` of each.
    pub async fn failed_messages(&self, limit: u32) -> Result<Vec<FailedMessage>, StoreError> {
        // The messages of both tables.
        let all = "(SELECT id, token, kind, status, attempts, last_error, created_at, run_at, recipient FROM outbox \
                    UNION ALL \
                    SELECT id, batch AS token, 'batch' AS kind, status, attempts, last_error, created_at, run_at, \
                           recipient FROM batch_outbox) AS messages";
        let columns = "id, token, kind, status, attempts, last_error, created_at, run_at, \
                       CASE WHEN recipient IS NULL THEN 0 ELSE 1 END AS has_recipient";
        let mut messages = Vec::new();
        for rest in [
            "WHERE status = 'dead' ORDER BY run_at DESC, id LIMIT $1",
            "WHERE status = 'queued' AND last_error IS NOT NULL ORDER BY run_at, id LIMIT $1",
        ] {
            let sql = format!("SELECT {columns} FROM {all} {rest}");
            let rows = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(limit)).fetch_all(self.pool()).await?;
            for row in &rows {
                let (attempts, has_recipient): (i64, i32) = (row.try_get("attempts")?, row.try_get("has_recipient")?);
                messages.push(FailedMessage {
                    id: uuid(row.try_get("id")?)?,
                    token: uuid(row.try_get("token")?)?,
                    kind: MailKind::from_stored(row.try_get("kind")?)?,
                    is_given_up: row.try_get::<&str, _>("status")? == "dead",
                    attempts: u32::try_from(attempts).unwrap_or_default(),
                    error: row.try_get::<Option<String>, _>("last_error")?.unwrap_or_default(),
                    created_at: time(row.try_get("created_at")?)?,
                    run_at: time(row.try_get("run_at")?)?,
                    has_recipient: has_recipient == 1,
                });
            }
        }
        Ok(messages)
    }

    /// Queues a message that was given up, or that waits for another attempt, to be sent at once. Its attempts start
    /// again at 0.
    pub async fn resend(&self, id: Uuid, now: Timestamp) -> Result<Resent, StoreError> {
        self.within(self.resend_now(id, now)).await
    }

    async fn resend_now(&self, id: Uuid, now: Timestamp) -> Result<Resent, StoreError> {
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for table in TABLES {
            let sql = format!(
                "UPDATE {table} SET status = 'queued', run_at = $2, attempts = 0 \
                 WHERE id = $1 AND recipient IS NOT NULL \
                   AND (status = 'dead' OR status = 'queued' AND last_error IS NOT NULL)"
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).bind(millis(now));
            changed += query.execute(&mut *tx).await?.rows_affected();
        }
        if changed > 0 {
            self.commit(tx, &[Wake::Mail]).await?;
            return Ok(Resent::Queued);
        }
        drop(tx);
        let row = sqlx::query(
            "SELECT status FROM outbox WHERE id = $1 UNION ALL SELECT status FROM batch_outbox WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(self.pool())
        .await?;
        let status = row.map(|row| row.try_get::<String, _>("status")).transpose()?;
        Ok(match status.as_deref() {
            None => Resent::Unknown,
            Some("dead") => Resent::NoRecipient,
            Some(_) => Resent::NotFailed,
        })
    }
}

fn from_row(row: &AnyRow) -> Result<OutgoingMail, StoreError> {
    let attempts: i64 = row.try_get("attempts")?;
    Ok(OutgoingMail {
        id: uuid(row.try_get("id")?)?,
        token: uuid(row.try_get("token")?)?,
        job: row.try_get("job")?,
        request_id: row.try_get("request_id")?,
        trace: trace(row)?,
        kind: MailKind::from_stored(row.try_get("kind")?)?,
        recipient: row.try_get("recipient")?,
        attempt: u32::try_from(attempts).unwrap_or_default(),
        created_at: time(row.try_get("created_at")?)?,
        consent: row.try_get("consent")?,
    })
}
