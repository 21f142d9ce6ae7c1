//! The journal's files and the one write in flight.
//!
//! A block is one write; with [`Strategy::WriteThenFlush`] a flush is submitted when, and only when, the write has completed whole. The two are never
//! linked: a short write would cancel the flush and look like a cancellation of ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use journal::{BlockBuf, FileSlotId, Geometry, LogOffset, Recovered, Superblock};
use mail::queue::Inbox;
use shard::{Input, StorageError};

use crate::disk::{
    self, DiskError, Doing, Job, Make, Prepared, Preparer, Strategy, open_segment, superblock_path,
};
use crate::metrics::Counters;
use crate::ring::{Completion, Ring};
use crate::sys;

/// A segment of the log and its file.
struct Segment {
    number: u32,
    id: FileSlotId,
    /// Open while it may be written to.
    file: Option<Arc<File>>,
}

/// What is being written.
enum Flight {
    Block {
        segment: u32,
        buf: BlockBuf,
        began_ns: u64,
    },
    /// What must be on the disk before it, then the halves of a superblock, one after the other.
    Superblock {
        before: Vec<Arc<File>>,
        halves: [(u64, Vec<u8>); 2],
        half: usize,
    },
}

/// Where a journal is and how it is written.
pub(crate) struct Place {
    pub(crate) shard: u16,
    pub(crate) directory: Arc<Path>,
    pub(crate) geometry: Geometry,
    /// `None`: level memory, blocks are not flushed.
    pub(crate) strategy: Option<Strategy>,
}

/// One shard's journal files.
pub(crate) struct Log {
    place: Place,
    superblock: File,
    segments: Vec<Segment>,
    free: Vec<FileSlotId>,
    next_id: u32,
    flight: Option<Flight>,
    /// At level memory: files that were written to and not flushed.
    unflushed: Vec<(u32, Arc<File>)>,
    /// Where the superblock on the disk says that a replay begins.
    replay_from: LogOffset,
    preparer: Preparer,
    prepared: Inbox<Prepared>,
}

impl Log {
    /// Opens what the next block goes to, if it is there.
    pub(crate) fn open(
        place: Place,
        recovered: &Recovered,
        replay_from: LogOffset,
        preparer: Preparer,
        prepared: Inbox<Prepared>,
    ) -> Result<Log, DiskError> {
        let path = superblock_path(&place.directory);
        let superblock = OpenOptions::new().write(true).open(&path).doing("open the superblock", &path)?;
        let ids = recovered.segments.iter().map(|(_, id)| id.0);
        let others = recovered.free.iter().chain(&recovered.unknown).map(|id| id.0);
        let next_id = ids.chain(others).max().unwrap_or(0) + 1;
        let mut segments = Vec::with_capacity(recovered.segments.len() + 8);
        let current = place.geometry.segment_of(recovered.end);
        for &(number, id) in &recovered.segments {
            let open = || open_segment(&place.directory, id, place.strategy);
            let file = if number == current {
                Some(Arc::new(open().doing("open a segment in", &place.directory)?))
            } else {
                None
            };
            segments.push(Segment { number, id, file });
        }
        let free = recovered.free.clone();
        let (flight, unflushed) = (None, Vec::new());
        Ok(Log {
            place,
            superblock,
            segments,
            free,
            next_id,
            flight,
            unflushed,
            replay_from,
            preparer,
            prepared,
        })
    }

    fn file(&self, segment: u32) -> Option<&Arc<File>> {
        self.segments.iter().find(|it| it.number == segment)?.file.as_ref()
    }

