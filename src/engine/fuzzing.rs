//! Entry points for coverage-guided fuzzing (`fuzz/`) of parsers that are private to the engine.

use super::{half_precision, rewrite};

/// Rewrites a model file for the CPU and in half precision.
///
/// # Panics
/// Panics if a rewritten model cannot be parsed again.
pub fn rewritten(model: &[u8]) {
    for written in [rewrite::for_cpu(model), half_precision::to_fp16(model)].into_iter().flatten() {
        assert!(onnx_rs::parse(&written).is_ok(), "a rewritten model can be parsed");
    }
}
