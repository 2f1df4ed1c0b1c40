//! Finds ONNX Runtime's shared library.
//!
//! The crate `ort` loads the library at first use and panics if it is missing or too old. This module therefore finds
//! the file, opens it and checks its version before `ort` uses it.

use std::cmp::Reverse;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::EngineError;

/// Folders in which Linux distributions and manual installations put shared libraries.
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
    /// As reported by the library, such as `1.31.1`.
    pub version: String,
}

/// Finds the library by the setting `engine.library`: a file, or `auto`. `auto` takes the file of `ORT_DYLIB_PATH` if
/// that is set, otherwise the first usable library in `.runtime/`, in the program's folder, in `lib/` and `.runtime/`
/// below that, and in the system's folders.
pub fn find(setting: &str) -> Result<Library, EngineError> {
    if setting != "auto" {
        return check(Path::new(setting));
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return check(Path::new(&path));
    }
    find_in(&folders())
}

/// Returns the first usable library. Folders are searched in order, and each folder from its newest version to its
/// oldest.
fn find_in(folders: &[PathBuf]) -> Result<Library, EngineError> {
    let mut unusable = None;
    for path in folders.iter().flat_map(|folder| candidates(folder)) {
        match check(&path) {
            Ok(library) => return Ok(library),
            Err(error) => {
                tracing::warn!(%error, "skipping an unusable ONNX Runtime library");
                unusable.get_or_insert(error);
            }
        }
    }
    Err(unusable.unwrap_or_else(|| EngineError::LibraryMissing { searched: folders.to_vec() }))
}

fn folders() -> Vec<PathBuf> {
    // Cargo runs the unit tests of this crate in the folder `core`.
    let mut folders = vec![PathBuf::from(if cfg!(test) { "../.runtime" } else { ".runtime" })];
    if let Some(own) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        folders.extend([own.to_owned(), own.join("lib"), own.join(".runtime")]);
    }
    folders.extend(SYSTEM_FOLDERS.map(PathBuf::from));
    folders
}

/// Lists the files of a folder that may be the library, the highest version first and a file without a version last.
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

/// Switches off the telemetry of ONNX Runtime. Call it before any thread is started. Some builds record usage in a
/// database in the user's cache folder and send it to Microsoft. The switch in its API is too late: the database is
/// created when the library is loaded.
pub fn disable_telemetry() {
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// Opens a library file and checks its version.
pub fn check(path: &Path) -> Result<Library, EngineError> {
    let unusable = |reason: String| EngineError::LibraryUnusable { path: path.to_owned(), reason };
    // For a name without a slash, the loader would search other folders.
    let file = std::path::absolute(path).map_err(|error| unusable(error.to_string()))?;
    if !file.is_file() {
        return Err(unusable("no such file; set engine.library or ORT_DYLIB_PATH to another".to_owned()));
    }
    // SAFETY: loading runs the library's initialisers. The operator has named this file, or it lies in a folder that
    // only the operator writes to.
    let library = unsafe { libloading::Library::new(&file) }.map_err(|error| unusable(error.to_string()))?;
    // SAFETY: the type is that of the function of this name in ONNX Runtime's C header.
    let symbol = unsafe { library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase") };
    let base = symbol.map_err(|_| unusable("it is not ONNX Runtime".to_owned()))?;
    // SAFETY: the function takes no arguments and returns a static table or null.
    let table = unsafe { base().as_ref() }.ok_or_else(|| unusable("it offers no API".to_owned()))?;
    // SAFETY: the function returns a static string that ends in a zero byte.
    let version = unsafe { CStr::from_ptr((table.GetVersionString)()) }.to_string_lossy().into_owned();

    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < (1, ort::MINOR_VERSION) {
        let needed = ort::MINOR_VERSION;
        return Err(unusable(format!("it is version {version}, but 1.{needed} or newer is required")));
    }
    // Keep the library loaded: `ort` opens the same file next, and ONNX Runtime cannot be unloaded safely.
    std::mem::forget(library);
    Ok(Library { path: file, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles a shared library that reports a version as ONNX Runtime does.
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
    fn a_missing_library_or_a_file_of_another_kind_is_an_error_and_not_a_panic() {
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
    fn the_newest_usable_library_of_the_first_folder_is_used() {
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
