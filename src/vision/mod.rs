//! What pictures say, on the engine: face detector, landmarks, emotion classifier, head pose, gaze. Pictures in, [`crate::analysis`]
//! types out; knows no videos and no time.

mod appearance;
mod blazeface;
mod clip;
mod close_up;
mod covered;
mod crop;
mod detector;
mod emotion;
mod gaze;
mod landmarks;
mod movements;
mod pictures;
mod pose;
mod scale;
mod second_look;
mod turned;
mod watch;
mod yunet;

use std::borrow::Borrow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use opencv::core::{CV_8UC3, Mat, MatTraitConst, Scalar};

use crate::analysis::{Appearance, BBox, Face, ModelUsed, Probabilities};
use crate::config::Settings;
use crate::engine::{Engine, EngineError};
use crate::fault::{Fault, Part};

pub use clip::{CLIP_FRAMES, FRAME_VALUES};
pub use close_up::{CloseUp, Wanted};
pub use crop::Crop;
pub use detector::{detectors, is_detector};
pub use gaze::{HeadAndEyes, head_and_eyes};
pub use landmarks::Mesh;
pub use movements::POINTS as MOVEMENT_POINTS;
pub use pictures::{Pictures, decode};
pub use pose::head_pose;
pub use second_look::SecondLook;
pub use turned::TurnVotes;
pub use watch::Watch;

use clip::ClipModel;
use detector::Detector;
use emotion::Classifier;

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
    #[error("a picture cannot be scaled: {reason}")]
    Scale { reason: String },
    #[error("OpenCV: {0}")]
    OpenCv(#[from] opencv::Error),
}

impl VisionError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::NoDetector { .. } | Self::Setting { .. } => Fault::Ours(Part::Models),
            Self::Frame { .. } | Self::Scale { .. } => Fault::Unclear,
            Self::OpenCv(error) if error.code == opencv::core::StsNoMem => Fault::Ours(Part::Memory),
            Self::OpenCv(_) => Fault::Unclear,
        }
    }

    /// Whether something has to be put in place first (a library, a device, a model file), rather than mended.
    pub const fn is_missing(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_missing(),
            Self::NoDetector { .. } => true,
            Self::Setting { .. } | Self::Frame { .. } | Self::Scale { .. } | Self::OpenCv(_) => false,
        }
    }
}

/// The models that read pictures, loaded once a process and shared by all videos. Cheap to clone.
#[derive(Clone)]
pub struct Vision {
    engine: Engine,
    folder: PathBuf,
    /// Whether the settings allow landmarks.
    may_look: bool,
    detector: Arc<dyn Detector>,
    /// Longer sides that frames are shrunk to for the first and the second look, and the smallest face there.
    sides: (u32, u32),
    min_face: u32,
    close_up: Arc<close_up::Models>,
    classifier: Arc<Classifier>,
    clip: Option<Arc<ClipModel>>,
    _ahead: Option<Arc<Ahead>>,
}

/// A thread that loads models. It is waited for in the end: a process that exits in the middle of it crashes.
struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    fn run(load: impl FnOnce() + Send + 'static) -> Self {
        // Without a thread they are loaded by whoever asks first.
        Self(std::thread::Builder::new().name("load".to_owned()).spawn(load).ok())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.0.take().map(JoinHandle::join);
    }
}

impl Vision {
    /// Starts the engine and loads the models that every analysis needs; those of [`Vision::close_up`] wait.
    ///
    /// # Errors
    /// [`VisionError::is_missing`] tells a library, device or model file that is not there from the rest; a classifier
    /// that does not fit its description is a [`VisionError::Setting`].
    pub fn load(settings: &Settings) -> Result<Self, VisionError> {
        Self::load_for(settings, Wanted::default())
    }

