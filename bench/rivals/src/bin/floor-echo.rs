//! The floor of an echo: a bare ring, frames turned round in the buffer they came in and sent from there.

use std::os::fd::AsRawFd as _;

use rivals::account::{self, MESSAGES};
use rivals::ring::{Op, Ring};
use rivals::{Args, ws};

/// Connections; a little below RLIMIT_NOFILE, which bounds a table.
const SLOTS: u32 = 19_000;
const BUFFERS: u16 = 2048;
const BUFFER_SIZE: usize = 4096;

/// From where an answer is sent.
enum Sending {
    Nothing,
    Buffer(u16),
    /// The vector is not read again: it keeps the bytes where they are until they are sent.
    Own(#[expect(dead_code, reason = "kept alive, not read")] Vec<u8>),
}

struct Conn {
    unfinished: ws::Unfinished,
    sending: Sending,
    /// What waits behind it.
    next: Vec<u8>,
    /// It receives; its end is known by a completion without more.
    receives: bool,
    ends: bool,
}

fn main() {
    let args = Args::take();
    let listener = args.listener();
    let mut ring = Ring::new(SLOTS, BUFFERS, BUFFER_SIZE);
    let mut conns: Vec<Option<Box<Conn>>> = (0..SLOTS).map(|_| None).collect();
    let mut seen = Vec::with_capacity(4096);
    ring.accept(listener.as_raw_fd());
    loop {
        ring.turn(&mut seen);
        let mut messages = 0;
        for &completion in &seen {
            let slot = completion.slot;
            match completion.op {
                Op::Accept => {
                    if completion.result >= 0 {
                        let slot = completion.result as u32;
                        conns[slot as usize] = Some(Box::new(Conn {
                            unfinished: ws::Unfinished::default(),
                            sending: Sending::Nothing,
                            next: Vec::new(),
                            receives: true,
                            ends: false,
                        }));
                        ring.receive(slot);
                    }
                    if !completion.more {
                        ring.accept(listener.as_raw_fd());
                    }
                }
                Op::Receive => {
                    let Some(conn) = conns[slot as usize].as_mut() else { continue };
                    match (completion.result, completion.buffer) {
                        (1.., Some(id)) => {
                            let bytes = ring.bytes(id, completion.result as usize);
                            messages += conn.came(&mut ring, slot, id, bytes);
                        }
                        (result, _) if result == -libc::ENOBUFS => {}
                        _ => conn.ends = true,
                    }
                    if !completion.more {
                        conn.receives = false;
                        if !conn.ends {
                            conn.receives = true;
                            ring.receive(slot);
                        }
                    }
                    conn.end_if_done(&mut ring, slot);
                }
                Op::Send => {
                    let Some(conn) = conns[slot as usize].as_mut() else { continue };
                    if let Sending::Buffer(id) = conn.sending {
                        ring.give_back(id);
                    }
                    conn.sending = Sending::Nothing;
                    if completion.result < 0 {
                        conn.next.clear();
                    } else if !conn.next.is_empty() {
                        let next = core::mem::take(&mut conn.next);
                        conn.send_own(&mut ring, slot, next);
                    }
                    conn.end_if_done(&mut ring, slot);
                }
                Op::Close => conns[slot as usize] = None,
            }
        }
        account::count(&MESSAGES, messages);
    }
}

impl Conn {
    fn came(&mut self, ring: &mut Ring, slot: u32, id: u16, bytes: &'static mut [u8]) -> u64 {
        let size = bytes.len();
        if self.unfinished.is_clear() {
            let done = ws::echo(bytes);
            self.unfinished.keep(&bytes[done.consumed..size]);
            let answer = &bytes[..done.produced];
            match self.sending {
                _ if answer.is_empty() => ring.give_back(id),
                Sending::Nothing => {
                    ring.send(slot, answer);
                    self.sending = Sending::Buffer(id);
                }
                Sending::Buffer(_) | Sending::Own(_) => {
                    self.next.extend_from_slice(answer);
                    ring.give_back(id);
                }
            }
            self.ends |= done.closed;
            return done.messages;
        }
        let (answer, messages, closed) = self.unfinished.add(bytes);
        ring.give_back(id);
        if !answer.is_empty() {
            self.say(ring, slot, answer);
        }
        self.ends |= closed;
        messages
    }

    fn say(&mut self, ring: &mut Ring, slot: u32, bytes: Vec<u8>) {
        match self.sending {
            Sending::Nothing => self.send_own(ring, slot, bytes),
            Sending::Buffer(_) | Sending::Own(_) => self.next.extend_from_slice(&bytes),
        }
    }

    fn send_own(&mut self, ring: &mut Ring, slot: u32, bytes: Vec<u8>) {
        // A vector's bytes do not move with it.
        ring.send(slot, &bytes);
        self.sending = Sending::Own(bytes);
    }

    /// A connection that ends is closed when nothing of it is in flight. The close frame was the last answer, so the peer ends the receive.
    fn end_if_done(&mut self, ring: &mut Ring, slot: u32) {
        if self.ends && !self.receives && matches!(self.sending, Sending::Nothing) && self.next.is_empty() {
            self.ends = false;
            ring.close(slot);
        }
    }
}
