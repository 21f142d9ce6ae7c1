//! The events of a conversation: kept whole in one block of the store each, found by their number.
//!
//! ```text
//!  0        8         24           32     36       40         42         44     45      48
//! +--------+---------+------------+------+--------+----------+----------+------+-------+------------+
//! | ts (8) | cid(16) | hash (8)   | vs(4)| size(4)| device(2)| author(2)| what | 0 (3) | body (size)|
//! +--------+---------+------------+------+--------+----------+----------+------+-------+------------+
//! ```
//! `hash` is the body's hash, or the epoch of an assignment. This is memory, not a format: on disk an event is the record it was, and
//! [`Conversations::record`] gives back exactly that record.

use super::run::Run;
use super::{ConvIx, Conversation, Conversations, devices};
use crate::encode::{Author, AuthorKind, EventView, EventWhat};
use crate::id::AgentId;
use crate::record::{Assigned, Closed, Message, Record, Reopened};
use crate::store::{Block, Store, rounded};

/// Numbers a conversation may have: its index is one block.
pub const EVENTS_MAX: u32 = (crate::store::SLAB_SIZE / 4) as u32;
/// Agents who may take part in one conversation; one more is refused with `overloaded`.
pub const AGENTS_MAX: u32 = 32_768;
/// Bytes of an event beside its body.
pub(super) const HEAD_SIZE: usize = 48;

const NO_DEVICE: u16 = u16::MAX;
const BY_SYSTEM: u16 = 0;
const BY_VISITOR: u16 = 1;
const FIRST_AGENT: u16 = 2;

/// Blocks of events 1, 2, 3, …; 0 where damage took one.
pub(super) type Index = Run<4, 8>;
/// Agents who took part: id (16), number of his latest assignment (4, 0 = none).
pub(super) type Agents = Run<20, 2>;

const _: () =
    assert!(devices::DEVICES_MAX < NO_DEVICE as u32, "a device's index fits beside the mark for none");
const _: () = assert!(AGENTS_MAX + (FIRST_AGENT as u32) < 1 << 16, "an agent's index fits");

/// What kind of event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Message = 1,
    Note = 2,
    Assigned = 3,
    Closed = 4,
    Reopened = 5,
}

impl What {
    pub(super) fn for_visitor(self) -> bool {
        self != What::Note || crate::plant::is("note-leaks")
    }
}

/// An event as a record tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewEvent<'a> {
    pub(super) s: u32,
    pub(super) vs: u32,
    pub(super) ts_ms: u64,
    pub(super) what: What,
    pub(super) author_kind: AuthorKind,
    pub(super) author: u128,
    pub(super) device: u128,
    pub(super) cid: u128,
    /// Body hash, or the epoch of an assignment.
    pub(super) hash: u64,
    pub(super) body: &'a str,
}

