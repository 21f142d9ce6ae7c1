//! Flipped bits: each is reported with a range that holds it, nothing damaged is visited, and nobody else pays.

mod common;

use common::{Block, Chance, Disk, KERNEL, Rig, Said, geometry, is_optimised};
use ringdesk_journal::{
    BLOCK_HEADER_SIZE, BlockFlags, Damage, Level, LogOffset, RECORD_HEADER_SIZE, RecordRef, Recovered,
    Superblock, record_size, recover, verify,
};

/// A record of the sound log: where it stands and what it says.
struct Original {
    offset: u64,
    /// End of header and body, without padding.
    end: u64,
    block: u64,
    raw: Vec<u8>,
}

struct Sound {
    disk: Disk,
    superblock: Superblock,
    records: Vec<Original>,
    blocks: Vec<Block>,
}

impl Sound {
    fn of(rig: Rig, blocks: Vec<Block>) -> Sound {
        let mut disk = rig.disk;
        let mut records = Vec::new();
        let visit = &mut |record: RecordRef<'_>| {
            let (offset, block, raw) = (record.offset.0, record.block.0, record.raw.to_vec());
            records.push(Original { offset, end: offset + raw.len() as u64, block, raw });
        };
        let recovered = recover(&mut disk, &rig.superblock, &KERNEL, visit).unwrap();
        assert!(recovered.damage.is_empty());
        Sound { disk, superblock: rig.superblock, records, blocks }
    }

    /// Recovers with one byte changed, and checks what must hold for any byte. Returns what was found.
    fn check(&mut self, file: usize, byte: usize, bit: u32) -> Recovered {
        let size = u64::from(self.superblock.geometry.segment_size);
        let header = &self.disk.files[file].as_ref().unwrap()[..BLOCK_HEADER_SIZE];
        let segment = u64::from(u32::from_le_bytes(header[20..24].try_into().unwrap()));
        let place = segment * size + byte as u64;
        self.disk.files[file].as_mut().unwrap()[byte] ^= 1 << bit;

        let block = self.blocks.iter().find(|block| (block.offset.0..block.end.0).contains(&place));
        let in_header = |block: &Block| place < block.offset.0 + BLOCK_HEADER_SIZE as u64;
        let lost_block = block.filter(|block| in_header(block)).map(|block| block.offset.0);
        let lost = |record: &Original| {
            (record.offset..record.end).contains(&place) || lost_block == Some(record.block)
        };
        let mut expected = self.records.iter().filter(|record| !lost(record));
        let visit = &mut |record: RecordRef<'_>| {
            let original = expected.next().unwrap_or_else(|| panic!("{place}: something was made up"));
            assert_eq!(record.offset.0, original.offset, "{place}.{bit}: a record was skipped or made up");
            assert_eq!(record.raw, original.raw, "{place}.{bit}: a record is not what was written");
        };
        let found = recover(&mut self.disk, &self.superblock, &KERNEL, visit);
        let found = found.unwrap_or_else(|error| panic!("{place}.{bit}: {error}"));
        self.disk.files[file].as_mut().unwrap()[byte] ^= 1 << bit;

        let missed = expected.next().map(|record| record.offset);
        if let Some(block) = block
            && found.torn_tail.is_none()
        {
            assert_eq!(missed, None, "{place}.{bit}: a sound record was not visited");
            let holds = |damage: &Damage| damage.from.0 <= place && place < damage.to.0;
            assert!(found.damage.iter().any(holds), "{place}.{bit}: not named, only {:?}", found.damage);
            assert_eq!(found.damage.len(), 1, "{place}.{bit}: one flip, one range: {:?}", found.damage);
            let damage = found.damage[0];
            assert!(block.offset <= damage.from && damage.to <= block.end, "{place}.{bit}: {damage:?}");
        }
        if block.is_none() {
            assert!(found.damage.is_empty(), "{place}.{bit}: nobody wrote there: {:?}", found.damage);
            assert_eq!(missed, None);
        }
        found
    }
}

/// One segment, full to its last byte, sealed, and noted in the superblock.
fn sealed_64k() -> Sound {
    let mut chance = Chance(7);
    let mut rig = Rig::running(geometry(512));
    let mut blocks = Vec::new();
    let size = u64::from(rig.superblock.geometry.segment_size);
    let mut left = size - 512;
    while left > 0 {
        let block_size = if left < 4096 { left } else { 512 * (1 + chance.below(8)) };
        let mut payload = BLOCK_HEADER_SIZE;
        loop {
            let room = block_size as usize - payload;
            let len = (chance.below(600) as usize).min(room.saturating_sub(RECORD_HEADER_SIZE));
            if room < RECORD_HEADER_SIZE || payload + record_size(len) > block_size as usize {
                break;
            }
            let said = Said { body: chance.bytes(len), ..Said::any(&mut chance, 1) };
            rig.say(said);
            payload += record_size(len);
            if payload + 512 > block_size as usize && chance.one_in(3) {
                break;
            }
        }
        blocks.push(rig.commit());
        left -= block_size;
    }
    blocks.push(rig.stop());
    assert_eq!(blocks.last().unwrap().end.0, 2 * size, "the segment is full");
    // The file made ready for the next segment would only be read through half a million times.
    rig.disk.files.truncate(1);
    Sound::of(rig, blocks)
}

