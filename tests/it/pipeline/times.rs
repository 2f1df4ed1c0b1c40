//! Times of video and sound in files with wrong headers or unusual time stamps.

use std::path::Path;

use visage::analysis::Warning;
use visage::config::{Settings, Video};
use visage::media::{End, Every, Frames, FramesError, Opened, Probe, SOUND_RATE, Sound, Source, count_frames, probe};

use crate::support::clips::Clips;

/// A video stream and a tone of 4 s each.
const TALK: &str = "-f lavfi -i testsrc=size=64x64:rate=25:duration=4 -f lavfi -i sine=duration=4";

fn limits() -> Video {
    Settings::defaults().unwrap().video
}

fn file(path: &Path) -> Source {
    Source::File(path.to_owned())
}

/// Returns the properties before decoding, the times of all frames, and the facts after the last frame.
fn read(path: &Path) -> (Probe, Vec<f64>, End) {
    let video = Opened::open(&file(path), &limits()).unwrap();
    let told = video.probe().clone();
    let mut frames = Frames::start(video, Every::exact(1), 2).unwrap();
    let mut times = Vec::new();
    while let Some(sample) = frames.next(&|| false).unwrap() {
        times.push(sample.time_s);
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{}: {times:?}", path.display());
    (told, times, frames.end(|| false).unwrap())
}

/// The start and the end of the tone, in seconds.
fn tone(path: &Path) -> (f64, f64) {
    let mut sound = Sound::open(&file(path), &limits(), || false).unwrap().unwrap();
    let samples: Vec<f32> = std::iter::from_fn(|| sound.next(&|| false).unwrap()).flatten().collect();
    let loud = |sample: &f32| sample.abs() > 0.02;
    let seconds = |at: usize| at as f64 / f64::from(SOUND_RATE);
    (seconds(samples.iter().position(loud).unwrap()), seconds(samples.iter().rposition(loud).unwrap()))
}

/// The time stamps of the frames that FFmpeg outputs, in seconds.
fn stamps(path: &Path) -> Vec<f64> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "quiet", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", "frame=pts_time"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

fn near(given: f64, wanted: f64) -> bool {
    (given - wanted).abs() < 0.05
}

/// Overwrites bytes of a file, `after` bytes after the first occurrence of `name`.
fn patch(bytes: &mut [u8], name: &[u8], after: usize, new: &[u8]) {
    let at = bytes.windows(name.len()).position(|found| found == name).expect("it is there") + name.len() + after;
    bytes[at..at + new.len()].copy_from_slice(new);
}

#[test]
fn offset_between_video_and_sound_is_kept() {
    let clips = Clips::new();
    clips.make("talk.mp4", &format!("{TALK} -c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p -c:a aac"));
    for ending in ["mp4", "mkv", "mov", "ts", "flv"] {
        let late = clips.make(
            &format!("pictures-late.{ending}"),
            "-i $talk.mp4 -itsoffset 3 -i $talk.mp4 -map 1:v -map 0:a -c copy",
        );
        let (_, times, end) = read(&late);
        assert!(near(times[0], 3.0) && near(times[99], 6.96), "{ending}: {} {}", times[0], times[99]);
        assert!(near(tone(&late).0, 0.0) && near(end.duration_s, 7.0), "{ending}: {:?} {end:?}", tone(&late));
        assert_eq!(end.warnings, [], "{ending}");

        let late = clips
            .make(&format!("sound-late.{ending}"), "-i $talk.mp4 -itsoffset 2 -i $talk.mp4 -map 0:v -map 1:a -c copy");
        let (_, times, _) = read(&late);
        let (begins, ends) = tone(&late);
        assert!(near(times[0], 0.0) && near(begins, 2.0) && near(ends, 6.0), "{ending}: {} {begins} {ends}", times[0]);
    }
}

#[test]
fn edit_list_shifts_video_and_sound_together() {
    let clips = Clips::new();
    // The tone starts 2 s after the start of the video.
    clips.make(
        "signal.mp4",
        "-f lavfi -i color=black:size=64x64:rate=25:duration=5 -f lavfi -i sine=duration=3 \
         -filter_complex [1:a]adelay=2000[a] -map 0:v -map [a] -c:v libx264 -g 25 -pix_fmt yuv420p -c:a aac",
    );
    let cut = clips.make("cut.mp4", "-ss 1.3 -i $signal.mp4 -c copy");
    let (_, times, _) = read(&cut);
    assert!(near(times[0], 0.0), "{}", times[0]);
    // The cut copies frames from the key frame on, hides those before 1.3 s, and copies the sound from 1.3 s on.
    assert!(near(tone(&cut).0, 0.7), "{:?}", tone(&cut));
}

#[test]
fn frames_before_the_start_of_an_edit_are_hidden_and_do_not_shift_the_others() {
    let clips = Clips::new();
    let pictures = "-f lavfi -i testsrc=size=64x64:rate=30:duration=4 -pix_fmt yuv420p";
    let x264 = "-c:v libx264 -bf 3 -x264-params keyint=30:min-keyint=30:scenecut=0:open-gop=1:b-adapt=0";
    let x265 = "-c:v libx265 -x265-params log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=1:bframes=3";
    for (name, coding) in [("h264", x264), ("hevc", x265)] {
        clips.make(&format!("{name}.mp4"), &format!("{pictures} {coding}"));
        // The file begins with a key frame whose leading frames are shown before it.
        let cut = format!("-ss 1 -i ${name}.mp4 -c copy -movflags negative_cts_offsets");
        let whole = std::fs::read(clips.make(&format!("cut-{name}.mp4"), &cut)).unwrap();
        for media_time in [0, 512, 1024, 2048, 5120, -2000_i32] {
            let mut bytes = whole.clone();
            patch(&mut bytes, b"elst", 12, &media_time.to_be_bytes());
            let path = clips.write("edit.mp4", &bytes);
            let expected: Vec<f64> = stamps(&path).into_iter().filter(|stamp| *stamp > -0.001).collect();
            let (_, times, end) = read(&path);
            let agree = times.iter().zip(&expected).all(|(time, expected)| (time - expected).abs() < 0.002);
            // FFmpeg does not output some of the frames whose references are missing.
            assert!(agree && times.len() == expected.len(), "{name} {media_time}: {times:?} {expected:?}");
            assert_eq!(count_frames(&file(&path), &limits(), &|| false).unwrap(), end.frames_total, "{name}");
        }
    }
}

#[test]
fn times_of_a_part_of_a_live_stream_start_at_0() {
    let clips = Clips::new();
    let live = "-output_ts_offset 8000 -movflags empty_moov+default_base_moof+frag_discont+frag_keyframe \
                -avoid_negative_ts disabled";
    for (name, coding) in [("silent.mp4", "-an"), ("talk.mp4", "-c:a aac")] {
        let path = clips.make(name, &format!("{TALK} -c:v libx264 -pix_fmt yuv420p {coding} {live}"));
        let (_, times, end) = read(&path);
        // Encoder priming of the sound and reordered frames move the start slightly.
        assert!(times[0] < 0.15 && (end.duration_s - 4.0).abs() < 0.15, "{name}: {} {end:?}", times[0]);
        assert_eq!((end.frames_total, &end.warnings), (100, &vec![]), "{name}");
    }
    // A part of a stream that has run for most of a day.
    let path = clips.make("day.ts", &format!("{TALK} -c:v libx264 -pix_fmt yuv420p -c:a aac -output_ts_offset 80000"));
    let (_, times, end) = read(&path);
    assert!(times[0] < 0.1 && near(end.duration_s, 4.0), "{} {end:?}", times[0]);
}

#[test]
fn wrong_duration_in_the_header_is_corrected_with_a_warning() {
    let clips = Clips::new();
    let path = clips.moving("plain.webm", 8.0, "-c:v libvpx -deadline realtime");
    let whole = std::fs::read(path).unwrap();
    for (told_s, is_said) in [(3.0_f64, true), (600.0, true), (143_165.0, true), (0.0, false), (8.3, false)] {
        let mut bytes = whole.clone();
        // The element Duration, in milliseconds, with eight bytes.
        patch(&mut bytes, &[0x44, 0x89, 0x88], 0, &(told_s * 1000.0).to_be_bytes());
        let path = clips.write("told.webm", &bytes);
        assert!(probe(&file(&path), &limits()).is_ok(), "{told_s}");
        let (_, times, end) = read(&path);
        assert_eq!((times.len(), end.frames_total), (200, 200), "{told_s}");
        assert!(near(times[199], 7.96) && (end.duration_s - 8.0).abs() < 0.5, "{told_s}: {end:?}");
        let warned = end.warnings.iter().any(|warning| matches!(warning, Warning::WrongDuration { .. }));
        assert_eq!(warned, is_said, "{told_s}: {end:?}");
        assert!(!is_said || near(end.duration_s, 8.0), "{told_s}: {end:?}");
    }
    let path = clips.moving("plain.mp4", 2.0, "-c:v libx264 -pix_fmt yuv420p");
    let mut bytes = std::fs::read(path).unwrap();
    // A duration with all bits set is unknown.
    for header in [b"mvhd", b"mdhd"] {
        patch(&mut bytes, header, 16, &[0xFF; 4]);
    }
    let (_, _, end) = read(&clips.write("unknown.mp4", &bytes));
    assert!(near(end.duration_s, 2.0), "{end:?}");
}

#[test]
fn duration_and_frame_rate_are_measured_if_the_header_lacks_them() {
    let clips = Clips::new();
    for (name, rate, step) in [("camera.webm", 30.0, 1), ("slow.webm", 6.0, 5)] {
        let path = clips.make(
            name,
            &format!(
                "-f lavfi -i testsrc=size=64x64:rate=30:duration=6 -vf select=not(mod(n\\,{step})) -vsync vfr \
                 -c:v libvpx -deadline realtime -live 1"
            ),
        );
        // MediaRecorder does not write the duration of a frame either.
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(3).position(|found| found == [0x23, 0xE3, 0x83]) {
            // Replaces the element DefaultDuration by Void.
            let length = usize::from(bytes[at + 3] & 0x7F);
            bytes[at] = 0xEC;
            bytes[at + 1] = 0x80 | u8::try_from(length + 2).unwrap();
        }
        let (told, times, end) = read(&clips.write(&format!("recorded-{name}"), &bytes));
        assert!(told.duration_s <= 0.0 && told.frames_total == 0, "{name}: {told:?}");
        assert!(near(end.duration_s, 6.0) && (end.fps - rate).abs() < 0.05, "{name}: {end:?}");
        assert!(near(times[times.len() - 1], 6.0 - 1.0 / rate) && end.warnings.is_empty(), "{name}: {end:?}");
    }
}

#[test]
fn times_continue_over_the_joint_of_concatenated_recordings() {
    let clips = Clips::new();
    let coded = |name: &str, coding: &str| std::fs::read(clips.make(name, &format!("{TALK} {coding}"))).unwrap();
    let webm = coded("one.webm", "-c:v libvpx -deadline realtime -c:a libopus -live 1");
    let cluster = webm.windows(4).position(|found| found == [0x1F, 0x43, 0xB6, 0x75]).unwrap();
    let ts = coded("one.ts", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p -c:a aac");
    let flv = coded("one.flv", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p -c:a aac");
    for (name, bytes) in [
        ("joined.webm", [&webm[..], &webm[cluster..]].concat()),
        ("joined.ts", [&ts[..], &ts].concat()),
        ("joined.flv", [&flv[..], &flv[13..]].concat()),
    ] {
        let path = clips.write(name, &bytes);
        let (_, times, end) = read(&path);
        assert_eq!(times.len(), 200, "{name}: {times:?}");
        assert!((times[100] - times[99] - 0.04).abs() < 0.15, "{name}: {} {}", times[99], times[100]);
        assert!((times[199] - 7.96).abs() < 0.2 && (end.duration_s - 8.0).abs() < 0.2, "{name}: {end:?}");
        let warned = end.warnings.iter().any(|warning| matches!(warning, Warning::TimeStampsRestart { .. }));
        assert!(warned, "{name}: {end:?}");
        // The sound continues with the video.
        assert!((tone(&path).1 - end.duration_s).abs() < 0.15, "{name}: {:?} {end:?}", tone(&path));
    }
}

#[test]
fn equal_time_stamps_are_spread_by_the_frame_rate() {
    let clips = Clips::new();
    let path = clips.moving("plain.mp4", 2.0, "-c:v libx264 -bf 0 -pix_fmt yuv420p");
    let whole = std::fs::read(path).unwrap();
    // The table has one entry: 50 frames of this duration.
    for ticks in [0_u32, 1] {
        let mut bytes = whole.clone();
        patch(&mut bytes, b"stts", 12, &ticks.to_be_bytes());
        let (_, times, end) = read(&clips.write("equal.mp4", &bytes));
        assert_eq!(times.len(), 50, "{ticks}");
        assert!(near(times[49], 1.96) && near(end.duration_s, 2.0), "{ticks}: {} {end:?}", times[49]);
        assert!((end.fps - 25.0).abs() < 0.1, "{ticks}: {end:?}");
    }
}

#[test]
fn duration_limit_applies_to_the_measured_duration() {
    let clips = Clips::new();
    let short = Video { max_duration_s: 3, ..limits() };
    for (name, coding) in [
        ("long.mp4", "-c:v libx264 -pix_fmt yuv420p"),
        ("long.mkv", "-c:v libx264 -pix_fmt yuv420p"),
        ("long.ts", "-c:v libx264 -pix_fmt yuv420p"),
        ("long.flv", "-c:v flv1"),
        ("long.gif", "-c:v gif"),
    ] {
        let path = clips.moving(name, 4.0, coding);
        let outcome = Opened::open(&file(&path), &short).map_err(FramesError::from).and_then(|video| {
            let mut frames = Frames::start(video, Every::exact(5), 2)?;
            while frames.next(&|| false)?.is_some() {}
            Ok(())
        });
        assert!(outcome.is_err_and(|error| error.to_string().contains("the limit is 3 s")), "{name}");
    }
}

#[test]
fn spread_covers_the_whole_clip_even_if_the_header_is_wrong() {
    let clips = Clips::new();
    let webm = clips.moving("plain.webm", 8.0, "-c:v libvpx -deadline realtime");
    let mut bytes = std::fs::read(&webm).unwrap();
    patch(&mut bytes, &[0x44, 0x89, 0x88], 0, &1000.0_f64.to_be_bytes());
    for (path, pictures) in [
        (webm, 200),
        (clips.write("lying.webm", &bytes), 200),
        (clips.moving("recorded.webm", 8.0, "-c:v libvpx -deadline realtime -live 1"), 200),
        (clips.moving("short.mp4", 1.16, "-c:v libx264 -pix_fmt yuv420p"), 29),
        (clips.moving("least.mp4", 0.6, "-c:v libx264 -pix_fmt yuv420p"), 15),
        (clips.moving("asp.avi", 4.0, "-c:v mpeg4 -bf 2"), 100),
    ] {
        assert_eq!(count_frames(&file(&path), &limits(), &|| false).unwrap(), pictures, "{}", path.display());
        let video = Opened::open(&file(&path), &limits()).unwrap();
        let mut frames = Frames::spread(video, 15, pictures, 2).unwrap();
        let mut numbers = Vec::new();
        while let Some(sample) = frames.next(&|| false).unwrap() {
            numbers.push((sample.time_s * 25.0).round() as u64);
        }
        assert_eq!(numbers, (0..15).map(|part| part * pictures / 15).collect::<Vec<_>>(), "{}", path.display());
    }
}
