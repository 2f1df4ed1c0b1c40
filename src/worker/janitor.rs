//! Housekeeping: erases what is over, and deletes what crashes left in storage. Every process does it; two that meet
//! do each other no harm.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Worker;
use crate::blob::BlobError;
use crate::store::StoreError;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(300);
/// A blob of which no job knows may belong to an upload whose job is just being put in; one of this age does not.
const ORPHAN_AGE_H: i64 = 1;
/// An upload that is older than its own time limit by this much, in seconds, was cut off with its process.
const UPLOAD_SLACK_S: u64 = 600;
/// Rows and blobs looked at in one go.
const BATCH: u32 = 500;

/// What a round of housekeeping did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Results erased because their time was over.
    pub expired: u64,
    /// Videos deleted because their time was over.
    pub videos: u64,
    /// Blobs deleted because no job knew them.
    pub orphans: u64,
    /// Unfinished uploads ended.
    pub uploads: u64,
    /// Requests whose repetition is no longer recognized.
    pub requests: u64,
    /// Entries of the request log whose time was over.
    pub log_entries: u64,
    /// Workers that have said nothing for a day.
    pub workers: u64,
}

/// Why a step of the housekeeping stopped; the next round goes on.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// A round now, and then one from time to time, until `stop`.
pub(super) async fn run(worker: Worker, stop: CancellationToken) {
    loop {
        let round = async {
            let swept = worker.sweep().await;
            if swept != Swept::default() {
                let Swept { expired, videos, orphans, uploads, requests, log_entries, workers } = swept;
                tracing::info!(expired, videos, orphans, uploads, requests, log_entries, workers, "swept");
            }
            tokio::time::sleep(EVERY).await;
        };
        if stop.run_until_cancelled(round).await.is_none() {
            return;
        }
    }
}

impl Worker {
    /// One round of housekeeping. A step that fails does not keep the others from their work.
    pub async fn sweep(&self) -> Swept {
        let now = self.clock.now();
        Swept {
            expired: done("erasing what is over", self.expire(now).await),
            videos: done("deleting videos that are over", self.delete_videos(now).await),
            orphans: done("deleting blobs that no job knows", self.delete_orphans(now).await),
            requests: done("forgetting requests", self.forget_requests(now).await),
            log_entries: done("forgetting the request log", self.forget_log(now).await),
            workers: done("forgetting workers", self.forget_workers(now).await),
            uploads: done("ending abandoned uploads", self.abort_uploads(now).await),
        }
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, Stopped> {
        let mut expired = 0;
        loop {
            let batch = self.store.expire(now, BATCH).await?;
            expired += batch;
            if batch < u64::from(BATCH) {
                return Ok(expired);
            }
        }
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, Stopped> {
        self.store.forget_usage(now).await?;
        Ok(self.store.forget_requests(now).await?)
    }

    async fn forget_log(&self, now: Timestamp) -> Result<u64, Stopped> {
        let days = i64::try_from(self.settings.retention.request_log_d).unwrap_or(i64::MAX);
        let mut forgotten = 0;
        if days == 0 {
            return Ok(forgotten);
        }
        loop {
            let batch = self.store.forget_log(hours_before(now, days.saturating_mul(24)), BATCH).await?;
            forgotten += batch;
            if batch < u64::from(BATCH) {
                return Ok(forgotten);
            }
        }
    }

    async fn forget_workers(&self, now: Timestamp) -> Result<u64, Stopped> {
        Ok(self.store.forget_workers(hours_before(now, 24)).await?)
    }

    async fn delete_videos(&self, now: Timestamp) -> Result<u64, Stopped> {
        let retention = &self.settings.retention;
        let before = |hours: u64| hours_before(now, i64::try_from(hours).unwrap_or(i64::MAX));
        let (ended_by, failed_by) = (before(retention.videos_h), before(retention.failed_videos_h()));
        let mut deleted = 0;
        // Elsewhere they would not be found, and then be taken for deleted.
        self.identity.verify(self.blobs.as_ref()).await?;
        loop {
            let due = self.store.due_videos(ended_by, failed_by, BATCH).await?;
            for video in &due {
                self.blobs.delete(&video.video_key).await?;
                self.store.video_deleted(video.token).await?;
            }
            deleted += due.len() as u64;
            if due.len() < BATCH as usize {
                return Ok(deleted);
            }
        }
    }

    async fn delete_orphans(&self, now: Timestamp) -> Result<u64, Stopped> {
        let known = usize::try_from(self.store.video_count().await?).unwrap_or(usize::MAX);
        // So many that, however many are known, orphans are among them.
        let limit = known.saturating_add(BATCH as usize);
        let blobs = self.blobs.list_older(hours_before(now, ORPHAN_AGE_H), limit).await?;
        // Read after the blobs: a job that was put in meanwhile is known.
        let known = if blobs.is_empty() { return Ok(0) } else { self.store.video_keys().await? };
        // In the storage of another database all would be orphans.
        self.identity.verify(self.blobs.as_ref()).await?;
        let mut deleted = 0;
        for blob in blobs.iter().filter(|blob| made_by_visage(&blob.key) && !known.contains(&blob.key)) {
            self.blobs.delete(&blob.key).await?;
            deleted += 1;
        }
        Ok(deleted)
    }

    async fn abort_uploads(&self, now: Timestamp) -> Result<u64, Stopped> {
        let mut ended = 0;
        self.identity.verify(self.blobs.as_ref()).await?;
        loop {
            let due = self.store.due_uploads(now, BATCH).await?;
            for upload in &due {
                if upload.token.is_none() {
                    self.blobs.abort_parts(&upload.video_key, &upload.handle).await?;
                    self.blobs.delete(&upload.video_key).await?;
                    ended += 1;
                }
                self.store.forget_upload(upload.id).await?;
            }
            if due.len() < BATCH as usize {
                break;
            }
        }
        // One that comes in parts has its own time, which is over above.
        let kept = self.store.open_upload_keys().await?;
        let age = Duration::from_secs(self.settings.http.max_upload_s.saturating_add(UPLOAD_SLACK_S));
        let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        Ok(ended + self.blobs.abort_abandoned(before, &kept).await? as u64)
    }
}

/// Whether a key can be one of ours, whose name is a UUID: in a bucket that is shared without a prefix, other people's
/// objects are left alone.
fn made_by_visage(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    Uuid::try_parse(stem).is_ok()
}

fn hours_before(now: Timestamp, hours: i64) -> Timestamp {
    // More hours than a span can hold are all there were.
    let span = if hours > 1_000_000 { return Timestamp::MIN } else { hours.hours() };
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

fn done(step: &'static str, result: Result<u64, Stopped>) -> u64 {
    result.unwrap_or_else(|error| {
        tracing::warn!(step, %error, "housekeeping stopped");
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_visage_gives_are_orphans() {
        let id = "0189f7c8-1d2e-4a1b-9c3d-5e6f708192a3";
        for key in [format!("videos/{id}"), format!("{id}.mp4"), id.to_owned(), id.replace('-', "")] {
            assert!(made_by_visage(&key), "{key}");
        }
        for key in ["", "videos/", "holiday.mp4", "backup/2026.tar"] {
            assert!(!made_by_visage(key), "{key}");
        }
    }

    #[test]
    fn a_very_long_time_is_no_trouble() {
        assert_eq!(hours_before(Timestamp::UNIX_EPOCH, i64::MAX), Timestamp::MIN);
        assert_eq!(hours_before(Timestamp::UNIX_EPOCH, 2).as_second(), -7200);
    }
}
