//! The direction of imports between the modules of `src`, as docs/ARCHITECTURE.md describes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Modules that any other module may import. They import no module that is not listed here, and `analysis` none at all.
const GROUND: [&str; 9] = ["analysis", "clock", "config", "engine", "fault", "locale", "secret", "telemetry", "tls"];

/// The other modules, and what each of them may import in addition to [`GROUND`].
const ALLOWED: [(&str, &[&str]); 14] = [
    ("confirmation", &[]),
    ("media", &[]),
    ("isolation", &["media"]),
    ("vision", &[]),
    // A test of voice activity reads its recording with `media`.
    ("speech", &["media"]),
    ("pipeline", &["isolation", "media", "speech", "vision"]),
    // The source of a video is a type of `media`.
    ("blob", &["media"]),
    ("store", &["confirmation"]),
    ("report", &[]),
    ("share", &["store"]),
    ("identity", &["blob", "store"]),
    ("worker", &["blob", "confirmation", "identity", "media", "pipeline", "report", "share", "store"]),
    (
        "api",
        &["blob", "confirmation", "identity", "isolation", "media", "pipeline", "report", "share", "store", "worker"],
    ),
    (
        "cli",
        &[
            "api",
            "blob",
            "confirmation",
            "identity",
            "isolation",
            "media",
            "pipeline",
            "report",
            "speech",
            "store",
            "vision",
            "worker",
        ],
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Returns the modules that a file names as `crate::MODULE`. Comments do not count.
fn imports(text: &str) -> BTreeSet<&str> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    let names = paths.map(|path| path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
    names.collect()
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules: BTreeSet<&str> = GROUND.into_iter().chain(ALLOWED.iter().map(|(name, _)| *name)).collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut checked = 0;
    for file in files {
        let place = file.strip_prefix(&root).unwrap();
        let module = place.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main", "test_files"].contains(&module) {
            continue;
        }
        assert!(modules.contains(module), "{module} is a new module: list it here and in docs/ARCHITECTURE.md");
        let allowed = ALLOWED.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, allowed)| *allowed);
        let text = std::fs::read_to_string(&file).unwrap();
        for import in imports(&text).into_iter().filter(|import| modules.contains(import)) {
            let is_ground = GROUND.contains(&import) && module != "analysis";
            let is_allowed = import == module || is_ground || allowed.contains(&import);
            assert!(is_allowed, "{}: {module} must not import {import}", place.display());
            checked += 1;
        }
    }
    assert!(checked > 400, "{checked}");
}

#[test]
fn no_endpoint_imports_another_endpoint() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut endpoints = 0;
    for folder in ["endpoints", "compat"] {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        let texts = files.iter().map(|file| (file, std::fs::read_to_string(file).unwrap()));
        let (own, shared): (Vec<_>, Vec<_>) = texts.partition(|(_, text)| text.contains("#[utoipa::path("));
        assert!(!shared.is_empty());
        endpoints += own.len();
        let names: Vec<&str> = own.iter().map(|(file, _)| file.file_stem().unwrap().to_str().unwrap()).collect();
        for (file, text) in &own {
            for name in &names {
                let paths = [format!("use super::{name}::"), format!("{folder}::{name}::")];
                let line = text.lines().find(|line| paths.iter().any(|path| line.contains(path)));
                assert!(line.is_none(), "{}: {}", file.display(), line.unwrap_or_default());
            }
        }
    }
    assert!(endpoints > 20, "{endpoints}");
}
