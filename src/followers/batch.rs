//! Records as they came out of a journal, whole blocks, in order.

use std::ops::Range;

use journal::{Damage, RecordRef, TailBlock};

/// Records of a batch at most; a block may take it above by its own records.
const RECORDS_MAX: usize = 8_192;
/// Bytes of records of a batch at most; a block may take it above by its own megabyte.
const BYTES_MAX: usize = 4 << 20;

/// What a follower gets at a time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    records: Vec<(Head, Range<usize>)>,
    damage: Vec<Damage>,
    end: u64,
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// What it is.
    pub(crate) kind: u16,
    /// The version of that kind.
    pub(crate) version: u16,
    /// The slot it belongs to.
    pub(crate) slot: u16,
    /// Where it stands in the log.
    pub(crate) offset: u64,
}

impl Batch {
    /// An empty batch whose end is `end`.
    pub(super) fn at(end: u64) -> Batch {
        Batch { end, ..Batch::default() }
    }

    /// Adds a block.
    pub(super) fn add(&mut self, block: &TailBlock<'_>) {
        for found in block.records() {
            match found {
                Ok(record) => self.add_record(&record),
                Err(damage) => self.damage.push(damage),
            }
        }
        self.end = block.end.0;
    }

    fn add_record(&mut self, record: &RecordRef<'_>) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(record.raw);
        let head =
            Head { kind: record.kind, version: record.version, slot: record.slot, offset: record.offset.0 };
        self.records.push((head, from..self.bytes.len()));
    }

    /// Adds a range that does not hold; the cursor goes on behind it.
    pub(super) fn add_damage(&mut self, damage: Damage, end: u64) {
        self.damage.push(damage);
        self.end = end;
    }

    /// Whether it should be taken before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_MAX || self.bytes.len() >= BYTES_MAX
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.damage.is_empty()
    }

    /// The cursor behind it; always a block's end.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The records that hold: what each says of itself, and its original bytes with their checksums.
    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = (Head, &[u8])> {
        self.records.iter().map(|(head, range)| (*head, &self.bytes[range.clone()]))
    }

    /// The ranges that do not hold.
    pub(crate) fn damage(&self) -> &[Damage] {
        &self.damage
    }
}
