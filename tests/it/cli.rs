//! The command line.

mod analyze;
mod eval;
mod keys;
mod log;
mod migrate;
mod serve;
