//! Surgery: files cut, removed, swapped, copied, and bytes that come back from the dead.

mod common;

use common::{Block, Chance, KERNEL, Rig, Said, geometry};
use ringdesk_journal::{
    BlockFlags, BlockHeader, DamageKind, FileSlotId, Level, LogOffset, RecordRef, RecoverError, Superblock,
    TornTail, recover,
};

fn text(body: &str) -> Said {
    Said { kind: 1, version: 1, slot: 5, body: body.into() }
}

/// A running journal of several segments.
fn several_segments(seed: u64) -> (Rig, Vec<Block>) {
    let mut chance = Chance(seed);
    let mut rig = Rig::running(geometry(512));
    let blocks = (0..60).map(|_| rig.block(&mut chance, 10, 1000)).collect();
    assert!(rig.disk.files.len() > 4);
    (rig, blocks)
}

fn in_segment(rig: &Rig, blocks: &[Block], segment: u32) -> Vec<Block> {
    let of = |block: &&Block| rig.superblock.geometry.segment_of(block.offset) == segment;
    blocks.iter().filter(of).cloned().collect()
}

fn said_without(blocks: &[Block], lost: impl Fn(&Block) -> bool) -> Vec<Said> {
    blocks.iter().filter(|block| !lost(block)).flat_map(|block| block.said.clone()).collect()
}

#[test]
fn a_new_journal_is_empty_and_whole() {
    let mut rig = Rig::new(geometry(512));
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(recovered.end, rig.superblock.geometry.first());
    assert!(said.is_empty() && recovered.damage.is_empty() && recovered.torn_tail.is_none());
}

#[test]
fn a_torn_last_block_is_cut_as_a_whole_and_its_size_is_told() {
    let mut rig = Rig::running(geometry(512));
    rig.say(text("landed"));
    let landed = rig.commit();
    for _ in 0..20 {
        rig.say(Said { body: vec![7; 100], ..text("") });
    }
    let (outgoing, block) = rig.take(BlockFlags::NONE);
    rig.land(&outgoing);
    let (file, at) = rig.file_of(block.offset);
    file[at + 1024..at + 1536].fill(0);
    let (recovered, said) = rig.boot(Level::Disk, KERNEL);
    assert_eq!(said, [text("landed")]);
    let size = outgoing.buf.len() as u32;
    assert_eq!(recovered.torn_tail, Some(TornTail { at: landed.end, size }));
    assert_eq!(recovered.end, landed.end);
    assert!(recovered.damage.is_empty());
    // Appends go on, and the torn block never comes back.
    rig.say(text("after"));
    rig.commit();
    assert_eq!(rig.recover(KERNEL).1, [text("landed"), text("after")]);
}

#[test]
fn damage_to_the_last_block_is_named_once_a_later_boot_has_accepted_it() {
    let mut rig = Rig::running(geometry(512));
    rig.say(text("one"));
    let block = rig.commit();
    rig.flip(block.offset.plus(161), 1);
    assert!(rig.recover(KERNEL).0.torn_tail.is_some(), "nobody can tell it from a torn write");
    rig.flip(block.offset.plus(161), 1);
    rig.boot(Level::Disk, KERNEL);
    rig.flip(block.offset.plus(161), 1);
    let (recovered, said) = rig.recover(KERNEL);
    assert!(said.is_empty() && recovered.torn_tail.is_none());
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.end, block.end);
}

/// A deleted segment under the heads of conversations: without another epoch their numbers would be given out twice.
#[test]
fn damage_begins_another_history_epoch_and_padding_does_not() {
    let mut rig = Rig::running(geometry(512));
    rig.say(text("one"));
    let one = rig.commit();
    rig.say(text("two"));
    rig.commit();
    let epoch = rig.superblock.history_epoch;
    rig.boot(Level::Disk, KERNEL);
    assert_eq!(rig.superblock.history_epoch, epoch, "nothing was damaged");
    let padding = LogOffset(one.end.0 - 1);
    rig.flip(padding, 0);
    let (recovered, _) = rig.boot(Level::Disk, KERNEL);
    assert_eq!(recovered.damage[0].what, DamageKind::Padding);
    assert_eq!(rig.superblock.history_epoch, epoch, "no record is lost");
    rig.flip(padding, 0);
    rig.flip(one.offset.plus(161), 1);
    let (recovered, said) = rig.boot(Level::Disk, KERNEL);
    assert_eq!((recovered.damage.len(), said.as_slice()), (1, &[text("two")][..]));
    assert_eq!(rig.superblock.history_epoch, epoch + 1);
}

