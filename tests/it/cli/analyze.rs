//! `visage analyze`.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::clips::{Clips, models, shared};

/// Runs the program in the repository, with these models or with none.
fn visage(models: Option<&Path>, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visage"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("VISAGE_MODELS__FOLDER", models.unwrap_or(Path::new("/nowhere")))
        .env("VISAGE_ENGINE__DEVICE", "cpu")
        .env("VISAGE_LOG", "error")
        .arg("analyze")
        .args(arguments)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn standard_output_has_only_the_result_as_json() {
    let models = models();
    let clip = shared("single_face.mp4");
    let clips = Clips::new();
    let (csv, html) = (clips.path("rows.csv"), clips.path("report.html"));
    let files = [clip.as_path(), &csv, &html].map(|path| path.to_str().unwrap());
    let arguments = [files[0], "--sample-every", "10", "--stage-times", "--csv", files[1], "--html", files[2]];
    let output = visage(Some(models.path()), &arguments);
    assert!(output.status.success(), "{}", words(&output));
    let analysis: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(analysis["summary"]["dominant_emotion"], "happy");
    assert_eq!(analysis["video"]["frames_analyzed"], 8);

    let times: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    for stage in ["decode_s", "detect_s", "read_s", "whole_s"] {
        assert!(times[stage].as_f64().unwrap() > 0.0, "{times}");
    }
    let rows = std::fs::read_to_string(csv).unwrap();
    let columns: Vec<usize> = rows.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [32; 9], "{rows}");
    assert!(rows.starts_with("time_s,face,"), "{rows}");
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<html") && page.to_lowercase().contains("happy"), "{page}");
}

