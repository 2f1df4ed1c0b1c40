//! Settings that change while the program runs.

use std::sync::Arc;

use parking_lot::RwLock;
use serde::Deserialize;

/// A setting that a [reload](super::Settings::take_over) changes. Clones share one value, so those who read it do so each
/// time they need it.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "T")]
pub struct Changeable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Changeable<T> {
    pub fn get(&self) -> Arc<T> {
        self.0.read().clone()
    }

    pub fn set(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}

impl<T: Clone> Changeable<T> {
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(Arc::make_mut(&mut self.0.write()));
    }
}

impl<T> From<T> for Changeable<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }
}

impl<T: PartialEq> PartialEq for Changeable<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}
