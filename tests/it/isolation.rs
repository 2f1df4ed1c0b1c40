//! Decoding of videos in confined child processes, and the ends of such processes.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use visage::config::{Isolation, Settings};
use visage::fault::{Fault, Part};
use visage::isolation::{Attempt, Confinement, DecoderMode, Decoders, IsolationError, VideoFile, try_attempts};
use visage::media::{Every, FramesError, ProbeError, SoundFormat, Source};

use crate::support::clips::shared;
use crate::support::decoders;
use crate::support::program::PROGRAM;

fn settings() -> Settings {
    Settings::defaults().unwrap()
}

fn clip(name: &str) -> Source {
    Source::File(shared(name))
}

/// Samples of a video as index, time and bytes of the picture.
fn samples(video: &VideoFile, every: u32) -> Vec<(u32, f64, Vec<u8>)> {
    use opencv::prelude::MatTraitConstManual;
    let mut frames = video.open().unwrap().start(Every::exact(every), 0).unwrap();
    std::iter::from_fn(|| frames.next(&|| false).unwrap())
        .map(|sample| (sample.index, sample.time_s, sample.picture.data_bytes().unwrap().to_vec()))
        .collect()
}

#[test]
fn attempts_of_an_exploit_fail_in_a_confined_process() {
    let outcomes = |seccomp, landlock| try_attempts(Path::new(PROGRAM), Confinement { seccomp, landlock }).unwrap();
    let all = |outcome| Attempt::ALL.map(|attempt| (attempt, outcome)).to_vec();
    assert_eq!(outcomes(false, false), all(Some(true)), "the attempts are real");
    assert_eq!(outcomes(true, false), all(Some(false)), "seccomp alone");
    let both = outcomes(true, true);
    match decoders(&settings()).mode() {
        DecoderMode::Children(barriers) if barriers.is_complete() => assert_eq!(both, all(Some(false))),
        mode => assert_eq!(both, all(None), "{mode}"),
    }
}

#[test]
fn a_child_returns_the_same_pictures_sound_and_facts_as_this_process() {
    let settings = settings();
    let (here, child) = (Decoders::in_this_process(&settings.video), decoders(&settings));
    assert!(matches!(child.mode(), DecoderMode::Children(Confinement { seccomp: true, .. })), "{}", child.mode());
    for name in ["single_face.mp4", "face_then_none.mov", "speech_and_face.mp4"] {
        let (here, child) = (here.video(&clip(name)), child.video(&clip(name)));
        let (expected, probe) = (here.probe().unwrap(), child.probe().unwrap());
        let facts = |probe: &visage::media::Probe| {
            let visage::media::Probe { duration_s, fps, width, height, frames_total, has_audio, .. } = *probe;
            (duration_s, fps, width, height, frames_total, has_audio, probe.codec.clone())
        };
        assert_eq!(facts(&probe), facts(&expected), "{name}");
        assert_eq!(child.count_frames(&|| false).unwrap(), here.count_frames(&|| false).unwrap(), "{name}");
        assert!(samples(&child, 7) == samples(&here, 7), "{name}");
        let end = |video: &VideoFile| {
            let mut frames = video.open().unwrap().start(Every::exact(50), 1).unwrap();
            while frames.next(&|| false).unwrap().is_some() {}
            (frames.passed(), frames.end(|| false).unwrap())
        };
        assert_eq!(end(&child), end(&here), "{name}");
        let heard = |video: &VideoFile, format| {
            let mut sound = video.sound_in(format, 0, || false).unwrap()?;
            let blocks = std::iter::from_fn(|| sound.next(&|| false).unwrap()).collect::<Vec<_>>().concat();
            Some((blocks, sound.stream(), sound.is_silent()))
        };
        let [speech, playback] = [SoundFormat::Speech, SoundFormat::Playback].map(|format| {
            let sound = heard(&child, format);
            assert!(sound == heard(&here, format), "{name}");
            sound.map_or(0, |(blocks, ..)| blocks.len())
        });
        // 48 kHz and two channels instead of 16 kHz and one.
        assert!(playback.abs_diff(6 * speech) < 100, "{name}: {speech} {playback}");
    }
}

