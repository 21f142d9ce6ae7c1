use super::*;
use crate::id::{Entropy, Slot, VisitorId, text_of};
use crate::request::{ErrorCode, RowKey, Scope};

fn entropy() -> Entropy {
    Entropy::new([4; 32])
}

fn c() -> ConversationId {
    ConversationId::mint(Slot::new(2).unwrap(), &mut entropy())
}

fn agent() -> AgentId {
    AgentId::mint(Slot::new(2).unwrap(), &mut entropy())
}

/// What `write` appends, with the ids of this file shown as `$C`, `$A`, `$V`.
fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"kept".to_vec();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix("kept").expect("encoders append");
    let mut parsed = text.as_bytes().to_vec();
    simd_json::to_tape(&mut parsed).expect(text);
    assert!(!text.contains('\n'), "one envelope is one line: {text}");
    text.replace(c().text().as_str(), "$C")
        .replace(agent().text().as_str(), "$A")
        .replace(visitor().text().as_str(), "$V")
}

fn visitor() -> VisitorId {
    VisitorId::mint(Slot::new(2).unwrap(), &mut entropy())
}

fn view(what: EventWhat<'_>) -> EventView<'_> {
    EventView { c: c(), s: 12, vs: 7, ts: 1_760_000_000_000, what }
}

#[test]
fn each_event_reads_as_the_protocol_says() {
    let person = Author { kind: AuthorKind::Visitor, id: visitor().bits(), name: "" };
    let named = Author { kind: AuthorKind::Agent, id: agent().bits(), name: "Ada" };
    let message = view(EventWhat::Message { from: person, body: "say \"hi\"\n" });
    assert_eq!(
        text(|out| event(out, Audience::Agent, &message)),
        r#"{"op":"msg","c":"$C","s":12,"d":{"from":{"kind":"visitor","id":"$V"},"type":"text","body":"say \"hi\"\n","ts":1760000000000}}"#
    );
    assert_eq!(
        text(|out| event(out, Audience::Visitor, &message)),
        r#"{"op":"msg","c":"$C","s":7,"d":{"from":{"kind":"visitor","id":"$V"},"type":"text","body":"say \"hi\"\n","ts":1760000000000}}"#
    );
    assert_eq!(
        text(|out| event(out, Audience::Agent, &view(EventWhat::Note { from: named, body: "x" }))),
        r#"{"op":"note","c":"$C","s":12,"d":{"from":{"kind":"agent","id":"$A","name":"Ada"},"body":"x","ts":1760000000000}}"#
    );
    assert_eq!(
        text(|out| event(out, Audience::Visitor, &view(EventWhat::Joined { agent: agent(), name: "Ada" }))),
        r#"{"op":"agent","c":"$C","s":7,"d":{"joined":{"id":"$A","name":"Ada"},"ts":1760000000000}}"#
    );
    assert_eq!(
        text(|out| event(out, Audience::Agent, &view(EventWhat::Closed { by: named }))),
        r#"{"op":"status","c":"$C","s":12,"d":{"status":"closed","by":{"kind":"agent","id":"$A","name":"Ada"},"ts":1760000000000}}"#
    );
    let system = Author { kind: AuthorKind::System, id: 0, name: "" };
    assert_eq!(
        text(|out| event(out, Audience::Visitor, &view(EventWhat::Reopened { by: system }))),
        r#"{"op":"status","c":"$C","s":7,"d":{"status":"waiting","by":{"kind":"system","id":"00000000000000000000000000"},"ts":1760000000000}}"#
    );
}

#[test]
#[should_panic(expected = "a note is never told to a visitor")]
fn a_note_is_never_encoded_for_a_visitor() {
    let from = Author { kind: AuthorKind::Agent, id: agent().bits(), name: "" };
    event(&mut Vec::new(), Audience::Visitor, &view(EventWhat::Note { from, body: "secret" }));
}

#[test]
fn each_reply_reads_as_the_protocol_says() {
    let sid = SessionId::from_bits((5 << 116) | (7 << 112) | 1).unwrap();
    let heads = [
        Head { c: c(), s: 12, e: 1, status: Status::Open },
        Head { c: c(), s: 0, e: 0, status: Status::Waiting },
    ];
    let mut view = Ready {
        sid,
        me: visitor().bits(),
        name: "",
        token: Some("v1.1.x.y"),
        slot: 1234,
        epoch: 31,
        ts: 5,
        p: 41,
        resume_ttl_ms: 120_000,
        resumed: true,
        replay: 3,
        heads: &heads,
    };
    let sid = sid.text();
    assert_eq!(
        text(|out| ready(out, 1, &view)),
        format!(
            r#"{{"re":1,"d":{{"sid":"{sid}","me":"$V","name":"","token":"v1.1.x.y","slot":1234,"epoch":"0000000000000000000000000Z","ts":5,"p":41,"resume_ttl_ms":120000,"resumed":true,"replay":3,"heads":[{{"c":"$C","s":12,"e":1,"status":"open"}},{{"c":"$C","s":0,"e":0,"status":"waiting"}}]}}}}"#
        )
    );
    view.heads = &[];
    view.token = None;
    assert_eq!(
        text(|out| ready(out, 0, &view)),
        format!(
            r#"{{"re":0,"d":{{"sid":"{sid}","me":"$V","name":"","slot":1234,"epoch":"0000000000000000000000000Z","ts":5,"p":41,"resume_ttl_ms":120000,"resumed":true,"replay":3,"heads":[]}}}}"#
        )
    );
    let cases = [
        (
            text(|out| stored(out, 7, None, 9, 10, Level::Disk, false)),
            r#"{"re":7,"d":{"s":9,"ts":10,"level":"disk"}}"#,
        ),
        (
            text(|out| stored(out, u32::MAX, Some(c()), u32::MAX, u64::MAX, Level::Memory, true)),
            r#"{"re":4294967295,"d":{"c":"$C","s":4294967295,"ts":18446744073709551615,"level":"memory","dup":true}}"#,
        ),
        (text(|out| ok(out, 7)), r#"{"re":7,"d":{}}"#),
        (
            text(|out| error(out, 7, ErrorCode::RateLimited, "slow \"down\"", Some(800))),
            r#"{"re":7,"err":{"code":"rate_limited","msg":"slow \"down\"","retry":true,"after_ms":800}}"#,
        ),
        (
            text(|out| error(out, 7, ErrorCode::NotFound, "", None)),
            r#"{"re":7,"err":{"code":"not_found","msg":"no such conversation","retry":false}}"#,
        ),
        (text(|out| synced(out, 7, 512)), r#"{"re":7,"d":{"n":512}}"#),
        (text(|out| avail_reply(out, 7, Availability::Busy, 4)), r#"{"re":7,"d":{"state":"busy","cap":4}}"#),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn history_is_pushes_in_a_list() {
    let from = Author { kind: AuthorKind::System, id: 0, name: "" };
    let event_view = view(EventWhat::Message { from, body: "[" });
    let one = text(|out| event(out, Audience::Visitor, &event_view));
    for (count, more) in [(0, false), (1, true), (3, false)] {
        let found = text(|out| {
            history_begin(out, 7, c());
            for _ in 0..count {
                history_event(out, Audience::Visitor, &event_view);
            }
            history_end(out, more);
        });
        let events = vec![one.clone(); count].join(",");
        assert_eq!(found, format!(r#"{{"re":7,"d":{{"c":"$C","events":[{events}],"more":{more}}}}}"#));
    }
}

#[test]
fn each_state_push_reads_as_the_protocol_says() {
    let first = Hello {
        server: "ringdesk/0.1.0",
        epoch: 1,
        heartbeat_ms: 25_000,
        max_frame: 65_536,
        max_inflight: 256,
        level: Level::Disk,
    };
    let cases = [
        (
            text(|out| hello(out, &first)),
            r#"{"op":"hello","d":{"v":1,"server":"ringdesk/0.1.0","epoch":"00000000000000000000000001","hb_ms":25000,"max_frame":65536,"max_inflight":256,"level":"disk"}}"#,
        ),
        (
            text(|out| typing(out, c(), AuthorKind::Agent, agent().bits(), true)),
            r#"{"op":"typing","c":"$C","d":{"who":{"kind":"agent","id":"$A"},"on":true}}"#,
        ),
        (
            text(|out| seen(out, c(), Party::Visitor, 3)),
            r#"{"op":"seen","c":"$C","d":{"who":"visitor","s":3}}"#,
        ),
        (
            text(|out| delivered(out, c(), Party::Agent, 3)),
            r#"{"op":"delivered","c":"$C","d":{"who":"agent","s":3}}"#,
        ),
        (text(|out| presence(out, c(), true)), r#"{"op":"presence","c":"$C","d":{"visitor":"online"}}"#),
        (text(|out| presence(out, c(), false)), r#"{"op":"presence","c":"$C","d":{"visitor":"offline"}}"#),
        (text(|out| queue(out, c(), 1)), r#"{"op":"queue","c":"$C","d":{"pos":1}}"#),
        (
            text(|out| offer(out, c(), 8, 20_000, "Ada", "Hello")),
            r#"{"op":"offer","c":"$C","d":{"offer":8,"ttl_ms":20000,"name":"Ada","preview":"Hello"}}"#,
        ),
        (
            text(|out| offer(out, c(), 8, 20_000, "", "")),
            r#"{"op":"offer","c":"$C","d":{"offer":8,"ttl_ms":20000}}"#,
        ),
        (text(|out| offer_gone(out, c(), 8)), r#"{"op":"offer_gone","c":"$C","d":{"offer":8}}"#),
        (
            text(|out| avail_push(out, &AvailView { state: Availability::Away, cap: 4, load: 2 })),
            r#"{"op":"avail","d":{"state":"away","cap":4,"load":2}}"#,
        ),
        (text(|out| notice(out, "Closed at 6", 9)), r#"{"op":"notice","d":{"text":"Closed at 6","ts":9}}"#),
        (text(|out| lag(out, 300)), r#"{"op":"lag","d":{"p":300}}"#),
        (
            text(|out| history_lost(out, c(), 4, 9, LossReason::Damaged)),
            r#"{"op":"history_lost","c":"$C","d":{"from":4,"to":9,"reason":"damaged"}}"#,
        ),
        (text(|out| goaway(out, 1500)), r#"{"op":"goaway","d":{"after_ms":1500}}"#),
        (text(heartbeat), "{}"),
        (
            text(|out| sync_error(out, c(), ErrorCode::NotFound)),
            r#"{"op":"sync","c":"$C","err":{"code":"not_found","msg":"no such conversation","retry":false}}"#,
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_sync_push_shows_each_audience_its_own_numbers() {
    let view = SyncView {
        c: c(),
        from: Place { s: 10, vs: 5 },
        head: Place { s: 20, vs: 15 },
        e: 2,
        limited: true,
        status: Status::Open,
        owner: Some(agent()),
        visitor: VisitorView { id: visitor().bits(), name: "Bo", online: true },
        seen: Receipts { visitor: Place { s: 3, vs: 1 }, agent: Place { s: 4, vs: 2 } },
        delivered: Receipts { visitor: Place { s: 8, vs: 6 }, agent: Place { s: 9, vs: 7 } },
    };
    assert_eq!(
        text(|out| sync_push(out, Audience::Agent, &view)),
        r#"{"op":"sync","c":"$C","d":{"from":10,"head":20,"e":2,"limited":true,"status":"open","owner":"$A","visitor":{"id":"$V","name":"Bo","online":true},"seen":{"visitor":3,"agent":4},"delivered":{"visitor":8,"agent":9}}}"#
    );
    let bare = SyncView { owner: None, visitor: VisitorView { name: "", ..view.visitor }, ..view };
    assert_eq!(
        text(|out| sync_push(out, Audience::Visitor, &bare)),
        r#"{"op":"sync","c":"$C","d":{"from":5,"head":15,"e":2,"limited":true,"status":"open","visitor":{"id":"$V","online":true},"seen":{"visitor":1,"agent":2},"delivered":{"visitor":6,"agent":7}}}"#
    );
}

#[test]
fn a_list_has_its_rows_and_a_row_its_changes() {
    let row =
        Row { c: c(), status: Status::Waiting, owner: None, name: "Bo", preview: "", since: 5, pos: Some(1) };
    let taken = Row { status: Status::Open, owner: Some(agent()), name: "", preview: "Hi", pos: None, ..row };
    assert_eq!(
        text(|out| {
            list_begin(out, None, Scope::Queue);
            list_row(out, &row);
            list_row(out, &taken);
            list_end(out, 900, None);
        }),
        r#"{"op":"list","d":{"scope":"queue","convs":[{"c":"$C","status":"waiting","name":"Bo","since":5,"pos":1},{"c":"$C","status":"open","owner":"$A","preview":"Hi","since":5}],"total":900}}"#
    );
    assert_eq!(
        text(|out| {
            list_begin(out, None, Scope::Mine);
            list_end(out, 0, None);
        }),
        r#"{"op":"list","d":{"scope":"mine","convs":[],"total":0}}"#
    );
    let next = RowKey { ticket: 77, c: c() };
    let page = text(|out| {
        list_begin(out, Some(9), Scope::Queue);
        list_end(out, 900, Some(next));
    });
    assert_eq!(page, r#"{"re":9,"d":{"scope":"queue","convs":[],"total":900,"next":"77.$C"}}"#);
    // What it tells is what is read back.
    assert_eq!(RowKey::parse(&format!("77.{}", text_of(c().bits()).as_str())), Some(next));
    assert_eq!(
        text(|out| conv_row(out, &row)),
        r#"{"op":"conv","c":"$C","d":{"status":"waiting","name":"Bo","since":5}}"#
    );
}

#[test]
fn only_what_must_be_escaped_is() {
    let string = |raw: &str| text(|out| json::string(out, raw));
    assert_eq!(
        string("plain <b>&amp;</b> \u{2028}\u{2029}\u{7f} 你好 😀/"),
        "\"plain <b>&amp;</b> \u{2028}\u{2029}\u{7f} 你好 😀/\""
    );
    assert_eq!(string("\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}"), r#""\"\\\n\r\t\b\f\u0000\u001f""#);
    assert_eq!(string(""), "\"\"");
    // Wherever the dirty byte lies in a block of sixteen.
    for place in 0..40 {
        let raw = "x".repeat(place) + "\"" + &"y".repeat(40 - place);
        assert_eq!(string(&raw), format!("\"{}\\\"{}\"", "x".repeat(place), "y".repeat(40 - place)));
    }
}

#[test]
fn numbers_are_written_to_the_last_digit() {
    for value in [0, 9, 10, 99, 100, 4_294_967_295, 1_760_000_000_000, u64::MAX] {
        assert_eq!(text(|out| json::number(out, value)), value.to_string());
    }
}

#[test]
fn every_push_of_the_protocol_has_been_written_above() {
    let page = include_str!("../../../../docs/protocol.md");
    let section = page.split("## 5. Pushes").nth(1).unwrap().split("\n## ").next().unwrap();
    let mine = include_str!("tests.rs");
    let mut count = 0;
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let names = line.split(" | ").next().unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(mine.contains(&format!("{{\"op\":\"{name}\"")), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 20, "{section}");
}
