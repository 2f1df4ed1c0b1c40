//! Checks settings for values that have the right type but that the service cannot run with.

use std::net::SocketAddr;

use reqwest::header::{HeaderName, HeaderValue};

use crate::analysis::Language;

use super::{
    ClipModel, ConfigError, EmotionModel, MailTransport, Notice, Secret, Settings, Sources, StorageKind, Tracing,
};

impl Settings {
    /// Returns an error that names the key of the first invalid value.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        positive("http.max_upload", self.http.max_upload.0)?;
        positive("video.piece_s", self.video.piece_s.into())?;
        positive("http.idle_timeout_s", self.http.idle_timeout_s)?;
        positive("http.max_upload_s", self.http.max_upload_s)?;
        positive("http.max_concurrent_uploads", self.http.max_concurrent_uploads as u64)?;
        positive("http.max_open_uploads_client", self.http.max_open_uploads_client)?;
        positive("database.max_connections", self.database.max_connections.into())?;
        positive("queue.lease_s", self.queue.lease_s)?;
        positive("queue.max_attempts", self.queue.max_attempts.into())?;
        positive("queue.poll_s", self.queue.poll_s)?;
        positive("video.sample_every", self.video.sample_every.into())?;
        positive("video.max_faces", self.video.max_faces.into())?;
        positive("video.max_duration_s", self.video.max_duration_s)?;
        positive("video.max_pixels", self.video.max_pixels)?;
        positive("video.max_total_megapixels", self.video.max_total_megapixels)?;
        positive("video.max_decoder_memory", self.video.max_decoder_memory.0)?;
        positive("video.max_cpu_s", self.video.max_cpu_s)?;
        positive("sync.deadline_s", self.sync.deadline_s)?;
        positive("sync.max_upload", self.sync.max_upload.0)?;
        positive("sync.facial_analysis_every", self.sync.facial_analysis_every.into())?;
        positive("sync.process_frame_every", self.sync.process_frame_every.into())?;
        positive("pictures.max_count", self.pictures.max_count as u64)?;
        positive("pictures.max_upload", self.pictures.max_upload.0)?;
        positive("pictures.max_pixels", self.pictures.max_pixels)?;
        positive("live.max_session_s", self.live.max_session_s)?;
        positive("live.idle_s", self.live.idle_s)?;
        positive("live.max_message", self.live.max_message.0)?;
        positive("live.max_pixels", self.live.max_pixels)?;
        positive("live.ticket_s", self.live.ticket_s)?;
        positive("thumbnails.max_video", self.thumbnails.max_video.0)?;
        positive("engine.max_batch", self.engine.max_batch as u64)?;
        positive("mail.confirm_within_h", self.mail.confirm_within_h)?;
        positive("mail.max_attempts", self.mail.max_attempts.into())?;
        positive("webhooks.timeout_s", self.webhooks.timeout_s)?;
        positive("webhooks.max_attempts", self.webhooks.max_attempts.into())?;
        positive("share.valid_h", self.share.valid_h)?;
        positive("vision.emotion.width", self.vision.emotion.width.into())?;
        positive("vision.emotion.height", self.vision.emotion.height.into())?;

