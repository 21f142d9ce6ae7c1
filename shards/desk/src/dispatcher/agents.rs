//! Agents: presence, state, capacity and load, and who is next to get an offer.

use std::collections::BTreeSet;

use super::words::{Out, Shard};
use crate::id::{AgentId, ConversationId};
use crate::map::IdMap;
use crate::plant;
use crate::request::Availability;

/// One agent. He stays known for as long as the dispatcher lives; there are as many as accounts.
pub(super) struct Agent {
    /// Live sessions by shard; no zeros.
    sessions: Vec<(Shard, u16)>,
    pub(super) state: Availability,
    pub(super) cap: u16,
    /// Conversations that are his.
    pub(super) open: u32,
    /// Conversations that a home was asked to give him.
    pub(super) assigning: u32,
    /// The conversation that he is offered. One at a time; it has a place kept within his capacity.
    pub(super) offer: Option<ConversationId>,
    /// Number of his last offer: the lower, the longer ago.
    pub(super) last_offer: u64,
    /// What stands in `free` for him.
    free_as: Option<(u32, u64)>,
    /// State, capacity and chats that his sessions were told; `None` while he has no session.
    told: Option<(Availability, u16, u32)>,
    touched: bool,
}

impl Agent {
    fn new() -> Agent {
        Agent {
            sessions: Vec::new(),
            state: Availability::Away,
            cap: 0,
            open: 0,
            assigning: 0,
            offer: None,
            last_offer: 0,
            free_as: None,
            told: None,
            touched: false,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Conversations that he has or is being given.
    pub(super) fn chats(&self) -> u32 {
        self.open + if plant::is("capacity-not-reserved") { 0 } else { self.assigning }
    }

    /// Chats and the place that is kept for his offer.
    pub(super) fn load(&self) -> u32 {
        self.chats() + u32::from(self.offer.is_some())
    }

    /// Whether the offer that he has, or would get, may stand: he is there, takes conversations and has a place for it.
    pub(super) fn may_hold_offer(&self) -> bool {
        self.is_present() && self.state == Availability::Online && self.chats() < u32::from(self.cap)
    }

    fn free_key(&self) -> Option<(u32, u64)> {
        (self.offer.is_none() && self.may_hold_offer()).then_some((self.chats(), self.last_offer))
    }
}

/// All agents of the site.
pub(super) struct Agents {
    map: IdMap<AgentId, Agent>,
    /// Who can be offered something now, best first: least loaded, then longest without an offer, then by id.
    free: BTreeSet<(u32, u64, AgentId)>,
    /// Changed since `tell`.
    touched: Vec<AgentId>,
    present: u32,
}

impl Agents {
    pub(super) fn new() -> Agents {
        Agents { map: IdMap::default(), free: BTreeSet::new(), touched: Vec::new(), present: 0 }
    }

    pub(super) fn get(&self, id: AgentId) -> Option<&Agent> {
        self.map.get(&id)
    }

    /// How many have a live session.
    pub(super) fn present(&self) -> u32 {
        self.present
    }

    /// Best first.
    pub(super) fn free(&self) -> impl Iterator<Item = AgentId> {
        self.free.iter().map(|&(_, _, id)| id)
    }

    pub(super) fn free_count(&self) -> usize {
        self.free.len()
    }

    /// The one way to change an agent: keeps the order of the free ones and remembers whom to tell.
    pub(super) fn change<R>(&mut self, id: AgentId, change: impl FnOnce(&mut Agent) -> R) -> R {
        let agent = self.map.entry(id).or_insert_with(Agent::new);
        let result = change(agent);
        let free_as = agent.free_key();
        if free_as != agent.free_as {
            if let Some((load, last)) = agent.free_as {
                self.free.remove(&(load, last, id));
            }
            if let Some((load, last)) = free_as {
                self.free.insert((load, last, id));
            }
            agent.free_as = free_as;
        }
        if !agent.touched {
            agent.touched = true;
            self.touched.push(id);
        }
        result
    }

    /// The number of live sessions that `shard` holds of him.
    pub(super) fn set_sessions(&mut self, id: AgentId, shard: Shard, sessions: u16) {
        let (before, after) = self.change(id, |agent| {
            let before = agent.is_present();
            match agent.sessions.iter().position(|&(at, _)| at == shard) {
                Some(index) if sessions == 0 => {
                    agent.sessions.swap_remove(index);
                }
                Some(index) => agent.sessions[index].1 = sessions,
                None if sessions == 0 => {}
                None => agent.sessions.push((shard, sessions)),
            }
            (before, agent.is_present())
        });
        self.present = self.present + u32::from(after) - u32::from(before);
    }

    /// Tells the sessions of those who changed. Offers do not count: they are told by themselves.
    pub(super) fn tell(&mut self, out: &mut Vec<Out>) {
        for id in self.touched.drain(..) {
            let agent = self.map.get_mut(&id).expect("agents stay known");
            agent.touched = false;
            let now = agent.is_present().then_some((agent.state, agent.cap, agent.chats()));
            if agent.told == now {
                continue;
            }
            agent.told = now;
            if let Some((state, cap, chats)) = now {
                let load = u16::try_from(chats).unwrap_or(u16::MAX);
                out.push(Out::Avail { agent: id, state, cap, load });
            }
        }
    }

    /// Asserts what this file keeps; `count` says how many conversations each agent really has: open, assigning, offered.
    pub(super) fn check(&self, count: impl Fn(AgentId) -> (u32, u32, Option<ConversationId>)) {
        let mut free = 0;
        let mut present = 0;
        for (&id, agent) in &self.map {
            assert_eq!((agent.open, agent.assigning, agent.offer), count(id), "load of {id}");
            assert!(agent.offer.is_none() || agent.may_hold_offer(), "{id} can accept what he is offered");
            assert!(agent.sessions.iter().all(|&(_, sessions)| sessions > 0));
            assert_eq!(agent.free_as, agent.free_key(), "order of {id}");
            if let Some((load, last)) = agent.free_as {
                free += 1;
                assert!(self.free.contains(&(load, last, id)), "{id} is among the free");
            }
            present += u32::from(agent.is_present());
            assert!(!agent.touched, "{id} was told");
        }
        assert_eq!(self.free.len(), free, "nobody else is among the free");
        assert_eq!(self.present, present);
    }
}
