//! Incoming frames of one connection: bytes to messages, RFC 6455 §5 and §8.1.

use core::ops::Range;

use crate::encode::close_code_valid;
use crate::header::{self, FrameHeader, HEADER_SIZE_MAX, Limits, Opcode, Room, Violation};
use crate::mask;
use crate::partial::{Ended, Kind, Partial, PartialPool};

/// One whole message or control frame. Text is valid UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message (opcode 1), all its fragments together.
    Text(Place),
    /// A binary message (opcode 2), all its fragments together.
    Binary(Place),
    /// A ping; the answer is a pong with the same payload (§5.5.2), at most 125 bytes.
    Ping(Place),
    /// A pong, asked for or not (§5.5.3).
    Pong(Place),
    /// The peer closes. Whatever follows in the stream is to be discarded (§5.5.1).
    Close {
        /// One that [`close_code_valid`] accepts, or `None` if the frame was empty. The reason behind it was UTF-8.
        code: Option<u16>,
    },
}

/// Where the unmasked payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this range of the slice that was passed to [`Decoder::next`], unmasked in place.
    Here(Range<usize>),
    /// In [`Decoder::held_mut`], until the next call of [`Decoder::next`] or [`Decoder::release`].
    Held,
}

/// The state of one connection's incoming stream.
///
/// Idle it is a few bytes and owns no heap. A buffer from the [`PartialPool`] appears only while a frame or a
/// message is incomplete; a header cut in two needs none.
#[derive(Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    /// The beginning of a header that has not arrived whole.
    head: [u8; HEADER_SIZE_MAX],
    head_size: u8,
    /// After a violation the stream has no meaning any more.
    failed: bool,
}

// Half a million idle connections are to cost memory for little else than their sockets.
const _: () = assert!(size_of::<Decoder>() <= 32);

impl Decoder {
    /// A decoder at the first byte behind the upgrade request.
    pub fn new() -> Self {
        Decoder { partial: None, head: [0; HEADER_SIZE_MAX], head_size: 0, failed: false }
    }

    /// Consumes bytes from the front of `bytes` and returns how many, with a whole message if one ended there.
    /// Call again with the rest: `None` means that everything was consumed and more is needed.
    ///
    /// A frame that lies whole in `bytes` is unmasked in place, without a copy and without an allocation.
    /// Control frames between fragments come out at once. What was held before is forgotten.
    ///
    /// # Errors
    /// The peer's fault, found at the first byte that commits it. Messages before it have been returned by earlier
    /// calls. Afterwards every call fails until [`reset`](Decoder::reset).
    pub fn next(
        &mut self,
        bytes: &mut [u8],
        limits: &Limits,
        pool: &mut PartialPool,
    ) -> Result<(usize, Option<Message>), Violation> {
        if self.failed {
            return Err(Violation::Protocol("data after a violation"));
        }
        self.forget_held(pool);
        let result = self.advance(bytes, limits, pool);
        self.failed = result.is_err();
        result
    }

    fn advance(
        &mut self,
        bytes: &mut [u8],
        limits: &Limits,
        pool: &mut PartialPool,
    ) -> Result<(usize, Option<Message>), Violation> {
        let mut offset = 0;
        loop {
            if let Some(partial) = self.partial.as_mut().filter(|partial| partial.frame_open()) {
                let (taken, ended) = partial.take(&bytes[offset..])?;
                offset += taken;
                if let Some(ended) = ended {
                    let message = held_message(ended, partial.held_mut())?;
                    if matches!(message, Message::Close { .. }) {
                        // It has no payload to hand out.
                        self.forget_held(pool);
                    }
                    return Ok((offset, Some(message)));
                }
                if partial.frame_open() {
                    assert_eq!(offset, bytes.len(), "an open frame takes all there is");
                    return Ok((offset, None));
                }
            }

            let (header, header_size) = self.take_header(&bytes[offset..], self.room(limits))?;
            offset += header_size;
            let Some(header) = header else { return Ok((offset, None)) };
            let single = header.opcode != Opcode::Continuation && header.fin;
            let end = offset + header.size as usize;
            if single && end <= bytes.len() {
                return Ok((end, Some(whole_message(header, &mut bytes[..end], offset)?)));
            }
            self.partial.get_or_insert_with(|| pool.take()).begin(header);
        }
    }

    /// What the next data frame may be.
    fn room(&self, limits: &Limits) -> Room {
        let (message_open, size, fragment_count) = match &self.partial {
            Some(partial) => (partial.message_open(), partial.message_size(), partial.fragment_count()),
            None => (false, 0, 0),
        };
        Room {
            message_open,
            // Saturating, since the limits may have been lowered while the message was open.
            size_left: (limits.message_size_max as usize).saturating_sub(size) as u32,
            fragments_left: limits.fragment_count_max.saturating_sub(fragment_count),
        }
    }

