//! Reads the pictures of a live session, one after the other, and computes its findings at the end. Its calls of models
//! go before those of jobs.

use std::sync::Arc;

use opencv::core::MatTraitConst;

use super::analysis::{DetailTimes, DetectedFaces, FaceReader, Stop, too_small};
use super::{PictureError, Pipeline, PipelineError};
use crate::analysis::{Findings, LiveFace, LivePeople, ModelUsed, Speech, VideoFacts, Warning, summarise};
use crate::engine;
use crate::media::{Placement, Sample};
use crate::vision::{Crop, DetailReader, FaceDetails, TiledDetector, WindowDetector, decode_picture};

/// What is read from the pictures of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveOptions {
    /// Largest number of faces to read in a picture. The largest faces are read first.
    pub max_faces: u32,
    /// Read landmarks, and eye contact from the eyes.
    pub gaze: bool,
    /// Read movements of the face, which needs `gaze`.
    pub expressions: bool,
    /// Maximum width times height of a picture.
    pub max_pixels: u64,
}

/// The analysis of a live session.
pub struct LiveAnalysis {
    pipeline: Pipeline,
    details: Arc<DetailReader>,
    options: LiveOptions,
    windows: WindowDetector,
    tiles: TiledDetector,
    people: LivePeople,
    /// Width and height of the first picture.
    size: Option<(u32, u32)>,
    codec: &'static str,
    /// Number of pictures that were read.
    pictures: u64,
    /// Times of the first and the last of them.
    span_s: (f64, f64),
}

/// What was read from a picture.
#[derive(Debug)]
pub struct LivePicture {
    /// In pixels, upright.
    pub width: u32,
    pub height: u32,
    /// The largest face first.
    pub faces: Vec<LiveFace>,
}

/// What happened to the other pictures of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveLosses {
    /// Pictures that were passed over because newer ones had arrived.
    pub skipped: u64,
    /// Pictures that could not be read.
    pub failed: u64,
}

/// The sound of a live session, if it had any.
#[derive(Debug, Default)]
pub struct LiveSound {
    pub speech: Option<Speech>,
    pub models: Vec<ModelUsed>,
    pub warnings: Vec<Warning>,
    pub has_audio: bool,
    /// Seconds from the beginning of the session to the end of its sound.
    pub end_s: f64,
}

/// The findings of a live session.
#[derive(Debug)]
pub struct LiveFindings {
    pub findings: Findings,
    /// The `id` in the live answers, and the `id` in the findings, of each person. False alarms are left out.
    pub people: Vec<(u32, u32)>,
}

/// The result has a warning if more than one in this many pictures was lost.
const MANY_LOST: u64 = 10;

impl Pipeline {
    /// Begins the analysis of a live session. Blocks while models are loaded for the first time.
    pub fn live(&self, options: LiveOptions) -> LiveAnalysis {
        let wanted = FaceDetails { landmarks: options.gaze, expressions: options.expressions };
        LiveAnalysis {
            details: Arc::new(self.vision.detail_reader(wanted)),
            pipeline: self.clone(),
            options,
            windows: WindowDetector::default(),
            tiles: TiledDetector::default(),
            people: LivePeople::default(),
            size: None,
            codec: "",
            pictures: 0,
            span_s: (0.0, 0.0),
        }
    }
}

impl LiveAnalysis {
    /// The models that are used.
    pub fn models(&self) -> Vec<ModelUsed> {
        self.pipeline.vision.models().into_iter().chain(self.details.models()).collect()
    }

    /// Reads the faces of the next picture, a JPEG, PNG or WebP file. Its time in seconds is after that of the one before.
    /// Blocks.
    pub fn push(&mut self, file: &[u8], time_s: f64) -> Result<LivePicture, PictureError> {
        engine::live(|| self.read(file, time_s))
    }

