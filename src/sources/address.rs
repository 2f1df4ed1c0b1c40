//! The addresses of videos, and which of them the settings allow.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

use crate::config::{ConfigError, Sources};
use crate::public_network::{is_public, literal};

/// The longest address, in bytes.
pub const MAX_ADDRESS: usize = 2000;
/// The longest key of an object, in bytes (S3).
const MAX_OBJECT_KEY: usize = 1024;

/// The reason why an address is refused. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("videos by address are switched off")]
    Off,
    #[error("the address is neither https:// nor s3://BUCKET/KEY, has a user, or is too long")]
    Malformed,
    #[error("the address does not begin with https://")]
    Plain,
    #[error("the address leads to a private network")]
    Private,
    #[error("the host {host} is not in sources.hosts")]
    Host { host: String },
    #[error("the bucket {bucket} is not in sources.s3_buckets")]
    Bucket { bucket: String },
}

/// Where a video is.
#[derive(Clone, PartialEq, Eq)]
pub enum VideoAddress {
    /// On a web server, from which it is fetched.
    Web(Url),
    /// In a bucket, where it is read.
    Object(ObjectAddress),
}

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectAddress {
    pub bucket: String,
    pub key: String,
}

impl ObjectAddress {
    /// Parses `s3://BUCKET/KEY`. Everything after the slash is the key, as it is.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_at_checked("s3://".len())?;
        let (bucket, key) = rest.split_once('/')?;
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
        let is_key = (1..=MAX_OBJECT_KEY).contains(&key.len()) && !key.chars().any(char::is_control);
        let is_object = scheme.eq_ignore_ascii_case("s3://") && is_bucket && is_key;
        is_object.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The name of the file: the last part of the key.
    pub fn file_name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// Without the path and the query, which may contain secrets.
impl fmt::Debug for VideoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => write!(f, "Web({})", host(url)),
            Self::Object(object) => write!(f, "Object({})", object.bucket),
        }
    }
}

/// The host of a URL, for people.
pub(super) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Which addresses the settings allow.
#[derive(Debug, Clone)]
pub struct AddressRules {
    enabled: bool,
    /// Names, or `.example.org` for all names below it. Empty: all hosts.
    hosts: Vec<String>,
    private_networks: Vec<IpNet>,
    buckets: Vec<String>,
}

impl AddressRules {
    /// # Errors
    /// A private network of the settings is not a network.
    pub fn new(settings: &Sources) -> Result<Self, ConfigError> {
        let host = |host: &String| host.strip_prefix('*').unwrap_or(host).to_ascii_lowercase();
        Ok(Self {
            enabled: settings.enabled,
            hosts: settings.hosts.iter().map(host).collect(),
            private_networks: settings.networks()?,
            buckets: settings.s3_buckets.clone(),
        })
    }

