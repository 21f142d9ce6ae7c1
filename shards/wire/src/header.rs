//! The frame header, RFC 6455 §5.2, judged byte by byte in the order in which it arrives.
//!
//! ```text
//!      0               1               2 …
//!     +-+-+-+-+-------+-+-------------+-------------------------+-------------+
//!     |F|R|R|R| opcode|M| 7-bit       | 16 bits if it was 126   | masking key |
//!     |I|S|S|S|  (4)  |A| length      | 64 bits if it was 127   | (4 bytes)   |
//!     |N|V|V|V|       |S|             |                         |             |
//!     +-+-+-+-+-------+-+-------------+-------------------------+-------------+
//! ```

use crate::CONTROL_SIZE_MAX;

/// The largest header that a client can send: 2 + 8 bytes of length + 4 bytes of mask.
pub(crate) const HEADER_SIZE_MAX: usize = 14;

/// What a peer may send. Refused at the frame header, before any payload is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message in bytes, all its fragments together.
    pub message_size_max: u32,
    /// The largest number of frames that make one message.
    pub fragment_count_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message_size_max: 64 * 1024, fragment_count_max: 1024 }
    }
}

/// The peer broke RFC 6455 or a limit. Nothing after it can be understood: send a close frame with
/// [`close_code`](Violation::close_code) and [`reason`](Violation::reason) and end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A rule of RFC 6455; the text names it. Usually a faulty or hostile client.
    Protocol(&'static str),
    /// A message larger than [`Limits::message_size_max`] or of more than [`Limits::fragment_count_max`] frames.
    TooBig,
    /// A text message, or the reason of a close frame, that is not UTF-8.
    BadUtf8,
}

impl Violation {
    /// The close code that answers it (RFC 6455 §7.4.1): 1002, 1009 or 1007.
    pub fn close_code(&self) -> u16 {
        match self {
            Violation::Protocol(_) => 1002,
            Violation::BadUtf8 => 1007,
            Violation::TooBig => 1009,
        }
    }

