//! `visage analyze --overlay` and `--overlays`: videos with boxes and labels.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::clips::{Clips, Models, frame_times, models, shared, with_matrix};
use crate::support::program::PROGRAM;

/// The colour of the first person, as red, green and blue.
const COLOUR: [u8; 3] = [0x66, 0xcc, 0xee];

fn command(models: &Models, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VISAGE_MODELS__FOLDER", models.path())
        .env("VISAGE_ENGINE__DEVICE", "cpu")
        .env("VISAGE_LOG__FILTER", "error")
        .args(["analyze", "--speech", "off"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An analysis with an overlay.
struct Drawn {
    overlay: PathBuf,
    analysis: Value,
    rows: Vec<Row>,
}

/// A face in a sample.
struct Row {
    time_s: f64,
    face: u32,
    /// Left, top, width and height.
    bbox: [f64; 4],
}

/// Analyzes every 10th frame of a clip, and writes its overlay to an empty folder.
fn draw(clips: &Clips, clip: &Path) -> Drawn {
    let models = models();
    let folder = clips.path("overlay");
    std::fs::create_dir(&folder).unwrap();
    let (overlay, csv) = (folder.join("boxes.mp4"), clips.path("rows.csv"));
    let arguments = [text(clip), "--sample-every", "10", "--overlay", text(&overlay), "--csv", text(&csv)];
    let output = command(&models, &arguments).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(words(&output), "");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    let mut table = csv::Reader::from_path(csv).unwrap();
    let rows = table.deserialize().map(|row| {
        let row: BTreeMap<String, String> = row.unwrap();
        let number = |name: &str| row[name].parse().unwrap();
        let bbox = ["x", "y", "width", "height"].map(number);
        Row { time_s: number("time_s"), face: row["face"].parse().unwrap(), bbox }
    });
    Drawn { overlay, analysis: serde_json::from_slice(&output.stdout).unwrap(), rows: rows.collect() }
}

/// The streams of a file according to ffprobe, with the number of decoded frames.
fn streams(path: &Path) -> Vec<Value> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_streams", "-of", "json"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    found["streams"].as_array().unwrap().clone()
}

fn stream(path: &Path, kind: &str) -> Option<Value> {
    streams(path).into_iter().find(|stream| stream["codec_type"] == kind)
}

/// The picture stream of an overlay.
fn pictures(path: &Path) -> Value {
    let found = stream(path, "video").unwrap();
    assert_eq!((&found["codec_name"], &found["pix_fmt"]), (&"h264".into(), &"yuv420p".into()));
    assert!(found["side_data_list"].is_null(), "no display matrix");
    found
}

fn size(stream: &Value) -> (u64, u64) {
    (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap())
}

fn frames(stream: &Value) -> u64 {
    stream["nb_read_frames"].as_str().unwrap().parse().unwrap()
}

/// The time of every frame in seconds from the start of the file.
fn times(path: &Path) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts_time", "-of", "json"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let frames = found["frames"].as_array().unwrap().iter();
    frames.map(|frame| frame["pts_time"].as_str().unwrap().parse().unwrap()).collect()
}

/// A frame as a player shows it.
struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// Decodes the n-th frame, after further filters.
    fn read(path: &Path, number: u64, filters: &str) -> Self {
        let read = |format: &[&str]| {
            let output = Command::new("ffmpeg")
                .args(["-v", "error", "-nostdin", "-i", text(path), "-frames:v", "1", "-vf"])
                .arg(format!("select=eq(n\\,{number}){filters}"))
                .args(format)
                .arg("-")
                .output()
                .expect("ffmpeg is installed");
            assert!(output.status.success(), "{}", words(&output));
            output.stdout
        };
        // The header is "P6", width, height and 255, separated by white space.
        let bytes = read(&["-f", "image2pipe", "-c:v", "ppm"]);
        let mut at = 0;
        let fields: Vec<String> = (0..4)
            .map(|_| {
                let end = at + bytes[at..].iter().position(u8::is_ascii_whitespace).unwrap();
                let field = String::from_utf8(bytes[at..end].to_vec()).unwrap();
                at = end + 1;
                field
            })
            .collect();
        let side = |n: usize| fields[n].parse().unwrap();
        Self { width: side(1), height: side(2), rgb: bytes[at..].to_vec() }
    }

    fn at(&self, x: i64, y: i64) -> Option<[u8; 3]> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        let at = 3 * (y * self.width + x);
        (x < self.width && y < self.height).then(|| [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]])
    }

    /// The share of the points on the left, right and lower edge of a box that have the colour of the first person.
    /// Points outside the picture do not count.
    fn edge(&self, [x, y, width, height]: [f64; 4]) -> f64 {
        let points = (1..20).flat_map(|n| {
            let part = f64::from(n) / 20.0;
            let (across, down) = (x + width * part, y + height * part);
            [((x, down), (1, 0)), ((x + width, down), (1, 0)), ((across, y + height), (0, 1))]
        });
        let coloured: Vec<bool> = points
            .filter_map(|((x, y), (right, below))| {
                let (x, y) = (x.round() as i64, y.round() as i64);
                self.at(x, y)?;
                Some((-2..=2).filter_map(|step| self.at(x + right * step, y + below * step)).any(is_coloured))
            })
            .collect();
        assert!(coloured.len() > 15, "the box is outside");
        coloured.iter().filter(|coloured| **coloured).count() as f64 / coloured.len() as f64
    }

    /// The share of pixels of the common part that differ clearly.
    fn changed(&self, other: &Self) -> f64 {
        let (width, height) = (self.width.min(other.width), self.height.min(other.height));
        let points = (0..height).flat_map(|y| (0..width).map(move |x| (x as i64, y as i64)));
        let differs = |one: [u8; 3], other: [u8; 3]| one.iter().zip(other).any(|(one, other)| one.abs_diff(other) > 64);
        let changed = points.filter(|(x, y)| differs(self.at(*x, *y).unwrap(), other.at(*x, *y).unwrap()));
        changed.count() as f64 / (width * height) as f64
    }

    /// The mean difference of all channels in the common part.
    fn difference(&self, other: &Self) -> f64 {
        let (width, height) = (self.width.min(other.width), self.height.min(other.height));
        let sum: u64 = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x as i64, y as i64)))
            .map(|(x, y)| {
                let (one, other) = (self.at(x, y).unwrap(), other.at(x, y).unwrap());
                one.iter().zip(other).map(|(one, other)| u64::from(one.abs_diff(other))).sum::<u64>()
            })
            .sum();
        sum as f64 / (3 * width * height) as f64
    }
}

