//! Reads faces from pictures with models that run on the engine: face detector, landmarks, emotion classifier, head
//! pose and gaze. It takes single pictures and returns [`crate::analysis`] types.

mod appearance;
mod blazeface;
mod blendshapes;
mod clip_classifier;
mod covered;
mod crop;
mod details;
mod detector;
mod detectors;
mod emotion;
mod gaze;
mod landmarks;
mod pictures;
mod pnp;
mod pose;
mod scale;
mod tiles;
mod turned;
mod windows;
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

pub use blendshapes::POINTS as BLENDSHAPE_POINTS;
pub use clip_classifier::{CLIP_FRAMES, FRAME_VALUES};
pub use crop::Crop;
pub use details::{DetailReader, FaceDetails};
pub use detectors::{detectors, is_detector};
pub use gaze::{HeadAndEyes, head_and_eyes};
pub use landmarks::Mesh;
pub use pictures::{PictureClassifier, PictureFileError, decode, decode_picture};
pub use pose::head_pose;
pub use tiles::TiledDetector;
pub use turned::TurnVotes;
pub use windows::WindowDetector;

use clip_classifier::ClipClassifier;
use detector::Detector;
use emotion::Classifier;

/// Why a picture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("no face detector in {folder}; `visage models pull` fetches one")]
    NoDetector { folder: String },
    /// The model file and what the settings say about it disagree.
    #[error("settings: {key} = {value}: {reason}")]
    Setting { key: &'static str, value: String, reason: String },
    #[error("a frame must be an 8-bit BGR picture, but is {width} x {height} pixels of OpenCV type {kind}")]
    Frame { width: i32, height: i32, kind: i32 },
    #[error("a picture cannot be scaled: {reason}")]
    Scale { reason: String },
    #[error("OpenCV: {0}")]
    OpenCv(#[from] opencv::Error),
}

impl VisionError {
    /// Returns who caused the error.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::NoDetector { .. } | Self::Setting { .. } => Fault::Ours(Part::Models),
            Self::Frame { .. } | Self::Scale { .. } => Fault::Unclear,
            Self::OpenCv(error) if error.code == opencv::core::StsNoMem => Fault::Ours(Part::Memory),
            Self::OpenCv(_) => Fault::Unclear,
        }
    }

    /// Whether a library, a device or a model file is missing.
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
    landmarks_allowed: bool,
    detector: Arc<dyn Detector>,
    /// Longer sides in pixels that frames are shrunk to: for detection in whole frames, and in tiles.
    sides: (u32, u32),
    /// Smallest face in pixels of a shrunk frame.
    min_face: u32,
    detail_models: Arc<details::DetailModels>,
    classifier: Arc<Classifier>,
    clip: Option<Arc<ClipClassifier>>,
    _preload: Option<Arc<Preload>>,
}

/// A thread that loads models. Dropping it waits for the thread, because a process that exits during the load crashes.
struct Preload(Option<JoinHandle<()>>);

impl Preload {
    fn run(load: impl FnOnce() + Send + 'static) -> Self {
        // If the thread does not start, the first analysis that needs the models loads them.
        Self(std::thread::Builder::new().name("load".to_owned()).spawn(load).ok())
    }
}

impl Drop for Preload {
    fn drop(&mut self) {
        let _ = self.0.take().map(JoinHandle::join);
    }
}

impl Vision {
    /// Starts the engine and loads the models that every analysis needs. [`Vision::detail_reader`] loads the others.
    ///
    /// # Errors
    /// [`VisionError::is_missing`] holds if a library, a device or a model file is missing. Returns
    /// [`VisionError::Setting`] if the classifier contradicts its description in the settings.
    pub fn load(settings: &Settings) -> Result<Self, VisionError> {
        Self::load_for(settings, FaceDetails::default())
    }

