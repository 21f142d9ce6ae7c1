//! What a client's requests are answered with.

use super::receive::mark_refusal;
use super::{Around, Client, Pending, Role, Session, Stage, id_in};
use crate::check::{Answer, Audience, Kind, State};
use crate::json::Json;
use crate::marks::Mark;

impl Client {
    pub(super) fn on_reply(&mut self, around: &mut Around<'_>, re: u32, reply: &Json<'_>) {
        if matches!(self.role, Role::Hostile(_)) {
            return self.on_hostile_reply(around, reply);
        }
        around.trace.note("client", self.number as u64, "answered", || {
            format!("{re} {:?} with {reply:?}", self.pending.get(&re)).chars().take(400).collect()
        });
        let Some(pending) = self.pending.remove(&re) else {
            let number = self.number;
            return around.check.broken(|| {
                format!("client {number} got a reply that it did not ask for, or twice: {reply:?}")
            });
        };
        let err = reply.get("err");
        if err.has("code") {
            return self.on_refusal(around, re, pending, err);
        }
        let d = reply.get("d");
        match pending {
            Pending::Auth => self.on_ready(around, d),
            Pending::Durable(intent) => self.on_stored(around, intent, d),
            Pending::Sync(of) => {
                if d.get("n").number() != Some(of.len() as u64) {
                    around.check.broken(|| format!("a sync of {} was answered with {d:?}", of.len()));
                }
            }
            Pending::History { c, before, limit, last } => self.on_page(around, (c, before, limit, last), d),
            Pending::Avail => {
                if !d.has("state") || !d.has("cap") {
                    around.check.broken(|| format!("an answer to avail without its fields: {d:?}"));
                }
            }
            Pending::Plain | Pending::Anything => {}
        }
    }

    pub(super) fn on_refusal(&mut self, around: &mut Around<'_>, re: u32, pending: Pending, err: &Json<'_>) {
        let code = err.get("code").text().unwrap_or_default().to_owned();
        mark_refusal(around, &code);
        let (Some(retry), Some(_)) = (err.get("retry").flag(), err.get("msg").text()) else {
            return around.check.broken(|| format!("a refusal without its fields: {err:?}"));
        };
        match pending {
            Pending::Durable(intent) => {
                around.check.intents[intent].answers += 1;
                if code == "rate_limited" {
                    self.slow_until_us = around.now_us + 2_000_000;
                }
                if retry {
                    around.check.put_off(self.boot, intent, &code);
                    let after_us = err.get("after_ms").number().unwrap_or(200) * 1_000;
                    let due_us = around.now_us + after_us.min(5_000_000) + around.chance.below(50_000);
                    for item in self.outbox.iter_mut().filter(|item| item.intent == intent) {
                        item.due_us = due_us;
                        item.flying = false;
                    }
                    return;
                }
                self.outbox.retain(|item| item.intent != intent);
                around.check.refused(self.boot, intent, &code);
            }
            Pending::Auth => {
                let number = self.number;
                around.check.broken(|| format!("client {number}: auth was refused with {code}"));
            }
            Pending::Sync(of) => {
                // Nothing follows: it is asked for again.
                for c in of {
                    let local = self.convs.entry(c).or_default();
                    local.syncing.retain(|syncing| syncing.re != re);
                    local.synced = false;
                }
            }
            Pending::History { c, .. } => {
                if let Some(local) = self.convs.get_mut(&c) {
                    local.asked_history = false;
                }
            }
            Pending::Avail | Pending::Plain | Pending::Anything => {}
        }
    }

    pub(super) fn on_ready(&mut self, around: &mut Around<'_>, d: &Json<'_>) {
        let fields = ["sid", "epoch", "me"].map(|field| d.get(field).text().map(str::to_owned));
        let ([Some(sid), Some(epoch), Some(_)], Some(me), Some(p), Some(resumed)) =
            (fields, id_in(d.get("me")), d.get("p").number(), d.get("resumed").flag())
        else {
            return around.check.broken(|| format!("a ready without its fields: {d:?}"));
        };
        let person = &mut around.people[self.person];
        if person.id.is_some_and(|id| id != me) {
            let id = person.id;
            return around.check.broken(|| format!("{id:x?} authenticated and is {me:x}"));
        }
        person.id = Some(me);
        person.slot = d.get("slot").number();
        if let Some(token) = d.get("token").text()
            && !person.is_agent
        {
            person.token = Some(token.into());
        }
        self.slot_hint = d.get("slot").number();
        self.nameless = false;
        for intent in around.check.intents.iter_mut().filter(|intent| intent.person == self.person) {
            intent.author.get_or_insert(me);
        }
        around.marks.hit(if resumed { Mark::Resumed } else { Mark::NotResumed });
        self.stage = Stage::Live;
        if resumed {
            around
                .marks
                .hit_if(Mark::ResumedReplay, d.get("replay").number().is_some_and(|replay| replay > 0));
            let known =
                self.session.as_ref().is_some_and(|session| session.sid == sid && session.epoch == epoch);
            if !known || p != self.p {
                let (number, own) = (self.number, self.p);
                around
                    .check
                    .broken(|| format!("client {number} resumed at {own} and the server counts {p}: {d:?}"));
            }
        } else {
            self.p = p;
            self.acked_p = p;
            self.told.clear();
            self.is_twin = false;
            for local in self.convs.values_mut() {
                local.expect = None;
                local.synced = false;
                local.stale_syncs = 0;
                local.acked_to = 0;
            }
        }
        self.session = Some(Session { sid, epoch });
        let heads = d.get("heads").list().unwrap_or_default();
        if let Some(c) = around.people[self.person].c
            && heads.is_empty()
            && !self.is_agent()
        {
            let stands = around.check.knows(self.boot, c) && !around.check.may_miss(self.boot, c);
            if self.known_at_auth == Some(c) && stands {
                return around.check.broken(|| format!("{c:x} is gone: {d:?}"));
            }
            if !stands {
                around.people[self.person].learn(self.boot, None);
                self.convs.remove(&c);
            }
        }
        for head in heads {
            let Some(c) = id_in(head.get("c")) else { continue };
            let person = &mut around.people[self.person];
            if let Some(own) = person.c
                && own != c
                && around.check.knows(self.boot, own)
            {
                around.check.broken(|| format!("the visitor of {own:x?} has {c:x}"));
            }
            around.people[self.person].learn(self.boot, Some(c));
            around.check.heard_of(self.boot, c);
            match (State::read(head.get("status").text(), None), head.get("s").number()) {
                (Some(state), Some(s)) => {
                    around.check.told_state(self.boot, Audience::Visitor, c, s as u32, state)
                }
                _ => return around.check.broken(|| format!("a head without its fields: {head:?}")),
            }
        }
        self.settle_in(around, resumed);
    }

