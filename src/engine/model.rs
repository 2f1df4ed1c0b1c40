//! A loaded model whose rows are independent of each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{ArrayD, ArrayViewD, Axis, ShapeError, Slice, concatenate};
use ort::memory::AllocationDevice;
use ort::session::Session;
use ort::value::{Outlet, TensorElementType, TensorRef};

use super::bound::BoundSession;
use super::model_file::ModelFile;
use super::queue::{Limits, Outputs, Queue, Run, Ticket};
use super::{ActiveDevice, Engine, EngineError};
use crate::telemetry::metrics;

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// `None` for a dimension that may have any size. The first dimension is the batch.
    pub shape: Vec<Option<usize>>,
}

/// A model with one input whose rows do not depend on each other. Cheap to clone. Dropping the last clone ends the
/// model's threads.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    name: String,
    sha256: String,
    input: Port,
    outputs: Vec<Port>,
    metadata: BTreeMap<String, String>,
    max_rows: usize,
    queue: Queue,
}

impl Model {
    pub(super) fn load(engine: &Engine, name: &str, path: &Path) -> Result<Self, EngineError> {
        let (file, bytes) = ModelFile::open(name, path)?;
        let sha256 = file.sha256.clone();
        let session = engine.session(name, bytes)?;

        let refused = |reason: String| EngineError::ModelRefused { name: name.to_owned(), reason };
        let [input] = session.inputs() else {
            return Err(refused(format!("it has {} inputs, not one", session.inputs().len())));
        };
        let input = port(input).map_err(refused)?;
        let outputs = session.outputs().iter().map(port).collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let metadata = metadata(&session).map_err(|error| refused(error.to_string()))?;
        let max_rows = match input.shape.first() {
            Some(None) => engine.max_batch(),
            // The model was exported for one row per call.
            Some(Some(1)) => 1,
            _ => return Err(refused(format!("the first dimension of its input {:?} is not a batch", input.name))),
        };

        // On a GPU, throughput comes from larger batches, not from more sessions.
        let sessions = if engine.device() == Some(ActiveDevice::Cuda) { 1 } else { engine.threads() };
        let limits = Limits { max_rows, max_wait: engine.max_wait(), depth: 2 * engine.max_batch(), sessions };
        let run = batch_runner(engine.clone(), name.to_owned(), session);
        let new_session = {
            let (engine, name) = (engine.clone(), name.to_owned());
            move || Ok(batch_runner(engine.clone(), name.clone(), engine.session(&name, file.read()?)?))
        };
        let queue = Queue::start(name, limits, run, new_session)
            .map_err(|error| refused(format!("cannot start its thread: {error}")))?;
        Ok(Self(Arc::new(Inner { name: name.to_owned(), sha256, input, outputs, metadata, max_rows, queue })))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Checksum of the model file, in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// The value of a key in the model file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.metadata.get(key).map(String::as_str)
    }

    pub fn input(&self) -> &Port {
        &self.0.input
    }

    pub fn outputs(&self) -> &[Port] {
        &self.0.outputs
    }

    /// Position of the named output in the result of [`Model::run`].
    pub fn output(&self, name: &str) -> Result<usize, EngineError> {
        self.0.outputs.iter().position(|port| port.name == name).ok_or_else(|| EngineError::ModelRefused {
            name: self.0.name.clone(),
            reason: format!("it has no output {name:?}"),
        })
    }

    /// Runs one or more rows, stacked along the first axis, and blocks until their outputs are ready. Returns one array
    /// for each output, with one row for each input row. Rows of different callers may share a call.
    pub fn run(&self, rows: ArrayD<f32>) -> Result<Vec<ArrayD<f32>>, EngineError> {
        self.check(rows.shape())?;
        let (count, most) = (rows.len_of(Axis(0)), self.0.max_rows);
        if count <= most {
            return self.0.queue.submit(rows)?.wait();
        }
        let parts = (0..count).step_by(most).map(|start| {
            let part = Slice::from(start..(start + most).min(count));
            self.0.queue.submit(rows.slice_axis(Axis(0), part).to_owned())
        });
        let tickets = parts.collect::<Result<Vec<Ticket>, _>>()?;
        let parts = tickets.into_iter().map(Ticket::wait).collect::<Result<Vec<_>, _>>()?;
        join(&parts).map_err(|error| EngineError::Run { model: self.0.name.clone(), reason: error.to_string() })
    }

