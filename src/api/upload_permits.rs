//! Limits the number of uploads, or of immediate calls, that run at the same time: in all, and of one client.
//!
//! The last permits are kept for clients that hold none, so a client with many requests cannot lock out the others. A
//! rejection estimates from the progress of the running uploads when the next permit is free.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::limits::Client;

/// The limits on permits.
#[derive(Debug, Clone, Copy)]
pub struct PermitLimits {
    pub total: usize,
    /// Maximum number of permits of one client; 0: no limit.
    pub per_client: usize,
    /// Number of permits that are kept for clients that hold none.
    pub reserved: usize,
    /// The service ends an upload below this rate (bytes per second) within `slow`; 0: no limit.
    pub min_rate: u64,
    pub slow: Duration,
}

impl PermitLimits {
    /// Keeps a quarter of the permits for others if the permits of a client are limited.
    pub const fn new(total: usize, per_client: usize, min_rate: u64, slow: Duration) -> Self {
        Self { total, per_client, reserved: if per_client == 0 { 0 } else { total / 4 }, min_rate, slow }
    }
}

/// The progress of an upload.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Bytes received so far. The reader of the body counts them.
    pub received: Arc<AtomicU64>,
    /// The announced size of the body in bytes.
    pub announced: Option<u64>,
    /// Time after which the upload is ended.
    pub limit: Duration,
    /// Whether the bytes are new to the storage. The bytes of a part belong to an upload that is counted already.
    pub is_new: bool,
}

/// The reason why a client gets no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    #[error("all permits are taken")]
    Full { wait_s: u64 },
    #[error("the client has {most} permits, the most that it gets")]
    Client { most: usize, wait_s: u64 },
}

struct Running {
    client: Client,
    since: Instant,
    progress: Progress,
}

/// All permits of a kind in this process.
pub struct UploadPermits {
    limits: PermitLimits,
    running: Mutex<(u64, HashMap<u64, Running>)>,
}

/// A permit. It is free again when this value is dropped.
pub struct UploadPermit {
    permits: Arc<UploadPermits>,
    number: u64,
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        self.permits.with(|running| drop(running.1.remove(&self.number)));
    }
}

impl UploadPermits {
    pub fn new(limits: PermitLimits) -> Arc<Self> {
        Arc::new(Self { limits, running: Mutex::default() })
    }

    /// Takes a permit for an upload of this client.
    pub fn take(self: &Arc<Self>, client: &Client, progress: Progress, now: Instant) -> Result<UploadPermit, NoPermit> {
        let limits = self.limits;
        self.with(|(next, running)| {
            let free = limits.total.saturating_sub(running.len());
            let held = running.values().filter(|other| other.client == *client).count();
            if limits.per_client > 0 && held >= limits.per_client {
                let own = running.values().filter(|other| other.client == *client);
                return Err(NoPermit::Client { most: limits.per_client, wait_s: soonest(own, &limits, now) });
            }
            if free == 0 || held > 0 && free <= limits.reserved {
                return Err(NoPermit::Full { wait_s: soonest(running.values(), &limits, now) });
            }
            *next += 1;
            running.insert(*next, Running { client: client.clone(), since: now, progress });
            Ok(UploadPermit { permits: self.clone(), number: *next })
        })
    }

    /// The bytes that running uploads bring to the storage: of all clients, and of this one.
    pub fn incoming(&self, client: &Client) -> (u64, u64) {
        self.with(|(_, running)| {
            let new = running.values().filter(|running| running.progress.is_new);
            new.fold((0, 0), |(all, own), running| {
                let bytes = running.progress.bytes();
                (all + bytes, if running.client == *client { own + bytes } else { own })
            })
        })
    }

    fn with<T>(&self, with: impl FnOnce(&mut (u64, HashMap<u64, Running>)) -> T) -> T {
        with(&mut self.running.lock())
    }
}

impl Progress {
    /// The announced size, or the bytes received so far if these are more or no size was announced.
    fn bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed).max(self.announced.unwrap_or(0))
    }
}

/// Estimates the seconds until the first of these uploads ends.
fn soonest<'a>(running: impl Iterator<Item = &'a Running>, limits: &PermitLimits, now: Instant) -> u64 {
    let soonest = running.map(|running| running.remaining(limits, now)).min().unwrap_or_default();
    (soonest.as_secs() + u64::from(soonest.subsec_nanos() > 0)).max(1)
}

