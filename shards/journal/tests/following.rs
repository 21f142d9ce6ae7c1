//! Followers: up to the durable mark and no further, over rolls, restarts, damage and recycling.

mod common;

use common::{Block, Chance, KERNEL, Rig, Said, geometry};
use ringdesk_journal::{
    BlockFlags, Damage, DamageKind, Entry, Level, LogOffset, Tail, TailError, TailItem, dump,
};

/// Reads all there is before `durable`.
fn drain(tail: &mut Tail, rig: &mut Rig, durable: LogOffset) -> (Vec<Said>, Vec<Damage>) {
    let (mut said, mut damage) = (Vec::new(), Vec::new());
    while let Some(item) = tail.read(&mut rig.disk, durable).expect("it reads") {
        match item {
            TailItem::Block(block) => {
                assert!(block.end <= durable, "a follower never sees what is not durable");
                for record in block.records() {
                    match record {
                        Ok(record) => said.push(Said::of(&record)),
                        Err(range) => damage.push(range),
                    }
                }
            }
            TailItem::Damage(range) => damage.push(range),
        }
    }
    assert_eq!(tail.cursor(), durable);
    (said, damage)
}

#[test]
fn a_follower_reads_what_is_durable_in_order_over_rolls_and_restarts() {
    let mut chance = Chance(1);
    let mut rig = Rig::running(geometry(512));
    let first = rig.superblock.geometry.first();
    let mut tail = Tail::new(&rig.superblock, first);
    let mut told: Vec<Said> = Vec::new();
    let mut heard: Vec<Said> = Vec::new();
    for round in 0..120 {
        told.extend(rig.block(&mut chance, 6, 900).said);
        let durable = rig.writer().durable();
        // A block in flight, landed on the disk but not acknowledged, is none of the follower's business.
        rig.say(Said::any(&mut chance, 700));
        let (outgoing, flying) = rig.take(BlockFlags::NONE);
        rig.land(&outgoing);
        if round % 3 == 0 {
            heard.extend(drain(&mut tail, &mut rig, durable).0);
            assert_eq!(heard, told);
        }
        if round % 10 == 0 {
            tail = Tail::new(&rig.superblock, tail.cursor());
        }
        rig.writer().written(outgoing.buf);
        told.extend(flying.said);
    }
    let durable = rig.writer().durable();
    heard.extend(drain(&mut tail, &mut rig, durable).0);
    assert_eq!(heard, told);
    assert!(rig.files.len() > 3);
}

#[test]
fn a_follower_goes_on_in_the_next_boot() {
    let mut chance = Chance(2);
    let mut rig = Rig::running(geometry(512));
    let mut tail = Tail::new(&rig.superblock, rig.superblock.geometry.first());
    let first = rig.block(&mut chance, 6, 900);
    assert_eq!(drain(&mut tail, &mut rig, first.end).0, first.said);
    rig.boot(Level::Disk, KERNEL);
    let mut tail = Tail::new(&rig.superblock, tail.cursor());
    let second = rig.block(&mut chance, 6, 900);
    assert_eq!(drain(&mut tail, &mut rig, second.end).0, second.said);
}

#[test]
fn a_follower_names_damage_and_goes_on() {
    let mut chance = Chance(3);
    let mut rig = Rig::running(geometry(512));
    let blocks: Vec<Block> = (0..60).map(|_| rig.block(&mut chance, 8, 900)).collect();
    let durable = rig.writer().durable();
    // A header, a first header of a segment, a record, and the very last header.
    let start = blocks.iter().position(|block| {
        rig.superblock.geometry.within(block.offset) == 0 && block.offset > blocks[20].offset
    });
    let start = start.unwrap();
    let last = blocks.len() - 1;
    for hit in [5, start, last] {
        rig.flip(blocks[hit].offset, 1);
    }
    rig.flip(blocks[10].offset.plus(130), 1);
    let mut tail = Tail::new(&rig.superblock, rig.superblock.geometry.first());
    let (said, damage) = drain(&mut tail, &mut rig, durable);
    let ranges: Vec<_> = damage.iter().map(|damage| (damage.from, damage.to)).collect();
    assert_eq!(ranges.len(), 4, "{damage:?}");
    for (hit, range) in [(5, 0), (start, 2), (last, 3)] {
        assert_eq!(ranges[range], (blocks[hit].offset, blocks[hit].end));
    }
    assert_eq!(damage[1].what, DamageKind::Record);
    let lost: usize = [5, start, last].iter().map(|hit| blocks[*hit].said.len()).sum();
    let all: usize = blocks.iter().map(|block| block.said.len()).sum();
    assert_eq!(said.len(), all - lost - 1);
}

