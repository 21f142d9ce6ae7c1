//! A connection that is logged in: what it says, what it is told, and how it comes back after a cut.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use crate::chat::{Chat, GREETING};
use crate::clock::now_ns;
use crate::conn::{self, Conn, Ear, End};
use crate::json::{field, is_numbered};
use crate::scenario::{Storm, is_among};
use crate::verify::{Body, Stream};
use crate::worker::Run;

const PROTOCOL: &str = "ringdesk.v1.json";
/// Numbered events that are told before they are acknowledged.
const ACK_EVERY: u64 = 32;
/// Longest wait for one answer while everybody logs in.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a reader who does not read well: bytes that his kernel takes for him (it doubles them for its own account).
const SMALL_BUFFER: u32 = 4096;
/// From one read of a slow reader, of a kilobyte, to the next.
const SLOW_PAUSE: Duration = Duration::from_secs(1);
/// Longest time that somebody who was cut tries to come back.
const COME_BACK: Duration = Duration::from_secs(60);
/// Longest wait before the next attempt (protocol: full jitter, 0.5 s to 20 s).
const BACK_OFF_MS: [u64; 6] = [500, 1_000, 2_000, 4_000, 8_000, 16_000];

/// A message that is not answered.
pub(crate) struct Waiting {
    pub(crate) re: u32,
    pub(crate) intended_ns: u64,
    pub(crate) chat: Rc<Chat>,
    pub(crate) number: u64,
}

/// How somebody reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// As fast as it comes.
    Well,
    /// A kilobyte a second.
    Slowly,
    /// Not at all, once the run has begun.
    Not,
}

/// What a connection that comes back says of the one before.
#[derive(Default)]
struct Session {
    sid: String,
    epoch: String,
    token: String,
}

/// A connection that is logged in.
pub(crate) struct Member {
    /// None before it has connected for the first time.
    conn: RefCell<Option<Rc<Conn>>>,
    /// Rises with each cut and each new connection: what an older one still tells does not count.
    generation: Cell<u32>,
    pub(crate) is_agent: bool,
    number: u32,
    slot: Cell<u16>,
    pub(crate) reading: Reading,
    /// It has said that it leaves: its end is no fault.
    pub(crate) leaves: Cell<bool>,
    /// It was cut and is not back.
    away: Cell<bool>,
    session: RefCell<Session>,
    /// Messages that are not answered.
    waiting: RefCell<VecDeque<Waiting>>,
    next_re: Cell<u32>,
    /// Answers to what the set-up asked, by number.
    answers: RefCell<HashMap<u32, String>>,
    told: Cell<u64>,
    acked: Cell<u64>,
    /// Notices, by the number in them.
    pub(crate) notices: RefCell<Stream>,
    pub(crate) chats: RefCell<HashMap<String, Rc<Chat>>>,
    /// Bytes sent on earlier connections.
    said_before: Cell<u64>,
}

impl Member {
    /// Connects and logs in; how long that took is kept under `timed`.
    ///
    /// # Errors
    /// In words: what the host or the server did instead.
    pub(crate) async fn enter(
        run: &Rc<Run>,
        is_agent: bool,
        number: u32,
        timed: &str,
    ) -> Result<Rc<Member>, String> {
        let reading = if is_agent { Reading::Well } else { run.share.reading(number) };
        let member = Rc::new(Member {
            conn: RefCell::new(None),
            generation: Cell::new(0),
            is_agent,
            number,
            slot: Cell::new(0),
            reading,
            leaves: Cell::new(false),
            away: Cell::new(false),
            session: RefCell::default(),
            waiting: RefCell::default(),
            next_re: Cell::new(1),
            answers: RefCell::default(),
            told: Cell::new(0),
            acked: Cell::new(0),
            notices: RefCell::default(),
            chats: RefCell::default(),
            said_before: Cell::new(0),
        });
        let began = now_ns();
        let (ear, _) = member.log_in(run).await.map_err(|error| format!("{}: {error}", member.who()))?;
        {
            let mut figures = run.figures.borrow_mut();
            figures.counts.connected += 1;
            figures.time(timed, now_ns() - began);
        }
        monoio::spawn(Rc::clone(&member).listen(Rc::clone(run), ear));
        Ok(member)
    }

    fn who(&self) -> String {
        format!("{} {}", if self.is_agent { "agent" } else { "visitor" }, self.number)
    }

