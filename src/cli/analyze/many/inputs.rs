//! Lists the inputs: the given files, and the videos and pictures in the given folders.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::failed::Failed;
use super::media_names::{Named, named};
use super::names::{is_result_name, result_name};
use crate::cli::analyze::overlay;
use crate::config::Video;
use crate::media::{self, ProbeError};

/// A file to analyze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    /// The name of its result, without an ending.
    pub result: String,
    /// Why it cannot be analyzed, if that is known already.
    pub problem: Option<Failed>,
}

/// Lists the given files in their order, and in the place of each folder the videos and pictures in it and in the
/// folders below, in the order of their names as bytes. Files and folders whose names begin with a dot are passed over,
/// unless they are given, and so are overlays beside their results. A file that is reached twice is listed once. `out` is
/// the folder of the results.
pub fn list(given: &[PathBuf], out: &Path, limits: &Video) -> Vec<Input> {
    let out = fs::metadata(out).ok().map(|about| (about.dev(), about.ino()));
    let mut walk = Walk { limits, out, folders: HashSet::new(), results: HashSet::new(), found: Vec::new() };
    for path in given {
        walk.given(path);
    }
    walk.found
}

struct Walk<'a> {
    limits: &'a Video,
    /// Device and inode of the folder of the results, if it is there.
    out: Option<(u64, u64)>,
    /// Device and inode of each folder so far. A symbolic link may lead to a folder again, even to one that is being
    /// walked.
    folders: HashSet<(u64, u64)>,
    results: HashSet<String>,
    found: Vec<Input>,
}

impl Walk<'_> {
    fn given(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => self.folder(path, &about),
            Ok(about) if about.is_file() => self.add(path, None),
            Ok(_) => self.add(path, Some(Failed::not_a_file())),
            Err(error) => self.add(path, Some(Failed::unreadable(&error))),
        }
    }

    fn folder(&mut self, path: &Path, about: &Metadata) {
        if !self.folders.insert((about.dev(), about.ino())) {
            return;
        }
        let entries = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut entries: Vec<std::ffi::OsString> = match entries {
            Ok(entries) => entries,
            Err(error) => return self.add(path, Some(Failed::unreadable(&error))),
        };
        entries.sort();
        let is_out = self.out == Some((about.dev(), about.ino()));
        for name in entries.iter().filter(|name| !name.as_bytes().starts_with(b".")) {
            let path = path.join(name);
            match fs::metadata(&path) {
                Ok(about) if about.is_dir() => self.folder(&path, &about),
                Ok(about) if about.is_file() && !is_overlay(&path, is_out) && self.is_media(&path) => {
                    self.add(&path, None);
                }
                Ok(_) => {}
                // For example a link to a file that is gone.
                Err(error) if named(&path) == Named::Media => self.add(&path, Some(Failed::unreadable(&error))),
                Err(_) => {}
            }
        }
    }

    /// Whether a file in a folder is a video or a picture, by its name or by its first bytes.
    fn is_media(&self, path: &Path) -> bool {
        match named(path) {
            Named::Media => true,
            Named::Sound => false,
            Named::Other => {
                let mut head = Vec::new();
                let read = File::open(path).and_then(|file| file.take(media::HEAD as u64).read_to_end(&mut head));
                let other_media = |error: &ProbeError| {
                    matches!(error, ProbeError::Picture { .. } | ProbeError::ContainerNotAllowed { .. })
                };
                read.is_ok() && media::sniff(&head, self.limits).map_or_else(|error| other_media(&error), |()| true)
            }
        }
    }

    fn add(&mut self, path: &Path, problem: Option<Failed>) {
        let result = result_name(path);
        if self.results.insert(result.clone()) {
            self.found.push(Input { path: path.to_owned(), result, problem });
        }
    }
}

