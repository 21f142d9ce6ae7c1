//! Outgoing frames. A server's frames are unmasked (RFC 6455 §5.1) and ours are never fragmented.

use crate::CONTROL_SIZE_MAX;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Room for the header of most messages, those of 126 to 65,535 bytes. A shorter one moves at most 125 bytes.
const TEXT_HEADER_ROOM: usize = 4;

/// Appends a text frame. `payload` must be UTF-8; that is the caller's promise.
pub fn put_text(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, TEXT, payload);
}

/// Appends a binary frame.
pub fn put_binary(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, BINARY, payload);
}

/// Appends a ping. Panics if `payload` is larger than 125 bytes (§5.5).
pub fn put_ping(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_SIZE_MAX, "a control frame has at most 125 bytes");
    put(out, PING, payload);
}

/// Appends a pong, the answer to a ping with the same payload. Panics if `payload` is larger than 125 bytes (§5.5).
pub fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_SIZE_MAX, "a control frame has at most 125 bytes");
    put(out, PONG, payload);
}

/// Appends a close frame. A `reason` beyond 123 bytes is cut at a character, because a connection must always be able
/// to say why it ends. Panics if `code` may not be sent.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    assert!(close_code_valid(code), "close code {code} may not be sent");
    let reason = &reason[..reason.floor_char_boundary(CONTROL_SIZE_MAX - 2)];
    out.extend_from_slice(&[FIN | CLOSE, (2 + reason.len()) as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a close frame without a code: the answer to one that had none.
pub fn put_close_empty(out: &mut Vec<u8>) {
    put(out, CLOSE, &[]);
}

/// Where a text frame began whose size is not known yet. Give it to [`end_text`].
#[derive(Debug)]
#[must_use = "the frame has no header until `end_text`"]
pub struct TextMark {
    offset: usize,
}

/// Begins a text frame whose size is not known yet: what is appended to `out` from here on is its payload, until
/// [`end_text`]. Nothing but that payload may be appended meanwhile.
pub fn begin_text(out: &mut Vec<u8>) -> TextMark {
    let mark = TextMark { offset: out.len() };
    out.extend_from_slice(&[0; TEXT_HEADER_ROOM]);
    mark
}

/// Ends the text frame and writes its header. The payload is moved by the difference of the headers' sizes: not at all
/// from 126 to 65,535 bytes, 2 down if shorter, 6 up if longer. Panics if `out` was cut behind the mark.
pub fn end_text(out: &mut Vec<u8>, mark: TextMark) {
    let TextMark { offset } = mark;
    let begin = offset + TEXT_HEADER_ROOM;
    let size = out.len().checked_sub(begin).expect("`out` only grew since the mark");
    let (header, header_size) = header(TEXT, size);
    if header_size < TEXT_HEADER_ROOM {
        out.copy_within(begin.., offset + header_size);
        out.truncate(offset + header_size + size);
    } else if header_size > TEXT_HEADER_ROOM {
        out.extend_from_slice(&[0; HEADER_SIZE_MAX - TEXT_HEADER_ROOM]);
        out.copy_within(begin..begin + size, offset + header_size);
    }
    out[offset..offset + header_size].copy_from_slice(&header[..header_size]);
}

/// Whether an endpoint may put `code` into a close frame. §7.4.2 and the IANA registry: 1004, 1005, 1006 and 1015
/// are never sent, 1016 to 2999 are not assigned, below 1000 and from 5000 is not defined.
pub fn close_code_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// 2 bytes and 8 of length; a server sends no mask.
const HEADER_SIZE_MAX: usize = 10;

fn header(opcode: u8, size: usize) -> ([u8; HEADER_SIZE_MAX], usize) {
    let mut header = [0; HEADER_SIZE_MAX];
    header[0] = FIN | opcode;
    if size <= CONTROL_SIZE_MAX {
        header[1] = size as u8;
        (header, 2)
    } else if let Ok(size) = u16::try_from(size) {
        header[1] = 126;
        header[2..4].copy_from_slice(&size.to_be_bytes());
        (header, 4)
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(size as u64).to_be_bytes());
        (header, 10)
    }
}

fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let (header, header_size) = header(opcode, payload.len());
    out.reserve(header_size + payload.len());
    out.extend_from_slice(&header[..header_size]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 9] = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 70_000];

    #[test]
    fn a_frame_has_the_bytes_of_the_standards_examples() {
        let mut out = Vec::new();
        put_text(&mut out, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        put_ping(&mut out, b"Hello");
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        put_binary(&mut out, &[7; 256]);
        assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);
        out.clear();
        put_binary(&mut out, &[7; 65_536]);
        assert_eq!(out[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(out.len(), 65_546);
    }

    #[test]
    fn the_length_takes_as_few_bytes_as_it_can() {
        for (size, header_size) in SIZES.into_iter().zip([2, 2, 2, 4, 4, 4, 4, 10, 10]) {
            let mut out = Vec::new();
            put_text(&mut out, &vec![b'x'; size]);
            assert_eq!(out.len(), header_size + size, "size {size}");
        }
    }

    #[test]
    fn a_text_of_unknown_size_ends_as_the_same_bytes() {
        for size in SIZES {
            let payload: Vec<u8> = (0..size).map(|i| b'a' + (i % 26) as u8).collect();
            let (mut known, mut unknown) = (b"before".to_vec(), b"before".to_vec());
            put_text(&mut known, &payload);
            let mark = begin_text(&mut unknown);
            unknown.extend_from_slice(&payload);
            end_text(&mut unknown, mark);
            assert!(known == unknown, "size {size}");
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        put_close(&mut out, 4000, "slot=7");
        assert_eq!(out, [&[0x88, 8, 0x0f, 0xa0][..], b"slot=7"].concat());
        out.clear();
        put_close(&mut out, 1000, &"é".repeat(100));
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(core::str::from_utf8(&out[4..]).is_ok());
        out.clear();
        put_close_empty(&mut out);
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    #[should_panic(expected = "may not be sent")]
    fn a_close_code_that_may_not_be_sent_is_our_fault() {
        put_close(&mut Vec::new(), 1006, "");
    }

    #[test]
    fn close_codes_are_those_of_the_registry() {
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert!(close_code_valid(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            assert!(!close_code_valid(code), "{code}");
        }
    }
}
