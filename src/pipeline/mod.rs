//! A video in, [`Findings`] out: decode, detect, look closer, read emotions and track, each on its own thread with bounded
//! channels between, the sound on another beside them, and then summarise. Used by worker, api and command line alike; knows
//! no database, no HTTP and no mail.
//!
//! What is held of a video at any time is a handful of its frames and less than a minute of its sound; all that grows with its
//! length is a row for each face in each sample.

mod analysis;
mod clip;
mod error;
mod lazy;
mod sound;
mod stages;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::analysis::{Findings, Options};
use crate::config::{Settings, Video};
use crate::engine::Taken;
use crate::media::{self, Source};
use crate::speech::Hearing;
use crate::vision::{Vision, Wanted};

pub use analysis::Begun;
pub use clip::ClipError;
pub use error::PipelineError;
pub use lazy::LazyPipeline;

/// How far an analysis is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    pub frames_done: u64,
    /// As far as the container tells; 0 where it does not, or tells fewer than there are.
    pub frames_total: u64,
}

/// Stops an analysis from outside.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long each stage was at work, waiting for its neighbours not counted; they overlap, so the sum may be more than
/// the whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageTimes {
    /// Decoding, and turning sampled frames into pictures.
    pub decode: Duration,
    /// Finding faces and cutting them out.
    pub detect: Duration,
    /// Landmarks, head pose and gaze.
    pub landmarks: Duration,
    /// Movements of the face.
    pub expressions: Duration,
    /// Reading emotions, and telling people apart.
    pub read: Duration,
    /// Decoding the sound track and listening to it.
    pub speech: Duration,
    /// From opening the video to the findings.
    pub whole: Duration,
}

/// Everything an analysis needs, loaded once a process. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    vision: Vision,
    hearing: Hearing,
    limits: Video,
}

impl Pipeline {
    /// Loads the models that every analysis needs: detector and classifier. Those for landmarks, movements of the face and
    /// sound are loaded by the first analysis that wants them.
    ///
    /// # Errors
    /// [`PipelineError::Missing`] where something has to be put in place first, [`PipelineError::Vision`] else; the
    /// text of both is for the operator.
    pub fn load(settings: &Settings) -> Result<Self, PipelineError> {
        let pipeline = Self::load_wanted(settings, Wanted::default())?;
        if pipeline.vision.engine().device() == Some(Taken::Cuda) {
            pipeline.vision.warm_up()?;
        }
        Ok(pipeline)
    }

    /// As [`Pipeline::load`], and begins to load what else an analysis with these options wants of faces.
    pub fn load_for(settings: &Settings, options: Options) -> Result<Self, PipelineError> {
        Self::load_wanted(settings, analysis::wanted(options))
    }

    fn load_wanted(settings: &Settings, wanted: Wanted) -> Result<Self, PipelineError> {
        media::prepare();
        // Before the models: FFmpeg takes no CUDA that was begun in another way.
        media::hwaccel(settings.video.hwaccel)?;
        let vision = Vision::load_for(settings, wanted).map_err(|error| {
            if error.is_missing() { PipelineError::Missing(error.to_string()) } else { PipelineError::Vision(error) }
        })?;
        let hearing = Hearing::new(vision.engine(), settings);
        Ok(Self { vision, hearing, limits: settings.video.clone() })
    }

    /// Analyzes one video. Blocks until done, failed or cancelled; `progress` is called from time to time, on any thread.
    pub fn analyze(
        &self,
        source: &Source,
        options: Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, PipelineError> {
        let begun = Begun::new(source, options, &self.limits)?;
        self.finish(begun, progress, cancel).map(|(findings, _)| findings)
    }

    /// As [`Pipeline::analyze`] for a video that is begun; and how long its stages took.
    pub fn finish(
        &self,
        begun: Begun,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<(Findings, StageTimes), PipelineError> {
        analysis::run(self, begun, progress, cancel)
    }
}
