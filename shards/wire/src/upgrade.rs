//! The opening handshake, server's side: RFC 6455 §4.2.

use data_encoding::BASE64;
use sha1::{Digest, Sha1};

use crate::head::Head;

/// The sub-protocol that clients of ringdesk speak.
pub const PROTOCOL_JSON: &str = "ringdesk.v1.json";

/// A request that may be answered with 101, borrowed from its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// `Sec-WebSocket-Key`, 24 bytes, for [`write_accept`].
    pub key: &'a [u8],
    /// `Origin`, if the client is a browser. Whether it is welcome is the caller's business.
    pub origin: Option<&'a str>,
    /// `Host`, unchecked beyond being there once.
    pub host: &'a str,
    /// Whether the client offered any sub-protocol; only then may one be answered.
    pub protocol_offered: bool,
    /// The last `X-Forwarded-For` line as sent; its rightmost address is from the proxy nearest to us. To be believed
    /// only when that proxy is trusted.
    pub forwarded_for: Option<&'a str>,
    /// Bytes of the head; frames may follow at once.
    pub head_size: usize,
}

/// Why there is no 101. Except where noted it is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeError {
    /// Not GET.
    Method,
    /// HTTP/1.0.
    HttpVersion,
    /// No `Upgrade: websocket`, or `Connection` does not name `Upgrade`: often a proxy that does not pass it on.
    NotWebSocket,
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// `Sec-WebSocket-Key` is missing or is not 16 bytes in base64.
    Key,
    /// A header that must be there once is there twice.
    Duplicate,
    /// The request announces a body.
    Body,
    /// `Origin` or `Host` is not plain ASCII text.
    Text,
    /// The sub-protocol was not offered.
    Protocol,
    /// The caller's verdict: this origin is not on the list of the inbox. An administrator mends it.
    OriginForbidden,
    /// The caller's verdict: there is no socket at this path.
    NotFound,
    /// The caller's verdict: this server is full or stopping; come back later.
    Unavailable,
}

/// Checks that `head` is an opening handshake (§4.2.1) and collects what its answer needs.
///
/// With `protocol` the client must offer it. Without, any offer or none will do, and none is answered: the echo path.
///
/// # Errors
/// The first rule that is broken. Answer with [`UpgradeError::response`] and close the connection.
pub fn check_upgrade<'a>(head: &Head<'a>, protocol: Option<&str>) -> Result<Upgrade<'a>, UpgradeError> {
    if head.method() != "GET" {
        return Err(UpgradeError::Method);
    }
    if !head.is_http_1_1() {
        return Err(UpgradeError::HttpVersion);
    }
    if !head.is_websocket_upgrade() || !head.has_token("connection", "upgrade") {
        return Err(UpgradeError::NotWebSocket);
    }
    // A body would be read as frames by us and as a request by a proxy, or the other way round.
    if head.header("transfer-encoding").is_some()
        || head.header("content-length").is_some_and(|size| size != b"0")
    {
        return Err(UpgradeError::Body);
    }
    if single(head, "sec-websocket-version")? != Some(b"13") {
        return Err(UpgradeError::Version);
    }
    let key = single(head, "sec-websocket-key")?.filter(|key| is_key(key)).ok_or(UpgradeError::Key)?;
    let protocol_offered = head.header("sec-websocket-protocol").is_some();
    if let Some(protocol) = protocol {
        // Sub-protocol names are compared as they are, case and all.
        if !head.elements("sec-websocket-protocol").any(|offer| offer == protocol.as_bytes()) {
            return Err(UpgradeError::Protocol);
        }
    }
    Ok(Upgrade {
        key,
        origin: single(head, "origin")?.map(text).transpose()?,
        host: text(single(head, "host")?.unwrap_or(b""))?,
        protocol_offered,
        forwarded_for: head.values("x-forwarded-for").last().map(text).transpose()?,
        head_size: head.size,
    })
}

