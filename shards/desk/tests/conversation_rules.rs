//! The rules of conversations, one test for each.

mod conversation_support;

use conversation_support::{World, hash_of};
use ringdesk_desk::conversation::{
    ApplyError, Assign, Close, DEVICES_MAX, Party, REMEMBERED_PER_DEVICE, Refusal, Say, StartDecision,
    Status, Who,
};
use ringdesk_desk::encode::{AuthorKind, EventWhat};
use ringdesk_desk::record::{Cursor, Message, Record};

const ROOM: usize = 16 << 20;

fn new(s: u32, vs: u32) -> Result<Say, Refusal> {
    Ok(Say::New { s, vs, reopens: false })
}

#[test]
fn a_visitor_has_one_conversation_and_a_repeated_start_returns_it() {
    let mut world = World::new(ROOM);
    assert_eq!(world.start(0, 1, 50), Ok(StartDecision::New));
    let ix = world.conversations.of_visitor(world.visitors[0]).unwrap();
    assert_eq!(world.start(0, 1, 50), Ok(StartDecision::Returns { ix, is_repeated: true }));
    assert_eq!(world.start(0, 1, 51), Ok(StartDecision::Returns { ix, is_repeated: false }));
    assert_eq!(world.conversations.len(), 1);
    let conversation = world.conversations.conversation(ix);
    assert_eq!(conversation.id.slot(), world.visitors[0].slot());
    assert_eq!(conversation.status, Status::Waiting);
    assert_eq!((conversation.s, conversation.vs), (0, 0), "a start takes no number");
    assert_eq!(world.conversations.find(conversation.id), Some(ix));
}

#[test]
fn messages_count_on_both_streams_and_notes_on_the_agents_only() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let agent = Who::Agent(world.agents[0]);
    assert_eq!(world.say(ix, Who::Visitor, false, 1, 1, "hello"), new(1, 1));
    assert_eq!(world.say(ix, agent, true, 2, 1, "he again"), new(2, 1));
    assert_eq!(world.say(ix, agent, true, 2, 2, "who?"), new(3, 1));
    assert_eq!(world.accept(ix, 0, 0, 2, 3), Ok(Assign::New { s: 4, vs: 2, epoch: 1 }));
    assert_eq!(world.say(ix, agent, false, 2, 4, "hello!"), new(5, 3));
    assert_eq!(world.close(ix, agent, 2, 5), Ok(Close::New { s: 6, vs: 4 }));
    let places: Vec<_> = (0..=5).map(|vs| world.conversations.s_of_vs(ix, vs)).collect();
    assert_eq!(places, [None, Some(1), Some(4), Some(5), Some(6), None]);
}

#[test]
fn an_event_reads_back_with_its_author_and_his_name() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let agent = Who::Agent(world.agents[1]);
    world.say(ix, Who::Visitor, false, 1, 1, "你好").unwrap();
    world.say(ix, agent, true, 2, 1, "note").unwrap();
    world.accept(ix, 1, 0, 2, 2).unwrap();
    world.close(ix, Who::Visitor, 1, 2).unwrap();
    world.reopen(ix);
    let event = world.conversations.event(ix, 1).unwrap();
    let EventWhat::Message { from, body } = event.what else { panic!("{event:?}") };
    assert_eq!((from.kind, from.name, body), (AuthorKind::Visitor, "Visitor 0", "你好"));
    assert_eq!(from.id, world.visitors[0].bits());
    let event = world.conversations.event(ix, 2).unwrap();
    let EventWhat::Note { from, body } = event.what else { panic!("{event:?}") };
    assert_eq!(
        (from.id, from.name, body),
        (world.agents[1].bits(), "", "note"),
        "as it was told, before he joined"
    );
    let joined = world.conversations.event(ix, 3).unwrap().what;
    assert_eq!(joined, EventWhat::Joined { agent: world.agents[1], name: "Agent 1" });
    assert!(matches!(world.conversations.event(ix, 4).unwrap().what, EventWhat::Closed { .. }));
    assert!(matches!(world.conversations.event(ix, 5).unwrap().what, EventWhat::Reopened { .. }));
    assert_eq!(world.conversations.event(ix, 6), None);
    assert_eq!(world.conversations.event(ix, 0), None);
    world.say(ix, agent, true, 2, 3, "another").unwrap();
    let event = world.conversations.event(ix, 6).unwrap();
    let EventWhat::Note { from, .. } = event.what else { panic!("{event:?}") };
    assert_eq!(from.name, "Agent 1", "he has joined by now");
    assert_eq!(world.conversations.missing_in(ix, 1, u32::MAX), None);
}

