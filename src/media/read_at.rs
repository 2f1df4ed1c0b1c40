//! Reading bytes from any position.

use ffmpeg_next as ffmpeg;

use super::ProbeError;
use super::error::unreadable;

/// An error of opening or reading bytes, as FFmpeg's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadError(pub i32);

impl From<ReadError> for ProbeError {
    fn from(ReadError(code): ReadError) -> Self {
        unreadable(ffmpeg::Error::from(code))
    }
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Self(-error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Bytes that can be read from any position.
pub trait ReadAt: Send + Sync {
    /// Reads bytes from this position on, at most as many as the buffer holds; none at the end. Blocks.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError>;

    /// The size in bytes, if known.
    fn size(&self) -> Option<u64>;

    /// Whether a server sends the bytes, so that a connection may break off.
    fn is_remote(&self) -> bool {
        false
    }
}
