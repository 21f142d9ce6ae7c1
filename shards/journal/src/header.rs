//! The header of a block: who wrote it, where it belongs, and how much of it to believe.
//!
//! ```text
//!   0 magic          u64   "RINGDBLK"
//!   8 version        u16   1
//!  10 flags          u16   bit 0 SEAL, bit 1 SEGMENT_START
//!  12 shard          u16
//!  14 level          u8    1 memory, 2 disk (3 is kept for quorum)
//!  15 align          u8    as a power of two: 9 or 12
//!  16 generation     u32   of the journals; changes with the number of shards
//!  20 segment        u32   1, 2, 3 ... never repeats in a generation
//!  24 boot_id        u64   never used twice
//!  32 offset         u64   where this block belongs
//!  40 prev           u64   end of the block before = durable offset when this one was written
//!  48 boot_start     u64   where this boot began to append: whatever older boots left from here on is dead
//!  56 entry          u64   `prev` of the first block of this segment; 0 when this boot does not know it
//!  64 replay_from    u64   where a replay must begin, as known when written
//!  72 kernel_boot    u64   hash of the kernel's boot id
//!  80 payload_len    u32   bytes of records behind this header
//!  84 record_count   u32
//!  88 reserved       32 x 0
//! 120 checksum       u64   xxh3-64 of bytes 0..120, seeded with the journal's salt
//! 128 records, then zeros up to a multiple of the alignment
//! ```
//!
//! The salt is a secret of the journal, so bytes that a visitor had us store can never pass for a header.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::geometry::{Geometry, LogOffset};
use crate::little::{first_nonzero, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};

/// Bytes of a block header.
pub const BLOCK_HEADER_SIZE: usize = 128;
/// The version of the block format that this build writes.
pub const BLOCK_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"RINGDBLK";
const CHECKSUM_AT: usize = 120;
const RESERVED: std::ops::Range<usize> = 88..CHECKSUM_AT;

/// What an acknowledgement of a boot means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// In the page cache: survives the process, not the power.
    Memory = 1,
    /// On the device, confirmed by a flush.
    Disk = 2,
}

impl Level {
    /// The level with this number, if there is one.
    pub fn from_u8(number: u8) -> Option<Level> {
        match number {
            1 => Some(Level::Memory),
            2 => Some(Level::Disk),
            _ => None,
        }
    }
}

/// What every block of one boot has in common. Made by [`Superblock::identity`](crate::Superblock::identity).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The shard that writes.
    pub shard: u16,
    /// The generation of journals it belongs to.
    pub generation: u32,
    /// The boot that writes; never used twice.
    pub boot_id: u64,
    /// What an acknowledgement of this boot means.
    pub level: Level,
    /// Hash of the kernel's boot id, see [`kernel_boot_hash`](crate::kernel_boot_hash).
    pub kernel_boot: u64,
    /// The journal's secret, which seeds every checksum.
    pub salt: u64,
}

/// Marks on a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockFlags(pub u16);

impl BlockFlags {
    /// An ordinary block.
    pub const NONE: BlockFlags = BlockFlags(0);
    /// The last block of a clean stop: everything before it was acknowledged.
    pub const SEAL: BlockFlags = BlockFlags(1);
    /// The first block of its segment. The writer sets it.
    pub const SEGMENT_START: BlockFlags = BlockFlags(2);

    /// Whether all marks of `other` are set.
    #[inline]
    pub fn contains(self, other: BlockFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of marks.
    #[inline]
    pub fn with(self, other: BlockFlags) -> BlockFlags {
        BlockFlags(self.0 | other.0)
    }
}

/// A block header as a value. Field by field as drawn at the top of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the drawing above says what each field is; twice would drift")]
pub struct BlockHeader {
    pub flags: BlockFlags,
    pub shard: u16,
    pub level: u8,
    pub align: u32,
    pub generation: u32,
    pub segment: u32,
    pub boot_id: u64,
    pub offset: LogOffset,
    pub prev: LogOffset,
    pub boot_start: LogOffset,
    pub entry: LogOffset,
    pub replay_from: LogOffset,
    pub kernel_boot: u64,
    pub payload_len: u32,
    pub record_count: u32,
}

/// Why bytes are not a block header that this build can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// No magic: nothing was written here, or something else.
    NotABlock,
    /// The magic stands, the checksum does not.
    Damaged,
    /// A sound header of a version that this build does not know: a newer program wrote it.
    UnknownVersion(u16),
}

