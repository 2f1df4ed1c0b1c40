//! The video with boxes and labels: its file, and its content.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::part::PART;
use crate::analysis::Boxes;
use crate::cli::Failure;
use crate::isolation::VideoFile;
use crate::media::{self, SoundError};
use crate::overlay::{Overlay, OverlayError};
use crate::pipeline::{Analyzed, Cancel};

/// The ending of the name of an overlay.
pub const ENDING: &str = "mp4";

/// Checks that overlays can be encoded.
pub fn check() -> Result<(), Failure> {
    media::check_encoders().map_err(|error| Failure::Missing(format!("no overlay can be written: {error}")))
}

/// Writes the video with the boxes and labels of its analysis to an empty file, while `jobs` analyses run at the same
/// time. Returns the error at which the sound ends, if one does.
pub fn write(
    analyzed: &Analyzed,
    video: &VideoFile,
    to: &File,
    jobs: usize,
    progress: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<Option<SoundError>, OverlayError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) / jobs.max(1);
    let boxes = Boxes::new(&analyzed.findings, &analyzed.samples);
    let overlay = Overlay { video: &analyzed.findings.analysis.video, boxes: &boxes, cores };
    let cancel = cancel.clone();
    overlay.write(video, to, progress, move || cancel.is_cancelled())
}

/// Says that an overlay lacks sound.
pub fn without_sound(error: &SoundError) -> String {
    format!("the overlay has no sound, or not all of it: {error}")
}

/// The file of the overlay of a single video. It has a temporary name until it is finished, and is removed on drop.
pub struct OverlayFile {
    part: NamedTempFile,
    path: PathBuf,
}

impl OverlayFile {
    /// Creates the file in the folder of its final name.
    pub fn create(path: &Path, input: &Path) -> Result<Self, Failure> {
        let refused = |reason: String| Failure::Settings(format!("--overlay {}: {reason}", path.display()));
        if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case(ENDING)) {
            return Err(refused(format!("give a file whose name ends in .{ENDING}")));
        }
        let place = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
        if place(path).is_some_and(|place_of_output| Some(place_of_output) == place(input)) {
            return Err(refused("this is the input, which would be lost: give another file".to_owned()));
        }
        if path.is_dir() {
            return Err(refused("this is a folder: give a file".to_owned()));
        }
        check()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let part = tempfile::Builder::new()
            .prefix(".")
            .suffix(PART)
            // As those of other new files: the system removes what the umask does not allow.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(|error| refused(format!("it cannot be written: {error}")))?;
        Ok(Self { part, path: path.to_owned() })
    }

    pub fn file(&self) -> &File {
        self.part.as_file()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name, in the place of an older one.
    pub fn finish(self) -> Result<(), Failure> {
        let Self { part, path } = self;
        let synced = part.as_file().sync_all();
        let persisted = synced.and_then(|()| part.persist(&path).map_err(|error| error.error));
        persisted.map(drop).map_err(|error| Failure::Run(format!("{} was not written: {error}", path.display())))
    }
}