#[test]
fn the_same_cid_with_the_same_content_gets_the_same_answer_whatever_has_happened_since() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let agent = Who::Agent(world.agents[0]);
    world.say(ix, Who::Visitor, false, 1, 1, "hello").unwrap();
    world.accept(ix, 0, 0, 2, 1).unwrap();
    world.say(ix, agent, false, 2, 2, "yes?").unwrap();
    world.close(ix, agent, 2, 3).unwrap();
    let written = world.log.len();
    let ts_ms = |s| world.conversations.event(ix, s).unwrap().ts;
    let (said, joined, answered, closed) = (ts_ms(1), ts_ms(2), ts_ms(3), ts_ms(4));
    assert_eq!(
        world.say(ix, Who::Visitor, false, 1, 1, "hello"),
        Ok(Say::Known { s: 1, vs: 1, ts_ms: said }),
        "and it does not reopen"
    );
    assert_eq!(world.accept(ix, 0, 0, 2, 1), Ok(Assign::Known { s: 2, vs: 2, ts_ms: joined }));
    assert_eq!(world.say(ix, agent, false, 2, 2, "yes?"), Ok(Say::Known { s: 3, vs: 3, ts_ms: answered }));
    assert_eq!(world.close(ix, agent, 2, 3), Ok(Close::Known { s: 4, vs: 4, ts_ms: closed }));
    assert_eq!(world.log.len(), written, "nothing is written twice");
}

#[test]
fn a_cid_used_for_something_else_is_a_conflict_and_the_first_stays() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let (agent, other) = (Who::Agent(world.agents[0]), Who::Agent(world.agents[1]));
    world.say(ix, Who::Visitor, false, 1, 1, "hello").unwrap();
    world.say(ix, agent, true, 2, 1, "note").unwrap();
    let conflict = Err(Refusal::IdConflict);
    assert_eq!(world.say(ix, Who::Visitor, false, 1, 1, "hello?"), conflict);
    assert_eq!(world.say(ix, agent, true, 1, 1, "hello"), conflict, "another author");
    assert_eq!(world.say(ix, other, true, 2, 1, "note"), conflict, "another agent");
    assert_eq!(world.say(ix, agent, false, 2, 1, "note"), conflict, "a message for a note");
    assert_eq!(world.accept(ix, 0, 0, 2, 1), Err(Refusal::IdConflict));
    assert_eq!(world.close(ix, Who::Visitor, 1, 1), Err(Refusal::IdConflict));
    assert!(matches!(world.say(ix, Who::Visitor, false, 1, 1, "hello"), Ok(Say::Known { s: 1, .. })));
}

#[test]
fn the_same_cid_of_another_device_or_in_another_conversation_is_another_message() {
    let mut world = World::new(ROOM);
    let (ix, other) = (world.begin(0), world.begin(1));
    assert_eq!(world.say(ix, Who::Visitor, false, 1, 1, "hello"), new(1, 1));
    assert_eq!(world.say(ix, Who::Visitor, false, 2, 1, "hello"), new(2, 2));
    assert_eq!(world.say(other, Who::Visitor, false, 1, 1, "hello"), new(1, 1));
}

