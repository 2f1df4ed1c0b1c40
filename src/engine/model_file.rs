//! Reads model files and checks them against the manifest.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{EngineError, manifest};

/// An open model file. It can be read again for another session, even after another file has taken its name.
pub(super) struct ModelFile {
    name: String,
    path: PathBuf,
    file: File,
    pub sha256: String,
}

impl ModelFile {
    /// Opens and reads a model file.
    ///
    /// # Errors
    /// Fails if the manifest lists this name and file name with another sha256.
    pub fn open(name: &str, path: &Path) -> Result<(Self, Vec<u8>), EngineError> {
        let (name, path) = (name.to_owned(), path.to_owned());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(EngineError::ModelMissing { name, path }),
            Err(error) => return Err(EngineError::ModelUnreadable { name, path, reason: error.to_string() }),
        };
        let mut opened = Self { name, path, file, sha256: String::new() };
        let bytes = opened.content()?;
        // Hash the bytes in memory, not the file again: the file may change between two reads.
        opened.sha256 = hex::encode(Sha256::digest(&bytes));
        let listed = manifest::models()?.iter().find(|entry| entry.is(&opened.name, &opened.path));
        if let Some(entry) = listed.filter(|entry| entry.sha256 != opened.sha256) {
            let (expected, Self { name, path, sha256, .. }) = (entry.sha256.clone(), opened);
            return Err(EngineError::ModelChanged { name, path, expected, found: sha256 });
        }
        Ok((opened, bytes))
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// Fails if the content has changed.
    pub fn read(&self) -> Result<Vec<u8>, EngineError> {
        let bytes = self.content()?;
        if hex::encode(Sha256::digest(&bytes)) == self.sha256 {
            return Ok(bytes);
        }
        Err(self.unreadable("it was changed after it was loaded".to_owned()))
    }

    fn content(&self) -> Result<Vec<u8>, EngineError> {
        let read = || {
            let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).map_err(std::io::Error::other)?];
            // At a position, because several threads may read at the same time.
            self.file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        read().map_err(|error: std::io::Error| self.unreadable(error.to_string()))
    }

    fn unreadable(&self, reason: String) -> EngineError {
        EngineError::ModelUnreadable { name: self.name.clone(), path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_model_file_is_read_again_after_its_replacement_but_not_after_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.onnx");
        std::fs::write(&path, "first").unwrap();
        let (file, bytes) = ModelFile::open("own", &path).unwrap();
        assert_eq!(bytes, b"first");

        std::fs::rename(&path, folder.path().join("old.onnx")).unwrap();
        std::fs::write(&path, "other").unwrap();
        assert_eq!(file.read().unwrap(), b"first");

        std::fs::write(folder.path().join("old.onnx"), "worse").unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.ends_with("own.onnx: it was changed after it was loaded"), "{error}");
    }
}
