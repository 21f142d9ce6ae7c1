//! `chat` and `idle`: visitors and agents who are logged in, and some of them talk.

use monoio::io::AsyncReadRent as _;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::now_ns;
use crate::conn::{self, Conn, Ear};
use crate::figures::Acknowledged;
use crate::frame::Kind;
use crate::json::{field, is_numbered};
use crate::verify::{Body, Faults, Stream};
use crate::worker::Run;

const PROTOCOL: &str = "ringdesk.v1.json";
/// Connections that are being made at once.
const OPENING: u32 = 64;
/// Numbered events that are told before they are acknowledged.
const ACK_EVERY: u64 = 32;
/// Longest wait for one answer while everybody logs in.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the two sides of a conversation, as the other hears it.
#[derive(Default)]
struct Side {
    /// Messages sent to the other.
    sent: u64,
    /// What came from the other, by the other's own count.
    heard: Stream,
    /// All numbered events of the conversation, as this side is told them.
    events: Stream,
    /// The number the events began with is known.
    begun: bool,
    /// Messages of this side that were acknowledged.
    acknowledged: Vec<u64>,
}

/// A conversation between a visitor and an agent's session.
struct Chat {
    c: String,
    visitor: Rc<Member>,
    agent: Rc<Member>,
    /// The visitor's side and the agent's.
    sides: RefCell<[Side; 2]>,
    crosses: bool,
}

/// A message that is not answered.
struct Waiting {
    re: u32,
    intended_ns: u64,
    chat: Rc<Chat>,
    number: u64,
}

/// A connection that is logged in.
struct Member {
    conn: Rc<Conn>,
    is_agent: bool,
    slot: u16,
    /// It has said that it leaves: its end is no fault.
    leaves: Cell<bool>,
    /// Messages that are not answered.
    waiting: RefCell<VecDeque<Waiting>>,
    next_re: Cell<u32>,
    /// Answers to what the set-up asked, by number.
    answers: RefCell<HashMap<u32, String>>,
    told: Cell<u64>,
    acked: Cell<u64>,
    chats: RefCell<HashMap<String, Rc<Chat>>>,
}

impl Member {
    fn re(&self) -> u32 {
        let re = self.next_re.get();
        self.next_re.set(re + 1);
        re
    }

