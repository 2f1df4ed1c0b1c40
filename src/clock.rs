//! The only source of times and random tokens. Tests replace it with fixed values.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rand::TryRng;
use uuid::Uuid;

/// The source of the current time.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock for tests that only moves when told to.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

/// The source of tokens.
pub trait Tokens: Send + Sync + 'static {
    /// Returns a new random token that cannot be guessed.
    fn next(&self) -> Uuid;
}

/// Returns 256 bits from the random generator of the operating system, for a key.
///
/// # Errors
/// The operating system returns no random bytes.
pub fn random_secret() -> Result<[u8; 32], rand::rngs::SysError> {
    let mut secret = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut secret)?;
    Ok(secret)
}

/// Makes version 4 UUIDs with the random generator of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomTokens;

impl Tokens for RandomTokens {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws tokens")]
    fn next(&self) -> Uuid {
        Uuid::new_v4()
    }
}
