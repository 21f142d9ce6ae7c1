//! Offers, accepts and assignments: what is held for a conversation, from the head of the queue to its owner.

use super::words::{Out, RefuseCode, RequestRef};
use super::{Dispatcher, Hold, REFUSALS_PER_ROUND, REFUSED_LOOKED_AT};
use crate::conversation::Status;
use crate::id::{AgentId, ConversationId};

impl Dispatcher {
    /// Offers conversations in the order of the queue until nobody is free or nothing is left to offer.
    pub(super) fn make_offers(&mut self, now_ms: u64, out: &mut Vec<Out>) {
        if self.agents.free_count() == 0 {
            return;
        }
        let mut looked_at = std::mem::take(&mut self.looked_at);
        looked_at.clear();
        looked_at.extend(self.refused.iter().take(REFUSED_LOOKED_AT));
        let mut refused = looked_at.iter().copied().peekable();
        loop {
            let fresh = self.fresh.first().copied();
            let first = match (fresh, refused.peek().copied()) {
                (Some(fresh), Some(refused)) => fresh.min(refused),
                (Some(place), None) | (None, Some(place)) => place,
                (None, None) => break,
            };
            if Some(first) != fresh {
                refused.next();
            }
            let (_, c) = first;
            match self.whom_to_ask(c) {
                Some(agent) => self.offer(now_ms, c, agent, out),
                None if self.agents.free_count() == 0 => break,
                None => assert_ne!(Some(first), fresh, "what nobody refused goes to the first who is free"),
            }
        }
        drop(refused);
        self.looked_at = looked_at;
    }

    /// The best of the free agents who have not refused it in this round.
    fn whom_to_ask(&self, c: ConversationId) -> Option<AgentId> {
        let refused = &self.known[&c].refused;
        if refused.len() >= REFUSALS_PER_ROUND {
            return None;
        }
        self.agents.free().find(|agent| !refused.contains(agent))
    }

    fn offer(&mut self, now_ms: u64, c: ConversationId, agent: AgentId, out: &mut Vec<Out>) {
        self.unpark(c);
        let offer = self.next_offer;
        self.next_offer += 1;
        let ends_ms = now_ms.saturating_add(u64::from(self.offer_ttl_ms));
        let known = self.known.get_mut(&c).expect("only known conversations are offered");
        assert_eq!(known.hold, Hold::None, "an offer is exclusive");
        known.hold = Hold::Offered { agent, offer, ends_ms };
        self.timers.insert((ends_ms, c));
        self.offered += 1;
        self.agents.change(agent, |agent| {
            assert!(agent.may_hold_offer(), "an offer can be accepted");
            agent.offer = Some(c);
            agent.last_offer = offer;
        });
        let (ttl_ms, name, preview) = (self.offer_ttl_ms, known.row.name, known.row.preview);
        out.push(Out::Offer { agent, c, offer, ttl_ms, name, preview });
    }

    /// Ends the offer of `c`; if it was refused at `refused_ms`, the agent is not asked again in this round.
    pub(super) fn end_offer(&mut self, c: ConversationId, refused_ms: Option<u64>, out: &mut Vec<Out>) {
        let known = self.known.get_mut(&c).expect("only known conversations are offered");
        let Hold::Offered { agent, offer, ends_ms } = known.hold else {
            unreachable!("the caller saw the offer")
        };
        known.hold = Hold::None;
        if let Some(now_ms) = refused_ms {
            known.refuse(agent, now_ms.saturating_add(u64::from(self.offer_ttl_ms)));
        }
        self.timers.remove(&(ends_ms, c));
        self.offered -= 1;
        self.agents.change(agent, |agent| agent.offer = None);
        self.park(c);
        out.push(Out::OfferGone { agent, c, offer });
    }

    /// Takes his offer back if he left, does not take conversations any more, or has no place for it. He did not refuse it.
    pub(super) fn withdraw_if_unfit(&mut self, agent: AgentId, out: &mut Vec<Out>) {
        if let Some(agent) = self.agents.get(agent)
            && let Some(c) = agent.offer
            && !agent.may_hold_offer()
        {
            self.end_offer(c, None, out);
        }
    }

