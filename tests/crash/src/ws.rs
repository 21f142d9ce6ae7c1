//! RFC 6455 from the client's side, on plain TCP. Strict about what the server sends: a frame it should not send is an error here.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE64;
use sha1::{Digest as _, Sha1};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::chance::Chance;

/// The sub-protocol of docs/protocol.md section 2.
pub const PROTOCOL: &str = "ringdesk.v1.json";
/// No frame of the server is larger than this; a page of history is the largest.
const FRAME_MAX: usize = 4 << 20;
/// For connecting and for the answer to the upgrade.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// What an upgrade request says.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Path and query.
    pub path: String,
    /// Sub-protocol offered, if any.
    pub protocol: Option<&'static str>,
    /// Further lines, each with its end.
    pub more: String,
}

impl Upgrade {
    /// An ordinary upgrade to `path`.
    pub fn to(path: impl Into<String>) -> Upgrade {
        Upgrade { path: path.into(), protocol: Some(PROTOCOL), more: String::new() }
    }
    /// The request's bytes with this key.
    pub fn request(&self, host: SocketAddr, key: &str) -> String {
        let protocol =
            self.protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{protocol}{}\r\n",
            self.path, self.more
        )
    }
}

/// What arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// Answered already.
    Ping(Vec<u8>),
    /// The answer to a ping of ours.
    Pong(Vec<u8>),
    /// The server closes; 1005 stands for no code.
    Close(u16, String),
}

/// Why a socket is of no more use.
#[derive(Debug)]
pub enum WsError {
    /// The connection failed.
    Io(io::Error),
    /// The stream ended without a close frame.
    End,
    /// The upgrade was answered with this status.
    Http(u16, String),
    /// The server broke RFC 6455.
    Broken(&'static str),
    /// No answer in time.
    Late,
}

impl fmt::Display for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WsError::Io(error) => write!(f, "{error}"),
            WsError::End => write!(f, "the stream ended without a close frame"),
            WsError::Http(status, _) => write!(f, "the upgrade was answered with {status}"),
            WsError::Broken(what) => write!(f, "the server broke RFC 6455: {what}"),
            WsError::Late => write!(f, "no answer in time"),
        }
    }
}

impl From<io::Error> for WsError {
    fn from(error: io::Error) -> WsError {
        WsError::Io(error)
    }
}

/// An open WebSocket.
pub struct Ws {
    stream: TcpStream,
    received: Vec<u8>,
    used: usize,
    unsent: Vec<u8>,
    sent: usize,
    message: Vec<u8>,
    message_opcode: u8,
    chance: Chance,
}

impl Ws {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// [`WsError::Http`] if the server refuses the upgrade, the others if it does not answer or answers nonsense.
    pub async fn connect(to: SocketAddr, upgrade: &Upgrade, chance: &mut Chance) -> Result<Ws, WsError> {
        let connect = async {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ws::upgrade(stream, to, upgrade, chance).await
        };
        tokio::time::timeout(CONNECT_TIME, connect).await.map_err(|_| WsError::Late)?
    }

    /// Upgrades a connection that is open already.
    ///
    /// # Errors
    /// As [`Ws::connect`].
    pub async fn upgrade(
        stream: TcpStream,
        to: SocketAddr,
        upgrade: &Upgrade,
        chance: &mut Chance,
    ) -> Result<Ws, WsError> {
        let key = new_key(chance);
        let mut ws = Ws::over(stream, chance);
        ws.raw(upgrade.request(to, &key).as_bytes());
        ws.accepted(&key, upgrade.protocol).await?;
        Ok(ws)
    }

    /// A connection on which nothing was said yet.
    pub fn over(stream: TcpStream, chance: &mut Chance) -> Ws {
        let chance = Chance::new(chance.bits());
        let (received, unsent, message) = (Vec::with_capacity(4096), Vec::new(), Vec::new());
        Ws { stream, received, used: 0, unsent, sent: 0, message, message_opcode: 0, chance }
    }

