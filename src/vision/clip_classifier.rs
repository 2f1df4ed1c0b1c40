//! An optional classifier of whole clips, whose model the operator provides. Its input are the points of a face in 15
//! frames. Its output is one of the five emotions of the Journaling thumbnails API.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::VisionError;
use crate::analysis::Five;
use crate::config::{ClassifierOutput, ClipModel as Described, Coordinates};
use crate::engine::{Engine, EngineError, Model};

/// Frames that represent a clip.
pub const CLIP_FRAMES: usize = 15;
/// Points of a face in the model's input: MediaPipe's face mesh without the irises.
pub(super) const MESH_POINTS: usize = 468;
/// Values of one frame: x, y and z of each point.
pub const FRAME_VALUES: usize = 3 * MESH_POINTS;

pub(super) struct ClipClassifier {
    model: Model,
    /// The emotion of each output.
    labels: Vec<Five>,
    output: ClassifierOutput,
    pub coordinates: Coordinates,
}

impl ClipClassifier {
    /// Loads the model and checks that it matches its description in the settings.
    pub fn load(engine: &Engine, folder: &Path, described: &Described) -> Result<Self, VisionError> {
        let model = engine.load(&described.name, &folder.join(&described.file))?;
        let shape: Vec<usize> = model.input().shape.iter().skip(1).map(|size| size.unwrap_or(0)).collect();
        let takes = match shape.as_slice() {
            [frames, values] => [0, CLIP_FRAMES].contains(frames) && [0, FRAME_VALUES].contains(values),
            [values] => *values == CLIP_FRAMES * FRAME_VALUES,
            _ => false,
        };
        let refused = |reason: String| VisionError::Setting {
            key: "thumbnails.model.file",
            value: described.file.display().to_string(),
            reason,
        };
        if !takes {
            return Err(refused(format!(
                "its input {:?} is neither [*, {CLIP_FRAMES}, {FRAME_VALUES}] nor [*, {}]",
                model.input().shape,
                CLIP_FRAMES * FRAME_VALUES
            )));
        }
        let labels: Vec<Five> = described.labels.iter().filter_map(|label| Five::from_label(label)).collect();
        let given = model.outputs().first().and_then(|output| output.shape.last().copied().flatten());
        if given.is_some_and(|given| given != labels.len()) {
            return Err(refused(format!(
                "it has {given:?} outputs, but thumbnails.model.labels names {}",
                labels.len()
            )));
        }
        Ok(Self { model, labels, output: described.output, coordinates: described.coordinates })
    }

    /// Classifies [`CLIP_FRAMES`] frames with [`FRAME_VALUES`] values each. Returns shares in the order of
    /// [`Five::ALL`]. Blocks.
    pub fn classify(&self, frames: Vec<f32>) -> Result<[f64; 5], VisionError> {
        let failed =
            |reason: String| VisionError::from(EngineError::Run { model: self.model.name().to_owned(), reason });
        let shape: &[usize] = match self.model.input().shape.len() {
            2 => &[1, CLIP_FRAMES * FRAME_VALUES],
            _ => &[1, CLIP_FRAMES, FRAME_VALUES],
        };
        let rows = ArrayD::from_shape_vec(IxDyn(shape), frames).map_err(|error| failed(error.to_string()))?;
        let outputs = self.model.run(rows)?;
        let values: Vec<f32> = outputs.first().map(|output| output.iter().copied().collect()).unwrap_or_default();
        if values.len() != self.labels.len() || values.iter().any(|value| !value.is_finite()) {
            return Err(failed(format!("{} outputs, expected {} finite numbers", values.len(), self.labels.len())));
        }
        let shares: Vec<f32> = match self.output {
            ClassifierOutput::Logits => {
                let top = values.iter().copied().fold(f32::MIN, f32::max);
                values.iter().map(|value| (value - top).exp()).collect()
            }
            ClassifierOutput::Probabilities => values.iter().map(|value| value.max(0.0)).collect(),
        };
        let mut five = [0.0; 5];
        for (label, share) in self.labels.iter().zip(shares) {
            five[*label as usize] += f64::from(share);
        }
        Ok(five)
    }
}
