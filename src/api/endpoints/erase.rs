//! `DELETE /results/{token}`: cancels an unfinished analysis and erases everything of it: job, result, mails not yet
//! sent, video. 204.
//!
//! Afterwards the token is as unknown as one that never was, so a second call answers 404: to a client that
//! repeats a call whose answer was lost, both mean that nothing is there any more.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use utoipa_axum::routes;

use crate::api::access::{Analyze, Authorized, Endpoint, OptionalKey};
use crate::api::openapi::NATIVE;
use crate::api::view;
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Tries to delete the video before it is left to the sweep.
const TRIES: u32 = 3;

/// Cancel and erase
///
/// Cancels an unfinished analysis and erases everything of it: job, result, messages not yet sent, video. Afterwards the
/// token is as unknown as one that never was.
#[utoipa::path(delete, path = "/results/{token}", operation_id = "erase", tag = NATIVE,
    params(("token" = Uuid, Path, description = "From the answer to the upload")),
    responses((status = 204, description = "Nothing of it is left"),
              (status = 404, description = "No analysis has this token")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
) -> Result<StatusCode, Problem> {
    let token = view::token(&token)?;
    view::known(&api.app, &caller, token).await?;
    let video = api.app.store.erase(token).await?.ok_or_else(view::unknown)?;
    let Some(key) = video else { return Ok(StatusCode::NO_CONTENT) };
    let mut tries = 1;
    while let Err(error) = api.app.blobs.delete(&key).await {
        tracing::error!(%error, tries, "the video of an erased analysis could not be deleted");
        if tries == TRIES {
            let detail =
                "The result is erased. The storage does not answer, so the video is deleted as soon as it does.";
            return Err(Problem { detail: detail.to_owned(), ..Problem::unavailable("storage") });
        }
        tries += 1;
    }
    Ok(StatusCode::NO_CONTENT)
}