#[test]
fn the_last_256_of_a_device_are_remembered_and_another_device_pushes_none_out() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let count = u128::from(REMEMBERED_PER_DEVICE) + 1;
    world.say(ix, Who::Visitor, false, 9, 1, "first").unwrap();
    for cid in 0..count {
        world.say(ix, Who::Visitor, false, 1, cid, "again and again").unwrap();
    }
    for cid in 1..count {
        let said = world.say(ix, Who::Visitor, false, 1, cid, "again and again");
        assert!(matches!(said, Ok(Say::Known { s, .. }) if u128::from(s) == cid + 2), "{cid}: {said:?}");
    }
    assert!(matches!(world.say(ix, Who::Visitor, false, 9, 1, "first"), Ok(Say::Known { s: 1, .. })));
    assert!(matches!(world.say(ix, Who::Visitor, false, 1, 0, "again and again"), Ok(Say::New { .. })));
}

#[test]
fn a_visitors_message_reopens_a_closed_conversation_and_a_note_does_not() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let agent = Who::Agent(world.agents[0]);
    world.accept(ix, 0, 0, 2, 1).unwrap();
    world.close(ix, agent, 2, 2).unwrap();
    assert_eq!(world.say(ix, agent, true, 2, 3, "done"), new(3, 2));
    assert_eq!(world.conversations.conversation(ix).status, Status::Closed);
    let said = world.say(ix, Who::Visitor, false, 1, 1, "one more thing");
    assert_eq!(said, Ok(Say::New { s: 5, vs: 4, reopens: true }));
    let conversation = world.conversations.conversation(ix);
    assert_eq!((conversation.status, conversation.owner), (Status::Waiting, None));
    assert_eq!((conversation.s, conversation.vs), (5, 4));
    assert!(matches!(world.conversations.event(ix, 4).unwrap().what, EventWhat::Reopened { .. }));
    assert_eq!(world.conversations.decide_reopen(ix), None);
}

#[test]
fn only_the_owner_speaks_to_the_visitor() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let (owner, other) = (Who::Agent(world.agents[0]), Who::Agent(world.agents[1]));
    assert_eq!(world.say(ix, owner, false, 2, 1, "hi"), Err(Refusal::NotOwner), "nobody's yet");
    world.accept(ix, 0, 0, 2, 2).unwrap();
    assert_eq!(world.say(ix, other, false, 3, 1, "hi"), Err(Refusal::NotOwner));
    assert_eq!(world.say(ix, other, true, 3, 1, "hi"), new(2, 1), "but any agent may note");
    assert_eq!(world.say(ix, owner, false, 2, 1, "hi"), new(3, 2));
    world.close(ix, owner, 2, 3).unwrap();
    assert_eq!(world.say(ix, owner, false, 2, 4, "bye"), Err(Refusal::Closed));
}

#[test]
fn an_assignment_needs_a_waiting_conversation_as_the_dispatcher_knew_it() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    world.queue(ix, 77);
    assert_eq!(world.conversations.conversation(ix).ticket, Some(77));
    assert_eq!(world.accept(ix, 0, 1, 2, 1), Err(Refusal::Stale));
    assert_eq!(world.accept(ix, 0, 0, 2, 1), Ok(Assign::New { s: 1, vs: 1, epoch: 1 }));
    assert_eq!(world.accept(ix, 1, 0, 3, 1), Err(Refusal::Stale), "somebody was faster");
    assert_eq!(world.accept(ix, 1, 1, 3, 1), Err(Refusal::Stale), "it does not wait");
    let conversation = world.conversations.conversation(ix);
    assert_eq!((conversation.status, conversation.owner), (Status::Open, Some(world.agents[0])));
    assert_eq!((conversation.ticket, conversation.epoch), (None, 1));
    world.close(ix, Who::Visitor, 1, 1).unwrap();
    assert_eq!(world.accept(ix, 1, 1, 3, 1), Err(Refusal::Stale), "it is closed");
    world.reopen(ix);
    assert_eq!(world.accept(ix, 1, 1, 3, 1), Ok(Assign::New { s: 4, vs: 4, epoch: 2 }));
}

