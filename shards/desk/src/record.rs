//! The records of the journal that belong to conversations: what they say, and how they become bytes.
//!
//! Each kind is owned by the conversation state (`conversation.rs`), the only code that writes or applies it. On disk a record is an
//! rkyv archive (`archived.rs`): little endian, 32-bit pointers, 16-byte alignment, no padding that is not a zero field of its own. An
//! archived type is frozen; a change is a new version, converted here on read. The journal verifies a record's checksum before anybody
//! calls [`Record::read`]; access is checked nevertheless.

mod archived;
mod chunk;

pub use chunk::{ChunkBuilder, ChunkRecords};

use crate::encode::{AuthorKind, Status};
use crate::id::{AgentId, ConversationId, InboxId, Slot, VisitorId};
use rkyv::util::AlignedVec;

/// Every record kind of the conversation state. A number is never used twice.
pub mod kind {
    /// A visitor's conversation begins.
    pub const STARTED: u16 = 1;
    /// Somebody said something; on both streams.
    pub const MESSAGE: u16 = 2;
    /// An agent noted something; on the agent stream only.
    pub const NOTE: u16 = 3;
    /// An agent became the owner.
    pub const ASSIGNED: u16 = 4;
    /// The conversation was closed.
    pub const CLOSED: u16 = 5;
    /// A closed conversation waits again.
    pub const REOPENED: u16 = 6;
    /// The dispatcher's queue ticket; takes no number.
    pub const QUEUED: u16 = 7;
    /// How far both sides have got; takes no number.
    pub const RECEIPTS: u16 = 8;
    /// Checkpoint: the small state of one conversation; replaces what replay had derived.
    pub const SNAPSHOT_CONVERSATION: u16 = 16;
    /// Checkpoint: a run of a conversation's events, each as the record it was.
    pub const SNAPSHOT_EVENTS: u16 = 17;
    /// Reserved for history: the events up to a number are in the history store only.
    pub const EVICTED: u16 = 32;
    /// Reserved for history: a conversation came back, with heads, owner, ticket and fingerprints.
    pub const THAWED: u16 = 33;
    /// Reserved for history: a range of numbers is gone for good.
    pub const HISTORY_LOST: u16 = 34;
}

/// The version that [`Record::write`] writes, for every kind so far.
pub const VERSION: u16 = 1;
/// Alignment in bytes at which a body must lie to be read in place.
pub const BODY_ALIGNMENT: usize = 16;

/// How far one side of a conversation has got, in the numbers of its own stream. Both only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// Highest number a person of this side has seen; 0 = none.
    pub seen: u32,
    /// Highest number a device of this side has received; 0 = none.
    pub delivered: u32,
}

impl Cursor {
    /// The higher of both, field by field: receipts merge by maximum.
    pub fn merged(self, other: Cursor) -> Cursor {
        Cursor { seen: self.seen.max(other.seen), delivered: self.delivered.max(other.delivered) }
    }
}

/// A visitor's conversation begins; takes no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started<'a> {
    /// The conversation.
    pub c: ConversationId,
    /// Whose it is.
    pub visitor: VisitorId,
    /// Where he came from.
    pub inbox: InboxId,
    /// Wall time in milliseconds since 1970, for display.
    pub ts_ms: u64,
    /// Fingerprint of the device that started it.
    pub device: u128,
    /// Fingerprint of the `cid` of `start`.
    pub cid: u128,
    /// The visitor's name; may be empty.
    pub name: &'a str,
    /// The page he was on; may be empty.
    pub page: &'a str,
    /// His language; may be empty.
    pub locale: &'a str,
}

/// A message or a note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// The conversation.
    pub c: ConversationId,
    /// Number in the agent stream.
    pub s: u32,
    /// Number in the visitor stream; of a note, how many visible events there are so far.
    pub vs: u32,
    /// Wall time in milliseconds since 1970, for display.
    pub ts_ms: u64,
    /// Which side said it.
    pub author_kind: AuthorKind,
    /// The bits of its visitor's or agent's id; 0 for the system.
    pub author: u128,
    /// Fingerprint of the device that said it; 0 = nobody will repeat it.
    pub device: u128,
    /// Fingerprint of its `cid`.
    pub cid: u128,
    /// Hash of the body, by which a repetition is told from another use of the same `cid`.
    pub body_hash: u64,
    /// The text.
    pub body: &'a str,
}

