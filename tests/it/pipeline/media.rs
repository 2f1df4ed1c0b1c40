//! Decoding of real files: containers, codecs and damage.

use std::path::{Path, PathBuf};

use opencv::core::Mat;
use opencv::prelude::*;
use visage::analysis::Warning;
use visage::config::{Settings, Video};
use visage::media::{End, Every, Frames, FramesError, Opened, Probe, ProbeError, Source, probe};

use crate::support::clips::{Clips, frame_times, shared, with_matrix};

pub fn limits() -> Video {
    Settings::defaults().unwrap().video
}

fn file(path: &Path) -> Source {
    Source::File(path.to_owned())
}

fn probed(path: &Path) -> Probe {
    probe(&file(path), &limits()).unwrap()
}

/// Returns the times and pictures of every n-th frame.
fn read(path: &Path, every: u32) -> (Vec<f64>, Vec<Mat>, End) {
    let video = Opened::open(&file(path), &limits()).unwrap();
    let probe = video.probe().clone();
    let mut frames = Frames::start(video, Every::exact(every), 2).unwrap();
    let (mut times, mut pictures) = (Vec::new(), Vec::new());
    while let Some(sample) = frames.next(&|| false).unwrap() {
        assert_eq!(sample.index as usize, times.len());
        let size = sample.picture.size().unwrap();
        assert_eq!((size.width as u32, size.height as u32), (probe.width, probe.height));
        times.push(sample.time_s);
        pictures.push(sample.picture);
    }
    (times, pictures, frames.end(|| false).unwrap())
}

fn assert_same_times(given: &[f64], expected: &[f64]) {
    assert_eq!(given.len(), expected.len());
    for (index, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert!((given - expected).abs() < 0.002, "frame {index}: {given} instead of {expected}");
    }
}

/// The colour (blue, green, red) in the middle of a quarter of the picture.
pub fn colour(picture: &Mat, right: bool, bottom: bool) -> [u8; 3] {
    let place = |half: bool, length: i32| if half { length * 3 / 4 } else { length / 4 };
    let at = picture.at_2d::<opencv::core::Vec3b>(place(bottom, picture.rows()), place(right, picture.cols()));
    at.unwrap().0
}

