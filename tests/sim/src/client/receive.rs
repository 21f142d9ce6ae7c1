//! What a client is told: frames, replies, pushes.

use super::{Around, Client, Pending, Role, Session, Stage, TOLD_KEPT, Wish, id_in};
use crate::check::{Answer, Audience, Kind, State};
use crate::frames::{self, Frame};
use crate::json::Json;
use crate::marks::Mark;
use crate::world::Phase;

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

    // Replies.

    fn on_reply(&mut self, around: &mut Around<'_>, re: u32, reply: &Json<'_>) {
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
            return self.on_refusal(around, pending, err);
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

    fn on_refusal(&mut self, around: &mut Around<'_>, pending: Pending, err: &Json<'_>) {
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
                    local.syncing.pop_back();
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

    fn on_ready(&mut self, around: &mut Around<'_>, d: &Json<'_>) {
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
                around.people[self.person].c = None;
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
            around.people[self.person].c = Some(c);
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

    fn on_stored(&mut self, around: &mut Around<'_>, intent: usize, d: &Json<'_>) {
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
                person.c = Some(c);
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

    fn on_page(
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
            let (Some(number), own) =
                (event.get("s").number().map(|number| number as u32), id_in(event.get("c")))
            else {
                return around.check.broken(|| format!("an event of history without a number: {event:?}"));
            };
            let may_miss = around.check.may_miss(self.boot, c);
            let follows = |last: u32| number == last + 1 || (may_miss && number > last);
            if own != Some(c) || number >= before || !last.is_none_or(follows) {
                return around
                    .check
                    .broken(|| format!("history before {before} of {c:x} has {number} behind {last:?}"));
            }
            if last.is_none() {
                first = number;
            }
            last = Some(number);
            around.check.told(self.boot, audience, c, number, event);
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

    // Pushes.

    fn on_push(&mut self, around: &mut Around<'_>, push: &Json<'_>) {
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
                if !d.get("pos").number().is_some_and(|pos| pos > 0) {
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
    fn on_lost(&mut self, around: &mut Around<'_>, c: u128, from: u32, to: u32) {
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
    fn on_numbered(&mut self, around: &mut Around<'_>, c: u128, push: &Json<'_>) {
        let Some(number) = push.get("s").number().map(|number| number as u32) else {
            return around.check.broken(|| format!("an event without a number: {push:?}"));
        };
        if !matches!(self.stage, Stage::Live | Stage::Parting) {
            return around.check.broken(|| format!("told before ready: {push:?}"));
        }
        let audience = self.audience();
        if !self.is_agent() && around.people[self.person].c.is_some_and(|own| own != c) {
            return around.check.broken(|| format!("a visitor was told of another's conversation: {push:?}"));
        }
        if !self.is_agent() {
            around.people[self.person].c = Some(c);
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

    fn on_sync(&mut self, around: &mut Around<'_>, c: u128, push: &Json<'_>) {
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
            answers(self, !stale);
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
        if let Some((since, own, limit)) = asked {
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

    fn on_receipt(&mut self, around: &mut Around<'_>, c: u128, seen: bool, d: &Json<'_>) {
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
    fn settle_in(&mut self, around: &mut Around<'_>, resumed: bool) {
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

fn mark_refusal(around: &mut Around<'_>, code: &str) {
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
    fn on_hostile_reply(&mut self, around: &mut Around<'_>, reply: &Json<'_>) {
        let err = reply.get("err");
        if let Some(code) = err.get("code").text() {
            let code = code.to_owned();
            mark_refusal(around, &code);
            return;
        }
        self.on_hostile_answer(around, reply.get("d"));
    }
}
