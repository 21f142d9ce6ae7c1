//! JSON text: numbers, strings, ids.

use crate::id::text_of;

/// Bytes looked at together. The comparison over a block compiles to a few vector instructions.
const BLOCK: usize = 16;

/// Length of the longest beginning of `bytes` that has no byte for which `dirty` holds.
#[inline]
pub(crate) fn clean_run(bytes: &[u8], dirty: impl Fn(u8) -> bool) -> usize {
    let mut clean = 0;
    while let Some((block, _)) = bytes[clean..].split_first_chunk::<BLOCK>() {
        if block.iter().fold(false, |found, &byte| found | dirty(byte)) {
            break;
        }
        clean += BLOCK;
    }
    // The rest is mostly clean too: looked at once more together with bytes that are known to be.
    if let Some((_, block)) = bytes.split_last_chunk::<BLOCK>()
        && bytes.len() - clean < BLOCK
        && !block.iter().fold(false, |found, &byte| found | dirty(byte))
    {
        return bytes.len();
    }
    clean + bytes[clean..].iter().take_while(|&&byte| !dirty(byte)).count()
}

/// Appends a whole number in decimal.
pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    // 2⁶⁴ - 1 has 20 digits.
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    let mut rest = number;
    while rest >= 10 {
        from -= 2;
        digits[from..from + 2].copy_from_slice(&DIGITS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 || number == 0 {
        from -= 1;
        digits[from] = b'0' + rest as u8;
    }
    out.extend_from_slice(&digits[from..]);
}

/// `00` to `99`.
static DIGITS: [[u8; 2]; 100] = {
    let mut digits = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        digits[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    digits
};

/// Appends `true` or `false`.
pub(super) fn flag(out: &mut Vec<u8>, flag: bool) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// Appends an id with its quotes.
pub(super) fn id(out: &mut Vec<u8>, bits: u128) {
    out.push(b'"');
    out.extend_from_slice(text_of(bits).as_bytes());
    out.push(b'"');
}

/// Appends a string with its quotes.
///
/// RFC 8259, section 7: "All Unicode characters may be placed within the quotation marks, except for the characters that MUST be escaped:
/// quotation mark, reverse solidus, and the control characters (U+0000 through U+001F)."
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (clean, dirty) =
            rest.split_at(clean_run(rest, |byte| byte < 0x20 || byte == b'"' || byte == b'\\'));
        out.extend_from_slice(clean);
        let Some((&byte, after)) = dirty.split_first() else {
            break;
        };
        escape(out, byte);
        rest = after;
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            let long = [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(&long);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a key, with what stands before it, and a string.
#[inline]
pub(super) fn string_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], text: &str) {
    out.extend_from_slice(key);
    string(out, text);
}

/// The same, unless the string is empty.
#[inline]
pub(super) fn optional_string_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], text: &str) {
    if !text.is_empty() {
        string_field(out, key, text);
    }
}

/// Appends a key, with what stands before it, and a number.
#[inline]
pub(super) fn number_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: u64) {
    out.extend_from_slice(key);
    number(out, value);
}

/// Appends a key, with what stands before it, and an id.
#[inline]
pub(super) fn id_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], bits: u128) {
    out.extend_from_slice(key);
    id(out, bits);
}

/// Appends a key, with what stands before it, and a flag.
#[inline]
pub(super) fn flag_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: bool) {
    out.extend_from_slice(key);
    flag(out, value);
}

/// Appends a key, with what stands before it, and a word of the protocol, which needs no escapes.
#[inline]
pub(super) fn word_field<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], word: &'static str) {
    out.extend_from_slice(key);
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}
