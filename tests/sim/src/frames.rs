//! The client's side of WebSocket: frames are masked by the simulator's own hand, and the server's frames are read strictly.

use crate::chance::Chance;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Appends one masked frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, fin: bool, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(u8::from(fin) << 7 | opcode);
    match payload.len() {
        size @ 0..=125 => out.push(0x80 | size as u8),
        size @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let from = out.len();
    out.extend_from_slice(payload);
    let word = u32::from_le_bytes(mask);
    let mut words = out[from..].chunks_exact_mut(4);
    for part in &mut words {
        let masked = u32::from_le_bytes([part[0], part[1], part[2], part[3]]) ^ word;
        part.copy_from_slice(&masked.to_le_bytes());
    }
    words.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// Appends a text message: whole, or now and then in fragments with a ping between them.
pub(crate) fn put_text(out: &mut Vec<u8>, chance: &mut Chance, text: &[u8], fragments: u64) {
    let mut rest = text;
    let mut opcode = TEXT;
    for _ in 1..fragments {
        let size = chance.index(rest.len() + 1);
        let (head, tail) = rest.split_at(size);
        put_frame(out, false, opcode, head, mask(chance));
        rest = tail;
        opcode = 0;
        if chance.percent(20) {
            put_frame(out, true, PING, b"between", mask(chance));
        }
    }
    put_frame(out, true, opcode, rest, mask(chance));
}

pub(crate) fn mask(chance: &mut Chance) -> [u8; 4] {
    (chance.u64() as u32).to_le_bytes()
}

/// A frame of the server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Frame<'r> {
    Text(&'r str),
    Close { code: Option<u16>, reason: String },
    Pong,
    Ping(&'r [u8]),
}

/// The frame at the front of what was received, and its size, once it is whole. Servers do not mask and ours does not fragment.
pub(crate) fn read_frame(received: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let Some(&[first, second]) = received.first_chunk() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(format!("a frame of the server with reserved bits: {first:#x}"));
    }
    if first & 0x80 == 0 {
        return Err("a fragment of the server".into());
    }
    if second & 0x80 != 0 {
        return Err("a masked frame of the server".into());
    }
    let (header, size) = match second & 0x7F {
        126 => match received.get(2..4) {
            Some(bytes) => (4, usize::from(u16::from_be_bytes(bytes.try_into().expect("two bytes")))),
            None => return Ok(None),
        },
        127 => match received.get(2..10) {
            Some(bytes) => (10, u64::from_be_bytes(bytes.try_into().expect("eight bytes")) as usize),
            None => return Ok(None),
        },
        size => (2, usize::from(size)),
    };
    if (header == 4 && size < 126) || (header == 10 && size < 0x1_0000) {
        return Err("a length of the server that is not the shortest".into());
    }
    if received.len() < header + size {
        return Ok(None);
    }
    let payload = &received[header..header + size];
    let opcode = first & 0x0F;
    if opcode >= 8 && size > 125 {
        return Err("a control frame of the server over 125 bytes".into());
    }
    let frame = match opcode {
        TEXT => {
            Frame::Text(core::str::from_utf8(payload).map_err(|_| "a text of the server that is not UTF-8")?)
        }
        CLOSE => read_close(payload)?,
        PONG => Frame::Pong,
        PING => Frame::Ping(payload),
        other => return Err(format!("a frame of the server with opcode {other}")),
    };
    Ok(Some((frame, header + size)))
}

fn read_close(payload: &[u8]) -> Result<Frame<'static>, String> {
    match payload {
        [] => Ok(Frame::Close { code: None, reason: String::new() }),
        [high, low, reason @ ..] => {
            let reason = core::str::from_utf8(reason).map_err(|_| "a close reason that is not UTF-8")?;
            Ok(Frame::Close { code: Some(u16::from_be_bytes([*high, *low])), reason: reason.into() })
        }
        [_] => Err("a close frame of one byte".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_frame_is_read_when_it_is_whole() {
        let mut received = vec![0x81, 5, b'h', b'e', b'l', b'l'];
        assert_eq!(read_frame(&received), Ok(None));
        received.push(b'o');
        received.extend_from_slice(&[0x88, 2, 0x0F, 0xA0]);
        assert_eq!(read_frame(&received), Ok(Some((Frame::Text("hello"), 7))));
        let close = Frame::Close { code: Some(4000), reason: String::new() };
        assert_eq!(read_frame(&received[7..]), Ok(Some((close, 4))));
        assert_eq!(read_frame(&[]), Ok(None));
    }

    #[test]
    fn what_a_server_may_not_send_is_noticed() {
        for bytes in
            [&[0x01, 0][..], &[0x81, 0x80], &[0xC1, 0], &[0x81, 126, 0, 5], &[0x82, 0], &[0x81, 1, 0xFF]]
        {
            assert!(read_frame(bytes).is_err(), "{bytes:?}");
        }
    }
}
