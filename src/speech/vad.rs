//! Voice activity: Silero VAD, which hears 32 ms at a time and remembers what came before.

use std::path::Path;

use ndarray::{ArrayD, ArrayView, IxDyn, arr0};

use super::RATE;
use crate::analysis::ModelUsed;
use crate::engine::{Engine, EngineError, Sequence, Tensor};

const NAME: &str = "silero_vad";
const FILE: &str = "silero_vad.onnx";
/// Samples that the model judges at once.
pub(super) const WINDOW: usize = 512;
/// Samples from before that go in front of them.
const CONTEXT: usize = 64;
/// Shape of what it remembers.
const MEMORY: [usize; 3] = [2, 1, 128];

pub(super) struct Vad(Sequence);

/// Where in a track the model is.
pub(super) struct State {
    memory: ArrayD<f32>,
    context: [f32; CONTEXT],
}

impl Default for State {
    fn default() -> Self {
        Self { memory: ArrayD::zeros(IxDyn(&MEMORY)), context: [0.0; CONTEXT] }
    }
}

impl Vad {
    pub fn load(engine: &Engine, folder: &Path) -> Result<Self, EngineError> {
        let vad = Self(engine.load_sequence(NAME, &folder.join(FILE))?);
        // A file that is something else shows in a first run.
        vad.probabilities(&mut State::default(), &[0.0; WINDOW])?;
        Ok(vad)
    }

    pub fn used(&self) -> ModelUsed {
        ModelUsed { name: NAME.to_owned(), sha256: self.0.sha256().to_owned() }
    }

    /// The probability of speech in each of some windows that follow each other. A part of a window at the end is left
    /// out.
    pub fn probabilities(&self, state: &mut State, windows: &[f32]) -> Result<Vec<f32>, EngineError> {
        let failed = |reason: &str| EngineError::Run { model: NAME.to_owned(), reason: reason.to_owned() };
        let rate = arr0(i64::from(RATE)).into_dyn();
        let mut turn = self.0.turn();
        let mut row = [0.0; CONTEXT + WINDOW];
        let mut probabilities = Vec::with_capacity(windows.len() / WINDOW);
        for window in windows.chunks_exact(WINDOW) {
            row[..CONTEXT].copy_from_slice(&state.context);
            row[CONTEXT..].copy_from_slice(window);
            let input =
                ArrayView::from_shape(IxDyn(&[1, row.len()]), &row).map_err(|_| failed("its row has no shape"))?;
            let outputs = turn.run(vec![
                ("input", Tensor::F32(input)),
                ("state", Tensor::F32(state.memory.view())),
                ("sr", Tensor::I64(rate.view())),
            ])?;
            let Ok([probability, memory]) = <[_; 2]>::try_from(outputs) else {
                return Err(failed("it does not have two outputs"));
            };
            let heard = probability.first().copied().filter(|p| p.is_finite() && memory.shape() == MEMORY);
            probabilities.push(heard.ok_or_else(|| failed("its outputs are no probability and state"))?);
            state.memory = memory;
            state.context.copy_from_slice(&window[WINDOW - CONTEXT..]);
        }
        Ok(probabilities)
    }
}