impl Running {
    /// Estimates the time until the upload ends: from its rate if its size is known, otherwise as much as it has taken
    /// so far. It does not exceed the time at which the service ends the upload. An upload that has just begun has
    /// no reliable rate. It counts as one that may be ended as too slow.
    fn remaining(&self, limits: &PermitLimits, now: Instant) -> Duration {
        let taken = now.saturating_duration_since(self.since);
        let received = self.progress.received.load(Ordering::Relaxed);
        let left = match self.progress.announced {
            Some(all) if received > 0 => {
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let factor = all.saturating_sub(received) as f64 / received as f64;
                Duration::try_from_secs_f64(taken.as_secs_f64() * factor).unwrap_or(Duration::MAX)
            }
            Some(_) => Duration::MAX,
            None => taken,
        };
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let is_slow = (received as f64) < limits.min_rate as f64 * taken.as_secs_f64();
        let slow = if is_slow || taken < limits.slow { limits.slow } else { Duration::MAX };
        left.min(slow).min(self.progress.limit.saturating_sub(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3600);

    fn permits(total: usize, per_client: usize) -> Arc<UploadPermits> {
        UploadPermits::new(PermitLimits::new(total, per_client, 1000, Duration::from_secs(60)))
    }

    fn client(name: &str) -> Client {
        Client::Key(name.to_owned())
    }

    fn progress(received: u64, announced: Option<u64>) -> Progress {
        Progress { received: Arc::new(AtomicU64::new(received)), announced, limit: LIMIT, is_new: true }
    }

    #[test]
    fn one_client_cannot_take_all_places() {
        let (permits, now) = (permits(8, 4), Instant::now());
        let take = |name| permits.take(&client(name), progress(0, None), now);
        let ann: Vec<_> = (0..4).map(|_| take("ann").unwrap()).collect();
        assert!(matches!(take("ann"), Err(NoPermit::Client { most: 4, .. })));
        let bob = [take("bob").unwrap(), take("bob").unwrap()];
        assert!(matches!(take("bob"), Err(NoPermit::Full { .. })), "the last quarter is kept for others");
        let (eve, joe) = (take("eve").unwrap(), take("joe").unwrap());
        assert!(matches!(take("kim"), Err(NoPermit::Full { .. })));
        drop((ann, bob, eve, joe));
        assert!(take("kim").is_ok());
    }

    #[test]
    fn the_wait_is_that_of_the_upload_that_ends_first() {
        let begun = Instant::now();
        let wait = |uploads: &[(u64, Option<u64>)], after_s| {
            let permits = permits(uploads.len(), 0);
            let held: Vec<_> = (uploads.iter())
                .map(|(received, announced)| {
                    permits.take(&client("ann"), progress(*received, *announced), begun).unwrap()
                })
                .collect();
            let now = begun + Duration::from_secs(after_s);
            let refused = permits.take(&client("bob"), progress(0, None), now).err();
            drop(held);
            refused
        };
        let full = |wait_s| Some(NoPermit::Full { wait_s });
        assert_eq!(wait(&[(1_000_000, Some(4_000_000))], 10), full(30), "three times as much is left");
        assert_eq!(wait(&[(1_000_000, Some(4_000_000)), (3_000_000, Some(4_000_000))], 9), full(3));
        assert_eq!(wait(&[(4_000_000, Some(4_000_000))], 10), full(1), "it is being checked");
        assert_eq!(wait(&[(1_000_000, None)], 20), full(20), "the size is unknown");
        assert_eq!(wait(&[(10, Some(1_000_000_000))], 30), full(60), "it is too slow, so it is ended soon");
        assert_eq!(wait(&[(90_000, Some(1_000_000_000))], 30), full(60), "it has just begun and may be too slow");
        assert_eq!(wait(&[(90_000, Some(1_000_000_000))], 80), full(3520), "it is fast enough");
        assert_eq!(wait(&[(1_000_000_000, Some(u64::MAX))], 3500), full(100), "it reaches its time limit first");
    }

    #[test]
    fn bytes_on_their_way_are_counted_by_client() {
        let (permits, now) = (permits(8, 0), Instant::now());
        let part = Progress { is_new: false, ..progress(5, None) };
        let _held = [
            permits.take(&client("ann"), progress(10, Some(100)), now),
            permits.take(&client("bob"), progress(7, None), now),
            permits.take(&client("bob"), part, now),
        ];
        assert_eq!((permits.incoming(&client("ann")), permits.incoming(&client("bob"))), ((107, 100), (107, 7)));
    }
}
