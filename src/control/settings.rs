//! The settings in effect, for those in the control plane who need them.

use std::sync::{Arc, PoisonError, RwLock};

use desk::settings::Settings;

/// The value that shards were given last.
#[derive(Debug)]
pub(crate) struct Current(RwLock<Arc<Settings>>);

impl Current {
    pub(crate) fn new(settings: Arc<Settings>) -> Current {
        Current(RwLock::new(settings))
    }

    /// The value.
    pub(crate) fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces it.
    pub(crate) fn set(&self, settings: Arc<Settings>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}
