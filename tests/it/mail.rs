//! Sends mails to a real SMTP server that accepts, refuses or does not answer, and to the outbox folder.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use mail_parser::MessageParser;
use uuid::Uuid;

use visage::analysis::{
    Analysis, BBox, Emotion, FaceSummary, Findings, METRICS_VERSION, ModelUsed, Probabilities, Summary, Timeline,
    TimelineRow, VideoFacts,
};
use visage::config::{MailTransport, Secret, Settings, SmtpSecurity};
use visage::fault::{Fault, Part};
use visage::report::{Context, MailError, Mailer, Message, Reporter};

use crate::support::smtp::{Certificate, SmtpBehaviour, SmtpServer};

/// No server was reached, or it refused the session.
const AWAY: Fault = Fault::Ours(Part::Mail);

/// Findings with one happy face in twelve samples.
fn findings() -> Findings {
    let happy = Probabilities([0.02, 0.01, 0.03, 0.7, 0.04, 0.05, 0.15]);
    let emotions: BTreeMap<Emotion, f64> =
        Emotion::ALL.into_iter().map(|emotion| (emotion, f64::from(happy.of(emotion)) * 100.0)).collect();
    let rows = (0..12).map(|n| TimelineRow {
        time_s: f64::from(n) * 0.5,
        face: 1,
        bbox: BBox { x: 10.0, y: 10.0, width: 90.0, height: 120.0 },
        emotions: happy,
        pose: None,
        eye_contact: Some(true),
        quality: 1.0,
        gaze: None,
        eyes_shut: None,
        covered: None,
        expressions: None,
        relative: None,
    });
    Findings {
        timeline: Timeline { interval_s: 0.5, rows: rows.collect() },
        analysis: Analysis {
            video: VideoFacts {
                duration_s: 6.0,
                fps: 30.0,
                width: 640,
                height: 360,
                codec: "h264".to_owned(),
                frames_total: 180,
                frames_analyzed: 12,
                has_audio: false,
                start_s: 0.0,
                turned: 0,
                stream_orientation: None,
            },
            summary: Summary {
                dominant_emotion: Some(Emotion::Happy),
                emotions: Some(emotions.clone()),
                calmness: Some(61.0),
                eye_contact: Some(100.0),
                eye_contact_coverage: Some(1.0),
                eyes_covered: Some(0.0),
                mouth_covered: Some(0.0),
                emotions_coverage: Some(1.0),
                blinks_per_minute: None,
                model_confidence: Some(0.7),
                valence: Some(0.5),
                arousal: Some(0.4),
                ..Summary::default()
            },
            speech: None,
            faces: vec![FaceSummary {
                id: 1,
                first_s: 0.0,
                last_s: 5.5,
                frames: 12,
                dominant_emotion: Emotion::Happy,
                story: None,
                emotions,
                emotion_counts: BTreeMap::from([(Emotion::Happy, 12)]),
                average_confidence: BTreeMap::from([(Emotion::Happy, 0.7)]),
                embeddings_shape: [12, 7],
                example_embedding: happy.0,
                eye_contact: Some(100.0),
                eye_contact_coverage: Some(1.0),
                eyes_covered: Some(0.0),
                mouth_covered: Some(0.0),
                emotions_coverage: Some(1.0),
                blinks_per_minute: None,
                calmness: 61.0,
                valence: 0.5,
                arousal: 0.4,
                model_confidence: Some(0.7),
                presence: None,
                parts: None,
                intervals: None,
                segments: Vec::new(),
                relative: None,
            }],
            models: vec![ModelUsed { name: "emotion".to_owned(), sha256: "0".repeat(64) }],
            metrics_version: METRICS_VERSION,
            warnings: Vec::new(),
            warning_codes: vec![],
        },
    }
}

fn context() -> Context {
    Context {
        token: Uuid::from_u128(0x1234),
        created_at: "2026-11-21T10:45:00Z".parse().unwrap(),
        language: visage::analysis::Language::EN,
        file_name: Some("clip.mp4".to_owned()),
        result_url: Some("http://127.0.0.1:8000/results/x".to_owned()),
        withdraw_url: None,
        notice: None,
    }
}

