//! A node in one thread: real shards, mailboxes that keep their order, disks that land at once, and clients that speak frames.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use desk::id::{AgentId, Entropy, InboxId, SiteId, Slot, VisitorId};
use desk::settings::{Agent, Inbox, Limits, Role, Settings, SigningKey};
use desk::token::{Ticket, sign_ticket};
use journal::{FileSlot, FileSlotId, Geometry, Level, LogOffset, Medium, Superblock};
use mail::Letter;
use ringdesk_shard::{Builder, Config, Door, Effect, Input, Now, Shard, StorageError};

/// Called around every step, so that a test can count what happens inside.
pub trait Probe {
    fn around<R>(&mut self, step: impl FnOnce() -> R) -> R;
}

pub struct NoProbe;
impl Probe for NoProbe {
    fn around<R>(&mut self, step: impl FnOnce() -> R) -> R {
        step()
    }
}

pub struct Client {
    pub shard: u16,
    pub door: Door,
    pub received: Vec<u8>,
    pub closed: bool,
    /// The shard asked not to be given its bytes.
    pub paused: bool,
    /// It does not read: what is sent to it stays with the kernel.
    pub holds: bool,
    /// What the kernel holds of it.
    pub held: Vec<Vec<u8>>,
}

pub struct Node<P: Probe> {
    pub probe: P,
    pub shards: Vec<Shard>,
    pub disks: Vec<Disk>,
    pub now: Now,
    mail: Vec<VecDeque<(u16, Letter)>>,
    effects: Vec<Effect>,
    ready: VecDeque<(u16, Effect)>,
    next_door: Vec<u32>,
    pub clients: Vec<Client>,
    pub inbox: InboxId,
    pub agent: AgentId,
    pub key: SigningKey,
    pub mailbox_size: u32,
    /// No segment can be prepared.
    pub disk_is_full: bool,
    /// Letters of this shard are not delivered for now.
    pub silent: Option<u16>,
}

/// The journal of one shard in memory: what was written, and zeros behind it.
#[derive(Clone)]
pub struct Disk {
    pub superblock: Superblock,
    pub segments: BTreeMap<u32, Vec<u8>>,
}

impl Disk {
    pub fn new(shard: u16, shard_count: u16, geometry: Geometry) -> Disk {
        let superblock = Superblock::new([3; 16], 5, shard, shard_count, geometry);
        Disk { superblock, segments: BTreeMap::new() }
    }

    fn write(&mut self, segment: u32, at: usize, bytes: &[u8]) {
        let file = self.segments.get_mut(&segment).expect("a segment is prepared before it is written");
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The byte at a place of the log.
    pub fn byte(&mut self, place: LogOffset) -> &mut u8 {
        let geometry = self.superblock.geometry;
        let file = self.segments.get_mut(&geometry.segment_of(place)).expect("it was written");
        &mut file[geometry.within(place) as usize]
    }
}

impl Medium for Disk {
    fn segments(&mut self) -> std::io::Result<Vec<FileSlot>> {
        let len = u64::from(self.superblock.geometry.segment_size);
        Ok(self.segments.keys().map(|&segment| FileSlot { id: FileSlotId(segment), len }).collect())
    }
    fn read_at(&mut self, slot: FileSlotId, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = u64::from(self.superblock.geometry.segment_size) - offset;
        let count = buf.len().min(left as usize);
        buf[..count].fill(0);
        let file = &self.segments[&slot.0];
        let stored = file.get(offset as usize..).unwrap_or(&[]);
        let stored = &stored[..stored.len().min(count)];
        buf[..stored.len()].copy_from_slice(stored);
        Ok(count)
    }
    fn len(&mut self, _: FileSlotId) -> std::io::Result<u64> {
        Ok(self.superblock.geometry.segment_size.into())
    }
}

const T0: u64 = 1_760_000_000_000;

pub fn settings(shard_count: u16) -> (Settings, AgentId, InboxId) {
    let mut entropy = Entropy::new([1; 32]);
    let slot = Slot::new(shard_count - 1).unwrap();
    let inbox = InboxId::mint(slot, &mut entropy);
    let agent = AgentId::mint(slot, &mut entropy);
    let limits = Limits {
        message_rate_per_s: 10_000,
        message_burst: 100_000,
        request_rate_per_s: 100_000,
        request_burst: 1_000_000,
        ..Limits::default()
    };
    let settings = Settings {
        version: 1,
        site: SiteId::mint(Slot::new(0).unwrap(), &mut entropy),
        keys: vec![SigningKey { id: 1, secret: [9; 32] }],
        inboxes: vec![Inbox { id: inbox, name: "Shop".into(), origins: vec![], enabled: true }],
        agents: vec![Agent {
            id: agent,
            name: "Ada".into(),
            role: Role::Agent,
            session_epoch: 1,
            capacity: 500,
            enabled: true,
        }],
        limits,
    };
    (settings, agent, inbox)
}

/// What shard `shard` of a test's node is given.
pub fn config(shard: u16, shard_count: u16, mailbox_size: u32, settings: &Settings) -> Config {
    Config {
        shard,
        shard_count,
        site: settings.site,
        epoch: 77,
        seed: [shard as u8; 32],
        mailbox_size,
        hot_bytes_max: 256 << 20,
        session_count_max: 100_000,
        segment_count_max: 1000,
        echo_path: Some("/echo".into()),
        echo_message_size_max: 1 << 20,
        echo_fragment_count_max: 1000,
        server: "ringdesk/test".into(),
    }
}

impl<P: Probe> Node<P> {
    pub fn new(shard_count: u16, probe: P) -> Node<P> {
        let geometry = Geometry { segment_size: 64 << 20, align: 512 };
        Node::on((0..shard_count).map(|shard| Disk::new(shard, shard_count, geometry)).collect(), probe)
    }

