//! The superblock: four copies of one page that say whose journal this is and where to begin.
//!
//! ```text
//!   0 magic         u64      "RINGDSUP"
//!   8 version       u16      1
//!  10 level         u8       1 memory, 2 disk
//!  11 copy          u8       0..=3, the place of this copy
//!  12 counter       u64      rises by one with each write
//!  20 shard         u16
//!  22 shards        u16      how many there are in this generation
//!  24 generation    u32
//!  28 segment_size  u32
//!  32 align         u32
//!  36 files         u32      segment files that must exist; 0 = not kept
//!  40 uuid          16       of the site
//!  56 salt          u64      secret; seeds the checksums of this journal
//!  64 boot_id       u64      last used; bumped and flushed before the first append of a boot
//!  72 start         u64      where that boot began to append
//!  80 replay_from   u64
//!  88 clean_end     u64      end of the seal of a clean stop; 0 = running or crashed
//!  96 kernel_boot   16       boot id of the kernel that boot ran on; zeros: of one whose page cache is not to be believed
//! 112 history_epoch u64
//! 120 zeros
//! 4088 checksum     u64      xxh3-64 of bytes 0..4088
//! ```

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::geometry::{Geometry, GeometryError, LogOffset};
use crate::header::{Identity, Level};
use crate::little::{first_nonzero, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};
use crate::plant;
use crate::recover::Recovered;

/// How many copies there are.
pub const SUPERBLOCK_COPIES: usize = 4;
/// Bytes of one copy.
pub const SUPERBLOCK_COPY_SIZE: usize = 4096;
/// Bytes of the superblock file.
pub const SUPERBLOCK_SIZE: usize = SUPERBLOCK_COPIES * SUPERBLOCK_COPY_SIZE;
/// The version of the superblock format that this build writes.
pub const SUPERBLOCK_VERSION: u16 = 1;

const HALF_SIZE: usize = SUPERBLOCK_SIZE / 2;
const MAGIC: [u8; 8] = *b"RINGDSUP";
const CHECKSUM_AT: usize = SUPERBLOCK_COPY_SIZE - 8;
const CHECKSUM_SEED: u64 = 0x5350_5242; // "SPRB", so that no other page with a plain hash passes.
const RESERVED: std::ops::Range<usize> = 120..CHECKSUM_AT;

/// The hash of a kernel's boot id (`/proc/sys/kernel/random/boot_id`) that block headers carry.
pub fn kernel_boot_hash(kernel_boot: &[u8; 16]) -> u64 {
    xxh3_64(kernel_boot)
}

/// Whose journal this is and where to begin. As drawn at the top of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Rises by one with each write; the copy with the highest one counts.
    pub counter: u64,
    /// The site, so that a directory of another one is noticed.
    pub uuid: [u8; 16],
    /// The journal's secret. Drawn at random once; never shown, never changed.
    pub salt: u64,
    /// The shard that owns this journal.
    pub shard: u16,
    /// How many shards there are in this generation.
    pub shards: u16,
    /// The generation of journals; changes with the number of shards.
    pub generation: u32,
    /// How the journal is cut up.
    pub geometry: Geometry,
    /// Segment files that must exist (they are never deleted); 0 when the owner does not keep count.
    pub files: u32,
    /// The last boot id used; 0 before the first boot.
    pub boot_id: u64,
    /// Where that boot began to append.
    pub start: LogOffset,
    /// Where a replay must begin.
    pub replay_from: LogOffset,
    /// The end of the seal, when the last boot stopped cleanly.
    pub clean_end: Option<LogOffset>,
    /// The boot id of the kernel that the last boot ran on; zeros when its page cache is not to be believed ([`Superblock::in_doubt`]).
    pub kernel_boot: [u8; 16],
    /// What an acknowledgement of the last boot meant.
    pub level: Level,
    /// Which history this is (`e`): changes only when history may have been rewound.
    pub history_epoch: u64,
}

/// Why a superblock file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperblockError {
    /// Nothing was ever written here: a new journal, or the wrong file.
    Empty,
    /// No copy holds. The disk lost it, or this is another program's file.
    Damaged,
    /// A newer program wrote it.
    UnknownFormat(u16),
    /// It asks for sizes that this program does not know.
    Geometry(GeometryError),
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperblockError::Empty => f.write_str("the journal's superblock is empty"),
            SuperblockError::Damaged => f.write_str(
                "no copy of the journal's superblock holds: restore the file `superblock` from a backup, or run \
                 `ringdesk journal verify`",
            ),
            SuperblockError::UnknownFormat(version) => write!(
                f,
                "this journal has format {version}, and this program knows formats up to {SUPERBLOCK_VERSION}: \
                 start the newer program that wrote it"
            ),
            SuperblockError::Geometry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SuperblockError {}

