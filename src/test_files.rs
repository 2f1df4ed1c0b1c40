//! Files that tests read and the repository does not hold. `make fixtures` brings them; a test without them fails.
//!
//! The tests in `tests/it` include this file by its path.

use std::path::{Path, PathBuf};

/// A clip that `scripts/fetch-test-media.sh` fetches or makes.
pub fn clip(name: &str) -> PathBuf {
    existing(".runtime/media", name, "")
}

/// A model file of `models/`.
pub fn model(name: &str) -> PathBuf {
    existing(
        "models",
        name,
        "; VISAGE_MODELS__MIRROR=FOLDER names a folder of copies, for an origin that is out of reach",
    )
}

fn existing(folder: &str, name: &str, hint: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    assert!(path.is_file(), "{} is missing: `make fixtures` brings it{hint}", path.display());
    path
}
