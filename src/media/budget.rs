//! Limits the memory and the CPU time that decoding one video takes.
//!
//! A file of 100 kB can make a decoder hold 34 frames of any size, and a decoder repeats an unchanged frame for a few
//! bytes. So the size of a file does not limit the cost of decoding it. [`super::cost`] estimates the cost from the
//! headers before anything is decoded. Headers can lie, so a [`Budget`] measures the cost while frames are decoded:
//!
//! - memory, at each frame that a decoder allocates: the largest number of bytes that each decoder held so far. FFmpeg
//!   keeps the memory of released frames for later ones.
//! - CPU time, by the CPU clocks of the threads that decode. Unlike wall-clock time, it does not depend on the load of
//!   the machine, so a video does not fail because other programs run. Decoders of other libraries (dav1d) have threads
//!   whose CPU clocks visage cannot read. For them, the wall-clock time that visage waits for them counts.
//! - pixels, at each frame that is decoded.
//!
//! Each sound track has a budget of CPU time of its own ([`SoundBudget`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::ProbeError;
use super::limits::max_total_pixels;
use crate::analysis::Resource;
use crate::config::Video;

/// Memory of a decoder for each pixel of a frame beside the pixel itself: motion vectors and modes. FFmpeg 5.1 takes
/// 0.7 bytes for H.264 and less for others.
pub(super) const SIDE_BYTES: u64 = 1;
/// The maximum CPU time to find the first frame of an upload.
pub(super) const FIRST_FRAME_CPU: Duration = Duration::from_secs(30);

/// The cost of decoding a video, shared by its decoders.
pub(super) struct Budget {
    max_bytes: u64,
    max_pixels: u64,
    max_cpu: Duration,
    bytes: AtomicU64,
    pixels: AtomicU64,
    cpu: Mutex<CpuTime>,
    /// The first limit that was exceeded.
    exceeded: OnceLock<Excess>,
}

#[derive(Default)]
struct CpuTime {
    total: Duration,
    /// The last reading of the clock of each thread.
    readings: HashMap<ThreadId, Duration>,
}

/// A limit that was exceeded.
#[derive(Clone, Copy)]
struct Excess {
    resource: Resource,
    needed: u64,
    limit: u64,
}

impl From<Excess> for ProbeError {
    fn from(Excess { resource, needed, limit }: Excess) -> Self {
        Self::TooCostly { resource, needed, limit }
    }
}

impl Budget {
    pub fn new(limits: &Video) -> Arc<Self> {
        Self::with_cpu(limits, Duration::from_secs(limits.max_cpu_s))
    }

    /// A budget with another limit on the CPU time, if that is lower.
    pub fn with_cpu(limits: &Video, max_cpu: Duration) -> Arc<Self> {
        Arc::new(Self {
            max_bytes: limits.max_decoder_memory.0,
            max_pixels: max_total_pixels(limits),
            max_cpu: max_cpu.min(Duration::from_secs(limits.max_cpu_s)),
            bytes: AtomicU64::new(0),
            pixels: AtomicU64::new(0),
            cpu: Mutex::default(),
            exceeded: OnceLock::new(),
        })
    }

    /// Counts the CPU time of this thread since its last call. Returns an error if a limit was exceeded, by any
    /// decoder.
    pub fn check(&self) -> Result<(), ProbeError> {
        self.count_thread();
        self.result()
    }

    /// Returns an error if a limit was exceeded.
    fn result(&self) -> Result<(), ProbeError> {
        self.exceeded.get().map_or(Ok(()), |excess| Err((*excess).into()))
    }

    /// Counts the CPU time of this thread since its last call.
    fn count_thread(&self) {
        let (thread, now) = (std::thread::current().id(), thread_cpu_time());
        let total = {
            let mut cpu = self.cpu.lock();
            if let Some(before) = cpu.readings.insert(thread, now) {
                cpu.total += now.saturating_sub(before);
            }
            cpu.total
        };
        self.check_cpu(total);
    }

    /// Counts CPU time that was measured by the caller, or time that another library took for decoding on its own
    /// threads.
    pub fn count_time(&self, time: Duration) {
        let total = {
            let mut cpu = self.cpu.lock();
            cpu.total += time;
            cpu.total
        };
        self.check_cpu(total);
    }

    fn check_cpu(&self, total: Duration) {
        if total > self.max_cpu {
            let (needed, limit) = (total.as_secs().max(1), self.max_cpu.as_secs());
            self.exceed(Excess { resource: Resource::CpuTime, needed, limit });
        }
    }

    /// Counts a frame that is decoded.
    pub fn count_pixels(&self, pixels: u64) {
        let needed = self.pixels.fetch_add(pixels, Ordering::Relaxed).saturating_add(pixels);
        if needed > self.max_pixels {
            self.exceed(Excess { resource: Resource::Pixels, needed, limit: self.max_pixels });
        }
    }

