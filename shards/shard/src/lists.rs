//! The dispatcher's shard: who is there, what waits, who gets it; and the lists that agents watch.

use std::collections::VecDeque;

use desk::dispatcher::{Out, RefuseCode, RequestRef, Row};
use desk::encode::{self, AvailView, EventWhat, Status};
use desk::id::{AgentId, ConversationId};
use desk::map::{IdMap, IdSet};
use desk::request::{Availability, ErrorCode, RowKey, Scope};
use mail::{Answer, Ask, Expect, Letter, Stored};

use crate::door::NONE;
use crate::home::Homes;
use crate::plant;
use crate::session::Who;
use crate::shard::Shard;

/// Rows in a page of a list.
const ROWS_MAX: usize = 200;

/// What the lists and the dispatcher's letters need to remember.
pub(crate) struct Lists {
    /// At this door: whether any session watches the lists, as the dispatcher was told.
    wanted: bool,
    /// At this door: sockets of each agent.
    here: IdMap<AgentId, u16>,
    /// At the dispatcher: doors where each agent has sockets, a bit for each shard.
    doors: IdMap<AgentId, u64>,
    /// At the dispatcher: agents who said something of themselves, or were taken to be there to work.
    spoken: IdSet<AgentId>,
    /// At the dispatcher: doors that watch the lists.
    watching: u64,
    /// At the dispatcher: of them, those that missed a row.
    stale: u64,
    /// At the dispatcher: assignments that wait for a credit.
    assigns: VecDeque<(u16, Letter)>,
    shard_count: u16,
}

impl Lists {
    pub(crate) fn new(shard_count: u16) -> Lists {
        Lists {
            wanted: false,
            here: IdMap::default(),
            doors: IdMap::default(),
            spoken: IdSet::default(),
            watching: 0,
            stale: 0,
            assigns: VecDeque::new(),
            shard_count,
        }
    }
}

fn code_of(code: RefuseCode) -> ErrorCode {
    match code {
        RefuseCode::Stale => ErrorCode::Stale,
        RefuseCode::Quota => ErrorCode::Quota,
        RefuseCode::Unavailable => ErrorCode::Unavailable,
        RefuseCode::NotFound => ErrorCode::NotFound,
    }
}

fn row_view<'a>(row: &'a Row, pos: Option<u32>) -> encode::Row<'a> {
    encode::Row {
        c: row.c,
        status: row.status,
        owner: row.owner,
        name: row.name.as_str(),
        preview: row.preview.as_str(),
        since: row.since_ms,
        pos,
    }
}

// At the home.
impl Shard {
    /// Announces what changed, and after a start everything that waits or is open, as far as there is room.
    pub(crate) fn announce(&mut self) {
        let desk = self.desk_shard();
        while let Some(next) = self.homes.announcing {
            if !self.post.has_room(desk) {
                return;
            }
            if next as usize >= self.homes.convs.len() {
                self.homes.announcing = None;
                self.post.post(desk, Letter::AnnounceEnd);
                break;
            }
            self.homes.announcing = Some(next + 1);
            let ix = desk::conversation::ConvIx(next);
            // One that is changing is announced by its change.
            if self.homes.convs.conversation(ix).status != Status::Closed
                && self.homes.heads(ix).transition == 0
            {
                self.post_row(desk, ix);
            }
        }
        for _ in 0..self.homes.to_announce.len() {
            if !self.post.has_room(desk) {
                return;
            }
            let Some(ix) = self.homes.to_announce.pop_front() else { break };
            let heads = self.homes.heads_mut(ix);
            // One that has changed again meanwhile is announced when that is durable.
            if heads.announced != heads.transition && heads.settled == heads.transition {
                heads.announced = heads.transition;
                self.post_row(desk, ix);
            }
        }
    }

    fn post_row(&mut self, desk: u16, ix: desk::conversation::ConvIx) {
        let row = row_of(&self.homes, ix);
        self.post.post(desk, Letter::Announce(Box::new(row)));
    }

