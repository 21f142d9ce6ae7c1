//! Giving a connection away: to another ring, or to the control plane as an ordinary descriptor.
//!
//! A receive that is pending would go on and compete for the bytes, so all reading ends first; what arrives until then goes along.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use shard::{Door, Moved};

use super::{Flags, NO_SEND, Sockets, Stage};
use crate::metrics::Counters;
use crate::ring::{Completion, Ring, SentAlong};
use crate::sys;

/// Said to a client whose request the control plane has no place for.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Where a door goes, while reading still ends.
pub(super) enum Leaving {
    /// To another ring.
    Move { to: u16, moved: Box<Moved> },
    /// To the control plane.
    HandOver { peer: SocketAddr, bytes: Vec<u8> },
}

/// What is known of a door that is on its way.
pub(super) enum Departing {
    Move(SentAlong),
    HandOver { peer: SocketAddr, bytes: Vec<u8> },
}

/// A connection for the control plane.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) stream: OwnedFd,
    pub(crate) peer: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Sockets {
    /// Gives the door to the ring of shard `to`.
    pub(crate) fn give_to(&mut self, ring: &mut Ring<'_>, door: Door, to: u16, moved: Box<Moved>) {
        self.leave(ring, door, Leaving::Move { to, moved });
    }

    /// Gives the door to the control plane.
    pub(crate) fn hand_over(&mut self, ring: &mut Ring<'_>, door: Door, peer: SocketAddr, bytes: Vec<u8>) {
        self.leave(ring, door, Leaving::HandOver { peer, bytes });
    }

    /// The control plane has no place for it: 503, and the end.
    pub(crate) fn refuse(&mut self, ring: &mut Ring<'_>, door: Door) {
        self.send_own(ring, door, BUSY);
        let state = &mut self.doors[door.index as usize];
        state.stage = Stage::Closing;
        state.flags.clear(Flags::PAUSED);
        self.expect_end(door, Stage::Closing);
        self.settle(ring, door.index);
    }

    /// Bytes that arrived while a door was leaving.
    pub(crate) fn take_along(&mut self, door: Door, received: &[u8]) {
        let (_, leaving) =
            self.leaving.iter_mut().find(|(other, _)| *other == door).expect("a leaving door is on the list");
        match leaving {
            Leaving::Move { moved, .. } => moved.bytes.extend_from_slice(received),
            Leaving::HandOver { bytes, .. } => bytes.extend_from_slice(received),
        }
    }

    fn leave(&mut self, ring: &mut Ring<'_>, door: Door, leaving: Leaving) {
        assert!(self.is_open(door), "whoever gives a door away has looked");
        let state = &mut self.doors[door.index as usize];
        assert_eq!(state.send, NO_SEND, "nothing was answered on a door that is given away");
        state.stage = Stage::Leaving;
        self.leaving.push((door, leaving));
        self.settle(ring, door.index);
    }

    /// Nothing reads any more: off it goes.
    pub(super) fn depart(&mut self, ring: &mut Ring<'_>, index: u32) {
        let door = self.door(index);
        let place = self.leaving.iter().position(|(other, _)| *other == door);
        let (_, leaving) = self.leaving.swap_remove(place.expect("a leaving door is on the list"));
        self.doors[index as usize].stage = Stage::Departing;
        let departing = match leaving {
            Leaving::Move { to, moved } => {
                let to = self.rings[usize::from(to)].as_fd();
                Departing::Move(ring.send_door(to, door, moved))
            }
            Leaving::HandOver { peer, bytes } => {
                ring.install_and_close(door);
                Departing::HandOver { peer, bytes }
            }
        };
        self.departing.push((door, departing));
    }

    fn departed(&mut self, door: Door) -> Departing {
        let place = self.departing.iter().position(|(other, _)| *other == door);
        self.departing.swap_remove(place.expect("a departing door is on the list")).1
    }

    /// A move has completed, of a door that may be a stale one already. `Some`: it failed, and the connection is here as before.
    pub(crate) fn move_completed(
        &mut self,
        completion: &Completion,
        counters: &mut Counters,
    ) -> Option<(Door, Box<Moved>)> {
        let door = completion.token.door();
        let Departing::Move(along) = self.departed(door) else {
            panic!("a move was submitted for this door")
        };
        if completion.result >= 0 {
            counters.moves += 1;
            return None;
        }
        counters.move_failures += 1;
        // SAFETY: the completion has an error, so the other ring never saw the address.
        let moved = unsafe { along.take_back() };
        self.reopen(door);
        Some((door, moved))
    }

    /// A hand-over has completed, of a door that may be a stale one already. `None`: there was no descriptor, and the client is told to come back.
    pub(crate) fn install_completed(
        &mut self,
        ring: &mut Ring<'_>,
        completion: &Completion,
    ) -> Option<HandedOver> {
        let door = completion.token.door();
        let Departing::HandOver { peer, bytes } = self.departed(door) else {
            panic!("a hand-over was submitted for this door")
        };
        if completion.result >= 0 {
            return Some(HandedOver { stream: sys::own(completion.result), peer, bytes });
        }
        self.reopen(door);
        self.refuse(ring, door);
        None
    }

    fn reopen(&mut self, door: Door) {
        let state = &mut self.doors[door.index as usize];
        assert_eq!(state.stage, Stage::Departing, "a door that could not go is still there");
        state.stage = Stage::Open;
        state.flags = Flags::FRESH;
    }
}
