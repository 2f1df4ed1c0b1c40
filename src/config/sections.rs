//! The sections of the settings. Every key is explained in `config/default.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{ByteSize, ConfigError};
use crate::analysis::Sampling;

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub http: Http,
    pub auth: Auth,
    pub limits: Limits,
    pub cors: Cors,
    pub database: Database,
    pub storage: Storage,
    pub queue: Queue,
    pub video: Video,
    pub sync: Synchronous,
    pub thumbnails: Thumbnails,
    pub engine: Engine,
    pub models: Models,
    pub vision: Vision,
    pub speech: Speech,
    pub mail: Mail,
    pub webhooks: Webhooks,
    pub report: Report,
    pub retention: Retention,
    pub log: Log,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: String,
    pub public_url: String,
    pub max_upload: ByteSize,
    pub idle_timeout_s: u64,
    pub max_upload_s: u64,
    pub max_wait_s: u64,
    pub max_concurrent_uploads: usize,
    /// Addresses and networks, as `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
}

impl Http {
    /// The networks of the proxies whose word is believed.
    ///
    /// # Errors
    /// An entry is neither an address nor a network.
    pub fn proxies(&self) -> Result<Vec<IpNet>, ConfigError> {
        let parse = |text: &String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| ConfigError::Value {
                key: "http.trusted_proxies",
                value: text.clone(),
                reason: "give addresses or networks, as 10.0.0.0/8".to_owned(),
            })
        };
        self.trusted_proxies.iter().map(parse).collect()
    }

    /// Where links in answers and mails start, without a slash at the end.
    pub fn base_url(&self) -> String {
        if self.public_url.is_empty() {
            format!("http://{}", self.listen)
        } else {
            self.public_url.trim_end_matches('/').to_owned()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub required: bool,
}

/// 0: no limit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub rate_per_minute_key: u32,
    pub rate_per_minute_address: u32,
    pub max_concurrent_key: u32,
    pub videos_per_day_key: u32,
    pub videos_per_month_key: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    pub origins: Vec<String>,
    pub max_age_s: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// May hold a password: never logged whole.
    pub url: Secret,
    pub migrate: bool,
    pub max_connections: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    Folder,
    S3,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub kind: StorageKind,
    pub folder: PathBuf,
    pub s3: S3,
}

/// How a worker reads a video from the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum S3Read {
    Stream,
    Download,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub bucket: String,
    pub prefix: String,
    pub endpoint: String,
    pub region: String,
    pub path_style: bool,
    pub access_key: String,
    pub secret_key: Secret,
    pub presign_ttl_s: u64,
    pub read: S3Read,
    pub direct_uploads: bool,
    pub public_endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    pub concurrency: usize,
    pub lease_s: u64,
    pub max_attempts: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
    pub poll_s: u64,
    pub shutdown_grace_s: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    pub sample_every: u32,
    pub sampling: Sampling,
    pub max_faces: u32,
    pub max_duration_s: u64,
    pub max_pixels: u64,
}

/// Calls that are answered with their result.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synchronous {
    pub max_concurrent: usize,
    pub deadline_s: u64,
    pub max_upload: ByteSize,
    pub min_memory: ByteSize,
    pub facial_analysis_every: u32,
    pub process_frame_every: u32,
}

impl Synchronous {
    /// [`Synchronous::max_concurrent`], worked out.
    pub fn max_concurrent(&self) -> usize {
        if self.max_concurrent > 0 { self.max_concurrent } else { half_the_cores() }
    }
}

/// The calls of the thumbnails service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thumbnails {
    pub max_video: ByteSize,
    pub side: u32,
    pub model: ClipModel,
}

/// A classifier of the points of a face in the frames of a clip.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipModel {
    pub name: String,
    /// Empty: none.
    pub file: PathBuf,
    /// One of the five for each output.
    pub labels: Vec<String>,
    pub output: ClassifierOutput,
    pub coordinates: Coordinates,
}

