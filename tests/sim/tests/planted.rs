//! The simulator is itself tested: each planted bug must be found, within a bounded number of worlds.

use ringdesk_sim::{plant, run};

/// Worlds until a bug must have been found. Most fall within the first ten.
const WORLDS_MAX: u64 = 20_000;

/// Name, and what it breaks.
const BUGS: &[(&str, &str)] = &[
    ("ack-before-flush", "what was acknowledged is gone after a crash"),
    ("delivered-before-flush", "what was told is gone after a crash"),
    ("durable-reported-too-far", "a block counts as durable before it has landed"),
    ("failed-write-ignored", "a failed or short write counts as done"),
    ("repeat-acked-before-first-write", "a repetition is acknowledged while its first write is in flight"),
    ("no-record-checksum", "torn bytes are taken for a record"),
    ("no-boot-id", "bytes of an older boot come back to life"),
    ("append-behind-the-torn-tail", "the next boot appends at a wrong end"),
    ("append-before-the-end", "the next boot overwrites the last block, and numbers are used again"),
    ("checkpoint-newer-than-log", "a replay begins behind what it needs"),
    ("history-epoch-kept", "the epoch does not tell that acknowledged records may be gone"),
    ("level-raised", "an acknowledgement names a level that it did not meet"),
    ("dedupe-not-rebuilt", "after a restart a repetition is stored again"),
    ("dedupe-evicted-early", "a repetition of something older is stored again"),
    ("dedupe-ignores-device", "one device's cid hides another's message"),
    ("id-conflict-ignored", "a cid used for something else gets the first answer"),
    ("repeat-refused-when-fast", "what is stored is refused because its repetition comes too fast"),
    ("resume-skips-one", "a resume hides a gap, for a visitor"),
    ("agent-resume-skips-one", "a resume hides a gap, for an agent"),
    ("resume-repeats-one", "a resume tells one event too many"),
    ("old-epoch-resumed", "a session of another epoch is resumed"),
    ("ack-moves-backwards", "an old acknowledgement undoes a newer one"),
    ("ack-of-untold-accepted", "an acknowledgement of what was never told hides what is on its way"),
    ("slow-reader-drops", "a slow reader misses events without a word"),
    ("told-before-ready", "a resumed session is told events before it is told where counting stands"),
    ("behind-forgotten", "a delivery without room is lost for good"),
    ("partial-frame-dropped", "the rest of a frame is taken for a frame"),
    ("doors-without-generation", "a late completion is taken for a new connection's"),
    ("capacity-not-reserved", "an agent gets more than he takes"),
    ("queue-jumps-after-restart", "the queue loses its order in a restart"),
    ("note-leaks", "a visitor is told a note"),
    ("close-not-told", "a sync tells a state that is not the durable one"),
];

/// The first world that finds the bug, and how.
fn hunt(bug: &'static str) -> Option<(u64, String)> {
    assert!(plant(bug), "the tests are built with planted bugs");
    let found = (1..=WORLDS_MAX).find_map(|seed| Some((seed, run(seed, false).violation?)));
    plant("");
    found
}

#[test]
fn every_planted_bug_is_found() {
    let mut survivors = Vec::new();
    for (bug, what) in BUGS {
        match hunt(bug) {
            Some((seed, why)) => {
                println!("{bug:<34} world {seed:>5}  {}", why.chars().take(150).collect::<String>())
            }
            None => survivors.push(format!("{bug}: {what}")),
        }
    }
    assert!(survivors.is_empty(), "not found in {WORLDS_MAX} worlds: {survivors:#?}");
}

#[test]
fn an_order_of_chance_changes_the_trace() {
    assert!(plant("order-of-chance"), "the tests are built with planted bugs");
    let differs = (1..=200).find(|&seed| run(seed, false).hash != run(seed, false).hash);
    plant("");
    assert!(differs.is_some(), "two runs of one seed were the same in 200 worlds");
}