    /// The visitor hears how many are before him.
    pub(crate) fn on_position(&mut self, c: ConversationId, pos: u32) {
        let Some(ix) = self.homes.convs.find(c) else { return };
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        encode::queue(&mut text, c, pos);
        self.hint_visitor(ix, &text);
        self.text = text;
    }
}

fn row_of(homes: &Homes, ix: desk::conversation::ConvIx) -> Row {
    let conversation = homes.convs.conversation(ix);
    Row {
        c: conversation.id,
        status: conversation.status,
        owner: conversation.owner,
        epoch: conversation.epoch,
        ticket: conversation.ticket.filter(|_| !plant::is("queue-jumps-after-restart")),
        since_ms: conversation.changed_ms,
        name: desk::dispatcher::Short::new(homes.convs.name(ix)),
        preview: desk::dispatcher::Short::new(durable_preview(homes, ix)),
    }
}

/// The beginning of the last text that is durable, if it is among the last few events.
fn durable_preview(homes: &Homes, ix: desk::conversation::ConvIx) -> &str {
    const LOOKED_AT: u32 = 16;
    let head = homes.heads(ix).s;
    if homes.convs.conversation(ix).s == head {
        return homes.convs.preview(ix);
    }
    let recent = (head.saturating_sub(LOOKED_AT) + 1..=head).rev();
    recent
        .filter_map(|s| homes.convs.event(ix, s))
        .find_map(|view| match view.what {
            EventWhat::Message { body, .. } => Some(body),
            _ => None,
        })
        .unwrap_or_default()
}

/// Writes a page of rows; the first has the place `pos` in the queue. Returns the key of its last row if there are more.
fn write_rows<'a>(
    text: &mut Vec<u8>,
    rows: impl Iterator<Item = &'a Row>,
    pos: Option<u32>,
    key: impl Fn(&Row) -> RowKey,
) -> Option<RowKey> {
    let mut last = None;
    for (at, row) in rows.enumerate() {
        if at == ROWS_MAX {
            return last;
        }
        encode::list_row(text, &row_view(row, pos.map(|pos| pos + at as u32)));
        last = Some(key(row));
    }
    None
}

// At the dispatcher.
impl Shard {
    fn dispatch_with(&mut self, call: impl FnOnce(&mut desk::dispatcher::Dispatcher, u64, &mut Vec<Out>)) {
        let now = self.now.mono_ms;
        let mut outs = core::mem::take(&mut self.outs);
        let dispatcher = self.dispatcher.as_mut().expect("only the dispatcher's shard gets its letters");
        call(dispatcher, now, &mut outs);
        for out in outs.drain(..) {
            self.on_out(out);
        }
        self.outs = outs;
    }

    fn on_out(&mut self, out: Out) {
        match out {
            Out::Ticket { home, c, ticket } => self.post.post_or_owe(home, Letter::Ticket { c, ticket }),
            Out::Assign { home, c, agent, expect_epoch, request } => {
                let expect = Expect::Epoch(expect_epoch);
                self.lists.assigns.push_back((home, Letter::Assign { c, agent, expect, request }));
                self.post_assigns();
            }
            // Homes do not know yet what they have, and the client asks again anyway.
            Out::Refuse { request, code: RefuseCode::Unavailable, .. } => {
                self.answer_request(request, Answer::Refused(ErrorCode::Unavailable));
            }
            Out::Refuse { c, agent, request, code } => {
                let expect = Expect::Refuse(code_of(code));
                self.lists
                    .assigns
                    .push_back((self.home_of(c.slot()), Letter::Assign { c, agent, expect, request }));
                self.post_assigns();
            }
            Out::Offer { agent, c, offer, ttl_ms, name, preview } => {
                self.counters.offers += 1;
                self.deliver_to(agent, || Letter::Offer {
                    agent,
                    c,
                    offer,
                    ttl_ms,
                    about: Box::new((name, preview)),
                });
            }
            Out::OfferGone { agent, c, offer } => {
                self.deliver_to(agent, || Letter::Offer {
                    agent,
                    c,
                    offer,
                    ttl_ms: 0,
                    about: Box::default(),
                });
            }
            Out::Row(row) => {
                for to in 0..self.lists.shard_count {
                    if self.lists.watching & (1 << to) == 0 {
                        continue;
                    }
                    if self.post.has_room(to) {
                        self.post.post(to, Letter::Row(Box::new(row)));
                    } else {
                        self.lists.stale |= 1 << to;
                    }
                }
            }
            Out::Position { home, c, pos } => {
                if self.post.has_room(home) {
                    self.post.post(home, Letter::Position { c, pos });
                } else {
                    self.counters.hints_dropped += 1;
                }
            }
            Out::Avail { agent, state, cap, load } => {
                self.deliver_to(agent, || Letter::Avail { agent, state, cap, load });
            }
        }
    }

