//! Which file holds which segment, found out from block headers alone, and which boots may speak where.

use std::cmp::Ordering;

use crate::geometry::{Geometry, LogOffset};
use crate::header::{BLOCK_HEADER_SIZE, BlockHeader, HeaderError};
use crate::little::first_nonzero;
use crate::medium::{FileSlot, FileSlotId, Medium, Unreadable, Window, read_whole};
use crate::recover::RecoverError;
use crate::superblock::Superblock;

/// A segment and the file it lies in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) segment: u32,
    pub(crate) file: FileSlotId,
    pub(crate) len: u64,
    /// The header of its first block, if that is sound and alive.
    pub(crate) first: Option<BlockHeader>,
    /// Where the segment before it ends, if any of its headers says so.
    pub(crate) entry: LogOffset,
    boot_id: u64,
}

/// What is known about the boots before a single record is read.
#[derive(Clone, Debug)]
pub(crate) struct Boots {
    /// (where, boot): that boot began to append there, so what older boots left from there on is dead.
    starts: Vec<(LogOffset, u64)>,
    last_start: LogOffset,
    last_boot: u64,
    clean_end: Option<LogOffset>,
}

impl Boots {
    fn new(superblock: &Superblock) -> Self {
        Boots {
            starts: vec![(superblock.start, superblock.boot_id)],
            last_start: superblock.start,
            last_boot: superblock.boot_id,
            clean_end: superblock.clean_end,
        }
    }

    /// The oldest boot that may have a block at `offset`.
    fn floor(&self, offset: LogOffset) -> u64 {
        self.starts.iter().filter(|(start, _)| *start <= offset).map(|&(_, boot)| boot).max().unwrap_or(0)
    }

    /// The highest boot id that was ever used, as far as is known.
    pub(crate) fn last(&self) -> u64 {
        self.starts.iter().map(|&(_, boot)| boot).max().unwrap_or(0)
    }

    /// Whether a block that fits its place belongs to the log, and is not what an older boot left there.
    pub(crate) fn admit(&self, header: &BlockHeader, boot_before: u64) -> bool {
        if crate::plant::is("no-boot-id") {
            return true;
        }
        let known = header.boot_id <= self.last_boot;
        let too_late = self.clean_end.is_some_and(|end| known && header.end() > end);
        let too_young = header.offset < self.last_start && header.boot_id >= self.last_boot;
        header.boot_id >= boot_before.max(self.floor(header.offset)) && !too_late && !too_young
    }
}

/// All files of a journal, sorted out.
#[derive(Clone, Debug)]
pub(crate) struct SegmentIndex {
    /// By number, each once.
    segments: Vec<SegmentFile>,
    /// Files that hold nothing of the log.
    pub(crate) free: Vec<FileSlotId>,
    /// Files with something in them that is not ours or no longer readable.
    pub(crate) unknown: Vec<FileSlot>,
    /// Of them, those parts of which the device refuses: the log may go on there.
    pub(crate) refused: Vec<Unreadable>,
    pub(crate) file_count: usize,
    pub(crate) boots: Boots,
}

/// How hard to look at a file whose first header says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Not at all: a follower is content with what it needs now.
    FirstHeaders,
    /// Read it through, and hunt for segments that must exist.
    Whole,
}

impl SegmentIndex {
    pub(crate) fn build(
        medium: &mut dyn Medium,
        superblock: &Superblock,
        depth: Depth,
    ) -> Result<SegmentIndex, RecoverError> {
        let files = medium.segments().map_err(RecoverError::Directory)?;
        let mut index = SegmentIndex {
            segments: Vec::with_capacity(files.len()),
            free: Vec::new(),
            unknown: Vec::new(),
            refused: Vec::new(),
            file_count: files.len(),
            boots: Boots::new(superblock),
        };
        let mut scanner = Scanner { superblock, window: None };
        for file in &files {
            match scanner.first_header(medium, file)? {
                Some(first) => index.add(file, first, Some(first))?,
                None if depth == Depth::FirstHeaders => index.unknown.push(*file),
                None => match scanner.newest(medium, file, |_| true) {
                    Ok(sample) => index.add(file, sample, None)?,
                    Err(Empty::Zeros) => index.free.push(file.id),
                    Err(Empty::Foreign(refused)) => {
                        index.unknown.push(*file);
                        index.refused.extend(refused);
                    }
                },
            }
        }
        index.forget_stale_headers();
        if depth == Depth::Whole {
            index.hunt(medium, superblock, &mut scanner, &files)?;
        }
        Ok(index)
    }

    pub(crate) fn get(&self, segment: u32) -> Option<&SegmentFile> {
        let at = self.segments.binary_search_by_key(&segment, |file| file.segment).ok()?;
        Some(&self.segments[at])
    }

    /// All segments from `segment` on, in order.
    pub(crate) fn from(&self, segment: u32) -> &[SegmentFile] {
        &self.segments[self.segments.partition_point(|file| file.segment < segment)..]
    }

