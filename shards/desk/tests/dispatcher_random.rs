//! Random interleavings of homes, agents, mail and restarts around a dispatcher.
//!
//! The homes here are a model of the truth: what they hold survives a restart, mail does not. A home posts answers at once and announcements later, the latest
//! state only; mail between two shards keeps its order. What the dispatcher says is checked against the homes and against a small model of its own rules.

mod dispatcher_support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dispatcher_support::{TTL, agent, conversation, number_of, request, site, waiting};
use proptest::prelude::*;
use ringdesk_desk::conversation::Status;
use ringdesk_desk::dispatcher::{Dispatcher, Out, POSITIONS_EVERY_MS, RequestRef, Row, Short};
use ringdesk_desk::request::Availability;

const HOMES: u64 = 3;
const AGENTS: u64 = 5;
const CONVERSATIONS: u64 = 16;
/// Comes at the end and accepts everything.
const WILLING: u64 = 77;

/// From a home to the dispatcher.
#[allow(clippy::large_enum_variant, reason = "a few letters in a test")]
enum Up {
    /// With the number of its wait, which only this model knows.
    Announce(Row, u32),
    End,
    Result(u64, u64, RequestRef, Result<u32, ()>),
}

/// From the dispatcher to a home.
enum Down {
    Ticket(u64, u64),
    Assign(u64, u64, u32, RequestRef),
}

struct Home {
    rows: BTreeMap<u64, Row>,
    /// How often each began to wait.
    waits: BTreeMap<u64, u32>,
    /// Accepts that were granted: conversation, agent, `cid` to epoch.
    granted: BTreeMap<(u64, u64, u128), u32>,
    /// Changed since it was announced.
    dirty: BTreeSet<u64>,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
}

impl Home {
    fn flush(&mut self) {
        while let Some(c) = self.dirty.pop_first() {
            self.up.push_back(Up::Announce(self.rows[&c], self.waits[&c]));
        }
    }

    /// Says everything again, to a new dispatcher.
    fn announce_all(&mut self) {
        self.up.clear();
        self.down.clear();
        self.dirty.clear();
        for (c, row) in self.rows.iter().filter(|(_, row)| row.status != Status::Closed) {
            self.up.push_back(Up::Announce(*row, self.waits[c]));
        }
        self.up.push_back(Up::End);
    }

    fn obey(&mut self, order: Down, refuse: bool) {
        match order {
            Down::Ticket(c, ticket) => {
                let row = self.rows.get_mut(&c).expect("tickets are for conversations that there are");
                if row.status == Status::Waiting && row.ticket.is_none() {
                    row.ticket = Some(ticket);
                    self.dirty.insert(c);
                }
            }
            Down::Assign(c, who, expect_epoch, request) => {
                let row = self.rows.get_mut(&c).expect("it was announced");
                let key = (c, who, request.cid);
                let result = if let Some(&epoch) = self.granted.get(&key) {
                    Ok(epoch)
                } else if row.status == Status::Waiting && row.epoch == expect_epoch && !refuse {
                    row.status = Status::Open;
                    row.owner = Some(agent(who));
                    row.epoch += 1;
                    row.ticket = None;
                    self.granted.insert(key, row.epoch);
                    self.dirty.insert(c);
                    Ok(row.epoch)
                } else {
                    Err(())
                };
                self.up.push_back(Up::Result(c, who, request, result));
            }
        }
    }
}

struct World {
    now: u64,
    dispatcher: Dispatcher,
    homes: Vec<Home>,
    next_cid: u128,
    /// The highest capacity that each agent ever said.
    highest_cap: BTreeMap<u64, u32>,
    accepts: Vec<(u64, u64, Option<u64>, RequestRef)>,
    // What was said, as its readers have it.
    offers: BTreeMap<u64, (u64, u64)>,
    last_offer: u64,
    last_ticket: u64,
    tickets: BTreeMap<u64, u64>,
    rows: BTreeMap<u64, Row>,
    positions: BTreeMap<u64, u32>,
    loads: BTreeMap<u64, u16>,
    /// Who refused what in this round, and when it was last refused.
    refused: BTreeMap<u64, (BTreeSet<u64>, u64)>,
    /// The same with those whom a home refused it; whether the dispatcher counted that depends on what else was under way.
    turned_away: BTreeMap<u64, (BTreeSet<u64>, u64)>,
    /// Of those who refused, those since the round began.
    this_round: BTreeMap<u64, BTreeSet<u64>>,
    /// The wait that the dispatcher was told of last.
    waits: BTreeMap<u64, u32>,
    /// Those that wait anew since they were refused, or told a place. The dispatcher may or may not have been able to see that.
    renewed: BTreeSet<u64>,
    replaced: BTreeSet<u64>,
    /// Offers in the order in which they were made: agent, conversation.
    offered: Vec<(u64, u64)>,
}

