//! Damaged and unreadable videos: errors are specific, and damaged frames are not analyzed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use opencv::prelude::*;
use visage::analysis::{Options, Resource, Warning};
use visage::config::{ByteSize, Container, Settings, Video};
use visage::media::{End, Every, Frames, FramesError, Opened, ProbeError, Sound, SoundError, Source, probe};
use visage::pipeline::{Cancel, Pipeline, PipelineError};

use crate::support::clips::{Clips, models};
use crate::support::decoders;

fn limits() -> Video {
    Settings::defaults().unwrap().video
}

fn file(path: &Path) -> Source {
    Source::File(path.to_owned())
}

/// Returns the times of the samples, and the facts after the last frame.
fn read(path: &Path, every: u32) -> Result<(Vec<f64>, End), FramesError> {
    read_with(path, every, &limits())
}

fn read_with(path: &Path, every: u32, limits: &Video) -> Result<(Vec<f64>, End), FramesError> {
    let mut frames = Frames::start(Opened::open(&file(path), limits)?, Every::exact(every), 2)?;
    let mut times = Vec::new();
    while let Some(sample) = frames.next(&|| false)? {
        times.push(sample.time_s);
    }
    Ok((times, frames.end(|| false)?))
}

/// Returns the errors of an analysis and of the check of an upload.
fn errors(path: &Path) -> [ProbeError; 2] {
    let by_analysis = match read(path, 1) {
        Err(FramesError::Video(error)) => error,
        other => panic!("{}: {other:?}", path.display()),
    };
    [by_analysis, probe(&file(path), &limits()).unwrap_err()]
}

fn damaged(end: &End) -> bool {
    end.warnings.iter().any(|warning| matches!(warning, Warning::PicturesDamaged { .. }))
}

#[test]
fn concealed_frames_are_counted_and_not_sampled() {
    let clips = Clips::new();
    // The second half has another size, and its parameter sets are missing.
    let source = "-f lavfi -i testsrc=size=160x120:rate=30:duration=1 -an";
    let first = clips.make("first.h264", &format!("{source} -c:v libx264 -pix_fmt yuv420p"));
    let second = clips.make(
        "second.h264",
        &format!("{source} -vf scale=120:160 -c:v libx264 -pix_fmt yuv420p -bsf:v filter_units=remove_types=7-8"),
    );
    clips.write("both.h264", &[std::fs::read(first).unwrap(), std::fs::read(second).unwrap()].concat());
    for (name, stamps) in [("lost.mp4", "ts=N"), ("lost.mkv", "ts=N*DURATION")] {
        let path = clips.make(name, &format!("-r 30 -i $both.h264 -c copy -bsf:v setts={stamps}"));
        for every in [1, 5] {
            let (times, end) = read(&path, every).unwrap();
            assert!(damaged(&end), "{name}: {end:?}");
            assert!(times.len() * every as usize <= 36, "{name}, every {every}th: {times:?}");
            let before = times.iter().filter(|time| **time < 0.99).count();
            assert_eq!(before, 30_usize.div_ceil(every as usize), "{name}, every {every}th: {times:?}");
            assert!((end.end_s - 2.0).abs() < 0.1, "{name}: {end:?}");
        }
    }
}

#[test]
fn damaged_range_is_reported() {
    let clips = Clips::new();
    let path = clips.moving("whole.mp4", 12.0, "-c:v libx264 -bf 2 -g 10 -pix_fmt yuv420p -movflags +faststart");
    let mut bytes = std::fs::read(path).unwrap();
    let hole = bytes.len() / 2..bytes.len() * 7 / 12;
    bytes[hole].fill(0);
    let (times, end) = read(&clips.write("hole.mp4", &bytes), 1).unwrap();
    assert!(damaged(&end) && times.len() < 300 && times.len() > 240, "{end:?}");
    let sound = clips.moving("sound.mp4", 4.0, "-c:v libx264 -bf 2 -g 10 -pix_fmt yuv420p");
    assert_eq!(read(&sound, 3).unwrap().1.warnings, []);
}

