//! Receiving in two tiers: a poll while a door is idle, a multishot receive while it is busy.
//!
//! A multishot receive pins 862 bytes of kernel memory, a poll 256. So an idle door has only a poll; when it fires, single receives read what is there. A
//! door that receives often gets a multishot receive, and loses it after a silent while. A fresh door has one waiting receive and nothing else: then it
//! can be sent to another ring at once, because nothing of it is pending.

use shard::Door;

use super::{BUSY_RECEIVES, BUSY_WINDOW_MS, Flags, NO_SEND, Sockets, Stage};
use crate::metrics::Counters;
use crate::ring::token::{Op, Token};
use crate::ring::{Completion, Ring};

/// What a receive's completion means for the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// So many bytes are in the buffer, for the shard.
    Deliver(Door, usize),
    /// So many bytes are in the buffer, for whoever gets the door.
    TakeAlong(Door, usize),
    /// The peer is gone.
    Gone(Door),
    /// Nothing.
    Nothing,
}

impl Sockets {
    /// A poll or a receive of a current door has completed. `settle` follows once the shard has had its say.
    pub(crate) fn read_completed(
        &mut self,
        op: Op,
        completion: &Completion,
        counters: &mut Counters,
    ) -> Read {
        let door = completion.token.door();
        let state = &mut self.doors[door.index as usize];
        if !completion.more() {
            match op {
                Op::Poll => {
                    state.flags.clear(Flags::POLL);
                    state.flags.clear(Flags::POLL_ENDING);
                }
                Op::Receive => {
                    state.flags.clear(Flags::RECEIVE);
                    state.flags.clear(Flags::RECEIVE_ENDING);
                }
                _ => {
                    state.flags.clear(Flags::MANY);
                    state.flags.clear(Flags::MANY_ENDING);
                }
            }
        }
        match completion.result {
            _ if op == Op::Poll => {
                state.flags.set(Flags::AGAIN);
                Read::Nothing
            }
            0 => self.peer_ended(door),
            size if size > 0 => self.received(op, completion, size as usize, counters),
            error => self.receive_failed(op, door, -error, counters),
        }
    }

    /// Doors that waited for a buffer try again: at most `most`, so that those who find none again do not cost more than there are buffers.
    pub(crate) fn unpark(&mut self, ring: &mut Ring<'_>, most: u16) {
        for _ in 0..most {
            let Some(door) = self.parked.pop_front() else { return };
            if self.state(door).is_some_and(|state| state.flags.has(Flags::PARKED)) {
                let state = &mut self.doors[door.index as usize];
                state.flags.clear(Flags::PARKED);
                state.flags.set(Flags::AGAIN);
                self.settle(ring, door.index);
            }
        }
    }

    /// Arms what the door's tier wants and ends what it does not want.
    pub(super) fn keep_reading(&mut self, ring: &mut Ring<'_>, index: u32) {
        let door = self.door(index);
        let flags = &mut self.doors[index as usize].flags;
        if flags.has(Flags::PAUSED) {
            if flags.has(Flags::MANY) {
                flags.set(Flags::AGAIN);
                end_once(ring, flags, Flags::MANY_ENDING, Token::of(Op::ReceiveMany, door));
            }
        } else if flags.has(Flags::PARKED) {
            // A buffer comes first.
        } else if flags.has(Flags::FRESH) {
            if !flags.has(Flags::RECEIVE) {
                flags.set(Flags::RECEIVE);
                ring.receive(door, true);
            }
        } else if flags.has(Flags::BUSY) {
            if flags.has(Flags::POLL) {
                end_once(ring, flags, Flags::POLL_ENDING, Token::of(Op::Poll, door));
            }
            // One at a time: two receives of one socket could take its bytes in either order.
            if !flags.has(Flags::MANY) && !flags.has(Flags::RECEIVE) {
                flags.set(Flags::MANY);
                flags.clear(Flags::AGAIN);
                ring.receive_many(door);
            }
        } else if flags.has(Flags::MANY) {
            end_once(ring, flags, Flags::MANY_ENDING, Token::of(Op::ReceiveMany, door));
        } else {
            if flags.has(Flags::AGAIN) && !flags.has(Flags::RECEIVE) {
                flags.clear(Flags::AGAIN);
                flags.set(Flags::RECEIVE);
                ring.receive(door, false);
            }
            if !flags.has(Flags::POLL) {
                flags.set(Flags::POLL);
                ring.poll(door);
            }
        }
    }

