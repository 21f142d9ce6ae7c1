//! The journal as the shard sees it: what is appended, what is on its way to the disk, what is durable, and whether there is room for more.

use desk::record::{Record, Scratch};
use journal::{
    BlockBuf, BlockFlags, Checkpoint, CommitPoint, Geometry, LogOffset, Recovered, Superblock, Writer,
};

use crate::effect::{Effect, FenceCause};
use crate::input::StorageError;
use crate::plant;

/// Body bytes that must fit in the open block before a socket's next frame is taken: the records of a whole frame of small messages.
const FRAME_ROOM: usize = 256 * 1024;
/// Body bytes that snapshots leave free in the open block.
const SNAPSHOT_ROOM: usize = 512 * 1024;
/// How long to wait before asking again for a segment that could not be prepared, in milliseconds.
const RETRY_MS: u64 = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    Idle,
    Block,
    Superblock,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seal {
    Open,
    /// As soon as nothing is pending.
    Wanted,
    /// The seal is being written; it ends here.
    Writing(LogOffset),
    /// The superblock that says so is being written.
    Closing(LogOffset),
    Sealed(LogOffset),
}

#[derive(Clone, Copy)]
struct Prepared {
    segment: u32,
    /// The superblock that knows of it is being written.
    told: bool,
}

/// What became durable.
pub(crate) enum Landed {
    Nothing,
    Block(LogOffset),
    Sealed(LogOffset),
}

pub(crate) struct Log {
    writer: Writer,
    pub(crate) checkpoint: Checkpoint,
    superblock: Superblock,
    geometry: Geometry,
    disk: Disk,
    seal: Seal,
    /// A prepared segment that the superblock has to know of before it is used.
    prepared: Option<Prepared>,
    preparing: Option<u32>,
    failed: bool,
    retry_at_ms: u64,
    segment_count: u32,
    segment_count_max: u32,
    replay_from: Option<LogOffset>,
    scratch: Scratch,
    /// Bytes appended that are no snapshots, since the checkpoint last heard of them.
    logged: u64,
    pub(crate) appended_records: u64,
}

impl Log {
    pub(crate) fn new(
        recovered: &Recovered,
        superblock: Superblock,
        slots: impl Iterator<Item = u16>,
        segment_count_max: u32,
    ) -> Log {
        let from = superblock.replay_from;
        Log {
            writer: Writer::resume(&superblock, recovered),
            checkpoint: Checkpoint::new(slots.map(|slot| (slot, from))),
            geometry: superblock.geometry,
            segment_count: recovered.segments.len() as u32,
            superblock,
            disk: Disk::Idle,
            seal: Seal::Open,
            prepared: None,
            preparing: None,
            failed: false,
            retry_at_ms: 0,
            segment_count_max,
            replay_from: None,
            scratch: Scratch::default(),
            logged: 0,
            appended_records: 0,
        }
    }

    /// Appends a record; room was checked.
    pub(crate) fn append(&mut self, record: &Record<'_>) -> CommitPoint {
        let (kind, version, slot) = (record.kind(), record.version(), record.slot().number());
        let body = record.write(&mut self.scratch);
        self.logged += body.len() as u64 + 64;
        self.appended_records += 1;
        self.writer.append(kind, version, slot, body).expect("room in the open block was checked")
    }

    /// Appends a record of a snapshot and says how long it is.
    pub(crate) fn append_snapshot(&mut self, record: &Record<'_>) -> u64 {
        let (kind, version, slot) = (record.kind(), record.version(), record.slot().number());
        let body = record.write(&mut self.scratch);
        let size = body.len() as u64 + 64;
        self.appended_records += 1;
        self.writer.append(kind, version, slot, body).expect("snapshots leave room in the open block");
        size
    }

    /// The largest block, in bytes: small segments have smaller ones.
    pub(crate) fn block_max(&self) -> usize {
        self.geometry.block_max() as usize
    }

    /// Whether a whole frame's worth of records fits.
    pub(crate) fn takes_frames(&self) -> bool {
        self.writer.room() >= FRAME_ROOM.min(self.block_max() / 2)
    }