    /// The reason for the close frame: ASCII, at most 123 bytes.
    pub fn reason(&self) -> &'static str {
        match self {
            Violation::Protocol(rule) => rule,
            Violation::BadUtf8 => "text is not UTF-8",
            Violation::TooBig => "message too big",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(crate) fn is_control(self) -> bool {
        match self {
            Opcode::Close | Opcode::Ping | Opcode::Pong => true,
            Opcode::Continuation | Opcode::Text | Opcode::Binary => false,
        }
    }

    fn of(byte: u8) -> Result<Opcode, Violation> {
        match byte & 0x0f {
            0x0 => Ok(Opcode::Continuation),
            0x1 => Ok(Opcode::Text),
            0x2 => Ok(Opcode::Binary),
            0x8 => Ok(Opcode::Close),
            0x9 => Ok(Opcode::Ping),
            0xa => Ok(Opcode::Pong),
            _ => Err(Violation::Protocol("reserved opcode")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    /// Bounded by [`Room::size_left`] or, for a control frame, by 125.
    pub(crate) size: u32,
    pub(crate) mask: [u8; 4],
}

/// What the connection's state allows the next data frame to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) message_open: bool,
    pub(crate) size_left: u32,
    pub(crate) fragments_left: u16,
}

/// The header at the front of `bytes` and its own size, or `None` while it is incomplete.
///
/// # Errors
/// A violation is reported as soon as the byte that commits it is there, so the verdict does not depend on
/// how the bytes were cut.
pub(crate) fn parse(bytes: &[u8], room: Room) -> Result<Option<(FrameHeader, usize)>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    // "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values."
    if first & 0x70 != 0 {
        return Err(Violation::Protocol("reserved bit set"));
    }
    let opcode = Opcode::of(first)?;
    let fin = first & 0x80 != 0;
    if opcode.is_control() {
        // §5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
        if !fin {
            return Err(Violation::Protocol("fragmented control frame"));
        }
    } else {
        match (opcode == Opcode::Continuation, room.message_open) {
            (true, false) => return Err(Violation::Protocol("continuation without a message")),
            (false, true) => return Err(Violation::Protocol("new message inside a fragmented one")),
            (true, true) | (false, false) => {}
        }
        if room.fragments_left == 0 {
            return Err(Violation::TooBig);
        }
    }

    let Some(&second) = bytes.get(1) else { return Ok(None) };
    // §5.1: "The server MUST close the connection upon receiving a frame that is not masked."
    if second & 0x80 == 0 {
        return Err(Violation::Protocol("frame is not masked"));
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_SIZE_MAX {
        return Err(Violation::Protocol("control frame larger than 125 bytes"));
    }
    let Some((size, mask_offset)) = payload_size(short, &bytes[2..])? else { return Ok(None) };
    if !opcode.is_control() && size > u64::from(room.size_left) {
        return Err(Violation::TooBig);
    }

    let Some(&mask) = bytes[mask_offset..].first_chunk::<4>() else { return Ok(None) };
    let size = u32::try_from(size).expect("bounded by `size_left` or by 125 just above");
    Ok(Some((FrameHeader { opcode, fin, size, mask }, mask_offset + 4)))
}

/// The payload's size and the offset of what follows it in the frame. `after` begins behind the 7-bit length.
fn payload_size(short: u8, after: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    // "the minimal number of bytes MUST be used to encode the length"
    const NOT_MINIMAL: Violation = Violation::Protocol("length is not minimal");
    match short {
        126 => {
            let Some(&long) = after.first_chunk::<2>() else { return Ok(None) };
            let size = u64::from(u16::from_be_bytes(long));
            if size < 126 { Err(NOT_MINIMAL) } else { Ok(Some((size, 4))) }
        }
        127 => {
            // "the most significant bit MUST be 0"
            if after.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(Violation::Protocol("length has its highest bit set"));
            }
            let Some(&long) = after.first_chunk::<8>() else { return Ok(None) };
            let size = u64::from_be_bytes(long);
            if size <= u64::from(u16::MAX) { Err(NOT_MINIMAL) } else { Ok(Some((size, 10))) }
        }
        _ => Ok(Some((u64::from(short), 2))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { message_open: false, size_left: 65_536, fragments_left: 1_024 };

    #[test]
    fn a_header_is_incomplete_at_every_byte_but_its_last() {
        let whole: [&[u8]; 3] = [
            &[0x81, 0x85, 1, 2, 3, 4],
            &[0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4],
            &[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
        ];
        for (bytes, size) in whole.into_iter().zip([5, 256, 65_536]) {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut], ROOM), Ok(None), "cut {cut} of {bytes:02x?}");
            }
            let (header, header_size) = parse(bytes, ROOM).unwrap().expect("it is whole");
            assert_eq!((header.size, header_size), (size, bytes.len()));
            assert_eq!(header.mask, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_size_beyond_the_room_is_refused_before_the_mask_has_arrived() {
        let room = Room { size_left: 300, ..ROOM };
        assert_eq!(parse(&[0x81, 0xfe, 0x01, 0x2d], room), Err(Violation::TooBig));
        assert_eq!(parse(&[0x81, 0xfe, 0x01, 0x2c], room), Ok(None));
        assert_eq!(
            parse(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], room),
            Err(Violation::TooBig)
        );
        // Control frames are bounded by their own rule, not by the room of messages.
        assert!(parse(&[0x89, 0x84, 0, 0, 0, 0], Room { size_left: 0, ..ROOM }).unwrap().is_some());
    }

    #[test]
    fn each_bad_byte_is_refused_as_soon_as_it_arrives() {
        let cases: [(&[u8], &str); 12] = [
            (&[0xc1], "reserved bit set"),
            (&[0xa1], "reserved bit set"),
            (&[0x91], "reserved bit set"),
            (&[0x83], "reserved opcode"),
            (&[0x8b], "reserved opcode"),
            (&[0x09], "fragmented control frame"),
            (&[0x80], "continuation without a message"),
            (&[0x81, 0x05], "frame is not masked"),
            (&[0x89, 0xfe], "control frame larger than 125 bytes"),
            (&[0x81, 0xfe, 0x00, 0x7d], "length is not minimal"),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "length is not minimal"),
            (&[0x81, 0xff, 0x80], "length has its highest bit set"),
        ];
        for (bytes, rule) in cases {
            assert_eq!(parse(bytes, ROOM), Err(Violation::Protocol(rule)), "{bytes:02x?}");
            assert!(parse(&bytes[..bytes.len() - 1], ROOM).is_ok(), "one byte less of {bytes:02x?}");
        }
        let open = Room { message_open: true, ..ROOM };
        assert_eq!(parse(&[0x81], open), Err(Violation::Protocol("new message inside a fragmented one")));
        assert_eq!(parse(&[0x00], Room { fragments_left: 0, ..open }), Err(Violation::TooBig));
    }

    #[test]
    fn close_codes_follow_the_standard() {
        assert_eq!(Violation::Protocol("x").close_code(), 1002);
        assert_eq!(Violation::BadUtf8.close_code(), 1007);
        assert_eq!(Violation::TooBig.close_code(), 1009);
    }
}
