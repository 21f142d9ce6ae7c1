//! A disk made of byte arrays, a journal owner that obeys the rules, and chance from a seed.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io;

use ringdesk_journal::{
    BlockFlags, FileSlot, FileSlotId, Geometry, Level, LogOffset, Medium, Outgoing, RecordRef, Recovered,
    Superblock, Writer, recover,
};

/// SplitMix64: enough chance for tests, the same from the same seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0..bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Segment files in memory. A missing file is `None`.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Disk {
    pub files: Vec<Option<Vec<u8>>>,
    /// (file, from, to): bytes that the device refuses to read.
    pub refused: Vec<(u32, u64, u64)>,
}

impl Medium for Disk {
    fn segments(&mut self) -> io::Result<Vec<FileSlot>> {
        let files = self.files.iter().enumerate();
        Ok(files
            .filter_map(|(id, file)| {
                file.as_ref().map(|file| FileSlot { id: FileSlotId(id as u32), len: file.len() as u64 })
            })
            .collect())
    }

    fn read_at(&mut self, slot: FileSlotId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = self.files[slot.0 as usize].as_ref().expect("only files that exist are read");
        let from = (offset as usize).min(file.len());
        let count = buf.len().min(file.len() - from);
        let hit =
            |&(id, bad, to): &(u32, u64, u64)| id == slot.0 && bad < offset + count as u64 && offset < to;
        if self.refused.iter().any(hit) {
            return Err(io::Error::from_raw_os_error(5));
        }
        buf[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    fn len(&mut self, slot: FileSlotId) -> io::Result<u64> {
        Ok(self.files[slot.0 as usize].as_ref().map_or(0, |file| file.len() as u64))
    }
}

/// A record as the tests remember it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub kind: u16,
    pub version: u16,
    pub slot: u16,
    pub body: Vec<u8>,
}

impl Said {
    pub fn of(record: &RecordRef<'_>) -> Said {
        assert_eq!(record.body.as_ptr() as usize % 16, 0, "bodies are aligned");
        Said { kind: record.kind, version: record.version, slot: record.slot, body: record.body.to_vec() }
    }

    pub fn any(chance: &mut Chance, body_max: u64) -> Said {
        let len = if chance.one_in(8) { 0 } else { chance.below(body_max) as usize };
        Said {
            kind: chance.below(50) as u16,
            version: 1 + chance.below(3) as u16,
            slot: chance.below(4096) as u16,
            body: chance.bytes(len),
        }
    }
}

pub const KERNEL: [u8; 16] = [1; 16];
pub const SALT: u64 = 0x1234_5678_9ABC_DEF0;

/// A block that was written, and what it says.
#[derive(Clone, Debug)]
pub struct Block {
    pub offset: LogOffset,
    pub end: LogOffset,
    pub said: Vec<Said>,
}

/// A journal on a [`Disk`], owned as the edge owns one: files are made ready ahead, recycled, written, flushed.
pub struct Rig {
    pub disk: Disk,
    pub superblock: Superblock,
    pub writer: Option<Writer>,
    /// Which file a segment of the running boot lies in.
    pub files: BTreeMap<u32, FileSlotId>,
    pub free: Vec<FileSlotId>,
    pub open: Vec<Said>,
}

pub fn geometry(align: u32) -> Geometry {
    Geometry { segment_size: 64 << 10, align }
}

impl Rig {
    pub fn new(geometry: Geometry) -> Rig {
        Rig {
            disk: Disk::default(),
            superblock: Superblock::new([9; 16], SALT, 3, 4, geometry),
            writer: None,
            files: BTreeMap::new(),
            free: Vec::new(),
            open: Vec::new(),
        }
    }

    /// A rig whose first boot runs.
    pub fn running(geometry: Geometry) -> Rig {
        let mut rig = Rig::new(geometry);
        rig.boot(Level::Disk, KERNEL);
        rig
    }

    pub fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("a boot is running")
    }

    pub fn recover(&mut self, kernel: [u8; 16]) -> (Recovered, Vec<Said>) {
        let mut said = Vec::new();
        let visit = &mut |record: RecordRef<'_>| said.push(Said::of(&record));
        let recovered = recover(&mut self.disk, &self.superblock, &kernel, visit).expect("it opens");
        (recovered, said)
    }

