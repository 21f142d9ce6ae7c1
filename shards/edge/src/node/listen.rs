//! The listening sockets: one for each shard on the same port, with the options that connections inherit.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::{StartError, Tuning};
use crate::{address, sys};

/// Opens `count` listeners on one address and says which it is; port 0 is resolved once.
pub(crate) fn open(
    wanted: SocketAddr,
    count: usize,
    tuning: &Tuning,
) -> Result<(SocketAddr, Vec<OwnedFd>), StartError> {
    if wanted.port() != 0 {
        // Two servers on one shared port would silently share its clients, so first ask for it alone.
        bind_alone(wanted).map_err(|error| name(wanted, error))?;
    }
    let first = listener(wanted, tuning).map_err(|error| name(wanted, error))?;
    let actual = local_address(first.as_fd()).map_err(|error| name(wanted, error))?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(listener(actual, tuning).map_err(|error| name(actual, error))?);
    }
    Ok((actual, listeners))
}

/// How long a taken port is tried again: the rings of a killed process hold its sockets for a moment longer than it lives.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often.
const PAUSE: Duration = Duration::from_millis(20);

#[expect(clippy::disallowed_methods, reason = "before any shard runs; nothing else is to be done meanwhile")]
fn bind_alone(address: SocketAddr) -> io::Result<OwnedFd> {
    let mut left = PATIENCE.as_millis() / PAUSE.as_millis();
    loop {
        match bind(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {
                left -= 1;
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

fn name(address: SocketAddr, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse(address),
        _ => StartError::Listen { address, error },
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let socket = sys::own(sys::check(unsafe { libc::socket(family, kind, 0) })?);
    // Connections of the process before may still be in TIME_WAIT.
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if shared {
        sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    let (raw, size) = address::encode(address);
    // SAFETY: the pointer and the size are of one socket address that outlives the call.
    sys::check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw).cast(), size) })?;
    Ok(socket)
}

fn listener(address: SocketAddr, tuning: &Tuning) -> io::Result<OwnedFd> {
    let socket = bind(address, true)?;
    let fd = socket.as_fd();
    // Without it a 101 and a small frame behind it cost 40 ms.
    sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    // A client that never reads would otherwise queue megabytes in the kernel.
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, tuning.send_buffer as i32)?;
    sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, tuning.unsent_low as i32)?;
    sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, tuning.user_timeout_ms as i32)?;
    // SAFETY: no pointers are passed.
    sys::check(unsafe { libc::listen(socket.as_raw_fd(), tuning.backlog as i32) })?;
    Ok(socket)
}

fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = address::empty();
    let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: both pointers are to values that outlive the call, and the size is that of the storage.
    sys::check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut raw).cast(), &raw mut size) })?;
    address::decode(&raw).ok_or_else(|| io::Error::other("the listener has no internet address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_share_the_port_that_the_kernel_chose() {
        let wanted = "127.0.0.1:0".parse().unwrap();
        let (actual, listeners) = open(wanted, 3, &Tuning::default()).unwrap();
        assert_ne!(actual.port(), 0);
        for listener in &listeners {
            assert_eq!(local_address(listener.as_fd()).unwrap(), actual);
        }
    }

    #[test]
    fn a_port_that_somebody_else_shares_is_refused() {
        let (taken, _listeners) = open("127.0.0.1:0".parse().unwrap(), 1, &Tuning::default()).unwrap();
        match open(taken, 1, &Tuning::default()) {
            Err(StartError::PortInUse(address)) => assert_eq!(address, taken),
            other => panic!("the port was given twice: {other:?}"),
        }
    }

    #[test]
    fn an_address_of_another_host_is_named() {
        let error = open("192.0.2.1:80".parse().unwrap(), 1, &Tuning::default()).unwrap_err();
        assert!(matches!(error, StartError::Listen { .. }), "{error}");
    }
}
