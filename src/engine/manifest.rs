//! The list of known model files: `models/models.toml`, which is built into the binary.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;

use super::EngineError;
use super::tflite::Port;

const TEXT: &str = include_str!("../../models/models.toml");

/// A model file: its purpose, its checksum and its sources.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    /// Path below `models.folder`.
    pub file: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// SPDX expression.
    pub licence: String,
    /// Its purpose in a few words.
    pub purpose: String,
    pub input: String,
    pub output: String,
    /// Whether visage cannot work without the model. If several models do the same task, one of them is enough and none
    /// is marked as required.
    pub required: bool,
    /// The part of a result that is missing without the model. `None` if the model is required or another can replace
    /// it.
    pub without: Option<String>,
    /// Sources to download it from, in the order of trying.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// How to convert it from another file, if no source offers the file itself.
    pub made: Option<Conversion>,
}

/// An archive of networks in another format.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub name: String,
    /// Path below `models.folder`.
    pub file: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// SPDX expression.
    pub licence: String,
    /// Sources to download it from, in the order of trying.
    pub origins: Vec<Origin>,
}

/// How to convert a model from a TensorFlow Lite file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// Name of the archive, a zip file.
    pub archive: String,
    /// Name of the TensorFlow Lite file in the archive.
    pub member: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

/// A source of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Origin {
    Url {
        url: String,
    },
    /// A file in a Python package of an exact version. `wheel` is a requirement as for `pip download`.
    Wheel {
        wheel: String,
        member: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url } => f.write_str(url),
            Self::Wheel { wheel, .. } => write!(f, "the Python package {wheel}"),
        }
    }
}

/// A file that is identified by its checksum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pin<'a> {
    /// Name without a folder.
    pub file: &'a str,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: &'a str,
    pub origins: &'a [Origin],
}

impl Entry {
    /// Whether the file is part of the source tree and built into the program.
    pub fn is_built_in(&self) -> bool {
        self.origins.is_empty() && self.made.is_none()
    }

    pub(super) fn pin(&self) -> Pin<'_> {
        Pin { file: &self.file, bytes: self.bytes, sha256: &self.sha256, origins: &self.origins }
    }

    /// Whether a configured model name and file refer to this entry.
    pub fn is(&self, name: &str, path: &Path) -> bool {
        self.name == name && path.file_name().is_some_and(|file| file == self.file.as_str())
    }
}

impl Archive {
    pub(super) fn pin(&self) -> Pin<'_> {
        Pin { file: &self.file, bytes: self.bytes, sha256: &self.sha256, origins: &self.origins }
    }
}

/// The content of `models.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    model: Vec<Entry>,
    archive: Vec<Archive>,
}

fn manifest() -> Result<&'static Manifest, EngineError> {
    static MANIFEST: OnceLock<Result<Manifest, EngineError>> = OnceLock::new();
    MANIFEST.get_or_init(|| parse(TEXT)).as_ref().map_err(Clone::clone)
}

/// Returns all models, in the order of the file.
pub fn models() -> Result<&'static [Entry], EngineError> {
    Ok(&manifest()?.model)
}

/// Returns the archive of this name.
pub fn archive(name: &str) -> Result<&'static Archive, EngineError> {
    let found = manifest()?.archive.iter().find(|archive| archive.name == name);
    found.ok_or_else(|| EngineError::Manifest(format!("lists no archive {name:?}")))
}

/// Returns the model of this name.
pub fn entry(name: &str) -> Result<&'static Entry, EngineError> {
    let found = models()?.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| EngineError::Manifest(format!("lists no model {name:?}")))
}

fn parse(text: &str) -> Result<Manifest, EngineError> {
    toml::from_str(text).map_err(|error| EngineError::Manifest(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_manifest_has_unique_entries_with_valid_hashes() {
        let models = models().unwrap();
        for name in ["yunet", "blazeface", "emotion"] {
            assert_eq!(entry(name).unwrap().name, name);
        }
        let files: HashSet<_> = models.iter().map(|entry| &entry.file).collect();
        let names: HashSet<_> = models.iter().map(|entry| &entry.name).collect();
        assert_eq!((files.len(), names.len()), (models.len(), models.len()), "two entries share a name or a file");
        for entry in models {
            let is_hash = entry.sha256.len() == 64 && entry.sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            assert!(is_hash && entry.bytes > 0 && !entry.licence.is_empty(), "{}", entry.name);
        }
        for made in models.iter().filter_map(|entry| entry.made.as_ref()) {
            assert_eq!(archive(&made.archive).unwrap().name, made.archive);
        }
        assert!(entry("nosuch").unwrap_err().to_string().contains("nosuch"));
    }

    #[test]
    fn model_files_of_the_source_tree_match_the_manifest() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let own: Vec<_> = models().unwrap().iter().filter(|entry| entry.is_built_in()).collect();
        assert!(!own.is_empty());
        for entry in own {
            let bytes = std::fs::read(folder.join(&entry.file)).unwrap();
            assert_eq!((hex::encode(Sha256::digest(&bytes)), bytes.len() as u64), (entry.sha256.clone(), entry.bytes));
        }
    }

    #[test]
    fn an_unknown_key_in_the_manifest_is_refused() {
        assert!(parse(&TEXT.replacen("required", "needed", 1)).is_err());
    }
}