impl World {
    fn new() -> World {
        let home = || Home {
            rows: BTreeMap::new(),
            waits: BTreeMap::new(),
            granted: BTreeMap::new(),
            dirty: BTreeSet::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
        };
        let mut world = World {
            now: 1_000,
            dispatcher: Dispatcher::new(site(), HOMES as u16),
            homes: (0..HOMES).map(|_| home()).collect(),
            next_cid: 1,
            highest_cap: BTreeMap::new(),
            accepts: Vec::new(),
            offers: BTreeMap::new(),
            last_offer: 0,
            last_ticket: 0,
            tickets: BTreeMap::new(),
            rows: BTreeMap::new(),
            positions: BTreeMap::new(),
            loads: BTreeMap::new(),
            this_round: BTreeMap::new(),
            refused: BTreeMap::new(),
            turned_away: BTreeMap::new(),
            waits: BTreeMap::new(),
            renewed: BTreeSet::new(),
            replaced: BTreeSet::new(),
            offered: Vec::new(),
        };
        world.restart();
        world
    }

    fn home(&mut self, c: u64) -> &mut Home {
        &mut self.homes[(c % HOMES) as usize]
    }

    /// All mail and everything that was told is lost.
    fn restart(&mut self) {
        self.dispatcher = Dispatcher::new(site(), HOMES as u16);
        self.dispatcher.set_offer_ttl_ms(TTL);
        self.offers.clear();
        self.last_offer = 0;
        self.last_ticket = 0;
        self.tickets.clear();
        self.rows.clear();
        self.positions.clear();
        self.loads.clear();
        self.refused.clear();
        self.turned_away.clear();
        self.waits.clear();
        self.renewed.clear();
        self.replaced.clear();
        self.offered.clear();
        for home in &mut self.homes {
            home.announce_all();
        }
    }

    fn call(&mut self, is_tick: bool, event: impl FnOnce(&mut Dispatcher, u64, &mut Vec<Out>)) {
        if is_tick {
            // The round of what is held meanwhile ends at the first tick after that.
            let mut refused = std::mem::take(&mut self.refused);
            let mut turned_away = std::mem::take(&mut self.turned_away);
            for round in [&mut refused, &mut turned_away] {
                round.retain(|&c, (_, at)| {
                    let held = self.offers.contains_key(&c) || self.is_asked_of_home(c);
                    held || *at + u64::from(TTL) > self.now
                });
            }
            self.refused = refused;
            self.turned_away = turned_away;
        }
        let mut out = Vec::new();
        event(&mut self.dispatcher, self.now, &mut out);
        self.dispatcher.check_invariants();
        let mut made = Vec::new();
        for said in out {
            self.hear(said, is_tick, &mut made);
        }
        for (who, c) in made {
            self.check_order(who, c);
        }
        self.check_rows();
        self.check_capacity();
    }

