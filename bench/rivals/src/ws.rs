//! As much of RFC 6455 as an echo needs: the upgrade, and whole messages of one frame, turned round where they lie.

use sha1::{Digest as _, Sha1};

/// What came is no upgrade request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoUpgrade;

/// The answer to an upgrade request, and how many bytes the request had; `None` while it is not whole.
///
/// # Errors
/// It is no upgrade.
pub fn upgrade(head: &[u8]) -> Result<Option<(usize, Vec<u8>)>, NoUpgrade> {
    let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if head.len() > 8192 { Err(NoUpgrade) } else { Ok(None) };
    };
    let text = core::str::from_utf8(&head[..end]).map_err(|_| NoUpgrade)?;
    let key = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let mut hash = Sha1::new();
    hash.update(key.ok_or(NoUpgrade)?);
    // RFC 6455, section 1.3.
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = data_encoding::BASE64.encode(&hash.finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(Some((end + 4, answer.into_bytes())))
}

/// What became of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Echo {
    /// Bytes of whole frames.
    pub consumed: usize,
    /// Bytes of the answer, which now stand at the front.
    pub produced: usize,
    /// Messages among them.
    pub messages: u64,
    /// The peer closes, or broke a rule.
    pub closed: bool,
}

/// Turns every whole frame of a client into the same frame of a server, at the front of the same bytes: a server's header is never longer (section 5.2).
pub fn echo(bytes: &mut [u8]) -> Echo {
    let mut done = Echo::default();
    while let Some((head, size)) = frame(&bytes[done.consumed..]) {
        let start = done.consumed + head;
        let opcode = bytes[done.consumed] & 15;
        let mask = [bytes[start - 4], bytes[start - 3], bytes[start - 2], bytes[start - 1]];
        if bytes[done.consumed] & 0x80 == 0 || !matches!(opcode, 1 | 2 | 8) {
            done.closed = true;
            return done;
        }
        let first = bytes[done.consumed];
        unmask(&mut bytes[start..start + size], mask);
        let at = done.produced;
        let head_out = match size {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        bytes.copy_within(start..start + size, at + head_out);
        bytes[at] = first;
        match head_out {
            2 => bytes[at + 1] = size as u8,
            4 => {
                bytes[at + 1] = 126;
                bytes[at + 2..at + 4].copy_from_slice(&(size as u16).to_be_bytes());
            }
            _ => {
                bytes[at + 1] = 127;
                bytes[at + 2..at + 10].copy_from_slice(&(size as u64).to_be_bytes());
            }
        }
        done.produced += head_out + size;
        done.consumed = start + size;
        done.messages += u64::from(opcode != 8);
        if opcode == 8 {
            done.closed = true;
            return done;
        }
    }
    done
}

/// What a connection keeps of bytes that could not be turned round where they lay: its upgrade request, and the beginnings of frames.
#[derive(Default)]
pub struct Unfinished {
    upgraded: bool,
    bytes: Vec<u8>,
}

impl Unfinished {
    /// Whether nothing is kept and the upgrade is done: what comes may be turned round where it lies.
    pub fn is_clear(&self) -> bool {
        self.upgraded && self.bytes.is_empty()
    }

    /// Keeps the beginning of a frame.
    pub fn keep(&mut self, rest: &[u8]) {
        self.bytes.extend_from_slice(rest);
    }

    /// Takes more bytes: the answer to all that is whole now, how many messages are in it, and whether the peer closes or is no WebSocket.
    pub fn add(&mut self, more: &[u8]) -> (Vec<u8>, u64, bool) {
        self.bytes.extend_from_slice(more);
        let mut answer = Vec::new();
        if !self.upgraded {
            match upgrade(&self.bytes) {
                Ok(None) => return (answer, 0, false),
                Ok(Some((head, said))) => {
                    self.bytes.drain(..head);
                    self.upgraded = true;
                    answer = said;
                }
                Err(NoUpgrade) => return (answer, 0, true),
            }
        }
        let done = echo(&mut self.bytes);
        // Whole frames are answered at the front of themselves; what is behind them is still as it came.
        answer.extend_from_slice(&self.bytes[..done.produced]);
        self.bytes.drain(..done.consumed);
        (answer, done.messages, done.closed)
    }
}

/// Header size, mask included, and payload size of a whole frame of a client.
pub fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let (head, size): (usize, usize) = match second & 127 {
        126 => (8usize, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => (14usize, u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?) as usize),
        size => (6, usize::from(size)),
    };
    (bytes.len() >= head.checked_add(size)?).then_some((head, size))
}

/// Section 5.3, eight bytes at a time.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    // The rest has at most seven bytes: the mask once, and again.
    if let Some(rest) = rest.get_mut(4..) {
        for (byte, mask) in rest.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            size @ 0..126 => frame.push(0x80 | size as u8),
            size @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((size as u16).to_be_bytes());
            }
            size => {
                frame.push(0x80 | 127);
                frame.extend((size as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn frames_are_turned_round_where_they_lie() {
        for sizes in [vec![0], vec![1, 7, 125], vec![126, 3], vec![65_535, 65_536, 9]] {
            let payloads: Vec<Vec<u8>> =
                sizes.iter().map(|&size| (0..size).map(|at| at as u8).collect()).collect();
            let mut bytes: Vec<u8> = payloads.iter().flat_map(|payload| client(2, payload)).collect();
            let whole = bytes.len();
            bytes.extend(&client(1, b"cut off")[..5]);
            let done = echo(&mut bytes);
            assert_eq!((done.consumed, done.messages, done.closed), (whole, sizes.len() as u64, false));
            let mut at = 0;
            for payload in &payloads {
                assert_eq!(bytes[at], 0x82);
                let head = match payload.len() {
                    0..126 => 2,
                    126..65_536 => 4,
                    _ => 10,
                };
                assert_eq!(&bytes[at + head..at + head + payload.len()], payload.as_slice());
                at += head + payload.len();
            }
            assert_eq!(at, done.produced);
        }
        let done = echo(&mut client(8, &[3, 232]));
        assert!(done.closed && done.produced == 4);
        let mut unmasked = vec![0x01, 0x80, 0, 0, 0, 0];
        assert!(echo(&mut unmasked).closed, "the first of several frames is not echoed here");
    }

    #[test]
    fn what_comes_in_pieces_is_answered_when_it_is_whole() {
        let mut stream = b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec();
        stream.extend(client(2, b"one"));
        stream.extend(client(2, b"two"));
        for size in 1..stream.len() {
            let (mut unfinished, mut said, mut messages) = (Unfinished::default(), Vec::new(), 0);
            for piece in stream.chunks(size) {
                let (answer, more, closed) = unfinished.add(piece);
                assert!(!closed);
                said.extend(answer);
                messages += more;
            }
            assert!(said.starts_with(b"HTTP/1.1 101") && said.ends_with(b"\x82\x03one\x82\x03two"), "{size}");
            assert!(messages == 2 && unfinished.is_clear());
        }
        assert!(Unfinished::default().add(b"GET / HTTP/1.1\r\n\r\n").2, "no upgrade");
    }

    #[test]
    fn an_upgrade_is_answered_as_the_standard_says() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest";
        let (size, answer) = upgrade(head).unwrap().unwrap();
        assert_eq!(&head[size..], b"rest");
        assert!(String::from_utf8(answer).unwrap().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(upgrade(b"GET / HTTP/1.1\r\n"), Ok(None));
        assert_eq!(upgrade(b"GET / HTTP/1.1\r\n\r\n"), Err(NoUpgrade));
    }
}
