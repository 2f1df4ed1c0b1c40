//! Compares sampled frames with the frames of full decoding. Packets that are not decoded must not change the samples.

use std::path::Path;
use std::process::Command;

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual};
use visage::analysis::Sampling;
use visage::config::{Hwaccel, Settings, Video};
use visage::media::{End, Every, Frames, Opened, Source};

use crate::support::clips::{Clips, frame_times};

/// The time and the pixels of a sample.
type Picture = (f64, Vec<u8>);

fn bytes(picture: &Mat) -> Vec<u8> {
    picture.try_clone().unwrap().data_bytes().unwrap().to_vec()
}

fn read(path: &Path, frames: u32, sampling: Sampling) -> (Vec<Picture>, End) {
    read_on(Hwaccel::None, path, frames, sampling)
}

fn read_on(hwaccel: Hwaccel, path: &Path, frames: u32, sampling: Sampling) -> (Vec<Picture>, End) {
    let limits = Video { hwaccel, ..Settings::defaults().unwrap().video };
    let video = Opened::open(&Source::File(path.to_owned()), &limits).unwrap();
    let mut frames = Frames::start(video, Every { frames, sampling }, 2).unwrap();
    let mut pictures = Vec::new();
    while let Some(sample) = frames.next(&|| false).unwrap() {
        pictures.push((sample.time_s, bytes(&sample.picture)));
    }
    (pictures, frames.end(|| false).unwrap())
}

/// Decodes every frame with the ffmpeg program.
fn decoded_by_ffmpeg(path: &Path, size: usize) -> Vec<Vec<u8>> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-noautorotate", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"])
        .output()
        .expect("ffmpeg is installed");
    output.stdout.chunks_exact(size).map(<[u8]>::to_vec).collect()
}

/// The mean absolute difference of two pictures, in steps of 8-bit values.
fn distance(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    #[expect(clippy::cast_precision_loss, reason = "small pictures")]
    {
        sum as f64 / a.len() as f64
    }
}

/// The times of all frames of a clip, by ffprobe. For AVI, ffprobe returns none, so they follow from 25 frames a
/// second.
fn expected_times(path: &Path, frames: usize) -> Vec<f64> {
    if path.extension().is_some_and(|extension| extension == "avi") {
        return (0..frames).map(|frame| f64::from(u32::try_from(frame).unwrap()) / 25.0).collect();
    }
    frame_times(path)
}

/// Compares samples at several intervals with full decoding.
fn assert_exact(path: &Path, name: &str) {
    let (all, end) = read(path, 1, Sampling::Exact);
    assert_eq!(end.frames_total as usize, all.len(), "{name}");
    let times = expected_times(path, all.len());
    assert_eq!(all.len(), times.len(), "{name}");
    for (index, ((time_s, _), expected)) in all.iter().zip(&times).enumerate() {
        assert!((time_s - expected).abs() < 0.002, "{name}: frame {index} at {time_s} instead of {expected}");
    }
    let by_ffmpeg = decoded_by_ffmpeg(path, all[0].1.len());
    assert_eq!(all.len(), by_ffmpeg.len(), "{name}");
    for (index, ((_, picture), expected)) in all.iter().zip(&by_ffmpeg).enumerate() {
        let distance = distance(picture, expected);
        assert!(distance < 2.0, "{name}: frame {index} differs by {distance} from that of ffmpeg");
    }
    for every in [2, 3, 4, 5, 7, 8, 20, 33, 1000] {
        let (some, sampled) = read(path, every, Sampling::Exact);
        assert_eq!(sampled, end, "{name}, every {every}th");
        assert_eq!(some.len(), all.len().div_ceil(every as usize), "{name}, every {every}th");
        for (index, sample) in some.iter().enumerate() {
            let frame = &all[index * every as usize];
            assert!((sample.0 - frame.0).abs() < 1e-9, "{name}, every {every}th: {} instead of {}", sample.0, frame.0);
            assert!(sample.1 == frame.1, "{name}, every {every}th: sample {index} is not the frame of full decoding");
        }
    }
}

