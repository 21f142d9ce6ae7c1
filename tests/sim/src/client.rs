//! A client, as docs/protocol.md wants it: a tab of a visitor, a session of an agent, or somebody hostile.
//!
//! It has its own model of the protocol and shares no code with the server but the ids' text form. It keeps an outbox and says a thing with the same `cid`
//! until it is answered; it resumes; it counts `p`; it notices gaps; and it reports all that it is told to the checker.

mod act;
mod agent;
mod hostile;
mod http;
mod person;
mod pushes;
mod receive;
mod replies;
mod visitor;

use core::fmt::Write as _;
use std::collections::{BTreeMap, VecDeque};

use crate::chance::Chance;
use crate::check::{Audience, Checker, Intent, Kind};
use crate::frames;
use crate::json::quote;
use crate::marks::{Mark, Marks};
use crate::plan::{Cut, Plan};
use crate::trace::Trace;
use crate::world::Phase;

pub(crate) use hostile::Evil;
pub(crate) use person::Person;

/// How a request for a conversation begins in the outbox.
const START: &str = "\"op\":\"start\"";

/// Entries of what a session was told that are kept, to go back to an older count.
const TOLD_KEPT: usize = 600;

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Visitor,
    Agent,
    /// An agent who reads everything back in the end.
    Auditor,
    Hostile(Evil),
}

/// How far the connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Off,
    Dialing,
    Head,
    Hello,
    Auth,
    Live,
    /// A close frame was sent or received.
    Parting,
}

/// A cursor that was said and is not answered.
#[derive(Clone, Copy, Debug)]
struct Syncing {
    re: u32,
    since: u32,
    epoch: Option<u64>,
    limit: u32,
}

/// A conversation as one tab has it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Local {
    /// Everything up to this number is here.
    pub(crate) last: u32,
    /// History epoch of `last`.
    epoch: u64,
    /// The number that must come next on this session; `None` = not known.
    expect: Option<u32>,
    /// Syncs that are not answered.
    syncing: VecDeque<Syncing>,
    /// Acknowledged by number up to here on this session, perhaps before it was told again.
    acked_to: u32,
    /// Syncs of former sockets of the session that may still be answered.
    stale_syncs: usize,
    /// Highest receipts told on this connection: seen by visitor, by agent, delivered to visitor, to agent.
    receipts: [u32; 4],
    /// The lowest number that was read back; 0 = none yet.
    pub(crate) read_from: u32,
    pub(crate) synced: bool,
    asked_history: bool,
}

/// A session as the server named it.
#[derive(Clone, Debug)]
struct Session {
    sid: String,
    epoch: String,
}

/// What a reply is awaited for.
#[derive(Clone, Debug)]
enum Pending {
    Auth,
    Durable(usize),
    Sync(Vec<u128>),
    History {
        c: u128,
        before: u32,
        limit: u32,
        last: u32,
    },
    Avail,
    Plain,
    /// Whatever comes.
    Anything,
}

/// A durable request that is not answered for good.
#[derive(Clone, Debug)]
struct Item {
    intent: usize,
    /// With what it goes out.
    op: String,
    due_us: u64,
    flying: bool,
}

/// What the world should do for a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    None,
    Connect,
    /// Close the socket.
    Close,
    /// Be gone without a word.
    Vanish,
}

/// What a client needs of the world.
pub(crate) struct Around<'a> {
    pub(crate) now_us: u64,
    pub(crate) chance: &'a mut Chance,
    pub(crate) check: &'a mut Checker,
    pub(crate) marks: &'a mut Marks,
    pub(crate) trace: &'a mut Trace,
    pub(crate) people: &'a mut Vec<Person>,
    pub(crate) plan: &'a Plan,
    pub(crate) phase: Phase,
    /// Messages said so far.
    pub(crate) said: &'a mut u64,
    /// Whether somebody crashed since the world began.
    pub(crate) crashed: bool,
}

