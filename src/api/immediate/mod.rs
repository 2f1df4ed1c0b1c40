//! Calls that are answered with their result: the video is analyzed while the client waits. They use the engine of the
//! workers, but not the queue.
//!
//! At most `sync.max_concurrent` calls run at once; further ones are rejected, not queued. The video streams to an
//! unnamed temporary file ([`spool`]), which the system deletes with its last handle. A call stops its analysis at
//! `sync.deadline_s` or when its client disconnects. Its place is released when the analysis has stopped.

mod clip;
mod memory;
mod spool;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use futures_util::TryStreamExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::limits::Client;
use super::notice::NoticeStatement;
use super::places::{NoPlace, Place, Progress};
use super::upload::body::{BodyError, IncomingBody, Pace};
use super::upload::error::{FormError, UploadError, VideoError};
use super::upload::form::{self, UnknownFields};
use super::upload::problems::FileSource;
use super::upload::{check_announced, reject};
use super::{Api, Caller, Problem, quota};
use crate::analysis::{Findings, Language, Options, Verdict};
use crate::blob::BlobError;
use crate::fault::{Fault, Part};
use crate::media::{ClipFailure, FramesError, ProbeError, Source};
use crate::pipeline::{Cancel, CancelOnDrop, ClipError, LazyPipeline, PipelineError};
use crate::report;
pub use clip::{CONTAINERS, CONTENT_TYPES, ClipRequest, with_clip};
#[cfg(fuzzing)]
pub use clip::{decode, parse};
use spool::Spool;

/// Analyzes a video. A trait, so that tests can replace the models.
pub trait Analyzer: Send + Sync + 'static {
    /// Analyzes one video. Blocks until the analysis is done, failed or cancelled. Runs on a thread of its own and may
    /// panic.
    fn analyze(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<Findings, PipelineError>;

    /// Classifies a clip as one of five emotions. Blocks like [`Analyzer::analyze`].
    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError>;
}

impl Analyzer for LazyPipeline {
    fn analyze(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<Findings, PipelineError> {
        let mut findings = self.get()?.analyze(source, options, &|_| {}, cancel)?;
        report::tell(&mut findings.analysis, Language::EN);
        Ok(findings)
    }

    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError> {
        self.get()?.verdict(source, cancel)
    }
}

/// Where the body of a call has its video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// In the field `video` of a form. Unknown fields are ignored.
    Form,
    /// The body is the video.
    Raw,
}

/// Why a call was not answered with a result. The text of each error goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum ImmediateError {
    /// The upload was rejected or failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The service cannot run another analysis now.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The content of the request is wrong. The client gets this text.
    #[error("{0}")]
    Request(String),
    /// The video has too few frames for the call.
    #[error("the clip has {frames} frames, fewer than the call needs")]
    TooShort { frames: u64 },
    #[error("no face was found in the video")]
    NoFace,
    #[error("the call was not done within sync.deadline_s ({limit_s} s)")]
    Deadline { limit_s: u64 },
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The thumbnail could not be written.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error("the thread of the analysis panicked or could not be started")]
    Thread,
}

/// Why the service cannot run another analysis now.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error("{free_bytes} bytes of memory are free, less than sync.min_memory")]
    Memory { free_bytes: u64 },
    #[error("no temporary file can be created: {0}")]
    TemporaryFile(std::io::Error),
}

/// Why a thumbnail could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    #[error("FFmpeg has no encoder {0}")]
    Missing(&'static str),
    #[error("encoding failed: {0}")]
    Failed(String),
}

