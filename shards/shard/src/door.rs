//! The sockets of a shard: what phase each is in, what it still has to send, and when it was last heard of.

use std::net::SocketAddr;

use desk::id::InboxId;
use desk::pages::Pages;

use crate::input::Door;
use crate::plant;
use crate::pool::Pool;

/// No session.
pub(crate) const NONE: u32 = u32::MAX;

/// Times of a connection are kept in tenths of a second, so that four bytes do for thirteen years.
pub(crate) fn tenths(mono_ms: u64) -> u32 {
    (mono_ms / 100) as u32
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The request head is arriving.
    Head,
    /// Upgraded; `auth` is awaited.
    Hello,
    /// Authenticated.
    Live,
    /// On the echo path.
    Echo,
    /// We sent a close frame, or an HTTP refusal, and wait for the peer to go.
    Closing,
    /// Nothing is awaited any more: close as soon as everything is sent.
    Done,
}

/// Which path it was upgraded on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Visitor,
    Agent,
}

/// How a connection came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// It was accepted here.
    Accepted,
    /// The control plane, which had answered it before, gave it back: it does not go there again.
    FromPlane,
    /// Another shard sent it: it does not go anywhere again.
    FromShard,
}

/// What only young or stalled connections need.
pub(crate) struct Extra {
    pub(crate) peer: SocketAddr,
    /// The visitor's inbox, from the request.
    pub(crate) inbox: Option<InboxId>,
    /// How it came.
    pub(crate) way: Way,
    /// The head so far; later, bytes that wait because the journal or a mailbox is full.
    pub(crate) bytes: Vec<u8>,
}

/// One connection. About a hundred bytes, and no heap while it is idle.
pub(crate) struct Conn {
    /// 0 = the place is free.
    pub(crate) generation: u32,
    pub(crate) session: u32,
    pub(crate) decoder: wire::Decoder,
    /// Frames not yet lent to the kernel.
    pub(crate) out: Vec<u8>,
    /// Bytes lent to the kernel; 0 = no send in flight.
    pub(crate) sending: u32,
    pub(crate) heard_at: u32,
    pub(crate) said_at: u32,
    /// When the phase began; while sending, when it last made progress.
    pub(crate) since: u32,
    pub(crate) phase: Phase,
    pub(crate) side: Side,
    /// It is in the list of those with something to send.
    pub(crate) dirty: bool,
    /// Reading is stopped and it is in the list of those that wait.
    pub(crate) stalled: bool,
    /// Messages that were not JSON or no envelope.
    pub(crate) nonsense: u8,
    /// Requests refused by the bucket, without one granted between.
    pub(crate) overdrawn: u8,
    pub(crate) extra: Option<Box<Extra>>,
}

// What an idle connection costs is promised in PERF.md.
const _: () = assert!(size_of::<Conn>() <= 112);

/// All connections, by index of their descriptor.
#[derive(Default)]
pub(crate) struct Doors {
    conns: Pages<Conn>,
    pub(crate) count: u32,
    /// Those with something to send at the end of the turn.
    pub(crate) dirty: Vec<u32>,
    /// Those whose reading is stopped, first come first served.
    pub(crate) stalled: std::collections::VecDeque<Door>,
    /// Where the rolling scan of timers stands.
    pub(crate) scan: usize,
}

fn vacant() -> Conn {
    Conn {
        generation: 0,
        session: NONE,
        decoder: wire::Decoder::new(),
        out: Vec::new(),
        sending: 0,
        heard_at: 0,
        said_at: 0,
        since: 0,
        phase: Phase::Head,
        side: Side::Visitor,
        dirty: false,
        stalled: false,
        nonsense: 0,
        overdrawn: 0,
        extra: None,
    }
}

impl Doors {
    /// A new connection.
    pub(crate) fn open(&mut self, door: Door, peer: SocketAddr, bytes: Vec<u8>, way: Way, mono_ms: u64) {
        assert!(door.generation != 0, "generation 0 means free");
        let place = door.index as usize;
        while self.conns.len() <= place {
            self.conns.push(vacant());
        }
        let conn = &mut self.conns[place];
        assert!(conn.generation == 0, "a door opens once");
        let now = tenths(mono_ms);
        *conn = Conn {
            generation: door.generation,
            heard_at: now,
            said_at: now,
            since: now,
            // A stale mark in the list of dirty ones is harmless, a missing one is not.
            dirty: conn.dirty,
            extra: Some(Box::new(Extra { peer, inbox: None, way, bytes })),
            ..vacant()
        };
        self.count += 1;
    }

    /// The connection of a door, if it is still that one.
    pub(crate) fn find(&mut self, door: Door) -> Option<&mut Conn> {
        self.conns
            .get_mut(door.index as usize)
            .filter(|conn| conn.generation == door.generation || plant::is("doors-without-generation"))
            .filter(|conn| conn.generation != 0 && door.generation != 0)
    }

    /// The connection at an index that is known to be in use.
    pub(crate) fn at(&mut self, index: u32) -> &mut Conn {
        let conn = &mut self.conns[index as usize];
        assert!(conn.generation != 0, "the door is in use");
        conn
    }

    /// The door at an index, if it is in use.
    pub(crate) fn door_at(&self, index: u32) -> Option<Door> {
        let generation = self.conns.get(index as usize)?.generation;
        (generation != 0).then_some(Door { index, generation })
    }

    /// How many places there are, used or free.
    pub(crate) fn places(&self) -> usize {
        self.conns.len()
    }

    /// The place behind a connection's outgoing frames; marks it as having something to send.
    pub(crate) fn out(&mut self, index: u32, pool: &mut Pool) -> &mut Vec<u8> {
        let conn = &mut self.conns[index as usize];
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(index);
        }
        if conn.out.capacity() == 0 {
            conn.out = pool.take();
        }
        &mut conn.out
    }

    /// Marks a connection for the end of the turn.
    pub(crate) fn touch(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Forgets a connection and recycles what it held.
    pub(crate) fn free(&mut self, door: Door, pool: &mut Pool, partials: &mut wire::PartialPool) {
        let conn = self.find(door).expect("only an open door is freed");
        conn.decoder.reset(partials);
        let dirty = conn.dirty;
        let was = core::mem::replace(conn, vacant());
        conn.dirty = dirty;
        pool.give(was.out);
        if let Some(extra) = was.extra {
            pool.give(extra.bytes);
        }
        self.count -= 1;
    }
}

impl Doors {
    /// The phase of a door that is open.
    pub(crate) fn phase(&self, door: Door) -> Option<Phase> {
        self.conns
            .get(door.index as usize)
            .filter(|conn| conn.generation == door.generation && door.generation != 0)
            .map(|conn| conn.phase)
    }

    /// Takes the mark of having something to send off a place; its door, if it is in use.
    pub(crate) fn undirty(&mut self, index: u32) -> Option<Door> {
        self.conns[index as usize].dirty = false;
        self.door_at(index)
    }
}

impl Doors {
    /// Which path a door was upgraded on.
    pub(crate) fn side(&self, index: u32) -> Side {
        self.conns[index as usize].side
    }

    /// Bytes on their way to a socket: collected and lent to the kernel.
    pub(crate) fn waiting_bytes(&self, index: u32) -> usize {
        let conn = &self.conns[index as usize];
        conn.out.len() + conn.sending as usize
    }
}
