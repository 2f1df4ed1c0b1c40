//! `POST /api/facial-analysis/` of the Facial Emotion Analysis API: a video in, its figures out, in one call.
//!
//! `multipart/form-data` with the file in `video`; `sample_every` and `max_faces` as in `POST /analyze-video`, other
//! fields are read over. Looks at every 5th frame (`sync.facial_analysis_every`).
//!
//! **200** gives whole numbers from 0 to 100, the emotions summing to 100; `speechClarity` is null without a sound track
//! or without speech in it. `confidence` is how sure the classifier was. Refusals: 400 (no file), 408, 413, 422
//! (not a video, outside of the limits, no face), 429 (too busy), 503 (no model, too little memory), 504 (too late).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use crate::analysis::{Appraisal, Emotion, Options, appraise};
use crate::api::Api;
use crate::api::problem::Plain;
use crate::api::sync::{self, Holds, SyncError};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    facial_analysis_result: Figures,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    confidence: u8,
    emotions: BTreeMap<Emotion, u8>,
    eye_contact: u8,
    speech_clarity: Option<u8>,
    overall_score: u8,
    feedback: String,
}

impl From<Appraisal> for Figures {
    fn from(appraisal: Appraisal) -> Self {
        let Appraisal { confidence, emotions, eye_contact, speech_clarity, overall_score, feedback } = appraisal;
        Self { confidence, emotions, eye_contact, speech_clarity, overall_score, feedback }
    }
}

pub async fn handle(State(api): State<Api>, request: Request) -> Result<Json<Answer>, Plain> {
    let settings = &api.app.settings;
    let options = Options::new(settings.sync.facial_analysis_every, settings.video.max_faces);
    let findings = sync::analyze(&api, request, Holds::Form, options).await?;
    let appraisal = appraise(&findings.analysis).ok_or(SyncError::NoFace)?;
    Ok(Json(Answer { facial_analysis_result: appraisal.into() }))
}
