//! Live sessions over a WebSocket: a client sends pictures while they are taken, and gets one answer for each.
//!
//! - `message`: the messages of both sides.
//! - `session`: the connection, from its first message to the stored result.
//! - `setup`: checks what a session asks for, and begins its job.
//! - `analyst`: the threads that read pictures and sound. If pictures arrive faster than they are read, the newest goes
//!   first, and the others are answered as skipped.
//! - `ending`: stores the result.
//! - `ticket`: short-lived stand-ins for keys, for browsers.
//!
//! A session runs on the process that its client reached. Its job is stored as running from the beginning, so the client
//! knows its token. The result is stored when the client finishes, or when its connection breaks.

mod analyst;
mod ending;
pub mod message;
mod session;
mod setup;
pub mod ticket;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument;

use super::immediate;
use super::limits::Client;
use super::negotiation;
use super::outer::RequestId;
use super::problem::detail;
use super::upload_permits::{NoPermit, PermitLimits, Progress, UploadPermits};
use super::{Api, Caller, Problem};
use crate::config::Settings;
use session::Session;
use setup::Sender;

/// The name of the protocol, which a client may offer in `Sec-WebSocket-Protocol`.
pub const PROTOCOL: &str = "visage.live";

/// A message of more than this many times `live.max_message` ends the session.
const HARD_LIMIT: u64 = 2;

/// The permits of live sessions.
pub fn permits(settings: &Settings) -> Arc<UploadPermits> {
    let live = &settings.live;
    let limits = PermitLimits {
        total: live.max_sessions,
        per_client: live.max_sessions_client,
        reserved: 0,
        min_rate: 0,
        slow: Duration::ZERO,
    };
    UploadPermits::new(limits)
}

/// Answers a request for a live session. Everything that can be refused is refused before the connection is upgraded.
pub async fn open(api: Api, caller: Caller, mut parts: Parts) -> Result<Response, Problem> {
    let settings = &api.app.settings;
    if settings.live.max_sessions == 0 {
        return Err(Problem::new(StatusCode::NOT_FOUND, detail::live_off()));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|error| {
        tracing::info!(%error, "a request for a live session is no handshake of a WebSocket");
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail::not_a_websocket())
    })?;
    check_origin(settings, &parts.headers)?;
    let client = Client::of(&caller, &parts.extensions);
    let limit = Duration::from_secs(settings.live.max_session_s);
    let progress = Progress { received: Arc::default(), announced: None, limit, is_new: false };
    let permit = api.live.take(&client, progress, Instant::now()).map_err(no_session)?;
    immediate::check_memory(&api).await.map_err(immediate::ImmediateError::from)?;
    let session = Session {
        language: negotiation::language(None, &parts.headers),
        sender: Sender { request_id: RequestId::of(&parts.extensions), caller, client, api: api.clone() },
        permit,
    };
    let most = usize::try_from(settings.live.max_message.0.saturating_mul(HARD_LIMIT)).unwrap_or(usize::MAX);
    let upgrade = upgrade.max_message_size(most).max_frame_size(most).protocols([PROTOCOL]);
    let span = tracing::Span::current();
    Ok(upgrade.on_upgrade(move |socket| api.app.sessions.track_future(session.run(socket).instrument(span))))
}

/// Refuses pages of other sites, which browsers let open any WebSocket. A request without `Origin` is not of a page.
fn check_origin(settings: &Settings, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host_of = |address: &str| address.split_once("://").map(|(_, rest)| rest.trim_end_matches('/').to_owned());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let own = [host, host_of(&settings.http.public_url)];
    let is_own =
        host_of(origin).is_some_and(|of_page| own.iter().flatten().any(|own| own.eq_ignore_ascii_case(&of_page)));
    let is_allowed = settings.cors.origins.iter().any(|allowed| allowed == "*" || allowed == origin);
    if is_own || is_allowed { Ok(()) } else { Err(Problem::new(StatusCode::FORBIDDEN, detail::foreign_origin())) }
}

fn no_session(none: NoPermit) -> Problem {
    let (NoPermit::Full { wait_s } | NoPermit::Client { wait_s, .. }) = none;
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail::too_many_sessions(wait_s)).retry_after(wait_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_refused() {
        let mut settings = Settings::defaults().unwrap();
        settings.http.public_url = "https://faces.example.org/".to_owned();
        settings.cors.origins = vec!["https://coach.example".to_owned()];
        let check = |origin: &str| {
            let headers = [(header::HOST, "127.0.0.1:8000"), (header::ORIGIN, origin)];
            let headers = headers.map(|(name, value)| (name, value.parse().unwrap()));
            check_origin(&settings, &HeaderMap::from_iter(headers)).is_ok()
        };
        for own in ["http://127.0.0.1:8000", "https://faces.example.org", "https://coach.example"] {
            assert!(check(own), "{own}");
        }
        for other in ["https://evil.example", "http://127.0.0.1:8001", "https://coach.example.evil", "null", ""] {
            assert!(!check(other), "{other}");
        }
        assert!(check_origin(&settings, &HeaderMap::new()).is_ok());
    }
}
