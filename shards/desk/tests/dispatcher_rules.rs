//! One script per rule of the dispatcher.

mod dispatcher_support;

use dispatcher_support::*;
use ringdesk_desk::conversation::Status;
use ringdesk_desk::dispatcher::{Out, POSITIONS_EVERY_MS, POSITIONS_TOLD, RefuseCode, Row, Short, Totals};
use ringdesk_desk::request::Availability::{Away, Busy, Online};

#[test]
fn tickets_rise_in_the_order_of_arrival_and_the_queue_follows_them() {
    let mut desk = Desk::open();
    assert_eq!(tickets(&desk.wait(3)), [(3, 1)]);
    assert_eq!(tickets(&desk.wait(1)), [(1, 2)]);
    assert_eq!(tickets(&desk.wait(2)), [(2, 3)]);
    assert_eq!(desk.queue(), [3, 1, 2]);
    assert_eq!(desk.inner.position(conversation(2)), Some(3));
    assert_eq!(desk.inner.position(conversation(9)), None);
}

#[test]
fn a_new_ticket_is_above_every_ticket_ever_announced() {
    let mut desk = Desk::open();
    desk.announce(Row { ticket: Some(41), ..waiting(conversation(1), 0) });
    // Even of one that no longer waits.
    let owner = Some(agent(1));
    desk.announce(Row {
        status: Status::Open,
        owner,
        epoch: 1,
        ticket: Some(70),
        ..waiting(conversation(2), 0)
    });
    assert_eq!(tickets(&desk.wait(3)), [(3, 71)]);
}

#[test]
fn after_a_restart_those_with_tickets_come_first_and_the_others_by_age() {
    let mut desk = Desk::closed(2);
    desk.online(1, 1);
    let mut out = Vec::new();
    for (home, number, since, ticket) in [
        (0, 1, 300, None),
        (1, 2, 900, Some(12)),
        (0, 3, 100, None),
        (1, 5, 100, None),
        (1, 4, 950, Some(10)),
    ] {
        let row = Row { ticket, ..waiting(conversation(number), since) };
        out.extend(desk.call(|d, now, out| d.on_announce(now, home, row, out)));
    }
    out.extend(desk.call(|d, now, out| d.on_announce_end(now, 1, out)));
    assert!(tickets(&out).is_empty() && offers(&out).is_empty(), "not before every home has announced");
    let out = desk.call(|d, now, out| d.on_announce_end(now, 0, out));
    // 3 and 5 have waited equally long; ids decide, and 5 lies in slot 1 while 3 lies in slot 3.
    assert_eq!(tickets(&out), [(5, 13), (3, 14), (1, 15)]);
    assert_eq!(desk.queue(), [4, 2, 5, 3, 1]);
    assert_eq!(offers(&out), [(1, 4, 1)]);
}

#[test]
fn before_every_home_has_announced_an_accept_is_refused_as_unavailable() {
    let mut desk = Desk::closed(2);
    desk.online(1, 5);
    desk.wait(1);
    desk.call(|d, now, out| d.on_announce_end(now, 0, out));
    desk.call(|d, now, out| d.on_announce_end(now, 0, out));
    assert!(!desk.inner.is_whole());
    let (request, out) = desk.accept(1, 1, None);
    let (c, agent) = (conversation(1), agent(1));
    assert_eq!(out, [Out::Refuse { c, agent, request, code: RefuseCode::Unavailable }]);
    desk.call(|d, now, out| d.on_announce_end(now, 1, out));
    assert_eq!(assigned(&desk.accept(1, 1, None).1), Some(0));
}

#[test]
fn an_announcement_without_its_ticket_keeps_its_place_and_the_ticket_is_said_again() {
    let mut desk = Desk::open();
    desk.wait(1);
    desk.wait(2);
    // The visitor writes again before the home has journaled the ticket, and the time of the last text moves.
    // (Or it had journaled it for a wait that ended and began again before anything was announced.)
    let out = desk.announce(waiting(conversation(1), 99_999));
    assert_eq!(tickets(&out), [(1, 1)]);
    assert_eq!(desk.queue(), [1, 2]);
    desk.announce(Row { ticket: Some(1), ..waiting(conversation(1), 99_999) });
    assert_eq!(desk.queue(), [1, 2]);
}

