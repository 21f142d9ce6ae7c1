//! Everything that can happen to a shard.

use std::net::SocketAddr;

use desk::id::SiteId;
use journal::BlockBuf;
use mail::{Letter, Order};

/// The time, read once a turn by whoever drives the shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Milliseconds since some moment before the shard began; never falls. Every deadline is measured with it.
    pub mono_ms: u64,
    /// Milliseconds since 1970; may jump. Only ever shown to people.
    pub wall_ms: u64,
}

/// Where a socket is on this shard: a slot of its descriptor table, and which use of that slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Door {
    /// Index of the descriptor; below the table's size.
    pub index: u32,
    /// Rises with every use of the index, so that a late completion is not taken for a new one's. Never 0.
    pub generation: u32,
}

/// A connection on its way to another shard, before anything was answered.
#[derive(Debug)]
pub struct Moved {
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Everything received so far: the request head, and perhaps more.
    pub bytes: Vec<u8>,
    /// The control plane gives it back, which does not know where it belongs; a shard that sends it does.
    pub from_plane: bool,
}

/// Why the disk refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StorageError {
    /// No room (ENOSPC, EDQUOT). Only a segment's preparation may say so and be survived.
    Full,
    /// Anything else, in the system's words.
    Failed(String),
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A turn begins, or letters of a shard were counted and come next. `rooms[i]` is how many letters the mailbox to shard `i` can take (its own entry is not read).
    Rooms(&'a [u32]),
    /// A client connected.
    Accepted {
        /// Its door.
        door: Door,
        /// Who it is.
        peer: SocketAddr,
    },
    /// A connection came from another shard, or from the control plane.
    Arrived {
        /// Its door here.
        door: Door,
        /// What it brings.
        moved: Box<Moved>,
    },
    /// A move was not possible (the other table is full, or that shard is gone); the connection is still here.
    MoveFailed {
        /// Its door.
        door: Door,
        /// What it brings back.
        moved: Box<Moved>,
    },
    /// Bytes arrived. Consumed or kept before the step returns; the buffer is the driver's.
    Received {
        /// From where.
        door: Door,
        /// The bytes, and after them what may be read as padding.
        buffer: &'a mut [u8],
        /// How many of them were received; > 0.
        size: usize,
    },
    /// Some of a send went out, not all; the rest goes on by itself.
    SentSome {
        /// To where.
        door: Door,
    },
    /// A send ended. The buffer comes back also if the door is gone meanwhile.
    Sent {
        /// To where.
        door: Door,
        /// What was lent.
        buf: Vec<u8>,
        /// All of it went out.
        whole: bool,
    },
    /// The peer is gone or the socket failed. The driver closes it; the door is not heard of again, but for its last `Sent`.
    Gone {
        /// Which.
        door: Door,
    },
    /// A letter from another shard.
    Letter {
        /// Its sender.
        from: u16,
        /// What it says.
        letter: Letter,
    },
    /// An order of the control plane.
    Order(Order),
    /// The block is written, and flushed where the level asks for it; or it is not.
    Wrote {
        /// What was lent.
        buf: BlockBuf,
        /// Anything but `Ok` fences the shard. A short write is an error.
        result: Result<(), StorageError>,
    },
    /// The superblock is written and flushed, or not.
    WroteSuperblock {
        /// Anything but `Ok` fences the shard.
        result: Result<(), StorageError>,
    },
    /// A segment is allocated, zero-written and flushed, its directory entry too.
    SegmentReady {
        /// Which.
        segment: u32,
    },
    /// A segment could not be prepared. Survivable: the shard refuses with `storage_full` and asks again.
    SegmentFailed {
        /// Which.
        segment: u32,
        /// Why.
        error: StorageError,
    },
    /// Time has passed: at least every 100 ms.
    Tick,
    /// The turn ends: everything collected goes out now.
    EndOfTurn,
}

/// What a shard is told once, at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This shard's index; below `shard_count`.
    pub shard: u16,
    /// How many shards there are; 1 to 64.
    pub shard_count: u16,
    /// The site.
    pub site: SiteId,
    /// Names this run of the node; changes when session tables are lost.
    pub epoch: u128,
    /// Seed of the shard's source of chance.
    pub seed: [u8; 32],
    /// Letters a mailbox to one other shard holds; at least 64. A quarter is kept for answers, a quarter bounds requests.
    pub mailbox_size: u32,
    /// Bytes of conversations kept in memory.
    pub hot_bytes_max: usize,
    /// Sessions this shard holds at most.
    pub session_count_max: u32,
    /// Segments the journal may hold on disk.
    pub segment_count_max: u32,
    /// Path that echoes every message through production's frame code; for conformance suites.
    pub echo_path: Option<String>,
    /// Largest message on the echo path, in bytes.
    pub echo_message_size_max: u32,
    /// Most fragments of a message on the echo path.
    pub echo_fragment_count_max: u16,
    /// What the server calls itself in `hello`.
    pub server: String,
}