impl From<BodyError> for ImmediateError {
    fn from(error: BodyError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<VideoError> for ImmediateError {
    fn from(error: VideoError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<BlobError> for ImmediateError {
    fn from(error: BlobError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<ClipError> for ImmediateError {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::TooShort { frames } => Self::TooShort { frames },
            ClipError::NoFace => Self::NoFace,
            ClipError::Pipeline(error) => Self::Pipeline(error),
        }
    }
}

impl From<ClipFailure> for ImmediateError {
    fn from(error: ClipFailure) -> Self {
        match error {
            ClipFailure::Frames(error) => Self::Pipeline(error.into()),
            ClipFailure::Empty => Self::Pipeline(FramesError::Video(ProbeError::NotAVideo).into()),
            ClipFailure::NoEncoder(name) => EncoderError::Missing(name).into(),
            ClipFailure::Encode(reason) => EncoderError::Failed(reason).into(),
        }
    }
}

impl From<ImmediateError> for Problem {
    fn from(error: ImmediateError) -> Self {
        error.problem(FileSource::Field)
    }
}

/// A problem with status 503 and `Retry-After`.
fn try_later(code: &str, title: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail).retry_after(30)
}

impl ImmediateError {
    /// The answer of a call that receives its file from this source.
    fn problem(self, source: FileSource) -> Problem {
        match self {
            // The services whose calls visage takes over answer these with 400.
            Self::Upload(
                error @ (UploadError::Form(FormError::MissingVideo | FormError::NotMultipart)
                | UploadError::Video(VideoError::Empty)),
            ) => Problem { status: StatusCode::BAD_REQUEST, ..error.problem(source) },
            Self::Upload(error) => error.problem(source),
            Self::Capacity(error) => error.problem(),
            Self::Request(detail) => {
                Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The request is invalid", detail)
            }
            Self::TooShort { frames } => Problem::new(
                StatusCode::BAD_REQUEST,
                "too_few_frames",
                "The video has too few frames",
                format!("The video has {frames} frames, and at least 15 are needed. Send a longer video."),
            ),
            Self::NoFace => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "no_face",
                "No face was found",
                "No face was found in the analyzed frames. Send a video in which a face is seen from the front, well \
                 lit and not too small.",
            ),
            Self::Deadline { limit_s } => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "deadline",
                "The request took too long",
                match source {
                    FileSource::Content => {
                        format!("The request was not finished within {limit_s} s. Send a shorter video.")
                    }
                    _ => format!(
                        "The video was not analyzed within {limit_s} s. Send a shorter video, analyze fewer frames \
                         (sample_every), or send it to POST /analyze-video, which queues it."
                    ),
                },
            ),
            Self::Pipeline(PipelineError::Missing(reason)) => {
                tracing::error!(%reason, "an analysis needs something that is missing");
                try_later(
                    "model_unavailable",
                    "The model cannot be loaded",
                    "The model of this service cannot be loaded. Try again later. If it fails again, tell the \
                     operator.",
                )
            }
            Self::Pipeline(error) if error.fault() == Fault::Video => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let reason = error.reason();
                let detail = report::failure(&reason, Language::EN);
                Problem::new(status, reason.code(), "The video could not be analyzed", detail)
            }
            Self::Pipeline(error) if error.fault() == Fault::Ours(Part::Models) => {
                tracing::error!(%error, "a model failed");
                try_later(
                    "model_unavailable",
                    "The model cannot be loaded",
                    "The model of this service failed. Try again later; if it stays, tell the operator.",
                )
            }
            Self::Pipeline(error) => {
                tracing::error!(%error, "an analysis failed");
                Problem { detail: report::failure(&error.reason(), Language::EN), ..Problem::internal() }
            }
            Self::Encoder(error) => {
                tracing::error!(%error, "a thumbnail could not be written");
                match error {
                    EncoderError::Missing(_) => try_later(
                        "encoder_unavailable",
                        "The encoder is missing",
                        "This service cannot write the requested format. Request another one.",
                    ),
                    EncoderError::Failed(_) => Problem::internal(),
                }
            }
            Self::Thread => Problem::internal(),
        }
    }
}

impl CapacityError {
    fn problem(self) -> Problem {
        match self {
            Self::NoPlace(NoPlace::Full { wait_s } | NoPlace::Client { wait_s, .. }) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_busy",
                "Too many videos at once",
                format!(
                    "The service has reached its limit of immediate calls. Try again in {wait_s} s, or send the video \
                     to POST /analyze-video, which queues it."
                ),
            )
            .retry_after(wait_s),
            Self::Memory { .. } => try_later(
                "too_little_memory",
                "Too little memory",
                "The service has too little memory for another video. Try again later, or send the video to POST \
                 /analyze-video, which queues it.",
            ),
            Self::TemporaryFile(reason) => {
                tracing::error!(%reason, "no temporary file can be created");
                Problem::unavailable("storage")
            }
        }
    }
}

