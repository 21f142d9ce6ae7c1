//! Conversations at their home: every durable word is decided, appended and applied here, and nowhere else.

use desk::conversation::{
    Assign, Close, ConvIx, Conversations, Refusal, Say, SnapCursor, StartDecision, Who as Speaker,
};
use desk::encode::{AuthorKind, Party, Status};
use desk::id::{AgentId, ConversationId, Slot};
use desk::pages::Pages;
use desk::record::{Assigned, Closed, Message, Record, Reopened};
use desk::request::ErrorCode;
use mail::{Ask, Expect, SaidBy, Stored};

use crate::due::{Asker, Due};
use crate::plant;
use crate::shard::Shard;

/// What a home keeps beside a conversation; derived, never journaled. `s`, `vs`, `status` and `owner` are what may be told: the conversation itself runs
/// ahead of the disk.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    /// Its beginning is durable: before that nobody hears that it exists.
    pub(crate) has_begun: bool,
    /// Its durable state.
    pub(crate) status: Status,
    /// Its owner in that state.
    pub(crate) owner: Option<AgentId>,
    /// Highest durable number on the agent stream: what may be told.
    pub(crate) s: u32,
    /// Highest durable number on the visitor stream.
    pub(crate) vs: u32,
    /// Doors where agents listen, a bit for each shard.
    pub(crate) doors: u64,
    /// Doors that missed something for want of room.
    pub(crate) behind: u64,
    /// Rises with every change of state, so that only the last one is announced.
    pub(crate) transition: u32,
    /// The last transition that is durable.
    pub(crate) settled: u32,
    /// The transition last handed to the dispatcher.
    pub(crate) announced: u32,
    /// It is in the list of receipts to be written.
    pub(crate) receipts_wait: bool,
}

impl Default for Heads {
    fn default() -> Heads {
        Heads {
            has_begun: false,
            status: Status::Waiting,
            owner: None,
            s: 0,
            vs: 0,
            doors: 0,
            behind: 0,
            transition: 0,
            settled: 0,
            announced: 0,
            receipts_wait: false,
        }
    }
}

/// All conversations of the shard.
pub(crate) struct Homes {
    pub(crate) convs: Conversations,
    heads: Pages<Heads>,
    /// Conversations to be announced, once there is room.
    pub(crate) to_announce: std::collections::VecDeque<ConvIx>,
    /// Where the announcement after a start stands; `None` = over.
    pub(crate) announcing: Option<u32>,
    /// Conversations whose receipts moved since they were last written.
    pub(crate) receipts: Vec<ConvIx>,
    pub(crate) receipts_at_ms: u64,
    /// Doors behind, for the turn in which there is room again.
    pub(crate) behind: std::collections::VecDeque<ConvIx>,
    snap: Snap,
}

impl Homes {
    /// After recovery everything there is is durable.
    pub(crate) fn new(convs: Conversations) -> Homes {
        let mut heads = Pages::default();
        for ix in convs.iter() {
            let conversation = convs.conversation(ix);
            heads.push(Heads {
                has_begun: true,
                status: conversation.status,
                owner: conversation.owner,
                s: conversation.s,
                vs: conversation.vs,
                ..Heads::default()
            });
        }
        Homes {
            convs,
            heads,
            to_announce: std::collections::VecDeque::new(),
            announcing: Some(0),
            receipts: Vec::new(),
            receipts_at_ms: 0,
            behind: std::collections::VecDeque::new(),
            snap: Snap::default(),
        }
    }

    pub(crate) fn heads(&self, ix: ConvIx) -> Heads {
        self.heads.get(ix.0 as usize).copied().unwrap_or_default()
    }

    pub(crate) fn heads_mut(&mut self, ix: ConvIx) -> &mut Heads {
        let place = ix.0 as usize;
        while self.heads.len() <= place {
            self.heads.push(Heads::default());
        }
        &mut self.heads[place]
    }
}