    fn hear(&mut self, said: Out, is_tick: bool, made: &mut Vec<(u64, u64)>) {
        match said {
            Out::Ticket { home, c, ticket } => {
                let c = number_of(c);
                assert_eq!(u64::from(home), c % HOMES);
                if self.tickets.insert(c, ticket) != Some(ticket) {
                    assert!(ticket > self.last_ticket, "new tickets rise");
                    self.last_ticket = ticket;
                    self.refused.remove(&c);
                }
                self.home(c).down.push_back(Down::Ticket(c, ticket));
            }
            Out::Assign { home, c, agent, expect_epoch, request } => {
                let c = number_of(c);
                assert_eq!(u64::from(home), c % HOMES);
                let order = Down::Assign(c, agent.bits() as u64, expect_epoch, request);
                self.home(c).down.push_back(order);
            }
            Out::Refuse { .. } => {}
            Out::Offer { agent, c, offer, ttl_ms, .. } => {
                assert_eq!(ttl_ms, TTL);
                assert!(offer > self.last_offer, "offers are numbered once");
                self.last_offer = offer;
                let (who, c) = (agent.bits() as u64, number_of(c));
                assert!(self.offers.values().all(|&(to, _)| to != who), "one offer per agent");
                assert_eq!(self.offers.insert(c, (who, offer)), None, "one offer per conversation");
                // An offer after the round's end begins another one: who refused before is not kept from it.
                if self.refused.get(&c).is_none_or(|(_, at)| *at + u64::from(TTL) <= self.now) {
                    self.this_round.remove(&c);
                }
                if let Some(by) = self.this_round.get(&c)
                    && !self.renewed.contains(&c)
                {
                    assert!(!by.contains(&who), "{c} was offered to {who} twice in a round");
                }
                made.push((who, c));
                self.offered.push((who, c));
            }
            Out::OfferGone { agent, c, offer } => {
                let (who, c) = (agent.bits() as u64, number_of(c));
                assert_eq!(self.offers.remove(&c), Some((who, offer)), "only what was offered goes");
                if is_tick {
                    self.refuse(who, c);
                }
            }
            Out::Row(row) => {
                let c = number_of(row.c);
                self.rows.insert(c, row);
                if row.status != Status::Waiting {
                    self.refused.remove(&c);
                    self.positions.remove(&c);
                }
            }
            Out::Position { c, pos, .. } => {
                let c = number_of(c);
                let before = self.positions.insert(c, pos);
                let is_new = self.replaced.remove(&c) || before != Some(pos);
                assert!(is_new, "a place is told only when it changed");
            }
            Out::Avail { agent, load, .. } => {
                self.loads.insert(agent.bits() as u64, load);
            }
        }
    }

    fn refuse(&mut self, who: u64, c: u64) {
        let (by, at) = self.refused.entry(c).or_default();
        by.insert(who);
        *at = self.now;
        if let Some((_, at)) = self.turned_away.get_mut(&c) {
            *at = self.now;
        }
        self.this_round.entry(c).or_default().insert(who);
        self.renewed.remove(&c);
    }

    /// A home refused `c` to `who`: the round may last longer, and he may be passed over in it.
    fn turn_away(&mut self, who: u64, c: u64) {
        let refused = self.refused.get(&c).map(|(by, _)| by.clone()).unwrap_or_default();
        let (by, at) = self.turned_away.entry(c).or_default();
        by.extend(refused);
        by.insert(who);
        *at = self.now;
    }

    fn is_asked_of_home(&self, c: u64) -> bool {
        let home = &self.homes[(c % HOMES) as usize];
        home.down.iter().any(|order| matches!(order, Down::Assign(of, ..) if *of == c))
            || home.up.iter().any(|mail| matches!(mail, Up::Result(of, ..) if *of == c))
    }

    /// Whoever stands before `c` is offered, being assigned, or was refused by the agent to whom `c` is offered.
    fn check_order(&self, who: u64, c: u64) {
        for row in self.dispatcher.rows_waiting(None) {
            let ahead = number_of(row.c);
            if ahead == c {
                return;
            }
            assert!(
                self.offers.contains_key(&ahead)
                    || self.is_asked_of_home(ahead)
                    || self.refused.get(&ahead).is_some_and(|(by, _)| by.contains(&who))
                    || self.turned_away.get(&ahead).is_some_and(|(by, _)| by.contains(&who)),
                "{c} was offered to {who} before {ahead}"
            );
        }
        panic!("{c} was offered and does not wait");
    }

