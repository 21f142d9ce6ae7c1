//! A small core for the edge's own tests: it echoes, relays to other shards, moves, hands over, pours, pauses and closes, as its clients tell it.
//!
//! A connection's first line says what it wants: `echo`, `sink`, `shard N`, `http`, `pour N`, `pause MS`, `relay N`, `last N`. What follows is the matter.
#![allow(dead_code, reason = "every test binary uses a part")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run in real time, on real threads"
)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use journal::{Level, RecordRef, Recovered, Superblock};
use mail::{Letter, Order, Report};
use ringdesk_edge::disk::{Choice, Strategy};
use ringdesk_edge::metrics::{Kind, Name};
use ringdesk_edge::node::{self, Config, Running, Start, StartError, Tuning};
use ringdesk_edge::{Core, Recovery};
use shard::{Door, Effect, Input, Moved, Now};

/// What a door is doing.
#[derive(Default)]
struct Talk {
    generation: u32,
    peer: Option<SocketAddr>,
    /// The line is not complete yet.
    head: Vec<u8>,
    mode: Mode,
    out: VecDeque<Vec<u8>>,
    sending: bool,
    close_when_sent: bool,
    resume_at_ms: u64,
    paused: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Head,
    Echo,
    Sink,
    Relay(u16),
    Pause(u64),
}

/// Numbers that tests look at while the toy runs.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) bytes: AtomicU64,
    pub(crate) sent_some: AtomicU64,
    pub(crate) gone: AtomicU64,
    pub(crate) move_failed: AtomicU64,
    pub(crate) while_paused: AtomicU64,
}

pub(crate) struct Toy {
    config: Config,
    talks: Vec<Talk>,
    seen: Arc<Seen>,
    draining: bool,
}

pub(crate) struct ToyBuilder {
    config: Config,
    seen: Arc<Seen>,
}

impl Recovery for ToyBuilder {
    type Core = Toy;
    fn replay(&mut self, _: &RecordRef<'_>) {}
    fn findings(&self) -> Option<String> {
        None
    }
    fn start(self, _: Now, _: &Recovered, _: Superblock, effects: &mut Vec<Effect>) -> Toy {
        effects.push(Effect::Report(Report::Serving));
        Toy { config: self.config, talks: Vec::new(), seen: self.seen, draining: false }
    }
}

impl Toy {
    fn open(&mut self, door: Door, peer: SocketAddr) {
        let index = door.index as usize;
        if self.talks.len() <= index {
            self.talks.resize_with(index + 1, Talk::default);
        }
        assert!(door.generation > self.talks[index].generation, "generations rise");
        self.talks[index] = Talk { generation: door.generation, peer: Some(peer), ..Talk::default() };
    }

    fn talk(&mut self, door: Door) -> Option<&mut Talk> {
        let talk = self.talks.get_mut(door.index as usize)?;
        (talk.generation == door.generation && talk.peer.is_some()).then_some(talk)
    }

    fn forget(&mut self, door: Door) {
        if let Some(talk) = self.talk(door) {
            talk.peer = None;
            talk.out.clear();
        }
    }

    fn push(&mut self, door: Door, bytes: Vec<u8>, effects: &mut Vec<Effect>) {
        let Some(talk) = self.talk(door) else { return };
        if talk.sending {
            talk.out.push_back(bytes);
        } else {
            talk.sending = true;
            effects.push(Effect::Send { door, buf: bytes });
        }
    }

    fn received(&mut self, now: Now, door: Door, bytes: &[u8], effects: &mut Vec<Effect>) {
        self.seen.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some(talk) = self.talk(door) else { return };
        match talk.mode {
            Mode::Head => {
                talk.head.extend_from_slice(bytes);
                self.try_head(now, door, effects);
            }
            Mode::Echo => self.push(door, bytes.to_vec(), effects),
            Mode::Sink => {}
            Mode::Pause(ms) => {
                if talk.paused {
                    self.seen.while_paused.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                } else {
                    talk.paused = true;
                    talk.resume_at_ms = now.mono_ms + ms;
                    effects.push(Effect::Pause { door });
                }
                self.push(door, bytes.to_vec(), effects);
            }
            Mode::Relay(to) => self.relay(to, door, bytes, effects),
        }
    }

    /// Envelope of a relayed message: origin shard, door, a byte that says "back", the matter.
    fn relay(&mut self, to: u16, door: Door, bytes: &[u8], effects: &mut Vec<Effect>) {
        if to == self.config.shard {
            return self.push(door, bytes.to_vec(), effects);
        }
        let mut envelope = self.config.shard.to_le_bytes().to_vec();
        envelope.extend(door.index.to_le_bytes());
        envelope.extend(door.generation.to_le_bytes());
        envelope.push(0);
        envelope.extend(bytes);
        effects.push(Effect::Letter { to, letter: Letter::Spent(envelope) });
    }

