//! Views of a batch for clients.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::problem::{FailureBody, detail};
use crate::api::view::{self, Links, ProgressView};
use crate::api::{AppState, Caller, Problem};
use crate::store::{Batch, BatchItem, ItemState, Status};

/// A batch with its items.
#[derive(Serialize, ToSchema)]
#[schema(as = Batch)]
pub struct BatchView {
    id: Uuid,
    status: BatchStatus,
    /// 0 to 1: the mean progress of the items that were accepted.
    fraction: f64,
    counts: CountsView,
    created_at: Timestamp,
    /// When the last analysis ended. Null before.
    ended_at: Option<Timestamp>,
    links: BatchLinks,
    /// In the order of the request.
    items: Vec<ItemView>,
}

/// A batch in a list, without its items.
#[derive(Serialize, ToSchema)]
#[schema(as = ListedBatch)]
pub struct ListedBatchView {
    id: Uuid,
    status: BatchStatus,
    counts: CountsView,
    created_at: Timestamp,
    /// When the last analysis ended. Null before.
    ended_at: Option<Timestamp>,
    links: BatchLinks,
}

/// `ended` does not mean that each analysis is done: `counts` tells how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum BatchStatus {
    Running,
    Ended,
    Cancelled,
}

impl BatchStatus {
    const fn of(batch: &Batch) -> Self {
        match (batch.ended_at, batch.cancelled_at) {
            (None, _) => Self::Running,
            (Some(_), None) => Self::Ended,
            (Some(_), Some(_)) => Self::Cancelled,
        }
    }
}

/// The number of items in each state.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
#[schema(as = BatchCounts)]
struct CountsView {
    total: u64,
    queued: u64,
    running: u64,
    done: u64,
    failed: u64,
    /// Not accepted, for the reason in `error`.
    refused: u64,
    /// Not ended when the batch was cancelled.
    cancelled: u64,
    /// Erased with `DELETE /results/{token}`.
    erased: u64,
    expired: u64,
}

impl CountsView {
    fn add(&mut self, state: ItemState, items: u64) {
        self.total += items;
        *match state {
            ItemState::Refused => &mut self.refused,
            ItemState::Cancelled | ItemState::Job(Status::Cancelled) => &mut self.cancelled,
            ItemState::Erased => &mut self.erased,
            ItemState::Job(Status::Queued) => &mut self.queued,
            ItemState::Job(Status::Running) => &mut self.running,
            ItemState::Job(Status::Done) => &mut self.done,
            ItemState::Job(Status::Failed) => &mut self.failed,
            ItemState::Job(Status::Expired) => &mut self.expired,
        } += items;
    }
}

/// Addresses of the calls about a batch.
#[derive(Serialize, ToSchema)]
struct BatchLinks {
    #[serde(rename = "self")]
    this: String,
}

impl BatchLinks {
    fn new(app: &AppState, id: Uuid) -> Self {
        Self { this: format!("{}/v1/batches/{id}", app.settings.http.base_url()) }
    }
}

/// A video of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchItem)]
struct ItemView {
    /// The place in the request, from 0.
    index: usize,
    /// The token of the analysis. Null if the item was refused.
    token: Option<Uuid>,
    /// Null if it is not known or not kept.
    file_name: Option<String>,
    status: ItemStatus,
    /// Null if there is no analysis, or no longer.
    progress: Option<ProgressView>,
    /// Null if there is no analysis, or no longer.
    links: Option<Links>,
    /// Why the item was refused, or why its analysis failed, as a problem (RFC 9457). Otherwise null.
    #[schema(value_type = Option<FailureBody>)]
    error: Option<Map<String, Value>>,
}

/// The state of an item: that of its analysis, or `refused` or `erased` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BatchItemStatus)]
enum ItemStatus {
    Queued,
    Running,
    Done,
    Failed,
    Refused,
    Cancelled,
    Erased,
    Expired,
}

impl From<ItemState> for ItemStatus {
    fn from(state: ItemState) -> Self {
        match state {
            ItemState::Refused => Self::Refused,
            ItemState::Cancelled | ItemState::Job(Status::Cancelled) => Self::Cancelled,
            ItemState::Erased => Self::Erased,
            ItemState::Job(Status::Queued) => Self::Queued,
            ItemState::Job(Status::Running) => Self::Running,
            ItemState::Job(Status::Done) => Self::Done,
            ItemState::Job(Status::Failed) => Self::Failed,
            ItemState::Job(Status::Expired) => Self::Expired,
        }
    }
}

impl ItemView {
    fn new(app: &AppState, index: usize, item: BatchItem) -> Self {
        let BatchItem { state, token, job, refusal } = item;
        Self {
            index,
            token,
            file_name: job.as_ref().and_then(|job| job.file_name.clone()),
            status: state.into(),
            progress: job.as_ref().map(ProgressView::new),
            links: job.as_ref().map(|job| Links::new(app, job.token)),
            error: refusal.or_else(|| view::failure_body(job.as_ref()?, None)),
        }
    }

    /// The progress from 0 to 1; `None` if the item was refused.
    fn fraction(&self) -> Option<f64> {
        match self.status {
            ItemStatus::Refused => None,
            ItemStatus::Queued | ItemStatus::Running => {
                Some(self.progress.as_ref().and_then(ProgressView::fraction).unwrap_or(0.0))
            }
            _ => Some(1.0),
        }
    }
}

impl BatchView {
    pub fn new(app: &AppState, batch: &Batch, items: Vec<BatchItem>) -> Self {
        let mut counts = CountsView::default();
        for item in &items {
            counts.add(item.state, 1);
        }
        let items: Vec<_> =
            items.into_iter().enumerate().map(|(index, item)| ItemView::new(app, index, item)).collect();
        let fractions: Vec<f64> = items.iter().filter_map(ItemView::fraction).collect();
        let fraction = fractions.iter().sum::<f64>() / fractions.len().max(1) as f64;
        Self {
            id: batch.id,
            status: BatchStatus::of(batch),
            fraction: crate::analysis::rounding::to(fraction, 4),
            counts,
            created_at: batch.created_at,
            ended_at: batch.ended_at,
            links: BatchLinks::new(app, batch.id),
            items,
        }
    }
}

impl ListedBatchView {
    pub fn new(app: &AppState, batch: &Batch, states: &[(Uuid, ItemState, u64)]) -> Self {
        let mut counts = CountsView::default();
        for (_, state, items) in states.iter().filter(|(id, ..)| *id == batch.id) {
            counts.add(*state, *items);
        }
        Self {
            id: batch.id,
            status: BatchStatus::of(batch),
            counts,
            created_at: batch.created_at,
            ended_at: batch.ended_at,
            links: BatchLinks::new(app, batch.id),
        }
    }
}

/// The batch with this id. 404 if there is none, or if the caller may not see it.
pub async fn find(app: &AppState, caller: &Caller, id: &str) -> Result<Batch, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, detail::unknown_batch());
    let id = Uuid::try_parse(id).map_err(|_| unknown())?;
    let batch = app.store.batch(id).await?;
    batch.filter(|batch| caller.may_see(batch.owner.as_deref())).ok_or_else(unknown)
}