#[test]
fn a_lost_first_block_costs_its_segment_nothing_else() {
    let (mut rig, blocks) = several_segments(1);
    let second = in_segment(&rig, &blocks, 2);
    rig.flip(second[0].offset, 0);
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, said_without(&blocks, |block| block.offset == second[0].offset));
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    let damage = recovered.damage[0];
    assert_eq!((damage.segment, damage.from, damage.to), (2, second[0].offset, second[0].end));
    assert_eq!(damage.what, DamageKind::Stretch);
    assert_eq!(
        recovered.replay_from, rig.superblock.replay_from,
        "after damage the checkpoint does not move"
    );
}

#[test]
fn a_missing_segment_is_named_from_its_first_to_its_last_block() {
    let (mut rig, blocks) = several_segments(2);
    let second = in_segment(&rig, &blocks, 2);
    let file = rig.files[&2];
    rig.disk.files[file.0 as usize] = None;
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, said_without(&blocks, |block| second.iter().any(|lost| lost.offset == block.offset)));
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    let damage = recovered.damage[0];
    assert_eq!((damage.segment, damage.from, damage.to), (2, second[0].offset, second.last().unwrap().end));
    assert_eq!(damage.what, DamageKind::Missing);
}

#[test]
fn a_truncated_segment_in_the_middle_is_named_to_its_last_block() {
    let (mut rig, blocks) = several_segments(3);
    let second = in_segment(&rig, &blocks, 2);
    let cut = &second[3];
    let within = rig.superblock.geometry.within(cut.offset) as usize;
    let (file, _) = rig.file_of(cut.offset);
    file.truncate(within);
    let (recovered, said) = rig.recover(KERNEL);
    let lost = |block: &Block| second.iter().skip(3).any(|lost| lost.offset == block.offset);
    assert_eq!(said, said_without(&blocks, lost));
    let damage = recovered.damage[0];
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(
        (damage.from, damage.to, damage.what),
        (cut.offset, second.last().unwrap().end, DamageKind::Missing)
    );
}

#[test]
fn a_truncated_last_segment_is_damage_and_no_torn_tail() {
    let (mut rig, blocks) = several_segments(4);
    let last = blocks.last().unwrap();
    let within = rig.superblock.geometry.within(last.offset) as usize;
    let (file, _) = rig.file_of(last.offset);
    file.truncate(within + 512);
    let (recovered, _) = rig.recover(KERNEL);
    let segment = rig.superblock.geometry.segment_of(last.offset);
    assert_eq!(recovered.end, rig.superblock.geometry.start_of(segment + 1), "a short file is left behind");
    let damage = *recovered.damage.last().unwrap();
    assert!(damage.from <= last.offset && last.end <= damage.to, "{damage:?}");
    // The next boot goes on in the next segment, and the range is still known.
    let mut chance = Chance(1);
    rig.boot(Level::Disk, KERNEL);
    rig.block(&mut chance, 3, 100);
    rig.block(&mut chance, 3, 100);
    let (again, said) = rig.recover(KERNEL);
    assert!(again.damage.iter().all(|again| damage.from <= again.from && again.to <= damage.to));
    assert_eq!(again.damage.last().unwrap().to, damage.to);
    assert_eq!(said.len(), said_without(&blocks[..blocks.len() - 1], |_| false).len() + 6);
}

#[test]
fn a_missing_last_file_is_noticed_when_files_are_counted() {
    let (mut rig, blocks) = several_segments(5);
    rig.superblock = rig.superblock.with_files(rig.disk.files.len() as u32);
    assert!(rig.recover(KERNEL).0.damage.is_empty());
    let last = rig.superblock.geometry.segment_of(blocks.last().unwrap().offset);
    let file = rig.files[&last];
    rig.disk.files[file.0 as usize] = None;
    let (recovered, _) = rig.recover(KERNEL);
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.damage[0].what, DamageKind::Missing);
}

#[test]
fn all_files_gone_is_one_range() {
    let (mut rig, _) = several_segments(6);
    let start = rig.boot(Level::Disk, KERNEL).0.end;
    rig.disk.files.iter_mut().for_each(|file| *file = None);
    let (recovered, said) = rig.recover(KERNEL);
    assert!(said.is_empty());
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (rig.superblock.geometry.first(), start));
    assert_eq!(recovered.damage[0].what, DamageKind::Missing);
    assert_eq!(
        recovered.end,
        rig.superblock.geometry.start_of(rig.superblock.geometry.segment_of(start) + 1)
    );
}

