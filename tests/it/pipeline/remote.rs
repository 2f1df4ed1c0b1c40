//! Videos read over HTTP, from working and from faulty servers.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use visage::analysis::Warning;
use visage::config::Settings;
use visage::media::{Every, Frames, FramesError, Opened, ProbeError, Sound, Source, probe};
use visage::pipeline::Cancel;

use super::{EVERY_20TH, pipeline};
use crate::support::clips::{Clips, shared};

/// The answer of a server to a request for the bytes from an offset on.
type Answer = dyn Fn(&mut TcpStream, u64) -> std::io::Result<()> + Send + Sync;

/// Starts a server on loopback and returns the address of its file.
fn serve(answer: impl Fn(&mut TcpStream, u64) -> std::io::Result<()> + Send + Sync + 'static) -> Source {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<Answer> = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            std::thread::spawn(move || {
                let mut offset = 0;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap_or_default().to_ascii_lowercase();
                    if let Some(range) = line.strip_prefix("range: bytes=") {
                        offset = range.trim_end_matches('-').parse().unwrap_or(0);
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                // The client may close the connection at any time.
                let _ = answer(&mut stream, offset);
            });
        }
    });
    Source::Url(format!("http://{address}/video?X-Amz-Signature=secret"))
}

/// Answers with a file from the offset on. Stops at the byte `breaks_at`, if there is one.
fn file(bytes: Vec<u8>, breaks_at: Option<usize>) -> impl Fn(&mut TcpStream, u64) -> std::io::Result<()> {
    move |stream, offset| {
        let (start, length) = (usize::try_from(offset).unwrap().min(bytes.len()), bytes.len());
        let status = if offset > 0 { "206 Partial Content" } else { "200 OK" };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\
             Content-Range: bytes {start}-{}/{length}\r\nConnection: close\r\n\r\n",
            length - start,
            length - 1
        )?;
        stream.write_all(&bytes[start..breaks_at.unwrap_or(length).max(start)])
    }
}

fn status(line: &'static str) -> impl Fn(&mut TcpStream, u64) -> std::io::Result<()> {
    move |stream, _| write!(stream, "HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[test]
fn video_from_a_url_gives_the_same_frames_as_the_file() {
    let (pipeline, _models) = pipeline();
    let clip = shared("single_face.mp4");
    let source = serve(file(std::fs::read(&clip).unwrap(), None));
    let findings = |source: &Source| pipeline.analyze(source, EVERY_20TH, &|_| {}, &Cancel::default()).unwrap();
    assert_eq!(findings(&source), findings(&Source::File(clip)));
    assert!(!format!("{source:?}").contains("secret"));
}

#[test]
fn error_status_of_a_server_is_a_source_error() {
    let limits = Settings::defaults().unwrap().video;
    for line in ["403 Forbidden", "404 Not Found", "500 Internal Server Error", "503 Slow Down"] {
        let outcome = probe(&serve(status(line)), &limits);
        assert!(matches!(outcome, Err(ProbeError::Unreadable(_))), "{line}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains("secret"));
    }
    let outcome = probe(&serve(file(b"a page and no video".repeat(100), None)), &limits);
    assert!(matches!(outcome, Err(ProbeError::NotAVideo)), "{outcome:?}");
    let playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:1/x.ts\n#EXT-X-ENDLIST\n";
    let outcome = probe(&serve(file(playlist.to_vec(), None)), &limits);
    assert!(matches!(outcome, Err(ProbeError::NotAVideo)), "{outcome:?}");
}

#[test]
fn refused_container_at_a_url_is_named() {
    let limits = Settings::defaults().unwrap().video;
    let outcome = probe(&serve(file([b"OggS\0\x02".as_slice(), &[0; 2000]].concat(), None)), &limits);
    assert!(
        matches!(outcome, Err(ProbeError::ContainerNotAllowed { ref container }) if container == "Ogg"),
        "{outcome:?}"
    );
    let outcome = probe(&serve(file([b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 2000]].concat(), None)), &limits);
    assert!(matches!(outcome, Err(ProbeError::Picture { ref format }) if format == "PNG"), "{outcome:?}");
}

/// Decodes a source to its end and returns the warnings.
fn decode(source: &Source) -> Result<Vec<Warning>, FramesError> {
    let limits = Settings::defaults().unwrap().video;
    let mut frames = Frames::start(Opened::open(source, &limits)?, Every::exact(10), 2)?;
    while frames.next(&|| false)?.is_some() {}
    frames.end(|| false).map(|end| end.warnings)
}

#[test]
fn broken_connection_is_not_a_damaged_video() {
    let clips = Clips::new();
    let front = "-vf noise=alls=40:allf=t -c:v libx264 -qp 5 -g 10 -pix_fmt yuv420p -movflags +faststart";
    let whole = std::fs::read(clips.moving("whole.mp4", 20.0, front)).unwrap();
    assert!(whole.len() > 1_000_000, "longer than what a socket buffers: {}", whole.len());
    let half = whole.len() / 2;

    assert_eq!(decode(&serve(file(whole.clone(), None))).unwrap(), []);
    // The file itself is truncated, so its frames are used.
    let cut = decode(&serve(file(whole[..half].to_vec(), None))).unwrap();
    assert!(cut.iter().any(|warning| matches!(warning, Warning::VideoCutOff { .. })), "{cut:?}");
    // The server states the whole length and stops in the middle at each request.
    let broken = decode(&serve(file(whole, Some(half))));
    assert!(matches!(broken, Err(FramesError::Video(ProbeError::Unreadable(_)))), "{broken:?}");
}

#[test]
fn sound_over_http_equals_the_sound_of_the_file() {
    let clips = Clips::new();
    let tracks = "-f lavfi -i testsrc=size=64x64:rate=5:duration=4 -f lavfi -i sine=duration=4";
    let limits = Settings::defaults().unwrap().video;
    // One file has its index at the start, the other at the end.
    for (name, coding) in [("opus.webm", "-c:v libvpx -c:a libopus"), ("aac.mp4", "-c:v mpeg4 -c:a aac")] {
        let clip = clips.make(name, &format!("{tracks} {coding}"));
        let samples = |source: &Source| {
            let mut sound = Sound::open(source, &limits, || false).unwrap().unwrap();
            std::iter::from_fn(|| sound.next(&|| false).unwrap()).flatten().collect::<Vec<f32>>()
        };
        let remote = samples(&serve(file(std::fs::read(&clip).unwrap(), None)));
        assert!(remote.len() > 60_000 && remote == samples(&Source::File(clip)), "{name}: {}", remote.len());
    }
}
