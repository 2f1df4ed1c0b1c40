//! `GET /v1/compare`.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;
use visage::clock::{Clock, SystemClock};
use visage::config::Settings;
use visage::store::{JobFailure, Scope};

use crate::keys::key;
use crate::support::clips::{Models, models, shared};
use crate::support::service::{Service, video_form};

struct Results {
    service: Service,
    _models: Models,
}

impl Results {
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let models = models();
        let service = Service::start(|settings| {
            settings.models.folder = models.path().to_owned();
            change(settings);
        })
        .await;
        Self { service, _models: models }
    }

    async fn of(&self, clip: &str) -> Uuid {
        let token = self.service.accept(std::fs::read(shared(clip)).unwrap()).await;
        assert_eq!(self.service.finished(token).await["status"], "done", "{clip}");
        token
    }

    async fn compare(&self, query: &str) -> (StatusCode, Value) {
        let answer = self.service.get(&format!("/v1/compare?{query}")).await;
        (answer.status(), answer.json().await.unwrap())
    }
}

#[tokio::test]
async fn results_and_groups_of_results_are_compared() {
    let results = Results::start(|_| {}).await;
    results.service.work().await;
    let (glad, changing) = (results.of("single_face.mp4").await, results.of("sad_then_happy.mp4").await);
    let nobody = results.of("no_face.mp4").await;

    // A result does not differ from itself, and is surely happier than one that is sad for a half.
    let (status, told) = results.compare(&format!("tokens={glad},{glad}:1,{changing}")).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let [same, other] = told["differences"].as_array().unwrap().as_slice() else { panic!("{told}") };
    for (figure, difference) in same["figures"].as_object().unwrap() {
        assert!(difference["value"] == 0.0, "{figure}: {difference}");
        assert!(difference["beyond_chance"] == false, "{figure}: {difference}");
    }
    assert!(same["figures"].as_object().unwrap().len() >= 12, "{same}");
    assert_eq!((&other["from"], &other["to"]), (&json!(glad), &json!(changing)));
    let stored: Value = results.service.get(&format!("/results/{changing}")).await.json().await.unwrap();
    let face = &stored["analysis"]["faces"][0];
    let subject = &told["subjects"][2];
    assert_eq!(subject["takes"], json!([{"result": changing, "person": 1, "people": 1}]));
    let figure = |of: &Value, name: &str| of["figures"][name]["value"].as_f64().unwrap();
    assert!((figure(subject, "happy") - face["emotions"]["happy"].as_f64().unwrap()).abs() < 0.1, "{told}");
    let wanted = figure(subject, "happy") - figure(&told["subjects"][0], "happy");
    assert!((figure(other, "happy") - wanted).abs() < 0.01, "{told}");
    assert_eq!(subject["figures"]["happy"]["takes"], 1);

    // The mean of two results of a group.
    let groups = format!("group=before the talk:{glad}&group=after:{changing},{glad}&person=1");
    let (status, told) = results.compare(&groups).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let names: Vec<_> = told["subjects"].as_array().unwrap().iter().map(|subject| subject["name"].clone()).collect();
    assert_eq!(names, [json!("before the talk"), json!("after")]);
    let (before, after) = (&told["subjects"][0], &told["subjects"][1]);
    assert_eq!((&after["figures"]["valence"]["takes"], after["takes"].as_array().unwrap().len()), (&json!(2), 2));
    let mean = f64::midpoint(figure(before, "happy"), figure(subject, "happy"));
    assert!((figure(after, "happy") - mean).abs() < 0.01, "{told}");

    let unknown = Uuid::from_u128(7);
    for (query, status, code, names) in [
        (format!("tokens={glad},{nobody}"), 422, "not_comparable", json!(nobody)),
        (format!("tokens={glad},{changing}:2"), 422, "not_comparable", json!(changing)),
        (format!("tokens={unknown},{glad}"), 404, "unknown_token", json!(unknown)),
        (format!("tokens={glad}"), 422, "bad_parameter", Value::Null),
        (String::new(), 422, "bad_parameter", Value::Null),
    ] {
        let (found, problem) = results.compare(&query).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{query}: {problem}");
        assert_eq!(problem["token"], names, "{query}");
    }
    let (_, problem) = results.compare(&format!("tokens={glad},{changing}:2&language=de")).await;
    assert!(problem["detail"].as_str().unwrap().contains("keine Person 2"), "{problem}");
}

#[tokio::test]
async fn results_of_other_keys_and_unfinished_ones_are_not_compared() {
    let results = Results::start(|settings| settings.auth.required = true).await;
    let service = &results.service;
    let (own, other) = (key(service, &[Scope::Analyze, Scope::Read]).await, key(service, &[Scope::Read]).await);
    let clip = std::fs::read(shared("single_face.mp4")).unwrap();
    let sent =
        service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&own).multipart(video_form(clip));
    let sent: Value = sent.send().await.unwrap().json().await.unwrap();
    let token = sent["token"].as_str().unwrap();
    let compare = async |key: &str| {
        let address = format!("{}/v1/compare?tokens={token},{token}", service.base);
        let answer = service.http.get(address).bearer_auth(key).send().await.unwrap();
        let (status, retry) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        (status, retry, answer.json::<Value>().await.unwrap())
    };
    let (status, retry, problem) = compare(&own).await;
    assert_eq!((status, retry, &problem["code"]), (409, true, &json!("not_finished")), "{problem}");
    let (status, _, problem) = compare(&other).await;
    assert_eq!((status, &problem["token"]), (404, &json!(token)), "{problem}");
    let now = SystemClock.now();
    let claim = service.store.claim("test", now, Duration::from_secs(600)).await.unwrap().unwrap();
    let failure =
        JobFailure { code: "not_a_video".to_owned(), detail: "The video cannot be read.".to_owned(), reason: None };
    service.store.give_up(&claim, &failure, &[], now, None).await.unwrap();
    let (status, _, problem) = compare(&own).await;
    assert_eq!((status, &problem["code"]), (422, &json!("not_a_video")), "{problem}");
    let without = service.http.get(format!("{}/v1/compare?tokens={token},{token}", service.base)).send().await.unwrap();
    assert_eq!(without.status(), StatusCode::UNAUTHORIZED);
}
