//! Pushes: `{"op":…,"c":…,"s":…,"d":{…}}`, and the heartbeat.

use super::json::{flag_field, id_field, number_field, optional_string_field, string_field, word_field};
use super::replies::begin;
use super::{
    Audience, Author, AuthorKind, AvailView, EventView, EventWhat, Hello, LossReason, Party, Place, Receipts,
    Row, SyncView,
};
use crate::id::{ConversationId, text_of};
use crate::request::{ErrorCode, RowKey, Scope};

/// A numbered event, with the number of this audience's stream.
///
/// # Panics
/// If a note is encoded for a visitor: that is our fault and must not get out.
pub fn event(out: &mut Vec<u8>, audience: Audience, view: &EventView<'_>) {
    assert!(audience == Audience::Agent || view.what.for_visitor(), "a note is never told to a visitor");
    let op = match view.what {
        EventWhat::Message { .. } => "msg",
        EventWhat::Note { .. } => "note",
        EventWhat::Joined { .. } => "agent",
        EventWhat::Closed { .. } | EventWhat::Reopened { .. } => "status",
    };
    let s = Place { s: view.s, vs: view.vs }.for_audience(audience);
    about(out, op, view.c);
    number_field(out, b",\"s\":", u64::from(s));
    out.extend_from_slice(b",\"d\":{");
    match view.what {
        EventWhat::Message { from, body } => {
            author_field(out, b"\"from\":", &from);
            string_field(out, b",\"type\":\"text\",\"body\":", body);
        }
        EventWhat::Note { from, body } => {
            author_field(out, b"\"from\":", &from);
            string_field(out, b",\"body\":", body);
        }
        EventWhat::Joined { agent, name } => {
            id_field(out, b"\"joined\":{\"id\":", agent.bits());
            string_field(out, b",\"name\":", name);
            out.push(b'}');
        }
        EventWhat::Closed { by } => author_field(out, b"\"status\":\"closed\",\"by\":", &by),
        EventWhat::Reopened { by } => author_field(out, b"\"status\":\"waiting\",\"by\":", &by),
    }
    number_field(out, b",\"ts\":", view.ts);
    out.extend_from_slice(b"}}");
}

/// The server's first words.
pub fn hello(out: &mut Vec<u8>, hello: &Hello<'_>) {
    string_field(out, b"{\"op\":\"hello\",\"d\":{\"v\":1,\"server\":", hello.server);
    id_field(out, b",\"epoch\":", hello.epoch);
    number_field(out, b",\"hb_ms\":", u64::from(hello.heartbeat_ms));
    number_field(out, b",\"max_frame\":", u64::from(hello.max_frame));
    number_field(out, b",\"max_inflight\":", u64::from(hello.max_inflight));
    word_field(out, b",\"level\":", hello.level.text());
    out.extend_from_slice(b"}}");
}

/// The answer for one cursor of a `sync`; the events from `from` on follow.
pub fn sync_push(out: &mut Vec<u8>, audience: Audience, view: &SyncView<'_>) {
    about(out, "sync", view.c);
    number_field(out, b",\"d\":{\"from\":", u64::from(view.from.for_audience(audience)));
    number_field(out, b",\"head\":", u64::from(view.head.for_audience(audience)));
    number_field(out, b",\"e\":", u64::from(view.e));
    flag_field(out, b",\"limited\":", view.limited);
    word_field(out, b",\"status\":", view.status.text());
    if let Some(owner) = view.owner {
        id_field(out, b",\"owner\":", owner.bits());
    }
    id_field(out, b",\"visitor\":{\"id\":", view.visitor.id);
    optional_string_field(out, b",\"name\":", view.visitor.name);
    flag_field(out, b",\"online\":", view.visitor.online);
    receipts_field(out, b"},\"seen\":", audience, view.seen);
    receipts_field(out, b",\"delivered\":", audience, view.delivered);
    out.extend_from_slice(b"}}");
}

/// The answer for a cursor that is refused.
pub fn sync_error(out: &mut Vec<u8>, c: ConversationId, code: ErrorCode) {
    about(out, "sync", c);
    out.push(b',');
    super::replies::refusal(out, code, "", None);
    out.push(b'}');
}

/// Somebody types, or stopped.
pub fn typing(out: &mut Vec<u8>, c: ConversationId, kind: AuthorKind, id: u128, on: bool) {
    about(out, "typing", c);
    word_field(out, b",\"d\":{\"who\":{\"kind\":", kind.text());
    id_field(out, b",\"id\":", id);
    flag_field(out, b"},\"on\":", on);
    out.extend_from_slice(b"}}");
}

/// A side has seen everything up to `s`, a number of the listener's stream.
pub fn seen(out: &mut Vec<u8>, c: ConversationId, who: Party, s: u32) {
    receipt(out, "seen", c, who, s);
}

/// Everything up to `s`, a number of the listener's stream, has reached a device of that side.
pub fn delivered(out: &mut Vec<u8>, c: ConversationId, who: Party, s: u32) {
    receipt(out, "delivered", c, who, s);
}

/// The visitor came or went; for agents.
pub fn presence(out: &mut Vec<u8>, c: ConversationId, online: bool) {
    about(out, "presence", c);
    word_field(out, b",\"d\":{\"visitor\":", if online { "online" } else { "offline" });
    out.extend_from_slice(b"}}");
}

/// The visitor's place in the queue, 1 = next.
pub fn queue(out: &mut Vec<u8>, c: ConversationId, pos: u32) {
    about(out, "queue", c);
    number_field(out, b",\"d\":{\"pos\":", u64::from(pos));
    out.extend_from_slice(b"}}");
}

