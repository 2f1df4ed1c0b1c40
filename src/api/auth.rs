//! Authentication: checks the key of a request against the [access rule](super::access) of its endpoint.
//!
//! A client sends a key as `Authorization: Bearer KEY` or as `x-api-key: KEY`. A request with an invalid key is
//! rejected, not treated as anonymous, even if the endpoint needs no key.
//!
//! A caller sees the analyses that were sent without a key and those that were sent with its own key. A key with the
//! scope `admin` sees all analyses.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use uuid::Uuid;

use super::access::{Access, Rule};
use super::limits::{ClientAddress, Peer, RateLimit, RequestPermit};
use super::live::ticket;
use super::problem::detail;
use super::upload::body::{IncomingBody, Pace};
use super::view::{self, NO_STORE};
use super::{Api, Problem};
use crate::secret::LinkError;
use crate::share::ShareLinks;
use crate::store::{ApiKey, Scope};

/// The parameter of the query that has the share link.
pub const SHARE: &str = "share";

/// The sender of a request.
#[derive(Debug, Clone, Default)]
pub enum Caller {
    /// A caller without a key. The token of an analysis is enough to see it.
    #[default]
    Anonymous,
    Key(Arc<ApiKey>),
    /// A reader with a share link.
    Share {
        /// The share id, which stands for the token in the link.
        id: Uuid,
        /// The token of the shared result, which the reader must not see.
        token: Uuid,
    },
}

impl Caller {
    /// The id of the key, which is stored with the jobs and uploads of the caller.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::Anonymous | Self::Share { .. } => None,
            Self::Key(key) => Some(&key.id),
        }
    }

    /// Whether the caller has a share link of the result with this token.
    pub fn shares(&self, token: Uuid) -> bool {
        matches!(self, Self::Share { token: shared, .. } if *shared == token)
    }

    /// The token that an id in a path stands for: for a reader with a share link the id is the share id, for all others
    /// it is the token itself.
    pub fn token_of(&self, path_id: Uuid) -> Uuid {
        match self {
            Self::Share { id, token } if *id == path_id => *token,
            _ => path_id,
        }
    }

    /// The id by which this caller knows the result with this token.
    pub fn id_of(&self, token: Uuid) -> Uuid {
        match self {
            Self::Share { id, token: shared } if *shared == token => *id,
            _ => token,
        }
    }

    pub fn is_admin(&self) -> bool {
        matches!(self, Self::Key(key) if key.allows(Scope::Admin))
    }

    /// Whether the caller may see a job or an upload with this owner.
    pub fn may_see(&self, owner: Option<&str>) -> bool {
        owner.is_none() || owner == self.owner() || self.is_admin()
    }
}

/// The caller of a request that the guard of this rule has let through.
pub struct Authorized<R> {
    caller: Caller,
    rule: PhantomData<fn() -> R>,
}

