//! The upgrade request, and the answer to it.

use core::fmt::Write as _;

use super::{Around, Client, Pending, Role, START, Stage, Wish, quoted};
use crate::check::Kind;
use crate::marks::Mark;
use crate::world::Phase;

impl Client {
    pub(super) fn say_head(&mut self, around: &mut Around<'_>) {
        if self.through_control {
            self.tx.extend_from_slice(b"GET /chat/page HTTP/1.1\r\nHost: chat.example\r\n\r\n");
            return;
        }
        self.say_upgrade(around);
    }

    fn say_upgrade(&mut self, around: &mut Around<'_>) {
        let person = &around.people[self.person];
        let mut target = match self.role {
            Role::Visitor => format!("/ws/v1/visitor?inbox={}", person.inbox),
            Role::Agent | Role::Auditor => "/ws/v1/agent".into(),
            Role::Hostile(_) => return self.say_hostile_head(around),
        };
        let slot = match self.role {
            // Now and then the hint is lost, or wrong.
            _ if around.phase == Phase::Chaos && around.chance.percent(8) => Some(around.chance.below(5_000)),
            _ if around.phase == Phase::Chaos && around.chance.percent(8) => None,
            Role::Visitor => self.slot_hint.or(person.slot),
            Role::Agent | Role::Auditor | Role::Hostile(_) => self.slot_hint,
        };
        if let Some(slot) = slot {
            let mark = if target.contains('?') { '&' } else { '?' };
            let _ = write!(target, "{mark}s={slot}");
        }
        let key = around.chance.bytes16();
        self.tx.extend_from_slice(&upgrade(&target, &key, ""));
        if around.chance.percent(15) {
            // Does not wait for anything: the first words travel with the request.
            self.stage = Stage::Hello;
            self.say_auth(around);
            self.stage = Stage::Head;
        }
    }