/// An agent became the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned<'a> {
    /// The conversation.
    pub c: ConversationId,
    /// Number in the agent stream.
    pub s: u32,
    /// Number in the visitor stream.
    pub vs: u32,
    /// Wall time in milliseconds since 1970, for display.
    pub ts_ms: u64,
    /// The new owner.
    pub agent: AgentId,
    /// His name at that time.
    pub agent_name: &'a str,
    /// Counts the assignments of this conversation: 1, 2, 3.
    pub epoch: u32,
    /// Fingerprint of the device that accepted; 0 if nobody will repeat it.
    pub device: u128,
    /// Fingerprint of the `cid` of `accept`.
    pub cid: u128,
}

/// The conversation was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The conversation.
    pub c: ConversationId,
    /// Number in the agent stream.
    pub s: u32,
    /// Number in the visitor stream.
    pub vs: u32,
    /// Wall time in milliseconds since 1970, for display.
    pub ts_ms: u64,
    /// Which side closed it.
    pub by_kind: AuthorKind,
    /// The bits of the closer's id; 0 for the system.
    pub by: u128,
    /// Fingerprint of the closing device; 0 if nobody will repeat it.
    pub device: u128,
    /// Fingerprint of the `cid` of `close`.
    pub cid: u128,
}

/// A closed conversation waits again. Its cause (a visitor's message or `start`) is what gets repeated, so it has no `cid` of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reopened {
    /// The conversation.
    pub c: ConversationId,
    /// Number in the agent stream.
    pub s: u32,
    /// Number in the visitor stream.
    pub vs: u32,
    /// Wall time in milliseconds since 1970, for display.
    pub ts_ms: u64,
    /// Which side caused it.
    pub by_kind: AuthorKind,
    /// The bits of its id; 0 for the system.
    pub by: u128,
}

/// The small state of a conversation at one offset of the log. Everything else follows from its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotConversation<'a> {
    /// How it began: identity and the visitor's words about himself.
    pub started: Started<'a>,
    /// Wall time of the last change of `status`.
    pub changed_ms: u64,
    /// Head of the agent stream.
    pub s: u32,
    /// Head of the visitor stream.
    pub vs: u32,
    /// Where it stands.
    pub status: Status,
    /// Its owner, if open.
    pub owner: Option<AgentId>,
    /// Assignments so far.
    pub epoch: u32,
    /// Its queue ticket, if waiting and told one.
    pub ticket: Option<u64>,
    /// Receipts of the visitor's side, in visitor-stream numbers.
    pub visitor: Cursor,
    /// Receipts of the agents' side, in agent-stream numbers.
    pub agent: Cursor,
}

/// A run of a conversation's events in ascending `s`, each as the record it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotEvents<'a> {
    /// The conversation.
    pub c: ConversationId,
    /// Agent-stream number of the first event in it.
    pub first: u32,
    /// Events in it.
    pub count: u32,
    /// The framed records; read them with [`ChunkRecords`].
    pub records: &'a [u8],
}