#[test]
fn who_comes_back_waits_behind_the_others_even_if_the_close_was_never_seen() {
    let mut desk = Desk::open();
    desk.wait(1);
    desk.announce(Row { ticket: Some(1), ..waiting(conversation(1), 0) });
    desk.wait(2);
    assert_eq!(tickets(&desk.announce(waiting(conversation(1), 50))), [(1, 3)]);
    assert_eq!(desk.queue(), [2, 1]);
    // And with an assignment between that was never seen either.
    let out = desk.announce(Row { epoch: 1, ..waiting(conversation(2), 60) });
    assert_eq!(tickets(&out), [(2, 4)]);
    assert_eq!(desk.queue(), [1, 2]);
}

#[test]
fn the_head_is_offered_to_the_least_loaded_agent_alone() {
    let mut desk = Desk::open();
    desk.online(1, 5);
    desk.wait(1);
    desk.take(1, 1);
    assert!(offers(&desk.online(2, 5)).is_empty());
    let out = desk.wait(2);
    assert_eq!(offers(&out), [(2, 2, 2)]);
    let Some(Out::Offer { ttl_ms, name, preview, .. }) =
        out.iter().find(|out| matches!(out, Out::Offer { .. }))
    else {
        panic!("{out:?}")
    };
    assert_eq!((*ttl_ms, name.as_str(), preview.as_str()), (TTL, "Ann", "Hello?"));
}

#[test]
fn among_equally_loaded_agents_the_longest_without_an_offer_is_asked_and_then_the_lower_id() {
    let mut desk = Desk::open();
    for number in [3, 1, 2] {
        desk.online(number, 9);
    }
    assert_eq!(offers(&desk.wait(1)), [(1, 1, 1)]);
    assert_eq!(offers(&desk.close(1, 0)), []);
    assert_eq!(offers(&desk.wait(2)), [(2, 2, 2)]);
    desk.close(2, 0);
    assert_eq!(offers(&desk.wait(3)), [(3, 3, 3)]);
    desk.close(3, 0);
    assert_eq!(offers(&desk.wait(4)), [(1, 4, 4)]);
}

#[test]
fn as_many_conversations_are_offered_at_once_as_agents_are_free() {
    let mut desk = Desk::open();
    for number in 1..=5 {
        desk.wait(number);
    }
    assert_eq!(offers(&desk.online(1, 4)), [(1, 1, 1)]);
    assert_eq!(offers(&desk.online(2, 1)), [(2, 2, 2)]);
    assert_eq!(desk.inner.totals(), Totals { waiting: 5, offered: 2, present: 2, ..Totals::default() });
    // Who accepts gets the next if he has another place.
    let (request, out) = desk.accept(2, 2, Some(2));
    assert_eq!(offers(&out), []);
    assert_eq!(offers(&desk.result(2, 2, request, Ok(1))), []);
    assert_eq!(offers(&desk.accept(1, 1, Some(1)).1), [(1, 3, 3)]);
}

#[test]
fn an_offer_that_runs_out_goes_to_the_next_who_was_not_asked_in_this_round() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.online(2, 1);
    assert_eq!(offers(&desk.wait(1)), [(1, 1, 1)]);
    assert_eq!(gone(&desk.pass(u64::from(TTL) - 1)), []);
    assert_eq!(desk.inner.next_deadline(), Some(desk.now + 1));
    let out = desk.pass(1);
    assert_eq!((gone(&out), offers(&out)), (vec![(1, 1)], vec![(2, 1, 2)]));
    // Both were asked: it waits one offer time, then both may be asked again.
    let out = desk.pass(u64::from(TTL));
    assert_eq!((gone(&out), offers(&out)), (vec![(2, 1)], vec![]));
    assert_eq!(offers(&desk.pass(u64::from(TTL) - 1)), []);
    assert_eq!(offers(&desk.pass(1)), [(1, 1, 3)]);
}

