//! Who calls, and what for: the key of a request, the scope that its route asks for, and the refusals.
//!
//! A key comes as `Authorization: Bearer KEY` or `x-api-key: KEY`. A request without one is taken by the native calls unless
//! `auth.required` is set, and never by those that always need one. A key that is given must be a good one, needed
//! or not: who sends a wrong key means to be somebody.
//!
//! A caller with a key sees what it sent itself and, as everybody with the token does, what was sent without a key; what
//! was sent with another key is as unknown to it as to a caller without one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::Instant;

use super::limits::{Left, Peer, Place};
use super::problem::OwnShape;
use super::upload::body::Incoming;
use super::{Api, Problem};
use crate::store::{ApiKey, Scope};

/// Who sent a request. Handlers take it as an argument.
#[derive(Debug, Clone, Default)]
pub enum Caller {
    /// Nobody known: tokens are what opens results.
    #[default]
    Anonymous,
    Key(Arc<ApiKey>),
}

impl Caller {
    /// The id that is recorded with what the caller sends.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Key(key) => Some(&key.id),
        }
    }

    pub fn is_admin(&self) -> bool {
        matches!(self, Self::Key(key) if key.allows(Scope::Admin))
    }

    /// Whether the caller may know of what was sent with the key of that id, or without one.
    pub fn may_see(&self, owner: Option<&str>) -> bool {
        owner.is_none() || owner == self.owner() || self.is_admin()
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// What a call asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: for monitors, and for people who look around.
    Open,
    /// Nothing but the link, which is unguessable.
    Link,
    /// A key with this scope, where `auth.required` is set.
    Native(Scope),
    /// A key with this scope, always.
    Keyed(Scope),
}

/// The calls taken over from a service that answers a wrong key in a shape of its own.
const OWN_SHAPE: [&str; 3] = ["/predict", "/thumbnail", "/logs"];

/// What the call of this method and route template asks for. A call that is not listed asks for the most usual scope, so
/// that a new one is never open by oversight.
pub(super) fn access(method: &Method, route: Option<&str>) -> Access {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        None
        | Some(
            "/"
            | "/healthz"
            | "/readyz"
            | "/openapi.json"
            | "/docs"
            | "/docs/{file}"
            | "/admin"
            | "/assets/{version}/{file}",
        ) if reads || route.is_none() => Access::Open,
        Some("/v1/uploads/{upload}/parts/{number}") => Access::Link,
        Some("/v1/uploads/{upload}") => Access::Native(Scope::Analyze),
        Some("/metrics") if reads => Access::Native(Scope::Logs),
        Some("/logs") => Access::Keyed(Scope::Logs),
        Some(route) if route.starts_with("/v1/admin/") => Access::Keyed(Scope::Admin),
        Some("/v1/analyses") if reads => Access::Keyed(Scope::Read),
        Some("/predict" | "/thumbnail") => Access::Keyed(Scope::Analyze),
        Some(_) if reads => Access::Native(Scope::Read),
        _ => Access::Native(Scope::Analyze),
    }
}

/// The middleware: lets a request pass with its [`Caller`], or refuses it.
pub(super) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let access = access(request.method(), route.as_deref());
    if access == Access::Open {
        return next.run(request).await;
    }
    let mut left = None;
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let mut response = match admit(&api, access, request.headers(), peer, &mut left).await {
        Ok((caller, _place)) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            // For the request log.
            response.extensions_mut().insert(caller);
            response
        }
        Err(problem) => {
            let (head, body) = request.into_parts();
            let incoming = Incoming::new(&head.headers, body, u64::MAX, std::time::Duration::from_secs(10));
            incoming.drain(head.headers.contains_key(header::EXPECT));
            refusal(problem, route.as_deref())
        }
    };
    if let Some(left) = left {
        response.extensions_mut().insert(left);
    }
    response
}