    /// Boots on journals, one for each shard.
    pub fn on(disks: Vec<Disk>, probe: P) -> Node<P> {
        Node::on_while_silent(disks, probe, None)
    }

    /// The same while the others hear nothing of one shard.
    pub fn on_while_silent(mut disks: Vec<Disk>, probe: P, silent: Option<u16>) -> Node<P> {
        let shard_count = disks.len() as u16;
        let (settings, agent, inbox) = settings(shard_count);
        let key = settings.keys[0].clone();
        let settings = Arc::new(settings);
        let now = Now { mono_ms: 1_000, wall_ms: T0 };
        let mut node = Node {
            probe,
            shards: Vec::new(),
            disks: Vec::new(),
            now,
            mail: (0..shard_count).map(|_| VecDeque::with_capacity(4096)).collect(),
            effects: Vec::with_capacity(1024),
            ready: VecDeque::with_capacity(1024),
            next_door: vec![0; usize::from(shard_count)],
            clients: Vec::new(),
            inbox,
            agent,
            key,
            mailbox_size: 1024,
            disk_is_full: false,
            silent,
        };
        for (shard, disk) in (0..).zip(&mut disks) {
            let config = config(shard, shard_count, node.mailbox_size, &settings);
            let mut builder = Builder::new(config, settings.clone());
            let superblock = disk.superblock.clone();
            let replay = &mut |record: journal::RecordRef<'_>| builder.replay(&record);
            let recovered = journal::recover(disk, &superblock, &[0; 16], replay).expect("it can be opened");
            let superblock = superblock.begin_boot(&recovered, [0; 16], Level::Disk);
            disk.superblock = superblock.clone();
            let started = builder.start(now, &recovered, superblock, &mut node.effects);
            node.shards.push(started);
            node.collect(shard);
        }
        node.disks = disks;
        node.run();
        node
    }

    fn collect(&mut self, shard: u16) {
        self.ready.extend(self.effects.drain(..).map(|effect| (shard, effect)));
    }

    pub fn step(&mut self, shard: u16, input: Input<'_>) {
        let (now, effects) = (self.now, &mut self.effects);
        let target = &mut self.shards[usize::from(shard)];
        self.probe.around(|| target.step(now, input, effects));
        self.collect(shard);
    }

