//! Properties of the client protocol: what a client writes is read as he meant it, what we write is JSON that says what we meant, and no bytes
//! whatever make the parser panic.

use proptest::prelude::*;
use ringdesk_desk::encode::{self, Audience, Author, AuthorKind, EventView, EventWhat, Status};
use ringdesk_desk::id::{ConversationId, Entropy, SessionId, Slot};
use ringdesk_desk::request::{
    self, Ack, Availability, Cursor, Op, PADDING, Parser, RowKey, Scope, split_envelopes,
};
use simd_json::prelude::*;
use std::fmt::Write as _;

/// A request as a client means it, owned.
#[derive(Clone, Debug)]
enum Meant {
    Auth {
        token: Option<String>,
        device: String,
        last: Option<(SessionId, u128, u64)>,
    },
    Start {
        cid: String,
        name: Option<String>,
        page: Option<String>,
        locale: Option<String>,
        first: Option<(String, String)>,
    },
    Send {
        c: ConversationId,
        cid: String,
        body: String,
    },
    Note {
        c: ConversationId,
        cid: String,
        body: String,
    },
    Accept {
        c: ConversationId,
        cid: String,
        offer: Option<u64>,
    },
    Decline {
        c: ConversationId,
        offer: u64,
    },
    Close {
        c: ConversationId,
        cid: String,
    },
    Sync {
        cursors: Vec<Cursor>,
        limit: Option<u16>,
    },
    Unsync {
        c: ConversationId,
    },
    History {
        c: ConversationId,
        before: u32,
        limit: Option<u16>,
    },
    Ack(Ack),
    Seen {
        c: ConversationId,
        s: u32,
    },
    Typing {
        c: ConversationId,
        on: bool,
    },
    Avail {
        state: Availability,
        cap: Option<u16>,
    },
    Sub {
        scope: Scope,
    },
    Unsub {
        scope: Scope,
    },
    List {
        scope: Scope,
        after: Option<RowKey>,
    },
}

fn conversation() -> impl Strategy<Value = ConversationId> + Clone {
    (0u16..4096, any::<[u8; 32]>())
        .prop_map(|(slot, seed)| ConversationId::mint(Slot::new(slot).unwrap(), &mut Entropy::new(seed)))
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 32]>().prop_map(|seed| SessionId::mint(Slot::new(1).unwrap(), &mut Entropy::new(seed)))
}

fn chars(low: usize, high: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), low..=high).prop_map(|chars| chars.into_iter().collect())
}

fn cid() -> impl Strategy<Value = String> {
    chars(16, 64)
}

fn body() -> impl Strategy<Value = String> {
    prop_oneof![9 => chars(1, 200), 1 => Just("好".repeat(10_000))]
}

fn cursors() -> impl Strategy<Value = Vec<Cursor>> {
    let cursor =
        (conversation(), any::<u32>(), any::<Option<u32>>()).prop_map(|(c, s, e)| Cursor { c, s, e });
    prop_oneof![9 => proptest::collection::vec(cursor.clone(), 0..5), 1 => proptest::collection::vec(cursor, 512)]
}

fn meant() -> impl Strategy<Value = Meant> {
    use proptest::option::of;
    let c = conversation;
    let state = prop_oneof![Just(Availability::Online), Just(Availability::Busy), Just(Availability::Away)];
    let scope = prop_oneof![Just(Scope::Queue), Just(Scope::Mine)];
    let ack =
        prop_oneof![any::<u64>().prop_map(Ack::P), (c(), any::<u32>()).prop_map(|(c, s)| Ack::At { c, s })];
    prop_oneof![
        (of(chars(0, 200)), cid(), of((session(), any::<u128>().prop_map(|bits| bits >> 1), any::<u64>())))
            .prop_map(|(token, device, last)| Meant::Auth { token, device, last }),
        (cid(), of(chars(0, 80)), of(chars(0, 512)), of(chars(0, 16)), of((cid(), body())))
            .prop_map(|(cid, name, page, locale, first)| Meant::Start { cid, name, page, locale, first }),
        (c(), cid(), body()).prop_map(|(c, cid, body)| Meant::Send { c, cid, body }),
        (c(), cid(), body()).prop_map(|(c, cid, body)| Meant::Note { c, cid, body }),
        (c(), cid(), any::<Option<u64>>()).prop_map(|(c, cid, offer)| Meant::Accept { c, cid, offer }),
        (c(), any::<u64>()).prop_map(|(c, offer)| Meant::Decline { c, offer }),
        (c(), cid()).prop_map(|(c, cid)| Meant::Close { c, cid }),
        (cursors(), of(1u16..=500)).prop_map(|(cursors, limit)| Meant::Sync { cursors, limit }),
        c().prop_map(|c| Meant::Unsync { c }),
        (c(), any::<u32>(), of(1u16..=200)).prop_map(|(c, before, limit)| Meant::History {
            c,
            before,
            limit
        }),
        ack.prop_map(Meant::Ack),
        (c(), any::<u32>()).prop_map(|(c, s)| Meant::Seen { c, s }),
        (c(), any::<bool>()).prop_map(|(c, on)| Meant::Typing { c, on }),
        (state, of(0u16..=500)).prop_map(|(state, cap)| Meant::Avail { state, cap }),
        scope.clone().prop_map(|scope| Meant::Sub { scope }),
        scope.clone().prop_map(|scope| Meant::Unsub { scope }),
        (scope, of((any::<u64>(), c()))).prop_map(|(scope, after)| Meant::List {
            scope,
            after: after.map(|(ticket, c)| RowKey { ticket, c })
        }),
    ]
}

