//! Display of frames: orientation, pixel aspect ratio, changing sizes, and faces that are not upright.

use std::path::Path;

use opencv::core::Mat;
use opencv::prelude::*;
use visage::analysis::{Emotion, Findings, Five, Options};
use visage::media::{Every, Frames, Opened, Source, probe};
use visage::pipeline::Cancel;

use super::media::{colour, limits};
use super::{EVERY_20TH, analyze, pipeline};
use crate::support::clips::{Clips, shared, with_matrix};
use crate::support::decoders;

const EVERY_10TH: Options = Options { sample_every: 10, speech: false, ..EVERY_20TH };

/// The eight display matrices that turn and mirror, as a b c d.
const MATRICES: [[i32; 4]; 8] = [
    [1, 0, 0, 1],
    [0, 1, -1, 0],
    [-1, 0, 0, -1],
    [0, -1, 1, 0],
    [-1, 0, 0, 1],
    [0, -1, -1, 0],
    [1, 0, 0, -1],
    [0, 1, 1, 0],
];

/// Makes five frames, each of four quarters: red and green above blue and white.
const QUARTERS: &str = "-f lavfi -i color=red:s=80x60:r=25:d=0.2 -f lavfi -i color=lime:s=80x60:r=25:d=0.2 \
                        -f lavfi -i color=blue:s=80x60:r=25:d=0.2 -f lavfi -i color=white:s=80x60:r=25:d=0.2 \
                        -filter_complex [0][1]hstack[a];[2][3]hstack[b];[a][b]vstack -c:v libx264 -pix_fmt yuv420p";

/// Appends `extra` to the EBML elements with this path.
fn insert(mut bytes: &[u8], path: &[u32], extra: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let id_length = bytes[0].leading_zeros() as usize + 1;
        let id = bytes[..id_length].iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
        let head = id_length + bytes[id_length].leading_zeros() as usize + 1;
        let unknown = (1_u64 << (7 * (head - id_length))) - 1;
        let size = bytes[id_length..head].iter().fold(0_u64, |size, byte| size << 8 | u64::from(*byte)) & unknown;
        let end = if size == unknown { bytes.len() } else { head + size as usize };
        if path.first() == Some(&id) {
            let body = &bytes[head..end];
            let body = if path.len() > 1 { insert(body, &path[1..], extra) } else { [body, extra].concat() };
            let size = if size == unknown { u64::MAX >> 7 } else { 1 << 56 | body.len() as u64 };
            all.extend_from_slice(&bytes[..id_length]);
            all.extend_from_slice(&size.to_be_bytes());
            all.extend(body);
        } else {
            all.extend_from_slice(&bytes[..end]);
        }
        bytes = &bytes[end..];
    }
    all
}

/// Adds a projection to a Matroska file. It turns the video counter-clockwise by `roll`, and mirrors it if `yaw` is
/// 180.
fn with_projection(path: &Path, roll: f32, yaw: f32) -> Vec<u8> {
    let mut projection = vec![0x76, 0x71, 0x81, 0];
    for (id, angle) in [(0x73, yaw), (0x74, 0.0), (0x75, roll)] {
        projection.extend([0x76, id, 0x84]);
        projection.extend(angle.to_be_bytes());
    }
    let size = 0x80 | projection.len() as u8;
    let whole = [&[0x76, 0x70, size][..], &projection].concat();
    insert(&std::fs::read(path).unwrap(), &[0x1853_8067, 0x1654_AE6B, 0xAE, 0xE0], &whole)
}

/// Decodes all frames of a video.
fn pictures(path: &Path) -> Vec<Mat> {
    let video = Opened::open(&Source::File(path.to_owned()), &limits()).unwrap();
    let mut frames = Frames::start(video, Every::exact(1), 2).unwrap();
    let next = || frames.next(&|| false).unwrap().map(|sample| sample.picture);
    std::iter::from_fn(next).collect()
}

fn size(picture: &Mat) -> (i32, i32) {
    (picture.cols(), picture.rows())
}

fn near(given: [u8; 3], wanted: [u8; 3]) -> bool {
    given.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 30)
}

