//! The simulator is itself tested: each planted bug must be found, within a bounded number of worlds.

use ringdesk_sim::{BUGS, plant, run};

/// Worlds until a bug must have been found. Most fall within the first ten.
const WORLDS_MAX: u64 = 20_000;

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

#[test]
fn a_bug_that_nobody_knows_is_not_planted() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringdesk-sim"))
        .args(["7", "--plant", "ack-befor-flush"])
        .output()
        .expect("the simulator starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no bug \"ack-befor-flush\"") && said.contains("  ack-before-flush "), "{said}");
}
