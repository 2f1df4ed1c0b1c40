//! `POST /v1/live/tickets`: makes a ticket, with which a browser opens a live session without sending its key.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::access::{Analyze, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::live::ticket;
use crate::api::openapi::NATIVE;
use crate::api::{Api, Problem};

type Rule = RequiredKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
struct LiveTicket {
    /// Offer it as the protocol `ticket.TICKET`, beside `visage.live`.
    ticket: String,
    /// When the ticket expires. A session that was opened before goes on.
    expires_at: Timestamp,
}

/// Make a ticket for live sessions
///
/// A browser cannot send a key when it opens a WebSocket, and a key does not belong into an address. The ticket stands
/// for the key of this request for `live.ticket_s` seconds.
#[utoipa::path(post, path = "/v1/live/tickets", operation_id = "live_ticket", tag = NATIVE,
    responses((status = 201, description = "The ticket", body = LiveTicket)))]
pub(in crate::api) async fn handle(State(api): State<Api>, caller: Authorized<Rule>) -> Result<Response, Problem> {
    let app = &api.app;
    // The guard lets no caller without a key through.
    let key_id = caller.owner().unwrap_or_default();
    let valid = Duration::from_secs(app.settings.live.ticket_s);
    let (ticket, expires_at) = ticket::issue(app.store.secret().await?, key_id, app.clock.now(), valid);
    let answer = Json(LiveTicket { ticket, expires_at });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], answer).into_response())
}
