//! `GET /v1/live`, with the real models, real pictures and a WebSocket client over loopback.

mod client;
mod endings;
mod refusals;

use serde_json::{Value, json};
use visage::config::{MailTransport, Settings};

use crate::support::clips::{self, Clips};
use crate::support::service::Service;
use client::{Client, picture, sound};

/// Pictures of a clip, this many a second, as JPEG files with 640 pixels in width.
pub fn pictures(clip: &str, rate: u32, seconds: f64) -> Vec<Vec<u8>> {
    let clips = Clips::new();
    std::fs::copy(clips::shared(clip), clips.path("clip")).unwrap();
    clips.make("%03d.jpg", &format!("-i $clip -t {seconds} -vf fps={rate},scale=640:-2 -q:v 3"));
    let files = (1..).map(|n| clips.path(&format!("{n:03}.jpg"))).take_while(|path| path.exists());
    files.map(|path| std::fs::read(path).unwrap()).collect()
}

/// The sound of a clip: 16,000 samples a second, mono, 16 bits.
fn sound_of(clip: &str, seconds: f64) -> Vec<u8> {
    let clips = Clips::new();
    std::fs::copy(clips::shared(clip), clips.path("clip")).unwrap();
    let raw = clips.make("sound.pcm", &format!("-i $clip -t {seconds} -vn -f s16le -ac 1 -ar 16000"));
    std::fs::read(raw).unwrap()
}

/// Sends pictures one after the other, each after the answer to the one before. Returns the answers.
pub async fn ask(client: &mut Client, pictures: &[Vec<u8>], rate: u32) -> Vec<Value> {
    let mut answers = Vec::new();
    for (file, n) in pictures.iter().zip(0_u32..) {
        client.send(picture(100.0 + f64::from(n) / f64::from(rate), file)).await;
        answers.push(client.next().await);
    }
    answers
}

fn outbox(settings: &mut Settings) {
    settings.mail.transport = MailTransport::Outbox;
}

#[tokio::test]
async fn each_picture_has_one_answer_and_the_session_becomes_an_ordinary_result() {
    let service = Service::start(outbox).await;
    service.work().await;
    let mut client = Client::open(&service).await;
    let configured = client
        .configure(json!({"max_faces": 2, "detail": "expressions", "name": "Morning call", "email": "ann@example.org",
                          "language": "de", "notice": "given"}))
        .await;
    let token = configured["token"].as_str().unwrap().to_owned();
    assert_eq!(configured["limits"]["max_session_s"], 1800);
    assert!(configured["models"].as_array().unwrap().len() >= 3, "{configured}");

    let pictures = pictures("single_face.mp4", 10, 2.0);
    let answers = ask(&mut client, &pictures, 10).await;
    for (answer, n) in answers.iter().zip(1_u32..) {
        assert_eq!((&answer["type"], &answer["picture"]), (&json!("faces"), &json!(n)), "{answer}");
        assert!((answer["time_s"].as_f64().unwrap() - f64::from(n - 1) / 10.0).abs() < 1e-6, "{answer}");
        assert_eq!((answer["width"].as_u64(), answer["faces"].as_array().unwrap().len()), (Some(640), 1), "{answer}");
        assert!(answer["latency_ms"].as_f64().unwrap() > 0.0);
        let face = &answer["faces"][0];
        let sum: f64 = face["emotions"].as_object().unwrap().values().map(|share| share.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 0.01, "{face}");
        assert_eq!(face["id"], 1, "{face}");
        assert!(face["state"]["confidence"].as_f64().unwrap() > 0.3, "{face}");
        for member in ["pose", "eyes_shut", "expressions", "valence", "arousal"] {
            assert!(!face[member].is_null(), "{member}: {face}");
        }
    }
    // The man begins to smile.
    let (first, last) = (&answers[0]["faces"][0], &answers.last().unwrap()["faces"][0]);
    assert_eq!((&first["state"]["emotion"], &first["state"]["since_s"]), (&json!("neutral"), &json!(0.0)), "{first}");
    assert_eq!((&last["dominant_emotion"], &last["state"]["emotion"]), (&json!("happy"), &json!("happy")), "{last}");
    let since_s = last["state"]["since_s"].as_f64().unwrap();
    assert!((0.2..1.9).contains(&since_s) && last["state"]["eye_contact"].as_f64().unwrap() > 0.8, "{last}");

    let running: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert_eq!(running["status"], "running", "{running}");
    let finished = client.finish().await;
    assert_eq!((&finished["reason"], &finished["status"]), (&json!("finish"), &json!("done")), "{finished}");
    assert_eq!((&finished["token"], &finished["people"]), (&json!(token), &json!([{"id": 1, "face": 1}])));
    assert_eq!(client.closed().await, Some(1000));

    let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let (analysis, video) = (&result["analysis"], &result["analysis"]["video"]);
    assert_eq!((&result["status"], &result["file_name"]), (&json!("done"), &json!("Morning call")), "{result}");
    assert_eq!(analysis["faces"].as_array().unwrap().len(), 1);
    assert_eq!(analysis["summary"]["dominant_emotion"], "happy");
    assert!(analysis["summary"]["eye_contact"].as_f64().unwrap() >= 80.0, "{}", analysis["summary"]);
    assert_eq!((&video["codec"], &video["width"], &video["has_audio"]), (&json!("jpeg"), &json!(640), &json!(false)));
    assert_eq!((&video["frames_total"], &video["frames_analyzed"]), (&json!(20), &json!(20)), "{video}");
    assert!((video["duration_s"].as_f64().unwrap() - 2.0).abs() < 0.01, "{video}");
    assert!((video["fps"].as_f64().unwrap() - 10.0).abs() < 0.01, "{video}");
    let timeline: Value = service.get(&format!("/results/{token}/timeline")).await.json().await.unwrap();
    assert_eq!(timeline["rows"].as_array().unwrap().len(), 20);
    assert!(!timeline["rows"][0]["expressions"].is_null(), "{timeline}");
    let report = service.get(&format!("/results/{token}/report")).await.text().await.unwrap();
    assert!(report.contains("lang=\"de\"") && report.contains("Morning call"), "{report}");
    endings::mailed(&service, "ann@example.org").await;
    assert_eq!(service.stored(), [] as [std::path::PathBuf; 0], "no picture is stored");
    let erased = service.http.delete(format!("{}/results/{token}", service.base)).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    assert_eq!(service.get(&format!("/results/{token}")).await.status(), 404);
}