/// How far the snapshot of the slot in progress has got.
#[derive(Default)]
struct Snap {
    slot: Option<Slot>,
    /// The conversation in progress.
    at: Option<ConvIx>,
    /// The last one that is complete.
    after: Option<ConvIx>,
    cursor: SnapCursor,
}

impl Homes {
    /// Begins the snapshot of a slot.
    pub(crate) fn snapshot_begin(&mut self, slot: u16) {
        self.snap.slot = Slot::new(slot);
        self.snap.at = None;
        self.snap.after = None;
        self.snap.cursor.restart();
    }

    /// Goes on with it for about `budget` bytes; `emit` appends a record and says how long it is. True when the slot is complete.
    pub(crate) fn snapshot_step(&mut self, budget: u64, emit: &mut dyn FnMut(Record<'_>) -> u64) -> bool {
        let slot = self.snap.slot.expect("a snapshot was begun");
        let mut spent = 0;
        while spent < budget {
            let next = self.snap.at.take().or_else(|| self.convs.next_in_slot(slot, self.snap.after));
            let Some(ix) = next else { return true };
            let left = (budget - spent) as usize;
            if !self.convs.snapshot(ix, &mut self.snap.cursor, left, &mut |record| spent += emit(record)) {
                self.snap.at = Some(ix);
                return false;
            }
            self.snap.after = Some(ix);
        }
        false
    }
}

/// A durable word on its way into a conversation.
pub(crate) struct Word<'a> {
    /// Where the answer goes.
    pub(crate) to: Asker,
    pub(crate) ask: Ask,
    pub(crate) who: Speaker,
    pub(crate) device: u128,
    pub(crate) cid: u128,
    pub(crate) note: bool,
    pub(crate) body_hash: u64,
    pub(crate) body: &'a str,
    /// The answer names the conversation: it answers `start`.
    pub(crate) names: bool,
    /// It came too fast: answered if it was stored before, and refused otherwise.
    pub(crate) is_over: bool,
}

impl<'a> Word<'a> {
    /// A visitor's, without a body.
    pub(crate) fn of_visitor(ask: Ask, device: u128, cid: u128, is_over: bool) -> Word<'a> {
        Word::bare(Asker::Visitor, ask, Speaker::Visitor, device, cid, is_over)
    }

    /// An agent's, through his door on shard `from`, without a body.
    pub(crate) fn of_agent(from: u16, ask: Ask, by: SaidBy, is_over: bool) -> Word<'a> {
        Word::bare(Asker::Door(from), ask, Speaker::Agent(by.agent), by.device, by.cid, is_over)
    }

    fn bare(to: Asker, ask: Ask, who: Speaker, device: u128, cid: u128, is_over: bool) -> Word<'a> {
        Word { to, ask, who, device, cid, note: false, body_hash: 0, body: "", names: false, is_over }
    }
}

pub(crate) fn code_of(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::NotFound => ErrorCode::NotFound,
        Refusal::IdConflict => ErrorCode::IdConflict,
        Refusal::Stale => ErrorCode::Stale,
        Refusal::Closed => ErrorCode::Closed,
        Refusal::NotOwner => ErrorCode::NotOwner,
        Refusal::Overloaded => ErrorCode::Overloaded,
        Refusal::Full => ErrorCode::Quota,
    }
}

fn author_of(who: Speaker, visitor: u128) -> (AuthorKind, u128) {
    match who {
        Speaker::Visitor => (AuthorKind::Visitor, visitor),
        Speaker::Agent(agent) => (AuthorKind::Agent, agent.bits()),
    }
}

