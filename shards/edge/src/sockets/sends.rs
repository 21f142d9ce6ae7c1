//! Sending: one send in flight for each door; its buffer stays here until the completion.

use shard::Door;

use super::{Flags, NO_SEND, Sockets, Stage};
use crate::metrics::Counters;
use crate::ring::{Completion, Ring};

/// A buffer that the kernel reads.
struct Sending {
    buf: Vec<u8>,
    /// What went out already.
    done: usize,
    /// When some of it went out last, in milliseconds.
    progress_ms: u64,
    /// Said by the edge itself: nobody waits for the buffer.
    own: bool,
}

/// All sends in flight, by place.
#[derive(Default)]
pub(super) struct Sends {
    places: Vec<Option<Sending>>,
    free: Vec<u32>,
}

impl Sends {
    fn insert(&mut self, sending: Sending) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(sending);
            return place;
        }
        self.places.push(Some(sending));
        (self.places.len() - 1) as u32
    }

    fn at(&mut self, place: u32) -> &mut Sending {
        self.places[place as usize].as_mut().expect("a door names the place of its send")
    }

    fn remove(&mut self, place: u32) -> Sending {
        self.free.push(place);
        self.places[place as usize].take().expect("a send ends once")
    }
}

/// What a send's completion means for the shard.
#[derive(Debug)]
pub(crate) enum SendEnd {
    /// A part went out; the rest is submitted.
    Some(Door),
    /// It ended; the buffer goes back. `gone`: the socket failed, and the shard did not know yet.
    Done { door: Door, buf: Vec<u8>, whole: bool, gone: bool },
    /// It was the edge's own.
    Nothing,
}

impl Sockets {
    /// Sends all of `buf`. The door is open.
    pub(crate) fn send(&mut self, ring: &mut Ring<'_>, door: Door, buf: Vec<u8>, counters: &mut Counters) {
        assert!(self.is_open(door), "whoever sends has looked");
        self.submit(ring, door, buf, false, counters);
    }

    /// The edge's own last word on a door; nobody hears of its end.
    pub(super) fn send_own(&mut self, ring: &mut Ring<'_>, door: Door, text: &[u8]) {
        self.submit(ring, door, text.to_vec(), true, &mut Counters::default());
    }

    fn submit(&mut self, ring: &mut Ring<'_>, door: Door, buf: Vec<u8>, own: bool, counters: &mut Counters) {
        assert!(!buf.is_empty(), "nothing cannot be sent");
        assert_eq!(self.doors[door.index as usize].send, NO_SEND, "one send is in flight for each door");
        counters.sends += 1;
        let place = self.sends.insert(Sending { buf, done: 0, progress_ms: self.now_ms, own });
        self.doors[door.index as usize].send = place;
        self.submit_rest(ring, door);
    }

    fn submit_rest(&mut self, ring: &mut Ring<'_>, door: Door) {
        let sending = self.sends.at(self.doors[door.index as usize].send);
        // SAFETY: the buffer stays in its place, unchanged, until `send_completed` takes it out; and if the loop ends before, all of it is leaked.
        unsafe { ring.send(door, &sending.buf[sending.done..]) };
    }

    /// When the send in flight made progress last.
    pub(super) fn send_progress_ms(&mut self, index: u32) -> u64 {
        let place = self.doors[index as usize].send;
        self.sends.at(place).progress_ms
    }

    /// A send of a current door has completed. `settle` follows once the shard has had its say.
    pub(crate) fn send_completed(
        &mut self,
        ring: &mut Ring<'_>,
        completion: &Completion,
        counters: &mut Counters,
    ) -> SendEnd {
        let door = completion.token.door();
        let now_ms = self.now_ms;
        let state = &mut self.doors[door.index as usize];
        let sending = self.sends.at(state.send);
        if completion.result > 0 {
            sending.done += completion.result as usize;
            sending.progress_ms = now_ms;
            counters.send_bytes += completion.result as u64;
            if sending.done < sending.buf.len() && !state.flags.has(Flags::SEND_ENDING) {
                counters.short_sends += 1;
                let own = sending.own;
                self.submit_rest(ring, door);
                return if own { SendEnd::Nothing } else { SendEnd::Some(door) };
            }
        }
        let sending = self.sends.remove(state.send);
        state.send = NO_SEND;
        state.flags.clear(Flags::SEND_ENDING);
        let whole = sending.done == sending.buf.len();
        let mut gone = false;
        if !whole {
            state.flags.set(Flags::END);
            gone = state.stage == Stage::Open;
            if gone {
                state.stage = Stage::Gone;
            }
        }
        if sending.own {
            return SendEnd::Nothing;
        }
        SendEnd::Done { door, buf: sending.buf, whole, gone }
    }
}