    /// A delivery to every door where the agent has a socket.
    fn deliver_to(&mut self, agent: AgentId, letter: impl Fn() -> Letter) {
        let doors = self.lists.doors.get(&agent).copied().unwrap_or(0);
        for to in 0..self.lists.shard_count {
            if doors & (1 << to) == 0 {
                continue;
            }
            if self.post.has_room(to) {
                self.post.post(to, letter());
            } else {
                self.counters.hints_dropped += 1;
            }
        }
    }

    /// Posts assignments as far as there are credits, and the word that lists are stale.
    pub(crate) fn post_assigns(&mut self) {
        // A home without a credit holds up its own only: those keep their order, at the end.
        for _ in 0..self.lists.assigns.len() {
            let Some((home, letter)) = self.lists.assigns.pop_front() else { break };
            match self.post.can_request(home) {
                true => self.post.post(home, letter),
                false => self.lists.assigns.push_back((home, letter)),
            }
        }
        for to in 0..self.lists.shard_count {
            if self.lists.stale & (1 << to) != 0 && self.post.has_room(to) {
                self.lists.stale &= !(1 << to);
                self.post.post(to, Letter::ListsStale);
            }
        }
    }

    fn answer_request(&mut self, request: RequestRef, answer: Answer) {
        let ask = Ask { session: request.session, generation: request.generation, re: request.re };
        self.answer(request.shard, ask, answer);
    }

    pub(crate) fn on_accept(
        &mut self,
        request: RequestRef,
        agent: AgentId,
        c: ConversationId,
        offer: Option<u64>,
        is_over: bool,
    ) {
        let dispatcher = self.dispatcher.as_ref().expect("only the dispatcher's shard gets its letters");
        if is_over || (dispatcher.is_whole() && !dispatcher.is_known(c)) {
            // Closed, or on its way here, or none: only the home can tell. Whether it is the repetition of one that was granted, too.
            let expect = if is_over { Expect::Refuse(ErrorCode::RateLimited) } else { Expect::Known };
            let letter = Letter::Assign { c, agent, expect, request };
            self.lists.assigns.push_back((self.home_of(c.slot()), letter));
            return self.post_assigns();
        }
        self.dispatch_with(|dispatcher, now, out| dispatcher.on_accept(now, agent, c, offer, request, out));
    }

    pub(crate) fn on_decline(&mut self, agent: AgentId, c: ConversationId, offer: u64) {
        self.dispatch_with(|dispatcher, now, out| dispatcher.on_decline(now, agent, c, offer, out));
    }

    pub(crate) fn on_assign_result(
        &mut self,
        c: ConversationId,
        agent: AgentId,
        request: RequestRef,
        asked: bool,
        result: Result<(u32, Stored), ErrorCode>,
    ) {
        if !asked {
            let epoch = result.map(|(epoch, _)| epoch).map_err(|_| ());
            self.dispatch_with(|dispatcher, now, out| {
                dispatcher.on_assign_result(now, c, agent, request, epoch, out)
            });
        }
        let answer = match result {
            Ok((_, stored)) => Answer::Stored(stored),
            Err(code) => Answer::Refused(code),
        };
        self.answer_request(request, answer);
    }

    pub(crate) fn on_announce(&mut self, from: u16, row: Row) {
        self.dispatch_with(|dispatcher, now, out| dispatcher.on_announce(now, from, row, out));
    }

