//! Long polling: holds the answer back until a job has finished or changed.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;
use uuid::Uuid;

use super::problem::detail;
use super::view;
use super::{AppState, Caller, Problem};
use crate::store::{Job, Sight, StoredAnalysis};

/// Largest value of `wait`. A value above the setting `http.max_wait_s` is cut to the setting.
const LONGEST_WAIT_S: u64 = 86_400;

/// The job, and its analysis once it is done. Returns when the job has finished, when it has changed since
/// `If-None-Match`, or after `wait`.
pub async fn job_after(
    app: &AppState,
    caller: &Caller,
    token: Uuid,
    wait: Duration,
    headers: &HeaderMap,
) -> Result<(Job, Option<StoredAnalysis>), Problem> {
    let until = Instant::now() + wait;
    // Subscribes before the first query, so that no change after it is missed.
    let mut waiter = (!wait.is_zero()).then(|| app.store.wait_for(token));
    loop {
        let (job, analysis) = view::find_with_analysis(app, caller, token).await?;
        let is_conditional = headers.contains_key(header::IF_NONE_MATCH);
        let has_news = |job: &Job| view::is_settled(job) || is_conditional && !view::matches(headers, &view::etag(job));
        let waiter = match &mut waiter {
            Some(waiter) if !has_news(&job) && Instant::now() < until && !app.stop.is_cancelled() => waiter,
            _ => return Ok((job, analysis)),
        };
        let mut version = job.version;
        let news = async {
            // Without `If-None-Match`, a change of the progress alone gives no answer.
            while let Sight::Job(job) = waiter.changed(version, until.saturating_duration_since(Instant::now())).await {
                if has_news(&job) {
                    return;
                }
                version = job.version;
            }
        };
        tokio::select! {
            () = news => {}
            () = app.stop.cancelled() => {}
        }
    }
}

/// The duration that the parameter `wait` asks for, at most `most_s` seconds.
pub fn duration(text: Option<&str>, most_s: u64) -> Result<Duration, Problem> {
    let seconds = match text {
        None => 0,
        Some(text) => text.parse().ok().filter(|seconds| *seconds <= LONGEST_WAIT_S).ok_or_else(bad_wait)?,
    };
    Ok(Duration::from_secs(seconds.min(most_s)))
}

pub fn bad_wait() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::bad_wait()).with("parameter", "wait")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_whole_seconds_up_to_the_limit() {
        assert_eq!(duration(None, 60).unwrap(), Duration::ZERO);
        assert_eq!(duration(Some("30"), 60).unwrap(), Duration::from_secs(30));
        assert_eq!(duration(Some("3600"), 60).unwrap(), Duration::from_secs(60));
        for text in ["", "-1", "1.5", "soon", "86401", "99999999999999999999999"] {
            assert_eq!(duration(Some(text), 60).unwrap_err().code, "bad_wait", "{text}");
        }
    }
}
