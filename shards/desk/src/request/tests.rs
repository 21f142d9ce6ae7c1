use super::*;
use crate::id::{Entropy, Slot};

const CID: &str = "0123456789abcdef";

fn conversation() -> ConversationId {
    ConversationId::mint(Slot::new(38).unwrap(), &mut Entropy::new([1; 32]))
}

fn session() -> SessionId {
    SessionId::mint(Slot::new(38).unwrap(), &mut Entropy::new([2; 32]))
}

/// Writes the ids and a cid where the text says `$C`, `$S` and `$I`.
fn filled(text: &str) -> String {
    text.replace("$C", conversation().text().as_str())
        .replace("$S", session().text().as_str())
        .replace("$I", CID)
}

/// Parses in place and from a copy, expects both to agree, and hands the result to `look`.
fn with<T>(text: &str, look: impl Fn(Result<Envelope<'_>, BadRequest>) -> T) -> T {
    let text = filled(text);
    let mut parser = Parser::new();
    let mut padded = text.clone().into_bytes();
    padded.resize(text.len() + PADDING, b'\n');
    let mut bare = text.clone().into_bytes();
    let shown = format!("{:?}", parser.parse(&mut bare, 0..text.len()));
    let found = parser.parse(&mut padded, 0..text.len());
    assert_eq!(format!("{found:?}"), shown, "with padding and without");
    look(found)
}

fn refused(text: &str) -> BadRequest {
    with(text, |found| found.expect_err(text))
}

#[test]
fn every_operation_is_read() {
    let c = conversation();
    let sid = session();
    let device = CID;
    let cid = CID;
    let cases: Vec<(&str, Op<'_>)> = vec![
        (r#"{"op":"auth","d":{"device":"$I"}}"#, Op::Auth(Auth { token: None, device, last: None })),
        (
            r#"{"op":"auth","d":{"token":"v1.x","device":"$I","last":{"sid":"$S","epoch":"0000000000000000000000001Z","p":41}}}"#,
            Op::Auth(Auth { token: Some("v1.x"), device, last: Some(Last { sid, epoch: 63, p: 41 }) }),
        ),
        (
            r#"{"op":"start","d":{"cid":"$I"}}"#,
            Op::Start(Start { cid, name: None, page: None, locale: None, first: None }),
        ),
        (
            r#"{"op":"start","d":{"cid":"$I","name":"Ada","page":"https://x/","locale":"zh-CN","first":{"cid":"fedcba9876543210","type":"text","body":"hi"}}}"#,
            Op::Start(Start {
                cid,
                name: Some("Ada"),
                page: Some("https://x/"),
                locale: Some("zh-CN"),
                first: Some(First { cid: "fedcba9876543210", body: "hi" }),
            }),
        ),
        (
            r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":"a\n\"\u4f60\ud83d\ude00"}}"#,
            Op::Send(Send { c, cid, body: "a\n\"你😀" }),
        ),
        (r#"{"op":"note","d":{"c":"$C","cid":"$I","body":"n"}}"#, Op::Note(Note { c, cid, body: "n" })),
        (r#"{"op":"accept","d":{"c":"$C","cid":"$I"}}"#, Op::Accept { c, cid, offer: None }),
        (r#"{"op":"accept","d":{"c":"$C","cid":"$I","offer":9}}"#, Op::Accept { c, cid, offer: Some(9) }),
        (
            r#"{"op":"decline","d":{"c":"$C","offer":18446744073709551615}}"#,
            Op::Decline { c, offer: u64::MAX },
        ),
        (r#"{"op":"close","d":{"c":"$C","cid":"$I"}}"#, Op::Close { c, cid }),
        (r#"{"op":"unsync","d":{"c":"$C"}}"#, Op::Unsync { c }),
        (r#"{"op":"history","d":{"c":"$C","before":7}}"#, Op::History { c, before: 7, limit: 50 }),
        (
            r#"{"op":"history","d":{"c":"$C","before":7,"limit":200}}"#,
            Op::History { c, before: 7, limit: 200 },
        ),
        (r#"{"op":"ack","d":{"p":3}}"#, Op::Ack(Ack::P(3))),
        (r#"{"op":"ack","d":{"c":"$C","s":4}}"#, Op::Ack(Ack::At { c, s: 4 })),
        (r#"{"op":"seen","d":{"c":"$C","s":4294967295}}"#, Op::Seen { c, s: u32::MAX }),
        (r#"{"op":"typing","d":{"c":"$C","on":false}}"#, Op::Typing { c, on: false }),
        (r#"{"op":"avail","d":{"state":"busy"}}"#, Op::Avail { state: Availability::Busy, cap: None }),
        (
            r#"{"op":"avail","d":{"state":"online","cap":0}}"#,
            Op::Avail { state: Availability::Online, cap: Some(0) },
        ),
        (
            r#"{"op":"avail","d":{"state":"away","cap":500}}"#,
            Op::Avail { state: Availability::Away, cap: Some(500) },
        ),
        (r#"{"op":"sub","d":{"scope":"queue"}}"#, Op::Sub { scope: Scope::Queue }),
        (r#"{"op":"unsub","d":{"scope":"mine"}}"#, Op::Unsub { scope: Scope::Mine }),
        (r#"{"op":"list","d":{"scope":"mine"}}"#, Op::List { scope: Scope::Mine, after: None }),
        (r#"{}"#, Op::Heartbeat),
        (" {\t} ", Op::Heartbeat),
    ];
    for (text, op) in cases {
        with(text, |found| assert_eq!(found, Ok(Envelope { id: None, op }), "{text}"));
    }
}

/// What clients write most, in their own form.
const PLAIN: &[&str] = &[
    r#"{"id":9,"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":"It has been raining here since the morning."}}"#,
    r#"{"id":4294967295,"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":"你好，😀"}}"#,
    r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":"x"}}"#,
    r#"{"op":"ack","d":{"p":0}}"#,
    r#"{"op":"ack","d":{"p":9999999999999999999}}"#,
    r#"{"id":0,"op":"ack","d":{"c":"$C","s":4294967295}}"#,
    r#"{"op":"seen","d":{"c":"$C","s":17}}"#,
    r#"{"op":"typing","d":{"c":"$C","on":true}}"#,
    r#"{"op":"typing","d":{"c":"$C","on":false}}"#,
];

/// The same text for both readers: a blank in front is enough for the general one.
fn agree(text: &[u8]) {
    let read = |text: &[u8]| {
        let mut bytes = text.to_vec();
        bytes.resize(text.len() + PADDING, b'\n');
        format!("{:?}", Parser::new().parse(&mut bytes, 0..text.len()))
    };
    let general = [b" ", text].concat();
    assert!(plain::Plain::of(&general).is_none());
    assert_eq!(read(text), read(&general), "{}", String::from_utf8_lossy(text));
}

#[test]
fn what_clients_write_most_needs_no_general_parser() {
    for text in PLAIN {
        let text = filled(text);
        assert!(plain::Plain::of(text.as_bytes()).is_some(), "{text}");
        agree(text.as_bytes());
        for end in 0..text.len() {
            assert!(plain::Plain::of(&text.as_bytes()[..end]).is_none(), "a beginning is not the whole");
        }
    }
    for other in [
        r#"{"id":07,"op":"ack","d":{"p":1}}"#,
        r#"{"id":4294967296,"op":"ack","d":{"p":1}}"#,
        r#"{"op":"ack","d":{"p":18446744073709551616}}"#,
        r#"{"op":"ack","d":{"p":00}}"#,
        r#"{"op":"ack","d":{"p":-1}}"#,
        r#"{"op":"ack","d":{"p":1.0}}"#,
        r#"{"op":"ack","d":{"p":}}"#,
        r#"{"op":"ack","d":{"p":1},"id":3}"#,
        r#"{"op":"ack","d":{"p":1,"c":"$C","s":2}}"#,
        r#"{"op":"seen","d":{"c":"$S","s":17}}"#,
        r#"{"op":"seen","d":{"c":"$C","s":4294967296}}"#,
        r#"{"op":"typing","d":{"c":"$C","on":null}}"#,
        r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":""}}"#,
        r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":"a\nb"}}"#,
        r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":"a"b"}}"#,
        r#"{"op":"send","d":{"c":"$C","cid":"short","type":"text","body":"a"}}"#,
        r#"{"op":"send","d":{"c":"$C","cid":"éééééééééééééééé","type":"text","body":"a"}}"#,
        r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"html","body":"a"}}"#,
    ] {
        let text = filled(other);
        assert!(plain::Plain::of(text.as_bytes()).is_none(), "{text}");
        agree(text.as_bytes());
    }
}

#[test]
fn both_readers_agree_on_every_text_that_differs_by_one_byte() {
    for text in PLAIN {
        let text = filled(text).into_bytes();
        for place in 0..text.len() {
            // Every byte that means something to JSON, to UTF-8 or to an id, and some that mean nothing.
            for byte in *b"\"\\{}[]:, 019-.eEtnIilLoOuU\0\n\x1F\x7F\x80\xBF\xC0\xE4\xF0\xFF" {
                let mut changed = text.clone();
                changed[place] = byte;
                agree(&changed);
                changed = text.clone();
                changed.insert(place, byte);
                agree(&changed);
            }
            let mut shorter = text.clone();
            shorter.remove(place);
            agree(&shorter);
        }
    }
}

#[test]
fn a_sync_carries_its_cursors_in_order() {
    let text =
        r#"{"id":1,"op":"sync","d":{"limit":500,"cursors":[{"c":"$C","s":12,"e":1},{"c":"$C","s":0}]}}"#;
    with(text, |found| {
        let Ok(Envelope { id: Some(1), op: Op::Sync(sync) }) = found else { panic!("{found:?}") };
        let c = conversation();
        assert_eq!(sync.limit, 500);
        assert_eq!(sync.cursors().len(), 2);
        assert!(sync.cursors().eq([Cursor { c, s: 12, e: Some(1) }, Cursor { c, s: 0, e: None }]));
    });
    with(r#"{"op":"sync","d":{"cursors":[]}}"#, |found| {
        let Ok(Envelope { op: Op::Sync(sync), .. }) = found else { panic!("{found:?}") };
        assert_eq!((sync.limit, sync.cursors().len()), (100, 0));
    });
}

#[test]
fn every_bound_is_checked_and_named() {
    let long = |count: usize| "x".repeat(count);
    let cases: Vec<(String, &str)> = [
        (r#"{"op":"auth"}"#, "d must be an object"),
        (r#"{"op":"auth","d":[]}"#, "d must be an object"),
        (r#"{"op":"auth","d":{}}"#, "d.device must be a string of 16 to 64 characters"),
        (r#"{"op":"auth","d":{"device":"short"}}"#, "d.device must be a string of 16 to 64 characters"),
        (r#"{"op":"auth","d":{"device":"$I","token":7}}"#, "d.token must be a string"),
        (r#"{"op":"auth","d":{"device":"$I","last":"x"}}"#, "d.last must be an object"),
        (
            r#"{"op":"auth","d":{"device":"$I","last":{"sid":"$C","epoch":"$S","p":1}}}"#,
            "d.last.sid must be the id of a session",
        ),
        (
            r#"{"op":"auth","d":{"device":"$I","last":{"sid":"$S","epoch":"old","p":1}}}"#,
            "d.last.epoch must be 26 characters of base32",
        ),
        (
            r#"{"op":"auth","d":{"device":"$I","last":{"sid":"$S","epoch":"$S","p":-1}}}"#,
            "d.last.p must be a whole number",
        ),
        (r#"{"op":"start","d":{}}"#, "d.cid must be a string of 16 to 64 characters"),
        (
            r#"{"op":"start","d":{"cid":"$I","first":{"cid":"fedcba9876543210","body":"x"}}}"#,
            "d.first.type must be \"text\"",
        ),
        (
            r#"{"op":"start","d":{"cid":"$I","first":{"cid":"fedcba9876543210","type":"md","body":"x"}}}"#,
            "d.first.type must be \"text\"",
        ),
        (
            r#"{"op":"start","d":{"cid":"$I","first":{"cid":"1","type":"text","body":"x"}}}"#,
            "d.first.cid must be a string of 16 to 64 characters",
        ),
        (
            r#"{"op":"start","d":{"cid":"$I","first":{"cid":"fedcba9876543210","type":"text","body":""}}}"#,
            "d.first.body must be a string of 1 to 10000 characters",
        ),
        (r#"{"op":"start","d":{"cid":"$I","first":true}}"#, "d.first must be an object"),
        (
            r#"{"op":"start","d":{"cid":"$I","first":{"cid":"$I","type":"text","body":"x"}}}"#,
            "d.first.cid must be another one than d.cid",
        ),
        (
            r#"{"op":"send","d":{"c":"$S","cid":"$I","type":"text","body":"x"}}"#,
            "d.c must be the id of a conversation",
        ),
        (
            r#"{"op":"send","d":{"cid":"$I","type":"text","body":"x"}}"#,
            "d.c must be the id of a conversation",
        ),
        (
            r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text"}}"#,
            "d.body must be a string of 1 to 10000 characters",
        ),
        (
            r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":null}}"#,
            "d.body must be a string of 1 to 10000 characters",
        ),
        (
            r#"{"op":"send","d":{"c":"$C","cid":"$I","type":"text","body":["x"]}}"#,
            "d.body must be a string of 1 to 10000 characters",
        ),
        (
            r#"{"op":"note","d":{"c":"$C","cid":"$I","body":""}}"#,
            "d.body must be a string of 1 to 10000 characters",
        ),
        (r#"{"op":"accept","d":{"c":"$C","cid":"$I","offer":"9"}}"#, "d.offer must be a whole number"),
        (r#"{"op":"accept","d":{"c":"$C","cid":"$I","offer":9.5}}"#, "d.offer must be a whole number"),
        (r#"{"op":"decline","d":{"c":"$C"}}"#, "d.offer must be a whole number"),
        (r#"{"op":"close","d":{"c":"$C"}}"#, "d.cid must be a string of 16 to 64 characters"),
        (r#"{"op":"sync","d":{}}"#, "d.cursors must be an array of at most 512"),
        (r#"{"op":"sync","d":{"cursors":{}}}"#, "d.cursors must be an array of at most 512"),
        (r#"{"op":"sync","d":{"cursors":[7]}}"#, "d.cursors must hold objects of c, s and e"),
        (r#"{"op":"sync","d":{"cursors":[{"s":1}]}}"#, "d.cursors.c must be the id of a conversation"),
        (
            r#"{"op":"sync","d":{"cursors":[{"c":"$C"}]}}"#,
            "d.cursors.s must be a number from 0 to 4294967295",
        ),
        (
            r#"{"op":"sync","d":{"cursors":[{"c":"$C","s":1,"e":-1}]}}"#,
            "d.cursors.e must be a number from 0 to 4294967295",
        ),
        (r#"{"op":"sync","d":{"cursors":[],"limit":0}}"#, "d.limit must be a number from 1 to 500"),
        (r#"{"op":"sync","d":{"cursors":[],"limit":501}}"#, "d.limit must be a number from 1 to 500"),
        (r#"{"op":"unsync","d":{}}"#, "d.c must be the id of a conversation"),
        (r#"{"op":"history","d":{"c":"$C"}}"#, "d.before must be a number from 0 to 4294967295"),
        (
            r#"{"op":"history","d":{"c":"$C","before":4294967296}}"#,
            "d.before must be a number from 0 to 4294967295",
        ),
        (
            r#"{"op":"history","d":{"c":"$C","before":1,"limit":201}}"#,
            "d.limit must be a number from 1 to 200",
        ),
        (r#"{"op":"history","d":{"c":"$C","before":1,"limit":0}}"#, "d.limit must be a number from 1 to 200"),
        (r#"{"op":"ack","d":{"p":"3"}}"#, "d.p must be a whole number"),
        (r#"{"op":"ack","d":{"c":"$C"}}"#, "d.s must be a number from 0 to 4294967295"),
        (r#"{"op":"ack","d":{}}"#, "d.c must be the id of a conversation"),
        (r#"{"op":"seen","d":{"c":"$C","s":true}}"#, "d.s must be a number from 0 to 4294967295"),
        (r#"{"op":"typing","d":{"c":"$C","on":1}}"#, "d.on must be true or false"),
        (r#"{"op":"avail","d":{"state":"here"}}"#, "d.state must be online, busy or away"),
        (r#"{"op":"avail","d":{"state":"busy","cap":501}}"#, "d.cap must be a number from 0 to 500"),
        (r#"{"op":"sub","d":{"scope":"all"}}"#, "d.scope must be queue or mine"),
        (r#"{"op":"unsub","d":{}}"#, "d.scope must be queue or mine"),
        (r#"{"op":"list","d":{"after":null}}"#, "d.scope must be queue or mine"),
        (r#"{"op":"list","d":{"scope":"mine","after":7}}"#, "d.after must be the next of a list"),
        (r#"{"op":"list","d":{"scope":"mine","after":"7"}}"#, "d.after must be the next of a list"),
        (r#"{"op":"list","d":{"scope":"mine","after":"-1.01J"}}"#, "d.after must be the next of a list"),
        (r#"{"op":"Send","d":{}}"#, "op is unknown"),
        (r#"{"op":"","d":{}}"#, "op is unknown"),
    ]
    .into_iter()
    .map(|(text, what)| (text.to_owned(), what))
    .chain([
        (
            format!(r#"{{"op":"auth","d":{{"device":"{}"}}}}"#, long(65)),
            "d.device must be a string of 16 to 64 characters",
        ),
        (
            format!(r#"{{"op":"start","d":{{"cid":"$I","name":"{}"}}}}"#, long(81)),
            "d.name must be a string of at most 80 characters",
        ),
        (
            format!(r#"{{"op":"start","d":{{"cid":"$I","page":"{}"}}}}"#, long(513)),
            "d.page must be a string of at most 512 characters",
        ),
        (
            format!(r#"{{"op":"start","d":{{"cid":"$I","locale":"{}"}}}}"#, long(17)),
            "d.locale must be a string of at most 16 characters",
        ),
    ])
    .collect();
    for (text, what) in cases {
        let expected = BadRequest { id: None, code: ErrorCode::BadRequest, what, not_json: false };
        assert_eq!(refused(&text), expected, "{text}");
        // The same with a number is answered to that number, wherever it stands.
        let numbered = text.replacen('{', "{\"id\":4294967295,", 1);
        assert_eq!(refused(&numbered), BadRequest { id: Some(u32::MAX), ..expected });
        let last = format!("{},\"id\":0}}", &text[..text.len() - 1]);
        assert_eq!(refused(&last), BadRequest { id: Some(0), ..expected });
    }
}

#[test]
fn a_text_may_have_ten_thousand_characters_of_any_size_and_not_one_more() {
    for letter in ["x", "好", "😀", "\\u0001"] {
        for (field, rest) in [("send", r#","type":"text""#), ("note", "")] {
            let text = |count: usize| {
                format!(
                    r#"{{"id":3,"op":"{field}","d":{{"c":"$C","cid":"$I"{rest},"body":"{}"}}}}"#,
                    letter.repeat(count)
                )
            };
            with(&text(10_000), |found| assert!(found.is_ok(), "{letter} {found:?}"));
            let found = refused(&text(10_001));
            assert_eq!((found.id, found.code, found.not_json), (Some(3), ErrorCode::TooLarge, false));
        }
    }
}

#[test]
fn names_and_client_ids_are_counted_in_characters_not_bytes() {
    let name = "名".repeat(80);
    let cid = "é".repeat(64);
    with(&format!(r#"{{"op":"start","d":{{"cid":"{cid}","name":"{name}"}}}}"#), |found| {
        let Ok(Envelope { op: Op::Start(start), .. }) = found else { panic!("{found:?}") };
        assert_eq!((start.cid, start.name), (cid.as_str(), Some(name.as_str())));
    });
}

#[test]
fn what_is_not_a_ringdesk_client_is_told_apart_from_a_buggy_one() {
    for (text, id) in [
        ("hello", None),
        ("", None),
        ("   ", None),
        ("7", None),
        ("null", None),
        ("[]", None),
        ("\"op\"", None),
        ("{\"op\":\"ack\"", None),
        ("{\"op\":\"ack\"} {\"op\":\"ack\"}", None),
        ("{\"op\":\"ack\",}", None),
        ("{'op':'ack'}", None),
        ("{\"op\":7}", None),
        ("{\"id\":5}", Some(5)),
        ("{\"x\":1}", None),
        ("{\"op\":null}", None),
        ("{\"id\":7,\"op\":\"send\",", Some(7)),
        (" { \"id\" : 70 , nonsense", Some(70)),
        ("{\"id\":4294967296,\"op\":", None),
        ("{\"id\":07,\"op\":", None),
        ("{\"id\":7", None),
        ("{\"id\":7x,", None),
        ("{\"op\":\"send\",\"id\":7,", None),
        ("{\"op\":\"ack\",\"d\":{\"p\":99999999999999999999}}", None),
        ("{\"op\":\"ack\",\"d\":{\"p\":01}}", None),
        ("{\"op\":\"a\u{0}b\"}", None),
    ] {
        let found = refused(text);
        assert!(found.not_json, "{text}");
        assert_eq!((found.id, found.code), (id, ErrorCode::BadRequest), "{text}");
    }
    for text in [
        "{\"id\":-1,\"op\":\"ack\"}",
        "{\"id\":\"7\",\"op\":\"ack\"}",
        "{\"id\":1.0,\"op\":\"ack\"}",
        "{\"id\":4294967296,\"op\":\"ack\"}",
    ] {
        let found = refused(text);
        let expected = "id must be a number from 0 to 4294967295";
        assert_eq!((found.id, found.what, found.not_json), (None, expected, false), "{text}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_a_bug_and_not_an_attack() {
    for half in ["\\ud83d", "\\ude00", "\\ud83dx", "\\ud83d\\ud83d"] {
        let found = refused(&format!(
            r#"{{"id":9,"op":"send","d":{{"c":"$C","cid":"$I","type":"text","body":"{half}"}}}}"#
        ));
        assert_eq!((found.id, found.not_json), (Some(9), false), "{half}: {}", found.what);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let mut bytes = b"{\"op\":\"ack\",\"d\":{\"x\":\"\xC0\xAF\",\"p\":1}}".to_vec();
    let range = 0..bytes.len();
    assert!(Parser::new().parse(&mut bytes, range).is_err_and(|bad| bad.not_json));
}

#[test]
fn unknown_fields_are_ignored_and_null_is_absent() {
    let text = r#"{"v":2,"id":null,"trace":{"a":[1,{"b":[]}]},"op":"auth","d":{"token":null,"device":"$I","last":null,"c":{"op":1}}}"#;
    with(text, |found| {
        let op = Op::Auth(Auth { token: None, device: CID, last: None });
        assert_eq!(found, Ok(Envelope { id: None, op }));
    });
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts() {
    with(r#"{"op":"sub","id":1,"d":7,"d":{"p":1,"p":2},"id":2,"op":"ack","\u006fp":"ack"}"#, |found| {
        assert_eq!(found, Ok(Envelope { id: Some(2), op: Op::Ack(Ack::P(2)) }));
    });
}

#[test]
fn nesting_is_refused_above_its_cap_and_harmless_below() {
    let nested = |depth: usize| {
        format!(r#"{{"id":4,"x":{}{},"op":"ack","d":{{"p":1}}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    with(&nested(MAX_DEPTH - 1), |found| assert!(found.is_ok(), "{found:?}"));
    let found = refused(&nested(MAX_DEPTH));
    assert_eq!((found.id, found.what), (Some(4), "the envelope must be nested at most 16 deep"));
    for hostile in ["[".repeat(65_536), "{\"a\":".repeat(13_000), nested(32_000)] {
        assert!(refused(&hostile).not_json);
    }
}

#[test]
fn a_frame_full_of_elements_or_keys_is_read_or_refused_in_one_pass() {
    let many = |piece: &str| piece.repeat(64_000 / piece.len());
    with(&format!(r#"{{"op":"ack","x":[{}1],"d":{{"p":1}}}}"#, many("1,")), |found| {
        assert_eq!(found.map(|envelope| envelope.op), Ok(Op::Ack(Ack::P(1))));
    });
    with(&format!(r#"{{"op":"ack","d":{{{}"p":1}}}}"#, many("\"p\":[],")), |found| {
        assert_eq!(found.map(|envelope| envelope.op), Ok(Op::Ack(Ack::P(1))));
    });
    let cursors = |count: usize| vec![filled(r#"{"c":"$C","s":4294967295,"e":4294967295}"#); count].join(",");
    with(&format!(r#"{{"op":"sync","d":{{"cursors":[{}]}}}}"#, cursors(512)), |found| {
        let Ok(Envelope { op: Op::Sync(sync), .. }) = found else { panic!("{found:?}") };
        assert_eq!(sync.cursors().len(), 512);
    });
    let found = refused(&format!(r#"{{"op":"sync","d":{{"cursors":[{}]}}}}"#, cursors(513)));
    assert_eq!(found.what, "d.cursors must be an array of at most 512");
}

#[test]
fn several_envelopes_in_one_frame_are_read_one_after_the_other() {
    let text = filled(
        "\n{\"id\":1,\"op\":\"auth\",\"d\":{\"device\":\"$I\"}}\n\n{\"id\":2,\"op\":\"start\",\"d\":{\"cid\":\"$I\",\"name\":\"\\u0041\\n\"}}\n{}\nnonsense\n{\"op\":\"ack\",\"d\":{\"p\":7}}",
    );
    let pieces: Vec<_> = split_envelopes(text.as_bytes()).collect();
    assert_eq!(pieces.len(), 5);
    let mut buffer = text.into_bytes();
    let mut parser = Parser::new();
    let mut found = Vec::new();
    for piece in pieces {
        let after = buffer[piece.end..].to_vec();
        let end = piece.end;
        found.push(match parser.parse(&mut buffer, piece) {
            Ok(Envelope { op: Op::Auth(_), id }) => format!("auth {id:?}"),
            Ok(Envelope { op: Op::Start(start), .. }) => format!("start {:?}", start.name),
            Ok(other) => format!("{:?}", other.op),
            Err(bad) => format!("not json: {}", bad.not_json),
        });
        assert_eq!(buffer[end..], after, "what follows an envelope is left as it was");
    }
    assert_eq!(found, ["auth Some(1)", "start Some(\"A\\n\")", "Heartbeat", "not json: true", "Ack(P(7))"]);
}

#[test]
fn a_frame_without_envelopes_has_none() {
    assert_eq!(split_envelopes(b"").count(), 0);
    assert_eq!(split_envelopes(b"\n\n\n").count(), 0);
    assert!(split_envelopes(b"a\n\nbb").eq([0..1, 3..5]));
    assert_eq!(split_envelopes(b"\na\n").last(), Some(1..2));
}

#[test]
fn hashes_tell_contents_apart_and_stay_the_same_for_ever() {
    assert_ne!(body_hash(&["ab", "c"]), body_hash(&["a", "bc"]));
    assert_ne!(body_hash(&["ab"]), body_hash(&["ab", ""]));
    assert_ne!(body_hash(&["a", "b"]), body_hash(&["b", "a"]));
    assert_ne!(fingerprint(CID), fingerprint("another"));
    // They are in records: another value would make every retry after an upgrade a new message.
    assert_eq!(fingerprint("0123456789abcdef"), 272_130_885_091_184_168_683_615_200_979_841_865_976);
    assert_eq!(body_hash(&["text", "hello"]), 16_712_767_178_492_678_224);
}

#[test]
fn the_codes_are_the_words_of_the_protocol() {
    let page = include_str!("../../../../docs/protocol.md");
    let section = page.split("## 8. Errors").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<(&str, bool)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(code, rest)| (code, rest.starts_with("yes")))
        .collect();
    let ours: Vec<(&str, bool)> = ErrorCode::ALL.iter().map(|code| (code.text(), code.retry())).collect();
    assert_eq!(ours, rows);
}
