//! What always holds, counted anew. For tests and the simulator; O(n log n).

use super::{Dispatcher, Hold, REFUSALS_PER_ROUND, REFUSED_LOOKED_AT};
use crate::conversation::Status;
use crate::id::{AgentId, ConversationId};
use crate::map::IdMap;

impl Dispatcher {
    /// Asserts the dispatcher's invariants: a load is what is open and what is reserved; an offer is exclusive, one per conversation and one per agent, and can
    /// be accepted; whatever waits stands in the queue exactly once; nobody is free while something could be offered to him.
    pub fn check_invariants(&self) {
        self.line.check();
        let mut counted: IdMap<AgentId, (u32, u32, Option<ConversationId>)> = IdMap::default();
        let (mut in_line, mut unticketed, mut idle, mut timers) = (0, 0, 0, 0);
        let (mut open, mut offered, mut assigning) = (0, 0, 0);
        for (&c, known) in &self.known {
            assert_eq!(known.row.c, c);
            assert!(known.refused.len() <= REFUSALS_PER_ROUND, "{c} was refused too often");
            match known.row.status {
                Status::Closed => assert_ne!(known.hold, Hold::None, "{c} is closed and kept for nothing"),
                Status::Open => {
                    let owner = known.row.owner.expect("an open conversation has an owner");
                    assert!(self.owned.contains(&(owner, c)), "{c} is its owner's");
                    counted.entry(owner).or_default().0 += 1;
                    open += 1;
                }
                Status::Waiting => match known.place() {
                    Some(place) => {
                        assert!(place.0 < self.next_ticket, "new tickets are above all others");
                        let rank = self.line.rank(place);
                        assert_eq!(self.position(c), Some(rank + 1));
                        in_line += 1;
                    }
                    None => {
                        assert!(!self.whole, "{c} waits without a ticket");
                        assert!(self.unticketed.contains(&(known.row.since_ms, c)));
                        unticketed += 1;
                    }
                },
            }
            match known.hold {
                Hold::None => {
                    if let Some(place) = known.place() {
                        idle += 1;
                        let (here, there) = match known.refused.is_empty() {
                            true => (&self.fresh, &self.refused),
                            false => (&self.refused, &self.fresh),
                        };
                        assert!(here.contains(&place) && !there.contains(&place), "{c} can be offered");
                        if !known.refused.is_empty() {
                            assert!(self.timers.contains(&(known.round_ends_ms, c)), "the round of {c} ends");
                            timers += 1;
                        }
                    }
                }
                Hold::Offered { agent, ends_ms, .. } => {
                    assert!(self.whole, "nothing is offered before every home has announced");
                    assert!(known.place().is_some(), "{c} is offered and does not wait");
                    assert!(!known.refused.contains(&agent), "{agent} has refused {c} in this round");
                    assert!(self.timers.contains(&(ends_ms, c)), "the offer of {c} ends");
                    let offer = &mut counted.entry(agent).or_default().2;
                    assert_eq!(offer.replace(c), None, "{agent} has one offer at a time");
                    timers += 1;
                    offered += 1;
                }
                Hold::Assigning { agent, expect_epoch, unanswered, .. } => {
                    assert!(unanswered > 0, "a reservation has a home that will answer");
                    assert!(known.row.epoch <= expect_epoch, "the home has decided about {c}");
                    counted.entry(agent).or_default().1 += 1;
                    assigning += 1;
                }
            }
        }
        assert_eq!(self.line.len(), in_line, "in line is what waits");
        assert!(self.line.iter().all(|(_, c)| self.known.contains_key(&c)));
        assert_eq!(self.unticketed.len(), unticketed);
        assert_eq!(self.fresh.len() + self.refused.len(), idle, "what is held or gone is not offered");
        assert_eq!(self.timers.len(), timers, "no timer without a reason");
        assert_eq!(self.owned.len(), open);
        assert_eq!((self.offered, self.assigning), (offered, assigning));
        self.agents.check(|agent| counted.get(&agent).copied().unwrap_or_default());
        for &agent in counted.keys() {
            assert!(self.agents.get(agent).is_some(), "{agent} is known by his load");
        }
        if self.whole {
            self.check_nobody_idles();
        }
    }

    fn check_nobody_idles(&self) {
        if self.agents.free_count() == 0 {
            return;
        }
        assert!(self.fresh.is_empty(), "somebody is free and something could be offered to him");
        for (_, c) in self.refused.iter().take(REFUSED_LOOKED_AT) {
            let refused = &self.known[c].refused;
            assert!(
                refused.len() == REFUSALS_PER_ROUND
                    || self.agents.free().all(|agent| refused.contains(&agent)),
                "somebody is free who has not refused {c}"
            );
        }
    }
}
