//! What a client is told without having asked: numbered events, and the state of things.

use super::receive::mark_refusal;
use super::{Around, Client, Role, Stage, Syncing, TOLD_KEPT, Wish, id_in};
use crate::check::{Audience, State};
use crate::json::Json;
use crate::marks::Mark;
use crate::world::Phase;

impl Client {
    pub(super) fn on_push(&mut self, around: &mut Around<'_>, push: &Json<'_>) {
        let op = push.get("op").text().unwrap_or_default();
        let c = id_in(push.get("c"));
        let d = push.get("d");
        let audience = self.audience();
        match (op, c) {
            ("hello", None) => {
                around.marks.hit(Mark::PushHello);
                self.heartbeat_us = d.get("hb_ms").number().unwrap_or(25_000) * 1_000;
                if d.get("level").text() != Some(around.check.boots[self.boot as usize].level) {
                    around.check.broken(|| format!("hello names another level: {d:?}"));
                }
                match self.role {
                    Role::Hostile(_) => self.on_hostile_hello(around),
                    _ if self.stage == Stage::Hello => self.say_auth(around),
                    _ => {}
                }
            }
            ("msg" | "note" | "agent" | "status", Some(c)) => {
                around.marks.hit(match op {
                    "msg" => Mark::PushMsg,
                    "note" => Mark::PushNote,
                    "agent" => Mark::PushAgent,
                    _ => Mark::PushStatus,
                });
                self.on_numbered(around, c, push);
            }
            ("sync", Some(c)) => self.on_sync(around, c, push),
            ("typing", Some(_)) => around.marks.hit(Mark::PushTyping),
            ("seen" | "delivered", Some(c)) => self.on_receipt(around, c, op == "seen", d),
            ("presence", Some(_)) if audience == Audience::Agent => around.marks.hit(Mark::PushPresence),
            ("queue", Some(_)) if audience == Audience::Visitor => {
                around.marks.hit(Mark::PushQueue);
                if d.get("pos").number().is_none_or(|pos| pos == 0) {
                    around.check.broken(|| format!("a place in the queue that is none: {push:?}"));
                }
            }
            ("offer", Some(c)) if audience == Audience::Agent => {
                around.marks.hit(Mark::PushOffer);
                self.on_offer(around, c, d);
            }
            ("offer_gone", Some(_)) if audience == Audience::Agent => around.marks.hit(Mark::PushOfferGone),
            ("list", None) if audience == Audience::Agent => self.on_list(around, d),
            ("conv", Some(c)) if audience == Audience::Agent => {
                around.marks.hit(Mark::PushConv);
                around.check.heard_of(self.boot, c);
                around.check.previewed(self.boot, c, d.get("preview").text().unwrap_or_default());
                self.queue.retain(|&waiting| waiting != c);
                if d.get("status").text() == Some("waiting") {
                    self.queue.push(c);
                }
            }
            ("avail", None) if audience == Audience::Agent => around.marks.hit(Mark::PushAvail),
            ("notice", None) => around.marks.hit(Mark::PushNotice),
            ("lag", None) => {
                around.marks.hit(Mark::PushLag);
                around.marks.hit(Mark::FullInflight);
                let (told, own) = (d.get("p").number(), self.p);
                if told != Some(own) {
                    let number = self.number;
                    around.check.broken(|| format!("client {number} counts {own} and the server {told:?}"));
                }
                self.acked_at_us = 0;
            }
            ("history_lost", Some(c)) => {
                around.marks.hit(Mark::PushHistoryLost);
                let number = |field: &str| d.get(field).number().unwrap_or(0) as u32;
                self.on_lost(around, c, number("from"), number("to"));
            }
            ("goaway", None) => {
                around.marks.hit(Mark::PushGoaway);
                if around.chance.percent(40) {
                    let after_us = d.get("after_ms").number().unwrap_or(100) * 1_000;
                    self.leave(around, Wish::Close, after_us);
                }
            }
            _ => {
                let number = self.number;
                around.check.broken(|| format!("client {number} ({audience:?}) was pushed {push:?}"));
            }
        }
    }

