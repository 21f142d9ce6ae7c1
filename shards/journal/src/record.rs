//! Records in a block.
//!
//! ```text
//!   0 checksum      u64   xxh3-64 of bytes 8..32 and the body, seeded
//!   8 length        u32   bytes of the body
//!  12 kind          u16   opaque here
//!  14 version       u16   of the kind
//!  16 slot          u16   of the conversation, visitor or contact it is about
//!  18 flags         u16   0
//!  20 key_id        u32   0; for erasure by forgetting a key, later
//!  24 index         u32   0, 1, 2 ... in its block
//!  28 header_check  u32   crc32c of bytes 8..28, seeded
//!  32 body, then zeros up to a multiple of 16
//! ```
//!
//! Both sums are seeded with the journal's salt, the boot id and the record's own place. So a record cannot pass
//! for another one, nor a record of an older boot for one of this boot at the same place, and a damaged length
//! costs one record: the next is the next place where both sums hold, which nobody can arrange by chance or guile.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::geometry::LogOffset;
use crate::header::{BLOCK_HEADER_SIZE, BlockHeader};
use crate::little::{first_nonzero, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};

/// Bytes of a record header.
pub const RECORD_HEADER_SIZE: usize = 32;
/// Records and their bodies begin at multiples of this, so that rkyv can read a body in place.
pub const RECORD_ALIGN: usize = 16;

const _: () = assert!(BLOCK_HEADER_SIZE.is_multiple_of(RECORD_ALIGN), "the first record is aligned");
const _: () =
    assert!(RECORD_HEADER_SIZE.is_multiple_of(RECORD_ALIGN), "a body is aligned when its record is");

const LENGTH_AT: usize = 8;
const INDEX_AT: usize = 24;
const HEADER_CHECK_AT: usize = 28;

/// Bytes that a record with a body of `body_len` bytes takes in a block.
#[inline]
pub fn record_size(body_len: usize) -> usize {
    (RECORD_HEADER_SIZE + body_len).next_multiple_of(RECORD_ALIGN)
}

/// What is said about a record beside its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMeta {
    /// What it is; opaque to this crate.
    pub kind: u16,
    /// The version of that kind.
    pub version: u16,
    /// The slot it belongs to.
    pub slot: u16,
    /// Kept for later; 0 now.
    pub flags: u16,
    /// The key its body is sealed with; 0 is none.
    pub key_id: u32,
}

/// A record whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// What it is; opaque to this crate.
    pub kind: u16,
    /// The version of that kind.
    pub version: u16,
    /// The slot it belongs to.
    pub slot: u16,
    /// Kept for later; 0 now.
    pub flags: u16,
    /// The key its body is sealed with; 0 is none.
    pub key_id: u32,
    /// Where it stands in the log.
    pub offset: LogOffset,
    /// Where its block begins.
    pub block: LogOffset,
    /// The boot that wrote it.
    pub boot_id: u64,
    /// The record as stored, header included, without padding. For whoever keeps originals with their checksums.
    pub raw: &'a [u8],
    /// The body, at an address that is a multiple of 16.
    pub body: &'a [u8],
}

/// The seed of both sums of the record at `offset`.
#[inline]
fn seed(salt: u64, boot_id: u64, offset: u64) -> u64 {
    salt ^ boot_id.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)
        ^ offset.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// `record` begins with the record's header.
#[inline]
fn header_check(record: &[u8], seed: u64) -> u32 {
    crc32c::crc32c_append((seed >> 32) as u32, &record[LENGTH_AT..HEADER_CHECK_AT])
}

/// `record` is the header and the body, without padding.
#[inline]
fn checksum(record: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(&record[LENGTH_AT..], seed)
}

/// Writes all of a record's header but the two sums, and zeros behind the body, which is there already.
pub(crate) fn put_record(record: &mut [u8], meta: RecordMeta, body_len: usize, index: u32) {
    put_u32(record, LENGTH_AT, body_len as u32);
    put_u16(record, 12, meta.kind);
    put_u16(record, 14, meta.version);
    put_u16(record, 16, meta.slot);
    put_u16(record, 18, meta.flags);
    put_u32(record, 20, meta.key_id);
    put_u32(record, INDEX_AT, index);
    record[RECORD_HEADER_SIZE + body_len..record_size(body_len)].fill(0);
}

/// Writes both sums of every record, now that the block knows its place.
pub(crate) fn sum_records(block: &mut [u8], header: &BlockHeader, salt: u64) {
    let end = BLOCK_HEADER_SIZE + header.payload_len as usize;
    let mut at = BLOCK_HEADER_SIZE;
    while at < end {
        let seed = seed(salt, header.boot_id, header.offset.0 + at as u64);
        let len = u32_at(block, at + LENGTH_AT) as usize;
        let record = &mut block[at..at + RECORD_HEADER_SIZE + len];
        let check = header_check(record, seed);
        put_u32(record, HEADER_CHECK_AT, check);
        let checksum = checksum(record, seed);
        put_u64(record, 0, checksum);
        at += record_size(len);
    }
    assert_eq!(at, end, "records fill the payload exactly");
}

