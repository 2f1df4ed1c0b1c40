//! Multipart uploads to a folder. Each part is a hidden `.part` file in the folder of the blob, like other unfinished
//! uploads.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::folder::{Folder, FolderUpload, not_found};
use super::parts::{Part, PartUpload, Parts};
use super::{BlobError, Upload, checked};

impl Folder {
    /// Returns the path of the file of a part.
    fn part_path(&self, key: &str, number: u32) -> Result<PathBuf, BlobError> {
        let path = self.root().join(checked(key)?);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(path.with_file_name(format!(".{name}.p{number}.part")))
    }
}

#[async_trait]
impl Parts for Folder {
    async fn begin_parts(&self, key: &str) -> Result<String, BlobError> {
        checked(key)?;
        Ok(String::new())
    }

    async fn part_address(&self, _: &str, _: &str, _: u32, _: u64, _: Duration) -> Result<Option<String>, BlobError> {
        Ok(None)
    }

    async fn begin_part(&self, key: &str, _: &str, number: u32) -> Result<Box<dyn PartUpload>, BlobError> {
        let path = self.part_path(key, number)?;
        Ok(Box::new(PartFile(FolderUpload::begin(self, path).await?)))
    }

    async fn parts(&self, key: &str, _: &str) -> Result<Option<BTreeMap<u32, Part>>, BlobError> {
        let path = self.root().join(checked(key)?);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (before, mut found) = (format!(".{name}.p"), BTreeMap::new());
        let folder = path.parent().unwrap_or(self.root());
        let mut entries = match tokio::fs::read_dir(folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(found)),
            Err(error) => return Err(error.into()),
        };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(&before)?.strip_suffix(".part")?.parse().ok());
            if let (Some(number), Ok(facts)) = (number, entry.metadata().await) {
                found.insert(number, Part { size_bytes: facts.len(), tag: None });
            }
        }
        Ok(Some(found))
    }

    async fn join_parts(&self, key: &str, handle: &str, parts: &BTreeMap<u32, Part>) -> Result<(), BlobError> {
        let path = self.root().join(checked(key)?);
        if !tokio::fs::try_exists(&path).await? {
            if parts.is_empty() {
                return Err(BlobError::NotFound);
            }
            let mut whole = FolderUpload::begin(self, path).await?;
            for number in parts.keys() {
                let part = self.part_path(key, *number)?;
                whole.append(&part).await.map_err(not_found)?;
            }
            Box::new(whole).finish().await?;
        }
        self.abort_parts(key, handle).await
    }

    async fn abort_parts(&self, key: &str, handle: &str) -> Result<(), BlobError> {
        for number in self.parts(key, handle).await?.unwrap_or_default().into_keys() {
            match tokio::fs::remove_file(self.part_path(key, number)?).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The file of a part being written.
struct PartFile(FolderUpload);

#[async_trait]
impl PartUpload for PartFile {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.0.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<Part, BlobError> {
        Ok(Part { size_bytes: Box::new(self.0).finish().await?, tag: None })
    }
}
