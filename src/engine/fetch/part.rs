//! A file that is being written to the models folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::engine::manifest::Pin;

/// A file that is written under a temporary name. It gets its final name only if its checksum is correct; otherwise it
/// is deleted.
pub(super) struct PartialFile<'a> {
    pin: &'a Pin<'a>,
    target: PathBuf,
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl<'a> PartialFile<'a> {
    pub(super) fn create(pin: &'a Pin<'a>, folder: &Path) -> Result<Self, String> {
        let path = folder.join(format!(".{}.{}.part", pin.file, std::process::id()));
        let file = File::create(&path).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        Ok(Self { pin, target: folder.join(pin.file), path, file, hash: Sha256::new(), bytes: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.pin.bytes {
            return Err(format!("more than the expected {} bytes", self.pin.bytes));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }

    pub(super) fn copy(mut self, from: &mut impl Read) -> Result<(), String> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => return self.finish(),
                read => self.write(&buffer[..read])?,
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<(), String> {
        let found = hex::encode(std::mem::take(&mut self.hash).finalize());
        if found != self.pin.sha256 {
            return Err(format!("sha256 is {found}, expected {}", self.pin.sha256));
        }
        let placed = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, &self.target));
        placed.map_err(|error| format!("{} cannot be written: {error}", self.target.display()))
    }
}

impl Drop for PartialFile<'_> {
    fn drop(&mut self) {
        // After the rename, the temporary file no longer exists.
        let _ = std::fs::remove_file(&self.path);
    }
}
