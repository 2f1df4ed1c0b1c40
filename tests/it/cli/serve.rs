//! `visage serve` and `visage doctor`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::support::clips::models;
use crate::support::program::{Process, visage};

/// The lines that a process writes to standard error.
struct Log(Receiver<String>);

impl Log {
    fn of(process: &mut Child) -> Self {
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self(lines)
    }

    /// Waits for a line with this text.
    fn line(&self, text: &str) -> String {
        loop {
            let line = self.0.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("no line has {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

#[test]
fn an_unsuitable_clip_model_stops_the_start_and_is_reported_by_the_doctor() {
    let models = models();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = visage(folder.path(), &models, arguments);
        command.env("VISAGE_THUMBNAILS__MODEL__FILE", "emotion.onnx");
        command
    };
    let doctor = run(&["doctor"]).output().unwrap();
    let lines = String::from_utf8(doctor.stdout).unwrap();
    let told = lines.lines().find(|line| line.contains("clip model")).unwrap_or_default();
    assert!(told.starts_with("missing") && told.contains("thumbnails.model.file"), "{lines}");
    assert!(lines.contains("encoders") && lines.contains("webhooks"), "{lines}");

    let mut service = run(&["serve", "--no-workers"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(service.stderr.take().unwrap()).lines() {
        log = format!("{log}{}\n", line.unwrap());
        if log.contains("listening") {
            service.kill().unwrap();
        }
    }
    assert!(!service.wait().unwrap().success());
    assert!(log.contains("thumbnails.model.file") && !log.contains("listening"), "{log}");
}

#[test]
fn settings_that_may_change_are_read_again_on_sighup() {
    let (models, folder) = (models(), tempfile::tempdir().unwrap());
    let mut command = visage(folder.path(), &models, &["serve", "--no-workers"]);
    command.env("VISAGE_LOG__FORMAT", "json").stderr(Stdio::piped()).stdout(Stdio::null());
    let mut service = Process(command.spawn().unwrap());
    let log = Log::of(&mut service.0);
    let listening: serde_json::Value = serde_json::from_str(&log.line("\"listening\"")).unwrap();
    let address = format!("http://{}/v1/analyses", listening["address"].as_str().unwrap());
    let status = || {
        let answer = Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &address]).output();
        String::from_utf8(answer.unwrap().stdout).unwrap()
    };
    let reload = |settings: &str, text: &str| {
        std::fs::write(folder.path().join("settings.toml"), settings).unwrap();
        let id = service.0.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
        log.line(text)
    };
    assert_eq!([status(), status(), status()], ["401", "401", "401"]);
    let limited = "[limits]\nrate_per_minute_address = 2\n[http]\nmax_wait_s = 7\n";
    let told = reload(limited, "were read again");
    assert!(told.contains("limits") && told.contains("http") && !told.contains("webhooks"), "{told}");
    assert_eq!([status(), status(), status()], ["401", "401", "429"]);
    // Nothing of invalid settings is taken over, and the service runs on.
    let told =
        reload("[limits]\nrate_per_minute_address = 0\n[log]\nfilter = \"visage=loud\"\n", "cannot be read again");
    assert!(told.contains("log.filter"), "{told}");
    assert_eq!(status(), "429");
    reload("[limits]\nrate_per_minute_address = 0\n[log]\nfilter = \"info,visage::api=debug\"\n", "were read again");
    assert_eq!([status(), status(), status()], ["401", "401", "401"]);
}
