//! The claim of a worker to a job, and what becomes of it.

use std::time::Duration;

use uuid::Uuid;

use super::JobVideo;
use crate::analysis::Options;
use crate::telemetry::trace::TraceContext;

/// A job claimed by this worker. Every write of the worker needs the claim. The claim is lost if another worker claims
/// the job after the lease ran out, or if the job is erased. A write with a lost claim changes nothing and returns
/// [`ClaimState::Lost`].
#[derive(Debug, Clone)]
pub struct Claim {
    /// Identifies the job in logs, where the token must not appear.
    pub id: i64,
    pub token: Uuid,
    /// Id of the request that sent the video.
    pub request_id: Option<String>,
    /// The span that queued the job.
    pub trace: Option<TraceContext>,
    /// The number of this attempt, from 1. Runs that do not count are left out.
    pub attempt: u32,
    pub video: JobVideo,
    pub options: Options,
    pub recipients: Vec<String>,
    /// The address of a webhook to call when the job ends.
    pub webhook: Option<String>,
    /// Number of runs that failed because of a part of the service.
    pub setbacks: u32,
    /// Number of runs whose lease ran out, most likely because the process died.
    pub deaths: u32,
    /// Number of parts that earlier runs have kept.
    pub parts: u32,
    /// Expected cost of the analysis, see [`Options::cost`]; `None` if unknown.
    pub cost: Option<u64>,
    /// Pseudonym of the client that sent the video.
    pub client: Option<String>,
    /// Pseudonym of the recipient whose confirmation mails need.
    pub(super) consent: Option<String>,
    /// The name of the worker.
    pub(super) worker: String,
    /// The number of the claim; it increases with every claim of the job.
    pub(super) number: i64,
}

/// Whether the worker still holds its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    Held,
    /// Another worker has claimed the job, or it was erased: the run must stop.
    Lost,
}

impl ClaimState {
    pub(super) const fn from_rows(changed: u64) -> Self {
        if changed == 0 { Self::Lost } else { Self::Held }
    }
}

/// A job that was queued again because its lease ran out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    /// Identifies the job in logs.
    pub id: i64,
    /// Id of the request that sent the video.
    pub request_id: Option<String>,
    /// Number of runs of the job whose lease ran out.
    pub deaths: u32,
}

/// How long a job waits after its lease ran out for the second time. The wait starts at `base` and doubles each time,
/// up to `max`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}
