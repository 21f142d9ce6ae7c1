//! A connection from its first byte to the upgrade: stay, move to its slot's shard, or go to the control plane.

use std::net::SocketAddr;

use desk::encode;
use desk::id::{InboxId, Slot};
use wire::{HeadParse, PROTOCOL_JSON};

use crate::door::{Phase, Side, Way, tenths};
use crate::effect::Effect;
use crate::input::{Door, Moved};
use crate::shard::Shard;

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 35\r\n\r\nThe server is busy; try again soon.";
const NO_INBOX: &[u8] = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n\r\nNo such inbox. Check the address of your widget.\n";
const NO_SUCH_PATH: &[u8] = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n\r\nThere is nothing here to upgrade to a WebSocket.\n";
const ORIGIN: &[u8] = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 50\r\n\r\nThis origin is not on the list of allowed origins.";

/// What a request head asks for.
enum Route {
    More,
    Refuse(&'static [u8]),
    Move(u16),
    HandOver,
    Upgrade { side: Option<Side>, inbox: Option<InboxId>, size: usize },
}

/// Whether the page came from this server: a browser's Origin then names the host it asked.
fn is_own_page(head: &wire::Head<'_>, origin: Option<&str>) -> bool {
    let host = head.header("host").unwrap_or_default();
    origin
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, at)| at.as_bytes().eq_ignore_ascii_case(host))
}

impl Shard {
    pub(crate) fn on_accepted(&mut self, door: Door, peer: SocketAddr) {
        self.counters.accepted += 1;
        let bytes = self.pool.take();
        self.doors.open(door, peer, bytes, Way::Accepted, self.now.mono_ms);
        if self.stopping.refuses() {
            self.refuse_http(door, BUSY);
        }
    }

    pub(crate) fn on_arrived(&mut self, door: Door, moved: Moved) {
        self.counters.moved_in += 1;
        let way = if moved.from_plane { Way::FromPlane } else { Way::FromShard };
        self.doors.open(door, moved.peer, moved.bytes, way, self.now.mono_ms);
        if self.stopping.refuses() {
            self.refuse_http(door, BUSY);
        } else {
            self.on_head(door);
        }
    }

    pub(crate) fn on_move_failed(&mut self, door: Door, moved: Moved) {
        self.doors.open(door, moved.peer, moved.bytes, Way::FromShard, self.now.mono_ms);
        self.refuse_http(door, BUSY);
    }

    /// More of the head arrived.
    pub(crate) fn on_head(&mut self, door: Door) {
        let Some(conn) = self.doors.find(door) else { return };
        let mut extra = conn.extra.take().expect("a connection without an upgrade has its head");
        let mut accept = core::mem::take(&mut self.text);
        accept.clear();
        let route = self.route(&extra.bytes, extra.way, &mut accept);
        match route {
            Route::More => self.doors.at(door.index).extra = Some(extra),
            Route::Refuse(response) => {
                self.doors.at(door.index).extra = Some(extra);
                self.refuse_http(door, response);
            }
            Route::Move(to) => {
                self.counters.moved_out += 1;
                self.forget(door);
                let moved = Box::new(Moved { peer: extra.peer, bytes: extra.bytes, from_plane: false });
                self.effects.push(Effect::Move { door, to, moved });
            }
            Route::HandOver => {
                self.counters.handed_over += 1;
                self.forget(door);
                self.effects.push(Effect::HandOver { door, peer: extra.peer, bytes: extra.bytes });
            }
            Route::Upgrade { side, inbox, size } => {
                self.counters.upgrades += 1;
                let now = tenths(self.now.mono_ms);
                let conn = self.doors.at(door.index);
                conn.phase = if side.is_some() { Phase::Hello } else { Phase::Echo };
                conn.side = side.unwrap_or(Side::Visitor);
                conn.since = now;
                self.doors.out(door.index, &mut self.pool).extend_from_slice(&accept);
                let mut bytes = core::mem::take(&mut extra.bytes);
                extra.inbox = inbox;
                if side.is_some() {
                    self.doors.at(door.index).extra = Some(extra);
                    self.say_hello(door);
                }
                bytes.drain(..size);
                let rest = bytes.len();
                if rest > 0 {
                    bytes.resize(rest + desk::request::PADDING, 0);
                    self.on_frames(door, &mut bytes, rest);
                }
                self.pool.give(bytes);
            }
        }
        self.text = accept;
    }