    fn letter(&mut self, from: u16, letter: Letter, effects: &mut Vec<Effect>) {
        let Letter::Spent(mut envelope) = letter else { panic!("the toy posts nothing else") };
        if envelope[10] == 0 {
            envelope[10] = 1;
            effects.push(Effect::Letter { to: from, letter: Letter::Spent(envelope) });
        } else {
            let number = |at: usize| u32::from_le_bytes(envelope[at..at + 4].try_into().unwrap());
            let door = Door { index: number(2), generation: number(6) };
            self.push(door, envelope[11..].to_vec(), effects);
        }
    }

    fn try_head(&mut self, now: Now, door: Door, effects: &mut Vec<Effect>) {
        let shard = self.config.shard;
        let Some(talk) = self.talk(door) else { return };
        let Some(end) = talk.head.iter().position(|byte| *byte == b'\n') else { return };
        let line = String::from_utf8(talk.head[..end].to_vec()).unwrap();
        let rest = talk.head[end + 1..].to_vec();
        let (word, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = number.parse().unwrap();
        let peer = talk.peer.unwrap();
        match word {
            "echo" => talk.mode = Mode::Echo,
            "sink" => talk.mode = Mode::Sink,
            "relay" => talk.mode = Mode::Relay(number as u16),
            "pause" => talk.mode = Mode::Pause(number),
            "shard" if number == u64::from(shard) => {
                talk.mode = Mode::Echo;
                self.push(door, format!("at {shard}\n").into_bytes(), effects);
            }
            "shard" => {
                let bytes = std::mem::take(&mut talk.head);
                let moved = Box::new(Moved { peer, bytes, from_plane: false });
                self.forget(door);
                effects.push(Effect::Move { door, to: number as u16, moved });
                return;
            }
            "http" => {
                let bytes = std::mem::take(&mut talk.head);
                self.forget(door);
                effects.push(Effect::HandOver { door, peer, bytes });
                return;
            }
            "pour" => {
                talk.mode = Mode::Sink;
                for piece in pattern(number as usize).chunks(64 << 10) {
                    self.push(door, piece.to_vec(), effects);
                }
            }
            "last" => {
                talk.mode = Mode::Sink;
                talk.close_when_sent = true;
                self.push(door, pattern(number as usize), effects);
                self.push(door, b"goodbye".to_vec(), effects);
            }
            "leave" => {
                self.push(door, pattern(number as usize), effects);
                self.forget(door);
                effects.push(Effect::Close { door });
                return;
            }
            "stuck" => std::thread::sleep(Duration::from_secs(60)),
            "panic" => panic!("as the client wished"),
            "fence" => effects.push(Effect::Fence(shard::FenceCause::Journal("as the client wished".into()))),
            _ => panic!("unknown wish {line}"),
        }
        if !rest.is_empty() {
            self.received(now, door, &rest, effects);
        }
    }

    fn sent(&mut self, door: Door, whole: bool, effects: &mut Vec<Effect>) {
        let Some(talk) = self.talk(door) else { return };
        talk.sending = false;
        if !whole {
            return;
        }
        if let Some(next) = talk.out.pop_front() {
            talk.sending = true;
            effects.push(Effect::Send { door, buf: next });
        } else if talk.close_when_sent {
            self.forget(door);
            effects.push(Effect::Close { door });
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for (index, talk) in self.talks.iter_mut().enumerate() {
            if talk.peer.is_some() && talk.paused && now.mono_ms >= talk.resume_at_ms {
                talk.paused = false;
                talk.mode = Mode::Echo;
                effects
                    .push(Effect::Resume { door: Door { index: index as u32, generation: talk.generation } });
            }
        }
    }

    fn drain(&mut self, effects: &mut Vec<Effect>) {
        self.draining = true;
        effects.push(Effect::StopAccepting);
        for (index, talk) in self.talks.iter_mut().enumerate() {
            if talk.peer.take().is_some() {
                effects
                    .push(Effect::Close { door: Door { index: index as u32, generation: talk.generation } });
            }
        }
        effects.push(Effect::Report(Report::Sealed(journal::LogOffset(1))));
        effects.push(Effect::Stop);
    }
}

/// A shard that panics ends the process before anything is freed: the kernel may still be writing to it.
impl Drop for Toy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("a panic has unwound to the toy");
        }
    }
}

