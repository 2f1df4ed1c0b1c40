//! `GET /get_stats?token=TOKEN` of Emotion Detection from Video: the statistics of each face of a processed video.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::error::CompatError;
use crate::analysis::{Analysis, Emotion, FaceSummary, rounding};
use crate::api::access::{OptionalKey, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::COMPAT;
use crate::api::problem::detail;
use crate::api::view;
use crate::api::wait;
use crate::api::{Api, Problem};
use crate::store::Status;

type Rule = OptionalKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
pub struct Stats {
    token: Uuid,
    status: Status,
    total_frames_analyzed: u64,
    faces: Vec<FaceStats>,
}

/// The answer while the analysis is not finished.
#[derive(Serialize, ToSchema)]
struct Waiting {
    token: Uuid,
    status: Status,
    progress: view::ProgressView,
}

#[derive(Serialize, ToSchema)]
struct FaceStats {
    face_id: u32,
    /// In how many samples each of the seven labels was the most likely one.
    emotion_counts: BTreeMap<Emotion, u32>,
    most_common_emotion: Emotion,
    /// Mean probability of each label in the samples in which it was the most likely one, 0 to 1.
    #[serde(serialize_with = "rounding::map_of_three")]
    average_confidence: BTreeMap<Emotion, f64>,
    /// Number of samples in which the face was read.
    total_frames: u32,
    /// Shape of the probability vectors: `[frames, 7]`.
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

/// Get the statistics of each face
///
/// The call `GET /get_stats` of Emotion Detection from Video. Returns an entry for each person, in order of appearance.
#[utoipa::path(get, path = "/get_stats", operation_id = "get_stats", tag = COMPAT,
    params(("token" = Uuid, Query, description = "The token of the analysis"),
           ("wait" = Option<u32>, Query, description = "Wait up to this many seconds for the end of the \
                                                        analysis", maximum = 86_400),
           ("download" = Option<u8>, Query, description = "1: return the statistics as a file to save")),
    responses((status = 200, description = "The statistics", body = Stats),
              (status = 202, description = "The analysis is not finished", body = Waiting),
              (status = 400, description = "The token is missing"),
              (status = 404, description = "No analysis has this token"),
              (status = 410, description = "The result has expired"),
              (status = 422, description = "The video could not be analyzed, or `wait` is not a number of seconds")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Query(parameters): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, CompatError> {
    let parameter = |name| parameters.get(name).map(String::as_str);
    let token = view::token(parameter("token").ok_or_else(no_token)?)?;
    let longest = wait::duration(parameter("wait"), api.app.settings.http.max_wait_s)?;
    let (job, stored) = wait::job_after(&api.app, &caller, token, longest, &headers).await?;
    if let Some(problem) = view::failure(&job) {
        return Err(problem.into());
    }
    let mut response = if let Some(stored) = stored {
        let Analysis { video, faces, .. } = stored.read()?;
        let faces = faces.into_iter().map(FaceStats::new).collect();
        let total_frames_analyzed = video.frames_analyzed;
        Json(Stats { token, status: job.status, total_frames_analyzed, faces }).into_response()
    } else {
        let body = Waiting { token, status: job.status, progress: view::ProgressView::new(&job) };
        let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(view::POLL_AGAIN_S));
        response
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, view::NO_STORE);
    if parameter("download").is_some_and(|value| value != "0") && job.status == Status::Done {
        let name = HeaderValue::from_static("attachment; filename=\"emotion-statistics.json\"");
        answer.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

fn no_token() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail::missing_token()).with("parameter", "token")
}
