//! How much a caller may ask: so many requests a minute by key, or by address for who has none, and so many at the
//! same time by key.
//!
//! A bucket of tokens each, in this process: with several processes behind a proxy every one counts by itself. A bucket
//! holds a minute's worth and fills evenly, so a caller that was quiet may burst. What is left is told by the headers of
//! draft-ietf-httpapi-ratelimit-headers-10 (`RateLimit-Policy`, `RateLimit`), and a refusal says with `Retry-After` when
//! the next request fits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use ipnet::IpNet;
use tokio::time::Instant;

use super::Problem;
use crate::config::Limits as Settings;
use crate::store::ApiKey;

/// In which a bucket fills.
const WINDOW: Duration = Duration::from_secs(60);
/// Buckets held before full ones, which say nothing, are thrown away.
const MANY: usize = 10_000;

/// The other end of a connection, as the listener saw it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Whom a bucket belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Key(String),
    Address(IpAddr),
}

impl Whose {
    const fn policy(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Address(_) => "address",
        }
    }
}

/// What is left of a bucket after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    policy: &'static str,
    quota: u32,
    remaining: u32,
    /// Seconds until the bucket is full again.
    reset_s: u64,
    /// Seconds until the next request fits; `None`: this one did.
    wait_s: Option<u64>,
}

/// All buckets of this process.
pub struct Limits {
    settings: Settings,
    proxies: Vec<IpNet>,
    /// When each bucket is full again (the generic cell rate algorithm).
    full_at: Mutex<HashMap<Whose, Instant>>,
    running: Mutex<HashMap<String, u32>>,
}

/// A place among the requests of a key that run at the same time; given back when dropped.
pub struct Place(Option<(Arc<Limits>, String)>);

impl Limits {
    pub fn new(settings: &Settings, proxies: Vec<IpNet>) -> Self {
        Self { settings: settings.clone(), proxies, full_at: Mutex::default(), running: Mutex::default() }
    }

    /// Counts a request of a key.
    pub fn count_key(&self, key: &ApiKey, now: Instant) -> Option<RateLimit> {
        let quota = key.rate_per_minute.unwrap_or(self.settings.rate_per_minute_key);
        self.count(Whose::Key(key.id.clone()), quota, now)
    }

    /// Counts a request of an address.
    pub fn count_address(&self, address: IpAddr, now: Instant) -> Option<RateLimit> {
        // Whoever has one IPv6 address has all of its /64.
        let whole = match address {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        };
        self.count(Whose::Address(whole), self.settings.rate_per_minute_address, now)
    }

    /// `None`: there is no limit.
    fn count(&self, whose: Whose, quota: u32, now: Instant) -> Option<RateLimit> {
        if quota == 0 {
            return None;
        }
        let (policy, cost) = (whose.policy(), WINDOW / quota);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= MANY {
            full_at.retain(|_, at| *at > now);
        }
        let at = full_at.entry(whose).or_insert(now);
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

    /// Takes a place among the requests of a key that run at the same time.
    pub fn enter(self: &Arc<Self>, key: &ApiKey) -> Result<Place, Problem> {
        let most = key.max_concurrent.unwrap_or(self.settings.max_concurrent_key);
        if most == 0 {
            return Ok(Place(None));
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let now = running.entry(key.id.clone()).or_default();
        if *now >= most {
            let detail = format!("This key may have {most} requests running at the same time. Wait for one to end.");
            let title = "Too many requests at once";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_at_once", title, detail);
            return Err(problem.with("limit", most).retry_after(1));
        }
        *now += 1;
        Ok(Place(Some((self.clone(), key.id.clone()))))
    }

    /// Where a request comes from: the other end of the connection, or, where that is a proxy of ours, the last address
    /// in `X-Forwarded-For` that is none. What stands further left was written by whoever liked to.
    pub fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusts = |address: IpAddr| self.proxies.iter().any(|proxy| proxy.contains(&address.to_canonical()));
        let mut address = peer;
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<_> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.iter().rev() {
            if !trusts(address) {
                break;
            }
            // With or without a port.
            let parsed = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
            let Ok(parsed) = parsed else { break };
            address = parsed;
        }
        address.to_canonical()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((limits, id)) = &self.0 else { return };
        let mut running = limits.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                running.remove(id);
            }
        }
    }
}