    /// Numbers that damage took: counted like an event, and the next one is behind them.
    pub(super) fn on_lost(&mut self, around: &mut Around<'_>, c: u128, from: u32, to: u32) {
        around.check.lost(self.boot, self.audience(), c, from, to);
        self.p += 1;
        self.told.push_back((c, from, false));
        let me = self.number;
        let local = self.convs.entry(c).or_default();
        if local.expect.is_some_and(|expect| expect != from) || to < from {
            let local = local.clone();
            return around
                .check
                .broken(|| format!("client {me} was told that {from}..={to} of {c:x} are lost: {local:?}"));
        }
        local.expect = Some(to + 1);
        if from == local.last + 1 {
            local.last = to;
        }
    }

    /// A numbered event: exactly the next one of its conversation.
    pub(super) fn on_numbered(&mut self, around: &mut Around<'_>, c: u128, push: &Json<'_>) {
        let Some(number) = push.get("s").number().map(|number| number as u32) else {
            return around.check.broken(|| format!("an event without a number: {push:?}"));
        };
        if !matches!(self.stage, Stage::Live | Stage::Parting) {
            return around.check.broken(|| format!("told before ready: {push:?}"));
        }
        let audience = self.audience();
        let person = &around.people[self.person];
        if !self.is_agent() && person.c.is_some_and(|own| own != c) && self.boot >= person.c_boot {
            return around.check.broken(|| format!("a visitor was told of another's conversation: {push:?}"));
        }
        if !self.is_agent() {
            around.people[self.person].learn(self.boot, Some(c));
        }
        self.p += 1;
        self.told.push_back((c, number, false));
        if self.told.len() > TOLD_KEPT {
            self.told.pop_front();
        }
        let p = self.p;
        around.trace.note("client", self.number as u64, "told", || {
            format!("{} of {}, p {p}", number, super::text_of(c))
        });
        around.check.told(self.boot, audience, c, number, push);
        let local = self.convs.entry(c).or_default();
        if let Some(expect) = local.expect
            && expect != number
        {
            let me = self.number;
            let local = local.clone();
            return around.check.broken(|| {
                format!("client {me} expects {expect} of {c:x} and was told {number}: {local:?}")
            });
        }
        local.expect = Some(number + 1);
        if number == local.last + 1 {
            local.last = number;
        } else if number > local.last + 1 && local.syncing.is_empty() {
            // Not shown: what is between is fetched first.
            self.sync(around, &[c]);
        }
        self.on_event(around, c, push);
    }