#[tokio::test]
async fn a_session_and_the_recording_of_it_have_the_same_figures() {
    let service = Service::start(|_| {}).await;
    let mut client = Client::open(&service).await;
    let token = client.configure(json!({"speech": true})).await["token"].as_str().unwrap().to_owned();
    // The sound comes in blocks of a tenth of a second beside the pictures.
    let (pictures, sound_track) = (pictures("sad_then_happy.mp4", 5, 8.0), sound_of("sad_then_happy.mp4", 8.0));
    let mut blocks = sound_track.chunks(3200).zip(0_u32..);
    for (file, n) in pictures.iter().zip(0_u32..) {
        for (block, tenth) in blocks.by_ref().take(2) {
            client.send(sound(f64::from(tenth) / 10.0, block)).await;
        }
        client.send(picture(f64::from(n) / 5.0, file)).await;
        assert_eq!(client.next().await["type"], "faces");
    }
    assert_eq!(client.finish().await["status"], "done");
    let live: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let (live, video) = (&live["analysis"], &live["analysis"]["video"]);
    assert_eq!(video["has_audio"], true, "{video}");

    let clips = Clips::new();
    std::fs::copy(clips::shared("sad_then_happy.mp4"), clips.path("clip")).unwrap();
    let made = clips.make("cut.mp4", "-i $clip -t 8 -vf fps=5,scale=640:-2 -c:v libx264 -crf 12 -c:a aac -b:a 192k");
    service.work().await;
    let form = crate::support::service::video_form(std::fs::read(made).unwrap()).text("sample_every", "1");
    let accepted: Value = service.upload(form).await.json().await.unwrap();
    let recorded = service.finished(accepted["token"].as_str().unwrap().parse().unwrap()).await;
    let recorded = &recorded["analysis"];
    assert_eq!(live["faces"].as_array().unwrap().len(), recorded["faces"].as_array().unwrap().len());
    assert_eq!(live["summary"]["dominant_emotion"], recorded["summary"]["dominant_emotion"]);
    let near = |member: &str, most: f64| {
        let of = |analysis: &Value| analysis["summary"][member].as_f64().unwrap();
        let (live, recorded) = (of(live), of(recorded));
        assert!((live - recorded).abs() <= most, "{member}: live {live}, recorded {recorded}");
    };
    near("calmness", 6.0);
    near("eye_contact", 8.0);
    let speech = |analysis: &Value, member: &str| analysis["speech"][member].as_f64().unwrap();
    assert!(
        (speech(live, "ratio") - speech(recorded, "ratio")).abs() < 0.03,
        "{} {}",
        live["speech"],
        recorded["speech"]
    );
}