impl Superblock {
    /// The superblock of a journal that nobody has written to yet.
    pub fn new(uuid: [u8; 16], salt: u64, shard: u16, shards: u16, geometry: Geometry) -> Self {
        Superblock {
            counter: 1,
            uuid,
            salt,
            shard,
            shards,
            generation: 1,
            geometry,
            files: 0,
            boot_id: 0,
            start: geometry.first(),
            replay_from: geometry.first(),
            clean_end: None,
            kernel_boot: [0; 16],
            level: Level::Disk,
            history_epoch: 1,
        }
    }

    /// The superblock to write, and flush, before this boot appends its first byte.
    pub fn begin_boot(&self, recovered: &Recovered, kernel_boot: [u8; 16], level: Level) -> Self {
        Superblock {
            counter: self.counter + 1,
            boot_id: self.boot_id.max(recovered.last_boot_id) + 1,
            start: recovered.end,
            replay_from: recovered.replay_from,
            clean_end: None,
            kernel_boot,
            level,
            history_epoch: self.history_epoch
                + u64::from(recovered.may_be_unsaid() && !plant::is("history-epoch-kept")),
            ..self.clone()
        }
    }

    /// The superblock to write once the checkpoint has moved on, durably.
    pub fn with_replay_from(&self, replay_from: LogOffset) -> Self {
        assert!(replay_from >= self.replay_from, "a checkpoint moves forward only");
        Superblock { counter: self.counter + 1, replay_from, ..self.clone() }
    }

    /// The superblock to write once one more segment file is there, before its segment is used.
    pub fn with_files(&self, files: u32) -> Self {
        Superblock { counter: self.counter + 1, files, ..self.clone() }
    }

    /// The superblock to write once the seal has landed, with `end` its end.
    pub fn clean_stop(&self, end: LogOffset) -> Self {
        Superblock { counter: self.counter + 1, clean_end: Some(end), ..self.clone() }
    }

    /// The superblock to write when a flush of blocks has failed that were acknowledged before it, as level memory does. `None` where nothing relied on it.
    ///
    /// The kernel calls such pages clean and may forget them, and the next flush says nothing of it. So this boot's kernel is taken for one that is gone:
    /// the next recovery cuts the log at its first hole and begins another history epoch.
    pub fn in_doubt(&self) -> Option<Self> {
        let relied = self.level == Level::Memory && self.boot_id > 0 && self.clean_end.is_none();
        let kernel_boot = if plant::is("failed-flush-forgotten") { self.kernel_boot } else { [0; 16] };
        (relied && self.kernel_boot != [0; 16]).then(|| Superblock {
            counter: self.counter + 1,
            kernel_boot,
            ..self.clone()
        })
    }

    /// Whether all blocks written so far must be flushed before this superblock is written, at level memory too. The superblock before it begins a replay
    /// at `before`.
    ///
    /// One that moves the begin of a replay makes what lies before it unreachable, and a seal says that all is there. Without what it relies on, the
    /// snapshots behind, a power cut would take even what was acknowledged long ago, at level disk perhaps.
    pub fn relies_on_the_log(&self, before: LogOffset) -> bool {
        let moves = self.replay_from != before && !plant::is("checkpoint-before-flush");
        moves || self.clean_end.is_some()
    }

    /// What every block of the boot in this superblock carries.
    pub fn identity(&self) -> Identity {
        Identity {
            shard: self.shard,
            generation: self.generation,
            boot_id: self.boot_id,
            level: self.level,
            kernel_boot: kernel_boot_hash(&self.kernel_boot),
            salt: self.salt,
        }
    }

    /// Everything before this was acknowledged, or accepted by an earlier recovery.
    pub fn known_end(&self) -> LogOffset {
        self.start.max(self.clean_end.unwrap_or(LogOffset::NONE))
    }

