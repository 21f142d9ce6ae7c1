//! A client: a visitor or a session of an agent, with everything that docs/protocol.md asks of one.

mod outbox;
mod stream;
mod talk;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::record::{Entry, Op, Role};
use crate::words::{self, Word};
use crate::world::{World, add};
use crate::ws::{Frame, Upgrade, Ws, WsError};
use outbox::Outbox;
use stream::{Stream, Verdict};

/// `ack` at the latest after so many durable events, or this time.
const ACK_EVENTS: u64 = 32;
const ACK_TIME: Duration = Duration::from_millis(900);
/// A `sync` or a `history` that is not answered is asked again.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Words under way at once; the server allows 256.
const FLYING_MAX: usize = 64;
/// Envelopes gathered in one frame stay below this.
const FRAME_BYTES: usize = 40 << 10;

/// A client and what it remembers between two sockets.
pub struct Client {
    id: u16,
    role: Role,
    world: Rc<World>,
    chance: Chance,
    device: String,
    token: Option<String>,
    slot: Option<u16>,
    session: Option<(String, String)>,
    p: u64,
    conversation: Option<u32>,
    streams: HashMap<u32, Stream>,
    known: usize,
    outbox: Outbox,
    next_k: u32,
    next_word_at: Instant,
    attempt: u32,
    come_back_at: Option<Instant>,
}

/// One socket of a client.
struct Line {
    ws: Ws,
    ready: bool,
    hb: Duration,
    next_re: u32,
    asked: HashMap<u32, Asked>,
    acked_p: u64,
    ack_at: Option<Instant>,
    ack_now: bool,
    heard_at: Instant,
    gathered: String,
}

/// What a reply answers.
enum Asked {
    Auth,
    Word(u32),
    Sync(Vec<u32>),
    History(u32),
}

/// How a socket ended.
enum End {
    Code(u16, String),
    Broken(WsError),
}

impl Client {
    /// A client that has never connected.
    pub fn new(id: u16, role: Role, world: Rc<World>) -> Client {
        let mut chance = Chance::new(world.manners.seed).fork(u64::from(id));
        world.note(&Entry::Client(id, role));
        world.unanswered.borrow_mut().insert(id, 0);
        let slot = (role == Role::Agent).then(|| id % world.manners.shards.max(1));
        Client {
            id,
            role,
            device: chance.hex(),
            chance,
            token: None,
            slot,
            session: None,
            p: 0,
            conversation: None,
            streams: HashMap::new(),
            known: 0,
            outbox: Outbox::default(),
            next_k: 1,
            next_word_at: Instant::now(),
            attempt: 0,
            come_back_at: None,
            world,
        }
    }

    /// Lives until the world stops.
    pub async fn live(mut self) {
        while !self.world.stop.get() {
            let end = self.connect().await;
            let wait = match &end {
                Some(end) => self.judge_end(end),
                None => return,
            };
            self.outbox.ground();
            let until = Instant::now() + wait;
            while Instant::now() < until && !self.world.stop.get() {
                let left = until.saturating_duration_since(Instant::now());
                tokio::time::sleep(left.min(Duration::from_millis(200))).await;
            }
        }
    }

    /// How long to wait before the next socket.
    fn judge_end(&mut self, end: &End) -> Duration {
        let (code, reason) = match end {
            End::Code(code, reason) => (*code, reason.as_str()),
            End::Broken(WsError::Broken(what)) => {
                self.complain(format!("broke RFC 6455: {what}"));
                (0, "")
            }
            End::Broken(WsError::Http(status, _)) => {
                self.world.ended(&format!("http {status}"));
                (0, "")
            }
            End::Broken(_) => (0, ""),
        };
        self.world.ended(&if code == 0 { "cut".to_owned() } else { code.to_string() });
        match code {
            4000..=4099 => {
                match reason.strip_prefix("slot=").and_then(|slot| slot.parse().ok()) {
                    Some(slot) => self.slot = Some(slot),
                    None => self.complain(format!("closed with {code} and no slot: {reason}")),
                }
                return Duration::ZERO;
            }
            1002 | 1003 | 1007 | 1009 | 1011 | 4111 | 4200..=4399 => {
                self.complain(format!("closed with {code}: {reason}"));
            }
            _ => {}
        }
        if let Some(at) = self.come_back_at.take() {
            return at.saturating_duration_since(Instant::now());
        }
        self.attempt += 1;
        let most = Duration::from_millis(500)
            .saturating_mul(1 << self.attempt.min(6))
            .min(self.world.manners.back_off_max);
        self.chance.time(most)
    }