/// Analyzes the video in this request.
pub async fn analyze(
    api: &Api,
    caller: &Caller,
    request: Request,
    format: BodyFormat,
    options: Options,
) -> Result<Findings, Problem> {
    let settings = &api.app.settings;
    let (head, body) = request.into_parts();
    let limit = settings.sync.max_upload.0.min(settings.http.max_upload.0);
    let incoming = IncomingBody::new(&head.headers, body, limit, Pace::of(&settings.http));
    let limit_s = settings.sync.deadline_s;
    let work = receive_and_analyze(api, caller, &head, &incoming, limit, format, options);
    let done = tokio::time::timeout(Duration::from_secs(limit_s), work).await;
    done.unwrap_or(Err(ImmediateError::Deadline { limit_s })).map_err(|error| {
        reject(&error, &head.headers, incoming);
        error.problem(if format == BodyFormat::Raw { FileSource::Body } else { FileSource::Field })
    })
}

async fn receive_and_analyze(
    api: &Api,
    caller: &Caller,
    head: &Parts,
    incoming: &IncomingBody,
    limit: u64,
    format: BodyFormat,
    options: Options,
) -> Result<Findings, ImmediateError> {
    check_announced(&head.headers, limit)?;
    if format == BodyFormat::Raw {
        let statement = NoticeStatement::from_query(&head.uri).map_err(UploadError::from)?;
        statement.record(&api.app, None).map_err(UploadError::from)?;
    }
    let place = take_place(api, &Client::of(caller, &head.extensions))?;
    check_memory(api).await?;
    let counted = quota::count(api, caller).await?;
    let spool = Spool::new().await.map_err(CapacityError::TemporaryFile)?;
    let (upload, options) = match format {
        BodyFormat::Form => {
            let form =
                form::read(head, incoming, &spool, &api.app.settings.video, options, UnknownFields::Ignore).await?;
            form.notice.record(&api.app, None).map_err(UploadError::from)?;
            (form.video, form.options)
        }
        BodyFormat::Raw => {
            incoming.in_field();
            let chunks = incoming.clone().map_err(UploadError::from);
            (form::store(chunks, &spool, &api.app.settings.video).await?.0, options)
        }
    };
    upload.finish().await?;
    let analyze =
        move |analyzer: &dyn Analyzer, source: &Source, cancel: &Cancel| Ok(analyzer.analyze(source, options, cancel)?);
    let findings = on_thread(api, spool, place, analyze).await?;
    counted.keep();
    Ok(findings)
}

/// Takes a place for a call of this client. How long the call takes depends on its video, not on its size, so the size
/// is not used for the estimate.
fn take_place(api: &Api, client: &Client) -> Result<Place, CapacityError> {
    let limit = Duration::from_secs(api.app.settings.sync.deadline_s);
    let progress = Progress { received: Arc::default(), announced: None, limit, is_new: false };
    Ok(api.immediate.take(client, progress, Instant::now())?)
}

/// Rejects a call while less memory is free than `sync.min_memory`.
async fn check_memory(api: &Api) -> Result<(), CapacityError> {
    match memory::free().await {
        Some(free_bytes) if free_bytes < api.app.settings.sync.min_memory.0 => {
            Err(CapacityError::Memory { free_bytes })
        }
        _ => Ok(()),
    }
}

/// Runs `work` on a thread of its own. The thread owns the video and the place and releases both when the work has
/// stopped. That may be some time after the call was cancelled.
async fn on_thread<T: Send + 'static>(
    api: &Api,
    spool: Spool,
    place: Place,
    work: impl FnOnce(&dyn Analyzer, &Source, &Cancel) -> Result<T, ImmediateError> + Send + 'static,
) -> Result<T, ImmediateError> {
    let (analyzer, cancel) = (api.app.analyzer.clone(), Cancel::default());
    let _stop = CancelOnDrop(cancel.clone());
    let (result_tx, result_rx) = oneshot::channel();
    let work = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(analyzer.as_ref(), &spool.source(), &cancel)));
        drop(spool);
        drop(place);
        // Fails if the call has ended meanwhile: then nothing needs the result.
        let _ = result_tx.send(result);
    };
    std::thread::Builder::new().name("analyze-now".to_owned()).spawn(work).map_err(|error| {
        tracing::error!(%error, "the thread of an analysis could not be started");
        ImmediateError::Thread
    })?;
    match result_rx.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(ImmediateError::Thread),
    }
}
