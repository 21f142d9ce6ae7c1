//! The journal through the ring: blocks land, are flushed and are read back by the next start.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Dir, plan, small, wait_until};
use journal::{BlockFlags, Level, RecordRef, Recovered, Superblock, Writer};
use mail::Order;
use ringdesk_edge::disk::{Choice, Strategy, generation_of};
use ringdesk_edge::metrics::Name;
use ringdesk_edge::node::{self, Running, Start, StartError};
use ringdesk_edge::{Core, Recovery};
use shard::{Effect, Input, Now, StorageError};

/// What the scribes of a node have replayed and written.
#[derive(Default)]
struct Book {
    replayed: AtomicU64,
    replayed_sum: AtomicU64,
    blocks: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// A core that writes blocks as fast as they land, until it has written enough.
struct Scribe {
    writer: Writer,
    superblock: Superblock,
    book: Arc<Book>,
    goal: u64,
    next: u64,
    asked: u32,
    done: bool,
}

struct ScribeBuilder {
    book: Arc<Book>,
    goal: u64,
}

const RECORDS_PER_BLOCK: u64 = 50;

impl Recovery for ScribeBuilder {
    type Core = Scribe;

    fn replay(&mut self, record: &RecordRef<'_>) {
        let number = u64::from_le_bytes(record.body[..8].try_into().unwrap());
        assert!(
            record.body[8..].iter().all(|byte| *byte == number as u8),
            "a record is read as it was written"
        );
        self.book.replayed.fetch_add(1, Ordering::Relaxed);
        self.book.replayed_sum.fetch_add(number, Ordering::Relaxed);
    }

    fn findings(&self) -> Option<String> {
        None
    }

    fn start(
        self,
        _: Now,
        recovered: &Recovered,
        superblock: Superblock,
        effects: &mut Vec<Effect>,
    ) -> Scribe {
        let writer = Writer::resume(&superblock, recovered);
        let next = recovered.records;
        let mut scribe =
            Scribe { writer, superblock, book: self.book, goal: self.goal, next, asked: 0, done: false };
        scribe.go_on(effects);
        scribe
    }
}

impl Scribe {
    /// Asks for the next segment and writes the next block, if both are due.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        if let Some(segment) = self.writer.wants_segment().filter(|segment| *segment > self.asked) {
            self.asked = segment;
            effects.push(Effect::PrepareSegment { segment });
        }
        if self.writer.in_flight() || self.done {
            return;
        }
        if self.next >= self.goal && !self.writer.pending() {
            self.done = true;
            effects.push(Effect::WriteSuperblock(Box::new(self.superblock.with_files(0))));
            return;
        }
        for _ in 0..RECORDS_PER_BLOCK {
            let number = self.next;
            let mut body = vec![number as u8; 8 + number as usize % 700];
            body[..8].copy_from_slice(&number.to_le_bytes());
            if number >= self.goal || self.writer.append(1, 1, 0, &body).is_err() {
                break;
            }
            self.next += 1;
        }
        if let Some(outgoing) = self.writer.take(BlockFlags::NONE) {
            effects.push(Effect::Write { segment: outgoing.segment, at: outgoing.at, buf: outgoing.buf });
        }
    }
}

impl Core for Scribe {
    fn step(&mut self, _: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::SegmentReady { segment } => {
                self.writer.segment_ready(segment);
                self.go_on(effects);
            }
            Input::SegmentFailed { error, .. } => {
                assert_eq!(error, StorageError::Full);
                self.book.failed.fetch_add(1, Ordering::Relaxed);
                self.asked = 0;
            }
            Input::Wrote { buf, result } => {
                result.expect("the disk is sound");
                self.writer.written(buf);
                self.book.blocks.fetch_add(1, Ordering::Relaxed);
                self.go_on(effects);
            }
            Input::WroteSuperblock { result } => {
                result.expect("the disk is sound");
                self.book.done.fetch_add(1, Ordering::Relaxed);
            }
            Input::Tick => self.go_on(effects),
            Input::Order(Order::Drain { .. }) => effects.push(Effect::Stop),
            _ => {}
        }
    }
    fn wants_turn(&self) -> bool {
        false
    }
    fn counter_names() -> Vec<Name> {
        Vec::new()
    }
    fn counter_values(&mut self, _: &mut [u64]) {}
}

fn scribes(start: Start, book: &Arc<Book>, goal: u64) -> Result<Running, StartError> {
    let book = Arc::clone(book);
    node::start(start, move |_| ScribeBuilder { book: Arc::clone(&book), goal })
}

fn stop(mut running: Running) {
    for port in &mut running.ports {
        port.post(Order::Drain { after_ms: 0, grace_ms: 0 }).unwrap();
    }
    running.join();
}

