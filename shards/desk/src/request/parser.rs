//! The parser: one envelope at a time, with buffers that are kept.

use super::fields::{
    self, Fault, Value, bad, body, conversation, fields, number, number_u32, optional, text,
};
use super::plain::Plain;
use super::{
    Ack, Auth, Availability, BadRequest, CID_CHARS, Cursor, Envelope, ErrorCode, First, HISTORY_LIMIT, Last,
    MAX_CURSORS, MAX_DEPTH, MAX_LOCALE_CHARS, MAX_NAME_CHARS, MAX_PAGE_CHARS, Note, Op, PADDING, RowKey,
    SYNC_LIMIT, Scope, Send, Start, Sync,
};
use crate::id::SessionId;
use core::ops::Range;
use simd_json::{Buffers, ErrorType, Tape};

/// Parses envelopes. One per shard; its buffers grow to the largest text seen (at most about 30 bytes for each byte of it) and stay.
pub struct Parser {
    buffers: Buffers,
    /// Empty between two calls: only its memory is kept.
    tape: Tape<'static>,
    /// A padded copy of texts that end too close to the end of their buffer.
    scratch: Vec<u8>,
    cursors: Vec<Cursor>,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// A parser with room for an ordinary message.
    pub fn new() -> Parser {
        Parser {
            buffers: Buffers::with_max_depth(4096, MAX_DEPTH),
            tape: Tape(Vec::with_capacity(64)),
            scratch: Vec::new(),
            cursors: Vec::with_capacity(MAX_CURSORS),
        }
    }

    /// Parses the one envelope in `buffer[range]`, whose strings are unescaped in place: a text can be parsed once.
    ///
    /// Bytes of `buffer` after the range serve as padding and are left as they are; if fewer than [`PADDING`] are there, the text is copied.
    /// No range of bytes makes this panic; a range outside of `buffer` does.
    pub fn parse<'a>(
        &'a mut self,
        buffer: &'a mut [u8],
        range: Range<usize>,
    ) -> Result<Envelope<'a>, BadRequest> {
        let Parser { buffers, tape, scratch, cursors } = self;
        let length = range.len();
        if buffer[range.clone()] == *b"{}" {
            return Ok(Envelope { id: None, op: Op::Heartbeat });
        }
        if let Some(plain) = Plain::of(&buffer[range.clone()]) {
            let id = plain.id;
            return plain.envelope(&buffer[range]).ok_or(BadRequest { id, ..NOT_JSON });
        }
        let head = Head::of(&buffer[range.clone()]);
        let padded: &'a mut [u8] = if buffer.len() - range.end >= PADDING {
            &mut buffer[range.start..]
        } else {
            scratch.clear();
            scratch.extend_from_slice(&buffer[range]);
            scratch.resize(length + PADDING, b' ');
            scratch
        };
        let mut nodes: Tape<'a> = core::mem::replace(tape, Tape(Vec::new())).reset();
        let read = match simd_json::fill_tape_padded(padded, length, buffers, &mut nodes) {
            Ok(()) => envelope(&nodes.0, cursors),
            Err(error) => Err(refusal(&error, head.id())),
        };
        *tape = nodes.reset();
        read
    }
}

/// The first bytes of a text, kept because parsing borrows the rest: a text that is not JSON may still have begun with `{"id":7,`.
struct Head([u8; 32]);

impl Head {
    fn of(text: &[u8]) -> Head {
        let mut head = [0; 32];
        let length = text.len().min(head.len());
        head[..length].copy_from_slice(&text[..length]);
        Head(head)
    }

    #[cold]
    fn id(&self) -> Option<u32> {
        let mut rest = self.0.trim_ascii_start();
        for token in [&b"{"[..], b"\"id\"", b":"] {
            rest = rest.strip_prefix(token)?.trim_ascii_start();
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, after) = rest.split_at(digits);
        if !matches!(after.trim_ascii_start().first(), Some(b',' | b'}'))
            || (number[..] != *b"0" && number.starts_with(b"0"))
        {
            return None;
        }
        core::str::from_utf8(number).ok()?.parse().ok()
    }
}

const NOT_JSON: BadRequest = BadRequest {
    id: None,
    code: ErrorCode::BadRequest,
    what: "the envelope must be a JSON object on one line",
    not_json: true,
};

#[cold]
fn refusal(error: &simd_json::Error, id: Option<u32>) -> BadRequest {
    let (what, not_json) = match error.error() {
        // Half of an emoji, cut by a careless client: a bug, and no reason to send the person away.
        ErrorType::InvalidUnicodeCodepoint => ("a string must not hold half of a surrogate pair", false),
        ErrorType::DepthLimitExceeded => ("the envelope must be nested at most 16 deep", true),
        ErrorType::InvalidNumber => ("a number must be JSON and fit in 64 bits", true),
        _ => return BadRequest { id, ..NOT_JSON },
    };
    BadRequest { id, code: ErrorCode::BadRequest, what, not_json }
}