#[test]
fn swapped_blocks_are_not_served_at_each_others_place() {
    let mut rig = Rig::running(geometry(4096));
    let blocks: Vec<Block> = (0..5)
        .map(|n| {
            rig.say(text(&format!("number {n}")));
            rig.commit()
        })
        .collect();
    let (file, at) = rig.file_of(blocks[1].offset);
    let (low, high) = file.split_at_mut(at + 4096);
    low[at..].swap_with_slice(&mut high[..4096]);
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(
        said,
        said_without(&blocks, |block| [blocks[1].offset, blocks[2].offset].contains(&block.offset))
    );
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (blocks[1].offset, blocks[2].end));
}

#[test]
fn a_write_that_was_lost_after_its_ack_is_damage_even_in_a_recycled_segment() {
    let mut chance = Chance(3);
    let mut rig = Rig::running(geometry(512));
    let mut blocks: Vec<Block> = (0..30).map(|_| rig.block(&mut chance, 10, 1000)).collect();
    let place = blocks.last().unwrap().end;
    rig.checkpoint(place);
    blocks.clear();
    let mut lost = None;
    for _ in 0..30 {
        // The device says yes and forgets the first write into a recycled segment.
        for _ in 0..10 {
            rig.say(Said::any(&mut chance, 1000));
        }
        let (outgoing, block) = rig.take(BlockFlags::NONE);
        if outgoing.at == 0 && lost.is_none() {
            lost = Some(block.clone());
        } else {
            rig.land(&outgoing);
        }
        rig.writer().written(outgoing.buf);
        blocks.push(block);
    }
    let lost = lost.unwrap();
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, said_without(&blocks, |block| block.offset == lost.offset));
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (lost.offset, lost.end));
    // Also where replay begins at that very place: what the file held in its last lap is no first block.
    rig.superblock = rig.superblock.with_replay_from(lost.offset);
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, said_without(&blocks, |block| block.offset <= lost.offset));
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (lost.offset, lost.end));
}

#[test]
fn a_copy_of_a_segment_file_is_refused_by_name() {
    let (mut rig, _) = several_segments(8);
    let file = rig.files[&2];
    let copy = rig.disk.files[file.0 as usize].clone();
    rig.disk.files.push(copy);
    let error = recover(&mut rig.disk, &rig.superblock, &KERNEL, &mut |_| {}).unwrap_err();
    assert!(matches!(error, RecoverError::TwoFiles { segment: 2, .. }), "{error}");
}

#[test]
fn a_foreign_file_is_left_alone() {
    let (mut rig, blocks) = several_segments(9);
    rig.superblock = rig.superblock.with_files(rig.disk.files.len() as u32);
    rig.disk.files.push(Some(vec![b'x'; 64 << 10]));
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, said_without(&blocks, |_| false));
    assert_eq!(recovered.unknown, [FileSlotId(rig.disk.files.len() as u32 - 1)]);
    assert!(!recovered.free.contains(&recovered.unknown[0]));
}

#[test]
fn another_journals_blocks_do_not_count() {
    let mut theirs = Rig::new(geometry(512));
    theirs.superblock = Superblock { salt: 1, ..theirs.superblock.clone() };
    theirs.boot(Level::Disk, KERNEL);
    theirs.say(text("not yours"));
    theirs.commit();
    let mut ours = Rig::new(geometry(512));
    ours.disk = theirs.disk;
    assert!(ours.recover(KERNEL).1.is_empty());
}

#[test]
fn what_a_visitor_says_never_passes_for_a_block() {
    // The body holds an image of a block for the very place where it will lie, made with everything but the salt.
    let mut rig = Rig::running(geometry(512));
    let identity = ringdesk_journal::Identity { salt: 0, ..rig.superblock.identity() };
    let first = rig.superblock.geometry.first();
    let mut forger = ringdesk_journal::Writer::new(rig.superblock.geometry, identity, first.plus(512), first);
    forger.append(1, 1, 1, b"forged").unwrap();
    forger.append(1, 1, 1, b"forged too").unwrap();
    let forged = forger.take(BlockFlags::NONE).unwrap();
    let mut body = vec![0; 512 - 128 - 32];
    body.extend_from_slice(forged.buf.as_bytes());
    rig.say(Said { body: body.clone(), ..text("") });
    let block = rig.commit();
    rig.say(text("after"));
    rig.commit();
    rig.flip(block.offset, 0);
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, [text("after")]);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (block.offset, block.end));
}