    /// The page of copy `copy`.
    ///
    /// # Panics
    /// When `copy` is not below [`SUPERBLOCK_COPIES`].
    pub fn encode(&self, copy: usize) -> [u8; SUPERBLOCK_COPY_SIZE] {
        assert!(copy < SUPERBLOCK_COPIES, "there are four copies");
        let mut page = [0; SUPERBLOCK_COPY_SIZE];
        page[..8].copy_from_slice(&MAGIC);
        put_u16(&mut page, 8, SUPERBLOCK_VERSION);
        page[10] = self.level as u8;
        page[11] = copy as u8;
        put_u64(&mut page, 12, self.counter);
        put_u16(&mut page, 20, self.shard);
        put_u16(&mut page, 22, self.shards);
        put_u32(&mut page, 24, self.generation);
        put_u32(&mut page, 28, self.geometry.segment_size);
        put_u32(&mut page, 32, self.geometry.align);
        put_u32(&mut page, 36, self.files);
        page[40..56].copy_from_slice(&self.uuid);
        put_u64(&mut page, 56, self.salt);
        put_u64(&mut page, 64, self.boot_id);
        put_u64(&mut page, 72, self.start.0);
        put_u64(&mut page, 80, self.replay_from.0);
        put_u64(&mut page, 88, self.clean_end.unwrap_or(LogOffset::NONE).0);
        page[96..112].copy_from_slice(&self.kernel_boot);
        put_u64(&mut page, 112, self.history_epoch);
        let checksum = xxh3_64_with_seed(&page[..CHECKSUM_AT], CHECKSUM_SEED);
        put_u64(&mut page, CHECKSUM_AT, checksum);
        page
    }

    /// The two writes that store this superblock, each to be flushed before the next begins: (offset in the file,
    /// two copies).
    ///
    /// Odd and even counters begin with different halves. So whatever a crash leaves of one write, the next
    /// one begins with the other half, and the best copy so far is never the one being overwritten.
    pub fn halves(&self) -> [(u64, Vec<u8>); 2] {
        let half = |first: usize| {
            let pages = [self.encode(first), self.encode(first + 1)].concat();
            ((first * SUPERBLOCK_COPY_SIZE) as u64, pages)
        };
        let (low, high) = (half(0), half(SUPERBLOCK_COPIES / 2));
        if self.counter.is_multiple_of(2) { [low, high] } else { [high, low] }
    }

    /// The newest copy that holds, of the bytes of a whole superblock file.
    pub fn decode_best(file: &[u8]) -> Result<Superblock, SuperblockError> {
        let mut best: Option<Superblock> = None;
        for copy in Self::decode_copies(file) {
            match copy {
                Ok(copy) if best.as_ref().is_none_or(|best| copy.counter > best.counter) => best = Some(copy),
                // A sound copy of another format decides, whatever else is there: never guess past it.
                Err(error @ (SuperblockError::UnknownFormat(_) | SuperblockError::Geometry(_))) => {
                    return Err(error);
                }
                Ok(_) | Err(SuperblockError::Empty | SuperblockError::Damaged) => {}
            }
        }
        let empty = first_nonzero(file).is_none();
        best.ok_or(if empty { SuperblockError::Empty } else { SuperblockError::Damaged })
    }

    /// Each copy by itself, for reports.
    pub fn decode_copies(file: &[u8]) -> [Result<Superblock, SuperblockError>; SUPERBLOCK_COPIES] {
        std::array::from_fn(|copy| {
            let from = (copy * SUPERBLOCK_COPY_SIZE).min(file.len());
            let to = (from + SUPERBLOCK_COPY_SIZE).min(file.len());
            Self::decode_copy(&file[from..to], copy)
        })
    }

    fn decode_copy(page: &[u8], copy: usize) -> Result<Superblock, SuperblockError> {
        if first_nonzero(page).is_none() {
            return Err(SuperblockError::Empty);
        }
        let sound = page.len() == SUPERBLOCK_COPY_SIZE
            && page[..8] == MAGIC
            && xxh3_64_with_seed(&page[..CHECKSUM_AT], CHECKSUM_SEED) == u64_at(page, CHECKSUM_AT);
        if !sound {
            return Err(SuperblockError::Damaged);
        }
        let version = u16_at(page, 8);
        if version != SUPERBLOCK_VERSION {
            return Err(SuperblockError::UnknownFormat(version));
        }
        let Some(level) = Level::from_u8(page[10]) else {
            return Err(SuperblockError::UnknownFormat(version));
        };
        if usize::from(page[11]) != copy || first_nonzero(&page[RESERVED]).is_some() {
            return Err(SuperblockError::Damaged);
        }
        let geometry = Geometry { segment_size: u32_at(page, 28), align: u32_at(page, 32) };
        geometry.check().map_err(SuperblockError::Geometry)?;
        let (start, replay_from) = (LogOffset(u64_at(page, 72)), LogOffset(u64_at(page, 80)));
        let clean_end = LogOffset(u64_at(page, 88));
        let end_of_numbers = geometry.start_of(u32::MAX - 1);
        let is_place = |place: LogOffset| {
            (geometry.first()..end_of_numbers).contains(&place)
                && place.0.is_multiple_of(u64::from(geometry.align))
        };
        if !is_place(start)
            || !is_place(replay_from)
            || !(clean_end == LogOffset::NONE || is_place(clean_end))
        {
            return Err(SuperblockError::Damaged);
        }
        Ok(Superblock {
            counter: u64_at(page, 12),
            uuid: page[40..56].try_into().expect("sixteen bytes were sliced"),
            salt: u64_at(page, 56),
            shard: u16_at(page, 20),
            shards: u16_at(page, 22),
            generation: u32_at(page, 24),
            geometry,
            files: u32_at(page, 36),
            boot_id: u64_at(page, 64),
            start,
            replay_from,
            clean_end: (clean_end != LogOffset::NONE).then_some(clean_end),
            kernel_boot: page[96..112].try_into().expect("sixteen bytes were sliced"),
            level,
            history_epoch: u64_at(page, 112),
        })
    }
}