#[test]
fn mp4_and_matroska_are_upright_in_all_eight_orientations() {
    let clips = Clips::new();
    let plain = clips.make("plain.mp4", QUARTERS);
    let stored = [(-1, -1, [0, 0, 255]), (1, -1, [0, 255, 0]), (-1, 1, [255, 0, 0]), (1, 1, [255, 255, 255])];
    for matrix in MATRICES {
        let path = clips.write("turned.mp4", &with_matrix(&plain, matrix));
        let picture = pictures(&path).remove(0);
        let [a, b, c, d] = matrix;
        assert_eq!(size(&picture), if a == 0 { (120, 160) } else { (160, 120) }, "{matrix:?}");
        for (x, y, wanted) in stored {
            let given = colour(&picture, a * x + c * y > 0, b * x + d * y > 0);
            assert!(near(given, wanted), "{matrix:?}: {given:?} instead of {wanted:?}");
        }
    }
    let plain = clips.make("plain.mkv", "-i $plain.mp4 -c copy -live 1 -write_crc32 0 -f matroska");
    for (roll, yaw) in [0.0, 90.0, 180.0, -90.0].into_iter().flat_map(|roll| [(roll, 0.0), (roll, 180.0)]) {
        let path = clips.write("turned.mkv", &with_projection(&plain, roll, yaw));
        let shown = clips.make("shown.mkv", "-i $turned.mkv -c:v libx264 -qp 0");
        let (picture, wanted) = (pictures(&path).remove(0), pictures(&shown).remove(0));
        assert_eq!(size(&picture), size(&wanted), "roll {roll}, yaw {yaw}");
        for (right, bottom) in [(false, false), (true, false), (false, true), (true, true)] {
            let (given, wanted) = (colour(&picture, right, bottom), colour(&wanted, right, bottom));
            assert!(near(given, wanted), "roll {roll}, yaw {yaw}: {given:?} instead of {wanted:?}");
        }
    }
}

#[test]
fn orientation_in_an_h264_stream_is_applied_to_all_frames() {
    let clips = Clips::new();
    clips.make("plain.mp4", QUARTERS);
    for (orientation, container) in [
        ("rotate=90", "mp4"),
        ("rotate=180", "mkv"),
        ("rotate=270", "ts"),
        ("flip=horizontal", "mp4"),
        ("flip=vertical", "mov"),
        ("rotate=90:flip=horizontal", "mp4"),
    ] {
        let arguments = format!("-i $plain.mp4 -c copy -bsf:v h264_metadata=display_orientation=insert:{orientation}");
        let path = clips.make(&format!("turned.{container}"), &arguments);
        let shown = clips.make("shown.mkv", &format!("-i $turned.{container} -c:v libx264 -qp 0"));
        // The SEI is in the key frame and holds for the frames after it. FFmpeg 5.1 turns the key frame only.
        let (given, wanted) = (pictures(&path), pictures(&shown).remove(0));
        assert_eq!(given.len(), 5, "{orientation}");
        for given in &given {
            assert_eq!(size(given), size(&wanted), "{orientation}");
            for (right, bottom) in [(false, false), (true, false), (false, true), (true, true)] {
                let (given, wanted) = (colour(given, right, bottom), colour(&wanted, right, bottom));
                assert!(near(given, wanted), "{orientation}: {given:?} instead of {wanted:?}");
            }
        }
    }
    // The orientation in the container overrides that in the stream.
    clips.make("turned.mp4", "-i $plain.mp4 -c copy -bsf:v h264_metadata=display_orientation=insert:rotate=90");
    let upside_down = clips.write("both.mp4", &with_matrix(&clips.path("turned.mp4"), [-1, 0, 0, -1]));
    assert_eq!(size(&pictures(&upside_down)[0]), (160, 120));
}

