//! Values of parameters, headers and settings.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::api::fuzzing::values(input));
