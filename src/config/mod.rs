//! The settings, with one struct per section. The defaults are embedded from `config/default.toml`.
//!
//! Sources, each overriding the ones before: the embedded defaults; `config/*.toml` in order of name, or the file given
//! by `--config`; environment variables `VISAGE_<SECTION>__<KEY>`. A key that is unknown, or a value of the wrong type
//! or out of range, stops the program at start with an error that names the key. This module does not use the network
//! and does not open files that settings name.

mod changeable;
mod checks;
mod reload;
mod secret;
mod sections;
mod size;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};

pub use changeable::Changeable;
pub use reload::Changes;
pub use secret::Secret;
pub use sections::*;
pub use size::ByteSize;

/// The text of `config/default.toml`, which documents every key.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Environment variables of visage that are not settings of a section.
const NON_SETTINGS: [&str; 2] = ["VISAGE_CONFIG", "VISAGE_LOG"];

/// Settings that are lists. In environment variables, their values are separated by commas.
const LISTS: [&str; 11] = [
    "video.extra_codecs",
    "video.extra_containers",
    "thumbnails.model.labels",
    "vision.emotion.labels",
    "vision.emotion.mean",
    "vision.emotion.std",
    "http.trusted_proxies",
    "cors.origins",
    "sources.hosts",
    "sources.private_networks",
    "sources.s3_buckets",
];

