//! Stores blobs as files of a folder.
//!
//! A blob is written to a hidden `.part` file in its folder, flushed to the disk and then renamed, so that readers see
//! a complete file or none. Only the owner may read the files, since they show people's faces.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::{DirBuilder, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::{BlobError, BlobInfo, BlobStore, IDENTITY, PROBE, Upload, checked, identity_text, is_key, parse_identity};
use crate::clock::Clock;
use crate::media::Source;

/// A folder on a local or shared disk.
pub struct Folder {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    /// Numbers the unfinished files of this process.
    serial: AtomicU64,
}

impl Folder {
    /// Opens the folder, and creates it if it does not exist.
    pub async fn open(root: &Path, clock: Arc<dyn Clock>) -> Result<Self, BlobError> {
        make_folder(root).await?;
        // The path is made absolute because the decoder may run with another working directory.
        Ok(Self { root: std::path::absolute(root)?, clock, serial: AtomicU64::new(0) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the unfinished file for a path.
    async fn create_unfinished(&self, path: &Path) -> Result<(UnfinishedFile, File), BlobError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let part = path.with_file_name(format!(".{name}.{}-{serial}.part", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).await {
                Ok(file) => return Ok((UnfinishedFile { path: part, is_renamed: false }, file)),
                // An earlier process with the same id left this file.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns whether an unfinished file belongs to one of these keys: its name is a dot, the file name of the blob,
    /// another dot, and further characters.
    fn belongs_to_any(&self, path: &Path, keys: &HashSet<String>) -> bool {
        let Some(relative) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else { return false };
        let (folder, name) = relative.rsplit_once('/').map_or(("", relative), |(folder, name)| (folder, name));
        let name = name.trim_start_matches('.');
        let key =
            |end: usize| if folder.is_empty() { name[..end].to_owned() } else { format!("{folder}/{}", &name[..end]) };
        name.match_indices('.').any(|(end, _)| keys.contains(&key(end)))
    }

    /// Returns all files below the root last changed before `before`: the unfinished ones if `unfinished`, otherwise
    /// the finished ones.
    async fn older(&self, before: Timestamp, unfinished: bool) -> Result<Vec<(PathBuf, u64, Timestamp)>, BlobError> {
        let (mut folders, mut found) = (vec![self.root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            let mut entries = tokio::fs::read_dir(&folder).await?;
            while let Some(entry) = entries.next_entry().await? {
                // The file may have been deleted meanwhile.
                let Ok(facts) = entry.metadata().await else { continue };
                if facts.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let name = entry.file_name();
                let is_unfinished = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".part"));
                let Some(modified) = facts.modified().ok().and_then(|time| Timestamp::try_from(time).ok()) else {
                    continue;
                };
                if facts.is_file() && is_unfinished == unfinished && modified < before {
                    found.push((entry.path(), facts.len(), modified));
                }
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl BlobStore for Folder {
    async fn begin(&self, key: &str) -> Result<Box<dyn Upload>, BlobError> {
        let path = self.root.join(checked(key)?);
        Ok(Box::new(FolderUpload::begin(self, path).await?))
    }

    async fn source(&self, key: &str) -> Result<Source, BlobError> {
        let path = self.root.join(checked(key)?);
        if tokio::fs::try_exists(&path).await? { Ok(Source::File(path)) } else { Err(BlobError::NotFound) }
    }

    async fn fetch(&self, key: &str, to: &Path) -> Result<u64, BlobError> {
        tokio::fs::copy(self.root.join(checked(key)?), to).await.map_err(not_found)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match tokio::fs::remove_file(self.root.join(checked(key)?)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn list_older(&self, before: Timestamp, limit: usize) -> Result<Vec<BlobInfo>, BlobError> {
        let mut found = self.older(before, false).await?;
        found.sort_by_key(|(_, _, modified)| *modified);
        let info = |(path, size_bytes, modified): (PathBuf, u64, Timestamp)| {
            let key = path.strip_prefix(&self.root).ok()?.to_str().filter(|key| is_key(key))?.to_owned();
            Some(BlobInfo { key, size_bytes, modified })
        };
        Ok(found.into_iter().filter_map(info).take(limit).collect())
    }

    async fn abort_abandoned(&self, before: Timestamp, kept: &HashSet<String>) -> Result<usize, BlobError> {
        let mut ended = 0;
        for (path, _, _) in self.older(before, true).await? {
            if self.belongs_to_any(&path, kept) {
                continue;
            }
            match tokio::fs::remove_file(path).await {
                Ok(()) => ended += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ended)
    }

    async fn exists(&self, key: &str) -> Result<bool, BlobError> {
        Ok(tokio::fs::try_exists(self.root.join(checked(key)?)).await?)
    }

    async fn identity(&self) -> Result<Option<Uuid>, BlobError> {
        match tokio::fs::read_to_string(self.root.join(IDENTITY)).await {
            Ok(text) => parse_identity(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn set_identity(&self, id: Uuid) -> Result<(), BlobError> {
        let mut upload = FolderUpload::begin(self, self.root.join(IDENTITY)).await?;
        upload.write(identity_text(id).into()).await?;
        Box::new(upload).finish().await?;
        Ok(())
    }

    async fn check(&self) -> Result<(), BlobError> {
        make_folder(&self.root).await?;
        let name = format!("check-{}", self.clock.now().as_nanosecond());
        let (part, mut file) = self.create_unfinished(&self.root.join(name)).await?;
        file.write_all(PROBE).await?;
        file.flush().await?;
        if tokio::fs::read(&part.path).await? != PROBE {
            return Err(
                io::Error::new(io::ErrorKind::InvalidData, "the file read back differs from the file written").into()
            );
        }
        Ok(())
    }
}

/// An unfinished file. Dropping the value removes the file unless it was renamed.
struct UnfinishedFile {
    path: PathBuf,
    is_renamed: bool,
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.is_renamed
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot remove an unfinished upload; housekeeping will try again");
        }
    }
}

/// A file being written. It gets its name when it is finished.
pub(super) struct FolderUpload {
    part: UnfinishedFile,
    file: File,
    path: PathBuf,
    written: u64,
}

impl FolderUpload {
    pub async fn begin(folder: &Folder, path: PathBuf) -> Result<Self, BlobError> {
        make_folder(path.parent().unwrap_or(&folder.root)).await?;
        let (part, file) = folder.create_unfinished(&path).await?;
        Ok(Self { part, file, path, written: 0 })
    }

    /// Appends the content of another file. The kernel copies it if it can.
    pub async fn append(&mut self, from: &Path) -> io::Result<()> {
        self.file.flush().await?;
        let (to, from) = (self.file.try_clone().await?.into_std().await, from.to_owned());
        let copy = move || io::copy(&mut std::fs::File::open(from)?, &mut &to);
        self.written += tokio::task::spawn_blocking(copy).await.map_err(io::Error::other)??;
        Ok(())
    }
}

#[async_trait]
impl Upload for FolderUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.file.write_all(&bytes).await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, BlobError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        tokio::fs::rename(&self.part.path, &self.path).await?;
        self.part.is_renamed = true;
        // Flushes the folder too, since it holds the new name.
        if let Some(folder) = self.path.parent() {
            File::open(folder).await?.sync_all().await?;
        }
        Ok(self.written)
    }

    async fn abort(self: Box<Self>) -> Result<(), BlobError> {
        Ok(())
    }
}

async fn make_folder(path: &Path) -> Result<(), BlobError> {
    Ok(DirBuilder::new().recursive(true).mode(0o700).create(path).await?)
}

pub(super) fn not_found(error: io::Error) -> BlobError {
    if error.kind() == io::ErrorKind::NotFound { BlobError::NotFound } else { error.into() }
}
