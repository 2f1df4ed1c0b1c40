//! The pipeline of a process that may never need one.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Pipeline, PipelineError};
use crate::config::Settings;

/// The one pipeline of a process, loaded when it is first asked for. Cheap to clone.
#[derive(Clone)]
pub struct LazyPipeline {
    settings: Arc<Settings>,
    loaded: Arc<Mutex<Option<Pipeline>>>,
}

impl LazyPipeline {
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, loaded: Arc::default() }
    }

    /// The pipeline; loads the models unless that was done. Blocks: whoever comes meanwhile shares the load.
    ///
    /// # Errors
    /// Those of [`Pipeline::load`]. The next call tries again, so what was missing can be put in place meanwhile.
    pub fn get(&self) -> Result<Pipeline, PipelineError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = loaded.as_ref() {
            return Ok(pipeline.clone());
        }
        let pipeline = Pipeline::load(&self.settings)?;
        *loaded = Some(pipeline.clone());
        Ok(pipeline)
    }
}
