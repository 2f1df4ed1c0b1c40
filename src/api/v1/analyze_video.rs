//! `POST /analyze-video`: takes a video and queues its analysis.
//!
//! The video streams into the blob store: the first bytes are looked at before anything is written, the container is
//! opened before the job is queued, and what is refused leaves nothing. **202** gives `token`, `status` and `links`,
//! with `Location` and `Retry-After`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use uuid::Uuid;

use super::enqueue::{self, Wanted};
use super::form::{self, Form, Stored, Unknown};
use super::view::{Links, POLL_AGAIN_S};
use crate::analysis::{Detail, Language, Options, Sampling};
use crate::api::incoming::{BodyError, Incoming};
use crate::api::openapi::NATIVE;
use crate::api::{Api, AppState, Caller, Problem, quota};
use crate::blob::{BlobError, Upload};
use crate::config::ByteSize;
use crate::media::ProbeError;
use crate::report::webhook::UrlError;
use crate::store::{Enqueued, Status, StoreError, UsedUp};

/// The answer to an accepted video.
#[derive(Serialize, ToSchema)]
pub struct Accepted {
    token: Uuid,
    status: Status,
    links: Links,
}

impl Accepted {
    pub fn new(app: &AppState, token: Uuid) -> Self {
        Self { token, status: Status::Queued, links: Links::new(app, token) }
    }
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
pub(in crate::api) enum Switch {
    On,
    Off,
}

/// Why a video was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    #[error("the body is not multipart/form-data")]
    NotAForm,
    #[error("the form cannot be read")]
    BadForm,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the upload took longer than {limit_s} s")]
    TooSlow { limit_s: u64 },
    #[error("all places for uploads are taken")]
    Busy,
    #[error("{} videos a {} are used up", .0.limit, .0.period)]
    UsedUp(UsedUp),
    #[error("no field video")]
    MissingVideo,
    #[error("more than one field video")]
    TwoVideos,
    #[error("the video is empty")]
    EmptyVideo,
    #[error("not a video by its first bytes")]
    NotAVideo,
    #[error("refused: {0}")]
    Refused(ProbeError),
    #[error("unknown field {field:?}")]
    UnknownField { field: String },
    #[error("more than {most} fields")]
    TooManyFields { most: usize },
    #[error("field {field} has more than {most} bytes")]
    FieldTooLarge { field: &'static str, most: usize },
    #[error("field {field} is not text")]
    NotText { field: &'static str },
    #[error("field {field} is not a number from {least} to {most}")]
    BadOption { field: &'static str, least: u32, most: u32 },
    #[error("{field} is none of its choices")]
    BadChoice { field: &'static str, choices: &'static str },
    #[error("movements of the face without landmarks")]
    Contradiction,
    #[error("the query cannot be read")]
    BadQuery,
    #[error("not a language that is known")]
    BadLanguage,
    #[error("not a mail address")]
    BadEmail,
    #[error("more than {most} addresses")]
    TooManyRecipients { most: usize },
    #[error("mail is switched off")]
    MailOff,
    #[error("webhooks are switched off")]
    WebhooksOff,
    #[error("not an address for webhooks: {0}")]
    BadWebhook(UrlError),
    #[error("the Idempotency-Key is none")]
    BadIdempotencyKey,
    #[error("the Idempotency-Key was used for another request")]
    IdempotencyKeyReused,
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the video could not be opened: {0}")]
    Unopened(String),
}

impl From<AnalyzeError> for Problem {
    fn from(error: AnalyzeError) -> Self {
        use AnalyzeError as E;
        let refused =
            |code: &str, title, detail: String| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail);
        let of_field =
            |field: &str, code: &str, title, detail: String| refused(code, title, detail).with("field", field);
        match error {
            E::NotAForm => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_a_form",
                "Not a form",
                "Send multipart/form-data with the file in the field video, as curl -F video=@FILE does.",
            ),
            E::BadForm => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_form",
                "The form cannot be read",
                "The body is not the multipart/form-data that its Content-Type announces. Check the boundary and that \
                 the upload was sent to its end.",
            ),
            E::Body(BodyError::Stray) => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_form",
                "The form cannot be read",
                "The boundary named in Content-Type does not come, or the headers of a field are too long.",
            ),
            E::Body(BodyError::TooLarge { limit }) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "upload_too_large",
                "The upload is too large",
                format!("A request may have {}. Send a shorter or smaller video.", ByteSize(limit)),
            )
            .with("limit_bytes", limit),
            E::Body(BodyError::Idle(pause)) => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_stalled",
                "The upload stalled",
                format!("Nothing came for {} s. Send it again.", pause.as_secs()),
            ),
            E::Body(BodyError::Left) => Self::new(
                StatusCode::BAD_REQUEST,
                "upload_broken_off",
                "The upload broke off",
                "The connection ended before the upload did. Send it again.",
            ),
            E::TooSlow { limit_s } => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "upload_too_slow",
                "The upload took too long",
                format!("An upload may take {limit_s} s. Send a smaller video, or over a faster line."),
            ),
            E::Busy => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "Too many uploads at once",
                "All places for uploads are taken. Try again in a few seconds.",
            )
            .retry_after(5),
            E::UsedUp(UsedUp { period, limit, wait_s }) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "quota_used_up",
                "The quota is used up",
                format!("This key may send {limit} videos a {period}. The next {period} begins in {wait_s} s (UTC)."),
            )
            .with("limit", limit)
            .retry_after(wait_s),
            E::MissingVideo => {
                of_field("video", "missing_video", "No video", "Send the file in the field video.".to_owned())
            }
            E::TwoVideos => {
                of_field("video", "two_videos", "More than one video", "Send one video a request.".to_owned())
            }
            E::EmptyVideo => of_field(
                "video",
                "empty_video",
                "The video is empty",
                "The file in the field video has no bytes. Check the path and send it again.".to_owned(),
            ),
            E::NotAVideo | E::Refused(ProbeError::NotAVideo) => of_field(
                "video",
                "not_a_video",
                "Not a video",
                "The file in the field video is not an MP4, MOV, MKV, WebM or AVI video with a picture that can be \
                 read. Export it again and send that."
                    .to_owned(),
            ),
            E::Refused(reason) => {
                let detail = sentence(&reason.to_string());
                of_field("video", reason.code(), "The video is outside of the limits", detail)
            }
            E::UnknownField { field } => of_field(
                &field,
                "unknown_field",
                "A field that is not known",
                "Known are video, email, sample_every, sampling, max_faces, language, gaze, speech, detail and webhook_url. \
                 Check the spelling or leave the field out."
                    .to_owned(),
            ),
            E::TooManyFields { most } => {
                refused("too_many_fields", "Too many fields", format!("A form may have {most} fields."))
            }
            E::FieldTooLarge { field, most } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "field_too_large",
                "A field is too large",
                format!("The field {field} may have {most} bytes."),
            )
            .with("field", field),
            E::NotText { field } => {
                of_field(field, "not_text", "A field is not text", format!("Send {field} as text in UTF-8."))
            }
            E::BadOption { field, least, most } => of_field(
                field,
                "bad_option",
                "An option is out of range",
                format!("Give {field} as a whole number from {least} to {most}, or leave it out."),
            ),
            E::BadChoice { field, choices } => of_field(
                field,
                "bad_option",
                "An option is not known",
                format!("Give {field} as {choices}, or leave it out."),
            ),
            E::BadQuery => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_query",
                "The query cannot be read",
                "Write options in the address as ?sample_every=10&detail=expressions, or send them as fields.",
            ),
            E::Contradiction => of_field(
                "detail",
                "contradiction",
                "Two options exclude each other",
                "detail=expressions is read from the landmarks that gaze=off leaves out. Leave out one of the two."
                    .to_owned(),
            ),
            E::BadLanguage => of_field(
                "language",
                "bad_option",
                "An option is out of range",
                "Give language as en or de, or leave it out.".to_owned(),
            ),
            E::BadEmail => of_field(
                "email",
                "bad_email",
                "Not a mail address",
                "Give one address a field, such as email=ann@example.org.".to_owned(),
            ),
            E::TooManyRecipients { most } => of_field(
                "email",
                "too_many_recipients",
                "Too many addresses",
                format!("At most {most} addresses get the report."),
            ),
            E::MailOff => of_field(
                "email",
                "mail_off",
                "This service sends no mail",
                "Leave email out, and get the report from the links in the answer.".to_owned(),
            ),
            E::WebhooksOff => of_field(
                "webhook_url",
                "webhooks_off",
                "This service sends no webhooks",
                "Leave webhook_url out, and ask for the result under the links in the answer.".to_owned(),
            ),
            E::BadWebhook(reason) => {
                of_field("webhook_url", "bad_webhook_url", "Not an address for webhooks", reason.to_string())
            }
            E::BadIdempotencyKey => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_idempotency_key",
                "The Idempotency-Key cannot be used",
                "Give one Idempotency-Key of 1 to 255 printable ASCII characters, such as a UUID, or none.",
            ),
            E::IdempotencyKeyReused => refused(
                "idempotency_key_reused",
                "The Idempotency-Key was used before",
                "Another request was taken under this Idempotency-Key within the last 24 hours. Choose a new one for \
                 every new request, and repeat an old one only with the very same fields."
                    .to_owned(),
            ),
            E::Blob(error) => error.into(),
            E::Store(error) => error.into(),
            E::Unopened(reason) => {
                tracing::error!(reason, "an upload could not be opened");
                Self::unavailable("storage")
            }
        }
    }
}

