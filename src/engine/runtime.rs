//! Starts ONNX Runtime, once per process, and creates sessions.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{self, ExecutionProvider};
use ort::session::Session;
use parking_lot::{Condvar, Mutex};

use super::library::{self, Library};
use super::{EngineError, Model, Sequence, half_precision, rewrite};
use crate::config::{self, Device, Precision};
use crate::memory;

/// The device that sessions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveDevice {
    Cpu,
    Cuda,
}

/// The ONNX Runtime environment. ONNX Runtime allows only one per process.
#[derive(Debug)]
struct Runtime {
    environment: Environment,
    library: Library,
    threads: usize,
    cpu_permits: CpuPermits,
}

/// Limits how many sessions run on the CPU at the same time. Each uses one core.
#[derive(Debug)]
struct CpuPermits {
    free: Mutex<usize>,
    released: Condvar,
}

/// Permission for one session to run on the CPU. Dropping it releases the permit.
#[derive(Debug)]
pub struct CpuPermit(&'static CpuPermits);

impl Drop for CpuPermit {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.released.notify_one();
    }
}

impl CpuPermits {
    const fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), released: Condvar::new() }
    }

    /// Waits for a permit.
    fn acquire(&'static self) -> CpuPermit {
        let mut free = self.free.lock();
        while *free == 0 {
            self.released.wait(&mut free);
        }
        *free -= 1;
        CpuPermit(self)
    }
}

/// Held while the runtime starts or a session is created: sessions that are created at the same moment race.
static STARTING: Mutex<()> = Mutex::new(());
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Loads models for one configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    requested_device: Device,
    precision: Precision,
    max_batch: usize,
    max_wait: Duration,
    /// With `device = "auto"`, set when the first session is created.
    device: Arc<OnceLock<ActiveDevice>>,
    runtime: &'static Runtime,
}

impl Engine {
    /// Finds the library and starts the runtime. If this process has started it before, the library and the number of
    /// threads of the first start stay in use.
    ///
    /// # Errors
    /// Fails with `device = "cuda"` if the runtime was built without CUDA.
    pub fn start(settings: &config::Engine) -> Result<Self, EngineError> {
        let _one_at_a_time = STARTING.lock();
        let library = library::find(&settings.library)?;
        let runtime = match RUNTIME.get() {
            Some(runtime) => runtime,
            None => {
                let started = Runtime::start(library, settings.threads)?;
                RUNTIME.get_or_init(|| started)
            }
        };
        let engine = Self {
            requested_device: settings.device,
            precision: settings.precision,
            max_batch: settings.max_batch,
            max_wait: Duration::from_millis(settings.max_wait_ms),
            device: Arc::default(),
            runtime,
        };
        let has_cuda = ep::CUDA::is_available().unwrap_or(false);
        match settings.device {
            Device::Cpu => engine.set_device(ActiveDevice::Cpu, "engine.device is cpu"),
            Device::Auto if !has_cuda => {
                engine.set_device(ActiveDevice::Cpu, "this ONNX Runtime was built without CUDA");
            }
            Device::Auto => {}
            Device::Cuda if has_cuda => {}
            Device::Cuda => {
                let reason = format!("{} was built without it", runtime.library.path.display());
                return Err(EngineError::NoCuda { reason });
            }
        }
        Ok(engine)
    }

    /// Loads a model file. If the manifest lists this name and file name, the checksum must match.
    pub fn load(&self, name: &str, path: &Path) -> Result<Model, EngineError> {
        Model::load(self, name, path)
    }

    /// Loads a model file whose calls cannot be batched, otherwise like [`Engine::load`].
    pub fn load_sequence(&self, name: &str, path: &Path) -> Result<Sequence, EngineError> {
        Sequence::load(self, name, path, Ok)
    }

    /// Like [`Engine::load_sequence`], but runs the graph that `rewrite` makes of the file.
    ///
    /// # Errors
    /// Fails if `rewrite` returns `None`: then the file is not the expected model.
    pub fn load_sequence_as(
        &self,
        name: &str,
        path: &Path,
        rewrite: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Sequence, EngineError> {
        let unknown = || EngineError::ModelRefused {
            name: name.to_owned(),
            reason: "its graph is not the expected one".to_owned(),
        };
        Sequence::load(self, name, path, |bytes| rewrite(&bytes).ok_or_else(unknown))
    }

    /// The device that sessions run on. With `device = "auto"`, `None` until the first model is loaded.
    pub fn device(&self) -> Option<ActiveDevice> {
        self.device.get().copied()
    }

    /// The library in use.
    pub const fn library(&self) -> &'static Library {
        &self.runtime.library
    }

    /// Maximum number of sessions that run at the same time on the CPU.
    pub const fn threads(&self) -> usize {
        self.runtime.threads
    }