    /// As [`Vision::load`], and begins to load those that will be wanted.
    pub fn load_for(settings: &Settings, wanted: Wanted) -> Result<Self, VisionError> {
        // Its helpers would take the cores from other videos, and pictures are small here.
        opencv::core::set_num_threads(1)?;
        let engine = Engine::start(&settings.engine)?;
        let folder = settings.models.folder.clone();
        let (close_up, may_look) = (Arc::<close_up::Models>::default(), settings.vision.gaze);
        let detector = detector::load(&engine, settings)?;
        let ahead = (wanted != Wanted::default()).then(|| {
            let (engine, folder, close_up) = (engine.clone(), folder.clone(), close_up.clone());
            // Whoever asks for them waits for them there, and is told what is wrong.
            Arc::new(Ahead::run(move || drop(close_up.close_up(&engine, &folder, may_look, wanted))))
        });
        let classifier = Arc::new(Classifier::load(&engine, &folder, &settings.vision.emotion)?);
        let described = &settings.thumbnails.model;
        let clip = if described.file.as_os_str().is_empty() {
            None
        } else if !close_up.close_up(&engine, &folder, may_look, Wanted::LANDMARKS).has_landmarks() {
            let reason = "it needs vision.gaze and the model face_landmarks, whose points it reads".to_owned();
            let value = described.file.display().to_string();
            return Err(VisionError::Setting { key: "thumbnails.model.file", value, reason });
        } else {
            Some(Arc::new(ClipModel::load(&engine, &folder, described)?))
        };
        // The second look is finer than the first by the same factor, whatever the detector.
        let side = detector.side().unsigned_abs();
        let sides = (side, settings.vision.second_side * side / settings.vision.analysis_side.max(1));
        let min_face = settings.vision.min_face;
        Ok(Self { engine, folder, may_look, detector, sides, min_face, close_up, classifier, clip, _ahead: ahead })
    }

    /// The engine underneath.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The models that every analysis uses.
    pub fn models(&self) -> Vec<ModelUsed> {
        [self.detector.model(), self.classifier.model()]
            .map(|model| ModelUsed { name: model.name().to_owned(), sha256: model.sha256().to_owned() })
            .into()
    }

    /// Runs what the settings allow once, on a picture of nothing: on a GPU the first run of a model takes seconds, of which no
    /// video should have to wait.
    pub fn warm_up(&self) -> Result<(), VisionError> {
        let (width, height) = (1280, 720);
        let frame = Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::all(127.0))?;
        let face = Face { bbox: BBox { x: 540.0, y: 260.0, width: 200.0, height: 200.0 }, score: 1.0, landmarks: None };
        self.detect(&[&frame], 1)?;
        self.classify(&[self.crop(&frame, &face)?])?;
        self.close_up(Wanted::LANDMARKS).landmarks(&[(&frame, &face)])?;
        Ok(())
    }

    /// What one analysis reads of faces besides emotions, as far as the settings allow it and its models are there. Blocks
    /// while models are loaded that nobody has wanted before.
    pub fn close_up(&self, wanted: Wanted) -> CloseUp {
        self.close_up.close_up(&self.engine, &self.folder, self.may_look, wanted)
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

    const fn sides(&self) -> (u32, u32) {
        self.sides
    }

    /// The smallest face that the first look finds in a frame of that size, in pixels, and the smallest that the second one
    /// finds, where there is one.
    pub fn smallest_faces(&self, width: u32, height: u32) -> (u32, Option<u32>) {
        let longer = i32::try_from(width.max(height)).unwrap_or(i32::MAX);
        let (first, least) = (f64::from(self.sides.0), f64::from(self.min_face));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pixels")]
        let pixels = |scale: f64| (least * scale).ceil() as u32;
        let second = second_look::finer(longer, self.sides).map(|(scale, _)| pixels(scale));
        (pixels((f64::from(longer) / first).max(1.0)), second)
    }

    /// What the person with this face looks like, to be told from others of the same video.
    pub fn appearance(&self, frame: &Mat, face: &Face) -> Result<Appearance, VisionError> {
        is_frame(frame)?;
        appearance::appearance(frame, &face.bbox)
    }

    /// The picture of a face as the classifier wants it, cut from its frame.
    pub fn crop(&self, frame: &Mat, face: &Face) -> Result<Crop, VisionError> {
        is_frame(frame)?;
        self.classifier.crop(frame, face, self.detector.framing())
    }

    /// Whether a model reads clips as a whole, instead of frame by frame.
    pub const fn reads_clips(&self) -> bool {
        self.clip.is_some()
    }

    /// What that model says of a clip: shares in the order of [`crate::analysis::Five::ALL`]. Each of the [`CLIP_FRAMES`]
    /// frames has the points of its face and its size; without a face it is all zeros. `None`: there is no such model.
    /// Blocks.
    pub fn classify_clip(&self, frames: &[Option<(Mesh, i32, i32)>]) -> Result<Option<[f64; 5]>, VisionError> {
        let Some(clip) = &self.clip else { return Ok(None) };
        let values = |frame: &Option<(Mesh, i32, i32)>| match frame {
            Some((mesh, width, height)) => mesh.values(clip.coordinates, *width, *height),
            None => vec![0.0; FRAME_VALUES],
        };
        clip.classify(frames.iter().flat_map(values).collect()).map(Some)
    }

    /// Probabilities for each crop. Blocks; crops of all callers meet in the same batches.
    pub fn classify(&self, crops: &[impl Borrow<Crop>]) -> Result<Vec<Probabilities>, VisionError> {
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
