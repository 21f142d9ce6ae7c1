//! Finding blocks: the one that follows, the next one behind a hole, and what lies between.

use crate::damage::{Damage, DamageKind};
use crate::geometry::{Geometry, LogOffset};
use crate::header::{BLOCK_HEADER_SIZE, BlockHeader, HeaderError};
use crate::index::SegmentIndex;
use crate::little::first_nonzero;
use crate::medium::{Medium, Unreadable, Window};
use crate::recover::RecoverError;
use crate::superblock::Superblock;

/// No byte at or behind this place is read: there is no such bound.
pub(crate) const NO_BOUND: LogOffset = LogOffset(u64::MAX);

/// Reads blocks of one journal at places that the caller names. Keeps no place of its own.
pub(crate) struct Reader {
    geometry: Geometry,
    shard: u16,
    generation: u32,
    salt: u64,
    pub(crate) index: SegmentIndex,
    main: Window,
    /// A second window, so that looking ahead does not lose the block being read.
    ahead: Window,
}

impl Reader {
    /// `window` bytes are read at a time; at least the largest block.
    pub(crate) fn new(superblock: &Superblock, index: SegmentIndex, window: u32) -> Self {
        let geometry = superblock.geometry;
        Reader {
            geometry,
            shard: superblock.shard,
            generation: superblock.generation,
            salt: superblock.salt,
            index,
            main: Window::new(window.max(geometry.block_max()), geometry.align),
            ahead: Window::new(geometry.block_max().min(256 << 10), geometry.align),
        }
    }

    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    /// How far into a segment may be read.
    fn bound(&self, segment: u32, until: LogOffset) -> u64 {
        until.0.saturating_sub(self.geometry.start_of(segment).0).min(u64::from(self.geometry.segment_size))
    }

    /// Whether a header found at `place` is a living block of the log: a file may hold blocks of other laps too.
    fn lives(&self, header: &BlockHeader, place: LogOffset, boot_before: u64) -> bool {
        header.offset == place
            && header.fits(&self.geometry, self.shard, self.generation, self.geometry.within(place))
            && self.index.boots.admit(header, boot_before)
    }

    /// The block that follows at `at`, after a block of boot `boot_before`: here, or at the start of the next
    /// segment when the writer rolled. At the start of a walk a first block may point to where the walk has not
    /// been.
    pub(crate) fn follows(
        &mut self,
        medium: &mut dyn Medium,
        at: LogOffset,
        boot_before: u64,
        at_start: bool,
        until: LogOffset,
    ) -> Result<Option<BlockHeader>, RecoverError> {
        let within = self.geometry.within(at);
        let segment = self.geometry.segment_of(at);
        if within != 0
            && let Some(next) = self.index.get(segment + 1).and_then(|next| next.first)
            && next.prev == at
            && next.offset < until
            && self.index.boots.admit(&next, boot_before)
        {
            return Ok(Some(next));
        }
        let Some(file) = self.index.get(segment).map(|file| file.file) else { return Ok(None) };
        let bound = self.bound(segment, until);
        if u64::from(within) + BLOCK_HEADER_SIZE as u64 > bound {
            return Ok(None);
        }
        let bytes = self.main.view(medium, file, u64::from(within), BLOCK_HEADER_SIZE, bound);
        match BlockHeader::decode(bytes, self.salt) {
            Ok(header) => {
                let follows = self.lives(&header, at, boot_before)
                    && (header.prev == at || at_start)
                    && header.end() <= until;
                Ok(follows.then_some(header))
            }
            Err(HeaderError::UnknownVersion(version)) => Err(RecoverError::UnknownFormat(version)),
            Err(HeaderError::NotABlock | HeaderError::Damaged) => Ok(None),
        }
    }

    /// All bytes of a block whose header was found by this reader.
    pub(crate) fn block(&mut self, medium: &mut dyn Medium, header: &BlockHeader, until: LogOffset) -> &[u8] {
        let file = self.index.get(header.segment).expect("the header was read from this segment's file").file;
        let within = u64::from(self.geometry.within(header.offset));
        let bound = self.bound(header.segment, until);
        self.main.view(medium, file, within, header.size() as usize, bound)
    }

    /// The next living block at or behind `from`, in the order of the log, that ends no later than `until`.
    pub(crate) fn search(
        &mut self,
        medium: &mut dyn Medium,
        from: LogOffset,
        boot_before: u64,
        until: LogOffset,
    ) -> Option<BlockHeader> {
        let align = self.geometry.align as usize;
        for file in self.index.from(self.geometry.segment_of(from)) {
            let start = self.geometry.start_of(file.segment);
            let bound = self.bound(file.segment, until);
            let told = self.index.limit(file.segment).unwrap_or(NO_BOUND).0.saturating_sub(start.0);
            let first = from.0.saturating_sub(start.0);
            for within in (first..bound.min(told).min(file.len)).step_by(align) {
                let want = BLOCK_HEADER_SIZE.min((bound - within) as usize);
                let unit = self.ahead.view(medium, file.file, within, want, bound);
                if let Ok(header) = BlockHeader::decode(unit, self.salt)
                    && self.lives(&header, start.plus(within), boot_before)
                    && header.prev >= from
                    && header.end() <= until
                {
                    return Some(header);
                }
            }
        }
        None
    }

