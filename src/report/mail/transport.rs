//! Sends mails over SMTP, or writes them into a folder.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use lettre::Address;
use uuid::Uuid;

use super::MailError;
use super::smtp::{Server, SmtpFailure};
use crate::config::Smtp;
use crate::fault::{Fault, Part};
use crate::report::ReportError;

pub enum Transport {
    Outbox(PathBuf),
    Smtp(Box<Server>),
}

impl Transport {
    pub fn outbox(folder: PathBuf) -> Self {
        Self::Outbox(folder)
    }

    pub fn smtp(settings: &Smtp) -> Result<Self, ReportError> {
        Ok(Self::Smtp(Box::new(Server::new(settings)?)))
    }

    /// Sends one mail.
    pub async fn send(&self, id: Uuid, to: &Address, mail: lettre::Message) -> Result<(), MailError> {
        match self {
            Self::Outbox(folder) => {
                let folder = folder.clone();
                in_background(move || put(&folder, id, &mail.formatted())).await
            }
            Self::Smtp(server) => {
                let sent = server.send(mail.envelope(), &mail.formatted()).await;
                sent.map_err(|error| error.into_mail_error(Some(to)))
            }
        }
    }

    pub async fn check(&self) -> Result<(), MailError> {
        match self {
            Self::Outbox(folder) => {
                let folder = folder.clone();
                in_background(move || {
                    make_folder(&folder)?;
                    tempfile_in(&folder, "check").map(|(path, _)| drop(std::fs::remove_file(path)))
                })
                .await
            }
            Self::Smtp(server) => server.check().await.map_err(|error| error.into_mail_error(None)),
        }
    }
}

impl SmtpFailure {
    fn into_mail_error(self, to: Option<&Address>) -> MailError {
        match self {
            Self::TooLong(limit) => temporary(format!("the exchange took longer than {} s", limit.as_secs())),
            // Temporary for every code: when the server accepts a session again, all mails can be sent.
            Self::Session(error) => temporary(redact(&error.to_string(), to)),
            Self::Mail(error) => {
                let code = error.status().map(u16::from);
                MailError { fault: fault(code), reason: redact(&error.to_string(), to) }
            }
        }
    }
}

/// Returns the fault for a reply code of the server; `None` means that there was no reply.
fn fault(code: Option<u16>) -> Fault {
    match code {
        // The server is shutting down, or the login is missing or wrong. When the operator has fixed that, all mails
        // can be sent.
        None | Some(421 | 454 | 530 | 534 | 535 | 538) => Fault::Ours(Part::Mail),
        // The server refuses this mail permanently.
        Some(500..600) => Fault::Client,
        Some(_) => Fault::Unclear,
    }
}

fn temporary(reason: String) -> MailError {
    MailError { fault: Fault::Ours(Part::Mail), reason }
}

/// Replaces every word that may contain a part of the address, since replies of servers often quote it.
fn redact(text: &str, to: Option<&Address>) -> String {
    let (user, domain) = to.map_or(("", ""), |to| (to.user(), to.domain()));
    let hides =
        |word: &str, part: &str| !part.is_empty() && word.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    let clean = |word: &str| {
        let reveals = word.contains('@') || hides(word, user) || hides(word, domain);
        if reveals { "[...]".to_owned() } else { word.to_owned() }
    };
    text.split_whitespace().map(clean).collect::<Vec<_>>().join(" ")
}

async fn in_background(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), MailError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| temporary(format!("the mail folder: {error}")))?
        .map_err(|error| temporary(format!("the mail folder: {error}")))
}

/// Writes a mail into the folder, under its id. The file appears complete or not at all. An existing file is kept.
fn put(folder: &Path, id: Uuid, mail: &[u8]) -> std::io::Result<()> {
    let path = folder.join(format!("{id}.eml"));
    if path.exists() {
        return Ok(());
    }
    make_folder(folder)?;
    let (written, mut file) = tempfile_in(folder, &id.to_string())?;
    file.write_all(mail)?;
    file.sync_all()?;
    std::fs::rename(written, path)
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Creates a file for this process. Only its user may read it, since mails contain addresses and results.
fn tempfile_in(folder: &Path, name: &str) -> std::io::Result<(PathBuf, std::fs::File)> {
    let path = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    // Removes a leftover of a crash: it has old content, and may have other permissions.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_never_contain_the_address() {
        let to: Address = "Anna.Berg@Example.org".parse().unwrap();
        for answer in [
            "permanent error (550): 5.1.1 <anna.berg@example.org>: Recipient address rejected",
            "550 unknown user ANNA.BERG in domain example.org",
            "<Anna.Berg@Example.org>...relaying denied",
        ] {
            let reason = redact(answer, Some(&to)).to_lowercase();
            assert!(!reason.contains("anna") && !reason.contains("example.org"), "{reason}");
        }
        assert_eq!(redact("554 5.7.1 relay denied", Some(&to)), "554 5.7.1 relay denied");
    }

    #[test]
    fn only_refusals_of_the_mail_itself_are_permanent() {
        let ours = Fault::Ours(Part::Mail);
        for (code, expected) in [
            (Some(550), Fault::Client),
            (Some(554), Fault::Client),
            (Some(451), Fault::Unclear),
            (Some(421), ours),
            (Some(535), ours),
            (None, ours),
        ] {
            assert_eq!(fault(code), expected, "{code:?}");
        }
    }
}