    /// Takes a header from the front of `bytes`, or all of them if it is not complete yet.
    fn take_header(&mut self, bytes: &[u8], room: Room) -> Result<(Option<FrameHeader>, usize), Violation> {
        if self.head_size == 0
            && let Some((header, size)) = header::parse(bytes, room)?
        {
            return Ok((Some(header), size));
        }
        // A header cut in two is rare and short: byte by byte is quick enough, and right at every byte.
        for (index, &byte) in bytes.iter().enumerate() {
            self.head[usize::from(self.head_size)] = byte;
            self.head_size += 1;
            let head = &self.head[..usize::from(self.head_size)];
            if let Some((header, size)) = header::parse(head, room)? {
                assert_eq!(size, head.len(), "a header is found whole at its last byte");
                self.head_size = 0;
                return Ok((Some(header), index + 1));
            }
        }
        Ok((None, bytes.len()))
    }

    /// The assembled message of a [`Place::Held`]; empty if nothing is held.
    pub fn held_mut(&mut self) -> &mut [u8] {
        self.partial.as_mut().map_or(&mut [], |partial| partial.held_mut())
    }

    /// The buffer of a [`Place::Held`] with at least `padding` zero bytes behind the message, for parsers that read in
    /// wide words; and the message's size. Panics if nothing is held.
    pub fn held_padded(&mut self, padding: usize) -> (&mut Vec<u8>, usize) {
        self.partial.as_mut().expect("only a held message has a padded buffer").held_padded(padding)
    }

    /// After a [`Place::Held`] was handled: gives its buffer back. A message that is open around a held control frame
    /// stays. Where nothing is held this is the end of the connection, as [`reset`](Decoder::reset).
    ///
    /// The next call of [`next`](Decoder::next) does the first by itself; calling this sooner makes the connection's
    /// memory idle sooner. Do not call it after a [`Place::Here`].
    pub fn release(&mut self, pool: &mut PartialPool) {
        if self.partial.as_ref().is_some_and(|partial| partial.is_held()) {
            self.forget_held(pool);
        } else {
            self.reset(pool);
        }
    }

    /// Gives every buffer back, whatever its state, and makes the decoder as new: for the end of a connection.
    pub fn reset(&mut self, pool: &mut PartialPool) {
        if let Some(partial) = self.partial.take() {
            pool.put(partial);
        }
        *self = Decoder::new();
    }

    /// True while a frame or a fragmented message is incomplete, be it by one byte of a header.
    pub fn is_mid_message(&self) -> bool {
        self.head_size > 0
            || self.partial.as_ref().is_some_and(|partial| partial.message_open() || partial.frame_open())
    }

    /// Bytes kept of what is incomplete: of a header, of the open message and of a control frame. What is held counts
    /// no more.
    pub fn partial_size(&self) -> usize {
        usize::from(self.head_size) + self.partial.as_ref().map_or(0, |partial| partial.incomplete_size())
    }

    fn forget_held(&mut self, pool: &mut PartialPool) {
        if let Some(partial) = &mut self.partial {
            partial.clear_held();
            if partial.is_idle() {
                pool.put(self.partial.take().expect("it was there a line ago"));
            }
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

/// The message of a frame that lies whole at the end of `bytes`; its payload begins at `offset`.
fn whole_message(header: FrameHeader, bytes: &mut [u8], offset: usize) -> Result<Message, Violation> {
    let range = offset..bytes.len();
    let payload = &mut bytes[offset..];
    mask::apply(payload, header.mask);
    match header.opcode {
        Opcode::Text => {
            simdutf8::basic::from_utf8(payload).map_err(|_| Violation::BadUtf8)?;
            Ok(Message::Text(Place::Here(range)))
        }
        Opcode::Binary => Ok(Message::Binary(Place::Here(range))),
        Opcode::Ping => Ok(Message::Ping(Place::Here(range))),
        Opcode::Pong => Ok(Message::Pong(Place::Here(range))),
        Opcode::Close => close_message(payload),
        Opcode::Continuation => unreachable!("a continuation is never whole by itself"),
    }
}

fn held_message(ended: Ended, payload: &[u8]) -> Result<Message, Violation> {
    match ended {
        Ended::Message(Kind::Text) => Ok(Message::Text(Place::Held)),
        Ended::Message(Kind::Binary) => Ok(Message::Binary(Place::Held)),
        Ended::Control(Opcode::Ping) => Ok(Message::Ping(Place::Held)),
        Ended::Control(Opcode::Pong) => Ok(Message::Pong(Place::Held)),
        Ended::Control(Opcode::Close) => close_message(payload),
        Ended::Control(Opcode::Continuation | Opcode::Text | Opcode::Binary) => {
            unreachable!("data frames end as messages")
        }
    }
}

/// §5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer … Following the
/// 2-byte integer, the body MAY contain UTF-8-encoded data."
fn close_message(payload: &[u8]) -> Result<Message, Violation> {
    let Some((&code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload.is_empty() {
            true => Ok(Message::Close { code: None }),
            false => Err(Violation::Protocol("close payload of one byte")),
        };
    };
    let code = u16::from_be_bytes(code);
    if !close_code_valid(code) {
        return Err(Violation::Protocol("invalid close code"));
    }
    simdutf8::basic::from_utf8(reason).map_err(|_| Violation::BadUtf8)?;
    Ok(Message::Close { code: Some(code) })
}
