//! A mail address.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(address) = visage::report::sendable(text) {
        assert!(address.to_string().is_ascii());
        assert_eq!(visage::report::sendable(&address.to_string()), Ok(address), "what is sendable stays as it is");
    }
});