/// Counts the request against the limits of its caller (`left` tells what is left of them) and looks at its key.
async fn admit(
    api: &Api,
    access: Access,
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    left: &mut Option<Left>,
) -> Result<(Caller, Option<Place>), Problem> {
    let key = match presented(headers) {
        None => None,
        Some(text) => Some(api.app.store.key(text, api.app.clock.now()).await?),
    };
    let Some(Some(key)) = key else {
        // Guessing keys counts too.
        if let Some(peer) = peer {
            let address = api.limits.address(peer, headers);
            *left = api.limits.count_address(address, Instant::now());
        }
        left.map_or(Ok(()), |left| left.check())?;
        return match access {
            _ if key.is_some() => Err(wrong_key()),
            Access::Keyed(_) => Err(no_key()),
            Access::Native(_) if api.app.settings.auth.required => Err(no_key()),
            Access::Native(_) | Access::Link | Access::Open => Ok((Caller::Anonymous, None)),
        };
    };
    let key = Arc::new(key);
    note_use(api, key.clone());
    *left = api.limits.count_key(&key, Instant::now());
    left.map_or(Ok(()), |left| left.check())?;
    match access {
        Access::Native(scope) | Access::Keyed(scope) if !key.allows(scope) => Err(no_scope(scope)),
        _ => {
            let place = api.limits.enter(&key)?;
            Ok((Caller::Key(key), Some(place)))
        }
    }
}

/// The key that a request carries. Other schemes of `Authorization` are a proxy's business.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.to_str().unwrap_or_default().trim());
    }
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = given.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Beside the request, which does not wait for it.
fn note_use(api: &Api, key: Arc<ApiKey>) {
    let (store, now) = (api.app.store.clone(), api.app.clock.now());
    tokio::spawn(async move {
        if let Err(error) = store.key_used(&key, now).await {
            tracing::warn!(%error, "the last use of a key could not be recorded");
        }
    });
}

fn no_key() -> Problem {
    let detail = "Send a key as Authorization: Bearer KEY, or as x-api-key: KEY. The operator makes one with visage keys \
                  create.";
    Problem::new(StatusCode::UNAUTHORIZED, "key_required", "This call needs a key", detail)
}

fn wrong_key() -> Problem {
    let detail = "The key is not known here, was revoked, or its time is over. Check that it was copied whole.";
    Problem::new(StatusCode::UNAUTHORIZED, "wrong_key", "The key is not good", detail)
}

fn no_scope(scope: Scope) -> Problem {
    let name = scope.name();
    let detail = format!("The key lacks the scope {name}. Ask the operator for one that has it.");
    Problem::new(StatusCode::FORBIDDEN, "scope_required", "The key does not open this call", detail).with("scope", name)
}

fn refusal(problem: Problem, route: Option<&str>) -> Response {
    let status = problem.status;
    let theirs = route.is_some_and(|route| OWN_SHAPE.contains(&route));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if theirs => {
            let error = status.canonical_reason().unwrap_or_default();
            let mut response = (status, axum::Json(json!({"error": error}))).into_response();
            if let Some(challenge) = problem.challenge() {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response.extensions_mut().insert(OwnShape);
            response
        }
        _ => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_key_comes_in_either_header() {
        assert_eq!(presented(&headers("x-api-key", " k ")), Some("k"));
        assert_eq!(presented(&headers("authorization", "Bearer k")), Some("k"));
        assert_eq!(presented(&headers("authorization", "bearer  k")), Some("k"));
        assert_eq!(presented(&headers("authorization", "Basic dTpw")), None);
        assert_eq!(presented(&HeaderMap::new()), None);
    }

    #[test]
    fn a_call_that_nobody_listed_is_not_open() {
        assert_eq!(access(&Method::POST, Some("/new-call")), Access::Native(Scope::Analyze));
        assert_eq!(access(&Method::GET, Some("/new-call")), Access::Native(Scope::Read));
        assert_eq!(access(&Method::POST, Some("/")), Access::Native(Scope::Analyze));
        assert_eq!(access(&Method::GET, Some("/healthz")), Access::Open);
        assert_eq!(access(&Method::POST, None), Access::Open);
        assert_eq!(access(&Method::GET, Some("/v1/uploads/{upload}")), Access::Native(Scope::Analyze));
        assert_eq!(access(&Method::PUT, Some("/v1/uploads/{upload}/parts/{number}")), Access::Link);
        assert_eq!(access(&Method::GET, Some("/logs")), Access::Keyed(Scope::Logs));
    }
}
