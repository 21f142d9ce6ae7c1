//! Who is at the door: tokens, tickets, new sessions and resumed ones.

use desk::encode;
use desk::id::{ConversationId, SessionId, VisitorId};
use desk::request::{Auth, Envelope, ErrorCode, Last, Op, fingerprint};
use desk::token::{self, TokenError, VisitorToken};

use crate::door::{NONE, Phase, Side, tenths};
use crate::due::Due;
use crate::input::Door;
use crate::plant;
use crate::session::{AgentSide, Session, VisitorSide, Who};
use crate::shard::Shard;

/// Sessions without a socket that one visitor may have: more than his devices and tabs that lose their connection at once.
const RESUMABLE_MAX: u32 = 16;

impl Shard {
    /// One envelope of a client.
    pub(crate) fn on_envelope(&mut self, door: Door, envelope: Envelope<'_>) {
        if envelope.op == Op::Heartbeat {
            return;
        }
        let conn = self.doors.at(door.index);
        match (conn.phase, envelope.op) {
            (Phase::Hello, Op::Auth(auth)) => self.on_auth(door, envelope.id, auth),
            (Phase::Hello, _) => {
                self.reply_error(door.index, envelope.id, ErrorCode::Auth, "authenticate first", None)
            }
            (_, Op::Auth(_)) => {
                self.reply_error(
                    door.index,
                    envelope.id,
                    ErrorCode::Auth,
                    "this socket is authenticated already",
                    None,
                );
            }
            (_, op) => {
                let session = conn.session;
                assert!(session != NONE, "a live socket has a session");
                match conn.side {
                    Side::Visitor => self.on_visitor_op(session, envelope.id, op),
                    Side::Agent => self.on_agent_op(session, envelope.id, op),
                }
            }
        }
    }

    fn on_auth(&mut self, door: Door, re: Option<u32>, auth: Auth<'_>) {
        match self.doors.at(door.index).side {
            Side::Visitor => self.auth_visitor(door, re, auth),
            Side::Agent => self.auth_agent(door, re, auth),
        }
    }

    fn auth_visitor(&mut self, door: Door, re: Option<u32>, auth: Auth<'_>) {
        let extra = self.doors.at(door.index).extra.as_ref().expect("kept until auth");
        let inbox = extra.inbox.expect("a visitor's upgrade names an inbox");
        let visitor = match auth.token {
            None => VisitorId::mint(self.own_slot(), &mut self.entropy),
            Some(text) => match token::verify_visitor(&self.settings.keys, text) {
                Ok(token) if token.site == self.config.site && token.inbox == inbox => token.visitor,
                Ok(_) => return self.close(door, 4201, "this token is for another inbox"),
                Err(_) => return self.close(door, 4201, "this token is not valid"),
            },
        };
        if self.home_of(visitor.slot()) != self.me() {
            let mut reason = String::with_capacity(16);
            use core::fmt::Write as _;
            write!(reason, "slot={}", visitor.slot().number()).expect("writing to a string does not fail");
            return self.close(door, 4000, &reason);
        }
        let device = fingerprint(auth.device);
        let resumed = auth.last.and_then(|last| {
            let session = self.resumable(last, device)?;
            let Who::Visitor(side) = &self.sessions.get(session).who else { return None };
            (side.visitor == visitor && side.inbox == inbox).then_some((session, last.p))
        });
        let session = match resumed {
            Some((session, _)) => session,
            None => {
                if !self.sessions.has_room_for_visitor() {
                    return self.close(door, 4100, "too many sessions");
                }
                let sid = SessionId::mint(visitor.slot(), &mut self.entropy);
                let who = Who::Visitor(VisitorSide { visitor, inbox, listens: None, told: 0, next: NONE });
                self.sessions.open(sid, device, who)
            }
        };
        let replay = resumed.map(|(session, p)| self.rewind_visitor(session, p));
        self.attach(door, session);
        self.ready(session, re, replay);
        if replay.is_none() && self.homes.convs.of_visitor(visitor).is_some() {
            self.visitor_presence(visitor);
        }
    }

