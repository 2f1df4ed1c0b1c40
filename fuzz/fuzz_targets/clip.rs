//! A JSON body with a video in base64.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::api::fuzzing::clip(input));