/// The record at `at`, whose sums were seen to hold.
#[inline]
pub(crate) fn record_at<'a>(
    block: &'a [u8],
    header: &BlockHeader,
    at: usize,
    body_len: usize,
) -> RecordRef<'a> {
    let raw = &block[at..at + RECORD_HEADER_SIZE + body_len];
    RecordRef {
        kind: u16_at(raw, 12),
        version: u16_at(raw, 14),
        slot: u16_at(raw, 16),
        flags: u16_at(raw, 18),
        key_id: u32_at(raw, 20),
        offset: header.offset.plus(at as u64),
        block: header.offset,
        boot_id: header.boot_id,
        raw,
        body: &raw[RECORD_HEADER_SIZE..],
    }
}

/// One thing found while reading a block from its start to its end.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A record that holds.
    Record(RecordRef<'a>),
    /// Bytes of the block, by their offset in it, that hold no record though they should.
    Lost { from: usize, to: usize, slot: Option<u16> },
    /// Padding that is not zero.
    Padding { from: usize, to: usize },
}

/// Reads a block whose header holds. Yields everything in order; what is not yielded does not exist.
pub(crate) struct BlockReader<'a> {
    block: &'a [u8],
    header: BlockHeader,
    salt: u64,
    at: usize,
    index: u32,
    /// Padding of the record just yielded, still to be looked at.
    padding: Option<(usize, usize)>,
    tail_done: bool,
}

impl<'a> BlockReader<'a> {
    /// `block` is the whole block, padding included.
    pub(crate) fn new(block: &'a [u8], header: BlockHeader, salt: u64) -> Self {
        assert_eq!(block.len(), header.size() as usize, "a block is read whole");
        BlockReader { block, header, salt, at: BLOCK_HEADER_SIZE, index: 0, padding: None, tail_done: false }
    }

    #[inline]
    fn end(&self) -> usize {
        BLOCK_HEADER_SIZE + self.header.payload_len as usize
    }

    /// The length of the body at `at`, when the record's header can be trusted.
    #[inline]
    fn trusted_len(&self, at: usize) -> Option<usize> {
        if at + RECORD_HEADER_SIZE > self.end() {
            return None;
        }
        let head = &self.block[at..at + RECORD_HEADER_SIZE];
        let len = u32_at(head, LENGTH_AT) as usize;
        let index = u32_at(head, INDEX_AT);
        let sane = index >= self.index
            && index < self.header.record_count
            && len <= self.end() - at - RECORD_HEADER_SIZE
            && at + record_size(len) <= self.end();
        let seed = seed(self.salt, self.header.boot_id, self.header.offset.0 + at as u64);
        (sane && header_check(head, seed) == u32_at(head, HEADER_CHECK_AT)).then_some(len)
    }

    #[inline]
    fn body_holds(&self, at: usize, len: usize) -> bool {
        let seed = seed(self.salt, self.header.boot_id, self.header.offset.0 + at as u64);
        let record = &self.block[at..at + RECORD_HEADER_SIZE + len];
        checksum(record, seed) == u64_at(record, 0) || crate::plant::is("no-record-checksum")
    }

    /// The next place behind `at` where a whole record holds, or the end of the payload.
    fn resync(&self, at: usize) -> usize {
        let mut next = at + RECORD_ALIGN;
        while next < self.end() {
            if self.trusted_len(next).is_some_and(|len| self.body_holds(next, len)) {
                return next;
            }
            next += RECORD_ALIGN;
        }
        self.end()
    }

    /// Padding from `from` to `to`, if it is not all zero.
    fn padding(&self, from: usize, to: usize) -> Option<Found<'a>> {
        let bytes = &self.block[from..to];
        let clean = if bytes.len() < RECORD_ALIGN {
            bytes.iter().all(|byte| *byte == 0)
        } else {
            first_nonzero(bytes).is_none()
        };
        (!clean).then_some(Found::Padding { from, to })
    }
}

impl<'a> Iterator for BlockReader<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if let Some((from, to)) = self.padding.take()
            && let Some(found) = self.padding(from, to)
        {
            return Some(found);
        }
        let at = self.at;
        if at < self.end() {
            let Some(len) = self.trusted_len(at) else {
                let to = self.resync(at);
                self.at = to;
                if to < self.end() {
                    self.index = u32_at(self.block, to + INDEX_AT);
                }
                return Some(Found::Lost { from: at, to, slot: None });
            };
            let to = at + record_size(len);
            self.at = to;
            self.index = u32_at(self.block, at + INDEX_AT) + 1;
            if self.body_holds(at, len) {
                self.padding = Some((at + RECORD_HEADER_SIZE + len, to));
                return Some(Found::Record(record_at(self.block, &self.header, at, len)));
            }
            return Some(Found::Lost { from: at, to, slot: Some(u16_at(self.block, at + 16)) });
        }
        if !self.tail_done {
            self.tail_done = true;
            return self.padding(self.end(), self.block.len());
        }
        None
    }
}
