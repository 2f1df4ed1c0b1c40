//! The body of the thumbnails service's calls: JSON with a video in base64.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;

use super::spool::Spool;
use super::{Analyzer, SyncError, enough_memory, on_thread};
use crate::api::body;
use crate::api::incoming::{BodyError, Incoming};
use crate::api::v1::analyze_video;
use crate::api::v1::form::Shelf;
use crate::api::v1::refusal::AnalyzeError;
use crate::api::{Api, Caller, quota};
use crate::media::{self, Source};
use crate::pipeline::Cancel;

/// Beside the video: names, numbers, and how some clients break lines.
const BESIDE: u64 = 1 << 20;
/// Containers that a client may name, and the formats in which a thumbnail can be had.
const CONTAINERS: [&str; 6] = ["mp4", "mov", "m4v", "avi", "mkv", "webm"];
/// Ends its text with or without the equals signs, as libraries differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The members, as far as they are known; others are read over.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    encoding: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    format: Option<Cow<'a, str>>,
    #[serde(default)]
    fps: Option<f64>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    duration: Option<f64>,
}

/// What a request says beside the video.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// In lower case.
    pub format: Option<String>,
    pub duration_s: Option<f64>,
}

/// Runs `work` on the video in the body of a request; what the request says beside it goes through `check` first.
pub async fn with_clip<W: Send + 'static, T: Send + 'static>(
    api: &Api,
    request: Request,
    check: impl FnOnce(&Said) -> Result<W, SyncError>,
    work: impl FnOnce(&dyn Analyzer, &Source, &Cancel, W) -> Result<T, SyncError> + Send + 'static,
) -> Result<T, SyncError> {
    let settings = &api.app.settings;
    let (head, body) = request.into_parts();
    let limit = settings.thumbnails.max_video.0 / 3 * 4 + BESIDE;
    let incoming = Incoming::new(body, limit, Duration::from_secs(settings.http.idle_timeout_s));
    let limit_s = settings.sync.deadline_s;
    let waits = head.headers.contains_key(header::EXPECT);
    let left = incoming.clone();
    let caller = head.extensions.get::<Caller>().cloned().unwrap_or_default();
    let done = async {
        let place = api.sync.clone().try_acquire_owned().map_err(|_| SyncError::Full)?;
        enough_memory(api).await?;
        let counted = quota::count(api, &caller).await?;
        let spool = Spool::new().await.map_err(SyncError::NoFile)?;
        let bytes = read(api, &head.headers, incoming, limit).await?;
        let (said, video) =
            tokio::task::spawn_blocking(move || parse(&bytes)).await.map_err(|_| SyncError::Broken)??;
        if video.len() as u64 > settings.thumbnails.max_video.0 {
            return Err(too_large(settings.thumbnails.max_video.0));
        }
        let wanted = check(&said)?;
        if !media::sniff(&video) {
            return Err(AnalyzeError::NotAVideo.into());
        }
        let mut upload = spool.begin().await.map_err(AnalyzeError::from)?;
        upload.write(video).await.map_err(AnalyzeError::from)?;
        upload.finish().await.map_err(AnalyzeError::from)?;
        let made = on_thread(api, spool, place, move |analyzer, source, cancel| work(analyzer, source, cancel, wanted));
        let made = made.await?;
        counted.keep();
        Ok(made)
    };
    let done = tokio::time::timeout(Duration::from_secs(limit_s), done).await;
    let done = done.unwrap_or(Err(SyncError::Late { limit_s }));
    if let Err(error) = &done {
        tracing::info!(reason = %error, "a clip was refused");
        left.drain(waits);
    }
    done
}

fn too_large(limit: u64) -> SyncError {
    AnalyzeError::Body(BodyError::TooLarge { limit }).into()
}

/// All of the body; a refusal for its size tells the size of the video, not of its text.
async fn read(api: &Api, headers: &HeaderMap, incoming: Incoming, limit: u64) -> Result<Bytes, SyncError> {
    analyze_video::check_announced(headers, limit).map_err(|_| too_large(api.app.settings.thumbnails.max_video.0))?;
    Ok(body::whole(api, headers, incoming, limit).await?)
}

