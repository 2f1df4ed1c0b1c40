//! `visage serve` and `visage doctor`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::clips::models;

#[test]
fn an_unsuitable_clip_model_stops_the_start_and_is_reported_by_the_doctor() {
    let models = models();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("visage.toml");
    std::fs::write(&config, "").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visage"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .env("VISAGE_CONFIG", &config)
            .env("VISAGE_DATABASE__URL", format!("sqlite://{}/visage.db", folder.path().display()))
            .env("VISAGE_STORAGE__FOLDER", folder.path().join("videos"))
            .env("VISAGE_MAIL__OUTBOX", folder.path().join("outbox"))
            .env("VISAGE_HTTP__LISTEN", "127.0.0.1:0")
            .env("VISAGE_MODELS__FOLDER", models.path())
            .env("VISAGE_ENGINE__DEVICE", "cpu")
            .env("VISAGE_THUMBNAILS__MODEL__FILE", "emotion.onnx");
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