/// Whether a pixel has about the colour of the first person. Half of the colour's resolution is lost in the file.
fn is_coloured(pixel: [u8; 3]) -> bool {
    pixel.iter().zip(COLOUR).all(|(one, other)| one.abs_diff(other) < 64) && pixel[2] > pixel[0].saturating_add(60)
}

/// Asserts that the overlay shows the boxes of the rows, at the samples and between two of them.
fn assert_boxes(drawn: &Drawn) {
    let times = times(&drawn.overlay);
    let number = |time_s: f64| times.iter().position(|time| (time - time_s).abs() < 0.002).unwrap() as u64;
    let first: Vec<&Row> = drawn.rows.iter().filter(|row| row.face == 1).take(3).collect();
    assert!(first.len() == 3, "the face is seen in three samples");
    for row in &first {
        let share = Picture::read(&drawn.overlay, number(row.time_s), "").edge(row.bbox);
        assert!(share > 0.9, "{share} of the edge at {} s", row.time_s);
    }
    let between = std::array::from_fn(|n| f64::midpoint(first[0].bbox[n], first[1].bbox[n]));
    let middle = (number(first[0].time_s) + number(first[1].time_s)) / 2;
    let share = Picture::read(&drawn.overlay, middle, "").edge(between);
    assert!(share > 0.9, "{share} of the edge between two samples");
}

