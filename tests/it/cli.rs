//! The command line.

mod analyze;
