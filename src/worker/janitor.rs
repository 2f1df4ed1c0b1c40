//! Housekeeping: erases expired data, and deletes leftovers of crashes from the storage. Every worker process does it;
//! several may do it at the same time.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Worker;
use crate::blob::{BlobError, ObjectError, Objects};
use crate::store::{JobVideo, StoreError};

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_secs(300);
/// Hours after which a blob that no job refers to is deleted. A newer one may belong to an upload whose job is not
/// queued yet.
const ORPHAN_AGE_H: i64 = 1;
/// Seconds beyond the time limit of uploads after which an unfinished upload is deleted: its process has died.
const UPLOAD_SLACK_S: u64 = 600;
/// Rows and blobs handled at a time.
const BATCH: u32 = 500;

/// The numbers of things that a round of housekeeping removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Expired results.
    pub expired: u64,
    /// Batches whose last analysis was ended by a process of an older version.
    pub batches: u64,
    /// Videos whose retention time was over.
    pub videos: u64,
    /// Blobs that no job refers to.
    pub orphans: u64,
    /// Unfinished uploads.
    pub uploads: u64,
    /// Requests that are too old to be repeated under the same `Idempotency-Key`.
    pub requests: u64,
    /// Entries of the request log whose retention time was over.
    pub log_entries: u64,
    /// Workers that were not seen for a day.
    pub workers: u64,
}

/// The error of a housekeeping step. The next round repeats the step.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Does a round of housekeeping at once and after each pause, until `stop`.
pub(super) async fn run(worker: Worker, stop: CancellationToken) {
    loop {
        let round = async {
            let swept = worker.sweep().await;
            if swept != Swept::default() {
                let Swept { expired, batches, videos, orphans, uploads, requests, log_entries, workers } = swept;
                tracing::info!(expired, batches, videos, orphans, uploads, requests, log_entries, workers, "swept");
            }
            tokio::time::sleep(PAUSE).await;
        };
        if stop.run_until_cancelled(round).await.is_none() {
            return;
        }
    }
}