fn settings(port: u16) -> Settings {
    let mut settings = Settings::defaults().unwrap();
    settings.mail.transport = MailTransport::Smtp;
    settings.mail.from = "visage <robot@visage.example>".to_owned();
    settings.mail.smtp.host = "localhost".to_owned();
    settings.mail.smtp.port = port;
    settings.mail.smtp.security = SmtpSecurity::None;
    settings.mail.smtp.timeout_s = 5;
    settings
}

fn mailer(settings: &Settings) -> Mailer {
    Mailer::new(settings, Reporter::new(settings).unwrap()).unwrap().unwrap()
}

const TO: &str = "anna.berg@example.org";

async fn send(mailer: &Mailer, id: u128) -> Result<(), MailError> {
    mailer.send(Uuid::from_u128(id), TO, Message::Report(&findings()), &context()).await
}

#[tokio::test]
async fn a_report_arrives_complete() {
    let server = SmtpServer::start();
    send(&mailer(&settings(server.port())), 7).await.unwrap();
    let [received] = server.messages().try_into().unwrap();
    assert_eq!(received.message_id, "<00000000-0000-0000-0000-000000000007@visage.example>");
    assert_eq!(received.to, [TO]);

    let mail = MessageParser::default().parse(&received.raw).unwrap();
    assert_eq!(mail.subject(), Some("clip.mp4: Mostly happy"));
    assert_eq!(mail.date().unwrap().to_rfc3339(), "2026-11-21T10:45:00Z");
    assert_eq!(mail.header("Auto-Submitted").unwrap().as_text(), Some("auto-generated"));
    assert_eq!(mail.from().unwrap().first().unwrap().address(), Some("robot@visage.example"));
    let (text, html) = (mail.body_text(0).unwrap(), mail.body_html(0).unwrap());
    for body in [&text, &html] {
        assert!(body.contains("Mostly happy") || body.contains("MOSTLY HAPPY"));
        assert!(body.contains("70.0%") && body.contains("61 of 100"));
        assert!(body.contains("http://127.0.0.1:8000/results/x"));
    }

    assert!(!html.contains("cid:"), "the ribbon needs no picture");
    assert!(received.raw.len() < 60_000, "{} bytes", received.raw.len());
}

#[tokio::test]
async fn a_failure_arrives_with_its_own_subject() {
    let server = SmtpServer::start();
    let message = Message::Failure { reason: None, detail: "The file holds no picture. Send a video." };
    mailer(&settings(server.port())).send(Uuid::from_u128(8), TO, message, &context()).await.unwrap();
    let [received] = server.messages().try_into().unwrap();
    let mail = MessageParser::default().parse(&received.raw).unwrap();
    assert_eq!(mail.subject(), Some("clip.mp4: the video could not be analyzed"));
    assert!(mail.body_text(0).unwrap().contains("The file holds no picture. Send a video."));
    assert!(mail.body_html(0).unwrap().contains("The file holds no picture. Send a video."));
}

