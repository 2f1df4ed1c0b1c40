//! Mails that a real SMTP server takes, refuses or forgets to answer; and the folder that stands in for one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use mail_parser::{MessageParser, MimeHeaders as _};
use uuid::Uuid;

use visage::analysis::{
    Analysis, BBox, Emotion, FaceSummary, Findings, ModelUsed, Probabilities, Summary, Timeline, TimelineRow,
    VideoFacts,
};
use visage::config::{MailTransport, Secret, Settings, SmtpSecurity};
use visage::fault::{Fault, Part};
use visage::report::{Context, MailError, Mailer, Message, Reporter};

use crate::support::smtp::{Certificate, Mood, SmtpServer};

/// No server was reached, or it let nobody in.
const AWAY: Fault = Fault::Ours(Part::Mail);

/// One happy face in twelve samples.
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
                turned: 0,
            },
            summary: Summary {
                dominant_emotion: Some(Emotion::Happy),
                emotions: Some(emotions.clone()),
                calmness: Some(61.0),
                eye_contact: Some(100.0),
                eye_contact_coverage: Some(1.0),
                eyes_covered: Some(0.0),
                mouth_covered: Some(0.0),
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
                emotions,
                emotion_counts: BTreeMap::from([(Emotion::Happy, 12)]),
                average_confidence: BTreeMap::from([(Emotion::Happy, 0.7)]),
                embeddings_shape: [12, 7],
                example_embedding: happy.0,
                eye_contact: Some(100.0),
                eye_contact_coverage: Some(1.0),
                eyes_covered: Some(0.0),
                mouth_covered: Some(0.0),
                blinks_per_minute: None,
                calmness: 61.0,
                valence: 0.5,
                arousal: 0.4,
                model_confidence: Some(0.7),
                presence: None,
                parts: None,
                intervals: None,
                segments: Vec::new(),
            }],
            models: vec![ModelUsed { name: "emotion".to_owned(), sha256: "0".repeat(64) }],
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
        result_url: Some("http://127.0.0.1:8000/results/x".to_owned()),
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
async fn a_report_arrives_whole() {
    let server = SmtpServer::start();
    send(&mailer(&settings(server.port())), 7).await.unwrap();
    let [received] = server.messages().try_into().unwrap();
    assert_eq!(received.message_id, "<00000000-0000-0000-0000-000000000007@visage.example>");
    assert_eq!(received.to, [TO]);

    let mail = MessageParser::default().parse(&received.raw).unwrap();
    assert_eq!(mail.subject(), Some("visage: your video is analyzed"));
    assert_eq!(mail.date().unwrap().to_rfc3339(), "2026-11-21T10:45:00Z");
    assert_eq!(mail.header("Auto-Submitted").unwrap().as_text(), Some("auto-generated"));
    assert_eq!(mail.from().unwrap().first().unwrap().address(), Some("robot@visage.example"));
    let (text, html) = (mail.body_text(0).unwrap(), mail.body_html(0).unwrap());
    for body in [&text, &html] {
        assert!(body.contains("Mostly happy") || body.contains("MOSTLY HAPPY"));
        assert!(body.contains("70.0%") && body.contains("61 of 100"));
        assert!(body.contains("http://127.0.0.1:8000/results/x"));
    }

    let pictures: Vec<_> = mail.parts.iter().filter(|part| part.content_id().is_some()).collect();
    assert_eq!(pictures.len(), html.matches("\"cid:").count());
    assert!(!pictures.is_empty());
    for picture in pictures {
        assert!(html.contains(&format!("\"cid:{}\"", picture.content_id().unwrap())));
        assert!(picture.content_disposition().unwrap().is_inline());
        let mut png = png::Decoder::new(std::io::Cursor::new(picture.contents())).read_info().unwrap();
        let mut pixels = vec![0; png.output_buffer_size().unwrap()];
        assert_eq!(png.next_frame(&mut pixels).unwrap().width, 1120);
    }
}

