//! Finds ONNX Runtime's shared library.
//!
//! The binding loads it by name at first use and panics when it is missing or older than what it was built for, so the
//! file is found, opened and asked for its version here, before the binding sees it.

use std::cmp::Reverse;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::EngineError;

/// Where distributions and hand-made installs put shared libraries.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/opt/onnxruntime/lib",
];

/// A library that the engine can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    pub path: PathBuf,
    /// As the library tells it, such as `1.31.1`.
    pub version: String,
}

/// The library that `engine.library` names: a file, or `auto` for the first usable one of `ORT_DYLIB_PATH`, `.runtime/`,
/// the program's own folder (and `lib/` beside it), and the system's folders.
pub fn find(setting: &str) -> Result<Library, EngineError> {
    if setting != "auto" {
        return check(Path::new(setting));
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return check(Path::new(&path));
    }
    find_in(&folders())
}

/// The first usable library of some folders; within one, the newest first.
fn find_in(folders: &[PathBuf]) -> Result<Library, EngineError> {
    let mut unusable = None;
    for path in folders.iter().flat_map(|folder| candidates(folder)) {
        match check(&path) {
            Ok(library) => return Ok(library),
            Err(error) => {
                tracing::warn!(%error, "passing over a library");
                unusable.get_or_insert(error);
            }
        }
    }
    Err(unusable.unwrap_or_else(|| EngineError::LibraryMissing { searched: folders.to_vec() }))
}

fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from(".runtime")];
    if let Some(own) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        folders.extend([own.to_owned(), own.join("lib"), own.join(".runtime")]);
    }
    folders.extend(SYSTEM_FOLDERS.map(PathBuf::from));
    folders
}

/// Files of a folder that may be the library, the highest version first and a bare `libonnxruntime.so` last.
fn candidates(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix("libonnxruntime.so")?;
            let version =
                rest.split('.').filter(|part| !part.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_by_key(|(version, _)| Reverse(version.clone()));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Opens one file and asks it for its version.
pub fn check(path: &Path) -> Result<Library, EngineError> {
    let unusable = |reason: String| EngineError::LibraryUnusable { path: path.to_owned(), reason };
    // Without a slash the loader would look elsewhere than at this file.
    let file = std::path::absolute(path).map_err(|error| unusable(error.to_string()))?;
    if !file.is_file() {
        return Err(unusable("there is no such file; give another in engine.library or ORT_DYLIB_PATH".to_owned()));
    }
    // SAFETY: loading runs the library's initialisers. The file is the one the operator named, or lies where only an
    // operator puts libraries.
    let library = unsafe { libloading::Library::new(&file) }.map_err(|error| unusable(error.to_string()))?;
    // SAFETY: the type is that of the one function under this name in ONNX Runtime's C header.
    let symbol = unsafe { library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase") };
    let base = symbol.map_err(|_| unusable("it is not ONNX Runtime".to_owned()))?;
    // SAFETY: takes nothing and returns a static table, or null.
    let table = unsafe { base().as_ref() }.ok_or_else(|| unusable("it offers no API".to_owned()))?;
    // SAFETY: returns a static text that ends in zero.
    let version = unsafe { CStr::from_ptr((table.GetVersionString)()) }.to_string_lossy().into_owned();

    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < (1, ort::MINOR_VERSION) {
        let needed = ort::MINOR_VERSION;
        return Err(unusable(format!("it is version {version}, and 1.{needed} or newer is needed")));
    }
    // It stays loaded: the binding opens the same file next, and unloading a runtime is asking for trouble.
    std::mem::forget(library);
    Ok(Library { path: file, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shared library that answers as ONNX Runtime of some version does.
    fn fake(folder: &Path, name: &str, version: &str) -> PathBuf {
        let source = folder.join("fake.c");
        let text = format!(
            "static const char *version(void) {{ return \"{version}\"; }}\n\
             static const void *table[2] = {{ 0, (const void *)version }};\n\
             const void *OrtGetApiBase(void) {{ return table; }}\n"
        );
        std::fs::write(&source, text).unwrap();
        let path = folder.join(name);
        let done = std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&path).arg(&source).status();
        assert!(done.unwrap().success());
        path
    }

    #[test]
    fn a_library_that_is_not_there_or_is_something_else_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let gone = find(folder.path().join("libonnxruntime.so").to_str().unwrap()).unwrap_err();
        assert!(gone.is_missing() && gone.to_string().contains("no such file"), "{gone}");

        let text = folder.path().join("libonnxruntime.so.1.30.0");
        std::fs::write(&text, "no library").unwrap();
        assert!(matches!(find(text.to_str().unwrap()), Err(EngineError::LibraryUnusable { .. })));

        let empty = tempfile::tempdir().unwrap();
        let missing = find_in(&[empty.path().to_owned()]).unwrap_err();
        assert!(matches!(&missing, EngineError::LibraryMissing { searched } if searched == &[empty.path()]));
        assert!(missing.to_string().contains("engine.library"), "{missing}");
    }

    #[test]
    fn a_library_that_is_too_old_is_refused_with_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&fake(folder.path(), "libonnxruntime.so.1.17.3", "1.17.3")).unwrap_err();
        assert!(error.to_string().contains("it is version 1.17.3"), "{error}");
    }

    #[test]
    fn the_newest_usable_library_of_the_first_folder_is_taken() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fake(first.path(), "libonnxruntime.so.1.9.0", "1.9.0");
        let good = fake(first.path(), "libonnxruntime.so.1.30.2", "1.30.2");
        std::fs::write(first.path().join("libonnxruntime.so.1.99.0"), "no library").unwrap();
        std::fs::write(first.path().join("libonnxruntime_providers_shared.so"), "").unwrap();
        fake(second.path(), "libonnxruntime.so.1.31.0", "1.31.0");
        let found = find_in(&[first.path().to_owned(), second.path().to_owned()]).unwrap();
        assert_eq!(found, Library { path: good, version: "1.30.2".to_owned() });
    }
}
