//! Tells a program, by HTTP, that an analysis ended, signed as Standard Webhooks has it
//! (<https://www.standardwebhooks.com>): `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! Addresses come from strangers, so nothing is sent into the operator's own network ([`outside`]), redirects are not
//! followed, and the answer's body is not read.

mod outside;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Serialize;
use standardwebhooks::Webhook;
use uuid::Uuid;

use crate::analysis::Summary;
use crate::config;
use crate::fault::{Fault, Part};

use outside::Outside;

/// Longest address.
const MAX_URL: usize = 2000;

/// Why an address for webhooks is not taken. The text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("Give one address that begins with https:// and has a host, no user and at most 2000 characters.")]
    Malformed,
    #[error("Give an address that begins with https://; this service sends nothing in the clear.")]
    Plain,
    #[error("Give an address that can be reached from the internet; this service sends nothing into private networks.")]
    Private,
}

/// Why a webhook was not taken. The text is for logs, and holds no address.
#[derive(Debug, thiserror::Error)]
#[error("webhook: {reason}")]
pub struct WebhookError {
    /// `Client`: the other side is gone, and another try cannot help. `Ours`: nobody answered. `Unclear`: the other side
    /// answered, and did not take it.
    pub fault: Fault,
    pub reason: String,
}

/// What a webhook tells: the payload.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    /// `analysis.done` or `analysis.failed`
    pub r#type: &'static str,
    /// When the analysis ended.
    pub timestamp: Timestamp,
    pub data: EventData<'a>,
}

#[derive(Debug, Serialize)]
pub struct EventData<'a> {
    pub token: Uuid,
    /// `done` or `failed`
    pub status: &'static str,
    /// Where the result is.
    pub result: String,
    /// The figures of the whole video; null where the analysis failed.
    pub summary: Option<&'a Summary>,
    /// Why it failed: `code` and `detail`; null otherwise.
    pub error: Option<EventError<'a>>,
}

#[derive(Debug, Serialize)]
pub struct EventError<'a> {
    pub code: &'a str,
    pub detail: &'a str,
}

/// Sends webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    client: Client,
    /// Every message is signed with each, so that receivers may go from one to the next.
    signers: Arc<[Webhook]>,
    allow_private: bool,
}

impl Webhooks {
    /// `None` where they are switched off: no secret.
    ///
    /// # Errors
    /// The secret is none, or no connection can be set up.
    pub fn new(settings: &config::Webhooks) -> Result<Option<Self>, WebhookError> {
        let broken = |reason: String| WebhookError { fault: Fault::Client, reason };
        let signers = settings.secrets().map(Webhook::new).collect::<Result<Arc<[_]>, _>>();
        let signers = signers.map_err(|error| broken(error.to_string()))?;
        if signers.is_empty() {
            return Ok(None);
        }
        crate::tls::use_ring();
        let client = Client::builder()
            .dns_resolver(Outside { allow_private: settings.allow_private })
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(settings.timeout_s))
            .user_agent(concat!("visage/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| broken(error.to_string()))?;
        Ok(Some(Self { client, signers, allow_private: settings.allow_private }))
    }

    /// Sends an event; `id` is the same in every try, and `now` goes into the signature.
    pub async fn send(&self, id: Uuid, url: &str, event: &Event<'_>, now: Timestamp) -> Result<(), WebhookError> {
        let permanent = |reason: String| WebhookError { fault: Fault::Client, reason };
        let url = check_url(url, self.allow_private).map_err(|error| permanent(error.to_string()))?;
        let body = serde_json::to_vec(event).map_err(|error| permanent(error.to_string()))?;
        let (id, seconds) = (format!("msg_{}", id.simple()), now.as_second());
        let signatures: Result<Vec<_>, _> = self.signers.iter().map(|hook| hook.sign(&id, seconds, &body)).collect();
        let signatures = signatures.map_err(|error| permanent(error.to_string()))?.join(" ");
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures)
            .body(body);
        // Without the address, which an error of the library names.
        let unanswered = |error| WebhookError { fault: Fault::Ours(Part::Network), reason: without_url(error) };
        let answer = request.send().await.map_err(unanswered)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // As Standard Webhooks has it: the other side wants no more.
            StatusCode::GONE => Err(permanent("the other side is gone (410)".to_owned())),
            status => Err(WebhookError { fault: Fault::Unclear, reason: format!("the other side answered {status}") }),
        }
    }
}

fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Whether webhooks may go to an address, as far as it can be seen without asking the network.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
    let sound = text.len() <= MAX_URL && url.has_host() && url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        _ if !sound => Err(UrlError::Malformed),
        "https" => {
            let address = url.host_str().and_then(outside::literal);
            if address.is_some_and(|address| !allow_private && !outside::is_public(address)) {
                Err(UrlError::Private)
            } else {
                Ok(url)
            }
        }
        "http" if allow_private => Ok(url),
        "http" => Err(UrlError::Plain),
        _ => Err(UrlError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_outside_are_taken_unless_others_are_allowed() {
        for (url, strict, lax) in [
            ("https://example.org/hook?x=1", Ok(()), Ok(())),
            ("https://example.org:8443", Ok(()), Ok(())),
            ("https://192.0.2.1/", Err(UrlError::Private), Ok(())),
            ("https://127.0.0.1/", Err(UrlError::Private), Ok(())),
            ("https://2130706433/", Err(UrlError::Private), Ok(())),
            ("https://[::1]/", Err(UrlError::Private), Ok(())),
            ("https://[::ffff:10.0.0.1]/", Err(UrlError::Private), Ok(())),
            ("http://example.org/", Err(UrlError::Plain), Ok(())),
            ("ftp://example.org/", Err(UrlError::Malformed), Err(UrlError::Malformed)),
            ("https://ann:secret@example.org/", Err(UrlError::Malformed), Err(UrlError::Malformed)),
            ("example.org", Err(UrlError::Malformed), Err(UrlError::Malformed)),
            ("", Err(UrlError::Malformed), Err(UrlError::Malformed)),
        ] {
            assert_eq!(check_url(url, false).map(drop), strict, "{url}");
            assert_eq!(check_url(url, true).map(drop), lax, "{url}");
        }
    }
}
