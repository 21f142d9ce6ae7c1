//! What arrives at a client: bytes, frames, envelopes, and the end.

use super::{Around, Client, Role, Stage, Wish};
use crate::frames::{self, Frame};
use crate::json::Json;
use crate::marks::Mark;

impl Client {
    pub(crate) fn on_bytes(&mut self, around: &mut Around<'_>, bytes: &[u8]) {
        if matches!(self.stage, Stage::Off | Stage::Dialing) {
            return;
        }
        self.heard_us = around.now_us;
        self.rx.extend_from_slice(bytes);
        let upgrading = |client: &Client| {
            client.stage == Stage::Head || (client.stage == Stage::Auth && client.rx.starts_with(b"HTTP"))
        };
        if upgrading(self) && !self.on_http(around) {
            return;
        }
        let received = core::mem::take(&mut self.rx);
        let mut at = 0;
        while self.stage != Stage::Off && self.wish == Wish::None {
            match frames::read_frame(&received[at..]) {
                Ok(None) => break,
                Ok(Some((frame, size))) => {
                    at += size;
                    self.on_frame(around, frame);
                }
                Err(why) => {
                    let number = self.number;
                    return around.check.broken(|| format!("client {number}: {why}"));
                }
            }
        }
        if self.stage != Stage::Off {
            self.rx = received;
            self.rx.drain(..at);
        }
    }

    fn on_frame(&mut self, around: &mut Around<'_>, frame: Frame<'_>) {
        match frame {
            Frame::Text(text) => {
                for line in text.split('\n').filter(|line| !line.is_empty()) {
                    match Json::parse(line) {
                        Ok(envelope) => self.on_envelope(around, &envelope),
                        Err(why) => {
                            let line = line.to_owned();
                            return around
                                .check
                                .broken(|| format!("an envelope that is not JSON: {why}: {line}"));
                        }
                    }
                    if self.stage == Stage::Off || self.wish != Wish::None {
                        return;
                    }
                }
            }
            Frame::Ping(payload) => {
                frames::put_frame(&mut self.tx, true, frames::PONG, payload, [1, 2, 3, 4])
            }
            Frame::Pong => {}
            Frame::Close { code, reason } => self.on_close(around, code, &reason),
        }
    }

    fn on_close(&mut self, around: &mut Around<'_>, code: Option<u16>, reason: &str) {
        let marks = &mut *around.marks;
        let mut pause_us = 100_000;
        let hostile = matches!(self.role, Role::Hostile(_));
        match code {
            Some(1000) => marks.hit(Mark::Close1000),
            Some(1001) => {
                marks.hit(Mark::Close1001);
                pause_us = 300_000;
            }
            Some(1002) => marks.hit(Mark::Close1002),
            Some(1003) => marks.hit(Mark::Close1003),
            Some(1007) => marks.hit(Mark::Close1007),
            Some(1009) => marks.hit(Mark::Close1009),
            Some(4000) => {
                marks.hit(Mark::Close4000);
                pause_us = 0;
                match reason.strip_prefix("slot=").and_then(|slot| slot.parse().ok()) {
                    Some(slot) => self.slot_hint = Some(slot),
                    None => around.check.broken(|| format!("close 4000 without a slot: {reason}")),
                }
            }
            Some(4100) => {
                marks.hit(Mark::Close4100);
                marks.hit(Mark::FullSessions);
            }
            Some(4101) => marks.hit(Mark::Close4101),
            Some(4110) => marks.hit(Mark::Close4110),
            Some(4111) => marks.hit(Mark::Close4111),
            Some(4200) => marks.hit(Mark::Close4200),
            Some(4201) => marks.hit(Mark::Close4201),
            Some(4202) => {
                marks.hit(Mark::Close4202);
                self.session = None;
            }
            Some(4300) => marks.hit(Mark::Close4300),
            Some(4301) => {
                marks.hit(Mark::Close4301);
                // The other socket has the session now; this one begins anew later.
                self.session = None;
            }
            Some(1011) => marks.hit(Mark::Close1011),
            other => around.check.broken(|| format!("a close code that does not exist: {other:?} {reason}")),
        }
        if !hostile && matches!(code, Some(1002 | 1003 | 1007 | 1009 | 1011 | 4201 | 4300)) {
            let number = self.number;
            around.check.broken(|| format!("good client {number} was closed with {code:?} {reason}"));
        }
        if self.stage == Stage::Parting {
            return self.leave(around, Wish::Close, pause_us);
        }
        match around.chance.below(3) {
            // Answers and waits for the server to hang up.
            0 => {
                let code = code.unwrap_or(1000).to_be_bytes();
                frames::put_frame(&mut self.tx, true, frames::CLOSE, &code, [9, 8, 7, 6]);
                self.stage = Stage::Parting;
            }
            // Answers and hangs up.
            1 => self.leave(around, Wish::Close, pause_us),
            _ => self.stage = Stage::Parting,
        }
    }

    fn on_envelope(&mut self, around: &mut Around<'_>, envelope: &Json<'_>) {
        if envelope.is_empty_object() {
            around.marks.hit(Mark::PushHeartbeat);
            let mute = self.role == Role::Hostile(super::Evil::Mute);
            if !mute && (!self.lazy || around.chance.percent(70)) {
                self.put_text(around, "{}");
            }
            return;
        }
        if let Some(re) = envelope.get("re").number() {
            return self.on_reply(around, re as u32, envelope);
        }
        self.on_push(around, envelope);
    }
}

pub(super) fn mark_refusal(around: &mut Around<'_>, code: &str) {
    around.marks.hit(match code {
        "bad_request" => Mark::ErrBadRequest,
        "auth" => Mark::ErrAuth,
        "forbidden" => Mark::ErrForbidden,
        "not_found" => Mark::ErrNotFound,
        "id_conflict" => Mark::ErrIdConflict,
        "stale" => Mark::ErrStale,
        "closed" => Mark::ErrClosed,
        "not_owner" => Mark::ErrNotOwner,
        "quota" => Mark::ErrQuota,
        "too_large" => Mark::ErrTooLarge,
        "rate_limited" => Mark::ErrRateLimited,
        "overloaded" => Mark::ErrOverloaded,
        "storage_full" => Mark::ErrStorageFull,
        "unavailable" => Mark::ErrUnavailable,
        "internal" => Mark::ErrInternal,
        other => return around.check.broken(|| format!("an error code that does not exist: {other}")),
    });
}

impl Client {
    pub(super) fn on_hostile_reply(&mut self, around: &mut Around<'_>, reply: &Json<'_>) {
        let err = reply.get("err");
        if let Some(code) = err.get("code").text() {
            let code = code.to_owned();
            mark_refusal(around, &code);
            return;
        }
        self.on_hostile_answer(around, reply.get("d"));
    }
}
