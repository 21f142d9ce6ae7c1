//! Server to client: every reply and every push of docs/protocol.md, appended to a buffer.
//!
//! One encoder for everybody; nothing is allocated beyond the growth of the buffer. An envelope is one line without its newline: whoever puts
//! several into a frame puts `\n` between them.
//!
//! A push has the same bytes for every listener of one [`Audience`], so it is encoded once for each. Numbers of the agents' stream never
//! reach a visitor: what has two numbers comes as a [`Place`] or an [`EventView`], and the audience chooses.

mod json;
mod pushes;
mod replies;

use crate::id::{AgentId, ConversationId, SessionId};
use crate::request::Availability;

pub(crate) use json::{clean_run, number};
pub use pushes::{
    avail_push, conv_row, delivered, event, goaway, heartbeat, hello, history_lost, lag, list_begin,
    list_end, list_row, notice, offer, offer_gone, presence, queue, seen, sync_error, sync_push, typing,
};
pub use replies::{
    avail_reply, error, history_begin, history_end, history_event, history_gap, ok, ready, stored, synced,
};

/// Who hears a push.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Audience {
    /// The visitor's stream: numbers are `vs`, no notes.
    Visitor,
    /// The agents' stream: numbers are `s`.
    Agent,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level {
    /// In the page cache: survives the process.
    Memory,
    /// Confirmed by the device: survives the power.
    Disk,
}

impl Level {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Level::Memory => "memory",
            Level::Disk => "disk",
        }
    }
}

/// The state of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// No agent yet.
    Waiting,
    /// One owner.
    Open,
    /// Closed until the visitor writes again.
    Closed,
}

impl Status {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Open => "open",
            Status::Closed => "closed",
        }
    }
}

/// One of the two sides of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Party {
    /// The visitor.
    Visitor,
    /// Any agent.
    Agent,
}

impl Party {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Party::Visitor => "visitor",
            Party::Agent => "agent",
        }
    }
}

/// What kind of author.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AuthorKind {
    /// A visitor.
    Visitor,
    /// An agent.
    Agent,
    /// The server itself.
    System,
}

impl AuthorKind {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            AuthorKind::Visitor => "visitor",
            AuthorKind::Agent => "agent",
            AuthorKind::System => "system",
        }
    }
}

/// Who did something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Author<'a> {
    /// What kind.
    pub kind: AuthorKind,
    /// The bits of his id; 0 for the system.
    pub id: u128,
    /// His name; empty is left out.
    pub name: &'a str,
}

/// A number in both streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Place {
    /// In the agents' stream.
    pub s: u32,
    /// In the visitor's stream.
    pub vs: u32,
}

impl Place {
    /// The number that this audience knows.
    pub fn for_audience(self, audience: Audience) -> u32 {
        match audience {
            Audience::Visitor => self.vs,
            Audience::Agent => self.s,
        }
    }
}

/// A numbered, durable event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventView<'a> {
    /// Its conversation.
    pub c: ConversationId,
    /// Its number in the agents' stream.
    pub s: u32,
    /// Its number in the visitor's stream; of a note, that of the last event before it.
    pub vs: u32,
    /// When, in milliseconds since 1970.
    pub ts: u64,
    /// What happened.
    pub what: EventWhat<'a>,
}

/// What happened in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventWhat<'a> {
    /// Somebody said something.
    Message {
        /// Who.
        from: Author<'a>,
        /// What.
        body: &'a str,
    },
    /// An agent wrote something for agents. Never encoded for a visitor.
    Note {
        /// Who.
        from: Author<'a>,
        /// What.
        body: &'a str,
    },
    /// An agent became the owner.
    Joined {
        /// Who.
        agent: AgentId,
        /// As visitors see it.
        name: &'a str,
    },
    /// The conversation was closed.
    Closed {
        /// By whom.
        by: Author<'a>,
    },
    /// The conversation waits again.
    Reopened {
        /// By whom.
        by: Author<'a>,
    },
}

