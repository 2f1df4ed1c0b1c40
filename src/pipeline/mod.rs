//! Analyzes one video and returns [`Findings`]. Four stages run on their own threads, joined by bounded channels:
//! decode, detect faces, read details of faces, read emotions and track people. The sound is analyzed on another thread
//! beside them. At the end the results are summarised. Worker, API and command line use this module. It knows no
//! database, no HTTP and no mail.
//!
//! At any time the memory holds a few frames of a video and less than two minutes of its sound. Only the rows grow with
//! the length of the video: one for each face in each sample.

mod analysis;
mod clip_verdict;
mod error;
mod lazy;
mod live;
mod live_sound;
mod part;
mod pictures;
mod piece;
mod sound;
mod stages;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::analysis::{Findings, Options};
use crate::config::Settings;
use crate::engine::ActiveDevice;
use crate::isolation::Decoders;
use crate::media::{self, Source};
use crate::speech::SpeechModels;
use crate::vision::{FaceDetails, Vision};

pub use analysis::PendingAnalysis;
pub use clip_verdict::ClipError;
pub use error::PipelineError;
pub use lazy::LazyPipeline;
pub use live::{LiveAnalysis, LiveFindings, LiveLosses, LiveOptions, LivePicture, LiveSound};
pub use live_sound::{LIVE_SOUND_RATE, LiveSoundTrack, SoundOverlap};
pub use part::{AnalysisPart, AnalysisParts};
pub use pictures::{PictureError, PictureOptions, ReadPicture, WholePicture};
pub use piece::{Again, AnalyzedPiece, BegunPiece, Joined, Piece, PieceProgress};
pub use sound::SoundResult;

/// Progress of an analysis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    pub frames_done: u64,
    /// The number that the container gives, or 0 if it gives none or fewer than were found.
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

/// Cancels an analysis when the future that waits for it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Time that each stage worked, without waiting for its neighbours. Stages overlap, so the sum may exceed the whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageTimes {
    /// Time for decoding and converting sampled frames to pictures.
    pub decode: Duration,
    /// Time for finding faces and cutting them out.
    pub detect: Duration,
    /// Time for landmarks, head pose and gaze.
    pub landmarks: Duration,
    /// Time for blendshapes.
    pub expressions: Duration,
    /// Time for reading emotions and assigning faces to people.
    pub read: Duration,
    /// Time for decoding and analyzing the sound track.
    pub speech: Duration,
    /// Time from opening the video to the findings.
    pub whole: Duration,
}

/// A completed analysis.
#[derive(Debug, Clone)]
pub struct Analyzed {
    pub findings: Findings,
    /// Times of all samples in seconds, including those without a face.
    pub samples: Vec<f64>,
    pub times: StageTimes,
}

/// The models and limits that an analysis needs, loaded once in a process. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    vision: Vision,
    speech_models: SpeechModels,
    decoders: Decoders,
}

impl Pipeline {
    /// Loads the models that every analysis needs: detector and classifier. The first analysis that needs landmarks,
    /// blendshapes or sound loads the models for them.
    ///
    /// # Errors
    /// [`PipelineError::Missing`] if a library, a device or a model file is missing, otherwise
    /// [`PipelineError::Vision`]. The text of both is for the operator.
    pub fn load(settings: &Settings, decoders: &Decoders) -> Result<Self, PipelineError> {
        let pipeline = Self::load_wanted(settings, decoders, FaceDetails::default())?;
        if pipeline.vision.engine().device() == Some(ActiveDevice::Cuda) {
            pipeline.vision.warm_up()?;
        }
        Ok(pipeline)
    }

    /// Does the same as [`Pipeline::load`], and begins to load the models for the details of faces that these options
    /// ask for.
    pub fn load_for(settings: &Settings, decoders: &Decoders, options: Options) -> Result<Self, PipelineError> {
        Self::load_wanted(settings, decoders, analysis::wanted(options))
    }

    fn load_wanted(settings: &Settings, decoders: &Decoders, wanted: FaceDetails) -> Result<Self, PipelineError> {
        media::prepare();
        media::check_extra_codecs(&settings.video).map_err(|error| PipelineError::Missing(error.to_string()))?;
        // This comes before loading the models: FFmpeg refuses a primary CUDA context that was activated with other
        // flags.
        media::hwaccel(settings.video.hwaccel)?;
        let vision = Vision::load_for(settings, wanted).map_err(|error| {
            if error.is_missing() { PipelineError::Missing(error.to_string()) } else { PipelineError::Vision(error) }
        })?;
        let speech_models = SpeechModels::new(vision.engine(), settings);
        Ok(Self { vision, speech_models, decoders: decoders.clone() })
    }

    /// Analyzes one video. Blocks until it is done, has failed or is cancelled. Calls `progress` repeatedly, on any
    /// thread.
    pub fn analyze(
        &self,
        source: &Source,
        options: Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, PipelineError> {
        self.analyze_in_parts(source, options, AnalysisParts::none(), progress, cancel)
    }

    /// Does the same as [`Self::analyze`], continues after earlier parts, and keeps parts, also if it fails or is
    /// cancelled.
    pub fn analyze_in_parts(
        &self,
        source: &Source,
        options: Options,
        mut parts: AnalysisParts<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, PipelineError> {
        let earlier = self.usable(std::mem::take(&mut parts.earlier), options);
        let begun = PendingAnalysis::after(earlier, self.decoders.video(source), options)?;
        analysis::run(self, begun, &parts, progress, cancel).map(|analyzed| analyzed.findings)
    }

    /// Completes an analysis whose video is being decoded already.
    pub fn finish(
        &self,
        begun: PendingAnalysis,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Analyzed, PipelineError> {
        analysis::run(self, begun, &AnalysisParts::none(), progress, cancel)
    }
}
