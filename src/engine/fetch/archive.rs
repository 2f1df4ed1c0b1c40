//! Reads zip archives: Python wheels and MediaPipe's task files.

use std::io::{Read, Seek};

use zip::ZipArchive;
use zip::result::ZipError;

/// Reads a file of an archive. Refuses a file of more than `max_bytes` bytes.
pub(super) fn member(archive: impl Read + Seek, name: &str, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut archive = ZipArchive::new(archive).map_err(|error| format!("it is not a zip archive: {error}"))?;
    let file = archive.by_name(name).map_err(|error| match error {
        ZipError::FileNotFound => format!("it does not contain {name}"),
        error => format!("{name} in it cannot be read: {error}"),
    })?;
    let mut bytes = Vec::new();
    // Do not trust the length that the archive states.
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name} in it cannot be read: {error}"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("{name} in it has more than the expected {max_bytes} bytes"));
    }
    Ok(bytes)
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
    fn a_file_of_an_archive_is_read_and_a_missing_or_too_long_one_is_an_error() {
        for name in ["in/side.onnx", "plain"] {
            assert_eq!(member(archive(), name, 1000).unwrap(), [7; 1000]);
            assert!(member(archive(), name, 999).unwrap_err().contains("more than the expected 999 bytes"));
        }
        assert_eq!(member(archive(), "no/such", 1000).unwrap_err(), "it does not contain no/such");
        assert!(member(Cursor::new(b"PK, but no archive"), "plain", 1000).unwrap_err().contains("not a zip archive"));
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let whole = archive().into_inner();
        for length in 0..whole.len() {
            assert!(member(Cursor::new(&whole[..length]), "plain", 1000).is_err(), "{length} bytes");
        }
        let mut wrong = whole;
        let place = wrong.windows(9).position(|bytes| bytes == [7; 9]).unwrap();
        wrong[place] = 8;
        assert!(member(Cursor::new(wrong), "plain", 1000).unwrap_err().contains("cannot be read"), "its CRC is wrong");
    }
}
