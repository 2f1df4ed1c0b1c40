//! Mails: whom they can reach ([`address`]), what they say ([`compose`]) and how they leave ([`transport`], over SMTP
//! [`smtp`]).

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

/// Why a mail was not taken. The text is for logs, never for clients, and holds no address.
#[derive(Debug, thiserror::Error)]
#[error("mail: {reason}")]
pub struct MailError {
    /// `Client`: the server refuses this address, and another try cannot help. `Ours`: no server took the message up.
    /// `Unclear`: the server put this message off.
    pub fault: Fault,
    pub reason: String,
}

/// Sends mails over the transport that the settings name. Cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    sender: Arc<Sender>,
    reporter: Reporter,
    transport: Arc<Transport>,
}

/// What every mail has in common.
struct Sender {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    product: String,
    /// The operator's; empty: ours, in the language of the reader.
    subject: String,
    failure_subject: String,
}

impl Sender {
    fn subject(&self, own: &str, key: &str, context: &Context) -> String {
        if own.is_empty() { Words(context.language).fill(key, &[("product", &self.product)]) } else { own.to_owned() }
    }
}

impl Mailer {
    /// `None` where mail is switched off. An SMTP server is not called before the first mail.
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

    /// Composes and sends one mail. `id` makes its Message-ID, the same in every try, and `context` its date. Over SMTP
    /// it returns after four times `mail.smtp.timeout_s` at the latest.
    pub async fn send(
        &self,
        id: Uuid,
        recipient: &str,
        message: Message<'_>,
        context: &Context,
    ) -> Result<(), MailError> {
        let to = sendable(recipient).map_err(|error| MailError {
            fault: Fault::Client,
            reason: format!("the address cannot be used: {error}"),
        })?;
        let broken = |error: ReportError| MailError { fault: Fault::Unclear, reason: error.to_string() };
        let draft = compose::draft(&self.reporter.brand, &self.sender, id, message, context).map_err(broken)?;
        let (sender, address) = (Arc::clone(&self.sender), to.clone());
        // Drawing pictures is work for a thread of its own.
        let mail = tokio::task::spawn_blocking(move || draft.into_mail(&sender, Mailbox::new(None, address)))
            .await
            .map_err(|error| MailError { fault: Fault::Unclear, reason: format!("composing was cut short: {error}") })?
            .map_err(broken)?;
        self.transport.send(id, &to, mail).await
    }

    /// One mail as it would leave.
    #[cfg(test)]
    pub fn compose(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Vec<u8> {
        let draft = compose::draft(&self.reporter.brand, &self.sender, id, message, context).unwrap();
        draft.into_mail(&self.sender, recipient.parse().unwrap()).unwrap().formatted()
    }

    /// Whether the transport answers now: the folder can be written, or the server lets us in.
    pub async fn check(&self) -> Result<(), MailError> {
        self.transport.check().await
    }
}
