//! The envelopes that make up nearly all traffic, in the very form in which clients write them: no blanks, no escapes, keys in the order
//! of docs/protocol.md. Whatever differs by one byte is the general parser's, which gives the same answer and takes ten times as long.

use super::{Ack, CID_CHARS, Envelope, MAX_BODY_CHARS, Op, Send};
use crate::encode::clean_run;
use crate::id::{ConversationId, ID_TEXT_SIZE};
use core::ops::Range;

/// What was recognised, with strings by their place in the text: the text itself is borrowed only when it is certain that no other
/// reader needs it.
pub(super) struct Plain {
    /// The client's number for the reply.
    pub(super) id: Option<u32>,
    shape: Shape,
}

enum Shape {
    Send { c: ConversationId, cid: Range<usize>, body: Range<usize> },
    Ack(Ack),
    Seen { c: ConversationId, s: u32 },
    Typing { c: ConversationId, on: bool },
}

impl Plain {
    /// Recognises a plain envelope; `None` says nothing about the text but that it is not plain.
    pub(super) fn of(text: &[u8]) -> Option<Plain> {
        let mut rest = Rest { text, at: 0 };
        rest.skip(b"{\"")?;
        let id = match rest.skip(b"id\":") {
            Some(()) => {
                let id = u32::try_from(rest.number()?).ok()?;
                rest.skip(b",\"")?;
                Some(id)
            }
            None => None,
        };
        rest.skip(b"op\":\"")?;
        let shape = match rest.peek()? {
            (b's', b'e', b'n') => {
                rest.skip(b"send\",\"d\":{\"c\":\"")?;
                let c = rest.conversation()?;
                rest.skip(b"\",\"cid\":\"")?;
                let cid = rest.string()?;
                if !CID_CHARS.contains(&cid.len()) || !text[cid.clone()].is_ascii() {
                    return None;
                }
                rest.skip(b"\",\"type\":\"text\",\"body\":\"")?;
                let body = rest.string()?;
                // So many bytes cannot be more characters; longer texts are counted elsewhere.
                if body.is_empty() || body.len() > MAX_BODY_CHARS {
                    return None;
                }
                rest.skip(b"\"")?;
                Shape::Send { c, cid, body }
            }
            (b'a', b'c', b'k') => {
                rest.skip(b"ack\",\"d\":{\"")?;
                match rest.skip(b"p\":") {
                    Some(()) => Shape::Ack(Ack::P(rest.number()?)),
                    None => {
                        rest.skip(b"c\":\"")?;
                        let (c, s) = rest.place()?;
                        Shape::Ack(Ack::At { c, s })
                    }
                }
            }
            (b's', b'e', b'e') => {
                rest.skip(b"seen\",\"d\":{\"c\":\"")?;
                let (c, s) = rest.place()?;
                Shape::Seen { c, s }
            }
            (b't', b'y', b'p') => {
                rest.skip(b"typing\",\"d\":{\"c\":\"")?;
                let c = rest.conversation()?;
                rest.skip(b"\",\"on\":")?;
                let on = match rest.skip(b"true") {
                    Some(()) => true,
                    None => {
                        rest.skip(b"false")?;
                        false
                    }
                };
                Shape::Typing { c, on }
            }
            _ => return None,
        };
        (text.get(rest.at..)? == b"}}").then_some(Plain { id, shape })
    }

    /// The envelope with its strings, or `None` if they are not UTF-8.
    pub(super) fn envelope(self, text: &[u8]) -> Option<Envelope<'_>> {
        let op = match self.shape {
            Shape::Send { c, cid, body } => Op::Send(Send {
                c,
                cid: simdutf8::basic::from_utf8(&text[cid]).ok()?,
                body: simdutf8::basic::from_utf8(&text[body]).ok()?,
            }),
            Shape::Ack(ack) => Op::Ack(ack),
            Shape::Seen { c, s } => Op::Seen { c, s },
            Shape::Typing { c, on } => Op::Typing { c, on },
        };
        Some(Envelope { id: self.id, op })
    }
}

/// The text and how far it has been read.
struct Rest<'t> {
    text: &'t [u8],
    at: usize,
}

impl Rest<'_> {
    /// Goes over `word`, if it is what comes next.
    #[inline]
    fn skip<const N: usize>(&mut self, word: &[u8; N]) -> Option<()> {
        (self.text.get(self.at..)?.first_chunk::<N>()? == word).then(|| self.at += N)
    }

    /// The next three bytes: enough to tell the operations apart.
    fn peek(&self) -> Option<(u8, u8, u8)> {
        let &[first, second, third] = self.text.get(self.at..)?.first_chunk()?;
        Some((first, second, third))
    }

    /// A whole number of at most 19 digits, as JSON writes it: no zero before other digits. 19 digits fit in 64 bits.
    fn number(&mut self) -> Option<u64> {
        let digits = self.text.get(self.at..)?;
        let mut count = 0;
        let mut number = 0u64;
        while let Some(digit) =
            digits.get(count).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10)
        {
            if count == 19 {
                return None;
            }
            number = number * 10 + u64::from(digit);
            count += 1;
        }
        if count == 0 || (count > 1 && digits[0] == b'0') {
            return None;
        }
        self.at += count;
        Some(number)
    }

    /// The id of a conversation, without its quotes.
    fn conversation(&mut self) -> Option<ConversationId> {
        let text = self.text.get(self.at..)?.first_chunk::<ID_TEXT_SIZE>()?;
        self.at += ID_TEXT_SIZE;
        ConversationId::from_bits(crate::id::bits_of_text(text)?)
    }

    /// The id of a conversation that is open already, and `s`.
    fn place(&mut self) -> Option<(ConversationId, u32)> {
        let c = self.conversation()?;
        self.skip(b"\",\"s\":")?;
        Some((c, u32::try_from(self.number()?).ok()?))
    }

    /// The inside of a string that is open already, up to its closing quote, if it has no escapes and no control characters.
    fn string(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..)?;
        let length = memchr::memchr2(b'"', b'\\', rest)?;
        if rest[length] != b'"' || clean_run(&rest[..length], |byte| byte < 0x20) != length {
            return None;
        }
        let from = self.at;
        self.at += length;
        Some(from..self.at)
    }
}