/// Returns the time and the pixels of every frame, and the facts after the last one.
fn pictures(path: &Path) -> (Vec<(f64, Vec<u8>)>, End) {
    let mut frames = Frames::start(Opened::open(&file(path), &limits()).unwrap(), Every::exact(1), 2).unwrap();
    let mut pictures = Vec::new();
    while let Some(sample) = frames.next(&|| false).unwrap() {
        pictures.push((sample.time_s, sample.picture.data_bytes().unwrap().to_vec()));
    }
    (pictures, frames.end(|| false).unwrap())
}

/// Returns the position and the size of each packet in the file, in decoding order.
fn packets(path: &Path) -> Vec<(usize, usize)> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", "packet=size,pos"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let number = |text: &str| text.trim().parse::<usize>().unwrap();
    let line = |line: &str| line.split_once(',').map(|(size, at)| (number(at.trim_end_matches(',')), number(size)));
    String::from_utf8(output.stdout).unwrap().lines().filter_map(line).collect()
}

#[test]
fn frames_predicted_from_damaged_ones_are_damaged_until_the_next_key_frame() {
    let clips = Clips::new();
    // Key frames every 2 s, each followed by groups of a P picture and three B pictures.
    let whole = clips.make(
        "whole.mp4",
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=6 -c:v libx264 -bf 3 -g 50 -pix_fmt yuv420p -x264-params \
         scenecut=0:b-pyramid=normal:b-adapt=0",
    );
    let (sound, end) = pictures(&whole);
    assert_eq!((sound.len(), &end.warnings), (150, &vec![]));
    let bytes = std::fs::read(&whole).unwrap();
    let packets = packets(&whole);
    for (name, packet, is_dropped) in
        [("early", 55, false), ("middle", 71, false), ("late", 91, false), ("lost", 67, true), ("first lost", 5, true)]
    {
        let path = if is_dropped {
            clips.make("damaged.mp4", &format!("-i $whole.mp4 -c copy -bsf:v noise=drop=eq(n\\,{packet})"))
        } else {
            let (mut bytes, (at, size)) = (bytes.clone(), packets[packet]);
            bytes[at + size / 3..at + size].fill(0);
            clips.write("damaged.mp4", &bytes)
        };
        let (seen, end) = pictures(&path);
        // Each picture that is left is that of the sound file.
        for (time_s, pixels) in &seen {
            let original = sound.iter().find(|(time, _)| (time - time_s).abs() < 0.01).unwrap();
            assert!(*pixels == original.1, "{name}: the frame at {time_s} s is damaged: {end:?}");
        }
        // The other groups of pictures are complete.
        let first = if packet < 50 { 0.0 } else { 2.0 };
        let outside = seen.iter().filter(|(time, _)| *time < first - 0.01 || *time > first + 1.99).count();
        assert_eq!(outside, 100, "{name}: {end:?}");
        let Some(Warning::PicturesDamaged { from_s, to_s, damaged, .. }) = end.warnings.first() else {
            panic!("{name}: {end:?}")
        };
        assert!(*from_s >= first && *to_s < first + 2.0 && *damaged > 2, "{name}: {end:?}");
    }
}

#[test]
fn a_frame_whose_time_stamp_contradicts_its_order_is_damaged() {
    let clips = Clips::new();
    clips.moving("whole.mp4", 1.0, "-c:v libx264 -bf 0 -g 25 -pix_fmt yuv420p");
    // Frame 5 states the time of frame 10.
    let path = clips.make("late.mp4", "-i $whole.mp4 -c copy -bsf:v setts=pts=PTS+eq(N\\,5)*5*DURATION");
    let (times, end) = read(&path, 1).unwrap();
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
    assert!(damaged(&end) && times.len() > 18, "{} {end:?}", times.len());
}