/// Asserts that both files show the same frames at the same times.
fn assert_times(drawn: &Drawn, original: &Path) {
    let (found, expected) = (frame_times(&drawn.overlay), frame_times(original));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 0.001, "{found} {expected}");
    }
}

/// The first channel of the sound as a player plays it, in samples from time 0.
fn sound(path: &Path) -> Vec<f32> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i", text(path), "-map", "0:a:0", "-ar", &RATE.to_string()])
        .args(["-af", "aresample=async=1:first_pts=0,pan=mono|c0=c0", "-f", "f32le", "-"])
        .output()
        .expect("ffmpeg is installed");
    let (samples, _) = output.stdout.as_chunks::<4>();
    samples.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

const RATE: usize = 4000;

/// The time by which the second sound is later than the first one, in seconds, and how alike they are then, 0 to 1.
fn lag(first: &[f32], second: &[f32]) -> (f64, f64) {
    const MOST: usize = RATE / 5;
    let length = (6 * RATE).min(first.len()).min(second.len()) - 2 * MOST;
    let first = &first[MOST..][..length];
    let energy = |samples: &[f32]| samples.iter().map(|sample| f64::from(sample * sample)).sum::<f64>();
    let alike = |shift: usize| {
        let second = &second[shift..][..length];
        let product: f64 = first.iter().zip(second).map(|(a, b)| f64::from(a * b)).sum();
        product / (energy(first) * energy(second)).sqrt().max(1e-9)
    };
    let best = (0..=2 * MOST).map(|shift| (shift, alike(shift))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    ((best.0 as f64 - MOST as f64) / RATE as f64, best.1)
}

/// Asserts that the overlay has the sound of the original, in step.
fn assert_sound(drawn: &Drawn, original: &Path) {
    let found = stream(&drawn.overlay, "audio").unwrap();
    assert_eq!(
        (&found["codec_name"], &found["sample_rate"], &found["channels"]),
        (&"aac".into(), &"48000".into(), &2.into())
    );
    let (found, expected) = (sound(&drawn.overlay), sound(original));
    let (late_s, alike) = lag(&expected, &found);
    assert!(late_s.abs() < 0.005 && alike > 0.95, "{late_s} s late, {alike} alike");
    let levels = [&found, &expected].map(|sound| sound.iter().map(|one| f64::from(one * one)).sum::<f64>());
    assert!((0.9..1.1).contains(&(levels[0] / levels[1])), "{levels:?}");
    let lengths = [&found, &expected].map(|sound| sound.len() as f64 / RATE as f64);
    assert!((lengths[0] - lengths[1]).abs() < 0.05, "{lengths:?}");
}

#[test]
fn an_overlay_has_every_frame_with_boxes_and_the_sound() {
    let clips = Clips::new();
    let clip = shared("speech_and_face.mp4");
    std::os::unix::fs::symlink(&clip, clips.path("whole.mp4")).unwrap();
    let clip = clips.make("clip.mp4", "-i $whole.mp4 -t 6 -c copy");
    let drawn = draw(&clips, &clip);
    let (found, original) = (pictures(&drawn.overlay), stream(&clip, "video").unwrap());
    assert_eq!((size(&found), frames(&found)), (size(&original), frames(&original)));
    assert_eq!(found["avg_frame_rate"], original["avg_frame_rate"]);
    assert_eq!(found["color_space"], "bt709");
    assert_times(&drawn, &clip);
    assert_boxes(&drawn);
    assert_sound(&drawn, &clip);
    let duration_s: f64 = found["duration"].as_str().unwrap().parse().unwrap();
    assert!((duration_s - drawn.analysis["video"]["duration_s"].as_f64().unwrap()).abs() < 0.05);

    // The colours of the rest are those of the original, and the index is at the front.
    let corner = ",crop=in_w/3:in_h:0:0";
    let difference = Picture::read(&drawn.overlay, 20, corner).difference(&Picture::read(&clip, 20, corner));
    assert!(difference < 3.0, "{difference}");
    let bytes = std::fs::read(&drawn.overlay).unwrap();
    let place = |name: &[u8]| bytes.windows(4).position(|four| four == name).unwrap();
    assert!(place(b"moov") < place(b"mdat"));

    // The result is that of an analysis without an overlay.
    let plain = command(&models(), &[text(&clip), "--sample-every", "10"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&plain.stdout).unwrap(), drawn.analysis);
}

#[test]
fn no_box_is_drawn_while_nobody_is_seen_and_late_sound_stays_late() {
    let clips = Clips::new();
    let clip = shared("face_then_none.mov");
    let drawn = draw(&clips, &clip);
    assert_times(&drawn, &clip);
    assert_sound(&drawn, &clip);
    let last = drawn.rows.last().unwrap();
    let numbers = frame_times(&drawn.overlay);
    let number = |time_s: f64| numbers.iter().position(|time| *time >= time_s - 0.002).unwrap() as u64;
    // The face is in a frame until halfway to the next sample, and not one interval later.
    for (time_s, is_seen) in [(last.time_s, true), (last.time_s + 0.1, true), (last.time_s + 0.4, false), (6.0, false)]
    {
        let number = number(time_s);
        let (found, original) = (Picture::read(&drawn.overlay, number, ""), Picture::read(&clip, number, ""));
        let changed = found.changed(&original);
        assert!(if is_seen { changed > 0.01 } else { changed < 1e-4 }, "{changed} at {time_s} s");
        assert!(found.difference(&original) < 6.0);
    }
}

#[test]
fn a_portrait_recording_is_upright() {
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("single_face.mp4"), clips.path("face.mp4")).unwrap();
    // A phone stores the pictures sideways, and says how to turn them.
    clips.make("sideways.mp4", "-i $face.mp4 -vf crop=300:360,transpose=2 -c:v libx264 -pix_fmt yuv420p -c:a aac");
    let clip = clips.write("phone.mp4", &with_matrix(&clips.path("sideways.mp4"), [0, 1, -1, 0]));
    let drawn = draw(&clips, &clip);
    assert_eq!(size(&stream(&clip, "video").unwrap()), (360, 300));
    assert_eq!(size(&pictures(&drawn.overlay)), (300, 360));
    assert_eq!(drawn.analysis["video"]["turned"], 0);
    assert_times(&drawn, &clip);
    assert_boxes(&drawn);
    assert_sound(&drawn, &clip);
}

