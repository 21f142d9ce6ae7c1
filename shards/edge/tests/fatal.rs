//! What ends the process, and with which status: in child processes of this test.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

mod common;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Node, say, small};

/// Not a test by itself: the child process, in which a client's first line ends the server.
#[test]
fn child() {
    let Ok(wish) = std::env::var("RINGDESK_EDGE_WISH") else { return };
    let node = Node::start("fatal", 2, small());
    let mut stream = node.connect();
    say(&mut stream, format!("{wish}\n"));
    std::thread::sleep(Duration::from_secs(60));
}

fn ends_with(wish: &str) -> (Output, Duration) {
    let begin = Instant::now();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env("RINGDESK_EDGE_WISH", wish);
    (child.output().unwrap(), begin.elapsed())
}

#[test]
fn a_fence_ends_the_process_and_says_why() {
    let (output, _) = ends_with("fence");
    assert_eq!(output.status.code(), Some(ringdesk_edge::exit::FENCED));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("is fenced: its journal cannot be written (as the client wished)"), "{text}");
}

#[test]
fn a_panic_of_a_shard_ends_the_process() {
    let (output, _) = ends_with("panic");
    assert_eq!(output.status.code(), Some(ringdesk_edge::exit::PANIC));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("as the client wished") && text.contains("panicked"), "{text}");
}

#[test]
fn a_stuck_shard_shows_its_stack_and_ends_the_process() {
    let (output, took) = ends_with("stuck");
    assert_eq!(output.status.code(), Some(ringdesk_edge::exit::WATCHDOG));
    assert!(took > Duration::from_secs(9), "ten seconds of patience, not {took:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("has not turned for 2s"), "{text}");
    assert!(text.contains("try_head"), "the stack names who does not come back:\n{text}");
    assert!(text.contains("has not turned for 10s"), "{text}");
}