/// One client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) person: usize,
    pub(crate) role: Role,
    pub(crate) device: String,
    pub(crate) stage: Stage,
    pub(crate) wish: Wish,
    /// The run of the server at the other end.
    pub(crate) boot: u32,
    /// When the client does something next.
    pub(crate) again_us: u64,
    pub(crate) tx: Vec<u8>,
    rx: Vec<u8>,
    /// Until then it reads nothing.
    pub(crate) deaf_until_us: u64,
    session: Option<Session>,
    /// Durable events counted.
    p: u64,
    /// The last of them: conversation, number, and whether it was acknowledged by its number.
    told: VecDeque<(u128, u32, bool)>,
    /// The highest count acknowledged.
    acked_p: u64,
    acked_at_us: u64,
    lazy: bool,
    pub(crate) convs: BTreeMap<u128, Local>,
    outbox: Vec<Item>,
    pending: BTreeMap<u32, Pending>,
    next_re: u32,
    /// The slot to ask for; a hint of the server.
    slot_hint: Option<u64>,
    dialed_us: u64,
    heard_us: u64,
    heartbeat_us: u64,
    /// Subscribed to the queue.
    subscribed: bool,
    /// Waiting conversations as last listed.
    queue: Vec<u128>,
    /// It came as a new visitor and has no token yet: what it said is bound to an identity it may never learn.
    nameless: bool,
    /// The visitor's conversation that existed when he authenticated.
    known_at_auth: Option<u128>,
    /// Upgrade on a connection that spoke HTTP before.
    pub(crate) through_control: bool,
    /// Nothing to do any more.
    pub(crate) done: bool,
    strikes: u32,
    /// The server asked for less: until then one thing is said at a time.
    slow_until_us: u64,
    /// Then it claims to have got more of a conversation than it was told, and is gone: a resume must bring what was on its way nevertheless.
    lies_at: Option<(u64, u128)>,
    leaves_at: Option<u64>,
    /// Goes on as a copy of another tab of the same device, as after "duplicate tab".
    pub(crate) wants_twin: bool,
    /// Its session was another tab's, whose requests may still be answered.
    pub(crate) is_twin: bool,
    /// The first tab of a visitor fetches his token.
    pub(crate) is_first_tab: bool,
}

impl Client {
    pub(crate) fn new(
        number: usize,
        person: usize,
        role: Role,
        device: String,
        chance: &mut Chance,
        lazy: bool,
    ) -> Client {
        Client {
            number,
            person,
            role,
            device,
            stage: Stage::Off,
            wish: Wish::None,
            boot: 0,
            again_us: chance.below(300_000),
            tx: Vec::new(),
            rx: Vec::new(),
            deaf_until_us: 0,
            session: None,
            p: 0,
            told: VecDeque::new(),
            acked_p: 0,
            acked_at_us: 0,
            lazy,
            convs: BTreeMap::new(),
            outbox: Vec::new(),
            pending: BTreeMap::new(),
            next_re: chance.below(5) as u32,
            slot_hint: None,
            dialed_us: 0,
            heard_us: 0,
            heartbeat_us: 25_000_000,
            subscribed: false,
            queue: Vec::new(),
            nameless: false,
            known_at_auth: None,
            through_control: false,
            done: false,
            strikes: 0,
            slow_until_us: 0,
            lies_at: None,
            leaves_at: None,
            wants_twin: false,
            is_twin: false,
            is_first_tab: false,
        }
    }

    pub(crate) fn audience(&self) -> Audience {
        match self.role {
            Role::Agent | Role::Auditor => Audience::Agent,
            Role::Visitor | Role::Hostile(_) => Audience::Visitor,
        }
    }

    fn is_agent(&self) -> bool {
        self.audience() == Audience::Agent
    }