#[test]
fn a_decline_passes_the_offer_on_and_frees_him_for_the_next_conversation() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.online(2, 1);
    desk.wait(1);
    let out = desk.decline(1, 1, 1);
    assert_eq!((gone(&out), offers(&out)), (vec![(1, 1)], vec![(2, 1, 2)]));
    assert_eq!(offers(&desk.wait(2)), [(1, 2, 3)]);
    // A late word about an offer that is gone, or another's, changes nothing.
    assert_eq!(desk.decline(1, 1, 1), []);
    assert_eq!(desk.decline(1, 1, 2), []);
    assert_eq!(desk.decline(2, 1, 77), []);
}

#[test]
fn a_conversation_that_somebody_refused_is_still_offered_before_later_ones() {
    let mut desk = Desk::open();
    desk.wait(1);
    desk.wait(2);
    desk.wait(3);
    desk.online(1, 1);
    assert_eq!(offers(&desk.decline(1, 1, 1)), [(1, 2, 2)]);
    assert_eq!(offers(&desk.online(2, 1)), [(2, 1, 3)]);
}

#[test]
fn a_manual_accept_beats_an_offer_to_somebody_else() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.wait(1);
    desk.online(2, 1);
    let (request, out) = desk.accept(2, 1, None);
    assert_eq!(gone(&out), [(1, 1)]);
    assert_eq!(assigned(&out), Some(0));
    let (_, late) = desk.accept(1, 1, Some(1));
    assert_eq!(refused(&late), Some(RefuseCode::Stale));
    let (_, late) = desk.accept(1, 1, None);
    assert_eq!(refused(&late), Some(RefuseCode::Stale));
    desk.result(2, 1, request, Ok(1));
    assert_eq!((desk.load(1), desk.load(2)), (0, 1));
}

#[test]
fn a_place_is_kept_for_an_offer_but_gives_way_to_what_he_takes_by_hand() {
    let mut desk = Desk::open();
    desk.online(1, 2);
    desk.wait(1);
    assert_eq!(desk.load(1), 1, "the offer counts");
    desk.wait(2);
    desk.wait(3);
    // Two places: the offer of 1 stands.
    let (_, out) = desk.accept(1, 3, None);
    assert_eq!((gone(&out), desk.load(1)), (vec![], 2));
    // One place: the offer of 1 makes room and nobody is said to have refused it.
    let (_, out) = desk.accept(1, 2, None);
    assert_eq!((gone(&out), desk.load(1)), (vec![(1, 1)], 2));
    assert_eq!(offers(&desk.online(2, 1)), [(2, 1, 2)]);
    assert_eq!(refused(&desk.accept(1, 1, None).1), Some(RefuseCode::Quota));
}

#[test]
fn nobody_is_given_more_than_his_capacity() {
    let mut desk = Desk::open();
    for number in 1..=4 {
        desk.wait(number);
    }
    desk.online(1, 2);
    let (first, _) = desk.accept(1, 1, Some(1));
    desk.accept(1, 2, None);
    assert_eq!(refused(&desk.accept(1, 3, None).1), Some(RefuseCode::Quota));
    // The home refuses the first: its place is free again, and goes to the next in line.
    let out = desk.result(1, 1, first, Err(()));
    assert_eq!(offers(&out), [(1, 3, 3)]);
    assert_eq!(desk.queue(), [1, 2, 3, 4]);
}

