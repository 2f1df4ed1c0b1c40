//! The command line.

mod analyze;
mod compare;
mod eval;
mod keys;
mod log;
mod many;
mod migrate;
mod overlay;
mod serve;
