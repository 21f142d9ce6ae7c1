//! Mailboxes between real threads, and the sleep flag on top of them.
#![allow(unexpected_cfgs, reason = "`loom` is set by RUSTFLAGS when the model is checked")]
#![cfg(not(loom))]
#![allow(clippy::disallowed_methods, reason = "this test stands outside the shards: it starts the threads")]

use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringdesk_mail::queue::{Inbox, Outbox, mailbox};
use ringdesk_mail::sleep::sleep_flag;

fn drained<T>(inbox: &mut Inbox<T>) -> Vec<T> {
    let mut letters = Vec::new();
    let count = inbox.drain(|letter| letters.push(letter));
    assert_eq!(count, letters.len());
    letters
}

#[test]
fn nothing_is_seen_before_the_flush_and_all_of_it_after() {
    let (mut outbox, mut inbox) = mailbox(4);
    outbox.push(1);
    outbox.push(2);
    assert!(inbox.is_empty());
    assert_eq!((outbox.staged(), outbox.room(), outbox.capacity()), (2, 2, 4));
    assert_eq!(outbox.flush(), 2);
    assert_eq!(outbox.flush(), 0);
    assert_eq!(inbox.len(), 2);
    assert_eq!(drained(&mut inbox), [1, 2]);
    assert!(drained(&mut inbox).is_empty());
}

#[test]
fn a_letter_that_came_after_the_count_stays_for_the_next_turn() {
    let (mut outbox, mut inbox) = mailbox(4);
    outbox.push(1);
    outbox.flush();
    let count = inbox.len();
    outbox.push(2);
    outbox.flush();
    let mut letters = Vec::new();
    assert_eq!(inbox.drain_at_most(count, |letter| letters.push(letter)), 1);
    assert_eq!(letters, [1]);
    assert_eq!(outbox.room(), 3);
    assert_eq!(drained(&mut inbox), [2]);
    assert_eq!(inbox.drain_at_most(3, |_| unreachable!("it is empty")), 0);
}

#[test]
fn staged_letters_count_against_the_room_and_draining_gives_it_back() {
    let (mut outbox, mut inbox) = mailbox(3);
    for round in 0..10 {
        for letter in 0..3 {
            assert!(outbox.has_room(3 - letter) && !outbox.has_room(4 - letter));
            outbox.push(round * 3 + letter);
        }
        assert_eq!(outbox.room(), 0);
        outbox.flush();
        assert_eq!(outbox.room(), 0);
        assert_eq!(drained(&mut inbox), [round * 3, round * 3 + 1, round * 3 + 2]);
        assert_eq!(outbox.room(), 3);
    }
}

#[test]
#[should_panic(expected = "room is checked")]
fn to_push_without_room_is_our_own_fault() {
    let (mut outbox, _inbox) = mailbox(1);
    outbox.push(1);
    outbox.push(2);
}

#[test]
fn a_drain_takes_what_was_there_on_entry() {
    let (mut outbox, mut inbox) = mailbox(4);
    outbox.push(1);
    outbox.flush();
    let mut seen = Vec::new();
    let taken = inbox.drain(|letter| {
        seen.push(letter);
        if outbox.has_room(1) {
            outbox.push(letter + 1);
            outbox.flush();
        }
    });
    assert_eq!((taken, seen), (1, vec![1]));
    assert_eq!(drained(&mut inbox), [2]);
}

#[test]
fn each_end_notices_that_the_other_is_gone() {
    let (mut outbox, mut inbox) = mailbox(4);
    assert!(!outbox.is_abandoned() && !inbox.is_abandoned());
    outbox.push(1);
    outbox.flush();
    outbox.push(2);
    drop(outbox);
    assert!(inbox.is_abandoned());
    assert_eq!(drained(&mut inbox), [1], "what was published before is still there, what was not is not");

    let (mut outbox, inbox) = mailbox(4);
    drop(inbox);
    assert!(outbox.is_abandoned());
    outbox.push(1);
    assert_eq!(outbox.flush(), 1);
}

#[test]
fn letters_are_dropped_once_wherever_they_are() {
    let letter = Rc::new(());
    let (mut outbox, mut inbox) = mailbox(8);
    for _ in 0..6 {
        outbox.push(letter.clone());
    }
    outbox.flush();
    inbox.drain(drop::<Rc<()>>);
    for _ in 0..5 {
        outbox.push(letter.clone());
    }
    outbox.flush();
    outbox.push(letter.clone());
    assert_eq!(Rc::strong_count(&letter), 7);
    drop(outbox);
    drop(inbox);
    assert_eq!(Rc::strong_count(&letter), 1);
}

/// Posts `count` numbers in batches of changing size; gives way when there is no room.
fn post(count: u64, mut outbox: Outbox<Box<u64>>, mut after_flush: impl FnMut()) {
    let mut next = 0;
    let mut batch = 1;
    while next < count {
        let fits = outbox.room().min(batch).min((count - next) as usize);
        for _ in 0..fits {
            outbox.push(Box::new(next));
            next += 1;
        }
        if outbox.flush() > 0 {
            after_flush();
        } else {
            thread::yield_now();
        }
        batch = batch % 13 + 1;
    }
}