    /// One attempt: a new connection, its login, and whether the session before was resumed.
    async fn log_in(self: &Rc<Self>, run: &Rc<Run>) -> Result<(Ear, bool), String> {
        let share = &run.share;
        let mut path = match self.is_agent {
            true => "/ws/v1/agent?".to_owned(),
            false => format!("/ws/v1/visitor?inbox={}&", share.target.inbox),
        };
        // Who was here before knows where he belongs.
        if self.conn.borrow().is_some() {
            let _ = write!(path, "s={}", self.slot.get());
        }
        let seed = self.number.wrapping_mul(0x9E37_79B9) ^ share.worker;
        let small = (self.reading != Reading::Well).then_some(SMALL_BUFFER);
        let way = conn::Way { from: share.source(self.number), to: share.target.address, small };
        let (conn, mut ear) =
            conn::open(way, &path, PROTOCOL, seed).await.map_err(|end: End| end.to_string())?;
        if let Some(before) = self.conn.replace(Some(Rc::clone(&conn))) {
            self.said_before.set(self.said_before.get() + before.said());
        }
        self.generation.set(self.generation.get() + 1);
        conn.text(&self.auth(run));
        let ready = RefCell::new(None);
        while ready.borrow().is_none() {
            // What was missed may follow in the same packet.
            ear.listen(&conn, |text| {
                if ready.borrow().is_some() {
                    self.heard(run, text);
                } else if text.starts_with("{\"re\":0,") {
                    *ready.borrow_mut() = Some(self.welcome(text));
                }
            })
            .await
            .map_err(|end| end.to_string())?;
        }
        let resumed = ready.into_inner().expect("it was told")?;
        Ok((ear, resumed))
    }

    fn auth(&self, run: &Run) -> String {
        let share = &run.share;
        let session = self.session.borrow();
        let mut text = "{\"id\":0,\"op\":\"auth\",\"d\":{".to_owned();
        if self.is_agent {
            // Sessions of all workers share the accounts evenly: each has the capacity for so many sessions.
            let number = self.number * share.workers + share.worker;
            let tickets = &share.target.tickets;
            let account = (number / share.scenario.sessions_per_agent()) as usize % tickets.len();
            let _ = write!(text, "\"token\":\"{}\",", tickets[account]);
        } else if !session.token.is_empty() {
            let _ = write!(text, "\"token\":\"{}\",", session.token);
        }
        if !session.sid.is_empty() {
            let (sid, epoch, p) = (&session.sid, &session.epoch, self.told.get());
            let _ = write!(text, "\"last\":{{\"sid\":\"{sid}\",\"epoch\":\"{epoch}\",\"p\":{p}}},");
        }
        let who = if self.is_agent { "agent" } else { "visitor" };
        let _ = write!(text, "\"device\":\"bench-{who}-{:04}-{:08}\"}}}}", share.worker, self.number);
        text
    }

    /// Takes the answer to `auth`: whether the session before goes on.
    fn welcome(&self, text: &str) -> Result<bool, String> {
        let slot = field(text, "slot").and_then(|slot| slot.parse().ok());
        let (Some(slot), false) = (slot, text.contains("\"err\":")) else {
            return Err(format!("auth: {text}"));
        };
        self.slot.set(slot);
        let resumed = field(text, "resumed") == Some("true");
        if !resumed {
            self.told.set(field(text, "p").and_then(|p| p.parse().ok()).unwrap_or(0));
            self.acked.set(self.told.get());
        }
        let of = |name: &str| field(text, name).unwrap_or_default().to_owned();
        let mut session = self.session.borrow_mut();
        (session.sid, session.epoch) = (of("sid"), of("epoch"));
        if session.token.is_empty() && !self.is_agent {
            session.token = of("token");
        }
        Ok(resumed)
    }

