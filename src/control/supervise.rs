//! Keeps the control plane alive: a life that panics or is ended is followed by another. The shards do not notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::counts::Counts;

/// How a life ended by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The server stops.
    Stopped,
    /// Somebody wants a new life.
    Restart,
    /// It could not begin, or not go on; the cause is in the log.
    Failed,
}

/// Between lives that fail one after the other.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A life this long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(30);

/// Runs lives until one ends with [`End::Stopped`].
pub(crate) fn run(counts: &Counts, mut life: impl FnMut() -> End) {
    let mut pause = PAUSE_MIN;
    loop {
        counts.lives.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(&mut life)) {
            Ok(End::Stopped) => return,
            Ok(End::Restart) => {
                log::warn!("the control plane starts again, as it was told to");
                pause = PAUSE_MIN;
                continue;
            }
            Ok(End::Failed) => log::error!("the control plane ended; it starts again, chats go on"),
            Err(panic) => {
                counts.panics.fetch_add(1, Ordering::Relaxed);
                let what = panic
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                    .unwrap_or("no message");
                log::error!("the control plane panicked: {what}; it starts again, chats go on");
            }
        }
        if began.elapsed() > GOOD_LIFE {
            pause = PAUSE_MIN;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_panics_is_followed_by_another() {
        let counts = Counts::default();
        let mut lives = Vec::new();
        run(&counts, || {
            lives.push(());
            match lives.len() {
                1 => panic!("planted"),
                2 => End::Failed,
                3 => End::Restart,
                _ => End::Stopped,
            }
        });
        assert_eq!(lives.len(), 4);
        assert_eq!((counts.lives.load(Ordering::Relaxed), counts.panics.load(Ordering::Relaxed)), (4, 1));
    }
}
