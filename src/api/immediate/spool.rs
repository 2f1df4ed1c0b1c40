//! A temporary file without a name. The system deletes it with its last handle, even if the process is killed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use crate::api::upload::form::VideoSink;
use crate::blob::{BlobError, Upload};
use crate::media::Source;

/// The file, in the folder for temporary files of the system (`TMPDIR`).
pub struct Spool(File);

impl Spool {
    pub async fn new() -> io::Result<Self> {
        tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(io::Error::other)?.map(Self)
    }

    /// The path from which the decoder reads the file. Linux gives such a path to open files. It is valid until this
    /// value is dropped.
    pub fn source(&self) -> Source {
        Source::File(format!("/proc/self/fd/{}", self.0.as_raw_fd()).into())
    }
}

#[async_trait]
impl VideoSink for Spool {
    async fn begin(&self) -> Result<Box<dyn Upload>, BlobError> {
        Ok(Box::new(SpoolUpload { file: tokio::fs::File::from_std(self.0.try_clone()?), written: 0 }))
    }
}

struct SpoolUpload {
    file: tokio::fs::File,
    written: u64,
}

#[async_trait]
impl Upload for SpoolUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.file.write_all(&bytes).await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, BlobError> {
        self.file.flush().await?;
        Ok(self.written)
    }

    async fn abort(self: Box<Self>) -> Result<(), BlobError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spool_is_read_from_its_start_and_has_no_name() {
        let spool = Spool::new().await.unwrap();
        let mut upload = spool.begin().await.unwrap();
        upload.write(Bytes::from_static(b"some ")).await.unwrap();
        upload.write(Bytes::from_static(b"bytes")).await.unwrap();
        assert_eq!(upload.finish().await.unwrap(), 10);
        let Source::File(path) = spool.source() else { panic!("a file") };
        assert_eq!(std::fs::read(&path).unwrap(), b"some bytes");
        assert!(!std::fs::read_link(&path).unwrap().exists());
    }
}
