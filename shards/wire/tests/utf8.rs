//! Text is refused at exactly the byte that makes it impossible, measured against the Unicode standard's own table.

mod client;

use client::{CONTINUATION, Event, FIN, Reader, TEXT, frame};
use ringdesk_wire::{Limits, Violation};

/// Unicode 16.0, table 3-7 "Well-Formed UTF-8 Byte Sequences": the ranges of each byte.
const WELL_FORMED: [&[(u8, u8)]; 9] = [
    &[(0x00, 0x7f)],
    &[(0xc2, 0xdf), (0x80, 0xbf)],
    &[(0xe0, 0xe0), (0xa0, 0xbf), (0x80, 0xbf)],
    &[(0xe1, 0xec), (0x80, 0xbf), (0x80, 0xbf)],
    &[(0xed, 0xed), (0x80, 0x9f), (0x80, 0xbf)],
    &[(0xee, 0xef), (0x80, 0xbf), (0x80, 0xbf)],
    &[(0xf0, 0xf0), (0x90, 0xbf), (0x80, 0xbf), (0x80, 0xbf)],
    &[(0xf1, 0xf3), (0x80, 0xbf), (0x80, 0xbf), (0x80, 0xbf)],
    &[(0xf4, 0xf4), (0x80, 0x8f), (0x80, 0xbf), (0x80, 0xbf)],
];

/// The index of the first byte at which `bytes` cannot be the beginning of well-formed text, and whether what is
/// before it ends with a whole code point.
fn judge(bytes: &[u8]) -> (Option<usize>, bool) {
    let mut begin = 0;
    for index in 0..bytes.len() {
        let sequence = &bytes[begin..=index];
        let fits = |row: &&&[(u8, u8)]| {
            sequence.len() <= row.len()
                && sequence.iter().zip(**row).all(|(byte, (low, high))| (low..=high).contains(&byte))
        };
        match WELL_FORMED.iter().find(fits) {
            None => return (Some(index), false),
            Some(row) if row.len() == sequence.len() => begin = index + 1,
            Some(_) => {}
        }
    }
    (None, begin == bytes.len())
}

/// Every byte at which some range of the table begins or ends, and its neighbours.
const EDGES: [u8; 27] = [
    0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
    0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xff,
];

#[test]
fn every_sequence_of_edge_bytes_fails_at_its_first_impossible_byte() {
    // Around the 64 bytes that a vector step looks at, the code point is cut by it in every way.
    let front = [b'a'; 130];
    let mut reader = Reader::new(Limits::default());
    let mut events = Vec::new();
    let mut check = |sequence: &[u8], front_size: usize| {
        let (bad, whole) = judge(sequence);
        let payload = [&front[..front_size], sequence].concat();
        let bytes = frame(TEXT, &payload);
        let sequence_offset = bytes.len() - sequence.len();
        reader.feed(&bytes[..sequence_offset], &mut events).expect("only ASCII so far");
        let mut failed = None;
        for (index, byte) in bytes[sequence_offset..].iter().enumerate() {
            match reader.feed(&[*byte], &mut events) {
                Ok(()) => {}
                Err(violation) => {
                    assert_eq!(violation, Violation::BadUtf8);
                    failed = Some(index);
                    break;
                }
            }
        }
        assert_eq!(failed, bad, "{sequence:02x?} behind {front_size} bytes");
        if failed.is_none() {
            let end = reader.feed(&frame(FIN | CONTINUATION, b""), &mut events);
            assert_eq!(end.is_ok(), whole, "{sequence:02x?}");
            if whole {
                assert_eq!(events.pop(), Some(Event::Text(payload.clone())));
            }
        }
        assert!(events.is_empty());
        reader.decoder.reset(&mut reader.pool);

        // The same bytes whole, in one frame and in one piece.
        let in_one_piece = reader.feed(&frame(FIN | TEXT, &payload), &mut events);
        assert_eq!(in_one_piece.is_ok(), bad.is_none() && whole, "{sequence:02x?}");
        events.clear();
        reader.decoder.reset(&mut reader.pool);
    };
    for (i, a) in EDGES.into_iter().enumerate() {
        for (j, b) in EDGES.into_iter().enumerate() {
            for (k, c) in EDGES.into_iter().enumerate() {
                check(&[a, b, c], [0, 1, 61, 62, 63, 64, 127][(i + j + k) % 7]);
            }
        }
    }
    // Four bytes only where the first begins four.
    for a in [0xf0, 0xf1, 0xf3, 0xf4] {
        for b in [0x80, 0x8f, 0x90, 0xbf] {
            for c in [0x7f, 0x80, 0xbf, 0xc0] {
                for d in EDGES {
                    check(&[a, b, c, d], 62);
                }
            }
        }
    }
}
