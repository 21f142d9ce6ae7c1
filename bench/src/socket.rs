//! The client's side of RFC 6455 on monoio: upgrade, masked frames out, whole text messages in.

use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;
use std::net::SocketAddr;

/// What is said on a socket.
pub(crate) struct Writer {
    half: OwnedWriteHalf<TcpStream>,
    spare: Vec<u8>,
}

/// What is heard on it.
pub(crate) struct Reader {
    half: OwnedReadHalf<TcpStream>,
    bytes: Vec<u8>,
    start: usize,
    spare: Vec<u8>,
}

/// Connects and upgrades; `protocol` empty = none.
pub(crate) async fn open(to: SocketAddr, path: &str, protocol: &str) -> Result<(Writer, Reader), String> {
    let doing = |error: std::io::Error| format!("{to}{path}: {error}");
    let stream = TcpStream::connect(to).await.map_err(doing)?;
    stream.set_nodelay(true).map_err(doing)?;
    let (read, write) = stream.into_split();
    let mut writer = Writer { half: write, spare: Vec::with_capacity(4096) };
    let mut reader = Reader { half: read, bytes: Vec::new(), start: 0, spare: Vec::with_capacity(16 * 1024) };
    let offer = match protocol {
        "" => String::new(),
        name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cmluZ2Rlc2stYmVuY2ghIQ==\r\n{offer}\r\n"
    );
    writer.raw(head.into_bytes()).await?;
    loop {
        if let Some(end) = reader.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            if !reader.bytes.starts_with(b"HTTP/1.1 101") {
                return Err(format!("{to}{path}: {}", String::from_utf8_lossy(&reader.bytes)));
            }
            reader.start = end + 4;
            return Ok((writer, reader));
        }
        reader.more().await?;
    }
}

impl Writer {
    async fn raw(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let (result, mut bytes) = self.half.write_all(bytes).await;
        bytes.clear();
        self.spare = bytes;
        result.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Sends one text message.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), String> {
        let mut frame = core::mem::take(&mut self.spare);
        frame.push(0x81);
        match text.len() {
            size @ 0..126 => frame.push(0x80 | size as u8),
            size => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(size).map_err(|_| "too long")?.to_be_bytes());
            }
        }
        let mask = [0x5A, 0x31, 0xC7, 0x0E];
        frame.extend_from_slice(&mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.raw(frame).await
    }
}

impl Reader {
    async fn more(&mut self) -> Result<(), String> {
        let spare = core::mem::take(&mut self.spare);
        let (result, mut spare) = self.half.read(spare).await;
        let count = result.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the server closed the connection".into());
        }
        self.bytes.extend_from_slice(&spare[..count]);
        spare.clear();
        self.spare = spare;
        Ok(())
    }

    /// The next text message; other frames are passed over, a close frame is an error.
    pub(crate) async fn text(&mut self) -> Result<String, String> {
        loop {
            if let Some((opcode, payload)) = self.frame() {
                let text = String::from_utf8_lossy(payload).into_owned();
                match opcode {
                    1 => return Ok(text),
                    8 => {
                        let code = payload.get(..2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
                        return Err(format!("closed with {code}"));
                    }
                    _ => continue,
                }
            }
            self.bytes.drain(..self.start);
            self.start = 0;
            self.more().await?;
        }
    }

    fn frame(&mut self) -> Option<(u8, &[u8])> {
        let bytes = &self.bytes[self.start..];
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (head, size) = match second & 127 {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
            size => (2, usize::from(size)),
        };
        let payload = bytes.get(head..head + size)?;
        self.start += head + size;
        Some((first & 15, payload))
    }
}
