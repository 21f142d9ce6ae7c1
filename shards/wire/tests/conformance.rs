//! The cases of the Autobahn test suite, groups 1 to 7, against the decoder: each in one piece, byte by byte, and in
//! pieces of several sizes.

mod client;

use client::{BINARY, CLOSE, CONTINUATION, Event, FIN, PING, PONG, TEXT, frame, read};
use ringdesk_wire::{Limits, Violation};

const LIMITS: Limits = Limits { message_size_max: 1 << 20, fragment_count_max: 1_024 };

/// A code that closes, or `None` if the connection goes on.
type Verdict = Option<u16>;

/// Checks that these frames come to these events and this verdict, however they are cut.
#[track_caller]
fn case(name: &str, frames: &[Vec<u8>], events: &[Event], verdict: Verdict) {
    let stream = frames.concat();
    let byte_by_byte = if stream.len() < 10_000 { 1 } else { 997 };
    for sizes in [&[usize::MAX][..], &[byte_by_byte], &[2_048], &[7, 11, 1_000]] {
        let (outcome, reader) = read(&stream, sizes, LIMITS);
        assert!(outcome.events == events, "{name}, pieces of {sizes:?}: {:?}", shown(&outcome.events));
        assert_eq!(
            outcome.violation.map(|violation| violation.close_code()),
            verdict,
            "{name}, pieces of {sizes:?}"
        );
        if verdict.is_none() {
            assert!(!reader.decoder.is_mid_message(), "{name}: nothing is left open");
            assert_eq!(reader.decoder.partial_size(), 0, "{name}");
        }
    }
}

fn shown(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{event:?}").chars().take(60).collect()).collect()
}

fn text(payload: &[u8]) -> Event {
    Event::Text(payload.to_vec())
}

fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason].concat())
}

#[test]
fn group_1_messages_of_every_header_size() {
    for size in [0, 125, 126, 127, 128, 65_535, 65_536, 70_000] {
        let payload = vec![b'*'; size];
        case(&format!("1.1 {size}"), &[frame(FIN | TEXT, &payload)], &[text(&payload)], None);
        let payload: Vec<u8> = (0..size).map(|index| (index * 7) as u8).collect();
        case(
            &format!("1.2 {size}"),
            &[frame(FIN | BINARY, &payload)],
            &[Event::Binary(payload.clone())],
            None,
        );
    }
}

#[test]
fn group_2_pings_and_pongs() {
    case("2.1 no payload", &[frame(FIN | PING, b"")], &[Event::Ping(vec![])], None);
    case("2.2 text", &[frame(FIN | PING, b"Hello")], &[Event::Ping(b"Hello".to_vec())], None);
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    case("2.3 binary", &[frame(FIN | PING, &binary)], &[Event::Ping(binary.to_vec())], None);
    case("2.4 125 bytes", &[frame(FIN | PING, &[0xfe; 125])], &[Event::Ping(vec![0xfe; 125])], None);
    case("2.5 126 bytes", &[frame(FIN | PING, &[0xfe; 126])], &[], Some(1002));
    case("2.7 pong unasked", &[frame(FIN | PONG, b"")], &[Event::Pong(vec![])], None);
    let frames = [frame(FIN | PONG, b"unasked"), frame(FIN | PING, b"asked")];
    case(
        "2.9 pong, then ping",
        &frames,
        &[Event::Pong(b"unasked".to_vec()), Event::Ping(b"asked".to_vec())],
        None,
    );
    let pings: Vec<Vec<u8>> = (0..10u8).map(|index| frame(FIN | PING, &[index])).collect();
    let events: Vec<Event> = (0..10u8).map(|index| Event::Ping(vec![index])).collect();
    case("2.10 ten pings", &pings, &events, None);
}

#[test]
fn group_3_reserved_bits() {
    for bits in 1..8u8 {
        for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
            let bad = frame(FIN | bits << 4 | opcode, b"");
            let frames = [frame(FIN | TEXT, b"before"), bad, frame(FIN | PING, b"after")];
            case(&format!("3 bits {bits} opcode {opcode}"), &frames, &[text(b"before")], Some(1002));
        }
    }
}

#[test]
fn group_4_reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"payload"] {
            let frames = [frame(FIN | TEXT, b"before"), frame(FIN | opcode, payload), frame(FIN | PING, b"")];
            case(&format!("4 opcode {opcode}"), &frames, &[text(b"before")], Some(1002));
        }
    }
}