    fn complain(&self, what: String) {
        self.world.complain(format!("client {} ({:?}): {what}", self.id, self.role));
    }

    fn path(&self) -> String {
        let slot = self.slot.map(|slot| format!("s={slot}")).unwrap_or_default();
        match self.role {
            Role::Visitor => format!("/ws/v1/visitor?inbox={}&{slot}", self.world.inbox.borrow()),
            Role::Agent => format!("/ws/v1/agent?{slot}"),
        }
    }

    async fn connect(&mut self) -> Option<End> {
        let upgrade = Upgrade::to(self.path());
        let ws = match Ws::connect(self.world.server.get(), &upgrade, &mut self.chance).await {
            Ok(ws) => ws,
            Err(error) => return Some(End::Broken(error)),
        };
        let now = Instant::now();
        let mut line = Line {
            ws,
            ready: false,
            hb: Duration::from_secs(25),
            next_re: 1,
            asked: HashMap::new(),
            acked_p: 0,
            ack_at: None,
            ack_now: false,
            heard_at: now,
            gathered: String::new(),
        };
        loop {
            if self.world.stop.get() {
                line.ws.close(1000, "");
                let _ = tokio::time::timeout(Duration::from_millis(500), line.ws.flush()).await;
                return None;
            }
            self.turn(&mut line);
            let wake = self.wake_at(&line).saturating_duration_since(Instant::now());
            match tokio::time::timeout(wake, line.ws.next()).await {
                Ok(Ok(frame)) => {
                    line.heard_at = Instant::now();
                    if let Some(end) = self.on_frame(&mut line, frame) {
                        return Some(end);
                    }
                }
                Ok(Err(error)) => return Some(End::Broken(error)),
                Err(_) if line.heard_at.elapsed() > line.hb + Duration::from_secs(10) => {
                    return Some(End::Code(4101, "the server is silent".to_owned()));
                }
                Err(_) => {}
            }
        }
    }

    /// When there is something to do even if nothing arrives.
    fn wake_at(&self, line: &Line) -> Instant {
        let mut at = Instant::now() + Duration::from_millis(200);
        if line.ready && self.world.talk.get() {
            at = at.min(self.next_word_at.max(Instant::now() + Duration::from_millis(2)));
        }
        if let Some(ack_at) = line.ack_at {
            at = at.min(ack_at);
        }
        at
    }

    fn on_frame(&mut self, line: &mut Line, frame: Frame) -> Option<End> {
        match frame {
            Frame::Text(text) => {
                for envelope in text.split('\n') {
                    match serde_json::from_str::<Value>(envelope) {
                        Ok(envelope) => self.on_envelope(line, &envelope),
                        Err(error) => {
                            self.complain(format!("was told what is no JSON ({error}): {envelope}"))
                        }
                    }
                }
                None
            }
            Frame::Binary(_) => {
                self.complain("was told something binary".to_owned());
                None
            }
            Frame::Ping(_) | Frame::Pong(_) => None,
            Frame::Close(code, reason) => {
                line.ws.close(code, "");
                Some(End::Code(code, reason))
            }
        }
    }

