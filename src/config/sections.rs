//! The sections of the settings. `config/default.toml` documents every key.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::{ByteSize, Changeable, ConfigError, Secret};
use crate::analysis::{Language, Sampling};

/// Deserializes one of several words. Unlike the error of the crate `config`, the error lists the allowed words.
fn one_of<'de, T: Deserialize<'de>, D: Deserializer<'de>>(word: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(word)?.to_lowercase().into_deserializer())
}

/// Deserializes a list of words like [`one_of`].
fn many_of<'de, T: Deserialize<'de>, D: Deserializer<'de>>(words: D) -> Result<Vec<T>, D::Error> {
    let words = Vec::<String>::deserialize(words)?;
    words.into_iter().map(|word| T::deserialize(word.to_lowercase().into_deserializer())).collect()
}

/// Parses addresses and networks.
fn networks(key: &'static str, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let parse = |text: &String| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| ConfigError::Value {
            key,
            value: text.clone(),
            reason: "use addresses or networks such as 10.0.0.0/8".to_owned(),
        })
    };
    texts.iter().map(parse).collect()
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub http: Http,
    pub auth: Auth,
    pub limits: Changeable<Limits>,
    pub cors: Cors,
    pub database: Database,
    pub storage: Storage,
    pub sources: Sources,
    pub queue: Queue,
    pub video: Video,
    pub sync: Synchronous,
    pub pictures: Pictures,
    pub live: Live,
    pub thumbnails: Thumbnails,
    pub engine: Engine,
    pub models: Models,
    pub vision: Vision,
    pub speech: Speech,
    pub mail: Mail,
    pub webhooks: Webhooks,
    pub report: Report,
    pub notice: Notice,
    pub share: Share,
    pub retention: Retention,
    pub log: Log,
    pub metrics: Metrics,
    pub tracing: Tracing,
}

impl Settings {
    /// Whether a person must confirm that they want the mails about videos that were sent without a key.
    pub fn mails_need_consent(&self) -> bool {
        match self.mail.confirm {
            Confirm::Auto => !self.http.is_for_this_machine_only(),
            Confirm::Always => true,
            Confirm::Never => false,
        }
    }
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
    /// Bytes per second.
    pub min_upload_rate: ByteSize,
    pub max_concurrent_uploads: usize,
    pub max_concurrent_uploads_client: usize,
    pub max_open_uploads_client: u64,
    /// Addresses and networks such as `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
}

impl Http {
    /// Parses [`Http::trusted_proxies`].
    ///
    /// # Errors
    /// Fails if an entry is neither an address nor a network.
    pub fn proxies(&self) -> Result<Vec<IpNet>, ConfigError> {
        networks("http.trusted_proxies", &self.trusted_proxies)
    }

    /// The start of links in responses and mails, without a slash at the end.
    pub fn base_url(&self) -> String {
        if self.public_url.is_empty() {
            format!("http://{}", self.listen)
        } else {
            self.public_url.trim_end_matches('/').to_owned()
        }
    }

    /// Whether only programs on this machine reach the service: it listens on a loopback address, its links lead there,
    /// and there is no proxy.
    fn is_for_this_machine_only(&self) -> bool {
        let listens = self.listen.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
        let url = reqwest::Url::parse(&self.base_url()).ok();
        let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let links = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        listens && links && self.trusted_proxies.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub required: bool,
}

/// Limits of requests and videos. 0 means no limit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub rate_per_minute_key: u32,
    pub rate_per_minute_address: u32,
    pub max_concurrent_key: u32,
    pub videos_per_day_key: u32,
    pub videos_per_month_key: u32,
    pub mails_per_day_recipient: u32,
    pub mails_per_day_domain: u32,
    pub mails_per_day_address: u32,
    pub mails_per_day_key: u32,
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
    /// May contain a password, so it must not be logged.
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
    #[serde(deserialize_with = "one_of")]
    pub kind: StorageKind,
    pub folder: PathBuf,
    pub quota: ByteSize,
    pub quota_client: ByteSize,
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
    #[serde(deserialize_with = "one_of")]
    pub read: S3Read,
    pub direct_uploads: bool,
    pub public_endpoint: String,
}

