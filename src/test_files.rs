//! Files that tests read and that are not in the repository. `make fixtures` fetches them. Tests fail without them.
//!
//! The tests in `tests/it` include this file by its path.

use std::path::{Path, PathBuf};

/// Returns the path of a clip that `scripts/fetch-test-media.sh` fetches or makes.
pub fn clip(name: &str) -> PathBuf {
    existing(".runtime/media", name, "")
}

/// Returns the path of a model file in `models/`.
pub fn model(name: &str) -> PathBuf {
    existing("models", name, "; VISAGE_MODELS__MIRROR=FOLDER names a folder of copies, if the origin cannot be reached")
}

fn existing(folder: &str, name: &str, hint: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // One of the two packages is in a folder of the other.
    let root = package.ancestors().find(|folder| folder.join("models").is_dir()).unwrap_or(package);
    let path = root.join(folder).join(name);
    assert!(path.is_file(), "{} is missing: `make fixtures` fetches it{hint}", path.display());
    path
}
