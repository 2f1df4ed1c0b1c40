//! A mail server, and the open connection to it.
//!
//! The steps of a session are taken here one by one, and not by lettre's pool, because it matters which of them the server
//! refuses: a refusal before the mail itself (greeting, EHLO, STARTTLS, login) says nothing about the mail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::address::Envelope;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use super::helo;
use crate::config::{Smtp, SmtpSecurity};
use crate::report::ReportError;

/// An open connection is kept for the next mail this long.
const KEPT: Duration = Duration::from_secs(30);

/// How the connection is encrypted.
enum Security {
    None,
    /// Required: a server (or somebody on the way) that does not offer it gets no mail.
    Starttls(TlsParameters),
    Tls(TlsParameters),
}

pub struct Server {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    timeout: Duration,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// A connection on which nothing is under way.
struct Kept {
    connection: AsyncSmtpConnection,
    since: Instant,
}

/// How an exchange with the server ended without success.
pub enum Failure {
    /// Before the mail was offered: no connection, or a session that the server refused.
    Session(SmtpError),
    /// The mail was refused, or its transfer broke off.
    Mail(SmtpError),
    TooLong(Duration),
}

impl Server {
    pub fn new(settings: &Smtp) -> Result<Self, ReportError> {
        let security = match settings.security {
            SmtpSecurity::None => Security::None,
            SmtpSecurity::Starttls => Security::Starttls(tls(settings)?),
            SmtpSecurity::Tls => Security::Tls(tls(settings)?),
        };
        let credentials = (!settings.username.is_empty())
            .then(|| Credentials::new(settings.username.clone(), settings.password.expose().to_owned()));
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            security,
            credentials,
            timeout: Duration::from_secs(settings.timeout_s),
            kept: Arc::default(),
        })
    }

    /// Hands over one mail. An exchange that takes longer than four timeouts is given up, and its connection with it:
    /// the answer that is still to come would be taken for the answer to the next mail.
    pub async fn send(&self, envelope: &Envelope, mail: &[u8]) -> Result<(), Failure> {
        // Boxed: what lettre holds of a session is large.
        let exchange = Box::pin(async {
            let mut connection = self.connection().await.map_err(Failure::Session)?;
            connection.send(envelope, mail).await.map_err(Failure::Mail)?;
            self.keep(connection);
            Ok(())
        });
        self.within(exchange).await
    }

    /// Opens a session, where none is open.
    pub async fn check(&self) -> Result<(), Failure> {
        let exchange = Box::pin(async {
            let connection = self.connection().await.map_err(Failure::Session)?;
            self.keep(connection);
            Ok(())
        });
        self.within(exchange).await
    }

    async fn within(&self, exchange: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let patience = 4 * self.timeout;
        tokio::time::timeout(patience, exchange).await.unwrap_or(Err(Failure::TooLong(patience)))
    }

    /// The connection that was kept, if the server still answers on it, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        if let Some(mut kept) = take(&self.kept, |_| true) {
            if kept.since.elapsed() < KEPT && kept.connection.test_connected().await {
                return Ok(kept.connection);
            }
            kept.connection.abort().await;
        }
        let name = ClientId::default();
        let mut connection = match &self.security {
            Security::Tls(tls) => self.connect(&name, Some(tls.clone())).await?,
            Security::None => match self.connect(&name, None).await {
                Err(error) if error.is_permanent() => {
                    // Not where the greeting was the refusal: then HELO meets the same one.
                    helo::connect(&self.host, self.port, &name).await.map_err(|_| error)?
                }
                connection => connection?,
            },
            Security::Starttls(tls) => {
                let mut connection = self.connect(&name, None).await?;
                connection.starttls(tls.clone(), &name).await?;
                connection
            }
        };
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    async fn connect(&self, name: &ClientId, tls: Option<TlsParameters>) -> Result<AsyncSmtpConnection, SmtpError> {
        AsyncSmtpConnection::connect_tokio1((self.host.as_str(), self.port), Some(self.timeout), name, tls, None).await
    }

    /// Keeps a connection for the next mail, and ends it politely where none comes.
    fn keep(&self, connection: AsyncSmtpConnection) {
        let since = Instant::now();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept { connection, since });
        let kept = Arc::downgrade(&self.kept);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let Some(kept) = kept.upgrade() else { return };
            if let Some(mut old) = take(&kept, |kept| kept.since == since) {
                old.connection.abort().await;
            }
        });
    }
}

fn take(kept: &Mutex<Option<Kept>>, is_meant: impl FnOnce(&Kept) -> bool) -> Option<Kept> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.as_ref().is_some_and(is_meant) { kept.take() } else { None }
}

fn tls(settings: &Smtp) -> Result<TlsParameters, ReportError> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if !settings.ca_file.is_empty() {
        let refuse = |reason: String| ReportError::Mail { key: "smtp.ca_file", reason };
        let pem = std::fs::read(&settings.ca_file).map_err(|error| refuse(format!("{}: {error}", settings.ca_file)))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| refuse(error.to_string()))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|error| ReportError::Mail { key: "smtp.security", reason: error.to_string() })
}
