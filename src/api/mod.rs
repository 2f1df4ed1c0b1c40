//! The HTTP API: the router, the state of handlers, and the endpoints. SQL belongs to `store`, and image analysis to
//! `pipeline`. Answers are views of their types; nothing is computed here.
//!
//! - `endpoints`: the native calls. `compat`: the calls of the services that visage takes over from. `page`: HTML
//!   pages. Each endpoint has a file with its access rule, its description and its handler. No endpoint imports
//!   another.
//! - `live`: live sessions over a WebSocket.
//! - `upload`: receives videos, for all calls. `immediate`: analyzes a video while the client waits.
//! - `endpoint`: the type of endpoints. `access` and `auth`: who may call one. `limits` and `quota`: how often.
//! - `problem`: errors (RFC 9457). `openapi`: the description of the service.
//!
//! Every path works with and without a slash at its end.

#![allow(unused_qualifications, reason = "the macro that describes endpoints writes qualified paths")]

mod access;
mod auth;
mod batch_view;
mod compat;
mod cursor;
mod endpoint;
mod endpoints;
mod erasure;
mod file_source;
#[cfg(fuzzing)]
pub mod fuzzing;
mod immediate;
mod json_body;
mod limits;
mod live;
mod negotiation;
mod notice;
mod openapi;
mod outer;
mod page;
mod problem;
mod quota;
mod request_log;
mod server;
mod upload;
mod upload_permits;
mod view;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::normalize_path::NormalizePath;
use utoipa_axum::router::OpenApiRouter;

use crate::blob::BlobStore;
use crate::clock::{Clock, RandomTokens, Tokens};
use crate::config::{Cors, Settings};
use crate::identity::StorageIdentity;
use crate::isolation::Decoders;
use crate::report::Reporter;
use crate::store::Store;

pub use auth::Caller;
use endpoint::Endpoint;
pub use endpoints::readyz::Readiness;
pub use immediate::ImmediateAnalyzer;
pub use problem::Problem;
pub use request_log::LogDetails;
pub use server::serve;
use upload_permits::{PermitLimits, UploadPermits};

/// The state of the service. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub settings: Arc<Settings>,
    pub store: Store,
    pub blobs: Arc<dyn BlobStore>,
    /// The identity of the storage that belongs to the database.
    pub identity: StorageIdentity,
    pub reporter: Reporter,
    /// Opens uploaded videos.
    pub decoders: Decoders,
    /// Analyzes the videos of calls that are answered with their result.
    pub analyzer: Arc<dyn ImmediateAnalyzer>,
    pub clock: Arc<dyn Clock>,
    pub tokens: Arc<dyn Tokens>,
    /// The live sessions. They end when the service shuts down, and their results are stored then.
    pub sessions: TaskTracker,
    /// Cancelled when the service shuts down. Waiting requests are then answered at once.
    pub stop: CancellationToken,
}

/// The state of the service, and what requests share.
#[derive(Clone)]
struct Api {
    app: AppState,
    /// The permits of running uploads.
    uploads: Arc<UploadPermits>,
    /// One permit for each video that is being opened. Opening a video needs a core, so there are as many as cores.
    probes: Arc<Semaphore>,
    /// The permits of calls that are answered with their result.
    immediate: Arc<UploadPermits>,
    /// The permits of live sessions.
    live: Arc<UploadPermits>,
    readiness: Arc<Readiness>,
    log: request_log::RequestLog,
    limits: Arc<limits::Limits>,
    /// Fetches pictures that are given by address.
    pictures: immediate::PictureDownloads,
    document: Arc<utoipa::openapi::OpenApi>,
    assets: Arc<page::assets::Assets>,
    /// The `Content-Security-Policy` of pages.
    policy: HeaderValue,
}

/// The service with all routes and layers. Starts the writer of the request log, which needs a runtime.
pub fn router(mut state: AppState) -> Router {
    state.store = state.store.for_requests();
    let (http, sync) = (&state.settings.http, &state.settings.sync);
    let allowance = upload::body::Pace::of(http).allowance();
    // Longer than the longest wait (`?wait=`) that a client may ask for.
    let timeout = Duration::from_secs(http.max_wait_s + 30);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let api = Api {
        uploads: UploadPermits::new(PermitLimits::new(
            http.max_concurrent_uploads,
            http.max_concurrent_uploads_client,
            http.min_upload_rate.0,
            allowance,
        )),
        probes: Arc::new(Semaphore::new(cores)),
        immediate: UploadPermits::new(PermitLimits::new(
            sync.max_concurrent(),
            sync.max_concurrent_client,
            0,
            allowance,
        )),
        live: live::permits(&state.settings),
        readiness: Arc::new(Readiness::new(
            state.store.clone(),
            state.blobs.clone(),
            state.identity,
            state.clock.clone(),
        )),
        log: request_log::RequestLog::start(&state),
        // The proxies were parsed before, when the settings were checked.
        limits: Arc::new(limits::Limits::new(&state.settings.limits, http.proxies().unwrap_or_default())),
        pictures: immediate::PictureDownloads::default(),
        document: Arc::new(description(&state.settings)),
        assets: Arc::new(page::files(state.reporter.brand())),
        policy: page::policy(&state.settings.storage),
        app: state,
    };
    let cors = cors(&api.app.settings.cors);
    let routes = slow().into_iter().fold(OpenApiRouter::new(), |router, endpoint| endpoint.serve(router, &api, None));
    let routes = quick().into_iter().fold(routes, |router, endpoint| endpoint.serve(router, &api, Some(timeout)));
    let routes = Router::from(routes)
        .route("/admin", get(page::admin))
        .route("/assets/{version}/{file}", get(page::assets::handle))
        .route("/favicon.ico", get(page::assets::favicon))
        .fallback(|| async { Problem::of_status(StatusCode::NOT_FOUND) })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn_with_state(api.clone(), page::negotiate))
        .layer(CompressionLayer::new())
        .layer(axum::middleware::from_fn_with_state(api.clone(), outer::middleware))
        .with_state(api);
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    Router::new().fallback_service(NormalizePath::trim_trailing_slash(routes))
}

