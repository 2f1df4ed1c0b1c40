//! A session with fixed input and output buffers (ONNX Runtime's I/O binding). The buffers lie in pinned memory, which
//! a GPU copies from and to without the CPU. They are allocated once per input shape and reused by every call.

use ndarray::ArrayViewD;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use super::queue::Outputs;

/// Maximum number of input shapes with cached buffers. Shapes differ by batch size and by the size of a video's frames.
const MAX_CACHED_SHAPES: usize = 16;

/// A session and its buffers.
pub(super) struct BoundSession {
    session: Session,
    input: String,
    outputs: Vec<String>,
    device: AllocationDevice<'static>,
    /// Sorted by last use, the most recent at the end.
    cached: Vec<Buffers>,
}

/// The buffers for inputs of one shape.
struct Buffers {
    shape: Vec<usize>,
    input: Tensor<f32>,
    binding: IoBinding,
}

impl BoundSession {
    /// Creates a bound session with buffers in the memory of `device`. `CudaPinned` is main memory that is pinned for
    /// CUDA.
    pub fn new(session: Session, device: AllocationDevice<'static>) -> Self {
        let input = session.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default();
        let outputs = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        Self { session, input, outputs, device, cached: Vec::new() }
    }

    /// Runs rows. Returns one array for each output, in the session's order.
    pub fn call(&mut self, rows: &ArrayViewD<'_, f32>) -> ort::Result<Outputs> {
        let known = self.cached.iter().position(|buffers| buffers.shape == rows.shape());
        let (mut buffers, is_new) = match known {
            Some(at) => (self.cached.remove(at), false),
            None => (self.buffers(rows.shape())?, true),
        };
        buffers.input.extract_array_mut().assign(rows);
        // Binding copies the input to the device, so it is repeated for each call.
        buffers.binding.bind_input(&self.input, &buffers.input)?;
        let outputs = self.session.run_binding(&buffers.binding)?;
        let values = self
            .outputs
            .iter()
            .map(|name| outputs[name.as_str()].try_extract_array::<f32>().map(|array| array.to_owned()));
        let found = values.collect::<ort::Result<Outputs>>()?;
        drop(outputs);
        if is_new {
            // The output shapes are known only after the first call.
            let allocator = self.allocator(MemoryType::CPUOutput)?;
            for (name, output) in self.outputs.iter().zip(&found) {
                buffers.binding.bind_output(name, Tensor::<f32>::new(&allocator, output.shape())?)?;
            }
            if self.cached.len() == MAX_CACHED_SHAPES {
                self.cached.remove(0);
            }
        }
        self.cached.push(buffers);
        Ok(found)
    }

    fn buffers(&self, shape: &[usize]) -> ort::Result<Buffers> {
        let input = Tensor::<f32>::new(&self.allocator(MemoryType::CPUInput)?, shape)?;
        let mut binding = self.session.create_binding()?;
        let memory = self.memory(MemoryType::CPUOutput)?;
        for output in &self.outputs {
            binding.bind_output_to_device(output, &memory)?;
        }
        Ok(Buffers { shape: shape.to_owned(), input, binding })
    }

    fn allocator(&self, kind: MemoryType) -> ort::Result<Allocator> {
        Allocator::new(&self.session, self.memory(kind)?)
    }

    fn memory(&self, kind: MemoryType) -> ort::Result<MemoryInfo<'static>> {
        MemoryInfo::new(self.device.clone(), 0, AllocatorType::Device, kind)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::config::Settings;
    use crate::engine::Engine;
    use crate::engine::model::call;
    use crate::engine::model_file::ModelFile;
    use crate::test_files;

    const EMOTION: &str = "emotion.onnx";
    const YUNET: &str = "yunet_n_dynamic.onnx";

    fn session(model: &str) -> Session {
        let settings = Settings::defaults().unwrap();
        let (_, bytes) = ModelFile::open(model, &test_files::model(model)).unwrap();
        Engine::start(&settings.engine).unwrap().cpu_session(model, bytes).unwrap()
    }

    /// Returns rows with varying values. Another seed gives other values.
    fn rows(shape: &[usize], seed: usize) -> ArrayD<f32> {
        let values = (0..shape.iter().product()).map(|at: usize| ((at * 7919 + seed * 104_729) % 255) as f32);
        ArrayD::from_shape_vec(IxDyn(shape), values.collect()).unwrap()
    }

    #[test]
    fn a_bound_session_gives_the_same_outputs_as_a_plain_one_in_any_order_of_shapes() {
        let mut bound = BoundSession::new(session(YUNET), AllocationDevice::CPU);
        let mut plain = session(YUNET);
        for (seed, (batch, side)) in
            [(1, 64), (2, 64), (1, 96), (1, 64), (2, 64), (1, 64), (1, 96)].into_iter().enumerate()
        {
            let rows = rows(&[batch, 3, side, side], seed);
            let expected = call(&mut plain, rows.view()).unwrap();
            assert_eq!(bound.call(&rows.view()).unwrap(), expected, "{batch} of {side}");
        }
        assert_eq!(bound.cached.len(), 3);
    }

    #[test]
    fn the_buffers_of_the_least_recently_used_shapes_are_freed() {
        let mut bound = BoundSession::new(session(EMOTION), AllocationDevice::CPU);
        let mut plain = session(EMOTION);
        for batch in (1..=MAX_CACHED_SHAPES + 2).chain([1, 2]) {
            let rows = rows(&[batch, 1, 48, 48], batch);
            assert_eq!(bound.call(&rows.view()).unwrap(), call(&mut plain, rows.view()).unwrap());
        }
        assert_eq!(bound.cached.len(), MAX_CACHED_SHAPES);
        let shapes: Vec<usize> = bound.cached.iter().map(|buffers| buffers.shape[0]).collect();
        assert_eq!(shapes[MAX_CACHED_SHAPES - 3..], [MAX_CACHED_SHAPES + 2, 1, 2]);
    }
}
