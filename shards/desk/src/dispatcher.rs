//! One site's dispatcher: its queue, its agents' presence, their capacity.
//!
//! One writer, so the queue is truly first in, first out and a capacity is never exceeded. It journals nothing: all that it knows is derived from what homes
//! announce and doors report, and after a restart it is whole again when every home has announced. It *reserves*; the home's journal alone makes an
//! assignment true; the home's answer, or the next announcement, confirms.
//!
//! ```text
//!             announce           offer            accept            assigned
//!   (nothing) --------> waiting -------> offered -------> assigning --------> open
//!                          ^  ^ decline, |                    |                |
//!                          |  +--timeout-+                    |                | announce: closed
//!                          +----------------- home refused ---+                v
//!                                                                          (nothing)
//! ```
//! An offer goes to one agent alone and keeps a place within his capacity, so that he can accept it. An agent is offered one conversation at a time. Who
//! declines a conversation, or lets its offer run out, is not asked again in this round; the round ends one offer time after the last refusal.
//!
//! Everything costs O(log n) in conversations and agents, except what a constant of this file bounds.

mod agents;
mod check;
mod line;
mod offers;
mod short;
mod words;

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::conversation::Status;
use crate::id::{AgentId, ConversationId, SiteId};
use crate::map::IdMap;
use crate::request::{Availability, RowKey};
use agents::Agents;
use line::{Line, Place};

pub use short::Short;
pub use words::{Out, RefuseCode, RequestRef, Row, Shard};

/// How long an offer stands unless `set_offer_ttl_ms` says otherwise.
pub const OFFER_TTL_MS_DEFAULT: u32 = 20_000;
/// Visitors further back than this are not told their place.
pub const POSITIONS_TOLD: u32 = 100;
/// Places are told at most this often: one departure moves a hundred of them.
pub const POSITIONS_EVERY_MS: u64 = 250;
/// How many agents may refuse a conversation in one round; then it waits for the next.
pub const REFUSALS_PER_ROUND: usize = 64;
/// Of the conversations that somebody refused in this round, the first so many are offered to others.
pub const REFUSED_LOOKED_AT: usize = 64;

/// What is kept for a conversation at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    /// Nothing.
    None,
    /// It is offered.
    Offered { agent: AgentId, offer: u64, ends_ms: u64 },
    /// A home was asked to assign it.
    Assigning {
        agent: AgentId,
        device: u128,
        cid: u128,
        /// The epoch that was asked for. When the home is past it, it has decided.
        expect_epoch: u32,
        /// Requests with this `cid` that the home has not answered.
        unanswered: u32,
        /// It waits anew since then: a refusal says nothing about that.
        is_overtaken: bool,
    },
}

/// A conversation that waits or is open; a closed one only while an answer about it is under way.
struct Known {
    row: Row,
    home: Shard,
    hold: Hold,
    /// The home has announced the ticket of this wait, so a later announcement without one is another wait.
    ticket_journaled: bool,
    /// Who refused it in this round.
    refused: Vec<AgentId>,
    round_ends_ms: u64,
    /// The place its visitor was told; 0 = none.
    told_position: u32,
}

impl Known {
    fn place(&self) -> Option<Place> {
        match self.row.status {
            Status::Waiting => self.row.ticket.map(|ticket| (ticket, self.row.c)),
            Status::Open | Status::Closed => None,
        }
    }

    /// An agent refused it, or its home refused it to him: he is not asked again in this round, which lasts longer.
    fn refuse(&mut self, agent: AgentId, round_ends_ms: u64) {
        // A home may refuse it to one who has refused it himself, or to one more than a round asks.
        if self.refused.len() < REFUSALS_PER_ROUND && !self.refused.contains(&agent) {
            self.refused.push(agent);
        }
        self.round_ends_ms = round_ends_ms;
    }

    fn owner(&self) -> Option<AgentId> {
        match self.row.status {
            Status::Open => self.row.owner,
            Status::Waiting | Status::Closed => None,
        }
    }
}

