//! A mail server, and an idle connection to it.
//!
//! This module makes each step of a session itself instead of using lettre's pool, because it must know which step the
//! server refuses. A refusal before the mail itself (greeting, EHLO, STARTTLS, login) says nothing about the mail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lettre::address::Envelope;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use parking_lot::Mutex;

use super::helo;
use crate::config::{Changeable, Secret, Smtp, SmtpSecurity};
use crate::report::ReportError;

/// How long an idle connection is kept open for the next mail.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// How the connection is encrypted.
enum Security {
    None,
    /// STARTTLS is required. If the server does not offer it, or an attacker hides the offer, no mail is sent.
    Starttls(TlsParameters),
    Tls(TlsParameters),
}

pub struct Server {
    host: String,
    port: u16,
    security: Security,
    username: Changeable<String>,
    password: Changeable<Secret>,
    timeout: Duration,
    kept: Arc<Mutex<Option<IdleConnection>>>,
}

/// An open connection that is not in use.
struct IdleConnection {
    connection: AsyncSmtpConnection,
    since: Instant,
}

/// The error of an exchange with the server.
pub enum SmtpFailure {
    /// There is no connection, or the server refused the session. The mail was not offered.
    Session(SmtpError),
    /// The server refused the mail, or the transfer failed.
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
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            security,
            username: settings.username.clone(),
            password: settings.password.clone(),
            timeout: Duration::from_secs(settings.timeout_s),
            kept: Arc::default(),
        })
    }

    /// Sends one mail. An exchange that takes longer than four timeouts is given up. Its connection is closed, since a
    /// late answer on it would be read as the answer to the next mail.
    pub async fn send(&self, envelope: &Envelope, mail: &[u8]) -> Result<(), SmtpFailure> {
        // Boxed, since the future is large.
        let exchange = Box::pin(async {
            let mut connection = self.connection().await.map_err(SmtpFailure::Session)?;
            connection.send(envelope, mail).await.map_err(SmtpFailure::Mail)?;
            self.keep(connection);
            Ok(())
        });
        self.within(exchange).await
    }

    /// Opens a session, unless one is open.
    pub async fn check(&self) -> Result<(), SmtpFailure> {
        let exchange = Box::pin(async {
            let connection = self.connection().await.map_err(SmtpFailure::Session)?;
            self.keep(connection);
            Ok(())
        });
        self.within(exchange).await
    }

    async fn within(&self, exchange: impl Future<Output = Result<(), SmtpFailure>>) -> Result<(), SmtpFailure> {
        let limit = 4 * self.timeout;
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(SmtpFailure::TooLong(limit)))
    }

    /// Returns the idle connection if the server still answers on it, otherwise a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        if let Some(mut kept) = take(&self.kept, |_| true) {
            if kept.since.elapsed() < IDLE_TIME && kept.connection.test_connected().await {
                return Ok(kept.connection);
            }
            kept.connection.abort().await;
        }
        let name = ClientId::default();
        let mut connection = match &self.security {
            Security::Tls(tls) => self.connect(&name, Some(tls.clone())).await?,
            Security::None => match self.connect(&name, None).await {
                Err(error) if error.is_permanent() => {
                    // If the server refused with its greeting, HELO fails too and the first error is returned.
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
        let (username, password) = (self.username.get(), self.password.get());
        if !username.is_empty() {
            let credentials = Credentials::new((*username).clone(), password.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    async fn connect(&self, name: &ClientId, tls: Option<TlsParameters>) -> Result<AsyncSmtpConnection, SmtpError> {
        AsyncSmtpConnection::connect_tokio1((self.host.as_str(), self.port), Some(self.timeout), name, tls, None).await
    }

    /// Keeps a connection for the next mail. Closes it after [`IDLE_TIME`] if it is not used.
    fn keep(&self, connection: AsyncSmtpConnection) {
        let since = Instant::now();
        *self.kept.lock() = Some(IdleConnection { connection, since });
        let kept = Arc::downgrade(&self.kept);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_TIME).await;
            let Some(kept) = kept.upgrade() else { return };
            if let Some(mut old) = take(&kept, |kept| kept.since == since) {
                old.connection.abort().await;
            }
        });
    }
}

/// Takes the idle connection if `is_meant` accepts it.
fn take(
    kept: &Mutex<Option<IdleConnection>>,
    is_meant: impl FnOnce(&IdleConnection) -> bool,
) -> Option<IdleConnection> {
    let mut kept = kept.lock();
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
