//! A whole file: opened, probed and sampled. FFmpeg itself is not instrumented; what visage makes of what it says is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visage::config::{Settings, Video};
use visage::media::{Every, Frames, Opened, Source, probe, sniff};

thread_local! {
    static LIMITS: Option<Video> =
        Settings::defaults().ok().map(|settings| Video { max_pixels: 1 << 18, ..settings.video });
}

/// Samples that are taken of one file.
const SAMPLES: usize = 32;

fuzz_target!(|input: &[u8]| {
    let path = std::env::temp_dir().join(format!("visage-fuzz-{}", std::process::id()));
    LIMITS.with(|limits| {
        let limits = limits.as_ref().expect("the settings have defaults");
        if sniff(input, limits).is_err() {
            return;
        }
        std::fs::write(&path, input).expect("the temporary folder can be written");
        let source = Source::File(path.clone());
        let _ = probe(&source, limits);
        let Ok(opened) = Opened::open(&source, limits) else { return };
        let Ok(mut frames) = Frames::start(opened, Every::exact(1 + u32::from(input[input.len() - 1] & 7)), 2) else {
            return;
        };
        let mut last = None;
        for _ in 0..SAMPLES {
            let Ok(Some(sample)) = frames.next(&|| false) else { break };
            assert!(sample.time_s.is_finite() && last < Some(sample.time_s), "times rise");
            last = Some(sample.time_s);
        }
        let _ = frames.end(|| false);
    });
    let _ = std::fs::remove_file(&path);
});
