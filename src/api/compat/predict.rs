//! `POST /predict` of the Journaling thumbnails API: classifies a clip as one of five emotions.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::ClipBody;
use super::error::ThumbnailsError;
use crate::analysis::Five;
use crate::api::access::{Analyze, ThumbnailsKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::with_clip;
use crate::api::openapi::THUMBNAILS;
use crate::api::{Api, LogDetails};

type Rule = ThumbnailsKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
pub struct Prediction {
    emotion: Five,
    /// Probability of the emotion among the five, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: f64,
    /// The same as `emotion`.
    prediction: Five,
    latency_ms: u64,
}

/// Predict one of five emotions
///
/// The call `POST /predict` of the Journaling thumbnails API. Analyzes 15 frames spread over the clip. Shock stands for
/// surprise and fear, Anger for anger and disgust. The operator can configure another model (`thumbnails.model`).
#[utoipa::path(post, path = "/predict", operation_id = "predict", tag = THUMBNAILS,
    request_body(content = ClipBody),
    responses((status = 200, description = "The emotion", body = Prediction),
              (status = 400,
                  description = "The body cannot be read or has no video, or the video has fewer than 15 frames or no \
                                 face"),
              (status = 408, description = "The body stalled or took too long"),
              (status = 413, description = "More than `thumbnails.max_video`"),
              (status = 422, description = "The video cannot be decoded"),
              (status = 429, description = "Too many videos at once; `Retry-After` says when to try again"),
              (status = 503, description = "The model cannot be loaded, or there is too little memory"),
              (status = 504, description = "Not done within `sync.deadline_s`")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, ThumbnailsError> {
    let begun = Instant::now();
    let verdict = with_clip(
        &api,
        &caller,
        request,
        |request| request.check_format(&[]),
        |analyzer, source, cancel, ()| Ok(analyzer.verdict(source, cancel)?),
    );
    let verdict = verdict.await?;
    let confidence = (verdict.confidence * 10_000.0).round() / 10_000.0;
    let latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let emotion = verdict.emotion;
    let mut response = Json(Prediction { emotion, confidence, prediction: emotion, latency_ms }).into_response();
    let prediction = Some(emotion.label().to_owned());
    response.extensions_mut().insert(LogDetails { prediction, confidence: Some(confidence), error_message: None });
    Ok(response)
}
