//! What holds for every stream: no cut changes its meaning, no byte makes a panic.

mod client;

use client::{BINARY, CLOSE, CONTINUATION, Event, FIN, PING, PONG, TEXT, frame, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringdesk_wire::{
    HeadParse, Limits, begin_text, check_upgrade, end_text, parse_head, put_binary, put_close, put_ping,
    put_pong, put_text,
};

/// A message and how a client sends it.
#[derive(Clone, Debug)]
struct Sent {
    event: Event,
    /// Where it is cut into fragments, which may be empty.
    cuts: Vec<Index>,
    /// Control frames, each behind one of the fragments but the last.
    between: Vec<(Index, Event)>,
}

fn control() -> impl Strategy<Value = Event> {
    let payload = vec(any::<u8>(), 0..=125);
    prop_oneof![payload.clone().prop_map(Event::Ping), payload.prop_map(Event::Pong)]
}

fn sent() -> impl Strategy<Value = Sent> {
    let data = prop_oneof![
        4 => any::<String>().prop_map(|text| Event::Text(text.into_bytes())),
        2 => vec(any::<char>(), 0..400).prop_map(|text| Event::Text(text.into_iter().collect::<String>().into_bytes())),
        2 => vec(any::<u8>(), 0..300).prop_map(Event::Binary),
        1 => (65_000usize..66_000).prop_map(|size| Event::Binary(vec![0xa5; size])),
    ];
    let message = (data, vec(any::<Index>(), 0..5), vec((any::<Index>(), control()), 0..4));
    prop_oneof![
        3 => message.prop_map(|(event, cuts, between)| Sent { event, cuts, between }),
        1 => control().prop_map(|event| Sent { event, cuts: Vec::new(), between: Vec::new() }),
    ]
}

fn put(event: &Event, stream: &mut Vec<u8>) {
    stream.extend(match event {
        Event::Text(payload) => frame(FIN | TEXT, payload),
        Event::Binary(payload) => frame(FIN | BINARY, payload),
        Event::Ping(payload) => frame(FIN | PING, payload),
        Event::Pong(payload) => frame(FIN | PONG, payload),
        Event::Close(code) => {
            frame(FIN | CLOSE, &code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()))
        }
    });
}

/// The stream of these messages, and the events in the order in which they end.
fn stream_of(messages: &[Sent]) -> (Vec<u8>, Vec<Event>) {
    let (mut stream, mut events) = (Vec::new(), Vec::new());
    for Sent { event, cuts, between } in messages {
        let (opcode, payload) = match event {
            Event::Text(payload) => (TEXT, payload),
            Event::Binary(payload) => (BINARY, payload),
            Event::Ping(_) | Event::Pong(_) | Event::Close(_) => {
                put(event, &mut stream);
                events.push(event.clone());
                continue;
            }
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.sort_unstable();
        let mut begin = 0;
        for index in 0..=cuts.len() {
            let end = cuts.get(index).copied().unwrap_or(payload.len());
            let fin = if index == cuts.len() { FIN } else { 0 };
            stream.extend(frame(fin | if index == 0 { opcode } else { CONTINUATION }, &payload[begin..end]));
            begin = end;
            for (_, control) in
                between.iter().filter(|(place, _)| fin == 0 && place.index(cuts.len()) == index)
            {
                put(control, &mut stream);
                events.push(control.clone());
            }
        }
        events.push(event.clone());
    }
    (stream, events)
}

/// Sizes of pieces: now and then single bytes, now and then more than there is.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![3 => 1..4usize, 2 => 1..40usize, 1 => 1..5_000usize, 1 => 1..100_000usize], 1..12)
}