    pub(crate) fn on_announce_end(&mut self, from: u16) {
        let mut became_whole = false;
        self.dispatch_with(|dispatcher, now, out| {
            let before = dispatcher.is_whole();
            dispatcher.on_announce_end(now, from, out);
            became_whole = !before && dispatcher.is_whole();
        });
        if became_whole {
            // Who asked before has a list without those that had no place yet, and no row tells of them.
            self.lists.stale |= self.lists.watching;
        }
    }

    pub(crate) fn on_presence(
        &mut self,
        from: u16,
        agent: AgentId,
        sessions: u16,
        said: Option<(Availability, u16)>,
    ) {
        let doors = self.lists.doors.entry(agent).or_default();
        match sessions {
            0 => *doors &= !(1 << from),
            _ => *doors |= 1 << from,
        }
        if *doors == 0 {
            self.lists.doors.remove(&agent);
        }
        let known = self.settings.agent(agent).map_or(0, |agent| agent.capacity);
        // Who comes for the first time and has said nothing is there to work.
        let new = sessions > 0 && !self.lists.spoken.contains(&agent);
        let said = said.or(new.then_some((Availability::Online, known)));
        if said.is_some() {
            self.lists.spoken.insert(agent);
        }
        self.dispatch_with(|dispatcher, now, out| {
            dispatcher.on_presence(now, agent, from, sessions, said, out);
        });
    }

    pub(crate) fn on_lists(&mut self, from: u16, on: bool) {
        match on {
            true => self.lists.watching |= 1 << from,
            false => self.lists.watching &= !(1 << from),
        }
    }

    /// The dispatcher's clock.
    pub(crate) fn tick_dispatcher(&mut self) {
        let ttl = self.settings.limits.offer_ttl_ms;
        if self.dispatcher.is_some() {
            self.dispatch_with(|dispatcher, now, out| {
                dispatcher.set_offer_ttl_ms(ttl);
                dispatcher.on_tick(now, out);
            });
        }
    }

    /// A page of a list. What is asked for with a `re` is its reply, and otherwise a push.
    pub(crate) fn answer_list(
        &mut self,
        from: u16,
        ask: Ask,
        agent: AgentId,
        scope: Scope,
        after: Option<RowKey>,
    ) {
        let mut text = self.pool.take();
        let dispatcher = self.dispatcher.as_ref().expect("only the dispatcher's shard gets its letters");
        encode::list_begin(&mut text, ask.re, scope);
        let (total, next) = match scope {
            Scope::Queue => {
                let mut rows = dispatcher.rows_waiting(after).peekable();
                let first = rows.peek().and_then(|row| dispatcher.position(row.c));
                let key = |row: &Row| RowKey { ticket: row.ticket.unwrap_or(0), c: row.c };
                (dispatcher.totals().waiting, write_rows(&mut text, rows, first, key))
            }
            Scope::Mine => {
                let rows = dispatcher.rows_of(agent, after);
                let key = |row: &Row| RowKey { ticket: 0, c: row.c };
                (dispatcher.count_of(agent), write_rows(&mut text, rows, None, key))
            }
        };
        encode::list_end(&mut text, total, next);
        self.answer(from, ask, Answer::Text(text));
    }
}

// At the door.
impl Shard {
    /// Tells the dispatcher how many sockets an agent has here, and what he said of himself.
    pub(crate) fn presence(&mut self, agent: AgentId, said: Option<(Availability, u16)>) {
        let sessions = self.sockets_of(agent);
        match sessions {
            0 => self.lists.here.remove(&agent),
            _ => self.lists.here.insert(agent, sessions),
        };
        self.post.post_or_owe(self.desk_shard(), Letter::Presence { agent, sessions, said });
    }

    /// Sockets of an agent at this door. Agents are few; this runs when one comes or goes.
    fn sockets_of(&self, agent: AgentId) -> u16 {
        let mut count = 0;
        self.each_agent(|index| count += u16::from(self.agent_of(index) == agent));
        count
    }

    /// Every agent's session here that has a socket.
    fn each_agent(&self, mut found: impl FnMut(u32)) {
        for &index in self.sessions.agents() {
            if self.sessions.get(index).door != NONE {
                found(index);
            }
        }
    }