/// Appends the 101 response for a key that [`check_upgrade`] returned. `protocol` must be one that the client offered.
/// Panics if `protocol` is not a token.
pub fn write_accept(key: &[u8], protocol: Option<&str>, out: &mut Vec<u8>) {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    BASE64.encode_mut(&digest, &mut accept);

    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept);
    if let Some(protocol) = protocol {
        let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        assert!(!protocol.is_empty() && protocol.bytes().all(is_token), "a sub-protocol is a token");
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

impl UpgradeError {
    /// The whole response. It asks to close, and the caller must close: a failed upgrade leaves a stream whose
    /// meaning a proxy may see otherwise.
    pub fn response(self) -> &'static [u8] {
        match self {
            UpgradeError::Method => {
                b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\na WebSocket needs a GET\n"
            }
            UpgradeError::HttpVersion => {
                b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 27\r\n\r\na WebSocket needs HTTP/1.1\n"
            }
            UpgradeError::NotWebSocket => {
                b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nContent-Type: text/plain\r\nContent-Length: 66\r\n\r\nUpgrade: websocket is missing; does a proxy before us pass it on?\n"
            }
            UpgradeError::Version => {
                b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nContent-Type: text/plain\r\nContent-Length: 41\r\n\r\nSec-WebSocket-Version: 13 is spoken here\n"
            }
            UpgradeError::Key => {
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 40\r\n\r\nSec-WebSocket-Key is missing or invalid\n"
            }
            UpgradeError::Duplicate => {
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 42\r\n\r\na header is there twice that must be once\n"
            }
            UpgradeError::Body => {
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n\r\nan upgrade has no body\n"
            }
            UpgradeError::Text => {
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 33\r\n\r\na header is not plain ASCII text\n"
            }
            UpgradeError::Protocol => {
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 51\r\n\r\nSec-WebSocket-Protocol must offer ringdesk.v1.json\n"
            }
            UpgradeError::OriginForbidden => {
                b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 27\r\n\r\nthis origin is not allowed\n"
            }
            UpgradeError::NotFound => {
                b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\nno WebSocket is here\n"
            }
            UpgradeError::Unavailable => {
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n\r\ncome back later\n"
            }
        }
    }
}

/// The value of a header that may be there once at most.
fn single<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a [u8]>, UpgradeError> {
    let mut values = head.values(name);
    let first = values.next();
    if values.next().is_some() { Err(UpgradeError::Duplicate) } else { Ok(first) }
}

/// §4.2.1: "a base64-encoded value that, when decoded, is 16 bytes in length": 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(is_digit) && key.ends_with(b"==")
}