    fn on_envelope(&mut self, line: &mut Line, envelope: &Value) {
        if let Some(re) = envelope["re"].as_u64() {
            return self.on_reply(line, re as u32, envelope);
        }
        let d = &envelope["d"];
        match envelope["op"].as_str() {
            None if envelope.as_object().is_some_and(serde_json::Map::is_empty) => line.ws.text("{}"),
            None => self.complain(format!("was told an envelope without op: {envelope}")),
            Some("hello") => self.on_hello(line, d),
            Some(op @ ("msg" | "note" | "agent" | "status")) => self.on_numbered(line, op, envelope),
            Some("sync") => self.on_sync(envelope),
            Some("lag") => {
                if d["p"].as_u64() != Some(self.p) {
                    self.complain(format!("was told p {} by lag and counted {}", d["p"], self.p));
                }
                line.ack_now = true;
            }
            Some("goaway") => {
                let after = Duration::from_millis(d["after_ms"].as_u64().unwrap_or(1_000));
                // The server has spread it already.
                self.come_back_at = Some(Instant::now() + after);
            }
            Some("history_lost") => {
                add(&self.world.counts.lost, 1);
                self.on_lost(envelope);
            }
            Some(
                "typing" | "seen" | "delivered" | "presence" | "queue" | "offer" | "offer_gone" | "list"
                | "conv" | "avail" | "notice",
            ) => {}
            Some(op) => self.complain(format!("was told the unknown {op}")),
        }
    }

    fn on_hello(&mut self, line: &mut Line, d: &Value) {
        if d["level"].as_str() != Some(self.world.manners.level) {
            self.complain(format!("hello names the level {}", d["level"]));
        }
        line.hb = Duration::from_millis(d["hb_ms"].as_u64().unwrap_or(25_000));
        let mut auth = json!({ "device": self.device });
        let token = match self.role {
            Role::Visitor => self.token.clone(),
            Role::Agent => Some(self.world.ticket.borrow().clone()),
        };
        if let Some(token) = token {
            auth["token"] = token.into();
        }
        if let Some((sid, epoch)) = &self.session {
            auth["last"] = json!({ "sid": sid, "epoch": epoch, "p": self.p });
        }
        line.ask("auth", &auth, Asked::Auth);
        // First words may travel with `auth`.
        if self.role == Role::Visitor && self.conversation.is_none() && self.chance.often(500) {
            self.say_start(line);
        }
    }

    fn on_ready(&mut self, line: &mut Line, d: &Value) {
        let text = |name: &str| d[name].as_str().unwrap_or_default().to_owned();
        let resumed = d["resumed"] == true;
        let p = d["p"].as_u64().unwrap_or(u64::MAX);
        if resumed {
            add(&self.world.counts.resumed, 1);
            add(&self.world.counts.replayed, d["replay"].as_u64().unwrap_or(0));
            if p != self.p {
                self.complain(format!("resumed at p {p}, counted {}", self.p));
            }
        }
        add(&self.world.counts.connects, 1);
        self.attempt = 0;
        self.p = p;
        line.acked_p = p;
        self.session = Some((text("sid"), text("epoch")));
        self.slot = d["slot"].as_u64().map(|slot| slot as u16);
        if self.role == Role::Visitor {
            self.token = Some(text("token"));
            self.world.tokens.borrow_mut().insert(self.id, text("token"));
        } else if let Some(slot) = self.slot {
            self.world.doors.borrow_mut().insert(self.id, slot);
        }
        for stream in self.streams.values_mut() {
            stream.on_reconnected(resumed);
        }
        if let Some(conv) = self.conversation {
            let head = &d["heads"][0];
            let id = &self.world.conversations.borrow()[conv as usize].id;
            if head["c"].as_str() != Some(id) {
                self.world
                    .complain(format!("visitor {}: ready does not name his conversation: {d}", self.id));
            }
        }
        if self.role == Role::Agent {
            // Who has said nothing takes nothing. Busy: no offers, conversations are accepted by hand.
            line.tell("avail", &json!({ "state": "busy", "cap": 500 }));
        }
        line.ready = true;
    }

