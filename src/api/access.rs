//! The rules for who may call an endpoint, as types.
//!
//! Each endpoint states its rule once, and the rule is used three times: an [`Endpoint`] cannot be built without one,
//! the guard of the rule checks the key of every request, and the handler gets the caller from [`Authorized`]. A
//! handler whose rule differs from that of its endpoint answers 500, so no handler runs unguarded by mistake.

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::auth::{Caller, guard};
use super::openapi;
use super::problem::{OwnShape, Problem};
use super::{Api, panicked};
use crate::store::Scope;

/// What a request needs to be let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing. Keys are not checked, and requests are not counted.
    Open,
    /// The address, which cannot be guessed. If a key is sent, it must be valid.
    Link,
    /// A key with this scope, if `auth.required` is set.
    OptionalKey(Scope),
    /// Like `OptionalKey`, or a share link of the result whose token is in the path.
    OptionalKeyOrShare(Scope),
    /// A key with this scope.
    RequiredKey(Scope),
}

/// A rule for who may call an endpoint.
pub trait Rule: Send + Sync + 'static {
    const ACCESS: Access;

    /// The answer to a request that is not let through.
    fn rejection(problem: Problem) -> Response {
        problem.into_response()
    }
}

/// [`Access::Open`]
pub struct Open;

/// [`Access::Link`]
pub struct Link;

/// [`Access::OptionalKey`]
pub struct OptionalKey<S>(PhantomData<S>);

/// [`Access::OptionalKeyOrShare`]
pub struct OptionalKeyOrShare<S>(PhantomData<S>);

/// [`Access::RequiredKey`]
pub struct RequiredKey<S>(PhantomData<S>);

/// [`Access::RequiredKey`], with rejections in the shape of the Journaling thumbnails API.
pub struct ThumbnailsKey<S>(PhantomData<S>);

/// A scope of a key, as a type.
pub trait ScopeType: Send + Sync + 'static {
    const SCOPE: Scope;
}

/// [`Scope::Analyze`]
pub struct Analyze;

/// [`Scope::Read`]
pub struct Read;

/// [`Scope::Logs`]
pub struct Logs;

/// [`Scope::Admin`]
pub struct Admin;

impl ScopeType for Analyze {
    const SCOPE: Scope = Scope::Analyze;
}

impl ScopeType for Read {
    const SCOPE: Scope = Scope::Read;
}

impl ScopeType for Logs {
    const SCOPE: Scope = Scope::Logs;
}

impl ScopeType for Admin {
    const SCOPE: Scope = Scope::Admin;
}

impl Rule for Open {
    const ACCESS: Access = Access::Open;
}

impl Rule for Link {
    const ACCESS: Access = Access::Link;
}

impl<S: ScopeType> Rule for OptionalKey<S> {
    const ACCESS: Access = Access::OptionalKey(S::SCOPE);
}

impl<S: ScopeType> Rule for OptionalKeyOrShare<S> {
    const ACCESS: Access = Access::OptionalKeyOrShare(S::SCOPE);
}

impl<S: ScopeType> Rule for RequiredKey<S> {
    const ACCESS: Access = Access::RequiredKey(S::SCOPE);
}

impl<S: ScopeType> Rule for ThumbnailsKey<S> {
    const ACCESS: Access = Access::RequiredKey(S::SCOPE);

    fn rejection(problem: Problem) -> Response {
        let status = problem.status;
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return problem.into_response();
        }
        let error = status.canonical_reason().unwrap_or_default();
        let mut response = (status, axum::Json(json!({"error": error}))).into_response();
        if let Some(challenge) = problem.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(OwnShape);
        response
    }
}

/// The caller of a request that the guard of this rule has let through.
pub struct Authorized<R> {
    caller: Caller,
    rule: PhantomData<fn() -> R>,
}

impl<R> Authorized<R> {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, rule: PhantomData }
    }
}

// Derived, it would need `R: Clone`.
impl<R> Clone for Authorized<R> {
    fn clone(&self) -> Self {
        Self::new(self.caller.clone())
    }
}

impl<R> Deref for Authorized<R> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<R: Rule, S: Sync> FromRequestParts<S> for Authorized<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a handler is not guarded by its access rule");
            Problem::internal()
        })
    }
}

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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_handler_without_the_guard_of_its_rule_answers_500() {
        let handler = |_: Authorized<RequiredKey<Admin>>| async {};
        let router: Router = Router::new().route("/", get(handler));
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Authorized::<OptionalKey<Read>>::new(Caller::Anonymous));
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Authorized::<RequiredKey<Admin>>::new(Caller::Anonymous));
        assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn thumbnails_rejections_keep_their_shape() {
        let problem = |status| Problem::new(status, "wrong_key", "", "");
        let response = ThumbnailsKey::<Logs>::rejection(problem(StatusCode::UNAUTHORIZED));
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, r#"{"error":"Unauthorized"}"#);
        let response = ThumbnailsKey::<Logs>::rejection(problem(StatusCode::TOO_MANY_REQUESTS));
        assert!(response.extensions().get::<Problem>().is_some());
    }
}
