//! The archived types. **Frozen**: what is here has been written to disks. A change is a new struct with a new version.
//!
//! Fields go from wide to narrow and fill the struct to a multiple of 16 bytes, with zero fields where nothing else is left, so no
//! byte of an archive is padding. Strings and byte runs come before the struct; the struct stands at the end of the body.

use super::{
    Assigned, Closed, Cursor, Message, Record, RecordError, Reopened, SnapshotConversation, SnapshotEvents,
    Started, kind,
};
use crate::encode::{AuthorKind, Status};
use crate::id::{AgentId, ConversationId, InboxId, VisitorId};
use rkyv::rancor::Failure;
use rkyv::ser::allocator::SubAllocator;
use rkyv::util::AlignedVec;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

#[derive(Archive, Serialize)]
struct StartedV1<'a> {
    c: u128,
    visitor: u128,
    inbox: u128,
    device: u128,
    cid: u128,
    ts_ms: u64,
    #[rkyv(with = InlineAsBox)]
    name: &'a str,
    #[rkyv(with = InlineAsBox)]
    page: &'a str,
    #[rkyv(with = InlineAsBox)]
    locale: &'a str,
}

/// Messages and notes.
#[derive(Archive, Serialize)]
struct MessageV1<'a> {
    c: u128,
    author: u128,
    device: u128,
    cid: u128,
    ts_ms: u64,
    body_hash: u64,
    s: u32,
    vs: u32,
    #[rkyv(with = InlineAsBox)]
    body: &'a str,
    author_kind: u8,
    zero: [u8; 15],
}

#[derive(Archive, Serialize)]
struct AssignedV1<'a> {
    c: u128,
    agent: u128,
    device: u128,
    cid: u128,
    ts_ms: u64,
    s: u32,
    vs: u32,
    epoch: u32,
    zero: u32,
    #[rkyv(with = InlineAsBox)]
    agent_name: &'a str,
}

#[derive(Archive, Serialize)]
struct ClosedV1 {
    c: u128,
    by: u128,
    device: u128,
    cid: u128,
    ts_ms: u64,
    s: u32,
    vs: u32,
    by_kind: u8,
    zero: [u8; 15],
}

#[derive(Archive, Serialize)]
struct ReopenedV1 {
    c: u128,
    by: u128,
    ts_ms: u64,
    s: u32,
    vs: u32,
    by_kind: u8,
    zero: [u8; 15],
}

#[derive(Archive, Serialize)]
struct QueuedV1 {
    c: u128,
    ticket: u64,
    zero: u64,
}

#[derive(Archive, Serialize)]
struct ReceiptsV1 {
    c: u128,
    visitor_seen: u32,
    visitor_delivered: u32,
    agent_seen: u32,
    agent_delivered: u32,
}

#[derive(Archive, Serialize)]
struct SnapshotConversationV1<'a> {
    c: u128,
    visitor: u128,
    inbox: u128,
    /// 0 = none.
    owner: u128,
    device: u128,
    cid: u128,
    started_ms: u64,
    changed_ms: u64,
    ticket: u64,
    s: u32,
    vs: u32,
    epoch: u32,
    visitor_seen: u32,
    visitor_delivered: u32,
    agent_seen: u32,
    agent_delivered: u32,
    #[rkyv(with = InlineAsBox)]
    name: &'a str,
    #[rkyv(with = InlineAsBox)]
    page: &'a str,
    #[rkyv(with = InlineAsBox)]
    locale: &'a str,
    status: u8,
    has_ticket: u8,
    zero: [u8; 2],
}

#[derive(Archive, Serialize)]
struct SnapshotEventsV1<'a> {
    c: u128,
    first: u32,
    count: u32,
    /// The first thing in the body, so the records in it are aligned as the body is.
    #[rkyv(with = InlineAsBox)]
    records: &'a [u8],
}

