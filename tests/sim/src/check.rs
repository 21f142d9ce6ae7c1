//! The checker: outside of the server, it remembers what everybody said and was told, and holds the server to the contract of docs/protocol.md.
//!
//! What is told is compared at once: the same content under the same number, for everybody and for ever, also across crashes. What must be there in the
//! end is judged once the faults have stopped and every conversation was read back (`judge.rs`).

mod judge;
mod rewind;
mod said;

use std::collections::{BTreeMap, BTreeSet};

use crate::json::Json;

pub(crate) use said::{Answer, Intent, Kind, REMEMBERED};

/// One of the two streams of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Audience {
    Visitor = 0,
    Agent = 1,
}

/// A numbered event, as somebody was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Message { intent: usize },
    Note { intent: usize },
    Joined { agent: u128 },
    Closed { by: u128 },
    Reopened { by: u128 },
}

#[derive(Clone, Debug)]
pub(crate) struct Fact {
    what: What,
    hash: u64,
    /// When somebody was told first, in microseconds.
    first_us: u64,
    /// It was read back after the faults had stopped.
    read_back: bool,
}

#[derive(Default)]
pub(crate) struct Stream {
    facts: BTreeMap<u32, Fact>,
    /// Numbers that were acknowledged, and what for.
    acks: BTreeMap<u32, usize>,
    /// The head that the last `sync` told after the faults had stopped.
    final_head: Option<u32>,
}

/// A conversation that somebody heard of.
pub(crate) struct Conversation {
    /// The history epoch in which the facts hold.
    epoch: u64,
    streams: [Stream; 2],
    /// Highest numbers that were marked as seen, by party, each in its own stream.
    seen: [u32; 2],
    /// Somebody heard of it in this history.
    heard: bool,
    /// Its `start` was acknowledged.
    started: bool,
    /// States that were told, each with the number behind which it must hold: stream, number, state, owner.
    states: BTreeSet<(Audience, u32, State)>,
    /// Texts that were shown in lists before anything else.
    previewed: BTreeSet<usize>,
}

impl Conversation {
    fn new() -> Conversation {
        Conversation {
            epoch: 0,
            streams: [Stream::default(), Stream::default()],
            seen: [0; 2],
            heard: false,
            states: BTreeSet::new(),
            previewed: BTreeSet::new(),
            started: false,
        }
    }
}

/// Where a conversation stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum State {
    Waiting,
    Open(Option<u128>),
    Closed,
}

impl State {
    pub(crate) fn read(status: Option<&str>, owner: Option<u128>) -> Option<State> {
        match (status, owner) {
            (Some("waiting"), None) => Some(State::Waiting),
            (Some("open"), owner) => Some(State::Open(owner)),
            (Some("closed"), None) => Some(State::Closed),
            _ => None,
        }
    }

    /// Whether what was told is this; the owner is not always told.
    fn is(self, told: State) -> bool {
        self == told || matches!((self, told), (State::Open(_), State::Open(None)))
    }
}

/// A waiting conversation as the journal had it at a boot: ticket, and since when it waits.
pub(crate) type Wait = (u64, u64);

/// What the world knows of one run of the server.
pub(crate) struct Boot {
    /// How often each shard's disk had rotted before.
    rots: Vec<u32>,
    /// What each shard's disk had before this time, it has for good.
    flushed_us: Vec<u64>,
    /// History epochs by shard; 0 = not there yet.
    pub(crate) history: Vec<u32>,
    pub(crate) level: &'static str,
    /// Conversations that waited with a ticket when it began.
    pub(crate) waits: BTreeMap<u128, Wait>,
    /// Order in which two waiting conversations were listed: (first, since, second, since).
    listed: BTreeSet<(u128, u64, u128, u64)>,
}

/// What everybody said and was told.
pub(crate) struct Checker {
    pub(crate) intents: Vec<Intent>,
    pub(crate) boots: Vec<Boot>,
    conversations: BTreeMap<u128, Conversation>,
    /// The highest capacity each agent ever had.
    capacities: BTreeMap<u128, u32>,
    /// Losses of power at level `memory` after which a conversation had to keep something, and after which something that was told was no longer demanded.
    pub(crate) kept: u64,
    pub(crate) unsaid: u64,
    /// How often each shard's disk has rotted: bytes that were acknowledged have changed. What was told before may be missing then, but nothing else may
    /// be told in its place.
    pub(crate) rots: Vec<u32>,
    shard_count: u16,
    /// The first thing that broke the contract.
    pub(crate) violation: Option<String>,
    pub(crate) now_us: u64,
    /// Everybody is reading back.
    pub(crate) reading: bool,
    /// What stood when everything was read back and the server was told to stop. A stranger may begin another one while it stops.
    pub(crate) read: BTreeSet<u128>,
    pub(crate) told: u64,
}

