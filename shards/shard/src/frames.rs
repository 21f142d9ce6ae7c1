//! From received bytes to envelopes, and from outgoing frames to sends. Nothing is taken from a socket that the journal or a mailbox has no room for.

use desk::encode;
use desk::request::{self, BadRequest, ErrorCode};
use wire::{Message, Place};

use crate::door::{NONE, Phase, Side, tenths};
use crate::effect::Effect;
use crate::input::Door;
use crate::plant;
use crate::shard::Shard;
use crate::stop::Stopping;

/// Messages that are no envelopes before the client is told that it is none of ours.
const NONSENSE_MAX: u8 = 3;

impl Shard {
    pub(crate) fn on_received(&mut self, door: Door, buffer: &mut [u8], size: usize) {
        let now = tenths(self.now.mono_ms);
        let Some(conn) = self.doors.find(door) else { return };
        conn.heard_at = now;
        self.counters.bytes_received += size as u64;
        let Some(conn) = self.doors.find(door) else { return };
        match conn.phase {
            Phase::Head => {
                let extra = conn.extra.as_mut().expect("a connection without an upgrade has its head");
                extra.bytes.extend_from_slice(&buffer[..size]);
                self.on_head(door);
            }
            Phase::Closing => self.on_last_bytes(door, buffer, size),
            Phase::Done => {}
            Phase::Hello | Phase::Live | Phase::Echo => self.on_frames(door, buffer, size),
        }
    }

    /// Frames arrived, behind those that wait already.
    pub(crate) fn on_frames(&mut self, door: Door, buffer: &mut [u8], size: usize) {
        if self.doors.at(door.index).stalled {
            return self.keep(door, &buffer[..size]);
        }
        let used = self.consume(door, buffer, size);
        if used < size && self.doors.find(door).is_some() {
            self.keep(door, &buffer[used..size]);
        }
    }

    /// Keeps bytes that cannot be taken now and stops reading the socket.
    fn keep(&mut self, door: Door, bytes: &[u8]) {
        let mut spare = self.pool.take();
        let peer = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let conn = self.doors.at(door.index);
        if conn.extra.is_none() {
            let bytes = core::mem::take(&mut spare);
            conn.extra = Some(Box::new(crate::door::Extra {
                peer,
                inbox: None,
                way: crate::door::Way::FromShard,
                bytes,
            }));
        }
        conn.extra.as_mut().expect("made above").bytes.extend_from_slice(bytes);
        let first = !core::mem::replace(&mut conn.stalled, true);
        self.pool.give(spare);
        if first {
            self.counters.stalls += 1;
            self.doors.stalled.push_back(door);
            self.effects.push(Effect::Pause { door });
        }
    }

    /// Whether another frame may be taken from a socket: the journal has room for what it may bring. Once it is time to close them, what is pending runs
    /// dry first: a stop under load comes to its end.
    fn may_take(&self) -> bool {
        self.parked.is_empty()
            && (self.log.takes_frames() || self.log.is_full())
            && !matches!(self.stopping, Stopping::Goaway { close_at_ms } if self.now.mono_ms >= close_at_ms)
    }

    /// The same for the mailboxes. A visitor's socket is at his home and asks no other shard: a slow one does not stop it.
    fn may_post(&self, index: u32) -> bool {
        self.doors.side(index) == Side::Visitor || self.post.can_request_anywhere()
    }

    /// Whether a socket has as much to read as it may: what it asks for now is answered when it has read.
    pub(crate) fn is_full(&self, index: u32) -> bool {
        self.doors.waiting_bytes(index) > self.settings.limits.outbox_bytes as usize
    }

