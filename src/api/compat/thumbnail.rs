//! `POST /thumbnail` of the Journaling thumbnails API: makes a moving thumbnail of the first seconds of a video.

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::ThumbnailBody;
use super::error::ThumbnailsError;
use crate::api::Api;
use crate::api::access::{Analyze, ThumbnailsKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::{ClipRequest, ImmediateError, with_clip};
use crate::api::openapi::THUMBNAILS;
use crate::api::problem::detail;
use crate::media::{Boomerang, ClipFailure, ClipFormat, Every, FramesError};

type Rule = ThumbnailsKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

const DURATION_S: std::ops::RangeInclusive<f64> = 0.1..=10.0;
const DEFAULT_S: f64 = 3.0;

#[derive(Serialize, ToSchema)]
pub struct Thumbnail {
    /// The thumbnail in base64: H.264 in MP4, or GIF or WebP if `format` asks for it.
    thumbnail: String,
    /// The thumbnail as H.264 in MP4, regardless of `format`.
    video: String,
    /// Duration of the thumbnail in seconds.
    #[schema(minimum = 0.1, maximum = 10)]
    duration: f64,
    latency_ms: u64,
}

/// Make a moving thumbnail
///
/// The call `POST /thumbnail` of the Journaling thumbnails API. The thumbnail plays the beginning of the video forwards
/// and then backwards, half of `duration` each, at 10 frames per second. Width and height are even and at most
/// `thumbnails.side`.
#[utoipa::path(post, path = "/thumbnail", operation_id = "thumbnail", tag = THUMBNAILS,
    request_body(content = ThumbnailBody),
    responses((status = 200, description = "The thumbnail", body = Thumbnail),
              (status = 400, description = "The body cannot be read or has no video, or `duration` is out of range"),
              (status = 408, description = "The body stalled or took too long"),
              (status = 413, description = "More than `thumbnails.max_video`"),
              (status = 422, description = "The video cannot be decoded"),
              (status = 429, description = "Too many videos at once; `Retry-After` says when to try again"),
              (status = 503, description = "There is no encoder, or too little memory"),
              (status = 504, description = "Not done within `sync.deadline_s`")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Json<Thumbnail>, ThumbnailsError> {
    let begun = Instant::now();
    let (decoders, side) = (api.app.decoders.clone(), api.app.settings.thumbnails.side);
    let made = with_clip(&api, &caller, request, requested, move |_, source, cancel, (duration_s, format)| {
        let opened = decoders.video(source).open().map_err(FramesError::from).map_err(ClipFailure::from)?;
        let probe = opened.probe().clone();
        let mut frames = opened.start(Every::exact(1), 0).map_err(ClipFailure::from)?;
        let clip = Boomerang::read(&probe, || frames.next(&|| cancel.is_cancelled()), duration_s, side)?;
        let video = clip.encode(ClipFormat::Mp4)?;
        let thumbnail = if format == ClipFormat::Mp4 { None } else { Some(clip.encode(format)?) };
        Ok((clip.duration_s(), video, thumbnail))
    });
    let (duration, video, thumbnail) = made.await?;
    let video = STANDARD.encode(video);
    let thumbnail = thumbnail.map_or_else(|| video.clone(), |thumbnail| STANDARD.encode(thumbnail));
    let latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(Thumbnail { thumbnail, video, duration, latency_ms }))
}

/// The requested duration and format.
fn requested(request: &ClipRequest) -> Result<(f64, ClipFormat), ImmediateError> {
    request.check_format(&["gif", "webp"])?;
    let duration_s = request.duration_s()?.unwrap_or(DEFAULT_S);
    if !DURATION_S.contains(&duration_s) {
        return Err(ImmediateError::Request(detail::clip_duration_range()));
    }
    let format = match request.format.as_deref() {
        Some("gif") => ClipFormat::Gif,
        Some("webp") => ClipFormat::Webp,
        _ => ClipFormat::Mp4,
    };
    Ok((duration_s, format))
}
