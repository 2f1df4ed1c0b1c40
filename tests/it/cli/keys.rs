//! `visage keys`.

use std::path::Path;
use std::process::{Command, Output};

fn visage(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visage"))
        .current_dir(folder)
        .env("VISAGE_DATABASE__URL", format!("sqlite://{}/visage.db", folder.display()))
        .env("VISAGE_LOG__FILTER", "error")
        .arg("keys")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_key_is_printed_once_and_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let made = visage(folder.path(), &["create", "--name", "the app", "--scope", "analyze,logs"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let key = text(&made.stdout);
    let key = key.trim();
    let parts: Vec<_> = key.splitn(3, '_').collect();
    assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("vis", 12, 43), "{key}");

    let listed = text(&visage(folder.path(), &["list"]).stdout);
    assert!(listed.contains(parts[1]) && listed.contains("the app") && listed.contains("analyze,logs"), "{listed}");
    assert!(!listed.contains(parts[2]), "{listed}");
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(43).any(|window| window == parts[2].as_bytes()), "the database contains the secret");
    }

    assert!(visage(folder.path(), &["revoke", parts[1]]).status.success());
    assert!(text(&visage(folder.path(), &["list"]).stdout).contains("revoked"));
    assert_eq!(visage(folder.path(), &["revoke", parts[1]]).status.code(), Some(3));
    assert_eq!(visage(folder.path(), &["create", "--name", "x", "--scope", "all"]).status.code(), Some(2));
}
