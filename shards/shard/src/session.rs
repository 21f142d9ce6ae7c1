//! Sessions: who sits behind a socket, what he was told and what he acknowledged. A session outlives its socket for a while, so that a short drop costs a
//! short replay.

use std::collections::VecDeque;

use desk::bucket::Bucket;
use desk::conversation::ConvIx;
use desk::id::{AgentId, ConversationId, InboxId, SessionId, VisitorId};
use desk::map::hash;
use desk::pages::Pages;
use hashbrown::HashTable;

use crate::door::NONE;

/// Bits of a generation that count the session's sockets.
const SOCKET_BITS: u32 = 8;
/// Conversations an agent's session may listen to.
pub(crate) const LISTENING_MAX: usize = 512;

/// The part of the places that visitors' sessions do not take.
const AGENTS_PART: u32 = 32;

/// A visitor's part.
pub(crate) struct VisitorSide {
    pub(crate) visitor: VisitorId,
    pub(crate) inbox: InboxId,
    /// The conversation he listens to, once he does.
    pub(crate) listens: Option<ConvIx>,
    /// Highest number of the visitor stream he was told.
    pub(crate) told: u32,
    /// The next session of the same visitor.
    pub(crate) next: u32,
}

/// A conversation an agent's session asked for and the home has not been asked yet.
#[derive(Clone, Copy)]
pub(crate) struct SyncAsk {
    pub(crate) c: ConversationId,
    pub(crate) since: u32,
    pub(crate) epoch: Option<u32>,
    pub(crate) limit: u16,
}

/// An agent's part.
pub(crate) struct AgentSide {
    pub(crate) agent: AgentId,
    /// What was told and not acknowledged, oldest first; number 0 = acknowledged out of order.
    pub(crate) ring: VecDeque<(ConversationId, u32)>,
    pub(crate) listening: Vec<ConversationId>,
    pub(crate) syncs: VecDeque<SyncAsk>,
    pub(crate) sub_queue: bool,
    pub(crate) sub_mine: bool,
    /// The lists it subscribed to are to be asked for again, once there is a credit.
    pub(crate) ask_queue: bool,
    pub(crate) ask_mine: bool,
}

impl AgentSide {
    pub(crate) fn new(agent: AgentId) -> AgentSide {
        AgentSide {
            agent,
            ring: VecDeque::new(),
            listening: Vec::new(),
            syncs: VecDeque::new(),
            sub_queue: false,
            sub_mine: false,
            ask_queue: false,
            ask_mine: false,
        }
    }
}

impl AgentSide {
    /// The lists that it subscribed to are wanted anew.
    pub(crate) fn ask_again(&mut self) {
        self.ask_queue |= self.sub_queue;
        self.ask_mine |= self.sub_mine;
    }
}

/// Who it is.
pub(crate) enum Who {
    Visitor(VisitorSide),
    Agent(Box<AgentSide>),
}

/// One session.
pub(crate) struct Session {
    /// Above the lowest eight bits: odd while the place is used. In them: which of the session's sockets this is.
    pub(crate) generation: u32,
    /// Index of its socket, or [`NONE`].
    pub(crate) door: u32,
    /// The reply to `auth` was written to its socket: before that it is told nothing.
    pub(crate) is_ready: bool,
    pub(crate) sid: SessionId,
    /// Fingerprint of the device.
    pub(crate) device: u128,
    pub(crate) who: Who,
    /// Durable events it was told.
    pub(crate) told_p: u64,
    /// Of them, acknowledged.
    pub(crate) acked_p: u64,
    /// When it ends, while it has no socket.
    pub(crate) expires_ms: u64,
    /// For what is durable. A visitor has one, in the first of his sessions: [`Sessions::bucket_of`].
    bucket: Bucket,
    /// For everything else.
    pub(crate) asks: Bucket,
    /// Since when it may not be told more for want of acknowledgements, in tenths of a second; 0 = it may.
    pub(crate) lags_since: u32,
    /// When it last said that it is typing, in tenths; and what.
    pub(crate) typed_at: u32,
    pub(crate) typing: bool,
    /// It is in the list of those that may be told more.
    pub(crate) wants_telling: bool,
    /// Something it listens to could not be told when it came (agents).
    pub(crate) behind: bool,
}

/// All sessions of the shard.
pub(crate) struct Sessions {
    slots: Pages<Session>,
    free: Vec<u32>,
    /// Indices, found by the id of the session there.
    by_sid: HashTable<u32>,
    /// Index of the first session of each visitor, found by his id.
    by_visitor: HashTable<u32>,
    /// Agents' sessions; they are few.
    agents: Vec<u32>,
    pub(crate) scan: usize,
    pub(crate) count: u32,
    count_max: u32,
}

impl Sessions {
    pub(crate) fn new(count_max: u32) -> Sessions {
        Sessions {
            slots: Pages::default(),
            free: Vec::new(),
            by_sid: HashTable::new(),
            by_visitor: HashTable::new(),
            agents: Vec::new(),
            scan: 0,
            count: 0,
            count_max,
        }
    }

