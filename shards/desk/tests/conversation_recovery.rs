//! Recovery after damage: what is missing is named exactly, and the rest is served.

mod conversation_support;

use conversation_support::{World, Written, image, images, replayed};
use ringdesk_desk::conversation::{ConvIx, Damage, Party, Say, SnapCursor, Status, Who};
use ringdesk_desk::record::{Record, kind};

/// Two conversations, all kinds of events, no checkpoint.
fn lively() -> (World, ConvIx) {
    let mut world = World::new(16 << 20);
    let (ix, other) = (world.begin(0), world.begin(1));
    let agent = Who::Agent(world.agents[0]);
    world.queue(ix, 5);
    for cid in 0..3 {
        world.say(ix, Who::Visitor, false, 1, cid, "a").unwrap();
        world.say(other, Who::Visitor, false, 1, cid, "a").unwrap();
    }
    world.say(ix, agent, true, 2, 0, "note").unwrap();
    world.accept(ix, 0, 0, 2, 1).unwrap();
    world.say(ix, agent, false, 2, 2, "yes?").unwrap();
    world.seen(ix, Party::Visitor, 5);
    world.write_receipts(ix);
    world.close(ix, agent, 2, 3).unwrap();
    world.say(ix, Who::Visitor, false, 1, 4, "a").unwrap();
    world.accept(ix, 1, 1, 3, 1).unwrap();
    world.say(ix, Who::Agent(world.agents[1]), false, 3, 2, "again?").unwrap();
    world.say(ix, Who::Visitor, false, 1, 5, "a").unwrap();
    (world, ix)
}

fn without(log: &[Written], lost: usize) -> impl Iterator<Item = &Written> {
    log.iter().enumerate().filter(move |&(at, _)| at != lost).map(|(_, written)| written)
}

#[test]
fn a_lost_event_is_named_and_everything_else_stays() {
    let (world, ix) = lively();
    let conversation = world.conversations.conversation(ix);
    let c = conversation.id;
    for lost in 0..world.log.len() {
        let record = world.log[lost].record();
        let Some((s, _)) = record.numbers().filter(|_| record.conversation() == c) else { continue };
        if s == conversation.s {
            continue;
        }
        let (after, damage) = replayed(without(&world.log, lost));
        assert_eq!(damage, [Damage::Missing { c, from: s, to: s }]);
        let found = after.find(c).unwrap();
        assert_eq!(after.missing_in(found, 1, u32::MAX), Some((s, s)));
        assert_eq!(after.missing_in(found, s + 1, u32::MAX), None);
        for other in 1..=conversation.s {
            let expected = (other != s).then(|| world.conversations.record(ix, other).unwrap());
            assert_eq!(after.record(found, other), expected);
        }
        let state = after.conversation(found);
        assert_eq!((state.s, state.vs), (conversation.s, conversation.vs));
        assert_eq!(
            (state.status, state.owner, state.epoch),
            (conversation.status, conversation.owner, conversation.epoch)
        );
        for vs in 1..=conversation.vs {
            let expected = world.conversations.s_of_vs(ix, vs).filter(|&place| place != s);
            assert_eq!(after.s_of_vs(found, vs), expected);
        }
    }
}

#[test]
fn a_message_that_is_said_again_after_damage_took_it_is_stored_again() {
    let (world, ix) = lively();
    let c = world.conversations.conversation(ix).id;
    let lost = world.log.iter().position(|written| written.record().numbers() == Some((2, 2))).unwrap();
    let (after, _) = replayed(without(&world.log, lost));
    let Record::Message(message) = world.log[lost].record() else { panic!("a message") };
    let found = after.find(c).unwrap();
    let said =
        after.decide_say(found, Who::Visitor, false, message.device, message.cid, message.body_hash, 1);
    assert_eq!(said, Ok(Say::New { s: 13, vs: 12, reopens: false }));
}

#[test]
fn a_lost_beginning_is_named_and_the_visitor_still_has_his_conversation() {
    let (world, ix) = lively();
    let conversation = world.conversations.conversation(ix);
    let c = conversation.id;
    let (after, damage) = replayed(without(&world.log, 0));
    assert_eq!(damage, [Damage::Rebuilt { c, visitor_known: true }]);
    let found = after.of_visitor(conversation.visitor).unwrap();
    let state = after.conversation(found);
    assert_eq!((state.s, state.vs, state.status), (conversation.s, conversation.vs, conversation.status));
    assert_eq!((state.owner, state.epoch), (conversation.owner, conversation.epoch));
    for s in 1..=conversation.s {
        assert_eq!(after.record(found, s), world.conversations.record(ix, s));
    }
    let (device, cid) = (1, 5);
    let hash = conversation_support::hash_of("a");
    let said = after.decide_say(found, Who::Visitor, false, device, cid, hash, 1);
    assert!(matches!(said, Ok(Say::Known { s: 12, .. })), "{said:?}");
}

