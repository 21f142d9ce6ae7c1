//! The shard's end of what the control plane holds: orders in, reports and numbers out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mail::queue::{Inbox, Outbox};
use mail::{Order, Report};

use crate::metrics::Gauges;
use crate::node::{HandOvers, ReportBell};

/// The shard's end of its port.
pub(crate) struct Plane {
    pub(crate) orders: Inbox<Order>,
    pub(crate) reports: Outbox<Report>,
    /// What found no room yet. Marks replace marks and storage replaces storage, so it is bounded by the hand-overs (1,024) and a few more.
    pub(crate) waiting: VecDeque<Report>,
    pub(crate) bell: ReportBell,
    pub(crate) gauges: Gauges,
    pub(crate) asked: Arc<AtomicBool>,
    /// What the control plane rings.
    pub(crate) wake: Arc<OwnedFd>,
    pub(crate) hand_overs: HandOvers,
}

impl Plane {
    /// Puts a report behind the others.
    pub(crate) fn report(&mut self, report: Report) {
        let mark = |it: &Report| matches!(it, Report::Durable(_));
        let storage = |it: &Report| matches!(it, Report::StorageFull(_) | Report::StorageBack);
        let last = self.waiting.back();
        if last.is_some_and(|last| mark(last) && mark(&report) || storage(last) && storage(&report)) {
            self.waiting.pop_back();
        }
        self.waiting.push_back(report);
    }

    /// Publishes as many reports as there is room for, and rings.
    pub(crate) fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let room = self.reports.room().min(self.waiting.len());
        for report in self.waiting.drain(..room) {
            self.reports.push(report);
        }
        if self.reports.flush() > 0 {
            self.bell.ring();
        }
    }

    /// Whether the control plane wants nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.orders.is_empty() && !self.asked.load(Ordering::Acquire)
    }

    /// Whether fresh numbers were asked for; asks once.
    pub(crate) fn take_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Acquire)
    }

    pub(crate) fn bell_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use journal::LogOffset;
    use mail::queue::mailbox;

    use super::*;

    #[test]
    fn marks_are_coalesced_and_everything_else_keeps_its_place() {
        let (reports, mut inbox) = mailbox(2);
        let (_, orders) = mailbox(1);
        let mut plane = Plane {
            orders,
            reports,
            waiting: VecDeque::new(),
            bell: ReportBell::new().unwrap(),
            gauges: Gauges::new(0),
            asked: Arc::default(),
            wake: Arc::new(crate::sys::eventfd().unwrap()),
            hand_overs: HandOvers::default(),
        };
        plane.report(Report::Serving);
        for offset in 1..=1_000 {
            plane.report(Report::Durable(LogOffset(offset)));
        }
        plane.report(Report::StorageFull("no room".into()));
        plane.report(Report::StorageBack);
        plane.report(Report::Durable(LogOffset(1_001)));
        let mut seen = Vec::new();
        for _ in 0..4 {
            plane.flush();
            inbox.drain(|report| seen.push(format!("{report:?}")));
        }
        assert_eq!(seen, ["Serving", "Durable(LogOffset(1000))", "StorageBack", "Durable(LogOffset(1001))"]);
        assert!(plane.waiting.is_empty());
    }
}