    /// Runs turns until nothing moves any more.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            for shard in 0..self.shards.len() as u16 {
                let rooms = [self.mailbox_size; 64];
                self.step(shard, Input::Rooms(&rooms[..self.shards.len()]));
                while let Some((from, letter)) = self.next_letter(shard) {
                    moved = true;
                    self.step(shard, Input::Letter { from, letter });
                }
                self.step(shard, Input::EndOfTurn);
            }
            while let Some((shard, effect)) = self.ready.pop_front() {
                moved |= self.perform(shard, effect);
            }
            if !moved && !self.shards.iter().any(Shard::wants_turn) {
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    fn next_letter(&mut self, shard: u16) -> Option<(u16, Letter)> {
        let mail = &mut self.mail[usize::from(shard)];
        let at = mail.iter().position(|&(from, _)| Some(from) != self.silent)?;
        mail.remove(at)
    }

    fn perform(&mut self, shard: u16, effect: Effect) -> bool {
        match effect {
            Effect::Send { door, buf } => {
                if let Some(client) =
                    self.clients.iter_mut().find(|client| client.shard == shard && client.door == door)
                {
                    if client.holds {
                        client.held.push(buf);
                        return true;
                    }
                    client.received.extend_from_slice(&buf);
                }
                self.step(shard, Input::Sent { door, buf, whole: true });
            }
            Effect::Close { door } => {
                if let Some(client) =
                    self.clients.iter_mut().find(|client| client.shard == shard && client.door == door)
                {
                    client.closed = true;
                }
            }
            Effect::Move { door, to, moved } => {
                let target = self.door(to);
                if let Some(client) =
                    self.clients.iter_mut().find(|client| client.shard == shard && client.door == door)
                {
                    (client.shard, client.door) = (to, target);
                }
                self.step(to, Input::Arrived { door: target, moved });
            }
            Effect::Write { segment, at, buf } => {
                self.disks[usize::from(shard)].write(segment, at as usize, buf.as_bytes());
                self.step(shard, Input::Wrote { buf, result: Ok(()) });
            }
            Effect::WriteSuperblock(superblock) => {
                self.disks[usize::from(shard)].superblock = *superblock;
                self.step(shard, Input::WroteSuperblock { result: Ok(()) });
            }
            Effect::PrepareSegment { segment } if self.disk_is_full => {
                self.step(shard, Input::SegmentFailed { segment, error: StorageError::Full });
            }
            Effect::PrepareSegment { segment } => {
                self.disks[usize::from(shard)].segments.insert(segment, Vec::new());
                self.step(shard, Input::SegmentReady { segment });
            }
            Effect::Letter { to, letter } => self.mail[usize::from(to)].push_back((shard, letter)),
            Effect::Report(_) => return false,
            Effect::Pause { door } | Effect::Resume { door } => {
                if let Some(client) =
                    self.clients.iter_mut().find(|client| client.shard == shard && client.door == door)
                {
                    client.paused = matches!(effect, Effect::Pause { .. });
                }
            }
            Effect::HandOver { .. } | Effect::StopAccepting | Effect::Stop => {}
            Effect::Fence(cause) => panic!("fenced: {cause:?}"),
        }
        true
    }

    fn door(&mut self, shard: u16) -> Door {
        let index = self.next_door[usize::from(shard)];
        self.next_door[usize::from(shard)] += 1;
        Door { index, generation: 1 }
    }

    pub fn advance(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.now.mono_ms += 100;
            self.now.wall_ms += 100;
            for shard in 0..self.shards.len() as u16 {
                self.step(shard, Input::Tick);
            }
            self.run();
        }
    }

