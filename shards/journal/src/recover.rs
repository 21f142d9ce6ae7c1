//! Recovery, verification and dumps: three uses of one walk.

use std::fmt;
use std::io;

use crate::damage::{Damage, DamageKind, TornTail};
use crate::geometry::LogOffset;
use crate::header::{BlockHeader, Level};
use crate::index::{Depth, SegmentIndex};
use crate::medium::{FileSlotId, Medium};
use crate::record::RecordRef;
use crate::superblock::Superblock;
use crate::walk::{Observer, Walk};

/// What a recovery found. It changes nothing on the disk: running it again gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the next boot appends.
    pub end: LogOffset,
    /// Where the segment of `end` was entered, for the headers of the next boot; none when not known.
    pub entry: LogOffset,
    /// Where a replay must begin from now on. Moves only when nothing was damaged.
    pub replay_from: LogOffset,
    /// What was acknowledged and does not hold, in order.
    pub damage: Vec<Damage>,
    /// The last block, if it was torn. Nobody was told of it.
    pub torn_tail: Option<TornTail>,
    /// With level memory and another kernel: where the log was cut though more of it was there.
    pub cut: Option<Cut>,
    /// Acknowledged records may be gone (level memory, and the kernel did not survive).
    pub rewound: bool,
    /// The last boot stopped cleanly, and the log is there up to its seal.
    pub sealed: bool,
    /// Blocks read.
    pub blocks: u64,
    /// Records whose checksum held; each was visited.
    pub records: u64,
    /// Bytes of the blocks read.
    pub bytes: u64,
    /// The highest boot id there is; the next boot takes a higher one.
    pub last_boot_id: u64,
    /// The segments of the log and their files, oldest first.
    pub segments: Vec<(u32, FileSlotId)>,
    /// Files that hold nothing of the log and may be made ready for a new segment.
    pub free: Vec<FileSlotId>,
    /// Files whose content is not ours, or damaged beyond recognition: left alone. When nothing was damaged, and
    /// there are no more files than the superblock counts, whole ones are `free` instead.
    pub unknown: Vec<FileSlotId>,
}

impl Recovered {
    /// What was acknowledged may be gone, so heads may be lower than the numbers that were given out and give them out
    /// a second time: [`Superblock::begin_boot`] begins another history epoch, under which a client's cursor counts as 0.
    pub fn may_be_unsaid(&self) -> bool {
        self.rewound || self.damage.iter().any(|damage| damage.what != DamageKind::Padding)
    }
}

/// A log that was cut at its first hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub at: LogOffset,
    /// The end of the first block behind the hole, which no longer counts.
    pub beyond: LogOffset,
}

/// Why a journal cannot be opened at all.
#[derive(Debug)]
pub enum RecoverError {
    /// The directory cannot be listed.
    Directory(io::Error),
    /// A device error where nothing says whether the log goes on. Opening the journal could overwrite it.
    Unreadable {
        /// Which file.
        file: FileSlotId,
        /// The first byte that cannot be read.
        at: u64,
        /// What the device said.
        error: io::ErrorKind,
    },
    /// A newer program wrote it.
    UnknownFormat(u16),
    /// Two files claim to be one segment of one boot: a copy was put into the directory.
    TwoFiles {
        /// The segment that both claim.
        segment: u32,
        /// The two files.
        files: [FileSlotId; 2],
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Directory(error) => write!(f, "the journal's directory cannot be read: {error}"),
            RecoverError::Unreadable { file, at, error } => write!(
                f,
                "segment file {} cannot be read at byte {at} ({error}), and nothing says whether the log goes on \
                 there: check the device, then run `ringdesk journal verify`",
                file.0
            ),
            RecoverError::UnknownFormat(version) => write!(
                f,
                "this journal has blocks of format {version}, which this program does not know: start the newer \
                 program that wrote it"
            ),
            RecoverError::TwoFiles { segment, files: [a, b] } => write!(
                f,
                "segment files {} and {} both hold segment {segment}: one of them is a copy, move it away",
                a.0, b.0
            ),
        }
    }
}

impl std::error::Error for RecoverError {}

/// Reads the log from `superblock.replay_from` to its end and hands every record that holds to `visit`, in order.
///
/// `kernel_boot` is the boot id of the running kernel. The medium's files were flushed when they were opened.
/// A torn last block is cut as a whole; damage is named by its exact range and the rest is served.
pub fn recover(
    medium: &mut dyn Medium,
    superblock: &Superblock,
    kernel_boot: &[u8; 16],
    visit: &mut dyn FnMut(RecordRef<'_>),
) -> Result<Recovered, RecoverError> {
    let lost_cache = superblock.level == Level::Memory
        && superblock.boot_id > 0
        && superblock.kernel_boot != *kernel_boot
        && superblock.clean_end.is_none();
    let index = SegmentIndex::build(medium, superblock, Depth::Whole)?;
    let walk = Walk::new(medium, superblock, index, lost_cache);
    walk.run(superblock.replay_from, &mut Visit(visit))
}

struct Visit<'a>(&'a mut dyn FnMut(RecordRef<'_>));

impl Observer for Visit<'_> {
    fn block(&mut self, _: &BlockHeader) {}
    fn record(&mut self, record: RecordRef<'_>) {
        (self.0)(record);
    }
    fn damage(&mut self, _: &Damage) {}
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where the check began: the oldest segment that belongs to the log.
    pub from: LogOffset,
    /// What the walk found from there on.
    pub found: Recovered,
}

impl Report {
    /// Whether everything that was acknowledged holds.
    pub fn is_clean(&self) -> bool {
        self.found.damage.is_empty()
    }
}

/// One thing in a [`dump`], in the order of the log.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A block; its records follow.
    Block(&'a BlockHeader),
    /// A record that holds.
    Record(RecordRef<'a>),
    /// A range that does not hold.
    Damage(&'a Damage),
}

/// Checks all segments of the log from the oldest, not only what a replay needs. Never cuts.
pub fn verify(medium: &mut dyn Medium, superblock: &Superblock) -> Result<Report, RecoverError> {
    dump(medium, superblock, &mut |_| {})
}

/// [`verify`] that shows everything it meets.
pub fn dump(
    medium: &mut dyn Medium,
    superblock: &Superblock,
    show: &mut dyn FnMut(Entry<'_>),
) -> Result<Report, RecoverError> {
    let index = SegmentIndex::build(medium, superblock, Depth::Whole)?;
    let geometry = superblock.geometry;
    let mut oldest = geometry.segment_of(superblock.replay_from);
    while oldest > 1 && index.get(oldest - 1).is_some() {
        oldest -= 1;
    }
    let from = superblock.replay_from.min(geometry.start_of(oldest));
    let walk = Walk::new(medium, superblock, index, false);
    let found = walk.run(from, &mut Show(show))?;
    Ok(Report { from, found })
}

struct Show<'a>(&'a mut dyn FnMut(Entry<'_>));

impl Observer for Show<'_> {
    fn block(&mut self, header: &BlockHeader) {
        (self.0)(Entry::Block(header));
    }
    fn record(&mut self, record: RecordRef<'_>) {
        (self.0)(Entry::Record(record));
    }
    fn damage(&mut self, damage: &Damage) {
        (self.0)(Entry::Damage(damage));
    }
}
