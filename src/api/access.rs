//! The rules for who may call an endpoint, as types.
//!
//! Each endpoint states its rule once, and the rule is used three times: an [`Endpoint`](super::endpoint::Endpoint)
//! cannot be built without one, the [guard](super::auth::guard) of the rule checks the key of every request, and the
//! handler gets the caller from [`Authorized`](super::auth::Authorized). A handler whose rule differs from that of its
//! endpoint answers 500, so no handler runs unguarded by mistake.

use std::marker::PhantomData;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::problem::{OwnShape, Problem};
use crate::store::Scope;

/// The condition on which an endpoint accepts a request.
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
    /// Like `OptionalKey`, or a [ticket](super::live::ticket) instead of a key.
    OptionalKeyOrTicket(Scope),
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

/// [`Access::OptionalKeyOrTicket`]
pub struct OptionalKeyOrTicket<S>(PhantomData<S>);

/// [`Access::RequiredKey`]
pub struct RequiredKey<S>(PhantomData<S>);

/// [`Access::RequiredKey`], with rejections in the shape of the Journaling thumbnails API.
pub struct ThumbnailsKey<S>(PhantomData<S>);

/// [`Access::OptionalKey`], with rejections in the shape of DeepFace's own REST service.
pub struct DeepFaceKey<S>(PhantomData<S>);

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

impl<S: ScopeType> Rule for OptionalKeyOrTicket<S> {
    const ACCESS: Access = Access::OptionalKeyOrTicket(S::SCOPE);
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
        own_shape(&problem, json!({"error": status.canonical_reason().unwrap_or_default()}))
    }
}

impl<S: ScopeType> Rule for DeepFaceKey<S> {
    const ACCESS: Access = Access::OptionalKey(S::SCOPE);

    fn rejection(problem: Problem) -> Response {
        let message = match problem.status {
            StatusCode::UNAUTHORIZED => "Invalid or missing authentication token",
            StatusCode::FORBIDDEN => "The key lacks the scope that this call needs",
            _ => return problem.into_response(),
        };
        own_shape(&problem, json!({"message": message}))
    }
}

/// The response to a problem with a key, with this body.
fn own_shape(problem: &Problem, body: serde_json::Value) -> Response {
    let mut response = (problem.status, axum::Json(body)).into_response();
    if let Some(challenge) = problem.challenge() {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response.extensions_mut().insert(OwnShape);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn thumbnails_rejections_keep_their_shape() {
        let problem = |status| Problem::new(status, crate::api::problem::detail::wrong_key());
        let response = ThumbnailsKey::<Logs>::rejection(problem(StatusCode::UNAUTHORIZED));
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, r#"{"error":"Unauthorized"}"#);
        let response = ThumbnailsKey::<Logs>::rejection(problem(StatusCode::TOO_MANY_REQUESTS));
        assert!(response.extensions().get::<Problem>().is_some());
    }
}