/// Upper case in front, full stop behind.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
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
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let token = accept(&api, &caller, request, Unknown::Refuse).await?;
    Ok(queued(token, Json(Accepted::new(&api.app, token))))
}

/// The answer to an accepted video, with this body.
pub(in crate::api) fn queued(token: Uuid, body: impl IntoResponse) -> Response {
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    let answer = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/results/{token}")) {
        answer.insert(header::LOCATION, location);
    }
    answer.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Takes a form with a video and queues its analysis; its token.
pub(in crate::api) async fn accept(
    api: &Api,
    caller: &Caller,
    request: Request,
    unknown: Unknown,
) -> Result<Uuid, AnalyzeError> {
    let http = &api.app.settings.http;
    let (head, body) = request.into_parts();
    let incoming = Incoming::new(body, http.max_upload.0, Duration::from_secs(http.idle_timeout_s));
    let taken = take(api, caller, &head, &incoming, unknown).await;
    taken.inspect_err(|error| refuse(error, &head.headers, incoming))
}

/// What is done about the rest of an upload that is refused.
pub(in crate::api) fn refuse(error: &AnalyzeError, headers: &HeaderMap, incoming: Incoming) {
    tracing::info!(reason = %error, "an upload was refused");
    // Who has stalled or left is not waited for.
    if !matches!(error, AnalyzeError::Body(BodyError::Idle(_) | BodyError::Left)) {
        incoming.drain(headers.contains_key(header::EXPECT));
    }
}

