//! The sleep flag under every interleaving and every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ringdesk-mail --release --test loom`
//!
//! The real flag must never lose a wake-up: the reader would wait for ever, which loom reports as a deadlock. To show that the model can see that, a copy of
//! the protocol runs beside it, whole (it must pass) and with each of its parts taken away (it must not). Mailboxes are modelled by a few loom atomics,
//! with the orders that rtrb uses; rtrb itself is somebody else's and is stressed in `queue.rs`.
#![allow(unexpected_cfgs, reason = "`loom` is set by RUSTFLAGS when the model is checked")]
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::thread;
use ringdesk_mail::sleep::{Doorbell, Sleeper, sleep_flag};

/// A mailbox that is written once through: slots, and how many of them are published.
struct Slots {
    slots: [AtomicUsize; 2],
    published: AtomicUsize,
}

impl Slots {
    fn new() -> Slots {
        Slots { slots: [AtomicUsize::new(0), AtomicUsize::new(0)], published: AtomicUsize::new(0) }
    }

    fn publish(&self, index: usize, letter: usize) {
        self.slots[index].store(letter, Ordering::Relaxed);
        self.published.store(index + 1, Ordering::Release);
    }
}

/// The reader's end of it.
struct Reader {
    slots: Arc<Slots>,
    read: usize,
}

impl Reader {
    fn is_empty(&self) -> bool {
        self.slots.published.load(Ordering::Acquire) == self.read
    }

    fn drain(&mut self) -> usize {
        let published = self.slots.published.load(Ordering::Acquire);
        let before = self.read;
        while self.read < published {
            let letter = self.slots.slots[self.read].load(Ordering::Relaxed);
            assert_eq!(letter, self.read + 1, "letters are whole and in order");
            self.read += 1;
        }
        self.read - before
    }
}

trait Sleep {
    fn prepare(&mut self, is_empty: impl FnOnce() -> bool) -> bool;
    fn awake(&mut self);
}

trait Ring: Send + 'static {
    fn ring(&self, wake: impl FnOnce());
}

impl Sleep for Sleeper {
    fn prepare(&mut self, is_empty: impl FnOnce() -> bool) -> bool {
        Sleeper::prepare(self, is_empty)
    }
    fn awake(&mut self) {
        Sleeper::awake(self);
    }
}

impl Ring for Doorbell {
    fn ring(&self, wake: impl FnOnce()) {
        Doorbell::ring(self, wake);
    }
}

/// Which parts of the copy are there.
#[derive(Clone, Copy)]
struct Parts {
    reader_fence: bool,
    second_look: bool,
    sender_fence: bool,
}

const WHOLE: Parts = Parts { reader_fence: true, second_look: true, sender_fence: true };

/// The copy, both ends.
#[derive(Clone)]
struct Copied {
    asleep: Arc<AtomicBool>,
    parts: Parts,
}

impl Copied {
    fn new(parts: Parts) -> (Copied, Copied) {
        let copied = Copied { asleep: Arc::new(AtomicBool::new(false)), parts };
        (copied.clone(), copied)
    }
}

impl Sleep for Copied {
    fn prepare(&mut self, is_empty: impl FnOnce() -> bool) -> bool {
        self.asleep.swap(true, Ordering::AcqRel);
        if self.parts.reader_fence {
            fence(Ordering::SeqCst);
        }
        if !self.parts.second_look || is_empty() {
            return true;
        }
        self.awake();
        false
    }
    fn awake(&mut self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }
}

impl Ring for Copied {
    fn ring(&self, wake: impl FnOnce()) {
        if self.parts.sender_fence {
            fence(Ordering::SeqCst);
        }
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            wake();
        }
    }
}

/// What is played in one model.
#[derive(Clone, Copy)]
struct Play {
    senders: usize,
    /// Each sender posts so many letters (≤ 2), each in a batch of its own.
    letters: usize,
    /// The reader's first sleep ends by itself, as by a timer, whether or not somebody rings.
    timer: bool,
    /// At most so many switches away from a thread that could go on. CHESS found nearly every bug with two.
    switches: usize,
}