#[test]
fn samples_equal_the_frames_of_full_decoding() {
    let clips = Clips::new();
    let x265 = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params log-level=none";
    for (name, codec) in [
        ("default.mp4", "-c:v libx264 -pix_fmt yuv420p".to_owned()),
        ("pyramid.mp4", "-c:v libx264 -bf 7 -b_strategy 0 -x264-params b-pyramid=normal:ref=6 -g 50".to_owned()),
        ("strict.mkv", "-c:v libx264 -bf 3 -b_strategy 0 -x264-params b-pyramid=strict:ref=3 -g 24".to_owned()),
        ("veryfast.mp4", "-c:v libx264 -preset veryfast -bf 3 -b_strategy 0 -g 30".to_owned()),
        (
            "temporal.mp4",
            "-c:v libx264 -bf 5 -b_strategy 0 -x264-params ref=1:b-pyramid=normal:direct=temporal -g 99".to_owned(),
        ),
        ("weighted.mp4", "-c:v libx264 -preset slow -bf 4 -x264-params weightp=2:ref=3:slices=2 -g 60".to_owned()),
        ("open.mp4", "-c:v libx264 -bf 3 -b_strategy 0 -x264-params open-gop=1 -g 12".to_owned()),
        (
            "open.mkv",
            "-c:v libx264 -bf 5 -b_strategy 0 -x264-params open-gop=1:b-pyramid=normal:ref=4 -g 25".to_owned(),
        ),
        ("baseline.mp4", "-c:v libx264 -profile:v baseline -pix_fmt yuv420p -g 15".to_owned()),
        ("refresh.mp4", "-c:v libx264 -pix_fmt yuv420p -x264-params intra-refresh=1 -g 20".to_owned()),
        ("slices.mp4", "-c:v libx264 -pix_fmt yuv420p -x264-params slices=4 -g 40".to_owned()),
        ("intra.mp4", "-c:v libx264 -g 1 -pix_fmt yuv420p".to_owned()),
        ("endless.mp4", "-c:v libx264 -g 9999 -sc_threshold 0 -pix_fmt yuv420p".to_owned()),
        ("headers.mkv", "-c:v libx264 -bf 3 -g 25 -pix_fmt yuv420p -x264-params repeat-headers=1".to_owned()),
        ("interlaced.mp4", "-c:v libx264 -flags +ildct+ilme -x264-params tff=1 -bf 2 -g 25".to_owned()),
        ("shown-interlaced.mkv", "-c:v libx264 -x264-params fake-interlaced=1 -bf 2 -g 25".to_owned()),
        ("hevc.mp4", format!("{x265}:keyint=40:open-gop=1:bframes=4:b-pyramid=1 -tag:v hvc1")),
        ("hevc-closed.mov", format!("{x265}:keyint=30:open-gop=0:bframes=3 -tag:v hvc1")),
        ("hevc-layers.mkv", format!("{x265}:keyint=48:bframes=3:temporal-layers=3")),
        ("hevc-radl.mp4", format!("{x265}:keyint=30:open-gop=0:radl=2:bframes=4 -tag:v hvc1")),
        ("vp8.webm", "-c:v libvpx -deadline realtime -g 30 -auto-alt-ref 1 -lag-in-frames 10".to_owned()),
        ("vp9.webm", "-c:v libvpx-vp9 -deadline good -cpu-used 8 -g 40 -auto-alt-ref 1 -lag-in-frames 16".to_owned()),
        ("vp9.mp4", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25".to_owned()),
        ("av1.mkv", "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 25".to_owned()),
        ("asp.mp4", "-c:v mpeg4 -bf 2 -g 20".to_owned()),
        ("asp.avi", "-c:v mpeg4 -bf 2 -g 20".to_owned()),
        ("mjpeg.avi", "-c:v mjpeg -pix_fmt yuvj420p".to_owned()),
        ("mjpeg.mov", "-c:v mjpeg -pix_fmt yuvj420p".to_owned()),
        ("mpeg2.mkv", "-c:v mpeg2video -bf 2 -g 15".to_owned()),
        ("h264.avi", "-c:v libx264 -bf 2 -g 25 -pix_fmt yuv420p".to_owned()),
    ] {
        assert_exact(&clips.moving(name, 4.2, &codec), name);
    }
}

#[test]
fn samples_are_exact_with_intra_pictures_that_are_not_idr() {
    let clips = Clips::new();
    // The whole frame changes every 0.7 s. There, x264 inserts I pictures that are not IDR pictures.
    let cuts = "-f lavfi -i testsrc=size=160x120:rate=25:duration=8 -vf negate=enable=lt(mod(t\\,1.4)\\,0.7) -pix_fmt \
                yuv420p -c:v libx264 -g 999";
    for (name, codec) in [
        // With picture order count type 2, the order follows from `frame_num`, which wraps at 16.
        ("counted.mp4", "-bf 0 -refs 1 -keyint_min 400"),
        ("counted-three.mkv", "-bf 0 -refs 3 -keyint_min 400"),
        ("counted-baseline.mp4", "-bf 0 -refs 1 -keyint_min 400 -profile:v baseline -x264-params slices=2"),
        ("ordered.mp4", "-bf 3 -b_strategy 0 -keyint_min 400"),
        // Key frames that are not IDR pictures, with and without a recovery point SEI message.
        ("open.mp4", "-bf 2 -g 20 -x264-params open-gop=1"),
        ("silent.mp4", "-bf 2 -g 20 -x264-params open-gop=1 -bsf:v filter_units=remove_types=6"),
        ("silent.mkv", "-bf 3 -g 20 -x264-params open-gop=1:b-pyramid=normal:ref=4 -bsf:v filter_units=remove_types=6"),
    ] {
        assert_exact(&clips.make(name, &format!("{cuts} {codec}")), name);
    }
}

#[test]
fn samples_are_exact_with_variable_late_negative_and_hidden_time_stamps() {
    let clips = Clips::new();
    clips.moving("plain.mp4", 4.0, "-c:v libx264 -bf 3 -g 25 -pix_fmt yuv420p");
    let variable = "-f lavfi -i testsrc=size=160x120:rate=50:duration=4 \
                    -vf select='lt(t,1)*not(mod(n,5))+gt(t,2.5)' -vsync vfr -pix_fmt yuv420p -c:v libx264 -g 30";
    for (name, arguments) in [
        ("variable.mp4", variable),
        ("variable.mkv", variable),
        ("late.mkv", "-itsoffset 7.5 -i $plain.mp4 -c copy -copyts"),
        // The cut is between key frames. An edit list hides the frames before it, which are needed for decoding.
        ("hidden.mp4", "-ss 1.5 -i $plain.mp4 -c copy"),
        ("hidden.mov", "-ss 2.3 -i $plain.mp4 -c copy"),
        ("negative.mp4", "-i $plain.mp4 -c copy -use_editlist 0 -movflags +negative_cts_offsets"),
    ] {
        assert_exact(&clips.make(name, arguments), name);
    }
}

#[test]
fn gop_too_long_for_memory_is_decoded_in_parts() {
    let clips = Clips::new();
    for (name, codec) in [
        ("endless.mp4", "-c:v libx264 -preset ultrafast -bf 3 -b_strategy 0 -g 9999 -sc_threshold 0"),
        ("endless.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 9999"),
        ("open.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=700:bframes=4"),
    ] {
        assert_exact(&clips.moving(name, 50.0, codec), name);
    }
}

#[test]
fn hwaccel_auto_does_not_change_samples() {
    let clips = Clips::new();
    let x265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=40";
    for (name, codec) in [
        ("avc.mp4", "-c:v libx264 -bf 3 -g 50 -pix_fmt yuv420p".to_owned()),
        ("full-range.mp4", "-c:v libx264 -g 9999 -pix_fmt yuvj420p".to_owned()),
        ("hevc.mp4", format!("{x265} -pix_fmt yuv420p -tag:v hvc1")),
        ("deep.mkv", format!("{x265} -pix_fmt yuv420p10le")),
        ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 40".to_owned()),
        ("mjpeg.avi", "-c:v mjpeg -pix_fmt yuvj420p".to_owned()),
    ] {
        let path = clips.moving(name, 4.2, &codec);
        let on_cpu = read(&path, 7, Sampling::Exact);
        assert!(read_on(Hwaccel::Auto, &path, 7, Sampling::Exact) == on_cpu, "{name}");
    }
}

#[test]
fn fast_sampling_returns_the_times_of_its_frames_and_leaves_no_gap() {
    let clips = Clips::new();
    for (name, codec) in [
        ("second.mp4", "-c:v libx264 -g 25 -keyint_min 25 -sc_threshold 0 -pix_fmt yuv420p"),
        ("default.mp4", "-c:v libx264 -bf 3 -g 250 -pix_fmt yuv420p"),
        ("hevc.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=60 -tag:v hvc1"),
        ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 50"),
        ("asp.avi", "-c:v mpeg4 -bf 2 -g 20"),
    ] {
        let path = clips.moving(name, 12.0, codec);
        let times = expected_times(&path, 300);
        for every in [3, 10, 20, 60] {
            let (exact, end) = read(&path, every, Sampling::Exact);
            let (fast, same_end) = read(&path, every, Sampling::Fast);
            assert_eq!(end, same_end, "{name}, every {every}th");
            assert!(fast.len() * 3 >= exact.len() * 2, "{name}, every {every}th: {} of {}", fast.len(), exact.len());
            assert!(fast.len() <= exact.len() + 1, "{name}, every {every}th");
            let interval_s = f64::from(every) / 25.0;
            let sampled: Vec<f64> = fast.iter().map(|(time_s, _)| *time_s).collect();
            assert!(sampled[0] < interval_s, "{name}: {sampled:?}");
            let largest = sampled.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(largest <= 2.0 * interval_s + 0.01, "{name}, every {every}th: {sampled:?}");
            let is_frame = |sample: &f64| times.iter().any(|time| (sample - time).abs() < 0.002);
            assert!(sampled.iter().all(is_frame), "{name}: {sampled:?}");
        }
    }
}

#[test]
fn fast_sampling_takes_only_key_frames_if_they_are_close() {
    let clips = Clips::new();
    let path = clips.moving("second.mp4", 10.0, "-c:v libx264 -g 25 -keyint_min 25 -sc_threshold 0 -pix_fmt yuv420p");
    let (fast, _) = read(&path, 20, Sampling::Fast);
    let times: Vec<f64> = fast.iter().map(|(time_s, _)| (time_s * 1000.0).round() / 1000.0).collect();
    assert_eq!(times, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
}

#[test]
fn fast_sampling_takes_p_pictures_and_not_reference_b_pictures() {
    let clips = Clips::new();
    // Every 4th frame is a P picture. In the middle between two, a B picture is a reference for its neighbours.
    let codec = "-c:v libx264 -preset veryfast -bf 3 -b_strategy 0 -g 999 -sc_threshold 0 -pix_fmt yuv420p";
    let path = clips.moving("chain.mp4", 12.0, codec);
    let (fast, _) = read(&path, 10, Sampling::Fast);
    let numbers: Vec<i64> = fast.iter().map(|(time_s, _)| (time_s * 25.0).round() as i64).collect();
    assert!(numbers.len() >= 29 && numbers.iter().all(|number| number % 4 == 0), "{numbers:?}");
}