/// The service on `metrics.listen`, which workers have too: `/metrics`, `/healthz` and `/readyz`.
pub fn operations(store: Store, clock: Arc<dyn Clock>, readiness: Readiness) -> Router {
    let metrics = move || async move { endpoints::metrics::text(&store, clock.now()).await.map_err(Problem::from) };
    let readiness = Arc::new(readiness);
    let ready = move || async move { readiness.answer().await };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(endpoints::healthz::handle))
        .route("/readyz", get(ready))
        .layer(axum::middleware::map_response(|response| async { outer::in_english(response, RandomTokens.next()) }))
}

/// Endpoints that answer within the timeout of [`router`].
fn quick() -> Vec<Endpoint> {
    let mut endpoints = vec![
        endpoints::root::endpoint(),
        endpoints::healthz::endpoint(),
        endpoints::readyz::endpoint(),
        endpoints::metrics::endpoint(),
        endpoints::openapi::endpoint(),
        endpoints::docs::endpoint(),
        endpoints::docs_file::endpoint(),
        endpoints::notice::endpoint(),
        compat::logs::endpoint(),
        endpoints::admin_overview::endpoint(),
        endpoints::admin_retry::endpoint(),
        endpoints::admin_jobs::endpoint(),
        endpoints::admin_system::endpoint(),
        endpoints::begin_upload::endpoint(),
        endpoints::upload_state::endpoint(),
        endpoints::abort_upload::endpoint(),
        endpoints::results::endpoint(),
        endpoints::erase::endpoint(),
        endpoints::batch::endpoint(),
        endpoints::list_batches::endpoint(),
        endpoints::cancel_batch::endpoint(),
        endpoints::compare::endpoint(),
        endpoints::report::endpoint(),
        endpoints::timeline::endpoint(),
        endpoints::events::endpoint(),
        endpoints::share::endpoint(),
        endpoints::live_tickets::endpoint(),
    ];
    endpoints.extend(endpoints::admin_keys::endpoints());
    endpoints.extend(endpoints::admin_messages::endpoints());
    endpoints.extend(endpoints::confirm_mail::endpoints());
    endpoints.extend(endpoints::withdraw_mail::endpoints());
    endpoints
}

/// Endpoints that take as long as an upload or an analysis. They have limits of their own.
fn slow() -> Vec<Endpoint> {
    let native = [
        endpoints::analyze_video::endpoint(),
        endpoints::list_analyses::endpoint(),
        endpoints::start_analysis::endpoint(),
        endpoints::start_batch::endpoint(),
        endpoints::send_part::endpoint(),
        endpoints::pictures::endpoint(),
        endpoints::live::endpoint(),
    ];
    native.into_iter().chain(compat::endpoints()).collect()
}

/// The OpenAPI 3.1 description of the service with these settings.
pub fn description(settings: &Settings) -> utoipa::openapi::OpenApi {
    let endpoints = slow().into_iter().chain(quick());
    let described =
        endpoints.fold(OpenApiRouter::new(), |router, endpoint| endpoint.describe(router, settings.auth.required));
    openapi::complete(described.into_openapi(), settings)
}

/// Lets pages of the configured origins call the service from a browser. The service uses no cookies and no passwords
/// of the browser, so no origin can act for a person who is logged in.
fn cors(settings: &Cors) -> Option<CorsLayer> {
    let origins = match settings.origins.as_slice() {
        [] => return None,
        origins if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let request_headers = [
        "authorization",
        "x-api-key",
        "content-type",
        "idempotency-key",
        "if-none-match",
        "x-client-id",
        "date",
        "traceparent",
        "tracestate",
    ];
    let response_headers = ["location", "retry-after", "etag", "x-request-id", "ratelimit", "ratelimit-policy"];
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(request_headers.map(HeaderName::from_static))
        .expose_headers(response_headers.map(HeaderName::from_static))
        .max_age(Duration::from_secs(settings.max_age_s));
    Some(layer)
}

/// The answer to a request whose handler panicked. The panic hook has logged the panic.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_operations_endpoints_are_open() {
        let open = slow().into_iter().chain(quick()).filter(Endpoint::is_open);
        let paths: Vec<String> = open.flat_map(|endpoint| endpoint.paths()).collect();
        assert_eq!(paths, ["/", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/{file}", "/v1/notice"]);
    }
}
