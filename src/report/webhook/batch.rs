//! The webhook of a batch.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::EventError;

/// The payload of the webhook of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchWebhookEvent)]
pub struct BatchEvent<'a> {
    pub r#type: BatchEventType,
    /// When the batch ended.
    pub timestamp: Timestamp,
    pub data: BatchData<'a>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = BatchWebhookEventType)]
pub enum BatchEventType {
    #[serde(rename = "batch.ended")]
    Ended,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchWebhookData)]
pub struct BatchData<'a> {
    /// The id of the batch.
    pub batch: Uuid,
    pub status: BatchOutcome,
    /// The address of the batch.
    pub result: String,
    /// In the order of the request.
    pub items: Vec<BatchEventItem<'a>>,
}

/// How a batch ended.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = BatchWebhookStatus)]
#[serde(rename_all = "lowercase")]
pub enum BatchOutcome {
    Ended,
    Cancelled,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchWebhookItem)]
pub struct BatchEventItem<'a> {
    /// The place in the request, from 0.
    pub index: usize,
    /// The token of the analysis. Null if the item was refused.
    pub token: Option<Uuid>,
    pub status: BatchItemOutcome,
    /// The reason of a failure or refusal; null otherwise.
    pub error: Option<EventError<'a>>,
}

/// The state of an item when the webhook is sent. An analysis that an operator runs again is `queued` or `running`.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = BatchWebhookItemStatus)]
#[serde(rename_all = "lowercase")]
pub enum BatchItemOutcome {
    Queued,
    Running,
    Done,
    Failed,
    Refused,
    Cancelled,
    Erased,
    Expired,
}
