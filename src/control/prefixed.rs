//! A connection with bytes that were read from it already put back in front.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The connection. Reads give the bytes in front first.
pub(super) struct Prefixed {
    stream: TcpStream,
    front: Vec<u8>,
    taken: usize,
    /// The last write found no room. Known outside, because what was accepted but not written is lost with the HTTP layer.
    blocked: Arc<AtomicBool>,
}

impl Prefixed {
    pub(super) fn new(stream: TcpStream, front: Vec<u8>) -> Prefixed {
        Prefixed { stream, front, taken: 0, blocked: Arc::default() }
    }

    /// Whether the last write found no room.
    pub(super) fn blocked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.blocked)
    }

    /// The connection, and what of the front nobody has read.
    pub(super) fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.front.split_off(self.taken))
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.blocked.store(result.is_pending(), Ordering::Relaxed);
        result
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken < self.front.len() {
            let count = into.remaining().min(self.front.len() - self.taken);
            into.put_slice(&self.front[self.taken..self.taken + count]);
            self.taken += count;
            if self.taken == self.front.len() {
                (self.front, self.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
