//! A plain epoll loop, edge by level: read what is there, turn it round, write it back, and nothing else.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use rivals::account::{self, ENTERS, MESSAGES};
use rivals::{Args, ws};

const EVENTS: usize = 4096;
const LISTENER: u64 = u64::MAX;

struct Conn {
    stream: TcpStream,
    unfinished: ws::Unfinished,
    /// What the socket did not take yet.
    out: VecDeque<u8>,
    waits: bool,
}

fn control(epoll: i32, op: i32, fd: i32, events: i32, data: u64) {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    // SAFETY: both descriptors are open, and the event outlives the call.
    let done = unsafe { libc::epoll_ctl(epoll, op, fd, &mut event) };
    assert_eq!(done, 0, "epoll_ctl: {}", std::io::Error::last_os_error());
}

fn main() {
    let args = Args::take();
    let listener = args.listener();
    listener.set_nonblocking(true).expect("a listener can be made not to wait");
    // SAFETY: the call has no preconditions.
    let epoll = unsafe { libc::epoll_create1(0) };
    control(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN, LISTENER);
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut buffer = vec![0; 64 << 10];
    loop {
        account::count(&ENTERS, 1);
        // SAFETY: the events are as many as is said, and outlive the call.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let data = event.u64;
            if data == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a socket can be made not to wait");
                    let fd = stream.as_raw_fd();
                    let place = fd as usize;
                    if conns.len() <= place {
                        conns.resize_with(place + 1, || None);
                    }
                    conns[place] = Some(Conn {
                        stream,
                        unfinished: ws::Unfinished::default(),
                        out: VecDeque::new(),
                        waits: false,
                    });
                    control(epoll, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, place as u64);
                }
                continue;
            }
            let place = data as usize;
            let Some(conn) = conns[place].as_mut() else { continue };
            let mut alive = true;
            if event.events & libc::EPOLLOUT as u32 != 0 {
                alive &= conn.flush();
            }
            if event.events & !(libc::EPOLLOUT as u32) != 0 {
                alive &= conn.read(&mut buffer);
            }
            if !alive {
                // Closing takes it out of the epoll set.
                conns[place] = None;
                continue;
            }
            if conn.waits == conn.out.is_empty() {
                conn.waits = !conn.out.is_empty();
                let events = if conn.waits { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
                control(epoll, libc::EPOLL_CTL_MOD, conn.stream.as_raw_fd(), events, place as u64);
            }
        }
    }
}

impl Conn {
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let size = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(size) => size,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if self.unfinished.is_clear() {
            let done = ws::echo(&mut buffer[..size]);
            self.unfinished.keep(&buffer[done.consumed..size]);
            account::count(&MESSAGES, done.messages);
            return self.write(&buffer[..done.produced]) && !done.closed;
        }
        let (answer, messages, closed) = self.unfinished.add(&buffer[..size]);
        account::count(&MESSAGES, messages);
        self.write(&answer) && !closed
    }

    fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.out.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.out.extend(bytes);
        true
    }

    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slices().0) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}
