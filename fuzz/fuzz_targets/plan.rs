//! H.264, HEVC, VP8, VP9 and AV1 packets: headers, references, and the plan of what is decoded.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| visage::media::fuzzing::plan(input));