    /// Whether one more fits.
    pub(crate) fn has_room(&self) -> bool {
        self.count < self.count_max
    }

    /// The same for a visitor: a part is kept for agents, so that a crowd does not lock out those who are to serve it.
    pub(crate) fn has_room_for_visitor(&self) -> bool {
        self.count < self.count_max - self.count_max / AGENTS_PART
    }

    /// Begins a session. Room was checked.
    pub(crate) fn open(&mut self, sid: SessionId, device: u128, who: Who) -> u32 {
        assert!(self.has_room(), "room for a session was checked");
        self.count += 1;
        let mut session = Session {
            generation: next_generation(0),
            door: NONE,
            is_ready: false,
            sid,
            device,
            who,
            told_p: 0,
            acked_p: 0,
            expires_ms: 0,
            bucket: Bucket::default(),
            asks: Bucket::default(),
            lags_since: 0,
            typed_at: 0,
            typing: false,
            wants_telling: false,
            behind: false,
        };
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let visitor = match &session.who {
            Who::Visitor(side) => Some(side.visitor),
            Who::Agent(_) => None,
        };
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                session.generation = next_generation(slot.generation);
                *slot = session;
            }
            None => _ = self.slots.push(session),
        }
        let slots = &self.slots;
        self.by_sid.insert_unique(hash(sid.bits()), index, |&other| hash(slots[other as usize].sid.bits()));
        match visitor {
            Some(visitor) => self.link(visitor, index),
            None => self.agents.push(index),
        }
        index
    }

    /// Ends a session and gives its place back.
    pub(crate) fn end(&mut self, index: u32) {
        let (sid, visitor) = {
            let session = self.at(index);
            let visitor = match &session.who {
                Who::Visitor(side) => Some((side.visitor, side.next)),
                Who::Agent(_) => None,
            };
            (session.sid, visitor)
        };
        let entry = self.by_sid.find_entry(hash(sid.bits()), |&other| other == index);
        entry.expect("a session is found by its id").remove();
        match visitor {
            Some((visitor, next)) => self.unlink(visitor, index, next),
            None => self.agents.retain(|&agent| agent != index),
        }
        let session = &mut self.slots[index as usize];
        // Heap of the session goes; the generation stays, marked as free by its lowest bit.
        session.who = Who::Visitor(VisitorSide {
            visitor: VisitorId::from_bits(u128::from(VisitorId::KIND) << 112).expect("the kind is right"),
            inbox: InboxId::from_bits(u128::from(InboxId::KIND) << 112).expect("the kind is right"),
            listens: None,
            told: 0,
            next: NONE,
        });
        session.generation = next_generation(session.generation);
        session.door = NONE;
        self.free.push(index);
        self.count -= 1;
    }

    /// Puts a session at the head of its visitor's list.
    fn link(&mut self, visitor: VisitorId, index: u32) {
        let Sessions { slots, by_visitor, .. } = self;
        let of = |index: u32| visitor_of(slots, index);
        let next = match by_visitor.find_mut(hash(visitor.bits()), |&first| of(first) == Some(visitor)) {
            Some(first) => {
                let next = core::mem::replace(first, index);
                slots[index as usize].bucket = slots[next as usize].bucket;
                next
            }
            None => {
                let hash_of = |&first: &u32| hash(of(first).expect("only visitors' sessions").bits());
                by_visitor.insert_unique(hash(visitor.bits()), index, hash_of);
                NONE
            }
        };
        if let Who::Visitor(side) = &mut self.slots[index as usize].who {
            side.next = next;
        }
    }

    fn unlink(&mut self, visitor: VisitorId, index: u32, next: u32) {
        let Sessions { slots, by_visitor, .. } = self;
        let mut entry = by_visitor
            .find_entry(hash(visitor.bits()), |&first| visitor_of(slots, first) == Some(visitor))
            .expect("a visitor's session is in his list");
        let first = *entry.get();
        if first == index {
            match next {
                NONE => _ = entry.remove(),
                next => {
                    *entry.get_mut() = next;
                    slots[next as usize].bucket = slots[index as usize].bucket;
                }
            }
            return;
        }
        let mut before = first;
        loop {
            let Who::Visitor(side) = &mut self.slots[before as usize].who else {
                unreachable!("the list holds visitors' sessions only")
            };
            if side.next == index {
                side.next = next;
                return;
            }
            before = side.next;
        }
    }

    /// The session at an index in use.
    pub(crate) fn at(&mut self, index: u32) -> &mut Session {
        &mut self.slots[index as usize]
    }

    /// The session at an index in use.
    pub(crate) fn get(&self, index: u32) -> &Session {
        &self.slots[index as usize]
    }

    /// The bucket for what is durable: a visitor's sessions share one.
    pub(crate) fn bucket_of(&mut self, index: u32) -> &mut Bucket {
        let first = match &self.get(index).who {
            Who::Visitor(side) => self.first_of(side.visitor).expect("he has this one"),
            Who::Agent(_) => index,
        };
        &mut self.at(first).bucket
    }

    /// The session of that generation, if it is still that one, on whatever socket.
    pub(crate) fn find(&mut self, index: u32, generation: u32) -> Option<&mut Session> {
        let same = |session: &&mut Session| (session.generation ^ generation) >> SOCKET_BITS == 0;
        self.slots.get_mut(index as usize).filter(same)
    }

    /// The same, if it still has the socket that it had at that time. Clients number their requests anew on each socket, so nothing that was asked on
    /// one may be answered on another.
    pub(crate) fn find_on_socket(&mut self, index: u32, generation: u32) -> Option<&mut Session> {
        let same = |session: &&mut Session| session.generation == generation && session.door != NONE;
        self.slots.get_mut(index as usize).filter(same)
    }

    /// Whether the place holds a session: used places have odd generations.
    pub(crate) fn in_use(&self, index: u32) -> bool {
        self.slots.get(index as usize).is_some_and(|session| session.generation >> SOCKET_BITS & 1 == 1)
    }

    /// The session a client names.
    pub(crate) fn by_sid(&self, sid: SessionId) -> Option<u32> {
        self.by_sid.find(hash(sid.bits()), |&index| self.slots[index as usize].sid == sid).copied()
    }

    /// Sessions of agents.
    pub(crate) fn agents(&self) -> &[u32] {
        &self.agents
    }

    /// The first session of a visitor; [`Sessions::next_of`] names the others.
    pub(crate) fn first_of(&self, visitor: VisitorId) -> Option<u32> {
        let his = |&index: &u32| visitor_of(&self.slots, index) == Some(visitor);
        self.by_visitor.find(hash(visitor.bits()), his).copied()
    }

    /// The next session of the same visitor.
    pub(crate) fn next_of(&self, index: u32) -> Option<u32> {
        let Who::Visitor(side) = &self.get(index).who else {
            unreachable!("the list holds visitors' sessions only")
        };
        (side.next != NONE).then_some(side.next)
    }

    /// All sessions of a visitor, the newest first.
    pub(crate) fn of_visitor(&self, visitor: VisitorId) -> impl Iterator<Item = (u32, &Session)> {
        core::iter::successors(self.first_of(visitor), |&index| self.next_of(index))
            .map(|index| (index, self.get(index)))
    }

    /// Any session of a device: only a planted bug looks for one.
    pub(crate) fn newest(&self, device: u128) -> Option<u32> {
        (0..self.slots.len() as u32)
            .rev()
            .find(|&index| self.in_use(index) && self.get(index).device == device)
    }

    /// How many places there are, used or free.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }
}

