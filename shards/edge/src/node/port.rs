//! What the control plane holds of each shard: two mailboxes, two bells, a row of numbers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use journal::{Recovered, Superblock};
use mail::queue::{Inbox, Outbox};
use mail::sleep::Doorbell;
use mail::{Order, Report};

use crate::metrics::Gauges;
use crate::sys;

/// Orders that may wait for a shard, and reports that may wait for the control plane.
pub const PORT_SIZE: usize = 256;
/// Connections that the control plane may have and not have answered; beyond them the edge answers 503 by itself.
pub const HAND_OVERS_MAX: u32 = 1_024;

/// The control plane's end of one shard.
pub struct ShardPort {
    /// Which shard.
    pub shard: u16,
    /// Its reports. Drain it after [`ReportBell::clear`].
    pub reports: Inbox<Report>,
    /// Its numbers, named by [`metrics::names`](crate::metrics::names).
    pub gauges: Gauges,
    pub(crate) orders: Outbox<Order>,
    pub(crate) doorbell: Doorbell,
    pub(crate) wake: Arc<OwnedFd>,
    pub(crate) asked: Arc<AtomicBool>,
}

impl ShardPort {
    /// Gives the shard an order and wakes it if it sleeps. With 256 orders waiting the order comes back: answer 503, or try again later.
    ///
    /// # Errors
    /// The order itself, when there is no room.
    pub fn post(&mut self, order: Order) -> Result<(), Order> {
        if !self.orders.has_room(1) {
            return Err(order);
        }
        self.orders.push(order);
        self.orders.flush();
        self.ring();
        Ok(())
    }

    /// How many more orders may be posted now.
    pub fn room(&self) -> usize {
        self.orders.room()
    }

    /// Whether the shard's thread has ended.
    pub fn is_gone(&self) -> bool {
        self.orders.is_abandoned()
    }

    /// Asks for fresh numbers; they are there a turn later.
    pub fn ask_gauges(&self) {
        self.asked.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        self.doorbell.ring(|| sys::ring_eventfd(self.wake.as_fd()));
    }
}

/// Becomes readable when any shard has reports. Poll it (`AsyncFd`), clear it, then drain every port's inbox.
#[derive(Clone)]
pub struct ReportBell {
    shared: Arc<Bell>,
}

struct Bell {
    fd: OwnedFd,
    /// Rung and not cleared: however many turns report meanwhile, one system call wakes the reader.
    rung: AtomicBool,
}

impl ReportBell {
    /// A bell that hangs still.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> std::io::Result<ReportBell> {
        Ok(ReportBell { shared: Arc::new(Bell { fd: sys::eventfd()?, rung: AtomicBool::new(false) }) })
    }

    /// Takes the bell down; call it before draining, so that what is reported meanwhile rings again.
    pub fn clear(&self) {
        sys::clear_eventfd(self.shared.fd.as_fd());
        // SeqCst on both sides: either the shard sees the bell down and rings, or we see its reports when we drain next.
        self.shared.rung.swap(false, Ordering::SeqCst);
    }

    pub(crate) fn ring(&self) {
        if !self.shared.rung.swap(true, Ordering::SeqCst) {
            sys::ring_eventfd(self.shared.fd.as_fd());
        }
    }
}

impl AsFd for ReportBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

/// Counts connections that the control plane was given (`Report::HandedOver`) and has not answered. At most [`HAND_OVERS_MAX`] at a time on a node.
#[derive(Clone, Default)]
pub struct HandOvers {
    count: Arc<AtomicU32>,
}

impl HandOvers {
    /// To be called for each `Report::HandedOver`; keep the value until the connection was answered, or has ended, and drop it then.
    pub fn received(&self) -> HandOver {
        HandOver { count: Arc::clone(&self.count) }
    }

    /// How many there are now, those on their way included.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes a place, if one is left.
    pub(crate) fn reserve(&self) -> bool {
        let more = |count| (count < HAND_OVERS_MAX).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives a place back that was reserved and not used.
    pub(crate) fn release(&self) {
        let before = self.count.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a place is given back once");
    }
}

/// One connection that the control plane has and has not answered.
pub struct HandOver {
    count: Arc<AtomicU32>,
}

impl Drop for HandOver {
    fn drop(&mut self) {
        let before = self.count.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a place is given back once");
    }
}

/// What a shard's start found on the disk.
#[derive(Clone, Debug)]
pub struct ShardBoot {
    /// Which shard.
    pub shard: u16,
    /// Its journal's directory: what followers read.
    pub directory: PathBuf,
    /// The superblock of this boot.
    pub superblock: Superblock,
    /// What recovery found.
    pub recovered: Recovered,
    /// How long reading and replaying took.
    pub took: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_hand_overs_are_bounded_and_come_back() {
        let places = HandOvers::default();
        for _ in 0..HAND_OVERS_MAX {
            assert!(places.reserve());
        }
        assert!(!places.reserve());
        drop(places.received());
        assert!(places.reserve());
        places.release();
        assert_eq!(places.count(), HAND_OVERS_MAX - 1);
    }

    #[test]
    fn a_bell_is_rung_once_until_it_is_cleared() {
        let bell = ReportBell::new().unwrap();
        bell.ring();
        bell.ring();
        assert!(sys::clear_eventfd(bell.as_fd()));
        bell.ring();
        assert!(!sys::clear_eventfd(bell.as_fd()), "rung and not cleared: no second call");
        bell.clear();
        bell.ring();
        assert!(sys::clear_eventfd(bell.as_fd()));
    }
}
