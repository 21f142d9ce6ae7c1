//! The writer: commit points, room, rolling, seals, and rkyv straight into the block.

mod common;

use common::{Chance, KERNEL, Rig, Said, geometry};
use ringdesk_journal::{
    BlockFlags, CommitPoint, Full, Geometry, Level, RecordMeta, RecordRef, Superblock, Writer, recover,
};

fn writer(geometry: Geometry) -> Writer {
    let superblock = Superblock::new([1; 16], 5, 0, 1, geometry);
    let mut writer = Writer::new(geometry, superblock.identity(), geometry.first(), geometry.first());
    writer.segment_ready(1);
    writer
}

#[test]
fn a_record_may_be_told_once_its_block_has_landed() {
    let mut writer = writer(geometry(512));
    assert_eq!(writer.appended(), writer.durable_point());
    let first = writer.append(1, 1, 1, b"one").unwrap();
    assert_eq!(writer.append(1, 1, 1, b"two").unwrap(), first, "one block, one commit");
    assert!(writer.durable_point() < first);
    let block = writer.take(BlockFlags::NONE).unwrap();
    assert!(writer.durable_point() < first, "taken is not landed");
    let second = writer.append(1, 1, 1, b"three").unwrap();
    assert!(second > first);
    assert!(writer.in_flight());
    assert!(writer.take(BlockFlags::NONE).is_none(), "one write in flight");
    assert_eq!(writer.written(block.buf), block.end);
    assert_eq!((writer.durable(), writer.durable_point()), (block.end, first));
    assert_eq!(writer.appended(), second);
    let block = writer.take(BlockFlags::NONE).unwrap();
    assert!(writer.take(BlockFlags::NONE).is_none());
    writer.written(block.buf);
    assert_eq!(writer.durable_point(), second);
    assert!(writer.take(BlockFlags::NONE).is_none(), "nothing to write");
}

#[test]
fn two_buffers_swap_for_ever() {
    let mut writer = writer(Geometry { segment_size: 1 << 20, align: 512 });
    let mut addresses = Vec::new();
    for _ in 0..50 {
        writer.append(1, 1, 1, &[7; 400]).unwrap();
        let block = writer.take(BlockFlags::NONE).unwrap();
        addresses.push(block.buf.as_bytes().as_ptr() as usize);
        writer.written(block.buf);
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 2);
}

#[test]
fn room_is_what_still_fits() {
    let mut writer = writer(geometry(512));
    assert_eq!(writer.room(), writer.body_max());
    let mut chance = Chance(1);
    while writer.room() > 0 {
        let room = writer.room();
        assert_eq!(writer.append(1, 1, 1, &vec![0; room + 1]), Err(Full { needed: room + 1, room }));
        let len = chance.below(2000).min(room as u64) as usize;
        writer.append(1, 1, 1, &vec![3; len]).unwrap();
    }
    let block = writer.take(BlockFlags::NONE).unwrap();
    assert!(block.buf.len() <= 64 << 10);
    assert_eq!(writer.room(), writer.body_max());
}

#[test]
fn a_body_that_does_not_fit_leaves_no_trace() {
    let mut rig = Rig::running(geometry(512));
    rig.prepare();
    let scribble = |place: &mut [u8]| {
        place.fill(0xEE);
        None
    };
    assert!(rig.writer().append_with(1, 1, 1, 10, scribble).is_err());
    assert!(!rig.writer().pending());
    let said = Said { kind: 2, version: 1, slot: 3, body: b"after".to_vec() };
    rig.say(said.clone());
    rig.commit();
    let (recovered, heard) = rig.recover(KERNEL);
    assert_eq!(heard, [said]);
    assert!(recovered.damage.is_empty(), "old bytes of a buffer never become padding");
}

#[test]
fn every_field_of_a_record_comes_back() {
    let mut rig = Rig::running(geometry(4096));
    let meta = RecordMeta { kind: 500, version: 2, slot: 4095, flags: 3, key_id: 0xDEAD_BEEF };
    rig.writer().append_record(meta, b"body").unwrap();
    let block = rig.commit();
    let mut seen = 0;
    let visit = &mut |record: RecordRef<'_>| {
        let back = RecordMeta {
            kind: record.kind,
            version: record.version,
            slot: record.slot,
            flags: record.flags,
            key_id: record.key_id,
        };
        assert_eq!(back, meta);
        assert_eq!((record.block, record.offset), (block.offset, block.offset.plus(128)));
        assert_eq!((record.body, record.raw.len(), record.boot_id), (&b"body"[..], 36, 1));
        seen += 1;
    };
    recover(&mut rig.disk, &rig.superblock, &KERNEL, visit).unwrap();
    assert_eq!(seen, 1);
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Message {
    number: u64,
    wide: u128,
    text: String,
}