#[test]
fn the_owner_or_the_visitor_closes_once() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let (owner, other) = (Who::Agent(world.agents[0]), Who::Agent(world.agents[1]));
    assert_eq!(world.close(ix, owner, 2, 1), Err(Refusal::NotOwner));
    world.accept(ix, 0, 0, 2, 2).unwrap();
    assert_eq!(world.close(ix, other, 3, 1), Err(Refusal::NotOwner));
    assert_eq!(world.close(ix, owner, 2, 1), Ok(Close::New { s: 2, vs: 2 }));
    assert_eq!(world.close(ix, owner, 2, 9), Err(Refusal::Closed));
    assert_eq!(world.close(ix, Who::Visitor, 1, 9), Err(Refusal::Closed));
    let conversation = world.conversations.conversation(ix);
    assert_eq!((conversation.status, conversation.owner), (Status::Closed, None));
    world.say(ix, Who::Visitor, false, 1, 10, "again").unwrap();
    assert!(matches!(world.close(ix, Who::Visitor, 1, 11), Ok(Close::New { .. })), "also while it waits");
}

#[test]
fn receipts_only_grow_never_pass_the_head_and_are_true_once_written() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    for cid in 0..3 {
        world.say(ix, Who::Visitor, false, 1, cid, "hello").unwrap();
    }
    world.say(ix, Who::Agent(world.agents[0]), true, 2, 1, "note").unwrap();
    assert!(!world.seen(ix, Party::Visitor, 4), "the visitor's stream has three");
    assert!(!world.conversations.receipts_dirty(ix));
    assert!(world.delivered(ix, Party::Agent, 4), "the second begins");
    assert!(!world.seen(ix, Party::Agent, 2), "it has begun");
    assert!(!world.seen(ix, Party::Agent, 1));
    assert!(!world.seen(ix, Party::Visitor, 3));
    assert_eq!(world.conversations.conversation(ix).receipts, Default::default(), "not yet true");
    assert!(world.write_receipts(ix));
    let receipts = world.conversations.conversation(ix).receipts;
    assert_eq!(receipts.agent, Cursor { seen: 2, delivered: 4 });
    assert_eq!(receipts.visitor, Cursor { seen: 3, delivered: 3 }, "what was seen was delivered");
    assert!(!world.write_receipts(ix), "nothing new");
    assert_eq!(world.conversations.decide_delivered(ix, Party::Visitor, 3), None);
    let c = world.conversations.conversation(ix).id;
    let lower = Cursor { seen: 1, delivered: 1 };
    world.put(&Record::Receipts { c, visitor: lower, agent: lower });
    assert_eq!(world.conversations.conversation(ix).receipts, receipts, "they merge by maximum");
}

#[test]
fn the_preview_is_the_beginning_of_the_last_message_and_ends_between_characters() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    assert_eq!(world.conversations.preview(ix), "");
    world.say(ix, Who::Visitor, false, 1, 1, &"价".repeat(100)).unwrap();
    world.say(ix, Who::Agent(world.agents[0]), true, 2, 1, "note").unwrap();
    assert_eq!(world.conversations.preview(ix), "价".repeat(53));
    world.say(ix, Who::Visitor, false, 1, 2, "short").unwrap();
    assert_eq!((world.conversations.preview(ix), world.conversations.name(ix)), ("short", "Visitor 0"));
}

