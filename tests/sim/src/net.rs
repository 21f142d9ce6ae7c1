//! Connections: two byte streams that are cut anywhere and late, and ends that one side or both hear of.

use std::collections::VecDeque;
use std::net::SocketAddr;

use shard::{Door, Moved};

use crate::client::Wish;
use crate::marks::Mark;
use crate::plan::Cut;
use crate::server::{Arrival, Done};
use crate::world::{Event, Phase, World};

/// How long a closed socket's last bytes may take.
const LINGER_US: u64 = 1_500_000;

/// Where the server's end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Not accepted yet.
    Dialing,
    /// At a shard's door.
    At { shard: u16, door: Door },
    /// The shard has closed it; a send may still be in flight.
    Closing { shard: u16, door: Door },
    /// On its way to another shard; the door it left is kept.
    Moving { shard: u16, door: Door },
    /// With the control plane.
    Control,
    /// Nowhere any more.
    Gone,
}

/// One connection.
pub(crate) struct Conn {
    pub(crate) client: usize,
    /// The run of the server that has it.
    pub(crate) boot: u32,
    pub(crate) place: Place,
    pub(crate) peer: SocketAddr,
    /// Bytes of the client that have not arrived.
    up: VecDeque<u8>,
    up_queued: bool,
    pub(crate) paused: bool,
    /// What was lent by the shard, and how much of it the socket took.
    sending: Option<(Vec<u8>, usize)>,
    send_queued: bool,
    /// Bytes the socket took and the client has not read.
    down: VecDeque<u8>,
    down_queued: bool,
    /// The server will send nothing more.
    down_ended: bool,
    /// The client holds its end.
    pub(crate) client_open: bool,
    /// Nothing passes any more, and nobody says so.
    hole: bool,
    lost_queued: bool,
    /// A move's content on its way.
    pub(crate) moved: Option<Box<Moved>>,
    /// What the control plane has read of it.
    read: Vec<u8>,
    /// Bytes are cut one by one for so many more.
    trickle: u32,
}

/// Takes at most `count` bytes from the front.
fn take_front(queue: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let count = count.min(queue.len());
    let (first, second) = queue.as_slices();
    let mut bytes = Vec::with_capacity(count + 64);
    bytes.extend_from_slice(&first[..count.min(first.len())]);
    bytes.extend_from_slice(&second[..count - bytes.len()]);
    queue.drain(..count);
    bytes
}

impl World {
    /// Does what a client wants after it was called.
    pub(crate) fn settle_client(&mut self, client: usize) {
        let wish = core::mem::replace(&mut self.clients[client].wish, Wish::None);
        let tx = core::mem::take(&mut self.clients[client].tx);
        if let Some(conn) = self.links[client]
            && !tx.is_empty()
        {
            self.say(conn, &tx);
        }
        match wish {
            Wish::None => {}
            Wish::Connect => {
                if let Some(old) = self.links[client] {
                    self.hang_up(old, false);
                }
                self.connect(client);
            }
            Wish::Close | Wish::Vanish => {
                if let Some(conn) = self.links[client].take() {
                    self.hang_up(conn, wish == Wish::Vanish);
                }
            }
        }
    }

    fn connect(&mut self, client: usize) {
        let conn = self.conns.len();
        let host = self.dice.net.below(200) as u8;
        self.conns.push(Conn {
            client,
            boot: self.boots,
            place: Place::Dialing,
            peer: SocketAddr::from(([10, 0, 0, host], 1024 + conn as u16 % 60_000)),
            up: VecDeque::new(),
            up_queued: false,
            paused: false,
            sending: None,
            send_queued: false,
            down: VecDeque::new(),
            down_queued: false,
            down_ended: false,
            client_open: true,
            hole: false,
            lost_queued: false,
            moved: None,
            read: Vec::new(),
            trickle: 0,
        });
        self.links[client] = Some(conn);
        let delay = self.latency();
        self.after(delay, Event::Dial(conn));
    }

    pub(crate) fn latency(&mut self) -> u64 {
        let (low, high) = self.plan.latency_us;
        match self.phase {
            Phase::Chaos => self.dice.net.between(low, high),
            Phase::Settling | Phase::Reading => self.dice.net.between(20, 400),
        }
    }

    /// How many of `count` bytes pass at once.
    fn cut(&mut self, conn: usize, count: usize) -> usize {
        let dice = &mut self.dice.net;
        let trickle = &mut self.conns[conn].trickle;
        if *trickle > 0 {
            *trickle -= 1;
            return 1;
        }
        match self.plan.cut {
            Cut::Whole => count,
            Cut::Anywhere => match dice.percent(60) {
                true => count,
                false => 1 + dice.index(count),
            },
            Cut::Bytes => match dice.below(100) {
                0..=79 => count,
                80..=97 => 1 + dice.index(count.min(300)),
                _ => {
                    *trickle = dice.below(150) as u32;
                    1
                }
            },
        }
    }