impl RateLimit {
    /// Refuses a request that did not fit.
    pub fn check(&self) -> Result<(), Problem> {
        let Some(wait_s) = self.wait_s else { return Ok(()) };
        let Self { policy, quota, .. } = self;
        let detail = format!("This {policy} may send {quota} requests a minute. Wait {wait_s} s for the next.");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests", detail);
        Err(problem.with("limit", *quota).retry_after(wait_s))
    }

    /// Says it in the answer.
    pub fn tell(&self, response: &mut Response) {
        let Self { policy, quota, remaining, reset_s, .. } = self;
        let policy_text = format!("\"{policy}\";q={quota};w={}", WINDOW.as_secs());
        let left = format!("\"{policy}\";r={remaining};t={reset_s}");
        for (name, text) in [("ratelimit-policy", policy_text), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

/// Whole seconds, and the fraction of one as one: earlier would be too early.
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
        };
        Arc::new(Limits::new(&settings, proxies.iter().map(|proxy| proxy.parse().unwrap()).collect()))
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
    fn a_bucket_holds_a_minute_and_fills_evenly() {
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
        assert_eq!(ask(3600).remaining, 2, "it does not hold more than a minute");
        let problem = RateLimit { wait_s: Some(20), ..ask(3600) }.check().unwrap_err();
        assert_eq!((problem.status, problem.retry_after_s), (StatusCode::TOO_MANY_REQUESTS, Some(20)));
    }

    #[test]
    fn buckets_are_kept_apart() {
        let (limits, now) = (limits(&[]), Instant::now());
        let ask = |address: &str| limits.count_address(address.parse().unwrap(), now).unwrap().remaining;
        assert_eq!((ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")), (2, 1, 2));
        assert_eq!((ask("2001:db8::1"), ask("2001:db8::ffff"), ask("2001:db8:0:1::1")), (2, 1, 2), "a /64 is one");
        assert_eq!(limits.count_key(&key(None), now).unwrap().remaining, 59);
        assert_eq!(limits.count_key(&ApiKey { rate_per_minute: None, ..key(None) }, now), None);
    }

    #[test]
    fn a_place_is_given_back() {
        let limits = limits(&[]);
        let places = [limits.enter(&key(None)).unwrap(), limits.enter(&key(None)).unwrap()];
        assert_eq!(limits.enter(&key(None)).err().unwrap().code, "too_many_at_once");
        drop(places);
        assert!(limits.enter(&key(Some(1))).is_ok());
    }

    #[test]
    fn only_a_proxy_of_ours_is_believed() {
        let of = |limits: &Limits, peer: &str, forwarded: &str| {
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())]);
            limits.address(peer.parse().unwrap(), &headers).to_string()
        };
        let trusting = limits(&["10.0.0.0/8", "::1/128"]);
        assert_eq!(of(&limits(&[]), "10.0.0.1", "192.0.2.7"), "10.0.0.1");
        assert_eq!(of(&trusting, "203.0.113.5", "192.0.2.7"), "203.0.113.5");
        assert_eq!(of(&trusting, "10.0.0.1", "192.0.2.7"), "192.0.2.7");
        assert_eq!(of(&trusting, "::ffff:10.0.0.1", "192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(of(&trusting, "10.0.0.1", "198.51.100.1, 192.0.2.7, 10.0.0.2"), "192.0.2.7", "the left is hearsay");
        assert_eq!(of(&trusting, "10.0.0.1", "unknown"), "10.0.0.1");
    }
}
