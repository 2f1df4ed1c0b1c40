//! Ways in for coverage-guided fuzzing (`fuzz/`) to parsers that nothing outside of [`super`] sees.

use super::{half_precision, rewrite};

/// Rewrites a model file for the CPU and in half precision.
///
/// # Panics
/// Where what was written cannot be read again.
pub fn rewritten(model: &[u8]) {
    for written in [rewrite::for_cpu(model), half_precision::in_half(model)].into_iter().flatten() {
        assert!(onnx_rs::parse(&written).is_ok(), "a model that was read is written as one");
    }
}