    /// Whether everything it said is answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.convs.values().all(|local| local.syncing.is_empty())
    }

    /// Whether it was told everything that anybody was told of the conversations it listens to.
    pub(crate) fn is_up_to_date(&self, check: &Checker) -> bool {
        self.stage != Stage::Live
            || matches!(self.role, Role::Hostile(_))
            || self.convs.iter().all(|(&c, local)| {
                let listens = local.synced && local.expect.is_some() && local.syncing.is_empty();
                !listens || local.last >= check.highest(self.boot, self.audience(), c)
            })
    }

    /// What keeps it from being done, for a report.
    pub(crate) fn state(&self) -> String {
        let syncing: Vec<_> =
            self.convs.iter().filter(|(_, local)| !local.syncing.is_empty()).map(|(c, _)| c).collect();
        let outbox: Vec<_> = self.outbox.iter().map(|item| (item.intent, item.due_us, item.flying)).collect();
        format!(
            "client {} {:?} {:?} deaf until {} outbox {outbox:?} pending {:?} syncing {syncing:x?}",
            self.number, self.role, self.stage, self.deaf_until_us, self.pending
        )
    }

    /// The socket is there; the request goes out.
    pub(crate) fn on_connected(&mut self, around: &mut Around<'_>, boot: u32) {
        self.boot = boot;
        self.stage = Stage::Head;
        self.heard_us = around.now_us;
        self.rx.clear();
        self.say_head(around);
    }

    /// The socket ended, however.
    pub(crate) fn on_end(&mut self, around: &mut Around<'_>) {
        self.off(around, 0);
    }

    /// Forgets the socket; comes back after a pause.
    fn off(&mut self, around: &mut Around<'_>, pause_us: u64) {
        if self.stage == Stage::Off {
            return;
        }
        self.stage = Stage::Off;
        self.tx.clear();
        self.rx.clear();
        for pending in core::mem::take(&mut self.pending).into_values() {
            if let Pending::Durable(intent) = pending {
                around.check.intents[intent].lose(around.now_us, self.boot);
            }
        }
        self.subscribed = false;
        self.lies_at = None;
        self.leaves_at = None;
        self.deaf_until_us = 0;
        for item in &mut self.outbox {
            item.flying = false;
        }
        for local in self.convs.values_mut() {
            if !local.syncing.is_empty() || local.stale_syncs > 0 || self.is_twin {
                // It may have been heard, and the answer lost.
                local.expect = None;
                local.stale_syncs += local.syncing.len();
                local.syncing.clear();
                // Reading back needs the answer: it is asked for again.
                local.synced &= around.phase != Phase::Reading;
            }
            if local.expect.is_some_and(|expect| expect <= local.acked_to) {
                // Told again after a later acknowledgement: the server may take it for acknowledged.
                local.expect = None;
            }
            local.receipts = [0; 4];
            local.asked_history = false;
        }
        if self.nameless {
            self.forget_identity(around);
        }
        if matches!(self.role, Role::Hostile(_)) {
            around.people[self.person].c = None;
            self.convs.clear();
        }
        let spread = if around.phase == Phase::Chaos { 400_000 } else { 60_000 };
        self.again_us = around.now_us + pause_us + around.chance.between(1_000, spread);
    }

    /// A new visitor whose token never came is another one next time: what was said is bound to somebody whom nobody can be any more.
    fn forget_identity(&mut self, around: &mut Around<'_>) {
        self.nameless = false;
        around.marks.hit_if(Mark::Orphan, !self.outbox.is_empty());
        for item in &self.outbox {
            around.check.intents[item.intent].person = usize::MAX;
        }
        self.outbox.clear();
        self.convs.clear();
        self.session = None;
    }

    /// Closes the socket from this side.
    fn leave(&mut self, around: &mut Around<'_>, wish: Wish, pause_us: u64) {
        self.off(around, pause_us);
        self.wish = wish;
    }

    /// Takes over what another tab of the same device knows, its session too, and comes back with it.
    pub(crate) fn become_twin(&mut self, around: &mut Around<'_>, other: &Client) {
        self.leave(around, Wish::Close, 10_000);
        self.session = other.session.clone();
        self.p = other.p;
        self.told = other.told.clone();
        self.acked_p = other.acked_p;
        self.slot_hint = other.slot_hint;
        self.convs = other.convs.clone();
        for local in self.convs.values_mut() {
            // The other tab may go on asking until its session is taken.
            local.expect = None;
            local.stale_syncs += local.syncing.len();
            local.syncing.clear();
            local.receipts = [0; 4];
            local.asked_history = false;
        }
        self.is_twin = true;
    }

    /// Whether it can be copied.
    pub(crate) fn is_like(&self, other: &Client) -> bool {
        let same = self.number != other.number && self.person == other.person && self.device == other.device;
        same && self.stage == Stage::Live && self.session.is_some()
    }

    // What goes out.

    fn put_text(&mut self, around: &mut Around<'_>, text: &str) {
        let fragments = match around.plan.cut {
            Cut::Whole => 1,
            Cut::Anywhere | Cut::Bytes => around.chance.weighted(&[(90, 1), (8, 2), (2, 7)]),
        };
        frames::put_text(&mut self.tx, around.chance, text.as_bytes(), fragments);
    }

    fn re(&mut self, pending: Pending) -> u32 {
        let re = self.next_re;
        self.next_re += 1;
        self.pending.insert(re, pending);
        re
    }

    /// One request with a reply.
    fn ask(&mut self, around: &mut Around<'_>, pending: Pending, op: &str, d: &str) {
        let re = self.re(pending);
        let text = format!("{{\"id\":{re},\"op\":\"{op}\",\"d\":{d}}}");
        self.put_text(around, &text);
    }

    /// One request without a reply.
    fn mention(&mut self, around: &mut Around<'_>, op: &str, d: &str) {
        let text = format!("{{\"op\":\"{op}\",\"d\":{d}}}");
        self.put_text(around, &text);
    }

    /// Something durable: it stays in the outbox until it is answered for good.
    fn intend(
        &mut self,
        around: &mut Around<'_>,
        kind: Kind,
        c: Option<u128>,
        cid: Option<String>,
        filler: &str,
    ) -> usize {
        let cid = cid.unwrap_or_else(|| fresh_cid(around.chance));
        let mut intent = Intent::new(kind, self.person, &self.device, cid, c);
        intent.author = around.people[self.person].id;
        intent.by_agent = self.is_agent();
        let has_text = !filler.is_empty();
        let number = around
            .check
            .intend(intent, |number| if has_text { format!("#{number}#{filler}") } else { String::new() });
        if matches!(kind, Kind::Message | Kind::Note | Kind::Start) && has_text {
            *around.said += 1;
        }
        number
    }

    fn post(&mut self, around: &mut Around<'_>, intent: usize, op: String) {
        self.outbox.push(Item { intent, op, due_us: around.now_us, flying: false });
    }

    /// Says what is due in the outbox: each by itself, or several in one frame.
    fn say_outbox(&mut self, around: &mut Around<'_>) {
        let check = &around.check;
        self.outbox.retain(|item| item.flying || check.may_be_said(item.intent));
        let together = around.chance.percent(40);
        let mut text = String::new();
        for at in 0..self.outbox.len() {
            let item = &self.outbox[at];
            if item.flying || item.due_us > around.now_us {
                continue;
            }
            if self.slow_until_us > around.now_us && self.outbox.iter().any(|item| item.flying) {
                break;
            }
            let (intent, op) = (item.intent, item.op.clone());
            self.outbox[at].flying = true;
            around.check.intents[intent].attempts += 1;
            let again = around.chance.permille(30) && op.len() < 20_000;
            let re = self.re(Pending::Durable(intent));
            if text.len() + op.len() > 30_000 {
                let text = core::mem::take(&mut text);
                self.put_text(around, &text);
            }
            if !text.is_empty() {
                text.push('\n');
            }
            let _ = write!(text, "{{\"id\":{re},{op}}}");
            if again {
                // Impatient: the same thing twice.
                around.check.intents[intent].attempts += 1;
                let re = self.re(Pending::Durable(intent));
                let _ = write!(text, "\n{{\"id\":{re},{op}}}");
            }
            if !together {
                let text = core::mem::take(&mut text);
                self.put_text(around, &text);
            }
        }
        if !text.is_empty() {
            self.put_text(around, &text);
        }
    }

    /// Tells how far this session has got.
    fn say_ack(&mut self, around: &mut Around<'_>) {
        if self.lazy && around.phase == Phase::Chaos {
            return;
        }
        let owed = self.p.saturating_sub(self.acked_p);
        let late = around.now_us.saturating_sub(self.acked_at_us) > 1_000_000;
        if owed == 0 || (owed < 32 && !late && around.chance.percent(80)) {
            return;
        }
        self.acked_at_us = around.now_us;
        let by_number = self.told.back().copied().filter(|_| around.chance.percent(30));
        if let Some((c, s, _)) = by_number {
            for told in self.told.iter_mut().filter(|told| told.0 == c && told.1 <= s) {
                told.2 = true;
            }
            let local = self.convs.entry(c).or_default();
            local.acked_to = local.acked_to.max(s);
            self.mention(around, "ack", &format!("{{\"c\":\"{}\",\"s\":{s}}}", text_of(c)));
            if !self.is_agent() {
                self.acked_p = self.p;
            }
            return;
        }
        self.acked_p = self.p;
        let p = self.p;
        around.trace.note("client", self.number as u64, "acks", || format!("p {p}"));
        self.mention(around, "ack", &format!("{{\"p\":{p}}}"));
    }

    /// Asks for everything behind what is here.
    fn sync(&mut self, around: &mut Around<'_>, of: &[u128]) {
        if of.is_empty() {
            return;
        }
        let limit = around.chance.weighted(&[(40, 0), (20, 1), (20, 5), (20, 500)]);
        let re = self.next_re;
        let mut cursors = String::new();
        for &c in of {
            around
                .trace
                .note("client", self.number as u64, "syncs", || format!("{} limit {limit}", text_of(c)));
            let local = self.convs.entry(c).or_default();
            if !cursors.is_empty() {
                cursors.push(',');
            }
            let _ = write!(cursors, "{{\"c\":\"{}\",\"s\":{}", text_of(c), local.last);
            let epoch = (local.epoch > 0).then_some(local.epoch);
            if let Some(epoch) = epoch {
                let _ = write!(cursors, ",\"e\":{epoch}");
            }
            cursors.push('}');
            let limit = if limit == 0 { 100 } else { limit };
            local.syncing.push_back(Syncing { re, since: local.last, epoch, limit });
            local.expect = None;
        }
        let limit = if limit == 0 { String::new() } else { format!(",\"limit\":{limit}") };
        self.ask(around, Pending::Sync(of.to_vec()), "sync", &format!("{{\"cursors\":[{cursors}]{limit}}}"));
    }

    fn ask_history(&mut self, around: &mut Around<'_>, c: u128, before: u32) {
        let limit = around.chance.pick(&[1, 3, 50, 200]);
        let text = match limit {
            50 => String::new(),
            limit => format!(",\"limit\":{limit}"),
        };
        let d = format!("{{\"c\":\"{}\",\"before\":{before}{text}}}", text_of(c));
        let last = self.convs.get(&c).map_or(0, |local| local.last);
        self.ask(around, Pending::History { c, before, limit, last }, "history", &d);
    }
}

