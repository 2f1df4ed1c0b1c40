//! The calls of other services that visage supports, sent as their clients send them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use reqwest::{Response, StatusCode, header};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use visage::analysis::{Findings, Options, Verdict};
use visage::api::ImmediateAnalyzer;
use visage::config::{ByteSize, ClassifierOutput, Colour, Layout, Settings};
use visage::media::Source;
use visage::pipeline::{
    AnalysisParts, Cancel, ClipError, LiveAnalysis, LiveOptions, LiveSoundTrack, PictureError, PictureOptions,
    PipelineError, Progress, ReadPicture,
};
use visage::store::Scope;
use visage::worker::{AnalysisError, Analyzer};

use crate::keys::key;
use crate::support::clips::{self, Clips, Models};
use crate::support::log::RecordedLog;
use crate::support::onnx;
use crate::support::service::{Service, video_form};

const LABELS: [&str; 7] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
/// Time limit for any single step of a test.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the bytes of a test clip, and the models to analyze it.
fn clip_and_models(name: &str) -> (Vec<u8>, Models) {
    (std::fs::read(clips::shared(name)).unwrap(), clips::models())
}

/// Returns a clip without faces.
fn small_clip() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

async fn facial_analysis(service: &Service, form: Form) -> Response {
    service.http.post(format!("{}/api/facial-analysis/", service.base)).multipart(form).send().await.unwrap()
}

async fn process_frame(service: &Service, video: Vec<u8>) -> Response {
    service.http.post(format!("{}/process-frame", service.base)).body(video).send().await.unwrap()
}

async fn json(response: Response) -> Value {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    response.json().await.unwrap()
}