    /// Whether a record with a body of about this many bytes fits.
    pub(crate) fn takes(&self, body: usize) -> bool {
        self.writer.room() >= body + 1024
    }

    /// Whether snapshots may be appended this turn.
    pub(crate) fn takes_snapshots(&self) -> bool {
        self.writer.room() >= SNAPSHOT_ROOM.min(self.block_max() / 2)
            && self.seal == Seal::Open
            && !self.short_of_space()
    }

    /// Whether the disk has no room for a record of this size: it is refused with `storage_full`.
    pub(crate) fn is_full_for(&self, body: usize) -> bool {
        if !self.failed {
            return false;
        }
        let left = match self.writer.out_of_space() {
            true => 0,
            false => self.geometry.segment_size - self.geometry.within(self.writer.next_offset()),
        };
        self.writer.pending_size() as usize + body + 1024 + self.geometry.align as usize > left as usize
    }

    /// Whether new messages are being refused.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full_for(0)
    }

    fn short_of_space(&self) -> bool {
        self.failed
    }

    /// Everything appended so far.
    pub(crate) fn appended(&self) -> CommitPoint {
        self.writer.appended()
    }

    /// Everything that may be told.
    pub(crate) fn durable(&self) -> CommitPoint {
        if plant::is("durable-reported-too-far") {
            return CommitPoint(self.writer.durable_point().0 + 1);
        }
        self.writer.durable_point()
    }

    /// The end of what followers may read.
    pub(crate) fn durable_offset(&self) -> LogOffset {
        self.writer.durable()
    }

    pub(crate) fn next_offset(&self) -> LogOffset {
        self.writer.next_offset()
    }

    pub(crate) fn segment_count(&self) -> u32 {
        self.segment_count
    }

    pub(crate) fn level(&self) -> journal::Level {
        self.superblock.level
    }

    pub(crate) fn history_epoch(&self) -> u32 {
        self.superblock.history_epoch as u32
    }

    /// The budget for snapshots this turn.
    pub(crate) fn snapshot_budget(&mut self) -> u64 {
        // With room for one more record than was asked for.
        let most = (self.block_max() / 4).saturating_sub(16 * 1024) as u64;
        self.checkpoint.budget(core::mem::take(&mut self.logged)).min(most)
    }

    /// Close the journal as soon as nothing is pending.
    pub(crate) fn want_seal(&mut self) {
        if self.seal == Seal::Open {
            self.seal = Seal::Wanted;
        }
    }

    /// Whether the journal is about to be closed, and takes nothing more.
    pub(crate) fn is_sealing(&self) -> bool {
        self.seal != Seal::Open
    }

    /// Whether something waits to be written and nothing is in flight to carry it.
    pub(crate) fn wants_turn(&self) -> bool {
        self.disk == Disk::Idle && self.writer.pending() && !self.writer.out_of_space()
    }

    /// Sends what can be sent: one write is in flight at a time.
    pub(crate) fn pump(&mut self, mono_ms: u64, effects: &mut Vec<Effect>) {
        self.ask_for_segment(mono_ms, effects);
        if self.disk != Disk::Idle {
            return;
        }
        if let Some(next) = self.next_superblock() {
            self.superblock = next;
            self.disk = Disk::Superblock;
            effects.push(Effect::WriteSuperblock(Box::new(self.superblock.clone())));
            return;
        }
        let flags = match self.seal {
            Seal::Wanted if !self.writer.pending() => BlockFlags::SEAL,
            _ => BlockFlags::default(),
        };
        if matches!(self.seal, Seal::Closing(_) | Seal::Sealed(_)) {
            return;
        }
        if let Some(block) = self.writer.take(flags) {
            if flags == BlockFlags::SEAL {
                self.seal = Seal::Writing(block.end);
            }
            self.disk = Disk::Block;
            effects.push(Effect::Write { segment: block.segment, at: block.at, buf: block.buf });
        }
    }

    /// What the superblock should say next, if it should say something new.
    fn next_superblock(&mut self) -> Option<Superblock> {
        if plant::is("checkpoint-newer-than-log") {
            self.replay_from = Some(self.writer.next_offset());
        }
        if let Seal::Closing(end) = self.seal {
            return Some(self.superblock.clean_stop(end));
        }
        if let Some(prepared) = &mut self.prepared {
            prepared.told = true;
            let files = self.superblock.files.max(self.segment_count + 1);
            let mut next = self.superblock.with_files(files);
            if let Some(replay_from) = self.replay_from.take() {
                next.replay_from = replay_from;
            }
            return Some(next);
        }
        // Only now and then: a replay that begins a little earlier costs a little time.
        let moved = self.replay_from?;
        let step = u64::from(self.geometry.segment_size) / 8;
        (moved.0 - self.superblock.replay_from.0 >= step).then(|| {
            self.replay_from = None;
            self.superblock.with_replay_from(moved)
        })
    }

    fn ask_for_segment(&mut self, mono_ms: u64, effects: &mut Vec<Effect>) {
        let Some(segment) = self.writer.wants_segment() else { return };
        if self.preparing.is_some() || self.prepared.is_some() || mono_ms < self.retry_at_ms {
            return;
        }
        if self.segment_count >= self.segment_count_max {
            // The journal's budget is a disk of its own.
            self.failed = true;
            self.retry_at_ms = mono_ms + RETRY_MS;
            return;
        }
        self.preparing = Some(segment);
        effects.push(Effect::PrepareSegment { segment });
    }

    /// A segment is there. It is used once the superblock knows of it.
    pub(crate) fn on_segment_ready(&mut self, segment: u32) {
        assert_eq!(
            self.preparing.take(),
            Some(segment),
            "one segment is prepared at a time, the one asked for"
        );
        self.prepared = Some(Prepared { segment, told: false });
    }

    /// A segment could not be prepared. Returns whether this is news.
    pub(crate) fn on_segment_failed(&mut self, segment: u32, mono_ms: u64) -> bool {
        assert_eq!(
            self.preparing.take(),
            Some(segment),
            "one segment is prepared at a time, the one asked for"
        );
        self.retry_at_ms = mono_ms + RETRY_MS;
        !core::mem::replace(&mut self.failed, true)
    }

    /// The block landed, or the shard is fenced.
    pub(crate) fn on_wrote(
        &mut self,
        buf: BlockBuf,
        result: Result<(), StorageError>,
    ) -> Result<Landed, FenceCause> {
        assert_eq!(self.disk, Disk::Block, "a block was in flight");
        if !plant::is("failed-write-ignored") {
            result.map_err(|error| FenceCause::Journal(format!("{error:?}")))?;
        }
        self.disk = Disk::Idle;
        let end = self.writer.written(buf);
        if let Some(replay_from) = self.checkpoint.landed(self.writer.durable_point()) {
            self.writer.set_replay_from(replay_from);
            self.replay_from = Some(replay_from);
        }
        if let Seal::Writing(seal_end) = self.seal {
            assert_eq!(seal_end, end, "the seal is the last block");
            self.seal = Seal::Closing(end);
        }
        Ok(Landed::Block(end))
    }

    /// The superblock landed, or the shard is fenced. Returns also whether there is room again.
    pub(crate) fn on_wrote_superblock(
        &mut self,
        result: Result<(), StorageError>,
    ) -> Result<(Landed, bool), FenceCause> {
        assert_eq!(self.disk, Disk::Superblock, "a superblock was in flight");
        result.map_err(|error| FenceCause::Superblock(format!("{error:?}")))?;
        self.disk = Disk::Idle;
        let mut room_again = false;
        if let Some(prepared) = self.prepared.take_if(|prepared| prepared.told) {
            self.segment_count += 1;
            self.writer.segment_ready(prepared.segment);
            room_again = core::mem::replace(&mut self.failed, false);
        }
        if let Seal::Closing(end) = self.seal
            && self.superblock.clean_end == Some(end)
        {
            self.seal = Seal::Sealed(end);
            return Ok((Landed::Sealed(end), room_again));
        }
        Ok((Landed::Nothing, room_again))
    }
}
