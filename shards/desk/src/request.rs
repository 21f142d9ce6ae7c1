//! Client to server: text to meaning, every bound of docs/protocol.md checked once, here.
//!
//! An [`Envelope`] borrows its strings from the received text, unescaped in place; nothing is allocated per message. Rights and states
//! (who may say what, when) are not this module's business.
//!
//! Unknown fields are ignored, `null` reads as absent, and of a key that stands twice the last counts, as in every browser.

mod fields;
mod parser;
mod plain;

use crate::id::{ConversationId, SessionId};
use core::ops::Range;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

pub use parser::Parser;

/// Bytes that should follow an envelope in its buffer, of any content; with fewer the text is copied first.
pub const PADDING: usize = simd_json::INPUT_PADDING;
/// Deepest nesting of an envelope; ours need four, the rest is for fields of clients newer than we.
pub const MAX_DEPTH: usize = 16;
/// Most characters of a text message, counted as Unicode scalar values.
pub const MAX_BODY_CHARS: usize = 10_000;
/// Most cursors of one `sync`, and most conversations an agent listens to.
pub const MAX_CURSORS: usize = 512;
/// Most characters of a visitor's name.
pub const MAX_NAME_CHARS: usize = 80;
/// Most characters of a page address.
pub const MAX_PAGE_CHARS: usize = 512;
/// Most characters of a locale.
pub const MAX_LOCALE_CHARS: usize = 16;
/// Fewest and most characters of a `cid` or a `device`.
pub const CID_CHARS: core::ops::RangeInclusive<usize> = 16..=64;
/// Most events a `sync` asks for, and what it gets without asking.
pub const SYNC_LIMIT: (u16, u16) = (500, 100);
/// Most events a `history` asks for, and what it gets without asking.
pub const HISTORY_LIMIT: (u16, u16) = (200, 50);

/// One thing a client said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// The client's number for the reply; without one no reply is wanted.
    pub id: Option<u32>,
    /// What he said.
    pub op: Op<'a>,
}

/// The operations of docs/protocol.md section 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// `{}`
    Heartbeat,
    /// Who is there, and which session he resumes.
    Auth(Auth<'a>),
    /// Make the visitor's conversation, or find it.
    Start(Start<'a>),
    /// A text message.
    Send(Send<'a>),
    /// A text that only agents see.
    Note(Note<'a>),
    /// Take a waiting conversation.
    Accept {
        /// Which.
        c: ConversationId,
        /// The client's id for this.
        cid: &'a str,
        /// The offer that is answered, if it is one.
        offer: Option<u64>,
    },
    /// Turn an offer down.
    Decline {
        /// The conversation offered.
        c: ConversationId,
        /// The offer.
        offer: u64,
    },
    /// Close a conversation.
    Close {
        /// Which.
        c: ConversationId,
        /// The client's id for this.
        cid: &'a str,
    },
    /// How far the client has got in each conversation; listen to them.
    Sync(Sync<'a>),
    /// Listen no longer.
    Unsync {
        /// To which.
        c: ConversationId,
    },
    /// Read older events.
    History {
        /// Of which conversation.
        c: ConversationId,
        /// Events with a number below this.
        before: u32,
        /// At most so many, 1 to 200.
        limit: u16,
    },
    /// How far the client has got.
    Ack(Ack),
    /// A person has seen everything up to `s`.
    Seen {
        /// In which conversation.
        c: ConversationId,
        /// The number, in the stream of the client's audience.
        s: u32,
    },
    /// Somebody types, or stopped.
    Typing {
        /// In which conversation.
        c: ConversationId,
        /// Whether he does.
        on: bool,
    },
    /// An agent's state and capacity.
    Avail {
        /// The state.
        state: Availability,
        /// The capacity, 0 to 500; absent leaves it as it is.
        cap: Option<u16>,
    },
    /// Subscribe to a list.
    Sub {
        /// Which.
        scope: Scope,
    },
    /// Unsubscribe from a list.
    Unsub {
        /// Which.
        scope: Scope,
    },
    /// Read the rows of a list behind those it was told.
    List {
        /// Which.
        scope: Scope,
        /// The `next` of what it was told; absent is the beginning.
        after: Option<RowKey>,
    },
}

/// `auth`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// A visitor's token or an agent's ticket; a visitor without one is new. Not verified yet.
    pub token: Option<&'a str>,
    /// The browser profile, 16 to 64 characters; scopes `cid`.
    pub device: &'a str,
    /// The session to resume.
    pub last: Option<Last>,
}

/// The session a client wants to go on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Last {
    /// Its name.
    pub sid: SessionId,
    /// The epoch of the session table it was in.
    pub epoch: u128,
    /// Durable events the client counted.
    pub p: u64,
}

/// `start`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start<'a> {
    /// The client's id for this.
    pub cid: &'a str,
    /// How the visitor calls himself, at most 80 characters.
    pub name: Option<&'a str>,
    /// The page he is on, at most 512 characters.
    pub page: Option<&'a str>,
    /// His language, at most 16 characters.
    pub locale: Option<&'a str>,
    /// His first words.
    pub first: Option<First<'a>>,
}

/// The message that travels with `start`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct First<'a> {
    /// The client's id for it, apart from that of `start`.
    pub cid: &'a str,
    /// 1 to 10,000 characters.
    pub body: &'a str,
}

