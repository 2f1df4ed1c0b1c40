//! The runtime itself: started once a process, whatever number of engines is asked for.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{self, ExecutionProvider};
use ort::session::Session;

use super::library::{self, Library};
use super::{EngineError, Model, Sequence, half_precision, rewrite};
use crate::config::{self, Device, Precision};

/// What sessions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Cpu,
    Cuda,
}

/// The one environment of the process: ONNX Runtime allows no second.
#[derive(Debug)]
struct Runtime {
    environment: Environment,
    library: Library,
    threads: usize,
    places: Places,
}

/// How many sessions may run on the CPU at once; each takes one core.
#[derive(Debug)]
struct Places {
    free: Mutex<usize>,
    come: Condvar,
}

/// Room for one session to run.
#[derive(Debug)]
pub struct Place(&'static Places);

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.come.notify_one();
    }
}

impl Places {
    const fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), come: Condvar::new() }
    }

    /// Waits for a place.
    fn take(&'static self) -> Place {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.come.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Place(self)
    }
}

/// Starting the runtime and creating sessions happen one after another: sessions created at the same moment race.
static STARTING: Mutex<()> = Mutex::new(());
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Loads models for one configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    asked: Device,
    precision: Precision,
    max_batch: usize,
    max_wait: Duration,
    /// Settled by the first session where `auto` leaves it open.
    taken: Arc<OnceLock<Taken>>,
    runtime: &'static Runtime,
}

impl Engine {
    /// Finds the library and starts the runtime, unless this process has done so before: the library and the number of
    /// threads of the first start stay. With `device = "cuda"`, a runtime without CUDA is an error.
    pub fn start(settings: &config::Engine) -> Result<Self, EngineError> {
        let _one_at_a_time = lock(&STARTING);
        let library = library::find(&settings.library)?;
        let runtime = match RUNTIME.get() {
            Some(runtime) => runtime,
            None => {
                let started = Runtime::start(library, settings.threads)?;
                RUNTIME.get_or_init(|| started)
            }
        };
        let engine = Self {
            asked: settings.device,
            precision: settings.precision,
            max_batch: settings.max_batch,
            max_wait: Duration::from_millis(settings.max_wait_ms),
            taken: Arc::default(),
            runtime,
        };
        let built_in = ep::CUDA::is_available().unwrap_or(false);
        match settings.device {
            Device::Cpu => engine.take(Taken::Cpu, "as asked"),
            Device::Auto if !built_in => engine.take(Taken::Cpu, "this ONNX Runtime is built without CUDA"),
            Device::Auto => {}
            Device::Cuda if built_in => {}
            Device::Cuda => {
                let reason = format!("{} is built without it", runtime.library.path.display());
                return Err(EngineError::NoCuda { reason });
            }
        }
        Ok(engine)
    }

    /// Loads a model file. One that the manifest lists under this name and file name must be the very file listed.
    pub fn load(&self, name: &str, path: &Path) -> Result<Model, EngineError> {
        Model::load(self, name, path)
    }

    /// Loads a model file whose calls depend on each other or that has no batch; else as [`Engine::load`].
    pub fn load_sequence(&self, name: &str, path: &Path) -> Result<Sequence, EngineError> {
        Sequence::load(self, name, path, Ok)
    }

    /// As [`Engine::load_sequence`], said as another graph.
    ///
    /// # Errors
    /// Where it cannot be said so, the file is another model.
    pub fn load_sequence_as(
        &self,
        name: &str,
        path: &Path,
        rewrite: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Sequence, EngineError> {
        let unknown = || EngineError::ModelRefused {
            name: name.to_owned(),
            reason: "its graph is not the one that is known".to_owned(),
        };
        Sequence::load(self, name, path, |bytes| rewrite(&bytes).ok_or_else(unknown))
    }

    /// What sessions run on; with `device = "auto"`, the first model loaded settles it.
    pub fn device(&self) -> Option<Taken> {
        self.taken.get().copied()
    }

    /// The library in use.
    pub const fn library(&self) -> &'static Library {
        &self.runtime.library
    }

    /// How many sessions run at once on the CPU.
    pub const fn threads(&self) -> usize {
        self.runtime.threads
    }

    pub(super) const fn max_batch(&self) -> usize {
        self.max_batch
    }

