//! The bodies of the Journaling thumbnails API: JSON with a video in base64.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderMap;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::spool::Spool;
use super::{CapacityError, ImmediateAnalyzer, ImmediateError, check_memory, on_thread, take_permit};
use crate::api::file_source::FileSource;
use crate::api::json_body;
use crate::api::limits::Client;
use crate::api::notice::NoticeStatement;
use crate::api::problem::detail;
use crate::api::upload;
use crate::api::upload::body::{IncomingBody, Pace};
use crate::api::upload::error::{BodyError, UploadError, VideoError};
use crate::api::upload::form::VideoSink;
use crate::api::{Api, Caller, Problem, quota};
use crate::media::{self, Source};
use crate::pipeline::Cancel;

/// Maximum number of bytes of a body besides the base64: other members, and line breaks in the base64.
const MAX_OTHER: u64 = 1 << 20;
/// Containers that a client may name.
pub const CONTAINERS: [&str; 8] = ["mp4", "mov", "m4v", "3gp", "3g2", "avi", "mkv", "webm"];
/// Content types that a client may name instead of a container, with their containers.
pub const CONTENT_TYPES: [(&str, &str); 13] = [
    ("video/mp4", "mp4"),
    ("application/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/x-m4v", "m4v"),
    ("video/3gpp", "3gp"),
    ("video/3gpp2", "3g2"),
    ("video/avi", "avi"),
    ("video/vnd.avi", "avi"),
    ("video/x-msvideo", "avi"),
    ("video/msvideo", "avi"),
    ("video/matroska", "mkv"),
    ("video/x-matroska", "mkv"),
    ("video/webm", "webm"),
];
/// Content types of the formats in which a call may write a thumbnail.
const PICTURE_TYPES: [(&str, &str); 2] = [("image/gif", "gif"), ("image/webp", "webp")];
/// The content type of unknown bytes.
const ANY_BYTES: &str = "application/octet-stream";

/// Base64 may end with or without padding.
const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
/// Base64 with `-` and `_` instead of `+` and `/` (RFC 4648, section 5).
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

/// The known members. Other members are ignored.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    encoding: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    format: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "json_body::maybe_number")]
    fps: Option<f64>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    /// Only `POST /thumbnail` has this member.
    #[serde(borrow, default)]
    duration: Option<&'a RawValue>,
    #[serde(borrow, default)]
    notice: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    notice_version: Option<Cow<'a, str>>,
}

/// The other members of a request with a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipRequest {
    /// A container, or the format of a thumbnail, by its short name in lower case.
    pub format: Option<String>,
    /// The member `duration` as JSON.
    duration: Option<String>,
    /// The members `notice` and `notice_version`.
    notice: [Option<String>; 2],
}