        let (http, vision, storage) = (&self.http, &self.vision, &self.storage);
        require(http.listen.parse::<SocketAddr>().is_ok(), "http.listen", &http.listen, "use ADDRESS:PORT")?;
        let listen = &self.metrics.listen;
        let is_address = listen.is_empty() || listen.parse::<SocketAddr>().is_ok();
        require(is_address, "metrics.listen", listen, "use ADDRESS:PORT, or leave it empty")?;
        http.proxies()?;
        for origin in &self.cors.origins {
            let host =
                ["https://", "http://"].iter().find_map(|scheme| origin.strip_prefix(scheme)).unwrap_or_default();
            let is_origin = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
            require(
                origin == "*" || is_origin,
                "cors.origins",
                origin,
                "use origins such as https://example.org, or *",
            )?;
        }
        let url = &http.public_url;
        let is_http = url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
        require(is_http, "http.public_url", url, "use an http:// or https:// address")?;
        let url = self.database.url.expose();
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        let scheme = url.split(':').next().unwrap_or_default();
        require(known, "database.url", scheme, "use a sqlite:// or postgres:// address")?;
        if storage.kind == StorageKind::S3 {
            require(!storage.s3.bucket.is_empty(), "storage.s3.bucket", "", "storage.kind = \"s3\" needs a bucket")?;
            let week = 7 * 24 * 3600;
            let ttl = storage.s3.presign_ttl_s;
            require(
                (1..=week).contains(&ttl),
                "storage.s3.presign_ttl_s",
                &ttl.to_string(),
                "must be from 1 s to 7 days",
            )?;
            let both_or_none = storage.s3.access_key.is_empty() == storage.s3.secret_key.expose().is_empty();
            require(both_or_none, "storage.s3.secret_key", "", "set both access_key and secret_key, or neither")?;
        }
        self.sources.check()?;
        // visage deletes videos of its own bucket, and nobody may analyze those of others there.
        let own = (storage.kind == StorageKind::S3).then_some(&storage.s3.bucket);
        let own = own.filter(|own| self.sources.s3_buckets.contains(own)).map_or("", |own| own.as_str());
        require(own.is_empty(), "sources.s3_buckets", own, "use other buckets than storage.s3.bucket")?;
        let side = vision.analysis_side;
        require(
            (64..=4096).contains(&side),
            "vision.analysis_side",
            &side.to_string(),
            "must be from 64 to 4096 pixels",
        )?;
        let side = vision.second_side;
        let is_side = side == 0 || (64..=8192).contains(&side);
        require(is_side, "vision.second_side", &side.to_string(), "must be from 64 to 8192 pixels, or 0")?;
        let score = vision.min_score;
        require((0.0..1.0).contains(&score), "vision.min_score", &score.to_string(), "must be at least 0 and below 1")?;
        vision.emotion.check()?;
        let side = self.thumbnails.side;
        require((64..=1920).contains(&side), "thumbnails.side", &side.to_string(), "must be from 64 to 1920 pixels")?;
        self.thumbnails.model.check()?;
        let from = &self.mail.from;
        require(from.parse::<lettre::message::Mailbox>().is_ok(), "mail.from", from, "use a mail address")?;
        let reply_to = &self.mail.reply_to;
        let is_address = reply_to.is_empty() || reply_to.parse::<lettre::message::Mailbox>().is_ok();
        require(is_address, "mail.reply_to", reply_to, "use a mail address, or leave it empty")?;
        let is_valid =
            |secret: &Secret| webhook_key_bytes(secret.expose()).is_some_and(|bytes| (24..=64).contains(&bytes));
        let form = "use whsec_ and 24 to 64 random bytes in base64; separate several by spaces, or leave it empty";
        require(self.webhooks.secrets().iter().all(is_valid), "webhooks.secret", "***", form)?;
        let accent = self.report.accent.strip_prefix('#').unwrap_or_default();
        let is_colour = accent.len() == 6 && accent.chars().all(|c| c.is_ascii_hexdigit());
        require(is_colour, "report.accent", &self.report.accent, "use a colour such as #3457d5")?;
        let report = &self.report;
        let both_or_none = report.link_text.is_empty() == report.link_url.is_empty();
        require(both_or_none, "report.link_url", &report.link_url, "set both link_text and link_url, or neither")?;
        let url = &report.link_url;
        let is_link = url.is_empty() || ["https://", "http://", "mailto:"].iter().any(|scheme| url.starts_with(scheme));
        require(is_link, "report.link_url", url, "use an https://, http:// or mailto: address")?;
        self.notice.check()?;
        self.tracing.check()?;
        let is_long = |secret: &Secret| secret.expose().len() >= 32;
        let form = "use at least 32 characters without spaces; separate several secrets by spaces, or leave it empty";
        require(self.share.secret.get().parts().iter().all(is_long), "share.secret", "***", form)?;
        let filter = self.log.filter.get();
        let is_filter = filter.parse::<tracing_subscriber::filter::Targets>().is_ok();
        require(is_filter, "log.filter", &filter, "use levels such as info or visage=debug,sqlx=warn")?;
        let has_host = self.mail.transport != MailTransport::Smtp || !self.mail.smtp.host.is_empty();
        require(has_host, "mail.smtp.host", "", "mail.transport = \"smtp\" needs a server")?;
        positive("mail.smtp.timeout_s", self.mail.smtp.timeout_s)?;
        let both_or_none =
            self.mail.smtp.username.get().is_empty() == self.mail.smtp.password.get().expose().is_empty();
        require(both_or_none, "mail.smtp.password", "", "set both username and password, or neither")
    }
}

