//! The structure of `src`: the direction of imports between its modules, as docs/ARCHITECTURE.md describes it, and the
//! files that may contain unsafe code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules that any other module may import. They import no module that is not listed here, and `analysis` none at all.
const GROUND: [&str; 11] = [
    "analysis",
    "clock",
    "config",
    "engine",
    "fault",
    "locale",
    "memory",
    "public_network",
    "secret",
    "telemetry",
    "tls",
];

/// The other modules, and what each of them may import in addition to [`GROUND`].
const ALLOWED: [(&str, &[&str]); 16] = [
    ("confirmation", &[]),
    ("media", &[]),
    ("isolation", &["media"]),
    ("vision", &[]),
    // A test of voice activity reads its recording with `media`.
    ("speech", &["media"]),
    ("pipeline", &["isolation", "media", "speech", "vision"]),
    ("overlay", &["isolation", "media"]),
    // The source of a video is a type of `media`.
    ("blob", &["media"]),
    ("store", &["confirmation"]),
    ("report", &[]),
    ("sources", &[]),
    ("share", &["store"]),
    ("identity", &["blob", "store"]),
    ("worker", &["blob", "confirmation", "identity", "media", "pipeline", "report", "share", "sources", "store"]),
    (
        "api",
        &[
            "blob",
            "confirmation",
            "identity",
            "isolation",
            "media",
            "pipeline",
            "report",
            "share",
            "sources",
            "store",
            "worker",
        ],
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
            "overlay",
            "pipeline",
            "report",
            "sources",
            "speech",
            "store",
            "vision",
            "worker",
        ],
    ),
];

/// The only files with unsafe code: the bindings of FFmpeg, ONNX Runtime, OpenCV and the memory allocator.
const UNSAFE: [&str; 4] = ["engine/library.rs", "media/ffi.rs", "memory.rs", "vision/scale.rs"];

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

/// Returns the lines of a file without their comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Returns the modules that a file names as `crate::MODULE`. Comments do not count.
fn imports(text: &str) -> BTreeSet<&str> {
    let paths = code(text).flat_map(|line| line.split("crate::").skip(1));
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
        if ["core", "lib", "main", "test_files"].contains(&module) {
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

/// A module, as the names that lead to it from the crate.
type Module = Vec<String>;

/// Returns each path of a tree of imports: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let Some((start, inner)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = inner.rsplit_once('}').unwrap().0;
    let mut depth = 0;
    let branches = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let paths = branches.filter(|branch| !branch.trim().is_empty()).flat_map(expand);
    paths.map(|path| format!("{}{path}", start.trim())).collect()
}

/// Returns the paths that a file names outside of its tests: those of `use`, and those in its code.
fn paths(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut found = Vec::new();
    let mut lines = code(text);
    while let Some(line) = lines.next() {
        let import = line.trim_start().trim_start_matches("pub(super) ").trim_start_matches("pub ");
        if let Some(start) = import.strip_prefix("use ") {
            let mut tree = start.to_owned();
            while !tree.contains(';') {
                tree.push_str(lines.next().unwrap());
            }
            found.extend(expand(tree.split(';').next().unwrap()));
        } else {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
            found.extend(words.filter(|word| word.contains("::")).map(str::to_owned));
        }
    }
    found
}

/// Returns the module that a path in the module `here` leads into, if it is one of `modules`.
fn target(path: &str, here: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let mut names = path.split("::").map(|name| name.split_whitespace().next().unwrap_or_default()).peekable();
    let mut module: Module = if names.next_if_eq(&"crate").is_some() { Vec::new() } else { here.to_vec() };
    names.next_if_eq(&"self");
    while names.next_if_eq(&"super").is_some() {
        module.pop();
    }
    for name in names {
        module.push(name.to_owned());
        if !modules.contains(&module) {
            module.pop();
            break;
        }
    }
    modules.contains(&module).then_some(module)
}

/// Removes the modules that import none of the others, and those that none of the others imports, until there are no
/// more of either kind. The rest is in cycles, or between two of them.
fn in_cycles(mut imports: BTreeMap<Module, BTreeSet<Module>>) -> BTreeMap<Module, BTreeSet<Module>> {
    loop {
        let count = imports.len();
        let importing: BTreeSet<Module> = imports.keys().cloned().collect();
        for targets in imports.values_mut() {
            targets.retain(|target| importing.contains(target));
        }
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        imports.retain(|module, targets| !targets.is_empty() && imported.contains(module));
        if imports.len() == count {
            return imports;
        }
    }
}

#[test]
fn no_files_import_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let texts: BTreeMap<Module, String> = files
        .iter()
        .map(|file| {
            let place = file.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Module = place.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
            module.pop_if(|last| last == "mod");
            (module, std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let modules: BTreeSet<Module> = texts.keys().cloned().collect();
    // A module and one inside it may import each other: the outer one passes on the names of the inner one.
    let is_apart = |a: &Module, b: &Module| !a.starts_with(b) && !b.starts_with(a);
    let imports: BTreeMap<Module, BTreeSet<Module>> = texts
        .iter()
        .map(|(module, text)| {
            let targets = paths(text).into_iter().filter_map(|path| target(&path, module, &modules));
            (module.clone(), targets.filter(|target| is_apart(module, target)).collect())
        })
        .collect();
    let count: usize = imports.values().map(BTreeSet::len).sum();
    assert!(count > 700, "{count}");
    let cycles = in_cycles(imports);
    let lines: Vec<String> = cycles
        .iter()
        .flat_map(|(module, targets)| targets.iter().map(|to| format!("{} -> {}", module.join("::"), to.join("::"))))
        .collect();
    assert!(lines.is_empty(), "these imports form cycles:\n{}", lines.join("\n"));
}

#[test]
fn a_cycle_of_imports_is_found() {
    let modules = ["a", "a::x", "a::y", "b"].map(|path| path.split("::").map(str::to_owned).collect::<Module>());
    let [_, x, y, b] = modules.clone();
    let modules = BTreeSet::from(modules);
    let text =
        "pub(super) use super::{\n    y::{Two, Three as Four},\n    z,\n};\nfn f() -> crate::b::B {} // super::w::W\n";
    let found: BTreeSet<Module> = paths(text).iter().filter_map(|path| target(path, &x, &modules)).collect();
    assert!(found.contains(&y) && found.contains(&b), "{found:?}");
    let imports = |to_x: &[&Module]| {
        let targets = |targets: &[&Module]| targets.iter().map(|module| (*module).clone()).collect();
        BTreeMap::from([(x.clone(), targets(&[&y, &b])), (y.clone(), targets(to_x)), (b.clone(), targets(&[]))])
    };
    assert!(in_cycles(imports(&[])).is_empty());
    assert_eq!(in_cycles(imports(&[&x])).into_keys().collect::<Vec<_>>(), [x.clone(), y.clone()]);
}

#[test]
fn only_bindings_are_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let is_unsafe = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        let words = code(&text).flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        words.into_iter().any(|word| word == "unsafe")
    };
    files.retain(is_unsafe);
    let mut places: Vec<&str> = files.iter().map(|file| file.strip_prefix(&root).unwrap().to_str().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, UNSAFE);
}
