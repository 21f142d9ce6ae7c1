//! Rolling checkpoints: which slot's snapshot is the oldest, and how much may be written about it now.
//!
//! A snapshot of a slot is some records, written among all others. Replay must begin at the oldest of the
//! latest snapshots. The slot with the oldest one is always the next to be written again, about a byte of
//! snapshot for each byte of log, so the way back stays short without a pause anywhere. What the records say is
//! not this crate's business: it only keeps the positions.

use std::collections::VecDeque;

use crate::geometry::{CommitPoint, LogOffset};

/// Bytes of snapshots in one turn, at most.
pub const TURN_BYTES_MAX: u64 = 256 << 10;
/// Bytes of snapshots that may be owed, at most: after a pause there is no burst.
pub const CREDIT_MAX: u64 = 1 << 20;

/// The positions of the snapshots of all slots that a shard holds.
#[derive(Debug)]
pub struct Checkpoint {
    /// Slots with a durable snapshot, oldest first.
    settled: VecDeque<(u16, LogOffset)>,
    /// The slot being written, with the position its snapshot began at.
    open: Option<Open>,
    /// Slots written whole whose last record has not landed yet; oldest first, and all older than the settled.
    landing: VecDeque<Landing>,
    replay_from: LogOffset,
    credit: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    slot: u16,
    from: LogOffset,
}

#[derive(Clone, Copy, Debug)]
struct Landing {
    slot: u16,
    /// Where the snapshot that still counts begins.
    old: LogOffset,
    new: LogOffset,
    needs: CommitPoint,
}

impl Checkpoint {
    /// Starts with a position for each slot; after a recovery that is `Recovered::replay_from` for all of them.
    ///
    /// # Panics
    /// When there is no slot: a shard holds at least one.
    pub fn new(slots: impl IntoIterator<Item = (u16, LogOffset)>) -> Self {
        let mut settled: VecDeque<_> = slots.into_iter().collect();
        settled.make_contiguous().sort_by_key(|&(slot, from)| (from, slot));
        let replay_from = settled.front().expect("a shard holds at least one slot").1;
        Checkpoint { settled, open: None, landing: VecDeque::new(), replay_from, credit: 0 }
    }

    /// Credits the bytes of log written since the last call (snapshots not counted) and says how many bytes of
    /// snapshot may be written this turn: at most [`TURN_BYTES_MAX`].
    pub fn budget(&mut self, bytes_logged: u64) -> u64 {
        self.credit = (self.credit + bytes_logged).min(CREDIT_MAX);
        self.credit.min(TURN_BYTES_MAX)
    }

    /// Takes bytes of snapshot that were written off the budget.
    pub fn spend(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(bytes);
    }

    /// The slot to be written: the one in progress, or the one whose snapshot is the oldest.
    pub fn next_slot(&self) -> Option<u16> {
        self.open.map(|open| open.slot).or_else(|| self.settled.front().map(|&(slot, _)| slot))
    }

    /// Whether a snapshot has begun and not ended.
    pub fn in_progress(&self) -> Option<u16> {
        self.open.map(|open| open.slot)
    }

    /// Begins the snapshot of the slot that [`next_slot`](Self::next_slot) named, before its first record is
    /// appended. `from` is the writer's `next_offset()` at that moment.
    pub fn begin(&mut self, slot: u16, from: LogOffset) {
        assert!(self.open.is_none(), "one slot at a time");
        assert_eq!(self.next_slot(), Some(slot), "the slot with the oldest snapshot comes first");
        assert!(from >= self.replay_from, "the log moves forward only");
        self.open = Some(Open { slot, from });
    }

    /// The last record of the slot in progress was appended, with this commit point.
    pub fn finish(&mut self, point: CommitPoint) {
        let Open { slot, from } = self.open.take().expect("a snapshot was begun");
        let front = self.settled.pop_front().expect("the open slot is the oldest settled one");
        assert_eq!(front.0, slot, "the open slot is the oldest settled one");
        // Until it lands the older snapshot counts: `replay_from` stays where it is.
        self.landing.push_back(Landing { slot, old: front.1, new: from, needs: point });
    }

    /// Everything up to `point` is durable. Returns the new `replay_from` when it has moved.
    pub fn landed(&mut self, point: CommitPoint) -> Option<LogOffset> {
        while let Some(front) = self.landing.front()
            && front.needs <= point
        {
            self.settled.push_back((front.slot, front.new));
            self.landing.pop_front();
        }
        let oldest = match (self.landing.front(), self.settled.front()) {
            (Some(landing), _) => landing.old,
            (None, Some(&(_, from))) => from,
            (None, None) => unreachable!("every slot is in one of the two"),
        };
        assert!(oldest >= self.replay_from, "positions only grow");
        let moved = oldest > self.replay_from;
        self.replay_from = oldest;
        moved.then_some(oldest)
    }

    /// Where a replay must begin, as far as is durable now.
    pub fn replay_from(&self) -> LogOffset {
        self.replay_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_begins_at_the_oldest_slots_snapshot() {
        let mut checkpoint = Checkpoint::new([(4, LogOffset(100)), (9, LogOffset(100))]);
        assert_eq!(checkpoint.next_slot(), Some(4));
        checkpoint.begin(4, LogOffset(500));
        checkpoint.finish(CommitPoint(1));
        assert_eq!(checkpoint.landed(CommitPoint(1)), None, "slot 9 is still at 100");
        checkpoint.begin(9, LogOffset(700));
        checkpoint.finish(CommitPoint(2));
        assert_eq!(checkpoint.landed(CommitPoint(2)), Some(LogOffset(500)));
        assert_eq!(checkpoint.next_slot(), Some(4));
    }

    #[test]
    fn a_snapshot_that_has_not_landed_moves_nothing() {
        let mut checkpoint = Checkpoint::new([(1, LogOffset(100))]);
        checkpoint.begin(1, LogOffset(200));
        assert_eq!(checkpoint.landed(CommitPoint(7)), None);
        checkpoint.finish(CommitPoint(8));
        assert_eq!(checkpoint.landed(CommitPoint(7)), None);
        assert_eq!(checkpoint.replay_from(), LogOffset(100));
        assert_eq!(checkpoint.landed(CommitPoint(8)), Some(LogOffset(200)));
    }

    #[test]
    fn replay_begins_later_even_while_another_snapshot_is_landing() {
        let mut checkpoint = Checkpoint::new([(1, LogOffset(100)), (2, LogOffset(150)), (3, LogOffset(180))]);
        checkpoint.begin(1, LogOffset(200));
        checkpoint.finish(CommitPoint(1));
        checkpoint.begin(2, LogOffset(220));
        checkpoint.finish(CommitPoint(2));
        assert_eq!(checkpoint.landed(CommitPoint(1)), Some(LogOffset(150)));
        assert_eq!(checkpoint.landed(CommitPoint(2)), Some(LogOffset(180)));
    }

    #[test]
    fn snapshots_are_paced_by_the_log() {
        let mut checkpoint = Checkpoint::new([(1, LogOffset(100))]);
        assert_eq!(checkpoint.budget(0), 0);
        assert_eq!(checkpoint.budget(1000), 1000);
        checkpoint.spend(600);
        assert_eq!(checkpoint.budget(0), 400);
        assert_eq!(checkpoint.budget(1 << 30), TURN_BYTES_MAX);
        checkpoint.spend(CREDIT_MAX);
        assert_eq!(checkpoint.budget(0), 0);
    }
}
