//! `POST /process-frame` of the Flask Video Emotion API: analyzes the video in the body and answers with its mean
//! figures.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::error::CompatError;
use crate::analysis::{Analysis, Emotion, Options, percentages};
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::{self, BodyFormat, ImmediateError};
use crate::api::json_body;
use crate::api::notice::NoticeValue;
use crate::api::openapi::COMPAT;
use crate::api::problem::detail;
use crate::api::upload::form::SAMPLE_EVERY;
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
#[schema(as = FrameScores)]
pub struct Answer {
    /// Percentages that sum to 100.
    average_emotion_scores: BTreeMap<Emotion, f64>,
    overall_dominant_emotion: Emotion,
    total_frames_analyzed: u64,
    /// 0 to 1, three decimals.
    #[schema(minimum = 0, maximum = 1)]
    average_confidence_score: f64,
    /// 0 to 100, one decimal. Also 0 if no face was turned towards the camera far enough to be read.
    #[schema(minimum = 0, maximum = 100)]
    eye_contact_score: f64,
}

impl Answer {
    /// `None` if no face was found.
    fn new(analysis: &Analysis) -> Option<Self> {
        let summary = &analysis.summary;
        Some(Self {
            average_emotion_scores: percentages(summary.emotions.as_ref()?),
            overall_dominant_emotion: summary.dominant_emotion?,
            total_frames_analyzed: analysis.video.frames_analyzed,
            average_confidence_score: (1000.0 * summary.model_confidence?).round() / 1000.0,
            eye_contact_score: (10.0 * summary.eye_contact.unwrap_or(0.0)).round() / 10.0,
        })
    }
}

/// Analyze a video and wait for the mean scores
///
/// The call `POST /process-frame` of the Flask Video Emotion API. The body is the video, with any content type.
/// Analyzes every 30th frame (`sync.process_frame_every`).
#[utoipa::path(post, path = "/process-frame", operation_id = "process_frame", tag = COMPAT,
    params(("sample_every" = Option<u32>, Query, description = "Analyze every n-th frame",
            minimum = 1, maximum = 10_000),
           ("notice" = Option<NoticeValue>, Query,
               description = "`given`: the people in the video were told that a computer reads their faces and \
                           voices")),
    request_body(content(("video/mp4"), ("application/octet-stream")), description = "The video"),
    responses((status = 200, description = "The figures", body = Answer),
              (status = 400, description = "The body is empty or was cut off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `sync.max_upload`"),
              (status = 422,
                  description = "The video cannot be analyzed, exceeds a limit or shows no face, or an option is out \
                                 of range"),
              (status = 429, description = "Too many videos at once; `Retry-After` says when to try again"),
              (status = 503, description = "The model cannot be loaded, or there is too little memory"),
              (status = 504, description = "Not analyzed within `sync.deadline_s`")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Query(parameters): Query<BTreeMap<String, String>>,
    request: Request,
) -> Result<Json<Answer>, CompatError> {
    let settings = &api.app.settings;
    let sample_every = match parameters.get("sample_every") {
        None => settings.sync.process_frame_every,
        Some(text) => {
            let every = json_body::whole(text).and_then(|every| u32::try_from(every).ok());
            every.filter(|every| SAMPLE_EVERY.contains(every)).ok_or_else(bad_option)?
        }
    };
    let video = &settings.video;
    let options = Options { sampling: video.sampling, ..Options::new(sample_every, video.max_faces) };
    let findings = immediate::analyze(&api, &caller, request, BodyFormat::Raw, options).await?;
    Ok(Json(Answer::new(&findings.analysis).ok_or(ImmediateError::NoFace)?))
}

fn bad_option() -> Problem {
    let detail = detail::bad_option_range("sample_every", *SAMPLE_EVERY.start(), *SAMPLE_EVERY.end());
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("parameter", "sample_every")
}
