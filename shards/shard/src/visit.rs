//! What a visitor may ask for. His socket is at his conversation's home, so nothing here crosses shards.

use desk::conversation::ConvIx;
use desk::encode::{self, Audience, AuthorKind, Party};
use desk::id::{ConversationId, VisitorId};
use desk::record::Started;
use desk::request::{Ack, ErrorCode, Op, Start, body_hash, fingerprint};
use mail::{Ask, Letter};

use crate::door::{NONE, tenths};
use crate::due::{Asker, Due};
use crate::home::Word;
use crate::session::Who;
use crate::shard::Shard;

/// A `typing` that says again what is known is passed on at most so often, in tenths of a second.
const TYPING_AGAIN: u32 = 10;

impl Shard {
    pub(crate) fn on_visitor_op(&mut self, index: u32, re: Option<u32>, op: Op<'_>) {
        let session = self.sessions.get(index);
        let ask = Ask { session: index, generation: session.generation, re };
        let (door, device) = (session.door, session.device);
        match op {
            Op::Start(start) => {
                let is_over = self.is_too_fast(index);
                self.visitor_start(index, ask, start, is_over);
            }
            Op::Send(send) => {
                let Some(ix) = self.visitors_own(index, send.c) else {
                    return self.refuse_not_found(index, re);
                };
                let is_over = self.is_too_fast(index);
                let word = Word {
                    body_hash: body_hash(&["text", send.body]),
                    body: send.body,
                    ..Word::of_visitor(ask, device, fingerprint(send.cid), is_over)
                };
                self.say(ix, &word);
            }
            Op::Close { c, cid } => {
                let Some(ix) = self.visitors_own(index, c) else { return self.refuse_not_found(index, re) };
                let is_over = self.is_too_fast(index);
                self.close_conversation(ix, &Word::of_visitor(ask, device, fingerprint(cid), is_over));
            }
            Op::Sync(sync) => {
                if !self.may_ask(index, re) {
                    return;
                }
                let generation = ask.generation;
                // He has one conversation: naming it 512 times is answered once.
                let is_own = |c| self.visitors_own(index, c).is_some();
                let last_own = sync.cursors().rposition(|cursor| is_own(cursor.c));
                let mut count = 0;
                for (place, cursor) in sync.cursors().enumerate() {
                    if last_own.is_some_and(|last| place < last)
                        && self.visitors_own(index, cursor.c).is_some()
                    {
                        continue;
                    }
                    count += 1;
                    let (c, since) = (cursor.c, self.trusted(cursor.s, cursor.e));
                    self.due(Due::VisitorSync { session: index, generation, c, since, limit: sync.limit });
                }
                if let Some(re) = re {
                    self.push(door, |out| encode::synced(out, re, count));
                }
            }
            Op::History { c, before, limit } => {
                if self.visitors_own(index, c).is_none() {
                    return self.refuse_not_found(index, re);
                }
                if re.is_some() && self.may_ask(index, re) {
                    self.due(Due::History { to: Asker::Visitor, ask, c, before, limit });
                }
            }
            Op::Ack(ack) => self.visitor_ack(index, ack),
            Op::Seen { c, s } => {
                if let Some(ix) = self.visitors_own(index, c)
                    && self.may_ask(index, None)
                {
                    self.mark_receipt(ix, Party::Visitor, true, s);
                }
            }
            Op::Typing { c, on } => {
                if let Some(ix) = self.visitors_own(index, c)
                    && self.passes_typing(index, on)
                    && let Who::Visitor(side) = &self.sessions.get(index).who
                {
                    let id = side.visitor.bits();
                    self.tell_typing(ix, AuthorKind::Visitor, id, on);
                }
            }
            Op::Note(_)
            | Op::Accept { .. }
            | Op::Decline { .. }
            | Op::Unsync { .. }
            | Op::Avail { .. }
            | Op::Sub { .. }
            | Op::Unsub { .. }
            | Op::List { .. } => {
                self.reply_error(door, re, ErrorCode::Forbidden, "this is for agents", None);
            }
            Op::Heartbeat | Op::Auth(_) => unreachable!("handled before"),
        }
    }