    fn on_reply(&mut self, line: &mut Line, re: u32, envelope: &Value) {
        let Some(asked) = line.asked.remove(&re) else {
            return self.complain(format!("was told a reply to nothing: {envelope}"));
        };
        let (d, err) = (&envelope["d"], &envelope["err"]);
        if err.is_object() {
            let code = err["code"].as_str().unwrap_or("none").to_owned();
            *self.world.refusals.borrow_mut().entry(code.clone()).or_default() += 1;
            let after = Duration::from_millis(err["after_ms"].as_u64().unwrap_or(300));
            match asked {
                Asked::Word(k) => self.on_refused(k, &code, err["retry"] == true, after),
                Asked::Sync(convs) => convs.iter().for_each(|conv| self.stream(*conv).ask_later(after)),
                Asked::History(conv) => self.stream(conv).ask_later(after),
                Asked::Auth => self.complain(format!("auth was refused: {err}")),
            }
            return;
        }
        match asked {
            Asked::Auth => self.on_ready(line, d),
            Asked::Word(k) => self.on_stored(k, d),
            Asked::History(conv) => self.on_history(conv, d),
            Asked::Sync(_) => {}
        }
    }

    fn on_stored(&mut self, k: u32, d: &Value) {
        let word = Word { client: self.id, k };
        let Some(item) = self.outbox.take(k) else { return };
        if d["level"].as_str() != Some(self.world.manners.level) {
            self.complain(format!("{word:?} was acknowledged at the level {}", d["level"]));
        }
        let Some(s) = d["s"].as_u64().map(|s| s as u32) else {
            return self.complain(format!("{word:?} was acknowledged without a number: {d}"));
        };
        let conv = match item.conv {
            Some(conv) => conv,
            None => {
                let id = d["c"].as_str().unwrap_or_default();
                let conv = self.world.open(id, self.id, self.slot.unwrap_or(0));
                self.conversation = Some(conv);
                self.streams.insert(conv, Stream::default());
                self.world.note(&Entry::Said(word, conv, item.op, item.hash));
                conv
            }
        };
        let dup = d["dup"] == true;
        self.world.note(&Entry::Acked(word, conv, s, item.op, dup));
        self.world.acked_at.set(Instant::now());
        let counts = &self.world.counts;
        add(&counts.acked, 1);
        add(&counts.dups, u64::from(dup));
        if matches!(item.op, Op::Message | Op::Note) {
            add(&counts.messages, 1);
            let conversation = &self.world.conversations.borrow()[conv as usize];
            let home = self.world.shard(conversation.slot);
            let door = match self.role {
                Role::Agent => self.slot,
                Role::Visitor => self.world.doors.borrow().get(&conversation.agent).copied(),
            };
            add(&counts.crossed, u64::from(door.is_some_and(|door| self.world.shard(door) != home)));
        }
        self.stream(conv).hint(s);
        self.count_unanswered();
    }

    fn on_refused(&mut self, k: u32, code: &str, retry: bool, after: Duration) {
        let word = Word { client: self.id, k };
        if retry {
            add(&self.world.counts.refused, 1);
            self.world.note(&Entry::Refused(word, code.to_owned()));
            self.outbox.again(k, Instant::now() + after);
        } else {
            add(&self.world.counts.dropped, 1);
            self.world.note(&Entry::Dropped(word, code.to_owned()));
            let Some(item) = self.outbox.take(k) else { return };
            // Agents may find the conversation closed, reopened or taken; anything else is a bug on one side.
            let usual = matches!((self.role, code), (Role::Agent, "closed" | "not_owner" | "stale"))
                || (item.op == Op::Close && code == "closed");
            if !usual {
                self.complain(format!("{:?} {word:?} was refused for good: {code}", item.op));
            }
            if item.op == Op::Accept {
                self.stream(item.conv.unwrap_or(0)).ask_later(Duration::from_millis(50));
            }
        }
        self.count_unanswered();
    }

    fn count_unanswered(&self) {
        self.world.unanswered.borrow_mut().insert(self.id, self.outbox.count());
    }

    fn stream(&mut self, conv: u32) -> &mut Stream {
        self.streams.entry(conv).or_default()
    }

    fn conv_of(&self, envelope: &Value) -> Option<u32> {
        let id = envelope["c"].as_str().unwrap_or_default();
        let conv = self.world.by_id.borrow().get(id).copied();
        conv.filter(|conv| self.streams.contains_key(conv))
    }

