//! An upload as a multipart form, plain or as gzip, with the query of its address.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::api::fuzzing::upload(input));