    /// Takes up the sockets that wait, first come first served.
    pub(crate) fn take_up_stalled(&mut self) {
        for _ in 0..self.doors.stalled.len() {
            if !self.may_take() {
                return;
            }
            let door = self.doors.stalled.pop_front().expect("counted above");
            if self.doors.find(door).is_none() {
                continue;
            }
            if self.is_full(door.index) || !self.may_post(door.index) {
                self.doors.stalled.push_back(door);
                continue;
            }
            let conn = self.doors.at(door.index);
            conn.stalled = false;
            let mut bytes = match conn.extra.as_mut() {
                Some(extra) => core::mem::take(&mut extra.bytes),
                None => continue,
            };
            if conn.phase == Phase::Live {
                conn.extra = None;
            }
            let size = bytes.len();
            bytes.resize(size + request::PADDING, 0);
            self.on_frames(door, &mut bytes, size);
            self.pool.give(bytes);
            if self.doors.find(door).is_some_and(|conn| !conn.stalled) {
                self.effects.push(Effect::Resume { door });
            }
        }
    }

    /// Takes whole messages from the front of the buffer; returns how many bytes were used.
    fn consume(&mut self, door: Door, buffer: &mut [u8], size: usize) -> usize {
        let limits = self.frame_limits(door);
        let mut at = 0;
        while at < size {
            if self.doors.find(door).is_none() {
                return size;
            }
            if !self.may_take() || self.is_full(door.index) || !self.may_post(door.index) {
                return at;
            }
            let Some(conn) = self.doors.find(door) else { return size };
            if matches!(conn.phase, Phase::Closing | Phase::Done) {
                return size;
            }
            match conn.decoder.next(&mut buffer[at..size], &limits, &mut self.partials) {
                Err(violation) => {
                    match violation {
                        wire::Violation::Protocol(_) => self.counters.violations_protocol += 1,
                        wire::Violation::BadUtf8 => self.counters.violations_utf8 += 1,
                        wire::Violation::TooBig => self.counters.violations_size += 1,
                    }
                    self.close(door, violation.close_code(), violation.reason());
                    // RFC 6455 §7.1.7: nothing is to be expected of a peer that breaks the protocol, an answer neither.
                    self.doors.at(door.index).phase = Phase::Done;
                    return size;
                }
                Ok((used, message)) => {
                    let base = at;
                    at += used;
                    match message {
                        Some(message) => self.on_message(door, message, buffer, base),
                        None if at == size && plant::is("partial-frame-dropped") => {
                            let conn = self.doors.at(door.index);
                            conn.decoder.reset(&mut self.partials);
                        }
                        None => {}
                    }
                }
            }
        }
        size
    }

    fn frame_limits(&self, door: Door) -> wire::Limits {
        let echo = self.doors.phase(door) == Some(Phase::Echo);
        match echo {
            true => wire::Limits {
                message_size_max: self.config.echo_message_size_max,
                fragment_count_max: self.config.echo_fragment_count_max,
            },
            false => wire::Limits::default(),
        }
    }

    fn on_message(&mut self, door: Door, message: Message, buffer: &mut [u8], base: usize) {
        self.counters.messages_received += 1;
        let echo = self.doors.at(door.index).phase == Phase::Echo;
        match message {
            Message::Text(Place::Here(range)) => {
                let range = base + range.start..base + range.end;
                match echo {
                    true => wire::put_text(self.doors.out(door.index, &mut self.pool), &buffer[range]),
                    false => self.on_text(door, buffer, range.start, range.end),
                }
            }
            Message::Text(Place::Held) => {
                let mut held = self.pool.take();
                let (theirs, size) = self.doors.at(door.index).decoder.held_padded(request::PADDING);
                core::mem::swap(theirs, &mut held);
                match echo {
                    true => wire::put_text(self.doors.out(door.index, &mut self.pool), &held[..size]),
                    false => self.on_text(door, &mut held, 0, size),
                }
                self.pool.give(held);
                if let Some(conn) = self.doors.find(door) {
                    conn.decoder.release(&mut self.partials);
                }
            }
            Message::Binary(place) if echo => {
                let mut held = self.pool.take();
                match place {
                    Place::Here(range) => {
                        held.extend_from_slice(&buffer[base + range.start..base + range.end])
                    }
                    Place::Held => held.extend_from_slice(self.doors.at(door.index).decoder.held_mut()),
                }
                wire::put_binary(self.doors.out(door.index, &mut self.pool), &held);
                self.pool.give(held);
            }
            Message::Binary(_) => self.close(door, 1003, "text frames only"),
            Message::Ping(place) => {
                let mut payload = [0u8; wire::CONTROL_SIZE_MAX];
                let size = match place {
                    Place::Here(range) => {
                        let bytes = &buffer[base + range.start..base + range.end];
                        payload[..bytes.len()].copy_from_slice(bytes);
                        bytes.len()
                    }
                    Place::Held => {
                        let bytes = self.doors.at(door.index).decoder.held_mut();
                        payload[..bytes.len()].copy_from_slice(bytes);
                        bytes.len()
                    }
                };
                wire::put_pong(self.doors.out(door.index, &mut self.pool), &payload[..size]);
            }
            Message::Pong(_) => {}
            Message::Close { code } => self.on_peer_close(door, code),
        }
    }

