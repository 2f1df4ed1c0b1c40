//! `POST /v1/admin/jobs/{token}/retry`: queues a failed job again.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use utoipa_axum::routes;

use crate::api::access::{Admin, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view;
use crate::api::{Api, Problem};
use crate::store::Revived;

type Rule = RequiredKey<Admin>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Run a failed job again
///
/// Queues the job again, if its video still exists (`retention.failed_videos_h`). `attempts` starts again at 0. The new
/// run sends no mail.
#[utoipa::path(post, path = "/v1/admin/jobs/{token}/retry", operation_id = "admin_retry", tag = NATIVE,
    params(("token" = String, Path, description = "Token of the job")),
    responses((status = 202, description = "The job is queued"), (status = 404, description = "No such job"),
              (status = 409, description = "The job has not failed, or its video is gone")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    _: Authorized<Rule>,
    Path(token): Path<String>,
) -> Result<StatusCode, Problem> {
    let token = view::token(&token)?;
    let conflict = |detail| Err(Problem::new(StatusCode::CONFLICT, detail));
    match api.app.store.revive(token, api.app.clock.now()).await? {
        Revived::Queued => Ok(StatusCode::ACCEPTED),
        Revived::NoVideo => conflict(detail::video_gone()),
        Revived::NotFailed if api.app.store.job(token).await?.is_none() => Err(view::unknown()),
        Revived::NotFailed => conflict(detail::not_failed_job()),
    }
}
