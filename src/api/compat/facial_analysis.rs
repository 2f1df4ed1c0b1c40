//! `POST /api/facial-analysis/` of the Facial Emotion Analysis API: analyzes a video and answers with its figures.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::PlainVideoForm;
use super::error::CompatError;
use crate::analysis::{Appraisal, Emotion, Options, appraise};
use crate::api::Api;
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::{self, BodyFormat, ImmediateError};
use crate::api::openapi::COMPAT;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FacialAnalysis)]
pub struct Answer {
    facial_analysis_result: Figures,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FacialAnalysisResult)]
struct Figures {
    /// `presence` of the native result.
    #[schema(maximum = 100)]
    confidence: u8,
    /// Percentages that sum to 100.
    emotions: BTreeMap<Emotion, u8>,
    #[schema(maximum = 100)]
    eye_contact: u8,
    /// Null without a sound track or without speech.
    #[schema(maximum = 100)]
    speech_clarity: Option<u8>,
    #[schema(maximum = 100)]
    overall_score: u8,
    feedback: String,
}

impl From<Appraisal> for Figures {
    fn from(appraisal: Appraisal) -> Self {
        let Appraisal { confidence, emotions, eye_contact, speech_clarity, overall_score, feedback } = appraisal;
        Self { confidence, emotions, eye_contact, speech_clarity, overall_score, feedback }
    }
}

/// Analyze a video and wait for the scores
///
/// The call `POST /api/facial-analysis/` of the Facial Emotion Analysis API. Analyzes every 5th frame
/// (`sync.facial_analysis_every`). The figures are whole numbers from 0 to 100.
#[utoipa::path(post, path = "/api/facial-analysis", operation_id = "facial_analysis", tag = COMPAT,
    request_body(content = PlainVideoForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The figures", body = Answer),
              (status = 400, description = "The body is not a form, has no file, or was cut off"),
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
    request: Request,
) -> Result<Json<Answer>, CompatError> {
    let settings = &api.app.settings;
    let (video, every) = (&settings.video, settings.sync.facial_analysis_every);
    let options = Options { sampling: video.sampling, ..Options::new(every, video.max_faces) };
    let findings = immediate::analyze(&api, &caller, request, BodyFormat::Form, options).await?;
    let appraisal = appraise(&findings.analysis).ok_or(ImmediateError::NoFace)?;
    Ok(Json(Answer { facial_analysis_result: appraisal.into() }))
}