async fn ok(response: Response) -> Value {
    let status = response.status();
    let body = json(response).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// Checks an error in the format of these services: a sentence, and a code of visage.
async fn refused(response: Response, status: u16, code: &str) -> Value {
    let given = response.status().as_u16();
    assert!(response.headers().contains_key("x-request-id"));
    let body = json(response).await;
    assert_eq!((given, body["code"].as_str()), (status, Some(code)), "{body}");
    let sentence = body["error"].as_str().unwrap();
    assert!(sentence.ends_with('.') && sentence.contains(' '), "{sentence}");
    body
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn sorted_labels() -> Vec<&'static str> {
    let mut labels = LABELS.to_vec();
    labels.sort_unstable();
    labels
}

#[tokio::test]
async fn a_facial_analysis_is_answered_immediately_in_whole_numbers() {
    let (video, models) = clip_and_models("single_face.mp4");
    let service = Service::start(models.select()).await;
    // Clients of that service send further fields, such as a CSRF token.
    let response = facial_analysis(&service, video_form(video).text("csrfmiddlewaretoken", "abc")).await;
    let body = ok(response).await;
    assert_eq!(keys(&body), ["facialAnalysisResult"]);
    let result = &body["facialAnalysisResult"];
    assert_eq!(
        keys(result),
        ["confidence", "emotions", "eyeContact", "feedback", "overallScore", "speechClarity"],
        "{result}"
    );
    for figure in ["confidence", "eyeContact", "overallScore"] {
        assert!(result[figure].as_u64().is_some_and(|value| value <= 100), "{figure}: {result}");
    }
    let clarity = &result["speechClarity"];
    assert!(clarity.is_null() || clarity.as_u64().is_some_and(|value| value <= 100), "{result}");
    let emotions = &result["emotions"];
    assert_eq!(keys(emotions), sorted_labels());
    assert_eq!(LABELS.map(|label| emotions[label].as_u64().unwrap()).iter().sum::<u64>(), 100, "{emotions}");
    // The clip shows a man who faces the camera and smiles broadly after its first quarter.
    assert!(LABELS.iter().all(|label| emotions[label].as_u64() <= emotions["happy"].as_u64()), "{emotions}");
    assert!(result["eyeContact"].as_u64() >= Some(50), "{result}");
    let feedback = result["feedback"].as_str().unwrap();
    assert!(feedback.contains("eye contact") && feedback.contains(&result["eyeContact"].to_string()), "{feedback}");
    service.is_clean().await;
}

#[tokio::test]
async fn a_classifier_exported_by_keras_can_be_configured() {
    let (video, models) = clip_and_models("single_face.mp4");
    std::fs::write(models.path().join("keras.onnx"), onnx::keras_model()).unwrap();
    let given = models.select();
    let service = Service::start(|settings| {
        given(settings);
        let model = &mut settings.vision.emotion;
        model.name = "keras".to_owned();
        model.file = "keras.onnx".into();
        (model.width, model.height, model.colour, model.layout) = (48, 48, Colour::Gray, Layout::Nhwc);
        (model.mean, model.std, model.output) = (vec![0.0], vec![1.0], ClassifierOutput::Probabilities);
        model.labels = LABELS.map(str::to_owned).to_vec();
    })
    .await;
    let body = ok(facial_analysis(&service, video_form(video)).await).await;
    let emotions = &body["facialAnalysisResult"]["emotions"];
    // That model returns fear for any face that is not black and has values from 0 to 1.
    assert!(emotions["fear"].as_u64() >= Some(90), "{emotions}");
    assert_eq!(LABELS.map(|label| emotions[label].as_u64().unwrap()).iter().sum::<u64>(), 100, "{emotions}");
}

#[tokio::test]
async fn a_video_without_sound_has_no_speech_clarity() {
    let (_, models) = clip_and_models("single_face.mp4");
    let clips = Clips::new();
    let from = clips::shared("single_face.mp4");
    std::fs::copy(from, clips.path("sound.mp4")).unwrap();
    let silent = clips.make("silent.mp4", "-i $sound.mp4 -c:v copy -an");
    let service = Service::start(models.select()).await;
    let body = ok(facial_analysis(&service, video_form(std::fs::read(silent).unwrap())).await).await;
    assert!(body["facialAnalysisResult"]["speechClarity"].is_null(), "{body}");
}

#[tokio::test]
async fn a_failed_facial_analysis_gives_the_reason_in_a_sentence() {
    let (no_face, models) = clip_and_models("no_face.mp4");
    let service = Service::start(models.select()).await;
    refused(facial_analysis(&service, Form::new().text("name", "Ann")).await, 400, "missing_video").await;
    refused(facial_analysis(&service, video_form(vec![])).await, 400, "empty_video").await;
    let no_form = service.http.post(format!("{}/api/facial-analysis", service.base)).body("video").send();
    refused(no_form.await.unwrap(), 400, "not_a_form").await;
    refused(facial_analysis(&service, video_form(b"just some text".repeat(10))).await, 422, "not_a_video").await;
    // The header of a video, followed by data that cannot be decoded.
    let mut corrupt = small_clip();
    corrupt.truncate(200);
    refused(facial_analysis(&service, video_form(corrupt)).await, 422, "not_a_video").await;
    refused(facial_analysis(&service, video_form(no_face)).await, 422, "no_face").await;
    service.is_clean().await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_reported_and_loaded_again_later() {
    let (video, models) = clip_and_models("single_face.mp4");
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().join("models");
    let settings = models.settings();
    let given = folder.clone();
    let service = Service::start(move |changed| {
        changed.engine = settings.engine;
        changed.models.folder = given;
    })
    .await;
    let response = facial_analysis(&service, video_form(video.clone())).await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    refused(response, 503, "model_unavailable").await;
    // A model file that is there and damaged.
    std::fs::create_dir(&folder).unwrap();
    for file in std::fs::read_dir(models.path()).unwrap() {
        let file = file.unwrap();
        std::os::unix::fs::symlink(file.path(), folder.join(file.file_name())).unwrap();
    }
    std::fs::remove_file(folder.join("emotion.onnx")).unwrap();
    std::fs::write(folder.join("emotion.onnx"), b"no model").unwrap();
    let response = facial_analysis(&service, video_form(video.clone())).await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    refused(response, 503, "model_unavailable").await;
    std::fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(models.path(), folder).unwrap();
    ok(facial_analysis(&service, video_form(video)).await).await;
}

#[tokio::test]
async fn with_too_little_memory_a_call_is_refused() {
    let service = Service::start(|settings| settings.sync.min_memory = ByteSize(u64::MAX)).await;
    let response = facial_analysis(&service, video_form(small_clip())).await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    refused(response, 503, "too_little_memory").await;
}

#[tokio::test]
async fn a_video_too_large_for_an_immediate_call_is_refused() {
    let service = Service::start(|settings| settings.sync.max_upload = ByteSize(1000)).await;
    refused(facial_analysis(&service, video_form(small_clip())).await, 413, "upload_too_large").await;
    refused(process_frame(&service, small_clip()).await, 413, "upload_too_large").await;
}

#[tokio::test]
async fn raw_bytes_are_answered_with_mean_scores() {
    let (video, models) = clip_and_models("sad_then_happy.mp4");
    let service = Service::start(models.select()).await;
    let body = ok(process_frame(&service, video.clone()).await).await;
    assert_eq!(
        keys(&body),
        [
            "average_confidence_score",
            "average_emotion_scores",
            "eye_contact_score",
            "overall_dominant_emotion",
            "total_frames_analyzed"
        ]
    );
    let scores = &body["average_emotion_scores"];
    assert_eq!(keys(scores), sorted_labels());
    let values = LABELS.map(|label| scores[label].as_f64().unwrap());
    assert!(values.iter().all(|value| (0.0..=100.0).contains(value)), "{scores}");
    assert!((values.iter().sum::<f64>() - 100.0).abs() < 1e-6, "{scores}");
    let dominant = body["overall_dominant_emotion"].as_str().unwrap();
    assert!(values.iter().all(|value| *value <= scores[dominant].as_f64().unwrap()), "{body}");
    assert!(["happy", "sad"].contains(&dominant), "{body}");
    // Of 472 frames, every 30th is analyzed, starting with the first.
    assert_eq!(body["total_frames_analyzed"], 16);
    assert!((0.0..=1.0).contains(&body["average_confidence_score"].as_f64().unwrap()), "{body}");
    assert!((0.0..=100.0).contains(&body["eye_contact_score"].as_f64().unwrap()), "{body}");

    let url = format!("{}/process-frame/?sample_every=100", service.base);
    let fewer = ok(service.http.post(url).body(video).send().await.unwrap()).await;
    assert_eq!(fewer["total_frames_analyzed"], 5);
}

#[tokio::test]
async fn raw_bytes_that_are_not_a_video_are_refused() {
    let service = Service::start(|_| {}).await;
    refused(process_frame(&service, vec![]).await, 400, "empty_video").await;
    refused(process_frame(&service, b"just some text".repeat(10)).await, 422, "not_a_video").await;
    let url = format!("{}/process-frame?sample_every=0", service.base);
    refused(service.http.post(url).body(small_clip()).send().await.unwrap(), 422, "bad_option").await;
}

#[tokio::test]
async fn the_root_returns_the_health_as_json_to_programs() {
    let service = Service::start(|_| {}).await;
    for accept in ["*/*", "application/json"] {
        let url = format!("{}/", service.base);
        let response = service.http.get(url).header(header::ACCEPT, accept).send().await.unwrap();
        assert_eq!(ok(response).await["status"], "ok");
    }
}

/// An event of an analysis that ends only when it is cancelled.
#[derive(Debug, PartialEq)]
enum Event {
    /// The analysis started with a video of so many bytes.
    Started(u64),
    Stopped,
}

struct Endless(mpsc::UnboundedSender<Event>);

impl Analyzer for Endless {
    fn analyze(
        &self,
        source: &Source,
        _: Options,
        _: AnalysisParts<'_>,
        _: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        let Source::File(path) = source else { panic!("the source is not a temporary file") };
        self.0.send(Event::Started(std::fs::metadata(path).unwrap().len())).unwrap();
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.0.send(Event::Stopped);
        Err(AnalysisError::cancelled())
    }
}

impl ImmediateAnalyzer for Endless {
    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError> {
        self.analyze(source, Options::new(1, 1), AnalysisParts::none(), &|_| {}, cancel).unwrap_err();
        Err(PipelineError::Cancelled.into())
    }

    fn read_picture(&self, _: &[u8], _: PictureOptions) -> Result<ReadPicture, PictureError> {
        Err(PictureError::Empty)
    }

    fn live(&self, _: LiveOptions) -> Result<LiveAnalysis, PipelineError> {
        Err(PipelineError::Cancelled)
    }

    fn live_sound(&self) -> Result<LiveSoundTrack, PipelineError> {
        Err(PipelineError::Cancelled)
    }
}

async fn endless(change: impl FnOnce(&mut Settings)) -> (Service, mpsc::UnboundedReceiver<Event>) {
    let (events, heard) = mpsc::unbounded_channel();
    (Service::start_with(change, |_, _| Arc::new(Endless(events))).await, heard)
}

async fn next(heard: &mut mpsc::UnboundedReceiver<Event>) -> Event {
    timeout(PATIENCE, heard.recv()).await.expect("no event").unwrap()
}

#[tokio::test]
async fn one_call_too_many_is_refused_and_a_disconnected_one_frees_its_place() {
    let (service, mut heard) = endless(|settings| settings.sync.max_concurrent = 1).await;
    let (video, url) = (small_clip(), format!("{}/process-frame", service.base));
    let started = Event::Started(video.len() as u64);
    let call = tokio::spawn(service.http.post(&url).body(video.clone()).send());
    assert_eq!(next(&mut heard).await, started);

    let response = facial_analysis(&service, video_form(video.clone())).await;
    assert!(response.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u32>().unwrap() > 0);
    let body = json(response).await;
    assert_eq!(body["code"], "too_busy", "{body}");
    // Calls with pictures share the places, and say nothing of videos.
    for (path, body) in [("/v1/pictures", r#"{"pictures": ["AAAA"]}"#), ("/analyze", r#"{"img": "AAAA"}"#)] {
        let request = service.http.post(format!("{}{path}", service.base)).body(body);
        let response = request.header(header::CONTENT_TYPE, "application/json").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert!(response.headers().contains_key(header::RETRY_AFTER), "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains("too_busy") && !text.contains("/analyze-video"), "{text}");
    }

    call.abort();
    assert_eq!(next(&mut heard).await, Event::Stopped);
    // The place is freed shortly after the analysis reports that it stopped.
    let again = async {
        loop {
            tokio::select! {
                response = service.http.post(&url).body(video.clone()).send() => {
                    assert_eq!(response.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
                }
                event = heard.recv() => break event,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, again).await.expect("the place was not freed"), Some(started));
}

#[tokio::test]
async fn a_call_beyond_the_deadline_is_stopped_and_gets_504() {
    let (service, mut heard) = endless(|settings| settings.sync.deadline_s = 1).await;
    let response = facial_analysis(&service, video_form(small_clip())).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(json(response).await["code"], "deadline");
    assert!(matches!(next(&mut heard).await, Event::Started(_)));
    assert_eq!(next(&mut heard).await, Event::Stopped);
}

/// Returns a request for each immediate call.
fn immediate_calls(service: &Service, key: &str, video: &[u8]) -> [reqwest::RequestBuilder; 4] {
    let post = |path: &str| service.http.post(format!("{}{path}", service.base)).header("x-api-key", key);
    let clip = serde_json::json!({"content": STANDARD.encode(video)});
    [
        post("/api/facial-analysis").multipart(video_form(video.to_vec())),
        post("/process-frame").body(video.to_vec()),
        post("/predict").json(&clip),
        post("/thumbnail").json(&clip),
    ]
}

#[tokio::test]
async fn all_immediate_calls_share_one_limit_and_send_retry_after() {
    let (service, mut heard) = endless(|settings| settings.sync.max_concurrent = 1).await;
    let (video, key) = (small_clip(), key(&service, &[Scope::Analyze]).await);
    let predict = 2;
    let mut calls = immediate_calls(&service, &key, &video).into_iter();
    let call = tokio::spawn(calls.nth(predict).unwrap().send());
    assert_eq!(next(&mut heard).await, Event::Started(video.len() as u64));
    for (index, request) in immediate_calls(&service, &key, &video).into_iter().enumerate() {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "call {index}");
        // Nothing is known of the running call, so it is expected to take as long again as it has taken.
        let wait_s: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=300).contains(&wait_s), "call {index}: {wait_s}");
        assert!(json(answer).await["error"].as_str().unwrap().ends_with('.'));
    }
    // The queue still accepts videos.
    service.accept(video).await;
    call.abort();
    assert_eq!(next(&mut heard).await, Event::Stopped);
}

#[tokio::test]
async fn the_limit_of_immediate_calls_also_limits_base64_videos_in_memory() {
    let (service, _heard) = endless(|settings| {
        settings.sync.max_concurrent = 1;
        settings.thumbnails.max_video = ByteSize(3 << 20);
    })
    .await;
    let key = key(&service, &[Scope::Analyze]).await;
    let begin = async |announced: usize| {
        let mut socket = tokio::net::TcpStream::connect(service.address()).await.unwrap();
        let head = format!(
            "POST /predict HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nContent-Length: {announced}\r\n\r\n\
             {{\"content\": \"AAAA"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    };
    let status = async |mut socket: tokio::net::TcpStream| {
        let mut answer = vec![0; 12];
        timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("no answer").unwrap();
        String::from_utf8(answer).unwrap()
    };
    // The limit is 4/3 of the video, and 1 MiB for the other members. A larger body is refused before it is sent.
    assert_eq!(status(begin((4 << 20) + (1 << 20) + 1).await).await, "HTTP/1.1 413");
    // One request takes the only place and waits for its body; the other one is refused.
    let (one, other) = (begin(1000).await, begin(1000).await);
    let answered = tokio::select! {
        answered = status(one) => answered,
        answered = status(other) => answered,
    };
    assert_eq!(answered, "HTTP/1.1 429");
}

#[tokio::test]
async fn the_log_names_the_deadline_if_a_call_exceeds_it() {
    let log = RecordedLog::start();
    let (service, _heard) = endless(|settings| {
        settings.sync.deadline_s = 1;
        // A place is free only when its analysis has stopped, shortly after the answer.
        settings.sync.max_concurrent = 3;
    })
    .await;
    let (video, key) = (small_clip(), key(&service, &[Scope::Analyze]).await);
    let [facial_analysis, process_frame, predict, _] = immediate_calls(&service, &key, &video);
    for call in [facial_analysis, process_frame, predict] {
        assert_eq!(call.send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    }
    let text = log.text();
    let reasons: Vec<_> = text.lines().filter(|line| line.contains("an upload was not accepted")).collect();
    assert_eq!(reasons.len(), 3, "{text}");
    for reason in reasons {
        assert!(reason.contains("the call was not done within sync.deadline_s (1 s)"), "{reason}");
    }
}

#[tokio::test]
async fn a_prediction_beyond_the_deadline_is_stopped() {
    let (service, mut heard) = endless(|settings| settings.sync.deadline_s = 1).await;
    let (video, key) = (small_clip(), key(&service, &[Scope::Analyze]).await);
    let [_, _, predict, _] = immediate_calls(&service, &key, &video);
    assert_eq!(predict.send().await.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(matches!(next(&mut heard).await, Event::Started(_)));
    assert_eq!(next(&mut heard).await, Event::Stopped);
}

#[tokio::test]
async fn an_idle_immediate_call_is_closed_and_frees_its_place() {
    let (service, _heard) = endless(|settings| {
        settings.sync.max_concurrent = 1;
        settings.http.idle_timeout_s = 1;
    })
    .await;
    let key = key(&service, &[Scope::Analyze]).await;
    for (path, begin) in [("/process-frame", &small_clip()[..2000]), ("/predict", br#"{"content": "AAAA"#.as_slice())] {
        let mut socket = tokio::net::TcpStream::connect(service.address()).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nContent-Length: 100000\r\n\r\n");
        socket.write_all(&[head.as_bytes(), begin].concat()).await.unwrap();
        let mut answer = vec![0; 64];
        let got =
            timeout(PATIENCE, socket.read(&mut answer)).await.expect("the service waits without a time limit").unwrap();
        assert!(answer[..got].starts_with(b"HTTP/1.1 408 "), "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn the_limits_of_videos_apply_to_immediate_calls() {
    let models = clips::models();
    let with_models = models.select();
    let service = Service::start(|settings| {
        with_models(settings);
        settings.video.max_pixels = 160 * 119;
    })
    .await;
    let key = key(&service, &[Scope::Analyze]).await;
    // The thumbnails service answers every client error with 400.
    for (request, status) in immediate_calls(&service, &key, &small_clip()).into_iter().zip([422, 422, 400, 400]) {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(json(answer).await["error"].as_str().unwrap().contains("limit"));
    }
}

#[tokio::test]
async fn an_undecodable_video_is_a_client_error_in_every_call() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let key = key(&service, &[Scope::Analyze]).await;
    let whole = small_clip();
    let entry = whole.windows(4).rposition(|found| found == b"avc1").unwrap();
    let mut unknown = whole.clone();
    unknown[entry..entry + 4].copy_from_slice(b"xyz1");
    let clips = Clips::new();
    clips.write("whole.mp4", &whole);
    let mut track = std::fs::read(clips.make("whole.mkv", "-i $whole.mp4 -c copy")).unwrap();
    let name = track.windows(15).position(|found| found == b"V_MPEG4/ISO/AVC").unwrap();
    track[name..name + 15].copy_from_slice(b"V_MPEG9/ISO/XYZ");
    let mut broken = whole.clone();
    let record = whole.windows(4).position(|found| found == b"avcC").unwrap();
    broken[record + 9..record + 40].fill(0xFF);
    let data = whole.windows(4).position(|found| found == b"mdat").unwrap();
    broken[data + 4..data + 400].fill(0);
    for (video, codec) in [(unknown, "xyz1"), (track, "V_MPEG9/ISO/XYZ"), (broken, "h264")] {
        for (index, request) in immediate_calls(&service, &key, &video).into_iter().enumerate() {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{codec}, call {index}");
            let body = json(answer).await;
            assert!(body["error"].as_str().unwrap().contains(codec), "{codec}, call {index}: {body}");
        }
    }
}

struct Panics;

impl Analyzer for Panics {
    fn analyze(
        &self,
        _: &Source,
        _: Options,
        _: AnalysisParts<'_>,
        _: &(dyn Fn(Progress) + Sync),
        _: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        panic!("on purpose");
    }
}

impl ImmediateAnalyzer for Panics {
    fn verdict(&self, _: &Source, _: &Cancel) -> Result<Verdict, ClipError> {
        panic!("on purpose");
    }

    fn read_picture(&self, _: &[u8], _: PictureOptions) -> Result<ReadPicture, PictureError> {
        panic!("on purpose");
    }

    fn live(&self, _: LiveOptions) -> Result<LiveAnalysis, PipelineError> {
        Err(PipelineError::Cancelled)
    }

    fn live_sound(&self) -> Result<LiveSoundTrack, PipelineError> {
        Err(PipelineError::Cancelled)
    }
}

#[tokio::test]
async fn an_analysis_that_panics_is_an_error_and_frees_its_place() {
    let service = Service::start_with(|settings| settings.sync.max_concurrent = 1, |_, _| Arc::new(Panics)).await;
    for _ in 0..3 {
        refused(process_frame(&service, small_clip()).await, 500, "internal").await;
    }
}

async fn post_video(service: &Service, path: &str, form: Form) -> Response {
    service.http.post(format!("{}{path}", service.base)).multipart(form).send().await.unwrap()
}

/// Sends a video and returns the link to its statistics.
async fn stats_link(service: &Service, path: &str, video: Vec<u8>) -> String {
    let response = post_video(service, path, video_form(video).text("filename", "me.webm")).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let body = json(response).await;
    assert_eq!(body["status"], "queued");
    let link = body["links"]["stats"].as_str().unwrap();
    assert_eq!(link, format!("{}/get_stats?token={}", service.base, body["token"].as_str().unwrap()));
    link.to_owned()
}

#[tokio::test]
async fn an_uploaded_video_has_statistics_for_each_face() {
    let (video, models) = clip_and_models("sad_then_happy.mp4");
    let service = Service::start(models.select()).await;
    let link = stats_link(&service, "/upload", video).await;

    let early = service.http.get(&link).send().await.unwrap();
    assert_eq!(early.status(), StatusCode::ACCEPTED);
    assert!(early.headers().contains_key(header::RETRY_AFTER));
    let early = json(early).await;
    assert_eq!((early["status"].as_str(), early["progress"]["stage"].as_str()), (Some("queued"), Some("waiting")));

    let _worker = service.work().await;
    let url = format!("{link}&wait=60&download=1");
    let response = loop {
        let response = service.http.get(&url).send().await.unwrap();
        if response.status() != StatusCode::ACCEPTED {
            break response;
        }
    };
    let disposition = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename=\"emotion-statistics.json\"");
    let body = ok(response).await;
    // Of 472 frames, every 20th is analyzed, starting with the first.
    assert_eq!(body["total_frames_analyzed"], 24);
    let faces = body["faces"].as_array().unwrap();
    assert_eq!(faces.len(), 1, "{body}");
    let face = &faces[0];
    assert_eq!(
        keys(face),
        [
            "average_confidence",
            "embeddings_shape",
            "emotion_counts",
            "example_embedding",
            "face_id",
            "most_common_emotion",
            "total_frames"
        ]
    );
    assert_eq!(face["face_id"], 1);
    let total = face["total_frames"].as_u64().unwrap();
    assert!((1..=24).contains(&total), "{face}");
    assert_eq!(keys(&face["emotion_counts"]), sorted_labels());
    let counts = LABELS.map(|label| face["emotion_counts"][label].as_u64().unwrap());
    assert_eq!(counts.iter().sum::<u64>(), total, "{face}");
    let most = face["most_common_emotion"].as_str().unwrap();
    assert_eq!(face["emotion_counts"][most].as_u64().unwrap(), *counts.iter().max().unwrap(), "{face}");
    for (label, confidence) in face["average_confidence"].as_object().unwrap() {
        assert!(face["emotion_counts"][label].as_u64() > Some(0), "{face}");
        assert!((0.0..=1.0).contains(&confidence.as_f64().unwrap()), "{face}");
    }
    assert_eq!(face["embeddings_shape"], serde_json::json!([total, 7]));
    let example: Vec<f64> = serde_json::from_value(face["example_embedding"].clone()).unwrap();
    assert_eq!(example.len(), 7);
    assert!((example.iter().sum::<f64>() - 1.0).abs() < 1e-3, "{face}");
}

#[tokio::test]
async fn a_recorded_video_without_a_face_has_empty_statistics() {
    let models = clips::models();
    let clips = Clips::new();
    let recorded = clips.moving("clip.webm", 1.0, "-c:v libvpx -live 1");
    let service = Service::start(models.select()).await;
    let link = stats_link(&service, "/record_video/", std::fs::read(recorded).unwrap()).await;
    let _worker = service.work().await;
    let body = loop {
        let response = service.http.get(format!("{link}&wait=60")).send().await.unwrap();
        if response.status() != StatusCode::ACCEPTED {
            assert!(!response.headers().contains_key(header::CONTENT_DISPOSITION));
            break ok(response).await;
        }
    };
    assert_eq!((body["status"].as_str(), body["faces"].as_array().map(Vec::len)), (Some("done"), Some(0)));
}

#[tokio::test]
async fn invalid_uploads_and_tokens_are_refused_with_a_sentence() {
    let service = Service::start(|_| {}).await;
    refused(post_video(&service, "/upload", Form::new().text("name", "Ann")).await, 400, "missing_video").await;
    refused(post_video(&service, "/record_video", video_form(b"just text".repeat(20))).await, 422, "not_a_video").await;
    refused(service.get("/get_stats").await, 400, "missing_token").await;
    for token in ["nonsense", "31cd5c3e-e445-4b84-a96c-4d9d32c91b8b"] {
        refused(service.get(&format!("/get_stats?token={token}")).await, 404, "unknown_token").await;
    }
    refused(service.get("/get_stats?token=31cd5c3e-e445-4b84-a96c-4d9d32c91b8b&wait=x").await, 422, "bad_wait").await;
    service.is_clean().await;
}

fn frame_form(field: &'static str, picture: Vec<u8>) -> Form {
    Form::new().text("session", "abc").part(field, Part::bytes(picture).file_name("frame.png"))
}

#[tokio::test]
async fn a_saved_frame_can_be_fetched_until_it_is_erased() {
    let clips = Clips::new();
    clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p");
    let service = Service::start(|_| {}).await;
    for (field, file, kind) in [("frame", "frame.png", "image/png"), ("image", "frame.jpg", "image/jpeg")] {
        let picture = std::fs::read(clips.make(file, "-i $clip.mp4 -frames:v 1")).unwrap();
        let response = post_video(&service, "/save_frame", frame_form(field, picture.clone())).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = response.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let body = json(response).await;
        let frame = body["frame"].as_str().unwrap();
        assert_eq!(location, format!("/frames/{frame}"));
        assert_eq!(body["size_bytes"], picture.len());
        assert!(!service.stored()[0].to_string_lossy().contains(frame), "the storage key contains the name");

        let shown = service.http.get(body["links"]["self"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(shown.headers()[header::CONTENT_TYPE], kind);
        assert_eq!(shown.bytes().await.unwrap(), picture);
        let erased = service.http.delete(format!("{}{location}", service.base)).send().await.unwrap();
        assert_eq!(erased.status(), StatusCode::NO_CONTENT);
        refused(service.get(&location).await, 404, "unknown_frame").await;
    }
    service.is_clean().await;
}

#[tokio::test]
async fn another_key_neither_sees_nor_erases_a_frame() {
    let service = Service::start(|_| {}).await;
    let scopes = [Scope::Analyze, Scope::Read];
    let (ann, bob) = (key(&service, &scopes).await, key(&service, &scopes).await);
    let picture = b"\x89PNG\r\n\x1a\nand more".to_vec();
    let save = service.http.post(format!("{}/save_frame", service.base)).bearer_auth(&ann);
    let saved = save.multipart(frame_form("frame", picture.clone())).send().await.unwrap();
    assert_eq!(saved.status(), StatusCode::CREATED);
    let url = format!("{}{}", service.base, saved.headers()[header::LOCATION].to_str().unwrap());
    let see = async |key: Option<&str>| {
        let request = service.http.get(&url);
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        request.send().await.unwrap()
    };
    for stranger in [Some(bob.as_str()), None] {
        refused(see(stranger).await, 404, "unknown_frame").await;
    }
    let erase = async |key: &str| service.http.delete(&url).bearer_auth(key).send().await.unwrap().status();
    assert_eq!(erase(&bob).await, StatusCode::NO_CONTENT, "as for an id that never was");
    assert_eq!(service.http.delete(&url).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(see(Some(&ann)).await.bytes().await.unwrap(), picture);
    assert_eq!(erase(&ann).await, StatusCode::NO_CONTENT);
    refused(see(Some(&ann)).await, 404, "unknown_frame").await;
    service.is_clean().await;
}

#[tokio::test]
async fn a_frame_that_is_not_a_picture_is_not_stored() {
    let service = Service::start(|_| {}).await;
    let post = async |form| post_video(&service, "/save_frame/", form).await;
    refused(post(Form::new().text("name", "Ann")).await, 400, "missing_frame").await;
    refused(post(frame_form("frame", small_clip())).await, 422, "not_a_picture").await;
    refused(post(frame_form("frame", vec![])).await, 422, "not_a_picture").await;
    let png = b"\x89PNG\r\n\x1a\nand more".to_vec();
    let two = frame_form("frame", png.clone()).part("image", Part::bytes(png));
    refused(post(two).await, 422, "two_frames").await;
    refused(post(frame_form("frame", vec![0xFF; 10_000_001])).await, 413, "upload_too_large").await;
    refused(service.get("/frames/nonsense").await, 404, "unknown_frame").await;
    service.is_clean().await;
}