#[test]
fn group_5_fragmentation() {
    let (first, second) = (frame(TEXT, b"fragment1"), frame(FIN | CONTINUATION, b"fragment2"));
    let whole = text(b"fragment1fragment2");
    let ping = frame(FIN | PING, b"between");
    let pinged = Event::Ping(b"between".to_vec());

    case("5.1 fragmented ping", &[frame(PING, b"f1"), frame(FIN | CONTINUATION, b"f2")], &[], Some(1002));
    case("5.2 fragmented pong", &[frame(PONG, b"f1"), frame(FIN | CONTINUATION, b"f2")], &[], Some(1002));
    case("5.2b fragmented close", &[frame(CLOSE, b""), frame(FIN | CONTINUATION, b"")], &[], Some(1002));
    case("5.3 two fragments", &[first.clone(), second.clone()], std::slice::from_ref(&whole), None);
    case(
        "5.6 ping between",
        &[first.clone(), ping.clone(), second.clone()],
        &[pinged.clone(), whole.clone()],
        None,
    );
    for sizes in [[0, 0, 0], [0, 5, 0], [5, 0, 0], [0, 0, 5]] {
        let payload = |index: usize| vec![b'a'; sizes[index]];
        let frames = [
            frame(TEXT, &payload(0)),
            frame(CONTINUATION, &payload(1)),
            ping.clone(),
            frame(FIN | CONTINUATION, &payload(2)),
        ];
        case("6.1 empty fragments", &frames, &[pinged.clone(), text(&vec![b'a'; sizes.iter().sum()])], None);
    }
    let lone = [frame(FIN | CONTINUATION, b"lone"), frame(FIN | TEXT, b"after")];
    case("5.9 continuation without a message", &lone, &[], Some(1002));
    case(
        "5.12 the same, not final",
        &[frame(CONTINUATION, b"lone"), frame(FIN | TEXT, b"")],
        &[],
        Some(1002),
    );
    let late = [first.clone(), second.clone(), frame(CONTINUATION, b"late")];
    case("5.15 continuation after the end", &late, std::slice::from_ref(&whole), Some(1002));
    case("5.18 a new text inside", &[first.clone(), frame(FIN | TEXT, b"new")], &[], Some(1002));
    case("5.18b a new binary inside", &[first.clone(), frame(BINARY, b"new")], &[], Some(1002));
    let mut frames = vec![frame(TEXT, b"0")];
    let mut events = Vec::new();
    for index in 1..5u8 {
        frames.extend([frame(CONTINUATION, &[b'0' + index]), frame(FIN | PING, &[index])]);
        events.push(Event::Ping(vec![index]));
    }
    frames.push(frame(FIN | CONTINUATION, b"5"));
    frames.push(frame(FIN | TEXT, b"next"));
    events.extend([text(b"012345"), text(b"next")]);
    case("5.19 pings between every two", &frames, &events, None);
    let closed = [first.clone(), close_frame(1000, b""), second.clone()];
    case(
        "5.20 close between, the rest is the caller's to discard",
        &closed,
        &[Event::Close(Some(1000)), whole],
        None,
    );
}

#[test]
fn group_6_valid_utf8() {
    let valid: &[&[u8]] = &[
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
        "κόσμε".as_bytes(),
        b"\x00",
        b"\xc2\x80",
        b"\xe0\xa0\x80",
        b"\xf0\x90\x80\x80",
        b"\x7f",
        b"\xdf\xbf",
        b"\xef\xbf\xbf",
        b"\xf4\x8f\xbf\xbf",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xef\xbf\xbd",
        b"\xef\xbf\xbe",
        b"\xf0\x9f\xbf\xbf",
    ];
    for bytes in valid {
        let name = format!("6 {bytes:02x?}");
        case(&name, &[frame(FIN | TEXT, bytes)], &[text(bytes)], None);
        // One byte per fragment: every code point is cut everywhere.
        let mut frames: Vec<Vec<u8>> = vec![frame(TEXT, b"")];
        frames.extend(bytes.iter().map(|&byte| frame(CONTINUATION, &[byte])));
        frames.push(frame(FIN | CONTINUATION, b""));
        case(&name, &frames, &[text(bytes)], None);
    }
}

#[test]
fn group_6_invalid_utf8() {
    let invalid: &[&[u8]] = &[
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\x80\xbf\x80\xbf\x80\xbf",
        b"\xc0 \xc1 \xc2 ",
        b"\xe0 \xe1 \xe2 ",
        b"\xf0 \xf1 \xf2 ",
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xfe",
        b"\xff",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        // Not finished when the message ends.
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
        b"\xc2",
        b"\xe1\x80",
        b"\xf1\x80\x80",
    ];
    for bytes in invalid {
        let name = format!("6 {bytes:02x?}");
        let before = frame(FIN | TEXT, "bevor: ä".as_bytes());
        let expected = text("bevor: ä".as_bytes());
        case(&name, &[before.clone(), frame(FIN | TEXT, bytes)], std::slice::from_ref(&expected), Some(1007));
        let mut frames = vec![before, frame(TEXT, b"")];
        frames.extend(bytes.iter().map(|&byte| frame(CONTINUATION, &[byte])));
        frames.push(frame(FIN | CONTINUATION, b""));
        case(&name, &frames, &[expected], Some(1007));
        // The same bytes are nobody's business in a binary message.
        case(&name, &[frame(FIN | BINARY, bytes)], &[Event::Binary(bytes.to_vec())], None);
    }
}