    pub(super) fn on_sync(&mut self, around: &mut Around<'_>, c: u128, push: &Json<'_>) {
        let err = push.get("err");
        let local = self.convs.entry(c).or_default();
        let stale = local.stale_syncs > 0 || self.is_twin;
        let asked = local.syncing.front().copied();
        around.trace.note("client", self.number as u64, "synced", || {
            format!(
                "{} from {:?} of {:?}, asked {asked:?}",
                super::text_of(c),
                push.get("d").get("from"),
                push.get("d").get("head")
            )
        });
        let answers = |client: &mut Client, own: bool| {
            let local = client.convs.get_mut(&c).expect("made above");
            match own {
                true => drop(local.syncing.pop_front()),
                false => local.stale_syncs = local.stale_syncs.saturating_sub(1),
            }
        };
        if err.has("code") {
            // A refusal does not say which question it answers. Of a question from before a drop it may never come.
            answers(self, asked.is_some());
            around.marks.hit(Mark::PushSyncError);
            let code = err.get("code").text().unwrap_or_default().to_owned();
            mark_refusal(around, &code);
            let local = self.convs.entry(c).or_default();
            local.synced = false;
            let good = !matches!(self.role, Role::Hostile(_));
            if good && code == "not_found" && around.check.knows(self.boot, c) {
                around.check.broken(|| format!("{c:x} is not found any more"));
            }
            return;
        }
        around.marks.hit(Mark::PushSync);
        if matches!(self.role, Role::Hostile(_)) {
            return around.check.broken(|| format!("a stranger listens: {push:?}"));
        }
        let d = push.get("d");
        let number = |field: &str| d.get(field).number();
        let (Some(from), Some(head), Some(epoch), Some(limited)) =
            (number("from"), number("head"), number("e"), d.get("limited").flag())
        else {
            return around.check.broken(|| format!("a sync without its fields: {push:?}"));
        };
        let (from, head) = (from as u32, head as u32);
        around.marks.hit_if(Mark::Limited, limited);
        around.check.told_head(self.boot, self.audience(), c, head, epoch);
        if let Some(Syncing { since, epoch: own, limit, .. }) = asked {
            let trusted = own.is_none_or(|own| own == epoch);
            let since = if trusted { since.min(head) } else { 0 };
            let right = match limited {
                false => from == since + 1,
                true => from > since + 1 && head + 1 - from == limit,
            };
            answers(self, right || !stale);
            if !right && !stale {
                let me = self.number;
                return around.check.broken(|| format!("client {me} has {since} of {c:x} (history {own:?}, limit {limit}) and was answered {push:?}"));
            }
        } else if stale {
            answers(self, false);
        }
        match State::read(d.get("status").text(), id_in(d.get("owner"))) {
            Some(state) => around.check.told_state(self.boot, self.audience(), c, head, state),
            None => return around.check.broken(|| format!("a state that does not exist: {push:?}")),
        }
        let local = self.convs.get_mut(&c).expect("made above");
        local.epoch = epoch;
        local.expect = Some(from);
        local.last = from - 1;
        local.synced = true;
        local.read_from = from;
        local.asked_history = false;
        for (place, (kind, party)) in
            [("seen", "visitor"), ("seen", "agent"), ("delivered", "visitor"), ("delivered", "agent")]
                .into_iter()
                .enumerate()
        {
            if let Some(at) = d.get(kind).get(party).number() {
                local.receipts[place] = local.receipts[place].max(at as u32);
            }
        }
    }

    pub(super) fn on_receipt(&mut self, around: &mut Around<'_>, c: u128, seen: bool, d: &Json<'_>) {
        around.marks.hit(if seen { Mark::PushSeen } else { Mark::PushDelivered });
        let (who, s) = (d.get("who").text(), d.get("s").number().map(|s| s as u32));
        let (party, Some(s)) = (
            match who {
                Some("visitor") => Audience::Visitor,
                Some("agent") => Audience::Agent,
                _ => return around.check.broken(|| format!("a receipt of nobody: {d:?}")),
            },
            s,
        ) else {
            return around.check.broken(|| format!("a receipt without a number: {d:?}"));
        };
        let place = usize::from(!seen) * 2 + party as usize;
        let local = self.convs.entry(c).or_default();
        if s < local.receipts[place] {
            let before = local.receipts[place];
            let what = if seen { "seen" } else { "delivered" };
            return around.check.broken(|| format!("{what} of {party:?} in {c:x} fell from {before} to {s}"));
        }
        local.receipts[place] = s;
        if seen && party == self.audience() {
            around.check.told_seen(self.boot, party, c, s);
        }
    }

    /// What a good client does once it is in.
    pub(super) fn settle_in(&mut self, around: &mut Around<'_>, resumed: bool) {
        if self.is_agent() {
            return self.settle_agent(around, resumed);
        }
        if let Some(c) = around.people[self.person].c {
            let behind = !self.convs.get(&c).is_some_and(|local| local.synced && local.expect.is_some());
            if !resumed || behind || around.phase == Phase::Reading {
                self.convs.entry(c).or_default().synced = true;
                self.sync(around, &[c]);
            }
        }
    }
}
