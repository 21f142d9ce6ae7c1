//! The last judgement: what must be there when the faults have stopped and everybody has read everything back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Audience, Checker, Conversation, Kind, State, What};

impl Checker {
    /// Judges every conversation, and every agent's capacity.
    pub(crate) fn judge(&mut self) {
        let mut broken = Vec::new();
        for (c, conversation) in self.standing() {
            self.judge_whole(c, conversation, &mut broken);
            self.judge_streams(c, conversation, &mut broken);
            self.judge_states(c, conversation, &mut broken);
        }
        self.judge_capacities(&mut broken);
        if let Some(first) = broken.into_iter().next() {
            self.broken(|| first);
        }
    }

    /// 1, 2, 3 and so on to the head, each read back, and nothing behind it.
    fn judge_whole(&self, c: u128, conversation: &Conversation, broken: &mut Vec<String>) {
        for audience in [Audience::Agent, Audience::Visitor] {
            let stream = &conversation.streams[audience as usize];
            let Some(head) = stream.final_head else {
                if audience == Audience::Agent && self.read.contains(&c) {
                    broken.push(format!("nobody could read {c:032x} back"));
                }
                continue;
            };
            if let Some(missing) =
                (1..=head).find(|number| !stream.facts.get(number).is_some_and(|fact| fact.read_back))
            {
                broken.push(format!(
                    "{missing} of {c:032x} could not be read back by {audience:?}; the head is {head}"
                ));
            }
            if let Some((number, fact)) = stream.facts.range(head + 1..).next() {
                broken.push(format!("{number} of {c:032x} was told and is gone: {fact:?}"));
            }
            if let Some((number, &intent)) = stream.acks.range(head + 1..).next() {
                let intent = &self.intents[intent];
                broken.push(format!("{number} of {c:032x} was acknowledged and is gone: {intent:?}"));
            }
        }
    }

    /// The visitor's stream is the agents' stream without the notes.
    fn judge_streams(&self, c: u128, conversation: &Conversation, broken: &mut Vec<String>) {
        let [visitor, agent] = &conversation.streams;
        let visible: Vec<&What> = agent
            .facts
            .values()
            .map(|fact| &fact.what)
            .filter(|what| !matches!(what, What::Note { .. }))
            .collect();
        for (&number, fact) in &visitor.facts {
            let other = visible.get(number as usize - 1).copied();
            if other != Some(&fact.what) {
                let what = &fact.what;
                broken.push(format!(
                    "{number} of {c:032x} is {what:?} for its visitor and {other:?} for agents"
                ));
            }
        }
        if let Some(head) = visitor.final_head
            && head as usize != visible.len()
        {
            let count = visible.len();
            broken.push(format!("{c:032x} has {head} events for its visitor and {count} such for agents"));
        }
    }

    /// Waiting, open with one owner, closed: nothing that the state does not allow, and no other state was told.
    fn judge_states(&self, c: u128, conversation: &Conversation, broken: &mut Vec<String>) {
        let mut states = [vec![State::Waiting], vec![State::Waiting]];
        let mut state = State::Waiting;
        let mut stored = BTreeSet::new();
        for (number, fact) in &conversation.streams[Audience::Agent as usize].facts {
            let (allowed, next) = match fact.what {
                What::Note { .. } => (true, state),
                What::Message { intent } => {
                    stored.insert(intent);
                    let intent = &self.intents[intent];
                    let allowed = match intent.by_agent {
                        true => state == State::Open(intent.author),
                        false => state != State::Closed,
                    };
                    (allowed, state)
                }
                What::Joined { agent } => (state == State::Waiting, State::Open(Some(agent))),
                What::Closed { by } => {
                    let is_agents = desk::id::AgentId::from_bits(by).is_some();
                    (state != State::Closed && (!is_agents || state == State::Open(Some(by))), State::Closed)
                }
                What::Reopened { .. } => (state == State::Closed, State::Waiting),
            };
            if !allowed {
                broken.push(format!("{number} of {c:032x} is {:?} while it is {state:?}", fact.what));
                return;
            }
            state = next;
            states[Audience::Agent as usize].push(state);
            if !matches!(fact.what, What::Note { .. }) {
                states[Audience::Visitor as usize].push(state);
            }
        }
        for &(audience, number, told) in &conversation.states {
            let held = states[audience as usize].get(number as usize).copied();
            if !held.is_some_and(|held| held.is(told)) {
                broken.push(format!(
                    "behind {number} of {c:032x} {audience:?} was told {told:?}, and it is {held:?}"
                ));
            }
        }
        if let Some(intent) = conversation.previewed.iter().find(|intent| !stored.contains(intent)) {
            let intent = &self.intents[*intent];
            broken.push(format!("{c:032x} was listed with a text that is not there: {intent:?}"));
        }
    }

    /// From when somebody heard that an agent owns a conversation until somebody first asked to close it, it was his: never more than he takes.
    fn judge_capacities(&self, broken: &mut Vec<String>) {
        let mut edges: BTreeMap<u128, Vec<(u64, i32)>> = BTreeMap::new();
        for (c, conversation) in self.standing() {
            if conversation.epoch > 1 {
                // What was unsaid had no end.
                continue;
            }
            let facts = &conversation.streams[Audience::Agent as usize].facts;
            for (&number, fact) in facts {
                let What::Joined { agent } = fact.what else { continue };
                let from = fact.first_us;
                let until = facts
                    .range(number..)
                    .find(|(_, fact)| matches!(fact.what, What::Closed { .. }))
                    .map_or(u64::MAX, |(&end, _)| self.close_was_asked(c, conversation, end));
                if until > from {
                    edges.entry(agent).or_default().extend([(from, 1), (until, -1)]);
                }
            }
        }
        for (agent, mut edges) in edges {
            edges.sort_unstable();
            let capacity = self.capacities.get(&agent).copied().unwrap_or(0) as i32;
            let mut load = 0;
            for (at, step) in edges {
                load += step;
                if load > capacity {
                    broken.push(format!("agent {agent:032x} owns {load} at {at} us, and takes {capacity}"));
                    break;
                }
            }
        }
    }

    /// When somebody first asked for the close that stands as `number` on the agents' stream.
    fn close_was_asked(&self, c: u128, conversation: &Conversation, number: u32) -> u64 {
        let facts = &conversation.streams[Audience::Agent as usize].facts;
        let visible =
            facts.range(..=number).filter(|(_, fact)| !matches!(fact.what, What::Note { .. })).count() as u32;
        let closes = || {
            let tried =
                self.intents.iter().filter(|intent| intent.kind == Kind::Close && intent.c == Some(c));
            tried.filter(|intent| intent.attempts > 0 && intent.refused.is_none())
        };
        let own = |by_agent: bool| if by_agent { number } else { visible };
        let exact = closes().find(|intent| intent.acked == Some(own(intent.by_agent)));
        exact
            .map(|intent| intent.made_us)
            .or_else(|| closes().map(|intent| intent.made_us).min())
            .unwrap_or(0)
    }
}