#[test]
fn rkyv_writes_into_the_block_and_reads_in_place() {
    use rkyv::rancor::Error;
    use rkyv::ser::writer::Buffer;

    let mut rig = Rig::running(geometry(512));
    rig.prepare();
    let mut arena = rkyv::ser::allocator::Arena::new();
    for number in 0..20u64 {
        let message = Message { number, wide: u128::MAX, text: "hello ".repeat(number as usize) };
        let fill = |place: &mut [u8]| {
            let buffer = Buffer::from(place);
            let written =
                rkyv::api::high::to_bytes_in_with_alloc::<_, _, Error>(&message, buffer, arena.acquire());
            written.ok().map(|buffer| buffer.len())
        };
        rig.writer().append_with(7, 1, 9, 64, fill).unwrap();
    }
    rig.commit();
    let mut next = 0;
    let visit = &mut |record: RecordRef<'_>| {
        let message = rkyv::access::<ArchivedMessage, Error>(record.body).expect("aligned and whole");
        assert_eq!((message.number, message.wide), (next.into(), u128::MAX.into()));
        assert_eq!(message.text.len() as u64, next * 6);
        next += 1;
    };
    recover(&mut rig.disk, &rig.superblock, &KERNEL, visit).unwrap();
    assert_eq!(next, 20);
}

#[test]
fn the_next_segment_is_wanted_ahead_and_waited_for() {
    let geometry = Geometry { segment_size: 4 << 20, align: 4096 };
    let superblock = Superblock::new([1; 16], 5, 0, 1, geometry);
    let mut writer = Writer::new(geometry, superblock.identity(), geometry.first(), geometry.first());
    assert_eq!(writer.wants_segment(), Some(1), "nobody has said that the first segment is there");
    writer.append(1, 1, 1, b"one").unwrap();
    assert!(writer.out_of_space() && writer.take(BlockFlags::NONE).is_none());
    writer.segment_ready(1);
    assert_eq!(writer.wants_segment(), None);
    let body = vec![1; writer.room()];
    let mut ends = Vec::new();
    for _ in 0..4 {
        if !writer.pending() {
            writer.append(1, 1, 1, &body).unwrap();
        } else {
            writer.append(1, 1, 1, &body[..body.len() - 48]).unwrap();
        }
        let block = writer.take(BlockFlags::NONE).unwrap();
        assert_eq!(block.segment, 1);
        ends.push(block.end);
        writer.written(block.buf);
        assert_eq!(writer.wants_segment(), (ends.len() >= 2).then_some(2), "from the middle on");
    }
    assert_eq!(*ends.last().unwrap(), geometry.start_of(2), "the segment is full");
    writer.append(1, 1, 1, b"next").unwrap();
    assert!(writer.out_of_space() && writer.take(BlockFlags::NONE).is_none());
    writer.segment_ready(2);
    let block = writer.take(BlockFlags::NONE).unwrap();
    assert_eq!((block.segment, block.at), (2, 0));
}

#[test]
fn a_seal_is_the_last_word() {
    let mut rig = Rig::running(geometry(512));
    rig.say(Said { kind: 1, version: 1, slot: 1, body: vec![1] });
    rig.commit();
    let seal = rig.stop();
    let (recovered, said) = rig.recover(KERNEL);
    assert!(recovered.sealed);
    assert_eq!((recovered.end, said.len(), recovered.blocks), (seal.end, 1, 2));
    rig.boot(Level::Memory, KERNEL);
    assert_eq!(rig.superblock.clean_end, None);
    assert_eq!(rig.recover(KERNEL).0.end, seal.end, "a boot that wrote nothing changes nothing");
    rig.say(Said { kind: 1, version: 1, slot: 1, body: vec![2] });
    rig.commit();
    let (recovered, said) = rig.recover(KERNEL);
    assert!(!recovered.sealed, "it runs again");
    assert_eq!(said.len(), 2);
}

#[test]
#[should_panic(expected = "behind the seal")]
fn nothing_is_appended_behind_the_seal() {
    let mut writer = writer(geometry(512));
    let seal = writer.take(BlockFlags::SEAL).unwrap();
    writer.written(seal.buf);
    let _ = writer.append(1, 1, 1, b"late");
}

#[test]
fn points_begin_at_one_with_each_boot() {
    let mut writer = writer(geometry(512));
    assert_eq!(writer.append(1, 1, 1, b"").unwrap(), CommitPoint(1));
}