    fn read(&mut self, file: &[u8], time_s: f64) -> Result<LivePicture, PictureError> {
        let vision = &self.pipeline.vision;
        let picture =
            decode_picture(file, self.options.max_pixels).map_err(|error| self.pipeline.picture_error(error, file))?;
        let max_faces = self.options.max_faces as usize;
        let mut faces = self.windows.detect(vision, &picture, max_faces)?;
        if faces.is_empty() {
            faces = self.tiles.detect(vision, &picture, max_faces)?;
        }
        let boxes: Vec<_> = faces.iter().map(|face| face.bbox).collect();
        let (width, height) = (picture.cols().unsigned_abs(), picture.rows().unsigned_abs());
        let placement = Placement::new((width, height), 0, *self.size.get_or_insert((width, height)));
        let sample = Sample { index: self.people.next_sample(), time_s, picture, placement, piece: 0 };
        let detected = DetectedFaces { samples: vec![sample], faces: vec![faces] };
        let reader = FaceReader { vision, details: &self.details };
        let read = reader.read(detected, None, &mut DetailTimes::default()).map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::Turn(_) => PipelineError::Decoder("a picture was turned without a vote".to_owned()),
        })?;
        let mut sightings = Vec::new();
        for frame in &read {
            let crops: Vec<&Crop> = frame.faces.iter().map(|face| &face.crop).collect();
            let emotions = if crops.is_empty() { Vec::new() } else { vision.classify(&crops)? };
            sightings.extend(frame.faces.iter().zip(emotions).map(|(face, emotions)| frame.sighting(face, emotions)));
        }
        if self.pictures == 0 {
            self.codec = format_name(file);
            self.span_s.0 = time_s;
        }
        self.pictures += 1;
        self.span_s.1 = time_s;
        let faces = self.people.push(time_s, sightings, &boxes, self.details.has_landmarks());
        Ok(LivePicture { width, height, faces })
    }

    /// Computes the findings. Returns `None` if no picture was read. Blocks.
    pub fn finish(self, losses: LiveLosses, sound: LiveSound) -> Option<LiveFindings> {
        let (width, height) = self.size?;
        let models = self.models().into_iter().chain(sound.models).collect();
        let (times, numbered) = self.people.finish();
        let (numbers, tracks): (Vec<u32>, Vec<_>) = numbered.into_iter().unzip();
        let lost = losses.skipped + losses.failed;
        let received = self.pictures + lost;
        let (first_s, last_s) = self.span_s;
        #[expect(clippy::cast_precision_loss, reason = "less than 2^52 pictures")]
        let interval_s = (last_s - first_s) / self.pictures.saturating_sub(1).max(1) as f64;
        let facts = VideoFacts {
            // The last picture stands for as long as the others.
            duration_s: (last_s + interval_s).max(sound.end_s),
            start_s: 0.0,
            fps: if interval_s > 0.0 { 1.0 / interval_s } else { 0.0 },
            width,
            height,
            codec: self.codec.to_owned(),
            frames_total: received,
            frames_analyzed: times.len() as u64,
            has_audio: sound.has_audio,
            turned: 0,
            stream_orientation: None,
        };
        let lost = (MANY_LOST * lost > received).then_some(Warning::LivePicturesLost { lost, received });
        let too_small = tracks.is_empty().then(|| too_small(&self.pipeline.vision, &facts));
        let details = self.details.warnings.iter().cloned();
        let warnings = lost.into_iter().chain(too_small).chain(details).chain(sound.warnings).collect();
        let people = numbers.into_iter().zip(tracks.iter().map(|track| track.id)).collect();
        let findings = summarise(facts, &times, &tracks, sound.speech, models, warnings);
        Some(LiveFindings { findings, people })
    }
}

/// Returns the name of the format of a picture that was read.
fn format_name(file: &[u8]) -> &'static str {
    match file.first() {
        Some(0xFF) => "jpeg",
        Some(0x89) => "png",
        _ => "webp",
    }
}
