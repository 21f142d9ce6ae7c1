//! Those who mean no good. Whatever they do, nobody else notices.

use super::http::upgrade;
use super::{Around, Client, Role, Stage, Wish, id_in, quoted, text_of};
use crate::frames::{self, mask, put_frame};
use crate::json::Json;
use crate::marks::Mark;
use crate::world::Phase;

/// What a hostile client does this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Evil {
    /// Bytes that are no request.
    Noise,
    /// Requests that look almost right.
    BadUpgrade,
    /// Says nothing after the upgrade.
    Silent,
    /// Frames that RFC 6455 forbids.
    BadFrames,
    /// A binary message.
    Binary,
    /// Text that is not UTF-8.
    BadText,
    /// A message over the limit.
    Huge,
    /// Text that is not JSON, again and again.
    Nonsense,
    /// A token that is not valid.
    BadToken,
    /// A ticket that has expired.
    OldTicket,
    /// Speaks before `auth`.
    Unauthenticated,
    /// A good visitor who asks for others' conversations.
    Foreign,
    /// Too much, and never stops.
    Flood,
    /// Authenticates and then says nothing, not even a heartbeat.
    Mute,
    /// Closes properly.
    Polite,
}

const ALL: &[Evil] = &[
    Evil::Noise,
    Evil::BadUpgrade,
    Evil::Silent,
    Evil::BadFrames,
    Evil::Binary,
    Evil::BadText,
    Evil::Huge,
    Evil::Nonsense,
    Evil::BadToken,
    Evil::OldTicket,
    Evil::Unauthenticated,
    Evil::Foreign,
    Evil::Flood,
    Evil::Mute,
    Evil::Mute,
    Evil::Polite,
];

impl Evil {
    pub(crate) fn choose(chance: &mut crate::chance::Chance) -> Evil {
        chance.pick(ALL)
    }
}

