//! What shards say to each other.
//!
//! Obligations are acyclic. A *request* keeps a place for its *answer* free in the opposite mailbox, so an answer can always be posted. A *delivery* that
//! finds no room is not sent: the sender notes that the listener is behind, and the listener pulls later. *State* letters carry the latest state of one
//! thing; the sender keeps a dirty mark until there is room. So two full mailboxes cannot stop each other.

use desk::dispatcher::{RequestRef, Row, Short};
use desk::encode::AuthorKind;
use desk::id::{AgentId, ConversationId};
use desk::request::{Availability, ErrorCode, RowKey, Scope};

/// What a home does with an assignment that is no repetition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Makes it so, if this is still the owner epoch.
    Epoch(u32),
    /// Assigns nothing and says whether there is such a conversation: the dispatcher does not know it.
    Known,
    /// Assigns nothing and refuses it so: the dispatcher would have, but only the home knows a repetition by its `cid`.
    Refuse(ErrorCode),
}

/// The session that asked, as its door knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Index in the door's session table.
    pub session: u32,
    /// Its generation; an answer to an older one is dropped.
    pub generation: u32,
    /// The client's number for the request; `None` wants no reply.
    pub re: Option<u32>,
}

/// Who says something durable, and under which client-made id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SaidBy {
    /// The agent. (Visitors are always at home and need no letter.)
    pub agent: AgentId,
    /// Fingerprint of the device.
    pub device: u128,
    /// Fingerprint of the client's `cid`.
    pub cid: u128,
}

/// The good answer to something durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Number on the agent stream.
    pub s: u32,
    /// Number on the visitor stream.
    pub vs: u32,
    /// When, in milliseconds since 1970.
    pub ts_ms: u64,
    /// Whether it had been stored before.
    pub dup: bool,
}

/// An answer's content.
#[derive(Debug)]
pub enum Answer {
    /// It is durable.
    Stored(Stored),
    /// It was refused; nothing was stored.
    Refused(ErrorCode),
    /// The listener is registered from `from` on; the door pulls what is missing.
    Listening {
        /// The conversation.
        c: ConversationId,
        /// First number that the session should be told.
        from: u32,
        /// Highest durable number.
        head: u32,
        /// The whole `sync` push, encoded for agents.
        push: Vec<u8>,
    },
    /// The conversation cannot be listened to.
    NotListening {
        /// The conversation.
        c: ConversationId,
        /// Why.
        code: ErrorCode,
    },
    /// Events, as entries of `number u32, size u32, bytes` (little endian); the bytes may say that the number is lost.
    Events {
        /// The conversation.
        c: ConversationId,
        /// Highest durable number.
        head: u32,
        /// The entries.
        entries: Vec<u8>,
    },
    /// A page of history or a list: one encoded reply or push.
    Text(Vec<u8>),
}