    /// Does the same as [`Vision::load`], and begins to load the models for `wanted` in the background.
    pub fn load_for(settings: &Settings, wanted: FaceDetails) -> Result<Self, VisionError> {
        // OpenCV's own threads would compete with other videos for the cores and gain little on small pictures.
        opencv::core::set_num_threads(1)?;
        let engine = Engine::start(&settings.engine)?;
        let folder = settings.models.folder.clone();
        let (detail_models, landmarks_allowed) = (Arc::<details::DetailModels>::default(), settings.vision.gaze);
        let detector = detectors::load(&engine, settings)?;
        let preload = (wanted != FaceDetails::default()).then(|| {
            let (engine, folder, detail_models) = (engine.clone(), folder.clone(), detail_models.clone());
            // An analysis that needs the models waits for this load, and reports its errors.
            Arc::new(Preload::run(move || drop(detail_models.reader(&engine, &folder, landmarks_allowed, wanted))))
        });
        let classifier = Arc::new(Classifier::load(&engine, &folder, &settings.vision.emotion)?);
        let described = &settings.thumbnails.model;
        let clip = if described.file.as_os_str().is_empty() {
            None
        } else if !detail_models.reader(&engine, &folder, landmarks_allowed, FaceDetails::LANDMARKS).has_landmarks() {
            let reason = "it needs vision.gaze and the model face_landmarks, whose points it reads".to_owned();
            let value = described.file.display().to_string();
            return Err(VisionError::Setting { key: "thumbnails.model.file", value, reason });
        } else {
            Some(Arc::new(ClipClassifier::load(&engine, &folder, described)?))
        };
        // Tiles are finer than the whole frame by the same factor for every detector.
        let side = detector.side().unsigned_abs();
        let sides = (side, settings.vision.second_side * side / settings.vision.analysis_side.max(1));
        let min_face = settings.vision.min_face;
        Ok(Self {
            engine,
            folder,
            landmarks_allowed,
            detector,
            sides,
            min_face,
            detail_models,
            classifier,
            clip,
            _preload: preload,
        })
    }

    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The models that every analysis uses.
    pub fn models(&self) -> Vec<ModelUsed> {
        [self.detector.model(), self.classifier.model()]
            .map(|model| ModelUsed { name: model.name().to_owned(), sha256: model.sha256().to_owned() })
            .into()
    }

    /// Runs each model once on a grey picture. On a GPU the first run of a model takes seconds, and no video should
    /// have to wait for it.
    pub fn warm_up(&self) -> Result<(), VisionError> {
        let (width, height) = (1280, 720);
        let frame = Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::all(127.0))?;
        let face = Face { bbox: BBox { x: 540.0, y: 260.0, width: 200.0, height: 200.0 }, score: 1.0, landmarks: None };
        self.detect(&[&frame], 1)?;
        self.classify(&[self.crop(&frame, &face)?])?;
        self.detail_reader(FaceDetails::LANDMARKS).landmarks(&[(&frame, &face)])?;
        Ok(())
    }

    /// Returns a reader for the wanted details of faces, as far as the settings allow them and their models are there.
    /// Blocks while models are loaded for the first time.
    pub fn detail_reader(&self, wanted: FaceDetails) -> DetailReader {
        self.detail_models.reader(&self.engine, &self.folder, self.landmarks_allowed, wanted)
    }

    /// Finds the faces in upright BGR frames (8 bits a channel). Returns at most `max_faces` a frame, the largest
    /// first. The box of a face that is cut off may reach beyond the frame. Blocks. Frames of all callers share
    /// batches.
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

    /// Returns the smallest faces in pixels that can be found in a frame of this size: by detection in the whole frame,
    /// and by detection in tiles, if frames of this size are cut into tiles.
    pub fn smallest_faces(&self, width: u32, height: u32) -> (u32, Option<u32>) {
        let longer = i32::try_from(width.max(height)).unwrap_or(i32::MAX);
        let (side, least) = (f64::from(self.sides.0), f64::from(self.min_face));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pixels")]
        let pixels = |scale: f64| (least * scale).ceil() as u32;
        let in_tiles = tiles::tile_scale(longer, self.sides).map(|(scale, _)| pixels(scale));
        (pixels((f64::from(longer) / side).max(1.0)), in_tiles)
    }

    /// Returns the colours of the person with this face. They distinguish the people of one video.
    pub fn appearance(&self, frame: &Mat, face: &Face) -> Result<Appearance, VisionError> {
        is_frame(frame)?;
        appearance::appearance(frame, &face.bbox)
    }

    /// Cuts a face from its frame as input for the classifier.
    pub fn crop(&self, frame: &Mat, face: &Face) -> Result<Crop, VisionError> {
        is_frame(frame)?;
        self.classifier.crop(frame, face, self.detector.framing())
    }

    /// Prepares a whole picture as input for the classifier, as if it were a face.
    pub fn whole(&self, picture: &Mat) -> Result<Crop, VisionError> {
        is_frame(picture)?;
        self.classifier.whole(picture)
    }

    /// Whether the settings name a model that classifies whole clips instead of single frames.
    pub const fn has_clip_classifier(&self) -> bool {
        self.clip.is_some()
    }

    /// Classifies a clip and returns shares in the order of [`crate::analysis::Five::ALL`], or `None` without a clip
    /// classifier. Each of the [`CLIP_FRAMES`] frames is given as the points of its face, its width and its height. A
    /// frame without a face is passed to the model as zeros. Blocks.
    pub fn classify_clip(&self, frames: &[Option<(Mesh, i32, i32)>]) -> Result<Option<[f64; 5]>, VisionError> {
        let Some(clip) = &self.clip else { return Ok(None) };
        let values = |frame: &Option<(Mesh, i32, i32)>| match frame {
            Some((mesh, width, height)) => mesh.values(clip.coordinates, *width, *height),
            None => vec![0.0; FRAME_VALUES],
        };
        clip.classify(frames.iter().flat_map(values).collect()).map(Some)
    }

    /// Returns the probabilities of the seven emotions for each crop. Blocks. Crops of all callers share batches.
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
