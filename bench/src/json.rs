//! Just enough JSON for what the server sends: its envelopes are one line each, and what the generator itself wrote has no escapes.

/// The text or number of a field, or nothing.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(name)?;
        let rest = &text[at + name.len()..];
        if text[..at].ends_with('"') && rest.starts_with("\":") {
            return match rest[2..].strip_prefix('"') {
                Some(inner) => Some(&inner[..inner.find('"')?]),
                None => Some(&rest[2..2 + rest[2..].find([',', '}', ']'])?]),
            };
        }
        from = at + name.len();
    }
}

/// Whether a push is a numbered event.
pub(crate) fn is_numbered(text: &str) -> bool {
    let Some(op) = text.strip_prefix("{\"op\":\"") else { return false };
    ["msg\"", "note\"", "agent\"", "status\""].iter().any(|name| op.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = r#"{"op":"msg","c":"0ABC","s":41,"d":{"from":{"kind":"visitor"},"type":"text","body":"c s 9","ts":7}}"#;
        assert_eq!(field(text, "c"), Some("0ABC"));
        assert_eq!(field(text, "s"), Some("41"));
        assert_eq!(field(text, "body"), Some("c s 9"));
        assert_eq!(field(text, "ts"), Some("7"));
        assert_eq!(field(text, "kin"), None);
        assert!(is_numbered(text) && !is_numbered(r#"{"op":"seen","c":"0ABC"}"#));
    }
}
