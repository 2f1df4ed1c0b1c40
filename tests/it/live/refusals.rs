//! Requests and messages that are refused. A refused message leaves the session open.

use axum::http::header;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use visage::config::ByteSize;
use visage::store::Scope;

use super::client::{Client, capture, picture, sound};
use super::pictures;
use crate::keys::key;
use crate::support::service::Service;

#[tokio::test]
async fn a_refused_message_leaves_the_session_open() {
    let service = Service::start(|settings| {
        settings.live.max_message = ByteSize(200_000);
        settings.live.max_pixels = 500_000;
    })
    .await;
    let mut client = Client::open(&service).await;
    let good = pictures("single_face.mp4", 5, 1.0);
    client.refused(picture(0.0, &good[0]), "live_not_configured").await;
    client.refused(json!({"type": "finish"}).to_string().into(), "live_not_configured").await;
    client.refused("nonsense".into(), "bad_json").await;
    client.refused(json!({"type": "configure", "faces": 1}).to_string().into(), "bad_body").await;
    client.refused(json!({"type": "configure", "max_faces": 0}).to_string().into(), "bad_option").await;
    client.refused(json!({"type": "configure", "email": "nobody"}).to_string().into(), "bad_email").await;
    client.configure(json!({"language": "fr"})).await;
    let wrong = client.refused(json!({"type": "configure"}).to_string().into(), "live_configured_before").await;
    assert!(wrong["problem"]["detail"].as_str().unwrap().contains("Une session"), "{wrong}");
    assert!(wrong["picture"].is_null(), "{wrong}");
    client.refused(sound(0.0, &[0; 320]), "live_without_sound").await;
    let mut number = 0;
    let mut refused = async |client: &mut Client, message: Message, code: &str| {
        number += 1;
        let answer = client.refused(message, code).await;
        assert_eq!(answer["picture"], number, "{answer}");
    };
    // The time of the first message was 0.
    client.refused(Message::binary(Vec::new()), "bad_live_message").await;
    client.refused(capture(9, 0.0, b"x"), "bad_live_message").await;
    refused(&mut client, Message::binary(vec![1, 2]), "bad_live_message").await;
    refused(&mut client, picture(f64::NAN, &good[0]), "bad_live_message").await;
    refused(&mut client, picture(-1.0, &good[0]), "live_time_out_of_range").await;
    refused(&mut client, picture(1e9, &good[0]), "live_time_out_of_range").await;
    refused(&mut client, picture(1.0, b""), "empty_picture").await;
    refused(&mut client, picture(1.0, &good[0]), "live_out_of_order").await;
    refused(&mut client, picture(1.1, &good[0][..good[0].len() / 3]), "picture_damaged").await;
    refused(&mut client, picture(1.2, b"GIF89a\x01\0\x01\0"), "picture_format_not_supported").await;
    refused(&mut client, picture(1.3, &vec![0; 250_000]), "live_message_too_large").await;
    let large = pictures_of_size("1000:600");
    refused(&mut client, picture(1.4, &large), "picture_too_large").await;
    client.send(picture(1.5, &good[0])).await;
    let answer = client.next().await;
    assert_eq!((&answer["type"], &answer["picture"]), (&json!("faces"), &json!(number + 1)), "{answer}");
    // More than twice the limit ends the session, and its result is stored.
    client.send(picture(1.6, &vec![0; 500_000])).await;
    let finished = client.next().await;
    assert_eq!((&finished["reason"], &finished["status"]), (&json!("line_lost"), &json!("done")), "{finished}");
}

fn pictures_of_size(size: &str) -> Vec<u8> {
    let clips = crate::support::clips::Clips::new();
    let made =
        clips.make("large.png", &format!("-f lavfi -i color=gray:s=64x64 -frames:v 1 -vf scale={size} -update 1"));
    std::fs::read(made).unwrap()
}

#[tokio::test]
async fn sound_that_overlaps_or_is_no_sound_is_refused() {
    let service = Service::start(|_| {}).await;
    let mut client = Client::open(&service).await;
    client.configure(json!({"speech": true})).await;
    client.send(sound(5.0, &[0; 32_000])).await;
    client.refused(sound(5.2, &[0; 3200]), "live_sound_overlap").await;
    client.refused(sound(6.0, &[0; 3]), "bad_live_message").await;
    client.refused(sound(6.0, &[0; 400_000]), "bad_live_message").await;
    client.send(picture(6.0, &pictures("single_face.mp4", 5, 0.4)[0])).await;
    let answer = client.next().await;
    assert_eq!((&answer["type"], &answer["time_s"]), (&json!("faces"), &json!(1.0)), "{answer}");
    assert_eq!(client.finish().await["status"], "done");
}

