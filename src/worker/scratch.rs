//! Temporary copies of videos. A process removes its copies itself. If it was killed, the next process that starts on
//! the machine removes them. Every process holds a file lock in its folder; the kernel releases the lock when the
//! process dies.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

const PREFIX: &str = "visage-videos-";
const LOCK: &str = "lock";

/// The folder of this process. Dropping the value removes the folder.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: Option<PathBuf>,
    _lock: Option<File>,
}

impl Scratch {
    /// Creates the folder below `parent`, and removes the folders of dead processes there. An error is only logged,
    /// since videos that need no copy can still be analyzed; [`Scratch::copy`] then returns an error.
    pub fn open(parent: &Path, name: Uuid) -> Self {
        sweep(parent);
        match make(parent, name) {
            Ok((folder, lock)) => Self { folder: Some(folder), _lock: Some(lock) },
            Err(error) => {
                tracing::warn!(%error, "cannot create the folder for temporary copies of videos");
                Self { folder: None, _lock: None }
            }
        }
    }

    /// Returns a path for one copy. Dropping the value removes the file.
    pub fn copy(&self, name: Uuid) -> io::Result<TemporaryCopy> {
        let folder = self.folder.as_ref().ok_or_else(|| io::Error::other("there is no folder for temporary copies"))?;
        Ok(TemporaryCopy(folder.join(name.simple().to_string())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = fs::remove_dir_all(folder)
        {
            tracing::warn!(%error, "cannot remove the temporary copies of videos");
        }
    }
}

/// One temporary copy.
#[derive(Debug)]
pub(super) struct TemporaryCopy(PathBuf);

impl TemporaryCopy {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryCopy {
    fn drop(&mut self) {
        // An error means that the file was not created yet or was removed with its folder.
        let _ = fs::remove_file(&self.0);
    }
}

/// Creates the folder and locks it. Until it is locked, it has a name that [`sweep`] ignores.
fn make(parent: &Path, name: Uuid) -> io::Result<(PathBuf, File)> {
    let (new, folder) = (parent.join(format!(".{PREFIX}{name}")), parent.join(format!("{PREFIX}{name}")));
    fs::create_dir(&new)?;
    let lock = File::create_new(new.join(LOCK))?;
    lock.lock()?;
    fs::rename(&new, &folder)?;
    Ok((folder, lock))
}

/// Removes the folders of dead processes.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for folder in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let dead = ours && File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if dead && let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(%error, "cannot remove the temporary copies of a dead process");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_a_copy_removes_its_file_and_dropping_scratch_removes_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(parent.path(), Uuid::from_u128(1));
        let copy = scratch.copy(Uuid::from_u128(2)).unwrap();
        fs::write(copy.path(), "video").unwrap();
        let path = copy.path().to_owned();
        drop(copy);
        assert!(!path.exists());
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_of_dead_processes_are_removed_and_those_of_running_ones_are_kept() {
        let parent = tempfile::tempdir().unwrap();
        let living = Scratch::open(parent.path(), Uuid::from_u128(1));
        let copy = living.copy(Uuid::from_u128(2)).unwrap();
        fs::write(copy.path(), "video").unwrap();
        let dead = parent.path().join(format!("{PREFIX}dead"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("copy"), "video").unwrap();
        fs::create_dir(parent.path().join("somebody else's")).unwrap();

        let _next = Scratch::open(parent.path(), Uuid::from_u128(3));
        assert!(!dead.exists());
        assert!(copy.path().exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3);
    }
}