#[test]
fn a_conversation_of_which_nobody_can_be_told_is_closed_and_can_be_read() {
    let mut world = World::new(16 << 20);
    let ix = world.begin(0);
    let c = world.conversations.conversation(ix).id;
    world.queue(ix, 5);
    world.accept(ix, 0, 0, 2, 1).unwrap();
    world.say(ix, Who::Agent(world.agents[0]), false, 2, 2, "anybody?").unwrap();
    let (after, damage) = replayed(without(&world.log, 0));
    assert_eq!(damage, [Damage::Rebuilt { c, visitor_known: false }]);
    let found = after.find(c).unwrap();
    assert_eq!(after.conversation(found).status, Status::Closed);
    assert_eq!(after.of_visitor(world.visitors[0]), None);
    assert_eq!(after.record(found, 2), world.conversations.record(ix, 2));
}

#[test]
fn a_lost_part_of_a_checkpoint_costs_what_only_it_had() {
    let (mut world, ix) = lively();
    let c = world.conversations.conversation(ix).id;
    let begin = world.log.len();
    let mut cursor = SnapCursor::new();
    while !world.snapshot(ix, &mut cursor, 300) {}
    world.say(ix, Who::Visitor, false, 1, 6, "a").unwrap();
    let log = &world.log[begin..];
    let (after, damage) = replayed(log);
    assert_eq!(damage, []);
    assert_eq!(image(&after, c), image(&world.conversations, c));
    let mut covered = 0;
    for (lost, written) in log.iter().enumerate() {
        let (after, damage) = replayed(without(log, lost));
        match written.record() {
            Record::SnapshotEvents(events) => {
                let to = events.first + events.count - 1;
                assert_eq!(damage, [Damage::Missing { c, from: events.first, to }]);
                covered += events.count;
            }
            Record::SnapshotConversation(_) => {
                assert_eq!(damage, [Damage::Rebuilt { c, visitor_known: true }]);
                assert_eq!(after.conversation(after.find(c).unwrap()).s, 13);
            }
            _ => assert_eq!(damage, [], "the last number cannot be known to be missing"),
        }
        // What the old log still had makes the checkpoint's loss good.
        let (whole, damage) = replayed(world.log[..begin].iter().chain(without(log, lost)));
        if matches!(written.kind, kind::SNAPSHOT_EVENTS | kind::SNAPSHOT_CONVERSATION) {
            assert_eq!(damage, []);
            assert_eq!(image(&whole, c), image(&world.conversations, c));
        }
    }
    assert_eq!(covered, 12);
}

#[test]
fn a_gap_stays_named_through_a_checkpoint() {
    let (mut world, ix) = lively();
    let c = world.conversations.conversation(ix).id;
    let lost = world.log.iter().position(|written| written.record().numbers() == Some((2, 2))).unwrap();
    let (after, damage) = replayed(without(&world.log, lost));
    world.conversations = after;
    let begin = world.log.len();
    let mut cursor = SnapCursor::new();
    let all: Vec<_> = world.conversations.iter().collect();
    for ix in all {
        while !world.snapshot(ix, &mut cursor, 300) {}
    }
    let (again, damage_again) = replayed(&world.log[begin..]);
    assert_eq!(damage_again, damage);
    assert_eq!(images(&again), images(&world.conversations));
    assert_eq!(again.missing_in(again.find(c).unwrap(), 1, u32::MAX), Some((2, 2)));
}

#[test]
fn a_part_of_the_log_that_is_read_twice_changes_nothing() {
    let (mut world, ix) = lively();
    let begin = world.log.len();
    let mut cursor = SnapCursor::new();
    let all: Vec<_> = world.conversations.iter().collect();
    for ix in all {
        while !world.snapshot(ix, &mut cursor, 300) {}
    }
    let end = world.log.len();
    world.close(ix, Who::Visitor, 1, 9).unwrap();
    world.seen(ix, Party::Agent, 12);
    world.write_receipts(ix);
    world.say(ix, Who::Visitor, false, 1, 10, "a").unwrap();
    let twice = world.log.iter().chain(&world.log[begin..end]);
    let (after, damage) = replayed(twice);
    assert_eq!(damage, []);
    assert_eq!(images(&after), images(&world.conversations));
}
