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
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::access::{Access, Authorized, Rule};
use super::limits::{Peer, Place, RateLimit};
use super::upload::body::IncomingBody;
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

/// The middleware of a rule: lets a request through with its [`Caller`], or rejects it.
pub(super) async fn guard<R: Rule>(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let mut left = None;
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let mut response = match admit(&api, R::ACCESS, request.headers(), peer, &mut left).await {
        Ok((caller, _place)) => {
            request.extensions_mut().insert(Authorized::<R>::new(caller.clone()));
            let mut response = next.run(request).await;
            // For the request log.
            response.extensions_mut().insert(caller);
            response
        }
        Err(problem) => {
            let (head, body) = request.into_parts();
            let incoming = IncomingBody::new(&head.headers, body, u64::MAX, Duration::from_secs(10));
            incoming.drain(head.headers.contains_key(header::EXPECT));
            R::rejection(problem)
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
    left: &mut Option<RateLimit>,
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
            Access::RequiredKey(_) => Err(no_key()),
            Access::OptionalKey(_) if api.app.settings.auth.required => Err(no_key()),
            Access::OptionalKey(_) | Access::Link | Access::Open => Ok((Caller::Anonymous, None)),
        };
    };
    let key = Arc::new(key);
    note_use(api, key.clone());
    *left = api.limits.count_key(&key, Instant::now());
    left.map_or(Ok(()), |left| left.check())?;
    match access {
        Access::OptionalKey(scope) | Access::RequiredKey(scope) if !key.allows(scope) => Err(no_scope(scope)),
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
}