    /// Who watches the lists has the same rows as the dispatcher.
    fn check_rows(&self) {
        let untold = |row: &Row| Row { ticket: None, ..*row };
        let agents = (0..AGENTS).chain([WILLING]);
        let owned: Vec<&Row> = agents.flat_map(|who| self.dispatcher.rows_of(agent(who), None)).collect();
        for row in self.dispatcher.rows_waiting(None).chain(owned) {
            assert_eq!(self.rows.get(&number_of(row.c)).map(untold), Some(untold(row)));
        }
    }

    /// In truth nobody owns, or can come to own by what is under way, more than he ever said he would.
    fn check_capacity(&self) {
        let mut given: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for home in &self.homes {
            for (&c, row) in &home.rows {
                if row.status == Status::Open {
                    given.entry(row.owner.unwrap().bits() as u64).or_default().insert(c);
                }
            }
            for order in &home.down {
                if let Down::Assign(c, who, expect_epoch, request) = order
                    && home.rows[c].epoch == *expect_epoch
                    && home.rows[c].status != Status::Open
                    && !home.granted.contains_key(&(*c, *who, request.cid))
                {
                    given.entry(*who).or_default().insert(*c);
                }
            }
        }
        for &(who, _) in self.offers.values() {
            let (_, cap) = self.dispatcher.availability(agent(who)).unwrap();
            assert!(
                self.dispatcher.load(agent(who)) <= u32::from(cap),
                "{who} can accept what he is offered"
            );
        }
        for (who, conversations) in given {
            assert!(
                conversations.len() as u32 <= self.highest_cap[&who],
                "the capacity of {who} is exceeded"
            );
        }
    }

    fn presence(&mut self, who: u64, shard: u16, sessions: u16, said: Option<(Availability, u16)>) {
        self.note_cap(who, said);
        self.call(false, |d, now, out| d.on_presence(now, agent(who), shard, sessions, said, out));
    }

    fn note_cap(&mut self, who: u64, said: Option<(Availability, u16)>) {
        let highest = self.highest_cap.entry(who).or_default();
        *highest = (*highest).max(said.map_or(0, |(_, cap)| u32::from(cap)));
    }

    fn accept(&mut self, who: u64, c: u64, offer: Option<u64>, request: RequestRef) {
        self.call(false, |d, now, out| d.on_accept(now, agent(who), conversation(c), offer, request, out));
    }

    fn new_request(&mut self) -> RequestRef {
        self.next_cid += 1;
        request(self.next_cid)
    }

    /// One letter from a home.
    fn deliver_up(&mut self, home: usize) -> bool {
        let Some(mail) = self.homes[home].up.pop_front() else { return false };
        match mail {
            Up::Announce(row, wait) => {
                let c = number_of(row.c);
                if self.waits.insert(c, wait) != Some(wait) {
                    self.renewed.insert(c);
                    self.replaced.insert(c);
                }
                if let Some(ticket) = row.ticket {
                    self.last_ticket = self.last_ticket.max(ticket);
                }
                self.call(false, |d, now, out| d.on_announce(now, home as u16, row, out));
            }
            Up::End => self.call(false, |d, now, out| d.on_announce_end(now, home as u16, out)),
            Up::Result(c, who, request, result) => {
                if result.is_err() {
                    self.turn_away(who, c);
                }
                self.call(false, |d, now, out| {
                    d.on_assign_result(now, conversation(c), agent(who), request, result, out);
                });
            }
        }
        true
    }

    fn deliver_down(&mut self, home: usize, refuse: bool) -> bool {
        let Some(order) = self.homes[home].down.pop_front() else { return false };
        self.homes[home].obey(order, refuse);
        true
    }

