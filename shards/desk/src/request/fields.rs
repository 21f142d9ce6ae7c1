//! Reading fields from simd-json's tape, and their bounds.
//!
//! A tape is the text in document order: an object or array is a node that says how many nodes follow and belong to it, in an object key and
//! value by turns. A *value* here is the slice of its nodes; an empty slice is an absent field.

use super::ErrorCode;
use crate::id::{self, ConversationId};
use core::ops::RangeInclusive;
use simd_json::{Node, StaticNode};

/// What is wrong with a field; the parser adds whom to answer.
pub(super) struct Fault {
    pub(super) code: ErrorCode,
    pub(super) what: &'static str,
}

pub(super) fn bad(what: &'static str) -> Fault {
    Fault { code: ErrorCode::BadRequest, what }
}

/// The nodes of one value.
pub(super) type Value<'t, 'a> = &'t [Node<'a>];

/// Nodes that the first value of `nodes` takes.
fn width(nodes: Value<'_, '_>) -> usize {
    match nodes[0] {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// The values of the named fields in one pass, or `None` if `value` is no object. Of a name that stands twice the last counts; `null` is absent.
pub(super) fn fields<'t, 'a, const N: usize>(
    value: Value<'t, 'a>,
    names: [&str; N],
) -> Option<[Value<'t, 'a>; N]> {
    let Some(Node::Object { count, .. }) = value.first() else {
        return None;
    };
    let mut found: [Value<'t, 'a>; N] = [&[]; N];
    let mut rest = &value[1..=*count];
    while let [Node::String(key), after @ ..] = rest {
        let (one, others) = after.split_at(width(after));
        if let Some(place) = names.iter().position(|name| name == key) {
            found[place] = match one[0] {
                Node::Static(StaticNode::Null) => &[],
                _ => one,
            };
        }
        rest = others;
    }
    Some(found)
}

/// The elements of an array, or `None` if `value` is none.
pub(super) fn elements<'t, 'a>(value: Value<'t, 'a>) -> Option<impl Iterator<Item = Value<'t, 'a>>> {
    let Some(Node::Array { count, .. }) = value.first() else {
        return None;
    };
    let mut rest = &value[1..=*count];
    Some(core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (one, others) = rest.split_at(width(rest));
        rest = others;
        Some(one)
    }))
}

/// The number of elements of an array, or `None` if `value` is none.
pub(super) fn length(value: Value<'_, '_>) -> Option<usize> {
    match value.first() {
        Some(Node::Array { len, .. }) => Some(*len),
        _ => None,
    }
}

pub(super) fn string<'a>(value: Value<'_, 'a>) -> Option<&'a str> {
    match value.first() {
        Some(Node::String(text)) => Some(text),
        _ => None,
    }
}

/// A whole number from 0 to `most`.
pub(super) fn number(value: Value<'_, '_>, most: u64, what: &'static str) -> Result<u64, Fault> {
    let number = match value.first() {
        Some(Node::Static(StaticNode::U64(number))) => *number,
        Some(Node::Static(StaticNode::I64(number))) => u64::try_from(*number).map_err(|_| bad(what))?,
        _ => return Err(bad(what)),
    };
    if number <= most { Ok(number) } else { Err(bad(what)) }
}

pub(super) fn number_u32(value: Value<'_, '_>, what: &'static str) -> Result<u32, Fault> {
    Ok(number(value, u64::from(u32::MAX), what)? as u32)
}

pub(super) fn flag(value: Value<'_, '_>, what: &'static str) -> Result<bool, Fault> {
    match value.first() {
        Some(Node::Static(StaticNode::Bool(flag))) => Ok(*flag),
        _ => Err(bad(what)),
    }
}

/// Reads a field that may be absent.
pub(super) fn optional<'t, 'a, T>(
    value: Value<'t, 'a>,
    read: impl FnOnce(Value<'t, 'a>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    if value.is_empty() { Ok(None) } else { read(value).map(Some) }
}

/// A string of so many Unicode scalar values.
pub(super) fn text<'a>(
    value: Value<'_, 'a>,
    chars: RangeInclusive<usize>,
    what: &'static str,
) -> Result<&'a str, Fault> {
    let text = string(value).ok_or(bad(what))?;
    if chars.contains(&text.chars().count()) { Ok(text) } else { Err(bad(what)) }
}

/// A message: at least one character; over the most it is too large rather than bad.
pub(super) fn body<'a>(value: Value<'_, 'a>, what: &'static str) -> Result<&'a str, Fault> {
    let text = string(value).ok_or(bad(what))?;
    if text.is_empty() {
        return Err(bad(what));
    }
    // So many bytes cannot be more characters; longer texts are counted.
    if text.len() > super::MAX_BODY_CHARS && text.chars().count() > super::MAX_BODY_CHARS {
        return Err(Fault { code: ErrorCode::TooLarge, what });
    }
    Ok(text)
}

pub(super) fn conversation(value: Value<'_, '_>) -> Result<ConversationId, Fault> {
    string(value).and_then(ConversationId::parse).ok_or(bad("d.c must be the id of a conversation"))
}

pub(super) fn bits(value: Value<'_, '_>, what: &'static str) -> Result<u128, Fault> {
    string(value).and_then(id::bits_of).ok_or(bad(what))
}