    /// A client sends.
    fn say(&mut self, conn: usize, bytes: &[u8]) {
        let client = self.conns[conn].client as u64;
        self.trace.note("client", client, "says", || bytes.escape_ascii().to_string());
        let state = &mut self.conns[conn];
        state.up.extend(bytes);
        let (dead, hole) = (state.place == Place::Gone, state.hole);
        if dead && !hole {
            // Nobody is there: the answer is a reset.
            let delay = self.latency();
            return self.after(delay, Event::End(conn));
        }
        self.queue_up(conn);
    }

    pub(crate) fn queue_up(&mut self, conn: usize) {
        let state = &self.conns[conn];
        if state.up_queued || state.paused || state.up.is_empty() || state.hole {
            return;
        }
        if !matches!(state.place, Place::At { .. } | Place::Control) {
            return;
        }
        self.conns[conn].up_queued = true;
        let delay = self.latency();
        self.after(delay, Event::Up(conn));
    }

    pub(crate) fn up(&mut self, conn: usize) {
        self.conns[conn].up_queued = false;
        let state = &self.conns[conn];
        if state.hole || state.paused || state.up.is_empty() {
            return;
        }
        match state.place {
            Place::At { shard, door } => {
                let count = self.cut(conn, self.conns[conn].up.len().min(32 << 10));
                let bytes = take_front(&mut self.conns[conn].up, count);
                self.arrive(shard, Done::Received { door, bytes });
                self.queue_up(conn);
                self.lost_soon(conn);
            }
            Place::Control => {
                let bytes = take_front(&mut self.conns[conn].up, usize::MAX);
                self.conns[conn].read.extend_from_slice(&bytes);
                self.after(500, Event::Control(conn));
            }
            Place::Dialing | Place::Closing { .. } | Place::Moving { .. } | Place::Gone => {}
        }
    }

    /// Bytes that the shard is not asked about: its door is leaving, and they go along; or it is closed.
    pub(crate) fn take_along(&mut self, conn: usize, bytes: &[u8]) {
        let state = &mut self.conns[conn];
        match state.place {
            Place::Moving { .. } => {
                state.moved.as_mut().expect("it is moving").bytes.extend_from_slice(bytes)
            }
            Place::Control => state.read.extend_from_slice(bytes),
            Place::Dialing | Place::At { .. } | Place::Closing { .. } | Place::Gone => {}
        }
    }

    /// Takes the send in flight back, as a failed one.
    pub(crate) fn take_send(&mut self, conn: usize) -> Option<Vec<u8>> {
        self.conns[conn].sending.take().map(|(buf, _)| buf)
    }

    /// The server sends.
    pub(crate) fn begin_send(&mut self, conn: usize, buf: Vec<u8>) {
        assert!(!buf.is_empty(), "an empty send would never complete");
        assert!(self.conns[conn].sending.is_none(), "one send is in flight per door");
        self.conns[conn].sending = Some((buf, 0));
        self.queue_send(conn);
    }

    fn queue_send(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        if state.send_queued || state.sending.is_none() {
            return;
        }
        state.send_queued = true;
        let delay = self.dice.net.between(1, 60);
        self.after(delay, Event::Send(conn));
    }

    pub(crate) fn send(&mut self, conn: usize) {
        self.conns[conn].send_queued = false;
        let (Place::At { shard, door } | Place::Closing { shard, door }) = self.conns[conn].place else {
            return;
        };
        let window = self.plan.window;
        let state = &self.conns[conn];
        let Some((buf, sent)) = &state.sending else { return };
        if !state.client_open && !state.hole {
            // The peer is gone: the send fails, now or when that is noticed.
            if matches!(state.place, Place::Closing { .. }) {
                self.end_send(conn, shard, door, false);
            }
            return;
        }
        let room = window.saturating_sub(state.down.len());
        let left = buf.len() - sent;
        if room == 0 {
            // Until the client reads.
            return;
        }
        let count = self.cut(conn, left.min(room));
        let state = &mut self.conns[conn];
        let (buf, sent) = state.sending.as_mut().expect("seen above");
        state.down.extend(&buf[*sent..*sent + count]);
        *sent += count;
        let whole = *sent == buf.len();
        self.queue_down(conn);
        if whole {
            self.end_send(conn, shard, door, true);
        } else {
            if matches!(self.conns[conn].place, Place::At { .. }) && self.dice.net.percent(70) {
                self.arrive(shard, Done::SentSome { door });
            }
            self.queue_send(conn);
        }
    }

