//! What an agent may ask for at his door, and what comes back for him from homes and from the dispatcher.

use desk::dispatcher::RequestRef;
use desk::encode::{self, AuthorKind};
use desk::id::{AgentId, ConversationId};
use desk::request::{Ack, ErrorCode, Op, Scope, body_hash, fingerprint};
use mail::{Answer, Ask, Letter, SaidBy};

use crate::door::{NONE, tenths};
use crate::plant;
use crate::session::{LISTENING_MAX, SyncAsk, Who};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn on_agent_op(&mut self, index: u32, re: Option<u32>, op: Op<'_>) {
        let session = self.sessions.get(index);
        let ask = Ask { session: index, generation: session.generation, re };
        let (door, device) = (session.door, session.device);
        let agent = self.agent_of(index);
        match op {
            Op::Send(send) => self.agent_says(index, ask, send.c, send.cid, send.body, false),
            Op::Note(note) => self.agent_says(index, ask, note.c, note.cid, note.body, true),
            Op::Close { c, cid } => {
                let by = SaidBy { agent, device, cid: fingerprint(cid) };
                self.request_durable(index, ask, self.home_of(c.slot()), |is_over| Letter::Close {
                    ask,
                    c,
                    by,
                    is_over,
                });
            }
            Op::Accept { c, cid, offer } => {
                let request = RequestRef {
                    shard: self.me(),
                    session: index,
                    generation: ask.generation,
                    re,
                    device,
                    cid: fingerprint(cid),
                };
                self.request_durable(index, ask, self.desk_shard(), |is_over| Letter::Accept {
                    request,
                    agent,
                    c,
                    offer,
                    is_over,
                });
            }
            Op::Decline { c, offer } => {
                if self.may_ask(index, re) {
                    self.post.post_or_owe(self.desk_shard(), Letter::Decline { agent, c, offer });
                    if let Some(re) = re {
                        self.push(door, |out| encode::ok(out, re));
                    }
                }
            }
            Op::Sync(sync) => {
                if !self.may_ask(index, re) {
                    return;
                }
                let Who::Agent(side) = &mut self.sessions.at(index).who else { unreachable!("agents only") };
                let mut count = 0;
                let mut over = 0;
                for cursor in sync.cursors() {
                    if side.syncs.len() >= LISTENING_MAX {
                        over += 1;
                        continue;
                    }
                    let (c, since, epoch) = (cursor.c, cursor.s, cursor.e);
                    side.syncs.push_back(SyncAsk { c, since, epoch, limit: sync.limit });
                    count += 1;
                }
                match over {
                    0 => {
                        if let Some(re) = re {
                            self.push(door, |out| encode::synced(out, re, count));
                        }
                    }
                    _ => self.reply_error(
                        door,
                        re,
                        ErrorCode::Quota,
                        "more than 512 conversations are being synced",
                        None,
                    ),
                }
                self.want_telling(index);
            }
            Op::Unsync { c } => {
                if self.may_ask(index, re) {
                    let Who::Agent(side) = &mut self.sessions.at(index).who else {
                        unreachable!("agents only")
                    };
                    side.listening.retain(|&listened| listened != c);
                    side.syncs.retain(|sync| sync.c != c);
                    self.watches.unlisten(c, index);
                    if let Some(re) = re {
                        self.push(door, |out| encode::ok(out, re));
                    }
                }
            }
            Op::History { c, before, limit } => {
                if re.is_some() && self.may_ask(index, re) {
                    self.request(index, ask, self.home_of(c.slot()), || Letter::History {
                        ask,
                        c,
                        before,
                        limit,
                    });
                }
            }
            Op::Ack(ack) => self.agent_ack(index, ack),
            Op::Seen { c, s } => {
                if self.may_ask(index, None) {
                    self.watches.note_cursor(c, s, 0);
                }
            }
            Op::Typing { c, on } => {
                if self.passes_typing(index, on) && self.post.has_room(self.home_of(c.slot())) {
                    let (who, id) = (AuthorKind::Agent, agent.bits());
                    self.post.post(self.home_of(c.slot()), Letter::Typing { c, who, id, on });
                }
            }
            Op::Avail { state, cap } => {
                if self.may_ask(index, re) {
                    let known = self.settings.agent(agent).map_or(0, |agent| agent.capacity);
                    let cap = cap.unwrap_or(known);
                    self.presence(agent, Some((state, cap)));
                    if let Some(re) = re {
                        self.push(door, |out| encode::avail_reply(out, re, state, cap));
                    }
                }
            }
            Op::Sub { scope } => {
                if self.may_ask(index, re) {
                    self.subscribe(index, scope, true);
                    if let Some(re) = re {
                        self.push(door, |out| encode::ok(out, re));
                    }
                }
            }
            Op::Unsub { scope } => {
                if self.may_ask(index, re) {
                    self.subscribe(index, scope, false);
                    if let Some(re) = re {
                        self.push(door, |out| encode::ok(out, re));
                    }
                }
            }
            Op::List { scope, after } => {
                if re.is_some() && self.may_ask(index, re) {
                    self.request(index, ask, self.desk_shard(), || Letter::List { ask, agent, scope, after });
                }
            }
            Op::Start(_) => self.reply_error(door, re, ErrorCode::Forbidden, "this is for visitors", None),
            Op::Heartbeat | Op::Auth(_) => unreachable!("handled before"),
        }
    }

    pub(crate) fn agent_of(&self, index: u32) -> AgentId {
        match &self.sessions.get(index).who {
            Who::Agent(side) => side.agent,
            Who::Visitor(_) => unreachable!("agents only"),
        }
    }

    fn agent_says(&mut self, index: u32, ask: Ask, c: ConversationId, cid: &str, text: &str, note: bool) {
        let home = self.home_of(c.slot());
        if !self.post.can_request(home) {
            let door = self.sessions.get(index).door;
            return self.reply_error(door, ask.re, ErrorCode::Overloaded, "", Some(100));
        }
        let is_over = self.is_too_fast(index);
        let by = SaidBy {
            agent: self.agent_of(index),
            device: self.sessions.get(index).device,
            cid: fingerprint(cid),
        };
        let body_hash = body_hash(&[if note { "note" } else { "text" }, text]);
        let mut body = self.pool.take();
        body.extend_from_slice(text.as_bytes());
        self.post.post(home, Letter::Say { ask, c, by, note, is_over, body_hash, body });
    }

    fn request_durable(&mut self, index: u32, ask: Ask, to: u16, letter: impl FnOnce(bool) -> Letter) {
        // Without a credit it is refused, and costs no token.
        let is_over = self.post.can_request(to) && self.is_too_fast(index);
        self.request(index, ask, to, || letter(is_over));
    }

    /// Posts a request, or refuses it: the mailbox has no credit.
    fn request(&mut self, index: u32, ask: Ask, to: u16, letter: impl FnOnce() -> Letter) {
        if self.post.can_request(to) {
            self.post.post(to, letter());
        } else {
            let door = self.sessions.get(index).door;
            self.reply_error(door, ask.re, ErrorCode::Overloaded, "", Some(100));
        }
    }

    fn agent_ack(&mut self, index: u32, ack: Ack) {
        let session = self.sessions.at(index);
        let Who::Agent(side) = &mut session.who else { unreachable!("agents only") };
        match ack {
            Ack::P(p) => {
                let backwards = p < session.acked_p && plant::is("ack-moves-backwards");
                if backwards {
                    session.acked_p = p;
                    return;
                }
                if p <= session.acked_p || p > session.told_p {
                    self.counters.acks_ignored += u64::from(p != session.acked_p);
                    return;
                }
                let count = (p - session.acked_p) as usize;
                for (c, s) in side.ring.drain(..count) {
                    if s > 0 {
                        self.watches.note_cursor(c, 0, s);
                    }
                }
                session.acked_p = p;
            }
            Ack::At { c, s } => {
                // A number that was never told says nothing: what he was told may still be on its way.
                let told = side.ring.iter().filter(|entry| entry.0 == c).map(|entry| entry.1).max();
                if told.is_none_or(|told| s > told && !plant::is("ack-of-untold-accepted")) {
                    self.counters.acks_ignored += 1;
                    return;
                }
                let mut reached = 0;
                for entry in side.ring.iter_mut().filter(|entry| entry.0 == c && entry.1 != 0 && entry.1 <= s)
                {
                    reached = reached.max(entry.1);
                    entry.1 = 0;
                }
                if reached == 0 {
                    self.counters.acks_ignored += 1;
                    return;
                }
                while side.ring.front().is_some_and(|entry| entry.1 == 0) {
                    side.ring.pop_front();
                    session.acked_p += 1;
                }
                self.watches.note_cursor(c, 0, reached);
            }
        }
        session.lags_since = 0;
        self.want_telling(index);
    }

    /// An answer to something a session here asked.
    pub(crate) fn on_answer(&mut self, ask: Ask, answer: Answer) {
        // A registered listener is kept even if its session is gone meanwhile: the watch ends by itself.
        let found = self.sessions.find(ask.session, ask.generation).map(|session| session.door);
        let socket = self.socket_of(ask);
        match answer {
            Answer::Listening { c, from, head, push } => {
                self.watches.note_answered(c);
                self.on_listening(ask, found, c, from, head, push);
                self.watches.note_leaving(c);
            }
            Answer::NotListening { c, code } => {
                self.watches.note_answered(c);
                if let Some(door) = socket {
                    self.push(door, |out| encode::sync_error(out, c, code));
                }
                if let Some(session) = self.sessions.find(ask.session, ask.generation)
                    && let Who::Agent(side) = &mut session.who
                {
                    side.listening.retain(|&listened| listened != c);
                }
            }
            Answer::Events { c, head, entries } => {
                self.on_events(c, head, &entries);
                self.pool.give(entries);
            }
            Answer::Stored(stored) => {
                let level = self.level();
                if let (Some(door), Some(re)) = (socket, ask.re) {
                    self.push(door, |out| {
                        encode::stored(out, re, None, stored.s, stored.ts_ms, level, stored.dup)
                    });
                }
            }
            Answer::Refused(code) => {
                if let Some(door) = socket {
                    self.tell_refusal(ask.session, door, ask.re, code);
                }
            }
            Answer::Text(text) => {
                if let Some(door) = socket {
                    // One frame may ask for two hundred pages; a peer that does not read them is not to fill the memory.
                    match (self.is_full(door), ask.re) {
                        (false, _) => self.push(door, |out| out.extend_from_slice(&text)),
                        (true, None) => self.ask_again(ask.session),
                        (true, re) => self.reply_error(door, re, ErrorCode::Overloaded, "", Some(200)),
                    }
                }
                self.pool.give(text);
            }
        }
    }

    fn on_listening(
        &mut self,
        ask: Ask,
        door: Option<u32>,
        c: ConversationId,
        from: u32,
        head: u32,
        push: Vec<u8>,
    ) {
        let Some(door) = door else {
            // The session ended while the answer was on its way.
            return self.pool.give(push);
        };
        let Who::Agent(side) = &mut self.sessions.at(ask.session).who else { unreachable!("agents only") };
        if !side.listening.contains(&c) {
            // It was unsynced meanwhile.
            return self.pool.give(push);
        }
        self.watches.listen(c, ask.session, from - 1, head);
        self.sessions.at(ask.session).behind = true;
        if door != NONE {
            self.push(door, |out| out.extend_from_slice(&push));
        }
        self.pool.give(push);
        self.want_telling(ask.session);
    }

    /// A durable event of a conversation that is listened to here.
    pub(crate) fn on_event(&mut self, c: ConversationId, s: u32, text: &[u8]) {
        let Some(watch) = self.watches.find(c) else { return };
        watch.head = watch.head.max(s);
        let count = watch.listeners.len();
        let mut behind = false;
        for at in 0..count {
            let listener = self.watches.find(c).expect("found above").listeners[at];
            if listener.told >= s {
                continue;
            }
            if listener.told + 1 == s && self.tell_agent(listener.session, c, s, text) {
                self.watches.find(c).expect("found above").listeners[at].told = s;
            } else {
                self.sessions.at(listener.session).behind = true;
                behind = true;
            }
        }
        if behind {
            self.watches.note_behind(c);
        }
    }

    /// Events that were pulled, in order.
    fn on_events(&mut self, c: ConversationId, head: u32, entries: &[u8]) {
        if let Some(watch) = self.watches.find(c) {
            watch.head = watch.head.max(head);
            watch.pulling = false;
            self.watches.note_behind(c);
        }
        let mut rest = entries;
        while let Some((first, after)) = rest.split_first_chunk::<8>() {
            let word = |at: usize| u32::from_le_bytes(first[at..at + 4].try_into().expect("four bytes"));
            let (s, size) = (word(0), word(4) as usize);
            let (text, after) = after.split_at(size);
            rest = after;
            self.on_event(c, s, text);
        }
    }

    /// Writes a durable event to an agent's socket, if his session may be told more now.
    fn tell_agent(&mut self, index: u32, c: ConversationId, s: u32, text: &[u8]) -> bool {
        if !self.may_tell(index) {
            return plant::is("slow-reader-drops") && self.sessions.get(index).door != NONE;
        }
        let session = self.sessions.at(index);
        session.told_p += 1;
        let door = session.door;
        let Who::Agent(side) = &mut session.who else { unreachable!("agents only") };
        side.ring.push_back((c, s));
        self.counters.events_told += 1;
        self.push(door, |out| out.extend_from_slice(text));
        true
    }

    /// An unnumbered push about a conversation that is listened to here.
    pub(crate) fn on_hint(&mut self, c: ConversationId, text: &[u8]) {
        let Some(watch) = self.watches.by_c.get(&c) else { return };
        for at in 0..watch.listeners.len() {
            let session = self.watches.by_c[&c].listeners[at].session;
            let door = self.sessions.get(session).door;
            if door != NONE {
                self.hint(door, text);
            }
        }
    }

    /// An unnumbered push to a socket; dropped first under pressure.
    pub(crate) fn hint(&mut self, door: u32, text: &[u8]) {
        let conn = self.doors.at(door);
        let waiting = conn.out.len() + conn.sending as usize;
        if waiting > self.settings.limits.outbox_bytes as usize / 2 {
            self.counters.hints_dropped += 1;
            return;
        }
        self.push(door, |out| out.extend_from_slice(text));
    }

    /// Asks homes for what sessions here want to listen to, and pulls what they missed, as far as there are credits.
    pub(crate) fn ask_homes(&mut self) {
        for _ in 0..self.watches.behind_count() {
            let Some(c) = self.watches.take_behind() else { break };
            self.pull(c);
        }
        let mut leaving = core::mem::take(&mut self.watches.leaving);
        leaving.retain(|&c| {
            let home = self.home_of(c.slot());
            if self.watches.is_wanted(c) {
                return false;
            }
            if !self.post.has_room(home) {
                return true;
            }
            self.post.post(home, Letter::Unlisten(c));
            false
        });
        self.watches.leaving = leaving;
        let mut cursors = core::mem::take(&mut self.watches.cursors);
        let mut kept = 0;
        for at in 0..cursors.len() {
            let c = cursors[at];
            let Some(watch) = self.watches.by_c.get_mut(&c) else { continue };
            let to = c.slot().number() % self.config.shard_count;
            if !self.post.has_room(to) {
                cursors[kept] = c;
                kept += 1;
                continue;
            }
            let (seen, delivered) = (core::mem::take(&mut watch.seen), core::mem::take(&mut watch.delivered));
            self.post.post(to, Letter::Cursor { c, seen, delivered });
        }
        cursors.truncate(kept);
        cursors.append(&mut self.watches.cursors);
        self.watches.cursors = cursors;
    }

    /// Pulls a conversation if a listener of it is behind and can be told more.
    fn pull(&mut self, c: ConversationId) {
        let Some(watch) = self.watches.by_c.get(&c) else { return };
        if watch.pulling {
            return;
        }
        let head = watch.head;
        let mut since = u32::MAX;
        let mut asker = NONE;
        for listener in &watch.listeners {
            if listener.told < head && listener.told < since && self.could_tell(listener.session) {
                since = listener.told;
                asker = listener.session;
            }
        }
        if asker == NONE {
            return;
        }
        let home = self.home_of(c.slot());
        if !self.post.can_request(home) {
            self.watches.note_behind(c);
            return;
        }
        self.counters.pulls += 1;
        let ask = Ask { session: asker, generation: self.sessions.get(asker).generation, re: None };
        self.watches.find(c).expect("found above").pulling = true;
        self.post.post(home, Letter::Pull { ask, c, since });
    }

    /// Takes up what a session waits for: conversations to listen to, lists, and what it missed.
    pub(crate) fn serve_agent(&mut self, index: u32) {
        let generation = self.sessions.get(index).generation;
        loop {
            let Who::Agent(side) = &mut self.sessions.at(index).who else { return };
            let Some(&SyncAsk { c, since, epoch, limit }) = side.syncs.front() else { break };
            let home = c.slot().number() % self.config.shard_count;
            if !self.post.can_request(home) {
                self.starved.push(index);
                break;
            }
            side.syncs.pop_front();
            if !side.listening.contains(&c) {
                if side.listening.len() >= LISTENING_MAX {
                    let door = self.sessions.get(index).door;
                    if door != NONE {
                        self.push(door, |out| encode::sync_error(out, c, ErrorCode::Quota));
                    }
                    continue;
                }
                side.listening.push(c);
            }
            let ask = Ask { session: index, generation, re: None };
            self.watches.note_asked(c);
            self.post.post(home, Letter::Listen { ask, c, since, epoch, limit });
        }
        self.ask_for_lists(index);
        if !core::mem::take(&mut self.sessions.at(index).behind) {
            return;
        }
        let Who::Agent(side) = &self.sessions.get(index).who else { return };
        for at in 0..side.listening.len() {
            let Who::Agent(side) = &self.sessions.get(index).who else { return };
            let Some(&c) = side.listening.get(at) else { return };
            let behind = self.watches.find(c).is_some_and(|watch| {
                let head = watch.head;
                watch.listener(index).is_some_and(|listener| listener.told < head)
            });
            if behind {
                // Stays set until a look finds nothing missing any more.
                self.sessions.at(index).behind = true;
                self.pull(c);
            }
        }
    }

    fn subscribe(&mut self, index: u32, scope: Scope, on: bool) {
        let Who::Agent(side) = &mut self.sessions.at(index).who else { unreachable!("agents only") };
        match scope {
            Scope::Queue => (side.sub_queue, side.ask_queue) = (on, on),
            Scope::Mine => (side.sub_mine, side.ask_mine) = (on, on),
        }
        self.lists_wanted();
        self.want_telling(index);
    }

    /// Whether a session has a socket that takes more, and room for more unacknowledged events.
    pub(crate) fn could_tell(&self, index: u32) -> bool {
        let session = self.sessions.get(index);
        if session.door == NONE || !(session.is_ready || plant::is("told-before-ready")) {
            return false;
        }
        let limits = &self.settings.limits;
        let inflight_max = match &session.who {
            Who::Visitor(_) => limits.inflight_visitor,
            Who::Agent(_) => limits.inflight_agent,
        };
        session.unacked() < u64::from(inflight_max)
            && self.doors.waiting_bytes(session.door) < limits.outbox_bytes as usize
    }

    /// As [`could_tell`](Self::could_tell); says `lag` when acknowledgements are missing.
    pub(crate) fn may_tell(&mut self, index: u32) -> bool {
        if self.could_tell(index) {
            return true;
        }
        let limits = self.settings.limits;
        let now = tenths(self.now.mono_ms).max(1);
        let session = self.sessions.at(index);
        let inflight_max = match &session.who {
            Who::Visitor(_) => limits.inflight_visitor,
            Who::Agent(_) => limits.inflight_agent,
        };
        if session.door != NONE && session.lags_since == 0 && session.unacked() >= u64::from(inflight_max) {
            session.lags_since = now;
            let (door, p) = (session.door, session.told_p);
            self.push(door, |out| encode::lag(out, p));
        }
        false
    }
}