#[tokio::test]
async fn a_failure_arrives_with_its_own_subject() {
    let server = SmtpServer::start();
    let message = Message::Failure { reason: None, detail: "The file holds no picture. Send a video." };
    mailer(&settings(server.port())).send(Uuid::from_u128(8), TO, message, &context()).await.unwrap();
    let [received] = server.messages().try_into().unwrap();
    let mail = MessageParser::default().parse(&received.raw).unwrap();
    assert_eq!(mail.subject(), Some("visage: your video could not be analyzed"));
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
async fn another_try_is_the_same_mail() {
    let server = SmtpServer::start();
    for _ in 0..2 {
        send(&mailer(&settings(server.port())), 9).await.unwrap();
    }
    let [first, second] = server.messages().try_into().unwrap();
    assert_eq!(first.raw, second.raw);
}

#[tokio::test]
async fn refusals_are_told_apart_and_never_name_the_address() {
    let server = SmtpServer::start();
    let mailer = mailer(&settings(server.port()));
    let says = |text: &str| format!("{text} <{TO}> at example.org");
    for (mood, permanent) in [
        (Mood::RefuseRecipient(550, says("no such user")), true),
        (Mood::RefuseRecipient(451, says("come back later")), false),
        (Mood::RefuseMail(554, says("we do not like it")), true),
        (Mood::RefuseMail(452, says("disk full")), false),
        (Mood::HangUpBeforeData, false),
        (Mood::HangUpAfterData, false),
    ] {
        server.set_mood(mood.clone());
        let error = send(&mailer, 10).await.unwrap_err();
        assert_eq!(error.fault == Fault::Client, permanent, "{mood:?}: {error}");
        let text = error.to_string();
        assert!(!text.contains("anna") && !text.contains("example.org"), "{text}");
    }
    server.set_mood(Mood::Accept);
    send(&mailer, 11).await.unwrap();
    assert!(mailer.check().await.is_ok());
}

#[tokio::test]
async fn a_refused_session_is_no_last_word_about_a_mail() {
    let server = SmtpServer::start();
    let mailer = mailer(&settings(server.port()));
    for code in [554, 521, 500, 421] {
        server.set_mood(Mood::RefuseSession(code));
        let error = send(&mailer, 20).await.unwrap_err();
        assert_eq!(error.fault, AWAY, "{code}: {error}");
        assert_eq!(mailer.check().await.unwrap_err().fault, AWAY, "{code}");
    }
    server.set_mood(Mood::Accept);
    send(&mailer, 20).await.unwrap();
    // The server refuses new sessions; the open one goes on.
    server.set_mood(Mood::RefuseSession(554));
    send(&mailer, 21).await.unwrap();
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test]
async fn a_server_without_ehlo_gets_its_mails_after_helo() {
    let server = SmtpServer::start();
    server.set_mood(Mood::KnowsNoEhlo);
    let plain = mailer(&settings(server.port()));
    send(&plain, 22).await.unwrap();
    send(&plain, 23).await.unwrap();
    assert_eq!(server.messages().len(), 2);
    assert_eq!(server.connections(), 2, "one that was refused, and one for both mails");
    assert!(plain.check().await.is_ok());
    // HELO offers no encryption.
    let mut secure = settings(server.port());
    secure.mail.smtp.security = SmtpSecurity::Starttls;
    assert_eq!(send(&mailer(&secure), 24).await.unwrap_err().fault, AWAY);
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test]
async fn a_mail_to_a_domain_beyond_ascii_goes_to_its_a_labels() {
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
async fn a_server_that_falls_silent_is_given_up_and_its_connection_with_it() {
    let server = SmtpServer::start();
    let mut settings = settings(server.port());
    settings.mail.smtp.timeout_s = 1;
    let mailer = mailer(&settings);
    server.set_mood(Mood::FallSilent);
    let error = send(&mailer, 12).await.unwrap_err();
    assert!(error.fault == AWAY && error.reason.contains("longer than"), "{error}");
    server.set_mood(Mood::Accept);
    send(&mailer, 13).await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn nobody_listening_is_no_last_word() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mailer = mailer(&settings(port));
    assert_eq!(send(&mailer, 14).await.unwrap_err().fault, AWAY);
    assert_eq!(mailer.check().await.unwrap_err().fault, AWAY);
}

#[tokio::test]
async fn no_mail_leaves_unencrypted_where_starttls_is_required() {
    let server = SmtpServer::start();
    let mut settings = settings(server.port());
    settings.mail.smtp.security = SmtpSecurity::Starttls;
    let error = send(&mailer(&settings), 15).await.unwrap_err();
    assert!(error.fault == AWAY && error.reason.contains("STARTTLS"), "{error}");
    assert!(server.messages().is_empty());
}

/// A certificate for `localhost`, made on the spot.
fn certificate(folder: &Path) -> Certificate {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Certificate { certificate: path("cert.pem"), key: path("key.pem") }
}

#[tokio::test]
async fn starttls_works_with_an_authority_of_ones_own_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certificate(folder.path());
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
fn a_ca_file_that_is_not_there_is_named_at_start() {
    let mut settings = settings(25);
    settings.mail.smtp.security = SmtpSecurity::Tls;
    settings.mail.smtp.ca_file = "/nowhere/ca.pem".to_owned();
    let error = Mailer::new(&settings, Reporter::new(&settings).unwrap()).err().unwrap().to_string();
    assert!(error.contains("mail.smtp.ca_file") && error.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn the_password_is_not_printed() {
    let mut settings = settings(25);
    settings.mail.smtp.password = Secret::new("hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_for_good() {
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
async fn the_outbox_keeps_one_whole_file_a_mail_for_its_user_alone() {
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
async fn an_outbox_that_cannot_be_written_is_no_last_word() {
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
