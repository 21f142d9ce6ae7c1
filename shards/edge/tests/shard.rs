//! The real shard on the real edge: visitors speak over sockets, the disk acknowledges, a second start finds it all.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

mod common;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use common::{Dir, plan, read_exactly, say, small, wait_until};
use desk::id::{Entropy, InboxId, SiteId, Slot};
use desk::settings::{Inbox, Limits, Settings, SigningKey};
use mail::{Order, Report};
use ringdesk_edge::disk::{Choice, Strategy};
use ringdesk_edge::metrics;
use ringdesk_edge::node::{self, Running, Start};

fn settings() -> Arc<Settings> {
    let mut entropy = Entropy::new([1; 32]);
    let inbox = InboxId::mint(Slot::new(0).unwrap(), &mut entropy);
    let limits = Limits { message_rate_per_s: 10_000, message_burst: 100_000, ..Limits::default() };
    Arc::new(Settings {
        version: 1,
        site: SiteId::mint(Slot::new(0).unwrap(), &mut entropy),
        keys: vec![SigningKey { id: 1, secret: [9; 32] }],
        inboxes: vec![Inbox { id: inbox, name: "Shop".into(), origins: vec![], enabled: true }],
        agents: vec![],
        limits,
    })
}

fn start(dir: &Dir, shards: usize, strategy: Strategy) -> Running {
    let settings = settings();
    let mut plan = Start { disk: Choice::Fixed(strategy), ..plan(dir.path(), shards, small()) };
    plan.config.site = settings.site;
    plan.config.hot_bytes_max = 64 << 20;
    plan.config.session_count_max = 10_000;
    plan.config.segment_count_max = 64;
    plan.config.echo_path = Some("/echo".into());
    plan.config.echo_message_size_max = 1 << 20;
    plan.config.echo_fragment_count_max = 100;
    node::start(plan, move |config| node::Builder::new(config, Arc::clone(&settings))).unwrap()
}

fn stop(mut running: Running) {
    for port in &mut running.ports {
        port.post(Order::Drain { after_ms: 0, grace_ms: 100 }).unwrap();
    }
    let mut sealed = 0;
    let count = running.ports.len();
    wait_until("seals", || {
        for port in &mut running.ports {
            port.reports.drain(|report| sealed += usize::from(matches!(report, Report::Sealed(_))));
        }
        sealed == count
    });
    running.join();
}

/// A number of the core, summed over the shards.
fn number(running: &Running, name: &str) -> u64 {
    let index = metrics::names().iter().position(|it| it.name == name).expect("a number of that name");
    running.ports.iter().map(|port| port.gauges.value(index)).sum()
}

/// A client that speaks frames.
struct Client {
    stream: TcpStream,
    heard: VecDeque<String>,
}

impl Client {
    fn upgrade(to: SocketAddr, path: &str) -> Client {
        let mut stream = common::connect(to);
        say(
            &mut stream,
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: ringdesk.v1.json\r\n\r\n"
            ),
        );
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(read_exactly(&mut stream, 1));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Client { stream, heard: VecDeque::new() }
    }

    fn say(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match text.len() {
            size @ 0..126 => frame.push(0x80 | size as u8),
            size => {
                frame.push(0x80 | 126);
                frame.extend((size as u16).to_be_bytes());
            }
        }
        let mask = [7, 77, 3, 201];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        say(&mut self.stream, frame);
    }

    fn hear(&mut self) -> String {
        let head = read_exactly(&mut self.stream, 2);
        let size = match usize::from(head[1]) {
            126 => usize::from(u16::from_be_bytes(read_exactly(&mut self.stream, 2).try_into().unwrap())),
            size => size,
        };
        assert_eq!(head[0], 0x81, "a text frame");
        String::from_utf8(read_exactly(&mut self.stream, size)).unwrap()
    }

    /// The reply to request `id`; other messages on the way are dropped.
    fn reply(&mut self, id: u32) -> String {
        let wanted = format!("\"re\":{id}");
        loop {
            while let Some(text) = self.heard.pop_front() {
                if text.split([',', '}']).any(|part| part.ends_with(&wanted)) {
                    return text;
                }
            }
            self.heard = self.hear().lines().map(str::to_owned).collect();
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\":");
    let rest = &text[text.find(&key).unwrap_or_else(|| panic!("no {name} in {text}")) + key.len()..];
    match rest.strip_prefix('"') {
        Some(inner) => &inner[..inner.find('"').unwrap()],
        None => &rest[..rest.find([',', '}', ']']).unwrap()],
    }
}

fn visitors_are_acknowledged_by_the_disk(shards: usize, strategy: Strategy) {
    let dir = Dir::new("shard");
    let running = start(&dir, shards, strategy);
    let path = format!("/ws/v1/visitor?inbox={}", settings().inboxes[0].id);
    let visitors = 6;
    let mut clients = Vec::new();
    for visitor in 0..visitors {
        let mut client = Client::upgrade(running.listen, &path);
        client.say(&format!(
            r#"{{"id":1,"op":"auth","d":{{"device":"device-of-visitor-{visitor}"}}}}
{{"id":2,"op":"start","d":{{"cid":"start-cid-000000000{visitor}","name":"Vera","first":{{"cid":"first-cid-000000000{visitor}","type":"text","body":"hello"}}}}}}"#
        ));
        let started = client.reply(2);
        assert_eq!((field(&started, "s"), field(&started, "level")), ("1", "disk"));
        let c = field(&started, "c").to_owned();
        for id in 3..=40 {
            client.say(&format!(
                r#"{{"id":{id},"op":"send","d":{{"c":"{c}","cid":"v-{visitor}-cid-00000000{id:04}","type":"text","body":"word {id}"}}}}"#
            ));
            let stored = client.reply(id);
            assert_eq!(field(&stored, "s"), (id - 1).to_string(), "{stored}");
        }
        clients.push(client);
    }
    drop(clients);
    stop(running);
    let running = start(&dir, shards, strategy);
    wait_until("what was acknowledged", || number(&running, "conversations") == visitors);
    for boot in &running.boots {
        assert!(boot.recovered.sealed && boot.recovered.damage.is_empty(), "{:?}", boot.recovered);
    }
    stop(running);
}

#[test]
fn visitors_are_acknowledged_by_the_disk_on_one_shard() {
    visitors_are_acknowledged_by_the_disk(1, Strategy::Overwrite);
}

#[test]
fn visitors_are_acknowledged_by_the_disk_on_two_shards() {
    visitors_are_acknowledged_by_the_disk(2, Strategy::WriteThenFlush);
}

#[test]
fn visitors_are_acknowledged_by_the_disk_on_three_shards() {
    visitors_are_acknowledged_by_the_disk(3, Strategy::Overwrite);
}

#[test]
fn the_echo_path_runs_frames_through_the_ring() {
    let dir = Dir::new("echo-path");
    let running = start(&dir, 2, Strategy::WriteThenFlush);
    let mut client = Client::upgrade(running.listen, "/echo");
    for round in 0..50 {
        let text = format!("round {round} ").repeat(round * 20 + 1);
        client.say(&text);
        assert!(client.hear() == text);
    }
    let mut plain = common::connect(running.listen);
    say(&mut plain, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("a hand-over", || running.hand_overs.count() == 1);
    drop(client);
    stop(running);
}