/// Whether a file in a folder is an overlay: its name is that of a result, and it is in the folder of the results or
/// beside its result.
fn is_overlay(path: &Path, is_out: bool) -> bool {
    let result = path.extension().filter(|ending| *ending == overlay::ENDING).and_then(|_| path.file_stem());
    let is_result = result.is_some_and(|name| is_result_name(&name.to_string_lossy()));
    is_result && (is_out || path.with_extension("json").is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Settings;

    fn listed(given: &[&Path]) -> Vec<(PathBuf, Option<&'static str>)> {
        let given: Vec<PathBuf> = given.iter().map(|path| path.to_path_buf()).collect();
        let found = list(&given, Path::new("/nowhere"), &Settings::defaults().unwrap().video);
        found.into_iter().map(|input| (input.path, input.problem.map(|problem| problem.code))).collect()
    }

    #[test]
    fn folders_are_walked_in_order_and_media_are_found_by_name_or_content() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for dir in ["b", "b/inner", ".hidden"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        let png = b"\x89PNG\r\n\x1a\n";
        for (name, bytes) in [
            ("b/2.mp4", &b"anything"[..]),
            ("b/10.MOV", b"anything"),
            ("b/inner/photo", png),
            ("a.jpeg", b""),
            ("notes.txt", b"no video"),
            ("program.ts", b"export const a = 1;"),
            ("sound.m4a", b"\0\0\0\x18ftypM4A "),
            ("unnamed", b"\0\0\0\x18ftypisom"),
            (".hidden/1.mp4", b"anything"),
            (".3.mp4", b"anything"),
        ] {
            fs::write(root.join(name), bytes).unwrap();
        }
        symlink(root, root.join("b/loop")).unwrap();
        symlink("itself", root.join("itself")).unwrap();
        symlink("/nowhere/gone.mp4", root.join("gone.mp4")).unwrap();
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe.mp4"), fifo, mode, 0).unwrap();
        let names = ["a.jpeg", "b/10.MOV", "b/2.mp4", "b/inner/photo", "gone.mp4", "unnamed"];
        let expected: Vec<_> =
            names.iter().map(|name| (root.join(name), (*name == "gone.mp4").then_some("source_unreadable"))).collect();
        assert_eq!(listed(&[root]), expected);

        // Given files are taken as they are, and none is taken twice.
        let (hidden, text) = (root.join(".3.mp4"), root.join("notes.txt"));
        let (missing, pipe, again) = (root.join("missing"), root.join("pipe.mp4"), root.join("b/../.3.mp4"));
        assert_eq!(
            listed(&[&hidden, &text, &missing, &pipe, &again, &root.join("b/inner")]),
            [
                (hidden.clone(), None),
                (text.clone(), None),
                (missing.clone(), Some("source_unreadable")),
                (pipe.clone(), Some("source_unreadable")),
                (root.join("b/inner/photo"), None),
            ]
        );
    }

    #[test]
    fn an_unreadable_folder_is_an_input_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let about = fs::metadata(&inner).unwrap();
        fs::remove_dir(&inner).unwrap();
        let limits = Settings::defaults().unwrap().video;
        let mut walk =
            Walk { limits: &limits, out: None, folders: HashSet::new(), results: HashSet::new(), found: Vec::new() };
        walk.folder(&inner, &about);
        assert_eq!(walk.found[0].problem.as_ref().unwrap().code, "source_unreadable");
    }

    #[test]
    fn overlays_are_no_inputs_unless_they_are_given() {
        let folder = tempfile::tempdir().unwrap();
        let (out, other) = (folder.path().join("out"), folder.path().join("other"));
        for dir in [&out, &other] {
            fs::create_dir(dir).unwrap();
            for name in ["a.mov-0123456789ab.mp4", "b.mov-0123456789ab.mp4", "b.mov-0123456789ab.json", "c-1.mp4"] {
                fs::write(dir.join(name), "").unwrap();
            }
        }
        let listed = |given: PathBuf| -> Vec<PathBuf> {
            let found = list(&[given], &out, &Settings::defaults().unwrap().video).into_iter();
            found.map(|input| input.path.strip_prefix(folder.path()).unwrap().to_owned()).collect()
        };
        let expected = ["other/a.mov-0123456789ab.mp4", "other/c-1.mp4", "out/c-1.mp4"].map(PathBuf::from);
        assert_eq!(listed(folder.path().to_owned()), expected);
        assert_eq!(listed(out.join("a.mov-0123456789ab.mp4")), [Path::new("out/a.mov-0123456789ab.mp4")]);
    }
}
