//! `GET /v1/live`: opens a live session (see [`live`](crate::api::live)).

use axum::extract::{Request, State};
use axum::response::Response;
use utoipa_axum::routes;

use crate::api::access::{Analyze, OptionalKeyOrTicket};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::live;
use crate::api::openapi::NATIVE;
use crate::api::{Api, Caller, Problem};

type Rule = OptionalKeyOrTicket<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Open a live session
///
/// Upgrades the connection to a WebSocket (RFC 6455). The client sends a text message with a `LiveCommand`, first
/// `configure` and at the end `finish`. In between it sends pictures and, if it asked for `speech`, sound as binary
/// messages: a byte with the kind (1: picture, 2: sound), the time of the capture in seconds as a 64-bit floating-point
/// number (high byte first), and the content. A picture is a JPEG, PNG or WebP file. Sound is mono with 16,000 samples a
/// second, each a 16-bit integer (low byte first), at most 10 s a message.
///
/// The service sends `LiveAnswer`s as text messages: exactly one of `faces`, `skipped` and `error` for each picture, and
/// at the end `finished`. If pictures arrive faster than they are read, the newest goes first. When the client finishes,
/// or when the connection breaks, the session becomes an ordinary result under the token in `configured`. No picture is
/// stored.
///
/// A browser offers the protocols `visage.live` and `ticket.TICKET` instead of a key.
#[utoipa::path(get, path = "/v1/live", operation_id = "live", tag = NATIVE,
    params(("sec-websocket-protocol" = Option<String>, Header,
               description = "`visage.live`, and `ticket.TICKET` with a ticket of `POST /v1/live/tickets`")),
    responses((status = 101, description = "The session is open"),
              (status = 403, description = "The page of another site asks (see `cors.origins`)"),
              (status = 404, description = "Live sessions are switched off (`live.max_sessions`)"),
              (status = 426, description = "The request is no handshake of a WebSocket"),
              (status = 429, description = "Too many live sessions; `Retry-After` says when the next one ends at the latest"),
              (status = 503, description = "There is too little memory")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    live::open(api, Caller::clone(&caller), parts).await
}
