//! A journal on disk for one test, written as a shard writes it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use journal::{BlockFlags, Geometry, Level, LogOffset, Superblock, Writer};

use crate::followers::Journal;

/// Small, so that tests roll often.
const GEOMETRY: Geometry = Geometry { segment_size: journal::SEGMENT_SIZE_MIN, align: 512 };

/// A shard's journal that is being written.
pub(crate) struct SmallJournal {
    pub(crate) journal: Journal,
    writer: Writer,
}

impl SmallJournal {
    /// A new journal of generation 1 in this data directory.
    pub(crate) fn new(data_dir: &Path, shard: u16, shards: u16) -> SmallJournal {
        let directory = edge::disk::journal_directory(data_dir, 1, shard);
        fs::create_dir_all(&directory).unwrap();
        let superblock = Superblock {
            boot_id: 1,
            level: Level::Disk,
            ..Superblock::new([7; 16], 9, shard, shards, GEOMETRY)
        };
        let mut bytes = vec![0; journal::SUPERBLOCK_SIZE];
        for (at, half) in superblock.halves() {
            bytes[at as usize..at as usize + half.len()].copy_from_slice(&half);
        }
        fs::write(directory.join("superblock"), bytes).unwrap();
        let writer = Writer::new(GEOMETRY, superblock.identity(), GEOMETRY.first(), GEOMETRY.first());
        SmallJournal { journal: Journal { shard, directory, superblock }, writer }
    }

    /// Writes a block of records with bodies of these sizes; returns the durable mark behind it.
    pub(crate) fn write(&mut self, sizes: &[usize]) -> LogOffset {
        for (number, size) in sizes.iter().enumerate() {
            self.writer
                .append(desk::record::kind::MESSAGE, 1, number as u16, &vec![0xAB; *size])
                .expect("it fits");
        }
        self.flush(BlockFlags::NONE)
    }

    /// Ends the journal as a clean stop does.
    pub(crate) fn seal(&mut self) -> LogOffset {
        self.flush(BlockFlags::SEAL)
    }

    /// The path of a segment's file.
    pub(crate) fn segment(&self, segment: u32) -> PathBuf {
        self.journal.directory.join(format!("{segment:08}.seg"))
    }

    fn flush(&mut self, flags: BlockFlags) -> LogOffset {
        while let Some(segment) = self.writer.wants_segment() {
            fs::write(self.segment(segment), vec![0; GEOMETRY.segment_size as usize]).unwrap();
            self.writer.segment_ready(segment);
        }
        let out = self.writer.take(flags).expect("there is something to write");
        let file = OpenOptions::new().write(true).open(self.segment(out.segment)).unwrap();
        file.write_all_at(out.buf.as_bytes(), u64::from(out.at)).unwrap();
        self.writer.written(out.buf)
    }
}