    /// RFC 6455 §5.5.1: "When sending a Close frame in response, the endpoint typically echos the status code it received."
    fn on_peer_close(&mut self, door: Door, code: Option<u16>) {
        let out = self.doors.out(door.index, &mut self.pool);
        match code {
            Some(code) => wire::put_close(out, code, ""),
            None => wire::put_close_empty(out),
        }
        self.detach(door);
        let now = tenths(self.now.mono_ms);
        let conn = self.doors.at(door.index);
        (conn.phase, conn.since) = (Phase::Done, now);
    }

    /// After our close frame only the peer's is of interest.
    fn on_last_bytes(&mut self, door: Door, buffer: &mut [u8], size: usize) {
        let limits = self.frame_limits(door);
        let mut at = 0;
        while at < size {
            let conn = self.doors.at(door.index);
            match conn.decoder.next(&mut buffer[at..size], &limits, &mut self.partials) {
                Ok((_, Some(Message::Close { .. }))) => {
                    conn.phase = Phase::Done;
                    self.doors.touch(door.index);
                    return;
                }
                Ok((used, _)) => at += used,
                Err(_) => {
                    conn.phase = Phase::Done;
                    self.doors.touch(door.index);
                    return;
                }
            }
        }
    }

    /// The envelopes of one text message.
    fn on_text(&mut self, door: Door, buffer: &mut [u8], start: usize, end: usize) {
        let mut parser = self.parser.take().expect("the parser is home between messages");
        let mut from = start;
        loop {
            let next = request::split_envelopes(&buffer[from..end]).next();
            let Some(piece) = next else { break };
            let piece = from + piece.start..from + piece.end;
            from = piece.end;
            self.counters.envelopes_received += 1;
            match parser.parse(buffer, piece) {
                Ok(envelope) => self.on_envelope(door, envelope),
                Err(bad) => self.on_bad_request(door, bad),
            }
            let live =
                self.doors.find(door).is_some_and(|conn| matches!(conn.phase, Phase::Hello | Phase::Live));
            if !live {
                break;
            }
        }
        self.parser = Some(parser);
    }

    fn on_bad_request(&mut self, door: Door, bad: BadRequest) {
        self.counters.requests_bad += 1;
        if let Some(re) = bad.id {
            self.reply_error(door.index, Some(re), bad.code, bad.what, None);
        }
        if bad.not_json {
            let conn = self.doors.at(door.index);
            conn.nonsense = conn.nonsense.saturating_add(1);
            if conn.nonsense >= NONSENSE_MAX {
                self.close(door, 4300, "not the ringdesk.v1.json protocol");
            }
        }
    }

    /// Appends one text frame to what a socket is to be sent.
    pub(crate) fn push(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let out = self.doors.out(index, &mut self.pool);
        let mark = wire::begin_text(out);
        write(out);
        wire::end_text(out, mark);
    }

