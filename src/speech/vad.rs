//! Voice activity detection with Silero VAD, a recurrent network that takes windows of 32 ms.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::unrolled::{CONTEXT, MEMORY, WINDOW, unrolled};
use crate::analysis::ModelUsed;
use crate::engine::{Engine, EngineError, Sequence};

pub const NAME: &str = "silero_vad";
const FILE: &str = "silero_vad.onnx";

pub(super) struct Vad(Sequence);

/// The model's state between two calls for one track.
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
        let vad = Self(engine.load_sequence_as(NAME, &folder.join(FILE), unrolled)?);
        // A first run fails if the file is another model.
        vad.probabilities(&mut State::default(), &[0.0; WINDOW])?;
        Ok(vad)
    }

    pub fn used(&self) -> ModelUsed {
        ModelUsed { name: NAME.to_owned(), sha256: self.0.sha256().to_owned() }
    }

    /// Returns the probability of speech in each of some consecutive windows. An incomplete window at the end is
    /// ignored.
    pub fn probabilities(&self, state: &mut State, windows: &[f32]) -> Result<Vec<f32>, EngineError> {
        let failed = |reason: &str| EngineError::Run { model: NAME.to_owned(), reason: reason.to_owned() };
        let count = windows.len() / WINDOW;
        let mut rows = Vec::with_capacity(count * (CONTEXT + WINDOW));
        for window in windows.chunks_exact(WINDOW) {
            rows.extend_from_slice(&state.context);
            rows.extend_from_slice(window);
            state.context.copy_from_slice(&window[WINDOW - CONTEXT..]);
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let rows = ArrayD::from_shape_vec(IxDyn(&[count, CONTEXT + WINDOW]), rows)
            .map_err(|_| failed("the windows do not fit the shape of the input"))?;
        let inputs = vec![("input", rows.view()), ("state", state.memory.view())];
        let outputs = self.0.turn().run(inputs)?;
        let Ok([probabilities, memory]) = <[_; 2]>::try_from(outputs) else {
            return Err(failed("the model does not have two outputs"));
        };
        let probabilities: Vec<f32> = probabilities.iter().copied().collect();
        if probabilities.len() != count || !probabilities.iter().all(|p| p.is_finite()) || memory.shape() != MEMORY {
            return Err(failed("the outputs are not the expected probabilities and state"));
        }
        state.memory = memory;
        Ok(probabilities)
    }
}

#[cfg(test)]
#[cfg(feature = "video")]
mod tests {
    use onnx_rs::ast::TensorProto;

    use super::*;
    use crate::config::Settings;
    use crate::media::{Sound, Source};
    use crate::test_files;

    /// Returns the published graph with its sample rate fixed to 16 kHz.
    fn published(file: &[u8]) -> Option<Vec<u8>> {
        let mut model = onnx_rs::parse(file).ok()?;
        let graph = model.graph.as_mut()?;
        graph.input.retain(|input| input.name != "sr");
        graph.initializer.push(TensorProto::from_i64("sr", vec![], vec![16_000]));
        Some(onnx_rs::encode(&model))
    }

    #[test]
    fn many_windows_in_one_call_give_the_probabilities_of_the_published_graph() {
        let (model, clip) = (test_files::model(FILE), test_files::clip("speech_and_face.mp4"));
        let settings = Settings::defaults().unwrap();
        let mut sound = Sound::open(&Source::File(clip), &settings.video, || false).unwrap().unwrap();
        let mut samples = Vec::new();
        while samples.len() < 12 * 16_000 {
            samples.extend(sound.next(&|| false).unwrap().unwrap());
        }
        let engine = Engine::start(&settings.engine).unwrap();
        let vad = Vad::load(&engine, model.parent().unwrap()).unwrap();
        let mut state = State::default();
        let unrolled: Vec<f32> =
            samples.chunks(40 * WINDOW).flat_map(|some| vad.probabilities(&mut state, some).unwrap()).collect();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("published.onnx");
        std::fs::write(&path, published(&std::fs::read(model).unwrap()).unwrap()).unwrap();
        let one_by_one = engine.load_sequence("published", &path).unwrap();
        let mut state = State::default();
        for (window, unrolled) in samples.chunks_exact(WINDOW).zip(&unrolled) {
            let row = [&state.context[..], window].concat();
            let row = ArrayD::from_shape_vec(IxDyn(&[1, row.len()]), row).unwrap();
            let inputs = vec![("input", row.view()), ("state", state.memory.view())];
            let [published, memory] = <[_; 2]>::try_from(one_by_one.turn().run(inputs).unwrap()).unwrap();
            assert!((published.first().unwrap() - unrolled).abs() < 1e-5, "{published} and {unrolled}");
            state.memory = memory;
            state.context.copy_from_slice(&window[WINDOW - CONTEXT..]);
        }
        assert!(unrolled.len() >= 375, "{}", unrolled.len());
        assert!(unrolled.iter().any(|p| *p > 0.9) && unrolled.iter().any(|p| *p < 0.1), "speech and pauses");
    }
}
