//! Records as bytes: every kind reads back, from what was written today and from what was written at the first release.

mod conversation_support;

use conversation_support::{Written, hash_of};
use ringdesk_desk::encode::{AuthorKind, Status};
use ringdesk_desk::id::{AgentId, ConversationId, InboxId, VisitorId};
use ringdesk_desk::record::{
    Assigned, ChunkBuilder, ChunkRecords, Closed, Cursor, Message, Record, RecordError, Reopened, Scratch,
    SnapshotConversation, SnapshotEvents, Started, kind,
};
use rkyv::util::AlignedVec;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records_v1.bin");

fn bits(kind: u8, random: u128) -> u128 {
    (0x0ABC << 116) | (u128::from(kind) << 112) | random
}

/// One of every kind, and some at their edges; `chunk` becomes the records of a chunk.
fn every_kind(chunk: &mut ChunkBuilder) -> Vec<Record<'_>> {
    let c = ConversationId::from_bits(bits(ConversationId::KIND, 0x1234_5678_9ABC_DEF0)).unwrap();
    let visitor = VisitorId::from_bits(bits(VisitorId::KIND, 77)).unwrap();
    let inbox = InboxId::from_bits(bits(InboxId::KIND, 88)).unwrap();
    let agent = AgentId::from_bits(bits(AgentId::KIND, u128::MAX >> 16)).unwrap();
    let (device, cid) = (u128::MAX - 1, 1 << 127);
    let ts_ms = 1_760_000_000_123;
    let started = Started {
        c,
        visitor,
        inbox,
        ts_ms,
        device,
        cid,
        name: "Ada 爱达",
        page: "https://example.org/?q=1",
        locale: "zh-CN",
    };
    let message = Message {
        c,
        s: 2,
        vs: 1,
        ts_ms,
        author_kind: AuthorKind::Visitor,
        author: visitor.bits(),
        device,
        cid,
        body_hash: hash_of("hello"),
        body: "hello",
    };
    let note = Message {
        s: u32::MAX,
        vs: 0,
        author_kind: AuthorKind::Agent,
        author: agent.bits(),
        body: "",
        ..message
    };
    let system = Message { author_kind: AuthorKind::System, author: 0, device: 0, cid: 0, ..message };
    let assigned = Assigned { c, s: 3, vs: 2, ts_ms, agent, agent_name: "Bob", epoch: 9, device, cid };
    let closed = Closed { c, s: 4, vs: 3, ts_ms, by_kind: AuthorKind::Agent, by: agent.bits(), device, cid };
    let reopened = Reopened { c, s: 5, vs: 4, ts_ms, by_kind: AuthorKind::Visitor, by: visitor.bits() };
    let receipts = (Cursor { seen: 1, delivered: 2 }, Cursor { seen: 3, delivered: u32::MAX });
    let snapshot = SnapshotConversation {
        started,
        changed_ms: 6,
        s: 7,
        vs: 8,
        status: Status::Open,
        owner: Some(agent),
        epoch: 9,
        ticket: None,
        visitor: receipts.0,
        agent: receipts.1,
    };
    let waiting = SnapshotConversation {
        started: Started { name: "", page: "", locale: "", ..started },
        status: Status::Waiting,
        owner: None,
        ticket: Some(0),
        ..snapshot
    };
    let events = [Record::Message(message), Record::Assigned(assigned), Record::Closed(closed)];
    for record in &events {
        assert!(chunk.push(record, 64 << 10));
    }
    let chunk = SnapshotEvents { c, first: 2, count: 3, records: chunk.records() };
    let mut all = vec![
        Record::Started(started),
        Record::Started(waiting.started),
        Record::Message(message),
        Record::Message(system),
        Record::Note(note),
        Record::Reopened(reopened),
        Record::Queued { c, ticket: u64::MAX },
        Record::Receipts { c, visitor: receipts.0, agent: receipts.1 },
        Record::SnapshotConversation(snapshot),
        Record::SnapshotConversation(waiting),
        Record::SnapshotConversation(SnapshotConversation { status: Status::Closed, ..waiting }),
        Record::SnapshotEvents(chunk),
    ];
    all.extend(events);
    all
}

/// Frames as in a chunk: size, kind, version, zero, body, zero.
fn framed(records: &[Record<'_>]) -> Vec<u8> {
    let mut scratch = Scratch::new();
    let mut bytes = Vec::new();
    for record in records {
        let body = record.write(&mut scratch);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&record.kind().to_le_bytes());
        bytes.extend_from_slice(&record.version().to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
    }
    bytes
}

fn unframed(bytes: &[u8]) -> Vec<Written> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        let kind = u16::from_le_bytes(rest[4..6].try_into().unwrap());
        let version = u16::from_le_bytes(rest[6..8].try_into().unwrap());
        let mut body = AlignedVec::new();
        body.extend_from_slice(&rest[16..16 + size]);
        all.push(Written { kind, version, body });
        rest = &rest[16 + size.next_multiple_of(16)..];
    }
    all
}

#[test]
fn every_kind_reads_back_as_it_was_written() {
    let mut chunk = ChunkBuilder::new();
    let records = every_kind(&mut chunk);
    let written = unframed(&framed(&records));
    for (record, written) in records.iter().zip(&written) {
        assert_eq!(written.record(), *record);
        assert_eq!(written.record().conversation(), record.conversation());
        assert_eq!(record.slot().number(), 0x0ABC);
    }
    let mut kinds: Vec<u16> = records.iter().map(Record::kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 7, 8, 16, 17], "every kind is in the list");
}