/// Level memory: a flush failed, and the kernel forgot pages that it called clean. Nothing but the superblock says so: the machine was never off.
#[test]
fn after_a_flush_that_failed_the_kernel_is_not_believed() {
    let mut rig = Rig::new(geometry(512));
    rig.boot(Level::Memory, [1; 16]);
    rig.say(text("kept"));
    rig.commit();
    rig.say(text("acknowledged, and forgotten"));
    let forgotten = rig.commit();
    let (file, at) = rig.file_of(forgotten.offset);
    file[at..at + 512].fill(0);

    let noted = rig.superblock.in_doubt().expect("words were acknowledged that were not flushed");
    assert_eq!(noted.in_doubt(), None, "once is enough");
    rig.superblock = noted;
    let (recovered, said) = rig.boot(Level::Memory, [1; 16]);
    assert_eq!((said, recovered.end), (vec![text("kept")], forgotten.offset));
    assert!(recovered.rewound);
    assert_eq!(rig.superblock.history_epoch, 2, "numbers that were given out may be given out again");

    // The new boot trusts its kernel again.
    rig.say(text("new"));
    rig.commit();
    rig.boot(Level::Disk, [1; 16]);
    assert_eq!(rig.superblock.history_epoch, 2);
    assert_eq!(rig.superblock.in_doubt(), None, "at level disk nothing was acknowledged before its flush");
}

/// Level memory: blocks behind a hole that was cut must stay dead when a later boot writes up to their start, and
/// even when that boot's own blocks are damaged later.
#[test]
fn blocks_behind_a_cut_never_come_back() {
    let mut rig = Rig::new(geometry(512));
    rig.boot(Level::Memory, [1; 16]);
    rig.say(text("kept"));
    rig.commit();
    rig.say(text("lost in the cache"));
    let hole = rig.commit();
    rig.say(text("landed behind it"));
    let behind = rig.commit();
    let (file, at) = rig.file_of(hole.offset);
    file[at..at + 512].fill(0);

    let (recovered, said) = rig.boot(Level::Disk, [2; 16]);
    assert_eq!(said, [text("kept")]);
    assert_eq!(recovered.end, hole.offset);
    assert_eq!(recovered.cut.map(|cut| (cut.at, cut.beyond)), Some((hole.offset, behind.end)));
    assert!(recovered.rewound);
    assert_eq!(rig.superblock.history_epoch, 2, "the history may have been rewound");

    // The process ends at once: the dead block is still there, right behind a hole.
    assert_eq!(rig.recover([2; 16]).1, [text("kept")]);
    // It writes exactly up to the dead block.
    rig.say(text("new"));
    let new = rig.commit();
    assert_eq!(new.end, behind.offset);
    assert_eq!(rig.recover([2; 16]).1, [text("kept"), text("new")]);
    // And that block is damaged: a torn tail as far as anyone can tell, but no way back for the dead one.
    rig.flip(new.offset, 0);
    assert_eq!(rig.recover([2; 16]).1, [text("kept")]);
}

/// A dead block lies exactly where the last block of its segment ends, and the segment behind, which would tell, is
/// gone: boot ids that fall are refused all the same.
#[test]
fn a_dead_block_behind_the_last_one_of_a_segment_stays_dead() {
    let long = Said { body: vec![8; 62 << 10], ..text("") };
    let mut rig = Rig::new(geometry(512));
    rig.boot(Level::Memory, [1; 16]);
    rig.say(text("kept"));
    rig.commit();
    rig.say(long.clone());
    let hole = rig.commit();
    rig.say(text("dead"));
    let dead = rig.commit();
    let (file, at) = rig.file_of(hole.offset);
    file[at..at + 512].fill(0);

    rig.boot(Level::Disk, [2; 16]);
    rig.say(long.clone());
    assert_eq!(rig.commit().end, dead.offset);
    rig.say(Said { body: vec![9; 2000], ..text("") });
    let rolled = rig.commit();
    assert_eq!(rig.superblock.geometry.segment_of(rolled.offset), 2);
    rig.boot(Level::Disk, [2; 16]);
    let file = rig.files[&2];
    rig.disk.files[file.0 as usize] = None;
    let (recovered, said) = rig.recover([2; 16]);
    assert_eq!(said, [text("kept"), long]);
    assert_eq!(recovered.damage[0].what, DamageKind::Missing);
}