/// Videos that clients give by address.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    pub enabled: bool,
    /// Names, or `*.example.org` for all names below it. Empty: all hosts.
    pub hosts: Vec<String>,
    /// Networks such as `10.0.0.0/8`.
    pub private_networks: Vec<String>,
    pub max_redirects: usize,
    pub max_fetch_s: u64,
    pub max_concurrent: usize,
    pub max_concurrent_client: u32,
    pub max_batch_items: usize,
    pub ca_file: String,
    pub s3_buckets: Vec<String>,
    pub s3_delete: bool,
}

impl Sources {
    /// Parses [`Sources::private_networks`].
    ///
    /// # Errors
    /// Fails if an entry is neither an address nor a network.
    pub fn networks(&self) -> Result<Vec<IpNet>, ConfigError> {
        networks("sources.private_networks", &self.private_networks)
    }
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
    pub keep_progress_s: u64,
    pub split_from_s: u64,
}

impl Queue {
    /// Maximum number of videos analyzed at the same time in this process. A setting of 0 means half the cores.
    pub fn concurrency(&self) -> usize {
        if self.concurrency > 0 { self.concurrency } else { half_the_cores() }
    }

    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    pub sample_every: u32,
    #[serde(deserialize_with = "one_of")]
    pub sampling: Sampling,
    #[serde(deserialize_with = "one_of")]
    pub hwaccel: Hwaccel,
    #[serde(deserialize_with = "one_of")]
    pub isolation: Isolation,
    pub max_faces: u32,
    pub piece_s: u32,
    pub max_duration_s: u64,
    pub max_pixels: u64,
    pub max_total_megapixels: u64,
    pub max_decoder_memory: ByteSize,
    pub max_cpu_s: u64,
    /// FFmpeg's names.
    pub extra_codecs: Vec<String>,
    #[serde(deserialize_with = "many_of")]
    pub extra_containers: Vec<Container>,
}

/// A container that a setting can add. None of them can refer to other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    Asf,
    Dv,
    Ivf,
    Mxf,
    Nut,
    Ogg,
    Rm,
    Wtv,
    Y4m,
}

impl Container {
    pub const ALL: [Self; 9] =
        [Self::Asf, Self::Dv, Self::Ivf, Self::Mxf, Self::Nut, Self::Ogg, Self::Rm, Self::Wtv, Self::Y4m];
}

/// Whether videos are decoded in confined processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// visage does not start without all barriers.
    Require,
    /// With the barriers that the system has.
    Prefer,
    Off,
}

/// The GPU decoder, by FFmpeg's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hwaccel {
    None,
    Auto,
    Cuda,
    Vaapi,
}

/// Immediate calls: calls whose response is the result.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synchronous {
    pub max_concurrent: usize,
    pub max_concurrent_client: usize,
    pub deadline_s: u64,
    pub max_upload: ByteSize,
    pub min_memory: ByteSize,
    pub facial_analysis_every: u32,
    pub process_frame_every: u32,
}

impl Synchronous {
    /// Maximum number of concurrent immediate calls. A setting of 0 means half the cores.
    pub fn max_concurrent(&self) -> usize {
        if self.max_concurrent > 0 { self.max_concurrent } else { half_the_cores() }
    }
}

/// The calls `POST /v1/pictures` and `POST /analyze`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pictures {
    pub max_count: usize,
    pub max_upload: ByteSize,
    pub max_pixels: u64,
}

/// The call `GET /v1/live`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    pub max_sessions: usize,
    pub max_sessions_client: usize,
    pub max_session_s: u64,
    pub idle_s: u64,
    pub max_message: ByteSize,
    pub max_pixels: u64,
    pub ticket_s: u64,
}

/// The calls `POST /predict` and `POST /thumbnail`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thumbnails {
    pub max_video: ByteSize,
    pub side: u32,
    pub model: ClipModel,
}

/// A classifier of clips that reads the landmarks of a face in each frame.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipModel {
    pub name: String,
    /// Empty if there is no such model.
    pub file: PathBuf,
    /// One of the five labels for each output.
    pub labels: Vec<String>,
    #[serde(deserialize_with = "one_of")]
    pub output: ClassifierOutput,
    #[serde(deserialize_with = "one_of")]
    pub coordinates: Coordinates,
}

/// The unit of the landmarks' coordinates.
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

/// The precision in which models compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Fp32,
    Fp16,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    #[serde(deserialize_with = "one_of")]
    pub device: Device,
    #[serde(deserialize_with = "one_of")]
    pub precision: Precision,
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
    #[serde(deserialize_with = "one_of")]
    pub detector: DetectorKind,
    pub analysis_side: u32,
    pub second_side: u32,
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