/// It would be offered to him again at once, and again, as long as its home has no room for it.
#[test]
fn a_home_that_refuses_is_asked_by_another_agent_or_in_the_next_round() {
    let mut desk = Desk::open();
    desk.wait(1);
    desk.online(1, 1);
    let (request, _) = desk.accept(1, 1, Some(1));
    assert_eq!(offers(&desk.result(1, 1, request, Err(()))), []);
    assert_eq!(offers(&desk.online(2, 1)), [(2, 1, 2)]);
    let (request, _) = desk.accept(2, 1, Some(2));
    assert_eq!(offers(&desk.result(2, 1, request, Err(()))), []);
    assert_eq!(offers(&desk.pass(u64::from(TTL) - 1)), []);
    assert_eq!(offers(&desk.pass(1)).len(), 1, "the round is over");
}

#[test]
fn a_lower_capacity_takes_nothing_away_and_stops_what_is_new() {
    let mut desk = Desk::open();
    desk.online(1, 3);
    for number in 1..=2 {
        desk.wait(number);
        desk.take(1, number);
    }
    desk.wait(3);
    let out = desk.say(1, Online, 1);
    assert_eq!(gone(&out), [(1, 3)], "an offer that could not be accepted any more is taken back");
    assert_eq!(desk.load(1), 2);
    assert_eq!(desk.inner.rows_of(agent(1), None).count(), 2);
    assert_eq!(refused(&desk.accept(1, 3, None).1), Some(RefuseCode::Quota));
    assert_eq!(offers(&desk.close(1, 1)), []);
    assert_eq!(offers(&desk.close(2, 1)), [(1, 3, 4)]);
}

#[test]
fn a_closed_conversation_frees_its_place() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.wait(1);
    desk.take(1, 1);
    desk.wait(2);
    let out = desk.close(1, 1);
    assert_eq!(offers(&out), [(1, 2, 2)]);
    let closed = out.iter().any(|out| matches!(out, Out::Row(row) if row.status == Status::Closed));
    assert!(closed, "the lists hear of it: {out:?}");
    assert_eq!(refused(&desk.accept(1, 1, None).1), Some(RefuseCode::NotFound));
}

#[test]
fn only_who_is_online_is_offered_something_but_anybody_may_take_by_hand() {
    let mut desk = Desk::open();
    desk.wait(1);
    desk.wait(2);
    assert_eq!(offers(&desk.presence(1, 0, 1, Some((Away, 5)))), []);
    assert_eq!(offers(&desk.presence(2, 0, 1, Some((Busy, 5)))), []);
    assert_eq!(assigned(&desk.accept(1, 2, None).1), Some(0));
    assert_eq!(offers(&desk.say(2, Online, 5)), [(2, 1, 1)]);
    assert_eq!(gone(&desk.say(2, Away, 5)), [(2, 1)]);
    // He did not refuse it: back online he is asked again.
    assert_eq!(offers(&desk.say(2, Online, 5)), [(2, 1, 2)]);
}

#[test]
fn an_agent_is_there_while_any_shard_has_a_session_of_his() {
    let mut desk = Desk::open();
    desk.presence(1, 0, 2, Some((Online, 3)));
    desk.presence(1, 1, 1, None);
    desk.wait(1);
    assert_eq!(gone(&desk.presence(1, 0, 0, None)), []);
    assert_eq!(gone(&desk.presence(1, 1, 0, None)), [(1, 1)]);
    assert_eq!(refused(&desk.accept(1, 1, None).1), Some(RefuseCode::Unavailable));
    assert_eq!(offers(&desk.presence(1, 1, 1, None)), [(1, 1, 2)], "his word still stands");
}

#[test]
fn an_agent_who_leaves_keeps_his_open_conversations() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.wait(1);
    desk.take(1, 1);
    desk.presence(1, 0, 0, None);
    assert_eq!(desk.load(1), 1);
    desk.wait(2);
    assert_eq!(offers(&desk.online(1, 1)), [], "and they count when he is back");
}

#[test]
fn an_assignment_that_was_under_way_when_he_left_still_becomes_his() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.wait(1);
    let (request, _) = desk.accept(1, 1, Some(1));
    desk.presence(1, 0, 0, None);
    desk.result(1, 1, request, Ok(1));
    assert_eq!(desk.inner.rows_of(agent(1), None).map(|row| row.c).collect::<Vec<_>>(), [conversation(1)]);
}