#[test]
fn a_record_of_an_older_boot_does_not_hold_in_a_torn_block_at_its_very_place() {
    let mut rig = Rig::running(geometry(512));
    // The first record ends with the first sector, each other one fills a sector.
    let page = |byte: u8, first: bool| {
        let len = 512 - 32 - if first { 128 } else { 0 };
        Said { body: vec![byte; len], ..text("") }
    };
    // Boot 1: a block of three records, of which only the last lands.
    let write_some = |rig: &mut Rig, bytes: [u8; 3], sectors: std::ops::Range<usize>| {
        for byte in bytes {
            rig.say(page(byte, byte == bytes[0]));
        }
        let (outgoing, block) = rig.take(BlockFlags::NONE);
        let (file, at) = rig.file_of(block.offset);
        let range = sectors.start * 512..(sectors.end * 512).min(outgoing.buf.len());
        file[at + range.start..at + range.end].copy_from_slice(&outgoing.buf.as_bytes()[range]);
    };
    rig.say(text("landed"));
    rig.commit();
    write_some(&mut rig, [1, 2, 3], 2..3);
    rig.boot(Level::Disk, KERNEL);
    // Boot 2: the same sizes at the same place, and all but the last lands.
    write_some(&mut rig, [4, 5, 6], 0..2);
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, [text("landed")], "what boot 1 never acknowledged is no part of boot 2's block");
    assert!(recovered.torn_tail.is_some());
}

#[test]
fn a_file_that_only_a_torn_first_block_has_touched_is_used_again() {
    let mut rig = Rig::running(geometry(512));
    rig.say(Said { body: vec![1; 2000], ..text("") });
    let (outgoing, block) = rig.take(BlockFlags::NONE);
    let (file, at) = rig.file_of(block.offset);
    file[at + 512..at + 1024].copy_from_slice(&outgoing.buf.as_bytes()[512..1024]);
    let (recovered, _) = rig.recover(KERNEL);
    assert!(recovered.unknown.is_empty());
    assert!(recovered.free.contains(&FileSlotId(0)));
}

#[test]
fn records_that_changed_places_in_their_block_do_not_hold() {
    let mut rig = Rig::running(geometry(512));
    for word in ["one", "two", "six"] {
        rig.say(text(word));
    }
    let block = rig.commit();
    rig.say(text("after"));
    rig.commit();
    let (file, at) = rig.file_of(block.offset);
    let (low, high) = file[at + 128..at + 128 + 96].split_at_mut(48);
    low.swap_with_slice(high);
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, [text("six"), text("after")]);
    assert_eq!(
        (recovered.damage[0].from, recovered.damage[0].to),
        (block.offset.plus(128), block.offset.plus(224))
    );
}

#[test]
fn at_level_memory_a_kill_loses_nothing_and_cuts_nothing() {
    let mut rig = Rig::new(geometry(512));
    rig.boot(Level::Memory, [1; 16]);
    rig.say(text("one"));
    let one = rig.commit();
    rig.say(text("two"));
    rig.commit();
    rig.flip(one.offset, 0);
    let (recovered, said) = rig.recover([1; 16]);
    assert_eq!(said, [text("two")], "the kernel has lived on, so this is damage");
    assert!(!recovered.rewound && recovered.cut.is_none());
    assert_eq!(recovered.damage.len(), 1);
}

#[test]
fn a_device_error_inside_the_log_is_named_and_one_at_its_end_refuses_to_open() {
    let mut chance = Chance(1);
    let mut rig = Rig::running(geometry(512));
    let blocks: Vec<Block> = (0..6).map(|_| rig.block(&mut chance, 5, 600)).collect();
    let within = u64::from(rig.superblock.geometry.within(blocks[2].offset));
    rig.disk.refused = vec![(0, within, within + 512)];
    let (recovered, said) = rig.recover(KERNEL);
    assert_eq!(said, said_without(&blocks, |block| block.offset == blocks[2].offset));
    assert_eq!(recovered.damage[0].what, DamageKind::Unreadable);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (blocks[2].offset, blocks[2].end));
    let within = u64::from(rig.superblock.geometry.within(blocks[5].offset));
    rig.disk.refused = vec![(0, within, within + 512)];
    let error = recover(&mut rig.disk, &rig.superblock, &KERNEL, &mut |_| {}).unwrap_err();
    assert!(matches!(error, RecoverError::Unreadable { .. }), "{error}");
}

