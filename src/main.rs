//! Runs [`visage::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    visage::cli::run()
}
