//! An endpoint: its routes, their description, and its [access rule](super::access).

use std::time::Duration;

use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::access::{Access, Rule};
use super::auth::guard;
use super::{Api, openapi, panicked};

/// An endpoint with its access rule.
pub struct Endpoint {
    routes: UtoipaMethodRouter<Api>,
    access: Access,
    guard: fn(MethodRouter<Api>, Api) -> MethodRouter<Api>,
}

impl Endpoint {
    pub fn new<R: Rule>(routes: UtoipaMethodRouter<Api>) -> Self {
        Self {
            routes,
            access: R::ACCESS,
            guard: |router, api| match R::ACCESS {
                Access::Open => router,
                _ => router.layer(from_fn_with_state(api, guard::<R>)),
            },
        }
    }

    /// Adds the endpoint to a router, behind its guard. After `timeout` it answers 503.
    pub fn serve(self, router: OpenApiRouter<Api>, api: &Api, timeout: Option<Duration>) -> OpenApiRouter<Api> {
        let (schemas, paths, mut methods) = self.routes;
        if let Some(timeout) = timeout {
            methods = methods.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, timeout));
        }
        // Inside the guard, so that the request log has the caller of a request that panicked.
        methods = methods.layer(CatchPanicLayer::custom(panicked));
        router.routes((schemas, paths, (self.guard)(methods, api.clone())))
    }

    /// Adds the description of the endpoint to a router.
    pub fn describe(self, router: OpenApiRouter<Api>, auth_required: bool) -> OpenApiRouter<Api> {
        let (schemas, mut paths, methods) = self.routes;
        for item in paths.paths.values_mut() {
            for operation in openapi::operations(item) {
                openapi::add_access(operation, self.access, auth_required);
            }
        }
        router.routes((schemas, paths, methods))
    }
}

#[cfg(test)]
impl Endpoint {
    pub fn is_open(&self) -> bool {
        self.access == Access::Open
    }

    pub fn paths(&self) -> Vec<String> {
        self.routes.1.paths.keys().cloned().collect()
    }
}