// The sizes add up: a type without padding is as large as its fields.
const _: () = assert!(size_of::<ArchivedStartedV1<'static>>() == 5 * 16 + 8 + 3 * 8);
const _: () = assert!(size_of::<ArchivedMessageV1<'static>>() == 4 * 16 + 2 * 8 + 2 * 4 + 8 + 16);
const _: () = assert!(size_of::<ArchivedAssignedV1<'static>>() == 4 * 16 + 8 + 4 * 4 + 8);
const _: () = assert!(size_of::<ArchivedClosedV1>() == 4 * 16 + 8 + 2 * 4 + 16);
const _: () = assert!(size_of::<ArchivedReopenedV1>() == 2 * 16 + 8 + 2 * 4 + 16);
const _: () = assert!(size_of::<ArchivedQueuedV1>() == 16 + 2 * 8);
const _: () = assert!(size_of::<ArchivedReceiptsV1>() == 16 + 4 * 4);
const _: () =
    assert!(size_of::<ArchivedSnapshotConversationV1<'static>>() == 6 * 16 + 3 * 8 + 7 * 4 + 3 * 8 + 4);
const _: () = assert!(size_of::<ArchivedSnapshotEventsV1<'static>>() == 16 + 2 * 4 + 8);

/// The allocator is what rkyv asks for to serialize a byte run; it is never called for bytes, so it has nothing to give.
macro_rules! put {
    ($value:expr, $out:expr $(,)?) => {{
        rkyv::api::low::to_bytes_in_with_alloc::<_, _, Failure>(
            $value,
            &mut *$out,
            SubAllocator::new(&mut []),
        )
        .expect("memory takes what is written to it");
    }};
}

pub(super) fn write(record: &Record<'_>, out: &mut AlignedVec<{ super::BODY_ALIGNMENT }>) {
    match *record {
        Record::Started(started) => put!(
            &StartedV1 {
                c: started.c.bits(),
                visitor: started.visitor.bits(),
                inbox: started.inbox.bits(),
                device: started.device,
                cid: started.cid,
                ts_ms: started.ts_ms,
                name: started.name,
                page: started.page,
                locale: started.locale,
            },
            out,
        ),
        Record::Message(message) | Record::Note(message) => put!(
            &MessageV1 {
                c: message.c.bits(),
                author: message.author,
                device: message.device,
                cid: message.cid,
                ts_ms: message.ts_ms,
                body_hash: message.body_hash,
                s: message.s,
                vs: message.vs,
                body: message.body,
                author_kind: author_kind_number(message.author_kind),
                zero: [0; 15],
            },
            out,
        ),
        Record::Assigned(assigned) => put!(
            &AssignedV1 {
                c: assigned.c.bits(),
                agent: assigned.agent.bits(),
                device: assigned.device,
                cid: assigned.cid,
                ts_ms: assigned.ts_ms,
                s: assigned.s,
                vs: assigned.vs,
                epoch: assigned.epoch,
                zero: 0,
                agent_name: assigned.agent_name,
            },
            out,
        ),
        Record::Closed(closed) => put!(
            &ClosedV1 {
                c: closed.c.bits(),
                by: closed.by,
                device: closed.device,
                cid: closed.cid,
                ts_ms: closed.ts_ms,
                s: closed.s,
                vs: closed.vs,
                by_kind: author_kind_number(closed.by_kind),
                zero: [0; 15],
            },
            out,
        ),
        Record::Reopened(reopened) => put!(
            &ReopenedV1 {
                c: reopened.c.bits(),
                by: reopened.by,
                ts_ms: reopened.ts_ms,
                s: reopened.s,
                vs: reopened.vs,
                by_kind: author_kind_number(reopened.by_kind),
                zero: [0; 15],
            },
            out,
        ),
        Record::Queued { c, ticket } => put!(&QueuedV1 { c: c.bits(), ticket, zero: 0 }, out),
        Record::Receipts { c, visitor, agent } => put!(
            &ReceiptsV1 {
                c: c.bits(),
                visitor_seen: visitor.seen,
                visitor_delivered: visitor.delivered,
                agent_seen: agent.seen,
                agent_delivered: agent.delivered,
            },
            out,
        ),
        Record::SnapshotConversation(snapshot) => put!(
            &SnapshotConversationV1 {
                c: snapshot.started.c.bits(),
                visitor: snapshot.started.visitor.bits(),
                inbox: snapshot.started.inbox.bits(),
                owner: snapshot.owner.map_or(0, AgentId::bits),
                device: snapshot.started.device,
                cid: snapshot.started.cid,
                started_ms: snapshot.started.ts_ms,
                changed_ms: snapshot.changed_ms,
                ticket: snapshot.ticket.unwrap_or(0),
                s: snapshot.s,
                vs: snapshot.vs,
                epoch: snapshot.epoch,
                visitor_seen: snapshot.visitor.seen,
                visitor_delivered: snapshot.visitor.delivered,
                agent_seen: snapshot.agent.seen,
                agent_delivered: snapshot.agent.delivered,
                name: snapshot.started.name,
                page: snapshot.started.page,
                locale: snapshot.started.locale,
                status: status_number(snapshot.status),
                has_ticket: u8::from(snapshot.ticket.is_some()),
                zero: [0; 2],
            },
            out,
        ),
        Record::SnapshotEvents(events) => put!(
            &SnapshotEventsV1 {
                c: events.c.bits(),
                first: events.first,
                count: events.count,
                records: events.records,
            },
            out,
        ),
    }
}

macro_rules! access {
    ($type:ty, $kind:expr, $body:expr) => {
        rkyv::api::low::access::<$type, Failure>($body)
            .map_err(|Failure| RecordError::Malformed { kind: $kind })
    };
}

pub(super) fn read(kind: u16, version: u16, body: &[u8]) -> Result<Record<'_>, RecordError> {
    let known = matches!(
        kind,
        kind::STARTED
            | kind::MESSAGE
            | kind::NOTE
            | kind::ASSIGNED
            | kind::CLOSED
            | kind::REOPENED
            | kind::QUEUED
            | kind::RECEIPTS
            | kind::SNAPSHOT_CONVERSATION
            | kind::SNAPSHOT_EVENTS
    );
    match (kind, version) {
        (kind::STARTED, 1) => {
            let v1 = access!(ArchivedStartedV1<'_>, kind, body)?;
            Ok(Record::Started(Started {
                c: conversation(kind, v1.c.to_native())?,
                visitor: visitor(kind, v1.visitor.to_native())?,
                inbox: inbox(kind, v1.inbox.to_native())?,
                ts_ms: v1.ts_ms.to_native(),
                device: v1.device.to_native(),
                cid: v1.cid.to_native(),
                name: &v1.name,
                page: &v1.page,
                locale: &v1.locale,
            }))
        }
        (kind::MESSAGE | kind::NOTE, 1) => {
            let v1 = access!(ArchivedMessageV1<'_>, kind, body)?;
            let message = Message {
                c: conversation(kind, v1.c.to_native())?,
                s: number(kind, v1.s.to_native())?,
                vs: v1.vs.to_native(),
                ts_ms: v1.ts_ms.to_native(),
                author_kind: author_kind(kind, v1.author_kind)?,
                author: v1.author.to_native(),
                device: v1.device.to_native(),
                cid: v1.cid.to_native(),
                body_hash: v1.body_hash.to_native(),
                body: &v1.body,
            };
            Ok(if kind == kind::NOTE { Record::Note(message) } else { Record::Message(message) })
        }
        (kind::ASSIGNED, 1) => {
            let v1 = access!(ArchivedAssignedV1<'_>, kind, body)?;
            Ok(Record::Assigned(Assigned {
                c: conversation(kind, v1.c.to_native())?,
                s: number(kind, v1.s.to_native())?,
                vs: v1.vs.to_native(),
                ts_ms: v1.ts_ms.to_native(),
                agent: agent(kind, v1.agent.to_native())?,
                agent_name: &v1.agent_name,
                epoch: v1.epoch.to_native(),
                device: v1.device.to_native(),
                cid: v1.cid.to_native(),
            }))
        }
        (kind::CLOSED, 1) => {
            let v1 = access!(ArchivedClosedV1, kind, body)?;
            Ok(Record::Closed(Closed {
                c: conversation(kind, v1.c.to_native())?,
                s: number(kind, v1.s.to_native())?,
                vs: v1.vs.to_native(),
                ts_ms: v1.ts_ms.to_native(),
                by_kind: author_kind(kind, v1.by_kind)?,
                by: v1.by.to_native(),
                device: v1.device.to_native(),
                cid: v1.cid.to_native(),
            }))
        }
        (kind::REOPENED, 1) => {
            let v1 = access!(ArchivedReopenedV1, kind, body)?;
            Ok(Record::Reopened(Reopened {
                c: conversation(kind, v1.c.to_native())?,
                s: number(kind, v1.s.to_native())?,
                vs: v1.vs.to_native(),
                ts_ms: v1.ts_ms.to_native(),
                by_kind: author_kind(kind, v1.by_kind)?,
                by: v1.by.to_native(),
            }))
        }
        (kind::QUEUED, 1) => {
            let v1 = access!(ArchivedQueuedV1, kind, body)?;
            Ok(Record::Queued { c: conversation(kind, v1.c.to_native())?, ticket: v1.ticket.to_native() })
        }
        (kind::RECEIPTS, 1) => {
            let v1 = access!(ArchivedReceiptsV1, kind, body)?;
            Ok(Record::Receipts {
                c: conversation(kind, v1.c.to_native())?,
                visitor: Cursor {
                    seen: v1.visitor_seen.to_native(),
                    delivered: v1.visitor_delivered.to_native(),
                },
                agent: Cursor { seen: v1.agent_seen.to_native(), delivered: v1.agent_delivered.to_native() },
            })
        }
        (kind::SNAPSHOT_CONVERSATION, 1) => {
            let v1 = access!(ArchivedSnapshotConversationV1<'_>, kind, body)?;
            let owner = v1.owner.to_native();
            Ok(Record::SnapshotConversation(SnapshotConversation {
                started: Started {
                    c: conversation(kind, v1.c.to_native())?,
                    visitor: visitor(kind, v1.visitor.to_native())?,
                    inbox: inbox(kind, v1.inbox.to_native())?,
                    ts_ms: v1.started_ms.to_native(),
                    device: v1.device.to_native(),
                    cid: v1.cid.to_native(),
                    name: &v1.name,
                    page: &v1.page,
                    locale: &v1.locale,
                },
                changed_ms: v1.changed_ms.to_native(),
                s: v1.s.to_native(),
                vs: v1.vs.to_native(),
                status: status(kind, v1.status)?,
                owner: if owner == 0 { None } else { Some(agent(kind, owner)?) },
                epoch: v1.epoch.to_native(),
                ticket: (v1.has_ticket != 0).then(|| v1.ticket.to_native()),
                visitor: Cursor {
                    seen: v1.visitor_seen.to_native(),
                    delivered: v1.visitor_delivered.to_native(),
                },
                agent: Cursor { seen: v1.agent_seen.to_native(), delivered: v1.agent_delivered.to_native() },
            }))
        }
        (kind::SNAPSHOT_EVENTS, 1) => {
            let v1 = access!(ArchivedSnapshotEventsV1<'_>, kind, body)?;
            Ok(Record::SnapshotEvents(SnapshotEvents {
                c: conversation(kind, v1.c.to_native())?,
                first: number(kind, v1.first.to_native())?,
                count: v1.count.to_native(),
                records: &v1.records,
            }))
        }
        _ if known => Err(RecordError::UnknownVersion { kind, version }),
        _ => Err(RecordError::UnknownKind(kind)),
    }
}

fn number(kind: u16, s: u32) -> Result<u32, RecordError> {
    if s == 0 { Err(RecordError::BadValue { kind, field: "s" }) } else { Ok(s) }
}

fn conversation(kind: u16, bits: u128) -> Result<ConversationId, RecordError> {
    ConversationId::from_bits(bits).ok_or(RecordError::BadValue { kind, field: "c" })
}

fn visitor(kind: u16, bits: u128) -> Result<VisitorId, RecordError> {
    VisitorId::from_bits(bits).ok_or(RecordError::BadValue { kind, field: "visitor" })
}

fn inbox(kind: u16, bits: u128) -> Result<InboxId, RecordError> {
    InboxId::from_bits(bits).ok_or(RecordError::BadValue { kind, field: "inbox" })
}

fn agent(kind: u16, bits: u128) -> Result<AgentId, RecordError> {
    AgentId::from_bits(bits).ok_or(RecordError::BadValue { kind, field: "agent" })
}

fn author_kind_number(kind: AuthorKind) -> u8 {
    match kind {
        AuthorKind::Visitor => 1,
        AuthorKind::Agent => 2,
        AuthorKind::System => 3,
    }
}

fn author_kind(kind: u16, number: u8) -> Result<AuthorKind, RecordError> {
    match number {
        1 => Ok(AuthorKind::Visitor),
        2 => Ok(AuthorKind::Agent),
        3 => Ok(AuthorKind::System),
        _ => Err(RecordError::BadValue { kind, field: "author_kind" }),
    }
}

fn status_number(status: Status) -> u8 {
    match status {
        Status::Waiting => 1,
        Status::Open => 2,
        Status::Closed => 3,
    }
}

fn status(kind: u16, number: u8) -> Result<Status, RecordError> {
    match number {
        1 => Ok(Status::Waiting),
        2 => Ok(Status::Open),
        3 => Ok(Status::Closed),
        _ => Err(RecordError::BadValue { kind, field: "status" }),
    }
}
