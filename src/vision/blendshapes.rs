//! Movements of a face: MediaPipe's blendshapes (Grishchenko et al. 2022, "Blendshapes GHUM: Real-time Monocular Facial
//! Blendshape Prediction"). The network computes them from 146 of the 478 points.

use std::path::Path;

use ndarray::{ArrayView, IxDyn};

use super::VisionError;
use super::landmarks::Mesh;
use crate::analysis::Expressions;
use crate::engine::{Engine, EngineError, Sequence, manifest};

pub(super) const NAME: &str = "face_blendshapes";

/// The points in the network's input, in its order: `kLandmarksSubsetIdxs` of MediaPipe's `face_blendshapes_graph.cc`.
pub const POINTS: [usize; 146] = [
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
];

/// The blendshape network. It takes one face a call, and the calls of all analyses run one after another.
pub(super) struct Blendshapes(Sequence);

impl Blendshapes {
    /// # Errors
    /// The file is missing or is not this model.
    pub fn load(engine: &Engine, folder: &Path) -> Result<Self, VisionError> {
        let blendshapes = Self(engine.load_sequence(NAME, &folder.join(&manifest::entry(NAME)?.file))?);
        // A first run fails if the file is another model.
        blendshapes.call(&mut blendshapes.0.turn(), &[0.0; 2 * POINTS.len()])?;
        Ok(blendshapes)
    }

    pub fn sha256(&self) -> &str {
        self.0.sha256()
    }

    /// Reads the blendshapes of each face. Returns `None` for a face without points. Blocks.
    pub fn read(&self, faces: &[Option<Mesh>]) -> Result<Vec<Option<Expressions>>, VisionError> {
        if faces.iter().all(Option::is_none) {
            return Ok(vec![None; faces.len()]);
        }
        let mut turn = self.0.turn();
        let read = |face: &Option<Mesh>| {
            let Some(mesh) = face else { return Ok(None) };
            let points = POINTS.map(|n| [mesh.points[n][0], mesh.points[n][1]]);
            let shares = self.call(&mut turn, points.as_flattened())?;
            Ok(Expressions::of_shares(&shares))
        };
        faces.iter().map(read).collect()
    }

    fn call(&self, turn: &mut crate::engine::Turn<'_>, points: &[f32]) -> Result<[f32; 52], EngineError> {
        let failed = |reason: &str| EngineError::Run { model: NAME.to_owned(), reason: reason.to_owned() };
        let points = ArrayView::from_shape(IxDyn(&[1, POINTS.len(), 2]), points)
            .map_err(|_| failed("the points have no shape"))?;
        let outputs = turn.run(vec![("landmarks", points)])?;
        let shares: Vec<f32> = outputs.iter().flatten().copied().collect();
        shares.try_into().map_err(|_| failed("its output is not 52 numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_in_ascending_order_and_end_with_the_last_of_the_478() {
        assert!(POINTS.is_sorted_by(|a, b| a < b));
        assert_eq!(POINTS.last(), Some(&(super::super::landmarks::POINTS - 1)));
    }
}
