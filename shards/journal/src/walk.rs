//! The walk along a log: from block to block, over holes, to the end. Recovery, verify and dump are made of it.
//!
//! At each place there are three cases:
//!
//! 1. The block that follows, its `prev` here; perhaps at the start of the next segment. Go on behind it.
//! 2. A hole with a living block behind it. One write is in flight at a time, so what was here had landed:
//!    it is damage. Name the range, go on with the block behind.
//! 3. Nothing living behind it: the end of the log, or a torn tail, unless the superblock knows better.

use crate::damage::{Damage, DamageKind, TornTail};
use crate::geometry::{Geometry, LogOffset};
use crate::header::{BlockFlags, BlockHeader};
use crate::index::SegmentIndex;
use crate::medium::{FileSlot, Medium};
use crate::reader::{NO_BOUND, Reader};
use crate::record::{BlockReader, Found, RecordRef, record_at};
use crate::recover::{Cut, RecoverError, Recovered};
use crate::superblock::Superblock;

/// Who is told what the walk meets, in the order of the log.
pub(crate) trait Observer {
    fn block(&mut self, header: &BlockHeader);
    fn record(&mut self, record: RecordRef<'_>);
    fn damage(&mut self, damage: &Damage);
}

/// A part of a block.
enum Piece {
    /// By its offset in the block.
    Record {
        at: usize,
        len: usize,
    },
    Damage(Damage),
}

pub(crate) struct Walk<'a> {
    medium: &'a mut dyn Medium,
    superblock: &'a Superblock,
    geometry: Geometry,
    reader: Reader,
    /// The page cache was lost: in what the last boot wrote, the first hole is the end.
    lost_cache: bool,
    /// Parts of the block being read; kept to be reused.
    pieces: Vec<Piece>,
    at: LogOffset,
    last: Option<BlockHeader>,
    found: Recovered,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        medium: &'a mut dyn Medium,
        superblock: &'a Superblock,
        index: SegmentIndex,
        lost_cache: bool,
    ) -> Self {
        let geometry = superblock.geometry;
        let found = Recovered {
            end: superblock.replay_from,
            entry: LogOffset::NONE,
            replay_from: superblock.replay_from,
            damage: Vec::new(),
            torn_tail: None,
            cut: None,
            rewound: lost_cache,
            sealed: false,
            blocks: 0,
            records: 0,
            bytes: 0,
            last_boot_id: index.boots.last(),
            segments: Vec::new(),
            free: index.free.clone(),
            unknown: index.unknown.iter().map(|file| file.id).collect(),
        };
        let window = (2 * geometry.block_max()).min(geometry.segment_size);
        Walk {
            medium,
            superblock,
            geometry,
            reader: Reader::new(superblock, index, window),
            lost_cache,
            pieces: Vec::new(),
            at: superblock.replay_from,
            last: None,
            found,
        }
    }

    pub(crate) fn run(
        mut self,
        from: LogOffset,
        observer: &mut dyn Observer,
    ) -> Result<Recovered, RecoverError> {
        self.at = from;
        loop {
            let boot_before = self.boot_before();
            let at_start = self.last.is_none() && self.at == from;
            let next = self.reader.follows(self.medium, self.at, boot_before, at_start, NO_BOUND)?;
            let goes_on = match next {
                Some(header) => self.read(header, observer)?,
                None => self.cross(observer)?,
            };
            if !goes_on {
                break;
            }
        }
        self.finish(observer);
        Ok(self.found)
    }

    fn boot_before(&self) -> u64 {
        self.last.map_or(0, |last| last.boot_id)
    }

    /// Whether what stands at `place` was written by the last boot into a page cache that is gone.
    fn may_be_gone(&self, place: LogOffset) -> bool {
        self.lost_cache && place >= self.superblock.start
    }

    /// Case 1, and the end of case 2: reads a block whose header holds. False ends the walk.
    fn read(&mut self, header: BlockHeader, observer: &mut dyn Observer) -> Result<bool, RecoverError> {
        if self.may_be_gone(header.offset) && crate::plant::is("flushed-taken-for-gone") {
            return Ok(false);
        }
        if self.look_at(&header) && self.is_the_end(&header)? {
            return Ok(false);
        }
        self.tell(&header, observer);
        self.at = header.end();
        self.last = Some(header);
        self.found.blocks += 1;
        self.found.bytes += u64::from(header.size());
        self.found.last_boot_id = self.found.last_boot_id.max(header.boot_id);
        Ok(true)
    }

    /// A block has lost a record. Is that a write that never ended, and the log ends before it?
    fn is_the_end(&mut self, header: &BlockHeader) -> Result<bool, RecoverError> {
        let mut acknowledged_to = header.offset;
        if header.end() <= self.superblock.known_end() || header.flags.contains(BlockFlags::SEAL) {
            acknowledged_to = header.end();
        } else if let Some(behind) = self.search(header.end(), header.boot_id) {
            acknowledged_to = behind.end();
        }
        let acknowledged = acknowledged_to > header.offset;
        if acknowledged && !self.may_be_gone(header.offset) {
            return Ok(false);
        }
        self.check_readable(header.offset, header.end())?;
        self.check_strangers()?;
        // Where the writer had rolled to get here, the log ends where it rolled.
        self.at = self.at.max(header.prev).min(header.offset);
        if acknowledged {
            self.found.cut = Some(Cut { at: header.offset, beyond: acknowledged_to });
        } else {
            self.found.torn_tail = Some(TornTail { at: header.offset, size: header.size() });
            if crate::plant::is("append-behind-the-torn-tail") {
                self.at = header.end();
            }
        }
        Ok(true)
    }

    /// Checks every sum of a block into `pieces`, and says whether a record is gone.
    fn look_at(&mut self, header: &BlockHeader) -> bool {
        self.pieces.clear();
        let salt = self.reader.salt();
        let segment = header.segment;
        let place = |at: usize| header.offset.plus(at as u64);
        let block = self.reader.block(self.medium, header, NO_BOUND);
        let mut lost = false;
        for found in BlockReader::new(block, *header, salt) {
            let (from, to, what, slot) = match found {
                Found::Record(record) => {
                    let at = (record.offset.0 - header.offset.0) as usize;
                    self.pieces.push(Piece::Record { at, len: record.body.len() });
                    continue;
                }
                Found::Lost { from, to, slot } => (from, to, DamageKind::Record, slot),
                Found::Padding { from, to } => (from, to, DamageKind::Padding, None),
            };
            lost |= what == DamageKind::Record;
            let (from, to) = (place(from), place(to));
            self.pieces.push(Piece::Damage(Damage { segment, from, to, what, slot }));
        }
        if lost {
            for piece in &mut self.pieces {
                if let Piece::Damage(damage) = piece
                    && damage.what == DamageKind::Record
                {
                    damage.what = self.reader.kind_of(segment, damage.from, damage.to, damage.what);
                }
            }
        }
        lost
    }

    /// Hands on what [`look_at`](Self::look_at) found.
    fn tell(&mut self, header: &BlockHeader, observer: &mut dyn Observer) {
        observer.block(header);
        let block = self.reader.block(self.medium, header, NO_BOUND);
        for piece in &self.pieces {
            match piece {
                Piece::Record { at, len } => {
                    observer.record(record_at(block, header, *at, *len));
                    self.found.records += 1;
                }
                Piece::Damage(damage) => {
                    observer.damage(damage);
                    self.found.damage.push(*damage);
                }
            }
        }
    }

    fn damaged(&mut self, damage: Damage, observer: &mut dyn Observer) {
        observer.damage(&damage);
        self.found.damage.push(damage);
    }

    fn search(&mut self, from: LogOffset, boot_before: u64) -> Option<BlockHeader> {
        let until = self.superblock.clean_end.unwrap_or(NO_BOUND);
        self.reader.search(self.medium, from, boot_before, until)
    }

    /// Cases 2 and 3. False ends the walk.
    fn cross(&mut self, observer: &mut dyn Observer) -> Result<bool, RecoverError> {
        if self.superblock.clean_end == Some(self.at) {
            return Ok(false);
        }
        let behind = self.search(self.at, self.boot_before());
        if self.may_be_gone(self.at) {
            self.found.cut = behind.map(|behind| Cut { at: self.at, beyond: behind.end() });
            return Ok(false);
        }
        let known_end = self.superblock.known_end();
        let stop = behind.map_or(known_end, |behind| behind.prev);
        if stop > self.at {
            for damage in self.reader.gap(self.medium, self.at, stop, behind.as_ref()) {
                self.damaged(damage, observer);
            }
            self.at = stop;
        } else if behind.is_none() {
            // The log seems to end here. No verdict, where the device refuses to say what stands here.
            self.check_readable(self.at, self.at.plus(u64::from(self.geometry.align)))?;
            self.check_strangers()?;
            let ruin = self.reader.ruin(self.medium, self.at);
            self.found.torn_tail = ruin.map(|size| TornTail { at: self.at, size });
        }
        match behind {
            Some(header) => self.read(header, observer),
            None => Ok(false),
        }
    }

    fn check_readable(&self, from: LogOffset, to: LogOffset) -> Result<(), RecoverError> {
        match self.reader.refused(from, to) {
            Some(bad) => Err(RecoverError::Unreadable { file: bad.file, at: bad.from, error: bad.error }),
            None => Ok(()),
        }
    }

    /// A file that nobody recognises because the device refuses to read it may be the segment that comes next.
    fn check_strangers(&self) -> Result<(), RecoverError> {
        match self.reader.index.refused.first() {
            Some(bad) => Err(RecoverError::Unreadable { file: bad.file, at: bad.from, error: bad.error }),
            None => Ok(()),
        }
    }

    /// The walk has ended at `self.at`: decide where the next boot appends, and sort the files.
    fn finish(&mut self, observer: &mut dyn Observer) {
        self.found.sealed = match self.superblock.clean_end {
            Some(end) => end == self.at,
            None => self.last.is_some_and(|last| {
                last.flags.contains(BlockFlags::SEAL)
                    && last.end() == self.at
                    && self.found.torn_tail.is_none()
            }),
        };
        if crate::plant::is("append-before-the-end")
            && let Some(last) = self.last
            && last.offset >= self.superblock.start
        {
            self.at = last.offset;
        }
        self.found.end = self.at;
        self.leave_a_short_file(observer);
        self.count_files(observer);
        let end = self.found.end;
        if let Some(last) = self.last {
            if last.segment == self.geometry.segment_of(end) {
                self.found.entry = last.entry;
            }
            if self.found.damage.is_empty() {
                self.found.replay_from = self.found.replay_from.max(last.replay_from);
            }
        }
        for file in self.reader.index.all() {
            if self.geometry.start_of(file.segment) < end {
                self.found.segments.push((file.segment, file.file));
            } else {
                self.found.free.push(file.file);
            }
        }
        self.reuse_unknown_files();
        self.found.free.sort();
    }

    /// A torn first block leaves a file that nobody recognises. Where nothing is lost nobody will look for
    /// anything in it, and where files are counted none of them is a stranger's.
    fn reuse_unknown_files(&mut self) {
        let strangers =
            self.superblock.files != 0 && self.reader.index.file_count > self.superblock.files as usize;
        if strangers || !self.found.damage.is_empty() {
            return;
        }
        let whole = u64::from(self.geometry.segment_size);
        let refused = |file: &FileSlot| self.reader.index.refused.iter().any(|bad| bad.file == file.id);
        for file in self.reader.index.unknown.iter().filter(|file| file.len == whole && !refused(file)) {
            self.found.unknown.retain(|unknown| *unknown != file.id);
            self.found.free.push(file.id);
        }
    }

    /// Nothing can be appended to a file that is gone or cut short, and what it held behind `end` is unknown.
    fn leave_a_short_file(&mut self, observer: &mut dyn Observer) {
        let from = self.found.end;
        let segment = self.geometry.segment_of(from);
        let len = self.reader.index.get(segment).map_or(0, |file| file.len);
        if self.geometry.within(from) == 0 || len >= u64::from(self.geometry.segment_size) {
            return;
        }
        let to = self.geometry.start_of(segment + 1);
        if !self.found.sealed {
            self.damaged(Damage { segment, from, to, what: DamageKind::Missing, slot: None }, observer);
        }
        self.found.end = to;
    }

    /// A file may be missing without anything behind it that tells what it held: the log may have gone on there.
    fn count_files(&mut self, observer: &mut dyn Observer) {
        let gone = self.reader.index.file_count < self.superblock.files as usize;
        let named = self.found.damage.iter().any(|damage| damage.what == DamageKind::Missing);
        if gone && !named && !self.found.sealed {
            let from = self.found.end;
            let segment = self.geometry.segment_of(from);
            let to = self.geometry.start_of(segment + 1);
            self.damaged(Damage { segment, from, to, what: DamageKind::Missing, slot: None }, observer);
        }
    }
}