    fn exceed(&self, excess: Excess) {
        // Only the first one is reported.
        let _ = self.exceeded.set(excess);
    }
}

/// The CPU time that decoding a sound track may take. Clones share it.
#[derive(Clone)]
pub(super) struct SoundBudget(Arc<Budget>);

impl SoundBudget {
    pub fn new(limits: &Video) -> Self {
        Self(Budget::new(limits))
    }

    /// Runs `work` and counts the CPU time of this thread meanwhile. Returns an error if the limit is exceeded.
    pub fn charge<T>(&self, work: impl FnOnce() -> T) -> Result<T, ProbeError> {
        let begun = thread_cpu_time();
        let result = work();
        self.0.count_time(thread_cpu_time().saturating_sub(begun));
        self.0.result().map(|()| result)
    }
}

/// The frames of one decoder.
pub(super) struct Account {
    budget: Arc<Budget>,
    /// The number of bytes that frames hold, and the largest number so far.
    held: Mutex<(u64, u64)>,
}

impl Account {
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, held: Mutex::default() })
    }

    /// Counts a frame that is about to be allocated, and the CPU time of this thread. Returns `None` if a limit is
    /// exceeded.
    pub fn charge(self: &Arc<Self>, bytes: u64, pixels: u64) -> Option<Charge> {
        self.budget.count_thread();
        self.budget.count_pixels(pixels);
        let bytes = bytes.saturating_add(if bytes > 0 { pixels.saturating_mul(SIDE_BYTES) } else { 0 });
        let risen = {
            let mut held = self.held.lock();
            held.0 = held.0.saturating_add(bytes);
            let risen = held.0.saturating_sub(held.1);
            held.1 += risen;
            risen
        };
        let charge = Charge { account: self.clone(), bytes };
        let needed = self.budget.bytes.fetch_add(risen, Ordering::Relaxed).saturating_add(risen);
        if needed > self.budget.max_bytes {
            self.budget.exceed(Excess { resource: Resource::Memory, needed, limit: self.budget.max_bytes });
        }
        self.budget.exceeded.get().is_none().then_some(charge)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let most = self.held.get_mut().1;
        self.budget.bytes.fetch_sub(most, Ordering::Relaxed);
    }
}

/// A frame that is allocated. Dropped when its memory is released.
pub(super) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.held.lock().0 -= self.bytes;
    }
}

/// The CPU time of this thread.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, Settings};

    fn limits() -> Video {
        Settings::defaults().unwrap().video
    }

    #[test]
    fn frames_are_charged_while_they_are_held_and_a_decoder_for_its_peak() {
        let budget = Budget::new(&Video { max_decoder_memory: ByteSize(1000), ..limits() });
        let (one, other) = (Account::new(budget.clone()), Account::new(budget.clone()));
        let held: Vec<Charge> = (0..3).map(|_| one.charge(100, 100).unwrap()).collect();
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 600);
        drop(held);
        // The memory of released frames is used again.
        let _held: Vec<Charge> = (0..3).map(|_| one.charge(100, 100).unwrap()).collect();
        let second = other.charge(100, 100).unwrap();
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 800);
        assert!(budget.check().is_ok());
        assert!(other.charge(200, 100).is_none());
        let error = budget.check().unwrap_err();
        assert!(matches!(error, ProbeError::TooCostly { resource: Resource::Memory, needed: 1100, limit: 1000 }));
        drop(other);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 1100, "the second frame is still held");
        drop(second);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 600);
    }

    #[test]
    fn the_cpu_time_of_all_threads_is_limited() {
        let budget = Budget::with_cpu(&limits(), Duration::from_millis(50));
        let work = || {
            while budget.check().is_ok() {
                std::hint::black_box((0..10_000).sum::<u64>());
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        let error = budget.check().unwrap_err();
        assert!(matches!(error, ProbeError::TooCostly { resource: Resource::CpuTime, needed: 1, limit: 0 }));
        // Time that passes without work does not count.
        let idle = Budget::with_cpu(&limits(), Duration::from_millis(50));
        idle.check().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        idle.check().unwrap();
        idle.count_time(Duration::from_secs(1));
        assert!(idle.check().is_err());
    }

    #[test]
    fn only_the_time_of_the_charged_work_counts_for_sound() {
        let work = |time: Duration| {
            let begun = thread_cpu_time();
            while thread_cpu_time().saturating_sub(begun) < time {
                std::hint::black_box((0..10_000).sum::<u64>());
            }
        };
        let budget = SoundBudget::new(&Video { max_cpu_s: 1, ..limits() });
        work(Duration::from_secs(1));
        let half = Duration::from_millis(400);
        assert!(budget.charge(|| work(half)).is_ok() && budget.clone().charge(|| work(half)).is_ok());
        let error = budget.charge(|| work(half)).unwrap_err();
        assert!(
            matches!(error, ProbeError::TooCostly { resource: Resource::CpuTime, needed: 1, limit: 1 }),
            "{error:?}"
        );
    }
}
