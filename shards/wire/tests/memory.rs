//! What a connection costs: no heap when idle, no allocation per message once the pool is warm.
//!
//! Alone in its process, because it counts every allocation of its thread.

mod client;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use client::{BINARY, CONTINUATION, FIN, PING, TEXT, frame};
use ringdesk_wire::{
    Decoder, HeadParse, Limits, PROTOCOL_JSON, PartialPool, Place, begin_text, check_upgrade, end_text,
    parse_head, put_text, write_accept,
};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the pointer came from `alloc` or `realloc`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` ran.
fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Feeds `stream` in pieces of `piece_size` bytes, unmasking in place, and counts the messages.
fn feed(decoder: &mut Decoder, pool: &mut PartialPool, stream: &mut [u8], piece_size: usize) -> usize {
    let limits = Limits::default();
    let mut count = 0;
    for piece in stream.chunks_mut(piece_size) {
        let mut offset = 0;
        loop {
            let (consumed, message) =
                decoder.next(&mut piece[offset..], &limits, pool).expect("a valid stream");
            offset += consumed;
            let Some(message) = message else { break };
            count += 1;
            if let ringdesk_wire::Message::Text(Place::Held) = message {
                let (buffer, size) = decoder.held_padded(64);
                assert!(buffer.len() >= size + 64);
                decoder.release(pool);
            }
        }
    }
    count
}

fn stream() -> Vec<u8> {
    [
        frame(FIN | TEXT, &[b'a'; 300]),
        frame(FIN | PING, b"are you there"),
        frame(TEXT, &[b'b'; 5_000]),
        frame(FIN | PING, b"still"),
        frame(FIN | CONTINUATION, &[b'c'; 200]),
        frame(FIN | BINARY, &[0; 60_000]),
        frame(FIN | TEXT, b""),
    ]
    .concat()
}

#[test]
fn an_idle_decoder_is_small_and_owns_no_heap() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
    let made = allocations(|| {
        let mut decoder = Decoder::new();
        let mut pool = PartialPool::default();
        decoder.reset(&mut pool);
        assert_eq!(pool.count(), 0);
    });
    assert_eq!(made, 0);
    let (mut decoder, mut pool) = (Decoder::new(), PartialPool::default());
    assert_eq!(feed(&mut decoder, &mut pool, &mut stream(), 7), 6);
    decoder.next(&mut [], &Limits::default(), &mut pool).unwrap();
    assert!(!decoder.is_mid_message());
    assert_eq!(pool.count(), 1, "the one buffer is back");
}

#[test]
fn whole_frames_and_headers_cut_in_two_allocate_nothing() {
    let (mut decoder, mut pool) = (Decoder::new(), PartialPool::default());
    let mut bytes = [frame(FIN | TEXT, &[b'a'; 300]), frame(FIN | BINARY, &[1; 65_536])].concat();
    assert_eq!(allocations(|| assert_eq!(feed(&mut decoder, &mut pool, &mut bytes, usize::MAX), 2)), 0);
    let mut bytes = frame(FIN | TEXT, &[b'a'; 300]);
    let made = allocations(|| {
        let limits = Limits::default();
        let (front, back) = bytes.split_at_mut(3);
        assert_eq!(decoder.next(front, &limits, &mut pool), Ok((3, None)));
        let (_, message) = decoder.next(back, &limits, &mut pool).unwrap();
        assert_eq!(message, Some(ringdesk_wire::Message::Text(Place::Here(5..305))));
    });
    assert_eq!(made, 0);
    assert_eq!(pool.count(), 0);
}

#[test]
fn incomplete_messages_allocate_nothing_once_the_pool_is_warm() {
    let (mut decoder, mut pool) = (Decoder::new(), PartialPool::default());
    // Byte by byte, messages and control frames both need their buffers.
    assert!(allocations(|| assert_eq!(feed(&mut decoder, &mut pool, &mut stream(), 1), 6)) > 0);
    for piece_size in [1, 13, 1_448, 16_384] {
        let mut bytes = stream();
        let made = allocations(|| assert_eq!(feed(&mut decoder, &mut pool, &mut bytes, piece_size), 6));
        assert_eq!(made, 0, "pieces of {piece_size}");
    }
}

#[test]
fn the_handshake_and_the_encoder_allocate_nothing_but_their_output() {
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: ringdesk.v1.json\r\n\r\n";
    let mut out = Vec::with_capacity(1_024);
    let made = allocations(|| {
        let HeadParse::Complete(head) = parse_head(HEAD) else { panic!("it is whole") };
        let upgrade = check_upgrade(&head, Some(PROTOCOL_JSON)).unwrap();
        write_accept(upgrade.key, Some(PROTOCOL_JSON), &mut out);
        put_text(&mut out, b"{}");
        let mark = begin_text(&mut out);
        out.extend_from_slice(b"{}");
        end_text(&mut out, mark);
    });
    assert_eq!(made, 0);
    assert!(out.ends_with(b"\x81\x02{}\x81\x02{}"));
}