impl Checker {
    pub(crate) fn new(shard_count: u16) -> Checker {
        Checker {
            intents: Vec::new(),
            boots: Vec::new(),
            conversations: BTreeMap::new(),
            capacities: BTreeMap::new(),
            kept: 0,
            unsaid: 0,
            rots: vec![0; usize::from(shard_count)],
            shard_count,
            violation: None,
            now_us: 0,
            reading: false,
            read: BTreeSet::new(),
            told: 0,
        }
    }

    /// The contract is broken. The first one counts.
    pub(crate) fn broken(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    pub(crate) fn boot(&mut self, level: &'static str, flushed_us: Vec<u64>) {
        let history = vec![0; usize::from(self.shard_count)];
        self.boots.push(Boot {
            rots: self.rots.clone(),
            flushed_us,
            history,
            level,
            waits: BTreeMap::new(),
            listed: BTreeSet::new(),
        });
    }

    pub(crate) fn capacity(&mut self, agent: u128, capacity: u32) {
        let known = self.capacities.entry(agent).or_default();
        *known = (*known).max(capacity);
    }

    fn home(&self, c: u128) -> usize {
        (c >> 116) as usize % usize::from(self.shard_count)
    }

    /// The history of a conversation's home in a run of the server: its epoch, and how often its disk had rotted.
    fn history(&self, boot: u32, c: u128) -> u64 {
        let (boot, home) = (&self.boots[boot as usize], self.home(c));
        u64::from(boot.rots[home]) << 32 | u64::from(boot.history[home])
    }

    /// Whether a shard's disk had rotted before a run of the server.
    pub(crate) fn is_rotten(&self, boot: u32, shard: u16) -> bool {
        self.boots[boot as usize].rots[usize::from(shard)] > 0
    }

    /// Whether a conversation may miss something because its home's disk has rotted.
    pub(crate) fn may_miss(&self, boot: u32, c: u128) -> bool {
        self.is_rotten(boot, self.home(c) as u16)
    }

    /// The conversation, in the history of this run; `None` if a later one has unsaid it.
    fn at(&mut self, boot: u32, c: u128) -> Option<&mut Conversation> {
        let epoch = self.history(boot, c);
        let known = self.conversations.get(&c).map_or(0, |conversation| conversation.epoch);
        if epoch < known {
            return None;
        }
        if epoch > known && known > 0 {
            // Level memory, and the power was gone: what was told before may be unsaid, but for what had been flushed.
            let safe_us = self.flushed_before(known, boot, c);
            self.rewind(c, safe_us);
        }
        let conversation = self.conversations.entry(c).or_insert_with(Conversation::new);
        conversation.epoch = epoch;
        Some(conversation)
    }

    /// Takes every conversation to the history of the last run, whoever has heard of it since.
    pub(crate) fn settle(&mut self) {
        let boot = self.boots.len() as u32 - 1;
        let all: Vec<u128> = self.conversations.keys().copied().collect();
        for c in all {
            self.at(boot, c);
        }
    }

    /// What was told of a conversation in history `known` before this time was flushed when the power went that ended it. After damage nothing is sure.
    fn flushed_before(&self, known: u64, boot: u32, c: u128) -> u64 {
        let home = self.home(c);
        let is_later = |run: &u32| {
            let run = &self.boots[*run as usize];
            run.history[home] > 0 && u64::from(run.history[home]) > known & 0xFFFF_FFFF
        };
        if self.boots[boot as usize].rots[home] > 0 {
            return 0;
        }
        (0..=boot).find(is_later).map_or(0, |run| self.boots[run as usize].flushed_us[home])
    }

    /// All conversations that anybody heard of, but for those that a loss of power at level `memory` may have unsaid.
    pub(crate) fn conversations(&self) -> impl Iterator<Item = u128> + '_ {
        self.standing().map(|(c, _)| c)
    }

