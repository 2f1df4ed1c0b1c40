//! Copies standard input to a temporary file, because the index of a video may be at its end.

use std::fs::File;
use std::io::{IsTerminal, Read};

use crate::cli::Failure;
use crate::config::ByteSize;

/// Copies standard input to a file without a name, in the folder for temporary files of the system (`TMPDIR`). The
/// system deletes it with its last handle, even if the process is killed.
pub fn copy(limit: ByteSize) -> Result<File, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Err(Failure::Settings("standard input is a terminal: send a video to it, or give a file".to_owned()));
    }
    let failed = |error: std::io::Error| {
        Failure::Run(format!("standard input was not copied to {}: {error}", std::env::temp_dir().display()))
    };
    let mut file = tempfile::tempfile().map_err(failed)?;
    let copied = std::io::copy(&mut input.lock().take(limit.0.saturating_add(1)), &mut file).map_err(failed)?;
    if copied > limit.0 {
        return Err(Failure::Input(format!("standard input is larger than {limit} (the setting http.max_upload)")));
    }
    Ok(file)
}