fn visitor_of(slots: &Pages<Session>, index: u32) -> Option<VisitorId> {
    match &slots[index as usize].who {
        Who::Visitor(side) => Some(side.visitor),
        Who::Agent(_) => None,
    }
}

fn next_generation(generation: u32) -> u32 {
    (generation >> SOCKET_BITS).wrapping_add(1) << SOCKET_BITS
}

impl Session {
    /// It has another socket from now on.
    pub(crate) fn attach(&mut self, door: u32) {
        let sockets = (self.generation + 1) & ((1 << SOCKET_BITS) - 1);
        self.generation = self.generation >> SOCKET_BITS << SOCKET_BITS | sockets;
        self.door = door;
        self.expires_ms = 0;
        self.is_ready = false;
    }

    /// A visitor's session with a socket that listens to that conversation.
    pub(crate) fn hears(&self, ix: ConvIx) -> bool {
        self.door != NONE && matches!(&self.who, Who::Visitor(side) if side.listens == Some(ix))
    }

    /// Durable events told and not acknowledged.
    pub(crate) fn unacked(&self) -> u64 {
        self.told_p - self.acked_p
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desk::id::{Entropy, Slot};

    /// A crowd of visitors would lock out those who are to serve it.
    #[test]
    fn visitors_leave_places_for_agents() {
        let mut entropy = Entropy::new([1; 32]);
        let slot = Slot::new(0).expect("there is a first slot");
        let mut sessions = Sessions::new(64);
        while sessions.has_room_for_visitor() {
            let visitor = VisitorId::mint(slot, &mut entropy);
            let inbox = InboxId::mint(slot, &mut entropy);
            let side = VisitorSide { visitor, inbox, listens: None, told: 0, next: NONE };
            sessions.open(SessionId::mint(slot, &mut entropy), 1, Who::Visitor(side));
        }
        assert_eq!(sessions.count, 62);
        while sessions.has_room() {
            let agent = Box::new(AgentSide::new(AgentId::mint(slot, &mut entropy)));
            sessions.open(SessionId::mint(slot, &mut entropy), 1, Who::Agent(agent));
        }
        assert_eq!(sessions.count, 64);
    }
}