fn envelope<'a>(nodes: Value<'_, 'a>, cursors: &'a mut Vec<Cursor>) -> Result<Envelope<'a>, BadRequest> {
    let refuse = |id, what, not_json| BadRequest { id, code: ErrorCode::BadRequest, what, not_json };
    let Some([id, op, d]) = fields(nodes, ["id", "op", "d"]) else {
        return Err(refuse(None, "the envelope must be a JSON object", true));
    };
    let id = match optional(id, |id| number_u32(id, "id must be a number from 0 to 4294967295")) {
        Ok(id) => id,
        Err(fault) => return Err(refuse(None, fault.what, false)),
    };
    let Some(name) = fields::string(op) else {
        if nodes.len() == 1 {
            return Ok(Envelope { id: None, op: Op::Heartbeat });
        }
        return Err(refuse(id, "op must be there and a string", true));
    };
    match operation(name, d, cursors) {
        Ok(op) => Ok(Envelope { id, op }),
        Err(Fault { code, what }) => Err(BadRequest { id, code, what, not_json: false }),
    }
}

fn operation<'a>(name: &str, d: Value<'_, 'a>, cursors: &'a mut Vec<Cursor>) -> Result<Op<'a>, Fault> {
    Ok(match name {
        "auth" => Op::Auth(auth(d)?),
        "start" => Op::Start(start(d)?),
        "send" => {
            let [c, cid, kind, words] = of(d, ["c", "cid", "type", "body"])?;
            plain_text(kind, "d.type must be \"text\"")?;
            Op::Send(Send { c: conversation(c)?, cid: client_id(cid)?, body: body(words, BODY)? })
        }
        "note" => {
            let [c, cid, words] = of(d, ["c", "cid", "body"])?;
            Op::Note(Note { c: conversation(c)?, cid: client_id(cid)?, body: body(words, BODY)? })
        }
        "accept" => {
            let [c, cid, offer] = of(d, ["c", "cid", "offer"])?;
            let offer = optional(offer, |offer| number(offer, u64::MAX, OFFER))?;
            Op::Accept { c: conversation(c)?, cid: client_id(cid)?, offer }
        }
        "decline" => {
            let [c, offer] = of(d, ["c", "offer"])?;
            Op::Decline { c: conversation(c)?, offer: number(offer, u64::MAX, OFFER)? }
        }
        "close" => {
            let [c, cid] = of(d, ["c", "cid"])?;
            Op::Close { c: conversation(c)?, cid: client_id(cid)? }
        }
        "sync" => Op::Sync(sync(d, cursors)?),
        "unsync" => {
            let [c] = of(d, ["c"])?;
            Op::Unsync { c: conversation(c)? }
        }
        "history" => {
            let [c, before, limit] = of(d, ["c", "before", "limit"])?;
            let limit = page_size(limit, HISTORY_LIMIT, "d.limit must be a number from 1 to 200")?;
            let before = number_u32(before, "d.before must be a number from 0 to 4294967295")?;
            Op::History { c: conversation(c)?, before, limit }
        }
        "ack" => {
            let [p, c, s] = of(d, ["p", "c", "s"])?;
            Op::Ack(match optional(p, |p| number(p, u64::MAX, "d.p must be a whole number"))? {
                Some(p) => Ack::P(p),
                None => Ack::At { c: conversation(c)?, s: number_u32(s, PLACE)? },
            })
        }
        "seen" => {
            let [c, s] = of(d, ["c", "s"])?;
            Op::Seen { c: conversation(c)?, s: number_u32(s, PLACE)? }
        }
        "typing" => {
            let [c, on] = of(d, ["c", "on"])?;
            Op::Typing { c: conversation(c)?, on: fields::flag(on, "d.on must be true or false")? }
        }
        "avail" => {
            let [state, cap] = of(d, ["state", "cap"])?;
            let state = match fields::string(state) {
                Some("online") => Availability::Online,
                Some("busy") => Availability::Busy,
                Some("away") => Availability::Away,
                _ => return Err(bad("d.state must be online, busy or away")),
            };
            let most = u64::from(crate::settings::MAX_CAPACITY);
            let cap = optional(cap, |cap| number(cap, most, "d.cap must be a number from 0 to 500"))?;
            Op::Avail { state, cap: cap.map(|cap| cap as u16) }
        }
        "sub" => Op::Sub { scope: scope(d)? },
        "unsub" => Op::Unsub { scope: scope(d)? },
        "list" => {
            let [after] = of(d, ["after"])?;
            let after = optional(after, |after| {
                fields::string(after).and_then(RowKey::parse).ok_or(bad("d.after must be the next of a list"))
            })?;
            Op::List { scope: scope(d)?, after }
        }
        _ => return Err(bad("op is unknown")),
    })
}

