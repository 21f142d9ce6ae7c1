//! The HTTP/1.1 request head, strictly as RFC 9112 has it: what two parsers could read in two ways is refused.

use httparse::{EMPTY_HEADER, Request, Status};

/// The largest request head in bytes, blank line included.
pub const HEAD_SIZE_MAX: usize = 16 * 1024;
/// The largest number of header lines.
pub const HEADER_COUNT_MAX: usize = 100;

/// What [`parse_head`] found.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "parsed once per connection, on the stack, and borrowed from there"
)]
pub enum HeadParse<'a> {
    /// Nothing wrong so far, but not complete. Read more, within a time limit of the caller's.
    Partial,
    /// A whole head. What follows its [`size`](Head::size) belongs to the body or to the upgraded protocol.
    Complete(Head<'a>),
    /// Not acceptable: answer with [`response_for`] and close.
    Bad(HeadError),
}

/// Why a request head is refused. Always the client's fault, or that of a proxy before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not a request head: bad characters, a bare LF, a folded line, a space before a colon.
    Malformed,
    /// `Host` is missing in HTTP/1.1, or is there twice.
    Host,
    /// `Content-Length` twice, not a number, or together with `Transfer-Encoding`.
    Framing,
    /// The request line alone fills [`HEAD_SIZE_MAX`].
    TargetTooLong,
    /// More than [`HEAD_SIZE_MAX`] bytes.
    TooLarge,
    /// More than [`HEADER_COUNT_MAX`] header lines.
    TooManyHeaders,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
}

/// A whole request head, borrowed from the bytes it came in.
#[derive(Debug)]
pub struct Head<'a> {
    method: &'a str,
    target: &'a str,
    version_minor: u8,
    headers: [httparse::Header<'a>; HEADER_COUNT_MAX],
    header_count: usize,
    /// Bytes of the head, blank line included.
    pub size: usize,
}

/// Parses the request head at the front of `bytes`. Costs time in proportion to the head, each time it is called.
///
/// Refused beyond what RFC 9112 allows a recipient to tolerate: a line that ends in LF alone, folded lines, a space
/// before a colon, NUL, `Content-Length` beside `Transfer-Encoding`, and any of both or `Host` twice. Other servers
/// behind the same bytes then cannot see another request in them.
pub fn parse_head(bytes: &[u8]) -> HeadParse<'_> {
    let window = &bytes[..bytes.len().min(HEAD_SIZE_MAX)];
    let mut headers = [EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(window) {
        Ok(Status::Partial) if has_bare_line_feed(window) => HeadParse::Bad(HeadError::Malformed),
        Ok(Status::Partial) if window.len() < HEAD_SIZE_MAX => HeadParse::Partial,
        Ok(Status::Partial) => HeadParse::Bad(match window.trim_ascii_start().contains(&b'\n') {
            true => HeadError::TooLarge,
            false => HeadError::TargetTooLong,
        }),
        Ok(Status::Complete(size)) if has_bare_line_feed(&window[..size]) => {
            HeadParse::Bad(HeadError::Malformed)
        }
        Ok(Status::Complete(size)) => {
            let head = Head {
                method: request.method.expect("complete"),
                target: request.path.expect("complete"),
                version_minor: request.version.expect("complete"),
                header_count: request.headers.len(),
                headers,
                size,
            };
            match head.check() {
                Ok(()) => HeadParse::Complete(head),
                Err(error) => HeadParse::Bad(error),
            }
        }
        Err(error) => HeadParse::Bad(match error {
            httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
            httparse::Error::Version => HeadError::Version,
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token => HeadError::Malformed,
        }),
    }
}

