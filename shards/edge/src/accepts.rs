//! New connections: single-shot accepts that each know their peer, and descriptors that the control plane gives back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mail::Order;
use shard::Moved;

use crate::address;
use crate::metrics::Counters;
use crate::ring::{Completion, Ring, Target};

/// The first pause after an accept failed; it doubles up to the longest.
const PAUSE_MS: u64 = 10;
const PAUSE_MAX_MS: u64 = 1_000;

/// The accepts of one listener.
pub(crate) struct Accepts {
    /// `None` once it is closed.
    listener: Option<OwnedFd>,
    /// Where peers' addresses are written. Never moved or resized: armed ones are lent to the kernel.
    targets: Box<[Target]>,
    idle: Vec<u32>,
    /// Slots that are kept for connections from elsewhere.
    reserve: u32,
    pause_ms: u64,
    paused_until_ms: u64,
    stopping: bool,
}

/// What an accept's completion means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accept {
    /// A connection has got this slot.
    Connection(u32, SocketAddr),
    /// None.
    Nothing,
}

impl Accepts {
    /// `count` accepts on `listener` for a table of `table` slots.
    pub(crate) fn new(listener: OwnedFd, count: u16, table: u32) -> Accepts {
        let target = || Target { address: address::empty(), size: 0 };
        Accepts {
            listener: Some(listener),
            targets: (0..count).map(|_| target()).collect(),
            idle: (0..u32::from(count)).collect(),
            reserve: (table / 16).clamp(1, 256),
            pause_ms: PAUSE_MS,
            paused_until_ms: 0,
            stopping: false,
        }
    }

    pub(crate) fn armed(&self) -> u32 {
        (self.targets.len() - self.idle.len()) as u32
    }

    /// Arms as many accepts as there are slots for. A full table would accept a client and then drop it, so armed accepts never exceed free slots.
    pub(crate) fn arm(&mut self, ring: &mut Ring<'_>, free_slots: u32, now_ms: u64) {
        if self.stopping || now_ms < self.paused_until_ms {
            return;
        }
        let Some(listener) = &self.listener else { return };
        let most = free_slots.saturating_sub(self.reserve);
        while self.targets.len() - self.idle.len() < most as usize {
            let Some(place) = self.idle.pop() else { return };
            let target = &mut self.targets[place as usize];
            target.size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            // SAFETY: the target is in a boxed slice that is never resized, and nobody looks at it before the completion puts it back among the idle.
            unsafe { ring.accept(listener.as_fd(), place, &raw mut *target) };
        }
    }

    /// An accept has completed.
    pub(crate) fn completed(
        &mut self,
        completion: &Completion,
        now_ms: u64,
        counters: &mut Counters,
    ) -> Accept {
        let place = completion.token.index();
        self.idle.push(place);
        if self.stopping && self.armed() == 0 {
            self.listener = None;
        }
        if completion.result >= 0 {
            counters.accepts += 1;
            self.pause_ms = PAUSE_MS;
            // A peer without an address is possible (it was gone at once) and shares its limits with all such.
            let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            let peer = address::decode(&self.targets[place as usize].address).unwrap_or(nobody);
            return Accept::Connection(completion.result as u32, peer);
        }
        match -completion.result {
            // The client gave up before it was accepted, or we end accepts.
            libc::ECONNABORTED | libc::ECANCELED | libc::EINTR => {}
            _ => {
                // Out of descriptors or memory: the host is short of something, and asking again at once does not help.
                counters.accept_errors += 1;
                self.paused_until_ms = now_ms + self.pause_ms;
                self.pause_ms = (self.pause_ms * 2).min(PAUSE_MAX_MS);
            }
        }
        Accept::Nothing
    }

    /// Ends all accepts; the listener is closed after the last of them. (Closing it first would end nothing.)
    pub(crate) fn stop(&mut self, ring: &mut Ring<'_>) {
        self.stopping = true;
        if self.armed() == 0 {
            self.listener = None;
        } else if let Some(listener) = &self.listener {
            ring.cancel_accepts(listener.as_fd());
        }
    }

    /// When to arm again after an error, if that is in the future.
    pub(crate) fn paused_until_ms(&self) -> u64 {
        self.paused_until_ms
    }
}

/// A descriptor on its way into the table.
struct Adoption {
    /// Lent to the kernel: the descriptor before, the slot after.
    number: Box<i32>,
    /// Closed once the table has it.
    stream: OwnedFd,
    moved: Box<Moved>,
}

/// Connections that the control plane gives back.
#[derive(Default)]
pub(crate) struct Adoptions {
    places: Vec<Option<Adoption>>,
}

impl Adoptions {
    /// Starts to take over the connection of an `Order::Adopt`; other orders come back.
    pub(crate) fn begin(&mut self, ring: &mut Ring<'_>, order: Order) -> Option<Order> {
        let Order::Adopt { stream, peer, bytes } = order else { return Some(order) };
        let moved = Box::new(Moved { peer, bytes, from_plane: true });
        let adoption = Adoption { number: Box::new(stream.as_raw_fd()), stream, moved };
        let place = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let adoption = self.places[place].insert(adoption);
        // SAFETY: the number has a box of its own, which stays in its place, untouched, until the completion.
        unsafe { ring.adopt(place as u32, &raw mut *adoption.number) };
        None
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.places.iter().filter(|place| place.is_some()).count()
    }

    /// An adoption has completed: the slot and what it brings, or nothing if the table is full (the connection ends then).
    pub(crate) fn completed(
        &mut self,
        completion: &Completion,
        counters: &mut Counters,
    ) -> Option<(u32, Box<Moved>)> {
        let place = completion.token.index() as usize;
        let Adoption { number, stream, moved } =
            self.places[place].take().expect("an adoption completes once");
        drop(stream);
        if completion.result == 1 {
            counters.adoptions += 1;
            Some((*number as u32, moved))
        } else {
            counters.adoption_failures += 1;
            None
        }
    }
}