    pub(super) const fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// A session on the device and in the precision that were asked for.
    pub(super) fn session(&self, name: &str, model: &[u8]) -> Result<Session, EngineError> {
        let half = (self.precision == Precision::Fp16).then(|| half_precision::in_half(model)).flatten();
        if self.precision == Precision::Fp16 && half.is_none() {
            tracing::info!(name, "the model is not known to bear half precision, and computes in 32 bits");
        }
        let is_for_cpu = half.is_none() && self.device() != Some(Taken::Cuda);
        let for_cpu = is_for_cpu.then(|| rewrite::for_cpu(model)).flatten();
        let model = half.as_deref().unwrap_or(model);
        let _one_at_a_time = lock(&STARTING);
        let refused = |reason: String| EngineError::ModelRefused { name: name.to_owned(), reason };
        let session = |device| {
            let said = if device == Taken::Cpu { for_cpu.as_deref() } else { None };
            session(&self.runtime.environment, device, said.unwrap_or(model))
        };
        match self.device() {
            Some(taken) => session(taken).map_err(refused),
            None => match session(Taken::Cuda) {
                Ok(session) => {
                    self.take(Taken::Cuda, "it works");
                    Ok(session)
                }
                Err(reason) if self.asked == Device::Cuda => Err(EngineError::NoCuda { reason }),
                Err(reason) => {
                    let session = session(Taken::Cpu).map_err(refused)?;
                    self.take(Taken::Cpu, &format!("CUDA cannot be used: {reason}"));
                    Ok(session)
                }
            },
        }
    }

    /// A session on the CPU, whatever was asked for.
    pub(super) fn cpu_session(&self, name: &str, model: &[u8]) -> Result<Session, EngineError> {
        let for_cpu = rewrite::for_cpu(model);
        let _one_at_a_time = lock(&STARTING);
        session(&self.runtime.environment, Taken::Cpu, for_cpu.as_deref().unwrap_or(model))
            .map_err(|reason| EngineError::ModelRefused { name: name.to_owned(), reason })
    }

    fn take(&self, taken: Taken, why: &str) {
        if self.taken.set(taken).is_ok() {
            tracing::info!(device = ?taken, why, "models run on");
        }
    }

    /// Waits for a place to run a session, where sessions share the cores.
    pub(super) fn place(&self) -> Option<Place> {
        (self.device() != Some(Taken::Cuda)).then(|| self.runtime.places.take())
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
        // A session runs on the thread that calls it. Two threads to a session take twice the CPU time for the same wall
        // time here: these networks are many small steps, and at each of them the threads wait for each other.
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
        Ok(Self { environment, library, threads, places: Places::new(threads) })
    }
}

/// A new session. A CUDA provider that fails is an error here: left to itself, the runtime would fall back to the CPU
/// without a word.
fn session(environment: &Environment, device: Taken, model: &[u8]) -> Result<Session, String> {
    let mut builder = Session::builder(environment).map_err(|error| error.to_string())?;
    if device == Taken::Cuda {
        // Batches come in many sizes; the default search would time every algorithm anew for each.
        let search = ep::cuda::ConvAlgorithmSearch::Heuristic;
        let cuda = ep::CUDA::default().with_conv_algorithm_search(search).build().error_on_failure();
        builder = builder.with_execution_providers([cuda]).map_err(|error| error.to_string())?;
    }
    builder.commit_from_memory(model).map_err(|error| error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::config::Settings;
    use crate::engine::model::{call, file};
    use crate::test_files;

    #[test]
    fn the_landmark_network_said_for_the_cpu_gives_the_points_that_the_published_one_gives() {
        let path = test_files::model("face_landmarks.onnx");
        let (model, _) = file("face_landmarks", &path).unwrap();
        let engine = Engine::start(&Settings::defaults().unwrap().engine).unwrap();
        let mut said_anew = engine.cpu_session("face_landmarks", &model).unwrap();
        let mut published = {
            let _one_at_a_time = lock(&STARTING);
            Session::builder(&engine.runtime.environment).unwrap().commit_from_memory(&model).unwrap()
        };
        for (batch, seed) in [(1, 3), (2, 5)] {
            let values = (0..batch * 256 * 256 * 3).map(|at: usize| (at * at * seed % 251) as f32 / 250.0);
            let rows = ArrayD::from_shape_vec(IxDyn(&[batch, 256, 256, 3]), values.collect()).unwrap();
            let expected = call(&mut published, rows.view()).unwrap();
            let given = call(&mut said_anew, rows.view()).unwrap();
            assert_eq!(given.len(), expected.len());
            for (given, expected) in given.iter().zip(&expected) {
                assert_eq!(given.shape(), expected.shape());
                let off = given.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 0.002, "{off} of 256 pixels");
            }
        }
    }
}
