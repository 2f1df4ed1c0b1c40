//! `GET /get_stats?token=TOKEN` of Emotion Detection from Video: the statistics of each face of a processed video.
//!
//! - `wait=SECONDS` holds the answer back until the analysis is finished, at most `http.max_wait_s`.
//! - `download=1` gives the answer as a file to save.
//!
//! **200** gives `faces`, one entry a person in order of appearance: how often each of the seven labels came out on top
//! (`emotion_counts`), the one that did most often, the mean probability of each label that did (`average_confidence`),
//! the samples in which the face was read (`total_frames`), the shape of their probability vectors
//! (`embeddings_shape`, `[frames, 7]`), and the first of those. **202** with `status` and `progress` while the analysis is
//! not finished. Refusals: 400 (no token), 404, 410, and 422 for a video that could not be analyzed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::analysis::{Analysis, Emotion, FaceSummary, rounding};
use crate::api::problem::Plain;
use crate::api::v1::{results, view};
use crate::api::{Api, Caller, Problem};
use crate::store::Status;

#[derive(Serialize)]
pub struct Stats {
    token: Uuid,
    status: Status,
    total_frames_analyzed: u64,
    faces: Vec<FaceStats>,
}

#[derive(Serialize)]
struct FaceStats {
    face_id: u32,
    emotion_counts: BTreeMap<Emotion, u32>,
    most_common_emotion: Emotion,
    #[serde(serialize_with = "rounding::map_of_three")]
    average_confidence: BTreeMap<Emotion, f64>,
    total_frames: u32,
    embeddings_shape: [u32; 2],
    #[serde(serialize_with = "rounding::vector")]
    example_embedding: [f32; 7],
}

impl FaceStats {
    fn new(face: FaceSummary) -> Self {
        Self {
            face_id: face.id,
            emotion_counts: Emotion::ALL
                .into_iter()
                .map(|emotion| (emotion, face.emotion_counts.get(&emotion).copied().unwrap_or(0)))
                .collect(),
            most_common_emotion: face.most_common_emotion(),
            average_confidence: face.average_confidence,
            total_frames: face.frames,
            embeddings_shape: face.embeddings_shape,
            example_embedding: face.example_embedding,
        }
    }
}

pub async fn handle(
    State(api): State<Api>,
    caller: Caller,
    Query(parameters): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Plain> {
    let parameter = |name| parameters.get(name).map(String::as_str);
    let token = view::token(parameter("token").ok_or_else(no_token)?)?;
    let wait = results::wait_of(parameter("wait"), api.app.settings.http.max_wait_s)?;
    let job = results::job_after(&api.app, &caller, token, wait, &headers).await?;
    if let Some(problem) = view::failure(&job) {
        return Err(problem.into());
    }
    let mut response = if job.status == Status::Done {
        let analysis = api.app.store.analysis(token).await?.ok_or_else(view::unknown)?;
        let Analysis { video, faces, .. } = analysis;
        let faces = faces.into_iter().map(FaceStats::new).collect();
        let total_frames_analyzed = video.frames_analyzed;
        Json(Stats { token, status: job.status, total_frames_analyzed, faces }).into_response()
    } else {
        let body = json!({"token": token, "status": job.status, "progress": view::ProgressView::new(&job)});
        let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(view::POLL_AGAIN_S));
        response
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, view::REVALIDATE);
    if parameter("download").is_some_and(|value| value != "0") && job.status == Status::Done {
        let name = HeaderValue::from_static("attachment; filename=\"emotion-statistics.json\"");
        answer.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

fn no_token() -> Problem {
    let detail = "Give the token of a video as ?token=TOKEN. POST /upload answers with one.";
    Problem::new(StatusCode::BAD_REQUEST, "missing_token", "No token", detail).with("parameter", "token")
}
