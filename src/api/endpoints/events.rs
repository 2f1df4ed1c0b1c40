//! `GET /results/{token}/events`: the progress of an analysis as server-sent events.
//!
//! The stream sends `progress` at each change of the job or of its place in the queue, then one of `done`, `failed`,
//! `cancelled`, `expired` or `erased`, and ends. It also ends when the service shuts down; the client then connects
//! again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::access::{OptionalKeyOrShare, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::view::{self, ProgressView, QueueView};
use crate::api::{Api, AppState, Problem};
use crate::store::{Job, Sight, Status, Waiter};

type Rule = OptionalKeyOrShare<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Interval of comments that keep proxies from closing an idle stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval of checks whether the place of a waiting job in the queue has changed.
const PLACE_INTERVAL: Duration = Duration::from_secs(2);

/// One event of the stream, as a browser's `EventSource` gives it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `event` writes")]
struct StreamEvent {
    /// `progress`, `done`, `failed`, `cancelled`, `expired` or `erased`.
    event: String,
    /// Increases with every change of the job. Absent for `erased`.
    id: String,
    /// `{"status", "progress", "queue"}` as JSON, as in `GET /results/{token}`; `{}` for `erased`.
    #[schema(content_media_type = "application/json")]
    data: String,
}

#[derive(Serialize)]
struct Data {
    status: Status,
    progress: ProgressView,
    queue: Option<QueueView>,
}

/// The last event that a stream has sent.
enum LastSent {
    None,
    /// This state of the job and this place in the queue.
    State(Arc<Job>, Option<QueueView>),
    /// The final event.
    Final,
}

/// Follow the progress
///
/// Sends server-sent events: `progress` at each change, and at the end one of `done`, `failed`, `cancelled`, `expired`
/// and `erased`. The data of each event is `{"status", "progress", "queue"}`. Get the result from `/results/{token}`.
#[utoipa::path(get, path = "/results/{token}/events", operation_id = "events", tag = NATIVE,
    params(("token" = Uuid, Path, description = "The token of the analysis")),
    responses((status = 200, description = "The events", body = StreamEvent, content_type = "text/event-stream"),
              (status = 404, description = "No analysis has this token"),
              (status = 410, description = "The result has expired")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
) -> Result<Response, Problem> {
    let token = view::shared_token(&caller, &token)?;
    // Rejects an unknown token before the stream begins, with an error status.
    view::find(&api.app, &caller, token).await?;
    let waiter = api.app.store.wait_for(token);
    let events = stream::unfold((waiter, LastSent::None), move |(waiter, last_sent)| {
        let app = api.app.clone();
        async move { next(&app, token, waiter, last_sent).await }
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], events).into_response())
}

async fn next(
    app: &AppState,
    token: Uuid,
    mut waiter: Waiter,
    last_sent: LastSent,
) -> Option<(Result<Event, Infallible>, (Waiter, LastSent))> {
    let last = match last_sent {
        LastSent::Final => return None,
        LastSent::None => None,
        LastSent::State(job, queue) => Some((job, queue)),
    };
    loop {
        let sight = match &last {
            // The first event has the current state.
            None => Sight::Ended,
            Some((job, _)) => {
                let at_most = if job.status == Status::Queued { PLACE_INTERVAL } else { KEEP_ALIVE };
                tokio::select! {
                    sight = waiter.changed(job.version, at_most) => sight,
                    () = app.stop.cancelled() => return None,
                }
            }
        };
        let job = match sight {
            Sight::Unknown => continue,
            Sight::None => match &last {
                Some((job, _)) => job.clone(),
                None => continue,
            },
            Sight::Job(job) => job,
            Sight::Ended => match app.store.job(token).await {
                Ok(Some(job)) => Arc::new(job),
                Ok(None) => return Some((Ok(Event::default().event("erased").data("{}")), (waiter, LastSent::Final))),
                Err(error) => {
                    tracing::error!(%error, "an event stream ends: the database does not answer");
                    return None;
                }
            },
        };
        let queue = app.store.queue_place(&job, app.clock.now()).await.map(QueueView::from);
        if last.as_ref().is_some_and(|(sent, place)| sent.version == job.version && *place == queue) {
            continue;
        }
        let event = event(&job, queue);
        let then = if view::is_settled(&job) { LastSent::Final } else { LastSent::State(job, queue) };
        return Some((Ok(event), (waiter, then)));
    }
}

fn event(job: &Job, queue: Option<QueueView>) -> Event {
    let name = match job.status {
        Status::Queued | Status::Running => "progress",
        Status::Done => "done",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::Expired => "expired",
    };
    let data = Data { status: job.status, progress: ProgressView::new(job), queue };
    let event = Event::default().event(name).id(job.version.to_string());
    event.clone().json_data(data).unwrap_or(event)
}