#[tokio::test]
async fn mails_share_a_connection() {
    let server = SmtpServer::start();
    let mailer = mailer(&settings(server.port()));
    for id in 0..5 {
        send(&mailer, id).await.unwrap();
    }
    assert_eq!((server.messages().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn a_repeated_attempt_sends_the_same_mail() {
    let server = SmtpServer::start();
    for _ in 0..2 {
        send(&mailer(&settings(server.port())), 9).await.unwrap();
    }
    let [first, second] = server.messages().try_into().unwrap();
    assert_eq!(first.raw, second.raw);
}

#[tokio::test]
async fn permanent_and_temporary_refusals_are_distinguished_and_never_name_the_address() {
    let server = SmtpServer::start();
    let mailer = mailer(&settings(server.port()));
    let says = |text: &str| format!("{text} <{TO}> at example.org");
    for (behaviour, permanent) in [
        (SmtpBehaviour::RefuseRecipient(550, says("no such user")), true),
        (SmtpBehaviour::RefuseRecipient(451, says("come back later")), false),
        (SmtpBehaviour::RefuseMail(554, says("we do not like it")), true),
        (SmtpBehaviour::RefuseMail(452, says("disk full")), false),
        (SmtpBehaviour::DisconnectBeforeData, false),
        (SmtpBehaviour::DisconnectAfterData, false),
    ] {
        server.set_behaviour(behaviour.clone());
        let error = send(&mailer, 10).await.unwrap_err();
        assert_eq!(error.fault == Fault::Client, permanent, "{behaviour:?}: {error}");
        let text = error.to_string();
        assert!(!text.contains("anna") && !text.contains("example.org"), "{text}");
    }
    server.set_behaviour(SmtpBehaviour::Accept);
    send(&mailer, 11).await.unwrap();
    assert!(mailer.check().await.is_ok());
}

#[tokio::test]
async fn a_refused_session_is_not_a_permanent_refusal_of_a_mail() {
    let server = SmtpServer::start();
    let mailer = mailer(&settings(server.port()));
    for code in [554, 521, 500, 421] {
        server.set_behaviour(SmtpBehaviour::RefuseSession(code));
        let error = send(&mailer, 20).await.unwrap_err();
        assert_eq!(error.fault, AWAY, "{code}: {error}");
        assert_eq!(mailer.check().await.unwrap_err().fault, AWAY, "{code}");
    }
    server.set_behaviour(SmtpBehaviour::Accept);
    send(&mailer, 20).await.unwrap();
    // The server refuses new sessions; the open one continues.
    server.set_behaviour(SmtpBehaviour::RefuseSession(554));
    send(&mailer, 21).await.unwrap();
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test]
async fn a_server_without_ehlo_gets_its_mails_after_helo() {
    let server = SmtpServer::start();
    server.set_behaviour(SmtpBehaviour::WithoutEhlo);
    let plain = mailer(&settings(server.port()));
    send(&plain, 22).await.unwrap();
    send(&plain, 23).await.unwrap();
    assert_eq!(server.messages().len(), 2);
    assert_eq!(server.connections(), 2, "one refused connection, and one for both mails");
    assert!(plain.check().await.is_ok());
    // A server that only knows HELO has no STARTTLS.
    let mut secure = settings(server.port());
    secure.mail.smtp.security = SmtpSecurity::Starttls;
    assert_eq!(send(&mailer(&secure), 24).await.unwrap_err().fault, AWAY);
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test]
async fn a_mail_to_a_domain_beyond_ascii_is_sent_to_its_a_labels() {
    let server = SmtpServer::start();
    let mut settings = settings(server.port());
    settings.mail.from = "visage <robot@m\u{fc}nchen.example>".to_owned();
    let mailer = mailer(&settings);
    let message = Message::Failure { reason: None, detail: "The video was too long." };
    mailer.send(Uuid::from_u128(25), "ann@m\u{fc}nchen.de", message, &context()).await.unwrap();
    let [mail] = server.messages().try_into().unwrap();
    assert_eq!(mail.to, ["ann@xn--mnchen-3ya.de"]);
    assert!(mail.raw.is_ascii());
    settings.mail.from = "robot <r\u{f6}bot@visage.example>".to_owned();
    let error = Mailer::new(&settings, Reporter::new(&settings).unwrap()).err().unwrap().to_string();
    assert!(error.contains("mail.from"), "{error}");
}

#[tokio::test]
async fn an_unresponsive_server_times_out_and_its_connection_is_closed() {
    let server = SmtpServer::start();
    let mut settings = settings(server.port());
    settings.mail.smtp.timeout_s = 1;
    let mailer = mailer(&settings);
    server.set_behaviour(SmtpBehaviour::StopAnswering);
    let error = send(&mailer, 12).await.unwrap_err();
    assert!(error.fault == AWAY && error.reason.contains("longer than"), "{error}");
    server.set_behaviour(SmtpBehaviour::Accept);
    send(&mailer, 13).await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_refused_connection_is_not_a_permanent_failure() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mailer = mailer(&settings(port));
    assert_eq!(send(&mailer, 14).await.unwrap_err().fault, AWAY);
    assert_eq!(mailer.check().await.unwrap_err().fault, AWAY);
}

#[tokio::test]
async fn no_mail_is_sent_unencrypted_if_starttls_is_required() {
    let server = SmtpServer::start();
    let mut settings = settings(server.port());
    settings.mail.smtp.security = SmtpSecurity::Starttls;
    let error = send(&mailer(&settings), 15).await.unwrap_err();
    assert!(error.fault == AWAY && error.reason.contains("STARTTLS"), "{error}");
    assert!(server.messages().is_empty());
}

#[tokio::test]
async fn starttls_needs_the_certificate_authority_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path());
    let server = SmtpServer::start_with_starttls(&certificate);
    let mut settings = settings(server.port());
    settings.mail.smtp.security = SmtpSecurity::Starttls;
    let error = send(&mailer(&settings), 16).await.unwrap_err();
    assert_eq!(error.fault, AWAY, "{error}");
    assert!(server.messages().is_empty());

    settings.mail.smtp.ca_file = certificate.certificate.clone();
    send(&mailer(&settings), 17).await.unwrap();
    assert_eq!(server.messages().len(), 1);
}

#[test]
fn a_missing_ca_file_is_named_at_start() {
    let mut settings = settings(25);
    settings.mail.smtp.security = SmtpSecurity::Tls;
    settings.mail.smtp.ca_file = "/nowhere/ca.pem".to_owned();
    let error = Mailer::new(&settings, Reporter::new(&settings).unwrap()).err().unwrap().to_string();
    assert!(error.contains("mail.smtp.ca_file") && error.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn the_password_is_not_printed() {
    let settings = settings(25);
    settings.mail.smtp.password.set(Secret::new("hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_invalid_address_is_refused_permanently() {
    let server = SmtpServer::start();
    let mailer = mailer(&settings(server.port()));
    for wrong in [
        "",
        "nobody",
        "a@b\r\nBcc: c@d.example",
        "a@b.example, c@d.example",
        "j\u{fc}rgen@example.org",
        "\"ann lee\"@example.org",
        "ann@[127.0.0.1]",
    ] {
        let error = mailer
            .send(Uuid::nil(), wrong, Message::Failure { reason: None, detail: "x" }, &context())
            .await
            .unwrap_err();
        assert_eq!(error.fault, Fault::Client, "{wrong:?}");
        assert!(wrong.is_empty() || !error.reason.contains(wrong), "{error}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_outbox_has_one_complete_file_for_each_mail_readable_only_by_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(0);
    settings.mail.transport = MailTransport::Outbox;
    settings.mail.outbox = folder.path().join("deep/outbox");
    let mailer = mailer(&settings);
    mailer.check().await.unwrap();
    for id in [18, 19, 18] {
        send(&mailer, id).await.unwrap();
    }
    let mut files: Vec<_> =
        std::fs::read_dir(&settings.mail.outbox).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let name = |id| format!("{}.eml", Uuid::from_u128(id));
    assert_eq!(names, [name(18), name(19)]);
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let raw = std::fs::read(file).unwrap();
        let mail = MessageParser::default().parse(&raw).unwrap();
        assert_eq!(mail.to().unwrap().first().unwrap().address(), Some(TO));
    }
}

#[tokio::test]
async fn an_unwritable_outbox_is_not_a_permanent_failure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut settings = settings(0);
    settings.mail.transport = MailTransport::Outbox;
    settings.mail.outbox = file.path().join("outbox");
    let mailer = mailer(&settings);
    assert_eq!(mailer.check().await.unwrap_err().fault, AWAY);
    assert_eq!(send(&mailer, 20).await.unwrap_err().fault, AWAY);
}

#[test]
fn mail_can_be_switched_off() {
    let mut settings = settings(0);
    settings.mail.transport = MailTransport::None;
    assert!(Mailer::new(&settings, Reporter::new(&settings).unwrap()).unwrap().is_none());
}
