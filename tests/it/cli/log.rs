//! The log of `visage serve`, as JSON.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use serde_json::Value;

use crate::support::clips::{Clips, models};
use crate::support::program::{Process, visage};

/// Returns the log lines up to the first one with this message.
fn up_to(lines: &Receiver<String>, message: &str) -> Vec<String> {
    let (mut read, until) = (Vec::new(), Instant::now() + Duration::from_secs(120));
    loop {
        let line = lines.recv_timeout(until.saturating_duration_since(Instant::now()));
        let line = line.unwrap_or_else(|error| panic!("{error}: no {message:?} in {read:#?}"));
        let ends = line.contains(message);
        read.push(line);
        if ends {
            return read;
        }
    }
}

/// Returns the value of a field of a line, or of one of its spans.
fn field<'l>(line: &'l Value, name: &str) -> &'l Value {
    let spans = line["spans"].as_array().into_iter().flatten();
    std::iter::once(line).chain(spans).map(|part| &part[name]).find(|value| !value.is_null()).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn one_request_id_is_in_every_line_from_the_upload_to_the_mail() {
    let (models, folder, clips) = (models(), tempfile::tempdir().unwrap(), Clips::new());
    let mut command = visage(folder.path(), &models, &["serve"]);
    command
        .env("VISAGE_WEBHOOKS__SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G")
        .env("VISAGE_WEBHOOKS__ALLOW_PRIVATE", "true")
        .env("VISAGE_LOG__FORMAT", "json")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let (line_tx, lines) = channel();
    let stderr = BufReader::new(process.0.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| line_tx.send(line)));
    let started = up_to(&lines, "\"listening\"");
    let listening: Value = serde_json::from_str(started.last().unwrap()).unwrap();
    let base = format!("http://{}", listening["address"].as_str().unwrap());

    let send = async |name: &str, video: Vec<u8>| {
        let form = Form::new().part("video", Part::bytes(video).file_name("clip.mp4"));
        let form = form.text("email", "ann@example.org").text("webhook_url", "http://127.0.0.1:9/hook");
        let call = crate::support::http().post(format!("{base}/analyze-video")).header("x-request-id", name);
        let answer = call.multipart(form).send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"], name);
        assert_eq!(answer.status(), 202);
        answer.json::<Value>().await.unwrap()
    };
    let video = std::fs::read(clips.moving("a.mp4", 1.0, "-c:v libx264")).unwrap();
    send("other-1", video.clone()).await;
    let token = send("trace-7.A", video).await["token"].as_str().unwrap().to_owned();
    let mut read: Vec<String> = Vec::new();
    // The two jobs may end in any order.
    for message in ["mail sent", "mail sent", "reached no server", "reached no server"] {
        let all = |read: &[String]| read.iter().filter(|line| line.contains(message)).count() >= 2;
        if !all(&read) {
            read.extend(up_to(&lines, message));
        }
    }

    let parsed: Vec<Value> = read.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_request: Vec<&Value> = parsed.iter().filter(|line| field(line, "request_id") == "trace-7.A").collect();
    let find = |message: &str| {
        let mut found = of_request.iter().filter(|line| line["message"].as_str() == Some(message));
        *found.next().unwrap_or_else(|| panic!("no {message:?} in {read:#?}"))
    };
    let upload = find("an upload was accepted");
    let (answered, ended, mail, hook) =
        (find("answered"), find("job ended"), find("mail sent"), find("a message reached no server"));
    for (line, name) in [
        (upload, "size_bytes"),
        (answered, "status"),
        (answered, "latency_ms"),
        (ended, "duration_ms"),
        (ended, "frames"),
        (ended, "attempt"),
        (ended, "job"),
        (mail, "attempt"),
        (hook, "attempt"),
    ] {
        assert!(field(line, name).is_u64(), "{name} is no number: {line}");
    }
    for line in [mail, hook] {
        assert_eq!(field(line, "job"), field(ended, "job"), "{line}");
    }
    for (text, line) in read.iter().zip(&parsed) {
        assert!(line["span"].is_null(), "the span is there twice: {text}");
        for name in ["request_id", "job", "attempt", "message", "id"] {
            assert!(text.matches(&format!("\"{name}\":")).count() <= 1, "{name} is there twice: {text}");
        }
        assert!(!text.contains(&token) && !text.contains("ann@"), "a token or an address is in the log: {text}");
    }
}