#[test]
fn damage_in_a_transport_stream_reaches_the_next_key_frame() {
    let clips = Clips::new();
    let path = clips.make(
        "whole.ts",
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=6 -c:v libx264 -bf 2 -g 50 -pix_fmt yuv420p -x264-params \
         scenecut=0:b-pyramid=none:b-adapt=0",
    );
    let (sound, end) = pictures(&path);
    assert_eq!((sound.len(), &end.warnings), (150, &vec![]));
    // The P picture at 2.6 s.
    let (at, size) = packets(&path)[63];
    let mut bytes = std::fs::read(&path).unwrap();
    for packet in bytes[at / 188 * 188..at + size].chunks_exact_mut(188).skip(1) {
        packet[12..].fill(0);
    }
    let (seen, end) = pictures(&clips.write("damaged.ts", &bytes));
    assert!(damaged(&end) && (100..125).contains(&seen.len()), "{} {end:?}", seen.len());
    assert!(seen.iter().filter(|(time, _)| *time > 3.98).count() == 50, "{end:?}");
    for (time_s, pixels) in &seen {
        let original = sound.iter().find(|(time, _)| (time - time_s).abs() < 0.01).unwrap();
        assert!(*pixels == original.1, "the frame at {time_s} s is damaged: {end:?}");
    }
}

#[test]
fn damage_in_a_group_of_pictures_that_does_not_fit_into_memory_is_found() {
    let clips = Clips::new();
    for codec in ["libx264 -x264-params keyint=1000:scenecut=0 -bf 3 -pix_fmt yuv420p", "mpeg4 -g 600 -bf 2"] {
        let source = format!("-f lavfi -i testsrc2=size=320x240:rate=25:duration=24 -c:v {codec}");
        let whole = clips.make("whole.mp4", &source);
        let (sound, end) = pictures(&whole);
        assert_eq!((sound.len(), &end.warnings), (600, &vec![]));
        let packets = packets(&whole);
        // A P picture is larger than the B pictures beside it.
        let (at, size) = *packets[300..306].iter().max_by_key(|(_, size)| size).unwrap();
        let mut bytes = std::fs::read(&whole).unwrap();
        bytes[at + size / 3..at + size].fill(0);
        let path = clips.write("damaged.mp4", &bytes);
        // Threads find the damage in an order that depends on chance.
        for _ in 0..4 {
            let (seen, end) = pictures(&path);
            assert!(damaged(&end) && (280..310).contains(&seen.len()), "{codec}: {} {end:?}", seen.len());
            for (time_s, pixels) in &seen {
                let original = sound.iter().find(|(time, _)| (time - time_s).abs() < 0.01).unwrap();
                assert!(*pixels == original.1, "{codec}: the frame at {time_s} s is damaged: {end:?}");
            }
        }
    }
}

#[test]
fn stream_that_starts_between_key_frames_is_not_damaged() {
    let clips = Clips::new();
    let ts = std::fs::read(clips.moving("whole.ts", 6.0, "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p")).unwrap();
    let middle = ts.len() / 188 / 3 * 188;
    // The first packets with the tables, then the packets from the middle of a GOP on.
    clips.write("middle.ts", &[&ts[..3 * 188], &ts[middle..]].concat());
    let dropped = "-bsf:v noise=drop=eq(n\\,0)";
    for path in [
        clips.path("middle.ts"),
        clips.moving("h264.mp4", 4.0, &format!("-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p {dropped}")),
        clips.moving("open.mkv", 4.0, &format!("-c:v libx264 -bf 2 -g 25 -x264-params open-gop=1 {dropped}")),
        clips.moving(
            "hevc.mkv",
            4.0,
            &format!("-c:v libx265 -x265-params log-level=none:keyint=25:open-gop=1 -pix_fmt yuv420p {dropped}"),
        ),
    ] {
        let (times, end) = read(&path, 1).unwrap();
        assert!(times.len() > 60 && !damaged(&end), "{}: {} {end:?}", path.display(), times.len());
    }
}