impl Shard {
    /// Does something once everything appended so far is durable; at once if it is.
    pub(crate) fn due(&mut self, due: Due) {
        let point = self.log.appended();
        let early = match &due {
            Due::Stored { stored, .. } => {
                plant::is("ack-before-flush") || (stored.dup && plant::is("repeat-acked-before-first-write"))
            }
            Due::Event { .. } => plant::is("delivered-before-flush"),
            _ => false,
        };
        if early {
            return self.fulfil(due);
        }
        if self.line.len() == 0 && point <= self.log.durable() {
            self.fulfil(due);
        } else {
            self.line.push(point, due);
        }
    }

    /// Whether the journal takes a word with a body of this size now; otherwise why not.
    pub(crate) fn log_takes(&self, body: usize) -> Result<(), ErrorCode> {
        if self.log.is_sealing() {
            return Err(ErrorCode::Unavailable);
        }
        if self.log.is_full_for(body) {
            return Err(ErrorCode::StorageFull);
        }
        if !self.log.takes(2 * 1024 + body) {
            return Err(ErrorCode::Overloaded);
        }
        Ok(())
    }

    /// Appends a record and makes it so. What it says is told when it is durable.
    pub(crate) fn write(&mut self, record: &Record<'_>) -> ConvIx {
        self.log.append(record);
        let applied = self.homes.convs.apply(record).expect("it was decided on this very state");
        applied.ix
    }

    /// A message or a note.
    ///
    /// A repetition is answered even if nothing can be stored: a refusal says that it is not.
    pub(crate) fn say(&mut self, ix: ConvIx, word: &Word<'_>) {
        let decided = self.homes.convs.decide_say(
            ix,
            word.who,
            word.note,
            word.device,
            word.cid,
            word.body_hash,
            word.body.len(),
        );
        let named = word.names.then_some(ix);
        let (s, vs) = match decided {
            Err(refusal) => {
                return self.due(Due::Refuse { to: word.to, ask: word.ask, code: code_of(refusal) });
            }
            Ok(Say::Known { .. }) if word.is_over && plant::is("repeat-refused-when-fast") => {
                return self.refuse(word.to, word.ask, ErrorCode::RateLimited);
            }
            Ok(Say::Known { s, vs, ts_ms }) => {
                self.counters.duplicates += 1;
                let stored = Stored { s, vs, ts_ms, dup: true };
                return self.due(Due::Stored { to: word.to, ask: word.ask, c: named, stored });
            }
            Ok(Say::New { .. }) if word.is_over => {
                return self.refuse(word.to, word.ask, ErrorCode::RateLimited);
            }
            Ok(Say::New { s, vs, reopens }) => {
                if let Err(code) = self.log_takes(word.body.len()) {
                    return self.refuse(word.to, word.ask, code);
                }
                if reopens {
                    self.reopen(ix, word.who);
                }
                (s, vs)
            }
        };
        let conversation = self.homes.convs.conversation(ix);
        let (author_kind, author) = author_of(word.who, conversation.visitor.bits());
        let message = Message {
            c: conversation.id,
            s,
            vs,
            ts_ms: self.now.wall_ms,
            author_kind,
            author,
            device: word.device,
            cid: word.cid,
            body_hash: word.body_hash,
            body: word.body,
        };
        let record = if word.note { Record::Note(message) } else { Record::Message(message) };
        self.write(&record);
        self.counters.messages_stored += 1;
        self.counters.messages_crossed +=
            u64::from(word.to != Asker::Visitor && word.to != Asker::Door(self.me()));
        let stored = Stored { s, vs, ts_ms: self.now.wall_ms, dup: false };
        self.due(Due::Stored { to: word.to, ask: word.ask, c: named, stored });
        self.due(Due::Event { ix, s, vs });
    }

    fn reopen(&mut self, ix: ConvIx, who: Speaker) {
        let (s, vs) = self.homes.convs.decide_reopen(ix).expect("it was decided that it is closed");
        let conversation = self.homes.convs.conversation(ix);
        let (by_kind, by) = author_of(who, conversation.visitor.bits());
        let record =
            Record::Reopened(Reopened { c: conversation.id, s, vs, ts_ms: self.now.wall_ms, by_kind, by });
        self.write(&record);
        self.due(Due::Event { ix, s, vs });
        self.changed(ix);
    }

