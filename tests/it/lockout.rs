//! One client cannot lock out the others: places for uploads, open uploads in parts, and the storage.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use visage::config::{ByteSize, Settings};
use visage::store::Scope;

use crate::keys::{clip, key};
use crate::support::service::{Service, video_form};

/// Time limit for any single step of a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a service that believes the tests, as its reverse proxy, which client sent a request.
async fn behind_proxy(change: impl FnOnce(&mut Settings)) -> Service {
    Service::start(|settings| {
        settings.http.trusted_proxies = vec!["127.0.0.1".to_owned()];
        change(settings);
    })
    .await
}

async fn begin(service: &Service, address: &str, size_bytes: u64) -> Response {
    let request = service.http.post(format!("{}/v1/uploads", service.base)).header("x-forwarded-for", address);
    request.json(&json!({"size_bytes": size_bytes})).send().await.unwrap()
}

async fn send(service: &Service, address: &str, video: Vec<u8>) -> Response {
    let request = service.http.post(format!("{}/analyze-video", service.base)).header("x-forwarded-for", address);
    request.multipart(video_form(video)).send().await.unwrap()
}

async fn refused(response: Response, status: u16, code: &str) -> Value {
    let given = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!((given.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
    body
}

fn retry_after(response: &Response) -> u64 {
    response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_hundred_open_uploads_of_one_address_lock_out_no_other() {
    let service = behind_proxy(|_| {}).await;
    for _ in 0..100 {
        assert_eq!(begin(&service, "192.0.2.1", 1000).await.status(), StatusCode::CREATED);
    }
    let full = begin(&service, "192.0.2.1", 1000).await;
    let day = 24 * 3600;
    assert!((day - 120..=day).contains(&retry_after(&full)), "the first upload expires after a day");
    refused(full, 429, "too_many_uploads").await;
    assert_eq!(begin(&service, "192.0.2.2", 1000).await.status(), StatusCode::CREATED);
    let key = key(&service, &[Scope::Analyze]).await;
    let with_key = service.http.post(format!("{}/v1/uploads", service.base)).bearer_auth(key);
    let with_key = with_key.header("x-forwarded-for", "192.0.2.1").json(&json!({"size_bytes": 1000}));
    assert_eq!(with_key.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn the_addresses_of_a_64_network_share_their_open_uploads() {
    let service = behind_proxy(|settings| settings.http.max_open_uploads_client = 2).await;
    for address in ["2001:db8::1", "2001:db8::ffff"] {
        assert_eq!(begin(&service, address, 1000).await.status(), StatusCode::CREATED);
    }
    refused(begin(&service, "2001:db8::2", 1000).await, 429, "too_many_uploads").await;
    assert_eq!(begin(&service, "2001:db8:0:1::1", 1000).await.status(), StatusCode::CREATED);
}

/// Begins an upload from this address, and sends a byte every 200 ms until the service answers. Returns the answer.
async fn drip(to: String, address: &'static str) -> String {
    let mut socket = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "POST /analyze-video HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000000\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"video\"\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut from, mut to) = socket.split();
    let mut answer = vec![0; 4096];
    loop {
        tokio::select! {
            read = from.read(&mut answer) => {
                let read = read.unwrap_or(0);
                return String::from_utf8_lossy(&answer[..read]).into_owned();
            }
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                if to.write_all(b"\0").await.is_err() {
                    return String::new();
                }
            }
        }
    }
}

#[tokio::test]
async fn slow_uploads_of_one_address_leave_places_for_others_and_are_ended() {
    let service = behind_proxy(|settings| {
        settings.http.max_concurrent_uploads = 8;
        settings.http.max_concurrent_uploads_client = 4;
        settings.http.idle_timeout_s = 3;
    })
    .await;
    let (tell, mut answers) = tokio::sync::mpsc::channel(64);
    for _ in 0..64 {
        let (tell, address) = (tell.clone(), service.address().to_owned());
        tokio::spawn(async move { tell.send(drip(address, "192.0.2.1").await).await.unwrap() });
    }
    let video = clip();
    let mut next = async || timeout(PATIENCE, answers.recv()).await.unwrap().unwrap();
    for _ in 0..60 {
        let answer = next().await;
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("too_many_uploads"), "{answer}");
    }
    let full = send(&service, "192.0.2.1", video.clone()).await;
    let wait_s = retry_after(&full);
    assert!((1..=6).contains(&wait_s), "slow uploads end within two idle times, not after {wait_s} s");
    assert_eq!(refused(full, 429, "too_many_uploads").await["limit"], 4);
    assert_eq!(send(&service, "192.0.2.2", video.clone()).await.status(), StatusCode::ACCEPTED);
    let begun = Instant::now();
    for _ in 0..4 {
        let answer = next().await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("upload_too_slow"), "{answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "after {:?}", begun.elapsed());
    assert_eq!(send(&service, "192.0.2.1", video).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn stored_videos_have_a_quota_for_each_client_and_one_for_all() {
    let video = clip();
    let size = video.len() as u64;
    let service = behind_proxy(|settings| {
        settings.storage.quota_client = ByteSize(size * 3 / 2);
        settings.storage.quota = ByteSize(size * 5 / 2);
    })
    .await;
    assert_eq!(send(&service, "192.0.2.1", video.clone()).await.status(), StatusCode::ACCEPTED);
    let again = refused(send(&service, "192.0.2.1", video.clone()).await, 429, "storage_quota_used_up").await;
    assert_eq!(again["limit_bytes"], size * 3 / 2);
    refused(begin(&service, "192.0.2.1", size).await, 429, "storage_quota_used_up").await;
    let accepted: Value = send(&service, "192.0.2.2", video.clone()).await.json().await.unwrap();
    refused(send(&service, "192.0.2.3", video.clone()).await, 507, "storage_full").await;
    refused(begin(&service, "192.0.2.3", size).await, 507, "storage_full").await;
    let path = format!("{}/results/{}", service.base, accepted["token"].as_str().unwrap());
    assert_eq!(service.http.delete(path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(send(&service, "192.0.2.3", video).await.status(), StatusCode::ACCEPTED, "there is room again");
    assert_eq!(service.stored().len(), 2, "nothing of a refused video stays");
}

#[tokio::test]
async fn saved_pictures_count_against_the_quotas_of_stored_videos() {
    let picture = [b"\x89PNG\r\n\x1a\n".as_slice(), &vec![0; 100_000]].concat();
    let service = behind_proxy(|settings| {
        settings.storage.quota_client = ByteSize(250_000);
        settings.storage.quota = ByteSize(350_000);
    })
    .await;
    let save = async |address: &str| {
        let part = reqwest::multipart::Part::bytes(picture.clone()).file_name("face.png");
        let request = service.http.post(format!("{}/save_frame", service.base)).header("x-forwarded-for", address);
        request.multipart(reqwest::multipart::Form::new().part("frame", part)).send().await.unwrap()
    };
    let first: Value = save("192.0.2.1").await.json().await.unwrap();
    assert_eq!(first["size_bytes"], picture.len());
    assert_eq!(save("192.0.2.1").await.status(), StatusCode::CREATED);
    refused(save("192.0.2.1").await, 429, "storage_quota_used_up").await;
    refused(begin(&service, "192.0.2.1", 100_000).await, 429, "storage_quota_used_up").await;
    assert_eq!(save("192.0.2.2").await.status(), StatusCode::CREATED);
    refused(save("192.0.2.2").await, 507, "storage_full").await;
    assert_eq!(service.stored().len(), 3, "nothing of a refused picture stays");
    let erased = service.http.delete(format!("{}/frames/{}", service.base, first["frame"].as_str().unwrap()));
    assert_eq!(erased.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(save("192.0.2.1").await.status(), StatusCode::CREATED, "there is room again");
}

#[tokio::test]
async fn an_upload_without_a_length_is_ended_when_it_exceeds_the_quota() {
    let service = behind_proxy(|settings| settings.storage.quota = ByteSize(2_000_000)).await;
    let boundary = "--b\r\nContent-Disposition: form-data; name=\"video\"\r\n\r\n";
    let start = [boundary.as_bytes(), &clip()[..2000]].concat();
    let chunks = futures_util::stream::unfold(0_u32, move |sent| {
        let chunk = if sent == 0 { start.clone() } else { vec![0; 100_000] };
        async move {
            tokio::time::sleep(Duration::from_millis(if sent == 0 { 0 } else { 50 })).await;
            (sent < 1000).then_some((Ok::<_, std::io::Error>(chunk), sent + 1))
        }
    });
    let request = service.http.post(format!("{}/analyze-video", service.base));
    let request = request.header("content-type", "multipart/form-data; boundary=b");
    let response = timeout(PATIENCE, request.body(reqwest::Body::wrap_stream(chunks)).send()).await.unwrap();
    refused(response.unwrap(), 507, "storage_full").await;
    service.is_clean().await;
}
