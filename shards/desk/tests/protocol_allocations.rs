//! Parsing and encoding allocate nothing once their buffers have grown.

use ringdesk_desk::encode::{
    self, Audience, Author, AuthorKind, EventView, EventWhat, Level, Place, Receipts, Status,
};
use ringdesk_desk::id::{AgentId, ConversationId, Entropy, InboxId, SessionId, SiteId, Slot, VisitorId};
use ringdesk_desk::request::{self, ErrorCode, Op, PADDING, Parser, split_envelopes};
use ringdesk_desk::settings::{Role, SigningKey};
use ringdesk_desk::token::{self, Ticket, VisitorToken};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what this thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ASKED.with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call goes to `System` unchanged; counting touches a thread-local without a destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn asked(work: impl FnOnce()) -> u64 {
    let before = ASKED.with(Cell::get);
    work();
    ASKED.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(asked(|| drop(core::hint::black_box(Vec::<u8>::with_capacity(10)))), 1);
}

struct World {
    c: ConversationId,
    agent: AgentId,
    visitor: VisitorId,
    sid: SessionId,
    site: SiteId,
    inbox: InboxId,
}

fn world() -> World {
    let mut entropy = Entropy::new([1; 32]);
    let slot = Slot::new(5).unwrap();
    World {
        c: ConversationId::mint(slot, &mut entropy),
        agent: AgentId::mint(slot, &mut entropy),
        visitor: VisitorId::mint(slot, &mut entropy),
        sid: SessionId::mint(slot, &mut entropy),
        site: SiteId::mint(slot, &mut entropy),
        inbox: InboxId::mint(slot, &mut entropy),
    }
}

