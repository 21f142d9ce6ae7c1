//! Golden directories: a journal of each format version that was ever released is read back exactly, for ever.
//!
//! `RINGDESK_REMAKE_GOLDEN=1 cargo test -p ringdesk-journal --test golden` writes v1 anew. That is only right until
//! the first release; from then on a changed format is a new version beside the old one.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use common::{Chance, Disk, KERNEL, Rig, Said, geometry};
use ringdesk_journal::{
    BlockFlags, LogOffset, RecordMeta, RecordRef, SUPERBLOCK_COPIES, Superblock, recover, verify,
};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Two boots, two segments, every field in use, sealed.
fn make() -> Rig {
    let mut chance = Chance(20_260_801);
    let mut rig = Rig::running(geometry(512));
    for _ in 0..20 {
        rig.block(&mut chance, 8, 900);
    }
    let place = rig.writer().durable();
    rig.superblock = Superblock { files: 2, history_epoch: 3, ..rig.superblock.clone() };
    rig.boot(ringdesk_journal::Level::Memory, KERNEL);
    rig.writer().set_replay_from(place);
    for n in 0..10 {
        let meta = RecordMeta { kind: n, version: n + 1, slot: 4095 - n, flags: n, key_id: 0x0102_0304 };
        rig.writer().append_record(meta, &chance.bytes(usize::from(n) * 5)).unwrap();
    }
    let (outgoing, _) = rig.take(BlockFlags::NONE);
    rig.land(&outgoing);
    rig.writer().written(outgoing.buf);
    rig.say(Said { kind: 9, version: 9, slot: 9, body: "再见".into() });
    rig.commit();
    rig.stop();
    rig
}

fn listing(disk: &mut Disk, superblock: &Superblock) -> String {
    let mut listing = String::new();
    let visit = &mut |record: RecordRef<'_>| {
        let RecordRef { kind, version, slot, flags, key_id, offset, boot_id, body, .. } = record;
        let sum = xxhash_rust::xxh3::xxh3_64(body);
        writeln!(
            listing,
            "{offset} boot {boot_id} kind {kind}.{version} slot {slot} flags {flags} key {key_id:x} {} bytes {sum:016x}",
            body.len()
        )
        .unwrap();
    };
    let recovered = recover(disk, superblock, &KERNEL, visit).unwrap();
    writeln!(listing, "{superblock:?}").unwrap();
    writeln!(listing, "{recovered:?}").unwrap();
    listing
}

#[test]
fn version_1_is_read_back_exactly() {
    let directory = directory();
    let mut rig = make();
    if std::env::var_os("RINGDESK_REMAKE_GOLDEN").is_some() {
        fs::create_dir_all(&directory).unwrap();
        let pages: Vec<u8> = (0..SUPERBLOCK_COPIES).flat_map(|copy| rig.superblock.encode(copy)).collect();
        fs::write(directory.join("superblock"), pages).unwrap();
        for (id, file) in rig.disk.files.iter().enumerate() {
            fs::write(directory.join(format!("{id:04}.segment")), file.as_ref().unwrap()).unwrap();
        }
        fs::write(directory.join("expected.txt"), listing(&mut rig.disk, &rig.superblock)).unwrap();
    }

    let superblock = Superblock::decode_best(&fs::read(directory.join("superblock")).unwrap()).unwrap();
    let mut disk = Disk::default();
    while let Ok(file) = fs::read(directory.join(format!("{:04}.segment", disk.files.len()))) {
        disk.files.push(Some(file));
    }
    let expected = fs::read_to_string(directory.join("expected.txt")).unwrap();
    assert_eq!(listing(&mut disk, &superblock), expected);
    let report = verify(&mut disk, &superblock).unwrap();
    assert!(report.is_clean() && report.found.sealed);
    assert_eq!(report.from, LogOffset(64 << 10));

    // And today's writer still writes these very bytes.
    assert_eq!(superblock, rig.superblock);
    assert!(disk == rig.disk, "the writer's format has changed");
}
