//! The write-ahead log of one shard: blocks, records, segments, group commit, checkpoints, recovery.
//!
//! Bytes in, bytes out. This crate decides what is written where and what the bytes on a disk mean;
//! it never opens a file, never reads a clock, never waits and never writes by itself.
//! Layouts are drawn above the code that encodes them and, together, in `docs/journal.md`.
#![forbid(unsafe_code)]

mod buffer;
mod checkpoint;
mod damage;
mod geometry;
mod header;
mod index;
mod little;
mod medium;
#[doc(hidden)]
pub mod plant;
mod reader;
mod record;
mod recover;
mod superblock;
mod tail;
mod walk;
mod writer;

pub use buffer::BlockBuf;
pub use checkpoint::{CREDIT_MAX, Checkpoint, TURN_BYTES_MAX};
pub use damage::{Damage, DamageKind, TornTail};
pub use geometry::{
    BLOCK_SIZE_MAX, CommitPoint, Geometry, GeometryError, LogOffset, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN,
};
pub use header::{BLOCK_HEADER_SIZE, BLOCK_VERSION, BlockFlags, BlockHeader, HeaderError, Identity, Level};
pub use medium::{FileSlot, FileSlotId, Medium};
pub use record::{RECORD_ALIGN, RECORD_HEADER_SIZE, RecordMeta, RecordRef, record_size};
pub use recover::{Cut, Entry, RecoverError, Recovered, Report, dump, recover, verify};
pub use superblock::{
    SUPERBLOCK_COPIES, SUPERBLOCK_COPY_SIZE, SUPERBLOCK_SIZE, SUPERBLOCK_VERSION, Superblock,
    SuperblockError, kernel_boot_hash,
};
pub use tail::{Tail, TailBlock, TailError, TailItem};
pub use writer::{Full, Outgoing, Writer};