    /// Tells the dispatcher whether any session here watches the lists, if that changed.
    pub(crate) fn lists_wanted(&mut self) {
        let mut wanted = false;
        self.each_agent(|index| {
            let Who::Agent(side) = &self.sessions.get(index).who else { unreachable!("agents only") };
            wanted |= side.sub_queue || side.sub_mine;
        });
        if core::mem::replace(&mut self.lists.wanted, wanted) != wanted {
            self.post.post_or_owe(self.desk_shard(), Letter::Lists(wanted));
        }
    }

    /// Asks for the lists a session subscribed to, as far as there are credits.
    pub(crate) fn ask_for_lists(&mut self, index: u32) {
        let desk = self.desk_shard();
        let session = self.sessions.get(index);
        let (door, generation) = (session.door, session.generation);
        if door == NONE || self.is_full(door) {
            return;
        }
        let agent = self.agent_of(index);
        for scope in [Scope::Queue, Scope::Mine] {
            let Who::Agent(side) = &mut self.sessions.at(index).who else { unreachable!("agents only") };
            let asks = match scope {
                Scope::Queue => &mut side.ask_queue,
                Scope::Mine => &mut side.ask_mine,
            };
            if !*asks {
                continue;
            }
            if !self.post.can_request(desk) {
                self.starved.push(index);
                return;
            }
            *asks = false;
            let ask = Ask { session: index, generation, re: None };
            self.post.post(desk, Letter::List { ask, agent, scope, after: None });
        }
    }

    /// A row changed: sessions that watch a list it is in, or was in, are told.
    pub(crate) fn on_row(&mut self, row: &Row) {
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        encode::conv_row(&mut text, &row_view(row, None));
        for at in 0..self.sessions.agents().len() {
            let index = self.sessions.agents()[at];
            let session = self.sessions.get(index);
            let door = session.door;
            let Who::Agent(side) = &session.who else { unreachable!("agents only") };
            if door != NONE && (side.sub_queue || side.sub_mine) {
                self.row_to(index, door, &text);
            }
        }
        self.text = text;
    }

    /// A row is state: where it does not fit, the whole list is asked for later.
    fn row_to(&mut self, index: u32, door: u32, text: &[u8]) {
        if self.doors.waiting_bytes(door) < self.settings.limits.outbox_bytes as usize / 2 {
            return self.push(door, |out| out.extend_from_slice(text));
        }
        self.counters.hints_dropped += 1;
        self.ask_again(index);
    }

    /// A row or a list did not fit: the lists are asked for when the socket takes more.
    pub(crate) fn ask_again(&mut self, index: u32) {
        let Who::Agent(side) = &mut self.sessions.at(index).who else { unreachable!("agents only") };
        side.ask_again();
        self.sessions.at(index).behind = true;
    }

    pub(crate) fn on_lists_stale(&mut self) {
        for at in 0..self.sessions.agents().len() {
            let index = self.sessions.agents()[at];
            let Who::Agent(side) = &mut self.sessions.at(index).who else { unreachable!("agents only") };
            side.ask_again();
            self.want_telling(index);
        }
    }

    pub(crate) fn on_offer(
        &mut self,
        agent: AgentId,
        c: ConversationId,
        offer: u64,
        ttl_ms: u32,
        name: &str,
        preview: &str,
    ) {
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        match ttl_ms {
            0 => encode::offer_gone(&mut text, c, offer),
            _ => encode::offer(&mut text, c, offer, ttl_ms, name, preview),
        }
        self.hint_agent(agent, &text);
        self.text = text;
    }

    pub(crate) fn on_avail(&mut self, agent: AgentId, state: Availability, cap: u16, load: u16) {
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        encode::avail_push(&mut text, &AvailView { state, cap, load: u32::from(load) });
        self.hint_agent(agent, &text);
        self.text = text;
    }

    fn hint_agent(&mut self, agent: AgentId, text: &[u8]) {
        for at in 0..self.sessions.agents().len() {
            let index = self.sessions.agents()[at];
            let door = self.sessions.get(index).door;
            if door != NONE && self.agent_of(index) == agent {
                self.hint(door, text);
            }
        }
    }
}
