//! The one point of change: a record that the journal has, or will have before anybody hears of it, becomes state.
//!
//! While serving, a record must fit what [`Conversations`] decided: the next numbers, a state that allows it. In recovery it may come
//! after damage or before the checkpoint that explains it, so replay takes what fits, leaves a gap where something is missing, and names it at the end.

use super::events::{self, EVENTS_MAX, NewEvent, What};
use super::{About, ConvIx, Conversation, Conversations, Receipts, Status, devices};
use crate::encode::AuthorKind;
use crate::id::{AgentId, ConversationId, VisitorId};
use crate::plant;
use crate::record::{ChunkRecords, Record, RecordError, SnapshotConversation, SnapshotEvents, Started};

/// What a record did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// To which conversation.
    pub ix: ConvIx,
    /// Its numbers (`s`, `vs`), if the kind takes one.
    pub numbered: Option<(u32, u32)>,
}

/// Why a record does not fit. While serving that is our fault; in recovery the record is damage to be named, and the next one is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyError {
    /// No conversation has this id.
    Unknown,
    /// There is one with this id already.
    AlreadyStarted,
    /// Its visitor has another one.
    VisitorHasOne,
    /// It is not the next number.
    Number {
        /// The next (`s`, `vs`).
        expected: (u32, u32),
        /// Those of the record.
        found: (u32, u32),
    },
    /// The state does not allow it.
    State(Status),
    /// Its author is not of the kind it claims, or another visitor.
    Author,
    /// The number is beyond what a conversation may have.
    TooMany,
    /// A text is longer than what can be kept.
    TooLarge,
    /// A checkpoint record while serving.
    Snapshot,
    /// A record inside a chunk cannot be read, or is another conversation's.
    Chunk(RecordError),
}

impl core::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ApplyError::Unknown => f.write_str("no conversation has this id"),
            ApplyError::AlreadyStarted => f.write_str("a conversation with this id exists"),
            ApplyError::VisitorHasOne => f.write_str("its visitor has another conversation"),
            ApplyError::Number { expected, found } => {
                write!(f, "its numbers are {found:?} where {expected:?} come next")
            }
            ApplyError::State(status) => write!(f, "it cannot happen to a conversation that is {status:?}"),
            ApplyError::Author => f.write_str("its author cannot have written it"),
            ApplyError::TooMany => f.write_str("its number is larger than any conversation's"),
            ApplyError::TooLarge => f.write_str("its text is larger than any that is accepted"),
            ApplyError::Snapshot => f.write_str("a checkpoint is only applied in recovery"),
            ApplyError::Chunk(error) => write!(f, "in a checkpoint's events: {error}"),
        }
    }
}

impl core::error::Error for ApplyError {}

/// What recovery could not put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// These events are gone.
    Missing {
        /// Of this conversation.
        c: ConversationId,
        /// First number, in the agent stream.
        from: u32,
        /// Last number.
        to: u32,
    },
    /// Its beginning is gone; what it is was put together from its events.
    Rebuilt {
        /// The conversation.
        c: ConversationId,
        /// Whether they told whose it is. If not, it is closed and can only be read by agents.
        visitor_known: bool,
    },
}

impl Conversations {
    /// Makes a record true.
    ///
    /// In recovery an event that is there already is not an error and changes nothing.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing was changed (except by [`ApplyError::Chunk`], where the records before stay).
    pub fn apply(&mut self, record: &Record<'_>) -> Result<Applied, ApplyError> {
        if let Some(event) = NewEvent::of(record) {
            let ix = self.known(record.conversation())?;
            self.apply_event(ix, &event)?;
            return Ok(Applied { ix, numbered: Some((event.s, event.vs)) });
        }
        let ix = match record {
            Record::Started(started) => self.apply_started(started)?,
            Record::Queued { c, ticket } => self.apply_queued(*c, *ticket)?,
            Record::Receipts { c, visitor, agent } => {
                let ix = self.known(*c)?;
                let conversation = self.rows.get_mut(ix);
                let written = Receipts { visitor: *visitor, agent: *agent };
                conversation.receipts = conversation.receipts.merged(written);
                conversation.pending = conversation.pending.merged(conversation.receipts);
                ix
            }
            Record::SnapshotConversation(snapshot) => self.apply_snapshot(snapshot)?,
            Record::SnapshotEvents(chunk) => self.apply_chunk(chunk)?,
            Record::Message(_)
            | Record::Note(_)
            | Record::Assigned(_)
            | Record::Closed(_)
            | Record::Reopened(_) => unreachable!("a numbered record is an event"),
        };
        Ok(Applied { ix, numbered: None })
    }