/// A frame with every operation, and some that are refused.
fn frame(world: &World) -> Vec<u8> {
    let cursors = vec![r#"{"c":"$C","s":9,"e":1}"#; 512].join(",");
    let long = "a line\\n with \\\"escapes\\\" and 你好 ".repeat(200);
    let text = [
        r#"{"id":1,"op":"auth","d":{"token":"v1.1.x.y","device":"0123456789abcdef","last":{"sid":"$S","epoch":"$S","p":41}}}"#,
        r#"{"id":2,"op":"start","d":{"cid":"0123456789abcdef","name":"A\u0042","page":"https://x/","first":{"cid":"fedcba9876543210","type":"text","body":"hi"}}}"#,
        &format!(r#"{{"id":3,"op":"send","d":{{"c":"$C","cid":"0123456789abcdef","type":"text","body":"{long}"}}}}"#),
        r#"{"id":4,"op":"note","d":{"c":"$C","cid":"0123456789abcdef","body":"n"}}"#,
        r#"{"id":5,"op":"accept","d":{"c":"$C","cid":"0123456789abcdef","offer":3}}"#,
        r#"{"id":6,"op":"decline","d":{"c":"$C","offer":3}}"#,
        r#"{"id":7,"op":"close","d":{"c":"$C","cid":"0123456789abcdef"}}"#,
        &format!(r#"{{"id":8,"op":"sync","d":{{"cursors":[{cursors}]}}}}"#),
        r#"{"id":9,"op":"unsync","d":{"c":"$C"}}"#,
        r#"{"id":10,"op":"history","d":{"c":"$C","before":7}}"#,
        r#"{"op":"ack","d":{"p":3}}"#,
        r#"{"op":"ack","d":{"c":"$C","s":3}}"#,
        r#"{"op":"seen","d":{"c":"$C","s":3}}"#,
        r#"{"op":"typing","d":{"c":"$C","on":true}}"#,
        r#"{"id":11,"op":"avail","d":{"state":"online","cap":4}}"#,
        r#"{"id":12,"op":"sub","d":{"scope":"queue"}}"#,
        r#"{"id":13,"op":"unsub","d":{"scope":"mine"}}"#,
        r#"{"id":14,"op":"list","d":{"scope":"mine","after":"7.$C"}}"#,
        r#"{}"#,
        r#"{"id":14,"op":"unknown"}"#,
        r#"{"id":15,"op":"ack","d":{"p":-1}}"#,
        r#"{"id":16,"x":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}"#,
        r#"{"id":17,"op":"send","d":{"body":"\ud800"}}"#,
        "not json",
    ]
    .join("\n");
    text.replace("$C", world.c.text().as_str()).replace("$S", world.sid.text().as_str()).into_bytes()
}

#[test]
fn parsing_allocates_nothing_in_steady_state() {
    let original = frame(&world());
    let mut parser = Parser::new();
    // With room after it, and without: then the last envelopes are copied.
    for room in [PADDING, 0] {
        let mut buffer = original.clone();
        buffer.resize(original.len() + room, 0);
        let mut envelopes = 0;
        let mut round = || {
            let (mut good, mut bad) = (0, 0);
            for range in split_envelopes(&original) {
                buffer[..original.len()].copy_from_slice(&original);
                match parser.parse(&mut buffer, range) {
                    Ok(envelope) => {
                        good += 1;
                        if let Op::Sync(sync) = envelope.op {
                            assert_eq!(sync.cursors().filter(|cursor| cursor.s == 9).count(), 512);
                        }
                        if let Op::Send(send) = envelope.op {
                            core::hint::black_box(request::fingerprint(send.cid));
                            core::hint::black_box(request::body_hash(&["text", send.body]));
                        }
                    }
                    Err(_) => bad += 1,
                }
            }
            envelopes += good + bad;
            assert_eq!((good, bad), (19, 5));
        };
        round();
        assert_eq!(asked(|| (0..50).for_each(|_| round())), 0, "room {room}");
        assert_eq!(envelopes, 51 * 24);
    }
}

fn encode_everything(world: &World, out: &mut Vec<u8>) {
    let from = Author { kind: AuthorKind::Agent, id: world.agent.bits(), name: "Ada \"L\"" };
    let events = [
        EventWhat::Message { from, body: "words\nand \u{1} more 你好" },
        EventWhat::Joined { agent: world.agent, name: "Ada" },
        EventWhat::Closed { by: from },
        EventWhat::Reopened { by: from },
    ]
    .map(|what| EventView { c: world.c, s: 9, vs: 7, ts: 1_760_000_000_000, what });
    let note = EventView { what: EventWhat::Note { from, body: "n" }, ..events[0] };
    let place = Place { s: 3, vs: 2 };
    let receipts = Receipts { visitor: place, agent: place };
    let row = encode::Row {
        c: world.c,
        status: Status::Open,
        owner: Some(world.agent),
        name: "Bo",
        preview: "Hi",
        since: 4,
        pos: Some(1),
    };
    let hello = encode::Hello {
        server: "ringdesk",
        epoch: 9,
        heartbeat_ms: 25_000,
        max_frame: 65_536,
        max_inflight: 256,
        level: Level::Disk,
    };
    let ready = encode::Ready {
        sid: world.sid,
        me: world.visitor.bits(),
        name: "Bo",
        token: Some("v1.1.x.y"),
        slot: 5,
        epoch: 9,
        ts: 1,
        p: 2,
        resume_ttl_ms: 3,
        resumed: false,
        replay: 0,
        heads: &[encode::Head { c: world.c, s: 1, e: 0, status: Status::Closed }],
    };
    let sync = encode::SyncView {
        c: world.c,
        from: place,
        head: place,
        e: 0,
        limited: false,
        status: Status::Waiting,
        owner: None,
        visitor: encode::VisitorView { id: world.visitor.bits(), name: "Bo", online: true },
        seen: receipts,
        delivered: receipts,
    };
    for audience in [Audience::Visitor, Audience::Agent] {
        encode::history_begin(out, 1, world.c);
        for event in &events {
            encode::history_event(out, audience, event);
            encode::event(out, audience, event);
        }
        encode::history_end(out, true);
        encode::sync_push(out, audience, &sync);
    }
    encode::event(out, Audience::Agent, &note);
    encode::hello(out, &hello);
    encode::ready(out, 1, &ready);
    encode::stored(out, 2, Some(world.c), 3, 4, Level::Memory, true);
    encode::ok(out, 3);
    encode::error(out, 4, ErrorCode::BadRequest, "d.c", Some(5));
    encode::synced(out, 5, 6);
    encode::avail_reply(out, 6, request::Availability::Online, 7);
    encode::sync_error(out, world.c, ErrorCode::NotFound);
    encode::typing(out, world.c, AuthorKind::Visitor, world.visitor.bits(), true);
    encode::seen(out, world.c, encode::Party::Agent, 8);
    encode::delivered(out, world.c, encode::Party::Visitor, 8);
    encode::presence(out, world.c, false);
    encode::queue(out, world.c, 1);
    encode::offer(out, world.c, 2, 3, "Bo", "Hi");
    encode::offer_gone(out, world.c, 2);
    encode::list_begin(out, None, request::Scope::Mine);
    encode::list_row(out, &row);
    encode::list_row(out, &row);
    encode::list_end(out, 2, Some(request::RowKey { ticket: 7, c: world.c }));
    encode::conv_row(out, &row);
    encode::avail_push(out, &encode::AvailView { state: request::Availability::Away, cap: 1, load: 1 });
    encode::notice(out, "text", 1);
    encode::lag(out, 1);
    encode::history_lost(out, world.c, 1, 2, encode::LossReason::Erased);
    encode::goaway(out, 1);
    encode::heartbeat(out);
}

#[test]
fn encoding_allocates_nothing_into_a_buffer_with_room() {
    let world = world();
    let mut out = Vec::new();
    encode_everything(&world, &mut out);
    let size = out.len();
    let asked = asked(|| {
        for _ in 0..50 {
            out.clear();
            encode_everything(&world, &mut out);
            assert_eq!(out.len(), size);
        }
    });
    assert_eq!(asked, 0);
}

#[test]
fn tokens_are_signed_and_verified_without_allocating() {
    let world = world();
    let keys = [SigningKey { id: 1, secret: [1; 32] }, SigningKey { id: 2, secret: [2; 32] }];
    let visitor =
        VisitorToken { site: world.site, inbox: world.inbox, visitor: world.visitor, issued_at_s: 5 };
    let ticket = Ticket { agent: world.agent, role: Role::Agent, session_epoch: 1, expires_at_s: 10 };
    let mut out = Vec::with_capacity(token::MAX_TOKEN_SIZE);
    let asked = asked(|| {
        for _ in 0..10 {
            out.clear();
            token::sign_visitor(&keys, &visitor, &mut out);
            assert_eq!(token::verify_visitor(&keys, core::str::from_utf8(&out).unwrap()), Ok(visitor));
            out.clear();
            token::sign_ticket(&keys, &ticket, &mut out);
            assert_eq!(token::verify_ticket(&keys, core::str::from_utf8(&out).unwrap(), 9), Ok(ticket));
            assert!(token::verify_ticket(&keys, "v1.9.x.y", 9).is_err());
        }
    });
    assert_eq!(asked, 0);
}