    /// The answer to the request, once all of its head is here. Returns whether frames follow.
    pub(super) fn on_http(&mut self, around: &mut Around<'_>) -> bool {
        let Some(end) = self.rx.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&self.rx[..end]).into_owned();
        self.rx.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        match status {
            101 => {
                around.marks.hit(Mark::Http101);
                if !head.contains("Sec-WebSocket-Protocol: ringdesk.v1.json") {
                    around.check.broken(|| format!("an upgrade without the sub-protocol: {head}"));
                }
                self.stage = match self.stage {
                    Stage::Head if self.pending.is_empty() => Stage::Hello,
                    _ => Stage::Auth,
                };
                return true;
            }
            200 => {
                around.marks.hit(Mark::HttpControl);
                self.rx.clear();
                if self.through_control {
                    self.through_control = false;
                    self.say_upgrade(around);
                    return false;
                }
            }
            400 => around.marks.hit(Mark::HttpBadRequest),
            403 => around.marks.hit(Mark::HttpForbidden),
            404 => around.marks.hit(Mark::HttpNotFound),
            426 => around.marks.hit(Mark::HttpUpgrade),
            431 => around.marks.hit(Mark::HttpTooLarge),
            503 => around.marks.hit(Mark::HttpBusy),
            405 | 414 | 505 => {}
            _ => around.check.broken(|| format!("an answer that HTTP does not have here: {head}")),
        }
        let hostile = matches!(self.role, Role::Hostile(_));
        if !hostile && matches!(status, 400 | 403 | 404 | 426 | 431) {
            around.check.broken(|| format!("a good request was answered with {head}"));
        }
        self.leave(around, Wish::Close, 200_000);
        false
    }

    /// `auth`, and for a new visitor perhaps `start` with his first words in the same frame.
    pub(super) fn say_auth(&mut self, around: &mut Around<'_>) {
        let person = &around.people[self.person];
        let mut d = String::from("{");
        if let Some(token) = &person.token {
            let _ = write!(d, "\"token\":\"{token}\",");
        }
        let new = person.token.is_none();
        let _ = write!(d, "\"device\":\"{}\"", self.device);
        if let Some(session) = self.session.clone() {
            let p = self.count_to_resume(around);
            let _ = write!(
                d,
                ",\"last\":{{\"sid\":\"{}\",\"epoch\":\"{}\",\"p\":{p}}}",
                session.sid, session.epoch
            );
        }
        d.push('}');
        let own = around.people[self.person].c;
        self.known_at_auth = own.filter(|&c| around.check.knows(self.boot, c));
        let re = self.re(Pending::Auth);
        let mut text = format!("{{\"id\":{re},\"op\":\"auth\",\"d\":{d}}}");
        if new && self.role == Role::Visitor {
            self.nameless = true;
        }
        let has_start = self.outbox.iter().any(|item| item.op.starts_with(START));
        if self.role == Role::Visitor
            && around.people[self.person].c.is_none()
            && !has_start
            && around.phase == Phase::Chaos
            && around.chance.percent(40)
        {
            self.make_start(around);
        }
        if let Some(at) = self.outbox.iter().position(|item| !item.flying && item.op.starts_with(START))
            && around.chance.percent(70)
        {
            around.marks.hit(Mark::FirstWords);
            self.outbox[at].flying = true;
            let (intent, op) = (self.outbox[at].intent, self.outbox[at].op.clone());
            around.check.intents[intent].attempts += 1;
            let re = self.re(Pending::Durable(intent));
            let _ = write!(text, "\n{{\"id\":{re},{op}}}");
        }
        self.put_text(around, &text);
        self.stage = Stage::Auth;
    }

    /// A count to resume with: now and then an older one, as after a tab that was killed before it had stored its count.
    fn count_to_resume(&mut self, around: &mut Around<'_>) -> u64 {
        let known = (self.told.len() as u64).min(self.p.saturating_sub(self.acked_p));
        if known == 0 || !around.chance.percent(25) {
            return self.p;
        }
        let back = around.chance.between(1, known);
        let is_agent = self.is_agent();
        for _ in 0..back {
            let (c, s, acked) = self.told.pop_back().expect("counted above");
            let local = self.convs.entry(c).or_default();
            local.last = local.last.min(s - 1);
            // The server may have heard of that, or not.
            let is_unsure = is_agent && (acked || s <= local.acked_to);
            local.expect = local.expect.filter(|_| !is_unsure).map(|expect| expect.min(s));
        }
        self.p -= back;
        self.p
    }

    /// Puts a `start` into the outbox.
    pub(super) fn make_start(&mut self, around: &mut Around<'_>) {
        let with_text = around.chance.percent(75);
        let text = if with_text { super::filler(around) } else { String::new() };
        let intent = self.intend(around, Kind::Start, None, None, &text);
        let cid = super::fresh_cid(around.chance);
        let mut op = format!("\"op\":\"start\",\"d\":{{\"cid\":\"{cid}\"");
        if around.chance.percent(50) {
            let name = format!("V{}", self.person);
            let _ = write!(
                op,
                ",\"name\":\"{name}\",\"page\":\"https://shop.example/{}\",\"locale\":\"de\"",
                self.number
            );
        }
        let said = &around.check.intents[intent];
        if with_text {
            let body = quoted(&said.body);
            let _ = write!(op, ",\"first\":{{\"cid\":\"{}\",\"type\":\"text\",\"body\":{body}}}", said.cid);
        }
        op.push('}');
        self.post(around, intent, op);
    }
}

/// An upgrade request.
pub(super) fn upgrade(target: &str, key: &[u8; 16], more: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ringdesk.v1.json\r\n{more}\r\n",
        base64(key)
    )
    .into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word =
            part.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - part.len()));
        for at in 0..4 {
            match at <= part.len() {
                true => text.push(LETTERS[(word >> (18 - 6 * at) & 63) as usize] as char),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [(&b"f"[..], "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::base64(bytes), text);
        }
    }
}
