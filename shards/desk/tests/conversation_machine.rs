//! Random lives of conversations: against a model that is too simple to be wrong, and through restarts from every kind of log.

mod conversation_support;

use conversation_support::{World, hash_of, images, replayed};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringdesk_desk::conversation::{
    Assign, Close, ConvIx, Party, Refusal, Say, SnapCursor, StartDecision, Status, Who,
};
use ringdesk_desk::record::Cursor;

const BODIES: [&str; 3] = ["a", "b", "好的"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Start { visitor: usize, device: u128, cid: u128 },
    Say { visitor: usize, who: usize, note: bool, device: u128, cid: u128, body: usize },
    Accept { visitor: usize, agent: usize, stale: bool, device: u128, cid: u128 },
    Close { visitor: usize, who: usize, device: u128, cid: u128 },
    Queue { visitor: usize },
    Seen { visitor: usize, party: bool, number: u32 },
    Delivered { visitor: usize, party: bool, number: u32 },
    Receipts { visitor: usize },
    Again { back: usize },
    Checkpoint { budget_size: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (visitor, device, cid, who) = (0..4usize, 1..4u128, 0..12u128, 0..4usize);
    prop_oneof![
        2 => (visitor.clone(), device.clone(), cid.clone())
            .prop_map(|(visitor, device, cid)| Step::Start { visitor, device, cid }),
        8 => (visitor.clone(), who.clone(), any::<bool>(), device.clone(), cid.clone(), 0..3usize)
            .prop_map(|(visitor, who, note, device, cid, body)| Step::Say { visitor, who, note, device, cid, body }),
        3 => (visitor.clone(), 0..3usize, prop::bool::weighted(0.2), device.clone(), cid.clone())
            .prop_map(|(visitor, agent, stale, device, cid)| Step::Accept { visitor, agent, stale, device, cid }),
        2 => (visitor.clone(), who, device, cid)
            .prop_map(|(visitor, who, device, cid)| Step::Close { visitor, who, device, cid }),
        1 => visitor.clone().prop_map(|visitor| Step::Queue { visitor }),
        1 => (visitor.clone(), any::<bool>(), 0..20u32)
            .prop_map(|(visitor, party, number)| Step::Seen { visitor, party, number }),
        1 => (visitor.clone(), any::<bool>(), 0..20u32)
            .prop_map(|(visitor, party, number)| Step::Delivered { visitor, party, number }),
        1 => visitor.prop_map(|visitor| Step::Receipts { visitor }),
        3 => (1..10usize).prop_map(|back| Step::Again { back }),
        9 => (1..900usize).prop_map(|budget_size| Step::Checkpoint { budget_size }),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Did {
    Message(u64),
    Note(u64),
    Assigned,
    Closed,
    Reopened,
}

#[derive(Clone, Debug)]
struct ModelEvent {
    did: Did,
    who: Who,
    device: u128,
    cid: u128,
    vs: u32,
    ts_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Model {
    started: (u128, u128),
    events: Vec<ModelEvent>,
    owner: Option<usize>,
    is_closed: bool,
    epoch: u32,
    ticket: Option<u64>,
    heard: [Cursor; 2],
    written: [Cursor; 2],
}

impl Model {
    fn vs(&self) -> u32 {
        self.events.iter().filter(|event| !matches!(event.did, Did::Note(_))).count() as u32
    }
    fn status(&self) -> Status {
        match self.owner {
            _ if self.is_closed => Status::Closed,
            Some(_) => Status::Open,
            None => Status::Waiting,
        }
    }
    /// The answer to a repetition: its number and event, or a conflict.
    fn said(
        &self,
        device: u128,
        cid: u128,
        who: Who,
        did: Did,
    ) -> Option<Result<(u32, &ModelEvent), Refusal>> {
        let at = self
            .events
            .iter()
            .rposition(|event| event.did != Did::Reopened && (event.device, event.cid) == (device, cid))?;
        let event = &self.events[at];
        let is_same = event.who == who && event.did == did;
        Some(if is_same { Ok((at as u32 + 1, event)) } else { Err(Refusal::IdConflict) })
    }
    fn push(&mut self, did: Did, who: Who, device: u128, cid: u128, ts_ms: u64) {
        let vs = self.vs() + u32::from(!matches!(did, Did::Note(_)));
        self.events.push(ModelEvent { did, who, device, cid, vs, ts_ms });
    }
}

/// A checkpoint of everything that takes many turns.
struct Pass {
    begin: usize,
    slot: u16,
    after: Option<ConvIx>,
    at: Option<ConvIx>,
    cursor: SnapCursor,
}

struct Life {
    world: World,
    models: Vec<Option<Model>>,
    steps: Vec<Step>,
    pass: Option<Pass>,
    /// Where replay may begin: the start of the last complete pass.
    replay_from: usize,
    ticket: u64,
}

impl Life {
    fn new() -> Life {
        Life {
            world: World::new(16 << 20),
            models: vec![None; 4],
            steps: Vec::new(),
            pass: None,
            replay_from: 0,
            ticket: 0,
        }
    }

    fn who(&self, number: usize) -> Who {
        if number == 0 { Who::Visitor } else { Who::Agent(self.world.agents[number - 1]) }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Again { back } => {
                if let Some(&earlier) = self.steps.iter().rev().nth(back - 1) {
                    self.do_step(earlier);
                }
            }
            Step::Checkpoint { budget_size } => self.checkpoint(budget_size),
            _ => {
                self.do_step(step);
                self.steps.push(step);
            }
        }
    }

    fn do_step(&mut self, step: Step) {
        let visitor = match step {
            Step::Start { visitor, .. }
            | Step::Say { visitor, .. }
            | Step::Accept { visitor, .. }
            | Step::Close { visitor, .. }
            | Step::Queue { visitor }
            | Step::Seen { visitor, .. }
            | Step::Delivered { visitor, .. }
            | Step::Receipts { visitor } => visitor,
            Step::Again { .. } | Step::Checkpoint { .. } => unreachable!("taken elsewhere"),
        };
        let found = self.world.conversations.of_visitor(self.world.visitors[visitor]);
        if let Step::Start { device, cid, .. } = step {
            self.start(visitor, found, device, cid);
            return;
        }
        let Some(ix) = found else {
            assert!(self.models[visitor].is_none());
            return;
        };
        let mut model = self.models[visitor].take().expect("it was started");
        match step {
            Step::Say { who, note, device, cid, body, .. } => {
                self.say(&mut model, ix, who, note, (device, cid), BODIES[body]);
            }
            Step::Accept { agent, stale, device, cid, .. } => {
                self.accept(&mut model, ix, agent, stale, device, cid);
            }
            Step::Close { who, device, cid, .. } => self.close(&mut model, ix, who, device, cid),
            Step::Queue { .. } => {
                if model.status() == Status::Waiting {
                    self.ticket += 1;
                    self.world.queue(ix, self.ticket);
                    model.ticket = Some(self.ticket);
                }
            }
            Step::Seen { party, number, .. } => self.mark(&mut model, ix, party, number, number),
            Step::Delivered { party, number, .. } => self.mark(&mut model, ix, party, 0, number),
            Step::Receipts { .. } => {
                assert_eq!(self.world.write_receipts(ix), model.written != model.heard);
                model.written = model.heard;
            }
            Step::Start { .. } | Step::Again { .. } | Step::Checkpoint { .. } => unreachable!("done above"),
        }
        self.compare(&model, ix);
        self.models[visitor] = Some(model);
    }

    fn start(&mut self, visitor: usize, found: Option<ConvIx>, device: u128, cid: u128) {
        let decision = self.world.start(visitor, device, cid);
        match (&self.models[visitor], found) {
            (Some(model), Some(ix)) => {
                let is_repeated = model.started == (device, cid);
                let is_used = model.said(device, cid, Who::Visitor, Did::Closed).is_some();
                let expected = match is_used && !is_repeated {
                    true => Err(Refusal::IdConflict),
                    false => Ok(StartDecision::Returns { ix, is_repeated }),
                };
                assert_eq!(decision, expected);
            }
            (None, None) => {
                assert_eq!(decision, Ok(StartDecision::New));
                self.models[visitor] = Some(Model { started: (device, cid), ..Model::default() });
            }
            (model, found) => panic!("{model:?} but {found:?}"),
        }
    }

    fn say(&mut self, model: &mut Model, ix: ConvIx, who: usize, note: bool, key: (u128, u128), body: &str) {
        let note = note && who > 0;
        let (device, cid) = key;
        let (agent, who) = (who.checked_sub(1), self.who(who));
        let did = if note { Did::Note(hash_of(body)) } else { Did::Message(hash_of(body)) };
        let ts_ms = self.world.clock_ms;
        let said = self.world.say(ix, who, note, device, cid, body);
        if let Some(known) = model.said(device, cid, who, did) {
            let expected = known.map(|(s, event)| Say::Known { s, vs: event.vs, ts_ms: event.ts_ms });
            assert_eq!(said, expected);
            return;
        }
        if agent.is_none() && model.started == (device, cid) {
            assert_eq!(said, Err(Refusal::IdConflict));
            return;
        }
        if agent.is_some() && !note {
            if model.is_closed {
                assert_eq!(said, Err(Refusal::Closed));
                return;
            }
            if model.owner != agent {
                assert_eq!(said, Err(Refusal::NotOwner));
                return;
            }
        }
        let reopens = agent.is_none() && model.is_closed;
        if reopens {
            model.push(Did::Reopened, who, 0, 0, ts_ms);
            (model.is_closed, model.owner) = (false, None);
        }
        model.push(did, who, device, cid, ts_ms + u64::from(reopens));
        let (s, vs) = (model.events.len() as u32, model.vs());
        assert_eq!(said, Ok(Say::New { s, vs, reopens }));
    }

    fn accept(&mut self, model: &mut Model, ix: ConvIx, agent: usize, stale: bool, device: u128, cid: u128) {
        let ts_ms = self.world.clock_ms;
        let who = self.who(agent + 1);
        let expect_epoch = model.epoch + u32::from(stale);
        let accepted = self.world.accept(ix, agent, expect_epoch, device, cid);
        if let Some(known) = model.said(device, cid, who, Did::Assigned) {
            let expected = known.map(|(s, event)| Assign::Known { s, vs: event.vs, ts_ms: event.ts_ms });
            assert_eq!(accepted, expected);
        } else if stale || model.status() != Status::Waiting {
            assert_eq!(accepted, Err(Refusal::Stale));
        } else {
            model.push(Did::Assigned, who, device, cid, ts_ms);
            (model.owner, model.ticket) = (Some(agent), None);
            model.epoch += 1;
            let (s, vs, epoch) = (model.events.len() as u32, model.vs(), model.epoch);
            assert_eq!(accepted, Ok(Assign::New { s, vs, epoch }));
        }
    }

    fn close(&mut self, model: &mut Model, ix: ConvIx, who: usize, device: u128, cid: u128) {
        let ts_ms = self.world.clock_ms;
        let (agent, who) = (who.checked_sub(1), self.who(who));
        let closed = self.world.close(ix, who, device, cid);
        if let Some(known) = model.said(device, cid, who, Did::Closed) {
            let expected = known.map(|(s, event)| Close::Known { s, vs: event.vs, ts_ms: event.ts_ms });
            assert_eq!(closed, expected);
        } else if agent.is_none() && model.started == (device, cid) {
            assert_eq!(closed, Err(Refusal::IdConflict));
        } else if model.is_closed {
            assert_eq!(closed, Err(Refusal::Closed));
        } else if agent.is_some() && model.owner != agent {
            assert_eq!(closed, Err(Refusal::NotOwner));
        } else {
            model.push(Did::Closed, who, device, cid, ts_ms);
            (model.is_closed, model.owner, model.ticket) = (true, None, None);
            let (s, vs) = (model.events.len() as u32, model.vs());
            assert_eq!(closed, Ok(Close::New { s, vs }));
        }
    }

    fn mark(&mut self, model: &mut Model, ix: ConvIx, party: bool, seen: u32, delivered: u32) {
        let head = if party { model.events.len() as u32 } else { model.vs() };
        let side = if party { Party::Agent } else { Party::Visitor };
        let was_clean = model.heard == model.written;
        if delivered <= head {
            let heard = &mut model.heard[usize::from(party)];
            heard.seen = heard.seen.max(seen);
            heard.delivered = heard.delivered.max(delivered);
        }
        let begins = match seen {
            0 => self.world.delivered(ix, side, delivered),
            _ => self.world.seen(ix, side, seen),
        };
        assert_eq!(begins, was_clean && model.heard != model.written);
    }

    fn compare(&self, model: &Model, ix: ConvIx) {
        let conversation = self.world.conversations.conversation(ix);
        assert_eq!((conversation.s, conversation.vs), (model.events.len() as u32, model.vs()));
        assert_eq!(conversation.status, model.status());
        assert_eq!(conversation.owner, model.owner.map(|agent| self.world.agents[agent]));
        assert_eq!((conversation.epoch, conversation.ticket), (model.epoch, model.ticket));
        let receipts = conversation.receipts;
        assert_eq!([receipts.visitor, receipts.agent], model.written);
        for (at, event) in model.events.iter().enumerate() {
            let s = at as u32 + 1;
            let view = self.world.conversations.event(ix, s).unwrap();
            assert_eq!((view.s, view.vs, view.ts), (s, event.vs, event.ts_ms));
            if !matches!(event.did, Did::Note(_)) {
                assert_eq!(self.world.conversations.s_of_vs(ix, event.vs), Some(s));
            }
        }
    }

    /// One turn of a checkpoint of all slots; a new one begins where the last has ended.
    fn checkpoint(&mut self, budget_size: usize) {
        let begin = self.world.log.len();
        let mut pass = self.pass.take().unwrap_or(Pass {
            begin,
            slot: 100,
            after: None,
            at: None,
            cursor: SnapCursor::new(),
        });
        while pass.at.is_none() {
            let slot = ringdesk_desk::id::Slot::new(pass.slot).unwrap();
            pass.at = self.world.conversations.next_in_slot(slot, pass.after);
            if pass.at.is_none() {
                (pass.slot, pass.after) = (pass.slot + 1, None);
                if pass.slot == 102 {
                    self.replay_from = pass.begin;
                    return;
                }
            }
        }
        if self.world.snapshot(pass.at.unwrap(), &mut pass.cursor, budget_size) {
            (pass.after, pass.at) = (pass.at, None);
        }
        self.pass = Some(pass);
    }

    /// However much of the log a restart reads, it comes to the same.
    fn restart(&self, also_from: usize) {
        let live = images(&self.world.conversations);
        for from in [0, self.replay_from, also_from % (self.replay_from + 1)] {
            let (after, damage) = replayed(&self.world.log[from..]);
            assert_eq!(damage, [], "from {from}");
            // What was marked but not written is gone, as it should be; images do not show it.
            assert_eq!(images(&after), live, "from {from} of {}", self.world.log.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_life_agrees_with_the_model_and_survives_a_restart_from_any_log(
        steps in prop::collection::vec(step(), 1..150),
        crash_at in 0..150usize,
        also_from in any::<usize>(),
    ) {
        let mut life = Life::new();
        for (at, &step) in steps.iter().enumerate() {
            if at == crash_at {
                life.restart(also_from);
            }
            life.take(step);
        }
        life.restart(also_from);
    }
}

#[test]
fn the_lives_above_reach_complete_checkpoints_with_words_in_between() {
    let mut life = Life::new();
    for visitor in 0..4 {
        life.take(Step::Start { visitor, device: 1, cid: 0 });
    }
    for round in 0..400u128 {
        let visitor = (round % 4) as usize;
        life.take(Step::Say {
            visitor,
            who: 0,
            note: false,
            device: 1 + round % 3,
            cid: 100 + round,
            body: 0,
        });
        life.take(Step::Checkpoint { budget_size: 700 });
    }
    assert!(life.replay_from > 50, "{}", life.replay_from);
    life.restart(life.replay_from / 2);
}
