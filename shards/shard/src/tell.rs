//! Telling: what has become durable goes to those who asked and to those who listen.

use desk::conversation::ConvIx;
use desk::encode::{
    self, Audience, EventWhat, LossReason, Party, Place, Receipts, Status, SyncView, VisitorView,
};
use desk::id::ConversationId;
use desk::request::ErrorCode;
use mail::{Answer, Ask, Letter};

use crate::due::{Asker, Due};
use crate::plant;
use crate::session::Who;
use crate::shard::Shard;

/// Most events in the answer to one pull.
const PULL_COUNT_MAX: u32 = 64;
/// An answer to a pull, or a page of history, ends with the event that passes this many bytes.
const PAGE_BYTES_MAX: usize = 32 * 1024;
/// Events told to one visitor's session in one turn; the rest follows in the next.
const VISITOR_BATCH: u32 = 256;

impl Shard {
    /// The journal has grown: everything that waited for it happens.
    pub(crate) fn fulfil_line(&mut self) {
        let durable = self.log.durable();
        while let Some(due) = self.line.pop(durable) {
            self.fulfil(due);
        }
    }

    pub(crate) fn fulfil(&mut self, due: Due) {
        match due {
            Due::Stored { to: Asker::Visitor, ask, c, stored } => self.tell_stored(ask, c, stored),
            Due::Stored { to: Asker::Door(to), ask, c: _, stored } => {
                self.answer(to, ask, Answer::Stored(stored))
            }
            Due::Refuse { to, ask, code } => self.refuse(to, ask, code),
            Due::Event { ix, s, vs } => self.tell_event(ix, s, vs),
            Due::Receipts { ix } => self.tell_receipts(ix),
            Due::Announce { ix, transition } => {
                let heads = self.homes.heads_mut(ix);
                heads.has_begun = true;
                heads.settled = transition;
                if heads.transition == transition {
                    self.homes.to_announce.push_back(ix);
                }
            }
            Due::Assigned { to, c, agent, request, asked, result } => {
                self.post.post(to, Letter::AssignResult { c, agent, request, asked, result });
            }
            Due::Listen { from, ask, c, since, limit } => self.answer_listen(from, ask, c, since, limit),
            Due::VisitorSync { session, generation, c, since, limit } => {
                if self.sessions.find_on_socket(session, generation).is_some() {
                    self.tell_visitor_sync(session, c, since, limit);
                }
            }
            Due::History { to, ask, c, before, limit } => self.answer_history(to, ask, c, before, limit),
            Due::Ready { session, generation, re, resumed, replay } => {
                if self.sessions.find_on_socket(session, generation).is_some() {
                    self.tell_ready(session, re, resumed, replay);
                }
            }
        }
    }

    /// Answers a session at this door or another one.
    pub(crate) fn answer(&mut self, to: u16, ask: Ask, answer: Answer) {
        if to == self.me() {
            // At once, as events to this door are told at once: an answer must not arrive behind what came after it.
            self.post.on_answer(to);
            self.on_answer(ask, answer);
        } else {
            self.post.post(to, Letter::Answer(ask, answer));
        }
    }

    /// Refuses: a visitor here at once, an agent through his door.
    pub(crate) fn refuse(&mut self, to: Asker, ask: Ask, code: ErrorCode) {
        match to {
            Asker::Door(to) => self.answer(to, ask, Answer::Refused(code)),
            Asker::Visitor => {
                if let Some(door) = self.socket_of(ask) {
                    self.tell_refusal(ask.session, door, ask.re, code);
                }
            }
        }
    }

    /// The socket of the session that asked, if both are still there.
    pub(crate) fn socket_of(&mut self, ask: Ask) -> Option<u32> {
        self.sessions.find_on_socket(ask.session, ask.generation).map(|session| session.door)
    }

    fn tell_stored(&mut self, ask: Ask, c: Option<ConvIx>, stored: mail::Stored) {
        let (Some(door), Some(re)) = (self.socket_of(ask), ask.re) else { return };
        let c = c.map(|ix| self.homes.convs.conversation(ix).id);
        let level = self.level();
        self.push(door, |out| encode::stored(out, re, c, stored.vs, stored.ts_ms, level, stored.dup));
    }

