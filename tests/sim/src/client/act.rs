//! What a client does by itself: comes back, says again, acknowledges, and, while there is chaos, whatever comes to its mind.

use super::{Around, Client, Role, Stage, Wish, text_of};
use crate::marks::Mark;
use crate::world::Phase;

/// Longer than this nobody waits for a server's next word during the opening.
const OPENING_US: u64 = 4_000_000;

impl Client {
    /// Its time has come.
    pub(crate) fn act(&mut self, around: &mut Around<'_>) {
        let (low, high) = match around.phase {
            Phase::Chaos => around.plan.act_us,
            Phase::Settling | Phase::Reading => (20_000, 80_000),
        };
        match self.stage {
            Stage::Off => {
                if !self.done && self.may_come(around) {
                    self.wish = Wish::Connect;
                    self.stage = Stage::Dialing;
                    self.dialed_us = around.now_us;
                }
                self.again_us = around.now_us + around.chance.between(low, high);
                return;
            }
            Stage::Dialing | Stage::Head | Stage::Hello | Stage::Auth | Stage::Parting => {
                let patience = if matches!(self.role, Role::Hostile(_)) { 20_000_000 } else { OPENING_US };
                if around.now_us.saturating_sub(self.heard_us.max(self.dialed_us)) > patience {
                    self.leave(around, Wish::Close, 50_000);
                }
            }
            Stage::Live => {
                let silence = around.now_us.saturating_sub(self.heard_us);
                if silence > self.heartbeat_us + 10_000_000 {
                    self.leave(around, Wish::Close, 0);
                } else {
                    self.live(around);
                }
            }
        }
        if let Role::Hostile(evil) = self.role {
            self.do_evil(around, evil);
        }
        if self.stage != Stage::Off {
            self.again_us = around.now_us + around.chance.between(low, high);
        }
    }

    /// The first tab of a new visitor fetches the token; the others wait for it.
    fn may_come(&self, around: &Around<'_>) -> bool {
        let person = &around.people[self.person];
        self.role != Role::Visitor || person.token.is_some() || self.is_first_tab
    }

    fn live(&mut self, around: &mut Around<'_>) {
        if matches!(self.role, Role::Hostile(_)) {
            return;
        }
        self.say_outbox(around);
        self.say_ack(around);
        match around.phase {
            Phase::Chaos => self.be_human(around),
            Phase::Settling => self.catch_up(around),
            Phase::Reading => self.read_back(around),
        }
    }

    fn be_human(&mut self, around: &mut Around<'_>) {
        if around.chance.permille(around.plan.drop_permille) {
            let vanish = around.chance.percent(around.plan.vanish_percent);
            around.marks.hit_if(Mark::Vanished, vanish);
            let pause_us = around.chance.weighted(&[(60, 10_000), (30, 500_000), (10, 3_000_000)]);
            if around.chance.percent(15) {
                self.through_control = true;
            }
            return self.leave(around, if vanish { Wish::Vanish } else { Wish::Close }, pause_us);
        }
        if let Some((at_us, c)) = self.lies_at {
            if around.now_us >= at_us {
                self.mention(around, "ack", &format!("{{\"c\":\"{}\",\"s\":1000000}}", text_of(c)));
                self.lies_at = None;
                self.leaves_at = Some(around.now_us + around.chance.between(1_000, 60_000));
            }
            return;
        }
        if let Some(at_us) = self.leaves_at {
            if around.now_us >= at_us {
                self.leave(around, Wish::Close, 5_000);
            }
            return;
        }
        if around.chance.permille(6) {
            self.wants_twin = true;
            return;
        }
        if around.chance.permille(around.plan.slow_permille) {
            self.deaf_until_us = around.now_us + around.chance.weighted(&[(60, 300_000), (40, 6_000_000)]);
        }
        match self.role {
            Role::Visitor => self.visitor_acts(around),
            Role::Agent => self.agent_acts(around),
            Role::Auditor | Role::Hostile(_) => {}
        }
    }

    /// The faults are over: everything that is missing is fetched.
    fn catch_up(&mut self, around: &mut Around<'_>) {
        if self.role == Role::Visitor
            && let Some(c) = around.people[self.person].c
            && !self.convs.get(&c).is_some_and(|local| local.synced)
        {
            self.convs.entry(c).or_default().synced = true;
            self.sync(around, &[c]);
        }
    }

    /// What this client reads back in the end.
    fn to_read(&self, around: &Around<'_>) -> Vec<u128> {
        match self.role {
            Role::Visitor if !self.is_first_tab => Vec::new(),
            Role::Visitor => {
                let own = around.people[self.person].c;
                own.filter(|&c| !around.check.may_miss(self.boot, c)).into_iter().collect()
            }
            Role::Auditor => around.check.conversations().collect(),
            Role::Agent | Role::Hostile(_) => Vec::new(),
        }
    }

    /// Reads every conversation of its own back to number 1.
    fn read_back(&mut self, around: &mut Around<'_>) {
        let all = self.to_read(around);
        let missing: Vec<u128> = all
            .iter()
            .copied()
            .filter(|c| !self.convs.get(c).is_some_and(|local| local.synced))
            .take(100)
            .collect();
        for c in &missing {
            let local = self.convs.entry(*c).or_default();
            local.synced = true;
        }
        if !missing.is_empty() {
            return self.sync(around, &missing);
        }
        for c in all {
            let local = self.convs.get_mut(&c).expect("synced above");
            if local.syncing.is_empty() && local.read_from > 1 && !local.asked_history {
                local.asked_history = true;
                let before = local.read_from;
                self.ask_history(around, c, before);
            }
        }
    }

    /// Begins to read back: nothing that was told before counts.
    pub(crate) fn begin_reading(&mut self, around: &mut Around<'_>) {
        for local in self.convs.values_mut() {
            local.synced = false;
            local.read_from = 0;
            local.last = 0;
        }
        let _ = around;
    }

    /// What is not read back, for a report.
    pub(crate) fn unread(&self, around: &Around<'_>) -> String {
        let mut text = String::new();
        for c in self.to_read(around) {
            let head = around.check.final_head(self.audience(), c);
            let local = self.convs.get(&c);
            let read = local.is_some_and(|local| {
                local.syncing.is_empty()
                    && local.read_from == 1
                    && head.is_some_and(|head| local.last >= head)
            });
            if !read {
                text += &format!("\n    {c:032x} with head {head:?}: {local:?}");
            }
        }
        text
    }

    /// Whether everything is read back.
    pub(crate) fn has_read(&self, around: &Around<'_>) -> bool {
        self.unread(around).is_empty()
    }
}
