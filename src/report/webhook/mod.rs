//! Sends webhooks: HTTP requests that tell a program that an analysis or a batch ended. They are signed as Standard Webhooks
//! specifies (<https://www.standardwebhooks.com>), with the headers `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`.
//!
//! The addresses come from untrusted clients. So nothing is sent to private networks ([`crate::public_network`]), redirects
//! are not followed, and the body of the response is not read.

mod batch;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Serialize;
use standardwebhooks::Webhook;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::analysis::Summary;
use crate::config;
use crate::fault::{Fault, Part};
use crate::public_network::{self, PublicResolver};
use crate::telemetry::trace::TraceContext;

pub use batch::{BatchData, BatchEvent, BatchEventItem, BatchEventType, BatchItemOutcome, BatchOutcome};

/// The longest address, in bytes.
const MAX_URL: usize = 2000;

/// The reason why an address for webhooks is refused. The text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("Give one address that begins with https:// and has a host, no user and at most 2000 characters.")]
    Malformed,
    #[error("Give an address that begins with https://; this service sends webhooks over TLS only.")]
    Plain,
    #[error(
        "Give an address that can be reached from the internet; this service sends no webhooks to private networks."
    )]
    Private,
}

/// The error of a webhook that was not accepted. Its text is for logs and contains no address.
#[derive(Debug, thiserror::Error)]
#[error("webhook: {reason}")]
pub struct WebhookError {
    /// `Client`: another attempt cannot succeed. `Ours`: no server answered. `Unclear`: the receiver answered with an
    /// error.
    pub fault: Fault,
    pub reason: String,
}

/// The payload of a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEvent)]
pub struct Event<'a> {
    pub r#type: EventType,
    /// When the analysis ended.
    pub timestamp: Timestamp,
    pub data: EventData<'a>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = WebhookEventType)]
pub enum EventType {
    #[serde(rename = "analysis.done")]
    Done,
    #[serde(rename = "analysis.failed")]
    Failed,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookData)]
pub struct EventData<'a> {
    pub token: Uuid,
    pub status: EventStatus,
    /// The address of the result.
    pub result: String,
    /// The figures of the whole video; null if the analysis failed.
    #[schema(value_type = Option<Summary>)]
    pub summary: Option<&'a Summary>,
    /// The reason of a failure; null otherwise.
    pub error: Option<EventError<'a>>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = WebhookStatus)]
#[serde(rename_all = "lowercase")]
pub enum EventStatus {
    Done,
    Failed,
}

/// The reason of a failure.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookError)]
pub struct EventError<'a> {
    /// One of the codes of problems.
    pub code: &'a str,
    /// A sentence in English.
    pub detail: &'a str,
}

/// Sends webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    client: Client,
    settings: config::Webhooks,
}

impl Webhooks {
    /// Returns `None` if there is no secret, which switches webhooks off.
    ///
    /// # Errors
    /// A secret is invalid, or the HTTP client cannot be built.
    pub fn new(settings: &config::Webhooks) -> Result<Option<Self>, WebhookError> {
        let broken = |reason: String| WebhookError { fault: Fault::Client, reason };
        if signers(settings)?.is_empty() {
            return Ok(None);
        }
        crate::tls::use_ring();
        let client = Client::builder()
            .dns_resolver(PublicResolver { allow_private: settings.allow_private })
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(settings.timeout_s))
            .user_agent(concat!("visage/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| broken(error.to_string()))?;
        Ok(Some(Self { client, settings: settings.clone() }))
    }

    /// Sends an event. `id` is the same in every attempt. `now` is part of the signature.
    pub async fn send(&self, id: Uuid, url: &str, event: &impl Serialize, now: Timestamp) -> Result<(), WebhookError> {
        let permanent = |reason: String| WebhookError { fault: Fault::Client, reason };
        let url = check_url(url, self.settings.allow_private).map_err(|error| permanent(error.to_string()))?;
        let body = serde_json::to_vec(event).map_err(|error| permanent(error.to_string()))?;
        let (id, seconds) = (format!("msg_{}", id.simple()), now.as_second());
        let signers = signers(&self.settings)?;
        let signatures: Result<Vec<_>, _> = signers.iter().map(|hook| hook.sign(&id, seconds, &body)).collect();
        let signatures = signatures.map_err(|error| permanent(error.to_string()))?.join(" ");
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures)
            .body(body);
        // The receiver can continue the trace.
        let headers = TraceContext::current().into_iter().flat_map(|context| context.headers().collect::<Vec<_>>());
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        // Removes the address from the library's error.
        let unanswered = |error| WebhookError { fault: Fault::Ours(Part::Network), reason: without_url(error) };
        let answer = request.send().await.map_err(unanswered)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // Standard Webhooks: the receiver wants no more webhooks.
            StatusCode::GONE => Err(permanent("the receiver is gone (410)".to_owned())),
            status => Err(WebhookError { fault: Fault::Unclear, reason: format!("the receiver answered {status}") }),
        }
    }
}

/// Returns a signer for each secret. Every message has the signatures of all, so that receivers can change to a new
/// secret.
fn signers(settings: &config::Webhooks) -> Result<Vec<Webhook>, WebhookError> {
    let signers = settings.secrets().iter().map(|secret| Webhook::new(secret.expose())).collect::<Result<_, _>>();
    signers.map_err(|error| WebhookError { fault: Fault::Client, reason: error.to_string() })
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

/// Longest time to resolve the name of an address when it is accepted.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks an address for webhooks when it is accepted: refuses a name that resolves to private addresses only. A name
/// that does not resolve now is accepted, because the name server may be unavailable. [`Webhooks::send`] checks again.
pub async fn check_target(text: &str, allow_private: bool) -> Result<(), UrlError> {
    let url = check_url(text, allow_private)?;
    let (Some(host), false) = (url.host_str(), allow_private) else { return Ok(()) };
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, 443))).await;
    let Ok(Ok(found)) = found else { return Ok(()) };
    let found: Vec<_> = found.collect();
    let is_private = !found.is_empty() && !found.iter().any(|address| public_network::is_public(address.ip()));
    if is_private { Err(UrlError::Private) } else { Ok(()) }
}

/// Checks an address for webhooks, without resolving its name.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
    let sound = text.len() <= MAX_URL && url.has_host() && url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        _ if !sound => Err(UrlError::Malformed),
        "https" => {
            let address = url.host_str().and_then(public_network::literal);
            if address.is_some_and(|address| !allow_private && !public_network::is_public(address)) {
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

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_when_it_is_given() {
        assert_eq!(check_target("https://localhost/hook", false).await, Err(UrlError::Private));
        assert_eq!(check_target("https://localhost/hook", true).await, Ok(()));
        assert_eq!(check_target("https://no-such-name.invalid/hook", false).await, Ok(()));
    }

    #[test]
    fn private_and_plain_addresses_are_refused_unless_allowed() {
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
