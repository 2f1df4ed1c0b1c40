//! `GET /results/{token}/timeline`.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;
use visage::analysis::{
    Analysis, BBox, Emotion, Findings, Gaze, METRICS_VERSION, Pose, Probabilities, Summary, Timeline, TimelineRow,
    VideoFacts,
};
use visage::clock::{Clock, SystemClock};
use visage::store::JobFailure;

use crate::support::clips::Clips;
use crate::support::service::Service;

fn clip() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

/// Returns findings with two faces in each sample.
fn findings(rows: u32) -> Findings {
    let video = VideoFacts {
        duration_s: f64::from(rows) * 0.25,
        fps: 25.0,
        width: 160,
        height: 120,
        codec: "h264".to_owned(),
        frames_total: 25,
        frames_analyzed: u64::from(rows / 2),
        has_audio: false,
        start_s: 0.0,
        turned: 0,
        stream_orientation: None,
    };
    let row = |n: u32| TimelineRow {
        time_s: f64::from(n / 2) * 0.5,
        face: n % 2 + 1,
        bbox: BBox { x: 1.0, y: 2.0, width: 30.0, height: 40.0 },
        emotions: Probabilities([0.0, 0.0, 0.0, 0.75, 0.0, 0.0, 0.25]),
        pose: n.is_multiple_of(2).then_some(Pose { yaw: 1.5, pitch: -2.0, roll: 0.5 }),
        eye_contact: n.is_multiple_of(2).then_some(true),
        quality: 0.9,
        gaze: n.is_multiple_of(2).then_some(Gaze { yaw: 3.0, pitch: -1.0 }),
        eyes_shut: None,
        covered: None,
        expressions: None,
        relative: n.is_multiple_of(2).then_some([0.0, 0.0, 0.0, 1.25, 0.0, 0.0, -1.25]),
    };
    let analysis = Analysis {
        video,
        summary: Summary::default(),
        speech: None,
        faces: vec![],
        models: vec![],
        metrics_version: METRICS_VERSION,
        warnings: vec![],
        warning_codes: vec![],
    };
    Findings { analysis, timeline: Timeline { interval_s: 0.5, rows: (0..rows).map(row).collect() } }
}

/// Starts a service with a result of so many rows. Returns the path of its timeline as well.
async fn with_rows(rows: u32) -> (Service, String) {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let now = SystemClock.now();
    let claim = service.store.claim("test", now, Duration::from_secs(600)).await.unwrap().unwrap();
    service.store.complete(&claim, &findings(rows), &[], now, None).await.unwrap();
    (service, format!("/results/{token}/timeline"))
}

async fn json(service: &Service, path: &str) -> Value {
    let response = service.get(path).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

async fn csv(service: &Service, path: &str) -> (Response, Vec<String>) {
    let request = service.http.get(format!("{}{path}", service.base)).header(header::ACCEPT, "text/csv");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    let head = service.http.get(format!("{}{path}", service.base)).header(header::ACCEPT, "text/csv").send();
    let text = response.text().await.unwrap();
    (head.await.unwrap(), text.split_terminator("\r\n").map(str::to_owned).collect())
}

#[tokio::test]
async fn a_timeline_comes_page_by_page_and_every_row_once() {
    let (service, path) = with_rows(2300).await;
    let (mut rows, mut next, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = json(&service, &format!("{path}?limit=700{next}")).await;
        assert_eq!(page["interval_s"], 0.5);
        rows.extend(page["rows"].as_array().unwrap().clone());
        pages += 1;
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!((rows.len(), pages), (2300, 4));
    for (n, row) in (0_u32..).zip(&rows) {
        assert_eq!(
            (row["time_s"].as_f64(), row["face"].as_u64()),
            (Some(f64::from(n / 2) * 0.5), Some(u64::from(n % 2 + 1)))
        );
    }
    insta::assert_json_snapshot!(rows[0]);
    assert_eq!(
        (&rows[1]["pose"], &rows[1]["gaze"], &rows[1]["eye_contact"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    // A page that ends with the last row has no next page.
    assert_eq!(json(&service, &format!("{path}?limit=2300")).await["next"], Value::Null);
    assert_eq!(json(&service, &path).await["rows"].as_array().unwrap().len(), 500);
}

#[tokio::test]
async fn a_csv_table_has_one_header_and_all_rows() {
    let (service, path) = with_rows(2300).await;
    let (response, lines) = csv(&service, &path).await;
    assert!(response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().contains("timeline.csv"));
    assert!(response.headers().get_all(header::VARY).iter().any(|name| name == "accept"));
    assert_eq!(lines.len(), 2301);
    assert_eq!(lines[0], TimelineRow::csv_header(false));
    let columns = lines[0].split(',').count();
    assert!(lines.iter().all(|line| line.split(',').count() == columns));
    assert_eq!(lines[2300], findings(2300).timeline.rows[2299].csv(false));
    for emotion in Emotion::ALL {
        assert!(lines[0].split(',').any(|name| name == emotion.label()), "{emotion}");
    }
    // `?format=csv` is for links, which cannot send a header.
    let same = service.get(&format!("{path}?format=csv")).await.text().await.unwrap();
    assert_eq!(same.lines().count(), 2301);
    assert_eq!(csv(&service, &format!("{path}?limit=3")).await.1.len(), 4);
}

#[tokio::test]
async fn a_video_without_a_face_has_an_empty_timeline() {
    let (service, path) = with_rows(0).await;
    assert_eq!(json(&service, &path).await, serde_json::json!({"interval_s": 0.5, "rows": [], "next": null}));
    assert_eq!(csv(&service, &path).await.1, [TimelineRow::csv_header(false)]);
}

#[tokio::test]
async fn requests_without_a_timeline_get_the_reason() {
    let service = Service::start(|_| {}).await;
    let refused = async |path: String| {
        let response = service.get(&path).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
    };
    let told = |status, code: &str| (status, code.to_owned());
    let unknown = Uuid::from_u128(7);
    assert_eq!(refused(format!("/results/{unknown}/timeline")).await, told(404, "unknown_token"));
    assert_eq!(refused("/results/nonsense/timeline".to_owned()).await, told(404, "unknown_token"));
    let token = service.accept(clip()).await;
    let path = format!("/results/{token}/timeline");
    let early = service.get(&path).await;
    assert!(early.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(refused(path.clone()).await, told(409, "not_finished"));
    for wrong in ["cursor=5", "limit=0", "limit=5001", "limit=many", "format=xml"] {
        assert_eq!(refused(format!("{path}?{wrong}")).await, told(422, "bad_parameter"), "{wrong}");
    }
    let now = SystemClock.now();
    let claim = service.store.claim("test", now, Duration::from_secs(600)).await.unwrap().unwrap();
    let failure =
        JobFailure { code: "not_a_video".to_owned(), detail: "The video cannot be read.".to_owned(), reason: None };
    service.store.give_up(&claim, &failure, &[], now, None).await.unwrap();
    assert_eq!(refused(path).await, told(422, "not_a_video"));
}