/// Runs `work` on the video in the body of a request. `check` validates the other members first; its result is passed
/// to `work`.
pub async fn with_clip<W: Send + 'static, T: Send + 'static>(
    api: &Api,
    caller: &Caller,
    request: Request,
    check: impl FnOnce(&ClipRequest) -> Result<W, ImmediateError>,
    work: impl FnOnce(&dyn ImmediateAnalyzer, &Source, &Cancel, W) -> Result<T, ImmediateError> + Send + 'static,
) -> Result<T, Problem> {
    let settings = &api.app.settings;
    let (head, body) = request.into_parts();
    let limit = settings.thumbnails.max_video.0 / 3 * 4 + MAX_OTHER;
    let incoming = IncomingBody::new(&head.headers, body, limit, Pace::of(&settings.http));
    let limit_s = settings.sync.deadline_s;
    let done = async {
        let permit = take_permit(api, &Client::of(caller, &head.extensions))?;
        check_memory(api).await?;
        let counted = quota::count(api, caller).await?;
        let spool = Spool::new().await.map_err(CapacityError::TemporaryFile)?;
        let bytes = read(api, &head.headers, &incoming, limit).await?;
        let (request, video) =
            tokio::task::spawn_blocking(move || parse(&bytes)).await.map_err(|_| ImmediateError::Thread)??;
        if video.len() as u64 > settings.thumbnails.max_video.0 {
            return Err(too_large(settings.thumbnails.max_video.0));
        }
        let [notice, version] = &request.notice;
        let mut statement = NoticeStatement::from_query(&head.uri).map_err(UploadError::from)?;
        let stated = statement.set_members(notice.as_deref(), version.as_deref());
        stated.and_then(|()| statement.record(&api.app, None)).map_err(UploadError::from)?;
        let checked = check(&request)?;
        media::sniff(&video[..video.len().min(media::HEAD)], &settings.video).map_err(VideoError::Unusable)?;
        let mut upload = spool.begin().await?;
        upload.write(video).await?;
        upload.finish().await?;
        let work = move |analyzer: &dyn ImmediateAnalyzer, source: &Source, cancel: &Cancel| {
            work(analyzer, source, cancel, checked)
        };
        let result = on_thread(api, spool, permit, work).await?;
        counted.keep();
        Ok(result)
    };
    let done = tokio::time::timeout(Duration::from_secs(limit_s), done).await;
    done.unwrap_or(Err(ImmediateError::Deadline { limit_s })).map_err(|error| {
        upload::reject(&error, &head.headers, incoming);
        error.problem(FileSource::Content)
    })
}

fn too_large(limit: u64) -> ImmediateError {
    BodyError::TooLarge { limit }.into()
}

/// Reads the whole body. A body whose `Content-Length` is too large is rejected with the limit of the video, not of the
/// text.
async fn read(api: &Api, headers: &HeaderMap, incoming: &IncomingBody, limit: u64) -> Result<Bytes, ImmediateError> {
    upload::check_announced(headers, limit).map_err(|_| too_large(api.app.settings.thumbnails.max_video.0))?;
    Ok(json_body::bytes(api, headers, incoming, limit).await?)
}

/// Parses the members and decodes the video of a body.
pub fn parse(bytes: &[u8]) -> Result<(ClipRequest, Bytes), ImmediateError> {
    let wrong = ImmediateError::Request;
    let members: Members<'_> = serde_json::from_slice(json_body::without_byte_order_mark(bytes)).map_err(|error| {
        // The message gives the line of the error, but does not repeat the text of the client.
        let (line, column) = (error.line(), error.column());
        wrong(if error.is_data() { detail::clip_member(line, column) } else { detail::clip_not_json(line, column) })
    })?;
    let encoding = members.encoding.unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(encoding.as_str(), "" | "base64" | "base64url") {
        return Err(wrong(detail::clip_encoding()));
    }
    if members.fps.is_some_and(|fps| !(fps.is_finite() && fps > 0.0)) {
        return Err(wrong(detail::clip_fps()));
    }
    let video = decode(&members.content)?;
    let format = members.format.as_deref().and_then(short_name);
    let notice = [members.notice, members.notice_version].map(|member| member.map(Cow::into_owned));
    Ok((ClipRequest { format, duration: members.duration.map(|duration| duration.get().to_owned()), notice }, video))
}

/// The short name of a format: `.MP4`, `video/mp4` and `video/mp4; codecs="avc1"` are `mp4`. `None` for empty text and
/// for `application/octet-stream`, which a browser sends if it does not know the type of a file.
fn short_name(format: &str) -> Option<String> {
    let essence = format.split(';').next().unwrap_or_default().trim();
    let name = essence.trim_start_matches('.').to_ascii_lowercase();
    let known = CONTENT_TYPES.iter().chain(&PICTURE_TYPES).find(|(content_type, _)| *content_type == name);
    match known {
        Some((_, short)) => Some((*short).to_owned()),
        None => Some(name).filter(|name| !name.is_empty() && name != ANY_BYTES),
    }
}

