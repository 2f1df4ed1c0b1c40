//! `visage serve` and `visage work`: opens the configured database, storage and models once per process, and runs until
//! a signal.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Failure, PROGRAM};
use crate::api::{self, AppState, Readiness};
use crate::blob::{self, BlobStore};
use crate::clock::{Clock, RandomTokens, SystemClock, Tokens};
use crate::config::{Changes, Settings, Video};
use crate::identity::StorageIdentity;
use crate::isolation::{DecoderMode, Decoders};
use crate::pipeline::{LazyPipeline, Pipeline};
use crate::report::{Mailer, Reporter};
use crate::sources::{Downloads, SetupError};
use crate::store::Store;
use crate::telemetry;
use crate::worker::{JobProcess, MailSender, Worker};

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Only accept uploads and answer requests. `visage work` in another process must analyze the videos.
    #[arg(long)]
    no_workers: bool,
}

pub fn serve(args: ServeArgs, settings: Settings, config: Option<&Path>) -> Result<(), Failure> {
    run(async {
        reload_on_hangup(settings.clone(), config)?;
        let services = Services::open(settings, config).await?;
        let worker = if args.no_workers { None } else { Some(services.worker().await?) };
        if worker.is_none() && !services.settings.thumbnails.model.file.as_os_str().is_empty() {
            // Load the operator's own clip model now, so that a wrong description is an error at start and not at the
            // first request.
            services.models().await?;
        }
        let stop = stop_on_signals()?;
        // If the service cannot listen, `stop` also stops its workers.
        let working = tokio::spawn({
            let stop = stop.clone();
            async move {
                if let Some(worker) = worker {
                    worker.run(stop).await;
                }
            }
        });
        let store = services.store.clone();
        services.serve_metrics(stop.clone()).await?;
        let served = listen(services, stop.clone()).await;
        stop.cancel();
        working.await.map_err(|error| Failure::Run(format!("the workers failed: {error}")))?;
        store.close().await;
        served
    })
}

pub fn work(settings: Settings, config: Option<&Path>) -> Result<(), Failure> {
    run(async {
        reload_on_hangup(settings.clone(), config)?;
        let services = Services::open(settings, config).await?;
        let stop = stop_on_signals()?;
        services.serve_metrics(stop.clone()).await?;
        services.worker().await?.run(stop).await;
        services.store.close().await;
        Ok(())
    })
}

/// Answers HTTP requests until `stop`. Running uploads then get the same grace period as running jobs.
async fn listen(services: Services, stop: CancellationToken) -> Result<(), Failure> {
    let Services { mut settings, store, blobs, identity, reporter, decoders, pipeline, clock, tokens, .. } = services;
    let address = settings.http.listen.clone();
    let failed = |error| Failure::Run(format!("cannot listen on http.listen = {address}: {error}"));
    let listener = tokio::net::TcpListener::bind(&address).await.map_err(failed)?;
    // With port 0 the system chooses the port. Links must have the chosen one.
    let address = listener.local_addr().map_err(failed)?.to_string();
    tracing::info!(address, "listening");
    Arc::make_mut(&mut settings).http.listen = address;
    let (http, grace) = (settings.http.clone(), Duration::from_secs(settings.queue.shutdown_grace_s));
    let analyzer = Arc::new(pipeline);
    let (sessions, stop_requests) = (TaskTracker::new(), stop.clone());
    let state = AppState {
        settings,
        store,
        blobs,
        identity,
        reporter,
        decoders,
        analyzer,
        clock,
        tokens,
        sessions: sessions.clone(),
        stop: stop.clone(),
    };
    let router = api::router(state);
    let serve = api::serve(listener, router, &http, stop, grace);
    let store_sessions = async {
        stop_requests.cancelled().await;
        sessions.close();
        if tokio::time::timeout(grace, sessions.wait()).await.is_err() {
            tracing::warn!("the results of some live sessions could not be stored in time");
        }
    };
    tokio::join!(serve, store_sessions);
    Ok(())
}

/// The services that every process of visage needs.
struct Services {
    settings: Arc<Settings>,
    store: Store,
    blobs: Arc<dyn BlobStore>,
    identity: StorageIdentity,
    reporter: Reporter,
    /// Shared by workers and immediate calls. A process without workers loads the models at the first immediate call,
    /// so that a process without such calls needs no models. With a clip model of the operator's own, it loads them at
    /// start.
    pipeline: LazyPipeline,
    decoders: Decoders,
    job_process: JobProcess,
    clock: Arc<dyn Clock>,
    tokens: Arc<dyn Tokens>,
}

