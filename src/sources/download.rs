//! Fetches a video from a web server, as a stream.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Certificate, Client, Response, StatusCode, Url, header, redirect};
use tokio::time::{Instant, timeout};

use super::address::{AddressError, AddressRules, VideoAddress, host};
use super::names::{CheckedNames, Names, NotPermitted, SystemNames};
use crate::config::{ConfigError, Settings};

/// Longest time to resolve a name and connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no video can be fetched at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("sources.ca_file: {path}: {reason}")]
    Certificates { path: String, reason: String },
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// Why a video cannot be fetched. The text is for the log. It has the host, and nothing else of the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The address, or one to which it redirects, is not allowed.
    #[error("{host}: {reason}")]
    Refused { host: String, reason: AddressError },
    #[error("{host} redirects more than {limit} times")]
    TooManyRedirects { host: String, limit: usize },
    /// No connection, no answer, a broken connection. Another attempt may succeed.
    #[error("{host}: {cause}")]
    Unreachable { host: String, cause: String },
    /// The server answered with this status.
    #[error("{host} answered with status {status}")]
    Status { host: String, status: u16 },
    #[error("the video has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{host} sends too slowly, or more than {limit_s} s")]
    TooSlow { host: String, limit_s: u64 },
}

/// Fetches videos. Cheap to clone.
#[derive(Clone)]
pub struct Downloads {
    /// For `https://`.
    client: Client,
    /// For `http://`, which the settings may allow for private networks.
    plain_client: Client,
    rules: Arc<AddressRules>,
    limits: Limits,
}

/// The limits of a download.
#[derive(Debug, Clone, Copy)]
struct Limits {
    redirects: usize,
    bytes: u64,
    /// Longest pause.
    idle: Duration,
    /// Minimum rate in bytes per second, with the same allowance as an upload has; 0: no limit.
    min_rate: u64,
    /// Longest time of the whole download.
    total: Duration,
}

/// A running download.
pub struct Download {
    response: Response,
    host: String,
    limits: Limits,
    received: u64,
    deadline: Instant,
    /// The time that the server may still wait. Each `min_rate` bytes add one second.
    allowance: Duration,
}