const LIMITS: Limits = Limits { message_size_max: 70_000, fragment_count_max: 6 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cut_of_any_valid_stream_gives_the_same_messages(messages in vec(sent(), 1..8), sizes in pieces()) {
        let (stream, events) = stream_of(&messages);
        let (whole, _) = read(&stream, &[usize::MAX], LIMITS);
        prop_assert_eq!(whole.violation, None);
        prop_assert!(whole.events == events, "in one piece");
        let (cut, mut reader) = read(&stream, &sizes, LIMITS);
        prop_assert_eq!(cut.violation, None);
        prop_assert!(cut.events == events, "in pieces of {:?}", sizes);
        prop_assert!(!reader.decoder.is_mid_message());
        prop_assert_eq!(reader.decoder.partial_size(), 0);
        reader.decoder.reset(&mut reader.pool);
        prop_assert!(reader.pool.count() <= 1, "one connection needs one buffer at a time");
    }

    #[test]
    fn any_cut_of_any_damaged_stream_gives_the_same_messages_and_the_same_verdict(
        messages in vec(sent(), 1..5),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        sizes in pieces(),
    ) {
        let (mut stream, _) = stream_of(&messages);
        for (place, byte) in damage {
            // Most damage near the front, where the headers are dense.
            let place = place.index(stream.len().min(600));
            stream[place] ^= byte;
        }
        let (whole, _) = read(&stream, &[usize::MAX], LIMITS);
        let (cut, mut reader) = read(&stream, &sizes, LIMITS);
        prop_assert!(whole.events == cut.events);
        prop_assert_eq!(whole.violation, cut.violation);
        if cut.violation.is_some() {
            let again = reader.decoder.next(&mut [0x81, 0x80, 0, 0, 0, 0], &LIMITS, &mut reader.pool);
            prop_assert!(again.is_err(), "nothing is believed after a violation");
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(stream in vec(any::<u8>(), 0..2_000), sizes in pieces()) {
        let (whole, _) = read(&stream, &[usize::MAX], LIMITS);
        let (cut, _) = read(&stream, &sizes, LIMITS);
        prop_assert_eq!((whole.events, whole.violation), (cut.events, cut.violation));
    }

    #[test]
    fn what_is_kept_never_exceeds_the_limits(messages in vec(sent(), 1..4), sizes in pieces()) {
        let limits = Limits { message_size_max: 200, fragment_count_max: 3 };
        let (stream, _) = stream_of(&messages);
        let (_, reader) = read(&stream, &sizes, limits);
        prop_assert!(reader.decoder.partial_size() <= 200 + 125 + 14);
    }

    #[test]
    fn every_frame_we_encode_is_one_that_we_decode(event in prop_oneof![
        any::<String>().prop_map(|text| Event::Text(text.into_bytes())),
        (0..70_000usize).prop_map(|size| Event::Text(vec![b'x'; size])),
        vec(any::<u8>(), 0..300).prop_map(Event::Binary),
        control(),
        (3000..5000u16).prop_map(|code| Event::Close(Some(code))),
    ]) {
        let mut out = Vec::new();
        match &event {
            Event::Text(payload) => put_text(&mut out, payload),
            Event::Binary(payload) => put_binary(&mut out, payload),
            Event::Ping(payload) => put_ping(&mut out, payload),
            Event::Pong(payload) => put_pong(&mut out, payload),
            Event::Close(code) => put_close(&mut out, code.expect("made with one"), "a reason"),
        }
        if let Event::Text(payload) = &event {
            let mut unknown = Vec::new();
            let mark = begin_text(&mut unknown);
            unknown.extend_from_slice(payload);
            end_text(&mut unknown, mark);
            prop_assert!(out == unknown);
        }
        let (outcome, _) = read(&as_from_a_client(&out), &[usize::MAX], LIMITS);
        prop_assert_eq!(outcome.violation, None);
        prop_assert!(outcome.events == [event]);
    }

    #[test]
    fn no_bytes_make_the_head_parser_panic(bytes in vec(any::<u8>(), 0..1_000)) {
        if let HeadParse::Complete(head) = parse_head(&bytes) {
            look_at(&head);
        }
    }

    #[test]
    fn a_damaged_head_is_judged_the_same_however_much_of_it_was_seen_before(
        damage in vec((any::<Index>(), prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b' '), Just(b':')]), 0..4),
        cut in any::<Index>(),
    ) {
        let mut bytes = HEAD.to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let front = &bytes[..cut.index(bytes.len())];
        match (parse_head(front), parse_head(&bytes)) {
            (HeadParse::Complete(early), HeadParse::Complete(late)) => prop_assert_eq!(early.size, late.size),
            (HeadParse::Complete(_), other) => prop_assert!(false, "complete, then {:?}", other),
            (HeadParse::Bad(_), HeadParse::Bad(_)) => {}
            (HeadParse::Bad(error), other) => prop_assert!(false, "{:?}, then {:?}", error, other),
            (HeadParse::Partial, _) => {}
        }
        if let HeadParse::Complete(head) = parse_head(&bytes) {
            look_at(&head);
        }
    }
}

const HEAD: &[u8] = b"GET http://h/ws/v1/visitor?inbox=01J&s=17 HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nContent-Length: 0\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nOrigin: https://shop.example\r\nSec-WebSocket-Protocol: a, ringdesk.v1.json\r\n\r\n";

/// Calls every question that can be asked of a head.
fn look_at(head: &ringdesk_wire::Head<'_>) {
    assert!(head.path().len() <= head.target().len().max(1));
    let _ = (head.method(), head.query("inbox"), head.header("host"), head.headers().count());
    if let Ok(upgrade) = check_upgrade(head, Some(ringdesk_wire::PROTOCOL_JSON)) {
        assert_eq!(upgrade.key.len(), 24);
        assert!(head.is_websocket_upgrade());
    }
}

/// Turns one of our frames into a client's: the same, with a mask.
fn as_from_a_client(ours: &[u8]) -> Vec<u8> {
    assert_eq!(ours[1] & 0x80, 0, "a server does not mask");
    let payload_offset = match ours[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mask = [0xde, 0xad, 0xbe, 0xef];
    let mut bytes = ours[..payload_offset].to_vec();
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&mask);
    bytes.extend(ours[payload_offset..].iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    bytes
}