#[test]
fn pixels_that_are_not_square_and_odd_sizes_are_drawn() {
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("single_face.mp4"), clips.path("face.mp4")).unwrap();
    let clip =
        clips.make("odd.mp4", "-i $face.mp4 -an -t 1.5 -vf scale=361:271,setsar=4/3 -c:v libx264 -pix_fmt yuv444p");
    let drawn = draw(&clips, &clip);
    let found = pictures(&drawn.overlay);
    assert_eq!((&drawn.analysis["video"]["width"], &drawn.analysis["video"]["height"]), (&481.into(), &271.into()));
    assert_eq!((size(&found), &found["sample_aspect_ratio"]), ((482, 272), &"1:1".into()));
    assert_times(&drawn, &clip);
    assert_boxes(&drawn);
    let (found, original) = (Picture::read(&drawn.overlay, 3, ""), Picture::read(&clip, 3, ",scale=481:271"));
    // The last column repeats the one before.
    let edge = |y: i64| (found.at(481, y).unwrap(), found.at(480, y).unwrap());
    let close = (10..260).filter(|y| edge(*y).0.iter().zip(edge(*y).1).all(|(a, b)| a.abs_diff(b) < 16)).count();
    assert!(close > 240, "{close}");
    assert!(found.difference(&original) < 16.0, "{}", found.difference(&original));
}

