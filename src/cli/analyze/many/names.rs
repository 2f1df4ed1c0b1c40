//! Names of results.
//!
//! The name of a result depends on the path of its input alone, not on the other inputs, so that a later command with
//! more or fewer inputs finds it again. It begins with the name of the input, and ends with a hash of the whole path:
//! inputs of the same name in different folders have different results.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Longest part of the name that is that of the input, in bytes. A name in a folder has at most 255 bytes.
const LONGEST: usize = 150;
/// Number of hexadecimal digits of the hash. Among a million inputs of the same name, two have the same digits with a
/// probability of 0.2 %.
const DIGITS: usize = 12;

/// Returns the name of the result of a file, without the ending `.json` or `.csv`, such as `clip.mp4-1f2e3d4c5b6a`.
pub fn result_name(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digits = hex::encode(Sha256::digest(place(path).as_os_str().as_bytes()));
    let name = path.file_name().map_or_else(|| "input".into(), |name| name.to_string_lossy());
    let mut name: String = name.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
    name.truncate(name.floor_char_boundary(LONGEST));
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    format!("{name}-{}", &digits[..DIGITS])
}

/// Whether a name ends as those of results do.
pub fn is_result_name(name: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    name.rsplit_once('-').is_some_and(|(_, digits)| digits.len() == DIGITS && digits.bytes().all(is_digit))
}

/// Whether every system and program takes this character in a name of a file.
fn is_safe(c: char) -> bool {
    !c.is_control() && c != char::REPLACEMENT_CHARACTER && !"/\\:*?\"<>|".contains(c)
}

/// Returns the absolute path of a file, in a folder without symbolic links. The file itself may be a link.
fn place(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_name_depends_on_the_whole_path_and_not_on_how_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        std::os::unix::fs::symlink(&a, folder.path().join("link")).unwrap();
        let name = result_name(&a.join("clip.mp4"));
        assert!(name.starts_with("clip.mp4-") && name.len() == "clip.mp4-".len() + DIGITS, "{name}");
        assert_ne!(result_name(&b.join("clip.mp4")), name);
        assert_ne!(result_name(&a.join("clip.mov")), name);
        assert_eq!(result_name(&b.join("../a/clip.mp4")), name);
        assert_eq!(result_name(&folder.path().join("link/clip.mp4")), name);
    }

    #[test]
    fn names_are_valid_visible_and_short() {
        let name = |bytes: &[u8]| result_name(&Path::new("/nowhere").join(OsStr::from_bytes(bytes)));
        let (one, other) = (name(b"caf\xe9.mp4"), name(b"caf\xe8.mp4"));
        assert!(one.starts_with("caf_.mp4-") && other.starts_with("caf_.mp4-"), "{one} {other}");
        assert_ne!(one, other);
        assert!(name(b".hidden.mp4").starts_with("_hidden.mp4-"));
        assert!(name(b"a\nb:c.mp4").starts_with("a_b_c.mp4-"));
        assert!(name("ä".repeat(127).as_bytes()).len() <= LONGEST + 1 + DIGITS);
    }
}