impl Client {
    pub(super) fn say_hostile_head(&mut self, around: &mut Around<'_>) {
        let Role::Hostile(evil) = self.role else { unreachable!("hostile only") };
        let inbox = around.people[self.person].inbox.clone();
        let key = around.chance.bytes16();
        let good = format!("/ws/v1/visitor?inbox={inbox}");
        let bytes = match evil {
            Evil::Noise => (0..around.chance.between(1, 400))
                .map(|_| around.chance.below(256) as u8)
                .chain(*b"\r\n\r\n")
                .collect(),
            Evil::BadUpgrade => match around.chance.below(7) {
                0 => upgrade("/ws/v1/visitor?inbox=nobody", &key, ""),
                1 => upgrade("/ws/v1/agent", &key, "Origin: https://evil.example\r\n"),
                2 => format!("GET {good} HTTP/1.1\r\nHost: chat.example\r\n\r\n").into_bytes(),
                3 => upgrade(&good, &key, &format!("X: {}\r\n", "y".repeat(20_000))),
                4 => format!("GET {good} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").into_bytes(),
                5 => upgrade(&good, &key, "").into_iter().take(60).collect(),
                _ => format!("POST {good} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            },
            Evil::OldTicket => upgrade("/ws/v1/agent", &key, ""),
            Evil::BadToken if around.chance.percent(40) => upgrade("/ws/v1/agent", &key, ""),
            _ => upgrade(&good, &key, ""),
        };
        self.tx.extend_from_slice(&bytes);
    }

    pub(super) fn on_hostile_hello(&mut self, around: &mut Around<'_>) {
        let Role::Hostile(evil) = self.role else { return };
        match evil {
            Evil::Noise | Evil::BadUpgrade | Evil::Silent => {}
            Evil::BadToken => {
                let d =
                    format!("{{\"token\":\"v1.1.AAAA.{}\",\"device\":\"{}\"}}", "B".repeat(43), self.device);
                self.ask(around, super::Pending::Anything, "auth", &d);
            }
            Evil::OldTicket => {
                let token = around.people[self.person].token.clone().unwrap_or_default();
                let d = format!("{{\"token\":\"{token}\",\"device\":\"{}\"}}", self.device);
                self.ask(around, super::Pending::Anything, "auth", &d);
            }
            Evil::Unauthenticated => {
                self.ask(around, super::Pending::Anything, "sync", "{\"cursors\":[]}");
                self.mention(around, "seen", "{}");
            }
            Evil::BadFrames
            | Evil::Binary
            | Evil::BadText
            | Evil::Huge
            | Evil::Nonsense
            | Evil::Foreign
            | Evil::Flood
            | Evil::Mute
            | Evil::Polite => {
                let d = format!("{{\"device\":\"{}\"}}", self.device);
                self.ask(around, super::Pending::Anything, "auth", &d);
            }
        }
        self.stage = Stage::Auth;
    }

    /// An answer to a hostile client that is no refusal: never anything of somebody else.
    pub(super) fn on_hostile_answer(&mut self, around: &mut Around<'_>, d: &Json<'_>) {
        if d.has("sid") {
            self.stage = Stage::Live;
            return;
        }
        let own = around.people[self.person].c;
        if let Some(c) = id_in(d.get("c")) {
            if d.has("events") {
                around.check.broken(|| format!("a stranger was told {d:?}"));
            }
            if own.is_none() {
                around.people[self.person].c = Some(c);
            }
        }
    }

    pub(super) fn do_evil(&mut self, around: &mut Around<'_>, evil: Evil) {
        if self.stage == Stage::Off {
            return;
        }
        if around.phase != Phase::Chaos || around.chance.permille(if evil == Evil::Mute { 2 } else { 30 }) {
            self.done = around.phase != Phase::Chaos;
            self.role = Role::Hostile(Evil::choose(around.chance));
            return self.leave(around, Wish::Close, 100_000);
        }
        if self.stage != Stage::Live {
            return;
        }
        match evil {
            Evil::BadFrames => {
                let bytes: &[u8] = match around.chance.below(5) {
                    0 => &[0x81, 0x02, b'h', b'i'],
                    1 => &[0xF1, 0x80, 0, 0, 0, 0],
                    2 => &[0x80, 0x80, 0, 0, 0, 0],
                    3 => &[0x09, 0x80, 0, 0, 0, 0],
                    _ => &[0x83, 0x80, 0, 0, 0, 0],
                };
                self.tx.extend_from_slice(bytes);
            }
            Evil::Binary => put_frame(&mut self.tx, true, frames::BINARY, b"\x00\x01", mask(around.chance)),
            Evil::BadText => {
                put_frame(&mut self.tx, true, frames::TEXT, b"{\"op\":\"\xFF\"}", mask(around.chance))
            }
            Evil::Huge => match around.chance.below(2) {
                0 => put_frame(&mut self.tx, true, frames::TEXT, &[b' '; 70_000], mask(around.chance)),
                _ => {
                    for _ in 0..1_100 {
                        put_frame(
                            &mut self.tx,
                            false,
                            if self.strikes == 0 { frames::TEXT } else { 0 },
                            b" ",
                            [0; 4],
                        );
                        self.strikes += 1;
                    }
                    self.strikes = 0;
                }
            },
            Evil::Nonsense => {
                let text = around.chance.pick(&[
                    "nonsense",
                    "[1,2]",
                    "{\"no\":\"op\"}",
                    "{\"op\":7}",
                    "{{{{{{{{{{{{{{{{{{{{",
                    "\"\\",
                ]);
                self.put_text(around, text);
            }
            Evil::Foreign => self.pry(around),
            Evil::Flood => {
                for _ in 0..40 {
                    let re = self.re(super::Pending::Anything);
                    let c = text_of((6 << 112) | u128::from(re));
                    let text = match re % 3 {
                        0 => format!(
                            "{{\"id\":{re},\"op\":\"start\",\"d\":{{\"cid\":\"flood-flood-flood-{re}\"}}}}"
                        ),
                        _ => {
                            format!("{{\"id\":{re},\"op\":\"history\",\"d\":{{\"c\":\"{c}\",\"before\":9}}}}")
                        }
                    };
                    self.put_text(around, &text);
                }
            }
            Evil::Polite => {
                put_frame(&mut self.tx, true, frames::CLOSE, &1000u16.to_be_bytes(), mask(around.chance));
                self.stage = Stage::Parting;
            }
            Evil::Noise
            | Evil::BadUpgrade
            | Evil::Silent
            | Evil::BadToken
            | Evil::OldTicket
            | Evil::Mute
            | Evil::Unauthenticated => {}
        }
    }

    /// Asks for conversations of others.
    fn pry(&mut self, around: &mut Around<'_>) {
        let own = around.people[self.person].c;
        let others: Vec<u128> = around.check.conversations().filter(|&c| Some(c) != own).collect();
        if others.is_empty() {
            return;
        }
        let c = text_of(others[around.chance.index(others.len())]);
        let (op, d) = match around.chance.below(6) {
            0 => ("sync", format!("{{\"cursors\":[{{\"c\":\"{c}\",\"s\":0}}]}}")),
            1 => ("history", format!("{{\"c\":\"{c}\",\"before\":99}}")),
            2 => (
                "send",
                format!(
                    "{{\"c\":\"{c}\",\"cid\":\"0123456789abcdef\",\"type\":\"text\",\"body\":{}}}",
                    quoted("not mine")
                ),
            ),
            3 => ("close", format!("{{\"c\":\"{c}\",\"cid\":\"0123456789abcdef\"}}")),
            4 => ("accept", format!("{{\"c\":\"{c}\",\"cid\":\"0123456789abcdef\"}}")),
            _ => ("typing", format!("{{\"c\":\"{c}\",\"on\":true}}")),
        };
        around.marks.hit_if(Mark::ErrNotFound, false);
        self.ask(around, super::Pending::Anything, op, &d);
    }
}