impl<'a> NewEvent<'a> {
    /// The event of a numbered record.
    pub(super) fn of(record: &Record<'a>) -> Option<NewEvent<'a>> {
        Some(match *record {
            Record::Message(message) => NewEvent::said(What::Message, message),
            Record::Note(note) => NewEvent::said(What::Note, note),
            Record::Assigned(assigned) => NewEvent {
                s: assigned.s,
                vs: assigned.vs,
                ts_ms: assigned.ts_ms,
                what: What::Assigned,
                author_kind: AuthorKind::Agent,
                author: assigned.agent.bits(),
                device: assigned.device,
                cid: assigned.cid,
                hash: u64::from(assigned.epoch),
                body: assigned.agent_name,
            },
            Record::Closed(closed) => NewEvent {
                s: closed.s,
                vs: closed.vs,
                ts_ms: closed.ts_ms,
                what: What::Closed,
                author_kind: closed.by_kind,
                author: closed.by,
                device: closed.device,
                cid: closed.cid,
                hash: 0,
                body: "",
            },
            Record::Reopened(reopened) => NewEvent {
                s: reopened.s,
                vs: reopened.vs,
                ts_ms: reopened.ts_ms,
                what: What::Reopened,
                author_kind: reopened.by_kind,
                author: reopened.by,
                device: 0,
                cid: 0,
                hash: 0,
                body: "",
            },
            Record::Started(_)
            | Record::Queued { .. }
            | Record::Receipts { .. }
            | Record::SnapshotConversation(_)
            | Record::SnapshotEvents(_) => return None,
        })
    }

    fn said(what: What, message: Message<'a>) -> NewEvent<'a> {
        NewEvent {
            s: message.s,
            vs: message.vs,
            ts_ms: message.ts_ms,
            what,
            author_kind: message.author_kind,
            author: message.author,
            device: message.device,
            cid: message.cid,
            hash: message.body_hash,
            body: message.body,
        }
    }
}

/// The fixed part of a stored event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) ts_ms: u64,
    pub(super) cid: u128,
    pub(super) hash: u64,
    pub(super) vs: u32,
    size: u32,
    device: u16,
    author: u16,
    pub(super) what: What,
    block: Block,
}

impl Head {
    fn read(store: &Store, block: Block) -> Head {
        let bytes: &[u8; HEAD_SIZE] =
            store.bytes(block, HEAD_SIZE).try_into().expect("so many bytes were asked for");
        Head {
            ts_ms: u64::from_le_bytes(part(bytes, 0)),
            cid: u128::from_le_bytes(part(bytes, 8)),
            hash: u64::from_le_bytes(part(bytes, 24)),
            vs: u32::from_le_bytes(part(bytes, 32)),
            size: u32::from_le_bytes(part(bytes, 36)),
            device: u16::from_le_bytes(part(bytes, 40)),
            author: u16::from_le_bytes(part(bytes, 42)),
            what: match bytes[44] {
                1 => What::Message,
                2 => What::Note,
                3 => What::Assigned,
                4 => What::Closed,
                5 => What::Reopened,
                other => unreachable!("an event of kind {other} was never stored"),
            },
            block,
        }
    }

    fn bytes(&self) -> [u8; HEAD_SIZE] {
        let mut bytes = [0; HEAD_SIZE];
        bytes[..8].copy_from_slice(&self.ts_ms.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.cid.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.hash.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.vs.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.size.to_le_bytes());
        bytes[40..42].copy_from_slice(&self.device.to_le_bytes());
        bytes[42..44].copy_from_slice(&self.author.to_le_bytes());
        bytes[44] = self.what as u8;
        bytes
    }

    pub(super) fn body<'a>(&self, store: &'a Store) -> &'a str {
        let bytes = &store.bytes(self.block, HEAD_SIZE + self.size as usize)[HEAD_SIZE..];
        simdutf8::basic::from_utf8(bytes).expect("a body was a string when it was stored")
    }

    pub(super) fn is_by_visitor(&self) -> bool {
        self.author == BY_VISITOR
    }

    /// The agent who did it, if it was one.
    pub(super) fn agent(&self, conversation: &Conversation, store: &Store) -> Option<AgentId> {
        let index = self.author.checked_sub(FIRST_AGENT)?;
        let bits = u128::from_le_bytes(part(conversation.agents.at(store, u32::from(index)), 0));
        Some(AgentId::from_bits(bits).expect("only agents' ids are put there"))
    }

    pub(super) fn device(&self) -> Option<u32> {
        (self.device != NO_DEVICE).then_some(u32::from(self.device))
    }
}

fn part<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    bytes[start..start + N].try_into().expect("N bytes were cut")
}

/// The stored event `s`, if it exists and damage has not taken it.
pub(super) fn head(conversation: &Conversation, store: &Store, s: u32) -> Option<Head> {
    let index = s.checked_sub(1).filter(|&index| index < conversation.index.count())?;
    let block = Block::from_bits(u32::from_le_bytes(*conversation.index.at(store, index)));
    (!block.is_none()).then(|| Head::read(store, block))
}

pub(super) fn find_agent(conversation: &Conversation, store: &Store, agent: u128) -> Option<u32> {
    let bits = agent.to_le_bytes();
    conversation.agents.iter(store).position(|entry| entry[..16] == bits).map(|index| index as u32)
}