    pub(crate) fn all(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Where the blocks of a segment end, if its successor says so.
    pub(crate) fn limit(&self, segment: u32) -> Option<LogOffset> {
        self.get(segment + 1).map(|next| next.entry).filter(|entry| *entry != LogOffset::NONE)
    }

    fn add(
        &mut self,
        file: &FileSlot,
        header: BlockHeader,
        first: Option<BlockHeader>,
    ) -> Result<(), RecoverError> {
        let entry = first.map_or(header.entry, |first| first.prev);
        let (segment, boot_id) = (header.segment, header.boot_id);
        let new = SegmentFile { segment, file: file.id, len: file.len, first, entry, boot_id };
        let start = (header.boot_start, boot_id);
        if !self.boots.starts.contains(&start) {
            self.boots.starts.push(start);
        }
        match self.segments.binary_search_by_key(&segment, |file| file.segment) {
            Err(at) => self.segments.insert(at, new),
            Ok(at) => {
                // A block that was cut off, and its segment written again to another file: the younger boot counts,
                // and then the file that says so in its first block.
                let old = self.segments[at];
                let rank = |file: &SegmentFile| (file.boot_id, file.first.is_some());
                let (kept, dropped) = match rank(&new).cmp(&rank(&old)) {
                    Ordering::Greater => (new, old),
                    Ordering::Less => (old, new),
                    Ordering::Equal => {
                        return Err(RecoverError::TwoFiles { segment, files: [old.file, file.id] });
                    }
                };
                self.segments[at] = kept;
                self.free.push(dropped.file);
            }
        }
        Ok(())
    }

    /// Headers that an older boot left, where a younger one began later, say nothing about the log.
    fn forget_stale_headers(&mut self) {
        for file in &mut self.segments {
            if let Some(first) = &file.first
                && !self.boots.admit(first, 0)
            {
                file.first = None;
                file.entry = LogOffset::NONE;
            }
        }
    }

    /// Looks for segments that must exist in files that seem to hold something older: their first block was lost
    /// and shows what the file held before.
    fn hunt(
        &mut self,
        medium: &mut dyn Medium,
        superblock: &Superblock,
        scanner: &mut Scanner<'_>,
        files: &[FileSlot],
    ) -> Result<(), RecoverError> {
        let geometry = superblock.geometry;
        let first = geometry.segment_of(superblock.replay_from);
        let known_end = superblock.known_end();
        let mut behind = geometry.segment_of(known_end) + u32::from(geometry.within(known_end) != 0);
        if let Some(last) = self.segments.last() {
            behind = behind.max(last.segment);
        }
        let present = self.from(first).iter().filter(|file| file.segment < behind).count();
        if present >= behind.saturating_sub(first) as usize {
            return Ok(());
        }
        for file in files {
            let needed =
                |index: &Self, segment| (first..behind).contains(&segment) && index.get(segment).is_none();
            if self.segments.iter().any(|held| held.file == file.id && held.segment >= first) {
                continue;
            }
            let found = scanner
                .newest(medium, file, |header| needed(self, header.segment) && self.boots.admit(header, 0));
            if let Ok(sample) = found {
                self.segments.retain(|held| held.file != file.id);
                self.free.retain(|free| *free != file.id);
                self.unknown.retain(|unknown| unknown.id != file.id);
                self.refused.retain(|refused| refused.file != file.id);
                self.add(file, sample, None)?;
            }
        }
        Ok(())
    }
}

enum Empty {
    Zeros,
    /// With what the device refused of it, if anything.
    Foreign(Option<Unreadable>),
}

struct Scanner<'a> {
    superblock: &'a Superblock,
    /// Made when a file must be read through, which is rare.
    window: Option<Window>,
}

impl Scanner<'_> {
    fn geometry(&self) -> Geometry {
        self.superblock.geometry
    }

    fn first_header(
        &self,
        medium: &mut dyn Medium,
        file: &FileSlot,
    ) -> Result<Option<BlockHeader>, RecoverError> {
        let mut bytes = [0; BLOCK_HEADER_SIZE];
        if read_whole(medium, file.id, 0, &mut bytes).is_err() {
            return Ok(None);
        }
        match BlockHeader::decode(&bytes, self.superblock.salt) {
            Ok(header) => Ok(self.fits(&header, 0).then_some(header)),
            Err(HeaderError::UnknownVersion(version)) => Err(RecoverError::UnknownFormat(version)),
            Err(HeaderError::NotABlock | HeaderError::Damaged) => Ok(None),
        }
    }

    fn fits(&self, header: &BlockHeader, within: u32) -> bool {
        header.fits(&self.geometry(), self.superblock.shard, self.superblock.generation, within)
    }

    /// The header of the youngest block in a file that `wanted` accepts.
    fn newest(
        &mut self,
        medium: &mut dyn Medium,
        file: &FileSlot,
        wanted: impl Fn(&BlockHeader) -> bool,
    ) -> Result<BlockHeader, Empty> {
        let geometry = self.geometry();
        let mut window =
            self.window.take().unwrap_or_else(|| Window::new(geometry.block_max(), geometry.align));
        let limit = u64::from(geometry.segment_size).min(file.len);
        let mut newest: Option<BlockHeader> = None;
        let mut blank = true;
        for within in (0..limit).step_by(geometry.align as usize) {
            let want = (limit - within).min(u64::from(geometry.align)) as usize;
            let unit = window.view(medium, file.id, within, want, limit);
            blank = blank && first_nonzero(unit).is_none();
            if let Ok(header) = BlockHeader::decode(unit, self.superblock.salt)
                && self.fits(&header, within as u32)
                && wanted(&header)
                && newest
                    .is_none_or(|newest| (header.segment, header.boot_id) > (newest.segment, newest.boot_id))
            {
                newest = Some(header);
            }
        }
        let refused = window.unreadable.first().copied();
        blank = blank && refused.is_none();
        window.unreadable.clear();
        self.window = Some(window);
        newest.ok_or(if blank { Empty::Zeros } else { Empty::Foreign(refused) })
    }
}