impl Services {
    async fn open(settings: Settings, config: Option<&Path>) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let missing =
            |error: &dyn std::fmt::Display| Failure::Missing(format!("{error}\nRun `visage doctor` for details."));
        let reporter = Reporter::new(&settings).map_err(|error| Failure::Settings(error.to_string()))?;
        let store = Store::open(&settings.database).await.map_err(|error| missing(&error))?;
        let blobs = blob::open(&settings.storage, clock.clone()).await.map_err(|error| missing(&error))?;
        let (settings, tokens) = (Arc::new(settings), Arc::new(RandomTokens));
        let identity = StorageIdentity::establish(&store, &blobs, clock.as_ref(), tokens.as_ref());
        let identity = identity.await.map_err(|error| missing(&error))?;
        let decoders = decoders(&settings.video)?;
        let pipeline = LazyPipeline::new(settings.clone(), decoders.clone());
        let job_process = job_process(config);
        Ok(Self { settings, store, blobs, identity, reporter, pipeline, decoders, job_process, clock, tokens })
    }

    /// Serves metrics on `metrics.listen` until `stop`, if that is set.
    async fn serve_metrics(&self, stop: CancellationToken) -> Result<(), Failure> {
        let address = &self.settings.metrics.listen;
        if address.is_empty() {
            return Ok(());
        }
        let failed = |error| Failure::Run(format!("cannot listen on metrics.listen = {address}: {error}"));
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        tracing::info!(address = %listener.local_addr().map_err(failed)?, "serving metrics");
        let readiness =
            Readiness::new(self.store.for_requests(), self.blobs.clone(), self.identity, self.clock.clone());
        let router = api::operations(self.store.clone(), self.clock.clone(), readiness);
        let http = self.settings.http.clone();
        tokio::spawn(async move { api::serve(listener, router, &http, stop, Duration::ZERO).await });
        Ok(())
    }

    async fn models(&self) -> Result<Pipeline, Failure> {
        let pipeline = self.pipeline.clone();
        tokio::task::spawn_blocking(move || pipeline.get())
            .await
            .map_err(|error| Failure::Run(format!("loading the models failed: {error}")))?
            .map_err(|error| Failure::Missing(format!("{error}\nRun `visage doctor` for details.")))
    }

    /// Loads the models and creates a worker.
    async fn worker(&self) -> Result<Worker, Failure> {
        let pipeline = self.models().await?;
        let mailer =
            Mailer::new(&self.settings, self.reporter.clone()).map_err(|error| Failure::Settings(error.to_string()))?;
        // The worker makes its own, but a wrong setting should stop the start.
        if let Err(error @ (SetupError::Config(_) | SetupError::Certificates { .. })) = Downloads::new(&self.settings) {
            return Err(Failure::Settings(error.to_string()));
        }
        Ok(Worker {
            name: worker_name(self.tokens.as_ref()),
            settings: self.settings.clone(),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            identity: self.identity,
            analyzer: Arc::new(pipeline),
            job_process: Some(Arc::new(self.job_process.clone())),
            mail_sender: mailer.map(|mailer| Arc::new(mailer) as Arc<dyn MailSender>),
            clock: self.clock.clone(),
            tokens: self.tokens.clone(),
        })
    }
}

/// Describes how to run this program with the same settings in a child process. The child inherits the environment and
/// the working directory.
fn job_process(config: Option<&Path>) -> JobProcess {
    let config = config.map(|path| [OsString::from("--config"), path.as_os_str().to_owned()]);
    let arguments = config.into_iter().flatten().chain([OsString::from("run-job")]).collect();
    JobProcess::new(PROGRAM.into(), arguments)
}

/// Prepares the decoding of videos. Logs a warning if it is not isolated completely.
fn decoders(limits: &Video) -> Result<Decoders, Failure> {
    let decoders = Decoders::new(limits, PROGRAM.into(), true).map_err(|error| Failure::Missing(error.to_string()))?;
    match decoders.check().map_err(|error| Failure::Missing(error.to_string()))? {
        DecoderMode::Children(confinement) if confinement.is_complete() => tracing::info!("decoding is isolated"),
        mode => tracing::warn!("decoding is not isolated completely: {mode}; see docs/SECURITY.md"),
    }
    Ok(decoders)
}

/// Returns the name of the worker: host name and process id, and a random part that makes it unique.
fn worker_name(tokens: &dyn Tokens) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "host" } else { host.trim() };
    let unique = tokens.next().simple().to_string();
    format!("{host}-{}-{}", std::process::id(), &unique[..8])
}

pub(super) fn run(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("cannot start the async runtime: {error}")))?
        .block_on(work)
}

/// Reads the settings again at each SIGHUP, and takes over those that may change while the program runs. `settings`
/// share these with their clones. Invalid settings are logged and have no effect.
fn reload_on_hangup(settings: Settings, config: Option<&Path>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::Run(format!("cannot handle signals: {error}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let config = config.map(Path::to_owned);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match reload(&settings, config.as_deref()) {
                Ok(Changes { taken_over, need_restart }) => {
                    tracing::info!(?taken_over, ?need_restart, "the settings were read again");
                }
                Err(error) => tracing::error!(error, "the settings cannot be read again; nothing changes"),
            }
        }
    });
    Ok(())
}

fn reload(settings: &Settings, config: Option<&Path>) -> Result<Changes, String> {
    let new = Settings::load(config, std::env::vars()).map_err(|error| error.to_string())?;
    let changes = settings.take_over(&new).map_err(|error| error.to_string())?;
    telemetry::filter_again(&settings.log)?;
    Ok(changes)
}

/// Returns a token that the first SIGINT or SIGTERM cancels. A second signal ends the process at once.
fn stop_on_signals() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::Run(format!("cannot handle signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stop = CancellationToken::new();
    let stop_on_signal = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop_on_signal.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("stopping; a second signal ends the process at once");
            stop_on_signal.cancel();
        }
    });
    Ok(stop)
}
