//! A pipeline that is loaded at its first use.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Pipeline, PipelineError};
use crate::config::Settings;
use crate::isolation::Decoders;

/// The one pipeline of a process, loaded at its first use. Cheap to clone.
#[derive(Clone)]
pub struct LazyPipeline {
    settings: Arc<Settings>,
    decoders: Decoders,
    loaded: Arc<Mutex<Option<Pipeline>>>,
}

impl LazyPipeline {
    pub fn new(settings: Arc<Settings>, decoders: Decoders) -> Self {
        Self { settings, decoders, loaded: Arc::default() }
    }

    /// Returns the pipeline, and loads its models first if needed. Blocks. A call during a load waits for it.
    ///
    /// # Errors
    /// The same as for [`Pipeline::load`]. The next call tries again, so that missing files can be added without a
    /// restart.
    pub fn get(&self) -> Result<Pipeline, PipelineError> {
        let mut loaded = self.loaded.lock();
        if let Some(pipeline) = loaded.as_ref() {
            return Ok(pipeline.clone());
        }
        let pipeline = Pipeline::load(&self.settings, &self.decoders)?;
        *loaded = Some(pipeline.clone());
        Ok(pipeline)
    }
}
