//! How many videos a key may send a day and a month. A video is counted when it begins to come, and taken back if it is
//! refused: so two that come at the same time cannot both be the last.

use jiff::Timestamp;

use super::upload::error::{LimitError, UploadError};
use super::{Api, Caller};
use crate::store::{Quotas, Store};

/// A video that was counted; taken back when dropped, unless it is [kept](CountedVideo::keep).
pub struct CountedVideo(Option<(Store, String, Timestamp)>);

impl CountedVideo {
    /// The video was taken.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CountedVideo {
    fn drop(&mut self) {
        let Some((store, key, counted)) = self.0.take() else { return };
        // Without a runtime the process is ending.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = store.uncount_video(&key, counted).await {
                tracing::warn!(%error, "a refused video stays counted");
            }
        });
    }
}

/// Counts a video of this caller, or refuses it. Callers without a key have no quota.
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