fn text(value: &[u8]) -> Result<&str, UpgradeError> {
    match core::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(UpgradeError::Text),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::head::{HeadParse, parse_head};

    const GOOD: &str = "GET /ws/v1/visitor?inbox=1 HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nOrigin: https://shop.example\r\n\
         Sec-WebSocket-Protocol: other, ringdesk.v1.json\r\n\r\n";

    pub(crate) fn assert_whole_response(response: &[u8]) {
        let text = core::str::from_utf8(response).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
        assert!(head.starts_with("HTTP/1.1 "), "{text}");
        assert!(head.to_lowercase().contains("close"), "{text}");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{text}: the body has {}",
            body.len()
        );
        assert!(body.ends_with('\n') && !body.ends_with("\n\n") && body.len() < 100, "{text}");
    }

    fn check(request: &str, protocol: Option<&str>) -> Result<String, UpgradeError> {
        match parse_head(request.as_bytes()) {
            HeadParse::Complete(head) => check_upgrade(&head, protocol).map(|upgrade| format!("{upgrade:?}")),
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn the_handshake_of_the_standard_is_answered_as_in_the_standard() {
        let HeadParse::Complete(head) = parse_head(GOOD.as_bytes()) else { panic!("it is whole") };
        let upgrade = check_upgrade(&head, Some(PROTOCOL_JSON)).unwrap();
        assert_eq!(upgrade.key, b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!((upgrade.origin, upgrade.host), (Some("https://shop.example"), "chat.example"));
        assert!(upgrade.protocol_offered);
        assert_eq!((upgrade.forwarded_for, upgrade.head_size), (None, GOOD.len()));
        let mut out = Vec::new();
        write_accept(upgrade.key, Some(PROTOCOL_JSON), &mut out);
        assert_eq!(
            core::str::from_utf8(&out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: ringdesk.v1.json\r\n\r\n"
        );
        out.clear();
        write_accept(upgrade.key, None, &mut out);
        let response = core::str::from_utf8(&out).unwrap();
        assert!(!response.contains("Sec-WebSocket-Protocol"), "none asked, none answered");
    }

    #[test]
    fn without_a_protocol_any_offer_or_none_will_do() {
        assert!(check(GOOD, None).is_ok());
        let bare = GOOD.replace("Sec-WebSocket-Protocol: other, ringdesk.v1.json\r\n", "");
        assert!(check(&bare, None).unwrap().contains("protocol_offered: false"));
        assert_eq!(check(&bare, Some(PROTOCOL_JSON)), Err(UpgradeError::Protocol));
        let other = GOOD.replace("ringdesk.v1.json", "RINGDESK.v1.json");
        assert_eq!(check(&other, Some(PROTOCOL_JSON)), Err(UpgradeError::Protocol));
        let two_lines = GOOD.replace("other, ringdesk", "other\r\nSec-WebSocket-Protocol: ringdesk");
        assert!(check(&two_lines, Some(PROTOCOL_JSON)).is_ok());
        let names_it = UpgradeError::Protocol.response();
        assert!(core::str::from_utf8(names_it).unwrap().contains(PROTOCOL_JSON));
    }

    #[test]
    fn each_broken_rule_has_its_own_refusal() {
        let cases = [
            ("GET ", "POST ", UpgradeError::Method),
            ("HTTP/1.1", "HTTP/1.0", UpgradeError::HttpVersion),
            ("Upgrade: websocket", "Upgrade: h2c", UpgradeError::NotWebSocket),
            ("Upgrade: websocket\r\n", "", UpgradeError::NotWebSocket),
            ("keep-alive, Upgrade", "keep-alive", UpgradeError::NotWebSocket),
            ("Version: 13", "Version: 8", UpgradeError::Version),
            ("Version: 13", "Version: 13, 8", UpgradeError::Version),
            ("Sec-WebSocket-Version: 13\r\n", "", UpgradeError::Version),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", UpgradeError::Duplicate),
            ("Origin: ", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: ", UpgradeError::Duplicate),
            ("Origin: ", "Origin: https://a\r\nOrigin: ", UpgradeError::Duplicate),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=", UpgradeError::Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQAA", UpgradeError::Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j_Q==", UpgradeError::Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "", UpgradeError::Key),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", UpgradeError::Key),
            ("Origin: ", "Content-Length: 5\r\nOrigin: ", UpgradeError::Body),
            ("Origin: ", "Transfer-Encoding: chunked\r\nOrigin: ", UpgradeError::Body),
            ("https://shop", "https://shöp", UpgradeError::Text),
            ("chat.example", "chät.example", UpgradeError::Text),
        ];
        for (from, to, error) in cases {
            let request = GOOD.replacen(from, to, 1);
            assert_ne!(request, GOOD, "{from}");
            assert_eq!(check(&request, Some(PROTOCOL_JSON)), Err(error), "{from} -> {to}");
        }
        assert!(check(&GOOD.replace("Origin: ", "Content-Length: 0\r\nOrigin: "), None).is_ok());
    }

    #[test]
    fn the_last_forwarded_line_is_the_nearest_proxys() {
        let request = GOOD
            .replace("Origin: ", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nOrigin: ");
        assert!(check(&request, None).unwrap().contains("forwarded_for: Some(\"2.2.2.2, 3.3.3.3\")"));
    }

    #[test]
    fn every_refusal_is_a_whole_response_that_closes() {
        for (error, status) in [
            (UpgradeError::Method, "405"),
            (UpgradeError::HttpVersion, "505"),
            (UpgradeError::NotWebSocket, "426"),
            (UpgradeError::Version, "426"),
            (UpgradeError::Key, "400"),
            (UpgradeError::Duplicate, "400"),
            (UpgradeError::Body, "400"),
            (UpgradeError::Text, "400"),
            (UpgradeError::Protocol, "400"),
            (UpgradeError::OriginForbidden, "403"),
            (UpgradeError::NotFound, "404"),
            (UpgradeError::Unavailable, "503"),
        ] {
            assert_whole_response(error.response());
            assert_eq!(&error.response()[9..12], status.as_bytes());
        }
        assert!(core::str::from_utf8(UpgradeError::Method.response()).unwrap().contains("Allow: GET\r\n"));
        for error in [UpgradeError::Version, UpgradeError::NotWebSocket] {
            let response = core::str::from_utf8(error.response()).unwrap();
            assert!(response.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        }
    }
}
