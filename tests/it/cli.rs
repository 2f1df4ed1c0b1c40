//! The command line.

mod analyze;
mod eval;
mod keys;
mod log;
mod many;
mod migrate;
mod serve;