    pub(super) fn accept(
        &mut self,
        agent: AgentId,
        c: ConversationId,
        offer: Option<u64>,
        request: RequestRef,
        out: &mut Vec<Out>,
    ) -> Result<(), RefuseCode> {
        if !self.whole {
            return Err(RefuseCode::Unavailable);
        }
        let known = self.known.get_mut(&c).ok_or(RefuseCode::NotFound)?;
        let (home, epoch) = (known.home, known.row.epoch);
        match &mut known.hold {
            Hold::Assigning { agent: to, device, cid, expect_epoch, unanswered, is_overtaken: _ } => {
                if *to != agent || (*device, *cid) != (request.device, request.cid) {
                    return Err(RefuseCode::Stale);
                }
                *unanswered += 1;
                out.push(Out::Assign { home, c, agent, expect_epoch: *expect_epoch, request });
                return Ok(());
            }
            Hold::Offered { agent: to, offer: number, .. } => {
                if offer.is_some_and(|offer| *to != agent || *number != offer) {
                    return Err(RefuseCode::Stale);
                }
            }
            Hold::None => {
                if known.owner() == Some(agent) {
                    // The epoch that it had before it became his: it can only be answered as a retry, never assign anything.
                    let expect_epoch = epoch.wrapping_sub(1);
                    out.push(Out::Assign { home, c, agent, expect_epoch, request });
                    return Ok(());
                }
                if offer.is_some() || known.row.status != Status::Waiting {
                    return Err(RefuseCode::Stale);
                }
            }
        }
        let asker =
            self.agents.get(agent).filter(|asker| asker.is_present()).ok_or(RefuseCode::Unavailable)?;
        let places = u32::from(asker.cap).saturating_sub(asker.chats());
        if places == 0 {
            return Err(RefuseCode::Quota);
        }
        let kept = asker.offer.filter(|&kept| kept != c && places == 1);
        if let Some(kept) = kept {
            self.end_offer(kept, None, out);
        }
        if let Hold::Offered { .. } = self.known[&c].hold {
            self.end_offer(c, None, out);
        }
        self.begin_assigning(c, agent, request, out);
        Ok(())
    }

    fn begin_assigning(
        &mut self,
        c: ConversationId,
        agent: AgentId,
        request: RequestRef,
        out: &mut Vec<Out>,
    ) {
        self.unpark(c);
        let known = self.known.get_mut(&c).expect("the caller saw it");
        let expect_epoch = known.row.epoch;
        let RequestRef { device, cid, .. } = request;
        known.hold = Hold::Assigning { agent, device, cid, expect_epoch, unanswered: 1, is_overtaken: false };
        self.assigning += 1;
        self.agents.change(agent, |agent| {
            agent.assigning += 1;
            assert!(agent.load() <= u32::from(agent.cap), "a capacity is never exceeded");
        });
        out.push(Out::Assign { home: known.home, c, agent, expect_epoch, request });
    }

    /// Gives the reservation back; whether it became true is in the row.
    pub(super) fn end_assigning(&mut self, c: ConversationId) {
        let known = self.known.get_mut(&c).expect("only known conversations are assigned");
        let Hold::Assigning { agent, .. } = known.hold else { unreachable!("the caller saw the assignment") };
        known.hold = Hold::None;
        self.assigning -= 1;
        self.agents.change(agent, |agent| agent.assigning -= 1);
    }

    /// A home's answer. One to a reservation that an announcement has already settled changes nothing.
    ///
    /// A home that refuses for good would be asked again at once: its refusal counts like the agent's own.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        c: ConversationId,
        agent: AgentId,
        request: RequestRef,
        result: Result<u32, ()>,
        out: &mut Vec<Out>,
    ) {
        let Some(known) = self.known.get_mut(&c) else { return };
        let Hold::Assigning { agent: to, device, cid, ref mut unanswered, is_overtaken, .. } = known.hold
        else {
            return;
        };
        if (to, device, cid) != (agent, request.device, request.cid) {
            return;
        }
        *unanswered -= 1;
        match result {
            Ok(epoch) if epoch > known.row.epoch => {
                self.leave(c, out);
                self.end_assigning(c);
                let known = self.known.get_mut(&c).expect("it does not go away");
                known.row.status = Status::Open;
                known.row.owner = Some(agent);
                known.row.epoch = epoch;
                known.row.ticket = None;
                self.arrive(c, out);
                self.tell_row(c, out);
            }
            // A retry that the home had answered before: the announcements have told what became of it.
            Ok(_) => self.release(c),
            Err(()) if *unanswered == 0 => {
                if !is_overtaken {
                    known.refuse(agent, now_ms.saturating_add(u64::from(self.offer_ttl_ms)));
                }
                self.release(c);
            }
            Err(()) => {}
        }
    }

    fn release(&mut self, c: ConversationId) {
        self.end_assigning(c);
        self.park(c);
        self.forget_if_closed(c);
    }

    /// Everybody may be asked again.
    pub(super) fn new_round(&mut self, c: ConversationId) {
        self.unpark(c);
        self.known.get_mut(&c).expect("timers are of known conversations").refused.clear();
        self.park(c);
    }

    /// Among those that can be offered, if it is one.
    pub(super) fn park(&mut self, c: ConversationId) {
        let known = &self.known[&c];
        let (Some(place), Hold::None) = (known.place(), known.hold) else { return };
        if known.refused.is_empty() {
            self.fresh.insert(place);
        } else {
            self.refused.insert(place);
            self.timers.insert((known.round_ends_ms, c));
        }
    }

    /// No longer among them, if it was.
    pub(super) fn unpark(&mut self, c: ConversationId) {
        let known = &self.known[&c];
        let Some(place) = known.place() else { return };
        if !self.fresh.remove(&place) && self.refused.remove(&place) {
            self.timers.remove(&(known.round_ends_ms, c));
        }
    }
}