    fn conn(&self) -> Ref<'_, Rc<Conn>> {
        Ref::map(self.conn.borrow(), |conn| conn.as_ref().expect("it has connected"))
    }

    /// Sends a text on the newest connection.
    pub(crate) fn text(&self, text: &str) {
        self.conn().text(text);
    }

    /// Says that it leaves.
    pub(crate) fn leave(&self) {
        self.leaves.set(true);
        self.conn().say(crate::frame::Kind::Close, |out| out.extend_from_slice(&1000u16.to_be_bytes()));
    }

    /// Bytes that were sent.
    pub(crate) fn said(&self) -> u64 {
        self.said_before.get() + self.conn().said()
    }

    /// Its shard, if the number of shards is known.
    pub(crate) fn shard(&self, run: &Run) -> Option<u16> {
        run.share.target.shards.map(|shards| self.slot.get() % shards)
    }

    /// A number for a request.
    pub(crate) fn re(&self) -> u32 {
        let re = self.next_re.get();
        self.next_re.set(re + 1);
        re
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// It does not come.
    pub(crate) async fn ask(&self, op: &str, d: &str) -> Result<String, String> {
        let re = self.re();
        self.text(&format!("{{\"id\":{re},\"op\":\"{op}\",\"d\":{d}}}"));
        let until = now_ns() + PATIENCE.as_nanos() as u64;
        loop {
            if let Some(answer) = self.answers.borrow_mut().remove(&re) {
                return Ok(answer);
            }
            if now_ns() > until {
                return Err(format!("{op} is not answered within {} s", PATIENCE.as_secs()));
            }
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sends a message whose answer is waited for; while it is away, later.
    pub(crate) fn send(&self, run: &Run, waiting: Waiting, text: &mut String) {
        if !self.away.get() {
            self.write(run, &waiting, text);
            self.text(text);
        }
        self.waiting.borrow_mut().push_back(waiting);
    }

    fn write(&self, run: &Run, waiting: &Waiting, text: &mut String) {
        let Waiting { re, intended_ns, chat, number } = waiting;
        text.clear();
        let side = if self.is_agent { 'a' } else { 'v' };
        let _ = write!(
            text,
            "{{\"id\":{re},\"op\":\"send\",\"d\":{{\"c\":\"{}\",\"cid\":\"bench-{side}-{number:012}\",\"type\":\"text\",\"body\":\"",
            chat.c,
        );
        Body { number: *number, intended_ns: *intended_ns }.write(text, run.share.scenario.payload);
        text.push_str("\"}}");
    }

    fn ack(&self) {
        let told = self.told.get();
        if told - self.acked.get() >= ACK_EVERY {
            self.acked.set(told);
            self.text(&format!("{{\"op\":\"ack\",\"d\":{{\"p\":{told}}}}}"));
        }
    }

    fn heard(&self, run: &Run, text: &str) {
        if text == "{}" {
            self.text("{}");
            run.figures.borrow_mut().counts.heartbeats += 1;
        } else if text.starts_with("{\"re\":") {
            self.answered(run, text);
        } else if is_numbered(text) {
            self.told.set(self.told.get() + 1);
            self.event(run, text);
            self.ack();
        } else if text.starts_with("{\"op\":\"notice\"") {
            self.noticed(run, text);
        } else if ["typing", "seen", "delivered"].iter().any(|op| text[7..].starts_with(op)) {
            run.figures.borrow_mut().counts.hints += 1;
        }
    }

    fn noticed(&self, run: &Run, text: &str) {
        let mut notices = self.notices.borrow_mut();
        let Some(body) = field(text, "text").and_then(Body::read) else { return notices.altered() };
        notices.saw(body.number);
        run.time("noticed", body.intended_ns);
        run.figures.borrow_mut().counts.noticed += 1;
    }

    fn answered(&self, run: &Run, text: &str) {
        let Some(re) = field(text, "re").and_then(|re| re.parse::<u32>().ok()) else { return };
        let place = self.waiting.borrow().iter().position(|waiting| waiting.re == re);
        let Some(place) = place else {
            self.answers.borrow_mut().insert(re, text.to_owned());
            return;
        };
        let Waiting { intended_ns, chat, number, .. } =
            self.waiting.borrow_mut().remove(place).expect("it was seen there");
        if text.contains("\"err\":") {
            let mut figures = run.figures.borrow_mut();
            figures.counts.refused += 1;
            figures.error(format!("refused with {}", field(text, "code").unwrap_or("no code")));
        } else {
            run.time("acknowledged", intended_ns);
            chat.sides.borrow_mut()[usize::from(self.is_agent)].acknowledged.push(number);
            run.figures.borrow_mut().counts.answered += 1;
        }
    }

    fn event(&self, run: &Run, text: &str) {
        let (Some(c), Some(s)) = (field(text, "c"), field(text, "s").and_then(|s| s.parse::<u64>().ok()))
        else {
            return;
        };
        let chats = self.chats.borrow();
        let Some(chat) = chats.get(c) else { return };
        let mut sides = chat.sides.borrow_mut();
        let side = &mut sides[usize::from(self.is_agent)];
        if !side.begun {
            side.begun = true;
            side.events = Stream::after(s - 1);
        }
        side.events.saw(s);
        let own = if self.is_agent { "\"kind\":\"agent\"" } else { "\"kind\":\"visitor\"" };
        if !text.starts_with("{\"op\":\"msg\"") || text.contains(own) {
            return;
        }
        // A greeting has no number.
        let Some(body) = field(text, "body") else { return };
        if body == GREETING {
            return;
        }
        let Some(body) = Body::read(body) else { return side.heard.altered() };
        side.heard.saw(body.number);
        if self.reading != Reading::Well {
            run.figures.borrow_mut().counts.slowly_received += 1;
            return;
        }
        run.time("delivered", body.intended_ns);
        let mut figures = run.figures.borrow_mut();
        figures.counts.received += 1;
        figures.counts.crossed += u64::from(chat.crosses);
        drop(figures);
        if is_among(run.share.scenario.seen_percent, body.number) {
            self.text(&format!("{{\"op\":\"seen\",\"d\":{{\"c\":\"{c}\",\"s\":{s}}}}}"));
        }
    }

    /// Hears one connection until it ends.
    async fn listen(self: Rc<Self>, run: Rc<Run>, mut ear: Ear) {
        let generation = self.generation.get();
        let conn = Rc::clone(&self.conn());
        loop {
            match self.reading {
                Reading::Well => {}
                _ if run.start_ns.get() == u64::MAX || run.is_over() => {}
                Reading::Slowly => monoio::time::sleep(SLOW_PAUSE).await,
                Reading::Not => {
                    monoio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            }
            let is_latest = || self.generation.get() == generation;
            let result = ear
                .listen(&conn, |text| {
                    if is_latest() {
                        self.heard(&run, text);
                    }
                })
                .await;
            run.figures.borrow_mut().counts.bytes_in += core::mem::take(&mut ear.heard);
            let Err(end) = result else { continue };
            match () {
                () if !is_latest() || self.leaves.get() => {}
                () if self.reading != Reading::Well => {
                    // Who reads too slowly is closed: that is what the server is for.
                    run.figures.borrow_mut().counts.slow_closed += 1;
                }
                () if run.is_in_storm(Storm::Restart) => {
                    let spread = run.spread(self.number);
                    monoio::spawn(self.come_back(run, spread));
                }
                () => run.ended(&end),
            }
            return;
        }
    }

    /// The network cuts it off, or it falls silent, and it comes back after `spread`.
    pub(crate) async fn cut(self: Rc<Self>, run: Rc<Run>, storm: Storm, spread: Duration) {
        self.generation.set(self.generation.get() + 1);
        if storm == Storm::Cut {
            let conn = Rc::clone(&self.conn());
            conn.cut().await;
        }
        self.come_back(run, spread).await;
    }

    async fn come_back(self: Rc<Self>, run: Rc<Run>, spread: Duration) {
        self.away.set(true);
        monoio::time::sleep(spread).await;
        let until = run.storm_ns() + COME_BACK.as_nanos() as u64;
        for attempt in 0.. {
            let began = now_ns();
            match self.log_in(&run).await {
                Ok((ear, resumed)) => {
                    {
                        let mut figures = run.figures.borrow_mut();
                        figures.counts.came_back += 1;
                        figures.counts.resumed += u64::from(resumed);
                        figures.time("login again", now_ns() - began);
                        figures.time("came back", now_ns() - run.storm_ns());
                    }
                    monoio::spawn(Rc::clone(&self).listen(Rc::clone(&run), ear));
                    if let Err(error) = self.catch_up(&run, resumed).await {
                        run.figures.borrow_mut().error(format!("{}: {error}", self.who()));
                    }
                    return;
                }
                Err(error) if now_ns() > until || run.is_over() => {
                    let mut figures = run.figures.borrow_mut();
                    figures.counts.failed += 1;
                    figures.error(format!("{} did not come back: {error}", self.who()));
                    return;
                }
                Err(_) => {
                    run.figures.borrow_mut().counts.retries += 1;
                    let most = BACK_OFF_MS[attempt.min(BACK_OFF_MS.len() - 1)];
                    monoio::time::sleep(Duration::from_millis(run.chance(500.min(most / 2), most))).await;
                }
            }
        }
    }

    /// Asks for what was missed, where the session is a new one, and says again what was not answered.
    async fn catch_up(&self, run: &Run, resumed: bool) -> Result<(), String> {
        if !resumed {
            let side = usize::from(self.is_agent);
            let cursors: Vec<String> = self
                .chats
                .borrow()
                .values()
                .map(|chat| {
                    let s = chat.sides.borrow()[side].events.last();
                    format!("{{\"c\":\"{}\",\"s\":{s}}}", chat.c)
                })
                .collect();
            for cursors in cursors.chunks(512) {
                self.ask("sync", &format!("{{\"limit\":500,\"cursors\":[{}]}}", cursors.join(","))).await?;
            }
        }
        // What is new waits until here: it must not overtake what is said again.
        let mut text = String::new();
        for waiting in &*self.waiting.borrow() {
            self.write(run, waiting, &mut text);
            self.text(&text);
        }
        self.away.set(false);
        Ok(())
    }
}
