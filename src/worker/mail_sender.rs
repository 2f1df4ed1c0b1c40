//! The sending of a mail, as a trait, so that tests need no mail server.

use async_trait::async_trait;
use uuid::Uuid;

use crate::report::{Context, MailError, Mailer, Message};

/// Sends mails.
#[async_trait]
pub trait MailSender: Send + Sync + 'static {
    /// Composes and sends one mail. Its Message-ID is made from `id` and is the same in every attempt.
    async fn send(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Result<(), MailError>;
}

#[async_trait]
impl MailSender for Mailer {
    async fn send(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Result<(), MailError> {
        Self::send(self, id, recipient, message, context).await
    }
}