    pub(super) fn on_stored(&mut self, around: &mut Around<'_>, intent: usize, d: &Json<'_>) {
        let (Some(s), Some(level), Some(_)) =
            (d.get("s").number(), d.get("level").text(), d.get("ts").number())
        else {
            return around
                .check
                .broken(|| format!("an answer to something durable without its fields: {d:?}"));
        };
        around.check.intents[intent].answers += 1;
        let dup = d.get("dup").flag().unwrap_or(false);
        around.marks.hit_if(Mark::Dup, dup);
        around.marks.hit_if(Mark::DupAfterCrash, dup && around.crashed);
        around.marks.hit(if level == "disk" { Mark::LevelDisk } else { Mark::LevelMemory });
        let c = id_in(d.get("c"));
        let kind = around.check.intents[intent].kind;
        if (kind == Kind::Start) != c.is_some() {
            return around.check.broken(|| format!("only start is answered with a conversation: {d:?}"));
        }
        around.check.acked(self.boot, self.audience(), intent, Answer { c, s: s as u32, level, dup });
        self.outbox.retain(|item| item.intent != intent);
        let of = around.check.intents[intent].c;
        match (kind, of) {
            (Kind::Start, Some(c)) => {
                let person = &mut around.people[self.person];
                if let Some(own) = person.c
                    && own != c
                    && around.check.knows(self.boot, own)
                {
                    return around.check.broken(|| format!("the visitor of {own:x?} started {c:x}"));
                }
                person.learn(self.boot, Some(c));
                if !self.convs.get(&c).is_some_and(|local| local.synced) {
                    self.convs.entry(c).or_default().synced = true;
                    self.sync(around, &[c]);
                }
            }
            (Kind::Accept, Some(c)) => {
                let person = &mut around.people[self.person];
                if !person.owned.contains(&c) {
                    person.owned.push(c);
                }
                self.follow(around, c);
            }
            (Kind::Close, Some(c)) => around.people[self.person].owned.retain(|&owned| owned != c),
            _ => {}
        }
    }

    pub(super) fn on_page(
        &mut self,
        around: &mut Around<'_>,
        (c, before, limit, had): (u128, u32, u32, u32),
        d: &Json<'_>,
    ) {
        let (Some(events), Some(more)) = (d.get("events").list(), d.get("more").flag()) else {
            return around.check.broken(|| format!("a page of history without its fields: {d:?}"));
        };
        around.marks.hit(Mark::HistoryPaged);
        let audience = self.audience();
        let mut last = None;
        let mut first = 0;
        for event in events {
            let is_lost = event.get("op").text() == Some("history_lost");
            let (from, to) = match is_lost {
                true => (event.get("d").get("from").number(), event.get("d").get("to").number()),
                false => (event.get("s").number(), event.get("s").number()),
            };
            let (Some(from), Some(to), own) = (from, to, id_in(event.get("c"))) else {
                return around.check.broken(|| format!("an event of history without a number: {event:?}"));
            };
            let (from, to) = (from as u32, to as u32);
            let follows = last.is_none_or(|last: u32| from == last + 1);
            if own != Some(c) || !follows || to < from || to >= before {
                return around.check.broken(|| {
                    format!("history before {before} of {c:x} has {from}..={to} behind {last:?}")
                });
            }
            if is_lost && !around.check.may_miss(self.boot, c) {
                return around
                    .check
                    .broken(|| format!("history of {c:x} lost {from}..={to}, and nothing was"));
            }
            if last.is_none() {
                first = from;
            }
            last = Some(to);
            match is_lost {
                true => around.marks.hit(Mark::HistoryGap),
                false => around.check.told(self.boot, audience, c, to, event),
            }
        }
        if around.check.may_miss(self.boot, c) {
            return;
        }
        if events.len() as u32 > limit || more != (first > 1) && !events.is_empty() {
            around.check.broken(|| {
                format!("a page of {} events from {first} with limit {limit} says more: {more}", events.len())
            });
        }
        let local = self.convs.entry(c).or_default();
        local.asked_history = false;
        let had = if around.plan.level == journal::Level::Memory { 0 } else { had };
        if before > 1 && before <= had + 1 && last != Some(before - 1) {
            return around.check.broken(|| format!("history before {before} of {c:x} ends with {last:?}"));
        }
        if before > 1 && before == local.read_from {
            local.read_from = first;
        }
    }
}
