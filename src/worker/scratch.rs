//! Temporary copies of videos. They are removed with their owner, and those of a process that was killed by the next
//! one that starts on the machine: every process holds a lock in its folder, which the kernel takes from the dead.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

const PREFIX: &str = "visage-videos-";
const LOCK: &str = "lock";

/// A folder of this process's own, removed with it.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: Option<PathBuf>,
    _lock: Option<File>,
}

impl Scratch {
    /// Makes the folder below `parent`, and removes those that dead processes left there. A machine without room for
    /// one can still analyze what needs no copy, so trouble is logged and comes up again when a copy is asked for.
    pub fn open(parent: &Path, name: Uuid) -> Self {
        sweep(parent);
        match make(parent, name) {
            Ok((folder, lock)) => Self { folder: Some(folder), _lock: Some(lock) },
            Err(error) => {
                tracing::warn!(%error, "no folder for temporary copies of videos");
                Self { folder: None, _lock: None }
            }
        }
    }

    /// A path for one copy, which is removed when the value is dropped.
    pub fn copy(&self, name: Uuid) -> io::Result<Copy> {
        let folder = self.folder.as_ref().ok_or_else(|| io::Error::other("no folder for temporary copies"))?;
        Ok(Copy(folder.join(name.simple().to_string())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(error) = fs::remove_dir_all(folder)
        {
            tracing::warn!(%error, "temporary copies of videos were left behind");
        }
    }
}

/// One temporary copy.
#[derive(Debug)]
pub(super) struct Copy(PathBuf);

impl Copy {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Not made yet, or removed with its folder: nothing is left either way.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the folder under another name first: it gets the one that [`sweep`] looks for when it is locked.
fn make(parent: &Path, name: Uuid) -> io::Result<(PathBuf, File)> {
    let (new, folder) = (parent.join(format!(".{PREFIX}{name}")), parent.join(format!("{PREFIX}{name}")));
    fs::create_dir(&new)?;
    let lock = File::create_new(new.join(LOCK))?;
    lock.lock()?;
    fs::rename(&new, &folder)?;
    Ok((folder, lock))
}

/// Removes the folders whose owner is dead.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for folder in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let dead = ours && File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if dead && let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(%error, "temporary copies of a process that was killed cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_removed_with_its_value_and_the_folder_with_its_process() {
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
    fn what_the_dead_left_is_removed_and_what_the_living_use_is_not() {
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