#[test]
fn all_frames_of_every_container_and_codec_are_decoded() {
    let clips = Clips::new();
    for (name, codec, short) in [
        ("a.mp4", "-c:v libx264 -pix_fmt yuv420p", "h264"),
        ("b.mov", "-c:v libx264 -pix_fmt yuv420p", "h264"),
        ("c.mkv", "-c:v libx264 -pix_fmt yuv420p", "h264"),
        ("d.avi", "-c:v libx264 -bf 0 -pix_fmt yuv420p", "h264"),
        ("p.avi", "-c:v libx264 -bf 3 -pix_fmt yuv420p", "h264"),
        ("e.mp4", "-c:v libx265 -x265-params log-level=none -tag:v hvc1 -pix_fmt yuv420p", "hevc"),
        ("f.mkv", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p10le", "hevc"),
        ("g.webm", "-c:v libvpx -deadline realtime", "vp8"),
        ("h.webm", "-c:v libvpx-vp9 -deadline realtime", "vp9"),
        ("i.mp4", "-c:v mpeg4", "mpeg4"),
        ("j.avi", "-c:v mpeg4", "mpeg4"),
        ("k.mp4", "-c:v libx264 -pix_fmt yuv420p10le", "h264"),
        ("l.mp4", "-c:v libx264 -pix_fmt gray", "h264"),
        ("m.mkv", "-c:v libx264 -pix_fmt yuv444p", "h264"),
        ("n.mkv", "-c:v libx265 -x265-params log-level=none -pix_fmt gray12le", "hevc"),
        ("o.avi", "-c:v mjpeg -pix_fmt yuvj420p", "mjpeg"),
        ("q.ts", "-c:v libx264 -pix_fmt yuv420p", "h264"),
        ("r.m2ts", "-c:v libx264 -pix_fmt yuv420p", "h264"),
        ("s.ts", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p", "hevc"),
        ("t.mpg", "-c:v mpeg2video", "mpeg2video"),
        ("u.flv", "-c:v libx264 -pix_fmt yuv420p", "h264"),
        ("v.flv", "-c:v flv1", "flv1"),
        ("w.gif", "-c:v gif", "gif"),
    ] {
        let path = clips.moving(name, 1.2, codec);
        let probe = probed(&path);
        assert_eq!((probe.codec.as_str(), probe.width, probe.height), (short, 160, 120), "{name}");
        assert!(!probe.has_audio, "{name}");
        // MPEG-PS and GIF do not state these in a header.
        if !name.ends_with(".mpg") && !name.ends_with(".gif") {
            assert!((probe.fps - 25.0).abs() < 0.01, "{name}: {probe:?}");
            assert!((probe.duration_s - 1.2).abs() < 0.05, "{name}: {probe:?}");
            assert_eq!(probe.frames_total, 30, "{name}");
        }
        let (times, pictures, end) = read(&path, 7);
        assert!((end.duration_s - 1.2).abs() < 0.02 && (end.fps - 25.0).abs() < 0.01, "{name}: {end:?}");
        assert_eq!((end.frames_total, &end.warnings), (30, &vec![]), "{name}");
        assert_same_times(&times, &[0.0, 0.28, 0.56, 0.84, 1.12]);
        assert_eq!(pictures[0].typ(), opencv::core::CV_8UC3, "{name}");
    }
}

#[test]
fn times_of_a_variable_frame_rate_are_those_of_the_stream() {
    let clips = Clips::new();
    // 10 frames a second, then a pause, then 50 frames a second, as in screen recordings and videos of phones.
    let select = "-vf select='lt(t,1)*not(mod(n,5))+gt(t,2.5)' -vsync vfr -pix_fmt yuv420p";
    for (name, codec) in [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx")] {
        let path =
            clips.make(name, &format!("-f lavfi -i testsrc=size=64x64:rate=50:duration=4 {select} -c:v {codec}"));
        let expected = frame_times(&path);
        assert!(expected.windows(2).any(|pair| pair[1] - pair[0] > 1.0), "{name}: the clip has a gap");
        let (times, _, end) = read(&path, 1);
        assert_same_times(&times, &expected);
        assert_eq!(end.warnings, [], "{name}");
        let (times, _, _) = read(&path, 20);
        assert_same_times(&times, &expected.iter().copied().step_by(20).collect::<Vec<_>>());
    }
}

#[test]
fn times_start_at_0_for_late_and_reordered_streams() {
    let clips = Clips::new();
    clips.moving("plain.mp4", 2.0, "-c:v libx264 -bf 3 -g 25 -pix_fmt yuv420p");
    for (name, arguments) in [
        ("reordered.mp4", "-i $plain.mp4 -c copy"),
        ("late.mkv", "-itsoffset 7.5 -i $plain.mp4 -c copy -copyts"),
        ("late.mp4", "-itsoffset 7.5 -i $plain.mp4 -c copy -copyts -movflags +faststart -use_editlist 0"),
    ] {
        let path = clips.make(name, arguments);
        let (times, _, end) = read(&path, 1);
        assert_same_times(&times, &frame_times(&path));
        assert!(times[0] < 0.1, "{name} starts at {}", times[0]);
        assert_eq!((end.frames_total, end.warnings), (50, vec![]), "{name}");
    }
}

#[test]
fn rotated_videos_are_upright() {
    let clips = Clips::new();
    // Four quarters: red, green, blue and white. Only metadata rotates the video.
    let quarters = "-f lavfi -i color=red:s=80x60:r=25:d=0.4 -f lavfi -i color=lime:s=80x60:r=25:d=0.4 \
                    -f lavfi -i color=blue:s=80x60:r=25:d=0.4 -f lavfi -i color=white:s=80x60:r=25:d=0.4 \
                    -filter_complex [0][1]hstack[a];[2][3]hstack[b];[a][b]vstack -c:v libx264 -pix_fmt yuv420p";
    clips.make("plain.mp4", quarters);
    for (turn, matrix, size) in [
        (0, [1, 0, 0, 1], (160, 120)),
        (90, [0, 1, -1, 0], (120, 160)),
        (180, [-1, 0, 0, -1], (160, 120)),
        (270, [0, -1, 1, 0], (120, 160)),
    ] {
        for name in [format!("turned{turn}.mp4"), format!("turned{turn}.mov")] {
            // The ffmpeg program applies the rotation.
            let plain = clips.make(&name, "-i $plain.mp4 -c copy");
            let path = clips.write(&name, &with_matrix(&plain, matrix));
            let shown = clips.make("shown.mkv", &format!("-i ${name} -c:v libx264 -qp 0"));
            let probe = probed(&path);
            assert_eq!((probe.width, probe.height), size, "{name}");
            let (_, pictures, _) = read(&path, 1);
            let (_, expected, _) = read(&shown, 1);
            for (right, bottom) in [(false, false), (true, false), (false, true), (true, true)] {
                let (given, wanted) = (colour(&pictures[3], right, bottom), colour(&expected[3], right, bottom));
                assert!(given.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 12), "{name}: {given:?} {wanted:?}");
            }
        }
    }
}

#[test]
fn clockwise_quarter_turn_moves_the_left_half_to_the_top() {
    let clips = Clips::new();
    let halves = "-f lavfi -i color=red:s=80x60:r=25:d=0.4 -f lavfi -i color=blue:s=80x60:r=25:d=0.4 \
                  -filter_complex hstack -c:v libx264 -pix_fmt yuv420p";
    let mut bytes = std::fs::read(clips.make("plain.mp4", halves)).unwrap();
    let header = bytes.windows(4).position(|four| four == b"tkhd").unwrap();
    let matrix = |numbers: [i32; 9]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let one = 1 << 16;
    let place = header + 44..header + 80;
    assert_eq!(bytes[place.clone()], matrix([one, 0, 0, 0, one, 0, 0, 0, 1 << 30]));
    bytes[place].copy_from_slice(&matrix([0, one, 0, -one, 0, 0, 60 * one, 0, 1 << 30]));
    let (_, pictures, _) = read(&clips.write("turned.mp4", &bytes), 1);
    let (top, bottom) = (colour(&pictures[0], false, false), colour(&pictures[0], false, true));
    assert!(top[2] > 200 && top[0] < 60 && bottom[0] > 200 && bottom[2] < 60, "{top:?} above {bottom:?}");
}

#[test]
fn properties_of_real_clips_are_read() {
    for (name, codec, size, fps, duration_s, (stored, shown), audio) in [
        ("sad_then_happy.mp4", "h264", (640, 360), 23.976, 19.69, (472, 472), true),
        ("single_face.mp4", "h264", (640, 360), 30.0, 2.43, (72, 72), true),
        ("face_then_none.mov", "hevc", (960, 540), 26.4, 6.40, (169, 169), true),
        ("no_face.mp4", "h264", (960, 540), 23.67, 3.945, (98, 95), true),
    ] {
        let path = shared(name);
        let probe = probed(&path);
        assert_eq!(
            (probe.codec.as_str(), (probe.width, probe.height), probe.has_audio),
            (codec, size, audio),
            "{name}"
        );
        // FFmpeg 7 counts the samples that an AAC encoder puts before the sound.
        assert!((probe.fps - fps).abs() < 0.05 && (probe.duration_s - duration_s).abs() < 0.03, "{name}: {probe:?}");
        let (times, _, end) = read(&path, 1);
        assert_eq!((end.frames_total, probe.frames_total, end.warnings), (shown, stored, vec![]), "{name}");
        assert_same_times(&times, &frame_times(&path));
    }
}

#[test]
fn truncated_file_is_decoded_to_its_end_with_a_warning() {
    let clips = Clips::new();
    let front = "-c:v libx264 -g 10 -pix_fmt yuv420p -movflags +faststart";
    for (name, codec) in [("t.mp4", front), ("t.mkv", "-c:v libx264 -g 10 -pix_fmt yuv420p"), ("t.avi", "-c:v mpeg4")] {
        let whole = std::fs::read(clips.moving(name, 8.0, codec)).unwrap();
        let cut = clips.write(&format!("cut-{name}"), &whole[..whole.len() / 2]);
        let (times, _, end) = read(&cut, 5);
        assert!((40..170).contains(&end.frames_total), "{name}: {end:?}");
        assert_eq!(times.len() as u64, end.frames_total.div_ceil(5), "{name}");
        let is_told = end.warnings.iter().any(|warning| matches!(warning, Warning::VideoCutOff { .. }));
        assert!(is_told, "{name}: {:?}", end.warnings);
    }
}

#[test]
fn sound_longer_than_the_video_stream_is_not_damage() {
    let clips = Clips::new();
    for name in ["s.mp4", "s.mkv"] {
        let path = clips.make(
            name,
            "-f lavfi -i testsrc=size=64x64:rate=25:duration=2 -f lavfi -i sine=duration=6 \
             -c:v libx264 -pix_fmt yuv420p -c:a aac",
        );
        let probe = probed(&path);
        assert!(probe.has_audio && probe.duration_s > 5.9, "{probe:?}");
        let (_, _, end) = read(&path, 1);
        assert_eq!((end.frames_total, end.warnings), (50, vec![]), "{name}");
    }
}

#[test]
fn long_pause_between_frames_is_not_the_end() {
    let clips = Clips::new();
    // A screen recording has frames only when something changes. Here, nothing changes for 50 s.
    let select = "-vf select='lt(t,1)+gt(t,51)' -vsync vfr -c:v libx264 -pix_fmt yuv420p";
    for name in ["slides.mp4", "slides.mkv"] {
        let path = clips.make(
            name,
            &format!(
                "-f lavfi -i testsrc=size=64x64:rate=25:duration=52 -f lavfi -i sine=duration=52 {select} -c:a aac"
            ),
        );
        let (times, _, end) = read(&path, 1);
        // In Matroska, the encoder priming of the sound is before the first frame.
        let since_first: Vec<f64> = times.iter().map(|time| time - times[0]).collect();
        assert_same_times(&since_first, &frame_times(&path));
        assert!((0.0..0.03).contains(&times[0]), "{name}: {}", times[0]);
        assert!((49..52).contains(&end.frames_total) && end.warnings.is_empty(), "{name}: {end:?}");
    }
}

#[test]
fn damage_in_the_middle_loses_only_the_damaged_frames() {
    let clips = Clips::new();
    for (name, codec) in [
        ("hole.mp4", "-c:v libx264 -bf 2 -g 10 -pix_fmt yuv420p -movflags +faststart"),
        ("hole.mov", "-c:v libx265 -x265-params log-level=none:keyint=10 -pix_fmt yuv420p -movflags +faststart"),
        ("hole.avi", "-c:v mpeg4 -g 10"),
    ] {
        let mut bytes = std::fs::read(clips.moving(name, 12.0, codec)).unwrap();
        let hole = bytes.len() / 2..bytes.len() * 7 / 12;
        bytes[hole].fill(0);
        let (times, _, end) = read(&clips.write(&format!("damaged-{name}"), &bytes), 5);
        // AVI has no time stamps, so lost frames shorten the video.
        assert!(end.frames_total > 250 && *times.last().unwrap() > 10.0, "{name}: {end:?}");
    }
}

#[test]
fn files_that_are_not_videos_are_rejected() {
    let clips = Clips::new();
    let whole = std::fs::read(clips.moving("whole.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap();
    let empty_track = "-f lavfi -i testsrc=size=64x64:rate=25:duration=1 -c:v libx264 -frames:v 0";
    let mut files: Vec<PathBuf> = vec![
        clips.write("empty.mp4", b""),
        clips.write("text.mp4", b"I am no video, whatever my name says.\n"),
        clips.write("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nwhole.mp4\n"),
        clips.write("header.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"),
        clips.make("sound.mp4", "-f lavfi -i sine=duration=1 -c:a aac"),
        clips.make("picture.mp4", &format!("{empty_track} -f mp4")),
    ];
    // The index is at the end of the file, so a truncated copy cannot be opened.
    for tenth in 1..10 {
        files.push(clips.write(&format!("cut{tenth}.mp4"), &whole[..whole.len() * tenth / 10]));
    }
    for path in files {
        let outcome = probe(&file(&path), &limits());
        assert!(matches!(outcome, Err(ProbeError::NotAVideo)), "{}: {outcome:?}", path.display());
    }
}

#[test]
fn huge_frame_size_in_the_header_is_rejected() {
    let clips = Clips::new();
    let mut bytes = std::fs::read(clips.moving("small.mp4", 0.4, "-c:v libx264 -pix_fmt yuv420p")).unwrap();
    let entry = bytes.windows(4).position(|four| four == b"avc1").into_iter().chain(
        // The brand in ftyp has the same four letters. The sample entry is the last match.
        bytes.windows(4).rposition(|four| four == b"avc1"),
    );
    let entry = entry.last().unwrap();
    bytes[entry + 28..entry + 32].copy_from_slice(&[0x40, 0, 0x40, 0]);
    let huge = clips.write("huge.mp4", &bytes);
    let outcome = probe(&file(&huge), &limits());
    assert!(matches!(outcome, Err(ProbeError::TooLarge { width: 16384, height: 16384, .. })), "{outcome:?}");
}

#[test]
fn frames_larger_than_stated_in_the_header_are_rejected() {
    let clips = Clips::new();
    let mut bytes =
        std::fs::read(clips.moving("honest.mp4", 0.4, "-vf scale=640:480 -c:v libx264 -pix_fmt yuv420p")).unwrap();
    let entry = bytes.windows(4).rposition(|four| four == b"avc1").unwrap();
    bytes[entry + 28..entry + 32].copy_from_slice(&[0, 16, 0, 16]);
    let lying = clips.write("lying.mp4", &bytes);
    let tight = Video { max_pixels: 100 * 100, ..limits() };
    assert!(probe(&file(&lying), &tight).is_err());
    assert!(probe(&file(&lying), &limits()).is_ok());
}

#[test]
fn limits_on_duration_and_pixels_are_applied() {
    let clips = Clips::new();
    let path = clips.moving("long.mp4", 3.0, "-c:v libx264 -pix_fmt yuv420p");
    let short = Video { max_duration_s: 2, ..limits() };
    let small = Video { max_pixels: 160 * 120 - 1, ..limits() };
    let exact = Video { max_pixels: 160 * 120, max_duration_s: 3, ..limits() };
    assert!(matches!(probe(&file(&path), &short), Err(ProbeError::TooLong { limit_s: 2, .. })));
    assert!(matches!(probe(&file(&path), &small), Err(ProbeError::TooLarge { .. })));
    assert!(probe(&file(&path), &exact).is_ok());
    // If the container does not state its duration, the limit is applied during decoding.
    let recorded = clips.moving("recorded.webm", 3.0, "-c:v libvpx -live 1");
    let recorded = Opened::open(&file(&recorded), &short).unwrap();
    assert!(recorded.probe().duration_s < 2.0, "{:?}", recorded.probe());
    let mut frames = Frames::start(recorded, Every::exact(1), 2).unwrap();
    let error = loop {
        match frames.next(&|| false) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the limit did not hold"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, FramesError::Video(ProbeError::TooLong { .. })), "{error}");
}

#[test]
fn single_frame_of_three_hours_is_too_long() {
    let clips = Clips::new();
    let path = clips.make("still.mp4", "-f lavfi -i testsrc=size=64x64:rate=1/10800:duration=10800 -c:v mpeg4");
    assert!(matches!(probe(&file(&path), &limits()), Err(ProbeError::TooLong { .. })));
}

#[test]
fn video_of_one_frame_or_one_pixel_is_decoded() {
    let clips = Clips::new();
    let still = clips.make("still.mp4", "-f lavfi -i testsrc=size=64x64:rate=25 -frames:v 1 -pix_fmt yuv420p");
    assert_eq!(read(&still, 20).2.frames_total, 1);
    let dot = clips.make(
        "dot.mkv",
        "-f lavfi -i color=red:size=64x64:rate=25:duration=0.2 -vf format=yuv444p,crop=1:1 -c:v libx264",
    );
    assert_eq!(read(&dot, 1).2.frames_total, 5);
}

#[test]
fn special_characters_in_file_names_have_no_effect() {
    let clips = Clips::new();
    let plain = clips.moving("plain.mp4", 0.4, "-c:v libx264 -pix_fmt yuv420p");
    for name in ["http:x.mp4", "concat:a|b.mp4", "-i.mp4", "50%d.mp4", "clip \u{1f600};'\"\n.mp4", "img_%03d.mp4"] {
        let path = clips.path(name);
        std::fs::copy(&plain, &path).unwrap();
        assert_eq!(read(&path, 1).2.frames_total, 10, "{name:?}");
    }
}

#[test]
fn source_errors_are_distinguished_from_video_errors() {
    let missing = probe(&Source::File("/nowhere/clip.mp4".into()), &limits());
    assert!(matches!(missing, Err(ProbeError::Unreadable(_))), "{missing:?}");
    let clips = Clips::new();
    let folder = probe(&Source::File(clips.path("")), &limits());
    assert!(matches!(folder, Err(ProbeError::Unreadable(_))), "{folder:?}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = probe(&Source::Url(format!("http://{closed}/clip.mp4")), &limits());
    assert!(matches!(refused, Err(ProbeError::Unreadable(_))), "{refused:?}");
    for other in ["file:///etc/passwd", "ftp://127.0.0.1/x.mp4", "concat:/etc/passwd", "/etc/passwd"] {
        let outcome = probe(&Source::Url(other.to_owned()), &limits());
        assert!(matches!(outcome, Err(ProbeError::Unreadable(_))), "{other}: {outcome:?}");
    }
    // FFmpeg reports a Matroska header that is cut off as a read that failed.
    let whole = std::fs::read(clips.moving("whole.mkv", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap();
    for size in [60, 200, 500] {
        let cut_off = probe(&Source::File(clips.write("cut_off.mkv", &whole[..size])), &limits());
        assert!(matches!(cut_off, Err(ProbeError::NotAVideo)), "{size} bytes: {cut_off:?}");
    }
}