    fn auth_agent(&mut self, door: Door, re: Option<u32>, auth: Auth<'_>) {
        let Some(text) = auth.token else { return self.close(door, 4201, "an agent needs a ticket") };
        let ticket = match token::verify_ticket(&self.settings.keys, text, self.now.wall_ms / 1000) {
            Ok(ticket) => ticket,
            Err(TokenError::Expired) => return self.close(door, 4202, "this ticket has expired"),
            Err(_) => return self.close(door, 4201, "this ticket is not valid"),
        };
        let known = self.settings.agent(ticket.agent).filter(|agent| agent.enabled);
        let Some(agent) = known else { return self.close(door, 4202, "this agent may not log in") };
        if agent.session_epoch != ticket.session_epoch {
            return self.close(door, 4202, "the sessions of this agent were ended");
        }
        let agent = ticket.agent;
        let device = fingerprint(auth.device);
        let resumed = auth.last.and_then(|last| {
            let session = self.resumable(last, device)?;
            let Who::Agent(side) = &self.sessions.get(session).who else { return None };
            (side.agent == agent).then_some((session, last.p))
        });
        let session = match resumed {
            Some((session, _)) => session,
            None => {
                if !self.sessions.has_room() {
                    return self.close(door, 4100, "too many sessions");
                }
                let slot = self.own_slot();
                let sid = SessionId::mint(slot, &mut self.entropy);
                self.sessions.open(sid, device, Who::Agent(Box::new(AgentSide::new(agent))))
            }
        };
        let replay = resumed.map(|(session, p)| self.rewind_agent(session, p));
        self.attach(door, session);
        self.presence(agent, None);
        self.ready(session, re, replay);
    }

    /// The session a client wants to go on with, if its count can be true.
    fn resumable(&mut self, last: Last, device: u128) -> Option<u32> {
        if last.epoch != self.config.epoch {
            if plant::is("old-epoch-resumed") {
                return self.sessions.newest(device);
            }
            return None;
        }
        let index = self.sessions.by_sid(last.sid)?;
        let session = self.sessions.get(index);
        let possible = session.acked_p <= last.p && last.p <= session.told_p;
        (session.device == device && possible).then_some(index)
    }

    /// Sets a visitor's session back to what he counted; returns how many events are told again.
    fn rewind_visitor(&mut self, index: u32, p: u64) -> u32 {
        let session = self.sessions.at(index);
        let again = (session.told_p - p) as u32;
        let Who::Visitor(side) = &mut session.who else { unreachable!("checked by the caller") };
        side.told = side.told.saturating_sub(again);
        if again > 0 && plant::is("resume-skips-one") {
            side.told += 1;
        }
        if again > 0 && plant::is("resume-repeats-one") {
            side.told = side.told.saturating_sub(1);
        }
        session.told_p = p;
        session.acked_p = p;
        session.lags_since = 0;
        again
    }

    /// Sets an agent's session back to what he counted; what was told after it is pulled again.
    fn rewind_agent(&mut self, index: u32, p: u64) -> u32 {
        let session = self.sessions.at(index);
        let again = session.told_p - p;
        let drop = (p - session.acked_p) as usize;
        session.told_p = p;
        session.acked_p = p;
        session.lags_since = 0;
        session.behind = true;
        let Who::Agent(side) = &mut session.who else { unreachable!("checked by the caller") };
        side.ring.drain(..drop);
        for (c, s) in side.ring.drain(..) {
            let s = match s {
                0 => 0,
                s if plant::is("agent-resume-skips-one") => s + 1,
                s => s,
            };
            if s > 0
                && let Some(watch) = self.watches.by_c.get_mut(&c)
                && let Some(listener) = watch.listener(index)
                && listener.told >= s
            {
                listener.told = s - 1;
                self.watches.note_behind(c);
            }
        }
        again as u32
    }