    /// Asks and waits for the answer.
    async fn ask(&self, op: &str, d: &str) -> Result<String, String> {
        let re = self.re();
        self.conn.text(&format!("{{\"id\":{re},\"op\":\"{op}\",\"d\":{d}}}"));
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

    fn ack(&self) {
        let told = self.told.get();
        if told - self.acked.get() >= ACK_EVERY {
            self.acked.set(told);
            self.conn.text(&format!("{{\"op\":\"ack\",\"d\":{{\"p\":{told}}}}}"));
        }
    }

    fn heard(&self, run: &Run, text: &str) {
        if text == "{}" {
            self.conn.text("{}");
            run.figures.borrow_mut().counts.heartbeats += 1;
        } else if text.starts_with("{\"re\":") {
            self.answered(run, text);
        } else if is_numbered(text) {
            self.told.set(self.told.get() + 1);
            self.event(run, text);
            self.ack();
        } else if ["typing", "seen", "delivered"].iter().any(|op| text[7..].starts_with(op)) {
            run.figures.borrow_mut().counts.hints += 1;
        }
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
        run.time("delivered", body.intended_ns);
        let mut figures = run.figures.borrow_mut();
        figures.counts.received += 1;
        figures.counts.crossed += u64::from(chat.crosses);
        drop(figures);
        let percent = u64::from(run.share.scenario.seen_percent);
        if percent > 0 && body.number * percent / 100 != (body.number - 1) * percent / 100 {
            self.conn.text(&format!("{{\"op\":\"seen\",\"d\":{{\"c\":\"{c}\",\"s\":{s}}}}}"));
        }
    }
}

const GREETING: &str = "hello";

impl Chat {
    fn send(self: &Rc<Self>, run: &Run, by_agent: bool, intended_ns: u64, text: &mut String) {
        let from = if by_agent { &self.agent } else { &self.visitor };
        let number = {
            let mut sides = self.sides.borrow_mut();
            let side = &mut sides[usize::from(by_agent)];
            side.sent += 1;
            side.sent
        };
        let scenario = &run.share.scenario;
        let percent = u64::from(scenario.typing_percent);
        if percent > 0 && number * percent / 100 != (number - 1) * percent / 100 {
            from.conn.text(&format!("{{\"op\":\"typing\",\"d\":{{\"c\":\"{}\",\"on\":true}}}}", self.c));
        }
        let re = from.re();
        text.clear();
        let _ = write!(
            text,
            "{{\"id\":{re},\"op\":\"send\",\"d\":{{\"c\":\"{}\",\"cid\":\"bench-{}-{number:012}\",\"type\":\"text\",\"body\":\"",
            self.c,
            if by_agent { 'a' } else { 'v' },
        );
        Body { number, intended_ns }.write(text, scenario.payload);
        text.push_str("\"}}");
        from.waiting.borrow_mut().push_back(Waiting { re, intended_ns, chat: Rc::clone(self), number });
        from.conn.text(text);
        run.figures.borrow_mut().counts.sent += 1;
        run.time("schedule lag", intended_ns);
    }
}

pub(crate) async fn work(run: Rc<Run>) -> Result<(), String> {
    let scenario = &run.share.scenario;
    let chats = run.share.part(scenario.chats);
    let agents = chats.div_ceil(scenario.chats_per_agent);
    let all = run.share.part(scenario.connections);
    let mut visitors = open_all(&run, all.saturating_sub(agents).max(chats), false).await?;
    let agents = open_all(&run, agents, true).await?;
    // Who was there first sits on the shard that answered first. Those who have an agent on another shard talk.
    if let Some(shards) = run.share.target.shards {
        let near =
            |visitor: &Rc<Member>| agents.iter().all(|agent| agent.slot % shards == visitor.slot % shards);
        visitors.sort_by_key(near);
    }
    for agent in &agents {
        let answer = agent.ask("avail", "{\"state\":\"busy\",\"cap\":500}").await?;
        if answer.contains("\"err\":") {
            return Err(format!("an agent's capacity: {answer}"));
        }
    }
    let mut talking = Vec::with_capacity(chats as usize);
    for (number, visitor) in (0..chats).zip(&visitors) {
        talking.push(begin(&run, number, visitor, &agents).await?);
    }
    let idle = Rc::new(RefCell::new(visitors.split_off(talking.len())));
    run.go().await;
    if scenario.churn > 0.0 && !idle.borrow().is_empty() {
        monoio::spawn(churn(Rc::clone(&run), Rc::clone(&idle), all));
    }
    if talking.is_empty() {
        while !run.is_over() {
            monoio::time::sleep(Duration::from_millis(50)).await;
        }
    } else {
        talk(&run, &talking).await?;
    }
    run.settle(|| {
        let counts = run.figures.borrow().counts;
        counts.answered + counts.refused == counts.sent && counts.received == counts.answered
    })
    .await;
    run.ending.set(true);
    let mut faults = Faults::default();
    for chat in &talking {
        let sides = chat.sides.borrow();
        for (side, other) in [(0, 1), (1, 0)] {
            faults.add(&sides[side].heard.faults(sides[other].sent));
            faults.add(&sides[side].events.faults(0));
        }
    }
    let mut figures = run.figures.borrow_mut();
    figures.faults = faults;
    figures.acknowledged = talking
        .iter()
        .map(|chat| {
            let mut sides = chat.sides.borrow_mut();
            let numbers = [0, 1].map(|side| core::mem::take(&mut sides[side].acknowledged));
            Acknowledged { c: chat.c.clone(), numbers }
        })
        .collect();
    let idle = idle.borrow();
    let members = visitors.iter().chain(&agents).chain(idle.iter());
    figures.counts.bytes_out += members.map(|member| member.conn.said()).sum::<u64>();
    Ok(())
}

/// Visitors leave, one after the other at fixed times, and each is followed by a new one.
/// `first` is the number of the first new one.
async fn churn(run: Rc<Run>, idle: Rc<RefCell<Vec<Rc<Member>>>>, first: u32) {
    let every = Duration::from_secs_f64(f64::from(run.share.workers) / run.share.scenario.churn);
    let (mut gone, mut due_ns) = (0, run.start_ns.get());
    while !run.is_over() {
        let now = now_ns();
        if now < due_ns {
            monoio::time::sleep(Duration::from_nanos(due_ns - now)).await;
            continue;
        }
        due_ns += every.as_nanos() as u64;
        let place = gone as usize % idle.borrow().len();
        let leaving = Rc::clone(&idle.borrow()[place]);
        leaving.leaves.set(true);
        leaving.conn.say(Kind::Close, |out| out.extend_from_slice(&1000u16.to_be_bytes()));
        {
            let mut figures = run.figures.borrow_mut();
            figures.counts.left += 1;
            figures.counts.bytes_out += leaving.conn.said();
        }
        match open_one(&run, false, first + gone, "came later").await {
            Ok(member) => idle.borrow_mut()[place] = member,
            Err(error) => {
                let mut figures = run.figures.borrow_mut();
                figures.counts.failed += 1;
                figures.error(error);
                return;
            }
        }
        gone += 1;
    }
}

async fn talk(run: &Rc<Run>, talking: &[Rc<Chat>]) -> Result<(), String> {
    let mut bell = run.bell().map_err(|error| error.to_string())?;
    let start = run.start_ns.get();
    let mut times = run.times().map(|offset| start + offset).take_while(|&at| at < run.end_ns()).peekable();
    let (mut turn, mut text, mut buffer) = (0usize, String::new(), vec![0; 64]);
    while times.peek().is_some() && !run.is_over() {
        let (_, back) = bell.read(buffer).await;
        buffer = back;
        let now = now_ns();
        while let Some(at) = times.next_if(|&at| at <= now) {
            // Everybody writes by turns, and each side of a conversation by turns.
            talking[turn % talking.len()].send(run, turn / talking.len() % 2 == 1, at, &mut text);
            turn += 1;
        }
    }
    Ok(())
}

async fn open_all(run: &Rc<Run>, count: u32, agents: bool) -> Result<Vec<Rc<Member>>, String> {
    let members = Rc::new(RefCell::new(Vec::with_capacity(count as usize)));
    let next = Rc::new(Cell::new(0));
    let openers: Vec<_> = (0..OPENING.min(count))
        .map(|_| {
            monoio::spawn(open_some(Rc::clone(run), agents, Rc::clone(&next), count, Rc::clone(&members)))
        })
        .collect();
    for opener in openers {
        opener.await?;
    }
    let members = Rc::try_unwrap(members).ok().expect("all are open").into_inner();
    match members.len() as u32 == count {
        true => Ok(members),
        false => Err("stopped before everybody was there".into()),
    }
}

async fn open_some(
    run: Rc<Run>,
    agents: bool,
    next: Rc<Cell<u32>>,
    count: u32,
    members: Rc<RefCell<Vec<Rc<Member>>>>,
) -> Result<(), String> {
    while next.get() < count && !run.stop.load(Ordering::Relaxed) {
        let number = next.get();
        next.set(number + 1);
        let member = open_one(&run, agents, number, "logged in")
            .await
            .inspect_err(|_| run.figures.borrow_mut().counts.failed += 1)?;
        members.borrow_mut().push(member);
    }
    Ok(())
}

/// Connects and logs in; how long that took is kept under `timed`.
async fn open_one(run: &Rc<Run>, is_agent: bool, number: u32, timed: &str) -> Result<Rc<Member>, String> {
    let share = &run.share;
    let began = now_ns();
    let who = if is_agent { "agent" } else { "visitor" };
    let path = match is_agent {
        true => "/ws/v1/agent".to_owned(),
        false => format!("/ws/v1/visitor?inbox={}", share.target.inbox),
    };
    let seed = number.wrapping_mul(0x9E37_79B9) ^ share.worker;
    let (conn, ear) = conn::open(share.source(number), share.target.address, &path, PROTOCOL, seed)
        .await
        .map_err(|end| end.to_string())?;
    let device = format!("bench-{who}-{:04}-{number:08}", share.worker);
    let token = match is_agent {
        true => {
            // Sessions of all workers share the accounts evenly: each has the capacity for so many sessions.
            let session = number * share.workers + share.worker;
            let tickets = &share.target.tickets;
            let account = (session / share.scenario.sessions_per_agent()) as usize % tickets.len();
            format!("\"token\":\"{}\",", tickets[account])
        }
        false => String::new(),
    };
    let mut member = Rc::new(Member {
        conn,
        is_agent,
        slot: 0,
        leaves: Cell::new(false),
        waiting: RefCell::default(),
        next_re: Cell::new(1),
        answers: RefCell::default(),
        told: Cell::new(0),
        acked: Cell::new(0),
        chats: RefCell::default(),
    });
    // The answer is heard here, before the task that listens for good: it tells the slot.
    let mut ear = ear;
    member.conn.text(&format!("{{\"id\":0,\"op\":\"auth\",\"d\":{{{token}\"device\":\"{device}\"}}}}"));
    let slot = {
        let slot = Cell::new(None);
        let refused = RefCell::new(None);
        while slot.get().is_none() {
            ear.listen(&member.conn, |text| {
                if text.starts_with("{\"re\":0,") {
                    slot.set(field(text, "slot").and_then(|slot| slot.parse().ok()));
                    if text.contains("\"err\":") {
                        *refused.borrow_mut() = Some(text.to_owned());
                    }
                }
            })
            .await
            .map_err(|end| format!("{who} {number}: {end}"))?;
            if let Some(text) = refused.take() {
                return Err(format!("{who} {number}: auth: {text}"));
            }
        }
        slot.get().expect("it was told")
    };
    Rc::get_mut(&mut member).expect("nobody else has it yet").slot = slot;
    {
        let mut figures = run.figures.borrow_mut();
        figures.counts.connected += 1;
        figures.time(timed, now_ns() - began);
    }
    monoio::spawn(listen(Rc::clone(run), Rc::clone(&member), ear));
    Ok(member)
}

async fn listen(run: Rc<Run>, member: Rc<Member>, mut ear: Ear) {
    loop {
        let result = ear.listen(&member.conn, |text| member.heard(&run, text)).await;
        run.figures.borrow_mut().counts.bytes_in += core::mem::take(&mut ear.heard);
        if let Err(end) = result {
            if !member.leaves.get() {
                run.ended(&end);
            }
            return;
        }
    }
}

/// A visitor begins a conversation, and an agent takes it: one on another shard, where there is one.
async fn begin(
    run: &Rc<Run>,
    number: u32,
    visitor: &Rc<Member>,
    agents: &[Rc<Member>],
) -> Result<Rc<Chat>, String> {
    let per_agent = run.share.scenario.chats_per_agent as usize;
    let shard_of = |member: &Member| run.share.target.shards.map(|shards| member.slot % shards);
    let free = || agents.iter().filter(|agent| agent.chats.borrow().len() < per_agent);
    let agent = free()
        .find(|agent| shard_of(agent) != shard_of(visitor))
        .or_else(|| free().next())
        .ok_or("there are too few agents")?;
    let worker = run.share.worker;
    let answer = visitor
        .ask(
            "start",
            &format!(
                "{{\"cid\":\"bench-start-{worker:04}-{number:08}\",\"first\":{{\"cid\":\"bench-first-{worker:04}-{number:08}\",\"type\":\"text\",\"body\":\"{GREETING}\"}}}}"
            ),
        )
        .await?;
    let c = field(&answer, "c").ok_or_else(|| format!("start: {answer}"))?.to_owned();
    // The queue learns of a conversation a moment after its first word is durable.
    let mut tries = 0;
    loop {
        let d = format!("{{\"c\":\"{c}\",\"cid\":\"bench-accept-{number:08}-{tries:04}\"}}");
        let answer = agent.ask("accept", &d).await?;
        if !answer.contains("\"err\":") {
            break;
        }
        tries += 1;
        if tries > 400 {
            return Err(format!("accept: {answer}"));
        }
        monoio::time::sleep(Duration::from_millis(5)).await;
    }
    let chat = Rc::new(Chat {
        c: c.clone(),
        visitor: Rc::clone(visitor),
        agent: Rc::clone(agent),
        sides: RefCell::default(),
        crosses: shard_of(agent) != shard_of(visitor),
    });
    visitor.chats.borrow_mut().insert(c.clone(), Rc::clone(&chat));
    agent.chats.borrow_mut().insert(c.clone(), Rc::clone(&chat));
    agent.ask("sync", &format!("{{\"cursors\":[{{\"c\":\"{c}\",\"s\":2}}]}}")).await?;
    Ok(chat)
}
