//! The group-commit writer: one block collects records while at most one other is being written.
//!
//! ```text
//!   append ... append   -> open block        take()          -> Outgoing, owned by whoever writes it
//!                                            written(buf)    -> durable mark moves, the buffer comes back
//! ```
//!
//! Two buffers swap for ever; nothing is allocated after `new`. A write that fails has no method: the shard is
//! fenced, nothing is acknowledged any more, and the next boot finds out from the disk what holds.

use crate::buffer::BlockBuf;
use crate::geometry::{CommitPoint, Geometry, LogOffset};
use crate::header::{BLOCK_HEADER_SIZE, BlockFlags, BlockHeader, Identity};
use crate::record::{RECORD_ALIGN, RECORD_HEADER_SIZE, RecordMeta, put_record, record_size, sum_records};
use crate::recover::Recovered;
use crate::superblock::Superblock;

/// The open block has no room for this record; it goes into the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Bytes of body that were asked for.
    pub needed: usize,
    /// Bytes of body that still fit.
    pub room: usize,
}

/// A block on its way to the disk: to be written whole at one place, and flushed.
#[derive(Debug)]
pub struct Outgoing {
    /// The segment it belongs to.
    pub segment: u32,
    /// Its offset in that segment's file, in bytes; a multiple of the alignment.
    pub at: u32,
    /// What to write: `buf.as_bytes()`, a multiple of the alignment long.
    pub buf: BlockBuf,
    /// The end of the block: durable up to here once it has landed.
    pub end: LogOffset,
}

/// The group-commit writer of one journal in one boot.
pub struct Writer {
    geometry: Geometry,
    identity: Identity,
    boot_start: LogOffset,
    replay_from: LogOffset,
    /// Collects records; its length includes the header's place.
    open: BlockBuf,
    open_records: u32,
    open_point: CommitPoint,
    /// The other buffer, unless it is in flight.
    spare: Option<BlockBuf>,
    in_flight: Option<(CommitPoint, LogOffset)>,
    durable: LogOffset,
    durable_point: CommitPoint,
    /// End of the last block taken.
    tail: LogOffset,
    /// `prev` of the first block of `segment`, or none if this boot does not know.
    entry: LogOffset,
    segment: u32,
    segment_used: u32,
    segment_is_ready: bool,
    next_is_ready: bool,
    sealed: bool,
}

impl Writer {
    /// A writer that appends at `start`, which recovery found. The superblock with this boot's id and `start` is
    /// durable already.
    ///
    /// # Panics
    /// When the geometry does not pass [`Geometry::check`], or `start` is not aligned.
    pub fn new(geometry: Geometry, identity: Identity, start: LogOffset, replay_from: LogOffset) -> Self {
        geometry.check().expect("sizes were checked when the configuration was parsed");
        assert!(start >= geometry.first(), "segments are numbered from 1");
        assert!(start.0.is_multiple_of(u64::from(geometry.align)), "blocks are aligned");
        let block_max = geometry.block_max() as usize;
        let mut open = BlockBuf::with_capacity(block_max);
        open.set_len(BLOCK_HEADER_SIZE);
        Writer {
            geometry,
            identity,
            boot_start: start,
            replay_from,
            open,
            open_records: 0,
            open_point: CommitPoint(1),
            spare: Some(BlockBuf::with_capacity(block_max)),
            in_flight: None,
            durable: start,
            durable_point: CommitPoint(0),
            tail: start,
            entry: LogOffset::NONE,
            segment: geometry.segment_of(start),
            segment_used: geometry.within(start),
            // In the middle of a segment its file is known to be there; at its start nobody has said so.
            segment_is_ready: geometry.within(start) != 0,
            next_is_ready: false,
            sealed: false,
        }
    }

    /// The writer of the boot that `superblock` has begun, after `recovered`.
    pub fn resume(superblock: &Superblock, recovered: &Recovered) -> Self {
        assert_eq!(
            superblock.start, recovered.end,
            "the superblock of this boot was made from this recovery"
        );
        let start = recovered.end;
        let mut writer =
            Writer::new(superblock.geometry, superblock.identity(), start, superblock.replay_from);
        writer.entry = recovered.entry;
        writer
    }