#[test]
fn the_announcement_and_the_answer_may_come_in_either_order() {
    for announced_first in [true, false] {
        let mut desk = Desk::open();
        desk.online(1, 2);
        desk.wait(1);
        let (request, _) = desk.accept(1, 1, Some(1));
        let open =
            Row { status: Status::Open, owner: Some(agent(1)), epoch: 1, ..waiting(conversation(1), 20_000) };
        if announced_first {
            desk.announce(open);
            assert_eq!(desk.load(1), 1);
            assert_eq!(desk.result(1, 1, request, Ok(1)), []);
        } else {
            desk.result(1, 1, request, Ok(1));
            // An announcement from before the assignment is late, not true.
            assert_eq!(desk.announce(waiting(conversation(1), 10_000)), []);
            assert_eq!(desk.announce(open), [Out::Row(open)]);
        }
        assert_eq!(desk.load(1), 1);
        assert_eq!(desk.inner.totals().open, 1);
        assert_eq!(desk.queue(), [0; 0]);
    }
}

#[test]
fn a_visitor_who_closes_while_an_assignment_is_under_way_wins() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.wait(1);
    let (request, _) = desk.accept(1, 1, Some(1));
    desk.close(1, 0);
    assert_eq!(desk.load(1), 1, "reserved until the home has answered");
    // He writes again before that: in the queue, and not offered.
    assert_eq!(offers(&desk.wait(1)), []);
    let out = desk.result(1, 1, request, Err(()));
    assert_eq!(offers(&out), [(1, 1, 2)]);
}

#[test]
fn a_retry_goes_to_the_home_and_reserves_nothing() {
    let mut desk = Desk::open();
    desk.online(1, 1);
    desk.wait(1);
    desk.wait(2);
    let (request, _) = desk.accept(1, 1, Some(1));
    // Under way: the same question again. The place is released when no answer is outstanding.
    assert_eq!(assigned(&desk.accept_as(1, 1, Some(1), request)), Some(0));
    assert_eq!(desk.load(1), 1);
    assert_eq!(desk.result(1, 1, request, Err(())), []);
    let out = desk.result(1, 1, request, Ok(1));
    assert!(offers(&out).is_empty(), "{out:?}");
    // Granted: with an epoch that can assign nothing.
    assert_eq!(assigned(&desk.accept_as(1, 1, Some(1), request)), Some(0));
    assert_eq!(desk.result(1, 1, request, Ok(1)), []);
    assert_eq!(desk.load(1), 1);
    // Another accept of it by himself is no retry.
    desk.close(1, 1);
    desk.accept(1, 2, None);
    assert_eq!(refused(&desk.accept(1, 2, None).1), Some(RefuseCode::Stale));
}

#[test]
fn an_accept_of_nothing_that_waits_says_why() {
    let mut desk = Desk::open();
    desk.online(1, 5);
    desk.online(2, 5);
    desk.wait(1);
    desk.take(1, 1);
    assert_eq!(refused(&desk.accept(2, 1, None).1), Some(RefuseCode::Stale));
    assert_eq!(refused(&desk.accept(2, 9, None).1), Some(RefuseCode::NotFound));
    desk.wait(2);
    assert_eq!(refused(&desk.accept(2, 2, Some(99)).1), Some(RefuseCode::Stale));
}