    /// Waits for the 101 that answers a request with `key`.
    ///
    /// # Errors
    /// As [`Ws::connect`].
    pub async fn accepted(&mut self, key: &str, protocol: Option<&str>) -> Result<(), WsError> {
        let end = loop {
            if let Some(at) = self.received[self.used..].windows(4).position(|four| four == b"\r\n\r\n") {
                break self.used + at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.received[self.used..end]).into_owned();
        self.used = end;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status != 101 {
            return Err(WsError::Http(status, head));
        }
        let field = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let digest =
            Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
        if field("sec-websocket-accept") != Some(BASE64.encode(&digest).as_str()) {
            return Err(WsError::Broken("Sec-WebSocket-Accept is wrong"));
        }
        if field("sec-websocket-protocol") != protocol {
            return Err(WsError::Broken("the sub-protocol is not the one that was offered"));
        }
        Ok(())
    }

    /// The next frame. What is unsent goes out meanwhile. May be dropped and called again.
    ///
    /// # Errors
    /// When the connection has ended; after it nothing works any more.
    pub async fn next(&mut self) -> Result<Frame, WsError> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            self.more().await?;
        }
    }

    /// The next frame within `time`.
    ///
    /// # Errors
    /// As [`Ws::next`], and [`WsError::Late`].
    pub async fn within(&mut self, time: Duration) -> Result<Frame, WsError> {
        tokio::time::timeout(time, self.next()).await.map_err(|_| WsError::Late)?
    }

    /// Sends a text message.
    pub fn text(&mut self, text: &str) {
        self.frame(true, 1, text.as_bytes());
    }

    /// Sends a close frame.
    pub fn close(&mut self, code: u16, reason: &str) {
        let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        self.frame(true, 8, &payload);
    }

    /// Sends one frame with a mask of its own.
    pub fn frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        let mask = (self.chance.bits() as u32).to_be_bytes();
        let frame = encode(fin, opcode, payload, Some(mask));
        self.raw(&frame);
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        // What does not fit goes out in `next`; an error shows there too.
        let _ = self.send_some();
    }

    /// Waits until everything is with the kernel.
    ///
    /// # Errors
    /// If the connection has failed.
    pub async fn flush(&mut self) -> Result<(), WsError> {
        while self.unsent_size() > 0 {
            self.stream.writable().await?;
            self.send_some()?;
        }
        Ok(())
    }

    /// Bytes that the kernel did not take yet.
    pub fn unsent_size(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn send_some(&mut self) -> io::Result<()> {
        while self.sent < self.unsent.len() {
            match self.stream.try_write(&self.unsent[self.sent..]) {
                Ok(size) => self.sent += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Ok(())
    }

    async fn more(&mut self) -> Result<(), WsError> {
        if self.used > 0 {
            self.received.drain(..self.used);
            self.used = 0;
        }
        loop {
            let interest = match self.unsent_size() {
                0 => Interest::READABLE,
                _ => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = self.stream.ready(interest).await?;
            if ready.is_writable() {
                self.send_some()?;
            }
            if ready.is_readable() {
                self.received.reserve(16 << 10);
                match self.stream.try_read_buf(&mut self.received) {
                    Ok(0) => return Err(WsError::End),
                    Ok(_) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Takes a frame from the front of what was received, and a message from its fragments.
    fn parse(&mut self) -> Result<Option<Frame>, WsError> {
        loop {
            let bytes = &self.received[self.used..];
            let [first, second, ..] = *bytes else { return Ok(None) };
            if first & 0x70 != 0 {
                return Err(WsError::Broken("a reserved bit is set"));
            }
            if second & 0x80 != 0 {
                return Err(WsError::Broken("a server's frame is masked"));
            }
            let (size, at) = match second {
                126 if bytes.len() < 4 => return Ok(None),
                126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
                127 if bytes.len() < 10 => return Ok(None),
                127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")) as usize, 10),
                size => (usize::from(size), 2),
            };
            if size > FRAME_MAX {
                return Err(WsError::Broken("a frame is too large"));
            }
            if bytes.len() < at + size {
                return Ok(None);
            }
            let (fin, opcode, payload) = (first & 0x80 != 0, first & 15, bytes[at..at + size].to_vec());
            self.used += at + size;
            if let Some(frame) = self.take(fin, opcode, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn take(&mut self, fin: bool, opcode: u8, payload: Vec<u8>) -> Result<Option<Frame>, WsError> {
        if opcode >= 8 && (!fin || payload.len() > 125) {
            return Err(WsError::Broken("a control frame is fragmented or too long"));
        }
        match opcode {
            0 if self.message_opcode == 0 => Err(WsError::Broken("a fragment of nothing")),
            1 | 2 if self.message_opcode != 0 => Err(WsError::Broken("a message within a message")),
            0..=2 => {
                if opcode > 0 {
                    self.message_opcode = opcode;
                }
                self.message.extend_from_slice(&payload);
                if !fin {
                    return Ok(None);
                }
                let message = core::mem::take(&mut self.message);
                if core::mem::take(&mut self.message_opcode) == 2 {
                    return Ok(Some(Frame::Binary(message)));
                }
                let text = String::from_utf8(message).map_err(|_| WsError::Broken("text is not UTF-8"))?;
                Ok(Some(Frame::Text(text)))
            }
            8 => {
                let (code, reason) = match payload.as_slice() {
                    [] => (1005, ""),
                    [high, low, reason @ ..] => {
                        let reason = std::str::from_utf8(reason)
                            .map_err(|_| WsError::Broken("a reason is not UTF-8"))?;
                        (u16::from_be_bytes([*high, *low]), reason)
                    }
                    _ => return Err(WsError::Broken("a close code of one byte")),
                };
                Ok(Some(Frame::Close(code, reason.to_owned())))
            }
            9 => {
                self.frame(true, 10, &payload);
                Ok(Some(Frame::Ping(payload)))
            }
            10 => Ok(Some(Frame::Pong(payload))),
            _ => Err(WsError::Broken("an unknown opcode")),
        }
    }
}

/// A key for an upgrade.
pub fn new_key(chance: &mut Chance) -> String {
    BASE64.encode(&[chance.bits().to_be_bytes(), chance.bits().to_be_bytes()].concat())
}

/// The bytes of a frame.
pub fn encode(fin: bool, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(if fin { 0x80 } else { 0 } | opcode);
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        size @ 0..=125 => out.push(masked | size as u8),
        size @ 126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(masked | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    match mask {
        None => out.extend_from_slice(payload),
        Some(mask) => {
            out.extend_from_slice(&mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    out
}
