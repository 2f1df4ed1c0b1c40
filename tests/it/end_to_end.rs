//! Uploads a clip over HTTP and checks that result and mail are those of the pipeline, with different backends.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::multipart::Form;
use serde_json::Value;
use visage::analysis::{Language, Options};
use visage::config::{MailTransport, S3Read, Secret, Settings, SmtpSecurity, StorageKind};
use visage::media::Source;
use visage::pipeline::{Cancel, Pipeline};

use crate::support::clips::{self, Models};
use crate::support::decoders;
use crate::support::postgres::TestDatabase;
use crate::support::s3::S3Server;
use crate::support::service::{Service, video_form};
use crate::support::smtp::SmtpServer;

const CLIP: &str = "single_face.mp4";
const OPTIONS: Options = Options::new(6, 2);

fn with_models(settings: &mut Settings, models: &Models) {
    let with_models = models.settings();
    settings.models = with_models.models;
    settings.engine = with_models.engine;
}

/// Returns the result of the pipeline without a service.
async fn expected(clip: &Path, models: &Models) -> Value {
    let (settings, source) = (models.settings(), Source::File(clip.to_owned()));
    let findings = tokio::task::spawn_blocking(move || {
        let pipeline = Pipeline::load(&settings, &decoders(&settings)).unwrap();
        let mut findings = pipeline.analyze(&source, OPTIONS, &|_| {}, &Cancel::default()).unwrap();
        visage::report::tell(&mut findings.analysis, Language::EN);
        findings
    });
    serde_json::to_value(findings.await.unwrap().analysis).unwrap()
}

/// Checks that two results are equal up to rounding. The batches differ from run to run, and a network adds the
/// numbers of a batch in another order than those of a single face.
fn assert_same(path: &str, given: &Value, expected: &Value) {
    match (given, expected) {
        (Value::Object(given), Value::Object(expected)) => {
            assert_eq!(given.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{path}");
            for (name, expected) in expected {
                assert_same(&format!("{path}.{name}"), &given[name], expected);
            }
        }
        (Value::Array(given), Value::Array(expected)) => {
            assert_eq!(given.len(), expected.len(), "{path}");
            for (n, (given, expected)) in given.iter().zip(expected).enumerate() {
                assert_same(&format!("{path}[{n}]"), given, expected);
            }
        }
        (Value::Number(given), Value::Number(expected)) => {
            let (given, expected) = (given.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((given - expected).abs() <= 1e-3, "{path}: {given} instead of {expected}");
        }
        _ => assert_eq!(given, expected, "{path}"),
    }
}

/// Uploads the clip with two addresses and options, and waits for its result.
async fn analyze(service: &Service, clip: &Path) -> Value {
    let working = service.work().await;
    let form: Form = video_form(std::fs::read(clip).unwrap())
        .text("email", "ann@example.org")
        .text("email", "bob@example.org")
        .text("sample_every", OPTIONS.sample_every.to_string())
        .text("max_faces", OPTIONS.max_faces.to_string());
    let accepted = service.upload(form).await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    let accepted: Value = accepted.json().await.unwrap();
    let result = service.finished(accepted["token"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(result["status"], "done", "{result}");
    let report = service.http.get(accepted["links"]["report"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(report.status(), StatusCode::OK);
    assert!(report.text().await.unwrap().contains("<svg"));
    // The video is deleted and the mails are sent shortly afterwards.
    for _ in 0..600 {
        if service.store.video_count().await.unwrap() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(service.store.video_count().await.unwrap(), 0, "the video was not deleted");
    drop(working);
    result["analysis"].clone()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_folder_and_an_outbox_give_the_result_of_the_pipeline() {
    let clip = clips::shared(CLIP);
    let models = clips::models();
    let expected = expected(&clip, &models).await;
    let service = Service::start(|settings| {
        with_models(settings, &models);
    })
    .await;
    let analysis = analyze(&service, &clip).await;
    assert_same("analysis", &analysis, &expected);
    assert_eq!(analysis["summary"]["dominant_emotion"], "happy");
    assert!(service.stored().is_empty());
    let outbox = service.settings.mail.outbox.clone();
    let mails = || {
        let entries = std::fs::read_dir(&outbox).map_or_else(|_| vec![], |entries| entries.flatten().collect());
        entries.iter().filter(|entry| entry.path().extension().is_some_and(|end| end == "eml")).count()
    };
    until("two mails lie in the outbox", || mails() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_bucket_and_a_mail_server_give_the_result_of_the_pipeline() {
    let clip = clips::shared(CLIP);
    let models = clips::models();
    let expected = expected(&clip, &models).await;
    let smtp = SmtpServer::start();
    for read in [S3Read::Stream, S3Read::Download] {
        let (database, bucket) = (TestDatabase::create().await, S3Server::start().await);
        let before = smtp.messages().len();
        let service = Service::start(|settings| {
            with_models(settings, &models);
            settings.database.url = Secret::new(database.url());
            settings.storage.kind = StorageKind::S3;
            settings.storage.s3 = bucket.settings();
            settings.storage.s3.read = read;
            settings.mail.transport = MailTransport::Smtp;
            settings.mail.smtp.host = "127.0.0.1".to_owned();
            settings.mail.smtp.port = smtp.port();
            settings.mail.smtp.security = SmtpSecurity::None;
        })
        .await;
        let analysis = analyze(&service, &clip).await;
        assert_same("analysis", &analysis, &expected);
        assert_eq!(bucket.objects(), Vec::<String>::new());
        assert_eq!(bucket.open_uploads(), 0);
        until("two mails came", || smtp.messages().len() == before + 2).await;
        let mut to: Vec<_> = smtp.messages()[before..].iter().flat_map(|mail| mail.to.clone()).collect();
        to.sort();
        assert_eq!(to.len(), 2);
        assert!(to[0].contains("ann@example.org") && to[1].contains("bob@example.org"), "{to:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_a_video_leaves_nothing_in_a_bucket() {
    let bucket = S3Server::start().await;
    let service = Service::start(|settings| {
        settings.storage.kind = StorageKind::S3;
        settings.storage.s3 = bucket.settings();
    })
    .await;
    // Ten megabytes with a valid beginning are sent in parts before the error is found.
    let false_film = [b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2".as_slice(), &vec![0; 10 << 20]].concat();
    let response = service.upload(video_form(false_film.clone())).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let response = service.upload(video_form(false_film).text("sample_every", "0")).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    until("the bucket is empty", || bucket.objects().is_empty() && bucket.open_uploads() == 0).await;
    assert_eq!(service.store.video_count().await.unwrap(), 0);
}