    /// Recovery is over. What is still without a beginning is put together from its events, and what is missing is named, in a fixed order.
    pub fn finish_replay(&mut self) -> Vec<Damage> {
        let mut damage = Vec::new();
        for ix in self.iter() {
            let c = self.conversation(ix).id;
            if !self.conversation(ix).is_based {
                self.rebuild(ix);
                damage.push(Damage::Rebuilt { c, visitor_known: !self.conversation(ix).is_orphan() });
            }
            self.put_in_order(ix);
            let mut from = 1;
            while let Some((first, last)) = self.missing_in(ix, from, u32::MAX) {
                damage.push(Damage::Missing { c, from: first, to: last });
                from = last + 1;
            }
        }
        self.is_replaying = false;
        damage
    }

    /// The conversation of a record; in recovery its beginning may come later.
    fn known(&mut self, c: ConversationId) -> Result<ConvIx, ApplyError> {
        match self.find(c) {
            Some(ix) => Ok(ix),
            None if self.is_replaying => Ok(self.add(c)),
            None => Err(ApplyError::Unknown),
        }
    }

    fn add(&mut self, c: ConversationId) -> ConvIx {
        let ix = self.rows.push(Conversation::unknown(c));
        self.slots.add(&mut self.rows, ix);
        ix
    }

    fn apply_started(&mut self, started: &Started<'_>) -> Result<ConvIx, ApplyError> {
        check_texts(started)?;
        let found = self.find(started.c);
        if !self.is_replaying {
            if found.is_some() {
                return Err(ApplyError::AlreadyStarted);
            }
            if self.of_visitor(started.visitor).is_some() {
                return Err(ApplyError::VisitorHasOne);
            }
        }
        let ix = found.unwrap_or_else(|| self.add(started.c));
        if !self.conversation(ix).is_based {
            self.rows.get_mut(ix).changed_ms = started.ts_ms;
            self.set_base(ix, started);
            self.catch_up(ix);
        }
        Ok(ix)
    }

    fn apply_queued(&mut self, c: ConversationId, ticket: u64) -> Result<ConvIx, ApplyError> {
        let ix = self.known(c)?;
        let conversation = self.rows.get_mut(ix);
        if conversation.status != Status::Waiting && !self.is_replaying {
            return Err(ApplyError::State(conversation.status));
        }
        if conversation.status == Status::Waiting {
            conversation.ticket = Some(ticket);
        }
        Ok(ix)
    }

    fn apply_event(&mut self, ix: ConvIx, event: &NewEvent<'_>) -> Result<(), ApplyError> {
        let conversation = self.conversation(ix);
        if event.s == 0 || event.s > EVENTS_MAX {
            return Err(ApplyError::TooMany);
        }
        if event.body.len() > crate::store::SLAB_SIZE - events::HEAD_SIZE {
            return Err(ApplyError::TooLarge);
        }
        check_author(conversation, event)?;
        if self.is_replaying {
            if events::head(conversation, &self.store, event.s).is_none() {
                self.replay_event(ix, event);
            }
            return Ok(());
        }
        check_next(conversation, event)?;
        let conversation = self.rows.get_mut(ix);
        events::put(conversation, &mut self.store, event);
        self.remember(ix, event.s);
        self.advance(ix, event.s);
        Ok(())
    }

    fn replay_event(&mut self, ix: ConvIx, event: &NewEvent<'_>) {
        let conversation = self.rows.get_mut(ix);
        if !conversation.is_based
            && event.author_kind == AuthorKind::Visitor
            && let Some(visitor) = VisitorId::from_bits(event.author)
        {
            conversation.visitor = visitor;
        }
        let is_next = event.s > conversation.index.count();
        events::put(conversation, &mut self.store, event);
        if is_next && !conversation.is_unordered {
            self.remember(ix, event.s);
        } else {
            conversation.is_unordered = true;
        }
        let conversation = self.rows.get_mut(ix);
        if !conversation.is_based {
            return;
        }
        if event.s > conversation.s {
            conversation.missing += event.s - conversation.s - 1;
            self.advance(ix, event.s);
        } else {
            conversation.missing -= 1;
        }
    }