    /// A numbered event is durable: everybody who listens hears of it.
    fn tell_event(&mut self, ix: ConvIx, s: u32, vs: u32) {
        let heads = self.homes.heads_mut(ix);
        assert!(s == heads.s + 1, "events become durable in order");
        let for_visitor = vs > heads.vs;
        heads.s = s;
        heads.vs = vs;
        let doors = heads.doors;
        self.settle_state(ix, s);
        if for_visitor {
            self.want_telling_visitor(ix);
        }
        if doors == 0 {
            return;
        }
        let c = self.homes.convs.conversation(ix).id;
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        self.write_event(&mut text, Audience::Agent, ix, s);
        for to in 0..self.config.shard_count {
            if doors & (1 << to) == 0 {
                continue;
            }
            if to == self.me() {
                self.on_event(c, s, &text);
            } else if self.post.has_room(to) && self.homes.heads(ix).behind & (1 << to) == 0 {
                let mut push = self.pool.take();
                push.extend_from_slice(&text);
                self.counters.events_crossed += 1;
                self.post.post(to, Letter::Event { c, s, push });
            } else {
                self.mark_behind(ix, to);
            }
        }
        self.text = text;
    }

    /// The durable state follows the durable events.
    fn settle_state(&mut self, ix: ConvIx, s: u32) {
        let (status, owner) = match self.homes.convs.change(ix, s) {
            Some(EventWhat::Joined { agent, .. }) => (Status::Open, Some(agent)),
            Some(EventWhat::Closed { .. }) => (Status::Closed, None),
            Some(EventWhat::Reopened { .. }) => (Status::Waiting, None),
            Some(EventWhat::Message { .. } | EventWhat::Note { .. }) | None => return,
        };
        let heads = self.homes.heads_mut(ix);
        (heads.status, heads.owner) = (status, owner);
        if plant::is("close-not-told") && status == Status::Closed {
            heads.status = Status::Open;
        }
    }

    /// A door missed something: it is told the head when there is room, and pulls.
    fn mark_behind(&mut self, ix: ConvIx, to: u16) {
        if plant::is("behind-forgotten") {
            return;
        }
        self.counters.deliveries_behind += 1;
        let heads = self.homes.heads_mut(ix);
        if heads.behind == 0 {
            self.homes.behind.push_back(ix);
        }
        self.homes.heads_mut(ix).behind |= 1 << to;
    }

    /// Tells doors that are behind where the head is, as far as there is room.
    pub(crate) fn tell_heads(&mut self) {
        for _ in 0..self.homes.behind.len() {
            let Some(ix) = self.homes.behind.pop_front() else { break };
            let heads = self.homes.heads(ix);
            let c = self.homes.convs.conversation(ix).id;
            let mut left = heads.behind;
            for to in 0..self.config.shard_count {
                if left & (1 << to) != 0 && self.post.has_room(to) {
                    self.post.post(to, Letter::Head { c, s: heads.s });
                    left &= !(1 << to);
                }
            }
            self.homes.heads_mut(ix).behind = left;
            if left != 0 {
                self.homes.behind.push_back(ix);
            }
        }
    }

    /// One event as a push, or the word that it is lost.
    fn write_event(&mut self, out: &mut Vec<u8>, audience: Audience, ix: ConvIx, s: u32) {
        match self.homes.convs.event(ix, s) {
            Some(view) => encode::event(out, audience, &view),
            None => {
                let c = self.homes.convs.conversation(ix).id;
                encode::history_lost(out, c, s, s, LossReason::Damaged);
            }
        }
    }

    /// The session may have something to be told at the end of the turn.
    pub(crate) fn want_telling(&mut self, index: u32) {
        let session = self.sessions.at(index);
        if !core::mem::replace(&mut session.wants_telling, true) {
            self.to_tell.push(index);
        }
    }

    fn want_telling_visitor(&mut self, ix: ConvIx) {
        let visitor = self.homes.convs.conversation(ix).visitor;
        let mut next = self.sessions.first_of(visitor);
        while let Some(index) = next {
            next = self.sessions.next_of(index);
            if self.sessions.get(index).hears(ix) {
                self.want_telling(index);
            }
        }
    }

    /// Tells sessions what they miss, as far as their sockets take it.
    pub(crate) fn tell_sessions(&mut self) {
        let mut starved = core::mem::take(&mut self.starved);
        for index in starved.drain(..) {
            if self.sessions.in_use(index) {
                self.want_telling(index);
            }
        }
        self.starved = starved;
        let mut waiting = core::mem::take(&mut self.to_tell);
        if plant::is("order-of-chance") {
            use std::hash::BuildHasher as _;
            let order = std::hash::RandomState::new();
            waiting.sort_by_key(|index| order.hash_one(index));
        }
        for index in waiting.drain(..) {
            if !self.sessions.in_use(index) {
                continue;
            }
            self.sessions.at(index).wants_telling = false;
            match &self.sessions.get(index).who {
                Who::Visitor(_) => self.serve_visitor(index),
                Who::Agent(_) => self.serve_agent(index),
            }
        }
        // What was asked for meanwhile is served in the next turn, which comes at once.
        let mut later = core::mem::replace(&mut self.to_tell, waiting);
        self.to_tell.append(&mut later);
    }

