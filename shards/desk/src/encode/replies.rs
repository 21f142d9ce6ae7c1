//! Replies: `{"re":…,"d":{…}}` or `{"re":…,"err":{…}}`. Nobody calls these for a request without an `id`.

use super::json::{flag_field, id_field, number_field, string_field, word_field};
use super::{Audience, EventView, Level, LossReason, Ready, Status, event, history_lost};
use crate::id::ConversationId;
use crate::request::{Availability, ErrorCode};

/// The reply to `auth`.
pub fn ready(out: &mut Vec<u8>, re: u32, ready: &Ready<'_>) {
    begin(out, re);
    id_field(out, b"\"sid\":", ready.sid.bits());
    id_field(out, b",\"me\":", ready.me);
    string_field(out, b",\"name\":", ready.name);
    if let Some(token) = ready.token {
        string_field(out, b",\"token\":", token);
    }
    number_field(out, b",\"slot\":", u64::from(ready.slot));
    id_field(out, b",\"epoch\":", ready.epoch);
    number_field(out, b",\"ts\":", ready.ts);
    number_field(out, b",\"p\":", ready.p);
    number_field(out, b",\"resume_ttl_ms\":", u64::from(ready.resume_ttl_ms));
    flag_field(out, b",\"resumed\":", ready.resumed);
    number_field(out, b",\"replay\":", u64::from(ready.replay));
    out.extend_from_slice(b",\"heads\":[");
    for (place, head) in ready.heads.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        id_field(out, b"{\"c\":", head.c.bits());
        number_field(out, b",\"s\":", u64::from(head.s));
        number_field(out, b",\"e\":", u64::from(head.e));
        word_field(out, b",\"status\":", Status::text(head.status));
        out.push(b'}');
    }
    out.extend_from_slice(b"]}}");
}

/// The reply to everything durable: it is stored at `level` with number `s` (in the stream of the client's audience). `c` is told by
/// `start` only; `dup` says that it was stored before.
pub fn stored(
    out: &mut Vec<u8>,
    re: u32,
    c: Option<ConversationId>,
    s: u32,
    ts: u64,
    level: Level,
    dup: bool,
) {
    begin(out, re);
    if let Some(c) = c {
        id_field(out, b"\"c\":", c.bits());
        out.push(b',');
    }
    number_field(out, b"\"s\":", u64::from(s));
    number_field(out, b",\"ts\":", ts);
    word_field(out, b",\"level\":", level.text());
    out.extend_from_slice(if dup { b",\"dup\":true}}" } else { b"}}" });
}

/// The reply that has nothing to say.
pub fn ok(out: &mut Vec<u8>, re: u32) {
    begin(out, re);
    out.extend_from_slice(b"}}");
}

/// A refusal. `msg` is for the client's author; an empty one says what the code means. `after_ms` says when to try again.
pub fn error(out: &mut Vec<u8>, re: u32, code: ErrorCode, msg: &str, after_ms: Option<u32>) {
    number_field(out, b"{\"re\":", u64::from(re));
    out.push(b',');
    refusal(out, code, msg, after_ms);
    out.push(b'}');
}

/// The reply to `sync`: `n` pushes of that name follow.
pub fn synced(out: &mut Vec<u8>, re: u32, n: u32) {
    begin(out, re);
    number_field(out, b"\"n\":", u64::from(n));
    out.extend_from_slice(b"}}");
}

/// The reply to `avail`.
pub fn avail_reply(out: &mut Vec<u8>, re: u32, state: Availability, cap: u16) {
    begin(out, re);
    word_field(out, b"\"state\":", state.text());
    number_field(out, b",\"cap\":", u64::from(cap));
    out.extend_from_slice(b"}}");
}

/// Begins the reply to `history`; [`history_event`] any number of times and [`history_end`] follow at once.
pub fn history_begin(out: &mut Vec<u8>, re: u32, c: ConversationId) {
    begin(out, re);
    id_field(out, b"\"c\":", c.bits());
    out.extend_from_slice(b",\"events\":[");
}

/// One event of a reply to `history`, as it was pushed. Panics like [`event`].
pub fn history_event(out: &mut Vec<u8>, audience: Audience, view: &EventView<'_>) {
    history_next(out);
    event(out, audience, view);
}

/// In place of the events `from..=to` of a reply to `history`: that they are not there, as a push would say it.
pub fn history_gap(out: &mut Vec<u8>, c: ConversationId, from: u32, to: u32, reason: LossReason) {
    history_next(out);
    history_lost(out, c, from, to, reason);
}

fn history_next(out: &mut Vec<u8>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
}

/// Ends the reply to `history`; `more` says that there are older events.
pub fn history_end(out: &mut Vec<u8>, more: bool) {
    flag_field(out, b"],\"more\":", more);
    out.extend_from_slice(b"}}");
}

pub(super) fn begin(out: &mut Vec<u8>, re: u32) {
    number_field(out, b"{\"re\":", u64::from(re));
    out.extend_from_slice(b",\"d\":{");
}

/// `"err":{…}`
pub(super) fn refusal(out: &mut Vec<u8>, code: ErrorCode, msg: &str, after_ms: Option<u32>) {
    word_field(out, b"\"err\":{\"code\":", code.text());
    string_field(out, b",\"msg\":", if msg.is_empty() { code.message() } else { msg });
    flag_field(out, b",\"retry\":", code.retry());
    if let Some(after_ms) = after_ms {
        number_field(out, b",\"after_ms\":", u64::from(after_ms));
    }
    out.push(b'}');
}
