//! Calls that are answered with their result: the video is analyzed while the client waits. They use the engine of the
//! workers, but not the queue.
//!
//! At most `sync.max_concurrent` calls run at once; further ones are rejected, not queued. The video streams to an
//! unnamed temporary file ([`spool`]), which the system deletes with its last handle. A call stops its analysis at
//! `sync.deadline_s` or when its client disconnects. Its permit is released when the analysis has stopped.

mod clip;
mod error;
mod face_state;
mod memory;
mod picture_problems;
mod pictures;
mod remote;
mod spool;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::request::Parts;
use futures_util::TryStreamExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::limits::Client;
use super::notice::NoticeStatement;
use super::upload::body::{IncomingBody, Pace};
use super::upload::error::UploadError;
use super::upload::form::{self, UnknownFields};
use super::upload::{check_announced, reject};
use super::upload_permits::{Progress, UploadPermit};
use super::{Api, Caller, Problem, quota};
use crate::analysis::{Findings, Options, Verdict};
use crate::api::file_source::FileSource;
use crate::media::Source;
use crate::pipeline::{
    AnalysisParts, Cancel, CancelOnDrop, ClipError, LazyPipeline, LiveAnalysis, LiveOptions, LiveSoundTrack,
    PictureError, PictureOptions, PipelineError, ReadPicture,
};
use crate::worker::Analyzer;
pub use clip::{CONTAINERS, CONTENT_TYPES, ClipRequest, with_clip};
#[cfg(fuzzing)]
pub use clip::{decode, parse};
pub use error::{CapacityError, ImmediateError};
pub use face_state::{FACE_STATE_PATTERN, MAX_FACE_STATE, decode as decode_face_state, encode as encode_face_state};
pub use picture_problems::{base64_problem, picture_problem};
pub use pictures::{Content, FormPicture, PictureBody, PicturesError, RequestShape, base64_picture, with_pictures};
pub use remote::{GivenPicture, MayFetch, PictureDownloads};
use spool::Spool;

/// Analyzes the videos of immediate calls.
pub trait ImmediateAnalyzer: Analyzer {
    /// Classifies a clip as one of five emotions. Blocks like [`Analyzer::analyze`].
    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError>;

    /// Reads the faces in a picture file. Blocks.
    fn read_picture(&self, file: &[u8], options: PictureOptions) -> Result<ReadPicture, PictureError>;

    /// Begins the analysis of a live session. Blocks while models are loaded.
    fn live(&self, options: LiveOptions) -> Result<LiveAnalysis, PipelineError>;

    /// Begins the analysis of the sound of a live session. Blocks while models are loaded.
    fn live_sound(&self) -> Result<LiveSoundTrack, PipelineError>;
}

impl ImmediateAnalyzer for LazyPipeline {
    fn verdict(&self, source: &Source, cancel: &Cancel) -> Result<Verdict, ClipError> {
        self.get()?.verdict(source, cancel)
    }

    fn read_picture(&self, file: &[u8], options: PictureOptions) -> Result<ReadPicture, PictureError> {
        self.get()?.read_picture(file, options)
    }

    fn live(&self, options: LiveOptions) -> Result<LiveAnalysis, PipelineError> {
        Ok(self.get()?.live(options))
    }

    fn live_sound(&self) -> Result<LiveSoundTrack, PipelineError> {
        Ok(self.get()?.live_sound())
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
    let permit = take_permit(api, &Client::of(caller, &head.extensions))?;
    check_memory(api).await?;
    let counted = quota::count(api, caller).await?;
    let spool = Spool::new().await.map_err(CapacityError::TemporaryFile)?;
    let (upload, options) = match format {
        BodyFormat::Form => {
            let form =
                form::read(head, incoming, &spool, &api.app.settings.video, options, UnknownFields::Ignore).await?;
            form.notice.record(&api.app, None).map_err(UploadError::from)?;
            (form.video.file()?, form.options)
        }
        BodyFormat::Raw => {
            incoming.in_field();
            let chunks = incoming.clone().map_err(UploadError::from);
            (form::store(chunks, &spool, &api.app.settings.video).await?.0, options)
        }
    };
    upload.finish().await?;
    let analyze = move |analyzer: &dyn ImmediateAnalyzer, source: &Source, cancel: &Cancel| {
        Ok(analyzer.analyze(source, options, AnalysisParts::none(), &|_| {}, cancel)?)
    };
    let findings = on_thread(api, spool, permit, analyze).await?;
    counted.keep();
    Ok(findings)
}

/// Takes a permit for a call of this client. How long the call takes depends on its video, not on its size, so the size
/// is not used for the estimate.
fn take_permit(api: &Api, client: &Client) -> Result<UploadPermit, CapacityError> {
    let limit = Duration::from_secs(api.app.settings.sync.deadline_s);
    let progress = Progress { received: Arc::default(), announced: None, limit, is_new: false };
    Ok(api.immediate.take(client, progress, Instant::now())?)
}

/// Rejects a call while less memory is free than `sync.min_memory`.
pub async fn check_memory(api: &Api) -> Result<(), CapacityError> {
    match memory::free().await {
        Some(free_bytes) if free_bytes < api.app.settings.sync.min_memory.0 => {
            Err(CapacityError::Memory { free_bytes })
        }
        _ => Ok(()),
    }
}

/// Runs `work` on the video of a spool on a thread of its own. The thread owns the video and releases it when the work
/// has stopped.
async fn on_thread<T: Send + 'static>(
    api: &Api,
    spool: Spool,
    permit: UploadPermit,
    work: impl FnOnce(&dyn ImmediateAnalyzer, &Source, &Cancel) -> Result<T, ImmediateError> + Send + 'static,
) -> Result<T, ImmediateError> {
    run(api, permit, move |analyzer, cancel| work(analyzer, &spool.source(), cancel)).await
}

/// Runs `work` on a thread of its own. The thread owns the permit and releases it when the work has stopped. That may be
/// some time after the call was cancelled.
async fn run<T: Send + 'static>(
    api: &Api,
    permit: UploadPermit,
    work: impl FnOnce(&dyn ImmediateAnalyzer, &Cancel) -> Result<T, ImmediateError> + Send + 'static,
) -> Result<T, ImmediateError> {
    let (analyzer, cancel) = (api.app.analyzer.clone(), Cancel::default());
    let _stop = CancelOnDrop(cancel.clone());
    let (result_tx, result_rx) = oneshot::channel();
    let span = tracing::Span::current();
    let work = move || {
        let _in_request = span.entered();
        let result = catch_unwind(AssertUnwindSafe(|| work(analyzer.as_ref(), &cancel)));
        drop(permit);
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