    /// The send in flight has ended; the buffer goes back.
    pub(crate) fn end_send(&mut self, conn: usize, shard: u16, door: Door, whole: bool) {
        let Some((buf, _)) = self.conns[conn].sending.take() else { return };
        self.arrive(shard, Done::Sent { door, buf, whole });
        if matches!(self.conns[conn].place, Place::Closing { .. }) {
            self.shut(conn);
        }
    }

    fn queue_down(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        if state.down_queued || state.hole || !state.client_open {
            return;
        }
        state.down_queued = true;
        let delay = self.latency();
        self.after(delay, Event::Down(conn));
    }

    pub(crate) fn down(&mut self, conn: usize) {
        self.conns[conn].down_queued = false;
        let state = &self.conns[conn];
        if state.hole || !state.client_open {
            return;
        }
        let client = state.client;
        let deaf_until_us = self.clients[client].deaf_until_us;
        if deaf_until_us > self.now_us {
            self.conns[conn].down_queued = true;
            return self.at(deaf_until_us, Event::Down(conn));
        }
        if state.down.is_empty() {
            if state.down_ended {
                self.end(conn);
            }
            return;
        }
        let count = self.cut(conn, self.conns[conn].down.len());
        let bytes = take_front(&mut self.conns[conn].down, count);
        self.trace.note("client", client as u64, "bytes", || {
            String::from_utf8_lossy(&bytes).escape_debug().to_string()
        });
        self.trace.fold_bytes(&bytes);
        self.with_client(client, |client, around| client.on_bytes(around, &bytes));
        self.settle_client(client);
        self.queue_send(conn);
        if !self.conns[conn].down.is_empty() || self.conns[conn].down_ended {
            self.queue_down(conn);
        }
    }

    /// The client hears that the connection has ended.
    pub(crate) fn end(&mut self, conn: usize) {
        if !self.conns[conn].client_open {
            return;
        }
        let client = self.conns[conn].client;
        self.conns[conn].client_open = false;
        if self.links[client] == Some(conn) {
            self.links[client] = None;
            self.with_client(client, |client, around| client.on_end(around));
            self.settle_client(client);
        }
    }

    /// The client lets its end go.
    fn hang_up(&mut self, conn: usize, vanish: bool) {
        let keep = self.dice.net.percent(60);
        let state = &mut self.conns[conn];
        if !state.client_open {
            return;
        }
        state.client_open = false;
        state.hole |= vanish;
        state.down.clear();
        if vanish {
            return;
        }
        if !keep {
            // A reset overtakes what was on its way.
            let count = self.dice.net.index(self.conns[conn].up.len() + 1);
            self.conns[conn].up.truncate(count);
        }
        self.queue_up(conn);
        self.lost_soon(conn);
        self.queue_send(conn);
    }

    /// Once everything has arrived the server notices that the client is gone.
    pub(crate) fn lost_soon(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        if state.client_open || state.hole || state.lost_queued || !(state.up.is_empty() || state.paused) {
            return;
        }
        if !matches!(state.place, Place::At { .. } | Place::Control) {
            return;
        }
        state.lost_queued = true;
        let delay = self.latency();
        self.after(delay, Event::Lost(conn));
    }

    pub(crate) fn lost(&mut self, conn: usize) {
        self.conns[conn].lost_queued = false;
        match self.conns[conn].place {
            Place::At { shard, door } => self.arrive(shard, Done::Gone { door }),
            Place::Control => self.conns[conn].place = Place::Gone,
            Place::Dialing | Place::Closing { .. } | Place::Moving { .. } | Place::Gone => {}
        }
    }

    /// The shard has closed it: what is in flight may still go out.
    pub(crate) fn close_conn(&mut self, conn: usize, shard: u16, door: Door) {
        self.conns[conn].place = Place::Closing { shard, door };
        self.conns[conn].up.clear();
        if self.conns[conn].sending.is_none() {
            return self.shut(conn);
        }
        self.after(LINGER_US, Event::Linger(conn));
        self.queue_send(conn);
        // The descriptor may be used again before the last completion of its former life is seen.
        if self.dice.net.percent(30) {
            self.free_door(shard, door);
        }
    }

    pub(crate) fn linger(&mut self, conn: usize) {
        if let Place::Closing { shard, door } = self.conns[conn].place {
            self.end_send(conn, shard, door, false);
        }
    }

    /// Nothing more goes out.
    pub(crate) fn shut(&mut self, conn: usize) {
        if let Place::Closing { shard, door } = self.conns[conn].place {
            self.free_door(shard, door);
        }
        self.conns[conn].place = Place::Gone;
        self.conns[conn].down_ended = true;
        self.queue_down(conn);
    }

