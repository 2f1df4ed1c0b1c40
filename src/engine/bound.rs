//! A session whose inputs and outputs have fixed places (I/O binding): memory that a GPU copies from and to by itself, made
//! once for each shape and used by every call.

use ndarray::ArrayViewD;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use super::queue::Outputs;

/// Shapes whose buffers are kept: batches of each size, of frames of one video's size after another's.
const KEPT: usize = 16;

/// A session and its buffers.
pub(super) struct Bound {
    session: Session,
    input: String,
    outputs: Vec<String>,
    device: AllocationDevice<'static>,
    /// The last used stand at the end.
    kept: Vec<Buffers>,
}

/// For inputs of one shape.
struct Buffers {
    shape: Vec<usize>,
    input: Tensor<f32>,
    binding: IoBinding,
}

impl Bound {
    /// With buffers in the memory of this name: `CudaPinned` is the computer's own, held in place for CUDA.
    pub fn new(session: Session, device: AllocationDevice<'static>) -> Self {
        let input = session.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default();
        let outputs = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        Self { session, input, outputs, device, kept: Vec::new() }
    }

    /// Runs rows: one array an output, in the session's order.
    pub fn call(&mut self, rows: &ArrayViewD<'_, f32>) -> ort::Result<Outputs> {
        let known = self.kept.iter().position(|buffers| buffers.shape == rows.shape());
        let (mut buffers, is_new) = match known {
            Some(at) => (self.kept.remove(at), false),
            None => (self.buffers(rows.shape())?, true),
        };
        buffers.input.extract_array_mut().assign(rows);
        // Binding is what copies it to the device.
        buffers.binding.bind_input(&self.input, &buffers.input)?;
        let outputs = self.session.run_binding(&buffers.binding)?;
        let values = self
            .outputs
            .iter()
            .map(|name| outputs[name.as_str()].try_extract_array::<f32>().map(|array| array.to_owned()));
        let found = values.collect::<ort::Result<Outputs>>()?;
        drop(outputs);
        if is_new {
            // What shape inputs become is known now.
            let allocator = self.allocator(MemoryType::CPUOutput)?;
            for (name, output) in self.outputs.iter().zip(&found) {
                buffers.binding.bind_output(name, Tensor::<f32>::new(&allocator, output.shape())?)?;
            }
            if self.kept.len() == KEPT {
                self.kept.remove(0);
            }
        }
        self.kept.push(buffers);
        Ok(found)
    }

    fn buffers(&self, shape: &[usize]) -> ort::Result<Buffers> {
        let input = Tensor::<f32>::new(&self.allocator(MemoryType::CPUInput)?, shape)?;
        let mut binding = self.session.create_binding()?;
        let place = self.place(MemoryType::CPUOutput)?;
        for output in &self.outputs {
            binding.bind_output_to_device(output, &place)?;
        }
        Ok(Buffers { shape: shape.to_owned(), input, binding })
    }

    fn allocator(&self, kind: MemoryType) -> ort::Result<Allocator> {
        Allocator::new(&self.session, self.place(kind)?)
    }

    fn place(&self, kind: MemoryType) -> ort::Result<MemoryInfo<'static>> {
        MemoryInfo::new(self.device.clone(), 0, AllocatorType::Device, kind)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::config::Settings;
    use crate::engine::Engine;
    use crate::engine::model::{call, file};
    use crate::test_files;

    const EMOTION: &str = "emotion.onnx";
    const YUNET: &str = "yunet_n_dynamic.onnx";

    fn session(model: &str) -> Session {
        let settings = Settings::defaults().unwrap();
        let (bytes, _) = file(model, &test_files::model(model)).unwrap();
        Engine::start(&settings.engine).unwrap().cpu_session(model, &bytes).unwrap()
    }

    /// Rows that are not all alike, nor like those of another seed.
    fn rows(shape: &[usize], seed: usize) -> ArrayD<f32> {
        let values = (0..shape.iter().product()).map(|at: usize| ((at * 7919 + seed * 104_729) % 255) as f32);
        ArrayD::from_shape_vec(IxDyn(shape), values.collect()).unwrap()
    }

    #[test]
    fn a_bound_session_gives_what_any_other_gives_in_whatever_order_shapes_come() {
        let mut bound = Bound::new(session(YUNET), AllocationDevice::CPU);
        let mut plain = session(YUNET);
        for (seed, (batch, side)) in
            [(1, 64), (2, 64), (1, 96), (1, 64), (2, 64), (1, 64), (1, 96)].into_iter().enumerate()
        {
            let rows = rows(&[batch, 3, side, side], seed);
            let expected = call(&mut plain, rows.view()).unwrap();
            assert_eq!(bound.call(&rows.view()).unwrap(), expected, "{batch} of {side}");
        }
        assert_eq!(bound.kept.len(), 3);
    }

    #[test]
    fn buffers_of_shapes_that_have_not_been_seen_for_long_are_given_back() {
        let mut bound = Bound::new(session(EMOTION), AllocationDevice::CPU);
        let mut plain = session(EMOTION);
        for batch in (1..=KEPT + 2).chain([1, 2]) {
            let rows = rows(&[batch, 1, 48, 48], batch);
            assert_eq!(bound.call(&rows.view()).unwrap(), call(&mut plain, rows.view()).unwrap());
        }
        assert_eq!(bound.kept.len(), KEPT);
        let shapes: Vec<usize> = bound.kept.iter().map(|buffers| buffers.shape[0]).collect();
        assert_eq!(shapes[KEPT - 3..], [KEPT + 2, 1, 2]);
    }
}