/// Decodes a video in base64, with or without `data:...;base64,` in front, and with or without line breaks.
pub fn decode(content: &str) -> Result<Bytes, ImmediateError> {
    let wrong = ImmediateError::Request;
    let text = payload(content.trim())?;
    if text.is_empty() {
        return Err(wrong(detail::clip_empty()));
    }
    let alphabet = if text.bytes().any(|byte| matches!(byte, b'-' | b'_')) { &BASE64_URL } else { &BASE64 };
    let decoded = alphabet.decode(text.as_bytes());
    decoded.map(Bytes::from).map_err(|_| wrong(detail::clip_not_base64()))
}

/// The base64 in a text, without white space. In a data: address (RFC 2397), the base64 follows the media type, whose
/// parameters may contain commas (`codecs=vp8,opus`).
fn payload(text: &str) -> Result<Cow<'_, str>, ImmediateError> {
    let wrong = ImmediateError::Request;
    let is_address = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"));
    let mut payload = Cow::Borrowed(text);
    if is_address {
        let data = match data_of(text) {
            Some(data) => data,
            None if text.contains(',') => return Err(wrong(detail::clip_data_not_base64())),
            None => return Err(wrong(detail::clip_data_no_comma())),
        };
        // An address may have percent-encoded `+`, `/` and `=`. Base64 itself has no percent sign.
        let is_escaped = data.contains('%');
        payload = if is_escaped { percent_decode_str(data).decode_utf8_lossy() } else { Cow::Borrowed(data) };
    }
    if payload.bytes().any(|byte| byte.is_ascii_whitespace()) {
        payload = Cow::Owned(payload.split_ascii_whitespace().collect());
    }
    Ok(payload)
}

/// The text after `;base64,` in a data: address.
fn data_of(address: &str) -> Option<&str> {
    address.match_indices(',').find_map(|(comma, _)| {
        let before = address[..comma].trim_end();
        let (before, last) = before.split_at_checked(before.len().checked_sub("base64".len())?)?;
        let is_it = last.eq_ignore_ascii_case("base64") && before.trim_end().ends_with(';');
        is_it.then_some(&address[comma + 1..])
    })
}

impl ClipRequest {
    /// The requested duration in seconds.
    pub fn duration_s(&self) -> Result<Option<f64>, ImmediateError> {
        let Some(duration) = &self.duration else { return Ok(None) };
        let read = json_body::maybe_number(&mut serde_json::Deserializer::from_str(duration));
        read.map_err(|_| ImmediateError::Request(detail::clip_duration()))
    }