/// The newest segment may be a file of which no header can be read: it is not taken for one that holds nothing.
#[test]
fn a_device_error_on_all_of_the_newest_segment_refuses_to_open() {
    let mut chance = Chance(1);
    let mut rig = Rig::running(geometry(512));
    let size = u64::from(rig.superblock.geometry.segment_size);
    let mut blocks = Vec::new();
    while rig.disk.files.len() < 2 || blocks.len() < 3 {
        blocks.push(rig.block(&mut chance, 5, 600));
    }
    let newest = rig.disk.files.len() as u32 - 1;
    for refused in [vec![(newest, 0, size)], vec![(newest, 0, 512)]] {
        rig.disk.refused = refused;
        let found = recover(&mut rig.disk, &rig.superblock, &KERNEL, &mut |_| {});
        // With one unit refused the block behind it may still tell; then the damage is named.
        match found {
            Err(RecoverError::Unreadable { file, .. }) => assert_eq!(file.0, newest),
            Ok(recovered) => {
                assert!(!recovered.damage.is_empty() && !recovered.free.iter().any(|free| free.0 == newest))
            }
            Err(error) => panic!("{error}"),
        }
    }
    rig.disk.refused = vec![(newest, 0, size)];
    let error = recover(&mut rig.disk, &rig.superblock, &KERNEL, &mut |_| {}).unwrap_err();
    assert!(matches!(error, RecoverError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("nothing says whether the log goes on"), "{error}");
}

#[test]
fn a_newer_block_format_is_refused_with_one_sentence() {
    let mut rig = Rig::running(geometry(512));
    rig.say(text("one"));
    let block = rig.commit();
    let salt = rig.superblock.salt;
    let (file, at) = rig.file_of(block.offset);
    let header = &mut file[at..at + 128];
    assert!(BlockHeader::decode(header, salt).is_ok());
    header[8] = 9;
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&header[..120], salt);
    header[120..].copy_from_slice(&checksum.to_le_bytes());
    let error = recover(&mut rig.disk, &rig.superblock, &KERNEL, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("format 9"));
}

#[test]
fn recovery_moves_the_checkpoint_to_what_the_last_block_knew() {
    let mut rig = Rig::running(geometry(512));
    rig.say(text("old"));
    rig.commit();
    rig.say(text("snapshot"));
    let snapshot = rig.commit();
    rig.writer().set_replay_from(snapshot.offset);
    rig.say(text("new"));
    rig.commit();
    let (recovered, said) = rig.boot(Level::Disk, KERNEL);
    assert_eq!(said.len(), 3, "the superblock did not know yet");
    assert_eq!(recovered.replay_from, snapshot.offset);
    assert_eq!(rig.recover(KERNEL).1, [text("snapshot"), text("new")]);
}

#[test]
fn a_superblock_that_says_more_than_the_files_hold_names_the_rest() {
    let mut rig = Rig::running(geometry(512));
    rig.say(text("one"));
    rig.commit();
    rig.stop();
    let end = rig.superblock.clean_end.unwrap();
    rig.superblock = rig.superblock.clean_stop(LogOffset(end.0 + 4096));
    let (recovered, _) = rig.recover(KERNEL);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (end, end.plus(4096)));
    assert_eq!(recovered.end, end.plus(4096));
}

#[test]
fn a_damaged_length_costs_one_record() {
    let mut rig = Rig::running(geometry(512));
    for n in 0..50 {
        rig.say(Said { slot: n, ..text(&format!("number {n}")) });
    }
    let block = rig.commit();
    rig.say(text("after"));
    rig.commit();
    let (file, at) = rig.file_of(block.offset);
    // Records of 48 bytes: the length of the third.
    file[at + 128 + 2 * 48 + 8] ^= 0xFF;
    let mut slots = Vec::new();
    let visit = &mut |record: RecordRef<'_>| slots.push(record.slot);
    let recovered = recover(&mut rig.disk, &rig.superblock, &KERNEL, visit).unwrap();
    slots.pop();
    assert_eq!(slots, (0..50).filter(|slot| *slot != 2).collect::<Vec<_>>());
    let from = block.offset.plus(128 + 2 * 48);
    assert_eq!((recovered.damage[0].from, recovered.damage[0].to), (from, from.plus(48)));
    assert_eq!(recovered.damage[0].slot, None);
}