/// Figures for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Conversations that wait, offered ones and those being assigned included.
    pub waiting: u32,
    /// Of these: offered to somebody.
    pub offered: u32,
    /// Assignments that a home has not answered.
    pub assigning: u32,
    /// Conversations that are open.
    pub open: u32,
    /// Agents with a live session.
    pub present: u32,
    /// Agents to whom something could be offered now.
    pub free: u32,
}

/// See the top of this file.
pub struct Dispatcher {
    site: SiteId,
    /// Which homes have ended their announcement.
    announced: Vec<bool>,
    /// All have.
    whole: bool,
    offer_ttl_ms: u32,
    next_ticket: u64,
    next_offer: u64,
    known: IdMap<ConversationId, Known>,
    agents: Agents,
    /// All that wait and have a ticket.
    line: Line,
    /// All that wait and have none, in the order in which they will get one. Empty once `whole`.
    unticketed: BTreeSet<(u64, ConversationId)>,
    /// In line, nothing held, refused by nobody in this round.
    fresh: BTreeSet<Place>,
    /// In line, nothing held, refused by somebody in this round.
    refused: BTreeSet<Place>,
    /// Ends of offers, and ends of rounds of those in `refused`.
    timers: BTreeSet<(u64, ConversationId)>,
    /// Open conversations by owner.
    owned: BTreeSet<(AgentId, ConversationId)>,
    offered: u32,
    assigning: u32,
    /// A place among the first hundred may have changed.
    positions_moved: bool,
    positions_due_ms: u64,
    /// Reused by `make_offers`.
    looked_at: Vec<Place>,
}

impl Dispatcher {
    /// The dispatcher of `site`, which waits for `shard_count` (> 0) homes to announce.
    pub fn new(site: SiteId, shard_count: u16) -> Dispatcher {
        assert!(shard_count > 0, "somebody has to announce");
        Dispatcher {
            site,
            announced: vec![false; usize::from(shard_count)],
            whole: false,
            offer_ttl_ms: OFFER_TTL_MS_DEFAULT,
            next_ticket: 1,
            next_offer: 1,
            known: IdMap::default(),
            agents: Agents::new(),
            line: Line::new(),
            unticketed: BTreeSet::new(),
            fresh: BTreeSet::new(),
            refused: BTreeSet::new(),
            timers: BTreeSet::new(),
            owned: BTreeSet::new(),
            offered: 0,
            assigning: 0,
            positions_moved: false,
            positions_due_ms: 0,
            looked_at: Vec::with_capacity(REFUSED_LOOKED_AT),
        }
    }

    /// Whose it is.
    pub fn site(&self) -> SiteId {
        self.site
    }

    /// Whether every home has announced, so that conversations are offered and assigned.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// How long offers stand from now on, in milliseconds (> 0). Those already made keep their time.
    pub fn set_offer_ttl_ms(&mut self, ttl_ms: u32) {
        assert!(ttl_ms > 0, "an offer needs time to be accepted in");
        self.offer_ttl_ms = ttl_ms;
    }

    /// The state of one conversation as its home has it durably. The latest wins; states between two announcements may never be seen.
    ///
    /// A ticket in it is taken as it is. A conversation that waits without one gets the next, behind all that were ever announced: at once, or, before every
    /// home has announced, then, in the order of `since_ms`.
    pub fn on_announce(&mut self, now_ms: u64, home: Shard, row: Row, out: &mut Vec<Out>) {
        assert!(usize::from(home) < self.announced.len(), "a home is one of the shards");
        assert!(row.status != Status::Open || row.owner.is_some(), "an open conversation has an owner");
        if let Some(ticket) = row.ticket {
            let next = ticket.checked_add(1).expect("tickets are counted one by one");
            self.next_ticket = self.next_ticket.max(next);
        }
        match self.known.get(&row.c) {
            // The answer to an assignment came first.
            Some(known) if row.epoch < known.row.epoch => {}
            Some(_) => self.update(home, row, out),
            None if row.status == Status::Closed => {}
            None => {
                let c = row.c;
                let known = Known {
                    row,
                    home,
                    hold: Hold::None,
                    ticket_journaled: row.ticket.is_some(),
                    refused: Vec::new(),
                    round_ends_ms: 0,
                    told_position: 0,
                };
                self.known.insert(c, known);
                self.arrive(c, out);
                self.tell_row(c, out);
            }
        }
        self.finish(now_ms, out);
    }

