//! One shard's disk: a superblock file and segment files as byte arrays, with what a crash leaves of them.
//!
//! ```text
//!   write landed   level disk: durable.   level memory: in the page cache until a flush; each sector may be lost with the power.
//!   flush          when the files are opened, and before a superblock that relies on what was written (its replay begins elsewhere, or it is a seal)
//!   flush failed   the page cache is forgotten, and the superblock says so
//!   in flight      any subset of its 512-byte sectors may have landed; the others keep their old bytes
//! ```
//! A file is as long as it says; its bytes are kept only as far as something was written.

use std::collections::BTreeMap;
use std::io;

use journal::{FileSlot, FileSlotId, LogOffset, Medium, SUPERBLOCK_SIZE, Superblock};

use crate::chance::Chance;

/// What is torn apart by a crash.
pub(crate) const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// One segment file.
#[derive(Default)]
struct File {
    /// Its length; behind `bytes` it is zero.
    len: u64,
    bytes: Vec<u8>,
    /// Sectors that only the page cache has, with what the device has instead.
    unflushed: BTreeMap<u32, Sector>,
}

impl File {
    fn sector(&self, index: usize) -> Sector {
        let mut sector = [0; SECTOR];
        let from = (index * SECTOR).min(self.bytes.len());
        let to = ((index + 1) * SECTOR).min(self.bytes.len());
        sector[..to - from].copy_from_slice(&self.bytes[from..to]);
        sector
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        assert!(
            end as u64 <= self.len,
            "blocks are written into segments that are there: {end} in {}",
            self.len
        );
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
    }
}

/// What is on its way to the disk.
pub(crate) enum Flight {
    Block {
        file: FileSlotId,
        at: u32,
        bytes: Vec<u8>,
    },
    Superblock {
        halves: [(u64, Vec<u8>); 2],
        /// How many of them are flushed.
        done: usize,
        /// What was written before this time is flushed first.
        flush_us: Option<u64>,
    },
}

/// A segment that is being made ready.
struct Preparing {
    segment: u32,
    make: Make,
}

/// What there is already.
#[derive(Clone, Copy)]
enum Make {
    /// No such file: it is made under another name and renamed when it is whole.
    New,
    /// A file that holds nothing of the log: zeros over it, from the front.
    Wipe(FileSlotId),
    /// A segment of the log: it is left as it is.
    Open,
}

/// One shard's disk.
pub(crate) struct Disk {
    superblock: Vec<u8>,
    files: Vec<File>,
    /// Which file holds which segment, as the running process knows it.
    segments: BTreeMap<u32, FileSlotId>,
    free: Vec<FileSlotId>,
    flight: Option<Flight>,
    preparing: Option<Preparing>,
    segment_size: u64,
    /// Whether a landed write still needs a flush to outlive the power.
    cached: bool,
    /// Where the last superblock lets a replay begin.
    replay_from: LogOffset,
    /// What had landed before this time outlives the power.
    flushed_us: u64,
}

impl Disk {
    /// A disk that was formatted with this superblock, all of it durable.
    pub(crate) fn new(superblock: &Superblock) -> Disk {
        let mut bytes = Vec::with_capacity(SUPERBLOCK_SIZE);
        for copy in 0..journal::SUPERBLOCK_COPIES {
            bytes.extend_from_slice(&superblock.encode(copy));
        }
        Disk {
            superblock: bytes,
            files: Vec::new(),
            segments: BTreeMap::new(),
            free: Vec::new(),
            flight: None,
            preparing: None,
            segment_size: u64::from(superblock.geometry.segment_size),
            cached: false,
            replay_from: superblock.replay_from,
            flushed_us: 0,
        }
    }

    /// A process opens the files: each is flushed before its first read.
    pub(crate) fn open(&mut self, cached: bool, now_us: u64) -> &[u8] {
        assert!(self.flight.is_none() && self.preparing.is_none(), "a crash ends what was in flight");
        self.flush(now_us);
        self.cached = cached;
        &self.superblock
    }

    /// Segments of the log.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// What had landed before this time must outlive every loss of the power.
    pub(crate) fn flushed_us(&self) -> u64 {
        self.flushed_us
    }

    /// The flush in front of a superblock, if it wants one.
    fn flush_first(&mut self, before_us: Option<u64>) {
        if let Some(before_us) = before_us {
            self.flush(before_us);
        }
    }

    fn flush(&mut self, before_us: u64) {
        for file in &mut self.files {
            file.unflushed.clear();
        }
        self.flushed_us = before_us;
    }

    /// What recovery said of the files.
    pub(crate) fn recovered(&mut self, segments: &[(u32, FileSlotId)], free: &[FileSlotId]) {
        self.segments = segments.iter().copied().collect();
        self.free = free.to_vec();
    }