#[test]
fn a_child_that_crashes_is_the_error_of_its_video_alone() {
    let decoders = decoders(&settings());
    let (broken, other) = (decoders.video(&clip("sad_then_happy.mp4")), decoders.video(&clip("sad_then_happy.mp4")));
    let mut frames = broken.open().unwrap().start(Every::exact(1), 0).unwrap();
    let mut others = other.open().unwrap().start(Every::exact(1), 0).unwrap();
    assert!(frames.next(&|| false).unwrap().is_some() && others.next(&|| false).unwrap().is_some());
    let end = |video: &VideoFile, signal| {
        kill(Pid::from_raw(i32::try_from(video.process_id().unwrap()).unwrap()), signal).unwrap();
    };
    // Not SIGSEGV: the runtime of Rust ignores one that no access to memory caused.
    end(&broken, Signal::SIGABRT);
    let error = loop {
        match frames.next(&|| false) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a crash looks like the end of the video"),
            Err(error) => break error,
        }
    };
    let FramesError::Video(error @ ProbeError::DecoderEnded(_)) = error else { panic!("{error}") };
    assert_eq!(error.fault(), Fault::Unclear);
    // Sound of the same video, whose child is gone.
    assert!(broken.sound(0, || false).is_err());
    assert!(others.next(&|| false).unwrap().is_some());

    end(&other, Signal::SIGKILL);
    let error = std::iter::repeat_with(|| others.next(&|| false)).find_map(Result::err).unwrap();
    let FramesError::Video(error) = error else { panic!("{error}") };
    assert_eq!(error.fault(), Fault::Ours(Part::Memory), "a kill from outside is not the video's fault");
}

#[test]
fn dropping_a_video_ends_its_child_and_cancelling_ends_a_wait() {
    let decoders = decoders(&settings());
    let video = decoders.video(&clip("sad_then_happy.mp4"));
    let mut frames = video.open().unwrap().start(Every::exact(1), 0).unwrap();
    assert!(matches!(frames.next(&|| true), Err(FramesError::Cancelled)));
    let child = format!("/proc/{}", video.process_id().unwrap());
    drop((frames, video));
    assert!(!Path::new(&child).exists());
}

#[test]
fn a_child_reports_the_reason_of_a_refusal() {
    let decoders = decoders(&settings());
    let folder = tempfile::tempdir().unwrap();
    let refusal = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        decoders.probe(&Source::File(path)).unwrap_err()
    };
    assert!(matches!(refusal("empty", b""), ProbeError::NotAVideo));
    assert!(matches!(refusal("text", b"hello, I am a text"), ProbeError::NotAVideo));
    assert!(matches!(refusal("a.jpg", b"\xFF\xD8\xFF\xE0"), ProbeError::Picture { format } if format == "JPEG"));
    let missing = decoders.probe(&Source::File(folder.path().join("nothing"))).unwrap_err();
    assert_eq!(missing.fault(), Fault::Ours(Part::Storage), "{missing}");
    let mut limits = settings();
    limits.video.max_pixels = 1000;
    let refused = crate::support::decoders(&limits).probe(&clip("single_face.mp4")).unwrap_err();
    assert!(matches!(refused, ProbeError::TooLarge { limit: 1000, .. }), "{refused}");
}

#[test]
fn without_children_the_setting_decides() {
    let mut limits = settings().video;
    for (isolation, expected) in [(Isolation::Prefer, DecoderMode::NoChildren), (Isolation::Off, DecoderMode::Off)] {
        limits.isolation = isolation;
        let decoders = Decoders::new(&limits, "/nowhere/visage".into(), false).unwrap();
        assert_eq!(decoders.check().unwrap(), expected);
        assert!(decoders.probe(&clip("single_face.mp4")).is_ok());
    }
    limits.isolation = Isolation::Require;
    let refused = Decoders::new(&limits, "/nowhere/visage".into(), false);
    assert!(matches!(refused, Err(IsolationError::NotStarted(_))));
    // This program starts and ends at once.
    limits.isolation = Isolation::Prefer;
    let decoders = Decoders::new(&limits, "/bin/false".into(), false).unwrap();
    assert_eq!(decoders.check().unwrap(), DecoderMode::NoChildren);
    assert!(decoders.probe(&clip("single_face.mp4")).is_ok());
    limits.isolation = Isolation::Require;
    let decoders = Decoders::new(&limits, "/bin/false".into(), false).unwrap();
    assert!(matches!(decoders.check(), Err(IsolationError::NotStarted(_))));
    let refused = decoders.probe(&clip("single_face.mp4")).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Ours(_)), "{refused}");
}

#[test]
fn a_spare_child_waits_for_the_next_video() {
    let decoders = Decoders::new(&settings().video, PROGRAM.into(), true).unwrap();
    let mut children = Vec::new();
    for _ in 0..3 {
        let video = decoders.video(&clip("single_face.mp4"));
        assert!(video.process_id().is_none());
        video.probe().unwrap();
        children.push(video.process_id().unwrap());
    }
    children.dedup();
    assert_eq!(children.len(), 3, "each video has a child of its own");
}