    fn visitor_start(&mut self, index: u32, ask: Ask, start: Start<'_>, is_over: bool) {
        let session = self.sessions.get(index);
        let device = session.device;
        let Who::Visitor(side) = &session.who else { unreachable!("the side was matched") };
        let visitor = side.visitor;
        let c = ConversationId::mint(visitor.slot(), &mut self.entropy);
        let started = Started {
            c,
            visitor,
            inbox: side.inbox,
            ts_ms: self.now.wall_ms,
            device,
            cid: fingerprint(start.cid),
            name: start.name.unwrap_or(""),
            page: start.page.unwrap_or(""),
            locale: start.locale.unwrap_or(""),
        };
        let (ix, is_repeated) = match self.start_conversation(&started, is_over) {
            Ok(found) => found,
            // What it conflicts with must stand first.
            Err(code @ ErrorCode::IdConflict) => {
                return self.due(Due::Refuse { to: Asker::Visitor, ask, code });
            }
            Err(code) => return self.refuse(Asker::Visitor, ask, code),
        };
        let told = self.homes.heads(ix).vs;
        let Who::Visitor(side) = &mut self.sessions.at(index).who else {
            unreachable!("the side was matched")
        };
        if side.listens.is_none() {
            // He is told what comes from now on; older events are fetched by `sync`.
            side.listens = Some(ix);
            side.told = told;
        }
        match start.first {
            Some(first) => {
                let word = Word {
                    body_hash: body_hash(&["text", first.body]),
                    body: first.body,
                    names: true,
                    ..Word::of_visitor(ask, device, fingerprint(first.cid), is_over)
                };
                self.say(ix, &word);
            }
            None => {
                let conversation = self.homes.convs.conversation(ix);
                let stored = mail::Stored {
                    s: conversation.s,
                    vs: conversation.vs,
                    ts_ms: conversation.started_ms,
                    dup: is_repeated,
                };
                self.due(Due::Stored { to: Asker::Visitor, ask, c: Some(ix), stored });
            }
        }
    }

    /// The visitor's conversation, if it is the one he names.
    pub(crate) fn visitors_own(&self, index: u32, c: ConversationId) -> Option<ConvIx> {
        let Who::Visitor(side) = &self.sessions.get(index).who else { return None };
        let ix = self.homes.convs.of_visitor(side.visitor)?;
        (self.homes.convs.conversation(ix).id == c).then_some(ix)
    }

    fn refuse_not_found(&mut self, index: u32, re: Option<u32>) {
        let door = self.sessions.get(index).door;
        self.reply_error(door, re, ErrorCode::NotFound, "", None);
    }

    /// A cursor of another history says nothing about this one.
    pub(crate) fn trusted(&self, s: u32, epoch: Option<u32>) -> u32 {
        match epoch {
            Some(e) if e != self.log.history_epoch() => 0,
            _ => s,
        }
    }

    /// `sync`: from here on he is told everything.
    pub(crate) fn tell_visitor_sync(&mut self, index: u32, c: ConversationId, since: u32, limit: u16) {
        let door = self.sessions.get(index).door;
        let Some(ix) = self.visitors_own(index, c) else {
            return self.push(door, |out| encode::sync_error(out, c, ErrorCode::NotFound));
        };
        let head = self.homes.heads(ix).vs;
        let got = since.min(head);
        let told = got.max(head.saturating_sub(u32::from(limit)));
        let session = self.sessions.at(index);
        session.acked_p = session.told_p;
        session.lags_since = 0;
        let Who::Visitor(side) = &mut session.who else { unreachable!("visitors only") };
        side.listens = Some(ix);
        side.told = told;
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        self.write_sync(&mut text, Audience::Visitor, ix, told + 1, told > got);
        self.push(door, |out| out.extend_from_slice(&text));
        self.text = text;
        self.mark_receipt(ix, Party::Visitor, false, got);
        self.want_telling(index);
    }