/// A classifier of face pictures: its file, input and output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmotionModel {
    pub name: String,
    pub file: PathBuf,
    pub width: u32,
    pub height: u32,
    #[serde(deserialize_with = "one_of")]
    pub colour: Colour,
    #[serde(deserialize_with = "one_of")]
    pub layout: Layout,
    /// One value, or one per channel.
    pub mean: Vec<f32>,
    /// One value, or one per channel.
    pub std: Vec<f32>,
    /// A label or `-` for each output.
    pub labels: Vec<String>,
    #[serde(deserialize_with = "one_of")]
    pub output: ClassifierOutput,
    /// The share of the training data's prior that is removed, 0 to 1.
    pub prior: f32,
}

impl EmotionModel {
    /// Number of colour channels.
    pub const fn channels(&self) -> usize {
        match self.colour {
            Colour::Gray => 1,
            Colour::Rgb | Colour::Bgr => 3,
        }
    }
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
    #[serde(deserialize_with = "one_of")]
    pub transport: MailTransport,
    pub outbox: PathBuf,
    pub from: String,
    pub reply_to: String,
    pub subject: String,
    pub failure_subject: String,
    #[serde(deserialize_with = "one_of")]
    pub confirm: Confirm,
    pub confirm_within_h: u64,
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

/// When the recipient of mails about videos that were sent without a key must confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// Unless only programs on this machine reach the service.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    #[serde(deserialize_with = "one_of")]
    pub security: SmtpSecurity,
    pub username: Changeable<String>,
    pub password: Changeable<Secret>,
    pub ca_file: String,
    pub timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// One secret, or several separated by spaces. Empty if webhooks are switched off.
    pub secret: Changeable<Secret>,
    pub allow_private: bool,
    pub timeout_s: u64,
    pub max_attempts: u32,
    pub backoff_base_s: u64,
    pub backoff_max_s: u64,
}

impl Webhooks {
    /// Returns the secrets, the newest first. There are none if webhooks are switched off.
    pub fn secrets(&self) -> Vec<Secret> {
        self.secret.get().parts()
    }

    pub fn is_on(&self) -> bool {
        !self.secrets().is_empty()
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

/// Links to one result for readers without a key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub valid_h: u64,
    /// One secret, or several separated by spaces. The first one signs links. Empty: the database's own secret.
    pub secret: Changeable<Secret>,
}

/// The notice that people get before their faces and voices are analyzed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    pub required: bool,
    pub operator: String,
    pub link: String,
    pub version: String,
    /// By tag of the language. Empty or missing: the built-in text.
    pub purpose: BTreeMap<String, String>,
    pub text: BTreeMap<String, String>,
}

impl Notice {
    /// Returns the operator's purpose in a language; empty if there is none.
    pub fn purpose_in(&self, language: Language) -> &str {
        self.purpose.get(language.tag()).map_or("", |text| text.trim())
    }

    /// Returns the operator's text in a language; empty if there is none.
    pub fn text_in(&self, language: Language) -> &str {
        self.text.get(language.tag()).map_or("", |text| text.trim())
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub videos_h: u64,
    pub failed_videos_h: u64,
    pub failed_messages_h: u64,
    pub results_d: u64,
    pub file_names: bool,
    pub request_log_d: u64,
}

impl Retention {
    /// Hours that the video of a failed analysis is kept. Never less than for a successful one.
    pub fn failed_videos_h(&self) -> u64 {
        self.failed_videos_h.max(self.videos_h)
    }
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
    #[serde(deserialize_with = "one_of")]
    pub format: LogFormat,
    pub filter: Changeable<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    pub listen: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Address of the collector. Empty if traces are switched off.
    pub endpoint: String,
    pub headers: Secret,
    pub sample_ratio: f64,
    pub service_name: String,
}

impl Tracing {
    /// Whether traces are sent.
    pub const fn is_on(&self) -> bool {
        !self.endpoint.is_empty()
    }

    /// The names and values of `headers`. The name is empty in an entry without `=`.
    pub fn header_list(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.headers.expose().split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| entry.split_once('=').map_or(("", entry), |(name, value)| (name.trim(), value.trim())))
    }
}

/// Returns half the number of cores, but at least 1.
fn half_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}
