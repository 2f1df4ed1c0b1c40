//! Damaged and unreadable videos: errors are specific, and damaged frames are not analyzed.

use std::path::Path;

use visage::analysis::Warning;
use visage::config::{Container, Settings, Video};
use visage::media::{End, Every, Frames, FramesError, Opened, ProbeError, Sound, SoundError, Source, probe};

use crate::support::clips::Clips;

fn limits() -> Video {
    Settings::defaults().unwrap().video
}

fn file(path: &Path) -> Source {
    Source::File(path.to_owned())
}

/// Returns the times of the samples, and the facts after the last frame.
fn read(path: &Path, every: u32) -> Result<(Vec<f64>, End), FramesError> {
    let mut frames = Frames::start(Opened::open(&file(path), &limits())?, Every::exact(every))?;
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
            assert!(matches!(error, ProbeError::Picture { format: told } if told == format), "{name}: {error:?}");
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
        assert!(matches!(error, ProbeError::ContainerNotAllowed { container: "Ogg" }), "{error:?}");
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
