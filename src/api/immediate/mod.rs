//! Calls that are answered with their result: the video is analyzed while the client waits, on the engine that the
//! workers use, but not in their queue.
//!
//! At most `sync.max_concurrent` at once; one more is refused at once and not kept waiting. The video streams to an
//! unnamed temporary file ([`spool`]), which is gone with its last handle, however the call ends. A call that is not
//! done by `sync.deadline_s`, or whose client hangs up, stops its analysis; its place is free when the work has stopped.

mod clip;
mod memory;
mod spool;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use futures_util::TryStreamExt;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::upload;
use super::upload::body::Incoming;
use super::upload::error::{AnalyzeError, Carrier};
use super::upload::form::{self, Unknown};
use super::{Api, Caller, Problem, quota};
use crate::analysis::{Findings, Options, Verdict};
use crate::fault::Fault;
use crate::media::{ClipFailure, FramesError, ProbeError, Source};
use crate::pipeline::{Cancel, ClipError, LazyPipeline, PipelineError};
pub use clip::{CONTAINERS, CONTENT_TYPES, Said, with_clip};
#[cfg(fuzzing)]
pub use clip::{decode, parse};
use spool::Spool;

/// Turns a video into findings. A trait, so that the way of a call can be tested without models.
pub trait Analyzer: Send + Sync + 'static {
    /// Analyzes one video. Blocks until done, failed or cancelled; is called on a thread of its own and may panic.
    fn analyze(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<Findings, PipelineError>;

    /// One of five emotions for a clip; the rest as for [`Analyzer::analyze`].
    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError>;
}

impl Analyzer for LazyPipeline {
    fn analyze(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<Findings, PipelineError> {
        self.get()?.analyze(source, options, &|_| {}, cancel)
    }

    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError> {
        self.get()?.verdict(source, cancel)
    }
}

/// How the body of a call holds its video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// In the field `video` of a form. Fields that are not known are read over.
    Form,
    /// The body is the video.
    Raw,
}

/// Why a call was not answered with a result.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("all places are taken")]
    Full,
    #[error("{free_bytes} bytes of memory are left")]
    LittleMemory { free_bytes: u64 },
    #[error(transparent)]
    Upload(#[from] AnalyzeError),
    #[error("no room for a temporary file: {0}")]
    NoFile(std::io::Error),
    #[error("not done within {limit_s} s")]
    Late { limit_s: u64 },
    #[error("no thread, or it panicked")]
    Broken,
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("no face in the video")]
    NoFace,
    /// What a request says is not what the call wants: the text is for the client.
    #[error("{0}")]
    Request(String),
    #[error("{frames} frames are too few")]
    TooShort { frames: u64 },
    #[error("no encoder: {0}")]
    NoEncoder(&'static str),
    #[error("encoding failed: {0}")]
    Encoding(String),
}

impl From<ClipError> for SyncError {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::TooShort { frames } => Self::TooShort { frames },
            ClipError::NoFace => Self::NoFace,
            ClipError::Pipeline(error) => Self::Pipeline(error),
        }
    }
}

impl From<ClipFailure> for SyncError {
    fn from(error: ClipFailure) -> Self {
        match error {
            ClipFailure::Frames(error) => Self::Pipeline(error.into()),
            ClipFailure::Empty => Self::Pipeline(FramesError::Video(ProbeError::NotAVideo).into()),
            ClipFailure::NoEncoder(name) => Self::NoEncoder(name),
            ClipFailure::Encode(reason) => Self::Encoding(reason),
        }
    }
}

impl From<SyncError> for Problem {
    fn from(error: SyncError) -> Self {
        error.problem(Carrier::Field)
    }
}

impl SyncError {
    /// The answer of a call that gets its video that way.
    fn problem(self, carrier: Carrier) -> Problem {
        use SyncError as E;
        let later = |code: &str, title, detail: &str| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail).retry_after(30)
        };
        match self {
            E::Full => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_busy",
                "Too many videos at once",
                "All places for videos that are answered at once are taken. Try again in a few seconds, or send the \
                 video to POST /analyze-video, which queues it.",
            )
            .retry_after(5),
            E::LittleMemory { .. } => later(
                "too_little_memory",
                "Too little memory",
                "The service has too little memory left for another video. Try again in a while, or send the video to \
                 POST /analyze-video, which queues it.",
            ),
            // The services that visage takes over from answer these with 400.
            E::Upload(error @ (AnalyzeError::MissingVideo | AnalyzeError::EmptyVideo | AnalyzeError::NotAForm)) => {
                Problem { status: StatusCode::BAD_REQUEST, ..error.problem(carrier) }
            }
            E::Upload(error) => error.problem(carrier),
            E::NoFile(reason) => {
                tracing::error!(%reason, "no temporary file");
                Problem::unavailable("storage")
            }
            E::Late { limit_s } => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "deadline",
                "It took too long",
                match carrier {
                    Carrier::Content => format!("The request was not done within {limit_s} s. Send a shorter video."),
                    _ => format!(
                        "The video was not analyzed within {limit_s} s. Send a shorter one, look at fewer frames \
                         (sample_every), or send it to POST /analyze-video, which queues it."
                    ),
                },
            ),
            E::Broken => Problem::internal(),
            E::Pipeline(PipelineError::Missing(reason)) => {
                tracing::error!(%reason, "what an analysis needs is not there");
                later(
                    "model_unavailable",
                    "The model cannot be loaded",
                    "The model of this service cannot be loaded. Try again later; if it stays, tell the operator.",
                )
            }
            E::Pipeline(error) if error.fault() == Fault::Video => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Problem::new(status, error.code(), "The video could not be analyzed", error.detail())
            }
            E::Pipeline(error) => {
                tracing::error!(%error, "an analysis failed");
                Problem { detail: error.detail(), ..Problem::internal() }
            }
            E::Request(detail) => {
                Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The request is not what the call wants", detail)
            }
            E::TooShort { frames } => Problem::new(
                StatusCode::BAD_REQUEST,
                "too_few_frames",
                "Too few frames",
                format!("The clip has {frames} frames, and 15 are needed. Send a longer one."),
            ),
            E::NoEncoder(name) => {
                tracing::error!(name, "FFmpeg lacks an encoder");
                later(
                    "encoder_unavailable",
                    "There is no encoder",
                    "This service cannot write that format. Ask for another.",
                )
            }
            E::Encoding(reason) => {
                tracing::error!(reason, "a thumbnail could not be written");
                Problem::internal()
            }
            E::NoFace => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "no_face",
                "No face",
                "No face was found in the frames that were looked at. Send a video in which a face is seen from the \
                 front, well lit and not too small.",
            ),
        }
    }
}