    /// Whether something is being written.
    pub(crate) fn is_writing(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether the thread that prepares segments has answered.
    pub(crate) fn has_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    /// Begins to write a block. `Some`: it cannot even begin.
    pub(crate) fn write(
        &mut self,
        ring: &mut Ring<'_>,
        segment: u32,
        at: u32,
        buf: BlockBuf,
    ) -> Option<Input<'static>> {
        assert!(self.flight.is_none(), "one write is in flight for each shard");
        let align = self.place.geometry.align as usize;
        assert!(buf.as_bytes().as_ptr().addr().is_multiple_of(4096), "a block's memory is whole pages");
        assert!(buf.len().is_multiple_of(align) && (at as usize).is_multiple_of(align), "a block is aligned");
        if self.file(segment).is_none() {
            let error = StorageError::Failed(format!("segment {segment} is not open: it was never prepared"));
            return Some(Input::Wrote { buf, result: Err(error) });
        }
        // Blocks only go forward, so what lies behind is not written any more.
        for older in &mut self.segments {
            if older.number < segment {
                older.file = None;
            }
        }
        self.flight = Some(Flight::Block { segment, buf, began_ns: sys::mono_ns() });
        let Some(Flight::Block { buf, .. }) = &self.flight else { unreachable!("it was just put there") };
        let file = Arc::clone(self.file(segment).expect("it was just found"));
        if self.place.strategy.is_none() && self.unflushed.last().is_none_or(|&(last, _)| last != segment) {
            self.unflushed.push((segment, Arc::clone(&file)));
        }
        // SAFETY: the block is in `self.flight`, unchanged, until its completion takes it out; and if the loop ends before, all of it is leaked.
        unsafe { ring.write(file.as_fd(), at.into(), buf.as_bytes()) };
        None
    }

    /// Begins to write a superblock: half of the copies, a flush, the other half, a flush.
    ///
    /// What it relies on is flushed before, at level memory too.
    pub(crate) fn write_superblock(&mut self, ring: &mut Ring<'_>, superblock: &Superblock) {
        assert!(self.flight.is_none(), "one write is in flight for each shard");
        let before = match superblock.relies_on_the_log(self.replay_from) {
            true => self.unflushed.drain(..).map(|(_, file)| file).collect(),
            false => Vec::new(),
        };
        self.replay_from = superblock.replay_from;
        self.flight = Some(Flight::Superblock { before, halves: superblock.halves(), half: 0 });
        self.go_on(ring);
    }

    /// The next step of a superblock: a flush of what it relies on, or one of its halves.
    fn go_on(&mut self, ring: &mut Ring<'_>) {
        match &self.flight {
            Some(Flight::Superblock { before, .. }) if !before.is_empty() => {
                ring.flush(before[before.len() - 1].as_fd());
            }
            _ => self.write_half(ring),
        }
    }

    fn write_half(&mut self, ring: &mut Ring<'_>) {
        let Some(Flight::Superblock { halves, half, .. }) = &self.flight else {
            panic!("a superblock is in flight")
        };
        let (at, bytes) = &halves[*half];
        // SAFETY: the halves are in `self.flight`, unchanged, until the last completion takes them out; and if the loop ends before, all is leaked.
        unsafe { ring.write(self.superblock.as_fd(), *at, bytes) };
    }

