//! `POST /analyze-video`: takes a video and queues its analysis.
//!
//! The video streams to storage. Its first bytes are checked before anything is written, and its container is opened
//! before the job is queued. Nothing of a rejected video stays in storage.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::analysis::{Detail, Language, Sampling};
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::notice::NoticeValue;
use crate::api::openapi::NATIVE;
use crate::api::upload::form::UnknownFields;
use crate::api::upload::{self, Accepted};
use crate::api::{Api, Problem};
use crate::store::Priority;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The fields of the form, in any order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `form` reads")]
struct VideoForm {
    /// The video file, such as MP4, MOV, WebM, MKV or AVI. The format is recognized from the content, not from the
    /// name.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "video/mp4")]
    video: Option<Vec<u8>>,
    /// Address of the video instead of the file: `https://...`, from which the service fetches it, or `s3://BUCKET/KEY`,
    /// if the operator allows the bucket.
    #[schema(format = "uri", pattern = "^(https|s3)://", max_length = 2000)]
    video_url: Option<String>,
    /// Mail address that gets the report. The field may be repeated, up to 10 times.
    #[schema(format = Email)]
    email: Option<String>,
    /// Analyze every n-th frame.
    #[schema(minimum = 1, maximum = 10_000)]
    sample_every: Option<u32>,
    /// Analyze about this many frames a second, instead of every n-th.
    #[schema(minimum = 1, maximum = 60)]
    samples_per_second: Option<u32>,
    /// `exact` analyzes exactly these frames. `fast` analyzes frames near them that cost less to decode.
    sampling: Option<Sampling>,
    /// Largest number of faces to read in a frame. The largest faces are read first.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
    /// Language of the report and the mail; by default that of the reader's browser.
    language: Option<Language>,
    /// The https:// address to which a webhook is sent when the analysis ends.
    #[schema(format = "uri", pattern = "^https://", max_length = 2000)]
    webhook_url: Option<String>,
    /// `off` skips the landmarks. Eye contact then depends on the head pose only.
    gaze: Option<Switch>,
    /// `off` skips the sound track.
    speech: Option<Switch>,
    /// Additional details of each sample. Excludes `gaze=off`.
    detail: Option<Detail>,
    /// Which of the waiting videos go first: `high` before all others, `low` when no other waits. `high` needs a key with
    /// the scope `urgent`. By default `normal`.
    priority: Option<Priority>,
    /// `given` states that the people in the video were told that a computer reads their faces and voices.
    notice: Option<NoticeValue>,
    /// The `version` of `GET /v1/notice`, if its text was shown to them.
    #[schema(max_length = 64)]
    notice_version: Option<String>,
}

/// Whether a part of the analysis runs.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `form` reads")]
enum Switch {
    On,
    Off,
}

/// Send a video
///
/// Stores a video and queues its analysis. Instead of the file in `video`, a form may have the address of a video in
/// `video_url`. That video is fetched after the answer. If that fails, the analysis fails, and its `error` says why.
///
/// A form with an unknown field is rejected, and the error names the field.
///
/// With an `Idempotency-Key`, a request can be repeated within 24 hours without a second analysis: the repetition gets
/// the answer of the first request that was accepted. If its video or its fields differ, it is rejected.
#[utoipa::path(post, path = "/analyze-video", operation_id = "analyze_video", tag = NATIVE,
    params(("idempotency-key" = Option<String>, Header, description = "Any 1 to 255 printable ASCII characters, \
                                                                       such as a UUID",
               min_length = 1, max_length = 255, pattern = "^[ -~]+$"),
           ("detail" = Option<Detail>, Query, description = "Each option can also be sent in the query, such as this \
                                                             one. A field of the form takes precedence")),
    request_body(content = VideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted,
                  headers(("location" = String, description = "Address of the result"),
                          ("retry-after" = u64, description = "Seconds after which to ask for the result"))),
              (status = 400,
                  description = "The form cannot be read, the Idempotency-Key is invalid, or the upload was cut off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 415, description = "Not multipart/form-data"),
              (status = 422, description = "The video cannot be analyzed, or a field is wrong; `field` names it"),
              (status = 429, description = "Too many uploads at once, or too many mails; `Retry-After` says when to try again"),
              (status = 507, description = "The storage is full")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let token = upload::accept(&api, &caller, request, UnknownFields::Reject).await?;
    Ok(upload::accepted(token, Json(Accepted::new(&api.app, token))))
}
