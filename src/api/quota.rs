//! Limits the number of videos that a key may send per day and per month. A video is counted when its upload begins,
//! and uncounted if it is rejected. So two simultaneous uploads cannot both be counted as the last one.

use jiff::Timestamp;

use super::upload::error::{LimitError, UploadError};
use super::{Api, Caller};
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
