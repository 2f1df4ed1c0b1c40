//! Limits the number of videos that a key may send per day and per month, and the bytes of stored videos. A video is
//! counted when its upload begins, and uncounted if it is rejected. So two simultaneous uploads cannot both be counted
//! as the last one.

use std::time::Duration;

use jiff::Timestamp;

use super::limits::Client;
use super::upload::error::{LimitError, UploadError};
use super::{Api, Caller};
use crate::config::ByteSize;
use crate::store::{Quotas, Store};

/// A video that was counted. Dropping it uncounts the video, unless it was [kept](CountedVideo::keep).
pub struct CountedVideo(Option<(Store, String, Timestamp)>);

impl CountedVideo {
    /// Keeps the video counted, because it was accepted.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CountedVideo {
    fn drop(&mut self) {
        let Some((store, key, counted)) = self.0.take() else { return };
        // There is no runtime only while the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = store.uncount_video(&key, counted).await {
                tracing::warn!(%error, "a rejected video could not be uncounted");
            }
        });
    }
}

/// Counts a video of this caller, or rejects it if the quota is used up. Callers without a key have no quota.
pub async fn count(api: &Api, caller: &Caller) -> Result<CountedVideo, UploadError> {
    let Caller::Key(key) = caller else { return Ok(CountedVideo(None)) };
    let limits = &api.app.settings.limits;
    let quotas = Quotas {
        per_day: key.videos_per_day.unwrap_or(limits.videos_per_day_key),
        per_month: key.videos_per_month.unwrap_or(limits.videos_per_month_key),
    };
    if quotas == Quotas::default() {
        return Ok(CountedVideo(None));
    }
    let now = api.app.clock.now();
    match api.app.store.count_video(&key.id, quotas, now).await? {
        None => Ok(CountedVideo(Some((api.app.store.clone(), key.id.clone(), now)))),
        Some(used_up) => Err(LimitError::QuotaUsedUp(used_up).into()),
    }
}

/// How often the quotas are checked while a video arrives.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// Rejects `more` bytes that would exceed `storage.quota` or `storage.quota_client`. Running uploads are counted.
pub async fn check_storage(api: &Api, client: &Client, more: u64) -> Result<(), UploadError> {
    let storage = &api.app.settings.storage;
    if storage.quota.0 == 0 && storage.quota_client.0 == 0 {
        return Ok(());
    }
    let stored = api.app.store.stored_bytes(&client.stored(&api.app.store).await?, api.app.clock.now()).await?;
    let (total, own) = api.uploads.incoming(client);
    let is_over = |quota: ByteSize, stored: u64, incoming: u64| {
        quota.0 > 0 && stored.saturating_add(incoming).saturating_add(more) > quota.0
    };
    if is_over(storage.quota_client, stored.client, own) {
        return Err(LimitError::ClientStorageFull(storage.quota_client).into());
    }
    if is_over(storage.quota, stored.total, total) {
        return Err(LimitError::StorageFull(storage.quota).into());
    }
    Ok(())
}

/// Ends with an error as soon as the running uploads exceed a quota. The bytes of an upload without a Content-Length are
/// not known before they arrive.
pub async fn watch_storage(api: &Api, client: &Client) -> UploadError {
    loop {
        tokio::time::sleep(CHECK_PAUSE).await;
        // If the database does not answer now, the check after the upload decides.
        if let Err(error @ UploadError::Limit(_)) = check_storage(api, client, 0).await {
            return error;
        }
    }
}