#[tokio::test]
async fn requests_are_refused_before_the_connection_is_upgraded() {
    let service = Service::start(|settings| {
        settings.live.max_sessions = 3;
        settings.live.max_sessions_client = 2;
    })
    .await;
    let plain = service.get("/v1/live").await;
    assert_eq!(plain.status(), 426);
    assert_eq!(plain.json::<serde_json::Value>().await.unwrap()["code"], "not_a_websocket");
    let foreign = Client::open_with(&service, &[(header::ORIGIN, "https://evil.example")]).await.err().unwrap();
    assert_eq!((foreign.0, &foreign.1["code"]), (403, &json!("foreign_origin")));
    let own = format!("http://{}", service.address());
    let first = Client::open_with(&service, &[(header::ORIGIN, &own)]).await.unwrap();
    let second = Client::open(&service).await;
    let third = Client::open_with(&service, &[]).await.err().unwrap();
    assert_eq!((third.0, &third.1["code"]), (429, &json!("too_many_sessions")), "{third:?}");
    // A key is another client, but the process has one place left only.
    let bearer = async || format!("Bearer {}", key(&service, &[Scope::Analyze]).await);
    let (ann, bob) = (bearer().await, bearer().await);
    let of_ann = Client::open_with(&service, &[(header::AUTHORIZATION, &ann)]).await.unwrap();
    let of_bob = Client::open_with(&service, &[(header::AUTHORIZATION, &bob)]).await.err().unwrap();
    assert_eq!(of_bob.0, 429);
    drop((first, second, of_ann));
    for _ in 0..100 {
        if Client::open_with(&service, &[(header::AUTHORIZATION, &bob)]).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the places of closed sessions are not free again");
}

#[tokio::test]
async fn a_browser_opens_a_session_with_a_ticket_instead_of_a_key() {
    let service = Service::start(|settings| {
        settings.auth.required = true;
        settings.live.ticket_s = 2;
    })
    .await;
    let without = Client::open_with(&service, &[]).await.err().unwrap();
    assert_eq!(without.0, 401);
    let tickets = format!("{}/v1/live/tickets", service.base);
    let ask = async |key: &str| service.http.post(&tickets).bearer_auth(key).send().await.unwrap();
    let reader = key(&service, &[Scope::Read]).await;
    assert_eq!(ask(&reader).await.status(), 403);
    assert_eq!(service.http.post(&tickets).send().await.unwrap().status(), 401);
    let own = key(&service, &[Scope::Analyze, Scope::Read]).await;
    let answer = ask(&own).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (201, &"no-store".parse().unwrap()));
    let answer: serde_json::Value = answer.json().await.unwrap();
    let ticket = answer["ticket"].as_str().unwrap().to_owned();
    let open = async |ticket: &str| {
        let offers = format!("visage.live, ticket.{ticket}");
        Client::open_with(&service, &[(header::SEC_WEBSOCKET_PROTOCOL, &offers)]).await
    };
    let mut client = open(&ticket).await.unwrap();
    let token = client.configure(json!({})).await["token"].as_str().unwrap().to_owned();
    client.send(picture(0.0, &pictures("single_face.mp4", 5, 0.4)[0])).await;
    assert_eq!(client.next().await["type"], "faces");
    client.finish().await;
    // The result belongs to the key of the ticket.
    let result = service.http.get(format!("{}/results/{token}", service.base)).bearer_auth(&own).send().await.unwrap();
    assert_eq!(result.json::<serde_json::Value>().await.unwrap()["status"], "done");
    let other = ask(&key(&service, &[Scope::Read]).await).await;
    assert_eq!(other.status(), 403);
    let wrong = open(&ticket.replacen('.', ".9", 1)).await.err().unwrap();
    assert_eq!((wrong.0, &wrong.1["code"]), (401, &json!("bad_ticket")));
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let late = open(&ticket).await.err().unwrap();
    assert_eq!((late.0, &late.1["code"]), (401, &json!("bad_ticket")));
}