    fn visitor_ack(&mut self, index: u32, ack: Ack) {
        let session = self.sessions.at(index);
        let Who::Visitor(side) = &session.who else { unreachable!("visitors only") };
        let (listens, told) = (side.listens, side.told);
        let p = match ack {
            Ack::P(p) => Some(p),
            // His events are told in a row: a number stands for a count.
            Ack::At { c, s } => {
                let is_his = listens.is_some_and(|ix| self.homes.convs.conversation(ix).id == c);
                let behind = told.checked_sub(s).filter(|_| is_his);
                behind.and_then(|behind| session.told_p.checked_sub(u64::from(behind)))
            }
        };
        let good = p.filter(|&p| p > session.acked_p && p <= session.told_p);
        let Some(p) = good else {
            self.counters.acks_ignored += u64::from(p != Some(session.acked_p));
            return;
        };
        session.acked_p = p;
        session.lags_since = 0;
        let reached = told - (session.told_p - p) as u32;
        if let Some(ix) = listens {
            self.mark_receipt(ix, Party::Visitor, false, reached);
        }
        self.want_telling(index);
    }

    /// Whether a `typing` is passed on.
    pub(crate) fn passes_typing(&mut self, index: u32, on: bool) -> bool {
        let now = tenths(self.now.mono_ms);
        let session = self.sessions.at(index);
        let news = session.typing != on;
        if !news && now.saturating_sub(session.typed_at) < TYPING_AGAIN {
            return false;
        }
        if !self.may_ask(index, None) {
            return false;
        }
        let session = self.sessions.at(index);
        session.typing = on;
        session.typed_at = now;
        true
    }

    /// Agents who listen are told that the visitor came or went.
    pub(crate) fn visitor_presence(&mut self, visitor: VisitorId) {
        let Some(ix) = self.homes.convs.of_visitor(visitor) else { return };
        let online = self.visitor_online(visitor);
        let c = self.homes.convs.conversation(ix).id;
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        encode::presence(&mut text, c, online);
        self.hint_agents(ix, &text);
        self.text = text;
    }

    /// Whether any socket of his is open.
    pub(crate) fn visitor_online(&self, visitor: VisitorId) -> bool {
        self.sessions.of_visitor(visitor).any(|(_, session)| session.door != NONE)
    }

    /// Somebody types in a conversation of this home.
    pub(crate) fn tell_typing(&mut self, ix: ConvIx, who: AuthorKind, id: u128, on: bool) {
        let c = self.homes.convs.conversation(ix).id;
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        encode::typing(&mut text, c, who, id, on);
        self.hint_agents(ix, &text);
        if who == AuthorKind::Agent {
            self.hint_visitor(ix, &text);
        }
        self.text = text;
    }

    /// An unnumbered push to every socket of the conversation's visitor that listens.
    pub(crate) fn hint_visitor(&mut self, ix: ConvIx, text: &[u8]) {
        let visitor = self.homes.convs.conversation(ix).visitor;
        let mut next = self.sessions.first_of(visitor);
        while let Some(index) = next {
            next = self.sessions.next_of(index);
            let session = self.sessions.get(index);
            if session.hears(ix) {
                self.hint(session.door, text);
            }
        }
    }

    /// An unnumbered push to every door where agents listen; dropped where there is no room.
    pub(crate) fn hint_agents(&mut self, ix: ConvIx, text: &[u8]) {
        let heads = self.homes.heads(ix);
        let c = self.homes.convs.conversation(ix).id;
        for to in 0..self.config.shard_count {
            if heads.doors & (1 << to) == 0 {
                continue;
            }
            if to == self.me() {
                self.on_hint(c, text);
            } else if self.post.has_room(to) {
                let mut push = self.pool.take();
                push.extend_from_slice(text);
                self.post.post(to, Letter::Hint { c, push });
            } else {
                self.counters.hints_dropped += 1;
            }
        }
    }
}