    /// The conversation's state changed: the dispatcher hears of it once it is durable.
    pub(crate) fn changed(&mut self, ix: ConvIx) {
        let heads = self.homes.heads_mut(ix);
        heads.transition = heads.transition.wrapping_add(1);
        let transition = heads.transition;
        self.due(Due::Announce { ix, transition });
    }

    /// A conversation is closed by its owner or its visitor: a word without a body.
    pub(crate) fn close_conversation(&mut self, ix: ConvIx, word: &Word<'_>) {
        let Word { to, ask, who, device, cid, .. } = *word;
        let (s, vs) = match self.homes.convs.decide_close(ix, who, device, cid) {
            Err(refusal) => return self.due(Due::Refuse { to, ask, code: code_of(refusal) }),
            Ok(Close::Known { s, vs, ts_ms }) => {
                self.counters.duplicates += 1;
                let stored = Stored { s, vs, ts_ms, dup: true };
                return self.due(Due::Stored { to, ask, c: None, stored });
            }
            Ok(Close::New { .. }) if word.is_over => return self.refuse(to, ask, ErrorCode::RateLimited),
            Ok(Close::New { s, vs }) => (s, vs),
        };
        if let Err(code) = self.log_takes(0) {
            return self.refuse(to, ask, code);
        }
        let conversation = self.homes.convs.conversation(ix);
        let (by_kind, by) = author_of(who, conversation.visitor.bits());
        let ts_ms = self.now.wall_ms;
        let record = Record::Closed(Closed { c: conversation.id, s, vs, ts_ms, by_kind, by, device, cid });
        self.write(&record);
        self.due(Due::Stored { to, ask, c: None, stored: Stored { s, vs, ts_ms, dup: false } });
        self.due(Due::Event { ix, s, vs });
        self.changed(ix);
    }

    /// The dispatcher assigned a conversation; the record makes it true.
    pub(crate) fn assign(
        &mut self,
        from: u16,
        c: ConversationId,
        agent: AgentId,
        expect: Expect,
        request: desk::dispatcher::RequestRef,
    ) {
        // No conversation gets that far: what is only asked about is never assigned.
        let (asked, epoch) = match expect {
            Expect::Epoch(epoch) => (false, epoch),
            Expect::Known | Expect::Refuse(_) => (true, u32::MAX),
        };
        let refused = |code| Due::Assigned { to: from, c, agent, request, asked, result: Err(code) };
        let Some(ix) = self.homes.convs.find(c) else { return self.due(refused(ErrorCode::NotFound)) };
        let conversation = self.homes.convs.conversation(ix);
        let (epoch_now, is_waiting) = (conversation.epoch, conversation.status == Status::Waiting);
        let (s, vs, epoch) =
            match self.homes.convs.decide_assign(ix, agent, epoch, request.device, request.cid) {
                Err(Refusal::Stale) => {
                    return self.due(refused(match expect {
                        Expect::Refuse(code) => code,
                        // The announcement is on its way to the dispatcher.
                        Expect::Known if is_waiting => ErrorCode::Unavailable,
                        Expect::Known | Expect::Epoch(_) => ErrorCode::Stale,
                    }));
                }
                Err(refusal) => return self.due(refused(code_of(refusal))),
                Ok(Assign::Known { s, vs, ts_ms }) => {
                    self.counters.duplicates += 1;
                    let stored = Stored { s, vs, ts_ms, dup: true };
                    let result = Ok((epoch_now, stored));
                    return self.due(Due::Assigned { to: from, c, agent, request, asked, result });
                }
                Ok(Assign::New { s, vs, epoch }) => (s, vs, epoch),
            };
        if let Err(code) = self.log_takes(0) {
            return self.due(refused(code));
        }
        let settings = self.settings.clone();
        let agent_name = settings.agent(agent).map_or("", |agent| agent.name.as_str());
        let ts_ms = self.now.wall_ms;
        let (device, cid) = (request.device, request.cid);
        let record = Record::Assigned(Assigned { c, s, vs, ts_ms, agent, agent_name, epoch, device, cid });
        self.write(&record);
        let result = Ok((epoch, Stored { s, vs, ts_ms, dup: false }));
        self.due(Due::Assigned { to: from, c, agent, request, asked, result });
        self.due(Due::Event { ix, s, vs });
        self.changed(ix);
    }

