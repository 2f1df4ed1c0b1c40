//! `/v1/admin/messages`: mails and webhooks that were not accepted, and sending one again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::access::{Admin, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view::NO_STORE;
use crate::api::{Api, Problem};
use crate::store::{FailedMessage, Resent};

type Rule = RequiredKey<Admin>;

pub(in crate::api) fn endpoints() -> [Endpoint; 2] {
    [Endpoint::new::<Rule>(routes!(list)), Endpoint::new::<Rule>(routes!(retry))]
}

/// Most messages of each state in the list.
const LIMIT: u32 = 100;

#[derive(Serialize, ToSchema)]
struct FailedMessages {
    /// First at most 100 messages that were given up, latest first. Then at most 100 that will be tried again, next one
    /// first.
    messages: Vec<MessageView>,
    /// Hours for which the address of a message that was given up is kept (`retention.failed_messages_h`).
    kept_h: u64,
}

/// A mail or webhook that was not accepted. Its address is not shown.
#[derive(Serialize, ToSchema)]
#[schema(as = FailedMessage)]
struct MessageView {
    /// The id of the message in the log; also the left part of the Message-ID of a mail.
    id: Uuid,
    /// The token of the analysis, or the id of the batch.
    token: Uuid,
    /// `report`, `failure`, `confirm`, `webhook` or `batch` (the webhook of a batch).
    kind: &'static str,
    /// `waiting` for another attempt, or `given_up`.
    state: &'static str,
    attempts: u32,
    /// The reason of the last failure.
    error: String,
    created_at: Timestamp,
    /// When the message was given up, or when it will be tried again.
    at: Timestamp,
    /// Whether its address still exists, so that it can be sent again.
    can_retry: bool,
}

impl From<FailedMessage> for MessageView {
    fn from(message: FailedMessage) -> Self {
        Self {
            id: message.id,
            token: message.token,
            kind: message.kind.name(),
            state: if message.is_given_up { "given_up" } else { "waiting" },
            attempts: message.attempts,
            error: message.error,
            created_at: message.created_at,
            at: message.run_at,
            can_retry: message.has_recipient,
        }
    }
}

/// List failed mails and webhooks
///
/// Lists the mails and webhooks whose last attempt failed, with the reason.
#[utoipa::path(get, path = "/v1/admin/messages", operation_id = "admin_messages", tag = NATIVE,
    responses((status = 200, description = "The messages", body = FailedMessages)))]
pub(in crate::api) async fn list(State(api): State<Api>, _: Authorized<Rule>) -> Result<Response, Problem> {
    let messages = api.app.store.failed_messages(LIMIT).await?.into_iter().map(MessageView::from).collect();
    let kept_h = api.app.settings.retention.failed_messages_h;
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(FailedMessages { messages, kept_h })).into_response())
}

/// Send a failed mail or webhook again
///
/// Queues the message to be sent at once. `attempts` starts again at 0.
#[utoipa::path(post, path = "/v1/admin/messages/{id}/retry", operation_id = "admin_retry_message", tag = NATIVE,
    params(("id" = String, Path, description = "Id of the message")),
    responses((status = 202, description = "The message is queued"), (status = 404, description = "No such message"),
              (status = 409, description = "The message has not failed, or its address is erased")))]
pub(in crate::api) async fn retry(
    State(api): State<Api>,
    _: Authorized<Rule>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, detail::unknown_message());
    let id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    let conflict = |detail| Err(Problem::new(StatusCode::CONFLICT, detail));
    match api.app.store.resend(id, api.app.clock.now()).await? {
        Resent::Queued => Ok(StatusCode::ACCEPTED),
        Resent::Unknown => Err(unknown()),
        Resent::NoRecipient => conflict(detail::recipient_gone()),
        Resent::NotFailed => conflict(detail::not_failed_message()),
    }
}