const BODY: &str = "d.body must be a string of 1 to 10000 characters";
const OFFER: &str = "d.offer must be a whole number";
const PLACE: &str = "d.s must be a number from 0 to 4294967295";

fn of<'t, 'a, const N: usize>(d: Value<'t, 'a>, names: [&str; N]) -> Result<[Value<'t, 'a>; N], Fault> {
    fields(d, names).ok_or(bad("d must be an object"))
}

fn client_id<'a>(value: Value<'_, 'a>) -> Result<&'a str, Fault> {
    text(value, CID_CHARS, "d.cid must be a string of 16 to 64 characters")
}

fn plain_text(value: Value<'_, '_>, what: &'static str) -> Result<(), Fault> {
    if fields::string(value) == Some("text") { Ok(()) } else { Err(bad(what)) }
}

fn page_size(value: Value<'_, '_>, (most, default): (u16, u16), what: &'static str) -> Result<u16, Fault> {
    match optional(value, |value| number(value, u64::from(most), what))? {
        None => Ok(default),
        Some(0) => Err(bad(what)),
        Some(size) => Ok(size as u16),
    }
}

fn auth<'a>(d: Value<'_, 'a>) -> Result<Auth<'a>, Fault> {
    let [token, device, last] = of(d, ["token", "device", "last"])?;
    let token = optional(token, |token| fields::string(token).ok_or(bad("d.token must be a string")))?;
    let device = text(device, CID_CHARS, "d.device must be a string of 16 to 64 characters")?;
    let last = optional(last, |last| {
        let [sid, epoch, p] = fields(last, ["sid", "epoch", "p"]).ok_or(bad("d.last must be an object"))?;
        let sid = fields::string(sid).and_then(SessionId::parse);
        Ok(Last {
            sid: sid.ok_or(bad("d.last.sid must be the id of a session"))?,
            epoch: fields::bits(epoch, "d.last.epoch must be 26 characters of base32")?,
            p: number(p, u64::MAX, "d.last.p must be a whole number")?,
        })
    })?;
    Ok(Auth { token, device, last })
}

fn start<'a>(d: Value<'_, 'a>) -> Result<Start<'a>, Fault> {
    let [cid, name, page, locale, first] = of(d, ["cid", "name", "page", "locale", "first"])?;
    let short = |value, most, what| optional(value, |value| text(value, 0..=most, what));
    let cid = client_id(cid)?;
    Ok(Start {
        cid,
        name: short(name, MAX_NAME_CHARS, "d.name must be a string of at most 80 characters")?,
        page: short(page, MAX_PAGE_CHARS, "d.page must be a string of at most 512 characters")?,
        locale: short(locale, MAX_LOCALE_CHARS, "d.locale must be a string of at most 16 characters")?,
        first: optional(first, |first| {
            let [own, kind, words] =
                fields(first, ["cid", "type", "body"]).ok_or(bad("d.first must be an object"))?;
            plain_text(kind, "d.first.type must be \"text\"")?;
            let own = text(own, CID_CHARS, "d.first.cid must be a string of 16 to 64 characters")?;
            if own == cid {
                return Err(bad("d.first.cid must be another one than d.cid"));
            }
            Ok(First {
                cid: own,
                body: body(words, "d.first.body must be a string of 1 to 10000 characters")?,
            })
        })?,
    })
}

fn sync<'a>(d: Value<'_, '_>, cursors: &'a mut Vec<Cursor>) -> Result<Sync<'a>, Fault> {
    const WHAT: &str = "d.cursors must be an array of at most 512";
    let [list, limit] = of(d, ["cursors", "limit"])?;
    let limit = page_size(limit, SYNC_LIMIT, "d.limit must be a number from 1 to 500")?;
    if fields::length(list).is_none_or(|length| length > MAX_CURSORS) {
        return Err(bad(WHAT));
    }
    cursors.clear();
    for one in fields::elements(list).ok_or(bad(WHAT))? {
        let [c, s, e] =
            fields(one, ["c", "s", "e"]).ok_or(bad("d.cursors must hold objects of c, s and e"))?;
        cursors.push(Cursor {
            c: conversation(c).map_err(|_| bad("d.cursors.c must be the id of a conversation"))?,
            s: number_u32(s, "d.cursors.s must be a number from 0 to 4294967295")?,
            e: optional(e, |e| number_u32(e, "d.cursors.e must be a number from 0 to 4294967295"))?,
        });
    }
    Ok(Sync { limit, cursors })
}

fn scope(d: Value<'_, '_>) -> Result<Scope, Fault> {
    let [scope] = of(d, ["scope"])?;
    match fields::string(scope) {
        Some("queue") => Ok(Scope::Queue),
        Some("mine") => Ok(Scope::Mine),
        _ => Err(bad("d.scope must be queue or mine")),
    }
}
