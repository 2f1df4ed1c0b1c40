//! The details of faces that an analysis may leave out: landmarks, and the blendshapes that are computed from them.
//! Their models are loaded when the first analysis asks for them.

use std::path::Path;
use std::sync::Arc;

use opencv::core::Mat;
use parking_lot::Mutex;

use super::blendshapes::{self, Blendshapes};
use super::landmarks::{Landmarker, Mesh};
use super::{VisionError, is_frame};
use crate::analysis::{Expressions, Face, LANDMARK_MODEL, ModelUsed, Warning};
use crate::engine::Engine;

/// A model that is loaded at its first use.
struct OnDemand<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for OnDemand<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> OnDemand<T> {
    /// Returns the model, and loads it first if needed. A call during a load waits for it. After a failed load the next
    /// call tries again.
    fn get(&self, load: impl FnOnce() -> Result<T, VisionError>) -> Result<Arc<T>, VisionError> {
        let mut model = self.0.lock();
        match &*model {
            Some(model) => Ok(model.clone()),
            None => Ok(model.insert(Arc::new(load()?)).clone()),
        }
    }
}

/// The models for details of faces, shared by all analyses.
#[derive(Default)]
pub(super) struct DetailModels {
    landmarker: OnDemand<Landmarker>,
    blendshapes: OnDemand<Blendshapes>,
}

/// Reads the details of faces for one analysis. A detail whose model is not there is left out.
#[derive(Clone, Default)]
pub struct DetailReader {
    landmarker: Option<Arc<Landmarker>>,
    blendshapes: Option<Arc<Blendshapes>>,
    /// One for each detail that was asked for and cannot be read.
    pub warnings: Vec<Warning>,
}

impl DetailModels {
    /// Returns a reader for the wanted details, and loads their models first if needed. `landmarks_allowed`: whether
    /// the settings allow landmarks.
    pub fn reader(&self, engine: &Engine, folder: &Path, landmarks_allowed: bool, wanted: FaceDetails) -> DetailReader {
        let mut details = DetailReader::default();
        let landmarker =
            (wanted.landmarks && landmarks_allowed).then(|| self.landmarker.get(|| Landmarker::load(engine, folder)));
        match landmarker {
            Some(Ok(landmarker)) => details.landmarker = Some(landmarker),
            Some(Err(error)) => tracing::warn!(%error, "no landmark model: eye contact is judged by the head alone"),
            None => {}
        }
        if !wanted.expressions {
            return details;
        }
        if !landmarks_allowed {
            details.warnings.push(Warning::ExpressionsDisabled);
        } else if details.landmarker.is_none() {
            details.warnings.push(Warning::ExpressionsModelMissing { model: LANDMARK_MODEL.to_owned() });
        } else {
            match self.blendshapes.get(|| Blendshapes::load(engine, folder)) {
                Ok(blendshapes) => details.blendshapes = Some(blendshapes),
                Err(error) => {
                    tracing::warn!(%error, "no blendshape model: expressions are left out");
                    let model = blendshapes::NAME.to_owned();
                    details.warnings.push(if error.is_missing() {
                        Warning::ExpressionsModelMissing { model }
                    } else {
                        Warning::ExpressionsModelUnusable { model }
                    });
                }
            }
        }
        details
    }
}

/// The optional details of faces that an analysis asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaceDetails {
    pub landmarks: bool,
    /// Requires `landmarks`.
    pub expressions: bool,
}

impl FaceDetails {
    pub const LANDMARKS: Self = Self { landmarks: true, expressions: false };
}

impl DetailReader {
    /// Whether landmarks are read.
    pub const fn has_landmarks(&self) -> bool {
        self.landmarker.is_some()
    }

    /// The models in use.
    pub fn models(&self) -> Vec<ModelUsed> {
        let used = |name: &str, sha256: &str| ModelUsed { name: name.to_owned(), sha256: sha256.to_owned() };
        let landmarker = self.landmarker.iter().map(|it| used(it.model().name(), it.model().sha256()));
        landmarker.chain(self.blendshapes.iter().map(|it| used(blendshapes::NAME, it.sha256()))).collect()
    }

    /// Reads the 478 points of each face, given with the frame that it was found in. Returns `None` for a face that the
    /// network does not see whole, and for all faces if landmarks are not read. Blocks. Faces of all callers share
    /// batches.
    pub fn landmarks(&self, faces: &[(&Mat, &Face)]) -> Result<Vec<Option<Mesh>>, VisionError> {
        let Some(landmarker) = &self.landmarker else { return Ok(vec![None; faces.len()]) };
        faces.iter().try_for_each(|(frame, _)| is_frame(frame))?;
        landmarker.read(faces)
    }

    /// Reads the blendshapes of each face. Returns `None` for a face without points, and for all faces without the
    /// model. Blocks.
    pub fn expressions(&self, faces: &[Option<Mesh>]) -> Result<Vec<Option<Expressions>>, VisionError> {
        match &self.blendshapes {
            Some(blendshapes) => blendshapes.read(faces),
            None => Ok(vec![None; faces.len()]),
        }
    }
}
