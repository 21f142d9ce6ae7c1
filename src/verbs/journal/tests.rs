use std::fs;

use super::*;
use crate::scratch::Scratch;
use crate::small_journal::SmallJournal;

fn shown(data_dir: &Path, show: Show) -> (Exit, Vec<String>) {
    let mut out = Vec::new();
    let exit = all(data_dir, None, show, &mut out);
    (exit, String::from_utf8(out).unwrap().lines().map(str::to_owned).collect())
}

const VERIFY: Show = Show { json: false, dump: false };
const VERIFY_JSON: Show = Show { json: true, dump: false };
const DUMP_JSON: Show = Show { json: true, dump: true };

fn two_journals() -> (Scratch, SmallJournal) {
    let scratch = Scratch::new();
    let mut one = SmallJournal::new(&scratch.0, 0, 2);
    let mut two = SmallJournal::new(&scratch.0, 1, 2);
    one.write(&[10, 20]);
    one.write(&[30]);
    one.seal();
    two.write(&[5]);
    (scratch, one)
}

#[test]
fn a_sound_journal_verifies_and_dumps_every_record() {
    let (scratch, _) = two_journals();
    let (exit, lines) = shown(&scratch.0, VERIFY);
    assert_eq!(exit, Exit::Good);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("shard 0: every acknowledged byte holds; 3 blocks, 3 records,"),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("not sealed"), "{lines:?}");

    let (exit, lines) = shown(&scratch.0, DUMP_JSON);
    assert_eq!(exit, Exit::Good);
    let values: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |what: &str| values.iter().filter(|value| value["what"] == what).count();
    assert_eq!((count("block"), count("record"), count("damage"), count("journal")), (4, 4, 0, 2));
    let record = values.iter().find(|value| value["what"] == "record").unwrap();
    assert_eq!(
        (record["name"].as_str(), record["bytes"].as_u64(), record["slot"].as_u64()),
        (Some("message"), Some(10), Some(0))
    );
}

#[test]
fn a_flipped_bit_is_named_with_its_range_and_has_a_status() {
    let (scratch, one) = two_journals();
    let path = one.segment(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[165] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    let (exit, lines) = shown(&scratch.0, VERIFY_JSON);
    assert_eq!((exit, exit.status()), (Exit::Damaged, 9));
    let damage: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let size = u64::from(one.journal.superblock.geometry.segment_size);
    assert_eq!((damage["what"].as_str(), damage["kind"].as_str()), (Some("damage"), Some("record")));
    assert!(
        (damage["from"].as_u64().unwrap()..damage["to"].as_u64().unwrap()).contains(&(size + 165)),
        "{damage}"
    );
    let summary: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!((summary["clean"].as_bool(), summary["damaged_ranges"].as_u64()), (Some(false), Some(1)));
    // The other shard is looked at all the same.
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_directory_without_journals_and_a_lost_superblock_are_told_apart() {
    let scratch = Scratch::new();
    assert_eq!(shown(&scratch.0, VERIFY).0, Exit::Failed);
    let journal = SmallJournal::new(&scratch.0, 0, 1);
    fs::write(journal.journal.directory.join("superblock"), vec![3; journal::SUPERBLOCK_SIZE]).unwrap();
    let (exit, lines) = shown(&scratch.0, VERIFY);
    assert_eq!(exit, Exit::Damaged);
    assert!(lines[0].starts_with("shard 0: DAMAGED; ") && lines[0].contains("superblock"), "{lines:?}");
}
