//! A loaded model whose calls depend on each other, or that has no batch.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::{ArrayD, ArrayViewD};
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use super::runtime::Place;
use super::{Engine, EngineError, model};

/// A model with any number of inputs, called step by step: what one call gives goes into the next, or it takes one row a
/// call, so nothing can be batched. The state lies with the caller, and one session serves all of them in turns. It runs on the CPU, whatever
/// the device: steps this small would spend their time on the way to a GPU and back.
pub struct Sequence {
    engine: Engine,
    name: String,
    sha256: String,
    session: Mutex<Session>,
}

impl Sequence {
    /// `graph` makes what is run of what is in the file.
    pub(super) fn load(
        engine: &Engine,
        name: &str,
        path: &Path,
        graph: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, EngineError>,
    ) -> Result<Self, EngineError> {
        let (bytes, sha256) = model::file(name, path)?;
        let session = Mutex::new(engine.cpu_session(name, &graph(bytes)?)?);
        Ok(Self { engine: engine.clone(), name: name.to_owned(), sha256, session })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the file it was loaded from, in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Waits for the turn to make some calls. Others wait for as long as it is held.
    pub fn turn(&self) -> Turn<'_> {
        // In this order everywhere: the session, then the place.
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { model: &self.name, session, _place: self.engine.place() }
    }
}

/// The turn of one caller of a [`Sequence`].
pub struct Turn<'a> {
    model: &'a str,
    session: MutexGuard<'a, Session>,
    _place: Option<Place>,
}

impl Turn<'_> {
    /// One call: inputs by name, outputs in the model's order.
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