    /// Puts a session behind a socket; an older socket of it is closed.
    fn attach(&mut self, door: Door, index: u32) {
        let old = self.sessions.get(index).door;
        if old != NONE {
            let old = self.doors.door_at(old).expect("a session's socket is open");
            self.close(old, 4301, "a newer socket took this session");
        }
        let now = tenths(self.now.mono_ms);
        // The first heartbeat is spread, so that a restart's clients do not beat together for ever.
        let spread = self.entropy.below(u64::from(self.settings.limits.heartbeat_ms) / 400 + 1) as u32;
        let conn = self.doors.at(door.index);
        conn.phase = Phase::Live;
        conn.session = index;
        conn.since = now;
        conn.said_at = now.saturating_sub(spread);
        if !conn.stalled {
            conn.extra = None;
        }
        let session = self.sessions.at(index);
        session.attach(door.index);
        match &session.who {
            Who::Visitor(_) => self.counters.sessions_visitor += 1,
            Who::Agent(_) => self.counters.sessions_agent += 1,
        }
    }

    /// The reply to `auth` names the conversation's head, so it waits for the journal like any other word about it.
    fn ready(&mut self, index: u32, re: Option<u32>, replay: Option<u32>) {
        self.counters.sessions_resumed += u64::from(replay.is_some());
        let generation = self.sessions.get(index).generation;
        let (resumed, replay) = (replay.is_some(), replay.unwrap_or(0));
        self.due(Due::Ready { session: index, generation, re, resumed, replay });
    }

    pub(crate) fn tell_ready(&mut self, index: u32, re: Option<u32>, resumed: bool, replay: u32) {
        self.sessions.at(index).is_ready = true;
        self.want_telling(index);
        let session = self.sessions.get(index);
        let (door, sid, p) = (session.door, session.sid, session.told_p);
        let Some(re) = re else { return };
        let mut token_text = core::mem::take(&mut self.text);
        token_text.clear();
        let limits = &self.settings.limits;
        let mut heads: [encode::Head; 1] = [encode::Head {
            c: ConversationId::from_bits(u128::from(ConversationId::KIND) << 112).expect("the kind is right"),
            s: 0,
            e: 0,
            status: encode::Status::Waiting,
        }];
        let mut head_count = 0;
        let (me, name, slot, resume_ttl_ms) = match &session.who {
            Who::Visitor(side) => {
                let token = VisitorToken {
                    site: self.config.site,
                    inbox: side.inbox,
                    visitor: side.visitor,
                    issued_at_s: self.now.wall_ms / 1000,
                };
                token::sign_visitor(&self.settings.keys, &token, &mut token_text);
                if let Some(ix) = self.homes.convs.of_visitor(side.visitor)
                    && self.homes.heads(ix).has_begun
                {
                    let durable = self.homes.heads(ix);
                    heads[0] = encode::Head {
                        c: self.homes.convs.conversation(ix).id,
                        s: durable.vs,
                        e: self.log.history_epoch(),
                        status: durable.status,
                    };
                    head_count = 1;
                }
                (side.visitor.bits(), "", side.visitor.slot(), limits.resume_ttl_visitor_ms)
            }
            Who::Agent(side) => {
                let name = self.settings.agent(side.agent).map_or("", |agent| agent.name.as_str());
                (side.agent.bits(), name, sid.slot(), limits.resume_ttl_agent_ms)
            }
        };
        let token = core::str::from_utf8(&token_text).expect("a token is ASCII");
        let ready = encode::Ready {
            sid,
            me,
            name,
            token: (!token.is_empty()).then_some(token),
            slot: slot.number(),
            epoch: self.config.epoch,
            ts: self.now.wall_ms,
            // Counting stands where the client's stands: what is told again is counted again.
            p,
            resume_ttl_ms,
            resumed,
            replay,
            heads: &heads[..head_count],
        };
        let out = self.doors.out(door, &mut self.pool);
        let mark = wire::begin_text(out);
        encode::ready(out, re, &ready);
        wire::end_text(out, mark);
        self.text = token_text;
    }

