//! The first bytes of an upload, from which its container is told.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = visage::media::sniff(input);
});