    /// A block goes out.
    pub(crate) fn begin_block(&mut self, segment: u32, at: u32, bytes: &[u8]) {
        assert!(self.flight.is_none(), "one write is in flight at a time");
        assert!(
            (at as usize).is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR),
            "writes are aligned"
        );
        let file = *self.segments.get(&segment).expect("the segment was prepared");
        self.flight = Some(Flight::Block { file, at, bytes: bytes.to_vec() });
    }

    /// A superblock goes out, at every level behind a flush of what it relies on, as the edge does it.
    pub(crate) fn begin_superblock(&mut self, superblock: &Superblock, now_us: u64) {
        assert!(self.flight.is_none(), "one write is in flight at a time");
        let moves = superblock.replay_from != self.replay_from;
        let flush_us = superblock.relies_on_the_log(self.replay_from).then_some(now_us);
        self.replay_from = superblock.replay_from;
        if moves && flush_us.is_none() {
            // A planted bug leaves the flush out; what it should have covered is demanded all the same.
            self.flushed_us = now_us;
        }
        self.flight = Some(Flight::Superblock { halves: superblock.halves(), done: 0, flush_us });
    }

    pub(crate) fn flying(&self) -> Option<&Flight> {
        self.flight.as_ref()
    }

    /// What was in flight has landed, or half of a superblock has. Returns whether nothing is in flight any more.
    pub(crate) fn land(&mut self) -> bool {
        match self.flight.take().expect("something is in flight") {
            Flight::Block { file, at, bytes } => {
                let cached = self.cached;
                let file = &mut self.files[file.0 as usize];
                if cached {
                    for index in 0..bytes.len() / SECTOR {
                        let sector = at as usize / SECTOR + index;
                        let old = file.sector(sector);
                        file.unflushed.entry(sector as u32).or_insert(old);
                    }
                }
                file.put(at as usize, &bytes);
                true
            }
            Flight::Superblock { halves, done, flush_us } => {
                self.flush_first(flush_us);
                let (at, bytes) = &halves[done];
                self.superblock[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
                if done == 0 {
                    self.flight = Some(Flight::Superblock { halves, done: 1, flush_us: None });
                    return false;
                }
                true
            }
        }
    }

    /// Whether what is in flight begins with a flush of what was acknowledged before it.
    pub(crate) fn is_flushing_late(&self) -> bool {
        self.cached && matches!(self.flight, Some(Flight::Superblock { flush_us: Some(_), .. }))
    }

    /// The write in flight failed: any part of it may have landed. Returns whether it was a flush of what had been acknowledged before.
    pub(crate) fn fail(&mut self, chance: &mut Chance) -> bool {
        if !(self.is_flushing_late() && chance.percent(50)) {
            self.tear(chance);
            return false;
        }
        // The kernel calls the pages clean; recovery asks the device, which has some of them.
        self.flight = None;
        for file in &mut self.files {
            lose_cached(file, chance);
        }
        let superblock = Superblock::decode_best(&self.superblock).expect("one copy holds at any time");
        if let Some(doubtful) = superblock.in_doubt() {
            for (at, bytes) in doubtful.halves() {
                self.superblock[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            }
        }
        true
    }

    /// Begins to make a segment ready. A free file is used again before a new one is made.
    pub(crate) fn begin_segment(&mut self, segment: u32) {
        assert!(self.preparing.is_none(), "one segment is prepared at a time");
        let make = match (self.segments.contains_key(&segment), self.free.pop()) {
            (true, free) => {
                self.free.extend(free);
                Make::Open
            }
            (false, Some(free)) => Make::Wipe(free),
            (false, None) => Make::New,
        };
        self.preparing = Some(Preparing { segment, make });
    }

    /// The segment is allocated, zeroed and flushed.
    pub(crate) fn segment_ready(&mut self) -> u32 {
        let Preparing { segment, make } = self.preparing.take().expect("a segment is being prepared");
        let zeros = File { len: self.segment_size, ..File::default() };
        let file = match make {
            Make::Open => return segment,
            Make::Wipe(file) => {
                self.files[file.0 as usize] = zeros;
                file
            }
            Make::New => {
                self.files.push(zeros);
                FileSlotId(self.files.len() as u32 - 1)
            }
        };
        self.segments.insert(segment, file);
        segment
    }

    /// The segment could not be made ready. A new file is removed again; an old one is as it was, or wiped in part.
    pub(crate) fn segment_failed(&mut self, chance: &mut Chance) -> u32 {
        let Preparing { segment, make } = self.preparing.take().expect("a segment is being prepared");
        if let Make::Wipe(file) = make {
            self.wipe_in_part(file, chance);
            self.free.push(file);
        }
        segment
    }

    /// Whether a free file is being used again.
    pub(crate) fn is_wiping(&self) -> bool {
        matches!(self.preparing, Some(Preparing { make: Make::Wipe(_), .. }))
    }

    /// The process ends. What was in flight may have landed in part; with the power gone, so may what was only cached.
    pub(crate) fn crash(&mut self, power: bool, chance: &mut Chance) {
        self.tear(chance);
        match self.preparing.take().map(|preparing| preparing.make) {
            Some(Make::New) if chance.percent(50) => {
                self.files.push(File { len: self.segment_size, ..File::default() });
            }
            Some(Make::Wipe(file)) => self.wipe_in_part(file, chance),
            Some(Make::New | Make::Open) | None => {}
        }
        if power {
            for file in &mut self.files {
                lose_cached(file, chance);
            }
        }
    }

    /// A bit of what was written flips. Returns whether there was any.
    pub(crate) fn rot(&mut self, chance: &mut Chance) -> bool {
        let written: Vec<usize> =
            (0..self.files.len()).filter(|&file| !self.files[file].bytes.is_empty()).collect();
        if written.is_empty() {
            return false;
        }
        let file = &mut self.files[written[chance.index(written.len())]];
        let at = chance.index(file.bytes.len());
        file.bytes[at] ^= 1 << chance.below(8);
        true
    }

    fn wipe_in_part(&mut self, file: FileSlotId, chance: &mut Chance) {
        let size = self.segment_size;
        let file = &mut self.files[file.0 as usize];
        if chance.percent(70) {
            let zeroed = chance.index(file.bytes.len() / SECTOR + 1) * SECTOR;
            file.bytes[..zeroed].fill(0);
            file.len = size;
        }
    }

    fn tear(&mut self, chance: &mut Chance) {
        match self.flight.take() {
            None => {}
            Some(Flight::Block { file, at, bytes }) => {
                let cached = self.cached;
                let file = &mut self.files[file.0 as usize];
                let landed = Landed::choose(bytes.len() / SECTOR, chance);
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if landed.holds(index, chance) {
                        let place = at as usize + index * SECTOR;
                        if cached {
                            let old = file.sector(place / SECTOR);
                            file.unflushed.entry((place / SECTOR) as u32).or_insert(old);
                        }
                        file.put(place, sector);
                    }
                }
            }
            // It had not even flushed.
            Some(Flight::Superblock { flush_us: Some(_), .. }) if chance.percent(30) => {}
            Some(Flight::Superblock { halves, done, flush_us }) => {
                self.flush_first(flush_us);
                let (at, bytes) = &halves[done];
                let landed = Landed::choose(bytes.len() / SECTOR, chance);
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if landed.holds(index, chance) {
                        let place = *at as usize + index * SECTOR;
                        self.superblock[place..place + SECTOR].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

/// Which sectors of a write have landed.
enum Landed {
    None,
    All,
    First(usize),
    From(usize),
    /// All but one.
    But(usize),
    Random,
}

impl Landed {
    fn choose(sectors: usize, chance: &mut Chance) -> Landed {
        match chance.below(8) {
            0 => Landed::None,
            1 => Landed::All,
            2 | 3 => Landed::First(chance.index(sectors + 1)),
            4 => Landed::From(chance.index(sectors + 1)),
            5 => Landed::But(chance.index(sectors)),
            _ => Landed::Random,
        }
    }

    fn holds(&self, sector: usize, chance: &mut Chance) -> bool {
        match *self {
            Landed::None => false,
            Landed::All => true,
            Landed::First(count) => sector < count,
            Landed::From(first) => sector >= first,
            Landed::But(lost) => sector != lost,
            Landed::Random => chance.below(2) == 0,
        }
    }
}

fn lose_cached(file: &mut File, chance: &mut Chance) {
    let unflushed = std::mem::take(&mut file.unflushed);
    let landed = Landed::choose(unflushed.len().max(1), chance);
    for (order, (sector, old)) in unflushed.into_iter().enumerate() {
        if !landed.holds(order, chance) {
            let at = sector as usize * SECTOR;
            file.bytes[at..at + SECTOR].copy_from_slice(&old);
        }
    }
}

impl Medium for Disk {
    fn segments(&mut self) -> io::Result<Vec<FileSlot>> {
        let slot = |(index, file): (usize, &File)| FileSlot { id: FileSlotId(index as u32), len: file.len };
        Ok(self.files.iter().enumerate().map(slot).collect())
    }

    fn read_at(&mut self, slot: FileSlotId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = &self.files[slot.0 as usize];
        let size = file.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let held = (file.bytes.len() as u64).saturating_sub(offset).min(size as u64) as usize;
        if held > 0 {
            buf[..held].copy_from_slice(&file.bytes[offset as usize..offset as usize + held]);
        }
        buf[held..size].fill(0);
        Ok(size)
    }

    fn len(&mut self, slot: FileSlotId) -> io::Result<u64> {
        Ok(self.files[slot.0 as usize].len)
    }
}
