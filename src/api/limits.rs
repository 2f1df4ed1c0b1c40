//! Limits the requests of a caller: the number per minute, by key or (without a key) by address, and the number at the
//! same time, by key.
//!
//! Each caller has a token bucket in the memory of this process, so several processes behind a proxy count separately.
//! A bucket holds the requests of one minute and fills evenly, so a caller that has paused may send a burst. Each
//! answer reports the state of the bucket in the headers `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10). A rejection says in `Retry-After` when the next request is allowed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::problem::detail;
use super::{Caller, Problem};
use crate::config::{Changeable, Limits as Settings};
use crate::store::{ApiKey, Store, StoreError};

/// Time in which an empty bucket fills.
const WINDOW: Duration = Duration::from_secs(60);
/// Number of buckets from which full buckets are dropped. A full bucket holds no information.
const MAX_BUCKETS: usize = 10_000;

/// The address of the client, which differs from that of the [`Peer`] behind a proxy.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// The address of the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The sender of a request, as limits count it: its key, or without a key its address. A /64 network is one address,
/// because a client can usually use all addresses of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Client {
    /// The id of the key.
    Key(String),
    Address(IpAddr),
}

impl Client {
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// The name under which the database counts the client: its key, or a pseudonym of its address.
    pub async fn stored(&self, store: &Store) -> Result<String, StoreError> {
        Ok(match self {
            Self::Key(id) => format!("key {id}"),
            Self::Address(address) => store.secret().await?.pseudonym("client", &address.to_string()),
        })
    }

    /// The sender of a request that its guard has let through.
    pub fn of(caller: &Caller, extensions: &Extensions) -> Self {
        let address = extensions.get::<ClientAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.0);
        caller.owner().map_or_else(|| Self::at(address), |key| Self::Key(key.to_owned()))
    }

    const fn policy(&self) -> Policy {
        match self {
            Self::Key(_) => Policy::Key,
            Self::Address(_) => Policy::Address,
        }
    }
}

/// The kind of client whose requests a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Key,
    Address,
}

impl Policy {
    const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Address => "address",
        }
    }
}

/// The state of a bucket after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    policy: Policy,
    quota: u32,
    remaining: u32,
    /// Seconds until the bucket is full again.
    reset_s: u64,
    /// Seconds until the next request is allowed; `None` if this request was allowed.
    wait_s: Option<u64>,
}

/// All buckets of this process.
pub struct Limits {
    settings: Changeable<Settings>,
    proxies: Vec<IpNet>,
    /// The time at which each bucket is full again (generic cell rate algorithm).
    full_at: Mutex<HashMap<Client, Instant>>,
    /// Number of running requests by the id of their key.
    running: Mutex<HashMap<String, u32>>,
}

/// Counts a running request of a key until it is dropped.
pub struct RequestPermit(Option<(Arc<Limits>, String)>);

impl Limits {
    pub fn new(settings: &Changeable<Settings>, proxies: Vec<IpNet>) -> Self {
        Self { settings: settings.clone(), proxies, full_at: Mutex::default(), running: Mutex::default() }
    }

    /// Counts a request of a key.
    pub fn count_key(&self, key: &ApiKey, now: Instant) -> Option<RateLimit> {
        let quota = key.rate_per_minute.unwrap_or_else(|| self.settings.get().rate_per_minute_key);
        self.count(Client::Key(key.id.clone()), quota, now)
    }

    /// Counts a request of an address.
    pub fn count_address(&self, address: IpAddr, now: Instant) -> Option<RateLimit> {
        self.count(Client::at(address), self.settings.get().rate_per_minute_address, now)
    }

    /// Counts a request of this client. `None` if there is no limit.
    fn count(&self, owner: Client, quota: u32, now: Instant) -> Option<RateLimit> {
        if quota == 0 {
            return None;
        }
        let (policy, cost) = (owner.policy(), WINDOW / quota);
        let mut full_at = self.full_at.lock();
        if full_at.len() >= MAX_BUCKETS {
            full_at.retain(|_, at| *at > now);
        }
        let at = full_at.entry(owner).or_insert(now);
        let after = (*at).max(now) + cost;
        let debt = after - now;
        if debt > WINDOW {
            let (wait_s, reset_s) = (Some(seconds(debt - WINDOW)), seconds(debt - cost));
            return Some(RateLimit { policy, quota, remaining: 0, reset_s, wait_s });
        }
        *at = after;
        let remaining = (WINDOW - debt).as_nanos() / cost.as_nanos().max(1);
        let remaining = u32::try_from(remaining).unwrap_or(quota);
        Some(RateLimit { policy, quota, remaining, reset_s: seconds(debt), wait_s: None })
    }

    /// Counts a running request of this key, or rejects it if too many are running.
    pub fn enter(self: &Arc<Self>, key: &ApiKey) -> Result<RequestPermit, Problem> {
        let most = key.max_concurrent.unwrap_or_else(|| self.settings.get().max_concurrent_key);
        if most == 0 {
            return Ok(RequestPermit(None));
        }
        let mut running = self.running.lock();
        let now = running.entry(key.id.clone()).or_default();
        if *now >= most {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail::too_many_at_once(most));
            return Err(problem.with("limit", most).retry_after(1));
        }
        *now += 1;
        Ok(RequestPermit(Some((self.clone(), key.id.clone()))))
    }

    /// The address of the client: the other end of the connection, or, if that is a trusted proxy, the last address in
    /// `X-Forwarded-For` that is not a trusted proxy. Addresses further left are not used, because a client can forge
    /// them.
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusts = |address: IpAddr| self.proxies.iter().any(|proxy| proxy.contains(&address.to_canonical()));
        let mut address = peer;
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<_> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.iter().rev() {
            if !trusts(address) {
                break;
            }
            // An entry may have a port.
            let parsed = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
            let Ok(parsed) = parsed else { break };
            address = parsed;
        }
        address.to_canonical()
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let Some((limits, id)) = &self.0 else { return };
        let mut running = limits.running.lock();
        if let Some(count) = running.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                running.remove(id);
            }
        }
    }
}