#[test]
fn full_memory_refuses_starts_first_and_messages_later_and_repetitions_never() {
    let mut world = World::new(1 << 20);
    let ix = world.begin(0);
    let body = "x".repeat(1000);
    let mut cid = 0;
    let mut start_refused_at = None;
    while let Ok(said) = world.say(ix, Who::Visitor, false, 1, cid, &body) {
        assert!(matches!(said, Say::New { .. }));
        cid += 1;
        let stranger = world.another_visitor();
        let id = world.visitors[stranger];
        if start_refused_at.is_none() && world.conversations.decide_start(id, 1, 1).is_err() {
            assert_eq!(world.conversations.decide_start(id, 1, 1), Err(Refusal::Overloaded));
            start_refused_at = Some(world.conversations.hot_bytes());
        }
    }
    assert_eq!(world.say(ix, Who::Visitor, false, 1, cid, &body), Err(Refusal::Overloaded));
    assert!(world.conversations.hot_bytes() <= 1 << 20);
    assert!(world.conversations.hot_bytes() > (1 << 20) - 4096);
    assert!(start_refused_at.unwrap() < (1 << 20) - (1 << 20) / 9);
    assert!(matches!(world.say(ix, Who::Visitor, false, 1, cid - 1, &body), Ok(Say::Known { .. })));
    assert!(matches!(world.start(0, 1, 1_000), Ok(StartDecision::Returns { is_repeated: true, .. })));
    // A change of state has a reserve: what takes no more words can still be taken and closed.
    assert!(matches!(world.accept(ix, 0, 0, 2, 1), Ok(Assign::New { .. })));
    assert!(matches!(world.close(ix, Who::Agent(world.agents[0]), 2, 2), Ok(Close::New { .. })));
    // Nothing that a visitor says, not even to have it opened again, may use it.
    assert_eq!(world.say(ix, Who::Visitor, false, 1, cid, &body), Err(Refusal::Overloaded));
}

/// With a new device each time he would fill the table that agents' devices need too.
#[test]
fn a_visitor_of_many_devices_does_not_keep_agents_out() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    let mut devices = 1;
    while world.say(ix, Who::Visitor, false, 1_000 + devices, 1, "x").is_ok() {
        devices += 1;
        assert!(devices <= u128::from(DEVICES_MAX), "he is stopped");
    }
    assert_eq!(devices - 1, u128::from(DEVICES_MAX) / 4, "a quarter");
    assert!(matches!(world.say(ix, Who::Visitor, false, 1_001, 2, "known"), Ok(Say::New { .. })));
    assert!(matches!(world.accept(ix, 0, 0, 7, 1), Ok(Assign::New { .. })));
    let agent = Who::Agent(world.agents[0]);
    assert!(matches!(world.say(ix, agent, false, 8, 1, "from another browser"), Ok(Say::New { .. })));
    assert!(matches!(world.close(ix, agent, 9, 1), Ok(Close::New { .. })));
}

#[test]
fn a_record_that_was_not_decided_is_our_fault_and_changes_nothing() {
    let mut world = World::new(ROOM);
    let ix = world.begin(0);
    world.say(ix, Who::Visitor, false, 1, 1, "hello").unwrap();
    let c = world.conversations.conversation(ix).id;
    let visitor = world.visitors[0].bits();
    let message = Message {
        c,
        s: 2,
        vs: 2,
        ts_ms: 5,
        author_kind: AuthorKind::Visitor,
        author: visitor,
        device: 1,
        cid: 2,
        body_hash: hash_of("x"),
        body: "x",
    };
    let before = conversation_support::image(&world.conversations, c);
    let mut refused = |record: Record<'_>| world.conversations.apply(&record).unwrap_err();
    let wrong = ApplyError::Number { expected: (2, 2), found: (3, 2) };
    assert_eq!(refused(Record::Message(Message { s: 3, ..message })), wrong, "a gap");
    let wrong = ApplyError::Number { expected: (2, 2), found: (1, 1) };
    assert_eq!(refused(Record::Message(Message { s: 1, vs: 1, ..message })), wrong, "once more");
    let wrong = ApplyError::Number { expected: (2, 1), found: (2, 2) };
    assert_eq!(refused(Record::Note(message)), wrong, "a note that advances the visitor's stream");
    let stranger = world.visitors[1].bits();
    assert_eq!(refused(Record::Message(Message { author: stranger, ..message })), ApplyError::Author);
    let not_owner = Message { author_kind: AuthorKind::Agent, author: world.agents[0].bits(), ..message };
    assert_eq!(refused(Record::Message(not_owner)), ApplyError::State(Status::Waiting));
    let started = world.log[0].clone();
    assert_eq!(refused(started.record()), ApplyError::AlreadyStarted);
    assert_eq!(conversation_support::image(&world.conversations, c), before);
}

