//! The other end of the wire: a client's masked frames, and a reader that feeds a decoder in any cut.
#![allow(dead_code, reason = "each test crate uses its own part")]

use ringdesk_wire::{Decoder, Limits, Message, PartialPool, Place, Violation};

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
pub(crate) const FIN: u8 = 0x80;

/// A client's frame: masked, of minimal length. `first` is the whole first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        size @ 0..=125 => out.push(0x80 | size as u8),
        size @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    let mask = [0x11 ^ payload.len() as u8, 0xa2, 0x00, 0xff ^ first];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    out
}

/// A message, copied out of where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What a stream came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    pub(crate) violation: Option<Violation>,
    /// Bytes that had been given when it ended, whole pieces counted.
    pub(crate) given: usize,
}

pub(crate) struct Reader {
    pub(crate) decoder: Decoder,
    pub(crate) pool: PartialPool,
    pub(crate) limits: Limits,
    /// Whether buffers are given back at once or left to the next call.
    pub(crate) releases: bool,
}

impl Reader {
    pub(crate) fn new(limits: Limits) -> Self {
        Reader { decoder: Decoder::new(), pool: PartialPool::default(), limits, releases: true }
    }

    /// Feeds one piece and appends its messages to `events`.
    pub(crate) fn feed(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), Violation> {
        let mut bytes = piece.to_vec();
        let mut rest = &mut bytes[..];
        loop {
            let (consumed, message) = self.decoder.next(rest, &self.limits, &mut self.pool)?;
            let Some(message) = message else {
                assert_eq!(consumed, rest.len(), "nothing may be left behind without a message");
                return Ok(());
            };
            let mut payload = |place: Place| match place {
                Place::Here(range) => {
                    assert!(range.end <= consumed, "a payload lies in what was consumed");
                    rest[range].to_vec()
                }
                Place::Held => {
                    let payload = self.decoder.held_mut().to_vec();
                    let (padded, size) = self.decoder.held_padded(64);
                    assert!(padded.len() >= size + 64);
                    assert_eq!(&padded[..size], &payload);
                    assert_eq!(self.decoder.held_mut(), &payload, "padding is no part of the message");
                    if self.releases {
                        self.decoder.release(&mut self.pool);
                    }
                    payload
                }
            };
            events.push(match message {
                Message::Text(place) => Event::Text(payload(place)),
                Message::Binary(place) => Event::Binary(payload(place)),
                Message::Ping(place) => Event::Ping(payload(place)),
                Message::Pong(place) => Event::Pong(payload(place)),
                Message::Close { code } => Event::Close(code),
            });
            rest = &mut rest[consumed..];
        }
    }
}

/// Feeds `stream` in pieces of these sizes, in turn and again from the first.
pub(crate) fn read(stream: &[u8], sizes: &[usize], limits: Limits) -> (Outcome, Reader) {
    let mut reader = Reader::new(limits);
    // Both ways of giving a held message back must come to the same.
    reader.releases = sizes.len() % 2 == 1;
    let mut outcome = Outcome { events: Vec::new(), violation: None, given: 0 };
    let mut sizes = sizes.iter().cycle();
    while outcome.given < stream.len() {
        let size = (*sizes.next().expect("some size")).clamp(1, stream.len() - outcome.given);
        let piece = &stream[outcome.given..outcome.given + size];
        outcome.given += size;
        if let Err(violation) = reader.feed(piece, &mut outcome.events) {
            outcome.violation = Some(violation);
            break;
        }
    }
    (outcome, reader)
}