/// A client's JSON writer, independent of ours: it escapes what it must, and of the rest every letter that `style` says.
struct Writer {
    style: u64,
    fields: Vec<String>,
}

impl Writer {
    fn string(&mut self, text: &str) -> String {
        let mut out = String::from("\"");
        for letter in text.chars() {
            self.style = self.style.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                _ if letter < ' ' || self.style >> 62 == 0 => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04X}").unwrap();
                    }
                }
                _ => out.push(letter),
            }
        }
        out.push('"');
        out
    }
    fn raw(&mut self, key: &str, value: impl ToString) -> &mut Writer {
        self.fields.push(format!("\"{key}\":{}", value.to_string()));
        self
    }
    fn text(&mut self, key: &str, value: &str) -> &mut Writer {
        let value = self.string(value);
        self.raw(key, value)
    }
    fn maybe<T>(
        &mut self,
        key: &str,
        value: &Option<T>,
        write: impl FnOnce(&mut Writer, &T) -> String,
    ) -> &mut Writer {
        match value {
            Some(value) => {
                let value = write(self, value);
                self.raw(key, value)
            }
            None if self.style.is_multiple_of(3) => self.raw(key, "null"),
            None => self,
        }
    }
    fn object(&mut self) -> String {
        if !self.style.is_multiple_of(4) {
            let turn = self.style as usize % self.fields.len().max(1);
            self.fields.rotate_left(turn);
        }
        let between = if self.style.is_multiple_of(5) { " ,\t" } else { "," };
        format!("{{{}}}", core::mem::take(&mut self.fields).join(between))
    }
    fn nested(&self) -> Writer {
        Writer { style: self.style, fields: Vec::new() }
    }
}

fn number<T: ToString>(_: &mut Writer, value: &T) -> String {
    value.to_string()
}

fn written(meant: &Meant, id: Option<u32>, style: u64) -> String {
    let mut d = Writer { style, fields: Vec::new() };
    let id_text = |c: &ConversationId| format!("\"{c}\"");
    let op = match meant {
        Meant::Auth { token, device, last } => {
            d.maybe("token", token, |d, token| d.string(token)).text("device", device);
            d.maybe("last", last, |d, (sid, epoch, p)| {
                let epoch = ringdesk_desk::id::text_of(*epoch);
                d.nested().text("sid", sid.text().as_str()).text("epoch", epoch.as_str()).raw("p", p).object()
            });
            "auth"
        }
        Meant::Start { cid, name, page, locale, first } => {
            d.text("cid", cid).maybe("name", name, |d, text| d.string(text));
            d.maybe("page", page, |d, text| d.string(text)).maybe("locale", locale, |d, text| d.string(text));
            d.maybe("first", first, |d, (cid, body)| {
                d.nested().text("cid", cid).text("type", "text").text("body", body).object()
            });
            "start"
        }
        Meant::Send { c, cid, body } => {
            d.raw("c", id_text(c)).text("cid", cid).text("type", "text").text("body", body);
            "send"
        }
        Meant::Note { c, cid, body } => {
            d.raw("c", id_text(c)).text("cid", cid).text("body", body);
            "note"
        }
        Meant::Accept { c, cid, offer } => {
            d.raw("c", id_text(c)).text("cid", cid).maybe("offer", offer, number);
            "accept"
        }
        Meant::Decline { c, offer } => {
            d.raw("c", id_text(c)).raw("offer", offer);
            "decline"
        }
        Meant::Close { c, cid } => {
            d.raw("c", id_text(c)).text("cid", cid);
            "close"
        }
        Meant::Sync { cursors, limit } => {
            let cursors: Vec<String> = cursors
                .iter()
                .map(|Cursor { c, s, e }| {
                    d.nested().raw("c", id_text(c)).raw("s", s).maybe("e", e, number).object()
                })
                .collect();
            d.raw("cursors", format!("[{}]", cursors.join(","))).maybe("limit", limit, number);
            "sync"
        }
        Meant::Unsync { c } => {
            d.raw("c", id_text(c));
            "unsync"
        }
        Meant::History { c, before, limit } => {
            d.raw("c", id_text(c)).raw("before", before).maybe("limit", limit, number);
            "history"
        }
        Meant::Ack(Ack::P(p)) => {
            d.raw("p", p);
            "ack"
        }
        Meant::Ack(Ack::At { c, s }) => {
            d.raw("c", id_text(c)).raw("s", s);
            "ack"
        }
        Meant::Seen { c, s } => {
            d.raw("c", id_text(c)).raw("s", s);
            "seen"
        }
        Meant::Typing { c, on } => {
            d.raw("c", id_text(c)).raw("on", on);
            "typing"
        }
        Meant::Avail { state, cap } => {
            d.text("state", state.text()).maybe("cap", cap, number);
            "avail"
        }
        Meant::Sub { scope } => {
            d.text("scope", scope.text());
            "sub"
        }
        Meant::Unsub { scope } => {
            d.text("scope", scope.text());
            "unsub"
        }
        Meant::List { scope, after } => {
            d.text("scope", scope.text());
            d.maybe("after", after, |d, key| d.string(&format!("{}.{}", key.ticket, key.c)));
            "list"
        }
    };
    let mut envelope = d.nested();
    envelope.maybe("id", &id, number).raw("op", format!("\"{op}\"")).raw("d", d.object()).object()
}