/// `send`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Send<'a> {
    /// To which conversation.
    pub c: ConversationId,
    /// The client's id for it.
    pub cid: &'a str,
    /// 1 to 10,000 characters.
    pub body: &'a str,
}

/// `note`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note<'a> {
    /// To which conversation.
    pub c: ConversationId,
    /// The client's id for it.
    pub cid: &'a str,
    /// 1 to 10,000 characters.
    pub body: &'a str,
}

/// `sync`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sync<'a> {
    /// At most so many missing events per conversation, 1 to 500.
    pub limit: u16,
    cursors: &'a [Cursor],
}

impl<'a> Sync<'a> {
    /// The cursors in the client's order, at most 512. A conversation may stand there twice; the later one counts.
    pub fn cursors(&self) -> impl ExactSizeIterator<Item = Cursor> + DoubleEndedIterator + use<'a> {
        self.cursors.iter().copied()
    }
}

/// How far a client has got in one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// Which.
    pub c: ConversationId,
    /// The last number he has, in the stream of his audience; 0 = none.
    pub s: u32,
    /// The history epoch it belongs to, if he knows one.
    pub e: Option<u32>,
}

/// `ack`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// So many durable events of the session.
    P(u64),
    /// Up to a number of one conversation.
    At {
        /// Which.
        c: ConversationId,
        /// The number, in the stream of the client's audience.
        s: u32,
    },
}

/// Whether an agent takes conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Availability {
    /// Gets offers.
    Online,
    /// Gets none and works on.
    Busy,
    /// Is not there.
    Away,
}

impl Availability {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Availability::Online => "online",
            Availability::Busy => "busy",
            Availability::Away => "away",
        }
    }
}

/// A list an agent may subscribe to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Waiting conversations.
    Queue,
    /// The agent's own.
    Mine,
}

/// The place of a row in its list, whether or not it is still there: by arrival in the queue, by id among an agent's own. It never changes while the row
/// is in the list, so rows read page by page are neither left out nor repeated. To a client it is a text without meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RowKey {
    /// The ticket of a waiting one; 0 in the list of one's own.
    pub ticket: u64,
    /// Which.
    pub c: ConversationId,
}

impl RowKey {
    /// Reads what `next` said: the ticket, a dot, the id.
    pub fn parse(text: &str) -> Option<RowKey> {
        let (ticket, c) = text.split_once('.')?;
        Some(RowKey { ticket: ticket.parse().ok()?, c: ConversationId::parse(c)? })
    }
}

impl Scope {
    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Scope::Queue => "queue",
            Scope::Mine => "mine",
        }
    }
}

/// The refusals of docs/protocol.md section 8. Each means: not stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorCode {
    /// A field is missing, of the wrong type or out of bounds: the client's bug.
    BadRequest,
    /// Not authenticated yet, or twice.
    Auth,
    /// Not for this role.
    Forbidden,
    /// No such conversation, or not his.
    NotFound,
    /// The `cid` was used for something else.
    IdConflict,
    /// The offer is gone, or somebody else was faster.
    Stale,
    /// The conversation is closed.
    Closed,
    /// The conversation is another agent's.
    NotOwner,
    /// A capacity, 512 conversations, or what one conversation may hold is reached.
    Quota,
    /// Text over 10,000 characters.
    TooLarge,
    /// Wait `after_ms`.
    RateLimited,
    /// Memory, mailboxes or the log are full.
    Overloaded,
    /// The disk has no room.
    StorageFull,
    /// A part that is needed is not there yet.
    Unavailable,
    /// Our fault; it is in the log.
    Internal,
}