    /// A write has completed. `Some`: what it was part of has ended.
    pub(crate) fn write_completed(
        &mut self,
        ring: &mut Ring<'_>,
        completion: &Completion,
        counters: &mut Counters,
    ) -> Option<Input<'static>> {
        let size = match self.flight.as_ref().expect("a write was in flight") {
            Flight::Block { buf, .. } => buf.len(),
            Flight::Superblock { halves, half, .. } => halves[*half].1.len(),
        };
        if let Err(error) = whole(completion.result, size) {
            return self.landed(Err(error), counters);
        }
        match self.flight.as_ref().expect("a write was in flight") {
            Flight::Block { .. } if self.place.strategy != Some(Strategy::WriteThenFlush) => {
                self.landed(Ok(()), counters)
            }
            Flight::Block { segment, .. } => {
                let file = self.file(*segment).expect("a file that is written to stays open");
                ring.flush(file.as_fd());
                None
            }
            // A superblock is flushed at every level: the boot id must not come back.
            Flight::Superblock { .. } => {
                ring.flush(self.superblock.as_fd());
                None
            }
        }
    }

    /// A flush has completed. `Some`: what it was part of has ended.
    pub(crate) fn flush_completed(
        &mut self,
        ring: &mut Ring<'_>,
        completion: &Completion,
        counters: &mut Counters,
    ) -> Option<Input<'static>> {
        if completion.result < 0 {
            let error = io::Error::from_raw_os_error(-completion.result);
            if matches!(&self.flight, Some(Flight::Superblock { before, .. }) if !before.is_empty()) {
                // The loop waits for this disk: nothing else is left to do but to end the process.
                disk::note_failed_flush(self.place.shard, &self.place.directory);
            }
            return self.landed(Err(StorageError::Failed(format!("a flush failed: {error}"))), counters);
        }
        match self.flight.as_mut().expect("a flush was in flight") {
            Flight::Superblock { before, .. } if !before.is_empty() => {
                // Its file stays open in the table of segments, or is not needed any more.
                before.pop();
                self.go_on(ring);
                None
            }
            Flight::Superblock { half, .. } if *half == 0 => {
                *half = 1;
                self.write_half(ring);
                None
            }
            _ => self.landed(Ok(()), counters),
        }
    }

    fn landed(
        &mut self,
        result: Result<(), StorageError>,
        counters: &mut Counters,
    ) -> Option<Input<'static>> {
        match self.flight.take().expect("something was in flight") {
            Flight::Block { buf, began_ns, .. } => {
                counters.writes += 1;
                counters.write_bytes += buf.len() as u64;
                counters.write_latency.record_ns(sys::mono_ns() - began_ns);
                Some(Input::Wrote { buf, result })
            }
            Flight::Superblock { .. } => {
                counters.superblock_writes += 1;
                Some(Input::WroteSuperblock { result })
            }
        }
    }

    /// Has a segment made ready. `Some`: the thread that does it takes no more.
    pub(crate) fn prepare(&mut self, segment: u32) -> Option<Input<'static>> {
        let known = self.segments.iter().find(|it| it.number == segment);
        // A segment of the log that is there already is left as it is: older boots' blocks in it are dead by their boot ids.
        let (id, make) = match known {
            Some(known) => (known.id, Make::Open),
            None => match self.free.pop() {
                Some(id) => (id, Make::Wipe),
                None => {
                    self.next_id = self.next_id.max(segment);
                    self.next_id += 1;
                    (FileSlotId(self.next_id - 1), Make::New)
                }
            },
        };
        let job = Job {
            shard: self.place.shard,
            directory: Arc::clone(&self.place.directory),
            segment,
            id,
            make,
            size: self.place.geometry.segment_size,
            strategy: self.place.strategy,
        };
        if self.preparer.send(job) {
            return None;
        }
        if make == Make::Wipe {
            // Nothing was done to it: it is as free as before.
            self.free.push(id);
        }
        let error = StorageError::Failed("the thread that prepares segments does not keep up".into());
        Some(Input::SegmentFailed { segment, error })
    }

    /// Takes what the thread that prepares segments has answered.
    pub(crate) fn take_prepared(&mut self, counters: &mut Counters, mut take: impl FnMut(Input<'static>)) {
        let Log { prepared, segments, free, .. } = self;
        prepared.drain(|Prepared { segment, id, make, result }| match result {
            Ok(file) => {
                counters.segments_prepared += 1;
                segments.retain(|it| it.number != segment);
                segments.push(Segment { number: segment, id, file: Some(Arc::new(file)) });
                take(Input::SegmentReady { segment });
            }
            Err(error) => {
                counters.segment_failures += 1;
                if make == Make::Wipe {
                    free.push(id);
                }
                take(Input::SegmentFailed { segment, error });
            }
        });
    }
}

