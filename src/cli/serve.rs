//! `visage serve` and `visage work`: opens what the settings name, once a process, and runs until a signal.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::api::{self, AppState};
use crate::blob::{self, BlobStore};
use crate::clock::{Clock, RandomTokens, SystemClock, Tokens};
use crate::config::Settings;
use crate::identity::StorageIdentity;
use crate::pipeline::{LazyPipeline, Pipeline};
use crate::report::{Mailer, Reporter};
use crate::store::Store;
use crate::worker::{Confined, Post, Worker};

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Take uploads and answer, but leave the analyzing to `visage work` elsewhere.
    #[arg(long)]
    no_workers: bool,
}

pub fn serve(args: ServeArgs, settings: Settings, config: Option<&Path>) -> Result<(), Failure> {
    run(async {
        let house = House::open(settings, config).await?;
        let worker = if args.no_workers { None } else { Some(house.worker().await?) };
        if worker.is_none() && !house.settings.thumbnails.model.file.as_os_str().is_empty() {
            // A model of the operator's own that does not fit its description should be known of before it is asked for.
            house.models().await?;
        }
        let stop = stop_on_signals()?;
        // A service that cannot listen takes its workers down with it.
        let working = tokio::spawn({
            let stop = stop.clone();
            async move {
                if let Some(worker) = worker {
                    worker.run(stop).await;
                }
            }
        });
        let store = house.store.clone();
        house.tell(stop.clone()).await?;
        let served = listen(house, stop.clone()).await;
        stop.cancel();
        working.await.map_err(|error| Failure::Run(format!("the workers broke off: {error}")))?;
        store.close().await;
        served
    })
}

pub fn work(settings: Settings, config: Option<&Path>) -> Result<(), Failure> {
    run(async {
        let house = House::open(settings, config).await?;
        let stop = stop_on_signals()?;
        house.tell(stop.clone()).await?;
        house.worker().await?.run(stop).await;
        house.store.close().await;
        Ok(())
    })
}

/// Answers HTTP until `stop`; uploads that run then get as long to finish as running jobs do.
async fn listen(house: House, stop: CancellationToken) -> Result<(), Failure> {
    let House { mut settings, store, blobs, identity, reporter, pipeline, clock, tokens, .. } = house;
    let address = settings.http.listen.clone();
    let failed = |error| Failure::Run(format!("cannot listen on http.listen = {address}: {error}"));
    let listener = tokio::net::TcpListener::bind(&address).await.map_err(failed)?;
    // With port 0 the system chose one: links should lead there.
    let address = listener.local_addr().map_err(failed)?.to_string();
    tracing::info!(address, "listening");
    Arc::make_mut(&mut settings).http.listen = address;
    let (http, grace) = (settings.http.clone(), Duration::from_secs(settings.queue.shutdown_grace_s));
    let analyzer = Arc::new(pipeline);
    let state = AppState { settings, store, blobs, identity, reporter, analyzer, clock, tokens, stop: stop.clone() };
    let router = api::router(state);
    api::serve(listener, router, &http, stop, grace).await;
    Ok(())
}

/// What every process of the service stands on.
struct House {
    settings: Arc<Settings>,
    store: Store,
    blobs: Arc<dyn BlobStore>,
    identity: StorageIdentity,
    reporter: Reporter,
    /// Shared by the workers and by the calls that are answered with their result. A process without workers loads the
    /// models at the first such call, so one that never gets any needs none, unless one of the operator's own is to read
    /// clips.
    pipeline: LazyPipeline,
    confined: Confined,
    clock: Arc<dyn Clock>,
    tokens: Arc<dyn Tokens>,
}

impl House {
    async fn open(settings: Settings, config: Option<&Path>) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let missing = |error: &dyn std::fmt::Display| Failure::Missing(format!("{error}\nvisage doctor says more."));
        let reporter = Reporter::new(&settings).map_err(|error| Failure::Settings(error.to_string()))?;
        let store = Store::open(&settings.database).await.map_err(|error| missing(&error))?;
        let blobs = blob::open(&settings.storage, clock.clone()).await.map_err(|error| missing(&error))?;
        let (settings, tokens) = (Arc::new(settings), Arc::new(RandomTokens));
        let identity = StorageIdentity::establish(&store, &blobs, clock.as_ref(), tokens.as_ref());
        let identity = identity.await.map_err(|error| missing(&error))?;
        let pipeline = LazyPipeline::new(settings.clone());
        let confined = confined(config);
        Ok(Self { settings, store, blobs, identity, reporter, pipeline, confined, clock, tokens })
    }

    /// Answers on `metrics.listen`, if it is set, until `stop`.
    async fn tell(&self, stop: CancellationToken) -> Result<(), Failure> {
        let address = &self.settings.metrics.listen;
        if address.is_empty() {
            return Ok(());
        }
        let failed = |error| Failure::Run(format!("cannot listen on metrics.listen = {address}: {error}"));
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        tracing::info!(address = %listener.local_addr().map_err(failed)?, "telling metrics");
        let (router, http) = (api::operations(self.store.clone(), self.clock.clone()), self.settings.http.clone());
        tokio::spawn(async move { api::serve(listener, router, &http, stop, Duration::ZERO).await });
        Ok(())
    }

    async fn models(&self) -> Result<Pipeline, Failure> {
        let pipeline = self.pipeline.clone();
        tokio::task::spawn_blocking(move || pipeline.get())
            .await
            .map_err(|error| Failure::Run(format!("loading the models broke off: {error}")))?
            .map_err(|error| Failure::Missing(format!("{error}\nvisage doctor says more.")))
    }

    /// Loads the models and puts a worker together.
    async fn worker(&self) -> Result<Worker, Failure> {
        let pipeline = self.models().await?;
        let mailer =
            Mailer::new(&self.settings, self.reporter.clone()).map_err(|error| Failure::Settings(error.to_string()))?;
        Ok(Worker {
            name: worker_name(self.tokens.as_ref()),
            settings: self.settings.clone(),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            identity: self.identity,
            analyzer: Arc::new(pipeline),
            confined: Some(Arc::new(self.confined.clone())),
            post: mailer.map(|mailer| Arc::new(mailer) as Arc<dyn Post>),
            clock: self.clock.clone(),
            tokens: self.tokens.clone(),
        })
    }
}

/// This program with the same settings: it inherits the environment and the working directory.
fn confined(config: Option<&Path>) -> Confined {
    let config = config.map(|path| [OsString::from("--config"), path.as_os_str().to_owned()]);
    let arguments = config.into_iter().flatten().chain([OsString::from("analyze-confined")]).collect();
    // Also where the file was replaced or removed meanwhile.
    Confined::new("/proc/self/exe".into(), arguments)
}

/// Machine and process, for people, and a part that no other process has.
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
        .map_err(|error| Failure::Run(format!("the runtime cannot start: {error}")))?
        .block_on(work)
}

/// Cancelled by the first SIGINT or SIGTERM; the second ends the process at once.
fn stop_on_signals() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::Run(format!("signals cannot be caught: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("stopping; once more ends at once");
            told.cancel();
        }
    });
    Ok(stop)
}
