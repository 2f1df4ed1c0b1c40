//! What a result belongs to: a file of this size and time, analyzed with these options, settings and models by this
//! version of visage. A result with the same identity is passed over.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::failed::{Failed, shown};
use crate::analysis::{METRICS_VERSION, Options};
use crate::cli::Failure;
use crate::config::Settings;
use crate::engine::manifest;

/// The member `input` of a result in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The path as it was given.
    pub file: String,
    pub bytes: u64,
    /// Time of the last change of the file, in seconds and nanoseconds since 1970.
    pub modified: [i64; 2],
    /// See [`Setup`].
    pub setup: String,
}

/// A hash of everything but the file that a result depends on.
pub struct Setup(String);

impl Setup {
    /// Reads the classifier's file, which may be any; those of the other models are fixed by the version of visage.
    pub fn of(options: Options, settings: &Settings) -> Result<Self, Failure> {
        let folder = &settings.models.folder;
        let classifier = match std::fs::read(folder.join(&settings.vision.emotion.file)) {
            Ok(bytes) => hex::encode(Sha256::digest(bytes)),
            // Loading it will fail with a better text, if there is anything to do.
            Err(_) => String::new(),
        };
        let listed = manifest::models().map_err(|error| Failure::Run(error.to_string()))?;
        let models: Vec<&str> =
            listed.iter().filter(|model| folder.join(&model.file).is_file()).map(|model| &*model.file).collect();
        let parts = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "metrics": METRICS_VERSION,
            "options": Options { language: None, ..options },
            "vision": format!("{:?}", settings.vision),
            "speech": format!("{:?}", settings.speech),
            "precision": format!("{:?}", settings.engine.precision),
            "classifier": classifier,
            "models": models,
        });
        Ok(Self(hex::encode(Sha256::digest(parts.to_string()))))
    }
}

impl Identity {
    /// Reads size and time of the file.
    pub fn of(path: &Path, setup: &Setup) -> Result<Self, Failed> {
        let about = std::fs::metadata(path).map_err(|error| Failed::unreadable(&error))?;
        Ok(Self::of_metadata(path, &about, setup))
    }

    fn of_metadata(path: &Path, about: &Metadata, setup: &Setup) -> Self {
        let modified = [about.mtime(), about.mtime_nsec()];
        Self { file: shown(path), bytes: about.len(), modified, setup: setup.0.clone() }
    }

    /// Whether a result of `other` is one of this file, too. The path may be written in another way.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { file: _, bytes, modified, setup } = self;
        (bytes, modified, setup) == (&other.bytes, &other.modified, &other.setup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Language, Sampling};

    #[test]
    fn every_change_that_may_change_a_result_changes_the_setup() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults().unwrap();
        settings.models.folder = folder.path().to_owned();
        let options = Options::new(20, 10);
        let setup = |options, settings: &Settings| Setup::of(options, settings).unwrap().0;
        let first = setup(options, &settings);
        assert_eq!(setup(options, &settings), first);
        let language = Some(Language::EN);
        assert_eq!(setup(Options { language, ..options }, &settings), first, "results have no language");
        for changed in [
            Options { sample_every: 5, ..options },
            Options { samples_per_second: Some(2), ..options },
            Options { sampling: Sampling::Fast, ..options },
            Options { max_faces: 1, ..options },
            Options { gaze: false, ..options },
            Options { speech: false, ..options },
        ] {
            assert_ne!(setup(changed, &settings), first, "{changed:?}");
        }
        let mut other = settings.clone();
        other.vision.min_score /= 2.0;
        assert_ne!(setup(options, &other), first);
        let classifier = folder.path().join(&settings.vision.emotion.file);
        std::fs::write(&classifier, "one").unwrap();
        let one = setup(options, &settings);
        assert_ne!(one, first);
        std::fs::write(&classifier, "two").unwrap();
        assert_ne!(setup(options, &settings), one);
    }

    #[test]
    fn a_file_of_another_size_or_time_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, setup) = (folder.path().join("clip"), Setup("same".to_owned()));
        std::fs::write(&path, "bytes").unwrap();
        let first = Identity::of(&path, &setup).unwrap();
        assert!(first.is_same(&Identity { file: "elsewhere".to_owned(), ..first.clone() }));
        assert!(!first.is_same(&Identity::of(&path, &Setup("other".to_owned())).unwrap()));
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let touched = Identity::of(&path, &setup).unwrap();
        assert_eq!(touched.modified, [0, 0]);
        assert!(!first.is_same(&touched));
        std::fs::write(&path, "more bytes").unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(!touched.is_same(&Identity::of(&path, &setup).unwrap()));
        assert_eq!(Identity::of(Path::new("/nowhere"), &setup).unwrap_err().code, "source_unreadable");
    }
}