    /// The control plane gets a connection with what was read of it.
    pub(crate) fn hand_over(&mut self, conn: usize, bytes: Vec<u8>) {
        self.conns[conn].place = Place::Control;
        self.conns[conn].read = bytes;
        self.after(500, Event::Control(conn));
        self.queue_up(conn);
        self.lost_soon(conn);
    }

    /// The control plane answers what is not ours, and hands an upgrade back.
    pub(crate) fn control(&mut self, conn: usize) {
        if self.conns[conn].place != Place::Control || self.process.is_none() {
            return;
        }
        let read = &mut self.conns[conn].read;
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        if head.contains("upgrade: websocket") {
            let bytes = core::mem::take(read);
            let to = self.dice.net.below(u64::from(self.plan.shard_count)) as u16;
            let peer = self.conns[conn].peer;
            self.conns[conn].moved = Some(Box::new(Moved { peer, bytes, from_plane: true }));
            return self.adopt(conn, to);
        }
        read.drain(..end + 4);
        self.conns[conn].down.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        self.queue_down(conn);
        self.queue_up(conn);
    }

    /// A shard takes a connection of the control plane.
    fn adopt(&mut self, conn: usize, to: u16) {
        let moved = self.conns[conn].moved.take().expect("set by the caller");
        match self.open_door(to, conn) {
            Some(door) => {
                self.conns[conn].place = Place::At { shard: to, door };
                self.arrive(to, Done::Arrived { door, moved });
                self.queue_up(conn);
                self.lost_soon(conn);
            }
            None => self.shut(conn),
        }
    }

    /// The connection arrives where it was sent, or comes back.
    pub(crate) fn moved(&mut self, conn: usize, to: u16) {
        let Place::Moving { shard, door } = self.conns[conn].place else { return };
        let moved = self.conns[conn].moved.take().expect("it is moving");
        let fails = self.phase == Phase::Chaos && self.dice.net.percent(5);
        let opened = if fails { None } else { self.open_door(to, conn) };
        match opened {
            Some(new) => {
                self.free_door(shard, door);
                self.conns[conn].place = Place::At { shard: to, door: new };
                self.arrive(to, Done::Arrived { door: new, moved });
            }
            None => {
                self.marks.hit_if(Mark::FullTable, !fails);
                self.conns[conn].place = Place::At { shard, door };
                self.arrive(shard, Done::MoveFailed { door, moved });
            }
        }
        self.queue_up(conn);
        self.lost_soon(conn);
    }

    /// A connection asks to be accepted by one of the shards.
    pub(crate) fn dial(&mut self, conn: usize) {
        if !self.conns[conn].client_open && !self.conns[conn].hole {
            self.conns[conn].place = Place::Gone;
            return;
        }
        let Some(shard) = self.accepting_shard() else {
            // Nobody listens.
            self.conns[conn].place = Place::Gone;
            return self.end(conn);
        };
        let Some(door) = self.open_door(shard, conn) else {
            self.marks.hit(Mark::FullTable);
            return self.after(20_000, Event::Dial(conn));
        };
        self.conns[conn].boot = self.boots;
        self.conns[conn].place = Place::At { shard, door };
        let peer = self.conns[conn].peer;
        self.arrive(shard, Done::Accepted { door, peer });
        let (client, boot) = (self.conns[conn].client, self.boots);
        if self.conns[conn].client_open && self.links[client] == Some(conn) {
            self.with_client(client, |client, around| client.on_connected(around, boot));
            self.settle_client(client);
        }
        self.lost_soon(conn);
    }

    /// The process is dead: what the sockets took may still arrive, and then an end, or nothing at all.
    pub(crate) fn break_conns(&mut self, power: bool) {
        for conn in 0..self.conns.len() {
            let dice = &mut self.dice.net;
            let state = &mut self.conns[conn];
            if state.place == Place::Gone || state.place == Place::Dialing {
                continue;
            }
            state.place = Place::Gone;
            state.sending = None;
            state.moved = None;
            state.up.clear();
            if dice.percent(50) {
                let count = dice.index(state.down.len() + 1);
                state.down.truncate(count);
            }
            if power && dice.percent(50) {
                // Nobody says that it ended; whoever speaks is told.
                continue;
            }
            state.down_ended = true;
            self.queue_down(conn);
        }
    }

    /// Whether a completion for a shard that is not there is dropped.
    pub(crate) fn arrive(&mut self, shard: u16, done: Done) {
        let delay = self.turn_delay();
        if let Some(Arrival::First) = self.process.as_mut().map(|process| process.arrive(shard, done)) {
            let boot = self.boots;
            self.after(delay, Event::Turn { boot, shard });
        }
    }
}
