//! What visitors do.

use super::{Around, Client, START, filler, quoted, text_of};
use crate::check::{Audience, Intent, Kind, REMEMBERED};
use crate::frames;
use crate::marks::Mark;

#[derive(Clone, Copy)]
enum Act {
    Say,
    Burst,
    Again,
    Conflict,
    Close,
    Typing,
    Seen,
    Sync,
    History,
    Ping,
    BadAck,
    Wrong,
    Start,
    Nothing,
}

impl Client {
    pub(super) fn visitor_acts(&mut self, around: &mut Around<'_>) {
        let starting = self.outbox.iter().any(|item| item.op.starts_with(START));
        let Some(c) = around.people[self.person].c else {
            if !starting && around.chance.percent(50) {
                self.make_start(around);
            }
            return;
        };
        if self.outbox.len() > 30 {
            return;
        }
        let act = around.chance.weighted(&[
            (70, Act::Say),
            (3, Act::Burst),
            (5, Act::Again),
            (2, Act::Conflict),
            (3, Act::Close),
            (6, Act::Typing),
            (8, Act::Seen),
            (3, Act::Sync),
            (3, Act::History),
            (2, Act::Ping),
            (2, Act::BadAck),
            (1, Act::Wrong),
            (1, Act::Start),
            (10, Act::Nothing),
        ]);
        match act {
            Act::Say => self.say(around, c, Kind::Message),
            Act::Burst => {
                for _ in 0..around.chance.between(5, 12) {
                    self.say(around, c, Kind::Message);
                }
            }
            Act::Again => self.say_again(around),
            Act::Conflict => self.say_conflict(around, c),
            Act::Close => self.close(around, c),
            Act::Typing => {
                let on = around.chance.percent(60);
                self.mention(around, "typing", &format!("{{\"c\":\"{}\",\"on\":{on}}}", text_of(c)));
            }
            Act::Seen => self.see(around, c),
            Act::Sync => self.sync(around, &[c]),
            Act::History => self.read_some(around, c),
            Act::Ping => frames::put_frame(
                &mut self.tx,
                true,
                frames::PING,
                b"are you there",
                frames::mask(around.chance),
            ),
            Act::BadAck => self.ack_badly(around, c),
            Act::Wrong => self.do_wrong(around, c),
            Act::Start => {
                if !starting {
                    self.make_start(around);
                }
            }
            Act::Nothing => {}
        }
    }

    /// A message or a note; now and then under a `cid` that another device has used.
    pub(super) fn say(&mut self, around: &mut Around<'_>, c: u128, kind: Kind) {
        let text = filler(around);
        let mut cid = None;
        if around.chance.percent(5) {
            let others: Vec<String> = around
                .check
                .intents
                .iter()
                .filter(|intent| intent.c == Some(c) && intent.device != self.device && intent.attempts > 0)
                .map(|intent| intent.cid.clone())
                .collect();
            let mine = |cid: &String| {
                around.check.intents.iter().any(|own| own.device == self.device && own.cid == *cid)
            };
            if !others.is_empty() {
                let other = others[around.chance.index(others.len())].clone();
                if !mine(&other) {
                    around.marks.hit(Mark::SameCidOtherDevice);
                    cid = Some(other);
                }
            }
        }
        let intent = self.intend(around, kind, Some(c), cid, &text);
        let said = &around.check.intents[intent];
        let (op, kind_field) = match kind {
            Kind::Note => ("note", ""),
            _ => ("send", "\"type\":\"text\","),
        };
        let op = format!(
            "\"op\":\"{op}\",\"d\":{{\"c\":\"{}\",\"cid\":\"{}\",{kind_field}\"body\":{}}}",
            text_of(c),
            said.cid,
            quoted(&said.body)
        );
        self.post(around, intent, op);
    }

    /// Says something again that was answered long ago: the answer is the same.
    pub(super) fn say_again(&mut self, around: &mut Around<'_>) {
        let done: Vec<usize> = around
            .check
            .intents
            .iter()
            .enumerate()
            .filter(|(_, intent)| {
                intent.person == self.person
                    && intent.device == self.device
                    && intent.acked.is_some()
                    && matches!(intent.kind, Kind::Message | Kind::Note)
            })
            .map(|(number, _)| number)
            .rev()
            .take(REMEMBERED)
            .collect();
        if done.is_empty() {
            return;
        }
        let intent = done[around.chance.index(done.len())];
        let said = &around.check.intents[intent];
        let (op, kind_field) = match said.kind {
            Kind::Note => ("note", ""),
            _ => ("send", "\"type\":\"text\","),
        };
        let op = format!(
            "\"op\":\"{op}\",\"d\":{{\"c\":\"{}\",\"cid\":\"{}\",{kind_field}\"body\":{}}}",
            text_of(said.c.expect("it was acknowledged")),
            said.cid,
            quoted(&said.body)
        );
        self.post(around, intent, op);
    }