impl<R> Authorized<R> {
    fn new(caller: Caller) -> Self {
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

/// The middleware of a rule: lets a request through with its [`Caller`], or rejects it.
pub(super) async fn guard<R: Rule>(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let mut left = None;
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let address = peer.map(|peer| api.limits.address(peer, request.headers()));
    if let Some(address) = address {
        request.extensions_mut().insert(ClientAddress(address));
    }
    let share = match R::ACCESS {
        Access::OptionalKeyOrShare(_) => share(&mut request).await,
        _ => None,
    };
    let mut response = match admit(&api, R::ACCESS, share, request.headers(), address, &mut left).await {
        Ok((caller, _permit)) => {
            request.extensions_mut().insert(Authorized::<R>::new(caller.clone()));
            let mut response = next.run(request).await;
            // For the request log.
            response.extensions_mut().insert(caller);
            // An answer to one caller is not for others.
            response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
            response
        }
        Err(problem) => {
            let (head, body) = request.into_parts();
            let incoming = IncomingBody::new(&head.headers, body, u64::MAX, Pace::of(&api.app.settings.http));
            incoming.drain(head.headers.contains_key(header::EXPECT));
            R::rejection(problem)
        }
    };
    if let Some(left) = left {
        response.extensions_mut().insert(left);
    }
    response
}

/// Checks the key of a request and counts the request against the limits of its caller. Sets `left` to the state of the
/// rate limit.
async fn admit(
    api: &Api,
    access: Access,
    share: Option<(Uuid, String)>,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    left: &mut Option<RateLimit>,
) -> Result<(Caller, Option<RequestPermit>), Problem> {
    // A share link decides alone, because its id is not a token that the key could open.
    let (store, now) = (&api.app.store, api.app.clock.now());
    let ticket = match access {
        Access::OptionalKeyOrTicket(_) => ticket::offered(headers),
        _ => None,
    };
    let key = match (ticket, sent_key(headers).filter(|_| share.is_none())) {
        (Some(ticket), _) => match ticket::check(store.secret().await?, ticket, now) {
            Ok(id) => Some(store.key_by_id(id, now).await?),
            Err(error) => {
                tracing::info!(%error, "the ticket of a live session is refused");
                Some(None)
            }
        },
        (None, Some(text)) => Some(store.key(text, now).await?),
        (None, None) => None,
    };
    let Some(Some(key)) = key else {
        // Requests with an invalid key are counted by address, which limits guessing.
        if let Some(address) = address {
            *left = api.limits.count_address(address, Instant::now());
        }
        left.map_or(Ok(()), |left| left.check())?;
        if let Some((id, share)) = share {
            let links = ShareLinks::new(&api.app.settings, &api.app.store).await?;
            links.check(id, &share, api.app.clock.now()).map_err(bad_share_link)?;
            let token = api.app.store.shared_token(id).await?.ok_or_else(view::unknown)?;
            return Ok((Caller::Share { id, token }, None));
        }
        return match access {
            _ if ticket.is_some() => Err(Problem::new(StatusCode::UNAUTHORIZED, detail::bad_ticket())),
            _ if key.is_some() => Err(wrong_key()),
            Access::RequiredKey(_) => Err(key_required()),
            Access::OptionalKey(_) | Access::OptionalKeyOrShare(_) | Access::OptionalKeyOrTicket(_)
                if api.app.settings.auth.required =>
            {
                Err(key_required())
            }
            Access::OptionalKey(_)
            | Access::OptionalKeyOrShare(_)
            | Access::OptionalKeyOrTicket(_)
            | Access::Link
            | Access::Open => Ok((Caller::Anonymous, None)),
        };
    };
    let key = Arc::new(key);
    record_use(api, key.clone());
    *left = api.limits.count_key(&key, Instant::now());
    left.map_or(Ok(()), |left| left.check())?;
    match access {
        Access::OptionalKey(scope)
        | Access::OptionalKeyOrShare(scope)
        | Access::OptionalKeyOrTicket(scope)
        | Access::RequiredKey(scope)
            if !key.allows(scope) =>
        {
            Err(Problem::scope_required(scope))
        }
        _ => {
            let permit = api.limits.enter(&key)?;
            Ok((Caller::Key(key), Some(permit)))
        }
    }
}

/// The share id in the path and the share link in the query.
async fn share(request: &mut Request) -> Option<(Uuid, String)> {
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok()?;
    let (_, share) = parameters.into_iter().find(|(name, _)| name == SHARE)?;
    let path = request.extract_parts::<RawPathParams>().await.ok()?;
    let (_, id) = path.iter().find(|(name, _)| *name == "token")?;
    Some((Uuid::try_parse(id).ok()?, share))
}

fn bad_share_link(error: LinkError) -> Problem {
    match error {
        LinkError::Invalid => Problem::new(StatusCode::FORBIDDEN, detail::bad_share_link()),
        LinkError::Expired => Problem::new(StatusCode::GONE, detail::share_link_expired()),
    }
}

/// The key that a request sends. Other schemes of `Authorization` are ignored, because a proxy may use them.
fn sent_key(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.to_str().unwrap_or_default().trim());
    }
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = given.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Records in the background that the key was used.
fn record_use(api: &Api, key: Arc<ApiKey>) {
    let (store, now) = (api.app.store.clone(), api.app.clock.now());
    tokio::spawn(async move {
        if let Err(error) = store.key_used(&key, now).await {
            tracing::warn!(%error, "the last use of a key could not be recorded");
        }
    });
}

fn key_required() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail::key_required())
}

fn wrong_key() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail::wrong_key())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;
    use crate::api::access::{Admin, OptionalKey, Read, RequiredKey};

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_key_is_read_from_either_header() {
        assert_eq!(sent_key(&headers("x-api-key", " k ")), Some("k"));
        assert_eq!(sent_key(&headers("authorization", "Bearer k")), Some("k"));
        assert_eq!(sent_key(&headers("authorization", "bearer  k")), Some("k"));
        assert_eq!(sent_key(&headers("authorization", "Basic dTpw")), None);
        assert_eq!(sent_key(&HeaderMap::new()), None);
    }

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
}