impl Downloads {
    /// # Errors
    /// A setting is wrong, such as `sources.ca_file`.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Self::with_names(settings, Arc::new(SystemNames))
    }

    /// Like [`Downloads::new`], with a resolver of names.
    pub fn with_names(settings: &Settings, names: Arc<dyn Names>) -> Result<Self, SetupError> {
        let (sources, http) = (&settings.sources, &settings.http);
        let (rules, roots) = (Arc::new(AddressRules::new(sources)?), certificates(&sources.ca_file)?);
        crate::tls::use_ring();
        let client = |only_private| {
            Client::builder()
                .dns_resolver(CheckedNames { names: names.clone(), rules: rules.clone(), only_private })
                .redirect(redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                // A connection is used once. So no request uses a connection that was checked long ago.
                .pool_max_idle_per_host(0)
                .tls_certs_merge(roots.clone())
                .user_agent(concat!("visage/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| SetupError::Client(chain(&error)))
        };
        let limits = Limits {
            redirects: sources.max_redirects,
            bytes: http.max_upload.0,
            idle: Duration::from_secs(http.idle_timeout_s),
            min_rate: http.min_upload_rate.0,
            total: Duration::from_secs(sources.max_fetch_s),
        };
        Ok(Self { client: client(false)?, plain_client: client(true)?, rules, limits })
    }

    /// Fetches at most `bytes`, in at most this time.
    pub fn limited(&self, bytes: u64, total: Duration) -> Self {
        let limits = Limits { bytes: self.limits.bytes.min(bytes), total: self.limits.total.min(total), ..self.limits };
        Self { limits, ..self.clone() }
    }

    /// Connects, follows redirects, and returns the download of an answer with status 200.
    pub async fn open(&self, address: &str) -> Result<Download, DownloadError> {
        let deadline = Instant::now() + self.limits.total;
        let refused = |host: String| move |reason| DownloadError::Refused { host, reason };
        let named = Url::parse(address).map(|url| host(&url)).unwrap_or_default();
        let mut url = match self.rules.parse(address).map_err(refused(named))? {
            VideoAddress::Web(url) => url,
            VideoAddress::Object(object) => return Err(refused(object.bucket)(AddressError::Malformed)),
        };
        for _ in 0..=self.limits.redirects {
            let response = self.request(&url, deadline).await?;
            let Some(location) = redirect_of(&response) else { return self.accept(response, &url, deadline) };
            let next = url.join(&location).map_err(|_| refused(host(&url))(AddressError::Malformed))?;
            self.rules.check_url(&next).map_err(refused(host(&next)))?;
            url = next;
        }
        Err(DownloadError::TooManyRedirects { host: host(&url), limit: self.limits.redirects })
    }

    async fn request(&self, url: &Url, deadline: Instant) -> Result<Response, DownloadError> {
        let client = if url.scheme() == "http" { &self.plain_client } else { &self.client };
        let name = host(url);
        // The bytes are stored as they come, so they must not be compressed.
        let sent = client.get(url.clone()).header(header::ACCEPT_ENCODING, "identity").send();
        let longest = deadline.saturating_duration_since(Instant::now()).min(CONNECT_TIMEOUT + self.limits.idle);
        match timeout(longest, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(name, &error)),
            Err(_) => Err(DownloadError::Unreachable { host: name, cause: "no answer".to_owned() }),
        }
    }

    fn accept(&self, response: Response, url: &Url, deadline: Instant) -> Result<Download, DownloadError> {
        let (host, limits) = (host(url), self.limits);
        if response.status() != StatusCode::OK {
            return Err(DownloadError::Status { host, status: response.status().as_u16() });
        }
        if response.content_length().is_some_and(|bytes| bytes > limits.bytes) {
            return Err(DownloadError::TooLarge { limit: limits.bytes });
        }
        let allowance = limits.idle.saturating_mul(2);
        Ok(Download { response, host, limits, received: 0, deadline, allowance })
    }
}

impl Download {
    /// The host that sends the video.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The size in bytes that the server announces.
    pub fn announced(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Returns the next bytes; `None` at the end. An answer that ends before its announced length is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let Limits { idle, min_rate, bytes, total, .. } = self.limits;
        let too_slow = |host: &String| DownloadError::TooSlow { host: host.clone(), limit_s: total.as_secs() };
        let began = Instant::now();
        let left = self.deadline.saturating_duration_since(began);
        let is_behind = min_rate > 0 && self.allowance < idle;
        let longest = if is_behind { self.allowance } else { idle };
        let chunk = match timeout(longest.min(left), self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(failed(self.host.clone(), &error)),
            Err(_) if is_behind || left <= longest => return Err(too_slow(&self.host)),
            Err(_) => {
                let cause = format!("nothing was received for {} s", idle.as_secs());
                return Err(DownloadError::Unreachable { host: self.host.clone(), cause });
            }
        };
        let earned_ms = (chunk.len() as u64).saturating_mul(1000).checked_div(min_rate).unwrap_or(0);
        let allowance = self.allowance.saturating_sub(began.elapsed());
        self.allowance = allowance.saturating_add(Duration::from_millis(earned_ms)).min(idle.saturating_mul(2));
        self.received += chunk.len() as u64;
        if self.received > bytes { Err(DownloadError::TooLarge { limit: bytes }) } else { Ok(Some(chunk)) }
    }
}

/// The address to which an answer redirects.
fn redirect_of(response: &Response) -> Option<String> {
    use StatusCode as S;
    let is_redirect = matches!(
        response.status(),
        S::MOVED_PERMANENTLY | S::FOUND | S::SEE_OTHER | S::TEMPORARY_REDIRECT | S::PERMANENT_REDIRECT
    );
    let location = response.headers().get(header::LOCATION).filter(|_| is_redirect)?;
    // Servers send addresses in UTF-8, too.
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// Classifies an error of the HTTP client.
fn failed(host: String, error: &reqwest::Error) -> DownloadError {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<NotPermitted>() {
            return DownloadError::Refused { host, reason: AddressError::Private };
        }
        cause = error.source();
    }
    DownloadError::Unreachable { host, cause: chain(error) }
}

/// The causes of an error. The error itself is left out, because its text has the address.
fn chain(error: &dyn Error) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    if texts.is_empty() { "the request failed".to_owned() } else { texts.join(": ") }
}

/// Reads the further certificate authorities of the settings.
fn certificates(path: &str) -> Result<Vec<Certificate>, SetupError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let refuse = |reason: String| SetupError::Certificates { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| refuse(chain(&error)))?;
    if found.is_empty() { Err(refuse("the file has no certificate".to_owned())) } else { Ok(found) }
}
