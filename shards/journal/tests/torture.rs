//! Random records in random blocks, crashes at every place, torn writes, recycled segments: what was acknowledged
//! is there, what was never written is not, and the order holds.

mod common;

use common::{Block, Chance, KERNEL, Rig, Said, geometry, is_optimised};
use ringdesk_journal::{BlockFlags, DamageKind, Level, LogOffset, Outgoing};

/// Lets any sectors of a block land; the others keep old bytes, or hold garbage, or blocks from elsewhere.
fn tear(rig: &mut Rig, outgoing: &Outgoing, chance: &mut Chance) {
    let elsewhere: Vec<u8> =
        rig.disk.files[chance.below(rig.disk.files.len() as u64) as usize].clone().unwrap();
    let place = rig.superblock.geometry.start_of(outgoing.segment).plus(u64::from(outgoing.at));
    let (file, at) = rig.file_of(place);
    let bias = chance.below(8);
    for (index, sector) in outgoing.buf.as_bytes().chunks(512).enumerate() {
        let target = &mut file[at + index * 512..at + (index + 1) * 512];
        if chance.below(8) >= bias {
            target.copy_from_slice(sector);
        } else if chance.one_in(4) {
            target.copy_from_slice(&chance.bytes(512));
        } else if chance.one_in(4) {
            // Not the first sector: two whole files of one segment are refused, and have a test of their own.
            let from = (1 + chance.below(elsewhere.len() as u64 / 512 - 1)) as usize * 512;
            target.copy_from_slice(&elsewhere[from..from + 512]);
        }
    }
}

/// What must be visited when replay begins at `from`.
fn expected(blocks: &[Block], from: LogOffset) -> Vec<Said> {
    blocks.iter().filter(|block| block.offset >= from).flat_map(|block| block.said.clone()).collect()
}

fn only_padding(recovered: &ringdesk_journal::Recovered) -> bool {
    recovered.damage.iter().all(|damage| damage.what == DamageKind::Padding)
}

/// One journal through several boots at level disk.
fn world(seed: u64) {
    let mut chance = Chance(seed);
    let align = if chance.one_in(3) { 4096 } else { 512 };
    let mut rig = Rig::new(geometry(align));
    let mut acknowledged: Vec<Block> = Vec::new();
    // A block that was being written at the crash: it may be there or not, but whole.
    let mut doubtful: Option<Block> = None;
    for _ in 0..2 + chance.below(6) {
        let (recovered, said) = rig.boot(Level::Disk, KERNEL);
        assert!(only_padding(&recovered), "seed {seed}: {:?}", recovered.damage);
        assert!(align == 4096 || recovered.damage.is_empty(), "seed {seed}: {:?}", recovered.damage);
        let from = rig.superblock.replay_from;
        let must = expected(&acknowledged, from);
        if said != must {
            let block = doubtful.take().unwrap_or_else(|| panic!("seed {seed}: {} visited", said.len()));
            acknowledged.push(block);
            assert_eq!(said, expected(&acknowledged, from), "seed {seed}");
        } else if let Some(block) = doubtful.take()
            && recovered.end == block.end
        {
            // Its records were none, so that it is there makes no difference but to the end.
            acknowledged.push(block);
        }
        assert_eq!(recovered.records as usize, said.len());
        let end = acknowledged.last().map_or(rig.superblock.geometry.first(), |block| block.end);
        assert_eq!(recovered.end, end, "seed {seed}");

        for _ in 0..chance.below(14) {
            let (records, body_max) = (1 + chance.below(12), 1 + chance.below(3000));
            acknowledged.push(rig.block(&mut chance, records, body_max));
            if chance.one_in(6) {
                let place = acknowledged[chance.below(acknowledged.len() as u64) as usize].end;
                if place >= rig.superblock.replay_from {
                    rig.checkpoint(place);
                }
            }
        }
        match chance.below(5) {
            0 => drop(rig.stop()),
            1 => {}
            _ => {
                for _ in 0..1 + chance.below(40) {
                    let said = Said::any(&mut chance, 2000);
                    if rig.writer().room() >= said.body.len() {
                        rig.say(said);
                    }
                }
                let (outgoing, block) = rig.take(BlockFlags::NONE);
                tear(&mut rig, &outgoing, &mut chance);
                doubtful = Some(block);
            }
        }
        if let Some(end) = rig.superblock.clean_end {
            acknowledged.push(Block { offset: end, end, said: Vec::new() });
        }
    }
}