#[test]
fn a_video_without_sound_and_without_faces_is_written_as_it_is() {
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("no_face.mp4"), clips.path("nobody.mp4")).unwrap();
    let clip = clips.make("silent.mp4", "-i $nobody.mp4 -t 2 -an -c copy");
    let drawn = draw(&clips, &clip);
    assert!(drawn.rows.is_empty());
    assert_eq!(streams(&drawn.overlay).len(), 1);
    assert_times(&drawn, &clip);
    for number in [0, 30] {
        let (found, original) = (Picture::read(&drawn.overlay, number, ""), Picture::read(&clip, number, ""));
        let (difference, changed) = (found.difference(&original), found.changed(&original));
        assert!(difference < 3.0 && changed < 1e-4, "{difference} {changed}");
    }
    // Too small for any label, and a picture every two seconds.
    let tiny =
        clips.make("tiny.mp4", "-f lavfi -i testsrc=size=18x16:rate=0.5:duration=10 -c:v libx264 -pix_fmt yuv420p");
    std::fs::remove_dir_all(clips.path("overlay")).unwrap();
    let drawn = draw(&clips, &tiny);
    assert_eq!(size(&pictures(&drawn.overlay)), (18, 16));
    assert_times(&drawn, &tiny);
}

#[test]
fn both_sides_of_the_sound_stay_where_they_are() {
    let clips = Clips::new();
    let tones = "aevalsrc=0.4*sin(880*PI*t)|0.1*sin(1760*PI*t):s=44100:d=2";
    let clip = clips.make(
        "sides.mkv",
        &format!("-f lavfi -i testsrc=size=160x120:rate=25:duration=2 -f lavfi -i {tones} -c:v libx264 -c:a pcm_s16le"),
    );
    let drawn = draw(&clips, &clip);
    let level = |path: &Path, side: &str| {
        let one = clips.make("one.wav", &format!("-i {} -map 0:a:0 -af pan=mono|c0={side}", path.display()));
        let sound = sound(&one);
        (sound.iter().map(|one| one * one).sum::<f32>() / sound.len() as f32).sqrt()
    };
    for side in ["FL", "FR"] {
        let ratio = level(&drawn.overlay, side) / level(&clip, side);
        assert!((0.9..1.1).contains(&ratio), "{side}: {ratio}");
    }
}

#[test]
fn a_variable_frame_rate_is_kept() {
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("speech_and_face.mp4"), clips.path("whole.mp4")).unwrap();
    let filter = "select='lt(n,40)+not(mod(n,7))'";
    let clip = clips.make("vfr.mkv", &format!("-i $whole.mp4 -t 6 -vf {filter} -vsync vfr -c:v libx264 -c:a copy"));
    let steps = |times: &[f64]| {
        times.windows(2).map(|pair| pair[1] - pair[0]).fold((9.0_f64, 0.0_f64), |a, b| (a.0.min(b), a.1.max(b)))
    };
    let (short, long) = steps(&frame_times(&clip));
    assert!(short < 0.05 && long > 0.25, "{short} {long}");
    let drawn = draw(&clips, &clip);
    assert_times(&drawn, &clip);
    assert_boxes(&drawn);
    assert_sound(&drawn, &clip);
}