/// One record of the conversation state, as a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "a view lives on the stack for one call")]
pub enum Record<'a> {
    /// A conversation begins.
    Started(Started<'a>),
    /// A message.
    Message(Message<'a>),
    /// A note.
    Note(Message<'a>),
    /// An owner.
    Assigned(Assigned<'a>),
    /// The end.
    Closed(Closed),
    /// Again.
    Reopened(Reopened),
    /// The dispatcher's ticket.
    Queued {
        /// The conversation.
        c: ConversationId,
        /// Its place in the queue: lower is earlier.
        ticket: u64,
    },
    /// How far both sides have got.
    Receipts {
        /// The conversation.
        c: ConversationId,
        /// The visitor's side, in visitor-stream numbers.
        visitor: Cursor,
        /// The agents' side, in agent-stream numbers.
        agent: Cursor,
    },
    /// Checkpoint: small state.
    SnapshotConversation(SnapshotConversation<'a>),
    /// Checkpoint: events.
    SnapshotEvents(SnapshotEvents<'a>),
}

/// Why bytes are not a record. Their checksum was right, so it is a newer version of this program that wrote them, or our fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// No such kind here: written by a newer version.
    UnknownKind(u16),
    /// This kind, but not in this version: written by a newer version.
    UnknownVersion {
        /// The kind.
        kind: u16,
        /// The version that is not known.
        version: u16,
    },
    /// The archive is cut, misaligned or points outside itself.
    Malformed {
        /// The kind it claimed.
        kind: u16,
    },
    /// A field holds what it cannot hold.
    BadValue {
        /// The kind it claimed.
        kind: u16,
        /// The field.
        field: &'static str,
    },
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            RecordError::UnknownKind(kind) => {
                write!(f, "record kind {kind} is not known; a newer ringdesk wrote it")
            }
            RecordError::UnknownVersion { kind, version } => {
                write!(f, "version {version} of record kind {kind} is not known; a newer ringdesk wrote it")
            }
            RecordError::Malformed { kind } => {
                write!(f, "record of kind {kind} is not a well-formed archive of its kind")
            }
            RecordError::BadValue { kind, field } => {
                write!(f, "record of kind {kind}: field {field} has a value it cannot have")
            }
        }
    }
}

impl core::error::Error for RecordError {}

/// Room to build a record's bytes in; kept and reused, so that writing does not allocate.
#[derive(Debug)]
pub struct Scratch(pub(crate) AlignedVec<BODY_ALIGNMENT>);

impl Scratch {
    /// Room for the largest record of conversations (a chunk of 64 KiB and its frame) without growing.
    pub fn new() -> Scratch {
        Scratch(AlignedVec::with_capacity(chunk::CHUNK_SIZE_MAX + 1024))
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Record<'_> {
    /// Its kind; see [`kind`].
    pub fn kind(&self) -> u16 {
        match self {
            Record::Started(_) => kind::STARTED,
            Record::Message(_) => kind::MESSAGE,
            Record::Note(_) => kind::NOTE,
            Record::Assigned(_) => kind::ASSIGNED,
            Record::Closed(_) => kind::CLOSED,
            Record::Reopened(_) => kind::REOPENED,
            Record::Queued { .. } => kind::QUEUED,
            Record::Receipts { .. } => kind::RECEIPTS,
            Record::SnapshotConversation(_) => kind::SNAPSHOT_CONVERSATION,
            Record::SnapshotEvents(_) => kind::SNAPSHOT_EVENTS,
        }
    }

    /// The version that [`Record::write`] writes.
    pub fn version(&self) -> u16 {
        VERSION
    }

    /// The conversation it is about.
    pub fn conversation(&self) -> ConversationId {
        match self {
            Record::Started(started) => started.c,
            Record::Message(message) | Record::Note(message) => message.c,
            Record::Assigned(assigned) => assigned.c,
            Record::Closed(closed) => closed.c,
            Record::Reopened(reopened) => reopened.c,
            Record::Queued { c, .. } | Record::Receipts { c, .. } => *c,
            Record::SnapshotConversation(snapshot) => snapshot.started.c,
            Record::SnapshotEvents(events) => events.c,
        }
    }

    /// The slot of its conversation.
    pub fn slot(&self) -> Slot {
        self.conversation().slot()
    }

    /// Its numbers (`s`, `vs`), if it takes one.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        match self {
            Record::Message(message) | Record::Note(message) => Some((message.s, message.vs)),
            Record::Assigned(assigned) => Some((assigned.s, assigned.vs)),
            Record::Closed(closed) => Some((closed.s, closed.vs)),
            Record::Reopened(reopened) => Some((reopened.s, reopened.vs)),
            Record::Started(_)
            | Record::Queued { .. }
            | Record::Receipts { .. }
            | Record::SnapshotConversation(_)
            | Record::SnapshotEvents(_) => None,
        }
    }

    /// Builds its bytes in `scratch`. They are to be stored at a multiple of [`BODY_ALIGNMENT`], with [`Record::kind`] and
    /// [`Record::version`] beside them. Does not allocate once `scratch` has grown to the size of the largest record.
    pub fn write<'s>(&self, scratch: &'s mut Scratch) -> &'s [u8] {
        scratch.0.clear();
        archived::write(self, &mut scratch.0);
        &scratch.0
    }

    /// Reads a body in place, whatever version wrote it. `body` must lie at a multiple of [`BODY_ALIGNMENT`].
    ///
    /// # Errors
    /// See [`RecordError`]; nothing of a record with an error may be used.
    pub fn read(kind: u16, version: u16, body: &[u8]) -> Result<Record<'_>, RecordError> {
        archived::read(kind, version, body)
    }
}