#[test]
fn a_picture_is_printed_with_its_faces() {
    let models = models();
    let clips = Clips::new();
    let picture = shared("multi_face.jpg");
    let output = visage(Some(models.path()), &[picture.to_str().unwrap()]);
    assert!(output.status.success(), "{}", words(&output));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&printed["width"], &printed["height"]), (&1000.into(), &667.into()));
    let faces = printed["faces"].as_array().unwrap();
    assert_eq!(faces.len(), 5, "{printed}");
    let mut ids: Vec<u64> = faces.iter().map(|face| face["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let largest = visage(Some(models.path()), &[picture.to_str().unwrap(), "--max-faces", "1", "--gaze", "off"]);
    let printed: serde_json::Value = serde_json::from_slice(&largest.stdout).unwrap();
    assert_eq!(printed["faces"].as_array().unwrap().len(), 1);
    assert_eq!((&printed["faces"][0]["bbox"], &printed["faces"][0]["gaze"]), (&faces[0]["bbox"], &().into()));
    assert_eq!(printed["warning_codes"][0]["code"], "eye_contact_by_head");

    let damaged = clips.write("damaged.jpg", &std::fs::read(picture).unwrap()[..300]);
    let output = visage(Some(models.path()), &[damaged.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
    assert!(words(&output).contains("damaged"), "{}", words(&output));
}

#[test]
fn a_refusal_does_not_exit_while_models_are_loading() {
    let models = models();
    // An exit during loading sometimes crashes.
    for _ in 0..20 {
        let output = visage(Some(models.path()), &["/nowhere/clip.mp4"]);
        assert_eq!(output.status.code(), Some(3), "{} {}", output.status, words(&output));
    }
}

#[test]
fn an_analysis_writes_nothing_to_the_home_folder() {
    // With telemetry on, ONNX Runtime creates a database of its runs there, which it sends to its developers.
    let models = models();
    let clip = shared("single_face.mp4");
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_visage"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("ORT_DISABLE_TELEMETRY")
        .env_remove("XDG_CACHE_HOME")
        .env("HOME", home.path())
        .env("VISAGE_MODELS__FOLDER", models.path())
        .args(["analyze", clip.to_str().unwrap(), "--sample-every", "40"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_refused_input_and_a_missing_model_have_different_exit_codes() {
    let clips = Clips::new();
    let clip = clips.moving("clip.mp4", 1.0, "-c:v mpeg4");
    let text = clips.write("text.mp4", b"no video");
    let mut bytes = std::fs::read(clips.moving("whole.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap();
    let entry = bytes.windows(4).rposition(|found| found == b"avc1").unwrap();
    bytes[entry..entry + 4].copy_from_slice(b"xyz1");
    let unknown = clips.write("unknown.mp4", &bytes);
    let mut bytes = std::fs::read(clips.make("whole.mkv", "-i $whole.mp4 -c copy")).unwrap();
    let name = bytes.windows(15).position(|found| found == b"V_MPEG4/ISO/AVC").unwrap();
    bytes[name..name + 15].copy_from_slice(b"V_MPEG9/ISO/XYZ");
    let track = clips.write("unknown.mkv", &bytes);
    let still = clips.make("still.bmp", "-f lavfi -i testsrc=size=64x64 -frames:v 1");
    let picture = clips.make("picture.png", "-f lavfi -i testsrc=size=64x64 -frames:v 1");
    let picture = picture.to_str().unwrap();
    let (clip, text) = (clip.to_str().unwrap(), text.to_str().unwrap());
    let (unknown, still) = (unknown.to_str().unwrap(), still.to_str().unwrap());
    let track = track.to_str().unwrap();
    let theora = clips.moving("theora.mkv", 1.0, "-c:v libtheora");
    let windows = clips.moving("windows.wmv", 1.0, "-c:v wmv2");
    let (theora, windows) = (theora.to_str().unwrap(), windows.to_str().unwrap());
    for (arguments, code, says) in [
        (vec![text], 3, "not a video"),
        (vec![unknown], 3, "coded as xyz1"),
        (vec![track], 3, "coded as V_MPEG9/ISO/XYZ"),
        (vec![still], 3, "a single picture (BMP)"),
        (vec![picture], 4, "visage doctor"),
        (vec![picture, "--csv", "rows.csv"], 2, "--csv"),
        (vec![picture, "--html", "report.html"], 2, "--html"),
        (vec![theora], 3, "coded as theora"),
        (vec![windows], 3, "of the type ASF (WMV)"),
        (vec!["/nowhere/clip.mp4"], 3, "cannot be read"),
        (vec![clip], 4, "visage doctor"),
        (vec!["-"], 3, "standard input"),
        (vec![clip, "--csv", "/nowhere/rows.csv"], 2, "cannot be written"),
        (vec![clip, "--sample-every", "0"], 2, "sample-every"),
        (vec![clip, "--detail", "expressions"], 2, "--csv"),
        (vec![clip, "--gaze", "off", "--detail", "expressions", "--csv", "rows.csv"], 2, "landmarks"),
        (vec![], 2, "Usage"),
    ] {
        let output = visage(None, &arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", words(&output));
        assert!(words(&output).contains(says), "{arguments:?}: {}", words(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn looking_at_a_small_file_takes_little_memory() {
    let clips = Clips::new();
    let source = "-f lavfi -i color=gray:size=8192x8192:rate=25 -frames:v 12 -c:v libx264 -preset ultrafast -pix_fmt \
                  yuv420p -x264-params ref=16:keyint=1000:log-level=none";
    let large = clips.make("large.mp4", source);
    for (name, arguments) in [("bomb.flv", "-i $large.mp4 -c copy"), ("bomb.ts", "-i $large.mp4 -c copy")] {
        clips.make(name, arguments);
    }
    clips.make("bomb.mpg", source);
    // As many packets as FFmpeg reads of the header, with nothing in them.
    let empty = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat().repeat(28_000);
    let late = clips.write("late.ts", &[empty, std::fs::read(clips.path("bomb.ts")).unwrap()].concat());
    // Prints the peak memory of a command in megabytes, behind its errors.
    let measure = "import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss // 1000, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))";
    for path in [large, clips.path("bomb.flv"), clips.path("bomb.ts"), clips.path("bomb.mpg"), late] {
        let output = Command::new("python3")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("VISAGE_MODELS__FOLDER", "/nowhere")
            .env("VISAGE_LOG", "error")
            .args(["-c", measure, env!("CARGO_BIN_EXE_visage"), "analyze"])
            .arg(&path)
            .output()
            .unwrap();
        let said = words(&output);
        assert_eq!(output.status.code(), Some(3), "{}: {said}", path.display());
        assert!(said.contains("8192"), "{}: {said}", path.display());
        // One frame of 100 MB. All references would take more than 1 GB.
        let megabytes: u32 = said.lines().last().unwrap().parse().unwrap();
        assert!(megabytes < 600, "{}: {megabytes} MB", path.display());
    }
}
