//! Crafted files: an error or damage, never a panic, whatever the fields say, even with sound checksums.

mod common;

use common::{Disk, KERNEL, Rig, Said, geometry};
use proptest::prelude::*;
use ringdesk_journal::{
    BlockFlags, BlockHeader, LogOffset, SUPERBLOCK_SIZE, Superblock, Tail, TailItem, recover, verify,
};

const SIZE: u64 = 64 << 10;

/// Numbers near the places that matter.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0u64..400).prop_map(|sector| SIZE + sector * 512),
        1 => any::<u64>(),
        1 => Just(0),
        1 => Just(u64::MAX),
    ]
}

fn header() -> impl Strategy<Value = BlockHeader> {
    let ids = (0u16..4, any::<u8>(), prop_oneof![Just(512u32), Just(4096), Just(1)], 0u32..5, 0u64..6);
    let places = (place(), prop::option::of(place()), place(), place(), place());
    let sizes = (prop_oneof![0u32..4000, any::<u32>()], prop_oneof![0u32..40, any::<u32>()], any::<bool>());
    (ids, places, sizes).prop_map(|(ids, places, sizes)| {
        let (offset, prev, boot_start, entry, replay_from) = places;
        let start = if offset % SIZE == 0 { BlockFlags::SEGMENT_START } else { BlockFlags::NONE };
        BlockHeader {
            flags: if sizes.2 { start } else { BlockFlags(start.0 | 1) },
            shard: 3,
            level: ids.1,
            align: ids.2,
            generation: 1,
            segment: (offset / SIZE) as u32,
            boot_id: ids.4,
            offset: LogOffset(offset),
            prev: LogOffset(prev.unwrap_or(offset)),
            boot_start: LogOffset(boot_start),
            entry: LogOffset(entry),
            replay_from: LogOffset(replay_from),
            kernel_boot: 0,
            payload_len: sizes.0,
            record_count: sizes.1,
        }
    })
}

fn read_every_way(disk: &mut Disk, superblock: &Superblock) {
    for kernel in [KERNEL, [2; 16]] {
        if let Ok(found) = recover(disk, superblock, &kernel, &mut |_| {}) {
            assert!(found.end >= superblock.replay_from.min(superblock.known_end()));
            for damage in found.damage {
                assert!(damage.from < damage.to, "{damage:?}");
            }
        }
    }
    drop(verify(disk, superblock));
    let mut tail = Tail::new(superblock, superblock.replay_from);
    let durable = LogOffset(SIZE * 4);
    for _ in 0..500 {
        match tail.read(disk, durable) {
            Ok(Some(TailItem::Block(block))) => drop(block.records().count()),
            Ok(Some(TailItem::Damage(_))) => {}
            Ok(None) | Err(_) => return,
        }
    }
    panic!("a follower goes in circles");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn crafted_headers_with_sound_checksums_do_no_harm(
        headers in prop::collection::vec((header(), 0usize..3, prop::option::of(0usize..128)), 0..12),
        start in 0u64..300,
        replay in 0u64..300,
        clean_end in prop::option::of(0u64..300),
    ) {
        let mut rig = Rig::running(geometry(512));
        for n in 0..40u16 {
            rig.say(Said { kind: n, version: 1, slot: n, body: vec![n as u8; 3000] });
            rig.commit();
        }
        let at = |sector: u64| LogOffset(SIZE + sector * 512);
        let superblock = Superblock {
            start: at(start),
            replay_from: at(replay),
            clean_end: clean_end.map(at),
            boot_id: 3,
            level: ringdesk_journal::Level::Memory,
            kernel_boot: KERNEL,
            ..rig.superblock.clone()
        };
        let salt = superblock.salt;
        for (header, file, sector) in headers {
            let file = rig.disk.files[file].as_mut().unwrap();
            // At home, or anywhere.
            let own = (header.offset.0 % SIZE) as usize;
            let place = sector.map_or(own, |sector| sector * 512);
            if place + 128 <= file.len() && header.align.is_power_of_two() {
                header.encode(&mut file[place..], salt);
            }
        }
        read_every_way(&mut rig.disk, &superblock);
    }

    #[test]
    fn any_bytes_at_all_do_no_harm(
        files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..4),
        sector in 0u64..300,
    ) {
        let mut disk = Disk { files: files.into_iter().map(Some).collect(), refused: Vec::new() };
        let mut superblock = Superblock::new([1; 16], 2, 0, 1, geometry(512));
        superblock.start = LogOffset(SIZE + sector * 512);
        read_every_way(&mut disk, &superblock);
    }

    #[test]
    fn a_superblock_file_of_any_bytes_is_refused(mut file in prop::collection::vec(any::<u8>(), 0..=64), at in 0usize..100) {
        prop_assert!(Superblock::decode_best(&file).is_err());
        let sound = Superblock::new([1; 16], 2, 0, 1, geometry(512));
        file.resize(SUPERBLOCK_SIZE, 0);
        file[4096..8192].copy_from_slice(&sound.encode(1));
        prop_assert_eq!(Superblock::decode_best(&file), Ok(sound));
        file[4096 + at] ^= 0x10;
        prop_assert!(Superblock::decode_best(&file).is_err());
    }
}
