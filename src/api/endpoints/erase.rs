//! `DELETE /results/{token}`: cancels an unfinished analysis and erases its job, result, unsent mails and video.
//!
//! Afterwards the token is unknown, so a repeated call answers 404. To a client whose first answer was lost, 204 and
//! 404 both mean that nothing is left.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use utoipa_axum::routes;

use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::erasure::delete_video;
use crate::api::openapi::NATIVE;
use crate::api::view;
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Cancel and erase
///
/// Cancels the analysis if it is not finished, and erases its video, result and unsent messages. Afterwards the token
/// is unknown.
#[utoipa::path(delete, path = "/results/{token}", operation_id = "erase", tag = NATIVE,
    params(("token" = Uuid, Path, description = "The token of the analysis")),
    responses((status = 204, description = "The analysis is erased"),
              (status = 404, description = "No analysis has this token")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
) -> Result<StatusCode, Problem> {
    let token = view::token(&token)?;
    view::known(&api.app, &caller, token).await?;
    let video = api.app.store.erase(token, api.app.clock.now()).await?.ok_or_else(view::unknown)?;
    let Some(key) = video else { return Ok(StatusCode::NO_CONTENT) };
    delete_video(&api.app, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