    /// The dispatcher's ticket; journaled, so that the order of arrival outlives a restart.
    pub(crate) fn on_ticket(&mut self, c: ConversationId, ticket: u64) {
        let Some(ix) = self.homes.convs.find(c) else { return };
        let conversation = self.homes.convs.conversation(ix);
        if conversation.status != Status::Waiting || conversation.ticket.is_some() {
            return;
        }
        // Without room it goes without one; after a restart it then stands behind those that have one.
        if self.log_takes(0).is_ok() {
            self.write(&Record::Queued { c, ticket });
        }
    }

    /// A new conversation, or the one the visitor has; and whether this very `start` has begun it before.
    pub(crate) fn start_conversation(
        &mut self,
        started: &desk::record::Started<'_>,
        is_over: bool,
    ) -> Result<(ConvIx, bool), ErrorCode> {
        match self.homes.convs.decide_start(started.visitor, started.device, started.cid) {
            Err(refusal) => Err(code_of(refusal)),
            Ok(StartDecision::Returns { ix, is_repeated }) => Ok((ix, is_repeated)),
            Ok(StartDecision::New) if is_over => Err(ErrorCode::RateLimited),
            Ok(StartDecision::New) => {
                self.log_takes(4 * 1024)?;
                let ix = self.write(&Record::Started(*started));
                self.homes.heads_mut(ix);
                self.changed(ix);
                Ok((ix, false))
            }
        }
    }

    /// Writes the receipts that moved, at most once a second, into the next block.
    pub(crate) fn write_receipts(&mut self) {
        if self.homes.receipts.is_empty() || self.now.mono_ms < self.homes.receipts_at_ms {
            return;
        }
        self.homes.receipts_at_ms = self.now.mono_ms + 1_000;
        let mut waiting = core::mem::take(&mut self.homes.receipts);
        let mut kept = 0;
        for at in 0..waiting.len() {
            let ix = waiting[at];
            if self.log_takes(0).is_err() || !self.log.takes_frames() || self.log.is_full() {
                waiting[kept] = ix;
                kept += 1;
                continue;
            }
            self.homes.heads_mut(ix).receipts_wait = false;
            if let Some(record) = self.homes.convs.take_receipts(ix) {
                self.write(&record);
                self.due(Due::Receipts { ix });
            }
        }
        waiting.truncate(kept);
        self.homes.receipts = waiting;
    }

    /// Somebody has seen or got events up to a number of his stream; the record rides in a later block.
    pub(crate) fn mark_receipt(&mut self, ix: ConvIx, party: Party, seen: bool, number: u32) {
        let heads = self.homes.heads(ix);
        let durable = match party {
            Party::Visitor => heads.vs,
            Party::Agent => heads.s,
        };
        if seen && number > durable {
            // Nobody was told of it.
            self.counters.acks_ignored += 1;
            return;
        }
        let number = number.min(durable);
        let mark = match seen {
            true => self.homes.convs.decide_seen(ix, party, number),
            false => self.homes.convs.decide_delivered(ix, party, number),
        };
        let Some(mark) = mark else { return };
        self.homes.convs.mark(ix, mark);
        let heads = self.homes.heads_mut(ix);
        if !core::mem::replace(&mut heads.receipts_wait, true) {
            self.homes.receipts.push(ix);
        }
    }
}
