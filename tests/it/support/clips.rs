//! Clips that `make fixtures` fetches, and clips that the tests make with ffmpeg. Also the models of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use visage::config::{Device, Settings};

#[path = "../../../src/test_files.rs"]
mod files;

pub use files::{clip as shared, model};

/// Clips made for one test. They are deleted on drop.
pub struct Clips {
    folder: TempDir,
}

impl Clips {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs ffmpeg with the given arguments and the output file. `$name` is replaced by the path of an earlier file.
    pub fn make(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
            .args(arguments.split_whitespace().map(|argument| match argument.strip_prefix('$') {
                Some(file) => self.path(file).into_os_string(),
                None => argument.into(),
            }))
            .arg(&path)
            .output()
            .expect("ffmpeg is installed");
        assert!(output.status.success(), "ffmpeg {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// Makes a moving test picture, 160x120, 25 frames a second, without sound.
    pub fn moving(&self, name: &str, seconds: f64, codec: &str) -> PathBuf {
        self.make(name, &format!("-f lavfi -i testsrc=size=160x120:rate=25:duration={seconds} {codec}"))
    }

    /// Writes bytes to a file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Returns the presentation time of every frame according to ffprobe, in seconds from the first picture.
pub fn frame_times(path: &Path) -> Vec<f64> {
    let ask = |entries: &str| {
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", entries])
            .arg(path)
            .output()
            .expect("ffprobe is installed");
        String::from_utf8(output.stdout).unwrap()
    };
    let number = |line: &str| line.trim().trim_end_matches(',').parse::<f64>().ok();
    let start = ask("stream=start_time").lines().find_map(number).unwrap_or(0.0);
    let times: Vec<f64> = ask("frame=pts_time").lines().filter_map(number).map(|time| time - start).collect();
    let late = times.first().copied().unwrap_or(0.0).max(0.0);
    times.into_iter().map(|time| time - late).collect()
}

/// A models folder for one test, with links to some files of `models/`.
pub struct Models {
    folder: TempDir,
}

/// Returns the models for faces: detector (YuNet), classifier and landmarks.
pub fn models() -> Models {
    let models = Models { folder: tempfile::tempdir().unwrap() };
    models.with("yunet_n_dynamic.onnx").with("emotion.onnx").with("face_landmarks.onnx")
}

impl Models {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds another file of `models/`.
    pub fn with(self, file: &str) -> Self {
        std::os::unix::fs::symlink(model(file), self.folder.path().join(file)).unwrap();
        self
    }

    /// Returns the default settings with these models, on the CPU.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::defaults().unwrap();
        settings.models.folder = self.path().to_owned();
        settings.engine.device = Device::Cpu;
        settings
    }

    /// Returns a change of settings that selects these models, on the CPU.
    pub fn select(&self) -> impl FnOnce(&mut Settings) + use<> {
        let given = self.settings();
        move |settings| {
            settings.models = given.models;
            settings.engine = given.engine;
        }
    }
}

/// Replaces the display matrix of the first track of an MP4 file.
pub fn with_matrix(path: &Path, [a, b, c, d]: [i32; 4]) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let header = bytes.windows(4).position(|four| four == b"tkhd").unwrap();
    let one = 1 << 16;
    let matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30];
    let matrix: Vec<u8> = matrix.iter().flat_map(|number: &i32| number.to_be_bytes()).collect();
    bytes[header + 44..header + 80].copy_from_slice(&matrix);
    bytes
}