    fn standing(&self) -> impl Iterator<Item = (u128, &Conversation)> {
        let boot = self.boots.len() as u32 - 1;
        let stands = move |c: u128, conversation: &Conversation| {
            conversation.heard && conversation.epoch == self.history(boot, c) && !self.may_miss(boot, c)
        };
        self.conversations
            .iter()
            .map(|(&c, conversation)| (c, conversation))
            .filter(move |&(c, conversation)| stands(c, conversation))
    }

    /// Somebody heard that this conversation exists.
    pub(crate) fn heard_of(&mut self, boot: u32, c: u128) {
        if let Some(conversation) = self.at(boot, c) {
            conversation.heard = true;
        }
    }

    /// Whether it must exist: somebody was told something of it in the history of this run.
    pub(crate) fn knows(&mut self, boot: u32, c: u128) -> bool {
        self.at(boot, c).is_some_and(|conversation| {
            let told = |stream: &Stream| !stream.facts.is_empty() || !stream.acks.is_empty();
            conversation.started || conversation.streams.iter().any(told)
        })
    }

    /// Somebody was told a numbered event.
    pub(crate) fn told(&mut self, boot: u32, audience: Audience, c: u128, number: u32, push: &Json<'_>) {
        self.told += 1;
        let what = match self.read(audience, c, push) {
            Ok(what) => what,
            Err(why) => {
                return self
                    .broken(|| format!("{audience:?} was told {number} of {c:032x}: {why}: {push:?}"));
            }
        };
        if number == 0 {
            return self.broken(|| format!("number 0 of {c:032x} was told"));
        }
        let (now_us, reading, hash) = (self.now_us, self.reading, push.hash());
        let Some(conversation) = self.at(boot, c) else { return };
        conversation.heard = true;
        let stream = &mut conversation.streams[audience as usize];
        let ack = stream.acks.get(&number).copied();
        let mut broken = None;
        let fact = stream.facts.entry(number).or_insert_with(|| Fact {
            what: what.clone(),
            hash,
            first_us: now_us,
            read_back: false,
        });
        if fact.hash != hash || fact.what != what {
            broken = Some(format!("{number} of {c:032x} was {:?} and is {what:?}: {push:?}", fact.what));
        }
        fact.read_back |= reading;
        if let Some(intent) = ack
            && !self.intents[intent].is_told_as(&what, intent)
        {
            let intent = &self.intents[intent];
            broken = Some(format!("{number} of {c:032x} was acknowledged for {intent:?} and is {what:?}"));
        }
        if let What::Message { intent } | What::Note { intent } = what {
            broken = broken.or(self.intents[intent].told(intent, audience, c, number));
        }
        if let Some(broken) = broken {
            self.broken(|| broken);
        }
    }

    /// What a push says, if somebody may have said it.
    fn read(&self, audience: Audience, c: u128, push: &Json<'_>) -> Result<What, String> {
        let op = push.get("op").text().unwrap_or_default();
        let d = push.get("d");
        if d.get("ts").number().is_none() {
            return Err("without a time".into());
        }
        let id = |json: &Json<'_>| json.text().and_then(desk::id::bits_of).ok_or("an id is missing");
        match op {
            "msg" | "note" => {
                if op == "note" && audience == Audience::Visitor {
                    return Err("a note is for agents".into());
                }
                let body = d.get("body").text().ok_or("no body")?;
                let from = id(d.get("from").get("id"))?;
                let kind = d.get("from").get("kind").text().unwrap_or_default();
                let intent = self.said(c, op == "note", from, kind, body)?;
                Ok(if op == "note" { What::Note { intent } } else { What::Message { intent } })
            }
            "agent" => {
                d.get("joined").get("name").text().ok_or("no name")?;
                Ok(What::Joined { agent: id(d.get("joined").get("id"))? })
            }
            "status" => {
                let by = id(d.get("by").get("id"))?;
                match d.get("status").text() {
                    Some("closed") => Ok(What::Closed { by }),
                    Some("waiting") => Ok(What::Reopened { by }),
                    _ => Err("an unknown status".into()),
                }
            }
            _ => Err("no numbered event".into()),
        }
    }