    /// Recovers and begins the next boot.
    pub fn boot(&mut self, level: Level, kernel: [u8; 16]) -> (Recovered, Vec<Said>) {
        let (recovered, said) = self.recover(kernel);
        let again = self.recover(kernel);
        assert_eq!((&recovered, &said), (&again.0, &again.1), "recovery changes nothing");
        self.superblock = self.superblock.begin_boot(&recovered, kernel, level);
        self.files = recovered.segments.iter().copied().collect();
        self.free = recovered.free.clone();
        self.writer = Some(Writer::resume(&self.superblock, &recovered));
        self.open.clear();
        (recovered, said)
    }

    /// Whatever the writer wants, made ready. A recycled file keeps its old bytes.
    pub fn prepare(&mut self) {
        while let Some(segment) = self.writer().wants_segment() {
            let file = self.free.pop().unwrap_or_else(|| {
                let size = self.superblock.geometry.segment_size as usize;
                self.disk.files.push(Some(vec![0; size]));
                FileSlotId(self.disk.files.len() as u32 - 1)
            });
            self.files.insert(segment, file);
            self.writer().segment_ready(segment);
        }
    }

    pub fn say(&mut self, said: Said) {
        self.writer().append(said.kind, said.version, said.slot, &said.body).expect("there is room");
        self.open.push(said);
    }

    pub fn take(&mut self, flags: BlockFlags) -> (Outgoing, Block) {
        self.prepare();
        let outgoing = self.writer().take(flags).expect("there is a block to take");
        let offset = LogOffset(outgoing.end.0 - outgoing.buf.len() as u64);
        let block = Block { offset, end: outgoing.end, said: std::mem::take(&mut self.open) };
        (outgoing, block)
    }

    pub fn file_of(&mut self, place: LogOffset) -> (&mut Vec<u8>, usize) {
        let geometry = self.superblock.geometry;
        let file = self.files[&geometry.segment_of(place)];
        let within = geometry.within(place) as usize;
        (self.disk.files[file.0 as usize].as_mut().expect("the file exists"), within)
    }

    pub fn land(&mut self, outgoing: &Outgoing) {
        let place = self.superblock.geometry.start_of(outgoing.segment).plus(u64::from(outgoing.at));
        let (file, at) = self.file_of(place);
        file[at..at + outgoing.buf.len()].copy_from_slice(outgoing.buf.as_bytes());
    }

    /// Writes the open block and lets it land.
    pub fn commit(&mut self) -> Block {
        let (outgoing, block) = self.take(BlockFlags::NONE);
        self.land(&outgoing);
        assert_eq!(self.writer().written(outgoing.buf), block.end);
        block
    }

    /// Some records in one block.
    pub fn block(&mut self, chance: &mut Chance, records: u64, body_max: u64) -> Block {
        for _ in 0..records {
            let said = Said::any(chance, body_max);
            if self.writer().room() >= said.body.len() {
                self.say(said);
            }
        }
        self.commit()
    }

    pub fn seal(&mut self) -> Block {
        let (outgoing, block) = self.take(BlockFlags::SEAL);
        self.land(&outgoing);
        self.writer().written(outgoing.buf);
        block
    }

    /// Seals, and notes it in the superblock.
    pub fn stop(&mut self) -> Block {
        let block = self.seal();
        self.superblock = self.superblock.clean_stop(block.end);
        block
    }

    /// The checkpoint has moved to `place`: durable in the superblock, and older segments may be recycled.
    pub fn checkpoint(&mut self, place: LogOffset) {
        self.superblock = self.superblock.with_replay_from(place);
        self.writer().set_replay_from(place);
        let first = self.superblock.geometry.segment_of(place);
        let kept = self.files.split_off(&first);
        self.free.extend(std::mem::replace(&mut self.files, kept).into_values());
    }

    /// Flips one bit of the byte at `place`.
    pub fn flip(&mut self, place: LogOffset, bit: u32) {
        let (file, at) = self.file_of(place);
        file[at] ^= 1 << bit;
    }
}

/// Whether this is an optimised build, where the long tests run in full.
pub fn is_optimised() -> bool {
    let exe = std::env::current_exe().expect("a test has a path");
    !exe.components().any(|part| part.as_os_str() == "debug")
}
