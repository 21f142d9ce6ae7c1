//! Everything a shard can ask for.

use std::net::SocketAddr;

use journal::{BlockBuf, Superblock};
use mail::{Letter, Report};

use crate::input::{Door, Moved};

/// Why the shard may not go on. The process ends and starts again from what the disk holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FenceCause {
    /// A block could not be written or flushed. Never retried: a second flush may lie.
    Journal(String),
    /// The superblock could not be written.
    Superblock(String),
}

/// What to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send all of it. One send is in flight per door; the buffer comes back in `Sent`.
    Send {
        /// To where.
        door: Door,
        /// What; owned by the kernel until then.
        buf: Vec<u8>,
    },
    /// Close the socket once the send in flight has ended (or failed). The shard has forgotten the door.
    Close {
        /// Which.
        door: Door,
    },
    /// Stop delivering bytes of this door as soon as possible; what was received already is still delivered.
    Pause {
        /// Which.
        door: Door,
    },
    /// Deliver again.
    Resume {
        /// Which.
        door: Door,
    },
    /// Give the connection to another shard; nothing was answered on it yet. The shard has forgotten the door, unless `MoveFailed` brings it back.
    Move {
        /// Which.
        door: Door,
        /// To whom.
        to: u16,
        /// What goes along.
        moved: Box<Moved>,
    },
    /// Give the connection to the control plane as an ordinary descriptor; with more than 1,024 there, answer 503 and close. The shard has forgotten the door.
    HandOver {
        /// Which.
        door: Door,
        /// Who is at the other end.
        peer: SocketAddr,
        /// What was received: a whole request head, and perhaps more.
        bytes: Vec<u8>,
    },
    /// Write a block and flush it as the level asks. One write is in flight per shard (blocks and superblocks together).
    Write {
        /// The segment.
        segment: u32,
        /// Offset in the segment, aligned.
        at: u32,
        /// The block; comes back in `Wrote`.
        buf: BlockBuf,
    },
    /// Flush the blocks written so far whatever the level, then write the superblock: half of the copies, flush, the other half, flush.
    WriteSuperblock(Box<Superblock>),
    /// Allocate a segment, write zeros over it and flush file and directory, off the shard's thread.
    PrepareSegment {
        /// Which.
        segment: u32,
    },
    /// Post a letter. There is room: the shard counted.
    Letter {
        /// To whom.
        to: u16,
        /// What.
        letter: Letter,
    },
    /// Tell the control plane.
    Report(Report),
    /// Arm no more accepts and cancel those that are.
    StopAccepting,
    /// Write nothing more, tell nobody anything more, end the process.
    Fence(FenceCause),
    /// The shard is done; its thread may end once what is in flight has landed.
    Stop,
}