impl Core for Toy {
    fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Accepted { door, peer } => self.open(door, peer),
            Input::Arrived { door, moved } => {
                self.open(door, moved.peer);
                self.received(now, door, &moved.bytes, effects);
            }
            Input::MoveFailed { door, moved } => {
                self.seen.move_failed.fetch_add(1, Ordering::Relaxed);
                let talk = &mut self.talks[door.index as usize];
                assert_eq!(talk.generation, door.generation, "the same use of the slot");
                *talk = Talk { generation: door.generation, peer: Some(moved.peer), ..Talk::default() };
                talk.mode = Mode::Echo;
                self.push(door, b"stayed\n".to_vec(), effects);
            }
            Input::Received { door, buffer, size } => {
                assert!(buffer.len() >= size + 64, "padding for a SIMD parser");
                let bytes = buffer[..size].to_vec();
                self.received(now, door, &bytes, effects);
            }
            Input::SentSome { .. } => {
                self.seen.sent_some.fetch_add(1, Ordering::Relaxed);
            }
            Input::Sent { door, whole, .. } => self.sent(door, whole, effects),
            Input::Gone { door } => {
                self.seen.gone.fetch_add(1, Ordering::Relaxed);
                self.forget(door);
            }
            Input::Letter { from, letter } => self.letter(from, letter, effects),
            Input::Order(Order::Drain { .. }) => self.drain(effects),
            Input::Tick => self.tick(now, effects),
            Input::Rooms(rooms) => assert_eq!(rooms.len(), usize::from(self.config.shard_count)),
            _ => {}
        }
    }

    fn wants_turn(&self) -> bool {
        false
    }

    fn counter_names() -> Vec<Name> {
        vec![Name { name: "toy_doors", help: "Doors the toy knows.", kind: Kind::Gauge }]
    }

    fn counter_values(&mut self, out: &mut [u64]) {
        out[0] = self.talks.iter().filter(|talk| talk.peer.is_some()).count() as u64;
    }
}

/// Bytes in which a lost, doubled or swapped piece shows.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What the edge says goes through the log of whoever runs it: here one line an event, its level in front.
fn start_log() {
    struct Lines;
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            eprintln!("{} {}", record.level(), record.args());
        }
        fn flush(&self) {}
    }
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// A running toy node in a directory of its own.
pub(crate) struct Node {
    pub(crate) running: Running,
    pub(crate) seen: Arc<Seen>,
    pub(crate) dir: Dir,
}

/// The plan of a test node.
pub(crate) fn plan(dir: &Path, shards: usize, tuning: Tuning) -> Start {
    Start {
        data_dir: dir.to_owned(),
        lock: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        cores: (0..shards).map(|shard| (shard < 2).then_some(shard)).collect(),
        config: config(),
        level: Level::Disk,
        segment_size: 1 << 20,
        disk: Choice::Fixed(Strategy::WriteThenFlush),
        tuning,
    }
}

pub(crate) fn config() -> Config {
    Config {
        shard: 0,
        shard_count: 1,
        site: desk::id::SiteId::from_bits(1 << 112 | 7).unwrap(),
        epoch: 0,
        seed: [0; 32],
        mailbox_size: 0,
        hot_bytes_max: 1 << 20,
        session_count_max: 64,
        segment_count_max: 8,
        echo_path: None,
        echo_message_size_max: 0,
        echo_fragment_count_max: 0,
        server: "toy".into(),
    }
}

/// Small rings, so that a test's debug build starts at once.
pub(crate) fn small() -> Tuning {
    Tuning {
        table: Some(4_096),
        buffer_count: 256,
        submissions: 256,
        completions: 4_096,
        mailbox: 256,
        linger_ms: 1_000,
        ..Tuning::default()
    }
}

impl Node {
    pub(crate) fn start(name: &str, shards: usize, tuning: Tuning) -> Node {
        start_log();
        let dir = Dir::new(name);
        let seen = Arc::<Seen>::default();
        let running = start_toy(plan(dir.path(), shards, tuning), &seen).unwrap();
        Node { running, seen, dir }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.running.listen)
    }

    /// The sum of a number over all shards, fresh.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let index = self.running.names.iter().position(|it| it.name == name).expect("a number of that name");
        let turns = self.running.names.iter().position(|it| it.name == "turns").unwrap();
        self.running
            .ports
            .iter()
            .map(|port| {
                let before = port.gauges.value(turns);
                port.ask_gauges();
                wait_until("fresh numbers", || port.gauges.value(turns) > before);
                port.gauges.value(index)
            })
            .sum()
    }

    /// Waits until the numbers of all shards sum up to that.
    pub(crate) fn wait_for(&self, name: &str, value: u64) {
        wait_until(&format!("{name} = {value}"), || self.number(name) == value);
    }

    /// Drains all shards and waits for their threads.
    pub(crate) fn stop(mut self) {
        for port in &mut self.running.ports {
            port.post(Order::Drain { after_ms: 0, grace_ms: 0 }).unwrap();
        }
        let begin = Instant::now();
        self.running.join();
        assert!(begin.elapsed() < Duration::from_secs(5), "a drained node ends");
    }
}

pub(crate) fn start_toy(start: Start, seen: &Arc<Seen>) -> Result<Running, StartError> {
    let seen = Arc::clone(seen);
    node::start(start, move |config| ToyBuilder { config, seen: Arc::clone(&seen) })
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Reads exactly so many bytes.
pub(crate) fn read_exactly(stream: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

pub(crate) fn say(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).unwrap();
}

/// Waits up to twenty seconds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed at the end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Dir {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringdesk-edge-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