impl ErrorCode {
    /// All of them, in the order of docs/protocol.md.
    pub const ALL: [ErrorCode; 15] = [
        ErrorCode::BadRequest,
        ErrorCode::Auth,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::IdConflict,
        ErrorCode::Stale,
        ErrorCode::Closed,
        ErrorCode::NotOwner,
        ErrorCode::Quota,
        ErrorCode::TooLarge,
        ErrorCode::RateLimited,
        ErrorCode::Overloaded,
        ErrorCode::StorageFull,
        ErrorCode::Unavailable,
        ErrorCode::Internal,
    ];

    /// Its word in the protocol.
    pub fn text(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::Auth => "auth",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::IdConflict => "id_conflict",
            ErrorCode::Stale => "stale",
            ErrorCode::Closed => "closed",
            ErrorCode::NotOwner => "not_owner",
            ErrorCode::Quota => "quota",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::StorageFull => "storage_full",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later.
    pub fn retry(self) -> bool {
        match self {
            ErrorCode::BadRequest
            | ErrorCode::Auth
            | ErrorCode::Forbidden
            | ErrorCode::NotFound
            | ErrorCode::IdConflict
            | ErrorCode::Stale
            | ErrorCode::Closed
            | ErrorCode::NotOwner
            | ErrorCode::Quota
            | ErrorCode::TooLarge => false,
            ErrorCode::RateLimited
            | ErrorCode::Overloaded
            | ErrorCode::StorageFull
            | ErrorCode::Unavailable
            | ErrorCode::Internal => true,
        }
    }

    /// A sentence for the `msg` of an error that has nothing more particular to say.
    pub fn message(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "a field is missing, of the wrong type or out of bounds",
            ErrorCode::Auth => "authenticate first, and once",
            ErrorCode::Forbidden => "not for this role",
            ErrorCode::NotFound => "no such conversation",
            ErrorCode::IdConflict => "this cid was used for something else; the first stays",
            ErrorCode::Stale => "the offer is gone, or somebody else was faster",
            ErrorCode::Closed => "the conversation is closed",
            ErrorCode::NotOwner => "the conversation is another agent's",
            ErrorCode::Quota => "the limit is reached",
            ErrorCode::TooLarge => "text over 10000 characters",
            ErrorCode::RateLimited => "too many requests",
            ErrorCode::Overloaded => "the server is full; nothing was stored",
            ErrorCode::StorageFull => "the disk is full; nothing was stored",
            ErrorCode::Unavailable => "not there yet",
            ErrorCode::Internal => "an error of the server; it is in its log",
        }
    }
}

/// Why an envelope was refused. Always the client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRequest {
    /// Whom to answer, as far as it could be read.
    pub id: Option<u32>,
    /// `BadRequest` or `TooLarge`.
    pub code: ErrorCode,
    /// The field and its bound.
    pub what: &'static str,
    /// Not JSON, or without `op`: three of these and the socket is closed with 4300.
    pub not_json: bool,
}

/// The envelopes of a text message: its pieces between newlines, without the empty ones. Ranges are relative to `text`.
///
/// A newline cannot stand inside JSON text that a client's encoder wrote on one line: in strings it is escaped.
pub fn split_envelopes(text: &[u8]) -> impl Iterator<Item = Range<usize>> + use<'_> {
    let mut from = 0;
    core::iter::from_fn(move || {
        loop {
            let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
            let length = crate::encode::clean_run(rest, |byte| byte == b'\n');
            let piece = from..from + length;
            from = piece.end + 1;
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    })
}

/// 128 bits that stand for a `cid` or a `device`.
pub fn fingerprint(text: &str) -> u128 {
    xxh3_128(text.as_bytes())
}

/// 64 bits that stand for the content of a request: whether the same `cid` came with the same content. The parts are told apart:
/// `["ab", "c"]` and `["a", "bc"]` differ.
pub fn body_hash(parts: &[&str]) -> u64 {
    parts.iter().fold(parts.len() as u64, |hash, part| xxh3_64_with_seed(part.as_bytes(), hash))
}

#[cfg(test)]
mod tests;