    /// `home` has announced everything that waits or is open. With the last home's word tickets are handed out and offers begin.
    pub fn on_announce_end(&mut self, now_ms: u64, home: Shard, out: &mut Vec<Out>) {
        self.announced[usize::from(home)] = true;
        if !self.whole && self.announced.iter().all(|&announced| announced) {
            self.whole = true;
            self.positions_moved = true;
            while let Some((_, c)) = self.unticketed.pop_first() {
                self.arrive(c, out);
            }
        }
        self.finish(now_ms, out);
    }

    /// How many live sessions of an agent `shard` holds (0 = he is gone there), and what he said there of his state and capacity since the last report.
    ///
    /// Who never said anything is away with a capacity of 0. An agent without sessions keeps his open conversations and loses his offer.
    pub fn on_presence(
        &mut self,
        now_ms: u64,
        agent: AgentId,
        shard: Shard,
        sessions: u16,
        said: Option<(Availability, u16)>,
        out: &mut Vec<Out>,
    ) {
        self.agents.set_sessions(agent, shard, sessions);
        if let Some((state, cap)) = said {
            self.say(agent, state, cap);
        }
        self.withdraw_if_unfit(agent, out);
        self.finish(now_ms, out);
    }

    /// What an agent says of his state and capacity; the latest word wins, wherever he says it. A lower capacity only stops new conversations.
    pub fn on_avail(
        &mut self,
        now_ms: u64,
        agent: AgentId,
        state: Availability,
        cap: u16,
        out: &mut Vec<Out>,
    ) {
        self.say(agent, state, cap);
        self.withdraw_if_unfit(agent, out);
        self.finish(now_ms, out);
    }

    /// An agent accepts a conversation: the one he is offered, or any that waits, within his capacity.
    ///
    /// By hand (`offer` is `None`) the first valid accept wins: an offer of it to somebody else ends, and so does an offer of something else to him if his
    /// last free place was kept for that. A retry of an accept that was or is being granted goes to the home, which knows its `cid`.
    pub fn on_accept(
        &mut self,
        now_ms: u64,
        agent: AgentId,
        c: ConversationId,
        offer: Option<u64>,
        request: RequestRef,
        out: &mut Vec<Out>,
    ) {
        if let Err(code) = self.accept(agent, c, offer, request, out) {
            out.push(Out::Refuse { c, agent, request, code });
        }
        self.finish(now_ms, out);
    }

    /// An agent declines what he is offered; anything else is ignored.
    pub fn on_decline(
        &mut self,
        now_ms: u64,
        agent: AgentId,
        c: ConversationId,
        offer: u64,
        out: &mut Vec<Out>,
    ) {
        match self.known.get(&c).map(|known| known.hold) {
            Some(Hold::Offered { agent: to, offer: number, .. }) if to == agent && number == offer => {
                self.end_offer(c, Some(now_ms), out);
            }
            _ => {}
        }
        self.finish(now_ms, out);
    }

    /// The home's durable answer to an `Assign`: the new epoch, or that it refused.
    pub fn on_assign_result(
        &mut self,
        now_ms: u64,
        c: ConversationId,
        agent: AgentId,
        request: RequestRef,
        result: Result<u32, ()>,
        out: &mut Vec<Out>,
    ) {
        self.answered(now_ms, c, agent, request, result, out);
        self.finish(now_ms, out);
    }

    /// Ends what has run out. Call it at `next_deadline`, or later.
    pub fn on_tick(&mut self, now_ms: u64, out: &mut Vec<Out>) {
        while let Some(&(at_ms, c)) = self.timers.first() {
            if at_ms > now_ms {
                break;
            }
            match self.known[&c].hold {
                Hold::Offered { .. } => self.end_offer(c, Some(now_ms), out),
                Hold::None | Hold::Assigning { .. } => self.new_round(c),
            }
        }
        self.finish(now_ms, out);
    }