    /// A refusal, if a reply is wanted.
    pub(crate) fn reply_error(
        &mut self,
        index: u32,
        re: Option<u32>,
        code: ErrorCode,
        msg: &str,
        after_ms: Option<u32>,
    ) {
        match code {
            ErrorCode::Overloaded => self.counters.refused_overloaded += 1,
            ErrorCode::StorageFull => self.counters.refused_storage += 1,
            _ => {}
        }
        if let Some(re) = re {
            self.push(index, |out| encode::error(out, re, code, msg, after_ms));
        }
    }

    /// Says a close frame; the socket is closed when the peer has answered, or after two seconds.
    pub(crate) fn close(&mut self, door: Door, code: u16, reason: &str) {
        match code {
            4200..=4299 => self.counters.closed_auth += 1,
            4101 => self.counters.closed_dead += 1,
            4110 => self.counters.closed_slow += 1,
            4000 => self.counters.closed_moved += 1,
            4301 => self.counters.closed_replaced += 1,
            1002 | 1007 | 1009 => {}
            _ => self.counters.closed_other += 1,
        }
        self.detach(door);
        let now = tenths(self.now.mono_ms);
        let conn = self.doors.at(door.index);
        conn.phase = Phase::Closing;
        conn.since = now;
        // What waits for a peer that does not read is of no use to him any more; nothing durable is lost with it.
        if matches!(code, 4101 | 4110) {
            conn.out.clear();
        }
        wire::put_close(self.doors.out(door.index, &mut self.pool), code, reason);
    }

    /// Takes the session off the socket.
    pub(crate) fn detach(&mut self, door: Door) {
        let session = core::mem::replace(&mut self.doors.at(door.index).session, NONE);
        if session != NONE {
            self.on_detached(session);
        }
    }

    pub(crate) fn on_gone(&mut self, door: Door) {
        if self.doors.find(door).is_some() {
            self.detach(door);
            self.forget(door);
        }
    }

    pub(crate) fn on_sent_some(&mut self, door: Door) {
        let now = tenths(self.now.mono_ms);
        if let Some(conn) = self.doors.find(door)
            && conn.phase == Phase::Live
        {
            conn.since = now;
        }
    }

    pub(crate) fn on_sent(&mut self, door: Door, buf: Vec<u8>, whole: bool) {
        self.pool.give(buf);
        let now = tenths(self.now.mono_ms);
        let Some(conn) = self.doors.find(door) else { return };
        conn.sending = 0;
        if conn.phase == Phase::Live {
            conn.since = now;
        }
        if !whole {
            // The socket failed; `Gone` follows.
            conn.out.clear();
        }
        let session = conn.session;
        self.doors.touch(door.index);
        if session != NONE {
            self.want_telling(session);
        }
    }

    /// Everything that was collected goes out: one send for each socket without one in flight.
    pub(crate) fn send_all(&mut self) {
        let now = tenths(self.now.mono_ms);
        let mut dirty = core::mem::take(&mut self.doors.dirty);
        for index in dirty.drain(..) {
            let Some(door) = self.doors.undirty(index) else { continue };
            let conn = self.doors.at(index);
            if conn.sending > 0 {
                continue;
            }
            let done = conn.phase == Phase::Done;
            if conn.out.is_empty() {
                let empty = core::mem::take(&mut conn.out);
                self.pool.give(empty);
            } else {
                let buf = core::mem::take(&mut conn.out);
                conn.sending = buf.len() as u32;
                conn.said_at = now;
                if conn.phase == Phase::Live {
                    conn.since = now;
                }
                self.effects.push(Effect::Send { door, buf });
            }
            if done {
                self.end_door(door);
            }
        }
        // What the end of a door gave others to hear is sent in the next turn, which comes at once.
        let mut later = core::mem::replace(&mut self.doors.dirty, dirty);
        self.doors.dirty.append(&mut later);
    }

    /// Closes the socket and forgets it.
    pub(crate) fn end_door(&mut self, door: Door) {
        self.detach(door);
        self.forget(door);
        self.effects.push(Effect::Close { door });
    }
}
