//! Malicious and broken uploads are refused with the right error and leave no files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::clips::{self, Clips};
use crate::support::service::{Service, video_form};

/// Time limit for any single step of a test.
const PATIENCE: Duration = Duration::from_secs(120);

async fn with_short_timeout() -> Service {
    Service::start(|settings| settings.http.idle_timeout_s = 1).await
}

/// Returns a valid clip with its index at the end, as cameras write it.
fn clip() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", 2.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

/// Checks that a form is refused with one of the codes and leaves no files, and that the next valid clip is accepted.
async fn is_refused(service: &Service, what: &str, form: Form, status: u16, codes: &[&str]) {
    let response = service.upload(form).await;
    let given = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(given.as_u16(), status, "{what}: {body}");
    assert!(codes.contains(&body["code"].as_str().unwrap()), "{what}: {body}");
    service.is_clean().await;
    is_healthy(service).await;
}

async fn is_healthy(service: &Service) {
    assert_eq!(service.get("/healthz").await.status(), StatusCode::OK);
    let token = service.accept(clip()).await;
    let url = format!("{}/results/{token}", service.base);
    assert_eq!(service.http.delete(url).send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn files_that_are_not_videos_are_refused() {
    let service = with_short_timeout().await;
    let zip = [b"PK\x03\x04".as_slice(), &[7; 500]].concat();
    let riff = [b"RIFF\xff\xff\xff\x7fWAVEfmt ".as_slice(), &[0; 500]].concat();
    let box_alone = [b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2".as_slice(), &[0; 500]].concat();
    let huge_box = [b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff".as_slice(), &[0xFF; 500]].concat();
    let matroska = [b"\x1A\x45\xDF\xA3".as_slice(), &[0xFF; 500]].concat();
    for (what, bytes) in [
        ("one byte", b"x".to_vec()),
        ("text", b"this is a text, whatever its name says\n".repeat(100)),
        ("zeros", vec![0; 10_000]),
        ("an archive", zip),
        ("sound", riff),
        ("a box without a film", box_alone),
        ("a box of 2^64 bytes", huge_box),
        ("noise with Matroska's first bytes", matroska),
    ] {
        is_refused(&service, what, video_form(bytes), 422, &["not_a_video"]).await;
    }
    is_refused(&service, "nothing", video_form(vec![]), 422, &["empty_video"]).await;
}

#[tokio::test]
async fn a_truncated_video_is_refused_or_its_intact_part_accepted() {
    let service = with_short_timeout().await;
    let clips = Clips::new();
    let codec = "-c:v libx264 -pix_fmt yuv420p -g 10";
    let index_last = std::fs::read(clips.moving("last.mp4", 2.0, codec)).unwrap();
    let index_first = clips.moving("first.mp4", 2.0, &format!("{codec} -movflags +faststart"));
    let index_first = std::fs::read(index_first).unwrap();
    let matroska = std::fs::read(clips.moving("clip.mkv", 2.0, codec)).unwrap();
    let mut taken = 0;
    for (name, bytes) in [("index last", index_last), ("index first", index_first), ("mkv", matroska)] {
        for tenth in 0..10 {
            // Truncate to a tenth, two tenths and so on, and at last to all but seven bytes.
            let length = if tenth == 9 { bytes.len() - 7 } else { bytes.len() * (tenth + 1) / 10 };
            let response = service.upload(video_form(bytes[..length].to_vec())).await;
            let status = response.status().as_u16();
            let body: Value = response.json().await.unwrap();
            match status {
                // The file has an index without pictures, or only a part of a picture.
                422 => {
                    assert!(body["code"] == "not_a_video" || body["code"] == "undecodable", "{name}, {tenth}: {body}");
                }
                202 => {
                    taken += 1;
                    let url = format!("{}/results/{}", service.base, body["token"].as_str().unwrap());
                    service.http.delete(url).send().await.unwrap();
                }
                _ => panic!("{name} cut after {length} bytes: {status} {body}"),
            }
            let has_index = name != "index last" || tenth >= 8;
            assert!(has_index || status == 422, "a file without its index cannot be read");
            service.is_clean().await;
        }
    }
    assert!(taken > 0, "no truncated video was accepted");
    is_healthy(&service).await;
}

/// Writes another width and height into the header of a small clip.
fn with_size(mut video: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let at = |video: &[u8], kind: &[u8]| video.windows(4).position(|four| four == kind).unwrap();
    // tkhd has 16.16 fixed-point numbers at its end. avc1 has two 16-bit numbers, 28 bytes after its name.
    let track = at(&video, b"tkhd");
    video[track + 80..track + 82].copy_from_slice(&width.to_be_bytes());
    video[track + 84..track + 86].copy_from_slice(&height.to_be_bytes());
    let sample = at(&video, b"avc1") + 28;
    video[sample..sample + 2].copy_from_slice(&width.to_be_bytes());
    video[sample + 2..sample + 4].copy_from_slice(&height.to_be_bytes());
    video
}

#[tokio::test]
async fn pictures_too_large_for_memory_are_refused() {
    let service = with_short_timeout().await;
    let clips = Clips::new();
    // The header has a wrong, large size; the stream is small.
    let lying = clips.moving("lying.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p");
    let lying = with_size(std::fs::read(lying).unwrap(), 16_384, 16_384);
    let response = service.upload(video_form(lying)).await;
    let (status, body) = (response.status().as_u16(), response.json::<Value>().await.unwrap());
    assert!(matches!(status, 202 | 422), "{body}");
    if status == 202 {
        let url = format!("{}/results/{}", service.base, body["token"].as_str().unwrap());
        service.http.delete(url).send().await.unwrap();
    } else {
        assert_eq!(body["code"], "picture_too_large", "{body}");
    }
    // The stream is really that large.
    let large = "-f lavfi -i color=black:size=8192x8192:rate=1:duration=1 -c:v mjpeg -pix_fmt yuvj420p -frames:v 1";
    let large = clips.make("large.mkv", large);
    let form = video_form(std::fs::read(large).unwrap());
    is_refused(&service, "8k x 8k", form, 422, &["picture_too_large"]).await;
    // The AVI header has the size in plain numbers: 16,384 x 16,384.
    let avi = clips.moving("small.avi", 1.0, "-c:v mjpeg -pix_fmt yuvj420p");
    let mut avi = std::fs::read(avi).unwrap();
    let format = avi.windows(4).position(|four| four == b"strf").unwrap() + 8;
    avi[format + 4..format + 8].copy_from_slice(&16_384_u32.to_le_bytes());
    avi[format + 8..format + 12].copy_from_slice(&16_384_u32.to_le_bytes());
    is_refused(&service, "an AVI header of 16k x 16k", video_form(avi), 422, &["picture_too_large", "not_a_video"])
        .await;
}

#[tokio::test]
async fn a_container_without_pictures_is_refused() {
    let service = with_short_timeout().await;
    let clips = Clips::new();
    let sound = clips.make("sound.mp4", "-f lavfi -i sine=duration=1 -c:a aac");
    is_refused(&service, "sound alone", video_form(std::fs::read(sound).unwrap()), 422, &["not_a_video"]).await;
    let sound = clips.make("sound.mkv", "-f lavfi -i sine=duration=1 -c:a aac");
    is_refused(&service, "sound alone", video_form(std::fs::read(sound).unwrap()), 422, &["not_a_video"]).await;
    // The header has a track, but the track has no frames.
    clips.moving("whole.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p");
    let none = clips.make("none.mp4", "-i $whole.mp4 -c copy -frames:v 0");
    is_refused(&service, "no frame", video_form(std::fs::read(none).unwrap()), 422, &["not_a_video"]).await;
}

#[tokio::test]
async fn codecs_and_containers_outside_the_list_are_refused_by_name() {
    let service = with_short_timeout().await;
    let clips = Clips::new();
    for (name, codec, code, named) in [
        ("a.mkv", "-c:v libtheora", "codec_not_allowed", "theora"),
        ("b.ogv", "-c:v libtheora", "container_not_allowed", "Ogg"),
        ("c.wmv", "-c:v wmv2", "container_not_allowed", "ASF (WMV)"),
    ] {
        let video = std::fs::read(clips.moving(name, 1.0, codec)).unwrap();
        is_refused(&service, name, video_form(video.clone()), 422, &[code]).await;
        let immediate = service.http.post(format!("{}/process-frame", service.base)).body(video.clone());
        let form =
            service.http.post(format!("{}/api/facial-analysis/", service.base)).multipart(video_form(video.clone()));
        for response in
            [service.upload(video_form(video)).await, immediate.send().await.unwrap(), form.send().await.unwrap()]
        {
            let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
            assert_eq!((status.as_u16(), body["code"].as_str()), (422, Some(code)), "{name}: {body}");
            let detail = body["detail"].as_str().or(body["error"].as_str()).unwrap();
            assert!(detail.contains(named), "{name}: {detail}");
        }
    }
    service.is_clean().await;
}

#[tokio::test]
async fn a_video_of_hours_with_few_frames_is_too_long() {
    let service = Service::start(|settings| settings.video.max_duration_s = 7200).await;
    let clips = Clips::new();
    // 180 frames, one a minute.
    let still = "-f lavfi -i color=gray:size=64x64:rate=1/60:duration=10800 -c:v libx264 -pix_fmt yuv420p";
    let long = clips.make("long.mp4", still);
    is_refused(&service, "3 hours", video_form(std::fs::read(long).unwrap()), 422, &["video_too_long"]).await;
}

#[tokio::test]
async fn unusual_videos_are_analyzed_completely() {
    let models = clips::models();
    let service = Service::start(|settings| {
        models.select()(settings);
        settings.mail.transport = visage::config::MailTransport::None;
    })
    .await;
    let clips = Clips::new();
    let codec = "-c:v libx264 -pix_fmt yuv420p";
    let first = clips.moving("first.mp4", 4.0, &format!("{codec} -g 10 -movflags +faststart"));
    let first = std::fs::read(first).unwrap();
    let dot = clips.make(
        "dot.mkv",
        "-f lavfi -i color=gray:size=2x2:rate=25:duration=1 -vf scale=1:1,format=yuv444p -c:v libx264",
    );
    let still = clips.make("still.mp4", &format!("-f lavfi -i color=gray:size=64x64:rate=1/60:duration=3600 {codec}"));
    let working = service.work().await;
    for (what, bytes, needs_warning) in [
        ("a cut-off clip", first[..first.len() * 2 / 3].to_vec(), true),
        ("one pixel", std::fs::read(dot).unwrap(), false),
        ("an hour of one picture", std::fs::read(still).unwrap(), false),
    ] {
        let response = service.upload(video_form(bytes)).await;
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        // Builds of FFmpeg differ at that size, so a refusal is accepted as well.
        if what == "one pixel" && status == 422 {
            assert_eq!(body["code"], "not_a_video");
            continue;
        }
        assert_eq!(status, 202, "{what}: {body}");
        let token = body["token"].as_str().unwrap().parse().unwrap();
        let result = service.finished(token).await;
        assert_eq!(result["status"], "done", "{what}: {result}");
        assert_eq!(result["analysis"]["faces"], serde_json::json!([]), "{what}");
        let warnings = result["analysis"]["warnings"].as_array().unwrap();
        assert!(!needs_warning || !warnings.is_empty(), "{what}: {result}");
    }
    service.stop.cancel();
    timeout(PATIENCE, working).await.unwrap().unwrap();
    assert!(service.stored().is_empty(), "videos were not deleted after their analysis");
}

#[tokio::test]
async fn a_video_that_is_too_costly_is_refused_and_its_job_is_not_repeated() {
    let models = clips::models();
    let service = Service::start(|settings| {
        models.select()(settings);
        settings.mail.transport = visage::config::MailTransport::None;
        settings.video.max_decoder_memory = visage::config::ByteSize(40_000_000);
    })
    .await;
    let clips = Clips::new();
    let references = "-c:v libx264 -preset ultrafast -x264-params ref=16:keyint=1000:log-level=error -pix_fmt yuv420p";
    let gray = format!("-f lavfi -i color=gray:size=1920x1080:rate=25:duration=1 {references}");
    let bomb = std::fs::read(clips.make("bomb.mp4", &gray)).unwrap();
    let immediate = service.http.post(format!("{}/process-frame", service.base)).body(bomb.clone());
    let form = service.http.post(format!("{}/api/facial-analysis/", service.base)).multipart(video_form(bomb.clone()));
    for response in
        [service.upload(video_form(bomb)).await, immediate.send().await.unwrap(), form.send().await.unwrap()]
    {
        let (status, body) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!((status.as_u16(), body["code"].as_str()), (422, Some("video_too_costly")), "{body}");
        let detail = body["detail"].as_str().or(body["error"].as_str()).unwrap();
        assert!(detail.contains("GB of memory; the limit is 0.04 GB"), "{detail}");
    }
    service.is_clean().await;
    // The header describes small frames without references.
    clips.moving("first.h264", 1.0, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p");
    clips.make("second.h264", &gray);
    let both = ["first.h264", "second.h264"].map(|name| std::fs::read(clips.path(name)).unwrap()).concat();
    clips.write("both.h264", &both);
    let hidden = clips.make("hidden.mp4", "-r 25 -i $both.h264 -c copy -bsf:v setts=ts=N");
    let working = service.work().await;
    let token = service.accept(std::fs::read(hidden).unwrap()).await;
    let result = service.finished(token).await;
    assert_eq!(
        (&result["status"], &result["error"]["code"]),
        (&"failed".into(), &"video_too_costly".into()),
        "{result}"
    );
    assert_eq!(service.store.job(token).await.unwrap().unwrap().attempts, 1);
    service.stop.cancel();
    timeout(PATIENCE, working).await.unwrap().unwrap();
    service.is_clean().await;
}

#[tokio::test]
async fn the_name_of_a_file_is_never_used() {
    let service = with_short_timeout().await;
    for name in ["../../etc/passwd", "/tmp/x", "a\u{202e}4pm.exe", "%00%2e%2e%2f", "", "con", "🎬\t"] {
        let form = Form::new().part("video", Part::bytes(clip()).file_name(name.to_owned()));
        let response = service.upload(form).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{name:?}: {}", response.text().await.unwrap());
        let body = response.text().await.unwrap();
        assert!(name.is_empty() || !body.contains(name), "{name:?} is in the answer: {body}");
    }
    let stored = service.stored();
    assert_eq!(stored.len(), 7);
    assert!(stored.iter().all(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.parse::<uuid::Uuid>().is_ok()
    }));
    // There are no other files beside the folder.
    let mut around: Vec<_> =
        std::fs::read_dir(service.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    around.retain(|name| !name.to_str().unwrap().starts_with("visage.db"));
    assert!(around.iter().all(|name| name == "videos" || name == "outbox"), "{around:?}");
}

const FORM: &str = "POST /analyze-video HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n";
const VIDEO: &str = "--b\r\nContent-Disposition: form-data; name=\"video\"; filename=\"clip.mp4\"\r\n\r\n";

/// Sends raw bytes, then reads the answer until the server closes the connection.
async fn raw(service: &Service, pieces: &[&[u8]]) -> String {
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    for piece in pieces {
        // The server may already have answered and closed the connection.
        if socket.write_all(piece).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_idle_client_is_disconnected() {
    let service = with_short_timeout().await;
    let head = format!("{FORM}Content-Length: 1000000\r\n\r\n{VIDEO}");
    let answer = raw(&service, &[head.as_bytes(), &clip()[..1000]]).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("upload_stalled"), "{answer}");
    service.is_clean().await;
    is_healthy(&service).await;
}

#[tokio::test]
async fn a_slow_request_head_is_cut_off_at_its_time_limit() {
    let service = with_short_timeout().await;
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    // The pauses are shorter than the idle timeout.
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"x-more: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = Vec::new();
    // The connection ends with an answer or a reset.
    let _ = timeout(Duration::from_secs(20), reading.read_to_end(&mut answer)).await.expect("the service still waits");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    trickle.abort();
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_no_files() {
    let service = with_short_timeout().await;
    for sent in [100, 5_000] {
        let mut socket = TcpStream::connect(service.address()).await.unwrap();
        let head = format!("{FORM}Content-Length: 1000000\r\n\r\n{VIDEO}");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&clip()[..sent]).await.unwrap();
        for _ in 0..500 {
            if !service.stored().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(service.stored().len(), 1, "the upload has not begun");
        drop(socket);
        service.is_clean().await;
    }
    is_healthy(&service).await;
}

#[tokio::test]
async fn a_slow_upload_is_cut_off_at_its_time_limit() {
    let service = Service::start(|settings| settings.http.max_upload_s = 2).await;
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    let head = format!("{FORM}Content-Length: 1000000\r\n\r\n{VIDEO}");
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let trickle = tokio::spawn(async move {
        for byte in clip() {
            if writing.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = vec![0; 4096];
    let got = timeout(PATIENCE, reading.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..got]);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("upload_too_slow"), "{answer}");
    trickle.abort();
    service.is_clean().await;
}

#[tokio::test]
async fn malformed_forms_are_refused() {
    let service = with_short_timeout().await;
    let noise = vec![b'x'; 1 << 20];
    let endless_head = [b"--b\r\nContent-Disposition: form-data; name=\"".as_slice(), &noise].concat();
    let unfinished = [VIDEO.as_bytes(), &clip()].concat();
    for (what, body) in [
        ("the wrong boundary", noise.as_slice()),
        ("a field's head without end", &endless_head),
        ("no boundary at the end", &unfinished),
        ("a field without a name", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (
            "a null character",
            b"--b\r\nContent-Disposition: form-data; name=\"video\"; filename=\"\0\"\r\n\r\nx\r\n--b--\r\n",
        ),
        ("headers that are none", b"--b\r\n\xff\xfe\xfd: x\r\n\r\nx\r\n--b--\r\n"),
    ] {
        let head = format!("{FORM}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = raw(&service, &[head.as_bytes(), body]).await;
        let refused = ["HTTP/1.1 400 ", "HTTP/1.1 422 "].iter().any(|status| answer.starts_with(status));
        assert!(refused && answer.contains("\"code\":"), "{what}: {answer}");
        service.is_clean().await;
    }
    is_healthy(&service).await;
}

#[tokio::test]
async fn forms_with_too_many_or_too_large_parts_are_refused() {
    let service = with_short_timeout().await;
    let huge = Form::new().text("email", "x".repeat(50 << 20)).part("video", Part::bytes(clip()));
    is_refused(&service, "50 MiB of text", huge, 413, &["field_too_large"]).await;
    let mut body = String::new();
    for _ in 0..10_000 {
        body.push_str("--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n\r\n");
    }
    body.push_str("--b--\r\n");
    let head = format!("{FORM}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = raw(&service, &[head.as_bytes(), body.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("too_many_fields"), "{answer}");
    service.is_clean().await;
    let swollen = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(200_000));
    let answer = raw(&service, &[swollen.as_bytes()]).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    is_healthy(&service).await;
}

#[tokio::test]
async fn a_playlist_fetches_nothing() {
    let service = with_short_timeout().await;
    // Counts connections. There must be none.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (inside, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = visits.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://{inside}/secret.ts\n#EXT-X-ENDLIST\n");
    let concat = format!("ffconcat version 1.0\nfile 'http://{inside}/secret.mp4'\nfile '/etc/passwd'\n");
    let smil = format!("<smil><body><video src=\"http://{inside}/x.mp4\"/></body></smil>");
    let dash = format!("<?xml version=\"1.0\"?><MPD><BaseURL>http://{inside}/x.mp4</BaseURL></MPD>");
    for (what, text) in [("hls", hls), ("concat", concat), ("smil", smil), ("dash", dash)] {
        let form = video_form(text.into_bytes());
        is_refused(&service, what, form, 422, &["not_a_video"]).await;
    }
    // A QuickTime file whose data reference names another address.
    let url = format!("http://{inside}/secret.mov\0");
    let mut film = clip();
    let at = film.windows(4).position(|four| four == b"url ").unwrap();
    film[at + 7] = 0;
    let end = film.len();
    film[end - url.len()..].copy_from_slice(url.as_bytes());
    let response = service.upload(video_form(film)).await;
    assert!(matches!(response.status().as_u16(), 202 | 422));
    assert_eq!(visits.load(Ordering::SeqCst), 0, "an upload made the service connect to an address of its choice");
}
