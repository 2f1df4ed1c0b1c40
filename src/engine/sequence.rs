//! A loaded model whose calls cannot be batched.

use std::path::Path;

use ndarray::{ArrayD, ArrayViewD};
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use parking_lot::{Mutex, MutexGuard};

use super::model_file::ModelFile;
use super::runtime::CpuPermit;
use super::{Engine, EngineError};

/// A model with any number of inputs whose calls cannot be batched: either the outputs of one call are inputs of the
/// next, or the model takes one row per call.
///
/// The caller keeps the state between calls. One session serves all callers in turns. It always runs on the CPU: for
/// calls this small, copying to a GPU and back would take longer than computing.
pub struct Sequence {
    engine: Engine,
    name: String,
    sha256: String,
    session: Mutex<Session>,
}

impl Sequence {
    /// Loads a model file. `graph` turns the content of the file into the graph that is run.
    pub(super) fn load(
        engine: &Engine,
        name: &str,
        path: &Path,
        graph: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, EngineError>,
    ) -> Result<Self, EngineError> {
        let (ModelFile { sha256, .. }, bytes) = ModelFile::open(name, path)?;
        let session = Mutex::new(engine.cpu_session(name, graph(bytes)?)?);
        Ok(Self { engine: engine.clone(), name: name.to_owned(), sha256, session })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checksum of the model file, in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Waits for exclusive use of the session. Other callers wait until the turn is dropped.
    pub fn turn(&self) -> Turn<'_> {
        // Lock the session first and take the CPU permit second. Another order could deadlock.
        let session = self.session.lock();
        Turn { model: &self.name, session, _permit: self.engine.cpu_permit() }
    }
}

/// Exclusive use of a [`Sequence`] by one caller.
pub struct Turn<'a> {
    model: &'a str,
    session: MutexGuard<'a, Session>,
    _permit: Option<CpuPermit>,
}

impl Turn<'_> {
    /// Runs one call. Inputs are given by name, outputs are returned in the model's order.
    pub fn run(&mut self, inputs: Vec<(&str, ArrayViewD<'_, f32>)>) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let model = self.model;
        self.call(inputs).map_err(|error| EngineError::Run { model: model.to_owned(), reason: error.to_string() })
    }

    fn call(&mut self, inputs: Vec<(&str, ArrayViewD<'_, f32>)>) -> ort::Result<Vec<ArrayD<f32>>> {
        let inputs = inputs.into_iter().map(|(name, values)| Ok((name, TensorRef::from_array_view(values)?.into())));
        let outputs = self.session.run(inputs.collect::<ort::Result<Vec<(&str, SessionInputValue<'_>)>>>()?)?;
        outputs.values().map(|output| output.try_extract_array::<f32>().map(|array| array.to_owned())).collect()
    }
}
