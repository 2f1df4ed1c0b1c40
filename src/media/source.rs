//! Where the bytes of a video come from.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ffmpeg_next::Dictionary;
use parking_lot::Mutex;

use super::ffi::UrlReader;
use super::read_at::{ReadAt, ReadError};
use super::{ProbeError, setup};

/// The protocols that FFmpeg may use to open the URL of a source.
const URL_PROTOCOLS: &str = "http,https,tcp,tls";
/// A connection without data for this long is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The location of a video.
#[derive(Clone)]
pub enum Source {
    File(PathBuf),
    /// An http(s) URL that supports range requests, such as a presigned one. It is never logged.
    Url(String),
    /// Bytes that are opened already.
    Opened(Arc<dyn ReadAt>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Url(_) => f.write_str("Url(..)"),
            Self::Opened(_) => f.write_str("Opened(..)"),
        }
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Url(one), Self::Url(other)) => one == other,
            (Self::Opened(one), Self::Opened(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Source {
    /// Whether a server sends the bytes, so that a connection may break off.
    pub(super) fn is_remote(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Url(_) => true,
            Self::Opened(bytes) => bytes.is_remote(),
        }
    }

    /// Opens the bytes. `stop` is called during every wait for a server.
    pub fn open(&self, stop: impl Fn() -> bool + Send + 'static) -> Result<Arc<dyn ReadAt>, ReadError> {
        setup::prepare();
        match self {
            Self::File(path) => Ok(Arc::new(OpenFile::new(File::open(path)?))),
            Self::Url(url) => Ok(Arc::new(OpenUrl::new(url, stop)?)),
            Self::Opened(bytes) => Ok(bytes.clone()),
        }
    }

    /// Reads the first bytes, at most `count`. Returns fewer at the end of a shorter source.
    pub(super) fn head(&self, count: usize, stop: impl Fn() -> bool + Send + 'static) -> Result<Vec<u8>, ProbeError> {
        let bytes = self.open(stop)?;
        let (mut head, mut read) = (vec![0; count], 0);
        while read < count {
            match bytes.read_at(&mut head[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        head.truncate(read);
        Ok(head)
    }
}

/// An open file. Reads do not move the position of the file, so several readers can share it.
pub struct OpenFile {
    file: File,
    size: Option<u64>,
}

impl OpenFile {
    pub fn new(file: File) -> Self {
        let size = file.metadata().ok().map(|metadata| metadata.len());
        Self { file, size }
    }

    /// An open file of a known size.
    pub const fn of_size(file: File, size: Option<u64>) -> Self {
        Self { file, size }
    }

    pub const fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for OpenFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
        loop {
            match self.file.read_at(buffer, at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => return Ok(read?),
            }
        }
    }

    fn size(&self) -> Option<u64> {
        self.size
    }
}

/// A connection to a server.
struct OpenUrl {
    reader: Mutex<UrlReader>,
    size: Option<u64>,
}

impl OpenUrl {
    fn new(url: &str, stop: impl Fn() -> bool + Send + 'static) -> Result<Self, ReadError> {
        let location = CString::new(url).ok();
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        let location = location.filter(|_| is_http).ok_or(ReadError(-libc::EPERM))?;
        let options: Dictionary<'_> = url_options().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut reader = UrlReader::open(&location, options, stop).map_err(|error| ReadError(error.into()))?;
        let size = reader.size();
        Ok(Self { reader: Mutex::new(reader), size })
    }
}

impl ReadAt for OpenUrl {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
        self.reader.lock().read_at(buffer, at)
    }

    fn size(&self) -> Option<u64> {
        self.size
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// The options for a URL: protocols, timeouts, and verification of TLS certificates.
fn url_options() -> Vec<(&'static str, String)> {
    vec![
        ("rw_timeout", STALL_TIMEOUT.as_micros().to_string()),
        ("reconnect", "1".to_owned()),
        ("reconnect_delay_max", "2".to_owned()),
        ("tls_verify", "1".to_owned()),
        ("protocol_whitelist", URL_PROTOCOLS.to_owned()),
    ]
}