/// Stores an event whose place is empty. Its author has been checked.
pub(super) fn put(conversation: &mut Conversation, store: &mut Store, event: &NewEvent<'_>) {
    let author = match event.author_kind {
        AuthorKind::System => BY_SYSTEM,
        AuthorKind::Visitor => BY_VISITOR,
        AuthorKind::Agent => FIRST_AGENT + intern_agent(conversation, store, event) as u16,
    };
    let device = match event.device {
        0 => None,
        fingerprint => devices::intern(&mut conversation.devices, store, fingerprint),
    };
    let block = store.take(HEAD_SIZE + event.body.len());
    let head = Head {
        ts_ms: event.ts_ms,
        cid: event.cid,
        hash: event.hash,
        vs: event.vs,
        size: event.body.len() as u32,
        device: device.map_or(NO_DEVICE, |index| index as u16),
        author,
        what: event.what,
        block,
    };
    let bytes = store.bytes_mut(block, HEAD_SIZE + event.body.len());
    bytes[..HEAD_SIZE].copy_from_slice(&head.bytes());
    bytes[HEAD_SIZE..].copy_from_slice(event.body.as_bytes());
    while conversation.index.count() < event.s {
        conversation.index.push(store, Block::NONE.bits().to_le_bytes());
    }
    conversation.index.set(store, event.s - 1, block.bits().to_le_bytes());
    conversation.events_size += rounded(HEAD_SIZE + event.body.len()) as u64;
    if event.what == What::Message {
        conversation.last_message = conversation.last_message.max(event.s);
    }
}

fn intern_agent(conversation: &mut Conversation, store: &mut Store, event: &NewEvent<'_>) -> u32 {
    let joined = if event.what == What::Assigned { event.s } else { 0 };
    let mut entry = [0; 20];
    entry[..16].copy_from_slice(&event.author.to_le_bytes());
    let Some(index) = find_agent(conversation, store, event.author) else {
        entry[16..].copy_from_slice(&joined.to_le_bytes());
        conversation.agents.push(store, entry);
        return conversation.agents.count() - 1;
    };
    let known = u32::from_le_bytes(part(conversation.agents.at(store, index), 16));
    // The first one stays: a later name must not change what was told under an earlier number.
    if joined > 0 && (known == 0 || joined < known) {
        entry[16..].copy_from_slice(&joined.to_le_bytes());
        conversation.agents.set(store, index, entry);
    }
    index
}

/// Finds the tables of what devices said anew, in the order of the numbers.
pub(super) fn remember_again(conversation: &Conversation, store: &mut Store) {
    devices::forget_all(&conversation.devices, store);
    for s in 1..=conversation.index.count() {
        if let Some(head) = head(conversation, store, s)
            && let Some(device) = head.device()
        {
            devices::remember(&conversation.devices, store, device, head.cid, s);
        }
    }
}