#[test]
fn a_damaged_video_is_drawn_as_far_as_it_can_be_decoded() {
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("speech_and_face.mp4"), clips.path("whole.mp4")).unwrap();
    let whole = clips.make("fast.mp4", "-i $whole.mp4 -t 6 -c copy -movflags +faststart");
    let bytes = std::fs::read(&whole).unwrap();
    let cut = clips.write("cut.mp4", &bytes[..bytes.len() / 2]);
    let drawn = draw(&clips, &cut);
    let found = pictures(&drawn.overlay);
    let all = frames(&stream(&whole, "video").unwrap());
    assert!((all / 4..all).contains(&frames(&found)), "{} of {all}", frames(&found));
    // The last packet is cut off.
    let counted = drawn.analysis["video"]["frames_total"].as_u64().unwrap();
    assert!(counted.abs_diff(frames(&found)) <= 2, "{counted} {}", frames(&found));
    assert_boxes(&drawn);
    let duration_s: f64 = found["duration"].as_str().unwrap().parse().unwrap();
    assert!((duration_s - drawn.analysis["video"]["duration_s"].as_f64().unwrap()).abs() < 0.25, "{duration_s}");

    let mut hurt = bytes;
    let (from, to) = (hurt.len() / 2, hurt.len() / 2 + 4000);
    hurt[from..to].fill(0x55);
    let hurt = clips.write("hurt.mp4", &hurt);
    std::fs::remove_dir_all(clips.path("overlay")).unwrap();
    let drawn = draw(&clips, &hurt);
    assert!(frames(&pictures(&drawn.overlay)) > all / 3);
    assert_boxes(&drawn);
    // The sound goes on to its end.
    assert!(sound(&drawn.overlay).len().abs_diff(sound(&whole).len()) < RATE / 10);
}

#[test]
fn a_sound_track_that_cannot_be_decoded_is_left_out_and_that_is_said() {
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("single_face.mp4"), clips.path("face.mp4")).unwrap();
    // A codec that is not allowed.
    let clip = clips.make("wma.mkv", "-i $face.mp4 -c:v copy -c:a wmav2");
    let overlay = clips.path("boxes.mp4");
    let output = command(&models(), &[text(&clip), "--overlay", text(&overlay)]).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert!(
        words(&output).contains("the overlay has no sound") && words(&output).contains("wmav2"),
        "{}",
        words(&output)
    );
    assert_eq!(streams(&overlay).len(), 1);
    assert_eq!(frames(&pictures(&overlay)), 72);
}

#[test]
fn wrong_outputs_are_refused_before_anything_is_analyzed() {
    let clips = Clips::new();
    let clip = clips.moving("clip.mp4", 1.0, "-c:v mpeg4");
    let bytes = std::fs::read(&clip).unwrap();
    std::os::unix::fs::symlink(&clip, clips.path("link.mp4")).unwrap();
    let picture = clips.make("picture.png", "-f lavfi -i testsrc=size=64x64 -frames:v 1");
    let out = clips.path("out.mp4");
    let (clip, out, link, picture) = (text(&clip), text(&out), clips.path("link.mp4"), text(&picture));
    std::fs::create_dir(clips.path("folder.mp4")).unwrap();
    let (folder, results) = (clips.path("folder.mp4"), clips.path("results"));
    for (arguments, says) in [
        (vec![clip, "--overlay", "/nowhere/out.mp4"], "No such file"),
        // A folder in which nobody can make a file.
        (vec![clip, "--overlay", "/proc/out.mp4"], "cannot be written"),
        (vec![clip, "--overlay", "out.mkv"], ".mp4"),
        (vec![clip, "--overlay", clip], "the input"),
        (vec![clip, "--overlay", text(&link)], "the input"),
        (vec![clip, "--overlay", text(&folder)], "a folder"),
        (vec![picture, "--overlay", out], "--overlay"),
        (vec![clip, "--overlay", out, "--out", text(&results)], "--overlays"),
        (vec![clip, "--overlays"], "--out"),
    ] {
        let output = Command::new(PROGRAM)
            .env("VISAGE_MODELS__FOLDER", "/nowhere")
            .arg("analyze")
            .args(&arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", words(&output));
        assert!(words(&output).contains(says), "{arguments:?}: {}", words(&output));
    }
    assert_eq!(std::fs::read(clip).unwrap(), bytes);
    assert!(!results.exists());
}

/// The names of all files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_ends_the_command_and_keeps_an_older_overlay() {
    let clips = Clips::new();
    let models = models();
    let folder = clips.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let out = folder.join("boxes.mp4");
    std::fs::write(&out, "older").unwrap();
    // The system refuses to write more than this to a file, as it does on a full disk. A decoder process would need more
    // for its pictures, which are in memory.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let run = |arguments: &[&str]| {
        let program = command(&models, arguments);
        let output = Command::new("bash")
            .args(["-c", script])
            .arg(program.get_program())
            .args(program.get_args())
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("VISAGE_VIDEO__ISOLATION", "off")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert!(words(&output).contains("was not written: File too large"), "{}", words(&output));
    };
    let clip = shared("sad_then_happy.mp4");
    run(&[text(&clip), "--overlay", text(&out)]);
    assert_eq!((names(&folder), std::fs::read(&out).unwrap()), (vec!["boxes.mp4".to_owned()], b"older".to_vec()));
    let results = clips.path("results");
    run(&[text(&clip), "--out", text(&results), "--overlays"]);
    assert_eq!(names(&results), [""; 0]);
}

