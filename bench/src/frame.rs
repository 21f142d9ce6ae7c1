//! The client's side of RFC 6455 frames: masked messages out, whole messages in. Nothing here is shared with the server, so that the two do not
//! share a mistake.

/// What a frame carries (RFC 6455, section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// Anything else that carries data.
    Binary,
    /// The peer closes.
    Close,
    /// To be answered with the same payload.
    Ping,
    /// The answer.
    Pong,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Kind::Text => 1,
            Kind::Binary => 2,
            Kind::Close => 8,
            Kind::Ping => 9,
            Kind::Pong => 10,
        }
    }
}

/// What was wrong with what the server sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadFrame {
    /// Reserved bits, an unknown opcode, a masked frame, a length not in its shortest form, or a control frame that is split or too long.
    Header,
    /// A continuation of nothing, or a new message inside of another.
    Order,
    /// More than [`MESSAGE_MAX`] bytes.
    TooLong,
}

/// Largest message that is taken, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;

/// Appends one masked frame; `write` appends the payload.
pub(crate) fn put(out: &mut Vec<u8>, kind: Kind, mask: [u8; 4], write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    // Room for the longest header; the payload moves back over what is not needed. Messages of a load are short: it moves eight bytes at most.
    out.extend_from_slice(&[0; 14]);
    write(out);
    let size = out.len() - at - 14;
    for (byte, mask) in out[at + 14..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    let mut header = [0u8; 14];
    header[0] = 0x80 | kind.opcode();
    let length = match size {
        0..126 => {
            header[1] = 0x80 | size as u8;
            2
        }
        126..=0xFFFF => {
            header[1] = 0x80 | 126;
            header[2..4].copy_from_slice(&(size as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 0x80 | 127;
            header[2..10].copy_from_slice(&(size as u64).to_be_bytes());
            10
        }
    };
    header[length..length + 4].copy_from_slice(&mask);
    let header = &header[..length + 4];
    out[at..at + header.len()].copy_from_slice(header);
    out.copy_within(at + 14.., at + header.len());
    out.truncate(at + header.len() + size);
}

/// Finds messages in what is received. Keeps what is not whole yet, and holds no memory between messages that came whole.
#[derive(Default)]
pub(crate) struct Decoder {
    rest: Vec<u8>,
    /// A message in several frames: its kind and what has come.
    split: Option<(Kind, Vec<u8>)>,
}

struct Header {
    last: bool,
    opcode: u8,
    start: usize,
    end: usize,
}

fn header(bytes: &[u8]) -> Result<Option<Header>, BadFrame> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(BadFrame::Header);
    }
    let (start, size) = match second {
        126 => match bytes.get(2..4) {
            None => return Ok(None),
            Some(size) => (4, u64::from(u16::from_be_bytes([size[0], size[1]]))),
        },
        127 => match bytes.get(2..10) {
            None => return Ok(None),
            Some(size) => (10, u64::from_be_bytes(size.try_into().expect("eight bytes"))),
        },
        size => (2, u64::from(size)),
    };
    let shortest = match start {
        2 => true,
        4 => size >= 126,
        _ => size > 0xFFFF,
    };
    let control = first & 8 != 0;
    if !shortest || (control && (size > 125 || first & 0x80 == 0)) {
        return Err(BadFrame::Header);
    }
    if size > MESSAGE_MAX as u64 {
        return Err(BadFrame::TooLong);
    }
    Ok(Some(Header { last: first & 0x80 != 0, opcode: first & 15, start, end: start + size as usize }))
}

impl Decoder {
    /// Takes bytes that came before anybody listened.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Whether a whole frame is kept: nothing more need come before it can be told.
    pub(crate) fn has_frame(&self) -> bool {
        header(&self.rest).is_ok_and(|header| header.is_some_and(|header| header.end <= self.rest.len()))
    }

    /// Takes what came and hands every whole message to `tell`, in order.
    ///
    /// # Errors
    /// What the server did wrong; nothing more is to be read from it.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Kind, &[u8])) -> Result<(), BadFrame> {
        if self.rest.is_empty() {
            let used = self.consume(bytes, &mut tell)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut all = core::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let used = self.consume(&all, &mut tell)?;
        if used < all.len() {
            all.drain(..used);
            self.rest = all;
        }
        Ok(())
    }

    fn consume(&mut self, bytes: &[u8], tell: &mut impl FnMut(Kind, &[u8])) -> Result<usize, BadFrame> {
        let mut used = 0;
        while let Some(Header { last, opcode, start, end }) = header(&bytes[used..])? {
            let Some(payload) = bytes[used..].get(start..end) else { break };
            used += end;
            let kind = match opcode {
                1 => Kind::Text,
                2 => Kind::Binary,
                8 => Kind::Close,
                9 => Kind::Ping,
                10 => Kind::Pong,
                0 => {
                    let (kind, mut whole) = self.split.take().ok_or(BadFrame::Order)?;
                    if whole.len() + payload.len() > MESSAGE_MAX {
                        return Err(BadFrame::TooLong);
                    }
                    whole.extend_from_slice(payload);
                    match last {
                        true => tell(kind, &whole),
                        false => self.split = Some((kind, whole)),
                    }
                    continue;
                }
                _ => return Err(BadFrame::Header),
            };
            match kind {
                Kind::Text | Kind::Binary if self.split.is_some() => return Err(BadFrame::Order),
                Kind::Text | Kind::Binary if !last => self.split = Some((kind, payload.to_vec())),
                _ => tell(kind, payload),
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![if last { 0x80 } else { 0 } | opcode];
        match payload.len() {
            size @ 0..126 => bytes.push(size as u8),
            size @ 126..=0xFFFF => {
                bytes.push(126);
                bytes.extend_from_slice(&(size as u16).to_be_bytes());
            }
            size => {
                bytes.push(127);
                bytes.extend_from_slice(&(size as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    fn told(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Vec<(Kind, Vec<u8>)>, BadFrame> {
        let mut told = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.feed(piece, |kind, payload| told.push((kind, payload.to_vec())))?;
        }
        Ok(told)
    }

    #[test]
    fn messages_come_whole_however_the_bytes_are_cut() {
        let long = vec![b'x'; 70_000];
        let mut bytes = served(1, true, b"hello");
        bytes.extend(served(1, false, b"one "));
        bytes.extend(served(9, true, b"between"));
        bytes.extend(served(0, false, b"two "));
        bytes.extend(served(0, true, b"three"));
        bytes.extend(served(2, true, &long));
        bytes.extend(served(8, true, &[3, 232]));
        let expected = [
            (Kind::Text, b"hello".to_vec()),
            (Kind::Ping, b"between".to_vec()),
            (Kind::Text, b"one two three".to_vec()),
            (Kind::Binary, long),
            (Kind::Close, vec![3, 232]),
        ];
        for piece in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut decoder = Decoder::default();
            assert_eq!(told(&mut decoder, &bytes, piece).as_deref(), Ok(&expected[..]), "{piece}");
            assert_eq!(
                decoder.rest.capacity() * usize::from(decoder.rest.is_empty() && piece == bytes.len()),
                0
            );
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_named() {
        for (bytes, bad) in [
            (vec![0xC1, 0], BadFrame::Header),
            (vec![0x83, 0], BadFrame::Header),
            (vec![0x81, 0x80, 0, 0, 0, 0], BadFrame::Header),
            (vec![0x81, 126, 0, 5], BadFrame::Header),
            (vec![0x81, 127, 0, 0, 0, 0, 0, 0, 1, 0], BadFrame::Header),
            (vec![0x09, 0], BadFrame::Header),
            (vec![0x80, 0], BadFrame::Order),
            ([served(1, false, b"a"), served(1, true, b"b")].concat(), BadFrame::Order),
            (vec![0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0], BadFrame::TooLong),
        ] {
            assert_eq!(told(&mut Decoder::default(), &bytes, bytes.len()), Err(bad), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_put_unmasks_to_what_was_written() {
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let mask = [1, 2, 3, 250];
            let mut out = b"before".to_vec();
            put(&mut out, Kind::Text, mask, |out| out.extend_from_slice(&payload));
            assert!(out.starts_with(b"before"));
            let frame = &out[6..];
            assert_eq!((frame[0], frame[1] & 0x80), (0x81, 0x80));
            // Without the mask it is what a server would have sent, mask and all.
            let head = match size {
                0..126 => 2,
                126..=0xFFFF => 4,
                _ => 10,
            };
            assert_eq!(frame[head..head + 4], mask);
            let clear: Vec<u8> =
                frame[head + 4..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let mut bytes = frame[..head].to_vec();
            bytes[1] &= 0x7F;
            bytes.extend(clear);
            assert_eq!(told(&mut Decoder::default(), &bytes, bytes.len()), Ok(vec![(Kind::Text, payload)]));
        }
    }
}