    /// Uses a `cid` again for something else.
    pub(super) fn say_conflict(&mut self, around: &mut Around<'_>, c: u128) {
        if around.plan.level == journal::Level::Memory {
            // The first use may be unsaid, and then the second is the first.
            return;
        }
        let said =
            around.check.intents.iter().rev().filter(|intent| intent.device == self.device).take(REMEMBERED);
        let is_used =
            |intent: &&Intent| intent.c == Some(c) && intent.acked.is_some() && intent.kind == Kind::Message;
        let used = said.into_iter().find(is_used);
        let Some(cid) = used.map(|intent| intent.cid.clone()) else { return };
        let intent = self.intend(around, Kind::Conflict, Some(c), Some(cid.clone()), "something else");
        let body = quoted(&around.check.intents[intent].body);
        let op = format!(
            "\"op\":\"send\",\"d\":{{\"c\":\"{}\",\"cid\":\"{cid}\",\"type\":\"text\",\"body\":{body}}}",
            text_of(c)
        );
        self.post(around, intent, op);
    }

    pub(super) fn close(&mut self, around: &mut Around<'_>, c: u128) {
        let intent = self.intend(around, Kind::Close, Some(c), None, "");
        let cid = around.check.intents[intent].cid.clone();
        self.post(
            around,
            intent,
            format!("\"op\":\"close\",\"d\":{{\"c\":\"{}\",\"cid\":\"{cid}\"}}", text_of(c)),
        );
    }

    pub(super) fn see(&mut self, around: &mut Around<'_>, c: u128) {
        let last = self.convs.get(&c).map_or(0, |local| local.last);
        if last == 0 {
            return;
        }
        let s = around.chance.between(1, u64::from(last)) as u32;
        around.check.sees(self.boot, self.audience(), c, s);
        self.mention(around, "seen", &format!("{{\"c\":\"{}\",\"s\":{s}}}", text_of(c)));
    }

    pub(super) fn read_some(&mut self, around: &mut Around<'_>, c: u128) {
        let last = self.convs.get(&c).map_or(0, |local| local.last);
        let before = around.chance.between(0, u64::from(last) + 3) as u32;
        self.ask_history(around, c, before);
    }

    /// Numbers that were never told, or lower ones than before: ignored and counted. Far above what may be on its way: that would be a good
    /// acknowledgement of what was not received.
    pub(super) fn ack_badly(&mut self, around: &mut Around<'_>, c: u128) {
        let d = match around.chance.below(3) {
            0 => format!("{{\"p\":{}}}", self.p + 100_000 + around.chance.below(1000)),
            1 => format!("{{\"p\":{}}}", self.acked_p.saturating_sub(around.chance.below(5))),
            _ => format!(
                "{{\"c\":\"{}\",\"s\":{}}}",
                text_of(c),
                self.convs.get(&c).map_or(0, |local| u64::from(local.last))
                    + 100_000
                    + around.chance.below(1000)
            ),
        };
        self.mention(around, "ack", &d);
    }

    /// Requests that are refused.
    pub(super) fn do_wrong(&mut self, around: &mut Around<'_>, c: u128) {
        let c = text_of(c);
        let is_agent = self.audience() == Audience::Agent;
        let (op, d) = match around.chance.below(6) {
            0 => ("auth", format!("{{\"device\":\"{}\"}}", self.device)),
            1 if is_agent => ("start", "{\"cid\":\"0123456789abcdef\"}".to_owned()),
            1 => ("note", format!("{{\"c\":\"{c}\",\"cid\":\"0123456789abcdef\",\"body\":\"no\"}}")),
            2 => ("send", format!("{{\"c\":\"{c}\",\"cid\":\"short\",\"type\":\"text\",\"body\":\"no\"}}")),
            3 => (
                "send",
                format!(
                    "{{\"c\":\"{c}\",\"cid\":\"0123456789abcdef\",\"type\":\"text\",\"body\":\"{}\"}}",
                    "y".repeat(10_001)
                ),
            ),
            4 => ("dance", "{}".to_owned()),
            _ => (
                "send",
                format!(
                    "{{\"c\":\"{}\",\"cid\":\"0123456789abcdef\",\"type\":\"text\",\"body\":\"no\"}}",
                    text_of((6 << 112) | around.chance.u128() >> 16)
                ),
            ),
        };
        self.ask(around, super::Pending::Anything, op, &d);
    }
}