impl Tracing {
    fn check(&self) -> Result<(), ConfigError> {
        let is_base = |url: reqwest::Url| {
            let has_login = !url.username().is_empty() || url.password().is_some();
            let is_plain = !has_login && url.query().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain
        };
        let is_address = self.endpoint.is_empty() || self.endpoint.parse().is_ok_and(is_base);
        let reason = "use an http:// or https:// address without user and query, or leave it empty";
        // The value may have a password.
        require(is_address, "tracing.endpoint", "***", reason)?;
        let is_header = |(name, value): (&str, &str)| {
            HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
        };
        let reason = "use NAME=VALUE, separated by commas, or leave it empty";
        require(self.header_list().all(is_header), "tracing.headers", "***", reason)?;
        let ratio = self.sample_ratio;
        let reason = "must be from 0 to 1";
        require((0.0..=1.0).contains(&ratio), "tracing.sample_ratio", &ratio.to_string(), reason)?;
        let name = &self.service_name;
        require(!name.trim().is_empty(), "tracing.service_name", name, "must not be empty")
    }
}

impl Sources {
    fn check(&self) -> Result<(), ConfigError> {
        positive("sources.max_fetch_s", self.max_fetch_s)?;
        positive("sources.max_concurrent", self.max_concurrent as u64)?;
        let items = self.max_batch_items;
        require((1..=1000).contains(&items), "sources.max_batch_items", &items.to_string(), "must be from 1 to 1000")?;
        self.networks()?;
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        };
        for host in &self.hosts {
            let reason = "use names such as media.example.org, or *.example.org for all names below it";
            require(is_name(host.strip_prefix("*.").unwrap_or(host)), "sources.hosts", host, reason)?;
        }
        for bucket in &self.s3_buckets {
            require(is_name(bucket), "sources.s3_buckets", bucket, "use names of buckets, without s3://")?;
        }
        Ok(())
    }
}

impl Notice {
    fn check(&self) -> Result<(), ConfigError> {
        let url = &self.link;
        let is_link = url.is_empty() || ["https://", "http://", "mailto:"].iter().any(|scheme| url.starts_with(scheme));
        require(is_link, "notice.link", url, "use an https://, http:// or mailto: address")?;
        let is_version = self.version.len() <= 64 && self.version.chars().all(|c| c.is_ascii_graphic());
        require(is_version, "notice.version", &self.version, "use at most 64 ASCII characters without spaces")?;
        for (key, texts) in [("notice.purpose", &self.purpose), ("notice.text", &self.text)] {
            for tag in texts.keys() {
                let is_known = Language::all().any(|language| language.tag() == tag);
                require(is_known, key, tag, &format!("use the languages {}", Language::choice()))?;
            }
        }
        Ok(())
    }
}

impl ClipModel {
    fn check(&self) -> Result<(), ConfigError> {
        const FIVE: [&str; 5] = ["Anger", "Happy", "Shock", "Neutral", "Sad"];
        let (key, given) = ("thumbnails.model.labels", self.labels.join(","));
        for label in FIVE {
            let times = self.labels.iter().filter(|given| *given == label).count();
            require(times == 1, key, &given, &format!("{label} must be listed once"))?;
        }
        require(self.labels.len() == FIVE.len(), key, &given, &format!("list exactly {}", FIVE.join(", ")))
    }
}

impl EmotionModel {
    fn check(&self) -> Result<(), ConfigError> {
        const SEVEN: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
        let key = "vision.emotion.labels";
        for label in &self.labels {
            let known = ["-", "contempt"].contains(&label.as_str()) || SEVEN.contains(&label.as_str());
            require(known, key, label, &format!("use {}, contempt or -", SEVEN.join(", ")))?;
        }
        let once = self.labels.iter().filter(|given| *given == "contempt").count() <= 1;
        require(once, key, &self.labels.join(","), "contempt may be listed only once")?;
        for label in SEVEN {
            let times = self.labels.iter().filter(|given| *given == label).count();
            require(times == 1, key, &self.labels.join(","), &format!("{label} must be listed once"))?;
        }
        for (key, values) in [("vision.emotion.mean", &self.mean), ("vision.emotion.std", &self.std)] {
            let fits = values.len() == 1 || values.len() == self.channels();
            require(fits, key, &format!("{values:?}"), "give one value, or one per channel")?;
        }
        let std = format!("{:?}", self.std);
        require(self.std.iter().all(|&value| value > 0.0), "vision.emotion.std", &std, "must be above 0")?;
        let within = (0.0..=1.0).contains(&self.prior);
        require(within, "vision.emotion.prior", &self.prior.to_string(), "must be from 0 to 1")
    }
}

/// Returns the number of bytes of a signing secret, or `None` if it is invalid.
fn webhook_key_bytes(secret: &str) -> Option<usize> {
    use base64::Engine;
    let key = secret.strip_prefix("whsec_")?;
    base64::engine::general_purpose::STANDARD.decode(key).ok().map(|key| key.len())
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
