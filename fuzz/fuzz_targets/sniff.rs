//! The first bytes of an upload, from which its container is told.
#![no_main]

use visage::config::{Settings, Video};

thread_local! {
    static LIMITS: Option<Video> = Settings::defaults().ok().map(|settings| settings.video);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    LIMITS.with(|limits| {
        let limits = limits.as_ref().expect("the settings have defaults");
        let _ = visage::media::sniff(input, limits);
    });
});
