//! Unit tests of the scripts of the pages (`tests/assets`), which Node.js runs.

use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_tests_of_the_scripts_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let tests: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    assert!(!tests.is_empty(), "{} has no tests", folder.display());
    let output = Command::new("node").arg("--test").args(tests).output();
    let output = output.expect("scripts/install-test-deps.sh installs Node.js");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