/// 6.4: the text is refused with its first bad byte, not at the end of its frame or message.
#[test]
fn group_6_4_a_bad_byte_fails_at_once() {
    let good = "κόσμε".as_bytes();
    // The index of the byte that makes the sequence impossible.
    for (bad, index) in [
        (&b"\xf4\x90\x80\x80"[..], 1),
        (b"\xed\xa0\x80", 1),
        (b"\xf8\x88\x80\x80\x80", 0),
        (b"\xe0\x80\x80", 1),
        (b"\xc2\x41", 1),
        (b"\xf0\x90\x80\x41", 3),
    ] {
        let payload = [good, bad, b"and more of the same frame that never comes before the verdict"].concat();
        let one_frame = frame(FIN | TEXT, &payload);
        let header_size = one_frame.len() - payload.len();
        let (outcome, _) = read(&one_frame, &[1], LIMITS);
        assert_eq!(outcome.violation, Some(Violation::BadUtf8), "{bad:02x?}");
        assert_eq!(outcome.given, header_size + good.len() + index + 1, "{bad:02x?}");

        // 6.4.1: in fragments, the last of which never comes.
        let fragments = [frame(TEXT, good), frame(CONTINUATION, bad)].concat();
        let (outcome, _) = read(&fragments, &[usize::MAX], LIMITS);
        assert_eq!(outcome.violation, Some(Violation::BadUtf8), "{bad:02x?}");
    }
}

#[test]
fn group_7_closing() {
    let closed = |code: u16| Event::Close(Some(code));
    case(
        "7.1.1",
        &[frame(FIN | TEXT, b"Hello"), close_frame(1000, b"")],
        &[text(b"Hello"), closed(1000)],
        None,
    );
    case("7.3.1 empty", &[frame(FIN | CLOSE, b"")], &[Event::Close(None)], None);
    case("7.3.2 one byte", &[frame(FIN | CLOSE, b"a")], &[], Some(1002));
    case("7.3.3 code", &[close_frame(1000, b"")], &[closed(1000)], None);
    case("7.3.4 reason", &[close_frame(1000, b"Hello World!")], &[closed(1000)], None);
    case("7.3.5 123 bytes", &[close_frame(1000, &[b'*'; 123])], &[closed(1000)], None);
    case("7.3.6 124 bytes", &[close_frame(1000, &[b'*'; 124])], &[], Some(1002));
    let bad_reason = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    case("7.5.1 reason is not UTF-8", &[close_frame(1000, bad_reason)], &[], Some(1007));
    case("7.5.1b reason ends too soon", &[close_frame(1000, b"\xe1\x80")], &[], Some(1007));
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in valid {
        case(&format!("7.7 {code}"), &[close_frame(code, b"")], &[closed(code)], None);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        case(&format!("7.9 {code}"), &[close_frame(code, b"")], &[], Some(1002));
    }
}

#[test]
fn a_message_beyond_its_limit_is_refused_at_the_header() {
    let limits = Limits::default();
    let refused = |stream: &[u8], given: usize| {
        let (outcome, reader) = read(stream, &[1], limits);
        assert_eq!(outcome.violation, Some(Violation::TooBig));
        assert_eq!(outcome.violation.map(|violation| violation.close_code()), Some(1009));
        assert_eq!(outcome.given, given, "at the last byte of the length");
        assert!(outcome.events.is_empty());
        reader
    };
    let size_max = limits.message_size_max as usize;
    assert_eq!(read(&frame(FIN | BINARY, &vec![1; size_max]), &[1_000], limits).0.violation, None);
    let reader = refused(&frame(FIN | BINARY, &vec![1; size_max + 1]), 10);
    assert_eq!(reader.pool.count(), 0, "no buffer was touched");

    // A running total: 40,000 and 30,000 bytes are each within the limit.
    let first = frame(BINARY, &vec![1; 40_000]);
    let stream = [first.clone(), frame(FIN | CONTINUATION, &vec![1; 30_000])].concat();
    refused(&stream, first.len() + 4);
    let stream = [first, frame(FIN | CONTINUATION, &vec![1; size_max - 40_000])].concat();
    assert_eq!(read(&stream, &[1_000], limits).0.violation, None);
}

#[test]
fn fragments_beyond_their_limit_are_refused() {
    let limits = Limits { fragment_count_max: 3, ..Limits::default() };
    let message = |count: usize| {
        let mut frames = vec![frame(TEXT, b"a")];
        frames.extend((2..count).map(|_| frame(CONTINUATION, b"")));
        frames.push(frame(FIN | CONTINUATION, b"z"));
        frames.concat()
    };
    // The count begins anew with each message, and control frames are not part of one.
    let stream = [message(3), frame(FIN | PING, b""), message(3)].concat();
    let (outcome, _) = read(&stream, &[5], limits);
    assert_eq!((outcome.violation, outcome.events.len()), (None, 3));
    assert_eq!(read(&message(4), &[usize::MAX], limits).0.violation, Some(Violation::TooBig));
}

#[test]
fn frames_that_are_not_masked_or_not_minimal_are_refused() {
    let cases: [&[u8]; 6] = [
        &[0x81, 0x05, b'H', b'e', b'l', b'l', b'o'],
        &[0x88, 0x00],
        &[0x81, 0xfe, 0x00, 0x05],
        &[0x82, 0xfe, 0x00, 0x7d],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in cases {
        case(&format!("{bytes:02x?}"), &[bytes.to_vec()], &[], Some(1002));
    }
}
