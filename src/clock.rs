//! Time for the control plane. Tests hold it still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The system's, with the moment that counts as zero.
    System(Instant),
    /// One that stands still until somebody moves it; both times in milliseconds.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests hold time still"))]
    Held(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock.
    pub(crate) fn system() -> Clock {
        Clock::System(Instant::now())
    }

    /// Milliseconds that never fall.
    pub(crate) fn mono_ms(&self) -> u64 {
        match self {
            Clock::System(zero) => zero.elapsed().as_millis() as u64,
            Clock::Held(ms) => ms.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since 1970; may jump.
    pub(crate) fn wall_ms(&self) -> u64 {
        match self {
            Clock::System(_) => {
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
            }
            Clock::Held(ms) => ms.load(Ordering::Relaxed),
        }
    }
}
