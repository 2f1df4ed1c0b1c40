//! Lengths of boxes and elements, display matrices, ratios of a pixel.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::media::fuzzing::headers(input));