    /// When `on_tick` has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        let timer = self.timers.first().map(|&(at_ms, _)| at_ms);
        let positions = (self.whole && self.positions_moved).then_some(self.positions_due_ms);
        [timer, positions].into_iter().flatten().min()
    }

    /// The place of a waiting conversation, 1 = next; `None` if it does not wait or has no ticket yet.
    pub fn position(&self, c: ConversationId) -> Option<u32> {
        let place = self.known.get(&c)?.place()?;
        Some(self.line.rank(place) + 1)
    }

    /// Those that wait behind a place, or all, in the order of the queue.
    pub fn rows_waiting(&self, behind: Option<RowKey>) -> impl Iterator<Item = &Row> {
        let places = match behind {
            Some(RowKey { ticket, c }) => self.line.iter_behind((ticket, c)),
            None => self.line.iter(),
        };
        places.map(|(_, c)| &self.known[&c].row)
    }

    /// The open conversations of an agent behind a place, or all, by id.
    pub fn rows_of(&self, agent: AgentId, behind: Option<RowKey>) -> impl Iterator<Item = &Row> {
        // Slot 0 and chance 0: the lowest id there is.
        let lowest = ConversationId::from_bits(u128::from(ConversationId::KIND) << 112).expect("of its kind");
        let from = match behind {
            Some(key) => Bound::Excluded((agent, key.c)),
            None => Bound::Included((agent, lowest)),
        };
        self.owned
            .range((from, Bound::Unbounded))
            .take_while(move |&&(owner, _)| owner == agent)
            .map(|(_, c)| &self.known[c].row)
    }

    /// How many conversations are an agent's: what [`Dispatcher::rows_of`] gives.
    pub fn count_of(&self, agent: AgentId) -> u32 {
        self.agents.get(agent).map_or(0, |agent| agent.open)
    }

    /// What counts against an agent's capacity: open conversations, those a home was asked to give him, and the place kept for his offer.
    pub fn load(&self, agent: AgentId) -> u32 {
        self.agents.get(agent).map_or(0, agents::Agent::load)
    }

    /// Whether a home has announced it and it waits or is open.
    pub fn is_known(&self, c: ConversationId) -> bool {
        self.known.contains_key(&c)
    }

    /// An agent's state and capacity, if he ever said or had anything.
    pub fn availability(&self, agent: AgentId) -> Option<(Availability, u16)> {
        self.agents.get(agent).map(|agent| (agent.state, agent.cap))
    }

    /// Figures for the metrics.
    pub fn totals(&self) -> Totals {
        Totals {
            waiting: self.line.len() + self.unticketed.len() as u32,
            offered: self.offered,
            assigning: self.assigning,
            open: self.owned.len() as u32,
            present: self.agents.present(),
            free: self.agents.free_count() as u32,
        }
    }

    /// The end of every event: offers for whom there is a place, places told, agents told.
    fn finish(&mut self, now_ms: u64, out: &mut Vec<Out>) {
        if self.whole {
            self.make_offers(now_ms, out);
            self.tell_positions(now_ms, out);
        }
        self.agents.tell(out);
    }

    fn say(&mut self, agent: AgentId, state: Availability, cap: u16) {
        self.agents.change(agent, |agent| {
            agent.state = state;
            agent.cap = cap;
        });
    }

    /// A later state of a conversation that is known.
    fn update(&mut self, home: Shard, mut row: Row, out: &mut Vec<Out>) {
        let c = row.c;
        let known = &self.known[&c];
        let old = known.row;
        let same_wait = old.status == Status::Waiting
            && row.status == Status::Waiting
            && old.epoch == row.epoch
            && (row.ticket.is_some() || !known.ticket_journaled);
        let ticket_journaled = row.ticket.is_some();
        if same_wait && row.ticket.is_none() {
            row.ticket = old.ticket;
            // Said again: the home may have had it for a wait that ended unseen. It takes a ticket only while it has none.
            if let Some(ticket) = old.ticket {
                out.push(Out::Ticket { home, c, ticket });
            }
        }
        let stays =
            same_wait && row.ticket == old.ticket && (row.ticket.is_some() || row.since_ms == old.since_ms);
        if !stays {
            self.leave(c, out);
        }
        let known = self.known.get_mut(&c).expect("looked up above");
        known.row = row;
        known.home = home;
        known.ticket_journaled = ticket_journaled;
        if !same_wait {
            known.refused.clear();
            known.told_position = 0;
            if let Hold::Assigning { is_overtaken, .. } = &mut known.hold {
                *is_overtaken = true;
            }
        }
        if let Hold::Assigning { expect_epoch, .. } = known.hold
            && row.epoch > expect_epoch
        {
            self.end_assigning(c);
        }
        if !stays {
            self.arrive(c, out);
        }
        if (Row { ticket: None, ..old }) != (Row { ticket: None, ..row }) {
            self.tell_row(c, out);
        }
        self.forget_if_closed(c);
    }

    /// Takes a conversation out of everything that is derived from its row: the queue, with its offer, or its owner's load. What is being assigned stays so.
    fn leave(&mut self, c: ConversationId, out: &mut Vec<Out>) {
        if let Hold::Offered { .. } = self.known[&c].hold {
            self.end_offer(c, None, out);
        }
        self.unpark(c);
        let known = &self.known[&c];
        if let Some(owner) = known.owner() {
            assert!(self.owned.remove(&(owner, c)), "an open conversation is its owner's");
            self.agents.change(owner, |agent| agent.open -= 1);
        } else if let Some(place) = known.place() {
            self.positions_moved |= self.line.rank(place) < POSITIONS_TOLD;
            assert!(self.line.remove(place), "what waits stands in line");
        } else if known.row.status == Status::Waiting {
            assert!(
                self.unticketed.remove(&(known.row.since_ms, c)),
                "what waits without a ticket will get one"
            );
        }
    }

    /// Puts a conversation where its row says it belongs, with a new ticket if it needs one.
    fn arrive(&mut self, c: ConversationId, out: &mut Vec<Out>) {
        let known = self.known.get_mut(&c).expect("only known conversations arrive");
        if let Some(owner) = known.owner() {
            assert!(self.owned.insert((owner, c)), "a conversation is opened once");
            self.agents.change(owner, |agent| agent.open += 1);
            self.withdraw_if_unfit(owner, out);
            return;
        }
        if known.row.status != Status::Waiting {
            return;
        }
        if known.row.ticket.is_none() {
            if !self.whole {
                self.unticketed.insert((known.row.since_ms, c));
                return;
            }
            known.row.ticket = Some(self.next_ticket);
            out.push(Out::Ticket { home: known.home, c, ticket: self.next_ticket });
            self.next_ticket += 1;
        }
        let place = known.place().expect("it waits and has a ticket");
        assert!(self.line.insert(place), "a conversation stands in line once");
        self.positions_moved |= self.line.rank(place) < POSITIONS_TOLD;
        self.park(c);
    }

    fn tell_row(&self, c: ConversationId, out: &mut Vec<Out>) {
        out.push(Out::Row(self.known[&c].row));
    }

    /// A closed conversation is nobody's concern here, once no answer about it is awaited.
    fn forget_if_closed(&mut self, c: ConversationId) {
        let known = &self.known[&c];
        if known.row.status == Status::Closed && known.hold == Hold::None {
            self.known.remove(&c);
        }
    }

    fn tell_positions(&mut self, now_ms: u64, out: &mut Vec<Out>) {
        if !self.positions_moved || now_ms < self.positions_due_ms {
            return;
        }
        self.positions_moved = false;
        self.positions_due_ms = now_ms + POSITIONS_EVERY_MS;
        let mut pos = 0;
        self.line.for_first(POSITIONS_TOLD, |(_, c)| {
            pos += 1;
            let known = self.known.get_mut(&c).expect("what stands in line is known");
            if known.told_position != pos {
                known.told_position = pos;
                out.push(Out::Position { home: known.home, c, pos });
            }
        });
    }
}