/// Bits of a sealed log, every `step`-th from `first` on.
fn flip_sealed(first: usize, step: usize) {
    let mut sound = sealed_64k();
    let bits = sound.disk.files[0].as_ref().unwrap().len() * 8;
    assert_eq!(bits, 524_288);
    for bit in (first..bits).step_by(step) {
        let found = sound.check(0, bit / 8, (bit % 8) as u32);
        assert!(found.sealed && found.torn_tail.is_none());
    }
}

#[test]
fn every_even_bit_of_a_sealed_log_is_watched() {
    flip_sealed(0, if is_optimised() { 2 } else { 514 });
}

#[test]
fn every_odd_bit_of_a_sealed_log_is_watched() {
    flip_sealed(1, if is_optimised() { 2 } else { 514 });
}

/// Several boots, several segments, recycled ones among them; sealed or not.
fn big(seed: u64, sealed: bool) -> Sound {
    let mut chance = Chance(seed);
    let mut rig = Rig::new(geometry(if seed.is_multiple_of(2) { 512 } else { 4096 }));
    let mut blocks: Vec<Block> = Vec::new();
    for boot in 0..5 {
        rig.boot(Level::Disk, KERNEL);
        for _ in 0..30 {
            let (records, body_max) = (1 + chance.below(14), 1 + chance.below(1500));
            blocks.push(rig.block(&mut chance, records, body_max));
        }
        if boot == 1 {
            let place = blocks[40].end;
            rig.checkpoint(place);
            blocks.retain(|block| block.offset >= place);
        }
    }
    if sealed {
        blocks.push(rig.stop());
    }
    Sound::of(rig, blocks)
}

fn flip_big(sealed: bool, flips: u64) {
    let mut torn_in_all = 0;
    for seed in 0..4 {
        let mut sound = big(seed, sealed);
        let from = sound.superblock.replay_from.0;
        let last = sound.blocks.last().unwrap().clone();
        let size = u64::from(sound.superblock.geometry.segment_size);
        let mut chance = Chance(seed + 100);
        let mut torn = 0;
        for _ in 0..flips / 4 {
            let file = chance.below(sound.disk.files.len() as u64) as usize;
            let byte = chance.below(size) as usize;
            let found = sound.check(file, byte, chance.below(8) as u32);
            if let Some(tail) = found.torn_tail {
                assert!(!sealed && tail.at == last.offset, "only the unsealed last block can be called torn");
                assert!(found.damage.is_empty());
                torn += 1;
            }
        }
        torn_in_all += torn;
        assert!(from > size, "a checkpoint has moved");
    }
    assert!(sealed || flips < 10_000 || torn_in_all > 0, "the last block was hit too");
}

#[test]
fn random_flips_in_a_sealed_log_of_many_segments_are_named() {
    flip_big(true, if is_optimised() { 10_000 } else { 400 });
}

#[test]
fn random_flips_in_a_running_log_are_named_or_are_the_torn_tail() {
    flip_big(false, if is_optimised() { 10_000 } else { 400 });
}

#[test]
fn verify_sees_what_recovery_does_not_need() {
    let mut chance = Chance(5);
    let mut rig = Rig::running(geometry(512));
    let blocks: Vec<Block> = (0..40).map(|_| rig.block(&mut chance, 12, 800)).collect();
    // The checkpoint has moved, the segments before it are still kept for a follower.
    let place = blocks[35].offset;
    rig.superblock = rig.superblock.with_replay_from(place);
    let hit = LogOffset(blocks[3].end.0 - 600);
    rig.flip(hit, 3);
    let (recovered, _) = rig.recover(KERNEL);
    assert!(recovered.damage.is_empty());
    let report = verify(&mut rig.disk, &rig.superblock).unwrap();
    assert!(!report.is_clean());
    assert_eq!(report.from, rig.superblock.geometry.first());
    assert_eq!(report.found.damage.len(), 1);
    let damage = report.found.damage[0];
    assert!(damage.from <= hit && hit < damage.to);
    assert_eq!(report.found.end, recovered.end);
}

#[test]
fn a_flip_in_the_seal_is_noticed_thanks_to_the_superblock() {
    let mut chance = Chance(5);
    let mut rig = Rig::running(geometry(512));
    rig.block(&mut chance, 3, 100);
    let seal = rig.stop();
    rig.flip(seal.offset, 0);
    let (recovered, _) = rig.recover(KERNEL);
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (seal.offset, seal.end));
    assert_eq!(recovered.end, seal.end);
}

#[test]
fn a_flip_in_the_last_data_block_before_a_seal_is_damage_even_without_the_superblock() {
    let mut chance = Chance(5);
    let mut rig = Rig::running(geometry(512));
    rig.block(&mut chance, 3, 100);
    let last = rig.block(&mut chance, 1, 2000);
    rig.seal();
    assert_eq!(rig.superblock.clean_end, None, "the process ended between the seal and the superblock");
    rig.flip(last.offset.plus(BLOCK_HEADER_SIZE as u64 + 40), 0);
    let (recovered, said) = rig.recover(KERNEL);
    assert!(recovered.sealed && recovered.torn_tail.is_none());
    assert_eq!((recovered.damage.len(), said.len()), (1, 3));
    assert_eq!(recovered.damage[0].slot, Some(last.said[0].slot));
    let (outgoing, _) = {
        rig.boot(Level::Disk, KERNEL);
        rig.say(Said::any(&mut chance, 10));
        rig.take(BlockFlags::NONE)
    };
    assert_eq!(
        outgoing.end.0 - outgoing.buf.len() as u64,
        recovered.end.0,
        "the next boot appends behind the seal"
    );
}