#[test]
fn between_two_threads_everything_arrives_once_and_in_order() {
    for (capacity, count) in [(1, 3_000), (7, 30_000), (1_024, 300_000)] {
        let (outbox, mut inbox) = mailbox(capacity);
        let sender = thread::spawn(move || post(count, outbox, || ()));
        let mut next = 0;
        loop {
            // Asked first: what was published before the sender left is drained after it.
            let is_last = inbox.is_abandoned();
            let taken = inbox.drain(|letter| {
                assert_eq!(*letter, next);
                next += 1;
            });
            assert!(taken <= capacity);
            if is_last {
                break;
            }
            if taken == 0 {
                thread::yield_now();
            }
        }
        sender.join().unwrap();
        assert_eq!(next, count);
    }
}

#[test]
fn a_sender_notices_while_it_posts_that_the_reader_left() {
    let (mut outbox, mut inbox) = mailbox(16);
    let reader = thread::spawn(move || {
        let mut read = 0;
        while read < 1_000 {
            read += inbox.drain(|_: u64| ());
            thread::yield_now();
        }
    });
    let mut posted = 0;
    while !outbox.is_abandoned() {
        if outbox.has_room(1) {
            outbox.push(posted);
            outbox.flush();
            posted += 1;
        } else {
            thread::yield_now();
        }
    }
    assert!(posted >= 1_000);
    reader.join().unwrap();
}

#[test]
fn a_reader_that_sleeps_whenever_it_can_is_always_woken() {
    const COUNT: u64 = 30_000;
    const SENDERS: usize = 2;
    let (mut sleeper, doorbell) = sleep_flag();
    // The sticky wake: a channel of one place, as an eventfd is.
    let (wake, woken) = mpsc::sync_channel::<()>(1);
    let mut inboxes = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        let (outbox, inbox) = mailbox(64);
        inboxes.push((inbox, 0));
        let (doorbell, wake) = (doorbell.clone(), wake.clone());
        senders.push(thread::spawn(move || {
            post(COUNT, outbox, || {
                doorbell.ring(|| {
                    // Full means that a wake is on its way already.
                    let _sent = wake.try_send(());
                });
            });
        }));
    }
    let mut sleeps = 0u64;
    while inboxes.iter().any(|(_, next)| *next < COUNT) {
        for (inbox, next) in &mut inboxes {
            inbox.drain(|letter| {
                assert_eq!(*letter, *next);
                *next += 1;
            });
        }
        let all = inboxes.iter().all(|(_, next)| *next == COUNT);
        if !all && sleeper.prepare(|| inboxes.iter().all(|(inbox, _)| inbox.is_empty())) {
            sleeps += 1;
            let ended = woken.recv_timeout(Duration::from_secs(20));
            assert!(ended.is_ok(), "letters lie there and nobody rang");
            sleeper.awake();
        }
    }
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(sleeps > 0, "a reader that is faster than its senders sleeps");
}

#[test]
fn nobody_is_rung_who_is_awake_and_one_sleep_is_rung_once() {
    let (mut sleeper, doorbell) = sleep_flag();
    let other = doorbell.clone();
    assert!(!doorbell.ring(|| unreachable!("it is awake")));
    assert!(!sleeper.prepare(|| false), "a letter was there");
    assert!(!doorbell.ring(|| unreachable!("it did not go to sleep")));
    assert!(sleeper.prepare(|| true));
    let mut rung = false;
    assert!(other.ring(|| rung = true));
    assert!(rung);
    assert!(!doorbell.ring(|| unreachable!("the other one rang")));
    sleeper.awake();
    assert!(!doorbell.ring(|| unreachable!("it is awake again")));
}

/// Each request keeps a place for its answer: the asker gives back the room of answers before it asks again. So room that is looked at after requests were
/// counted holds an answer to each of them. Looked at before, it may not: then the assertion fails within a few thousand rounds.
#[test]
fn room_looked_at_after_requests_were_counted_holds_an_answer_to_each() {
    const PLACES: usize = 4;
    const REQUESTS: usize = 300_000;
    let (mut requests, mut asked) = mailbox::<usize>(PLACES);
    let (mut answers, mut answered) = mailbox::<usize>(PLACES);
    let asker = thread::spawn(move || {
        let (mut next, mut unanswered) = (0, 0);
        while next < REQUESTS || unanswered > 0 {
            unanswered -= answered.drain(|_| {});
            while next < REQUESTS && unanswered < PLACES {
                requests.push(next);
                next += 1;
                unanswered += 1;
            }
            if requests.flush() == 0 {
                thread::yield_now();
            }
        }
    });
    let mut done = 0;
    while done < REQUESTS {
        let count = asked.len();
        // Time for the asker between the two looks.
        thread::yield_now();
        let room = answers.room();
        assert!(room >= count, "{count} requests and room for {room} answers, after {done}");
        done += asked.drain_at_most(count, |request| answers.push(request));
        if answers.flush() == 0 {
            thread::yield_now();
        }
    }
    asker.join().expect("the asker is done");
}