    /// Ends all that reads; `true` once nothing does.
    pub(super) fn stop_reading(&mut self, ring: &mut Ring<'_>, index: u32) -> bool {
        let door = self.door(index);
        let flags = &mut self.doors[index as usize].flags;
        flags.clear(Flags::PARKED);
        for (armed, ending, op) in [
            (Flags::POLL, Flags::POLL_ENDING, Op::Poll),
            (Flags::RECEIVE, Flags::RECEIVE_ENDING, Op::Receive),
            (Flags::MANY, Flags::MANY_ENDING, Op::ReceiveMany),
        ] {
            if flags.has(armed) {
                end_once(ring, flags, ending, Token::of(op, door));
            }
        }
        ![Flags::POLL, Flags::RECEIVE, Flags::MANY].into_iter().any(|armed| flags.has(armed))
    }

    /// A part of the table is looked at in each tick, so that all of it is within a third of the idle time.
    pub(super) fn demote_silent(&mut self, ring: &mut Ring<'_>, counters: &mut Counters) {
        let count = self.doors.len() as u32;
        let ticks = (self.manners.demote_ms / 300).max(1);
        for _ in 0..count.div_ceil(ticks) {
            self.sweep = if self.sweep + 1 < count { self.sweep + 1 } else { 0 };
            let state = &mut self.doors[self.sweep as usize];
            let silent_ms = (self.now_ms as u32).wrapping_sub(state.at_ms);
            if state.stage == Stage::Open
                && state.flags.has(Flags::BUSY)
                && silent_ms > self.manners.demote_ms
            {
                state.flags.clear(Flags::BUSY);
                state.count = 0;
                counters.demotions += 1;
                self.settle(ring, self.sweep);
            }
        }
    }

    fn peer_ended(&mut self, door: Door) -> Read {
        let state = &mut self.doors[door.index as usize];
        state.flags.set(Flags::END);
        if state.stage != Stage::Open {
            return Read::Nothing;
        }
        state.stage = Stage::Gone;
        if state.send != NO_SEND {
            self.expect_end(door, Stage::Gone);
        }
        Read::Gone(door)
    }

    fn received(&mut self, op: Op, completion: &Completion, size: usize, counters: &mut Counters) -> Read {
        counters.receives += 1;
        counters.receive_bytes += size as u64;
        let door = completion.token.door();
        self.note_receive(door.index, counters);
        let state = &mut self.doors[door.index as usize];
        if op == Op::Receive && completion.has_rest() {
            state.flags.set(Flags::AGAIN);
        }
        if op == Op::ReceiveMany && !completion.more() {
            counters.receive_rearms += 1;
        }
        match state.stage {
            Stage::Open => Read::Deliver(door, size),
            Stage::Leaving => Read::TakeAlong(door, size),
            Stage::Lingering => {
                state.drained = state.drained.saturating_add(size as u32);
                if state.drained > super::DRAIN_MAX {
                    state.flags.set(Flags::END);
                }
                Read::Nothing
            }
            _ => Read::Nothing,
        }
    }

    fn receive_failed(&mut self, op: Op, door: Door, error: i32, counters: &mut Counters) -> Read {
        let state = &mut self.doors[door.index as usize];
        match error {
            libc::ENOBUFS => {
                counters.enobufs += 1;
                if !state.flags.has(Flags::PARKED) {
                    state.flags.set(Flags::PARKED);
                    self.parked.push_back(door);
                }
                Read::Nothing
            }
            // Nothing was there after all; the poll will tell.
            libc::EAGAIN => Read::Nothing,
            libc::ECANCELED => Read::Nothing,
            libc::EINTR => {
                state.flags.set(Flags::AGAIN);
                Read::Nothing
            }
            _ => {
                assert!(op != Op::Poll, "a poll does not fail this way");
                self.peer_ended(door)
            }
        }
    }

    fn note_receive(&mut self, index: u32, counters: &mut Counters) {
        let now = self.now_ms as u32;
        let state = &mut self.doors[index as usize];
        state.flags.clear(Flags::FRESH);
        if state.flags.has(Flags::BUSY) {
            state.at_ms = now;
            return;
        }
        if now.wrapping_sub(state.at_ms) > BUSY_WINDOW_MS {
            state.at_ms = now;
            state.count = 0;
        }
        state.count += 1;
        if state.count >= BUSY_RECEIVES {
            state.flags.set(Flags::BUSY);
            state.at_ms = now;
            counters.promotions += 1;
        }
    }
}

fn end_once(ring: &mut Ring<'_>, flags: &mut Flags, ending: Flags, token: Token) {
    if !flags.has(ending) {
        flags.set(ending);
        ring.cancel(token);
    }
}