    /// A session lost its socket: it waits a while for another one.
    pub(crate) fn on_detached(&mut self, index: u32) {
        let limits = self.settings.limits;
        let now = self.now.mono_ms;
        let session = self.sessions.at(index);
        session.door = NONE;
        session.lags_since = 0;
        match &mut session.who {
            Who::Visitor(side) => {
                // Who was told nothing and listens to nothing has nothing to resume: his place goes with the next look at the sessions.
                let is_empty = session.told_p == 0 && side.listens.is_none();
                let ttl_ms = if is_empty { 0 } else { limits.resume_ttl_visitor_ms };
                session.expires_ms = now + u64::from(ttl_ms);
                self.counters.sessions_visitor -= 1;
                let visitor = side.visitor;
                self.expire_oldest_of(visitor);
                self.visitor_presence(visitor);
            }
            Who::Agent(side) => {
                session.expires_ms = now + u64::from(limits.resume_ttl_agent_ms);
                self.counters.sessions_agent -= 1;
                side.sub_queue = false;
                side.sub_mine = false;
                side.ask_queue = false;
                side.ask_mine = false;
                side.syncs.clear();
                let agent = side.agent;
                self.presence(agent, None);
                self.lists_wanted();
            }
        }
    }

    /// A visitor keeps a few sessions without a socket; the one that would end first makes room. Every event of his walks all of them.
    fn expire_oldest_of(&mut self, visitor: VisitorId) {
        let now = self.now.mono_ms;
        let resumable = |&(_, session): &(u32, &Session)| session.door == NONE && session.expires_ms > now;
        let mut count = 0;
        let mut oldest = None;
        for (index, session) in self.sessions.of_visitor(visitor).filter(resumable) {
            count += 1;
            let ends = (session.expires_ms, index);
            oldest = Some(oldest.map_or(ends, |first: (u64, u32)| first.min(ends)));
        }
        if count > RESUMABLE_MAX
            && let Some((_, index)) = oldest
        {
            self.sessions.at(index).expires_ms = now;
        }
    }

    /// A session ends for good.
    pub(crate) fn end_session(&mut self, index: u32) {
        if let Who::Agent(side) = &mut self.sessions.at(index).who {
            for c in core::mem::take(&mut side.listening) {
                self.watches.unlisten(c, index);
            }
        }
        self.sessions.end(index);
    }

    /// Takes a token for a durable request out of the bucket that all sessions of a visitor share, or that of an agent's session.
    ///
    /// True: it comes too fast, and is answered only if it was stored before. A refusal says that it is not stored, and that only the home knows.
    pub(crate) fn is_too_fast(&mut self, index: u32) -> bool {
        let limits = self.settings.limits;
        let now = self.now.mono_ms;
        let bucket = self.sessions.bucket_of(index);
        let taken = bucket.take(now, limits.message_rate_per_s, limits.message_burst, 1);
        if taken.is_ok() {
            let door = self.sessions.get(index).door;
            self.doors.at(door).overdrawn = 0;
        }
        taken.is_err()
    }

    /// Tells a session that its durable request was refused. Who is told again and again that he is too fast is told no more.
    pub(crate) fn tell_refusal(&mut self, session: u32, door: u32, re: Option<u32>, code: ErrorCode) {
        if code != ErrorCode::RateLimited {
            return self.reply_error(door, re, code, "", code.retry().then_some(200));
        }
        let limits = self.settings.limits;
        // A look, no more: the copy is thrown away.
        let mut bucket = *self.sessions.bucket_of(session);
        let taken = bucket.take(self.now.mono_ms, limits.message_rate_per_s, limits.message_burst, 1);
        self.counters.rate_limited += 1;
        self.reply_error(door, re, code, "", Some(taken.err().unwrap_or(1)));
        let conn = self.doors.at(door);
        conn.overdrawn = conn.overdrawn.saturating_add(1);
        if u16::from(conn.overdrawn) >= limits.rate_strikes.min(255) {
            let door = self.doors.door_at(door).expect("the socket is open");
            self.close(door, 4111, "the rate limit was passed again and again");
        }
    }

    /// Takes a token from the session's bucket for everything else; answers the refusal.
    pub(crate) fn may_ask(&mut self, index: u32, re: Option<u32>) -> bool {
        let limits = self.settings.limits;
        let session = self.sessions.at(index);
        let door = session.door;
        match session.asks.take(self.now.mono_ms, limits.request_rate_per_s, limits.request_burst, 1) {
            Ok(()) => true,
            Err(after_ms) => {
                self.counters.rate_limited += 1;
                self.reply_error(door, re, ErrorCode::RateLimited, "", Some(after_ms));
                false
            }
        }
    }
}