impl Conversations {
    /// Event `s` of the agent stream; nothing for a number that is not there yet or that damage took ([`Conversations::missing_in`]).
    pub fn event(&self, ix: ConvIx, s: u32) -> Option<EventView<'_>> {
        let conversation = self.conversation(ix);
        let head = head(conversation, &self.store, s)?;
        let body = head.body(&self.store);
        let what = match head.what {
            What::Message => EventWhat::Message { from: self.author(ix, s, &head), body },
            What::Note => EventWhat::Note { from: self.author(ix, s, &head), body },
            What::Assigned => EventWhat::Joined {
                agent: head.agent(conversation, &self.store).expect("only an agent is assigned"),
                name: body,
            },
            What::Closed => EventWhat::Closed { by: self.author(ix, s, &head) },
            What::Reopened => EventWhat::Reopened { by: self.author(ix, s, &head) },
        };
        Some(EventView { c: conversation.id, s, vs: head.vs, ts: head.ts_ms, what })
    }

    /// Event `s`, if it is one that changes who has the conversation; nothing for a message or a note, at once.
    pub fn change(&self, ix: ConvIx, s: u32) -> Option<EventWhat<'_>> {
        match head(self.conversation(ix), &self.store, s)?.what {
            What::Message | What::Note => None,
            What::Assigned | What::Closed | What::Reopened => self.event(ix, s).map(|view| view.what),
        }
    }

    fn author(&self, ix: ConvIx, s: u32, head: &Head) -> Author<'_> {
        let conversation = self.conversation(ix);
        if let Some(agent) = head.agent(conversation, &self.store) {
            return Author { kind: AuthorKind::Agent, id: agent.bits(), name: self.name_at(ix, agent, s) };
        }
        if head.is_by_visitor() {
            let name = self.name(ix);
            return Author { kind: AuthorKind::Visitor, id: conversation.visitor.bits(), name };
        }
        Author { kind: AuthorKind::System, id: 0, name: "" }
    }

    /// The name of an agent as his first assignment here told it, if that is not later than event `s`; else empty. What is told under a number never
    /// changes, so a note before the first assignment has no name.
    fn name_at(&self, ix: ConvIx, agent: AgentId, s: u32) -> &str {
        let conversation = self.conversation(ix);
        find_agent(conversation, &self.store, agent.bits())
            .map(|index| u32::from_le_bytes(part(conversation.agents.at(&self.store, index), 16)))
            .filter(|&joined| joined <= s)
            .and_then(|joined| head(conversation, &self.store, joined))
            .map_or("", |head| head.body(&self.store))
    }

    /// The record that event `s` was, to be written again (a checkpoint, a follower that met damage).
    pub fn record(&self, ix: ConvIx, s: u32) -> Option<Record<'_>> {
        let conversation = self.conversation(ix);
        let head = head(conversation, &self.store, s)?;
        let c = conversation.id;
        let (vs, ts_ms, cid) = (head.vs, head.ts_ms, head.cid);
        let agent = head.agent(conversation, &self.store);
        let (by_kind, by) = match agent {
            Some(agent) => (AuthorKind::Agent, agent.bits()),
            None if head.is_by_visitor() => (AuthorKind::Visitor, conversation.visitor.bits()),
            None => (AuthorKind::System, 0),
        };
        let device =
            head.device().map_or(0, |index| devices::fingerprint(&conversation.devices, &self.store, index));
        let body = head.body(&self.store);
        let message = Message {
            c,
            s,
            vs,
            ts_ms,
            author_kind: by_kind,
            author: by,
            device,
            cid,
            body_hash: head.hash,
            body,
        };
        Some(match head.what {
            What::Message => Record::Message(message),
            What::Note => Record::Note(message),
            What::Assigned => Record::Assigned(Assigned {
                c,
                s,
                vs,
                ts_ms,
                agent: agent.expect("only an agent is assigned"),
                agent_name: body,
                epoch: head.hash as u32,
                device,
                cid,
            }),
            What::Closed => Record::Closed(Closed { c, s, vs, ts_ms, by_kind, by, device, cid }),
            What::Reopened => Record::Reopened(Reopened { c, s, vs, ts_ms, by_kind, by }),
        })
    }

    /// Where the visitor stream's number `vs` stands on the agent stream; nothing if it is not there yet or damage took it.
    pub fn s_of_vs(&self, ix: ConvIx, vs: u32) -> Option<u32> {
        let conversation = self.conversation(ix);
        if vs == 0 || vs > conversation.vs {
            return None;
        }
        // What is told is mostly the newest, and no note stands behind that.
        let guess = vs + (conversation.s - conversation.vs);
        if head(conversation, &self.store, guess)
            .is_some_and(|found| found.vs == vs && found.what.for_visitor())
        {
            return Some(guess);
        }
        // The smallest `s` whose event, or the next present one below it, has reached `vs`.
        let (mut low, mut high) = (1, conversation.s);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.visible_until(conversation, middle) >= vs { high = middle } else { low = middle + 1 }
        }
        let found = head(conversation, &self.store, low)?;
        (found.vs == vs && found.what.for_visitor()).then_some(low)
    }

    fn visible_until(&self, conversation: &Conversation, s: u32) -> u32 {
        (1..=s).rev().find_map(|s| head(conversation, &self.store, s)).map_or(0, |head| head.vs)
    }

    /// The first range of numbers in `from..=to` that damage took: first and last of it. Nothing in the common case, at once.
    pub fn missing_in(&self, ix: ConvIx, from: u32, to: u32) -> Option<(u32, u32)> {
        let conversation = self.conversation(ix);
        if conversation.missing == 0 {
            return None;
        }
        let is_missing = |s: &u32| head(conversation, &self.store, *s).is_none();
        let to = to.min(conversation.s);
        let first = (from.max(1)..=to).find(is_missing)?;
        let last = (first..=to).take_while(is_missing).last()?;
        Some((first, last))
    }
}