/// Refuses a body that says of itself that it is too large.
pub(in crate::api) fn check_announced(headers: &HeaderMap, limit: u64) -> Result<(), BodyError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit) { Err(BodyError::TooLarge { limit }) } else { Ok(()) }
}

async fn take(
    api: &Api,
    caller: &Caller,
    head: &Parts,
    incoming: &Incoming,
    unknown: Unknown,
) -> Result<Uuid, AnalyzeError> {
    let (app, http) = (&api.app, &api.app.settings.http);
    check_announced(&head.headers, http.max_upload.0)?;
    let repeated_as = enqueue::idempotency_key(&head.headers)?;
    let place = api.uploads.clone().try_acquire_owned().map_err(|_| AnalyzeError::Busy)?;
    let counted = quota::count(api, caller).await?;
    // Of its own, so that a listing of the storage gives no tokens away.
    let key = app.tokens.next().to_string();
    let shelf = Stored { blobs: app.blobs.as_ref(), key: &key };
    let video = &app.settings.video;
    let options = Options { sampling: video.sampling, ..Options::new(video.sample_every, video.max_faces) };
    let form = form::read(head, incoming, &shelf, options, unknown);
    let form = tokio::time::timeout(Duration::from_secs(http.max_upload_s), form).await;
    let form = form.map_err(|_| AnalyzeError::TooSlow { limit_s: http.max_upload_s })??;
    enqueue::check_mail(app, &form.recipients)?;
    // All of it has come. From here on the client's leaving changes nothing: the job is queued or the video deleted.
    let Form { video, options, recipients, webhook, digest } = form;
    if let Some(url) = &webhook {
        enqueue::check_webhook(app, url)?;
    }
    let wanted = Wanted { options, recipients, webhook, repeated_as, digest };
    let settled = tokio::spawn(settle(api.clone(), caller.clone(), video, wanted, key, place)).await;
    let (token, queued) = settled.map_err(|error| AnalyzeError::Unopened(error.to_string()))??;
    // A repetition was counted the first time.
    if queued == Enqueued::New {
        counted.keep();
    }
    Ok(token)
}

/// Makes the video appear, opens it, and queues its job; what is refused is deleted.
async fn settle(
    api: Api,
    caller: Caller,
    video: Box<dyn Upload>,
    wanted: Wanted,
    key: String,
    place: OwnedSemaphorePermit,
) -> Result<(Uuid, Enqueued), AnalyzeError> {
    let size_bytes = video.finish().await?;
    let queued = enqueue::enqueue(&api, &caller, &wanted, &key, None).await;
    drop(place);
    if !matches!(queued, Ok((_, Enqueued::New)))
        && let Err(error) = api.app.blobs.delete(&key).await
    {
        tracing::error!(%error, "a video that was not queued could not be deleted; the sweep tries again");
    }
    let (token, queued) = queued?;
    tracing::info!(size_bytes, ?queued, "an upload was taken");
    match queued {
        Enqueued::New | Enqueued::Before(_) => Ok((token, queued)),
        Enqueued::Reused => Err(AnalyzeError::IdempotencyKeyReused),
    }
}
