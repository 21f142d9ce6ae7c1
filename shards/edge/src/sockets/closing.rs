//! The end of a connection, from the shard's `Close` or the peer's end to the free slot.

use std::os::fd::{AsFd, OwnedFd};

use shard::Door;

use super::{Expiry, Flags, NO_SEND, Sockets, Stage};
use crate::ring::token::{Op, Token};
use crate::ring::{Completion, Ring};
use crate::sys;

impl Sockets {
    /// The shard has closed the door and forgotten it.
    pub(crate) fn close(&mut self, ring: &mut Ring<'_>, door: Door) {
        if !self.is_open(door) {
            return;
        }
        let state = &mut self.doors[door.index as usize];
        state.stage = Stage::Closing;
        // The peer's end is of interest again, whatever the shard thought of its bytes.
        state.flags.clear(Flags::PAUSED);
        if state.send != NO_SEND {
            self.expect_end(door, Stage::Closing);
        }
        self.settle(ring, door.index);
    }

    /// Ends every connection that is left; the shard is done.
    pub(crate) fn close_all(&mut self, ring: &mut Ring<'_>) {
        for index in 0..self.doors.len() as u32 {
            let door = self.door(index);
            self.close(ring, door);
        }
    }

    /// The close of a door, or the one linked behind its departure, has completed.
    pub(crate) fn close_completed(&mut self, op: Op, completion: &Completion) {
        let index = completion.token.index();
        // A departure that failed takes its linked close with it.
        if op == Op::CloseLinked && completion.result == -libc::ECANCELED {
            return;
        }
        assert_eq!(completion.result, 0, "only a slot that is in use is closed");
        self.free_slot(index);
    }

    /// The ordinary descriptor for ending our half is there, or is not to be had.
    pub(crate) fn half_completed(&mut self, ring: &mut Ring<'_>, completion: &Completion) {
        let door = completion.token.door();
        let state = &mut self.doors[door.index as usize];
        assert_eq!(state.stage, Stage::Halving, "nothing else is done to a door meanwhile");
        let ended = completion.result >= 0 && {
            let fd: OwnedFd = sys::own(completion.result);
            sys::shut_down_writing(fd.as_fd()).is_ok()
        };
        if ended {
            state.stage = Stage::Lingering;
            state.flags.set(Flags::AGAIN);
            self.expect_end(door, Stage::Lingering);
        } else {
            state.stage = Stage::Ending;
        }
        self.settle(ring, door.index);
    }

    /// The last send has ended: our half next, or all of it.
    pub(super) fn end_gently(&mut self, ring: &mut Ring<'_>, index: u32) {
        let most = (self.manners.table / 16).max(1);
        let state = &mut self.doors[index as usize];
        let gently = state.stage == Stage::Closing && !state.flags.has(Flags::END) && self.lingering < most;
        if gently {
            state.stage = Stage::Halving;
            state.flags.set(Flags::LINGERS);
            self.lingering += 1;
            ring.install(self.door(index));
        } else {
            self.end(ring, index);
        }
    }

    /// Closes the slot once nothing reads from it.
    pub(super) fn end(&mut self, ring: &mut Ring<'_>, index: u32) {
        self.doors[index as usize].stage = Stage::Ending;
        if self.stop_reading(ring, index) {
            self.doors[index as usize].stage = Stage::Closed;
            ring.close(self.door(index));
        }
    }

    /// Notes that this stage must have ended after `linger_ms`.
    pub(super) fn expect_end(&mut self, door: Door, stage: Stage) {
        // Every expiry is equally far away, so they are in order.
        let at_ms = self.now_ms + u64::from(self.manners.linger_ms);
        self.expiries.push_back(Expiry { at_ms, door, stage });
    }

    pub(super) fn expire(&mut self, ring: &mut Ring<'_>) {
        while let Some(expiry) = self.expiries.front().copied()
            && expiry.at_ms <= self.now_ms
        {
            self.expiries.pop_front();
            if self.state(expiry.door).is_some_and(|state| state.stage == expiry.stage) {
                self.overdue(ring, expiry);
            }
        }
    }

    fn overdue(&mut self, ring: &mut Ring<'_>, expiry: Expiry) {
        let index = expiry.door.index;
        if expiry.stage == Stage::Lingering {
            self.end(ring, index);
            return;
        }
        if self.doors[index as usize].send == NO_SEND {
            return;
        }
        // A slow reader that still reads may have the rest; one that does not is cut off.
        let moving = self.now_ms - self.send_progress_ms(index) < u64::from(self.manners.linger_ms);
        if moving {
            self.expect_end(expiry.door, expiry.stage);
        } else {
            let flags = &mut self.doors[index as usize].flags;
            if !flags.has(Flags::SEND_ENDING) {
                flags.set(Flags::SEND_ENDING);
                ring.cancel(Token::of(Op::Send, expiry.door));
            }
        }
    }
}