    /// What was lost between `at` and `stop`, segment by segment. `behind` is the block that follows, if any.
    pub(crate) fn gap(
        &mut self,
        medium: &mut dyn Medium,
        at: LogOffset,
        stop: LogOffset,
        behind: Option<&BlockHeader>,
    ) -> Vec<Damage> {
        let mut gaps = Vec::new();
        let mut from = at;
        while from < stop {
            let segment = self.geometry.segment_of(from);
            let next = self.geometry.start_of(segment + 1);
            let file_is_gone = self.index.get(segment).is_none() && self.geometry.within(from) == 0;
            let (to, goes_on) = if file_is_gone {
                self.gap_of_files(segment, stop)
            } else {
                let told = self.index.limit(segment).or_else(|| {
                    let entry = behind.filter(|behind| behind.segment == segment + 1)?.entry;
                    (entry != LogOffset::NONE).then_some(entry)
                });
                // Behind the last block of a segment nothing was lost, if the bytes there look like nobody's.
                let rolled = told.is_none() && next < stop && from == at && self.is_untouched(medium, from);
                (if rolled { from } else { told.unwrap_or(next).min(stop) }, next.min(stop))
            };
            if from < to {
                let what = self.kind_of(segment, from, to, DamageKind::Stretch);
                gaps.push(Damage { segment, from, to, what, slot: None });
            }
            from = goes_on;
        }
        if gaps.is_empty() && behind.is_none() && at < stop {
            // Headers that contradict each other talk no loss away.
            let segment = self.geometry.segment_of(at);
            let to = self.geometry.start_of(segment + 1).min(stop);
            gaps.push(Damage { segment, from: at, to, what: DamageKind::Stretch, slot: None });
        }
        gaps
    }

    /// A run of whole segments without a file is one thing to say: its end, and where the next file begins.
    fn gap_of_files(&self, segment: u32, stop: LogOffset) -> (LogOffset, LogOffset) {
        let next = self.index.from(segment).first().map(|file| file.segment);
        let goes_on = next.map_or(stop, |next| self.geometry.start_of(next)).min(stop);
        let told = next.and_then(|next| self.index.limit(next - 1));
        let told = told.filter(|told| *told > self.geometry.start_of(segment));
        (told.unwrap_or(goes_on).min(goes_on), goes_on)
    }

    /// Whether at `at` there are zeros, or a block that an older lap or boot left.
    fn is_untouched(&mut self, medium: &mut dyn Medium, at: LogOffset) -> bool {
        let within = u64::from(self.geometry.within(at));
        let Some(file) = self.index.get(self.geometry.segment_of(at)).filter(|_| within != 0) else {
            return false;
        };
        let bound = u64::from(self.geometry.segment_size);
        let unit = self.ahead.view(medium, file.file, within, self.geometry.align as usize, bound);
        first_nonzero(unit).is_none() || BlockHeader::decode(unit, self.salt).is_ok()
    }

    /// The size of a block at `at` of which only the ruins of a header are left.
    pub(crate) fn ruin(&mut self, medium: &mut dyn Medium, at: LogOffset) -> Option<u32> {
        let within = u64::from(self.geometry.within(at));
        let file = self.index.get(self.geometry.segment_of(at))?.file;
        let bound = u64::from(self.geometry.segment_size);
        let unit = self.ahead.view(medium, file, within, BLOCK_HEADER_SIZE, bound);
        match BlockHeader::decode(unit, self.salt) {
            // A sound header that did not follow is what an older lap or boot left.
            Ok(_) | Err(HeaderError::UnknownVersion(_)) => None,
            Err(HeaderError::NotABlock | HeaderError::Damaged) => {
                BlockHeader::was_here(unit, at, &self.geometry)
            }
        }
    }

    /// `kind`, unless the bytes are not there at all or cannot be read.
    pub(crate) fn kind_of(
        &self,
        segment: u32,
        from: LogOffset,
        to: LogOffset,
        kind: DamageKind,
    ) -> DamageKind {
        let Some(file) = self.index.get(segment) else { return DamageKind::Missing };
        let start = self.geometry.start_of(segment).0;
        if to.0 - start > file.len {
            return DamageKind::Missing;
        }
        if self.refused(from, to).is_some() { DamageKind::Unreadable } else { kind }
    }

    /// Bytes between `from` and `to`, in one segment, that the device refused to give.
    pub(crate) fn refused(&self, from: LogOffset, to: LogOffset) -> Option<&Unreadable> {
        let segment = self.geometry.segment_of(from);
        let file = self.index.get(segment)?.file;
        let start = self.geometry.start_of(segment).0;
        let (from, to) = (from.0 - start, to.0 - start);
        let mut all = self.main.unreadable.iter().chain(&self.ahead.unreadable);
        all.find(|bad| bad.file == file && bad.from < to && from < bad.to)
    }
}
