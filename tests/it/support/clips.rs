//! Clips: those of `../shared/media`, and those that the tests make with ffmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use visage::config::{Device, Settings};

/// A clip of `../shared/media`. `None`, with a word on stderr, on a machine that does not have the folder: the tests
/// that need real faces then have nothing to look at.
pub fn shared(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/media");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    Some(path)
}

/// Clips made for one test; gone when dropped.
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

    /// What ffmpeg makes of the given arguments, which end before the output file. `$name` stands for a file made
    /// before.
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

    /// A moving test picture, 160x120, 25 frames a second, for some seconds, without sound.
    pub fn moving(&self, name: &str, seconds: f64, codec: &str) -> PathBuf {
        self.make(name, &format!("-f lavfi -i testsrc=size=160x120:rate=25:duration={seconds} {codec}"))
    }

    /// Bytes as a file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Presentation times of every frame, as ffprobe tells them, in seconds from the first picture.
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

const LANDMARKS: &str = "face_landmarks.onnx";

/// A models folder with the classifier, YuNet, and the landmarks where a copy is at hand.
pub struct Models {
    folder: TempDir,
}

/// `None`, with a word on stderr, where no copy of YuNet is at hand.
pub fn models() -> Option<Models> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let detector = "yunet_n_dynamic.onnx";
    let copies = [here.join("models"), here.join("../shared/models")];
    let Some(copy) = copies.iter().map(|folder| folder.join(detector)).find(|path| path.is_file()) else {
        eprintln!("skipped: no {detector} is at hand");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [(copy, detector), (here.join("models/emotion.onnx"), "emotion.onnx")] {
        std::os::unix::fs::symlink(from.canonicalize().unwrap(), folder.path().join(to)).unwrap();
    }
    if let Some(copy) = copies.iter().map(|folder| folder.join(LANDMARKS)).find(|path| path.is_file()) {
        std::os::unix::fs::symlink(copy.canonicalize().unwrap(), folder.path().join(LANDMARKS)).unwrap();
    }
    Some(Models { folder })
}

impl Models {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// These, and another of `../shared/models`; `None` where it is not there.
    pub fn with(self, file: &str) -> Option<Self> {
        let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models").join(file);
        if !copy.is_file() {
            eprintln!("skipped: no {file} is at hand");
            return None;
        }
        std::os::unix::fs::symlink(copy.canonicalize().unwrap(), self.folder.path().join(file)).unwrap();
        Some(self)
    }

    /// Defaults with these models, on the CPU.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::defaults().unwrap();
        settings.models.folder = self.path().to_owned();
        settings.engine.device = Device::Cpu;
        settings
    }
}