#[test]
fn pixel_aspect_ratio_and_orientation_do_not_change_the_figures() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    std::fs::copy(shared("single_face.mp4"), clips.path("man.mp4")).unwrap();
    let x264 = "-c:v libx264 -preset ultrafast -crf 18 -an";
    let none = [1, 0, 0, 1];
    for (name, change, codec, matrix, shown) in [
        ("mirrored.mp4", "hflip", x264, [-1, 0, 0, 1], (640, 360)),
        ("flipped.mp4", "vflip", x264, [1, 0, 0, -1], (640, 360)),
        ("turned.mp4", "transpose=2", x264, [0, 1, -1, 0], (640, 360)),
        ("turned_and_mirrored.mp4", "transpose=0", x264, [0, 1, 1, 0], (640, 360)),
        ("turned_with_flat_pixels.mp4", "transpose=2,scale=360:320,setsar=1/2", x264, [0, 1, -1, 0], (640, 360)),
        ("hdv.mp4", "scale=960:720,setsar=4/3", x264, none, (1280, 720)),
        ("wide.mkv", "scale=320:360,setsar=2", x264, none, (640, 360)),
        ("high.mov", "scale=640:180,setsar=1/2", x264, none, (640, 360)),
        ("dv_wide.avi", "scale=720:576,setsar=64/45", "-c:v mjpeg -q:v 3 -an", none, (1024, 576)),
        ("wide.webm", "scale=480:360,setsar=4/3", "-c:v libvpx -b:v 1M -deadline realtime -an", none, (640, 360)),
        (
            "hevc.mp4",
            "scale=480:360,setsar=4/3",
            "-c:v libx265 -preset ultrafast -x265-params log-level=none -an",
            none,
            (640, 360),
        ),
        ("absurd.mp4", "setsar=100/1", x264, none, (640, 360)),
        ("unknown.mp4", "setsar=0/1", x264, none, (640, 360)),
    ] {
        let mut path = clips.make(name, &format!("-i $man.mp4 -vf {change} {codec}"));
        if matrix != none {
            path = clips.write(name, &with_matrix(&path, matrix));
        }
        let probe = probe(&Source::File(path.clone()), &limits()).unwrap();
        assert_eq!((probe.width, probe.height), shown, "{name}");
        let found = analyze(&pipeline, &path, EVERY_10TH).unwrap();
        let Findings { analysis, timeline } = &found;
        assert_eq!((analysis.video.width, analysis.video.height), shown, "{name}");
        assert_eq!((analysis.faces.len(), analysis.video.turned), (1, 0), "{name}");
        assert_eq!(analysis.summary.dominant_emotion, Some(Emotion::Happy), "{name}");
        assert!(analysis.summary.eye_contact.unwrap() > 90.0, "{name}: {:?}", analysis.summary);
        // The face is in the middle of the frame, and a little higher than wide.
        for row in &timeline.rows {
            let (centre, shape) = (row.bbox.centre(), row.bbox.height / row.bbox.width);
            let across = centre.x / shown.0 as f32;
            assert!((0.3..0.7).contains(&across) && (1.0..1.7).contains(&shape), "{name}: {row:?}");
        }
    }
}

#[test]
fn boxes_are_in_pixels_of_the_first_frame_if_the_size_changes() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    std::fs::copy(shared("single_face.mp4"), clips.path("man.mp4")).unwrap();
    let vp8 = "-c:v libvpx -b:v 1M -deadline realtime -an";
    let plain = analyze(&pipeline, &clips.path("man.mp4"), EVERY_10TH).unwrap().timeline.rows;
    for (first, then, video, by) in [
        ("scale=320:180", "null", (320, 180), 0.5),
        ("null", "scale=320:180", (640, 360), 1.0),
        ("null", "scale=1280:720", (640, 360), 1.0),
        ("null", "crop=240:360", (640, 360), 1.0),
    ] {
        clips.make("first.webm", &format!("-t 1 -i $man.mp4 -vf {first} {vp8}"));
        clips.make("then.webm", &format!("-ss 1 -i $man.mp4 -vf {then} {vp8}"));
        clips.write("list", b"file first.webm\nfile then.webm\n");
        let path = clips.make("both.webm", "-f concat -i $list -c copy");
        for options in [EVERY_10TH, Options { sampling: visage::analysis::Sampling::Fast, ..EVERY_10TH }] {
            let found = analyze(&pipeline, &path, options).unwrap();
            let analysis = &found.analysis;
            assert_eq!((analysis.video.width, analysis.video.height), video, "{first}, {then}");
            assert_eq!(analysis.faces.len(), 1, "{first}, {then}: one man: {:?}", analysis.faces);
            assert_eq!(analysis.summary.dominant_emotion, Some(Emotion::Happy));
            assert!(found.timeline.rows.len() + 2 >= plain.len(), "{first}, {then}");
            for row in &found.timeline.rows {
                let near = |other: &&visage::analysis::TimelineRow| (other.time_s - row.time_s).abs() < 0.18;
                let same = plain.iter().filter(near).any(|other| {
                    let (a, b) = (row.bbox.centre(), other.bbox.centre());
                    let slack = 0.25 * other.bbox.height * by;
                    (a.x - b.x * by).abs() < slack
                        && (a.y - b.y * by).abs() < slack
                        && (row.bbox.height - other.bbox.height * by).abs() < slack
                });
                assert!(same, "{first}, {then}: {row:?}");
            }
        }
    }
}

#[test]
fn change_of_the_pixel_aspect_ratio_in_the_stream_is_applied() {
    let clips = Clips::new();
    let mjpeg = "-c:v mjpeg -q:v 3";
    clips.make("first.avi", &format!("-f lavfi -i testsrc2=s=640x360:r=25:d=0.4 -vf setsar=1 {mjpeg}"));
    clips.make("then.avi", &format!("-f lavfi -i testsrc2=s=640x360:r=25:d=0.4 -vf scale=480:360,setsar=4/3 {mjpeg}"));
    clips.write("list", b"file first.avi\nfile then.avi\n");
    let sizes: Vec<_> = pictures(&clips.make("both.avi", "-f concat -i $list -c copy")).iter().map(size).collect();
    assert_eq!(sizes, [(640, 360); 20]);
}

