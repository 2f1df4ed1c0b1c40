//! `POST /results/{token}/share`: makes a share link of a result.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::access::{OptionalKey, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::view;
use crate::api::{Api, Problem};
use crate::share::{self, ShareLinks};

type Rule = OptionalKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
struct ShareLink {
    /// Address of the result for a reader without a key.
    url: String,
    /// The parameter `share` of the address. Append it to the addresses of report, timeline and events.
    share: String,
    /// When the link expires. It also ends when the result is erased.
    expires_at: Timestamp,
}

/// Share a result
///
/// Makes a link to this result, its report, its timeline and its events. Anyone who has the link can read them without
/// a key for `share.valid_h` hours, or until the result is erased. The link allows nothing else, and does not contain
/// the token.
#[utoipa::path(post, path = "/results/{token}/share", operation_id = "share", tag = NATIVE,
    params(("token" = Uuid, Path, description = "The token of the analysis")),
    responses((status = 201, description = "The link", body = ShareLink),
              (status = 404, description = "No analysis has this token"),
              (status = 410, description = "The result has expired")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
) -> Result<Response, Problem> {
    let token = view::token(&token)?;
    view::find(&api.app, &caller, token).await?;
    let settings = &api.app.settings;
    let expires_at = share::expiry(settings, api.app.clock.now());
    let id = api.app.store.share_id(token, api.app.tokens.next()).await?.ok_or_else(view::unknown)?;
    let share = ShareLinks::new(settings, &api.app.store).await?.sign(id, expires_at);
    let link = ShareLink { url: share::address(settings, id, &share), share, expires_at };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(link)).into_response())
}