#[test]
fn places_are_told_when_they_change_and_at_most_four_times_a_second() {
    let place = |out: &[Out]| -> Vec<(u64, u32)> {
        let position = |out: &Out| match *out {
            Out::Position { c, pos, .. } => Some((number_of(c), pos)),
            _ => None,
        };
        out.iter().filter_map(position).collect()
    };
    let mut desk = Desk::open();
    desk.pass(POSITIONS_EVERY_MS);
    assert_eq!(place(&desk.wait(1)), [(1, 1)]);
    assert_eq!(place(&desk.wait(2)), []);
    assert_eq!(place(&desk.wait(3)), []);
    assert_eq!(desk.inner.next_deadline(), Some(desk.now + POSITIONS_EVERY_MS));
    assert_eq!(place(&desk.pass(POSITIONS_EVERY_MS)), [(2, 2), (3, 3)]);
    assert_eq!(desk.inner.next_deadline(), None);
    desk.pass(POSITIONS_EVERY_MS);
    assert_eq!(place(&desk.close(1, 0)), [(2, 1), (3, 2)]);
}

#[test]
fn who_stands_behind_the_first_hundred_is_not_told_and_moves_nobody() {
    let mut desk = Desk::open();
    for number in 0..u64::from(POSITIONS_TOLD) {
        desk.wait(number);
    }
    desk.pass(POSITIONS_EVERY_MS);
    desk.wait(1_000);
    assert_eq!(desk.inner.next_deadline(), None);
    assert_eq!(desk.inner.position(conversation(1_000)), Some(POSITIONS_TOLD + 1));
}

#[test]
fn sessions_hear_of_state_capacity_and_load_and_not_of_offers() {
    let mut desk = Desk::open();
    let avail = |state, cap, load| Out::Avail { agent: agent(1), state, cap, load };
    assert_eq!(desk.online(1, 2), [avail(Online, 2, 0)]);
    assert!(!desk.wait(1).iter().any(|out| matches!(out, Out::Avail { .. })));
    let (request, out) = desk.accept(1, 1, Some(1));
    assert!(out.contains(&avail(Online, 2, 1)));
    assert!(!desk.result(1, 1, request, Ok(1)).iter().any(|out| matches!(out, Out::Avail { .. })));
    assert_eq!(desk.say(1, Away, 7), [avail(Away, 7, 1)]);
    assert_eq!(desk.say(1, Away, 7), []);
    assert_eq!(desk.presence(1, 0, 0, None), []);
}

#[test]
fn rows_are_told_when_they_change_and_not_for_a_ticket() {
    let mut desk = Desk::open();
    let is_row = |out: &Out| matches!(out, Out::Row(_));
    assert_eq!(desk.wait(1).iter().filter(|out| is_row(out)).count(), 1);
    let row = Row { ticket: Some(1), ..waiting(conversation(1), desk.now) };
    assert_eq!(desk.announce(row), []);
    let row = Row { preview: Short::new("Anybody there?"), ..row };
    assert_eq!(desk.announce(row), [Out::Row(row)]);
    assert_eq!(desk.close(7, 0), [], "of one never heard of there is nothing to tell");
}

#[test]
fn a_hundred_thousand_wait_and_a_thousand_agents_take_them_in_order() {
    let mut desk = Desk::open();
    let mut out = Vec::new();
    for number in 0..100_000 {
        desk.inner.on_announce(desk.now, 0, waiting(conversation(number), desk.now), &mut out);
    }
    out.clear();
    for number in 0..1_000 {
        desk.inner.on_presence(desk.now, agent(number), 0, 1, Some((Online, 500)), &mut out);
    }
    desk.inner.check_invariants();
    let mut next = 0;
    let mut asked: std::collections::VecDeque<_> = offers(&out).into();
    while next < 20_000 {
        let (who, c, offer) = asked.pop_front().expect("somebody is free and somebody waits");
        assert_eq!(c, next, "first in, first out");
        next += 1;
        out.clear();
        let request = request(u128::from(c));
        desk.inner.on_accept(desk.now, agent(who), conversation(c), Some(offer), request, &mut out);
        desk.inner.on_assign_result(desk.now, conversation(c), agent(who), request, Ok(1), &mut out);
        asked.extend(offers(&out));
    }
    desk.inner.check_invariants();
    assert_eq!(desk.inner.position(conversation(99_999)), Some(80_000));
    // One offer is under way to each.
    assert!((0..1_000).all(|number| desk.load(number) == 21), "evenly");
}
