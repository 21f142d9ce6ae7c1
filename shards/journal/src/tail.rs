//! What a follower reads with: from its cursor to the durable mark, block by block, while the log is written.

use std::collections::VecDeque;
use std::fmt;

use crate::damage::{Damage, DamageKind};
use crate::geometry::LogOffset;
use crate::header::BlockHeader;
use crate::index::{Depth, SegmentIndex};
use crate::medium::Medium;
use crate::reader::Reader;
use crate::record::{BlockReader, Found, RecordRef};
use crate::recover::RecoverError;
use crate::superblock::Superblock;

/// A cursor in one journal that reads what is durable, and nothing else.
///
/// It survives rolls, restarts of the follower (keep [`cursor`](Self::cursor), which is always a block boundary)
/// and recycling. One per boot of the shard: it is made with the superblock of the running boot.
pub struct Tail {
    superblock: Superblock,
    reader: Option<Reader>,
    cursor: LogOffset,
    boot_before: u64,
    at_start: bool,
    gaps: VecDeque<Damage>,
}

/// One thing that a follower meets.
#[derive(Debug)]
pub enum TailItem<'a> {
    /// A block; all of it was acknowledged.
    Block(TailBlock<'a>),
    /// A range that does not hold. The cursor is behind it, or behind all of the gap that it is a part of.
    Damage(Damage),
}

/// A durable block.
#[derive(Debug)]
pub struct TailBlock<'a> {
    /// Its header.
    pub header: BlockHeader,
    /// The cursor to keep once all of this block was dealt with.
    pub end: LogOffset,
    bytes: &'a [u8],
    salt: u64,
}

impl<'a> TailBlock<'a> {
    /// The records that hold, and the ranges that do not, in the order of the log.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordRef<'a>, Damage>> + use<'a> {
        let header = self.header;
        BlockReader::new(self.bytes, header, self.salt).map(move |found| {
            let (from, to, what, slot) = match found {
                Found::Record(record) => return Ok(record),
                Found::Lost { from, to, slot } => (from, to, DamageKind::Record, slot),
                Found::Padding { from, to } => (from, to, DamageKind::Padding, None),
            };
            let place = |at: usize| header.offset.plus(at as u64);
            Err(Damage { segment: header.segment, from: place(from), to: place(to), what, slot })
        })
    }
}

/// Why a follower cannot go on.
#[derive(Debug)]
pub enum TailError {
    /// The segments it wanted were recycled: it has lost its place. Only happens to followers that are not required.
    Lost {
        /// Its cursor.
        wanted: LogOffset,
        /// The oldest place there is now.
        oldest: LogOffset,
    },
    /// The journal cannot be read at all.
    Journal(RecoverError),
}

impl fmt::Display for TailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TailError::Lost { wanted, oldest } => {
                write!(f, "the journal no longer holds offsets {wanted}..{oldest}: they were recycled")
            }
            TailError::Journal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TailError {}

impl Tail {
    /// Reads from `from` on: a kept cursor, a `replay_from`, or the start of the oldest segment.
    pub fn new(superblock: &Superblock, from: LogOffset) -> Self {
        Tail {
            superblock: superblock.clone(),
            reader: None,
            cursor: from,
            boot_before: 0,
            at_start: true,
            gaps: VecDeque::new(),
        }
    }

    /// Everything before this place was handed out.
    pub fn cursor(&self) -> LogOffset {
        self.cursor
    }

    /// The next block or gap before `durable`, the writer's durable mark. `None` means that there is none yet.
    pub fn read(
        &mut self,
        medium: &mut dyn Medium,
        durable: LogOffset,
    ) -> Result<Option<TailItem<'_>>, TailError> {
        if let Some(damage) = self.gaps.pop_front() {
            return Ok(Some(TailItem::Damage(damage)));
        }
        if self.cursor >= durable {
            return Ok(None);
        }
        let Some(header) = self.find(medium, durable)? else { return self.cross(medium, durable).map(Some) };
        self.cursor = header.end();
        self.boot_before = header.boot_id;
        self.at_start = false;
        let reader = self.reader.as_mut().expect("a block was found by it");
        let salt = reader.salt();
        let bytes = reader.block(medium, &header, durable);
        Ok(Some(TailItem::Block(TailBlock { header, end: header.end(), bytes, salt })))
    }

    /// The block at the cursor. Looks at the files again if it is not where they were.
    fn find(
        &mut self,
        medium: &mut dyn Medium,
        durable: LogOffset,
    ) -> Result<Option<BlockHeader>, TailError> {
        let known = self.reader.is_some();
        for look_again in [false, true] {
            if look_again || !known {
                self.look(medium, Depth::FirstHeaders)?;
            }
            let reader = self.reader.as_mut().expect("the files were looked at");
            let found = reader
                .follows(medium, self.cursor, self.boot_before, self.at_start, durable)
                .map_err(TailError::Journal)?;
            if found.is_some() || !known {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn look(&mut self, medium: &mut dyn Medium, depth: Depth) -> Result<(), TailError> {
        let mut index = SegmentIndex::build(medium, &self.superblock, depth).map_err(TailError::Journal)?;
        let wanted = self.superblock.geometry.segment_of(self.cursor);
        if depth == Depth::FirstHeaders && index.all().first().is_some_and(|oldest| oldest.segment > wanted) {
            // A first header that damage took looks like a segment that is used for something else by now.
            index =
                SegmentIndex::build(medium, &self.superblock, Depth::Whole).map_err(TailError::Journal)?;
        }
        if let Some(oldest) = index.all().first()
            && oldest.segment > wanted
        {
            let oldest = self.superblock.geometry.start_of(oldest.segment);
            return Err(TailError::Lost { wanted: self.cursor, oldest });
        }
        let window = self.superblock.geometry.block_max();
        self.reader = Some(Reader::new(&self.superblock, index, window));
        Ok(())
    }

    /// There must be a block at the cursor, and it does not hold: what follows?
    fn cross(&mut self, medium: &mut dyn Medium, durable: LogOffset) -> Result<TailItem<'_>, TailError> {
        self.look(medium, Depth::Whole)?;
        let reader = self.reader.as_mut().expect("the files were looked at");
        let behind = reader.search(medium, self.cursor, self.boot_before, durable);
        let stop = behind.map_or(durable, |behind| behind.prev);
        self.gaps.extend(reader.gap(medium, self.cursor, stop, behind.as_ref()));
        // The block behind may be one segment further: `prev` leads there.
        self.cursor = stop;
        match self.gaps.pop_front() {
            Some(damage) => Ok(TailItem::Damage(damage)),
            None => {
                let header = behind.expect("a gap with nothing lost has a block behind it");
                self.cursor = header.end();
                self.boot_before = header.boot_id;
                self.at_start = false;
                let salt = reader.salt();
                let bytes = reader.block(medium, &header, durable);
                Ok(TailItem::Block(TailBlock { header, end: header.end(), bytes, salt }))
            }
        }
    }
}