    /// Reads the head and decides; an upgrade's response is written to `accept`.
    fn route(&mut self, bytes: &[u8], way: Way, accept: &mut Vec<u8>) -> Route {
        let head = match wire::parse_head(bytes) {
            HeadParse::Partial => return Route::More,
            HeadParse::Bad(error) => {
                self.counters.heads_refused += 1;
                return Route::Refuse(wire::response_for(error));
            }
            HeadParse::Complete(head) => head,
        };
        let echo = self.config.echo_path.as_deref() == Some(head.path());
        let side = match head.path() {
            path if path == mail::UPGRADE_PATHS[0] => Some(Side::Visitor),
            path if path == mail::UPGRADE_PATHS[1] => Some(Side::Agent),
            _ if echo => None,
            // The control plane gave it back, or another shard sent it: handing it over again would never end.
            _ if way != Way::Accepted => {
                self.counters.upgrades_refused += 1;
                return Route::Refuse(NO_SUCH_PATH);
            }
            _ => return Route::HandOver,
        };
        let protocol = side.map(|_| PROTOCOL_JSON);
        let upgrade = match wire::check_upgrade(&head, protocol) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                self.counters.upgrades_refused += 1;
                return Route::Refuse(error.response());
            }
        };
        let mut inbox = None;
        match side {
            Some(Side::Visitor) => {
                let found = head
                    .query("inbox")
                    .and_then(InboxId::parse)
                    .and_then(|id| self.settings.inbox(id))
                    .filter(|inbox| inbox.enabled);
                let Some(found) = found else {
                    self.counters.upgrades_refused += 1;
                    return Route::Refuse(NO_INBOX);
                };
                if !found.allows_origin(upgrade.origin) && !is_own_page(&head, upgrade.origin) {
                    self.counters.upgrades_refused += 1;
                    return Route::Refuse(ORIGIN);
                }
                inbox = Some(found.id);
            }
            // A browser, and another page than the agents' of this server.
            Some(Side::Agent) if upgrade.origin.is_some() && !is_own_page(&head, upgrade.origin) => {
                self.counters.upgrades_refused += 1;
                return Route::Refuse(ORIGIN);
            }
            Some(Side::Agent) | None => {}
        }
        if side.is_some()
            && way != Way::FromShard
            && let Some(slot) = head.query("s").and_then(|text| text.parse().ok()).and_then(Slot::new)
            && self.home_of(slot) != self.me()
        {
            return Route::Move(self.home_of(slot));
        }
        wire::write_accept(upgrade.key, protocol, accept);
        Route::Upgrade { side, inbox, size: head.size }
    }

    fn say_hello(&mut self, door: Door) {
        let side = self.doors.at(door.index).side;
        let level = self.level();
        let limits = &self.settings.limits;
        let hello = encode::Hello {
            server: &self.config.server,
            epoch: self.config.epoch,
            heartbeat_ms: limits.heartbeat_ms,
            max_frame: wire::Limits::default().message_size_max,
            max_inflight: match side {
                Side::Visitor => limits.inflight_visitor,
                Side::Agent => limits.inflight_agent,
            },
            level,
        };
        let out = self.doors.out(door.index, &mut self.pool);
        let mark = wire::begin_text(out);
        encode::hello(out, &hello);
        wire::end_text(out, mark);
    }

    /// Answers a request that is not upgraded and ends the connection.
    pub(crate) fn refuse_http(&mut self, door: Door, response: &[u8]) {
        let now = tenths(self.now.mono_ms);
        let conn = self.doors.at(door.index);
        conn.phase = Phase::Done;
        conn.since = now;
        self.doors.out(door.index, &mut self.pool).extend_from_slice(response);
    }

    /// The door is somebody else's from now on.
    pub(crate) fn forget(&mut self, door: Door) {
        self.doors.free(door, &mut self.pool, &mut self.partials);
    }
}