/// The reason why settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("settings: {0}")]
    Source(#[from] config::ConfigError),
    #[error("settings: {key} = {value:?}: {reason}")]
    Value { key: &'static str, value: String, reason: String },
    #[error("settings: {} does not exist or cannot be read", .0.display())]
    Missing(PathBuf),
    #[error("settings: the folder {} cannot be listed: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
}

impl Settings {
    /// Loads the settings from the defaults, the file (or `config/*.toml` in the working directory) and the given
    /// variables.
    pub fn load(file: Option<&Path>, vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        for path in Self::files(file)? {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let mut vars: HashMap<String, String> =
            vars.into_iter().filter(|(name, _)| name.starts_with("VISAGE_")).collect();
        vars.retain(|name, _| !NON_SETTINGS.contains(&name.as_str()));
        // The documented short name of the setting `models.mirror`, which scripts use.
        if let Some(mirror) = vars.remove("VISAGE_MODELS_MIRROR") {
            vars.insert("VISAGE_MODELS__MIRROR".to_owned(), mirror);
        }
        for key in LISTS {
            if let Some(list) = vars.remove(&format!("VISAGE_{}", key.replace('.', "__").to_uppercase())) {
                builder = builder.set_override(
                    key,
                    list.split(',').map(str::trim).filter(|_| !list.is_empty()).collect::<Vec<_>>(),
                )?;
            }
        }
        // Values from the environment stay text. The types of the settings decide how they are parsed.
        let environment = Environment::with_prefix("VISAGE").prefix_separator("_").separator("__").source(Some(vars));
        let settings: Self = builder.add_source(environment).build()?.try_deserialize()?;
        settings.check()?;
        Ok(settings)
    }

    /// Lists the settings files to read, in order.
    pub fn files(given: Option<&Path>) -> Result<Vec<PathBuf>, ConfigError> {
        if let Some(file) = given {
            return if file.is_file() { Ok(vec![file.to_owned()]) } else { Err(ConfigError::Missing(file.to_owned())) };
        }
        let folder = Path::new("config");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let entries =
            std::fs::read_dir(folder).map_err(|source| ConfigError::Folder { path: folder.to_owned(), source })?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        Ok(files)
    }

    /// Loads only the embedded defaults.
    pub fn defaults() -> Result<Self, ConfigError> {
        let defaults = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)).build()?;
        Ok(defaults.try_deserialize()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(vars: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let empty = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        Settings::load(Some(empty.path()), vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_embedded_defaults_are_valid() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings, Settings::defaults().unwrap());
        assert_eq!(settings.video.sample_every, 20);
        assert_eq!(settings.http.max_upload.0, 2 << 30);
    }

    #[test]
    fn a_file_overrides_the_defaults_and_the_environment_overrides_the_file() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), "[video]\nsample_every = 7\nmax_faces = 3\n").unwrap();
        let vars = [("VISAGE_VIDEO__MAX_FACES".to_owned(), "4".to_owned())];
        let settings = Settings::load(Some(file.path()), vars).unwrap();
        assert_eq!((settings.video.sample_every, settings.video.max_faces), (7, 4));
    }

    #[test]
    fn only_a_service_for_this_machine_sends_mails_without_consent() {
        let needs_consent = |vars: &[(&str, &str)]| load(vars).unwrap().mails_need_consent();
        let (listen, url, proxies) = ("VISAGE_HTTP__LISTEN", "VISAGE_HTTP__PUBLIC_URL", "VISAGE_HTTP__TRUSTED_PROXIES");
        assert!(!needs_consent(&[]));
        assert!(!needs_consent(&[(listen, "[::1]:80")]));
        assert!(!needs_consent(&[(url, "http://localhost:8000")]));
        assert!(needs_consent(&[(listen, "0.0.0.0:8000")]));
        assert!(needs_consent(&[(listen, "0.0.0.0:8000"), (url, "http://localhost:8000")]));
        assert!(needs_consent(&[(url, "https://visage.example")]));
        assert!(needs_consent(&[(url, "http://localhost.example")]));
        assert!(needs_consent(&[(proxies, "127.0.0.1")]));
        assert!(needs_consent(&[("VISAGE_MAIL__CONFIRM", "always")]));
        assert!(!needs_consent(&[(listen, "0.0.0.0:8000"), ("VISAGE_MAIL__CONFIRM", "never")]));
    }

    #[test]
    fn a_number_in_the_environment_can_be_the_value_of_a_text_setting() {
        let settings = load(&[
            ("VISAGE_MAIL__SMTP__USERNAME", "12"),
            ("VISAGE_MAIL__SMTP__PASSWORD", "0123"),
            ("VISAGE_STORAGE__S3__BUCKET", "true"),
        ])
        .unwrap();
        assert_eq!(settings.mail.smtp.password.get().expose(), "0123");
        assert_eq!(settings.storage.s3.bucket, "true");
    }

    #[test]
    fn lists_in_the_environment_are_separated_by_commas() {
        let labels = "angry,disgust,fear,happy,sad,surprise,neutral";
        let settings = load(&[("VISAGE_VISION__EMOTION__LABELS", labels)]).unwrap();
        assert_eq!(settings.vision.emotion.labels.len(), 7);
        let settings =
            load(&[("VISAGE_HTTP__TRUSTED_PROXIES", "10.0.0.0/8, ::1"), ("VISAGE_CORS__ORIGINS", "")]).unwrap();
        assert_eq!((settings.http.proxies().unwrap().len(), settings.cors.origins.len()), (2, 0));
    }

    #[test]
    fn the_bucket_that_stores_videos_cannot_also_be_a_source() {
        let own = [("VISAGE_STORAGE__KIND", "s3"), ("VISAGE_STORAGE__S3__BUCKET", "videos")];
        let with = |buckets: &'static str| load(&[own[0], own[1], ("VISAGE_SOURCES__S3_BUCKETS", buckets)]);
        assert_eq!(with("films,talks").unwrap().sources.s3_buckets, ["films", "talks"]);
        let error = with("films,videos").unwrap_err().to_string();
        assert!(error.contains("sources.s3_buckets") && error.contains("videos"), "{error}");
        assert!(load(&[own[1], ("VISAGE_SOURCES__S3_BUCKETS", "videos")]).is_ok(), "videos are stored in a folder");
    }

    #[test]
    fn the_environment_can_set_a_text_in_one_language() {
        let notice =
            load(&[("VISAGE_NOTICE__TEXT__DE", "Achtung"), ("VISAGE_NOTICE__REQUIRED", "true")]).unwrap().notice;
        assert_eq!((notice.required, notice.text["de"].as_str(), notice.text["en"].as_str()), (true, "Achtung", ""));
    }

    #[test]
    fn the_short_variable_name_of_the_mirror_works() {
        assert_eq!(load(&[("VISAGE_MODELS_MIRROR", "/srv/m")]).unwrap().models.mirror, "/srv/m");
    }

    #[test]
    fn an_invalid_setting_is_an_error_that_names_its_key() {
        for (name, value, key) in [
            ("VISAGE_VIDEO__SAMPLE_EVERY", "often", "video.sample_every"),
            ("VISAGE_VIDEO__SAMPLE_EVERY", "0", "video.sample_every"),
            ("VISAGE_VIDEO__SAMPEL_EVERY", "5", "sampel_every"),
            ("VISAGE_HTTP__LISTEN", "nowhere", "http.listen"),
            ("VISAGE_METRICS__LISTEN", "nowhere", "metrics.listen"),
            ("VISAGE_HTTP__TRUSTED_PROXIES", "10.0.0.0/8,localhost", "http.trusted_proxies"),
            ("VISAGE_SOURCES__HOSTS", "https://a.example", "sources.hosts"),
            ("VISAGE_SOURCES__HOSTS", "a.example:8443", "sources.hosts"),
            ("VISAGE_SOURCES__HOSTS", "a.*.example", "sources.hosts"),
            ("VISAGE_SOURCES__PRIVATE_NETWORKS", "10.0.0.0/8,intranet", "sources.private_networks"),
            ("VISAGE_SOURCES__S3_BUCKETS", "s3://films", "sources.s3_buckets"),
            ("VISAGE_SOURCES__MAX_FETCH_S", "0", "sources.max_fetch_s"),
            ("VISAGE_CORS__ORIGINS", "https://a.example,https://b.example/", "cors.origins"),
            ("VISAGE_HTTP__MAX_UPLOAD", "2 furlongs", "http.max_upload"),
            ("VISAGE_DATABASE__URL", "mysql://x", "database.url"),
            ("VISAGE_STORAGE__KIND", "s3", "storage.s3.bucket"),
            ("VISAGE_STORAGE__KIND", "tape", "`folder` or `s3` for key `storage.kind`"),
            ("VISAGE_ENGINE__DEVICE", "abacus", "one of `auto`, `cpu`, `cuda` for key `engine.device`"),
            ("VISAGE_VISION__EMOTION__LABELS", "happy,glum", "vision.emotion.labels"),
            ("VISAGE_VISION__EMOTION__PRIOR", "1.5", "vision.emotion.prior"),
            ("VISAGE_VISION__EMOTION__PRIOR", "NaN", "vision.emotion.prior"),
            ("VISAGE_THUMBNAILS__MODEL__LABELS", "Anger,Happy,Shock,Neutral", "thumbnails.model.labels"),
            ("VISAGE_WEBHOOKS__SECRET", "whsec_c2hvcnQ=", "webhooks.secret"),
            ("VISAGE_MAIL__FROM", "nobody", "mail.from"),
            ("VISAGE_REPORT__ACCENT", "blue", "report.accent"),
            ("VISAGE_REPORT__LINK_URL", "https://example.org", "report.link_url"),
            ("VISAGE_MAIL__SMTP__USERNAME", "robot", "mail.smtp.password"),
            ("VISAGE_NOTICE__TEXT__XX", "hello", "notice.text"),
            ("VISAGE_SHARE__SECRET", "short", "share.secret"),
            ("VISAGE_NOTICE__LINK", "javascript:x", "notice.link"),
            ("VISAGE_TRACING__ENDPOINT", "127.0.0.1:4318", "tracing.endpoint"),
            ("VISAGE_TRACING__ENDPOINT", "http://ann:secret@collector", "tracing.endpoint"),
            ("VISAGE_TRACING__ENDPOINT", "grpc://collector:4317", "tracing.endpoint"),
            ("VISAGE_TRACING__HEADERS", "authorization", "tracing.headers"),
            ("VISAGE_TRACING__HEADERS", "x=1,not a name=2", "tracing.headers"),
            ("VISAGE_TRACING__SAMPLE_RATIO", "1.1", "tracing.sample_ratio"),
            ("VISAGE_TRACING__SAMPLE_RATIO", "NaN", "tracing.sample_ratio"),
            ("VISAGE_TRACING__SERVICE_NAME", " ", "tracing.service_name"),
        ] {
            let error = load(&[(name, value)]).expect_err(name).to_string();
            assert!(error.contains(key), "{name}={value}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
    }

    #[test]
    fn a_missing_settings_file_is_an_error() {
        assert!(matches!(Settings::load(Some(Path::new("/nowhere.toml")), []), Err(ConfigError::Missing(_))));
    }
}