    /// A visitor is told straight from the conversation: it lives here.
    fn serve_visitor(&mut self, index: u32) {
        for _ in 0..VISITOR_BATCH {
            let Who::Visitor(side) = &self.sessions.get(index).who else { unreachable!("visitors only") };
            let Some(ix) = side.listens else { return };
            let vs = side.told + 1;
            if vs > self.homes.heads(ix).vs || !self.may_tell(index) {
                return;
            }
            let session = self.sessions.at(index);
            session.told_p += 1;
            let door = session.door;
            let Who::Visitor(side) = &mut session.who else { unreachable!("visitors only") };
            side.told = vs;
            self.counters.events_told += 1;
            let c = self.homes.convs.conversation(ix).id;
            let out = self.doors.out(door, &mut self.pool);
            let mark = wire::begin_text(out);
            let s = self.homes.convs.s_of_vs(ix, vs);
            match s.and_then(|s| self.homes.convs.event(ix, s)) {
                Some(view) => encode::event(out, Audience::Visitor, &view),
                None => encode::history_lost(out, c, vs, vs, LossReason::Damaged),
            }
            wire::end_text(out, mark);
        }
        self.want_telling(index);
    }

    /// Receipts are durable: both sides hear of them.
    fn tell_receipts(&mut self, ix: ConvIx) {
        let c = self.homes.convs.conversation(ix).id;
        let (seen, delivered) = self.receipts(ix);
        let mut text = core::mem::take(&mut self.text);
        for (write, at) in [
            (encode::seen as fn(&mut Vec<u8>, ConversationId, Party, u32), seen),
            (encode::delivered, delivered),
        ] {
            if at.visitor.s > 0 {
                text.clear();
                write(&mut text, c, Party::Visitor, at.visitor.s);
                self.hint_agents(ix, &text);
            }
            if at.agent.vs > 0 {
                text.clear();
                write(&mut text, c, Party::Agent, at.agent.vs);
                self.hint_visitor(ix, &text);
            }
        }
        self.text = text;
    }

    /// What both sides have seen and got, in both streams.
    fn receipts(&self, ix: ConvIx) -> (Receipts, Receipts) {
        let convs = &self.homes.convs;
        let receipts = convs.conversation(ix).receipts;
        let of_vs = |vs: u32| Place { s: convs.s_of_vs(ix, vs).unwrap_or(0), vs };
        let of_s = |s: u32| Place { s, vs: convs.event(ix, s).map_or(0, |view| view.vs) };
        let seen = Receipts { visitor: of_vs(receipts.visitor.seen), agent: of_s(receipts.agent.seen) };
        let delivered =
            Receipts { visitor: of_vs(receipts.visitor.delivered), agent: of_s(receipts.agent.delivered) };
        (seen, delivered)
    }

    /// The `sync` push. `from` is a number of the audience's stream.
    pub(crate) fn write_sync(
        &mut self,
        out: &mut Vec<u8>,
        audience: Audience,
        ix: ConvIx,
        from: u32,
        limited: bool,
    ) {
        let (seen, delivered) = self.receipts(ix);
        let heads = self.homes.heads(ix);
        let conversation = self.homes.convs.conversation(ix);
        let view = SyncView {
            c: conversation.id,
            from: Place { s: from, vs: from },
            head: Place { s: heads.s, vs: heads.vs },
            e: self.log.history_epoch(),
            limited,
            status: heads.status,
            owner: heads.owner,
            visitor: VisitorView {
                id: conversation.visitor.bits(),
                name: self.homes.convs.name(ix),
                online: self.visitor_online(conversation.visitor),
            },
            seen,
            delivered,
        };
        encode::sync_push(out, audience, &view);
    }

    /// An agent's door wants to listen: what is durable now is history, what follows is delivered.
    fn answer_listen(&mut self, from: u16, ask: Ask, c: ConversationId, since: u32, limit: u16) {
        let Some(ix) = self.homes.convs.find(c) else {
            return self.answer(from, ask, Answer::NotListening { c, code: ErrorCode::NotFound });
        };
        let heads = self.homes.heads_mut(ix);
        heads.doors |= 1 << from;
        let head = heads.s;
        let got = since.min(head);
        let told = match limit {
            0 => got,
            limit => got.max(head.saturating_sub(u32::from(limit))),
        };
        let mut push = self.pool.take();
        self.write_sync(&mut push, Audience::Agent, ix, told + 1, told > got);
        self.answer(from, ask, Answer::Listening { c, from: told + 1, head, push });
        self.mark_receipt(ix, Party::Agent, false, got);
    }