    pub fn connect(&mut self, shard: u16, path: &str) -> usize {
        let door = self.door(shard);
        self.clients.push(Client {
            shard,
            door,
            received: Vec::with_capacity(1 << 16),
            closed: false,
            paused: false,
            holds: false,
            held: Vec::new(),
        });
        let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
        self.step(shard, Input::Accepted { door, peer });
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ringdesk.v1.json\r\n\r\n"
        );
        let client = self.clients.len() - 1;
        self.raw(client, request.into_bytes());
        let client_ref = &mut self.clients[client];
        let head = client_ref.received.windows(4).position(|at| at == b"\r\n\r\n").expect("a response") + 4;
        assert!(
            client_ref.received.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&client_ref.received)
        );
        client_ref.received.drain(..head);
        client
    }

    pub fn raw(&mut self, client: usize, bytes: Vec<u8>) {
        self.receive(client, bytes);
        self.run();
    }

    /// Bytes arrive; the turn goes on.
    pub fn receive(&mut self, client: usize, mut bytes: Vec<u8>) {
        let size = bytes.len();
        bytes.resize(size + 64, 0);
        let (shard, door) = (self.clients[client].shard, self.clients[client].door);
        self.step(shard, Input::Received { door, buffer: &mut bytes, size });
    }

    /// A client that did not read reads.
    pub fn release(&mut self, client: usize) {
        self.clients[client].holds = false;
        let (shard, door) = (self.clients[client].shard, self.clients[client].door);
        for buf in core::mem::take(&mut self.clients[client].held) {
            self.clients[client].received.extend_from_slice(&buf);
            self.step(shard, Input::Sent { door, buf, whole: true });
        }
        self.run();
    }

    pub fn say(&mut self, client: usize, text: &str) {
        self.raw(client, masked(1, text.as_bytes()));
    }

    /// The text frames that arrived since the last call.
    pub fn heard(&mut self, client: usize) -> Vec<String> {
        let bytes = core::mem::take(&mut self.clients[client].received);
        let mut at = 0;
        let mut texts = Vec::new();
        while at < bytes.len() {
            let (opcode, mut size, mut head) = (bytes[at] & 15, usize::from(bytes[at + 1]), 2);
            if size == 126 {
                size = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
                head = 4;
            } else if size == 127 {
                size = u64::from_be_bytes(bytes[at + 2..at + 10].try_into().unwrap()) as usize;
                head = 10;
            }
            let payload = &bytes[at + head..at + head + size];
            match opcode {
                1 => texts.push(String::from_utf8(payload.to_vec()).unwrap()),
                8 => texts.push(format!("close {}", u16::from_be_bytes([payload[0], payload[1]]))),
                other => texts.push(format!("opcode {other}")),
            }
            at += head + size;
        }
        texts
    }

    pub fn visitor(&mut self, shard: u16) -> usize {
        let path = format!("/ws/v1/visitor?inbox={}", self.inbox);
        self.connect(shard, &path)
    }

    /// A visitor who has begun a conversation with a word; his token, and its id.
    pub fn begin(&mut self, shard: u16, device: &str, word: &str) -> (usize, String, String) {
        let visitor = self.visitor(shard);
        self.say(
            visitor,
            &format!(
                r#"{{"id":1,"op":"auth","d":{{"device":"{device}"}}}}
{{"id":2,"op":"start","d":{{"cid":"start-cid-0000000001","name":"Vera","first":{{"cid":"first-cid-0000000001","type":"text","body":"{word}"}}}}}}"#
            ),
        );
        let heard = self.heard(visitor);
        let answer = |re: &str| heard.iter().find(|text| text.contains(re)).expect("an answer");
        let (ready, started) = (answer("\"re\":1,"), answer("\"re\":2,"));
        (visitor, field(ready, "token").to_owned(), field(started, "c").to_owned())
    }

    pub fn ticket(&self) -> String {
        let ticket =
            Ticket { agent: self.agent, role: Role::Agent, session_epoch: 1, expires_at_s: T0 / 1000 + 3600 };
        let mut out = Vec::new();
        sign_ticket(std::slice::from_ref(&self.key), &ticket, &mut out);
        String::from_utf8(out).unwrap()
    }

    pub fn agent(&mut self, shard: u16) -> usize {
        let client = self.connect(shard, "/ws/v1/agent");
        let ticket = self.ticket();
        self.say(
            client,
            &format!(
                r#"{{"id":1,"op":"auth","d":{{"token":"{ticket}","device":"device-of-agent-{client:04}"}}}}"#
            ),
        );
        client
    }
}

pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        size @ 0..126 => out.push(0x80 | size as u8),
        size => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
    }
    let mask = [7, 77, 3, 201];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The value of a field of a reply, crudely.
pub fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\":");
    let from = text.find(&key).unwrap_or_else(|| panic!("no {name} in {text}")) + key.len();
    let rest = &text[from..];
    let end = match rest.strip_prefix('"') {
        Some(inner) => return &inner[..inner.find('"').unwrap()],
        None => rest.find([',', '}', ']']).unwrap(),
    };
    &rest[..end]
}

pub fn kind_of_visitor(text: &str) -> VisitorId {
    VisitorId::parse(text).expect("a visitor's id")
}
