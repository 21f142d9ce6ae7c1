//! What agents do.

use super::{Around, Client, Pending, Role, id_in, text_of};
use crate::check::Kind;
use crate::json::Json;
use crate::marks::Mark;
use crate::world::Phase;

#[derive(Clone, Copy)]
enum Act {
    Say,
    Note,
    Accept,
    Close,
    Avail,
    Typing,
    Seen,
    Sync,
    Unsync,
    History,
    Again,
    Conflict,
    BadAck,
    Wrong,
    Sub,
    Foreign,
    Nothing,
}

impl Client {
    /// Once he is in: says that he is there, watches the queue, follows what is his.
    pub(super) fn settle_agent(&mut self, around: &mut Around<'_>, resumed: bool) {
        if self.role == Role::Auditor {
            self.ask(around, Pending::Avail, "avail", "{\"state\":\"away\"}");
            if around.phase != Phase::Chaos {
                self.subscribe(around, true);
            }
            return;
        }
        if around.phase == Phase::Chaos {
            self.say_avail(around);
        } else {
            self.ask(around, Pending::Avail, "avail", "{\"state\":\"away\"}");
        }
        self.subscribe(around, true);
        let mut behind: Vec<u128> = around.people[self.person].owned.clone();
        behind.extend(self.convs.keys().copied());
        behind.sort_unstable();
        behind.dedup();
        if resumed {
            behind.retain(|c| !self.convs.get(c).is_some_and(|local| local.synced && local.expect.is_some()));
        } else {
            // Some are let go.
            behind.retain(|_| around.chance.percent(80));
        }
        for c in &behind {
            self.convs.entry(*c).or_default().synced = true;
        }
        self.sync(around, &behind);
    }

    fn say_avail(&mut self, around: &mut Around<'_>) {
        let state = around.chance.weighted(&[(80, "online"), (10, "busy"), (10, "away")]);
        let cap = around.chance.percent(30).then(|| around.chance.below(u64::from(around.plan.capacity) + 2));
        let id = around.people[self.person].id.expect("he is in");
        let d = match cap {
            Some(cap) => {
                around.check.capacity(id, cap as u32);
                format!("{{\"state\":\"{state}\",\"cap\":{cap}}}")
            }
            None => format!("{{\"state\":\"{state}\"}}"),
        };
        self.ask(around, Pending::Avail, "avail", &d);
    }

    fn subscribe(&mut self, around: &mut Around<'_>, on: bool) {
        self.subscribed = on;
        let op = if on { "sub" } else { "unsub" };
        let scope = if around.chance.percent(70) || around.phase != Phase::Chaos { "queue" } else { "mine" };
        self.ask(around, Pending::Plain, op, &format!("{{\"scope\":\"{scope}\"}}"));
    }

    pub(super) fn agent_acts(&mut self, around: &mut Around<'_>) {
        if self.outbox.len() > 30 {
            return;
        }
        let act = around.chance.weighted(&[
            (45, Act::Say),
            (6, Act::Note),
            (8, Act::Accept),
            (6, Act::Close),
            (4, Act::Avail),
            (5, Act::Typing),
            (8, Act::Seen),
            (4, Act::Sync),
            (2, Act::Unsync),
            (3, Act::History),
            (4, Act::Again),
            (1, Act::Conflict),
            (4, Act::BadAck),
            (1, Act::Wrong),
            (4, Act::Sub),
            (1, Act::Foreign),
            (8, Act::Nothing),
        ]);
        let owned = around.people[self.person].owned.clone();
        let own = (!owned.is_empty()).then(|| owned[around.chance.index(owned.len())]);
        let followed: Vec<u128> = self.convs.keys().copied().collect();
        let some = (!followed.is_empty()).then(|| followed[around.chance.index(followed.len())]);
        match (act, own, some) {
            (Act::Say, Some(c), _) => self.say(around, c, Kind::Message),
            (Act::Note, _, Some(c)) => self.say(around, c, Kind::Note),
            (Act::Close, Some(c), _) => self.close(around, c),
            (Act::Conflict, Some(c), _) => self.say_conflict(around, c),
            (Act::Foreign, _, Some(c)) => match around.chance.below(2) {
                0 => self.say(around, c, Kind::Message),
                _ => self.close(around, c),
            },
            (Act::Typing, _, Some(c)) => {
                self.mention(around, "typing", &format!("{{\"c\":\"{}\",\"on\":true}}", text_of(c)));
            }
            (Act::Seen, _, Some(c)) => self.see(around, c),
            (Act::Sync, _, Some(c)) => self.follow(around, c),
            (Act::History, _, Some(c)) => self.read_some(around, c),
            (Act::BadAck, _, Some(c)) => {
                self.ack_badly(around, c);
                if around.chance.percent(50) {
                    let after_us = around.chance.between(50_000, 400_000);
                    self.deaf_until_us = around.now_us + 2 * after_us;
                    self.lies_at = Some((around.now_us + after_us, c));
                }
            }
            (Act::Wrong, _, Some(c)) => self.do_wrong(around, c),
            (Act::Unsync, _, Some(c))
                if self.convs[&c].syncing.is_empty() && self.convs[&c].stale_syncs == 0 =>
            {
                self.convs.remove(&c);
                self.ask(around, Pending::Plain, "unsync", &format!("{{\"c\":\"{}\"}}", text_of(c)));
            }
            (Act::Accept, _, _) if !self.queue.is_empty() => {
                let c = self.queue[around.chance.index(self.queue.len())];
                around.marks.hit(Mark::AcceptedByHand);
                self.accept(around, c, None);
            }
            (Act::Avail, _, _) => self.say_avail(around),
            (Act::Again, _, _) => self.say_again(around),
            (Act::Sub, _, _) => {
                let on = !self.subscribed || around.chance.percent(60);
                self.subscribe(around, on);
            }
            (Act::Sync, _, None) => {
                let known = around.people[self.person].known.clone();
                if !known.is_empty() {
                    let c = known[around.chance.index(known.len())];
                    self.follow(around, c);
                }
            }
            _ => {}
        }
    }