/// From one shard to another.
#[derive(Debug)]
pub enum Letter {
    // Requests: the sender keeps room for one answer.
    /// Door → home: an agent says something (a message or a note).
    Say {
        /// Who wants the answer.
        ask: Ask,
        /// Where.
        c: ConversationId,
        /// Who says it.
        by: SaidBy,
        /// A note rather than a message.
        note: bool,
        /// It came too fast: to be answered if it was stored before, and refused otherwise.
        is_over: bool,
        /// Hash of type and body, for `id_conflict`.
        body_hash: u64,
        /// The text, UTF-8, at most 40,000 bytes. A pooled buffer: it goes back by `Spent`.
        body: Vec<u8>,
    },
    /// Door → home: an agent closes a conversation.
    Close {
        /// Who wants the answer.
        ask: Ask,
        /// Which.
        c: ConversationId,
        /// Who says it.
        by: SaidBy,
        /// It came too fast.
        is_over: bool,
    },
    /// Door → home: listen to a conversation.
    Listen {
        /// Who wants the answer.
        ask: Ask,
        /// Which.
        c: ConversationId,
        /// Highest number the client has.
        since: u32,
        /// The history epoch in which he has it, if he knows one: only the home can say whether that is its own.
        epoch: Option<u32>,
        /// At most this many older events; 0 = all that is missing (a resume).
        limit: u16,
    },
    /// Door → home: events after `since`.
    Pull {
        /// Who wants the answer.
        ask: Ask,
        /// Which conversation.
        c: ConversationId,
        /// Highest number the door has.
        since: u32,
    },
    /// Door → home: a page of history.
    History {
        /// Who wants the answer.
        ask: Ask,
        /// Which conversation.
        c: ConversationId,
        /// Numbers below this one.
        before: u32,
        /// At most so many.
        limit: u16,
    },
    /// Door → dispatcher: an agent accepts a conversation.
    Accept {
        /// Who asks, with `device` and `cid`.
        request: RequestRef,
        /// The agent.
        agent: AgentId,
        /// What he accepts.
        c: ConversationId,
        /// The offer he answers, if any.
        offer: Option<u64>,
        /// It came too fast.
        is_over: bool,
    },
    /// Door → dispatcher: the rows of a list.
    List {
        /// Who wants the answer.
        ask: Ask,
        /// For whom.
        agent: AgentId,
        /// The waiting ones, or his own.
        scope: Scope,
        /// Those behind this place; otherwise from the beginning.
        after: Option<RowKey>,
    },
    /// Dispatcher → home: make it so; the home's journal alone makes it true.
    Assign {
        /// The conversation.
        c: ConversationId,
        /// Its new owner.
        agent: AgentId,
        /// What to do unless this very request was granted before: then it gets the answer that it got.
        expect: Expect,
        /// Who accepted.
        request: RequestRef,
    },
    // Answers.
    /// To a door's request.
    Answer(Ask, Answer),
    /// Home → dispatcher, to `Assign`: the new epoch and where it stands, or why not.
    AssignResult {
        /// The conversation.
        c: ConversationId,
        /// The agent.
        agent: AgentId,
        /// Who accepted.
        request: RequestRef,
        /// It was only asked about.
        asked: bool,
        /// Epoch and answer, or the refusal.
        result: Result<(u32, Stored), ErrorCode>,
    },
    // Deliveries: dropped without room, and the listener is marked behind.
    /// Home → door: a durable event, encoded for agents. A pooled buffer: it goes back by `Spent`.
    Event {
        /// The conversation.
        c: ConversationId,
        /// Its number on the agent stream.
        s: u32,
        /// The push.
        push: Vec<u8>,
    },
    /// Home → door: an unnumbered push about a conversation, encoded for agents.
    Hint {
        /// The conversation.
        c: ConversationId,
        /// The push. A pooled buffer: it goes back by `Spent`.
        push: Vec<u8>,
    },
    /// Dispatcher → door: a row of the lists changed.
    Row(Box<Row>),
    /// Dispatcher → door: an exclusive offer.
    Offer {
        /// To whom.
        agent: AgentId,
        /// What.
        c: ConversationId,
        /// The offer's number.
        offer: u64,
        /// For how long, in milliseconds; 0 = it is gone.
        ttl_ms: u32,
        /// The visitor's name, and the beginning of what he wrote.
        about: Box<(Short<80>, Short<120>)>,
    },
    /// Dispatcher → door: an agent's availability changed elsewhere.
    Avail {
        /// Whose.
        agent: AgentId,
        /// His state.
        state: Availability,
        /// His capacity.
        cap: u16,
        /// His open conversations.
        load: u16,
    },
    /// Dispatcher → home: the place of a waiting conversation, 1 = next.
    Position {
        /// The conversation.
        c: ConversationId,
        /// Its place.
        pos: u32,
    },
    // State: kept by the sender until there is room, the latest wins.
    /// Home → door: there are events up to `s`; deliveries were lost for want of room.
    Head {
        /// The conversation.
        c: ConversationId,
        /// Highest durable number.
        s: u32,
    },
    /// Home → dispatcher: a conversation as its home has it durably.
    Announce(Box<Row>),
    /// Home → dispatcher: all that waits or is open has been announced.
    AnnounceEnd,
    /// Dispatcher → home: the conversation's place in the order of arrival; the home journals it.
    Ticket {
        /// The conversation.
        c: ConversationId,
        /// Its ticket.
        ticket: u64,
    },
    /// Door → dispatcher: an agent's live sessions here, and what he said of himself last.
    Presence {
        /// Who.
        agent: AgentId,
        /// How many of his sessions have a socket at this door.
        sessions: u16,
        /// What he said, if he said it here since the last letter.
        said: Option<(Availability, u16)>,
    },
    /// Door → dispatcher: an offer is declined.
    Decline {
        /// By whom.
        agent: AgentId,
        /// Which conversation.
        c: ConversationId,
        /// Which offer.
        offer: u64,
    },
    /// Door → dispatcher: whether any session here watches the lists.
    Lists(bool),
    /// Dispatcher → door: rows were lost for want of room; ask for the lists again.
    ListsStale,
    /// Door → home: nobody here listens to the conversation any more.
    Unlisten(ConversationId),
    /// Door → home: how far an agent has read, and what has reached him.
    Cursor {
        /// The conversation.
        c: ConversationId,
        /// Read up to here, on the agent stream; 0 = not said.
        seen: u32,
        /// Reached a device up to here; 0 = not said.
        delivered: u32,
    },
    /// Door → home: somebody is typing, or stopped.
    Typing {
        /// The conversation.
        c: ConversationId,
        /// Who.
        who: AuthorKind,
        /// His id.
        id: u128,
        /// On or off.
        on: bool,
    },
    /// A pooled buffer goes back to the shard it came from.
    Spent(Vec<u8>),
}

// A mailbox is an array of these, and there is one for each pair of shards. What is rare and large is boxed.
const _: () = assert!(size_of::<Letter>() <= 144);

/// What a letter needs before it may be posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LetterClass {
    /// A free credit; keeps a place for its answer.
    Request,
    /// Nothing: its place was kept.
    Answer,
    /// Room beyond the places kept; otherwise it is dropped and the listener is behind.
    Delivery,
    /// Room beyond the places kept; otherwise the sender keeps a dirty mark.
    State,
}

impl Letter {
    /// The class of the letter.
    pub fn class(&self) -> LetterClass {
        match self {
            Letter::Say { .. }
            | Letter::Close { .. }
            | Letter::Listen { .. }
            | Letter::Pull { .. }
            | Letter::History { .. }
            | Letter::Accept { .. }
            | Letter::List { .. }
            | Letter::Assign { .. } => LetterClass::Request,
            Letter::Answer(..) | Letter::AssignResult { .. } => LetterClass::Answer,
            Letter::Event { .. }
            | Letter::Hint { .. }
            | Letter::Row(_)
            | Letter::Offer { .. }
            | Letter::Avail { .. }
            | Letter::Position { .. } => LetterClass::Delivery,
            Letter::Head { .. }
            | Letter::Announce(_)
            | Letter::AnnounceEnd
            | Letter::Ticket { .. }
            | Letter::Presence { .. }
            | Letter::Decline { .. }
            | Letter::Lists(_)
            | Letter::ListsStale
            | Letter::Unlisten(_)
            | Letter::Cursor { .. }
            | Letter::Typing { .. }
            | Letter::Spent(_) => LetterClass::State,
        }
    }
}