const _: () = assert!(HALF_SIZE.is_multiple_of(SUPERBLOCK_COPY_SIZE), "a half holds whole copies");

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        let geometry = Geometry { segment_size: 1 << 20, align: 512 };
        Superblock { clean_end: Some(LogOffset(5 << 20)), ..Superblock::new([7; 16], 99, 2, 3, geometry) }
    }

    fn file_of(superblock: &Superblock) -> Vec<u8> {
        (0..SUPERBLOCK_COPIES).flat_map(|copy| superblock.encode(copy)).collect()
    }

    fn write(file: &mut [u8], (at, bytes): &(u64, Vec<u8>), sectors: impl Fn(usize) -> bool) {
        for (index, sector) in bytes.chunks(512).enumerate() {
            if sectors(index) {
                let from = *at as usize + index * 512;
                file[from..from + 512].copy_from_slice(sector);
            }
        }
    }

    #[test]
    fn a_superblock_comes_back_as_it_was_written() {
        assert_eq!(Superblock::decode_best(&file_of(&superblock())), Ok(superblock()));
    }

    #[test]
    fn one_good_copy_is_enough_and_none_is_refused() {
        let mut file = file_of(&superblock());
        for copy in 0..3 {
            file[copy * SUPERBLOCK_COPY_SIZE + 2000] ^= 1;
        }
        assert_eq!(Superblock::decode_best(&file), Ok(superblock()));
        file[3 * SUPERBLOCK_COPY_SIZE + 17] ^= 1;
        assert_eq!(Superblock::decode_best(&file), Err(SuperblockError::Damaged));
        assert_eq!(Superblock::decode_best(&[0; SUPERBLOCK_SIZE]), Err(SuperblockError::Empty));
        assert_eq!(Superblock::decode_best(&[]), Err(SuperblockError::Empty));
        assert_eq!(Superblock::decode_best(&file[..100]), Err(SuperblockError::Damaged));
    }

    #[test]
    fn a_copy_in_another_copys_place_does_not_count() {
        let mut file = vec![0; SUPERBLOCK_SIZE];
        file[SUPERBLOCK_COPY_SIZE..2 * SUPERBLOCK_COPY_SIZE].copy_from_slice(&superblock().encode(2));
        assert_eq!(Superblock::decode_best(&file), Err(SuperblockError::Damaged));
    }

    #[test]
    fn a_newer_format_is_refused_with_one_sentence() {
        let mut file = file_of(&superblock());
        put_u16(&mut file, 8, 2);
        let checksum = xxh3_64_with_seed(&file[..CHECKSUM_AT], CHECKSUM_SEED);
        put_u64(&mut file, CHECKSUM_AT, checksum);
        let error = Superblock::decode_best(&file).unwrap_err();
        assert_eq!(error, SuperblockError::UnknownFormat(2));
        assert!(error.to_string().starts_with("this journal has format 2"));
    }

    /// Any sectors of a half may land before a crash, again and again: what had been stored whole is never lost,
    /// and the version never falls.
    #[test]
    fn no_torn_write_loses_what_was_stored_before() {
        let mut random = 1u64;
        let mut chance = move || {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as u32
        };
        let mut stored = superblock();
        let mut file = file_of(&stored);
        for _ in 0..3_000 {
            let next = stored.with_replay_from(stored.replay_from.plus(512));
            let [first, second] = next.halves();
            match chance() % 3 {
                0 => {
                    let landed = chance();
                    write(&mut file, &first, |sector| landed >> sector & 1 == 1);
                }
                1 => {
                    write(&mut file, &first, |_| true);
                    let landed = chance();
                    write(&mut file, &second, |sector| landed >> sector & 1 == 1);
                }
                _ => {
                    write(&mut file, &first, |_| true);
                    write(&mut file, &second, |_| true);
                }
            }
            let found = Superblock::decode_best(&file).unwrap();
            assert!(found == stored || found == next, "neither the old nor the new one");
            stored = found;
        }
    }
}