impl BlockHeader {
    /// Writes the header to the first [`BLOCK_HEADER_SIZE`] bytes of `block`.
    pub fn encode(&self, block: &mut [u8], salt: u64) {
        let bytes = &mut block[..BLOCK_HEADER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        put_u16(bytes, 8, BLOCK_VERSION);
        put_u16(bytes, 10, self.flags.0);
        put_u16(bytes, 12, self.shard);
        bytes[14] = self.level;
        bytes[15] = self.align.trailing_zeros() as u8;
        put_u32(bytes, 16, self.generation);
        put_u32(bytes, 20, self.segment);
        put_u64(bytes, 24, self.boot_id);
        put_u64(bytes, 32, self.offset.0);
        put_u64(bytes, 40, self.prev.0);
        put_u64(bytes, 48, self.boot_start.0);
        put_u64(bytes, 56, self.entry.0);
        put_u64(bytes, 64, self.replay_from.0);
        put_u64(bytes, 72, self.kernel_boot);
        put_u32(bytes, 80, self.payload_len);
        put_u32(bytes, 84, self.record_count);
        bytes[RESERVED].fill(0);
        let checksum = xxh3_64_with_seed(&bytes[..CHECKSUM_AT], salt);
        put_u64(bytes, CHECKSUM_AT, checksum);
    }

    /// Reads a header from the first [`BLOCK_HEADER_SIZE`] bytes of `block`. What comes back was written by
    /// this journal, though not necessarily for this place: see [`BlockHeader::fits`].
    pub fn decode(block: &[u8], salt: u64) -> Result<BlockHeader, HeaderError> {
        if block.len() < BLOCK_HEADER_SIZE || block[..8] != MAGIC {
            return Err(HeaderError::NotABlock);
        }
        let bytes = &block[..BLOCK_HEADER_SIZE];
        if xxh3_64_with_seed(&bytes[..CHECKSUM_AT], salt) != u64_at(bytes, CHECKSUM_AT) {
            return Err(HeaderError::Damaged);
        }
        let version = u16_at(bytes, 8);
        if version != BLOCK_VERSION || first_nonzero(&bytes[RESERVED]).is_some() {
            return Err(HeaderError::UnknownVersion(version));
        }
        Ok(BlockHeader {
            flags: BlockFlags(u16_at(bytes, 10)),
            shard: u16_at(bytes, 12),
            level: bytes[14],
            align: 1u32.checked_shl(u32::from(bytes[15])).unwrap_or(0),
            generation: u32_at(bytes, 16),
            segment: u32_at(bytes, 20),
            boot_id: u64_at(bytes, 24),
            offset: LogOffset(u64_at(bytes, 32)),
            prev: LogOffset(u64_at(bytes, 40)),
            boot_start: LogOffset(u64_at(bytes, 48)),
            entry: LogOffset(u64_at(bytes, 56)),
            replay_from: LogOffset(u64_at(bytes, 64)),
            kernel_boot: u64_at(bytes, 72),
            payload_len: u32_at(bytes, 80),
            record_count: u32_at(bytes, 84),
        })
    }

    /// Whether bytes that are no sound header were one for `at` before something happened to them; then the size
    /// that it names, as far as that can be believed.
    pub(crate) fn was_here(block: &[u8], at: LogOffset, geometry: &Geometry) -> Option<u32> {
        let bytes = &block[..BLOCK_HEADER_SIZE];
        let was = bytes[..8] == MAGIC || u64_at(bytes, 32) == at.0;
        let size = (BLOCK_HEADER_SIZE as u32).saturating_add(u32_at(bytes, 80));
        let left = geometry.block_max().min(geometry.segment_size - geometry.within(at));
        was.then(|| geometry.padded(size.min(left)).min(left))
    }

    /// Bytes of the block on the disk, padding included. Only meaningful for a header that [`fits`](Self::fits).
    #[inline]
    pub fn size(&self) -> u32 {
        (BLOCK_HEADER_SIZE as u32 + self.payload_len).next_multiple_of(self.align)
    }

    /// The end of this block.
    #[inline]
    pub fn end(&self) -> LogOffset {
        self.offset.plus(u64::from(self.size()))
    }

    /// Whether this header is at home at `within` bytes into a segment file, and agrees with itself.
    pub fn fits(&self, geometry: &Geometry, shard: u16, generation: u32, within: u32) -> bool {
        let size = u64::from(BLOCK_HEADER_SIZE as u32) + u64::from(self.payload_len);
        let size = size.next_multiple_of(u64::from(geometry.align));
        let start = self.flags.contains(BlockFlags::SEGMENT_START);
        self.shard == shard
            && self.generation == generation
            && self.align == geometry.align
            && self.segment >= 1
            && self.offset == geometry.start_of(self.segment).plus(u64::from(within))
            && size <= u64::from(geometry.block_max())
            && u64::from(within) + size <= u64::from(geometry.segment_size)
            && start == (within == 0)
            && if start { self.prev <= self.offset } else { self.prev == self.offset }
            && self.entry <= self.prev
            && self.boot_start <= self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { segment_size: 1 << 20, align: 512 };

    fn header() -> BlockHeader {
        BlockHeader {
            flags: BlockFlags::NONE,
            shard: 3,
            level: 2,
            align: 512,
            generation: 1,
            segment: 2,
            boot_id: 9,
            offset: LogOffset((2 << 20) + 512),
            prev: LogOffset((2 << 20) + 512),
            boot_start: LogOffset(1 << 20),
            entry: LogOffset((2 << 20) - 4096),
            replay_from: LogOffset(1 << 20),
            kernel_boot: 77,
            payload_len: 1000,
            record_count: 4,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        let mut bytes = [0xAA; 512];
        header().encode(&mut bytes, 5);
        let back = BlockHeader::decode(&bytes, 5).unwrap();
        assert_eq!(back, header());
        assert!(back.fits(&GEOMETRY, 3, 1, 512));
        assert_eq!(back.size(), 1536);
    }

    #[test]
    fn every_bit_of_a_header_is_covered() {
        let mut bytes = [0; BLOCK_HEADER_SIZE];
        header().encode(&mut bytes, 5);
        for bit in 0..BLOCK_HEADER_SIZE * 8 {
            let mut copy = bytes;
            copy[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::decode(&copy, 5).is_err(), "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn a_header_at_another_place_or_of_another_journal_does_not_fit() {
        let mut bytes = [0; BLOCK_HEADER_SIZE];
        header().encode(&mut bytes, 5);
        assert_eq!(BlockHeader::decode(&bytes, 6), Err(HeaderError::Damaged));
        assert!(!header().fits(&GEOMETRY, 3, 1, 1024));
        assert!(!header().fits(&GEOMETRY, 2, 1, 512));
        assert!(!header().fits(&GEOMETRY, 3, 2, 512));
        assert!(!BlockHeader { payload_len: u32::MAX, ..header() }.fits(&GEOMETRY, 3, 1, 512));
        assert!(!BlockHeader { prev: LogOffset(2 << 20), ..header() }.fits(&GEOMETRY, 3, 1, 512));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = [0; BLOCK_HEADER_SIZE];
        header().encode(&mut bytes, 5);
        put_u16(&mut bytes, 8, 2);
        let checksum = xxh3_64_with_seed(&bytes[..CHECKSUM_AT], 5);
        put_u64(&mut bytes, CHECKSUM_AT, checksum);
        assert_eq!(BlockHeader::decode(&bytes, 5), Err(HeaderError::UnknownVersion(2)));
    }
}
