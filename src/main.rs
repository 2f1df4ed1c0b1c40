//! Reads the command line and hands over to [`visage::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    visage::cli::run()
}
