//! Divides the CPU cores between the videos that are decoded at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The cores of this machine, and the number of videos that use them. Clones share them.
#[derive(Debug, Clone)]
pub struct Cores {
    all: usize,
    running: Arc<AtomicUsize>,
}

impl Cores {
    pub fn new() -> Self {
        Self { all: std::thread::available_parallelism().map_or(1, usize::from), running: Arc::default() }
    }

    /// Takes an equal share of the cores. Shares that were taken before keep their size.
    pub fn take(&self) -> Share {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        Share { cores: (self.all / running).max(1), running: self.running.clone() }
    }
}

/// The share of the cores that one video uses. Dropping it ends the use.
#[derive(Debug)]
pub struct Share {
    pub cores: usize,
    running: Arc<AtomicUsize>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_share_the_cores_and_each_has_one() {
        let cores = Cores { all: 5, running: Arc::default() };
        let mut shares: Vec<Share> = (0..7).map(|_| cores.take()).collect();
        assert_eq!(shares.iter().map(|share| share.cores).collect::<Vec<_>>(), [5, 2, 1, 1, 1, 1, 1]);
        shares.clear();
        assert_eq!(cores.take().cores, 5);
    }
}