#[test]
fn unknown_codec_and_damaged_header_have_their_own_errors() {
    let clips = Clips::new();
    let whole = std::fs::read(clips.moving("whole.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap();
    let entry = whole.windows(4).rposition(|found| found == b"avc1").unwrap();
    let mut bytes = whole.clone();
    bytes[entry..entry + 4].copy_from_slice(b"xyz1");
    for error in errors(&clips.write("unknown.mp4", &bytes)) {
        assert!(matches!(&error, ProbeError::NoDecoder { codec } if codec == "xyz1"), "{error:?}");
    }
    let mut bytes = std::fs::read(clips.make("whole.mkv", "-i $whole.mp4 -c copy")).unwrap();
    let name = bytes.windows(15).position(|found| found == b"V_MPEG4/ISO/AVC").unwrap();
    bytes[name..name + 15].copy_from_slice(b"V_MPEG9/ISO/XYZ");
    for error in errors(&clips.write("unknown.mkv", &bytes)) {
        assert!(matches!(&error, ProbeError::NoDecoder { codec } if codec == "V_MPEG9/ISO/XYZ"), "{error:?}");
    }
    let mut bytes = whole.clone();
    let record = whole.windows(4).position(|found| found == b"avcC").unwrap();
    bytes[record + 9..record + 40].fill(0xFF);
    let data = whole.windows(4).position(|found| found == b"mdat").unwrap();
    bytes[data + 4..data + 400].fill(0);
    for error in errors(&clips.write("broken.mp4", &bytes)) {
        assert!(matches!(&error, ProbeError::Undecodable { codec } if codec == "h264"), "{error:?}");
    }
}

#[test]
fn encrypted_videos_are_rejected() {
    let clips = Clips::new();
    let tracks = "-f lavfi -i testsrc=size=160x120:rate=25:duration=1 -f lavfi -i sine=duration=1 -c:v libx264 \
                  -pix_fmt yuv420p -c:a aac";
    let key = "-encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb \
               -encryption_kid a7e61c373e219033c21091fa607bf3b8";
    for (name, more) in [("whole.mp4", ""), ("parts.mp4", "-movflags empty_moov+default_base_moof+frag_keyframe")] {
        let path = clips.make(name, &format!("{tracks} {key} {more}"));
        for error in errors(&path) {
            assert!(matches!(error, ProbeError::Encrypted), "{name}: {error:?}");
        }
    }
    let outcome = Sound::open(&file(&clips.path("whole.mp4")), &limits(), || false).and_then(|sound| {
        let mut sound = sound.unwrap();
        while sound.next(&|| false)?.is_some() {}
        Ok(())
    });
    assert!(matches!(outcome, Err(SoundError::Encrypted)), "{outcome:?}");
}

#[test]
fn poster_is_not_chosen_as_the_video_stream() {
    let clips = Clips::new();
    clips.moving("film.mp4", 2.0, "-c:v libx264 -pix_fmt yuv420p");
    clips.make("poster.png", "-f lavfi -i color=red:size=1280x720 -frames:v 1");
    for (name, arguments) in [
        (
            "track.mkv",
            "-map 1:v -map 0:v -c:v:0 mjpeg -q:v:0 1 -c:v:1 copy -disposition:v:0 default -disposition:v:1 0",
        ),
        (
            "track.mp4",
            "-map 1:v -map 0:v -c:v:0 mjpeg -q:v:0 1 -c:v:1 copy -disposition:v:0 default -disposition:v:1 0",
        ),
        ("cover.mp4", "-map 1:v -map 0:v -c:v:0 png -c:v:1 copy -disposition:v:0 attached_pic"),
    ] {
        let path = clips.make(name, &format!("-i $film.mp4 -i $poster.png {arguments}"));
        let probe = probe(&file(&path), &limits()).unwrap();
        assert_eq!((probe.codec.as_str(), probe.width), ("h264", 160), "{name}");
        assert_eq!(read(&path, 1).unwrap().0.len(), 50, "{name}");
    }
    // A song with a cover is not a video.
    let song = clips.make(
        "song.mp4",
        "-f lavfi -i sine=duration=1 -i $poster.png -map 0:a -map 1:v -c:a aac -c:v png -disposition:v:0 attached_pic",
    );
    assert!(matches!(probe(&file(&song), &limits()), Err(ProbeError::NotAVideo)));
}

#[test]
fn still_images_are_rejected_by_format_and_animations_are_accepted() {
    let clips = Clips::new();
    let one = "-f lavfi -i testsrc=size=64x64 -frames:v 1";
    for (name, format) in [
        ("a.jpg", "JPEG"),
        ("b.png", "PNG"),
        ("c.gif", "GIF"),
        ("d.webp", "WebP"),
        ("e.bmp", "BMP"),
        ("f.tiff", "TIFF"),
    ] {
        for error in errors(&clips.make(name, one)) {
            assert!(matches!(error, ProbeError::Picture { format: ref told } if told == format), "{name}: {error:?}");
        }
    }
    let moving = clips.moving("moving.gif", 2.0, "-c:v gif");
    assert_eq!(read(&moving, 5).unwrap().0.len(), 10);
    let animated = clips.moving("moving.webp", 1.0, "-c:v libwebp_anim");
    for error in errors(&animated) {
        assert!(matches!(&error, ProbeError::NoDecoder { codec } if codec == "animated WebP"), "{error:?}");
    }
}

#[test]
fn codecs_and_containers_outside_the_list_are_rejected_by_name_unless_a_setting_adds_them() {
    let clips = Clips::new();
    for (name, codec) in [
        ("a.mkv", "ffv1"),
        ("b.mkv", "theora"),
        ("c.avi", "huffyuv"),
        ("d.avi", "msmpeg4v2"),
        ("e.avi", "wmv2"),
        ("f.avi", "cinepak"),
        ("g.flv", "flashsv"),
        ("h.mov", "qtrle"),
        ("i.mov", "svq1"),
        ("j.avi", "zmbv"),
        ("k.avi", "snow"),
        ("l.mov", "jpeg2000"),
        ("m.mkv", "utvideo"),
        ("n.mov", "v210"),
    ] {
        let encoder = if codec == "theora" { "libtheora" } else { codec };
        let path = clips.moving(name, 0.4, &format!("-c:v {encoder} -strict -2"));
        for error in errors(&path) {
            assert!(matches!(&error, ProbeError::CodecNotAllowed { codec: named } if named == codec), "{error:?}");
        }
        let more = Video { extra_codecs: vec![codec.to_owned()], ..limits() };
        assert_eq!(probe(&file(&path), &more).unwrap().codec, codec);
    }
    let ogg = clips.moving("a.ogv", 0.4, "-c:v libtheora");
    for error in errors(&ogg) {
        assert!(matches!(error, ProbeError::ContainerNotAllowed { ref container } if container == "Ogg"), "{error:?}");
    }
    let more = Video { extra_containers: vec![Container::Ogg], ..limits() };
    let error = probe(&file(&ogg), &more).unwrap_err();
    assert!(matches!(&error, ProbeError::CodecNotAllowed { codec } if codec == "theora"), "{error:?}");
    let more = Video { extra_codecs: vec!["theora".to_owned()], ..more };
    assert_eq!(probe(&file(&ogg), &more).unwrap().codec, "theora");
    for (name, codec, container) in
        [("a.wmv", "wmv2", "ASF (WMV)"), ("a.nut", "mpeg4", "NUT"), ("a.rm", "rv10", "RealMedia")]
    {
        for error in
            errors(&clips.make(name, &format!("-f lavfi -i testsrc=size=176x144:rate=25:duration=0.4 -c:v {codec}")))
        {
            assert!(
                matches!(&error, ProbeError::ContainerNotAllowed { container: named } if *named == container),
                "{error:?}"
            );
        }
    }
}

#[test]
fn a_track_with_a_usual_codec_is_preferred() {
    let clips = Clips::new();
    let two = "-f lavfi -i testsrc=size=320x240:rate=25:duration=1 -f lavfi -i testsrc=size=160x120:rate=25:duration=1";
    let path = clips.make("two.mkv", &format!("{two} -map 0 -map 1 -c:v:0 ffv1 -c:v:1 libx264 -pix_fmt yuv420p"));
    assert_eq!(probe(&file(&path), &limits()).unwrap().codec, "h264");
    assert_eq!(read(&path, 1).unwrap().0.len(), 25);
}

#[test]
fn a_sound_codec_outside_the_list_is_rejected_by_name_and_the_pictures_are_read() {
    let clips = Clips::new();
    for (name, encoder, codec) in [
        ("a.mkv", "dca", "dts"),
        ("b.mkv", "truehd", "truehd"),
        ("c.avi", "adpcm_ms", "adpcm_ms"),
        ("d.mkv", "wavpack", "wavpack"),
        ("e.mkv", "wmav2", "wmav2"),
    ] {
        let sound =
            format!("-f lavfi -i sine=duration=1:sample_rate=48000 -c:v libx264 -pix_fmt yuv420p -c:a {encoder}");
        let path = clips.moving(name, 1.0, &format!("{sound} -strict -2"));
        let refused = Sound::open(&file(&path), &limits(), || false).err();
        assert!(
            matches!(&refused, Some(SoundError::CodecNotAllowed { codec: named }) if named == codec),
            "{refused:?}"
        );
        assert!(probe(&file(&path), &limits()).unwrap().has_audio, "{name}");
        assert_eq!(read(&path, 1).unwrap().0.len(), 25, "{name}");
        let more = Video { extra_codecs: vec![codec.to_owned()], ..limits() };
        let mut sound = Sound::open(&file(&path), &more, || false).unwrap().unwrap();
        assert!(sound.next(&|| false).unwrap().is_some(), "{name}");
    }
}

/// A gray video of this size with few bytes a frame, and 16 reference frames.
fn bomb(clips: &Clips, name: &str, size: &str, frames: u32) -> PathBuf {
    let x264 = "-c:v libx264 -preset ultrafast -x264-params ref=16:keyint=1000:log-level=error -pix_fmt yuv420p";
    clips.make(name, &format!("-f lavfi -i color=gray:size={size}:rate=25 -frames:v {frames} {x264}"))
}

#[test]
fn video_that_needs_too_much_memory_is_rejected_before_it_is_decoded() {
    let clips = Clips::new();
    let path = bomb(&clips, "bomb.mp4", "5984x5984", 18);
    assert!(std::fs::metadata(&path).unwrap().len() < 200_000);
    for error in errors(&path) {
        assert!(matches!(error, ProbeError::TooLarge { width: 5984, .. }), "{error:?}");
    }
    clips.make("bomb.mkv", "-i $bomb.mp4 -c copy");
    clips.make("bomb.ts", "-i $bomb.mp4 -c copy");
    let large = Video { max_pixels: 36_000_000, ..limits() };
    for name in ["bomb.mp4", "bomb.mkv", "bomb.ts"] {
        for error in
            [probe(&file(&clips.path(name)), &large).unwrap_err(), opened(&clips.path(name), &large).unwrap_err()]
        {
            let ProbeError::TooCostly { resource: Resource::Memory, needed, limit } = error else {
                panic!("{error:?}")
            };
            // 16 reference frames of 54 MB and their motion vectors.
            assert!(
                (1_600_000_000..2_500_000_000).contains(&needed) && limit == 1 << 30,
                "{name}: {needed} of {limit}"
            );
        }
    }
    // The largest frames of the default limits with as many references are accepted.
    let path = bomb(&clips, "allowed.mp4", "4000x4000", 2);
    assert!(probe(&file(&path), &limits()).is_ok());
}

fn opened(path: &Path, limits: &Video) -> Result<(), ProbeError> {
    Opened::open(&file(path), limits).map(|_| ())
}

#[test]
fn memory_that_the_header_hides_is_limited_while_decoding() {
    let clips = Clips::new();
    // The header describes the first second. The second one has larger frames and 16 references.
    let x264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    clips.make("first.h264", &format!("-f lavfi -i testsrc=size=160x120:rate=25:duration=1 {x264}"));
    let second = bomb(&clips, "second.h264", "2560x1440", 25);
    let both = [std::fs::read(clips.path("first.h264")).unwrap(), std::fs::read(second).unwrap()].concat();
    clips.write("both.h264", &both);
    for (name, stamps) in [("both.mp4", "ts=N"), ("both.mkv", "ts=N*DURATION")] {
        let path = clips.make(name, &format!("-r 25 -i $both.h264 -c copy -bsf:v setts={stamps}"));
        assert_eq!(read(&path, 5).unwrap().0.len(), 10, "{name}");
        let tight = Video { max_decoder_memory: ByteSize(60_000_000), ..limits() };
        assert!(opened(&path, &tight).is_ok(), "{name}");
        match read_with(&path, 5, &tight) {
            Err(FramesError::Video(ProbeError::TooCostly { resource: Resource::Memory, needed, limit })) => {
                assert!(needed > limit && needed < 2 * limit, "{name}: {needed} of {limit}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn frames_times_pixels_are_limited_by_the_header_and_while_decoding() {
    let clips = Clips::new();
    clips.moving("clip.mp4", 4.0, "-c:v libx264 -g 25 -pix_fmt yuv420p");
    clips.make("clip.mkv", "-i $clip.mp4 -c copy");
    // 100 frames have 1.92 million pixels, and 2.05 million with the lines that the decoder adds.
    let tight = Video { max_total_megapixels: 1, ..limits() };
    let ample = Video { max_total_megapixels: 3, ..limits() };
    let is_refused = |error: &ProbeError| {
        matches!(error, ProbeError::TooCostly { resource: Resource::Pixels, limit: 1_000_000, .. })
    };
    let error = opened(&clips.path("clip.mp4"), &tight).unwrap_err();
    assert!(is_refused(&error), "{error:?}");
    assert_eq!(read_with(&clips.path("clip.mp4"), 1, &ample).unwrap().0.len(), 100);
    assert!(opened(&clips.path("clip.mkv"), &tight).is_ok(), "Matroska does not state the number of frames");
    let outcome = read_with(&clips.path("clip.mkv"), 1, &tight);
    assert!(matches!(&outcome, Err(FramesError::Video(error)) if is_refused(error)), "{outcome:?}");
    assert_eq!(read_with(&clips.path("clip.mkv"), 1, &ample).unwrap().0.len(), 100);
}

#[test]
fn cpu_time_of_decoding_is_limited() {
    let clips = Clips::new();
    // 20 frames, repeated without encoding.
    bomb(&clips, "short.mp4", "3840x2160", 20);
    let path = clips.make("long.mp4", "-stream_loop 100 -i $short.mp4 -c copy");
    assert!(std::fs::metadata(&path).unwrap().len() < 6_000_000);
    let tight = Video { max_cpu_s: 1, ..limits() };
    assert!(probe(&file(&path), &tight).is_ok());
    let started = Instant::now();
    let outcome = read_with(&path, 5, &tight);
    let Err(FramesError::Video(ProbeError::TooCostly { resource: Resource::CpuTime, needed, limit: 1 })) = outcome
    else {
        panic!("{outcome:?} after {:?}", started.elapsed());
    };
    assert!((1..10).contains(&needed), "{needed} s");
}

#[test]
fn cpu_time_of_decoding_sound_is_limited() {
    let clips = Clips::new();
    let source = "-f lavfi -i testsrc=size=64x48:rate=1:duration=200 -f lavfi -i sine=duration=200:sample_rate=48000";
    // Eight channels at 192 kHz: more than a second of CPU time for decoding and resampling.
    let path = clips.make("costly.mkv", &format!("{source} -c:v mpeg4 -c:a flac -ar 192000 -ac 8 -sample_fmt s16"));
    let read = |limits: &Video| -> Result<usize, SoundError> {
        let mut sound = Sound::open(&file(&path), limits, || false)?.unwrap();
        let mut samples = 0;
        while let Some(block) = sound.next(&|| false)? {
            samples += block.len();
        }
        Ok(samples)
    };
    // Without limits, to know the cost on this machine.
    let started = Instant::now();
    let samples = read(&limits()).unwrap();
    assert!((3_190_000..=3_200_500).contains(&samples), "{samples} in {:?}", started.elapsed());
    let tight = Video { max_cpu_s: 1, ..limits() };
    let outcome = read(&tight);
    let is_refused =
        |error: &ProbeError| matches!(error, ProbeError::TooCostly { resource: Resource::CpuTime, limit: 1, .. });
    assert!(matches!(&outcome, Err(SoundError::Source(error)) if is_refused(error)), "{outcome:?}");

    // The whole analysis fails for this reason. Its pictures take little time.
    let models = models().with("silero_vad.onnx").with("dnsmos_sig_bak_ovr.onnx");
    let mut settings = models.settings();
    settings.video.max_cpu_s = 1;
    let pipeline = Pipeline::load(&settings, &decoders(&settings)).unwrap();
    let outcome = pipeline.analyze(&file(&path), Options::new(100, 1), &|_| {}, &Cancel::default());
    match outcome {
        Err(PipelineError::Video(error)) => assert!(is_refused(&error), "{error:?}"),
        other => panic!("{:?}", other.map(|found| found.analysis.warnings)),
    }
}
