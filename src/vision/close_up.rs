//! What may be left out of a look at faces: landmarks, and the movements that are read from them. Their models are loaded
//! when the first analysis wants them, and not at all where none does.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use opencv::core::Mat;

use super::landmarks::{Landmarker, Mesh};
use super::movements::{self, Movements};
use super::{VisionError, is_frame};
use crate::analysis::{Expressions, Face, LANDMARK_MODEL, ModelUsed, Warning};
use crate::engine::Engine;

/// A model that is loaded when it is first asked for.
struct OnDemand<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for OnDemand<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> OnDemand<T> {
    /// Who comes while another loads it shares the load. After a failure the next one tries again.
    fn get(&self, load: impl FnOnce() -> Result<T, VisionError>) -> Result<Arc<T>, VisionError> {
        let mut model = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*model {
            Some(model) => Ok(model.clone()),
            None => Ok(model.insert(Arc::new(load()?)).clone()),
        }
    }
}

/// The models, as far as they were asked for.
#[derive(Default)]
pub(super) struct Models {
    landmarker: OnDemand<Landmarker>,
    movements: OnDemand<Movements>,
}

/// What one analysis reads of a face besides its emotion. Without a model, its part is left out.
#[derive(Clone, Default)]
pub struct CloseUp {
    landmarker: Option<Arc<Landmarker>>,
    movements: Option<Arc<Movements>>,
    /// What was asked for and cannot be had.
    pub warnings: Vec<Warning>,
}

impl Models {
    /// Loads what is wanted and was not loaded yet. `may_look`: whether the settings allow landmarks.
    pub fn close_up(&self, engine: &Engine, folder: &Path, may_look: bool, wanted: Wanted) -> CloseUp {
        let mut close_up = CloseUp::default();
        let landmarker =
            (wanted.landmarks && may_look).then(|| self.landmarker.get(|| Landmarker::load(engine, folder)));
        match landmarker {
            Some(Ok(landmarker)) => close_up.landmarker = Some(landmarker),
            Some(Err(error)) => tracing::warn!(%error, "eye contact is judged by the head alone"),
            None => {}
        }
        if !wanted.expressions {
            return close_up;
        }
        if !may_look {
            close_up.warnings.push(Warning::ExpressionsDisabled);
        } else if close_up.landmarker.is_none() {
            close_up.warnings.push(Warning::ExpressionsModelMissing { model: LANDMARK_MODEL.to_owned() });
        } else {
            match self.movements.get(|| Movements::load(engine, folder)) {
                Ok(movements) => close_up.movements = Some(movements),
                Err(error) => {
                    tracing::warn!(%error, "movements of the face are left out");
                    let model = movements::NAME.to_owned();
                    close_up.warnings.push(if error.is_missing() {
                        Warning::ExpressionsModelMissing { model }
                    } else {
                        Warning::ExpressionsModelUnusable { model }
                    });
                }
            }
        }
        close_up
    }
}

/// What an analysis wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    pub landmarks: bool,
    /// Needs the landmarks.
    pub expressions: bool,
}

impl Wanted {
    /// Points, and nothing that is read from them.
    pub const LANDMARKS: Self = Self { landmarks: true, expressions: false };
}

impl CloseUp {
    /// Whether faces have landmarks.
    pub const fn has_landmarks(&self) -> bool {
        self.landmarker.is_some()
    }

    /// The models in use.
    pub fn models(&self) -> Vec<ModelUsed> {
        let used = |name: &str, sha256: &str| ModelUsed { name: name.to_owned(), sha256: sha256.to_owned() };
        let landmarker = self.landmarker.iter().map(|it| used(it.model().name(), it.model().sha256()));
        landmarker.chain(self.movements.iter().map(|it| used(movements::NAME, it.sha256()))).collect()
    }

    /// The 478 points of each face, given with the frame that it was found in. `None` where the network sees no whole face,
    /// and for all of them without its model. Blocks; faces of all callers meet in the same batches.
    pub fn landmarks(&self, faces: &[(&Mat, &Face)]) -> Result<Vec<Option<Mesh>>, VisionError> {
        let Some(landmarker) = &self.landmarker else { return Ok(vec![None; faces.len()]) };
        faces.iter().try_for_each(|(frame, _)| is_frame(frame))?;
        landmarker.read(faces)
    }

    /// What moved in each face; `None` without points, and for all of them without the model. Blocks.
    pub fn expressions(&self, faces: &[Option<Mesh>]) -> Result<Vec<Option<Expressions>>, VisionError> {
        match &self.movements {
            Some(movements) => movements.read(faces),
            None => Ok(vec![None; faces.len()]),
        }
    }
}
