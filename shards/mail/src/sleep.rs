//! The sleep flag: a sender wakes a reader only if the reader said that it sleeps.
//!
//! ```text
//!   reader                           sender
//!   asleep := true                   publish letters
//!   fence(SeqCst)            R       fence(SeqCst)            S
//!   letters there? then stay up      asleep? then clear it and wake the reader
//!   wait
//! ```
//! In the one order of all SeqCst fences either R is first, and the sender sees the flag, or S is first, and the reader sees the letters. Take away a fence or
//! the second look and both may see nothing: the reader sleeps on a full mailbox. `tests/loom.rs` shows both.
//!
//! The wake itself (a ring message, an eventfd) is the caller's and must be *sticky*: one that comes between `prepare` and the wait ends the wait.
//! Every change of the flag is a swap, so that the changes happen one after the other. (Plain stores would do by the rules for one variable's modification
//! order; the model does not know those, and a swap a sleep costs nothing.)
//! Exactly who clears the flag wakes, so one sleep costs at most one wake, however many senders there are.
#![allow(unexpected_cfgs, reason = "`loom` is set by RUSTFLAGS when the model is checked")]

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering, fence},
};

/// Set by the reader alone; cleared by the reader when it wakes, or by the one sender that wakes it. On a cache line of its own: senders of every shard read it.
#[repr(align(128))]
struct Flag {
    asleep: AtomicBool,
}

/// The two ends of one shard's sleep flag; the flag says "awake".
pub fn sleep_flag() -> (Sleeper, Doorbell) {
    let flag = Arc::new(Flag { asleep: AtomicBool::new(false) });
    (Sleeper { flag: Arc::clone(&flag) }, Doorbell { flag })
}

/// The reader's end. There is one.
pub struct Sleeper {
    flag: Arc<Flag>,
}

impl Sleeper {
    /// Says "asleep" and then looks into the mailboxes once more; call it before every wait and before any enter that may wait.
    ///
    /// `is_empty` must read the senders' indices themselves (`Inbox::is_empty`). `true`: nothing was there and the reader may wait; whatever is published
    /// from now on wakes it. `false`: there is something, the flag is down again, do not wait (a wake may still come; it is spurious).
    pub fn prepare(&mut self, is_empty: impl FnOnce() -> bool) -> bool {
        self.flag.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says "awake", after the wait, whatever ended it.
    pub fn awake(&mut self) {
        self.flag.asleep.swap(false, Ordering::AcqRel);
    }
}

/// A sender's end; every sender has a clone.
#[derive(Clone)]
pub struct Doorbell {
    flag: Arc<Flag>,
}

impl Doorbell {
    /// Calls `wake` if the reader sleeps and nobody else wakes it already; says whether it did. Call it after publishing, once for a batch.
    pub fn ring(&self, wake: impl FnOnce()) -> bool {
        fence(Ordering::SeqCst);
        // The plain look comes first: in a busy mesh the reader is awake, and a swap would pull its line over for nothing.
        let won = self.flag.asleep.load(Ordering::Relaxed) && self.flag.asleep.swap(false, Ordering::AcqRel);
        if won {
            wake();
        }
        won
    }
}
