//! `POST /analyze-video`: takes a video and queues its analysis.
//!
//! The video streams into the blob store: the first bytes are looked at before anything is written, the container is
//! opened before the job is queued, and what is refused leaves nothing. **202** gives `token`, `status` and `links`,
//! with `Location` and `Retry-After`.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::analysis::{Detail, Language, Sampling};
use crate::api::access::{Analyze, Authorized, Endpoint, OptionalKey};
use crate::api::openapi::NATIVE;
use crate::api::upload::form::UnknownFields;
use crate::api::upload::{self, Accepted};
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// What the form may hold, in any order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `form` reads")]
struct VideoForm {
    /// The file, MP4/MOV, Matroska/WebM or AVI; once. Its name is not looked at.
    #[schema(value_type = String, format = Binary, content_media_type = "video/mp4")]
    video: Vec<u8>,
    /// An address that gets the report; none, one or several fields of that name, at most 10.
    #[schema(format = Email)]
    email: Option<String>,
    /// Look at every n-th frame.
    #[schema(minimum = 1, maximum = 10_000)]
    sample_every: Option<u32>,
    /// Those very frames, or others near them that cost less to decode, at the times that the result says.
    sampling: Option<Sampling>,
    /// Read at most so many faces a frame.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
    /// Of report and mail; by default as the reader's browser asks.
    language: Option<Language>,
    /// Where a program wants to hear of the end of the analysis: an https:// address.
    #[schema(format = "uri", pattern = "^https://", max_length = 2000)]
    webhook_url: Option<String>,
    /// `off` leaves out the landmarks, so that eye contact is judged by the head alone.
    gaze: Option<Switch>,
    /// `off` leaves the sound track alone.
    speech: Option<Switch>,
    /// More of each sample than is usual. Excludes `gaze=off`.
    detail: Option<Detail>,
}

/// Whether a part is wanted.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `form` reads")]
enum Switch {
    On,
    Off,
}

/// Send a video
///
/// Takes a video and queues its analysis. A field that is not known is refused by name, so that a misspelt option does not
/// pass for a taken one. With `Idempotency-Key`, a repetition within 24 hours gets the answer of the first; the same
/// key with other fields is refused. Refused requests are not remembered.
#[utoipa::path(post, path = "/analyze-video", operation_id = "analyze_video", tag = NATIVE,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 255 printable ASCII characters, such as a UUID",
               min_length = 1, max_length = 255, pattern = "^[ -~]+$"),
           ("detail" = Option<Detail>, Query, description = "This and every other option may stand here too; a field counts more")),
    request_body(content = VideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted,
                  headers(("location" = String, description = "Where the result will be"),
                          ("retry-after" = u64, description = "Seconds after which to look there"))),
              (status = 400, description = "The form or the Idempotency-Key cannot be read, or the upload broke off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 415, description = "Not multipart/form-data"),
              (status = 422, description = "No video that can be analyzed, or a field is wrong; `field` names it"),
              (status = 429, description = "Too many uploads at once; `Retry-After` says when to try again")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let token = upload::accept(&api, &caller, request, UnknownFields::Reject).await?;
    Ok(upload::accepted(token, Json(Accepted::new(&api.app, token))))
}
