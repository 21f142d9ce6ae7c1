//! What the control plane gets and gives: hand-overs, adoptions, numbers.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Node, read_exactly, say, small, wait_until};
use mail::{Order, Report};
use ringdesk_edge::node::{HAND_OVERS_MAX, HandOver, HandOvers, ReportBell, ShardPort};
use std::os::fd::{AsFd, AsRawFd};

/// Waits for the bell as a control plane would.
fn wait_for_bell(bell: &ReportBell) {
    let mut poll = libc::pollfd { fd: bell.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one pollfd that outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, 100) };
    bell.clear();
}

/// Takes connections that were handed over and gives each to `serve`.
fn take_hand_overs(
    ports: &mut [ShardPort],
    hand_overs: &HandOvers,
    mut serve: impl FnMut(&mut ShardPort, TcpStream, Vec<u8>, std::net::SocketAddr, HandOver),
) {
    for port in ports {
        let mut reports = Vec::new();
        port.reports.drain(|report| reports.push(report));
        for report in reports {
            if let Report::HandedOver { stream, peer, bytes } = report {
                let stream = TcpStream::from(stream);
                assert_eq!(stream.peer_addr().unwrap(), peer);
                serve(port, stream, bytes, peer, hand_overs.received());
            }
        }
    }
}

#[test]
fn other_requests_go_to_the_control_plane_with_their_bytes() {
    let mut node = Node::start("hand-over", 2, small());
    let mut ports = std::mem::take(&mut node.running.ports);
    let (bell, hand_overs) = (node.running.bell.clone(), node.running.hand_overs.clone());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                wait_for_bell(&bell);
                take_hand_overs(&mut ports, &hand_overs, |_, mut stream, mut bytes, _, _place| {
                    stream.set_nonblocking(false).unwrap();
                    while !bytes.ends_with(b"more") {
                        bytes.push(read_exactly(&mut stream, 1)[0]);
                    }
                    stream.write_all(&[b"got ", &bytes[..]].concat()).unwrap();
                });
            }
        });
        for round in 0..200 {
            let mut stream = common::connect(node.running.listen);
            say(&mut stream, format!("http\n{round:4}"));
            say(&mut stream, "more");
            let wanted = format!("got http\n{round:4}more");
            let mut got = String::new();
            stream.read_to_string(&mut got).unwrap();
            assert_eq!(got, wanted, "the head, and what came behind it, once and in order");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(node.running.hand_overs.count(), 0);
    node.running.ports = ports;
    node.wait_for("doors_open", 0);
    assert_eq!(node.number("hand_overs"), 200);
    node.stop();
}

#[test]
fn a_thousand_and_one_requests_too_many_are_told_to_come_back() {
    let node = Node::start("too-many", 1, small());
    let mut waiting: Vec<TcpStream> = (0..HAND_OVERS_MAX)
        .map(|_| {
            let mut stream = node.connect();
            say(&mut stream, "http\n");
            stream
        })
        .collect();
    wait_until("a full house", || node.running.hand_overs.count() == HAND_OVERS_MAX);
    for _ in 0..20 {
        let mut stream = node.connect();
        say(&mut stream, "http\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
    }
    assert_eq!(node.number("hand_overs_refused"), 20);
    let mut node = node;
    let hand_overs = node.running.hand_overs.clone();
    let mut taken = 0;
    wait_until("all of them", || {
        take_hand_overs(&mut node.running.ports, &hand_overs, |_, _, _, _, _| taken += 1);
        taken == HAND_OVERS_MAX
    });
    assert_eq!(hand_overs.count(), 0, "places come back");
    for stream in &mut waiting {
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "the control plane dropped it");
    }
    node.stop();
}

#[test]
fn an_upgrade_behind_a_request_comes_back_to_a_shard() {
    let mut node = Node::start("adopt", 2, small());
    let mut ports = std::mem::take(&mut node.running.ports);
    let (bell, hand_overs) = (node.running.bell.clone(), node.running.hand_overs.clone());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                wait_for_bell(&bell);
                take_hand_overs(&mut ports, &hand_overs, |port, mut stream, _, peer, _place| {
                    stream.set_nonblocking(false).unwrap();
                    stream.write_all(b"page").unwrap();
                    let mut head = [0; 10];
                    stream.read_exact(&mut head).unwrap();
                    stream.set_nonblocking(true).unwrap();
                    let order = Order::Adopt { stream: stream.into(), peer, bytes: head.to_vec() };
                    port.post(order).expect("there is room");
                });
            }
        });
        for _ in 0..100 {
            let mut stream = common::connect(node.running.listen);
            say(&mut stream, "http\n");
            assert_eq!(read_exactly(&mut stream, 4), b"page");
            say(&mut stream, "echo\nearly");
            assert_eq!(read_exactly(&mut stream, 5), b"early");
            say(&mut stream, "later");
            assert_eq!(read_exactly(&mut stream, 5), b"later");
        }
        stop.store(true, Ordering::Relaxed);
    });
    node.running.ports = ports;
    assert_eq!(node.number("adoptions"), 100);
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn numbers_are_fresh_when_they_are_asked_for() {
    let node = Node::start("numbers", 1, small());
    let mut streams: Vec<TcpStream> = (0..5).map(|_| node.connect()).collect();
    for stream in &mut streams {
        say(stream, "echo\nx");
        read_exactly(stream, 1);
    }
    assert_eq!(node.number("doors_open"), 5);
    assert_eq!(node.number("toy_doors"), 5);
    assert_eq!(node.number("receives"), 5);
    drop(streams);
    node.wait_for("toy_doors", 0);
    // An idle shard is seldom awake.
    thread::sleep(Duration::from_millis(1_100));
    let before = node.number("turns");
    thread::sleep(Duration::from_secs(2));
    let turns = node.number("turns") - before;
    assert!(turns <= 12, "{turns} turns in two idle seconds");
    node.stop();
}