/// Whether a write of `size` bytes with this result is whole.
fn whole(result: i32, size: usize) -> Result<(), StorageError> {
    match result {
        error if error == -libc::ENOSPC || error == -libc::EDQUOT => Err(StorageError::Full),
        error if error < 0 => {
            Err(StorageError::Failed(format!("a write failed: {}", io::Error::from_raw_os_error(-error))))
        }
        written if written as usize == size => Ok(()),
        written => Err(StorageError::Failed(format!("a write was short: {written} of {size} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use journal::Level;
    use mail::queue::mailbox;
    use mail::sleep::sleep_flag;

    use super::*;
    use crate::disk::Answers;
    use crate::ring::{self, Setup, Wait};
    use crate::scratch::Scratch;

    #[test]
    fn only_a_whole_write_is_good() {
        assert_eq!(whole(4096, 4096), Ok(()));
        assert_eq!(whole(-libc::ENOSPC, 4096), Err(StorageError::Full));
        for result in [0, 4095, -libc::EIO, -libc::ECANCELED, -libc::EINTR, -libc::EAGAIN] {
            assert!(matches!(whole(result, 4096), Err(StorageError::Failed(_))), "{result} is not whole");
        }
    }

    /// A log whose segment 1 is `file`, handed with its ring to `then`.
    fn with_log<T>(
        file: &str,
        strategy: Option<Strategy>,
        then: impl FnOnce(&mut Log, &mut Ring<'_>) -> T,
    ) -> T {
        let scratch = Scratch::new("log");
        std::fs::write(superblock_path(scratch.path()), b"").unwrap();
        let (outbox, prepared) = mailbox(1);
        let (_sleeper, doorbell) = sleep_flag();
        let wake = Arc::new(sys::eventfd().unwrap());
        let preparer = Preparer::start(vec![Answers { outbox, doorbell, wake }]).unwrap();
        let place = Place {
            shard: 0,
            directory: Arc::from(scratch.path()),
            geometry: Geometry { segment_size: 1 << 20, align: 512 },
            strategy,
        };
        let superblock = OpenOptions::new().write(true).open(superblock_path(scratch.path())).unwrap();
        let target = Arc::new(OpenOptions::new().write(true).open(file).unwrap());
        let segments = vec![Segment { number: 1, id: FileSlotId(1), file: Some(target) }];
        let mut log = Log {
            place,
            superblock,
            segments,
            free: Vec::new(),
            next_id: 2,
            flight: None,
            unflushed: Vec::new(),
            replay_from: LogOffset(0),
            preparer,
            prepared,
        };
        let setup = Setup {
            submissions: 64,
            completions: 64,
            table: 16,
            buffer_count: 2,
            buffer_size: 256,
            spare: Arc::from([]),
        };
        let mut uring = ring::build(&setup).unwrap();
        let (mut ring, _buffers, _) = ring::prepare(&mut uring, &setup).unwrap();
        let result = then(&mut log, &mut ring);
        ring.unregister().unwrap();
        result
    }

    /// Carries on until what is in flight has ended: how, and after how many operations.
    fn end_of_flight(log: &mut Log, ring: &mut Ring<'_>) -> (Input<'static>, usize) {
        let (mut seen, mut counters) = (Vec::new(), Counters::default());
        for operations in 1..=8 {
            ring.enter(Wait { want: 1, min_wait_us: 0, timeout_ns: 5_000_000_000 });
            ring.take(1, &mut seen);
            let completion = seen.pop().expect("the operation has completed");
            let ended = match completion.token.op() {
                Some(crate::ring::token::Op::Write) => log.write_completed(ring, &completion, &mut counters),
                _ => log.flush_completed(ring, &completion, &mut counters),
            };
            if let Some(ended) = ended {
                assert!(!log.is_writing());
                return (ended, operations);
            }
        }
        panic!("the write never ends");
    }

    fn write_block(log: &mut Log, ring: &mut Ring<'_>) -> (Result<(), StorageError>, usize) {
        let mut buf = BlockBuf::with_capacity(4096);
        buf.set_len(4096);
        assert!(log.write(ring, 1, 0, buf).is_none());
        match end_of_flight(log, ring) {
            (Input::Wrote { buf, result }, operations) => {
                assert_eq!(buf.len(), 4096, "the block comes back");
                (result, operations)
            }
            _ => panic!("a block ends as a block"),
        }
    }

    /// Writes one block to `file` and says how it went, and how many operations that took.
    fn write_to(file: &str, strategy: Strategy) -> (Result<(), StorageError>, usize) {
        with_log(file, Some(strategy), write_block)
    }

    #[test]
    fn at_level_memory_what_a_checkpoint_relies_on_is_flushed_before_it() {
        let scratch = Scratch::new("log-memory");
        let good = scratch.path().join("good");
        std::fs::write(&good, vec![0; 8192]).unwrap();
        let geometry = Geometry { segment_size: 1 << 20, align: 512 };
        let superblock = Superblock::new([1; 16], 7, 0, 1, geometry);
        let mut moved = superblock.clone();
        moved.replay_from = LogOffset(4096);
        let write = |log: &mut Log, ring: &mut Ring<'_>, superblock: &Superblock| {
            log.write_superblock(ring, superblock);
            match end_of_flight(log, ring) {
                (Input::WroteSuperblock { result }, operations) => (result, operations),
                _ => panic!("a superblock ends as a superblock"),
            }
        };
        with_log(good.to_str().unwrap(), None, |log, ring| {
            log.replay_from = superblock.replay_from;
            assert_eq!(write_block(log, ring), (Ok(()), 1), "not flushed by itself");
            assert_eq!(write(log, ring, &superblock), (Ok(()), 4), "two halves, each with its flush");
            assert_eq!(write(log, ring, &moved), (Ok(()), 5), "and one of the segment before");
            assert_eq!(write(log, ring, &moved), (Ok(()), 4), "nothing new was written");
        });
        // A segment that takes every write and cannot be flushed: the checkpoint does not land.
        with_log("/dev/null", None, |log, ring| {
            log.replay_from = superblock.replay_from;
            let (level, kernel_boot) = (Level::Memory, [9; 16]);
            let running = Superblock { level, kernel_boot, boot_id: 1, ..superblock.clone() };
            disk::create_superblock(&log.place.directory, &running).unwrap();
            assert_eq!(write_block(log, ring), (Ok(()), 1));
            let (result, operations) = write(log, ring, &moved);
            assert!(matches!(result, Err(StorageError::Failed(text)) if text.contains("flush")));
            assert_eq!(operations, 1, "no half was written");
            let noted = disk::load_superblock(&log.place.directory).unwrap().unwrap().unwrap();
            assert_eq!(noted.kernel_boot, [0; 16], "the next recovery does not believe the page cache");
            assert_eq!(noted.replay_from, running.replay_from, "the checkpoint did not land");
        });
    }

    #[test]
    fn a_write_or_a_flush_that_fails_is_told_and_not_tried_again() {
        let scratch = Scratch::new("log-file");
        let good = scratch.path().join("good");
        std::fs::write(&good, vec![0; 8192]).unwrap();
        let good = good.to_str().unwrap();
        assert_eq!(write_to(good, Strategy::WriteThenFlush), (Ok(()), 2));
        assert_eq!(write_to(good, Strategy::Overwrite), (Ok(()), 1));
        assert_eq!(write_to("/dev/full", Strategy::WriteThenFlush), (Err(StorageError::Full), 1));
        // It takes every write and cannot be flushed.
        let (result, operations) = write_to("/dev/null", Strategy::WriteThenFlush);
        assert!(matches!(result, Err(StorageError::Failed(text)) if text.contains("flush")));
        assert_eq!(operations, 2, "one write, one flush");
    }
}
