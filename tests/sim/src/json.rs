//! JSON, read and written by the simulator's own hand: what the server encodes is not checked with the server's own decoder.

use core::fmt::Write as _;
use std::borrow::Cow;

/// A JSON value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Json<'t> {
    Null,
    Bool(bool),
    Number(u64),
    Text(Cow<'t, str>),
    List(Vec<Json<'t>>),
    Object(Vec<(Cow<'t, str>, Json<'t>)>),
}

const NULL: Json<'static> = Json::Null;

impl<'t> Json<'t> {
    /// Reads one whole value; the protocol's numbers are whole and not negative.
    pub(crate) fn parse(text: &'t str) -> Result<Json<'t>, String> {
        let mut reader = Reader { source: text, text: text.as_bytes(), at: 0 };
        let value = reader.value(0)?;
        reader.space();
        match reader.at == text.len() {
            true => Ok(value),
            false => Err(format!("something stands behind the value at byte {}", reader.at)),
        }
    }

    /// The field of an object; `Null` if it is not there.
    pub(crate) fn get(&self, key: &str) -> &Json<'t> {
        match self {
            Json::Object(fields) => {
                fields.iter().find(|(name, _)| name == key).map_or(&NULL, |(_, value)| value)
            }
            _ => &NULL,
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        !matches!(self.get(key), Json::Null)
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        match self {
            Json::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Json<'t>]> {
        match self {
            Json::List(list) => Some(list),
            _ => None,
        }
    }

    /// Equal values have equal hashes, and different ones practically never.
    pub(crate) fn hash(&self) -> u64 {
        let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match self {
            Json::Null => 1,
            Json::Bool(flag) => 2 + u64::from(*flag),
            Json::Number(number) => mix(5, *number),
            Json::Text(text) => mix(6, xxhash_rust::xxh3::xxh3_64(text.as_bytes())),
            Json::List(list) => list.iter().fold(7, |hash, value| mix(hash, value.hash())),
            Json::Object(fields) => fields.iter().fold(8, |hash, (key, value)| {
                mix(mix(hash, xxhash_rust::xxh3::xxh3_64(key.as_bytes())), value.hash())
            }),
        }
    }

    pub(crate) fn is_empty_object(&self) -> bool {
        matches!(self, Json::Object(fields) if fields.is_empty())
    }
}

struct Reader<'t> {
    source: &'t str,
    text: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        match self.text.get(self.at) {
            Some(&found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            found => Err(format!("{:?} expected at byte {}, found {found:?}", byte as char, self.at)),
        }
    }

    fn word(&mut self, word: &str, value: Json<'t>) -> Result<Json<'t>, String> {
        match self.text[self.at..].starts_with(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(value)
            }
            false => Err(format!("no value at byte {}", self.at)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'t>, String> {
        self.space();
        if depth > 16 {
            return Err("too deep".into());
        }
        match self.text.get(self.at) {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'0'..=b'9') => self.digits(),
            other => Err(format!("no value at byte {}: {other:?}", self.at)),
        }
    }

    fn digits(&mut self) -> Result<Json<'t>, String> {
        let from = self.at;
        while matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = core::str::from_utf8(&self.text[from..self.at]).expect("digits are ASCII");
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(format!("a number with a leading zero at byte {from}"));
        }
        digits.parse().map(Json::Number).map_err(|error| format!("{error} at byte {from}"))
    }

    fn object(&mut self, depth: usize) -> Result<Json<'t>, String> {
        self.expect(b'{')?;
        let mut fields: Vec<(Cow<'t, str>, Json<'t>)> = Vec::with_capacity(4);
        self.space();
        if self.text.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            let key = self.string()?;
            if fields.iter().any(|(known, _)| *known == key) {
                return Err(format!("key {key} stands twice"));
            }
            self.space();
            self.expect(b':')?;
            let value = self.value(depth + 1)?;
            fields.push((key, value));
            self.space();
            if self.text.get(self.at) == Some(&b',') {
                self.at += 1;
                continue;
            }
            self.expect(b'}')?;
            return Ok(Json::Object(fields));
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'t>, String> {
        self.expect(b'[')?;
        let mut list = Vec::new();
        self.space();
        if self.text.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Json::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.space();
            if self.text.get(self.at) == Some(&b',') {
                self.at += 1;
                continue;
            }
            self.expect(b']')?;
            return Ok(Json::List(list));
        }
    }

    fn string(&mut self) -> Result<Cow<'t, str>, String> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let from = self.at;
            let rest = &self.text[from..];
            let plain = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            let Some(plain) = plain else { return Err("a string without an end".into()) };
            // The end of a run is ASCII, so it lies between characters.
            let run = &self.source[from..from + plain];
            self.at += plain + 1;
            match rest[plain] {
                b'"' if out.is_empty() => return Ok(Cow::Borrowed(run)),
                b'"' => {
                    out.push_str(run);
                    return Ok(Cow::Owned(out));
                }
                b'\\' => {
                    out.push_str(run);
                    self.escape(&mut out)?;
                }
                _ => return Err(format!("a control character in a string at byte {}", self.at - 1)),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), String> {
        let Some(&byte) = self.text.get(self.at) else { return Err("a string without an end".into()) };
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0C,
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4).ok_or("a short escape")?;
                self.at += 4;
                let digits = core::str::from_utf8(digits).map_err(|_| "a bad escape")?;
                let code = u32::from_str_radix(digits, 16).map_err(|_| "a bad escape")?;
                let letter = char::from_u32(code).ok_or("a surrogate, which the server never needs")?;
                out.push(letter);
                return Ok(());
            }
            other => return Err(format!("an unknown escape {other}")),
        };
        out.push(char::from(plain));
        Ok(())
    }
}

/// Appends a string with its quotes. The style of a browser: only what must be escaped is, with `\u` for the rest of the control characters.
pub(crate) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\u{0}'..='\u{1F}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_reads_back() {
        for text in ["", "plain", "a \"b\" \\ \n \u{1} ü 你 😀"] {
            let mut out = String::new();
            quote(&mut out, text);
            assert_eq!(Json::parse(&out), Ok(Json::Text(text.into())));
        }
    }

    #[test]
    fn what_is_no_json_of_the_protocol_is_refused() {
        for text in ["", "{", "{\"a\":1,\"a\":2}", "01", "{}x", "\"\u{1}\"", "-1", "[1,]", "\"\\ud800\""] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        let value = Json::parse(" {\"re\":7,\"d\":{\"a\":[1,true,null]}} ").unwrap();
        assert_eq!(value.get("re").number(), Some(7));
        assert_eq!(value.get("d").get("a").list().unwrap().len(), 3);
        assert!(!value.get("d").has("b"));
    }
}