/// The text form of an id.
pub(crate) fn text_of(id: u128) -> String {
    desk::id::text_of(id).as_str().to_owned()
}

/// An id in a field.
fn id_in(json: &crate::json::Json) -> Option<u128> {
    json.text().and_then(desk::id::bits_of)
}

fn fresh_cid(chance: &mut Chance) -> String {
    text_of(chance.u128())
}

/// A quoted string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(&mut out, text);
    out
}

/// What stands behind a message's number: never empty.
fn filler(around: &mut Around<'_>) -> String {
    const WORDS: [&str; 8] =
        ["hello", "wo ist", "你好", "\"quoted\"", "back\\slash", "new\nline", "😀", "tab\tbell\u{7}"];
    if around.chance.percent(around.plan.long_percent) {
        let very = around.chance.percent(around.plan.very_long_percent);
        let most = if very { 9_500 } else { around.chance.pick(&[600, 600, 600, 3_000]) };
        let letters = around.chance.between(100, most) as usize;
        let letter = around.chance.pick(&['x', 'é', '你', '😀']);
        let most = 60_000 / letter.len_utf8();
        return core::iter::repeat_n(letter, letters.min(most)).collect();
    }
    let count = around.chance.between(1, 4);
    let mut text = String::new();
    for _ in 0..count {
        text.push_str(around.chance.pick(&WORDS));
    }
    text
}
