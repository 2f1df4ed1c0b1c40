//! Limits the number of videos that a key may send per day and per month, the bytes of stored videos, and the mails per
//! day. A video is counted when its upload begins, and uncounted if it is rejected. So two simultaneous uploads cannot
//! both be counted as the last one.

use std::time::Duration;

use jiff::Timestamp;

use super::limits::Client;
use super::upload::error::{LimitError, UploadError};
use super::{Api, Caller};
use crate::config::ByteSize;
use crate::confirmation;
use crate::store::{MailCount, MailSubject, Quotas, Store};

/// Videos that were counted. Dropping this uncounts them, unless they were [kept](CountedVideos::keep).
pub struct CountedVideos(Option<(Store, String, u32, Timestamp)>);

impl CountedVideos {
    /// Keeps the videos counted, because they were accepted.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CountedVideos {
    fn drop(&mut self) {
        let Some((store, key, videos, counted)) = self.0.take() else { return };
        // There is no runtime only while the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = store.uncount_videos(&key, videos, counted).await {
                tracing::warn!(%error, "rejected videos could not be uncounted");
            }
        });
    }
}

/// Counts a video of this caller, or rejects it if the quota is used up. Callers without a key have no quota.
pub async fn count(api: &Api, caller: &Caller) -> Result<CountedVideos, UploadError> {
    count_several(api, caller, 1).await
}

/// Counts videos of this caller like [`count`], or rejects all of them.
pub async fn count_several(api: &Api, caller: &Caller, videos: u32) -> Result<CountedVideos, UploadError> {
    let Caller::Key(key) = caller else { return Ok(CountedVideos(None)) };
    let limits = api.app.settings.limits.get();
    let quotas = Quotas {
        per_day: key.videos_per_day.unwrap_or(limits.videos_per_day_key),
        per_month: key.videos_per_month.unwrap_or(limits.videos_per_month_key),
    };
    if quotas == Quotas::default() {
        return Ok(CountedVideos(None));
    }
    let now = api.app.clock.now();
    match api.app.store.count_videos(&key.id, videos, quotas, now).await? {
        None => Ok(CountedVideos(Some((api.app.store.clone(), key.id.clone(), videos, now)))),
        Some(used_up) => Err(LimitError::QuotaUsedUp(used_up).into()),
    }
}

/// Mails that were counted. Dropping them uncounts them, unless they were [kept](CountedMails::keep).
pub struct CountedMails(Option<(Store, Vec<MailCount>, Timestamp)>);

impl CountedMails {
    /// Keeps the mails counted, because their video was accepted.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CountedMails {
    fn drop(&mut self) {
        let Some((store, counts, counted)) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = store.uncount_mails(&counts, counted).await {
                tracing::warn!(%error, "the mails of a rejected video could not be uncounted");
            }
        });
    }
}

/// Counts the mails to these recipients, or rejects them if one of the limits is reached.
pub async fn count_mails(
    api: &Api,
    caller: &Caller,
    client: &Client,
    recipients: &[String],
) -> Result<CountedMails, UploadError> {
    let (store, limits) = (&api.app.store, api.app.settings.limits.get());
    if recipients.is_empty() {
        return Ok(CountedMails(None));
    }
    let secret = store.secret().await?;
    let mut counts = Vec::new();
    let mut add = |kind: MailSubject, name: String, limit: u32| {
        let subject = format!("{} {name}", kind.name());
        match counts.iter_mut().find(|count: &&mut MailCount| count.subject == subject) {
            Some(count) => count.mails += 1,
            None if limit > 0 => counts.push(MailCount { subject, kind, mails: 1, limit }),
            None => {}
        }
    };
    let is_anonymous = caller.owner().is_none();
    let sender = client.stored(store).await?;
    for recipient in recipients {
        add(MailSubject::Recipient, confirmation::pseudonym(secret, recipient), limits.mails_per_day_recipient);
        let domain = recipient.rsplit('@').next().unwrap_or_default().to_lowercase();
        if is_anonymous {
            add(MailSubject::Domain, secret.pseudonym("domain", &domain), limits.mails_per_day_domain);
            add(MailSubject::Address, sender.clone(), limits.mails_per_day_address);
        } else {
            add(MailSubject::Key, sender.clone(), limits.mails_per_day_key);
        }
    }
    let now = api.app.clock.now();
    match store.count_mails(&counts, now).await? {
        None => Ok(CountedMails(Some((store.clone(), counts, now)))),
        Some((count, wait_s)) => Err(LimitError::TooManyMails(count, wait_s).into()),
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

/// Waits until the running uploads exceed a quota, and returns the error. It is needed for uploads without a
/// Content-Length, whose size is not known before they arrive.
pub async fn watch_storage(api: &Api, client: &Client) -> UploadError {
    loop {
        tokio::time::sleep(CHECK_PAUSE).await;
        // If the database does not answer now, the check after the upload decides.
        if let Err(error @ UploadError::Limit(_)) = check_storage(api, client, 0).await {
            return error;
        }
    }
}