    /// A door pulls what it missed.
    pub(crate) fn answer_pull(&mut self, from: u16, ask: Ask, c: ConversationId, since: u32) {
        let mut entries = self.pool.take();
        let Some(ix) = self.homes.convs.find(c) else {
            return self.answer(from, ask, Answer::Events { c, head: 0, entries });
        };
        let head = self.homes.heads(ix).s;
        let last = head.min(since.saturating_add(PULL_COUNT_MAX));
        for s in since.saturating_add(1)..=last {
            let at = entries.len();
            entries.extend_from_slice(&s.to_le_bytes());
            entries.extend_from_slice(&[0; 4]);
            self.write_event(&mut entries, Audience::Agent, ix, s);
            let size = (entries.len() - at - 8) as u32;
            entries[at + 4..at + 8].copy_from_slice(&size.to_le_bytes());
            if entries.len() > PAGE_BYTES_MAX {
                break;
            }
        }
        self.answer(from, ask, Answer::Events { c, head, entries });
    }

    /// A page of history, newest last.
    fn answer_history(&mut self, to: Asker, ask: Ask, c: ConversationId, before: u32, limit: u16) {
        let Some(ix) = self.homes.convs.find(c) else { return self.refuse(to, ask, ErrorCode::NotFound) };
        let mut text = self.pool.take();
        match to {
            Asker::Door(to) => {
                self.write_history(&mut text, Audience::Agent, ask.re.unwrap_or(0), ix, before, limit);
                self.answer(to, ask, Answer::Text(text));
            }
            Asker::Visitor => {
                if let (Some(door), Some(re)) = (self.socket_of(ask), ask.re) {
                    if self.is_full(door) {
                        self.pool.give(text);
                        return self.refuse(to, ask, ErrorCode::Overloaded);
                    }
                    self.write_history(&mut text, Audience::Visitor, re, ix, before, limit);
                    self.push(door, |out| out.extend_from_slice(&text));
                }
                self.pool.give(text);
            }
        }
    }

    fn write_history(
        &mut self,
        text: &mut Vec<u8>,
        audience: Audience,
        re: u32,
        ix: ConvIx,
        before: u32,
        limit: u16,
    ) {
        let heads = self.homes.heads(ix);
        let head = if audience == Audience::Visitor { heads.vs } else { heads.s };
        let last = before.saturating_sub(1).min(head);
        let first = self.history_first(ix, audience, last, limit);
        let c = self.homes.convs.conversation(ix).id;
        encode::history_begin(text, re, c);
        // Numbers below this one are told.
        let mut next = first;
        for number in first..=last {
            let s = match audience {
                Audience::Visitor => self.homes.convs.s_of_vs(ix, number),
                Audience::Agent => Some(number),
            };
            let Some(view) = s.and_then(|s| self.homes.convs.event(ix, s)) else { continue };
            if next < number {
                encode::history_gap(text, c, next, number - 1, LossReason::Damaged);
            }
            encode::history_event(text, audience, &view);
            next = number + 1;
        }
        if next <= last {
            encode::history_gap(text, c, next, last, LossReason::Damaged);
        }
        encode::history_end(text, first > 1);
    }

    /// Where a page begins that ends with `last`: at most `limit` events and about a page of bytes.
    fn history_first(&mut self, ix: ConvIx, audience: Audience, last: u32, limit: u16) -> u32 {
        let mut bytes = 0;
        let mut first = last + 1;
        while first > 1 && last + 1 - first < u32::from(limit) && bytes < PAGE_BYTES_MAX {
            first -= 1;
            let s = match audience {
                Audience::Visitor => self.homes.convs.s_of_vs(ix, first),
                Audience::Agent => Some(first),
            };
            let body = match s.and_then(|s| self.homes.convs.event(ix, s)).map(|view| view.what) {
                Some(EventWhat::Message { body, .. } | EventWhat::Note { body, .. }) => encoded_size(body),
                _ => 0,
            };
            bytes += body + 256;
        }
        first
    }
}

/// How long a text is as a JSON string, at most: each control character may become six bytes.
fn encoded_size(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            0..0x20 => 6,
            b'"' | b'\\' => 2,
            _ => 1,
        })
        .sum()
}
