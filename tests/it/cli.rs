//! The command line.

mod analyze;
mod keys;