impl<'a> Head<'a> {
    /// The method, as sent.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The request target, as sent: ASCII without spaces and without a fragment.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The path of the target, undecoded. Also of an absolute target (`http://host/path`), which a server must
    /// understand (RFC 9112 §3.2.2); `*` and a bare authority stay as they are.
    pub fn path(&self) -> &'a str {
        self.path_and_query().0
    }

    /// The undecoded value of the first query parameter with this name; empty if it stands without `=`.
    pub fn query(&self, key: &str) -> Option<&'a str> {
        let pairs = self.path_and_query().1.split('&');
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(name, _)| *name == key)
            .map(|(_, v)| v)
    }

    /// The value of the first header with this name, in any case, without the white space around it.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// All headers as name and value, in the order in which they came.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers[..self.header_count].iter().map(|header| (header.name, header.value))
    }

    /// True for HTTP/1.1, false for HTTP/1.0.
    pub fn is_http_1_1(&self) -> bool {
        self.version_minor == 1
    }

    /// Whether the client asks for a WebSocket, well or badly: [`check_upgrade`](crate::check_upgrade) judges it.
    pub fn is_websocket_upgrade(&self) -> bool {
        self.has_token("upgrade", "websocket")
    }

    /// The values of every header with this name.
    pub(crate) fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a, 'n> {
        let headers = self.headers[..self.header_count].iter();
        headers.filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Whether one of the comma-separated elements of these headers is `token`, in any case (RFC 9110 §5.6.1).
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.elements(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The comma-separated elements of every header with this name, empty ones left out.
    pub(crate) fn elements<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a, 'n> {
        let elements = self.values(name).flat_map(|value| value.split(|&byte| byte == b','));
        elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
    }

    fn path_and_query(&self) -> (&'a str, &'a str) {
        let origin_form = match self.target.split_once("://") {
            // Only what begins with a scheme is absolute; `/x?next=http://y` is a path.
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                rest.find(['/', '?']).map_or("/", |offset| &rest[offset..])
            }
            _ => self.target,
        };
        let (path, query) = origin_form.split_once('?').unwrap_or((origin_form, ""));
        (if path.is_empty() { "/" } else { path }, query)
    }

    fn check(&self) -> Result<(), HeadError> {
        // §3.2: no fragment is part of a target; other characters outside ASCII must be percent-encoded.
        if !self.target.is_ascii() || self.target.contains('#') {
            return Err(HeadError::Malformed);
        }
        // §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks
        // a Host header field and to any request message that contains more than one Host header field line".
        match self.values("host").count() {
            0 if self.is_http_1_1() => return Err(HeadError::Host),
            0 | 1 => {}
            _ => return Err(HeadError::Host),
        }
        let mut lengths = self.values("content-length");
        let codings = self.values("transfer-encoding").count();
        if let Some(length) = lengths.next() {
            let is_number = !length.is_empty() && length.len() <= 19 && length.iter().all(u8::is_ascii_digit);
            if !is_number || lengths.next().is_some() || codings > 0 {
                return Err(HeadError::Framing);
            }
        }
        // §6.1: a coding in HTTP/1.0 "MUST" be treated "as if the framing is faulty".
        if codings > 1 || (codings == 1 && !self.is_http_1_1()) {
            return Err(HeadError::Framing);
        }
        Ok(())
    }
}

/// The whole response for a head that is refused. It asks to close, and the caller must close: what follows in the
/// stream has no agreed beginning.
pub fn response_for(error: HeadError) -> &'static [u8] {
    match error {
        HeadError::Malformed => {
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n\r\nmalformed request head\n"
        }
        HeadError::Host => {
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 29\r\n\r\nexactly one Host is required\n"
        }
        HeadError::Framing => {
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n\r\nambiguous body length\n"
        }
        HeadError::TargetTooLong => {
            b"HTTP/1.1 414 URI Too Long\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\nrequest target too long\n"
        }
        HeadError::TooLarge => {
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 32\r\n\r\nrequest head larger than 16 KiB\n"
        }
        HeadError::TooManyHeaders => {
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 27\r\n\r\nmore than 100 header lines\n"
        }
        HeadError::Version => {
            b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\nHTTP/1.1 is spoken here\n"
        }
    }
}