#[test]
fn an_interrupted_overlay_leaves_nothing_and_keeps_an_older_one() {
    let clips = Clips::new();
    let models = models();
    let folder = clips.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let out = folder.join("boxes.mp4");
    std::fs::write(&out, "older").unwrap();
    let clip = shared("speech_and_face.mp4");
    let arguments = [text(&clip), "--sample-every", "200", "--overlay", text(&out)];
    let mut child = command(&models, &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    let written = |name: &String| {
        name.ends_with(".visage-part") && folder.join(name).metadata().is_ok_and(|about| about.len() > 0)
    };
    while !names(&folder).iter().any(written) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        assert!(Instant::now() < until, "nothing is written");
        std::thread::yield_now();
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None), "{}", words(&output));
    assert_eq!((names(&folder), std::fs::read(&out).unwrap()), (vec!["boxes.mp4".to_owned()], b"older".to_vec()));
}

#[test]
fn many_overlays_are_written_beside_the_results_and_are_no_inputs() {
    let (clips, models) = (Clips::new(), models());
    let study = clips.path("study");
    std::fs::create_dir(&study).unwrap();
    for (clip, name) in [("single_face.mp4", "a.mp4"), ("no_face.mp4", "b.mp4"), ("multi_face.jpg", "c.jpg")] {
        std::fs::copy(shared(clip), study.join(name)).unwrap();
    }
    // Inside the folder of the inputs.
    let out = study.join("results");
    let run = |more: &[&str]| {
        let arguments = [&[text(&study), "--out", text(&out), "--sample-every", "40"], more].concat();
        let output = command(&models, &arguments).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        words(&output)
    };
    let overlays = || {
        let found = names(&out).into_iter().filter(|name| name.ends_with(".mp4"));
        found.map(|name| (out.join(&name).metadata().unwrap().modified().unwrap(), name)).collect::<Vec<_>>()
    };
    run(&["--overlays", "--jobs", "2"]);
    let first = overlays();
    assert_eq!((names(&out).len(), first.len()), (8, 2));
    assert!(first[0].1.starts_with("a.mp4-") && first[1].1.starts_with("b.mp4-"), "{first:?}");
    assert_eq!(frames(&pictures(&out.join(&first[0].1))), 72);
    assert!(stream(&out.join(&first[0].1), "audio").is_some());

    // Finished inputs are passed over, with or without overlays.
    for more in [&["--overlays"][..], &[]] {
        assert!(run(more).contains("3 of 3 inputs have a result (3 had it before)"));
        assert_eq!(overlays(), first);
    }
    // A video without its overlay is not finished.
    std::fs::remove_file(out.join(&first[0].1)).unwrap();
    assert!(run(&[]).contains("(3 had it before)"));
    let said = run(&["--overlays"]);
    assert!(said.contains("a.mp4 (") && !said.contains("b.mp4 ("), "{said}");
    assert_eq!(overlays()[1], first[1]);
    // An overlay of other options would not fit the new result.
    run(&["--max-faces", "1"]);
    assert!(overlays().is_empty());
    assert_eq!(names(&out).len(), 6);
}
