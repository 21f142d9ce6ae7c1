//! Doors over real sockets, with one, two and three shards.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use common::{Node, connect, pattern, read_exactly, say, small, wait_until};
use ringdesk_edge::node::Tuning;

/// `clients` connections say `messages` things altogether and hear each of them back.
fn echo(node: &Node, clients: usize, messages: usize) {
    let each = messages / clients;
    let threads = 4;
    let listen = node.running.listen;
    thread::scope(|scope| {
        for part in 0..threads {
            scope.spawn(move || {
                let mut streams: Vec<TcpStream> = (0..clients / threads).map(|_| connect(listen)).collect();
                for stream in &mut streams {
                    say(stream, "echo\n");
                }
                for round in 0..each {
                    for (number, stream) in streams.iter_mut().enumerate() {
                        say(stream, format!("{part:3} {number:5} {round:6}"));
                    }
                    for (number, stream) in streams.iter_mut().enumerate() {
                        let wanted = format!("{part:3} {number:5} {round:6}");
                        assert_eq!(read_exactly(stream, wanted.len()), wanted.as_bytes());
                    }
                }
            });
        }
    });
}

fn echo_on(shards: usize) {
    let node = Node::start("echo", shards, small());
    echo(&node, 200, 10_000);
    assert!(node.number("promotions") > 0, "busy doors have multishot receives");
    node.wait_for("doors_open", 0);
    assert_eq!(node.number("accepts"), 200);
    assert_eq!(node.number("toy_doors"), 0);
    node.stop();
}

#[test]
fn ten_thousand_messages_come_back_on_one_shard() {
    echo_on(1);
}

#[test]
fn ten_thousand_messages_come_back_on_two_shards() {
    echo_on(2);
}

#[test]
fn ten_thousand_messages_come_back_on_three_shards() {
    echo_on(3);
}

#[test]
fn four_buffers_and_many_talkers_lose_nothing() {
    let tuning = Tuning { buffer_count: 4, buffer_size: 256, ..small() };
    let node = Node::start("starved", 1, tuning);
    let (sent, listen) = (pattern(20_000), node.running.listen);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut stream = connect(listen);
                let mut reader = stream.try_clone().unwrap();
                let reading = scope.spawn(move || read_exactly(&mut reader, 20_000));
                say(&mut stream, "echo\n");
                for piece in sent.chunks(1_000) {
                    say(&mut stream, piece);
                }
                assert!(reading.join().unwrap() == sent, "every byte once and in order");
            });
        }
    });
    assert!(node.number("enobufs") > 0, "the buffers did run out");
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn idle_doors_go_back_to_a_poll_and_still_hear() {
    let tuning = Tuning { demote_ms: 300, ..small() };
    let node = Node::start("tiers", 1, tuning);
    let mut stream = node.connect();
    say(&mut stream, "echo\n");
    for round in 0..3 {
        for _ in 0..20 {
            say(&mut stream, "busy");
            assert_eq!(read_exactly(&mut stream, 4), b"busy");
        }
        wait_until("a promotion", || node.number("promotions") == round + 1);
        wait_until("a demotion", || node.number("demotions") == round + 1);
        say(&mut stream, "idle");
        assert_eq!(read_exactly(&mut stream, 4), b"idle");
    }
    node.stop();
}

fn relay_on(shards: u16) {
    let node = Node::start("relay", shards.into(), small());
    let begin = Instant::now();
    for to in 0..shards {
        for _ in 0..4 {
            let mut stream = node.connect();
            say(&mut stream, format!("relay {to}\n"));
            for round in 0..100 {
                let text = format!("{round:4}");
                say(&mut stream, &text);
                assert_eq!(read_exactly(&mut stream, 4), text.as_bytes());
            }
        }
    }
    // A wake that is lost costs a tick, a tenth of a second or more.
    assert!(begin.elapsed() < Duration::from_secs(8), "no wake is lost: {:?}", begin.elapsed());
    assert!(node.number("wakes_sent") > 0);
    node.stop();
}

#[test]
fn letters_wake_a_sleeping_shard_of_two() {
    relay_on(2);
}

#[test]
fn letters_wake_a_sleeping_shard_of_three() {
    relay_on(3);
}