    /// Parses and checks the address of a video. A name is not resolved: that happens when the video is fetched.
    pub fn parse(&self, text: &str) -> Result<VideoAddress, AddressError> {
        if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3://")) {
            let object = ObjectAddress::parse(text).ok_or(AddressError::Malformed)?;
            self.check_object(&object)?;
            return Ok(VideoAddress::Object(object));
        }
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::Malformed);
        }
        let mut url = Url::parse(text).map_err(|_| AddressError::Malformed)?;
        url.set_fragment(None);
        self.check_url(&url)?;
        Ok(VideoAddress::Web(url))
    }

    /// Checks whether objects of this bucket may be read.
    pub fn check_object(&self, object: &ObjectAddress) -> Result<(), AddressError> {
        let is_listed = self.buckets.contains(&object.bucket);
        if is_listed { Ok(()) } else { Err(AddressError::Bucket { bucket: object.bucket.clone() }) }
    }

    /// Checks the address of a web server, without resolving its name.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressError> {
        if !self.enabled {
            return Err(AddressError::Off);
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else { return Err(AddressError::Malformed) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Malformed);
        }
        let ip = literal(host);
        match url.scheme() {
            "https" => {}
            // The resolver checks that a name leads into these networks.
            "http" if ip.map_or(!self.private_networks.is_empty(), |ip| self.is_permitted_private(ip)) => {}
            "http" => return Err(AddressError::Plain),
            _ => return Err(AddressError::Malformed),
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let is_private = ip.map_or(is_local && self.private_networks.is_empty(), |ip| !self.is_permitted(ip));
        if is_private {
            return Err(AddressError::Private);
        }
        let matches = |listed: &String| match listed.strip_prefix('.') {
            Some(_) => name.len() > listed.len() && name.ends_with(listed.as_str()),
            None => name == listed,
        };
        let is_listed = self.hosts.is_empty() || self.hosts.iter().any(matches);
        if is_listed { Ok(()) } else { Err(AddressError::Host { host: host.to_owned() }) }
    }

    /// Whether a video may be fetched from this IP address.
    pub(super) fn is_permitted(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.is_permitted_private(ip)
    }

    /// Whether the settings list the private network of this IP address.
    pub(super) fn is_permitted_private(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.private_networks.iter().any(|network| network.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn rules(change: impl FnOnce(&mut Sources)) -> AddressRules {
        let mut settings = Settings::defaults().unwrap().sources;
        change(&mut settings);
        AddressRules::new(&settings).unwrap()
    }

    #[test]
    fn only_public_addresses_over_tls_are_allowed_by_default() {
        let rules = rules(|_| {});
        let long = format!("https://example.org/{}", "a".repeat(MAX_ADDRESS));
        for (text, refused) in [
            ("https://example.org/talk.mp4?signature=x", None),
            ("HTTPS://EXAMPLE.ORG:8443/talk.mp4#t=3", None),
            ("https://1.1.1.1/talk.mp4", None),
            ("http://example.org/talk.mp4", Some(AddressError::Plain)),
            ("http://127.0.0.1/talk.mp4", Some(AddressError::Plain)),
            ("https://10.0.0.1/talk.mp4", Some(AddressError::Private)),
            ("https://localhost./talk.mp4", Some(AddressError::Private)),
            ("https://a.localhost/talk.mp4", Some(AddressError::Private)),
            ("https://ann@example.org/", Some(AddressError::Malformed)),
            ("https://ann:secret@example.org/", Some(AddressError::Malformed)),
            ("https://", Some(AddressError::Malformed)),
            ("ftp://example.org/talk.mp4", Some(AddressError::Malformed)),
            ("file:///etc/passwd", Some(AddressError::Malformed)),
            ("data:video/mp4;base64,AAAA", Some(AddressError::Malformed)),
            ("example.org/talk.mp4", Some(AddressError::Malformed)),
            ("", Some(AddressError::Malformed)),
            (&long, Some(AddressError::Malformed)),
            ("s3://films/talk.mp4", Some(AddressError::Bucket { bucket: "films".to_owned() })),
            ("s3://films", Some(AddressError::Malformed)),
            ("s3://films/", Some(AddressError::Malformed)),
            ("s3://F/talk.mp4", Some(AddressError::Malformed)),
            ("s3:///talk.mp4", Some(AddressError::Malformed)),
        ] {
            assert_eq!(rules.parse(text).err(), refused, "{text}");
        }
    }

    #[test]
    fn a_list_of_hosts_allows_these_and_those_below() {
        let rules = rules(|settings| settings.hosts = vec!["Media.example.org".to_owned(), "*.cdn.example".to_owned()]);
        for host in ["media.example.org", "MEDIA.example.org.", "a.cdn.example", "b.a.cdn.example"] {
            assert!(rules.parse(&format!("https://{host}/x")).is_ok(), "{host}");
        }
        for host in
            ["example.org", "x.media.example.org", "cdn.example", "evilcdn.example", "cdn.example.evil", "1.1.1.1"]
        {
            let refused = rules.parse(&format!("https://{host}/x"));
            assert_eq!(refused, Err(AddressError::Host { host: host.to_owned() }));
        }
    }

    #[test]
    fn listed_private_networks_may_be_used_also_without_tls_and_no_others() {
        let rules = rules(|settings| settings.private_networks = vec!["10.1.0.0/16".to_owned(), "::1/128".to_owned()]);
        for text in
            ["https://10.1.2.3/", "http://10.1.2.3/", "http://[::1]/", "http://[::ffff:10.1.2.3]/", "http://nas/"]
        {
            assert!(rules.parse(text).is_ok(), "{text}");
        }
        assert_eq!(rules.parse("https://10.2.0.1/"), Err(AddressError::Private));
        assert_eq!(rules.parse("http://10.2.0.1/"), Err(AddressError::Plain));
        assert_eq!(rules.parse("http://1.1.1.1/"), Err(AddressError::Plain));
    }

    #[test]
    fn only_the_listed_buckets_are_read() {
        let rules = rules(|settings| {
            settings.enabled = false;
            settings.s3_buckets = vec!["films".to_owned()];
        });
        let VideoAddress::Object(object) = rules.parse("S3://films/2026/a b?c#d.mp4").unwrap() else { panic!() };
        assert_eq!((object.bucket.as_str(), object.key.as_str()), ("films", "2026/a b?c#d.mp4"));
        assert_eq!((object.to_string().as_str(), object.file_name()), ("s3://films/2026/a b?c#d.mp4", "a b?c#d.mp4"));
        assert_eq!(rules.parse("s3://other/a.mp4"), Err(AddressError::Bucket { bucket: "other".to_owned() }));
        assert_eq!(rules.parse("https://example.org/a.mp4"), Err(AddressError::Off), "buckets have their own list");
    }

    #[test]
    fn addresses_are_printed_without_path_and_query() {
        let rules = rules(|settings| settings.s3_buckets = vec!["films".to_owned()]);
        for (text, shown) in [
            ("https://example.org/secret?signature=secret", "Web(example.org)"),
            ("s3://films/secret.mp4", "Object(films)"),
        ] {
            assert_eq!(format!("{:?}", rules.parse(text).unwrap()), shown);
        }
    }
}