fn agrees(op: &Op<'_>, meant: &Meant) -> bool {
    match (op, meant) {
        (Op::Auth(found), Meant::Auth { token, device, last }) => {
            found.token == token.as_deref()
                && found.device == device
                && found.last.map(|last| (last.sid, last.epoch, last.p)) == *last
        }
        (Op::Start(found), Meant::Start { cid, name, page, locale, first }) => {
            found.cid == cid
                && found.name == name.as_deref()
                && found.page == page.as_deref()
                && found.locale == locale.as_deref()
                && found.first.map(|first| (first.cid, first.body))
                    == first.as_ref().map(|(cid, body)| (cid.as_str(), body.as_str()))
        }
        (Op::Send(found), Meant::Send { c, cid, body }) => {
            (found.c, found.cid, found.body) == (*c, cid, body)
        }
        (Op::Note(found), Meant::Note { c, cid, body }) => {
            (found.c, found.cid, found.body) == (*c, cid, body)
        }
        (Op::Accept { c, cid, offer }, Meant::Accept { c: c2, cid: cid2, offer: offer2 }) => {
            (c, *cid, offer) == (c2, cid2.as_str(), offer2)
        }
        (Op::Decline { c, offer }, Meant::Decline { c: c2, offer: offer2 }) => (c, offer) == (c2, offer2),
        (Op::Close { c, cid }, Meant::Close { c: c2, cid: cid2 }) => (c, *cid) == (c2, cid2.as_str()),
        (Op::Sync(found), Meant::Sync { cursors, limit }) => {
            found.limit == limit.unwrap_or(100) && found.cursors().eq(cursors.iter().copied())
        }
        (Op::Unsync { c }, Meant::Unsync { c: c2 }) => c == c2,
        (Op::History { c, before, limit }, Meant::History { c: c2, before: before2, limit: limit2 }) => {
            (c, before, *limit) == (c2, before2, limit2.unwrap_or(50))
        }
        (Op::Ack(ack), Meant::Ack(ack2)) => ack == ack2,
        (Op::Seen { c, s }, Meant::Seen { c: c2, s: s2 }) => (c, s) == (c2, s2),
        (Op::Typing { c, on }, Meant::Typing { c: c2, on: on2 }) => (c, on) == (c2, on2),
        (Op::Avail { state, cap }, Meant::Avail { state: state2, cap: cap2 }) => {
            (state, cap) == (state2, cap2)
        }
        (Op::Sub { scope }, Meant::Sub { scope: scope2 }) => scope == scope2,
        (Op::Unsub { scope }, Meant::Unsub { scope: scope2 }) => scope == scope2,
        (Op::List { scope, after }, Meant::List { scope: scope2, after: after2 }) => {
            (scope, after) == (scope2, after2)
        }
        _ => false,
    }
}

/// Pieces of JSON and of our protocol, put together at random: closer to the edges than random bytes.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\\u",
            "\\ud83d",
            "\\u0000",
            "\n",
            " ",
            "null",
            "true",
            "false",
            "0",
            "-",
            "1e400",
            "18446744073709551615",
            "18446744073709551616",
            "0.5",
            "\"id\":",
            "\"op\":",
            "\"d\":",
            "\"send\"",
            "\"sync\"",
            "\"cursors\":",
            "\"c\":",
            "\"s\":",
            "\"p\":",
            "\"ack\"",
            "{}",
            "{\"op\":\"ack\",\"d\":{\"p\":1}}",
            "é",
            "0123456789abcdef",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 1..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Parses with padding and without, with the same parser, and expects both to agree; says how many envelopes were good.