/// In what the points of a face are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coordinates {
    Relative,
    Pixels,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    Auto,
    Cpu,
    Cuda,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    pub device: Device,
    pub library: String,
    pub threads: usize,
    pub max_batch: usize,
    pub max_wait_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    pub folder: PathBuf,
    pub mirror: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorKind {
    Auto,
    Yunet,
    Blazeface,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vision {
    pub detector: DetectorKind,
    pub analysis_side: u32,
    pub min_score: f32,
    pub min_face: u32,
    pub gaze: bool,
    pub emotion: EmotionModel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    Gray,
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassifierOutput {
    Logits,
    Probabilities,
}

/// A classifier of face pictures: its file, what it takes and what it gives.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmotionModel {
    pub name: String,
    pub file: PathBuf,
    pub width: u32,
    pub height: u32,
    pub colour: Colour,
    pub layout: Layout,
    /// One value, or one a channel.
    pub mean: Vec<f32>,
    /// One value, or one a channel.
    pub std: Vec<f32>,
    /// A label or `-` for each output.
    pub labels: Vec<String>,
    pub output: ClassifierOutput,
    /// How much of the prior of the training is taken out, 0 to 1.
    pub prior: f32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speech {
    pub enabled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTransport {
    Outbox,
    Smtp,
    None,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub transport: MailTransport,
    pub outbox: PathBuf,
    pub from: String,
    pub reply_to: String,
    pub subject: String,
    pub failure_subject: String,
    pub max_attempts: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
    pub smtp: Smtp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpSecurity {
    Starttls,
    Tls,
    None,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub security: SmtpSecurity,
    pub username: String,
    pub password: Secret,
    pub ca_file: String,
    pub timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// One, or several with blanks between; empty: switched off.
    pub secret: Secret,
    pub allow_private: bool,
    pub timeout_s: u64,
    pub max_attempts: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
}

impl Webhooks {
    /// Each of the secrets, the newest first; none: switched off.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secret.expose().split_whitespace()
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub product: String,
    pub accent: String,
    pub logo: String,
    pub greeting: String,
    pub footer: String,
    pub contact: String,
    pub link_text: String,
    pub link_url: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub videos_h: u64,
    pub failed_videos_h: u64,
    pub results_d: u64,
    pub request_log_d: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

/// Text that must not be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"***\"")
    }
}

impl Retention {
    /// Hours that the video of a failed analysis is kept: never less than that of another.
    pub fn failed_videos_h(&self) -> u64 {
        self.failed_videos_h.max(self.videos_h)
    }
}

impl Queue {
    /// Videos analyzed at the same time in this process.
    pub fn concurrency(&self) -> usize {
        if self.concurrency > 0 { self.concurrency } else { half_the_cores() }
    }

    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }
}

impl Settings {
    /// Refuses values that have the right type but make no sense, by key.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        positive("http.max_upload", self.http.max_upload.0)?;
        positive("http.idle_timeout_s", self.http.idle_timeout_s)?;
        positive("http.max_upload_s", self.http.max_upload_s)?;
        positive("http.max_concurrent_uploads", self.http.max_concurrent_uploads as u64)?;
        positive("database.max_connections", self.database.max_connections.into())?;
        positive("queue.lease_s", self.queue.lease_s)?;
        positive("queue.max_attempts", self.queue.max_attempts.into())?;
        positive("queue.poll_s", self.queue.poll_s)?;
        positive("video.sample_every", self.video.sample_every.into())?;
        positive("video.max_faces", self.video.max_faces.into())?;
        positive("video.max_duration_s", self.video.max_duration_s)?;
        positive("video.max_pixels", self.video.max_pixels)?;
        positive("sync.deadline_s", self.sync.deadline_s)?;
        positive("sync.max_upload", self.sync.max_upload.0)?;
        positive("sync.facial_analysis_every", self.sync.facial_analysis_every.into())?;
        positive("sync.process_frame_every", self.sync.process_frame_every.into())?;
        positive("thumbnails.max_video", self.thumbnails.max_video.0)?;
        positive("engine.max_batch", self.engine.max_batch as u64)?;
        positive("mail.max_attempts", self.mail.max_attempts.into())?;
        positive("webhooks.timeout_s", self.webhooks.timeout_s)?;
        positive("webhooks.max_attempts", self.webhooks.max_attempts.into())?;
        positive("vision.emotion.width", self.vision.emotion.width.into())?;
        positive("vision.emotion.height", self.vision.emotion.height.into())?;

        let (http, vision, storage) = (&self.http, &self.vision, &self.storage);
        require(http.listen.parse::<SocketAddr>().is_ok(), "http.listen", &http.listen, "give ADDRESS:PORT")?;
        http.proxies()?;
        for origin in &self.cors.origins {
            let host =
                ["https://", "http://"].iter().find_map(|scheme| origin.strip_prefix(scheme)).unwrap_or_default();
            let is_origin = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
            require(origin == "*" || is_origin, "cors.origins", origin, "give origins as https://example.org, or *")?;
        }
        let url = &http.public_url;
        let is_http = url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
        require(is_http, "http.public_url", url, "give an http:// or https:// address")?;
        let url = self.database.url.expose();
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        let scheme = url.split(':').next().unwrap_or_default();
        require(known, "database.url", scheme, "give a sqlite:// or postgres:// address")?;
        if storage.kind == StorageKind::S3 {
            require(!storage.s3.bucket.is_empty(), "storage.s3.bucket", "", "storage.kind = \"s3\" needs a bucket")?;
            let week = 7 * 24 * 3600;
            let ttl = storage.s3.presign_ttl_s;
            require((1..=week).contains(&ttl), "storage.s3.presign_ttl_s", &ttl.to_string(), "from 1 s to 7 days")?;
            let halves = storage.s3.access_key.is_empty() == storage.s3.secret_key.expose().is_empty();
            require(halves, "storage.s3.secret_key", "", "access_key and secret_key go together")?;
        }
        let side = vision.analysis_side;
        require((64..=4096).contains(&side), "vision.analysis_side", &side.to_string(), "from 64 to 4096 pixels")?;
        let score = vision.min_score;
        require((0.0..1.0).contains(&score), "vision.min_score", &score.to_string(), "from 0 to below 1")?;
        vision.emotion.check()?;
        let side = self.thumbnails.side;
        require((64..=1920).contains(&side), "thumbnails.side", &side.to_string(), "from 64 to 1920 pixels")?;
        self.thumbnails.model.check()?;
        let from = &self.mail.from;
        require(from.parse::<lettre::message::Mailbox>().is_ok(), "mail.from", from, "give a mail address")?;
        let reply_to = &self.mail.reply_to;
        let is_address = reply_to.is_empty() || reply_to.parse::<lettre::message::Mailbox>().is_ok();
        require(is_address, "mail.reply_to", reply_to, "give a mail address, or nothing")?;
        let sound = |secret| webhook_key_bytes(secret).is_some_and(|bytes| (24..=64).contains(&bytes));
        let form = "give whsec_ and 24 to 64 random bytes in base64, several with blanks between, or nothing";
        require(self.webhooks.secrets().all(sound), "webhooks.secret", "***", form)?;
        let accent = self.report.accent.strip_prefix('#').unwrap_or_default();
        let is_colour = accent.len() == 6 && accent.chars().all(|c| c.is_ascii_hexdigit());
        require(is_colour, "report.accent", &self.report.accent, "give a colour as #rrggbb")?;
        let report = &self.report;
        let halves = report.link_text.is_empty() == report.link_url.is_empty();
        require(halves, "report.link_url", &report.link_url, "link_text and link_url go together")?;
        let url = &report.link_url;
        let is_link = url.is_empty() || ["https://", "http://", "mailto:"].iter().any(|scheme| url.starts_with(scheme));
        require(is_link, "report.link_url", url, "give an https://, http:// or mailto: address")?;
        let has_host = self.mail.transport != MailTransport::Smtp || !self.mail.smtp.host.is_empty();
        require(has_host, "mail.smtp.host", "", "mail.transport = \"smtp\" needs a server")?;
        positive("mail.smtp.timeout_s", self.mail.smtp.timeout_s)?;
        let halves = self.mail.smtp.username.is_empty() == self.mail.smtp.password.expose().is_empty();
        require(halves, "mail.smtp.password", "", "username and password go together")
    }
}

impl ClipModel {
    fn check(&self) -> Result<(), ConfigError> {
        const FIVE: [&str; 5] = ["Anger", "Happy", "Shock", "Neutral", "Sad"];
        let (key, given) = ("thumbnails.model.labels", self.labels.join(","));
        for label in FIVE {
            let times = self.labels.iter().filter(|given| *given == label).count();
            require(times == 1, key, &given, &format!("{label} must stand there once"))?;
        }
        require(self.labels.len() == FIVE.len(), key, &given, &format!("give {}", FIVE.join(", ")))
    }
}

impl EmotionModel {
    /// Channels of a picture.
    pub const fn channels(&self) -> usize {
        match self.colour {
            Colour::Gray => 1,
            Colour::Rgb | Colour::Bgr => 3,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        const SEVEN: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
        let key = "vision.emotion.labels";
        for label in &self.labels {
            let known = ["-", "contempt"].contains(&label.as_str()) || SEVEN.contains(&label.as_str());
            require(known, key, label, &format!("give one of {}, contempt, or -", SEVEN.join(", ")))?;
        }
        let once = self.labels.iter().filter(|given| *given == "contempt").count() <= 1;
        require(once, key, &self.labels.join(","), "contempt may stand there once")?;
        for label in SEVEN {
            let times = self.labels.iter().filter(|given| *given == label).count();
            require(times == 1, key, &self.labels.join(","), &format!("{label} must stand there once"))?;
        }
        for (key, values) in [("vision.emotion.mean", &self.mean), ("vision.emotion.std", &self.std)] {
            let fits = values.len() == 1 || values.len() == self.channels();
            require(fits, key, &format!("{values:?}"), "give one value, or one a channel")?;
        }
        let std = format!("{:?}", self.std);
        require(self.std.iter().all(|&value| value > 0.0), "vision.emotion.std", &std, "must be above 0")?;
        let within = (0.0..=1.0).contains(&self.prior);
        require(within, "vision.emotion.prior", &self.prior.to_string(), "must be 0 to 1")
    }
}

/// How many bytes a signing secret has.
fn webhook_key_bytes(secret: &str) -> Option<usize> {
    use base64::Engine;
    let key = secret.strip_prefix("whsec_")?;
    base64::engine::general_purpose::STANDARD.decode(key).ok().map(|key| key.len())
}

/// At least 1.
fn half_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn require(holds: bool, key: &'static str, value: &str, reason: &str) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::Value { key, value: value.to_owned(), reason: reason.to_owned() })
}

fn positive(key: &'static str, value: u64) -> Result<(), ConfigError> {
    require(value > 0, key, &value.to_string(), "must be at least 1")
}
