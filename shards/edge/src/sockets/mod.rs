//! The doors of one shard: every connection's state between the shard and the ring.
//!
//! ```text
//!            accept, arrive, adopt
//!   Free ───────────────────────────► Open ──► Leaving ──► Departing ──► Free      (another ring, or the control plane)
//!                                     │  └──► Gone                         ▲
//!                                     ▼        │ last send ended           │
//!                                  Closing     └────────► Ending ► Closed ─┘
//!                                     │ last send ended     ▲
//!                                     └► Halving ► Lingering┘
//! ```
//! An event changes flags; [`Sockets::settle`] then does what the stage and the flags ask for. So it never matters in which order completions come.
//!
//! **Closing gently.** A socket that is closed while the peer still sends, or with unread bytes in it, is reset, and a reset may overtake a close frame
//! that we sent just before. So a door is closed in three steps: the last send ends; our half is ended, for which the door becomes an ordinary
//! descriptor for a moment (`shutdown` by the ring would go to a kernel thread); what still comes is thrown away until the peer ends its half too, for at
//! most `linger_ms` and [`DRAIN_MAX`] bytes. At most a sixteenth of the table lingers; beyond it, and when the peer ended first, the close is plain.

mod closing;
mod leaving;
mod reads;
mod sends;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use shard::Door;

use crate::metrics::Counters;
use crate::ring::Ring;
use leaving::{Departing, Leaving};
use sends::Sends;

pub(crate) use reads::Read;
pub(crate) use sends::SendEnd;

/// Bytes thrown away of a peer that goes on sending after we closed.
pub(crate) const DRAIN_MAX: u32 = 256 << 10;
/// A door that receives so often within a second is busy.
const BUSY_RECEIVES: u8 = 4;
const BUSY_WINDOW_MS: u32 = 1_000;

/// Where a door is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Stage {
    /// Nobody is there.
    Free,
    /// The shard knows it.
    Open,
    /// The peer is gone and the shard knows; the last send has not ended.
    Gone,
    /// The shard closed it; the last send has not ended.
    Closing,
    /// Becomes an ordinary descriptor for a moment, so that our half can be ended.
    Halving,
    /// Our half is ended; the peer's is not.
    Lingering,
    /// Goes elsewhere as soon as no receive is pending.
    Leaving,
    /// On its way; the linked close has not ended.
    Departing,
    /// To be closed as soon as no receive is pending.
    Ending,
    /// The close has not ended.
    Closed,
}

/// What is submitted for a door, and what is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Flags(u16);

impl Flags {
    /// A multishot poll is in the ring.
    const POLL: Flags = Flags(1);
    /// … and is being cancelled.
    const POLL_ENDING: Flags = Flags(1 << 1);
    /// A single receive is in the ring.
    const RECEIVE: Flags = Flags(1 << 2);
    /// … and is being cancelled.
    const RECEIVE_ENDING: Flags = Flags(1 << 3);
    /// A multishot receive is in the ring.
    const MANY: Flags = Flags(1 << 4);
    /// … and is being cancelled.
    const MANY_ENDING: Flags = Flags(1 << 5);
    /// There may be something to read that no operation in the ring will tell of.
    const AGAIN: Flags = Flags(1 << 6);
    /// The shard wants no more for now.
    const PAUSED: Flags = Flags(1 << 7);
    /// Waits for a receive buffer.
    const PARKED: Flags = Flags(1 << 8);
    /// Receives by multishot receive.
    const BUSY: Flags = Flags(1 << 9);
    /// Nothing was received yet.
    const FRESH: Flags = Flags(1 << 10);
    /// The peer ended its half, or the socket failed.
    const END: Flags = Flags(1 << 11);
    /// The send in the ring is being cancelled.
    const SEND_ENDING: Flags = Flags(1 << 12);
    /// Counted among those that linger.
    const LINGERS: Flags = Flags(1 << 13);

    fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }
    fn set(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }
    fn clear(&mut self, flag: Flags) {
        self.0 &= !flag.0;
    }
}

/// One slot of the descriptor table. 20 bytes; nothing else is kept of an idle connection.
#[derive(Clone, Copy, Debug)]
struct DoorState {
    generation: u32,
    /// Milliseconds, truncated: begin of the window in which receives are counted; when busy, the last receive.
    at_ms: u32,
    /// Place of the send in flight.
    send: u32,
    /// Bytes thrown away while lingering.
    drained: u32,
    flags: Flags,
    stage: Stage,
    /// Receives in the window.
    count: u8,
}

const NO_SEND: u32 = u32::MAX;

impl DoorState {
    const NEW: DoorState = DoorState {
        generation: 1,
        at_ms: 0,
        send: NO_SEND,
        drained: 0,
        flags: Flags(0),
        stage: Stage::Free,
        count: 0,
    };
}

/// What must have happened by a certain time.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    at_ms: u64,
    door: Door,
    stage: Stage,
}

/// How doors behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) table: u32,
    pub(crate) demote_ms: u32,
    pub(crate) linger_ms: u32,
}