/// Blocks of which only the page cache knows: segment, place in it, bytes.
type Cached = Vec<(u32, u32, Vec<u8>)>;

/// The page cache goes to the disk, as it does before a superblock that relies on it.
fn flush(rig: &mut Rig, cached: &mut Cached) {
    for (segment, at, bytes) in cached.drain(..) {
        let place = rig.superblock.geometry.start_of(segment).plus(u64::from(at));
        let (file, at) = rig.file_of(place);
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

/// The power goes: each cached block is lost, there, or there in part.
fn lose(rig: &mut Rig, cached: Cached, chance: &mut Chance) {
    for (segment, at, bytes) in cached {
        let place = rig.superblock.geometry.start_of(segment).plus(u64::from(at));
        let fate = chance.below(6);
        let (file, at) = rig.file_of(place);
        for (index, sector) in bytes.chunks(512).enumerate() {
            if fate > 1 || (fate == 1 && chance.one_in(2)) {
                file[at + index * 512..at + (index + 1) * 512].copy_from_slice(sector);
            }
        }
    }
}

/// One journal at level memory: blocks land in any order, and the power goes. What is left is what was there, from
/// the start without a hole. Nothing is gone that was flushed, or that an earlier boot had accepted.
fn memory_world(seed: u64) {
    let mut chance = Chance(seed);
    let mut rig = Rig::new(geometry(512));
    // Of what was written so many blocks must be there.
    let (mut blocks, mut sure): (Vec<Block>, usize) = (Vec::new(), 0);
    for boot in 0..2 + chance.below(5) {
        let kernel = [boot as u8; 16];
        let level = if chance.one_in(4) { Level::Disk } else { Level::Memory };
        let was_sealed = rig.superblock.clean_end.is_some();
        let (recovered, said) = rig.boot(level, kernel);
        assert!(recovered.damage.is_empty(), "seed {seed}: {:?}", recovered.damage);
        if recovered.cut.is_some() {
            assert!(recovered.rewound, "seed {seed}: cut, and the epoch stays");
        }
        if was_sealed {
            assert!(recovered.sealed && !recovered.rewound, "seed {seed}: {recovered:?}");
        }
        let from = rig.superblock.replay_from;
        let there = blocks.iter().take_while(|block| block.end <= recovered.end).count();
        assert!(there >= sure, "seed {seed}: {there} blocks of {sure} that were flushed");
        blocks.truncate(there);
        assert_eq!(said, expected(&blocks, from), "seed {seed}: something else came back");
        sure = there;
        let mut cached = Cached::new();
        for _ in 0..chance.below(12) {
            for _ in 0..1 + chance.below(6) {
                rig.say(Said::any(&mut chance, 1500));
            }
            let (outgoing, block) = rig.take(BlockFlags::NONE);
            if level == Level::Disk {
                rig.land(&outgoing);
            } else {
                cached.push((outgoing.segment, outgoing.at, outgoing.buf.as_bytes().to_vec()));
            }
            blocks.push(block);
            rig.writer().written(outgoing.buf);
            if level == Level::Disk {
                sure = blocks.len();
            }
            if chance.one_in(5) {
                let place = blocks[chance.below(blocks.len() as u64) as usize].end;
                if place >= rig.superblock.replay_from {
                    flush(&mut rig, &mut cached);
                    sure = blocks.len();
                    rig.checkpoint(place);
                }
            }
        }
        if chance.one_in(4) {
            flush(&mut rig, &mut cached);
            blocks.push(rig.stop());
            sure = blocks.len();
        }
        lose(&mut rig, cached, &mut chance);
    }
}

#[test]
fn what_was_acknowledged_is_there_and_nothing_else() {
    let worlds = if is_optimised() { 4_000 } else { 150 };
    for seed in 0..worlds {
        world(seed);
    }
}

#[test]
fn a_lost_page_cache_cuts_the_log_and_brings_nothing_back() {
    let worlds = if is_optimised() { 4_000 } else { 150 };
    for seed in 0..worlds {
        memory_world(seed);
    }
}