    /// Bytes of body that still fit in the open block.
    pub fn room(&self) -> usize {
        let left = self.geometry.block_max() as usize - self.open.len();
        left.saturating_sub(RECORD_HEADER_SIZE) / RECORD_ALIGN * RECORD_ALIGN
    }

    /// Bytes of body that fit in an empty block: more is our own mistake, refused at the door.
    pub fn body_max(&self) -> usize {
        self.geometry.block_max() as usize - BLOCK_HEADER_SIZE - RECORD_HEADER_SIZE
    }

    /// Appends a record. What it says may be told once `durable_point()` has reached the point returned.
    pub fn append(&mut self, kind: u16, version: u16, slot: u16, body: &[u8]) -> Result<CommitPoint, Full> {
        self.append_record(RecordMeta { kind, version, slot, ..RecordMeta::default() }, body)
    }

    /// [`append`](Self::append) with every field of the record's header.
    pub fn append_record(&mut self, meta: RecordMeta, body: &[u8]) -> Result<CommitPoint, Full> {
        self.append_in_place(meta, body.len(), |place| {
            place[..body.len()].copy_from_slice(body);
            Some(body.len())
        })
    }

    /// Appends a record whose body is made in place: the one copy in.
    ///
    /// `fill` gets all the room that is left, at an address that is a multiple of 16, and returns how many bytes
    /// it used; `None` means that it did not fit, and nothing is appended. With `size_hint` more than the room it
    /// is not called at all. The place holds old bytes: `fill` writes every byte that it counts. With rkyv:
    /// `to_bytes_in_with_alloc(value, Buffer::from(place), arena)`, and the buffer's length.
    pub fn append_with(
        &mut self,
        kind: u16,
        version: u16,
        slot: u16,
        size_hint: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<CommitPoint, Full> {
        self.append_in_place(RecordMeta { kind, version, slot, ..RecordMeta::default() }, size_hint, fill)
    }

    /// [`append_with`](Self::append_with) with every field of the record's header.
    pub fn append_in_place(
        &mut self,
        meta: RecordMeta,
        size_hint: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<CommitPoint, Full> {
        assert!(!self.sealed, "nothing is appended behind the seal");
        let room = self.room();
        let full = Full { needed: size_hint, room };
        let (at, body) = (self.open.len(), self.open.len() + RECORD_HEADER_SIZE);
        if size_hint > room || body > self.geometry.block_max() as usize {
            return Err(full);
        }
        let block = self.open.whole_mut();
        let len = fill(&mut block[body..body + room]).ok_or(full)?;
        assert!(len <= room, "a body stays in its place");
        put_record(&mut block[at..], meta, len, self.open_records);
        self.open.set_len(at + record_size(len));
        self.open_records += 1;
        Ok(self.open_point)
    }

    /// Whether the open block has records.
    pub fn pending(&self) -> bool {
        self.open_records > 0
    }

    /// Bytes of the open block as it would be written now, padding included.
    pub fn pending_size(&self) -> u32 {
        self.geometry.padded(self.open.len() as u32)
    }

    /// Whether a block is being written.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Takes the open block, summed and padded, to be written at its place.
    ///
    /// `None` while a block is in flight, when there is nothing to write, or when the block needs the next segment
    /// and that is not ready. With [`BlockFlags::SEAL`] an empty block is written: the last one of a clean stop.
    ///
    /// # Panics
    /// When a seal is asked for while records are pending: a seal says that all before it was acknowledged.
    pub fn take(&mut self, flags: BlockFlags) -> Option<Outgoing> {
        let seal = flags.contains(BlockFlags::SEAL);
        assert!(!(seal && self.pending()), "records are committed before the seal");
        if self.in_flight() || !(self.pending() || seal) || self.out_of_space() {
            return None;
        }
        let size = self.pending_size();
        if !self.fits(size) {
            self.segment += 1;
            self.segment_used = 0;
            self.next_is_ready = false;
        }
        let at = self.segment_used;
        let mut flags = flags;
        if at == 0 {
            flags = flags.with(BlockFlags::SEGMENT_START);
            self.entry = self.tail;
        }
        let offset = self.geometry.start_of(self.segment).plus(u64::from(at));
        let end = offset.plus(u64::from(size));
        self.finish_block(flags, offset, size);
        let mut spare = self.spare.take().expect("the other buffer is home when nothing is in flight");
        spare.set_len(BLOCK_HEADER_SIZE);
        let buf = std::mem::replace(&mut self.open, spare);
        self.in_flight = Some((self.open_point, end));
        self.open_point.0 += 1;
        self.open_records = 0;
        self.segment_used = at + size;
        self.tail = end;
        self.sealed |= seal;
        Some(Outgoing { segment: self.segment, at, buf, end })
    }

    /// Header, sums and padding of the open block.
    fn finish_block(&mut self, flags: BlockFlags, offset: LogOffset, size: u32) {
        let len = self.open.len();
        let header = BlockHeader {
            flags,
            shard: self.identity.shard,
            level: self.identity.level as u8,
            align: self.geometry.align,
            generation: self.identity.generation,
            segment: self.segment,
            boot_id: self.identity.boot_id,
            offset,
            prev: self.tail,
            boot_start: self.boot_start,
            entry: self.entry,
            replay_from: self.replay_from,
            kernel_boot: self.identity.kernel_boot,
            payload_len: (len - BLOCK_HEADER_SIZE) as u32,
            record_count: self.open_records,
        };
        self.open.set_len(size as usize);
        let block = self.open.as_mut_bytes();
        block[len..].fill(0);
        sum_records(block, &header, self.identity.salt);
        header.encode(block, self.identity.salt);
    }

    /// The block in flight was written whole and flushed. Moves the durable mark and takes the buffer back.
    ///
    /// # Panics
    /// When no block is in flight.
    pub fn written(&mut self, buf: BlockBuf) -> LogOffset {
        let (point, end) = self.in_flight.take().expect("a block was in flight");
        assert_eq!(buf.capacity(), self.open.capacity(), "the buffer that left comes back");
        self.durable = end;
        self.durable_point = point;
        self.spare = Some(buf);
        end
    }

    /// Everything before this place is durable, and all of it is whole blocks. Followers read up to here.
    pub fn durable(&self) -> LogOffset {
        self.durable
    }

    /// Records up to this commit point are durable and may be told.
    pub fn durable_point(&self) -> CommitPoint {
        self.durable_point
    }

    /// The commit point of everything appended so far.
    pub fn appended(&self) -> CommitPoint {
        if self.pending() { self.open_point } else { CommitPoint(self.open_point.0 - 1) }
    }

    /// The earliest place the open block can get. A replay that begins here meets everything appended from now on.
    pub fn next_offset(&self) -> LogOffset {
        self.tail
    }

    /// The segment whose file must be made ready: written with zeros or recycled, flushed, and its directory entry
    /// durable. Asked for ahead, from the middle of the current one on.
    pub fn wants_segment(&self) -> Option<u32> {
        if !self.segment_is_ready {
            return Some(self.segment);
        }
        let ahead = (self.geometry.segment_size / 2).max(2 * self.geometry.block_max());
        let late = self.geometry.segment_size - self.segment_used <= ahead;
        (late && !self.next_is_ready).then_some(self.segment + 1)
    }

    /// A segment that was wanted is ready.
    ///
    /// # Panics
    /// When it is neither the current nor the next one.
    pub fn segment_ready(&mut self, segment: u32) {
        if segment == self.segment {
            self.segment_is_ready = true;
        } else {
            assert_eq!(segment, self.segment + 1, "segments are made ready in order");
            self.next_is_ready = true;
        }
    }

    /// Whether the open block, as it is now, has no segment to go to.
    pub fn out_of_space(&self) -> bool {
        if self.fits(self.pending_size()) { !self.segment_is_ready } else { !self.next_is_ready }
    }

    fn fits(&self, size: u32) -> bool {
        self.segment_used + size <= self.geometry.segment_size
    }

    /// The checkpoint has moved, durably: later blocks say so.
    pub fn set_replay_from(&mut self, replay_from: LogOffset) {
        assert!(replay_from >= self.replay_from, "a checkpoint moves forward only");
        self.replay_from = replay_from;
    }

    /// Where a replay must begin, as the next block will say.
    pub fn replay_from(&self) -> LogOffset {
        self.replay_from
    }
}
