//! Files that are written under a temporary name.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// The end of temporary names, which begin with a dot.
pub const PART: &str = ".visage-part";

/// A file under a temporary name in the folder of its final name. It is removed on drop, unless it is finished.
pub struct Part {
    file: File,
    part: PathBuf,
    path: PathBuf,
}

impl Part {
    /// Creates the file and writes its content to the disk.
    pub fn create(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<Self> {
        let created = Self::open(path)?;
        let mut file = BufWriter::new(&created.file);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        created.file.sync_all()?;
        Ok(created)
    }

    /// Creates the file, which is empty.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(PART);
        let part = path.with_file_name(name);
        Ok(Self { file: File::create(&part)?, part, path: path.to_owned() })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its final name.
    pub fn finish(self) -> io::Result<()> {
        std::fs::rename(&self.part, &self.path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Finds nothing if the file was renamed.
        let _ = std::fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_part_that_is_not_finished_leaves_nothing() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("clip.json");
        std::fs::write(&path, "old").unwrap();
        let failed = Part::create(&path, |_| Err(io::Error::other("the disk is full")));
        assert!(failed.is_err());
        drop(Part::create(&path, |file| file.write_all(b"new")).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
        Part::create(&path, |file| file.write_all(b"new")).unwrap().finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }
}
