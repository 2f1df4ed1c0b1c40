//! What pictures say, on the engine: face detector, landmarks, emotion classifier, head pose, gaze. Pictures in, [`crate::analysis`]
//! types out; knows no videos and no time.

mod blazeface;
mod crop;
mod detector;
mod emotion;
mod gaze;
mod landmarks;
mod pictures;
mod pose;
mod yunet;

use std::sync::Arc;

use opencv::core::{CV_8UC3, Mat, MatTraitConst};

use crate::analysis::{Face, ModelUsed, Probabilities};
use crate::config::Settings;
use crate::engine::{Engine, EngineError};

pub use crop::Crop;
pub use detector::{detectors, is_detector};
pub use gaze::{HeadAndEyes, head_and_eyes};
pub use landmarks::Mesh;
pub use pictures::{Pictures, decode};
pub use pose::head_pose;

use detector::Detector;
use emotion::Classifier;
use landmarks::Landmarker;

/// Why a picture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("no face detector lies in {folder}; `visage models pull` fetches one")]
    NoDetector { folder: String },
    /// The model file and what the settings say about it disagree.
    #[error("settings: {key} = {value}: {reason}")]
    Setting { key: &'static str, value: String, reason: String },
    #[error("a frame must be a picture of 8-bit BGR, not of {width} x {height} pixels of OpenCV type {kind}")]
    Frame { width: i32, height: i32, kind: i32 },
    #[error("OpenCV: {0}")]
    OpenCv(#[from] opencv::Error),
}

impl VisionError {
    /// Whether something has to be put in place first (a library, a device, a model file), rather than mended.
    pub const fn is_missing(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_missing(),
            Self::NoDetector { .. } => true,
            Self::Setting { .. } | Self::Frame { .. } | Self::OpenCv(_) => false,
        }
    }
}

/// The models that read pictures, loaded once a process and shared by all videos. Cheap to clone.
#[derive(Clone)]
pub struct Vision {
    engine: Engine,
    detector: Arc<dyn Detector>,
    landmarker: Option<Arc<Landmarker>>,
    classifier: Arc<Classifier>,
}

impl Vision {
    /// Starts the engine and loads the models that the settings name.
    ///
    /// # Errors
    /// [`VisionError::is_missing`] tells a library, device or model file that is not there from the rest; a classifier
    /// that does not fit its description is a [`VisionError::Setting`].
    pub fn load(settings: &Settings) -> Result<Self, VisionError> {
        let engine = Engine::start(&settings.engine)?;
        let detector = detector::load(&engine, settings)?;
        let landmarker = if settings.vision.gaze { Landmarker::load(&engine, &settings.models.folder)? } else { None };
        let landmarker = landmarker.map(Arc::new);
        let classifier = Arc::new(Classifier::load(&engine, &settings.models.folder, &settings.vision.emotion)?);
        Ok(Self { engine, detector, landmarker, classifier })
    }

    /// The engine underneath.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The models in use.
    pub fn models(&self) -> Vec<ModelUsed> {
        let landmarker = self.landmarker.iter().map(|landmarker| landmarker.model());
        std::iter::once(self.detector.model())
            .chain(landmarker)
            .chain([self.classifier.model()])
            .map(|model| ModelUsed { name: model.name().to_owned(), sha256: model.sha256().to_owned() })
            .collect()
    }

    /// Faces in each of some upright BGR frames (8 bits a channel), the largest first, at most `max_faces` a frame.
    /// Boxes may reach beyond the frame where a face is cut off. Blocks; frames of all callers meet in the same batches.
    pub fn detect(&self, frames: &[&Mat], max_faces: usize) -> Result<Vec<Vec<Face>>, VisionError> {
        frames.iter().try_for_each(|frame| is_frame(frame))?;
        let mut found = self.detector.detect(frames)?;
        for faces in &mut found {
            faces.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
            faces.truncate(max_faces);
        }
        Ok(found)
    }

    /// The 478 points of each face, given with the frame that it was found in. `None` where the network sees no whole face,
    /// and for all of them where its model is not there or `vision.gaze` is off. Blocks.
    pub fn landmarks(&self, faces: &[(&Mat, &Face)]) -> Result<Vec<Option<Mesh>>, VisionError> {
        let Some(landmarker) = &self.landmarker else { return Ok(vec![None; faces.len()]) };
        faces.iter().try_for_each(|(frame, _)| is_frame(frame))?;
        landmarker.read(faces)
    }

    /// The picture of a face as the classifier wants it, cut from its frame.
    pub fn crop(&self, frame: &Mat, face: &Face) -> Result<Crop, VisionError> {
        is_frame(frame)?;
        self.classifier.crop(frame, face, self.detector.framing())
    }

    /// Probabilities for each crop. Blocks; crops of all callers meet in the same batches.
    pub fn classify(&self, crops: &[Crop]) -> Result<Vec<Probabilities>, VisionError> {
        self.classifier.classify(crops)
    }
}

fn is_frame(frame: &Mat) -> Result<(), VisionError> {
    let (width, height, kind) = (frame.cols(), frame.rows(), frame.typ());
    if kind == CV_8UC3 && width > 0 && height > 0 {
        return Ok(());
    }
    Err(VisionError::Frame { width, height, kind })
}
