//! What goes into a dispatcher and what comes out.

use super::short::Short;
use crate::conversation::Status;
use crate::id::{AgentId, ConversationId};
use crate::request::Availability;

/// A shard's number.
pub type Shard = u16;

/// One conversation as its home has it durably, and one row of the agents' lists. Fixed size and no heap: it travels in mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Which.
    pub c: ConversationId,
    /// Its state.
    pub status: Status,
    /// Whose it is while it is open.
    pub owner: Option<AgentId>,
    /// The owner epoch; it rises with every assignment.
    pub epoch: u32,
    /// Its place in the order of arrival, once the home has journaled one for this wait.
    pub ticket: Option<u64>,
    /// Since when it has this state, in milliseconds since 1970.
    pub since_ms: u64,
    /// The visitor's name.
    pub name: Short<80>,
    /// The beginning of the last text.
    pub preview: Short<120>,
}

/// Who asked. Opaque to the dispatcher, except that a retry is known by `device` and `cid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestRef {
    /// The door.
    pub shard: Shard,
    /// Index in its session table.
    pub session: u32,
    /// The generation of that place.
    pub generation: u32,
    /// The client's number for the request; `None` wants no reply.
    pub re: Option<u32>,
    /// Fingerprint of the device.
    pub device: u128,
    /// Fingerprint of the client's `cid`.
    pub cid: u128,
}

/// Why an accept was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefuseCode {
    /// The offer is gone, or somebody else was faster. The client looks at the list.
    Stale,
    /// The agent's capacity is reached.
    Quota,
    /// Homes are still announcing, or no session of the agent is known. The client asks again.
    Unavailable,
    /// No such conversation waits or is open. A home may still know a retry by its `cid`.
    NotFound,
}

/// What a dispatcher wants to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Out {
    /// To the home: journal this place in the order of arrival.
    Ticket {
        /// The home.
        home: Shard,
        /// The conversation.
        c: ConversationId,
        /// Its ticket.
        ticket: u64,
    },
    /// To the home: make him the owner. The home checks `cid` first (a retry gets the first answer) and then the epoch.
    Assign {
        /// The home.
        home: Shard,
        /// The conversation.
        c: ConversationId,
        /// Its new owner.
        agent: AgentId,
        /// The epoch it must have; any other is refused.
        expect_epoch: u32,
        /// Who accepted.
        request: RequestRef,
    },
    /// The accept is refused, unless the home knows it as a repetition of one that was granted.
    Refuse {
        /// The conversation.
        c: ConversationId,
        /// Who wanted it.
        agent: AgentId,
        /// Who accepted.
        request: RequestRef,
        /// Why.
        code: RefuseCode,
    },
    /// To all sessions of the agent: an exclusive offer.
    Offer {
        /// To whom.
        agent: AgentId,
        /// What.
        c: ConversationId,
        /// Its number, never used again by this dispatcher.
        offer: u64,
        /// For how long, in milliseconds.
        ttl_ms: u32,
        /// The visitor's name.
        name: Short<80>,
        /// The beginning of his last text.
        preview: Short<120>,
    },
    /// To all sessions of the agent: an offer has ended, in whatever way.
    OfferGone {
        /// To whom.
        agent: AgentId,
        /// What.
        c: ConversationId,
        /// Its number.
        offer: u64,
    },
    /// To those who watch the lists: a row changed; a closed one leaves the lists.
    Row(Row),
    /// To the home, for the visitor: his place in the queue, 1 = next. Told only when it changed, and only for the first 100 places.
    Position {
        /// The home.
        home: Shard,
        /// The conversation.
        c: ConversationId,
        /// Its place.
        pos: u32,
    },
    /// To all sessions of the agent: his state, capacity or load changed.
    Avail {
        /// Whose.
        agent: AgentId,
        /// His state.
        state: Availability,
        /// His capacity.
        cap: u16,
        /// Conversations that he has or is being given; offers do not count here.
        load: u16,
    },
}