    fn remember(&mut self, ix: ConvIx, s: u32) {
        if self.is_replaying && plant::is("dedupe-not-rebuilt") {
            return;
        }
        let conversation = self.rows.get(ix);
        let head = events::head(conversation, &self.store, s).expect("it was put there");
        if let Some(device) = head.device() {
            devices::remember(&conversation.devices, &mut self.store, device, head.cid, s);
        }
    }

    /// Event `s`, the highest so far, changes what the conversation is.
    fn advance(&mut self, ix: ConvIx, s: u32) {
        let conversation = self.rows.get_mut(ix);
        let head = events::head(conversation, &self.store, s).expect("it was put there");
        let agent = head.agent(conversation, &self.store);
        conversation.s = s;
        conversation.vs = conversation.vs.max(head.vs);
        match head.what {
            What::Note => {}
            What::Message => {
                // Only after damage: whoever speaks shows what must have happened before.
                if head.is_by_visitor() && conversation.status == Status::Closed {
                    conversation.wait(head.ts_ms);
                }
                if agent.is_some() && conversation.owner != agent {
                    let epoch = conversation.epoch + 1;
                    conversation.open(agent, epoch, head.ts_ms);
                }
            }
            What::Assigned => conversation.open(agent, head.hash as u32, head.ts_ms),
            What::Closed => conversation.close(head.ts_ms),
            What::Reopened => conversation.wait(head.ts_ms),
        }
    }

    /// Events that came before the beginning did are made true now.
    fn catch_up(&mut self, ix: ConvIx) {
        let conversation = self.conversation(ix);
        let (from, to) = (conversation.s + 1, conversation.index.count());
        for s in from..=to {
            if events::head(self.conversation(ix), &self.store, s).is_some() {
                self.advance(ix, s);
            }
        }
        let conversation = self.rows.get_mut(ix);
        let present = (1..=conversation.s).filter(|&s| events::head(conversation, &self.store, s).is_some());
        conversation.missing = conversation.s - present.count() as u32;
    }

    /// Who and where it is; from here on it is found by its visitor.
    fn set_base(&mut self, ix: ConvIx, started: &Started<'_>) {
        let before = self.conversation(ix);
        let is_same_visitor = before.is_based && before.visitor == started.visitor;
        if before.is_based && !is_same_visitor {
            self.slots.remove_visitor(&self.rows, ix);
        }
        let conversation = self.rows.get_mut(ix);
        conversation.visitor = started.visitor;
        conversation.inbox = started.inbox;
        conversation.started_ms = started.ts_ms;
        conversation.is_based = true;
        if !conversation.about.block.is_none() {
            self.store.give(conversation.about.block, conversation.about.size());
        }
        let mut about = About {
            name_size: started.name.len() as u16,
            page_size: started.page.len() as u16,
            locale_size: started.locale.len() as u16,
            ..About::NONE
        };
        about.block = self.store.take(about.size());
        let mut rest = self.store.bytes_mut(about.block, about.size());
        for part in [
            &About::key(started.device, started.cid)[..],
            started.name.as_bytes(),
            started.page.as_bytes(),
            started.locale.as_bytes(),
        ] {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        conversation.about = about;
        if !is_same_visitor && !conversation.is_orphan() {
            self.slots.add_visitor(&self.rows, ix);
        }
    }

    fn apply_snapshot(&mut self, snapshot: &SnapshotConversation<'_>) -> Result<ConvIx, ApplyError> {
        if !self.is_replaying {
            return Err(ApplyError::Snapshot);
        }
        check_texts(&snapshot.started)?;
        if snapshot.s > EVENTS_MAX {
            return Err(ApplyError::TooMany);
        }
        let ix = self.known(snapshot.started.c)?;
        let conversation = self.conversation(ix);
        if conversation.is_based && conversation.s > snapshot.s {
            // An older one: the log was applied beyond it already.
            return Ok(ix);
        }
        self.set_base(ix, &snapshot.started);
        let conversation = self.rows.get_mut(ix);
        conversation.status = snapshot.status;
        conversation.owner = snapshot.owner;
        conversation.epoch = snapshot.epoch;
        conversation.ticket = snapshot.ticket;
        conversation.s = snapshot.s;
        conversation.vs = snapshot.vs;
        conversation.changed_ms = snapshot.changed_ms;
        conversation.receipts = Receipts { visitor: snapshot.visitor, agent: snapshot.agent };
        conversation.pending = conversation.receipts;
        self.catch_up(ix);
        self.put_in_order(ix);
        Ok(ix)
    }

    fn apply_chunk(&mut self, chunk: &SnapshotEvents<'_>) -> Result<ConvIx, ApplyError> {
        if !self.is_replaying {
            return Err(ApplyError::Snapshot);
        }
        let ix = self.known(chunk.c)?;
        for record in ChunkRecords::new(chunk.records) {
            let record = record.map_err(ApplyError::Chunk)?;
            if record.conversation() != chunk.c {
                let error = RecordError::BadValue { kind: record.kind(), field: "c" };
                return Err(ApplyError::Chunk(error));
            }
            self.apply(&record)?;
        }
        Ok(ix)
    }

    fn put_in_order(&mut self, ix: ConvIx) {
        let conversation = self.rows.get_mut(ix);
        if conversation.is_unordered {
            conversation.is_unordered = false;
            events::remember_again(conversation, &mut self.store);
        }
    }

    /// No beginning came: its events tell what it is.
    fn rebuild(&mut self, ix: ConvIx) {
        let conversation = self.rows.get_mut(ix);
        let ticket = conversation.ticket.take();
        conversation.is_based = true;
        self.catch_up(ix);
        let conversation = self.rows.get_mut(ix);
        let first = (1..=conversation.s).find_map(|s| events::head(conversation, &self.store, s));
        conversation.started_ms = first.map_or(0, |head| head.ts_ms);
        if conversation.changed_ms == 0 {
            conversation.changed_ms = conversation.started_ms;
        }
        if conversation.is_orphan() {
            conversation.close(conversation.changed_ms);
            return;
        }
        if conversation.status == Status::Waiting {
            conversation.ticket = ticket;
        }
        self.slots.add_visitor(&self.rows, ix);
    }
}

impl Conversation {
    fn open(&mut self, owner: Option<AgentId>, epoch: u32, ts_ms: u64) {
        (self.status, self.owner, self.epoch) = (Status::Open, owner, epoch);
        (self.ticket, self.changed_ms) = (None, ts_ms);
    }

