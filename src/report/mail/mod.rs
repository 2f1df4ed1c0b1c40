//! Mails: checks addresses ([`address`]), composes ([`compose`]) and sends ([`transport`], [`smtp`]).

mod address;
mod compose;
mod helo;
mod smtp;
mod transport;

use std::sync::Arc;

use lettre::message::Mailbox;
use uuid::Uuid;

use super::words::Words;
use super::{Context, Message, ReportError, Reporter};
use crate::config::{MailTransport, Settings};
use crate::fault::Fault;

pub use address::{Unsendable, sendable};
use transport::Transport;

/// The error of a mail that was not accepted. Its text is for logs, never for clients, and contains no address.
#[derive(Debug, thiserror::Error)]
#[error("mail: {reason}")]
pub struct MailError {
    /// `Client`: the server refuses this mail permanently. `Ours`: no server could be used. `Unclear`: the server
    /// refuses this mail for now, or it cannot be composed.
    pub fault: Fault,
    pub reason: String,
}

/// Sends mails over the transport of the settings. Cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    sender: Arc<Sender>,
    reporter: Reporter,
    transport: Arc<Transport>,
}

/// The sender and subjects of all mails.
struct Sender {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    product: String,
    /// The operator's subject. If empty, the default one in the language of the reader is used.
    subject: String,
    failure_subject: String,
}

impl Sender {
    /// Returns the operator's subject, or the default one. `{file}` is replaced by the name of the client's file, or by
    /// the product if that is not known, and `{headline}` by the headline of the result.
    fn subject(&self, own: &str, key: &str, headline: &str, context: &Context) -> String {
        let file = context.file_name.as_deref().unwrap_or(&self.product);
        let values = [("product", &*self.product), ("file", file), ("headline", headline)];
        if own.is_empty() {
            return Words(context.language).fill(key, &values);
        }
        // One pass, so that a file name with braces stays as it is.
        let mut text = own.replace("{headline}", "\u{1}").replace("{file}", "\u{2}");
        text = text.replace('\u{1}', headline).replace('\u{2}', file);
        text
    }
}

impl Mailer {
    /// Returns `None` if mail is switched off. Does not connect to the SMTP server.
    pub fn new(settings: &Settings, reporter: Reporter) -> Result<Option<Self>, ReportError> {
        let mail = &settings.mail;
        let transport = match mail.transport {
            MailTransport::None => return Ok(None),
            MailTransport::Outbox => Transport::outbox(mail.outbox.clone()),
            MailTransport::Smtp => Transport::smtp(&mail.smtp)?,
        };
        let mailbox = |key, text: &str| -> Result<Mailbox, ReportError> {
            let broken = |reason: String| ReportError::Mail { key, reason };
            let mailbox: Mailbox = text.parse().map_err(|error| broken(format!("{error}")))?;
            let email = sendable(mailbox.email.as_ref()).map_err(|error| broken(format!("the address is {error}")))?;
            Ok(Mailbox::new(mailbox.name, email))
        };
        let product = |text: &str| text.replace("{product}", &settings.report.product);
        let sender = Sender {
            from: mailbox("from", &mail.from)?,
            reply_to: if mail.reply_to.is_empty() { None } else { Some(mailbox("reply_to", &mail.reply_to)?) },
            product: settings.report.product.clone(),
            subject: product(&mail.subject),
            failure_subject: product(&mail.failure_subject),
        };
        Ok(Some(Self { sender: Arc::new(sender), reporter, transport: Arc::new(transport) }))
    }

    /// Composes and sends one mail. Its Message-ID is made from `id` and its date from `context`, so both are the same
    /// in every attempt. An exchange over SMTP ends after four times `mail.smtp.timeout_s` at the latest.
    pub async fn send(
        &self,
        id: Uuid,
        recipient: &str,
        message: Message<'_>,
        context: &Context,
    ) -> Result<(), MailError> {
        let to = sendable(recipient)
            .map_err(|error| MailError { fault: Fault::Client, reason: format!("the address is refused: {error}") })?;
        let broken = |error: ReportError| MailError { fault: Fault::Unclear, reason: error.to_string() };
        let draft = compose::draft(&self.reporter.brand, &self.reporter.notice, &self.sender, id, message, context)
            .map_err(broken)?;
        let mail = draft.into_mail(&self.sender, Mailbox::new(None, to.clone())).map_err(broken)?;
        self.transport.send(id, &to, mail).await
    }

    /// Returns the bytes of one mail.
    #[cfg(test)]
    pub fn compose(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Vec<u8> {
        let draft =
            compose::draft(&self.reporter.brand, &self.reporter.notice, &self.sender, id, message, context).unwrap();
        draft.into_mail(&self.sender, recipient.parse().unwrap()).unwrap().formatted()
    }

    /// Checks that the folder can be written, or that the server accepts a session.
    pub async fn check(&self) -> Result<(), MailError> {
        self.transport.check().await
    }
}