/// Writes some thousand records on each shard over several segments, twice, and reads them back with the second and the third start.
fn written_is_read(name: &str, level: Level, disk: Choice) {
    let dir = Dir::new(name);
    let shards = 2;
    let mut before = 0;
    for (round, goal) in [4_000, 6_000, 6_000].into_iter().enumerate() {
        let book = Arc::<Book>::default();
        let plan = Start { level, disk, ..plan(dir.path(), shards, small()) };
        let running = scribes(plan, &book, goal).unwrap();
        assert_eq!(
            book.replayed.load(Ordering::Relaxed),
            before * shards as u64,
            "all that was written is there"
        );
        let sum = before * before.saturating_sub(1) / 2;
        assert_eq!(book.replayed_sum.load(Ordering::Relaxed), sum * shards as u64, "each record once");
        for boot in &running.boots {
            assert!(boot.recovered.damage.is_empty(), "{:?}", boot.recovered.damage);
            // A start writes the superblock once, and so does the scribe at its end.
            assert_eq!(boot.superblock.counter, 2 * (round as u64 + 1), "each superblock was stored");
        }
        wait_until("all blocks", || book.done.load(Ordering::Relaxed) == shards as u64);
        assert_eq!(goal > before, book.blocks.load(Ordering::Relaxed) > 0);
        stop(running);
        before = goal;
    }
    let segments = std::fs::read_dir(ringdesk_edge::disk::journal_directory(
        dir.path(),
        generation_of(dir.path()).unwrap(),
        1,
    ));
    let count = segments.unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "seg")
    });
    assert!(count.count() >= 3, "the log went over several segments");
}

#[test]
fn blocks_that_are_overwritten_directly_land_and_are_read_back() {
    written_is_read("overwrite", Level::Disk, Choice::Fixed(Strategy::Overwrite));
}

#[test]
fn blocks_that_are_written_and_flushed_land_and_are_read_back() {
    written_is_read("flush", Level::Disk, Choice::Fixed(Strategy::WriteThenFlush));
}

#[test]
fn blocks_at_level_memory_land_and_are_read_back() {
    written_is_read("memory", Level::Memory, Choice::Measured);
}

#[test]
fn a_journal_of_another_number_of_shards_or_site_is_refused_by_name() {
    let dir = Dir::new("foreign");
    let book = Arc::<Book>::default();
    stop(scribes(plan(dir.path(), 2, small()), &book, 0).unwrap());
    let error = scribes(plan(dir.path(), 3, small()), &book, 0).err().unwrap();
    assert!(matches!(error, StartError::ForeignJournal { .. }), "{error}");
    assert!(error.to_string().contains("had 2 shards and 3 are planned"), "{error}");
    assert_eq!(error.exit_status(), ringdesk_edge::exit::JOURNAL);
    let mut other = plan(dir.path(), 2, small());
    other.config.site = desk::id::SiteId::from_bits(1 << 112 | 8).unwrap();
    let error = scribes(other, &book, 0).err().unwrap();
    assert!(error.to_string().contains("another site"), "{error}");
    std::fs::remove_file(dir.path().join("journal/1/0/superblock")).unwrap();
    std::fs::write(dir.path().join("journal/1/0/00000001.seg"), vec![0; 1 << 20]).unwrap();
    let error = scribes(plan(dir.path(), 2, small()), &book, 0).err().unwrap();
    assert!(error.to_string().contains("it is missing, and 1 segments are beside it"), "{error}");
    // Nothing of the refused starts is left running or locked.
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    stop(scribes(plan(dir.path(), 3, small()), &book, 0).unwrap());
}

#[test]
fn a_second_server_on_the_directory_or_the_port_is_refused() {
    let dir = Dir::new("second");
    let book = Arc::<Book>::default();
    let running = scribes(plan(dir.path(), 1, small()), &book, 0).unwrap();
    let other = Dir::new("second-port");
    let port = Start { listen: running.listen, ..plan(other.path(), 1, small()) };
    let error = scribes(port, &book, 0).err().unwrap();
    assert!(matches!(error, StartError::PortInUse(_)), "{error}");
    let begin = std::time::Instant::now();
    match scribes(plan(dir.path(), 1, small()), &book, 0) {
        Err(error @ StartError::LockHeld { pid: Some(pid), .. }) => {
            assert_eq!(pid, std::process::id());
            assert_eq!(error.exit_status(), ringdesk_edge::exit::LOCKED);
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two servers on one directory"),
    }
    assert!(begin.elapsed().as_secs() >= 4, "the lock is tried for a while");
    stop(running);
}

#[test]
fn an_impossible_plan_is_named() {
    let dir = Dir::new("plan");
    let book = Arc::<Book>::default();
    let error = |start: Start| scribes(start, &book, 0).err().unwrap();
    let none = Start { cores: vec![], ..plan(dir.path(), 1, small()) };
    assert!(error(none).to_string().contains("0 shards"));
    let segment = Start { segment_size: 1_000, ..plan(dir.path(), 1, small()) };
    assert!(error(segment).to_string().contains("segment size 1000"));
    let core = Start { cores: vec![Some(4_000)], ..plan(dir.path(), 1, small()) };
    let found = error(core);
    assert!(found.to_string().contains("core 4000"), "{found}");
    assert_eq!(found.exit_status(), ringdesk_edge::exit::PLAN);
}