    /// Rejects a format that is neither a container nor one of `others`.
    pub fn check_format(&self, others: &[&str]) -> Result<(), ImmediateError> {
        match self.format.as_deref() {
            None => Ok(()),
            Some(format) if CONTAINERS.contains(&format) || others.contains(&format) => Ok(()),
            Some(_) => {
                let known: Vec<_> = CONTAINERS.iter().chain(others).copied().collect();
                Err(ImmediateError::Request(detail::clip_format(known.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<(ClipRequest, Bytes), ImmediateError>) -> String {
        result.unwrap_err().to_string()
    }

    const BYTES: [u8; 5] = [0, 255, 2, 254, 251];

    #[test]
    fn a_video_is_decoded_from_every_way_to_write_base64() {
        for content in [
            "AP8C/vs=",
            "AP8C/vs",
            "AP8C_vs=",
            "AP8C_vs",
            "data:video/mp4;base64,AP8C/vs=",
            r"DATA:video/mp4;BASE64, AP8C\n/vs=",
            "data:video/webm;codecs=vp8,opus;base64,AP8C/vs=",
            r#"data:video/webm;codecs=\"vp8, opus\";base64,AP8C/vs="#,
            "data:video/x-matroska;codecs=avc1,opus;charset=utf-8; base64 ,AP8C_vs",
            "data:;base64,AP8C/vs=",
            "data:application/octet-stream;base64,AP8C%2Fvs%3D",
            r"AP 8C\r\n/vs=\n",
            r"\tAP8C_\u000avs\n=",
        ] {
            let body =
                format!(r#"{{"encoding": "base64", "format": ".MP4", "fps": 30, "content": "{content}", "more": []}}"#);
            let (request, video) = parse(body.as_bytes()).unwrap();
            assert_eq!(&video[..], BYTES, "{content}");
            assert_eq!(request, ClipRequest { format: Some("mp4".to_owned()), duration: None, notice: [None, None] });
        }
    }

    #[test]
    fn numbers_may_be_text_and_a_byte_order_mark_is_skipped() {
        for fps in ["30", "29.97", "\"30\"", "\" 29.97 \"", "null"] {
            let body = format!("\u{feff}{{\"encoding\": \"BASE64URL\", \"fps\": {fps}, \"content\": \"AP8C_vs\"}}");
            assert_eq!(parse(body.as_bytes()).unwrap().1[..], BYTES, "{fps}");
        }
        let duration = |given: &str| {
            let body = format!(r#"{{"duration": {given}, "content": "AP8C"}}"#);
            parse(body.as_bytes()).unwrap().0.duration_s()
        };
        for (given, is) in [("2.5", Some(2.5)), ("\"2.5\"", Some(2.5)), ("\"3\"", Some(3.0)), ("null", None)] {
            assert_eq!(duration(given).unwrap(), is, "{given}");
        }
        for given in ["\"long\"", "\"2,5\"", "\"\"", "[3]", "true", "{\"s\": 3}"] {
            assert!(duration(given).unwrap_err().to_string().contains("duration"), "{given}");
        }
    }

    #[test]
    fn a_format_may_be_a_content_type() {
        for (format, short) in [
            ("mp4", Some("mp4")),
            (" .WebM", Some("webm")),
            ("video/mp4", Some("mp4")),
            ("Video/WebM;codecs=vp8,opus", Some("webm")),
            ("video/quicktime", Some("mov")),
            ("video/x-matroska; codecs=\"avc1\"", Some("mkv")),
            ("video/x-msvideo", Some("avi")),
            ("image/gif", Some("gif")),
            ("", None),
            ("application/octet-stream", None),
            ("video/unheard-of", Some("video/unheard-of")),
        ] {
            assert_eq!(short_name(format).as_deref(), short, "{format}");
        }
    }

    #[test]
    fn an_error_names_the_problem_and_repeats_nothing_of_the_request() {
        for (body, about) in [
            ("", "not JSON"),
            ("[]", "wrong type"),
            ("{}", "content"),
            (r#"{"content": 5}"#, "content"),
            (r#"{"content": ""}"#, "empty"),
            (r#"{"content": "secret?"}"#, "not base64"),
            (r#"{"content": "AAE=C"}"#, "not base64"),
            (r#"{"content": "AA+_"}"#, "not base64"),
            (r#"{"content": "AA%2B"}"#, "not base64"),
            (r#"{"content": "data:video/mp4,AAEC"}"#, "not in base64"),
            (r#"{"content": "data:video/mp4;base64"}"#, "comma"),
            (r#"{"content": "data:video/mp4;base64,"}"#, "empty"),
            (r#"{"content": "data:base64,AAEC"}"#, "not in base64"),
            (r#"{"content": "AAEC", "encoding": "hex"}"#, "encoding"),
            (r#"{"content": "AAEC", "fps": 0}"#, "fps"),
            (r#"{"content": "AAEC", "fps": "many"}"#, "fps"),
        ] {
            let message = reason(parse(body.as_bytes()));
            assert!(
                message.contains(about) && !message.contains("secret") && message.ends_with('.'),
                "{body}: {message}"
            );
        }
    }

    #[test]
    fn a_format_is_a_container_or_one_of_the_others() {
        let request =
            |format: &str| ClipRequest { format: Some(format.to_owned()), duration: None, notice: [None, None] };
        assert!(request("webm").check_format(&[]).is_ok() && request("gif").check_format(&["gif"]).is_ok());
        assert!(request("gif").check_format(&[]).is_err() && request("exe").check_format(&["gif"]).is_err());
    }
}