/// The findings of the video in this request.
pub async fn analyze(api: &Api, request: Request, holds: Holds, options: Options) -> Result<Findings, Problem> {
    let settings = &api.app.settings;
    let (head, body) = request.into_parts();
    let limit = settings.sync.max_upload.0.min(settings.http.max_upload.0);
    let incoming = Incoming::new(&head.headers, body, limit, Duration::from_secs(settings.http.idle_timeout_s));
    let limit_s = settings.sync.deadline_s;
    let caller = head.extensions.get::<Caller>().cloned().unwrap_or_default();
    let work = work(api, &caller, &head, &incoming, limit, holds, options);
    let done = tokio::time::timeout(Duration::from_secs(limit_s), work).await;
    let done = done.unwrap_or(Err(SyncError::Late { limit_s }));
    if let Err(error) = &done {
        match error {
            SyncError::Upload(error) => upload::refuse(error, &head.headers, incoming),
            _ => upload::refuse(&AnalyzeError::Busy, &head.headers, incoming),
        }
    }
    let carrier = if holds == Holds::Raw { Carrier::Body } else { Carrier::Field };
    done.map_err(|error| error.problem(carrier))
}

async fn work(
    api: &Api,
    caller: &Caller,
    head: &Parts,
    incoming: &Incoming,
    limit: u64,
    holds: Holds,
    options: Options,
) -> Result<Findings, SyncError> {
    upload::check_announced(&head.headers, limit).map_err(AnalyzeError::from)?;
    let place = api.sync.clone().try_acquire_owned().map_err(|_| SyncError::Full)?;
    enough_memory(api).await?;
    let counted = quota::count(api, caller).await?;
    let spool = Spool::new().await.map_err(SyncError::NoFile)?;
    let (upload, options) = match holds {
        Holds::Form => {
            let form = form::read(head, incoming, &spool, options, Unknown::Skip).await?;
            (form.video, form.options)
        }
        Holds::Raw => {
            incoming.in_field();
            let chunks = incoming.clone().map_err(AnalyzeError::from);
            (form::store(chunks, &spool).await?.0, options)
        }
    };
    upload.finish().await.map_err(AnalyzeError::from)?;
    let found =
        on_thread(api, spool, place, move |analyzer, source, cancel| Ok(analyzer.analyze(source, options, cancel)?));
    let found = found.await?;
    counted.keep();
    Ok(found)
}

async fn enough_memory(api: &Api) -> Result<(), SyncError> {
    match memory::free().await {
        Some(free_bytes) if free_bytes < api.app.settings.sync.min_memory.0 => {
            Err(SyncError::LittleMemory { free_bytes })
        }
        _ => Ok(()),
    }
}

/// Stops the analysis when whoever waits for it goes away.
struct StopOnDrop(Cancel);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `work` on a thread of its own, which takes the video and the place with it: both are let go when the work has
/// stopped, which is later than when it was told to.
async fn on_thread<T: Send + 'static>(
    api: &Api,
    spool: Spool,
    place: OwnedSemaphorePermit,
    work: impl FnOnce(&dyn Analyzer, &Source, &Cancel) -> Result<T, SyncError> + Send + 'static,
) -> Result<T, SyncError> {
    let (analyzer, cancel) = (api.app.analyzer.clone(), Cancel::default());
    let _stop = StopOnDrop(cancel.clone());
    let (answer, answered) = oneshot::channel();
    let work = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(analyzer.as_ref(), &spool.source(), &cancel)));
        drop(spool);
        drop(place);
        // Nobody waits any more: then nobody needs it.
        let _ = answer.send(result);
    };
    std::thread::Builder::new().name("analyze-now".to_owned()).spawn(work).map_err(|error| {
        tracing::error!(%error, "no thread for an analysis");
        SyncError::Broken
    })?;
    match answered.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(SyncError::Broken),
    }
}
