//! `visage serve` and `visage doctor`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::clips::models;
use crate::support::program::visage;

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