#[tokio::test]
async fn if_pictures_come_too_fast_the_newest_goes_first_and_the_others_are_skipped() {
    let service = Service::start(|_| {}).await;
    let mut client = Client::open(&service).await;
    client.configure(json!({})).await;
    let pictures = pictures("single_face.mp4", 10, 2.0);
    for (file, n) in pictures.iter().zip(0_u32..) {
        client.send(picture(f64::from(n) / 10.0, file)).await;
    }
    client.send(json!({"type": "finish"}).to_string().into()).await;
    let mut answers = Vec::new();
    let finished = loop {
        let answer = client.next().await;
        if answer["type"] == "finished" {
            break answer;
        }
        answers.push(answer);
    };
    let mut numbers: Vec<u64> = answers.iter().map(|answer| answer["picture"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "one answer for each picture: {answers:?}");
    let of = |kind: &str| answers.iter().filter(|answer| answer["type"] == kind).count();
    assert!(of("faces") >= 1 && of("skipped") >= 5 && of("faces") + of("skipped") == 20, "{answers:?}");
    let read: Vec<_> = answers.iter().filter(|answer| answer["type"] == "faces").collect();
    assert_eq!(read.last().unwrap()["picture"], 20, "the last picture is never skipped");
    let codes: Vec<_> = finished["warning_codes"].as_array().unwrap().iter().map(|code| &code["code"]).collect();
    assert!(codes.contains(&&json!("live_pictures_lost")), "{finished}");
    let metrics = service.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("visage_live_answers_total{answer=\"skipped\"}"), "{metrics}");
}

#[tokio::test]
async fn people_keep_their_ids_and_boxes_are_in_pixels_of_their_picture() {
    let service = Service::start(|_| {}).await;
    let mut client = Client::open(&service).await;
    client.configure(json!({})).await;
    let group = std::fs::read(clips::shared("multi_face.jpg")).unwrap();
    let clips = Clips::new();
    std::fs::write(clips.path("group.jpg"), &group).unwrap();
    let make = |name: &str, filter: &str| {
        std::fs::read(clips.make(name, &format!("-i $group.jpg -vf {filter} -update 1"))).unwrap()
    };
    let (half, webp) = (make("half.png", "scale=500:-2"), make("same.webp", "null"));
    let answers = ask(&mut client, &[group, half, webp], 5).await;
    let of = |answer: &Value| {
        let mut faces: Vec<(u64, f64)> = answer["faces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|face| (face["id"].as_u64().unwrap(), face["bbox"]["x"].as_f64().unwrap()))
            .collect();
        faces.sort_by_key(|(id, _)| *id);
        faces
    };
    let all: Vec<_> = answers.iter().map(of).collect();
    for faces in &all {
        assert_eq!(faces.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4, 5], "{answers:?}");
    }
    for (((_, whole), (_, half)), (_, webp)) in all[0].iter().zip(&all[1]).zip(&all[2]) {
        assert!((whole / 2.0 - half).abs() < 8.0, "{whole} {half}");
        assert!((whole - webp).abs() < 8.0, "{whole} {webp}");
    }
    let token = client.finish().await["token"].as_str().unwrap().to_owned();
    let timeline: Value = service.get(&format!("/results/{token}/timeline")).await.json().await.unwrap();
    let width = timeline["rows"].as_array().unwrap().iter().map(|row| row["bbox"]["x"].as_f64().unwrap());
    assert!(width.fold(0.0, f64::max) > 500.0, "boxes of the result are in pixels of the first picture");
}

#[tokio::test]
async fn live_pictures_are_answered_while_jobs_run() {
    let service = Service::start(|settings| settings.queue.concurrency = 2).await;
    let video = std::fs::read(clips::shared("sad_then_happy.mp4")).unwrap();
    service.work().await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(service.accept(video.clone()).await);
    }
    let mut client = Client::open(&service).await;
    client.configure(json!({})).await;
    let answers = ask(&mut client, &pictures("single_face.mp4", 5, 2.0), 5).await;
    assert!(answers.iter().all(|answer| answer["type"] == "faces"), "{answers:?}");
    assert_eq!(client.finish().await["status"], "done");
    for token in tokens {
        assert_eq!(service.finished(token).await["status"], "done");
    }
}