/// RFC 9112 §2.2 lets a recipient take a lone LF for a line's end. Parsers that do and parsers that do not see two
/// different requests, so we do not.
fn has_bare_line_feed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'\n') || bytes.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> Head<'_> {
        match parse_head(bytes) {
            HeadParse::Complete(head) => head,
            other => panic!("{other:?}"),
        }
    }

    fn error_of(bytes: &[u8]) -> HeadError {
        match parse_head(bytes) {
            HeadParse::Bad(error) => error,
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn a_head_gives_method_path_query_and_headers_and_leaves_the_rest() {
        let bytes = b"GET /ws/v1/visitor?inbox=01J%20A&s=17&flag HTTP/1.1\r\nHost: a\r\nX-One:  1 \r\nx-one: 2\r\n\r\n\x81\x80";
        let head = complete(bytes);
        assert_eq!((head.method(), head.path()), ("GET", "/ws/v1/visitor"));
        assert_eq!(head.target(), "/ws/v1/visitor?inbox=01J%20A&s=17&flag");
        assert_eq!((head.query("inbox"), head.query("s")), (Some("01J%20A"), Some("17")));
        assert_eq!((head.query("flag"), head.query("in"), head.query("")), (Some(""), None, None));
        assert_eq!(head.header("X-ONE"), Some(&b"1"[..]));
        assert_eq!(head.headers().count(), 3);
        assert_eq!(head.size, bytes.len() - 2);
        assert!(!head.is_websocket_upgrade());
    }

    #[test]
    fn a_head_is_partial_at_every_byte_but_its_last() {
        let bytes = b"GET / HTTP/1.1\r\nHost: example\r\nUpgrade: h2c, WebSocket\r\n\r\n";
        for cut in 0..bytes.len() {
            assert!(matches!(parse_head(&bytes[..cut]), HeadParse::Partial), "cut {cut}");
        }
        assert!(complete(bytes).is_websocket_upgrade());
    }

    #[test]
    fn absolute_targets_have_the_same_path() {
        let path_of = |target: &str| {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let head = complete(bytes.as_bytes());
            (head.path().to_string(), head.query("a").map(str::to_string))
        };
        assert_eq!(path_of("http://h/x/y?a=1"), ("/x/y".into(), Some("1".into())));
        assert_eq!(path_of("http://h?a=1"), ("/".into(), Some("1".into())));
        assert_eq!(path_of("http://h"), ("/".into(), None));
        assert_eq!(path_of("/x?a=http://y/z"), ("/x".into(), Some("http://y/z".into())));
        assert_eq!(path_of("*"), ("*".into(), None));
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        let cases: &[(&[u8], HeadError)] = &[
            (b"GET / HTTP/1.1\nHost: a\n\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX\0: c\r\n\r\n", HeadError::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", HeadError::Malformed),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Malformed),
            (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Malformed),
            ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes(), HeadError::Malformed),
            (b"GET / HTTP/1.1\r\n\r\n", HeadError::Host),
            (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", HeadError::Host),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                HeadError::Framing,
            ),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", HeadError::Framing),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", HeadError::Framing),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", HeadError::Framing),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::Framing,
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::Framing,
            ),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Framing),
            (b"PRI * HTTP/2.0\r\n\r\n", HeadError::Version),
            (b"\x16\x03\x01\x02\x00\x01", HeadError::Malformed),
        ];
        for (bytes, error) in cases {
            assert_eq!(error_of(bytes), *error, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused_before_the_head_is_whole() {
        assert_eq!(error_of(b"\n"), HeadError::Malformed);
        assert_eq!(error_of(b"GET / HTTP/1.1\nHost: a"), HeadError::Malformed);
        // Behind the head it is somebody else's byte.
        complete(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\n");
    }

    #[test]
    fn what_is_strange_but_plain_is_accepted() {
        for bytes in [
            &b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n",
        ] {
            complete(bytes);
        }
    }

    #[test]
    fn a_head_beyond_its_limits_is_refused_at_the_limit() {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        bytes.resize(HEAD_SIZE_MAX - 4, b'x');
        assert!(matches!(parse_head(&bytes), HeadParse::Partial));
        bytes.extend_from_slice(b"\r\n\r\n");
        assert_eq!(complete(&bytes).size, HEAD_SIZE_MAX);
        bytes.insert(HEAD_SIZE_MAX - 4, b'x');
        assert_eq!(error_of(&bytes), HeadError::TooLarge);
        assert_eq!(error_of(&bytes[..HEAD_SIZE_MAX]), HeadError::TooLarge);
        assert_eq!(error_of(&[b'A'; HEAD_SIZE_MAX]), HeadError::TargetTooLong);

        let lines =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
        assert_eq!(complete(lines(HEADER_COUNT_MAX).as_bytes()).headers().count(), HEADER_COUNT_MAX);
        assert_eq!(error_of(lines(HEADER_COUNT_MAX + 1).as_bytes()), HeadError::TooManyHeaders);
    }

    #[test]
    fn every_refusal_is_a_whole_response_that_closes() {
        for error in [
            HeadError::Malformed,
            HeadError::Host,
            HeadError::Framing,
            HeadError::TargetTooLong,
            HeadError::TooLarge,
            HeadError::TooManyHeaders,
            HeadError::Version,
        ] {
            crate::upgrade::tests::assert_whole_response(response_for(error));
        }
    }
}
