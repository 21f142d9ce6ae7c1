//! A dispatcher with its clock, for scripts.
#![allow(dead_code, reason = "each test file uses its part")]

use ringdesk_desk::conversation::Status;
use ringdesk_desk::dispatcher::{Dispatcher, Out, RefuseCode, RequestRef, Row, Short};
use ringdesk_desk::id::{AgentId, ConversationId, SiteId};
use ringdesk_desk::request::Availability;

pub(crate) const TTL: u32 = 1_000;

pub(crate) fn agent(number: u64) -> AgentId {
    AgentId::from_bits((u128::from(AgentId::KIND) << 112) | u128::from(number)).unwrap()
}

/// A conversation in slot `number % 4`, so that ids are not in the order of numbers.
pub(crate) fn conversation(number: u64) -> ConversationId {
    let slot = u128::from(number % 4) << 116;
    ConversationId::from_bits(slot | (u128::from(ConversationId::KIND) << 112) | u128::from(number)).unwrap()
}

pub(crate) fn site() -> SiteId {
    SiteId::from_bits(u128::from(SiteId::KIND) << 112).unwrap()
}

pub(crate) fn waiting(c: ConversationId, since_ms: u64) -> Row {
    Row {
        c,
        status: Status::Waiting,
        owner: None,
        epoch: 0,
        ticket: None,
        since_ms,
        name: Short::new("Ann"),
        preview: Short::new("Hello?"),
    }
}

pub(crate) fn request(cid: u128) -> RequestRef {
    RequestRef { shard: 0, session: 7, generation: 1, re: Some(3), device: 99, cid }
}

/// Runs a dispatcher and checks its invariants after every call.
pub(crate) struct Desk {
    pub(crate) now: u64,
    pub(crate) inner: Dispatcher,
    pub(crate) homes: u16,
    next_cid: u128,
}

impl Desk {
    /// One home, which has announced nothing.
    pub(crate) fn open() -> Desk {
        let mut desk = Desk::closed(1);
        desk.call(|d, now, out| d.on_announce_end(now, 0, out));
        desk
    }

    /// `homes` homes, none of which has announced.
    pub(crate) fn closed(homes: u16) -> Desk {
        let mut inner = Dispatcher::new(site(), homes);
        inner.set_offer_ttl_ms(TTL);
        Desk { now: 10_000, inner, homes, next_cid: 1 }
    }

    pub(crate) fn call(&mut self, event: impl FnOnce(&mut Dispatcher, u64, &mut Vec<Out>)) -> Vec<Out> {
        let mut out = Vec::new();
        event(&mut self.inner, self.now, &mut out);
        self.inner.check_invariants();
        out
    }

    pub(crate) fn announce(&mut self, row: Row) -> Vec<Out> {
        self.call(|d, now, out| d.on_announce(now, 0, row, out))
    }

    /// A new visitor waits.
    pub(crate) fn wait(&mut self, number: u64) -> Vec<Out> {
        let row = waiting(conversation(number), self.now);
        self.announce(row)
    }

    pub(crate) fn online(&mut self, number: u64, cap: u16) -> Vec<Out> {
        self.presence(number, 0, 1, Some((Availability::Online, cap)))
    }

    pub(crate) fn presence(
        &mut self,
        number: u64,
        shard: u16,
        sessions: u16,
        said: Option<(Availability, u16)>,
    ) -> Vec<Out> {
        self.call(|d, now, out| d.on_presence(now, agent(number), shard, sessions, said, out))
    }

    pub(crate) fn say(&mut self, number: u64, state: Availability, cap: u16) -> Vec<Out> {
        self.call(|d, now, out| d.on_avail(now, agent(number), state, cap, out))
    }

    pub(crate) fn accept_as(
        &mut self,
        number: u64,
        c: u64,
        offer: Option<u64>,
        request: RequestRef,
    ) -> Vec<Out> {
        self.call(|d, now, out| d.on_accept(now, agent(number), conversation(c), offer, request, out))
    }

    /// Accepts with a new `cid` and gives the request back.
    pub(crate) fn accept(&mut self, number: u64, c: u64, offer: Option<u64>) -> (RequestRef, Vec<Out>) {
        let request = request(self.next_cid);
        self.next_cid += 1;
        let out = self.accept_as(number, c, offer, request);
        (request, out)
    }

    pub(crate) fn result(
        &mut self,
        number: u64,
        c: u64,
        request: RequestRef,
        result: Result<u32, ()>,
    ) -> Vec<Out> {
        self.call(|d, now, out| d.on_assign_result(now, conversation(c), agent(number), request, result, out))
    }

    /// Accept and the home's yes.
    pub(crate) fn take(&mut self, number: u64, c: u64) -> Vec<Out> {
        let (request, mut out) = self.accept(number, c, None);
        let epoch = assigned(&out).unwrap_or_else(|| panic!("no assignment of {c}: {out:?}")) + 1;
        out.extend(self.result(number, c, request, Ok(epoch)));
        out
    }

    pub(crate) fn decline(&mut self, number: u64, c: u64, offer: u64) -> Vec<Out> {
        self.call(|d, now, out| d.on_decline(now, agent(number), conversation(c), offer, out))
    }

    pub(crate) fn pass(&mut self, ms: u64) -> Vec<Out> {
        self.now += ms;
        self.call(|d, now, out| d.on_tick(now, out))
    }

    pub(crate) fn close(&mut self, c: u64, epoch: u32) -> Vec<Out> {
        let row = Row { status: Status::Closed, epoch, ..waiting(conversation(c), self.now) };
        self.announce(row)
    }

    /// Numbers of those who wait, in the order of the queue.
    pub(crate) fn queue(&self) -> Vec<u64> {
        self.inner.rows_waiting(None).map(|row| number_of(row.c)).collect()
    }

    pub(crate) fn load(&self, number: u64) -> u32 {
        self.inner.load(agent(number))
    }
}

pub(crate) fn number_of(c: ConversationId) -> u64 {
    c.bits() as u64
}

/// The offers in `out`: agent, conversation, offer.
pub(crate) fn offers(out: &[Out]) -> Vec<(u64, u64, u64)> {
    let offer = |out: &Out| match *out {
        Out::Offer { agent, c, offer, .. } => Some((agent.bits() as u64, number_of(c), offer)),
        _ => None,
    };
    out.iter().filter_map(offer).collect()
}

/// The offers that ended in `out`: agent, conversation.
pub(crate) fn gone(out: &[Out]) -> Vec<(u64, u64)> {
    let gone = |out: &Out| match *out {
        Out::OfferGone { agent, c, .. } => Some((agent.bits() as u64, number_of(c))),
        _ => None,
    };
    out.iter().filter_map(gone).collect()
}

/// The tickets in `out`: conversation, ticket.
pub(crate) fn tickets(out: &[Out]) -> Vec<(u64, u64)> {
    let ticket = |out: &Out| match *out {
        Out::Ticket { c, ticket, .. } => Some((number_of(c), ticket)),
        _ => None,
    };
    out.iter().filter_map(ticket).collect()
}

/// The expected epoch of the assignment in `out`, if there is one.
pub(crate) fn assigned(out: &[Out]) -> Option<u32> {
    out.iter().find_map(|out| match *out {
        Out::Assign { expect_epoch, .. } => Some(expect_epoch),
        _ => None,
    })
}

pub(crate) fn refused(out: &[Out]) -> Option<RefuseCode> {
    out.iter().find_map(|out| match *out {
        Out::Refuse { code, .. } => Some(code),
        _ => None,
    })
}