/// The reader sleeps whenever it finds nothing and must get every letter; a lost wake-up is a deadlock. The wake is a thread's unpark, which is sticky.
fn all_arrive<S: Sleep, R: Ring + Clone>(flag: impl Fn() -> (S, R) + Send + Sync + 'static, play: Play) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(play.switches);
    model.check(move || {
        let (mut sleeper, doorbell) = flag();
        let me = thread::current();
        let mut readers: Vec<Reader> =
            (0..play.senders).map(|_| Reader { slots: Arc::new(Slots::new()), read: 0 }).collect();
        for reader in &readers {
            let (slots, doorbell, me) = (reader.slots.clone(), doorbell.clone(), me.clone());
            thread::spawn(move || {
                for index in 0..play.letters {
                    slots.publish(index, index + 1);
                    doorbell.ring(|| me.unpark());
                }
            });
        }
        let mut missing = play.senders * play.letters;
        let mut timer = play.timer;
        loop {
            missing -= readers.iter_mut().map(Reader::drain).sum::<usize>();
            if missing == 0 {
                return;
            }
            if sleeper.prepare(|| readers.iter().all(Reader::is_empty)) {
                if !std::mem::take(&mut timer) {
                    thread::park();
                }
                sleeper.awake();
            }
        }
    });
}

#[test]
fn one_sender_never_leaves_the_reader_asleep() {
    for timer in [false, true] {
        all_arrive(sleep_flag, Play { senders: 1, letters: 2, timer, switches: 4 });
    }
}

#[test]
fn two_senders_never_leave_the_reader_asleep() {
    for timer in [false, true] {
        all_arrive(sleep_flag, Play { senders: 2, letters: 1, timer, switches: 3 });
    }
}

#[test]
fn two_senders_with_two_batches_each_never_leave_the_reader_asleep() {
    all_arrive(sleep_flag, Play { senders: 2, letters: 2, timer: false, switches: 2 });
}

#[test]
fn one_sleep_costs_at_most_one_wake() {
    use std::sync::atomic::{AtomicUsize as Plain, Ordering::SeqCst};
    loom::model(|| {
        let (mut sleeper, doorbell) = sleep_flag();
        let wakes = std::sync::Arc::new(Plain::new(0));
        assert!(sleeper.prepare(|| true));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (doorbell, wakes) = (doorbell.clone(), wakes.clone());
                thread::spawn(move || {
                    doorbell.ring(|| {
                        wakes.fetch_add(1, SeqCst);
                    })
                })
            })
            .collect();
        let won = senders.into_iter().map(|sender| sender.join().unwrap()).filter(|&won| won);
        assert_eq!(won.count(), 1);
        assert_eq!(wakes.load(SeqCst), 1);
    });
}

#[test]
fn the_copy_is_a_true_one() {
    all_arrive(|| Copied::new(WHOLE), Play { senders: 1, letters: 2, timer: true, switches: 3 });
}

/// Whether in some execution the reader goes to sleep on a letter and nobody rings.
///
/// Here the reader does not wait: a deadlock inside the model would end the test process. It stops at its first sleep, and what it left is looked at when
/// the sender is done.
fn loses_a_wake(parts: Parts) -> bool {
    let lost = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = lost.clone();
    loom::model(move || {
        let (mut sleeper, doorbell) = Copied::new(parts);
        let mut reader = Reader { slots: Arc::new(Slots::new()), read: 0 };
        let slots = reader.slots.clone();
        let sender = thread::spawn(move || {
            let mut rung = false;
            slots.publish(0, 1);
            doorbell.ring(|| rung = true);
            rung
        });
        let mut sleeps = false;
        while reader.read == 0 && !sleeps {
            reader.drain();
            sleeps = reader.read == 0 && sleeper.prepare(|| reader.is_empty());
        }
        let rung = sender.join().expect("the sender only posts and rings");
        if sleeps && !reader.is_empty() && !rung {
            seen.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    });
    lost.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn every_part_of_the_protocol_is_needed() {
    assert!(!loses_a_wake(WHOLE));
    assert!(loses_a_wake(Parts { reader_fence: false, ..WHOLE }), "without the reader's fence");
    assert!(loses_a_wake(Parts { second_look: false, ..WHOLE }), "without the second look");
    assert!(loses_a_wake(Parts { sender_fence: false, ..WHOLE }), "without the sender's fence");
}
