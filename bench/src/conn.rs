//! One connection of the generator on monoio: made from a chosen source address, written without waiting, read in pieces.

use monoio::io::{
    AsyncReadRent, AsyncWriteRent as _, AsyncWriteRentExt as _, OwnedReadHalf, OwnedWriteHalf, Splitable as _,
};
use monoio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream as StdStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;

use crate::frame::{self, Decoder, Kind};

/// Bytes that one read takes at most. Every connection holds so many while it waits.
const READ_SIZE: usize = 1024;

/// Why a connection ended or was never made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The server's close code.
    Closed(u16),
    /// Without a close frame.
    Gone(String),
}

impl core::fmt::Display for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            End::Closed(code) => write!(f, "closed by the server with {code}"),
            End::Gone(why) => f.write_str(why),
        }
    }
}

/// What is said on it.
pub(crate) struct Conn {
    /// Away while a write is in flight.
    writer: RefCell<Option<OwnedWriteHalf<TcpStream>>>,
    out: RefCell<Vec<u8>>,
    mask: Cell<u32>,
    said: Cell<u64>,
}

/// What is heard on it.
pub(crate) struct Ear {
    half: OwnedReadHalf<TcpStream>,
    buffer: Vec<u8>,
    decoder: Decoder,
    /// Bytes that came.
    pub(crate) heard: u64,
}

/// From where to where a connection goes.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// The address that it comes from; none = the host's choice.
    pub(crate) from: Option<Ipv4Addr>,
    /// The server.
    pub(crate) to: SocketAddr,
    /// Bytes of the receive buffer; none = the host's choice.
    pub(crate) small: Option<u32>,
}

/// A socket that begins to connect, from `from` if that is given: one address has ports for some 60,000 connections.
fn begin(from: Option<Ipv4Addr>, to: SocketAddrV4, small: Option<u32>) -> std::io::Result<StdStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(small) = small {
        sockopt::set_socket_recv_buffer_size(&socket, small as usize)?;
    }
    if let Some(from) = from {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option is an int that outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(std::io::Error::last_os_error());
        }
        bind(&socket, &SocketAddrV4::new(from, 0))?;
    }
    match connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(StdStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// Connects and upgrades; an empty `protocol` asks for none.
///
/// # Errors
/// In words: what the host or the server did instead.
pub(crate) async fn open(way: Way, path: &str, protocol: &str, seed: u32) -> Result<(Rc<Conn>, Ear), End> {
    let Way { from, to, small } = way;
    let doing = |error: std::io::Error| End::Gone(format!("{to}{path}: {error}"));
    let SocketAddr::V4(address) = to else {
        return Err(End::Gone(format!("{to}: the generator speaks IPv4")));
    };
    let stream = TcpStream::from_std(begin(from, address, small).map_err(doing)?).map_err(doing)?;
    stream.writable(true).await.map_err(doing)?;
    let (read, write) = stream.into_split();
    let conn = Rc::new(Conn {
        writer: RefCell::new(None),
        out: RefCell::default(),
        mask: Cell::new(seed | 1),
        said: Cell::new(0),
    });
    let mut ear =
        Ear { half: read, buffer: Vec::with_capacity(READ_SIZE), decoder: Decoder::default(), heard: 0 };
    let offer = match protocol {
        "" => String::new(),
        name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cmluZ2Rlc2stYmVuY2ghIQ==\r\n{offer}\r\n"
    );
    let mut write = write;
    let (result, _) = write.write_all(head.into_bytes()).await;
    result.map_err(doing)?;
    *conn.writer.borrow_mut() = Some(write);
    let mut answer = Vec::new();
    loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            if !answer.starts_with(b"HTTP/1.1 101") {
                let first = String::from_utf8_lossy(&answer[..end]);
                return Err(End::Gone(format!("{path}: {}", first.lines().next().unwrap_or_default())));
            }
            // What came with the answer is the beginning of the first frame.
            ear.decoder.keep(&answer[end + 4..]);
            ear.heard = (answer.len() - end - 4) as u64;
            return Ok((conn, ear));
        }
        let came = ear.more().await?;
        answer.extend_from_slice(&came);
        ear.buffer = came;
    }
}

impl Conn {
    /// Sends one message, now or behind what is being sent.
    pub(crate) fn say(self: &Rc<Self>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        // A mask only has to differ from frame to frame (RFC 6455, section 5.3, wants more of browsers, whose users do not trust each other).
        let mut mask = self.mask.get();
        mask ^= mask << 13;
        mask ^= mask >> 17;
        mask ^= mask << 5;
        self.mask.set(mask);
        frame::put(&mut self.out.borrow_mut(), kind, mask.to_ne_bytes(), write);
        let idle = self.writer.borrow_mut().take();
        if let Some(writer) = idle {
            monoio::spawn(Rc::clone(self).flush(writer));
        }
    }

    /// Sends a text.
    pub(crate) fn text(self: &Rc<Self>, text: &str) {
        self.say(Kind::Text, |out| out.extend_from_slice(text.as_bytes()));
    }

    async fn flush(self: Rc<Self>, mut writer: OwnedWriteHalf<TcpStream>) {
        loop {
            let bytes = core::mem::take(&mut *self.out.borrow_mut());
            if bytes.is_empty() {
                break;
            }
            let (result, bytes) = writer.write_all(bytes).await;
            match result {
                // The reading side learns of it too, and says so.
                Err(_) => return,
                Ok(count) => self.said.set(self.said.get() + count as u64),
            }
            let mut out = self.out.borrow_mut();
            if out.is_empty() {
                *out = bytes;
                out.clear();
            }
        }
        *self.writer.borrow_mut() = Some(writer);
    }

    /// Ends it as the kernel of a dead browser does: no close frame, and nothing more is sent.
    pub(crate) async fn cut(&self) {
        for _ in 0..100 {
            let idle = self.writer.borrow_mut().take();
            if let Some(mut writer) = idle {
                // A peer that is gone already is as good.
                let _ = writer.shutdown().await;
                return;
            }
            monoio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Bytes that were sent.
    pub(crate) fn said(&self) -> u64 {
        self.said.get()
    }
}

impl Ear {
    async fn more(&mut self) -> Result<Vec<u8>, End> {
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve(READ_SIZE);
        let (result, buffer) = self.half.read(buffer).await;
        match result {
            Ok(0) => Err(End::Gone("the server closed the connection".into())),
            Ok(_) => Ok(buffer),
            Err(error) => Err(End::Gone(error.to_string())),
        }
    }

    /// Waits for bytes and hands every whole text to `tell`. Pings are answered; binary messages are passed over.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn listen(&mut self, conn: &Rc<Conn>, mut tell: impl FnMut(&str)) -> Result<(), End> {
        let came = match self.decoder.has_frame() {
            true => Vec::new(),
            false => self.more().await?,
        };
        self.heard += came.len() as u64;
        let mut end = None;
        let fed = self.decoder.feed(&came, |kind, payload| match kind {
            Kind::Text => match core::str::from_utf8(payload) {
                Ok(text) => tell(text),
                Err(_) => end = Some(End::Gone("the server sent text that is not UTF-8".into())),
            },
            Kind::Ping => conn.say(Kind::Pong, |out| out.extend_from_slice(payload)),
            Kind::Close => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                end = Some(End::Closed(code));
            }
            Kind::Binary | Kind::Pong => {}
        });
        if came.capacity() > 0 {
            self.buffer = came;
        }
        fed.map_err(|bad| End::Gone(format!("the server sent a frame it must not send: {bad:?}")))?;
        end.map_or(Ok(()), Err)
    }
}
