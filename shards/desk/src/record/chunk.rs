//! What is inside a SNAPSHOT_EVENTS record: event records, framed and aligned.
//!
//! ```text
//! +-----------+-----------+--------------+--------+----------------------+------------------+
//! | size (4)  | kind (2)  | version (2)  | 0 (8)  | body (size)          | 0 to the next 16 |   repeated
//! +-----------+-----------+--------------+--------+----------------------+------------------+
//! ```

use super::{BODY_ALIGNMENT, Record, RecordError, Scratch, kind};
use rkyv::util::AlignedVec;

/// Bytes of events in one chunk, unless a single event is larger.
pub(super) const CHUNK_SIZE_MAX: usize = 64 << 10;
const FRAME_SIZE: usize = 16;

/// Collects the records of one chunk; kept and reused.
#[derive(Debug)]
pub struct ChunkBuilder {
    records: AlignedVec<BODY_ALIGNMENT>,
    count: u32,
    one: Scratch,
}

impl ChunkBuilder {
    /// Empty, with room for a full chunk.
    pub fn new() -> ChunkBuilder {
        ChunkBuilder {
            records: AlignedVec::with_capacity(CHUNK_SIZE_MAX + 1024),
            count: 0,
            one: Scratch::new(),
        }
    }

    /// Forgets what was collected; keeps the room.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }

    /// Adds `record`, unless the chunk has something and would outgrow `size_max` (itself capped at 64 KiB). Says whether it is in.
    pub fn push(&mut self, record: &Record<'_>, size_max: usize) -> bool {
        let body = record.write(&mut self.one);
        let framed = FRAME_SIZE + body.len().next_multiple_of(BODY_ALIGNMENT);
        if self.count > 0 && self.records.len() + framed > size_max.min(CHUNK_SIZE_MAX) {
            return false;
        }
        let start = self.records.len();
        self.records.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.records.extend_from_slice(&record.kind().to_le_bytes());
        self.records.extend_from_slice(&record.version().to_le_bytes());
        self.records.extend_from_slice(&[0; 8]);
        self.records.extend_from_slice(body);
        self.records.resize(start + framed, 0);
        self.count += 1;
        true
    }

    /// How many records it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The framed records.
    pub fn records(&self) -> &[u8] {
        &self.records
    }
}

impl Default for ChunkBuilder {
    fn default() -> ChunkBuilder {
        ChunkBuilder::new()
    }
}

/// The records of a chunk, one after the other. Ends after the first error.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRecords<'a>(&'a [u8]);

impl<'a> ChunkRecords<'a> {
    /// Over the `records` of a SNAPSHOT_EVENTS record.
    pub fn new(records: &'a [u8]) -> ChunkRecords<'a> {
        ChunkRecords(records)
    }

    fn take(&mut self) -> Option<Record<'a>> {
        let (frame, rest) = self.0.split_first_chunk::<FRAME_SIZE>()?;
        let size = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        let body = rest.get(..size)?;
        self.0 = rest.get(size.next_multiple_of(BODY_ALIGNMENT)..)?;
        let record = Record::read(
            u16::from_le_bytes([frame[4], frame[5]]),
            u16::from_le_bytes([frame[6], frame[7]]),
            body,
        )
        .ok()?;
        record.numbers().map(|_| record)
    }
}

impl<'a> Iterator for ChunkRecords<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_none() {
            self.0 = &[];
        }
        Some(taken.ok_or(RecordError::Malformed { kind: kind::SNAPSHOT_EVENTS }))
    }
}