    /// Listens to a conversation from what is here on.
    pub(super) fn follow(&mut self, around: &mut Around<'_>, c: u128) {
        self.convs.entry(c).or_default().synced = true;
        self.sync(around, &[c]);
    }

    fn accept(&mut self, around: &mut Around<'_>, c: u128, offer: Option<u64>) {
        let intent = self.intend(around, Kind::Accept, Some(c), None, "");
        let cid = around.check.intents[intent].cid.clone();
        let offer = offer.map_or(String::new(), |offer| format!(",\"offer\":{offer}"));
        self.post(
            around,
            intent,
            format!("\"op\":\"accept\",\"d\":{{\"c\":\"{}\",\"cid\":\"{cid}\"{offer}}}", text_of(c)),
        );
    }

    pub(super) fn on_offer(&mut self, around: &mut Around<'_>, c: u128, d: &Json<'_>) {
        let (Some(offer), Some(_)) = (d.get("offer").number(), d.get("ttl_ms").number()) else {
            return around.check.broken(|| format!("an offer without its fields: {d:?}"));
        };
        self.note_known(around, c);
        around.check.previewed(self.boot, c, d.get("preview").text().unwrap_or_default());
        if self.role != Role::Agent || around.phase != Phase::Chaos {
            return;
        }
        match around.chance.weighted(&[(70, 0), (15, 1), (15, 2)]) {
            0 => {
                around.marks.hit(Mark::OfferAccepted);
                self.accept(around, c, Some(offer));
            }
            1 => {
                around.marks.hit(Mark::Declined);
                let d = format!("{{\"c\":\"{}\",\"offer\":{offer}}}", text_of(c));
                self.ask(around, Pending::Plain, "decline", &d);
            }
            _ => {}
        }
    }

    fn note_known(&mut self, around: &mut Around<'_>, c: u128) {
        around.check.heard_of(self.boot, c);
        let known = &mut around.people[self.person].known;
        if !known.contains(&c) {
            known.push(c);
        }
    }

    pub(super) fn on_list(&mut self, around: &mut Around<'_>, d: &Json<'_>) {
        around.marks.hit(Mark::PushList);
        let (Some(convs), Some(_), Some(scope)) =
            (d.get("convs").list(), d.get("total").number(), d.get("scope").text())
        else {
            return around.check.broken(|| format!("a list without its fields: {d:?}"));
        };
        let mut rows = Vec::with_capacity(convs.len());
        for (at, row) in convs.iter().enumerate() {
            let (Some(c), Some(since), Some(status)) =
                (id_in(row.get("c")), row.get("since").number(), row.get("status").text())
            else {
                return around.check.broken(|| format!("a row without its fields: {row:?}"));
            };
            let right = match scope {
                "queue" => status == "waiting" && row.get("pos").number() == Some(at as u64 + 1),
                _ => status == "open" && id_in(row.get("owner")) == around.people[self.person].id,
            };
            if !right {
                return around.check.broken(|| format!("a row that is not of the list {scope}: {row:?}"));
            }
            self.note_known(around, c);
            around.check.previewed(self.boot, c, row.get("preview").text().unwrap_or_default());
            rows.push((c, since));
        }
        if scope == "queue" {
            around.check.listed(self.boot, &rows);
            self.queue = rows.iter().map(|&(c, _)| c).collect();
        }
    }

    /// A numbered event, for what an agent believes.
    pub(super) fn on_event(&mut self, around: &mut Around<'_>, c: u128, push: &Json<'_>) {
        if !self.is_agent() {
            return;
        }
        let person = &mut around.people[self.person];
        let d = push.get("d");
        match push.get("op").text() {
            Some("agent") if id_in(d.get("joined").get("id")) == person.id && person.owned.contains(&c) => {}
            Some("agent") if id_in(d.get("joined").get("id")) == person.id => person.owned.push(c),
            Some("agent" | "status") => person.owned.retain(|&owned| owned != c),
            _ => {}
        }
    }
}
