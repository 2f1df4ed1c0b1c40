//! The folder of the results.
//!
//! A result is a JSON file and a CSV file, and an overlay if it is asked for. All are written under a temporary name, and
//! renamed when they are complete. The JSON file comes last, so a result whose JSON file is there is finished. A process that is killed leaves at most
//! files with temporary names, which the next one removes.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Identity, Setup};
use crate::analysis::TimelineRow;
use crate::cli::Failure;
use crate::cli::analyze::part::{PART, Part};
use crate::cli::analyze::{overlay, rows};

/// The folder, locked against other processes that write results to it.
pub struct ResultFolder {
    path: PathBuf,
    /// Holds the lock.
    _locked: File,
}

/// A result as JSON: that of a single analysis, and the identity of its input.
#[derive(Serialize)]
struct Stored<'a, R> {
    input: &'a Identity,
    #[serde(flatten)]
    result: &'a R,
}

/// The part of a result that says what it belongs to.
#[derive(Deserialize)]
struct Belongs {
    input: Identity,
    /// `None` for a picture.
    video: Option<IgnoredAny>,
}

impl ResultFolder {
    /// Makes the folder if it is missing, and removes what an earlier process left unfinished.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Settings(format!("--out {}: {error}", path.display()));
        std::fs::create_dir_all(path).map_err(failed)?;
        let locked = File::open(path).map_err(failed)?;
        match locked.try_lock() {
            // Some network file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("--out {}: another process writes results to this folder", path.display());
                return Err(Failure::Settings(text));
            }
        }
        for entry in std::fs::read_dir(path).map_err(failed)?.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(PART)) {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        tempfile::tempfile_in(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _locked: locked })
    }

    fn json(&self, result: &str) -> PathBuf {
        self.path.join(format!("{result}.json"))
    }

    fn csv(&self, result: &str) -> PathBuf {
        self.path.join(format!("{result}.csv"))
    }

    fn overlay(&self, result: &str) -> PathBuf {
        self.path.join(format!("{result}.{}", overlay::ENDING))
    }

    /// Creates the empty file of an overlay. It becomes a part of the result in [`ResultFolder::write`].
    pub fn create_overlay(&self, result: &str) -> io::Result<Part> {
        Part::open(&self.overlay(result))
    }

    /// Whether the folder has a finished result of this file with the same setup. `overlays`: whether the result of a
    /// video needs an overlay.
    pub fn has(&self, result: &str, file: &Path, setup: &Setup, overlays: bool) -> bool {
        let Ok(now) = Identity::of(file, setup) else { return false };
        let stored = File::open(self.json(result)).ok().map(BufReader::new);
        let stored: Option<Belongs> = stored.and_then(|file| serde_json::from_reader(file).ok());
        stored.is_some_and(|stored| {
            let needs_overlay = overlays && stored.video.is_some();
            stored.input.is_same(&now) && (!needs_overlay || self.overlay(result).is_file())
        }) && self.csv(result).is_file()
    }

    /// Returns the JSON of a finished result.
    pub fn read(&self, result: &str) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.json(result)).ok()?).ok()
    }

    /// Writes a finished result, in the place of an older one. Without an overlay, that of an older result is removed.
    pub fn write(
        &self,
        result: &str,
        input: &Identity,
        json: &impl Serialize,
        rows: &[TimelineRow],
        expressions: bool,
        overlay: Option<Part>,
    ) -> io::Result<()> {
        let (json_path, csv_path) = (self.json(result), self.csv(result));
        let csv_part = Part::create(&csv_path, |file| rows::write(file, rows, expressions))?;
        let json_part = Part::create(&json_path, |file| {
            serde_json::to_writer_pretty(&mut *file, &Stored { input, result: json })?;
            file.write_all(b"\n")
        })?;
        // Otherwise a process that is killed between the two leaves the new CSV file beside an older JSON file.
        remove(&json_path)?;
        match overlay {
            Some(overlay) => overlay.finish()?,
            None => remove(&self.overlay(result))?,
        }
        csv_part.finish()?;
        json_part.finish()
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analysis::Options;
    use crate::config::Settings;

    fn setup(sample_every: u32) -> Setup {
        Setup::of(Options::new(sample_every, 10), &Settings::defaults().unwrap()).unwrap()
    }

    #[test]
    fn a_result_is_there_only_if_both_files_are_and_belong_to_the_input() {
        let home = tempfile::tempdir().unwrap();
        let clip = home.path().join("clip.mp4");
        std::fs::write(&clip, "bytes").unwrap();
        let out = home.path().join("new/out");
        let folder = ResultFolder::open(&out).unwrap();
        let input = Identity::of(&clip, &setup(20)).unwrap();
        assert!(!folder.has("clip", &clip, &setup(20), false));
        folder.write("clip", &input, &json!({"faces": []}), &[], false, None).unwrap();
        assert!(folder.has("clip", &clip, &setup(20), false));
        assert!(!folder.has("clip", &clip, &setup(5), false));
        let stored = folder.read("clip").unwrap();
        assert_eq!((&stored["faces"], &stored["input"]["bytes"]), (&json!([]), &json!(5)));
        let mut names: Vec<_> =
            std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["clip.csv", "clip.json"]);

        let json = std::fs::read(out.join("clip.json")).unwrap();
        std::fs::write(out.join("clip.json"), &json[..json.len() / 2]).unwrap();
        assert!(!folder.has("clip", &clip, &setup(20), false), "half a file");
        std::fs::write(out.join("clip.json"), &json).unwrap();
        assert!(folder.has("clip", &clip, &setup(20), false));
        std::fs::remove_file(out.join("clip.csv")).unwrap();
        assert!(!folder.has("clip", &clip, &setup(20), false), "no rows");
    }

    #[test]
    fn only_one_process_writes_to_a_folder_and_it_removes_what_another_left() {
        let out = tempfile::tempdir().unwrap();
        let left = out.path().join(".clip.json.visage-part");
        let other = out.path().join(".other");
        std::fs::write(&left, "{").unwrap();
        std::fs::write(&other, "").unwrap();
        let first = ResultFolder::open(out.path()).unwrap();
        assert!(!left.exists() && other.exists());
        assert!(matches!(ResultFolder::open(out.path()), Err(Failure::Settings(text)) if text.contains("another")));
        drop(first);
        ResultFolder::open(out.path()).unwrap();
    }
}