/// A conversation is offered to this agent alone for `ttl_ms`. Empty texts are left out.
pub fn offer(out: &mut Vec<u8>, c: ConversationId, offer: u64, ttl_ms: u32, name: &str, preview: &str) {
    about(out, "offer", c);
    number_field(out, b",\"d\":{\"offer\":", offer);
    number_field(out, b",\"ttl_ms\":", u64::from(ttl_ms));
    optional_string_field(out, b",\"name\":", name);
    optional_string_field(out, b",\"preview\":", preview);
    out.extend_from_slice(b"}}");
}

/// The offer stands no longer.
pub fn offer_gone(out: &mut Vec<u8>, c: ConversationId, offer: u64) {
    about(out, "offer_gone", c);
    number_field(out, b",\"d\":{\"offer\":", offer);
    out.extend_from_slice(b"}}");
}

/// Begins a list, or the reply to who asked for more of one; [`list_row`] at most 200 times and [`list_end`] follow at once.
pub fn list_begin(out: &mut Vec<u8>, re: Option<u32>, scope: Scope) {
    match re {
        None => out.extend_from_slice(b"{\"op\":\"list\",\"d\":{"),
        Some(re) => begin(out, re),
    }
    word_field(out, b"\"scope\":", scope.text());
    out.extend_from_slice(b",\"convs\":[");
}

/// One row of a list.
pub fn list_row(out: &mut Vec<u8>, row: &Row<'_>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
    id_field(out, b"{\"c\":", row.c.bits());
    out.push(b',');
    row_fields(out, row);
    if let Some(pos) = row.pos {
        number_field(out, b",\"pos\":", u64::from(pos));
    }
    out.push(b'}');
}

/// Ends a list; `total` counts the rows of other pages too, and `next` says behind which row more are left.
pub fn list_end(out: &mut Vec<u8>, total: u32, next: Option<RowKey>) {
    number_field(out, b"],\"total\":", u64::from(total));
    if let Some(next) = next {
        number_field(out, b",\"next\":\"", next.ticket);
        out.push(b'.');
        out.extend_from_slice(text_of(next.c.bits()).as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"}}");
}

/// A row of a subscribed list has changed. `pos` is not told: every place behind would have to be.
pub fn conv_row(out: &mut Vec<u8>, row: &Row<'_>) {
    about(out, "conv", row.c);
    out.extend_from_slice(b",\"d\":{");
    row_fields(out, row);
    out.extend_from_slice(b"}}");
}

/// This agent's own availability after a change made elsewhere.
pub fn avail_push(out: &mut Vec<u8>, view: &AvailView) {
    word_field(out, b"{\"op\":\"avail\",\"d\":{\"state\":", view.state.text());
    number_field(out, b",\"cap\":", u64::from(view.cap));
    number_field(out, b",\"load\":", u64::from(view.load));
    out.extend_from_slice(b"}}");
}

/// An administrator's word.
pub fn notice(out: &mut Vec<u8>, text: &str, ts: u64) {
    string_field(out, b"{\"op\":\"notice\",\"d\":{\"text\":", text);
    number_field(out, b",\"ts\":", ts);
    out.extend_from_slice(b"}}");
}

/// So many durable events are told; the server waits for acknowledgements.
pub fn lag(out: &mut Vec<u8>, p: u64) {
    number_field(out, b"{\"op\":\"lag\",\"d\":{\"p\":", p);
    out.extend_from_slice(b"}}");
}

/// The events `from` to `to`, numbers of the listener's stream, are not there any more.
pub fn history_lost(out: &mut Vec<u8>, c: ConversationId, from: u32, to: u32, reason: LossReason) {
    about(out, "history_lost", c);
    number_field(out, b",\"d\":{\"from\":", u64::from(from));
    number_field(out, b",\"to\":", u64::from(to));
    word_field(out, b",\"reason\":", reason.text());
    out.extend_from_slice(b"}}");
}

/// The server is stopping: come back in `after_ms`.
pub fn goaway(out: &mut Vec<u8>, after_ms: u32) {
    number_field(out, b"{\"op\":\"goaway\",\"d\":{\"after_ms\":", u64::from(after_ms));
    out.extend_from_slice(b"}}");
}

/// `{}`
pub fn heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{}");
}

/// `{"op":…,"c":…` without the end.
fn about(out: &mut Vec<u8>, op: &'static str, c: ConversationId) {
    word_field(out, b"{\"op\":", op);
    id_field(out, b",\"c\":", c.bits());
}

fn author_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], author: &Author<'_>) {
    out.extend_from_slice(key);
    word_field(out, b"{\"kind\":", author.kind.text());
    id_field(out, b",\"id\":", author.id);
    optional_string_field(out, b",\"name\":", author.name);
    out.push(b'}');
}

fn receipt(out: &mut Vec<u8>, op: &'static str, c: ConversationId, who: Party, s: u32) {
    about(out, op, c);
    word_field(out, b",\"d\":{\"who\":", who.text());
    number_field(out, b",\"s\":", u64::from(s));
    out.extend_from_slice(b"}}");
}

fn receipts_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], audience: Audience, receipts: Receipts) {
    out.extend_from_slice(key);
    number_field(out, b"{\"visitor\":", u64::from(receipts.visitor.for_audience(audience)));
    number_field(out, b",\"agent\":", u64::from(receipts.agent.for_audience(audience)));
    out.push(b'}');
}

fn row_fields(out: &mut Vec<u8>, row: &Row<'_>) {
    word_field(out, b"\"status\":", row.status.text());
    if let Some(owner) = row.owner {
        id_field(out, b",\"owner\":", owner.bits());
    }
    optional_string_field(out, b",\"name\":", row.name);
    optional_string_field(out, b",\"preview\":", row.preview);
    number_field(out, b",\"since\":", row.since);
}
