//! The calls of the Journaling thumbnails API, tested against its description.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, ImageDecoder};
use reqwest::Response;
use serde_json::{Value, json};
use visage::config::{ByteSize, Settings};
use visage::store::Scope;

use crate::keys::key;
use crate::support::clips::{self, Clips, Models};
use crate::support::onnx;
use crate::support::service::Service;

/// A service with a key.
struct ThumbnailService {
    service: Service,
    key: String,
}

impl ThumbnailService {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let service = Service::start(change).await;
        let key = key(&service, &[Scope::Analyze, Scope::Logs]).await;
        Self { service, key }
    }

    async fn with(models: &Models, change: impl FnOnce(&mut Settings)) -> Self {
        let given = models.settings();
        Self::new(move |settings| {
            settings.models = given.models;
            settings.engine = given.engine;
            change(settings);
        })
        .await
    }

    async fn send(&self, path: &str, body: &Value) -> Response {
        let request = self.service.http.post(format!("{}{path}", self.service.base)).header("x-api-key", &self.key);
        request.header("date", "2026-01-02T03:04:05Z").header("X-Client-ID", "ios-app").json(body).send().await.unwrap()
    }

    async fn told(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.send(path, body).await;
        assert_eq!(response.headers()["content-type"], "application/json");
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn body(video: &[u8]) -> Value {
    json!({"encoding": "base64", "format": "mp4", "fps": 30, "content": STANDARD.encode(video)})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

fn moving(seconds: f64) -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", seconds, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

fn shared(name: &str) -> Vec<u8> {
    std::fs::read(clips::shared(name)).unwrap()
}

#[tokio::test]
async fn a_clip_has_one_of_five_emotions() {
    let video = shared("single_face.mp4");
    let models = clips::models();
    let fixture = ThumbnailService::with(&models, |_| {}).await;
    let (status, told) = fixture.told("/predict", &body(&video)).await;
    assert_eq!(status, 200, "{told}");
    let mut names: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["confidence", "emotion", "latency_ms", "prediction"]);
    // The man in the clip smiles broadly after the first quarter.
    assert_eq!((&told["emotion"], &told["prediction"]), (&json!("Happy"), &json!("Happy")));
    assert!((0.2..=1.0).contains(&told["confidence"].as_f64().unwrap()) && told["latency_ms"].is_u64(), "{told}");
    let prefixed = format!("data:video/mp4;base64,{}", STANDARD.encode(&video));
    let (status, again) = fixture.told("/predict/", &with(body(&video), "content", json!(prefixed))).await;
    assert_eq!((status, &again["emotion"], &again["confidence"]), (200, &told["emotion"], &told["confidence"]));

    let logged = async {
        loop {
            let request = fixture.service.http.get(format!("{}/logs?client_id=ios-app", fixture.service.base));
            let logs: Value = request.header("x-api-key", &fixture.key).send().await.unwrap().json().await.unwrap();
            if logs["count"] == 2 {
                return logs["logs"][0].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let entry = tokio::time::timeout(std::time::Duration::from_secs(60), logged).await.unwrap();
    assert_eq!((&entry["prediction"], &entry["confidence"]), (&told["prediction"], &told["confidence"]));
    assert_eq!((&entry["endpoint"], &entry["success"]), (&json!("/predict"), &json!(true)));
}

#[tokio::test]
async fn a_recording_without_a_duration_is_read_to_its_end() {
    let models = clips::models();
    let fixture = ThumbnailService::with(&models, |_| {}).await;
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    made.make("before.png", "-ss 0.05 -i $face.mp4 -frames:v 1");
    made.make("smile.png", "-ss 1.2 -i $face.mp4 -frames:v 1");
    // The face is neutral for a second and then smiles.
    made.make(
        "plain.webm",
        "-loop 1 -t 1 -i $before.png -loop 1 -t 6 -i $smile.png -filter_complex \
         [0:v]fps=30,setsar=1[a];[1:v]fps=30,setsar=1[b];[a][b]concat=n=2:v=1,format=yuv420p -c:v libvpx -b:v 1M",
    );
    let recorded = made.make("recorded.webm", "-i $plain.webm -c copy -live 1");
    for path in [made.path("plain.webm"), recorded] {
        let (status, told) = fixture.told("/predict", &body(&std::fs::read(&path).unwrap())).await;
        assert_eq!((status, &told["emotion"]), (200, &json!("Happy")), "{}: {told}", path.display());
    }
}

#[tokio::test]
async fn an_unusable_clip_is_refused_in_the_error_format_of_that_service() {
    let no_face = shared("no_face.mp4");
    let models = clips::models();
    let fixture = ThumbnailService::with(&models, |settings| settings.thumbnails.max_video = ByteSize(1_000_000)).await;
    // 14 frames are too few; 15 are needed.
    let mut truncated = no_face.clone();
    truncated.truncate(200);
    for (path, body, about) in [
        ("/predict", body(&moving(0.56)), "14 frames"),
        ("/predict", body(&moving(0.6)), "No face"),
        ("/predict", body(&no_face), "No face"),
        ("/predict", body(b"just some text"), "not a readable video"),
        ("/predict", body(&truncated), "not a video"),
        ("/predict", with(body(&no_face), "format", json!("gif")), "format"),
        ("/predict", json!({"content": "%%%"}), "not base64"),
        ("/predict", json!({"format": "mp4"}), "content"),
        ("/thumbnail", body(b"just some text"), "not a readable video"),
        ("/thumbnail", body(&truncated), "not a video"),
        ("/thumbnail", with(body(&no_face), "duration", json!(0.05)), "duration"),
        ("/thumbnail", with(body(&no_face), "duration", json!(10.5)), "duration"),
        ("/thumbnail", with(body(&no_face), "duration", json!("long")), "duration"),
    ] {
        let (status, refused) = fixture.told(path, &body).await;
        let sentence = refused["error"].as_str().unwrap();
        assert_eq!((status, refused.as_object().unwrap().len()), (400, 1), "{about}: {refused}");
        assert!(sentence.contains(about) && sentence.ends_with('.'), "{about}: {sentence}");
    }
    let (status, refused) = fixture.told("/predict", &body(&vec![0; 1_000_001])).await;
    assert_eq!(status, 413, "{refused}");
    let (status, refused) = fixture.told("/thumbnail", &body(&vec![0; 3_000_000])).await;
    assert_eq!((status, refused.as_object().unwrap().len()), (413, 1), "{refused}");
    let plain = fixture
        .service
        .http
        .post(format!("{}/predict", fixture.service.base))
        .json(&body(&no_face))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 401);
    assert_eq!(plain.json::<Value>().await.unwrap(), json!({"error": "Unauthorized"}));
}

/// Returns values that ffprobe prints for a file.
fn probed(bytes: &[u8], entries: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0", "-show_entries", entries])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().trim_end_matches(',').split(',').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_thumbnail_is_a_boomerang_that_every_browser_plays() {
    let fixture = ThumbnailService::new(|settings| settings.thumbnails.side = 101).await;
    let clips = Clips::new();
    // An upright picture with odd sides. Every frame has a different brightness.
    let source = "-f lavfi -i color=black:size=121x243:rate=25:duration=4,geq=lum='20+N*2':cb=128:cr=128 \
                  -c:v libx264 -qp 0 -pix_fmt yuv444p";
    let video = std::fs::read(clips.make("clip.mkv", source)).unwrap();
    let (status, told) = fixture.told("/thumbnail", &body(&video)).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["duration"], 3.0);
    assert!(told["latency_ms"].is_u64());
    let thumbnail = STANDARD.decode(told["thumbnail"].as_str().unwrap()).unwrap();
    assert_eq!(told["thumbnail"], told["video"]);
    let facts = probed(&thumbnail, "stream=codec_name,width,height,pix_fmt,r_frame_rate,nb_read_frames");
    assert_eq!(facts, ["h264", "50", "102", "yuv420p", "10/1", "30"], "codec, sides, pixels, rate, frames");
    assert_eq!(&thumbnail[4..8], b"ftyp");
    let at = |name: &[u8]| thumbnail.windows(4).position(|window| window == name).unwrap();
    assert!(at(b"moov") < at(b"mdat"), "the index is at the start, so that the file plays while it is loaded");

    // The brightness increases and then decreases.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &thumbnail).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(file.path());
    let output = ffmpeg.args(["-vf", "scale=1:1", "-f", "rawvideo", "-pix_fmt", "gray", "-"]).output().unwrap();
    let light: Vec<i32> = output.stdout.iter().map(|value| i32::from(*value)).collect();
    assert_eq!(light.len(), 30);
    assert!(light[..=15].windows(2).all(|pair| pair[1] > pair[0]), "{light:?}");
    assert!(light[15..].windows(2).all(|pair| pair[1] < pair[0]), "{light:?}");

    for (asked, frames, duration) in [(0.1, "1", 0.1), (0.5, "5", 0.5), (10.0, "100", 10.0)] {
        let (status, told) = fixture.told("/thumbnail", &with(body(&video), "duration", json!(asked))).await;
        assert_eq!((status, told["duration"].as_f64()), (200, Some(duration)));
        let thumbnail = STANDARD.decode(told["thumbnail"].as_str().unwrap()).unwrap();
        assert_eq!(probed(&thumbnail, "stream=nb_read_frames"), [frames]);
    }
}

#[tokio::test]
async fn a_thumbnail_can_be_gif_or_webp() {
    let fixture = ThumbnailService::new(|_| {}).await;
    let video = moving(2.0);
    let (status, told) = fixture.told("/thumbnail", &with(body(&video), "format", json!("gif"))).await;
    assert_eq!(status, 200, "{told}");
    let gif = STANDARD.decode(told["thumbnail"].as_str().unwrap()).unwrap();
    assert_eq!(
        probed(&gif, "stream=codec_name,width,height,r_frame_rate,nb_read_frames"),
        ["gif", "160", "120", "10/1", "30"]
    );
    let plain = STANDARD.decode(told["video"].as_str().unwrap()).unwrap();
    assert_eq!(probed(&plain, "stream=codec_name"), ["h264"]);
    let (status, told) = fixture.told("/thumbnail", &with(body(&video), "format", json!("webp"))).await;
    assert_eq!(status, 200, "{told}");
    let webp = STANDARD.decode(told["thumbnail"].as_str().unwrap()).unwrap();
    assert_eq!((&webp[..4], &webp[8..12]), (&b"RIFF"[..], &b"WEBP"[..]));
    let frames = webp.windows(4).filter(|window| window == b"ANMF").count();
    assert!(frames > 5, "only {frames} frames");
}

/// Decodes a thumbnail. Returns its size, and the pixels (red, green, blue) of each frame.
fn decoded(bytes: &[u8], format: &str) -> ((u32, u32), Vec<Vec<[u8; 3]>>) {
    let rgb = |frame: image::Frame| frame.into_buffer().pixels().map(|p| [p[0], p[1], p[2]]).collect::<Vec<_>>();
    if format == "mp4" {
        let size = probed(bytes, "stream=width,height");
        let (width, height): (u32, u32) = (size[0].parse().unwrap(), size[1].parse().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-i"]).arg(file.path()).args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
        let raw = ffmpeg.output().unwrap().stdout;
        let pixels = raw.as_chunks::<3>().0;
        return ((width, height), pixels.chunks((width * height) as usize).map(<[_]>::to_vec).collect());
    }
    if format == "webp" && !bytes.windows(4).any(|window| window == b"ANMF") {
        // The encoder makes a still picture of identical frames.
        let still = image::load_from_memory(bytes).unwrap().into_rgba8();
        return (still.dimensions(), vec![rgb(image::Frame::new(still))]);
    }
    let bytes = std::io::Cursor::new(bytes);
    let (size, frames) = if format == "gif" {
        let decoder = GifDecoder::new(bytes).unwrap();
        (decoder.dimensions(), decoder.into_frames())
    } else {
        let decoder = WebPDecoder::new(bytes).unwrap();
        (decoder.dimensions(), decoder.into_frames())
    };
    (size, frames.collect_frames().unwrap().into_iter().map(rgb).collect())
}

#[tokio::test]
async fn a_thumbnail_shows_nothing_of_another_clients_video() {
    let fixture = ThumbnailService::new(|settings| settings.thumbnails.side = 320).await;
    let clips = Clips::new();
    let vp8 = "-c:v libvpx -b:v 1M -pix_fmt yuv420p";
    let colours = clips.make("other.webm", &format!("-f lavfi -i testsrc2=s=640x360:r=30:d=4 {vp8}"));
    let colours = std::fs::read(colours).unwrap();
    // The picture size of these white videos changes after three frames.
    let white = |name: &str, first: &str, then: &str| {
        for (part, size, seconds) in [("first.webm", first, 0.1), ("then.webm", then, 2.0)] {
            clips.make(part, &format!("-f lavfi -i color=white:s={size}:r=30:d={seconds} {vp8}"));
        }
        clips.write("list", b"file first.webm\nfile then.webm\n");
        std::fs::read(clips.make(name, "-f concat -i $list -c copy")).unwrap()
    };
    for (name, first, then, size, bars) in [
        ("shrinks.webm", "640x360", "320x180", (320, 180), 0.0),
        ("grows.webm", "320x180", "640x360", (320, 180), 0.0),
        ("turns.webm", "640x360", "360x640", (320, 180), 0.684),
        ("turns_back.webm", "90x160", "320x180", (90, 160), 0.684),
        ("narrows.webm", "640x360", "480x360", (320, 180), 0.25),
    ] {
        let video = white(name, first, then);
        for format in ["mp4", "gif", "webp"] {
            let (status, told) = fixture.told("/thumbnail", &body(&colours)).await;
            assert_eq!(status, 200, "{told}");
            let (status, told) = fixture.told("/thumbnail", &with(body(&video), "format", json!(format))).await;
            assert_eq!(status, 200, "{name}, {format}: {told}");
            for (kind, member) in [(format, "thumbnail"), ("mp4", "video")] {
                let bytes = STANDARD.decode(told[member].as_str().unwrap()).unwrap();
                let (shown, frames) = decoded(&bytes, kind);
                assert_eq!(shown, size, "{name}, {kind}");
                let lengths: Vec<_> = frames.iter().map(Vec::len).collect();
                assert!(!frames.is_empty(), "{name}, {kind}");
                assert!(
                    lengths.iter().all(|pixels| *pixels == (size.0 * size.1) as usize),
                    "{name}, {kind}: {lengths:?}"
                );
                for frame in &frames {
                    let coloured = |p: &&[u8; 3]| p.iter().max().unwrap() - p.iter().min().unwrap() > 24;
                    assert_eq!(frame.iter().find(coloured), None, "{name}, {kind}: only white was sent");
                }
                // The first frame fills the picture. Frames of another aspect ratio have black bars.
                let black =
                    |frame: &[[u8; 3]]| frame.iter().filter(|pixel| pixel[1] < 128).count() as f64 / frame.len() as f64;
                assert!(black(&frames[0]) < 0.001, "{name}, {kind}");
                let most = frames.iter().map(|frame| black(frame)).fold(0.0, f64::max);
                assert!((most - bars).abs() < 0.02, "{name}, {kind}: {most} is black");
            }
        }
    }
}

#[tokio::test]
async fn a_custom_model_gets_the_landmarks_of_fifteen_frames() {
    let video = shared("single_face.mp4");
    let models = clips::models();
    for (file, rank) in [("sequence.onnx", 3), ("flat.onnx", 2)] {
        std::fs::write(models.path().join(file), onnx::clip_model(rank)).unwrap();
        let fixture = ThumbnailService::with(&models, |settings| {
            settings.thumbnails.model.file = file.into();
            settings.thumbnails.model.labels =
                ["Neutral", "Happy", "Sad", "Shock", "Anger"].map(str::to_owned).to_vec();
        })
        .await;
        let (status, told) = fixture.told("/predict", &body(&video)).await;
        assert_eq!((status, &told["emotion"]), (200, &json!("Sad")), "{told}");
    }
    let fixture =
        ThumbnailService::with(&models, |settings| settings.thumbnails.model.file = "emotion.onnx".into()).await;
    let (status, refused) = fixture.told("/predict", &body(&video)).await;
    assert_eq!(status, 503, "a model with the wrong input is the fault of the service: {refused}");
}