fn parse_all(text: &[u8]) -> usize {
    let mut parser = Parser::new();
    let mut good = 0;
    for range in split_envelopes(text) {
        let mut padded = text.to_vec();
        padded.resize(text.len() + PADDING, b'"');
        let mut bare = text[..range.end].to_vec();
        let bare = format!("{:?}", parser.parse(&mut bare, range.clone()));
        let found = parser.parse(&mut padded, range.clone());
        assert_eq!(format!("{found:?}"), bare);
        good += usize::from(found.is_ok());
        assert_eq!(padded[range.end..text.len()], text[range.end..], "what follows is left as it was");
    }
    good
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_writes_is_read_as_he_meant_it(
        said in proptest::collection::vec((meant(), any::<Option<u32>>(), any::<u64>()), 1..4),
        room in prop_oneof![Just(0), Just(PADDING - 1), Just(PADDING)],
    ) {
        let lines: Vec<String> = said.iter().map(|(meant, id, style)| written(meant, *id, *style)).collect();
        let frame = lines.join("\n");
        let pieces: Vec<_> = split_envelopes(frame.as_bytes()).collect();
        prop_assert_eq!(pieces.len(), said.len());
        let mut buffer = frame.clone().into_bytes();
        buffer.resize(frame.len() + room, 0xFF);
        let mut parser = Parser::new();
        for (piece, (meant, id, _)) in pieces.into_iter().zip(&said) {
            let envelope = parser.parse(&mut buffer, piece);
            let Ok(envelope) = envelope else { panic!("{envelope:?} from {frame}") };
            prop_assert_eq!(envelope.id, *id);
            prop_assert!(agrees(&envelope.op, meant), "{:?} was meant as {:?}", envelope.op, meant);
        }
    }

    #[test]
    fn every_string_survives_the_way_out(text in any::<String>(), name in chars(0, 40)) {
        let c = ConversationId::mint(Slot::new(3).unwrap(), &mut Entropy::new([1; 32]));
        let from = Author { kind: AuthorKind::Visitor, id: 5, name: &name };
        let view = EventView { c, s: 9, vs: 8, ts: 7, what: EventWhat::Message { from, body: &text } };
        let row = encode::Row { c, status: Status::Waiting, owner: None, name: &name, preview: &text, since: 1, pos: None };
        let mut out = Vec::new();
        encode::event(&mut out, Audience::Visitor, &view);
        out.push(b'\n');
        encode::notice(&mut out, &text, 1);
        out.push(b'\n');
        encode::conv_row(&mut out, &row);
        prop_assert!(core::str::from_utf8(&out).is_ok());
        let mut lines: Vec<Vec<u8>> = out.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        prop_assert_eq!(lines.len(), 3, "a newline in a text never splits an envelope");
        let [event, notice, conv] = &mut lines[..] else { unreachable!() };
        let event = simd_json::to_borrowed_value(event).unwrap();
        prop_assert_eq!(event["d"]["body"].as_str(), Some(text.as_str()));
        prop_assert_eq!(event["s"].as_u64(), Some(8));
        prop_assert_eq!(event["d"]["from"].get_str("name").unwrap_or(""), name.as_str());
        let notice = simd_json::to_borrowed_value(notice).unwrap();
        prop_assert_eq!(notice["d"]["text"].as_str(), Some(text.as_str()));
        let conv = simd_json::to_borrowed_value(conv).unwrap();
        prop_assert_eq!(conv["d"].get_str("preview").unwrap_or(""), text.as_str());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
    }

    #[test]
    fn arbitrary_json_pieces_never_panic(bytes in soup()) {
        parse_all(&bytes);
    }

    #[test]
    fn a_damaged_request_never_panics(
        said in meant(), id in any::<Option<u32>>(), style in any::<u64>(),
        cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let whole = written(&said, id, style).into_bytes();
        prop_assert_eq!(parse_all(&whole), 1);
        let short = &whole[..cut.index(whole.len())];
        prop_assert_eq!(parse_all(short), 0, "a beginning of a request is none");
        let mut changed = whole.clone();
        changed[at.index(whole.len())] = byte;
        parse_all(&changed);
    }

    #[test]
    fn the_hash_of_a_content_follows_from_its_parts_alone(one in any::<String>(), two in any::<String>()) {
        prop_assert_eq!(request::body_hash(&[&one, &two]), request::body_hash(&[&one.clone(), &two.clone()]));
        prop_assert_eq!(one == two, request::body_hash(&[&one, &two]) == request::body_hash(&[&two, &one]));
        prop_assert_eq!(one == two, request::fingerprint(&one) == request::fingerprint(&two));
    }
}