/// Members and video of a body.
fn parse(bytes: &[u8]) -> Result<(Said, Bytes), SyncError> {
    let wrong = |reason: &str| SyncError::Request(reason.to_owned());
    let members: Members<'_> = serde_json::from_slice(bytes).map_err(|error| {
        // Where the error is in the text, and not what stands there.
        let at = format!("line {}, column {}", error.line(), error.column());
        if error.is_data() {
            wrong(&format!(
                "A member is missing or of a wrong type ({at}): content and encoding are text, fps and duration numbers."
            ))
        } else {
            wrong(&format!("The body is not JSON ({at})."))
        }
    })?;
    if members.encoding.as_deref().is_some_and(|encoding| !encoding.eq_ignore_ascii_case("base64")) {
        return Err(wrong("encoding must be base64."));
    }
    if members.fps.is_some_and(|fps| !(fps.is_finite() && fps > 0.0)) {
        return Err(wrong("fps must be a number above 0."));
    }
    let format = members.format.map(|format| format.trim().trim_start_matches('.').to_ascii_lowercase());
    let video = decode(&members.content)?;
    Ok((Said { format, duration_s: members.duration }, video))
}

/// The bytes of a video in base64, with or without `data:...;base64,` in front and with line breaks as they come.
fn decode(content: &str) -> Result<Bytes, SyncError> {
    let wrong = |reason: &str| SyncError::Request(reason.to_owned());
    let mut text = content.trim();
    if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:")) {
        let (kind, rest) =
            text.split_once(',').ok_or_else(|| wrong("content begins as a data: address and has no comma."))?;
        if !kind.to_ascii_lowercase().ends_with(";base64") {
            return Err(wrong("content is a data: address that is not in base64."));
        }
        text = rest.trim();
    }
    if text.is_empty() {
        return Err(wrong("content is empty. Send the video in base64."));
    }
    let mut text = Cow::Borrowed(text);
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        text = Cow::Owned(text.split_ascii_whitespace().collect());
    }
    let decoded = BASE64.decode(text.as_bytes());
    decoded.map(Bytes::from).map_err(|_| wrong("content is not base64. Encode the bytes of the video, all of them."))
}

impl Said {
    /// Refuses a format that is neither a container nor one of those.
    pub fn check_format(&self, others: &[&str]) -> Result<(), SyncError> {
        match self.format.as_deref() {
            None => Ok(()),
            Some(format) if CONTAINERS.contains(&format) || others.contains(&format) => Ok(()),
            Some(_) => {
                let known: Vec<_> = CONTAINERS.iter().chain(others).copied().collect();
                Err(SyncError::Request(format!("format must be one of {}.", known.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<(Said, Bytes), SyncError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_video_comes_as_clients_write_it() {
        for content in [
            "AAEC/w==",
            "AAEC/w",
            "data:video/mp4;base64,AAEC/w==",
            "DATA:video/mp4;BASE64, AAEC\\n/w==",
            "AA EC\\r\\n/w==",
        ] {
            let body =
                format!(r#"{{"encoding": "base64", "format": ".MP4", "fps": 30, "content": "{content}", "more": []}}"#);
            let (said, video) = parse(body.as_bytes()).unwrap();
            assert_eq!(&video[..], [0, 1, 2, 255], "{content}");
            assert_eq!(said, Said { format: Some("mp4".to_owned()), duration_s: None });
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_of_it_repeated() {
        for (body, about) in [
            ("", "not JSON"),
            ("[]", "wrong type"),
            ("{}", "content"),
            (r#"{"content": 5}"#, "content"),
            (r#"{"content": ""}"#, "empty"),
            (r#"{"content": "secret?"}"#, "not base64"),
            (r#"{"content": "AAE=C"}"#, "not base64"),
            (r#"{"content": "data:video/mp4,AAEC"}"#, "not in base64"),
            (r#"{"content": "data:video/mp4;base64"}"#, "comma"),
            (r#"{"content": "AAEC", "encoding": "hex"}"#, "encoding"),
            (r#"{"content": "AAEC", "fps": 0}"#, "fps"),
            (r#"{"content": "AAEC", "duration": "long"}"#, "wrong type"),
        ] {
            let said = reason(parse(body.as_bytes()));
            assert!(said.contains(about) && !said.contains("secret") && said.ends_with('.'), "{body}: {said}");
        }
    }

    #[test]
    fn a_format_is_a_container_or_one_that_the_call_can_make() {
        let said = |format: &str| Said { format: Some(format.to_owned()), duration_s: None };
        assert!(said("webm").check_format(&[]).is_ok() && said("gif").check_format(&["gif"]).is_ok());
        assert!(said("gif").check_format(&[]).is_err() && said("exe").check_format(&["gif"]).is_err());
    }
}