impl RateLimit {
    /// Rejects a request that exceeds the limit.
    pub fn check(&self) -> Result<(), Problem> {
        let Some(wait_s) = self.wait_s else { return Ok(()) };
        let detail = match self.policy {
            Policy::Key => detail::rate_limited_key(self.quota, wait_s),
            Policy::Address => detail::rate_limited_address(self.quota, wait_s),
        };
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        Err(problem.with("limit", self.quota).retry_after(wait_s))
    }

    /// Writes the state into the headers of the answer.
    pub fn write_headers(&self, response: &mut Response) {
        let Self { quota, remaining, reset_s, .. } = self;
        let policy = self.policy.name();
        let policy_text = format!("\"{policy}\";q={quota};w={}", WINDOW.as_secs());
        let left = format!("\"{policy}\";r={remaining};t={reset_s}");
        for (name, text) in [("ratelimit-policy", policy_text), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

/// The time in seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(proxies: &[&str]) -> Arc<Limits> {
        let settings = Settings {
            rate_per_minute_key: 0,
            rate_per_minute_address: 3,
            max_concurrent_key: 2,
            videos_per_day_key: 0,
            videos_per_month_key: 0,
            mails_per_day_recipient: 0,
            mails_per_day_domain: 0,
            mails_per_day_address: 0,
            mails_per_day_key: 0,
        };
        Arc::new(Limits::new(&settings.into(), proxies.iter().map(|proxy| proxy.parse().unwrap()).collect()))
    }

    fn key(max_concurrent: Option<u32>) -> ApiKey {
        ApiKey {
            id: "0123456789ab".to_owned(),
            name: String::new(),
            scopes: vec![],
            rate_per_minute: Some(60),
            max_concurrent,
            videos_per_day: None,
            videos_per_month: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn a_bucket_holds_one_minute_and_fills_evenly() {
        let (limits, start) = (limits(&[]), Instant::now());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let ask = |after_s| limits.count_address(address, start + Duration::from_secs(after_s)).unwrap();
        assert_eq!(
            [ask(0), ask(0), ask(0)].map(|left| (left.remaining, left.wait_s)),
            [(2, None), (1, None), (0, None)]
        );
        assert_eq!((ask(0).remaining, ask(0).wait_s), (0, Some(20)));
        assert_eq!(ask(19).wait_s, Some(1));
        assert_eq!((ask(20).wait_s, ask(20).wait_s), (None, Some(20)), "a third of the minute, a third of the bucket");
        assert_eq!(ask(3600).remaining, 2, "a bucket holds one minute at most");
        let problem = RateLimit { wait_s: Some(20), ..ask(3600) }.check().unwrap_err();
        assert_eq!((problem.status, problem.retry_after_s), (StatusCode::TOO_MANY_REQUESTS, Some(20)));
    }

    #[test]
    fn each_owner_has_its_own_bucket() {
        let (limits, now) = (limits(&[]), Instant::now());
        let ask = |address: &str| limits.count_address(address.parse().unwrap(), now).unwrap().remaining;
        assert_eq!((ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")), (2, 1, 2));
        assert_eq!(
            (ask("2001:db8::1"), ask("2001:db8::ffff"), ask("2001:db8:0:1::1")),
            (2, 1, 2),
            "a /64 network shares a bucket"
        );
        assert_eq!(limits.count_key(&key(None), now).unwrap().remaining, 59);
        assert_eq!(limits.count_key(&ApiKey { rate_per_minute: None, ..key(None) }, now), None);
    }

    #[test]
    fn a_permit_is_released_when_it_is_dropped() {
        let limits = limits(&[]);
        let permits = [limits.enter(&key(None)).unwrap(), limits.enter(&key(None)).unwrap()];
        assert_eq!(limits.enter(&key(None)).err().unwrap().code, "too_many_at_once");
        drop(permits);
        assert!(limits.enter(&key(Some(1))).is_ok());
    }

    #[test]
    fn x_forwarded_for_counts_only_from_a_trusted_proxy() {
        let of = |limits: &Limits, peer: &str, forwarded: &str| {
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())]);
            limits.address(peer.parse().unwrap(), &headers).to_string()
        };
        let trusting = limits(&["10.0.0.0/8", "::1/128"]);
        assert_eq!(of(&limits(&[]), "10.0.0.1", "192.0.2.7"), "10.0.0.1");
        assert_eq!(of(&trusting, "203.0.113.5", "192.0.2.7"), "203.0.113.5");
        assert_eq!(of(&trusting, "10.0.0.1", "192.0.2.7"), "192.0.2.7");
        assert_eq!(of(&trusting, "::ffff:10.0.0.1", "192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(
            of(&trusting, "10.0.0.1", "198.51.100.1, 192.0.2.7, 10.0.0.2"),
            "192.0.2.7",
            "the left address may be forged"
        );
        assert_eq!(of(&trusting, "10.0.0.1", "unknown"), "10.0.0.1");
    }
}