#[test]
fn video_filmed_sideways_or_upside_down_is_turned_with_a_warning() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    std::fs::copy(shared("single_face.mp4"), clips.path("man.mp4")).unwrap();
    let x264 = "-c:v libx264 -preset ultrafast -crf 18 -an";
    for (name, change, turned) in [
        ("upside_down.mp4", "hflip,vflip", 180),
        ("sideways.mp4", "transpose=1", 270),
        ("other_side.mp4", "transpose=2", 90),
    ] {
        let path = clips.make(name, &format!("-i $man.mp4 -vf {change} {x264}"));
        for every in [5, 20] {
            let found = analyze(&pipeline, &path, Options { sample_every: every, ..EVERY_10TH }).unwrap();
            let Findings { analysis, timeline } = &found;
            let (width, height) = if turned == 180 { (640, 360) } else { (360, 640) };
            assert_eq!((analysis.video.width, analysis.video.height), (width, height), "{name}: as players show it");
            assert_eq!((analysis.video.turned, analysis.faces.len()), (turned, 1), "{name}");
            assert_eq!(analysis.summary.dominant_emotion, Some(Emotion::Happy), "{name}");
            assert!(analysis.summary.eye_contact.unwrap() > 90.0, "{name}: {:?}", analysis.summary);
            let part = format!("rotated clockwise by {turned} degrees");
            assert!(analysis.warnings.iter().any(|warning| warning.contains(&part)), "{:?}", analysis.warnings);
            assert_eq!(timeline.rows.len(), 72_usize.div_ceil(every as usize), "{name}: each sample is read once");
            for row in &timeline.rows {
                // Boxes are in the frame as players show it, in which the face is not upright.
                let is_high = row.bbox.height > row.bbox.width;
                assert_eq!(is_high, turned == 180, "{name}: {row:?}");
                let (right, bottom) = (row.bbox.x + row.bbox.width, row.bbox.y + row.bbox.height);
                assert!(row.bbox.x >= -9.0 && row.bbox.y >= -9.0, "{name}: {row:?}");
                assert!(right <= width as f32 + 9.0 && bottom <= height as f32 + 9.0, "{name}: {row:?}");
                assert!(row.pose.unwrap().roll.abs() < 20.0, "{name}: {row:?}");
            }
        }
        let verdict = pipeline.verdict(&Source::File(path), &Cancel::default()).unwrap();
        assert_eq!(verdict.emotion, Five::Happy, "{name}");
    }
    let upright = analyze(&pipeline, &shared("sad_then_happy.mp4"), EVERY_20TH).unwrap().analysis;
    assert_eq!(upright.video.turned, 0);
    assert!(!upright.warnings.iter().any(|warning| warning.contains("turned")));
}

#[test]
fn small_face_in_a_large_frame_is_found_by_the_second_detection() {
    let models = crate::support::clips::models();
    let clips = Clips::new();
    std::fs::copy(shared("single_face.mp4"), clips.path("man.mp4")).unwrap();
    clips.make("smile.png", "-ss 1.2 -i $man.mp4 -frames:v 1");
    let far = "-loop 1 -t 3 -i $smile.png -vf scale=360:-2,pad=3840:2160:1740:960:gray,format=yuv420p -r 10 -c:v \
               libx264 -preset ultrafast -crf 20";
    let path = clips.make("far_away_4k.mp4", far);
    let options = Options { sample_every: 5, ..EVERY_10TH };
    let found = analyze(
        &visage::pipeline::Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap(),
        &path,
        options,
    )
    .unwrap();
    assert_eq!(found.analysis.faces.len(), 1, "{:?}", found.analysis);
    assert_eq!(u64::from(found.analysis.faces[0].frames), found.analysis.video.frames_analyzed, "in every sample");
    assert_eq!(found.analysis.summary.dominant_emotion, Some(Emotion::Happy));
    for row in &found.timeline.rows {
        let (centre, height) = (row.bbox.centre(), row.bbox.height);
        assert!((1740.0..2100.0).contains(&centre.x) && (960.0..1170.0).contains(&centre.y), "{row:?}");
        assert!((60.0..180.0).contains(&height), "{row:?}");
    }

    let mut settings = models.settings();
    settings.vision.second_side = 0;
    let pipeline = visage::pipeline::Pipeline::load(&settings, &decoders(&settings)).unwrap();
    let found = analyze(&pipeline, &path, options).unwrap().analysis;
    assert_eq!(found.faces, [], "no face is found without the second detection");
    let sentence = "Faces below 144 pixels cannot be found in this video.";
    assert!(found.warnings.iter().any(|warning| warning == sentence), "{:?}", found.warnings);
}