impl Worker {
    /// Does one round of housekeeping. The other steps run even if one fails.
    pub async fn sweep(&self) -> Swept {
        let now = self.clock.now();
        Swept {
            expired: done("erasing expired results", self.expire(now).await),
            batches: done("ending batches", self.store.end_batches(now, BATCH).await.map_err(SweepError::from)),
            videos: done("deleting videos", self.delete_videos(now).await),
            orphans: done("deleting blobs that no job refers to", self.delete_orphans(now).await),
            requests: done("deleting old requests", self.forget_requests(now).await),
            log_entries: done("deleting old entries of the request log", self.forget_log(now).await),
            workers: done("deleting old workers", self.forget_workers(now).await),
            uploads: done("deleting abandoned uploads", self.abort_uploads(now).await),
        }
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, SweepError> {
        let mut expired = 0;
        loop {
            let batch = self.store.expire(now, BATCH).await?;
            expired += batch;
            if batch < u64::from(BATCH) {
                return Ok(expired);
            }
        }
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, SweepError> {
        self.store.forget_usage(now).await?;
        let confirm_h = i64::try_from(self.settings.mail.confirm_within_h).unwrap_or(i64::MAX);
        let unconfirmed = self.store.forget_unconfirmed(hours_before(now, confirm_h)).await?;
        let kept_h = i64::try_from(self.settings.retention.failed_messages_h).unwrap_or(i64::MAX);
        self.store.forget_recipients(hours_before(now, kept_h)).await?;
        if unconfirmed > 0 {
            tracing::info!(unconfirmed, "dropped mails whose recipients did not confirm");
        }
        Ok(self.store.forget_requests(now).await?)
    }

    async fn forget_log(&self, now: Timestamp) -> Result<u64, SweepError> {
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

    async fn forget_workers(&self, now: Timestamp) -> Result<u64, SweepError> {
        Ok(self.store.forget_workers(hours_before(now, 24)).await?)
    }

    async fn delete_videos(&self, now: Timestamp) -> Result<u64, SweepError> {
        let retention = &self.settings.retention;
        let before = |hours: u64| hours_before(now, i64::try_from(hours).unwrap_or(i64::MAX));
        let (ended_by, failed_by) = (before(retention.videos_h), before(retention.failed_videos_h()));
        let mut deleted = 0;
        // In the wrong storage the videos would not be found, and be recorded as deleted.
        self.identity.verify(self.blobs.as_ref()).await?;
        loop {
            let due = self.store.due_videos(ended_by, failed_by, BATCH).await?;
            for due in &due {
                match &due.video {
                    JobVideo::Stored(key) => self.blobs.delete(key).await?,
                    JobVideo::Object(object) if due.is_done && self.settings.sources.s3_delete => {
                        let objects = Objects::open(&self.settings.storage.s3).await;
                        self.delete_object(object, &objects).await?;
                    }
                    JobVideo::Object(_) | JobVideo::Remote(_) | JobVideo::Live => {}
                }
                self.store.video_deleted(due.token).await?;
            }
            deleted += due.len() as u64;
            if due.len() < BATCH as usize {
                return Ok(deleted);
            }
        }
    }

    async fn delete_orphans(&self, now: Timestamp) -> Result<u64, SweepError> {
        let before = hours_before(now, ORPHAN_AGE_H);
        let deleted = self.delete_orphans_of(before).await?;
        // No job refers to a saved picture.
        self.store.forget_saved_frames(before).await?;
        Ok(deleted)
    }

    async fn delete_orphans_of(&self, before: Timestamp) -> Result<u64, SweepError> {
        let known = usize::try_from(self.store.video_count().await?).unwrap_or(usize::MAX);
        // Lists more blobs than there are known videos, so that the list contains orphans if there are any.
        let limit = known.saturating_add(BATCH as usize);
        let blobs = self.blobs.list_older(before, limit).await?;
        // Reads the keys after listing the blobs, so that jobs queued meanwhile are among them.
        let known = if blobs.is_empty() { return Ok(0) } else { self.store.video_keys().await? };
        // In the storage of another database, every blob would look like an orphan.
        self.identity.verify(self.blobs.as_ref()).await?;
        let mut deleted = 0;
        for blob in blobs.iter().filter(|blob| made_by_visage(&blob.key) && !known.contains(&blob.key)) {
            self.blobs.delete(&blob.key).await?;
            deleted += 1;
        }
        Ok(deleted)
    }

    async fn abort_uploads(&self, now: Timestamp) -> Result<u64, SweepError> {
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
        // Keeps multipart uploads: they expire above, by their own time limit.
        let kept = self.store.open_upload_keys().await?;
        let age = Duration::from_secs(self.settings.http.max_upload_s.saturating_add(UPLOAD_SLACK_S));
        let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        Ok(ended + self.blobs.abort_abandoned(before, &kept).await? as u64)
    }
}

/// Returns whether visage may have made a key: the file name is a UUID. This protects other objects in a bucket that is
/// shared without a prefix.
fn made_by_visage(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    Uuid::try_parse(stem).is_ok()
}

fn hours_before(now: Timestamp, hours: i64) -> Timestamp {
    // A jiff span cannot hold many more hours than this.
    let span = if hours > 1_000_000 { return Timestamp::MIN } else { hours.hours() };
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

fn done(step: &'static str, result: Result<u64, SweepError>) -> u64 {
    result.unwrap_or_else(|error| {
        tracing::warn!(step, %error, "a step of the housekeeping failed");
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_uuids_can_be_orphans() {
        let id = "0189f7c8-1d2e-4a1b-9c3d-5e6f708192a3";
        for key in [format!("videos/{id}"), format!("{id}.mp4"), id.to_owned(), id.replace('-', "")] {
            assert!(made_by_visage(&key), "{key}");
        }
        for key in ["", "videos/", "holiday.mp4", "backup/2026.tar"] {
            assert!(!made_by_visage(key), "{key}");
        }
    }

    #[test]
    fn a_very_long_time_does_not_overflow() {
        assert_eq!(hours_before(Timestamp::UNIX_EPOCH, i64::MAX), Timestamp::MIN);
        assert_eq!(hours_before(Timestamp::UNIX_EPOCH, 2).as_second(), -7200);
    }
}
