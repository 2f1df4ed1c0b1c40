//! How sessions end: by the client, by limits, by accidents. Each becomes a result or a failure with a reason.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::MaybeTlsStream;
use uuid::Uuid;
use visage::analysis::Options;
use visage::clock::{Clock, SystemClock};
use visage::config::Settings;
use visage::store::{JobVideo, NewJob, Origin, Priority};

use super::client::{Client, picture};
use super::{ask, outbox, pictures};
use crate::support::service::Service;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a mail to this address is in the outbox.
pub async fn mailed(service: &Service, to: &str) {
    let waiting = async {
        loop {
            let mails = std::fs::read_dir(&service.settings.mail.outbox).into_iter().flatten();
            let texts = mails.filter_map(|mail| std::fs::read_to_string(mail.unwrap().path()).ok());
            if texts.into_iter().any(|text| text.contains(to)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("no mail arrived");
}

async fn session(service: &Service) -> (Client, Uuid) {
    let mut client = Client::open(service).await;
    let token = client.configure(json!({})).await["token"].as_str().unwrap().parse().unwrap();
    (client, token)
}

#[tokio::test]
async fn a_lost_line_turns_the_session_into_a_result() {
    let service = Service::start(|_| {}).await;
    let pictures = pictures("single_face.mp4", 5, 1.0);
    let (mut closed, closed_token) = session(&service).await;
    ask(&mut closed, &pictures, 5).await;
    closed.0.close(None).await.unwrap();
    let (mut cut, cut_token) = session(&service).await;
    ask(&mut cut, &pictures, 5).await;
    // In the middle of a message.
    let MaybeTlsStream::Plain(stream) = cut.0.get_mut() else { panic!("no TLS here") };
    stream.write_all(&[0x82, 0xFE, 0x10]).await.unwrap();
    drop(cut);
    for token in [closed_token, cut_token] {
        let result = service.finished(token).await;
        assert_eq!((&result["status"], &result["analysis"]["video"]["frames_total"]), (&json!("done"), &json!(5)));
    }
}

#[tokio::test]
async fn a_session_without_a_readable_picture_fails_with_the_reason() {
    let service = Service::start(|_| {}).await;
    let (mut client, token) = session(&service).await;
    client.refused(picture(0.0, b"no picture"), "not_a_picture").await;
    let finished = client.finish().await;
    assert_eq!((&finished["status"], &finished["people"]), (&json!("failed"), &json!([])), "{finished}");
    let result = service.finished(token).await;
    assert_eq!(result["error"]["code"], "live_without_pictures", "{result}");
}

#[tokio::test]
async fn idle_sessions_and_long_ones_end_with_their_results() {
    let limited = |settings: &mut Settings| {
        settings.live.idle_s = 2;
        settings.live.max_session_s = 6;
    };
    let service = Service::start(limited).await;
    let pictures = pictures("single_face.mp4", 5, 1.0);
    let (mut idle, _) = session(&service).await;
    ask(&mut idle, &pictures, 5).await;
    let (mut long, _) = session(&service).await;
    let mut n = 0_u32;
    let finished = loop {
        n += 1;
        long.send(picture(f64::from(n) / 100.0, &pictures[0])).await;
        let answer = long.next().await;
        if answer["type"] == "finished" {
            break answer;
        }
    };
    assert_eq!((&finished["reason"], &finished["status"]), (&json!("too_long"), &json!("done")), "{finished}");
    let finished = idle.next().await;
    assert_eq!((&finished["reason"], &finished["status"]), (&json!("idle"), &json!("done")), "{finished}");
    assert_eq!(idle.closed().await, Some(1000));
    // A client that never configures its session is disconnected.
    let mut silent = Client::open(&service).await;
    assert_eq!(silent.closed().await, Some(1008));
}

#[tokio::test]
async fn an_erased_session_ends_and_leaves_nothing() {
    let service = Service::start(|_| {}).await;
    let (mut client, token) = session(&service).await;
    ask(&mut client, &pictures("single_face.mp4", 5, 1.0), 5).await;
    let erased = service.http.delete(format!("{}/results/{token}", service.base)).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    let finished = client.next().await;
    assert_eq!((&finished["reason"], &finished["status"]), (&json!("erased"), &Value::Null), "{finished}");
    assert_eq!(service.get(&format!("/results/{token}")).await.status(), 404);
}

#[tokio::test]
async fn a_shutdown_stores_the_result_before_the_process_ends() {
    let service = Service::start(outbox).await;
    let (mut client, token) = session(&service).await;
    ask(&mut client, &pictures("single_face.mp4", 5, 1.0), 5).await;
    let store = service.store.clone();
    service.stop.cancel();
    let finished = client.next().await;
    assert_eq!((&finished["reason"], &finished["status"]), (&json!("shutdown"), &json!("done")), "{finished}");
    assert_eq!(client.closed().await, Some(1001));
    service.ended().await;
    assert_eq!(store.job(token).await.unwrap().unwrap().status.name(), "done");
}

/// As after a process was killed: the row of a session that nobody keeps any more.
#[tokio::test]
async fn a_session_whose_process_was_killed_fails_and_its_sender_is_told() {
    let service = Service::start(|settings| {
        outbox(settings);
        settings.queue.lease_s = 2;
    })
    .await;
    let token = Uuid::from_u128(7);
    let job = NewJob {
        token,
        video: JobVideo::Live,
        options: Options::new(1, 10),
        recipients: vec!["ann@example.org".to_owned()],
        webhook: None,
        notice: None,
        priority: Priority::Normal,
        origin: Origin::default(),
    };
    let claim = service.store.begin_live(None, &job, "x", SystemClock.now(), Duration::from_secs(1)).await.unwrap();
    service.work().await;
    let result = service.finished(token).await;
    assert_eq!(
        (&result["status"], &result["error"]["code"]),
        (&json!("failed"), &json!("live_session_lost")),
        "{result}"
    );
    mailed(&service, "ann@example.org").await;
    // If the process was only frozen, it notices that the session is no longer its own.
    let kept = service.store.keep_live(&claim, 1, SystemClock.now(), Duration::from_secs(9)).await.unwrap();
    assert_eq!(kept, visage::store::ClaimState::Lost);
}