#[test]
fn a_slot_lists_its_conversations_in_order_and_new_ones_come_last() {
    let mut world = World::new(ROOM);
    let all: Vec<_> = (0..4).map(|visitor| world.begin(visitor)).collect();
    let slot = world.visitors[0].slot();
    let first = world.conversations.next_in_slot(slot, None);
    assert_eq!((first, world.conversations.next_in_slot(slot, first)), (Some(all[0]), Some(all[2])));
    assert_eq!(world.conversations.next_in_slot(slot, Some(all[2])), None);
    assert_eq!(world.conversations.iter().collect::<Vec<_>>(), all);
}

#[test]
fn thousands_of_conversations_are_found_by_id_and_by_visitor() {
    let mut world = World::new(64 << 20);
    for _ in 0..10_000 {
        let visitor = world.another_visitor();
        world.begin(visitor);
    }
    for &visitor in &world.visitors[4..] {
        let ix = world.conversations.of_visitor(visitor).unwrap();
        let conversation = world.conversations.conversation(ix);
        assert_eq!(conversation.visitor, visitor);
        assert_eq!(world.conversations.find(conversation.id), Some(ix));
    }
    assert_eq!(world.conversations.of_visitor(world.visitors[0]), None);
}

#[test]
fn the_cid_of_a_start_is_no_other_things_and_the_other_way_round() {
    let mut world = World::new(ROOM);
    assert_eq!(world.start(0, 1, 10), Ok(StartDecision::New));
    let ix = world.conversations.of_visitor(world.visitors[0]).unwrap();
    assert_eq!(world.say(ix, Who::Visitor, false, 1, 10, "x"), Err(Refusal::IdConflict));
    assert_eq!(world.close(ix, Who::Visitor, 1, 10), Err(Refusal::IdConflict));
    assert!(matches!(world.say(ix, Who::Visitor, false, 1, 11, "x"), Ok(Say::New { .. })));
    assert_eq!(world.start(0, 1, 11), Err(Refusal::IdConflict));
    assert_eq!(world.start(0, 1, 10), Ok(StartDecision::Returns { ix, is_repeated: true }));
    // What another device calls by that name is something else.
    assert_eq!(world.start(0, 2, 11), Ok(StartDecision::Returns { ix, is_repeated: false }));
    assert!(matches!(world.say(ix, Who::Visitor, false, 2, 10, "x"), Ok(Say::New { .. })));
}

/// One visitor could fill the memory of all.
#[test]
fn the_words_of_one_conversation_take_a_part_of_the_memory_and_the_others_go_on() {
    let bytes_max = 64 << 20;
    let mut world = World::new(bytes_max);
    let (ix, other) = (world.begin(0), world.begin(1));
    let body = "x".repeat(40_000);
    let mut cid = 100;
    while world.say(ix, Who::Visitor, false, 1, cid, &body).is_ok() {
        cid += 1;
    }
    assert_eq!(world.say(ix, Who::Visitor, false, 1, cid, &body), Err(Refusal::Full));
    let used = world.conversations.hot_bytes();
    assert!(used <= bytes_max / 16 + (1 << 16) && used > bytes_max / 17, "{used}");
    assert!(matches!(world.say(other, Who::Visitor, false, 1, cid, &body), Ok(Say::New { .. })));
    // It can still be taken and closed, and a repetition is known.
    assert!(matches!(world.accept(ix, 0, 0, 2, 1), Ok(Assign::New { .. })));
    assert!(matches!(world.close(ix, Who::Agent(world.agents[0]), 2, 2), Ok(Close::New { .. })));
    assert!(matches!(world.say(ix, Who::Visitor, false, 1, cid - 1, &body), Ok(Say::Known { .. })));
    // The same after a restart.
    let (again, damage) = conversation_support::replayed(&world.log);
    assert!(damage.is_empty());
    let ix = again.of_visitor(world.visitors[0]).unwrap();
    let said = again.decide_say(ix, Who::Visitor, false, 1, cid, 1, body.len());
    assert_eq!(said, Err(Refusal::Full));
}