/// All doors of a shard.
pub(crate) struct Sockets {
    manners: Manners,
    /// The rings of all shards.
    rings: Arc<[OwnedFd]>,
    /// Grows to the highest index ever used; at most the table.
    doors: Vec<DoorState>,
    open: u32,
    lingering: u32,
    sends: Sends,
    leaving: Vec<(Door, Leaving)>,
    departing: Vec<(Door, Departing)>,
    parked: VecDeque<Door>,
    expiries: VecDeque<Expiry>,
    sweep: u32,
    now_ms: u64,
}

impl Sockets {
    pub(crate) fn new(manners: Manners, rings: Arc<[OwnedFd]>) -> Sockets {
        Sockets {
            manners,
            rings,
            doors: Vec::new(),
            open: 0,
            lingering: 0,
            sends: Sends::default(),
            leaving: Vec::new(),
            departing: Vec::new(),
            parked: VecDeque::new(),
            expiries: VecDeque::new(),
            sweep: 0,
            now_ms: 0,
        }
    }

    /// Slots in use, closing ones included.
    pub(crate) fn in_use(&self) -> u32 {
        self.open
    }

    /// Slots that are free.
    pub(crate) fn free(&self) -> u32 {
        self.manners.table - self.open
    }

    /// Doors whose peer has not ended its half yet, though we ended ours.
    pub(crate) fn lingering(&self) -> u32 {
        self.lingering
    }

    /// Whether doors wait for a receive buffer.
    pub(crate) fn any_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Sets the time of this turn.
    pub(crate) fn set_now(&mut self, mono_ms: u64) {
        self.now_ms = mono_ms;
    }

    /// A connection has got slot `index` of the table.
    pub(crate) fn open(&mut self, index: u32) -> Door {
        assert!(index < self.manners.table, "the kernel stays in the table that it was given");
        if index as usize >= self.doors.len() {
            self.doors.resize(index as usize + 1, DoorState::NEW);
        }
        // The slot can be taken again before the completion of its close was seen; that completion is a stale one then.
        if matches!(self.doors[index as usize].stage, Stage::Closed | Stage::Departing) {
            self.free_slot(index);
        }
        let state = &mut self.doors[index as usize];
        assert_eq!(state.stage, Stage::Free, "a slot is given out once");
        state.stage = Stage::Open;
        state.flags = Flags::FRESH;
        self.open += 1;
        Door { index, generation: state.generation }
    }

    /// Whether the shard knows this door and may use it.
    pub(crate) fn is_open(&self, door: Door) -> bool {
        self.state(door).is_some_and(|state| state.stage == Stage::Open)
    }

    /// Whether a completion is of this use of its slot.
    pub(crate) fn is_current(&self, door: Door) -> bool {
        self.state(door).is_some()
    }

    /// Deliver nothing more for now.
    pub(crate) fn pause(&mut self, ring: &mut Ring<'_>, door: Door) {
        if self.is_open(door) {
            self.doors[door.index as usize].flags.set(Flags::PAUSED);
            self.settle(ring, door.index);
        }
    }

    /// Deliver again.
    pub(crate) fn resume(&mut self, ring: &mut Ring<'_>, door: Door) {
        if self.is_open(door) {
            self.doors[door.index as usize].flags.clear(Flags::PAUSED);
            self.settle(ring, door.index);
        }
    }

    /// Does what stage and flags ask for.
    pub(crate) fn settle(&mut self, ring: &mut Ring<'_>, index: u32) {
        let state = self.doors[index as usize];
        match state.stage {
            Stage::Free | Stage::Departing | Stage::Halving | Stage::Closed => {}
            Stage::Open => self.keep_reading(ring, index),
            Stage::Leaving => {
                if self.stop_reading(ring, index) {
                    self.depart(ring, index);
                }
            }
            Stage::Gone | Stage::Closing => {
                if state.send == NO_SEND {
                    self.end_gently(ring, index);
                }
            }
            Stage::Lingering => {
                if state.flags.has(Flags::END) {
                    self.end(ring, index);
                } else {
                    self.keep_reading(ring, index);
                }
            }
            Stage::Ending => self.end(ring, index),
        }
    }

    /// Time has passed: what should have ended by now is ended, and busy doors that were silent for long go back to a poll.
    pub(crate) fn tick(&mut self, ring: &mut Ring<'_>, counters: &mut Counters) {
        self.expire(ring);
        self.demote_silent(ring, counters);
    }

    fn state(&self, door: Door) -> Option<&DoorState> {
        let state = self.doors.get(door.index as usize)?;
        (state.generation == door.generation && state.stage != Stage::Free).then_some(state)
    }

    fn door(&self, index: u32) -> Door {
        Door { index, generation: self.doors[index as usize].generation }
    }

    fn free_slot(&mut self, index: u32) {
        let state = &mut self.doors[index as usize];
        assert_ne!(state.stage, Stage::Free, "a slot is freed once");
        assert_eq!(state.send, NO_SEND, "what was lent to the kernel came back before the slot was closed");
        if state.flags.has(Flags::LINGERS) {
            self.lingering -= 1;
        }
        let generation = state.generation.checked_add(1).unwrap_or(1);
        *state = DoorState { generation, ..DoorState::NEW };
        self.open -= 1;
    }
}
