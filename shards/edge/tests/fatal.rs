//! What ends the process, and with which status, and what does not: in child processes of this test.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

mod common;

use std::io::Read;
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
    let told = text.lines().find(|line| line.contains("is fenced")).unwrap_or_else(|| panic!("{text}"));
    assert!(told.starts_with("ERROR shard "), "it goes the way of the log: {told}");
    assert!(told.contains("is fenced: its journal cannot be written (as the client wished)"), "{told}");
}

#[test]
fn a_panic_of_a_shard_ends_the_process() {
    let (output, _) = ends_with("panic");
    assert_eq!(output.status.code(), Some(ringdesk_edge::exit::PANIC));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("as the client wished"), "{text}");
    assert!(!text.contains("has unwound"), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("ERROR shard ") && line.contains(" panicked: ")),
        "{text}"
    );
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
    let from = text.find("ERROR shard ").unwrap_or_else(|| panic!("{text}"));
    let (words, _) = text[from..].split_at(text[from..].rfind('\n').unwrap());
    assert!(words.lines().all(|line| line.starts_with("ERROR ")), "one event a line, the stack too:\n{text}");
}

/// Not a test by itself: the child process, which runs out of descriptors.
#[test]
fn child_without_descriptors() {
    if std::env::var_os("RINGDESK_EDGE_POOR").is_none() {
        return;
    }
    let node = Node::start("poor", 1, small());
    let mut early: Vec<_> = (0..3).map(|_| node.connect()).collect();
    let mut later: Vec<_> = (0..20).map(|_| node.connect()).collect();
    let (soft, hard) = limit();
    // The lowest free number: below it all are taken.
    // SAFETY: no pointers are passed.
    let free = unsafe { libc::dup(0) };
    // SAFETY: the number was just made and nobody else knows it.
    unsafe { libc::close(free) };
    set_limit(free as u64, hard);
    for stream in &mut later {
        say(stream, "echo\nfine");
        assert_eq!(common::read_exactly(stream, 4), b"fine", "a door needs no descriptor of the process");
    }
    say(&mut early[0], "http\n");
    let mut answer = String::new();
    early[0].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "no descriptor for the control plane: {answer}");
    say(&mut early[1], "last 1000\n");
    let mut rest = Vec::new();
    early[1].read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"goodbye"), "a close without a descriptor is a plain one");
    assert_eq!(node.running.hand_overs.count(), 0);
    set_limit(soft, hard);
    say(&mut early[2], "http\n");
    common::wait_until("a hand-over", || node.running.hand_overs.count() == 1);
    drop((early, later));
    node.stop();
    std::process::exit(42);
}

fn limit() -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to an rlimit that outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    (limit.rlim_cur, limit.rlim_max)
}

fn set_limit(soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to an rlimit that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn a_process_without_descriptors_goes_on_serving() {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", "child_without_descriptors", "--nocapture", "--test-threads=1"]);
    let output = child.env("RINGDESK_EDGE_POOR", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(42), "{text}");
}