#[test]
fn the_records_of_the_first_release_read_back_equal() {
    let mut chunk = ChunkBuilder::new();
    let records = every_kind(&mut chunk);
    let bytes = framed(&records);
    if std::env::var_os("RINGDESK_REMAKE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(GOLDEN, &bytes).unwrap();
    }
    let golden = std::fs::read(GOLDEN).expect("made with RINGDESK_REMAKE_GOLDEN=1");
    let written = unframed(&golden);
    assert_eq!(written.len(), records.len());
    for (record, written) in records.iter().zip(&written) {
        assert_eq!(written.record(), *record);
    }
    assert_eq!(golden, bytes, "version 1 is frozen: the same record has the same bytes");
}

#[test]
fn the_records_inside_a_chunk_read_back_in_place() {
    let mut chunk = ChunkBuilder::new();
    let records = every_kind(&mut chunk);
    let written = unframed(&framed(&records));
    let chunks: Vec<_> = written.iter().filter(|written| written.kind == kind::SNAPSHOT_EVENTS).collect();
    let Record::SnapshotEvents(events) = chunks[0].record() else { panic!("a chunk") };
    let inside: Result<Vec<_>, _> = ChunkRecords::new(events.records).collect();
    assert_eq!(inside.unwrap(), records[records.len() - 3..]);
}

#[test]
fn a_chunk_takes_what_fits_and_one_record_whatever_its_size() {
    let mut other = ChunkBuilder::new();
    let records = every_kind(&mut other);
    let Record::Message(message) = records[2] else { panic!("a message") };
    let body = "x".repeat(100_000);
    let large = Record::Message(Message { body: &body, ..message });
    let mut chunk = ChunkBuilder::new();
    assert!(chunk.push(&large, 10));
    assert!(!chunk.push(&records[2], 1 << 20));
    chunk.clear();
    assert!(chunk.push(&records[2], 400));
    assert!(chunk.push(&records[2], 400));
    assert!(!chunk.push(&records[2], 400));
    assert_eq!((chunk.count(), chunk.records().len()), (2, 2 * (16 + 128)));
}

#[test]
fn an_unknown_kind_or_version_is_named() {
    let body = AlignedVec::<16>::new();
    for unknown in [0, 9, kind::EVICTED, kind::THAWED, kind::HISTORY_LOST, u16::MAX] {
        assert_eq!(Record::read(unknown, 1, &body), Err(RecordError::UnknownKind(unknown)));
    }
    let newer = RecordError::UnknownVersion { kind: kind::MESSAGE, version: 2 };
    assert_eq!(Record::read(kind::MESSAGE, 2, &body), Err(newer));
    assert!(newer.to_string().contains("version 2 of record kind 2"));
}

#[test]
fn a_cut_or_misplaced_body_is_an_error_and_never_a_panic() {
    let mut chunk = ChunkBuilder::new();
    let records = every_kind(&mut chunk);
    for written in unframed(&framed(&records)) {
        for size in 0..written.body.len() {
            let read = Record::read(written.kind, written.version, &written.body[..size]);
            // A shorter body may be read as another record: it is the journal that knows the size. It is never more than that.
            if size < 16 {
                assert_eq!(read, Err(RecordError::Malformed { kind: written.kind }), "{size}");
            }
        }
        let mut shifted = AlignedVec::<16>::new();
        shifted.push(0);
        shifted.extend_from_slice(&written.body);
        let read = Record::read(written.kind, written.version, &shifted[1..]);
        assert_eq!(read, Err(RecordError::Malformed { kind: written.kind }));
    }
}

#[test]
fn a_flipped_bit_behind_a_broken_checksum_is_an_error_or_another_record_and_never_a_panic() {
    let mut chunk = ChunkBuilder::new();
    let records = every_kind(&mut chunk);
    let mut bad = 0;
    for mut written in unframed(&framed(&records)) {
        for bit in 0..written.body.len() * 8 {
            written.body[bit / 8] ^= 1 << (bit % 8);
            match Record::read(written.kind, written.version, &written.body) {
                Err(_) => bad += 1,
                Ok(Record::SnapshotEvents(events)) => {
                    bad += ChunkRecords::new(events.records).filter(Result::is_err).count();
                }
                Ok(_) => {}
            }
            written.body[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert!(bad > 100, "{bad}");
}

#[test]
fn a_field_that_cannot_be_is_named() {
    let mut chunk = ChunkBuilder::new();
    let records = every_kind(&mut chunk);
    let mut written = unframed(&framed(&records[2..3])).remove(0);
    // The last 112 bytes are the struct: `c` first, the author's kind in the last 16.
    let root = written.body.len() - 112;
    let good = written.body.clone();
    written.body[root + 96] = 4;
    let read = Record::read(written.kind, written.version, &written.body);
    assert_eq!(read, Err(RecordError::BadValue { kind: kind::MESSAGE, field: "author_kind" }));
    written.body = good;
    written.body[root + 14] ^= 1;
    let read = Record::read(written.kind, written.version, &written.body);
    assert_eq!(read, Err(RecordError::BadValue { kind: kind::MESSAGE, field: "c" }));
}
