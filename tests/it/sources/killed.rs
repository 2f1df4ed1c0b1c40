//! Kills the service while it fetches a video.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::clips::{self, Models, models};
use crate::support::http;
use crate::support::program::{Process, visage};
use crate::support::web::{OUTSIDE, WebServer};

/// Starts the service, and returns it with its address.
pub fn serve(home: &std::path::Path, models: &Models) -> (Process, String) {
    let mut command = visage(home, models, &["serve"]);
    command
        .env("VISAGE_SOURCES__PRIVATE_NETWORKS", OUTSIDE.to_string())
        .env("VISAGE_QUEUE__LEASE_S", "2")
        .env("VISAGE_QUEUE__POLL_S", "1")
        .env("VISAGE_LOG__FORMAT", "json")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listening = lines.find(|line| line.contains("\"listening\"")).expect("the service does not start");
    let listening: Value = serde_json::from_str(&listening).unwrap();
    // Reads on, so that the service does not wait for the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (process, format!("http://{}", listening["address"].as_str().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_in_the_middle_of_a_download_loses_nothing() {
    let (models, home) = (models(), tempfile::tempdir().unwrap());
    let server = WebServer::start(std::fs::read(clips::shared("single_face.mp4")).unwrap()).await;
    let (mut process, base) = serve(home.path(), &models);
    let body = json!({"video_url": server.url("/held.mp4"), "file_name": "talk.mp4"});
    let sent = http().post(format!("{base}/v1/analyses")).json(&body).send().await.unwrap();
    assert_eq!(sent.status(), 202);
    let sent: Value = sent.json().await.unwrap();
    server.holds(1).await;
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    server.holds(0).await;

    let (_process, base) = serve(home.path(), &models);
    let result = async {
        loop {
            let token = sent["token"].as_str().unwrap();
            let result: Value =
                http().get(format!("{base}/results/{token}?wait=30")).send().await.unwrap().json().await.unwrap();
            if result["finished_at"].is_string() {
                return result;
            }
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(240), result).await.expect("the analysis does not end");
    assert_eq!((&result["status"], &result["file_name"]), (&json!("done"), &json!("talk.mp4")), "{result}");
    assert_eq!(result["analysis"]["faces"].as_array().unwrap().len(), 1);
    assert_eq!(server.requests("/held.mp4"), 2);
}