    fn close(&mut self, ts_ms: u64) {
        (self.status, self.owner) = (Status::Closed, None);
        (self.ticket, self.changed_ms) = (None, ts_ms);
    }

    fn wait(&mut self, ts_ms: u64) {
        (self.status, self.owner) = (Status::Waiting, None);
        (self.ticket, self.changed_ms) = (None, ts_ms);
    }
}

fn check_texts(started: &Started<'_>) -> Result<(), ApplyError> {
    let longest = started.name.len().max(started.page.len()).max(started.locale.len());
    if longest > usize::from(u16::MAX) { Err(ApplyError::TooLarge) } else { Ok(()) }
}

fn check_author(conversation: &Conversation, event: &NewEvent<'_>) -> Result<(), ApplyError> {
    let fits = match event.author_kind {
        AuthorKind::System => true,
        AuthorKind::Agent => AgentId::from_bits(event.author).is_some(),
        AuthorKind::Visitor if conversation.is_based && !conversation.is_orphan() => {
            event.author == conversation.visitor.bits()
        }
        AuthorKind::Visitor => VisitorId::from_bits(event.author).is_some(),
    };
    if fits { Ok(()) } else { Err(ApplyError::Author) }
}

fn check_next(conversation: &Conversation, event: &NewEvent<'_>) -> Result<(), ApplyError> {
    let expected = (conversation.s + 1, conversation.vs + u32::from(event.what.for_visitor()));
    let found = (event.s, event.vs);
    if expected != found {
        return Err(ApplyError::Number { expected, found });
    }
    let status = conversation.status;
    let is_allowed = match event.what {
        What::Message => match event.author_kind {
            AuthorKind::Visitor => status != Status::Closed,
            AuthorKind::Agent => conversation.owner.is_some_and(|owner| owner.bits() == event.author),
            AuthorKind::System => true,
        },
        What::Note => true,
        What::Assigned => status == Status::Waiting,
        What::Closed => status != Status::Closed,
        What::Reopened => status == Status::Closed,
    };
    if is_allowed { Ok(()) } else { Err(ApplyError::State(status)) }
}