fn move_on(shards: u16) {
    let node = Node::start("move", shards.into(), small());
    thread::scope(|scope| {
        for part in 0..4u16 {
            let listen = node.running.listen;
            scope.spawn(move || {
                for round in 0..100u16 {
                    let to = (part + round) % shards;
                    let mut stream = connect(listen);
                    // Half of them are already talking when they are moved.
                    let early = if round % 2 == 0 { "early" } else { "" };
                    say(&mut stream, format!("shard {to}\n{early}"));
                    let answer = format!("at {to}\n{early}");
                    assert_eq!(read_exactly(&mut stream, answer.len()), answer.as_bytes());
                    say(&mut stream, "later");
                    assert_eq!(read_exactly(&mut stream, 5), b"later");
                }
            });
        }
    });
    assert!(node.number("moves") > 0);
    assert_eq!(node.number("moves"), node.number("arrivals"));
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn connections_move_between_two_rings_before_they_are_answered() {
    move_on(2);
}

#[test]
fn connections_move_between_three_rings_before_they_are_answered() {
    move_on(3);
}

#[test]
fn a_connection_that_finds_no_room_elsewhere_stays() {
    let tuning = Tuning { table: Some(32), accepts: 1, ..small() };
    let node = Node::start("no-room", 2, tuning);
    let mut kept = Vec::new();
    let mut stayed = 0;
    // Shard 1 fills up; from then on its own listener keeps clients waiting, and what comes through shard 0 stays there.
    while stayed < 8 {
        assert!(kept.len() < 64, "two tables hold no more");
        let mut stream = node.connect();
        stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        say(&mut stream, "shard 1\n");
        let mut answer = [0; 4];
        if stream.read_exact(&mut answer).is_ok() {
            stayed += u64::from(&answer == b"stay");
            kept.push((stream, answer));
        }
    }
    assert_eq!(node.seen.move_failed.load(Ordering::Relaxed), stayed);
    assert_eq!(node.number("move_failures"), stayed);
    for (stream, answer) in &mut kept {
        let rest: &[u8] = if answer == b"stay" { b"ed\n" } else { b"\n" };
        assert!(rest.ends_with(&read_exactly(stream, rest.len())));
        say(stream, "hello");
        assert_eq!(read_exactly(stream, 5), b"hello");
    }
    drop(kept);
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn a_slow_reader_gets_everything_and_keeps_nobody_waiting() {
    let node = Node::start("slow", 1, small());
    let mut slow = node.connect();
    say(&mut slow, "pour 8000000\n");
    let mut quick = node.connect();
    say(&mut quick, "echo\n");
    let wanted = pattern(8_000_000);
    let mut got = Vec::new();
    let mut piece = vec![0; 500_000];
    while got.len() < wanted.len() {
        // A read with a time-out is not restarted after a signal.
        let count = match slow.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(count > 0, "the connection ended after {} bytes", got.len());
        got.extend_from_slice(&piece[..count]);
        let begin = Instant::now();
        say(&mut quick, "quick");
        assert_eq!(read_exactly(&mut quick, 5), b"quick");
        assert!(begin.elapsed() < Duration::from_secs(1), "the slow one held up the quick one");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(got == wanted, "every byte once and in order");
    assert!(node.seen.sent_some.load(Ordering::Relaxed) > 0, "progress was told");
    node.stop();
}

#[test]
fn a_paused_door_is_left_alone_and_loses_nothing() {
    let node = Node::start("pause", 1, small());
    for size in [10, 50_000] {
        let mut stream = node.connect();
        let before = node.seen.while_paused.load(Ordering::Relaxed);
        say(&mut stream, "pause 400\n");
        let mut reader = stream.try_clone().unwrap();
        say(&mut stream, "first");
        thread::sleep(Duration::from_millis(100));
        let sent = pattern(size);
        let begin = Instant::now();
        let reading = thread::spawn(move || (read_exactly(&mut reader, 5 + size), begin.elapsed()));
        say(&mut stream, &sent);
        let (got, took) = reading.join().unwrap();
        assert_eq!(&got[..5], b"first");
        assert!(got[5..] == sent, "every byte once and in order");
        assert!(took > Duration::from_millis(150), "it was paused for a while: {took:?}");
        let during = node.seen.while_paused.load(Ordering::Relaxed) - before;
        assert!(during <= 4_096, "{during} bytes came through a pause");
    }
    node.stop();
}

#[test]
fn a_busy_door_is_paused_and_resumed_in_the_middle_of_a_flood() {
    let node = Node::start("flood-pause", 1, small());
    let mut stream = node.connect();
    let mut reader = stream.try_clone().unwrap();
    let sent = pattern(3_000_000);
    let size = sent.len();
    let reading = thread::spawn(move || read_exactly(&mut reader, size));
    say(&mut stream, "pause 200\n");
    for piece in sent.chunks(10_000) {
        say(&mut stream, piece);
    }
    assert!(reading.join().unwrap() == sent, "every byte once and in order");
    node.stop();
}

#[test]
fn a_close_delivers_the_last_bytes_though_the_client_still_talks() {
    let node = Node::start("close", 1, small());
    for _ in 0..20 {
        let mut stream = node.connect();
        let mut talker = stream.try_clone().unwrap();
        say(&mut stream, "last 200000\n");
        let talking = thread::spawn(move || {
            let noise = [7; 1_000];
            // Ends with an error once the server has closed.
            for _ in 0..300 {
                if talker.write_all(&noise).is_err() {
                    break;
                }
                thread::sleep(Duration::from_micros(100));
            }
        });
        let mut got = Vec::new();
        let ended = stream.read_to_end(&mut got);
        let mut wanted = pattern(200_000);
        wanted.extend_from_slice(b"goodbye");
        assert!(got == wanted, "all of the last words arrive, then the end: {} bytes, {ended:?}", got.len());
        ended.expect("the end is orderly, not a reset");
        stream.shutdown(Shutdown::Both).ok();
        talking.join().unwrap();
    }
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn a_reader_that_stops_for_ever_does_not_keep_its_slot() {
    let tuning = Tuning { linger_ms: 200, ..small() };
    let node = Node::start("stuck-reader", 1, tuning);
    let mut stuck: Vec<TcpStream> = (0..10).map(|_| node.connect()).collect();
    for stream in &mut stuck {
        say(stream, "leave 9000000\n");
    }
    wait_until("the sends", || node.number("sends") == 10);
    node.wait_for("doors_open", 0);
    // One that reads slowly gets all of it, though the door was closed long ago.
    let mut slow = node.connect();
    say(&mut slow, "leave 3000000\n");
    let mut got = Vec::new();
    let mut piece = vec![0; 300_000];
    while got.len() < 3_000_000 {
        let count = slow.read(&mut piece).unwrap();
        assert!(count > 0, "cut off after {} bytes", got.len());
        got.extend_from_slice(&piece[..count]);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(got == pattern(3_000_000));
    assert_eq!(slow.read(&mut piece).unwrap(), 0);
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn peers_that_vanish_leave_nothing_behind() {
    let node = Node::start("vanish", 2, small());
    let heads: [&[u8]; 6] = [b"", b"ec", b"echo\n", b"pour 200000\n", b"sink\n", b"shard 1\nabc"];
    for round in 0..600 {
        let mut stream = node.connect();
        stream.write_all(heads[round % heads.len()]).unwrap();
        if round % 3 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
        if round % 2 == 0 {
            reset_on_close(&stream);
        }
        drop(stream);
    }
    node.wait_for("doors_open", 0);
    assert_eq!(node.number("toy_doors"), 0, "the core heard of every end");
    let mut stream = node.connect();
    say(&mut stream, "echo\nstill here");
    assert_eq!(read_exactly(&mut stream, 10), b"still here");
    node.stop();
}

/// Makes the close of this end a reset.
fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the pointer is to a linger and the size says so.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn accepting_survives_a_full_table() {
    let tuning = Tuning { table: Some(64), accepts: 16, ..small() };
    let node = Node::start("full", 1, tuning);
    let mut served = Vec::new();
    for _ in 0..55 {
        let mut stream = node.connect();
        say(&mut stream, "echo\nin");
        assert_eq!(read_exactly(&mut stream, 2), b"in");
        served.push(stream);
    }
    // These queue at the listener until there is room; none is dropped.
    let mut waiting: Vec<TcpStream> = (0..40).map(|_| node.connect()).collect();
    for stream in &mut waiting {
        say(stream, "echo\nin");
    }
    thread::sleep(Duration::from_millis(200));
    assert!(node.number("doors_open") <= 60, "a reserve is kept");
    assert_eq!(node.number("accept_errors"), 0, "no client was accepted into a full table");
    drop(served);
    for stream in &mut waiting {
        assert_eq!(read_exactly(stream, 2), b"in");
    }
    drop(waiting);
    node.wait_for("doors_open", 0);
    node.stop();
}

#[test]
fn a_storm_of_reconnects_mixes_up_nobody() {
    let tuning = Tuning { table: Some(256), ..small() };
    let node = Node::start("storm", 2, tuning);
    thread::scope(|scope| {
        for part in 0..5u32 {
            let listen = node.running.listen;
            scope.spawn(move || {
                for round in 0..1_000u32 {
                    let mut stream = connect(listen);
                    let text = format!("{part:4} {round:6}");
                    say(&mut stream, format!("echo\n{text}"));
                    assert_eq!(read_exactly(&mut stream, text.len()), text.as_bytes());
                    if round % 2 == 0 {
                        reset_on_close(&stream);
                    }
                }
            });
        }
    });
    node.wait_for("doors_open", 0);
    assert_eq!(node.number("accepts"), 5_000);
    assert_eq!(node.number("accept_errors"), 0);
    node.stop();
}

#[test]
fn a_drained_node_accepts_nobody() {
    let node = Node::start("drain", 2, small());
    let listen = node.running.listen;
    let mut stream = node.connect();
    say(&mut stream, "echo\nhi");
    assert_eq!(read_exactly(&mut stream, 2), b"hi");
    node.stop();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert!(TcpStream::connect(listen).is_err(), "nobody listens any more");
}
