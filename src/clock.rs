//! Time and tokens come into the program here and nowhere else, so that tests can fix them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rand::TryRng;
use uuid::Uuid;

/// Where the program's time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Where tokens come from.
pub trait Tokens: Send + Sync + 'static {
    /// A new, unguessable token.
    fn next(&self) -> Uuid;
}

/// 256 bits from the operating system's generator, for a key.
///
/// # Errors
/// The operating system gives none.
pub fn random_secret() -> Result<[u8; 32], rand::rngs::SysError> {
    let mut secret = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut secret)?;
    Ok(secret)
}

/// Version 4 UUIDs from the operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomTokens;

impl Tokens for RandomTokens {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws tokens")]
    fn next(&self) -> Uuid {
        Uuid::new_v4()
    }
}