    pub(super) const fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) const fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// Creates a session with the configured device and precision.
    pub(super) fn session(&self, name: &str, mut model: Vec<u8>) -> Result<Session, EngineError> {
        let half = (self.precision == Precision::Fp16).then(|| half_precision::to_fp16(&model)).flatten();
        if self.precision == Precision::Fp16 && half.is_none() {
            tracing::info!(name, "the model is not known to support half precision and computes in 32 bits");
        }
        let is_for_cpu = half.is_none() && self.device() != Some(ActiveDevice::Cuda);
        let mut for_cpu = is_for_cpu.then(|| rewrite::for_cpu(&model)).flatten();
        // What no device runs is freed before a session is created, which takes several times the memory of the model.
        let on_cpu = for_cpu.take_if(|_| self.device() == Some(ActiveDevice::Cpu));
        model = half.or(on_cpu).unwrap_or(model);
        let _one_at_a_time = STARTING.lock();
        let refused = |reason: String| EngineError::ModelRefused { name: name.to_owned(), reason };
        let session = |device| {
            let rewritten = if device == ActiveDevice::Cpu { for_cpu.as_deref() } else { None };
            session(&self.runtime.environment, device, rewritten.unwrap_or(&model))
        };
        match self.device() {
            Some(device) => session(device).map_err(refused),
            None => match session(ActiveDevice::Cuda) {
                Ok(session) => {
                    self.set_device(ActiveDevice::Cuda, "CUDA works");
                    Ok(session)
                }
                Err(reason) if self.requested_device == Device::Cuda => Err(EngineError::NoCuda { reason }),
                Err(reason) => {
                    let session = session(ActiveDevice::Cpu).map_err(refused)?;
                    self.set_device(ActiveDevice::Cpu, &format!("CUDA cannot be used: {reason}"));
                    Ok(session)
                }
            },
        }
    }

    /// Creates a session on the CPU, whatever device is configured.
    pub(super) fn cpu_session(&self, name: &str, mut model: Vec<u8>) -> Result<Session, EngineError> {
        model = rewrite::for_cpu(&model).unwrap_or(model);
        let _one_at_a_time = STARTING.lock();
        session(&self.runtime.environment, ActiveDevice::Cpu, &model)
            .map_err(|reason| EngineError::ModelRefused { name: name.to_owned(), reason })
    }

    fn set_device(&self, device: ActiveDevice, why: &str) {
        if self.device.set(device).is_ok() {
            tracing::info!(?device, why, "chose the device for models");
        }
    }

    /// Waits for permission to run a session on the CPU. Returns `None` if sessions run on a GPU.
    pub(super) fn cpu_permit(&self) -> Option<CpuPermit> {
        (self.device() != Some(ActiveDevice::Cuda)).then(|| self.runtime.cpu_permits.acquire())
    }
}

impl Runtime {
    fn start(library: Library, threads: usize) -> Result<Self, EngineError> {
        let failed = |reason: String| EngineError::Start { reason };
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let builder = ort::init_from(&library.path).map_err(|error| failed(error.to_string()))?;
        // A session runs on the thread that calls it. With two threads per session, these networks take twice the CPU
        // time and no less wall time: they consist of many small steps, and the threads wait for each other at each
        // step.
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(1)
            .and_then(|pool| pool.with_inter_threads(1))
            .and_then(|pool| pool.with_spin_control(false))
            .map_err(|error| failed(error.to_string()))?;
        let environment = builder
            .with_name("visage")
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        tracing::info!(library = %library.path.display(), version = library.version, threads, "ONNX Runtime started");
        Ok(Self { environment, library, threads, cpu_permits: CpuPermits::new(threads) })
    }
}

/// Creates a session. A CUDA provider that fails is an error: by default, the runtime would silently fall back to the
/// CPU.
fn session(environment: &Environment, device: ActiveDevice, model: &[u8]) -> Result<Session, String> {
    // A memory pattern allocates all tensors of a call as one block. On the CPU, this takes more memory and no less time.
    let mut builder = Session::builder(environment)
        .and_then(|builder| Ok(builder.with_memory_pattern(device != ActiveDevice::Cpu)?))
        .map_err(|error| error.to_string())?;
    if device == ActiveDevice::Cuda {
        // Batches have many sizes, and the default search would time every algorithm again for each size.
        let search = ep::cuda::ConvAlgorithmSearch::Heuristic;
        let cuda = ep::CUDA::default().with_conv_algorithm_search(search).build().error_on_failure();
        builder = builder.with_execution_providers([cuda]).map_err(|error| error.to_string())?;
    }
    let session = builder.commit_from_memory(model).map_err(|error| error.to_string());
    // ONNX Runtime has freed its copies of the model.
    memory::return_free();
    session
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::config::Settings;
    use crate::engine::model::call;
    use crate::engine::model_file::ModelFile;
    use crate::test_files;

    #[test]
    fn the_landmark_network_rewritten_for_the_cpu_gives_the_same_points_as_the_published_one() {
        let path = test_files::model("face_landmarks.onnx");
        let (_, model) = ModelFile::open("face_landmarks", &path).unwrap();
        let engine = Engine::start(&Settings::defaults().unwrap().engine).unwrap();
        let mut rewritten = engine.cpu_session("face_landmarks", model.clone()).unwrap();
        let mut published = {
            let _one_at_a_time = STARTING.lock();
            Session::builder(&engine.runtime.environment).unwrap().commit_from_memory(&model).unwrap()
        };
        for (batch, seed) in [(1, 3), (2, 5)] {
            let values = (0..batch * 256 * 256 * 3).map(|at: usize| (at * at * seed % 251) as f32 / 250.0);
            let rows = ArrayD::from_shape_vec(IxDyn(&[batch, 256, 256, 3]), values.collect()).unwrap();
            let expected = call(&mut published, rows.view()).unwrap();
            let given = call(&mut rewritten, rows.view()).unwrap();
            assert_eq!(given.len(), expected.len());
            for (given, expected) in given.iter().zip(&expected) {
                assert_eq!(given.shape(), expected.shape());
                let off = given.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 0.002, "{off} of 256 pixels");
            }
        }
    }
}