    fn check(&self, given: &[usize]) -> Result<(), EngineError> {
        let shape = &self.0.input.shape;
        let fits = given.len() == shape.len()
            && given[0] > 0
            && given.iter().zip(shape).skip(1).all(|(given, size)| size.is_none_or(|size| size == *given));
        if fits {
            return Ok(());
        }
        Err(EngineError::Shape { model: self.0.name.clone(), expected: describe(shape), given: given.to_vec() })
    }
}

fn metadata(session: &Session) -> ort::Result<BTreeMap<String, String>> {
    let metadata = session.metadata()?;
    Ok(metadata.custom_keys()?.into_iter().filter_map(|key| metadata.custom(&key).map(|value| (key, value))).collect())
}

/// Formats a shape for messages, such as `[*, 3, *, *]`.
fn describe(shape: &[Option<usize>]) -> String {
    let sizes: Vec<_> = shape.iter().map(|size| size.map_or_else(|| "*".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

/// Maximum number of input values in one call on the CPU. There, a batch is faster only while it fits into the caches:
/// per row, the emotion classifier is a fifth faster with 16 faces per call, and YuNet is half as fast with 16 frames
/// of 640 x 384.
const CPU_CALL_VALUES: usize = 1 << 18;

/// Returns the function that a thread of the model calls with each batch.
fn batch_runner(engine: Engine, model: String, session: Session) -> Run {
    let meter = metrics().model(&model);
    let mut session_call = SessionCall::new(&engine, session);
    Box::new(move |rows| {
        let failed = |reason: String| EngineError::Run { model: model.clone(), reason };
        let values = rows.len() / rows.len_of(Axis(0)).max(1);
        let most = match engine.device() {
            Some(ActiveDevice::Cuda) => usize::MAX,
            _ => CPU_CALL_VALUES / values.max(1),
        };
        let mut parts = rows
            .axis_chunks_iter(Axis(0), most.max(1))
            .map(|part| {
                let _permit = engine.cpu_permit();
                let (begun, rows) = (Instant::now(), part.len_of(Axis(0)));
                let outputs = session_call.call(part).map_err(|error| failed(error.to_string()))?;
                meter.called(rows, begun.elapsed());
                Ok(outputs)
            })
            .collect::<Result<Vec<Outputs>, _>>()?;
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        join(&parts).map_err(|error| failed(error.to_string()))
    })
}

/// A session with its way of passing inputs and outputs.
enum SessionCall {
    /// The session reads inputs in place, and its outputs are copied. Fastest on a CPU.
    Plain(Session),
    /// The session has fixed input and output buffers. Fastest on a GPU.
    Bound(BoundSession),
}

impl SessionCall {
    fn new(engine: &Engine, session: Session) -> Self {
        match engine.device() {
            Some(ActiveDevice::Cuda) => Self::Bound(BoundSession::new(session, AllocationDevice::CUDA_PINNED)),
            _ => Self::Plain(session),
        }
    }

    fn call(&mut self, rows: ArrayViewD<'_, f32>) -> ort::Result<Outputs> {
        match self {
            Self::Plain(session) => call(session, rows),
            Self::Bound(bound) => bound.call(&rows),
        }
    }
}

pub(super) fn call(session: &mut Session, rows: ArrayViewD<'_, f32>) -> ort::Result<Outputs> {
    // Rows of an array in standard layout are contiguous in memory, so the input is not copied.
    let outputs = session.run(ort::inputs![TensorRef::from_array_view(rows)?])?;
    outputs.values().map(|output| output.try_extract_array::<f32>().map(|array| array.to_owned())).collect()
}

/// Concatenates the outputs of several calls.
fn join(parts: &[Outputs]) -> Result<Outputs, ShapeError> {
    let outputs = parts.first().map_or(0, Vec::len);
    (0..outputs)
        .map(|output| concatenate(Axis(0), &parts.iter().map(|part| part[output].view()).collect::<Vec<_>>()))
        .collect()
}

fn port(outlet: &Outlet) -> Result<Port, String> {
    let name = outlet.name().to_owned();
    match (outlet.dtype().tensor_type(), outlet.dtype().tensor_shape()) {
        (Some(TensorElementType::Float32), Some(shape)) => {
            // ONNX Runtime gives -1 for a dimension without a fixed size.
            Ok(Port { name, shape: shape.iter().map(|&size| usize::try_from(size).ok()).collect() })
        }
        _ => Err(format!("{name:?} is not a tensor of 32-bit floats")),
    }
}
