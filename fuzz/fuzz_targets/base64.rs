//! A video in base64, with or without a data: address in front.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::api::fuzzing::base64(input));