    fn on_numbered(&mut self, line: &mut Line, op: &str, envelope: &Value) {
        self.p += 1;
        line.ack_at.get_or_insert(Instant::now() + ACK_TIME);
        let Some(conv) = self.conv_of(envelope) else {
            return self.complain(format!("was told of a conversation it does not listen to: {envelope}"));
        };
        if op == "note" && self.role == Role::Visitor {
            self.complain(format!("a visitor was told a note: {envelope}"));
        }
        let s = envelope["s"].as_u64().unwrap_or(0) as u32;
        self.hear(conv, s, op, &envelope["d"]);
        let stream = self.stream(conv);
        match stream.on_number(s) {
            Verdict::Next => {
                stream.on_status(op, &envelope["d"]);
                let last = stream.last;
                self.world.reached.borrow_mut().insert((self.id, conv), last);
            }
            Verdict::Known => {}
            Verdict::Gap => add(&self.world.counts.gaps, 1),
        }
    }

    fn hear(&self, conv: u32, s: u32, op: &str, d: &Value) {
        add(&self.world.counts.heard, 1);
        self.world.note(&Entry::Heard(self.id, conv, s, words::content(op, d)));
    }

    fn on_sync(&mut self, envelope: &Value) {
        let Some(conv) = self.conv_of(envelope) else {
            return self.complain(format!("was told a sync it did not ask for: {envelope}"));
        };
        if envelope["err"].is_object() {
            if envelope["err"]["retry"] != true {
                self.complain(format!("sync was refused: {envelope}"));
            }
            return self.stream(conv).ask_later(Duration::from_millis(300));
        }
        if let Err(what) = self.stream(conv).on_sync(&envelope["d"]) {
            self.complain(format!("conversation {conv}: {what}: {envelope}"));
        }
        let last = self.stream(conv).last;
        self.world.reached.borrow_mut().insert((self.id, conv), last);
    }

    fn on_history(&mut self, conv: u32, d: &Value) {
        let events = d["events"].as_array().cloned().unwrap_or_default();
        let mut lowest = u32::MAX;
        for event in &events {
            let s = event["s"].as_u64().unwrap_or(0) as u32;
            lowest = lowest.min(s);
            self.hear(conv, s, event["op"].as_str().unwrap_or_default(), &event["d"]);
        }
        let stream = self.stream(conv);
        stream.asked_history = None;
        if events.is_empty() && stream.hole.is_some() {
            self.complain(format!("conversation {conv}: history is empty where events are missing"));
            self.stream(conv).hole = None;
        } else if let Some((from, _)) = stream.hole {
            stream.hole = (lowest > from).then(|| (from, lowest - 1));
        }
    }

    fn on_lost(&mut self, envelope: &Value) {
        // It stands where events would have stood, and counts like all of them.
        let number = |name: &str| envelope["d"][name].as_u64().unwrap_or(0);
        self.p += (number("to") + 1).saturating_sub(number("from"));
        if self.world.manners.level == "disk" {
            self.complain(format!("history is lost: {envelope}"));
        }
        if let Some(conv) = self.conv_of(envelope) {
            let stream = self.stream(conv);
            stream.last =
                stream.last.min((envelope["d"]["from"].as_u64().unwrap_or(1) as u32).saturating_sub(1));
            stream.wanted = true;
        }
    }
}

impl Line {
    fn ask(&mut self, op: &str, d: &Value, asked: Asked) {
        let id = self.next_re;
        self.next_re += 1;
        self.asked.insert(id, asked);
        self.gather(&json!({ "id": id, "op": op, "d": d }).to_string());
    }

    fn tell(&mut self, op: &str, d: &Value) {
        self.gather(&json!({ "op": op, "d": d }).to_string());
    }

    fn gather(&mut self, envelope: &str) {
        if self.gathered.len() + envelope.len() > FRAME_BYTES {
            self.flush();
        }
        if !self.gathered.is_empty() {
            self.gathered.push('\n');
        }
        self.gathered.push_str(envelope);
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            let text = core::mem::take(&mut self.gathered);
            self.ws.text(&text);
        }
    }
}