    fn deliver_all(&mut self) {
        loop {
            let mut moved = false;
            for home in 0..HOMES as usize {
                self.homes[home].flush();
                while self.deliver_up(home) || self.deliver_down(home, false) {
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.call(true, |d, now, out| d.on_tick(now, out));
    }

    /// The visitor of `c` comes, or writes again.
    fn say(&mut self, c: u64, text: u8) {
        let now = self.now;
        let home = self.home(c);
        let wait = home.waits.entry(c).or_default();
        let row = home.rows.entry(c).or_insert_with(|| waiting(conversation(c), now));
        if row.status == Status::Closed {
            *wait += 1;
            *row = Row { epoch: row.epoch, ..waiting(conversation(c), now) };
        }
        row.preview = Short::new(&text.to_string());
        home.dirty.insert(c);
    }

    fn close(&mut self, c: u64) {
        let now = self.now;
        let home = self.home(c);
        if let Some(row) = home.rows.get_mut(&c)
            && row.status != Status::Closed
        {
            *row = Row { status: Status::Closed, epoch: row.epoch, ..waiting(conversation(c), now) };
            home.dirty.insert(c);
        }
    }

    fn step(&mut self, caps_vary: bool, (kind, a, b, x): (u8, u8, u8, u8)) {
        let (who, c) = (u64::from(a) % AGENTS, u64::from(b) % CONVERSATIONS);
        let home = usize::from(a) % HOMES as usize;
        let cap = if caps_vary { u16::from(x) % 4 } else { (who % 3 + 1) as u16 };
        let state = match b % 4 {
            0 => Availability::Away,
            1 => Availability::Busy,
            _ => Availability::Online,
        };
        match kind % 32 {
            0..=3 => self.say(c, x),
            4 => self.close(c),
            5..=7 => self.homes[home].flush(),
            8..=12 => {
                self.deliver_up(home);
            }
            13..=16 => {
                self.deliver_down(home, x % 8 == 0);
            }
            17..=18 => self.presence(
                who,
                u16::from(x) % 2,
                u16::from(b) % 3,
                (x % 3 > 0).then_some((Availability::Online, cap)),
            ),
            19 => {
                self.note_cap(who, Some((state, cap)));
                self.call(false, |d, now, out| d.on_avail(now, agent(who), state, cap, out));
            }
            20..=24 => {
                // What he is offered, or else what he sees waiting.
                let offered = self.offers.iter().find(|(_, offer)| offer.0 == who);
                let offered = offered.map(|(&c, &(_, offer))| (c, Some(offer))).filter(|_| x % 3 > 0);
                let (c, offer) = offered.unwrap_or((c, None));
                let request = self.new_request();
                self.accepts.push((who, c, offer, request));
                self.accept(who, c, offer, request);
            }
            25 => {
                // The answer was lost; he says it again, perhaps from another socket.
                if !self.accepts.is_empty() {
                    let (who, c, offer, request) = self.accepts[usize::from(x) % self.accepts.len()];
                    self.accept(who, c, offer, RequestRef { session: 8, re: Some(9), ..request });
                }
            }
            26..=27 => {
                let offered = self.offers.iter().find(|(_, offer)| offer.0 == who);
                let Some((&c, &(_, offer))) = offered else { return };
                self.refuse(who, c);
                self.call(false, |d, now, out| d.on_decline(now, agent(who), conversation(c), offer, out));
            }
            28..=30 => self.pass(u64::from(x) * u64::from(TTL) / 128),
            _ => {
                if x % 8 == 0 {
                    self.restart();
                }
            }
        }
    }

    /// What homes hold, in the order in which a new dispatcher must serve it.
    fn expected_queue(&self) -> Vec<u64> {
        let rows = || self.homes.iter().flat_map(|home| home.rows.values());
        let mut queue: Vec<&Row> = rows().filter(|row| row.status == Status::Waiting).collect();
        queue.sort_by_key(|row| match row.ticket {
            Some(ticket) => (0, ticket, row.c),
            None => (1, row.since_ms, row.c),
        });
        let tickets: BTreeSet<u64> = queue.iter().filter_map(|row| row.ticket).collect();
        assert_eq!(
            tickets.len(),
            queue.iter().filter(|row| row.ticket.is_some()).count(),
            "tickets are unique"
        );
        queue.into_iter().map(|row| number_of(row.c)).collect()
    }

    fn queue(&self) -> Vec<u64> {
        self.dispatcher.rows_waiting(None).map(|row| number_of(row.c)).collect()
    }

    /// Everybody leaves; one comes who accepts everything; in the end nobody waits, and all were offered in the order of the queue.
    fn all_are_served(&mut self) {
        self.deliver_all();
        for who in 0..AGENTS {
            for shard in 0..2 {
                self.presence(who, shard, 0, None);
            }
        }
        self.pass(2 * u64::from(TTL));
        self.deliver_all();
        self.pass(POSITIONS_EVERY_MS);
        let queue = self.queue();
        let told: Vec<u64> = queue.iter().map(|c| u64::from(self.positions[c])).collect();
        assert!(told.into_iter().eq(1..=queue.len() as u64), "everybody was told his place");
        assert!(self.offers.is_empty());
        self.offered.clear();
        self.presence(WILLING, 0, 1, Some((Availability::Online, 1)));
        for _ in 0..=CONVERSATIONS {
            let Some((&c, &(who, offer))) = self.offers.first_key_value() else { break };
            assert_eq!((who, self.dispatcher.load(agent(WILLING))), (WILLING, 1));
            let request = self.new_request();
            self.accept(WILLING, c, Some(offer), request);
            self.deliver_all();
            assert_eq!(self.loads[&WILLING], 1);
            self.close(c);
            self.deliver_all();
        }
        let served: Vec<u64> = self.offered.iter().map(|&(_, c)| c).collect();
        assert_eq!(served, queue, "first in, first out, and nobody forgotten");
        assert_eq!(self.dispatcher.totals().waiting, 0);
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, u8, u8, u8)>> {
    prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_everybody_is_served(caps_vary in any::<bool>(), steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(caps_vary, step);
        }
        world.all_are_served();
    }

    #[test]
    fn a_new_dispatcher_has_the_order_of_the_old_one(steps in steps()) {
        let mut world = World::new();
        world.deliver_all();
        for step in steps {
            world.step(true, step);
        }
        world.deliver_all();
        let before = world.queue();
        prop_assert_eq!(&before, &world.expected_queue(), "all tickets are durable");
        world.restart();
        world.deliver_all();
        prop_assert_eq!(world.queue(), before);
    }

    #[test]
    fn a_new_dispatcher_orders_what_homes_hold_whatever_was_lost(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(true, step);
        }
        let expected = world.expected_queue();
        world.restart();
        world.deliver_all();
        prop_assert_eq!(world.queue(), expected);
        world.all_are_served();
    }
}

/// A refusal in the second round was taken for one of the first.
#[test]
fn a_second_round_asks_again_whoever_refused_in_the_first() {
    let steps: &[(u8, u8, u8, u8)] = &[
        (84, 0, 0, 0),
        (177, 56, 43, 7),
        (148, 0, 0, 0),
        (32, 0, 26, 0),
        (0, 0, 115, 0),
        (8, 8, 0, 0),
        (168, 46, 0, 0),
        (148, 0, 0, 0),
        (0, 0, 0, 0),
        (180, 0, 0, 0),
        (116, 0, 0, 0),
        (96, 0, 101, 0),
        (212, 0, 0, 0),
        (52, 0, 0, 0),
        (101, 22, 0, 0),
        (148, 0, 0, 0),
        (113, 65, 52, 31),
        (148, 0, 0, 0),
        (40, 22, 0, 0),
        (116, 0, 0, 0),
        (84, 0, 0, 0),
        (37, 11, 0, 0),
        (104, 54, 0, 0),
        (95, 0, 0, 1),
        (40, 47, 0, 0),
        (212, 0, 0, 0),
        (108, 205, 198, 193),
        (24, 96, 163, 55),
        (174, 161, 157, 175),
        (77, 17, 60, 25),
        (164, 251, 5, 176),
        (203, 26, 110, 0),
        (146, 107, 140, 159),
        (96, 123, 230, 116),
        (98, 63, 69, 95),
        (185, 142, 233, 220),
        (106, 164, 184, 35),
        (6, 141, 243, 204),
        (39, 224, 222, 28),
        (40, 156, 66, 13),
        (76, 212, 152, 22),
        (91, 251, 147, 25),
        (254, 190, 165, 174),
        (177, 74, 70, 200),
        (92, 145, 67, 201),
        (125, 99, 123, 187),
        (65, 103, 208, 10),
        (221, 143, 2, 223),
        (243, 62, 158, 25),
        (60, 103, 172, 116),
        (157, 203, 208, 14),
    ];
    let mut world = World::new();
    for &step in steps {
        world.step(false, step);
    }
    world.all_are_served();
}