/// The oldest segment with a damaged first header is still there: only that block is lost.
#[test]
fn a_damaged_first_header_of_the_oldest_segment_is_not_taken_for_a_recycled_one() {
    let mut chance = Chance(5);
    let mut rig = Rig::running(geometry(512));
    let blocks: Vec<Block> = (0..60).map(|_| rig.block(&mut chance, 8, 900)).collect();
    assert!(rig.disk.files.len() > 1, "there are later segments");
    let durable = rig.writer().durable();
    rig.flip(blocks[0].offset, 1);
    let mut tail = Tail::new(&rig.superblock, rig.superblock.geometry.first());
    let (said, damage) = drain(&mut tail, &mut rig, durable);
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((damage[0].from, damage[0].to), (blocks[0].offset, blocks[0].end));
    let all: usize = blocks[1..].iter().map(|block| block.said.len()).sum();
    assert_eq!(said.len(), all);
}

#[test]
fn a_follower_whose_segments_were_recycled_is_told_so() {
    let mut chance = Chance(4);
    let mut rig = Rig::running(geometry(512));
    let mut tail = Tail::new(&rig.superblock, rig.superblock.geometry.first());
    let first = rig.block(&mut chance, 8, 900);
    drain(&mut tail, &mut rig, first.end);
    for _ in 0..60 {
        let block = rig.block(&mut chance, 8, 900);
        rig.checkpoint(block.end);
    }
    let durable = rig.writer().durable();
    let error = loop {
        match tail.read(&mut rig.disk, durable) {
            // What its window still holds is as good as ever.
            Ok(Some(TailItem::Block(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    let TailError::Lost { wanted, oldest } = error else { panic!("{error}") };
    assert!(wanted < oldest && oldest < durable);
    let mut tail = Tail::new(&rig.superblock, oldest);
    assert!(drain(&mut tail, &mut rig, durable).1.is_empty());
}

#[test]
fn a_follower_survives_recycling_that_keeps_behind_it() {
    let mut chance = Chance(5);
    let mut rig = Rig::running(geometry(512));
    let mut tail = Tail::new(&rig.superblock, rig.superblock.geometry.first());
    let (mut told, mut heard) = (Vec::new(), Vec::new());
    for round in 0..300 {
        told.extend(rig.block(&mut chance, 5, 600).said);
        if round % 7 == 0 {
            let durable = rig.writer().durable();
            let (said, damage) = drain(&mut tail, &mut rig, durable);
            assert!(damage.is_empty());
            heard.extend(said);
            rig.checkpoint(tail.cursor());
        }
    }
    assert!(rig.disk.files.len() < 5, "segments were recycled");
    assert_eq!(heard, told[..heard.len()]);
}

#[test]
fn a_dump_shows_blocks_records_and_damage_in_the_order_of_the_log() {
    let mut chance = Chance(6);
    let mut rig = Rig::running(geometry(512));
    let blocks: Vec<Block> = (0..40).map(|_| rig.block(&mut chance, 8, 900)).collect();
    rig.flip(blocks[7].offset, 2);
    rig.flip(blocks[9].offset.plus(128 + 12), 2);
    let mut at = LogOffset(0);
    let (mut records, mut shown, mut damage) = (0, 0, 0);
    let mut step = |place: LogOffset| {
        assert!(place >= at, "in order");
        at = place;
    };
    let show = &mut |entry: Entry<'_>| match entry {
        Entry::Block(header) => {
            step(header.offset);
            shown += 1;
        }
        Entry::Record(record) => {
            step(record.offset);
            records += 1;
        }
        Entry::Damage(range) => {
            step(range.from);
            damage += 1;
        }
    };
    let report = dump(&mut rig.disk, &rig.superblock, show).unwrap();
    assert_eq!((shown, damage), (39, 2));
    assert_eq!(report.found.records, records);
    assert_eq!(report.found.damage.len(), 2);
}