impl EventWhat<'_> {
    /// Whether it is on the visitor's stream too, that is, advances `vs`.
    pub fn for_visitor(&self) -> bool {
        match self {
            EventWhat::Note { .. } => false,
            EventWhat::Message { .. }
            | EventWhat::Joined { .. }
            | EventWhat::Closed { .. }
            | EventWhat::Reopened { .. } => true,
        }
    }
}

/// The server's first words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// Name and version.
    pub server: &'a str,
    /// The epoch of this shard's session table.
    pub epoch: u128,
    /// The heartbeat, in milliseconds.
    pub heartbeat_ms: u32,
    /// Largest message from a client, in bytes.
    pub max_frame: u32,
    /// Most unacknowledged durable events the client is told.
    pub max_inflight: u16,
    /// What acknowledgements promise.
    pub level: Level,
}

/// The reply to `auth`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready<'a> {
    /// The session's name.
    pub sid: SessionId,
    /// The bits of the visitor's or the agent's id.
    pub me: u128,
    /// His name; may be empty.
    pub name: &'a str,
    /// What to show next time; of an agent, the ticket he has shown, or none.
    pub token: Option<&'a str>,
    /// The hint for the next connection.
    pub slot: u16,
    /// The epoch of this shard's session table.
    pub epoch: u128,
    /// Now, in milliseconds since 1970.
    pub ts: u64,
    /// Where counting stands.
    pub p: u64,
    /// How long the session may be resumed, in milliseconds.
    pub resume_ttl_ms: u32,
    /// Whether it was.
    pub resumed: bool,
    /// Events that are told again.
    pub replay: u32,
    /// A visitor's conversation, if there is one.
    pub heads: &'a [Head],
}

/// Where a conversation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Which.
    pub c: ConversationId,
    /// Its last number, in the stream of the session's audience.
    pub s: u32,
    /// Its history epoch.
    pub e: u32,
    /// Its state.
    pub status: Status,
}

/// The `sync` push of one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncView<'a> {
    /// Which.
    pub c: ConversationId,
    /// First number that follows.
    pub from: Place,
    /// Last number there is.
    pub head: Place,
    /// The history epoch.
    pub e: u32,
    /// Whether events between the client's cursor and `from` are left out.
    pub limited: bool,
    /// The state.
    pub status: Status,
    /// The agent who has it.
    pub owner: Option<AgentId>,
    /// The visitor, his name (empty is left out) and whether he is there.
    pub visitor: VisitorView<'a>,
    /// What the visitor and what any agent has seen.
    pub seen: Receipts,
    /// What has been delivered to the visitor and to any agent.
    pub delivered: Receipts,
}

/// A visitor as others see him.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VisitorView<'a> {
    /// The bits of his id.
    pub id: u128,
    /// His name; empty is left out.
    pub name: &'a str,
    /// Whether a socket of his is open.
    pub online: bool,
}

/// How far both sides have got.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Receipts {
    /// The visitor.
    pub visitor: Place,
    /// Any agent.
    pub agent: Place,
}

/// A row of a list of conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<'a> {
    /// Which.
    pub c: ConversationId,
    /// Its state.
    pub status: Status,
    /// The agent who has it.
    pub owner: Option<AgentId>,
    /// The visitor's name; empty is left out.
    pub name: &'a str,
    /// The beginning of the last message; empty is left out.
    pub preview: &'a str,
    /// Since when it is in this state, in milliseconds since 1970.
    pub since: u64,
    /// Place in the queue, 1 = next; only in a list.
    pub pos: Option<u32>,
}

/// Why history is not there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LossReason {
    /// The disk gave back something else.
    Damaged,
    /// Older than what is kept.
    Retention,
    /// Erased at somebody's wish.
    Erased,
    /// An older state of the history was restored.
    Rewound,
}

impl LossReason {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            LossReason::Damaged => "damaged",
            LossReason::Retention => "retention",
            LossReason::Erased => "erased",
            LossReason::Rewound => "rewound",
        }
    }
}

/// An agent's own availability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AvailView {
    /// His state.
    pub state: Availability,
    /// His capacity.
    pub cap: u16,
    /// Conversations he owns.
    pub load: u32,
}

#[cfg(test)]
mod tests;
