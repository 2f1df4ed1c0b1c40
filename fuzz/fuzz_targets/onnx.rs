//! A model file in ONNX, rewritten for the CPU and in half precision.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::engine::fuzzing::rewritten(input));