    /// Numbers that are gone for good.
    pub(crate) fn lost(&mut self, boot: u32, audience: Audience, c: u128, from: u32, to: u32) {
        if self.may_miss(boot, c) {
            let known = |conversation: &mut Conversation| {
                conversation.streams[audience as usize].facts.range(from..=to).next().is_some()
            };
            if self.at(boot, c).is_some_and(known) {
                self.broken(|| {
                    format!("{from}..={to} of {c:032x} are said to be lost, and were told before")
                });
            }
            return;
        }
        self.broken(|| format!("{audience:?} was told that {from}..={to} of {c:032x} are lost, in run {boot}, and nothing was damaged"));
    }

    /// A party marks what it has seen.
    pub(crate) fn sees(&mut self, boot: u32, party: Audience, c: u128, number: u32) {
        if let Some(conversation) = self.at(boot, c) {
            let seen = &mut conversation.seen[party as usize];
            *seen = (*seen).max(number);
        }
    }

    /// A listener of the party's own stream was told that the party has seen everything up to `number`.
    pub(crate) fn told_seen(&mut self, boot: u32, party: Audience, c: u128, number: u32) {
        let Some(conversation) = self.at(boot, c) else { return };
        let seen = conversation.seen[party as usize];
        if number > seen {
            self.broken(|| format!("{party:?} is said to have seen {number} of {c:032x}, and saw {seen}"));
        }
    }

    /// A `sync` told the head of a stream.
    pub(crate) fn told_head(&mut self, boot: u32, audience: Audience, c: u128, head: u32, epoch: u64) {
        let expected = self.history(boot, c) & 0xFFFF_FFFF;
        if expected != epoch {
            self.broken(|| format!("the history epoch of {c:032x} is {expected}, and {epoch} was told"));
        }
        let reading = self.reading;
        let Some(conversation) = self.at(boot, c) else { return };
        conversation.heard = true;
        let stream = &mut conversation.streams[audience as usize];
        if reading {
            // What was sent before the reading began may arrive late, with a lower head.
            stream.final_head = Some(stream.final_head.unwrap_or(0).max(head));
        }
    }

    /// Somebody was told where a conversation stands behind a number.
    pub(crate) fn told_state(&mut self, boot: u32, audience: Audience, c: u128, number: u32, state: State) {
        if let Some(conversation) = self.at(boot, c) {
            conversation.states.insert((audience, number, state));
        }
    }

    /// A list showed the beginning of a text.
    pub(crate) fn previewed(&mut self, boot: u32, c: u128, text: &str) {
        if text.is_empty() {
            return;
        }
        let intent = Intent::number_in(text)
            .filter(|&number| self.intents.get(number).is_some_and(|intent| intent.body.starts_with(text)));
        let Some(intent) = intent else {
            return self.broken(|| format!("a preview of {c:032x} that nobody wrote: {text}"));
        };
        if let Some(conversation) = self.at(boot, c) {
            conversation.previewed.insert(intent);
        }
    }

    /// The highest number that anybody was told in the history of this run. Damage never lowers it: it begins another.
    pub(crate) fn highest(&self, boot: u32, audience: Audience, c: u128) -> u32 {
        let Some(conversation) = self.conversations.get(&c) else { return 0 };
        if conversation.epoch != self.history(boot, c) {
            return 0;
        }
        conversation.streams[audience as usize].facts.keys().next_back().copied().unwrap_or(0)
    }

    /// The head of a stream as it was told after the faults had stopped.
    pub(crate) fn final_head(&self, audience: Audience, c: u128) -> Option<u32> {
        self.conversations.get(&c)?.streams[audience as usize].final_head
    }

    /// A list of waiting conversations, in order: conversation, since when, and place.
    pub(crate) fn listed(&mut self, boot: u32, rows: &[(u128, u64)]) {
        let Boot { listed, waits, .. } = &mut self.boots[boot as usize];
        let mut broken = None;
        for (at, &(first, first_since)) in rows.iter().enumerate() {
            for &(second, second_since) in &rows[at + 1..] {
                if let (Some(&(before, since)), Some(&(after, after_since))) =
                    (waits.get(&first), waits.get(&second))
                    && (since, after_since) == (first_since, second_since)
                    && before > after
                {
                    broken = Some(format!(
                        "{first:032x} with ticket {before} is listed before {second:032x} with ticket {after}"
                    ));
                }
                if listed.contains(&(second, second_since, first, first_since)) {
                    broken = Some(format!("{first:032x} has overtaken {second:032x} in the queue"));
                }
                listed.insert((first, first_since, second, second_since));
            }
        }
        if let Some(broken) = broken {
            self.broken(|| broken);
        }
    }
}
