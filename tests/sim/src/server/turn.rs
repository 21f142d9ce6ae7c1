//! Turns: what has arrived goes into the shard, letters too, and then the turn ends.

use mail::{Answer, Letter, Order};
use shard::{Effect, Input, Now, Shard, StorageError};

use super::{Done, Stage};
use crate::marks::{Mark, Marks};
use crate::net::Place;
use crate::world::{Event, Phase, World};

impl World {
    pub(crate) fn turn_delay(&mut self) -> u64 {
        let (low, high) = self.plan.turn_us;
        let pause = self.phase == Phase::Chaos && self.dice.turns.permille(self.plan.pause_permille);
        let pause_us = if pause { self.dice.turns.between(100_000, 1_500_000) } else { 0 };
        self.dice.turns.between(low, high) + pause_us
    }

    pub(crate) fn queue_turn(&mut self, shard: u16) {
        let boot = self.boots;
        let delay = self.turn_delay();
        let seat = self.seat(shard);
        if !core::mem::replace(&mut seat.turn_queued, true) {
            self.after(delay, Event::Turn { boot, shard });
        }
    }

    pub(crate) fn tick(&mut self, boot: u32, shard: u16) {
        if !self.is_boot(boot) || !matches!(self.seat(shard).stage, Stage::Running(_)) {
            return;
        }
        self.arrive(shard, Done::Tick);
        let delay = self.dice.turns.between(50_000, 99_000);
        self.after(delay, Event::Tick { boot, shard });
    }

    /// One turn of a shard's loop: what has arrived, letters, the end of the turn.
    pub(crate) fn turn(&mut self, boot: u32, shard: u16) {
        if !self.is_boot(boot) {
            return;
        }
        let count = usize::from(self.plan.shard_count);
        let now_us = self.now_us;
        let seat = self.seat(shard);
        seat.turn_queued = false;
        let stage = core::mem::replace(&mut seat.stage, Stage::Reading);
        let mut running = match stage {
            Stage::Running(shard) => shard,
            other => {
                // It is not there yet; what has arrived waits.
                self.seat(shard).stage = other;
                return;
            }
        };
        let inbox = core::mem::take(&mut seat.inbox);
        let mut turn = Turn { shard, now: self.now(), effects: Vec::new(), eager: self.plan.eager_effects };
        let rooms = self.rooms(shard);
        self.step(&mut running, &mut turn, Input::Rooms(&rooms));
        let letters_first = self.dice.turns.percent(50);
        let limit = self.dice.turns.between(1, self.plan.letters_per_turn);
        if letters_first {
            self.take_letters(&mut running, &mut turn, limit);
        }
        for done in inbox {
            self.complete(&mut running, &mut turn, done);
        }
        if !letters_first {
            self.take_letters(&mut running, &mut turn, limit);
        }
        self.step(&mut running, &mut turn, Input::EndOfTurn);
        let wants = running.wants_turn();
        if !self.is_boot(boot) || matches!(self.seat(shard).stage, Stage::Stopped) {
            return;
        }
        self.seat(shard).stage = Stage::Running(running);
        let effects = core::mem::take(&mut turn.effects);
        self.carry_out(shard, effects);
        if !self.is_boot(boot) || matches!(self.seat(shard).stage, Stage::Stopped) {
            return;
        }
        let next = (0..count)
            .filter_map(|from| {
                let mailbox =
                    &self.process.as_ref().expect("it runs").mail[from * count + usize::from(shard)];
                mailbox.letters.front().map(|&(at_us, _)| at_us)
            })
            .min();
        if wants {
            self.queue_turn(shard);
        } else if let Some(at_us) = next
            && !core::mem::replace(&mut self.seat(shard).turn_queued, true)
        {
            self.at(at_us.max(now_us + 1), Event::Turn { boot, shard });
        }
    }

    pub(super) fn rooms(&self, shard: u16) -> Vec<u32> {
        let count = usize::from(self.plan.shard_count);
        let process = self.process.as_ref().expect("the process runs");
        (0..count)
            .map(|to| {
                let held = process.mail[usize::from(shard) * count + to].letters.len() as u32;
                self.plan.mailbox_size - held
            })
            .collect()
    }

    fn take_letters(&mut self, running: &mut Shard, turn: &mut Turn, limit: u64) {
        let count = usize::from(self.plan.shard_count);
        for from in 0..count {
            for _ in 0..limit {
                let Some(process) = self.process.as_mut() else { return };
                let mailbox = &mut process.mail[from * count + usize::from(turn.shard)];
                if mailbox.letters.front().is_none_or(|&(at_us, _)| at_us > self.now_us) {
                    break;
                }
                let (_, letter) = mailbox.letters.pop_front().expect("seen above");
                mark_letter(&mut self.marks, &letter);
                self.marks.hit(Mark::InLetter);
                self.trace
                    .note("shard", u64::from(turn.shard), "letter", || format!("from {from} {letter:?}"));
                self.step(running, turn, Input::Letter { from: from as u16, letter });
            }
            let effects = core::mem::take(&mut turn.effects);
            self.carry_out(turn.shard, effects);
        }
    }

    fn step(&mut self, running: &mut Shard, turn: &mut Turn, input: Input<'_>) {
        match input {
            Input::Rooms(_) => self.marks.hit(Mark::InRooms),
            Input::EndOfTurn => self.marks.hit(Mark::InEndOfTurn),
            _ => {}
        }
        if self.process.is_none() || matches!(self.seat(turn.shard).stage, Stage::Stopped) {
            return;
        }
        let is_letter = matches!(input, Input::Letter { .. });
        running.step(turn.now, input, &mut turn.effects);
        if !is_letter || turn.eager {
            let effects = core::mem::take(&mut turn.effects);
            self.carry_out(turn.shard, effects);
        }
    }

    /// Hands one completion to the shard.
    fn complete(&mut self, running: &mut Shard, turn: &mut Turn, done: Done) {
        let shard = u64::from(turn.shard);
        let held = match &done {
            Done::Received { door, .. } | Done::SentSome { door } | Done::Gone { door } => {
                let Some(conn) = self.conn_of(turn.shard, *door) else { return };
                if !matches!(self.conns[conn].place, Place::At { .. }) {
                    if let Done::Received { bytes, .. } = &done {
                        self.take_along(conn, bytes);
                    }
                    return;
                }
                Some(conn)
            }
            _ => None,
        };
        let (trace, marks) = (&mut self.trace, &mut self.marks);
        match done {
            Done::Accepted { door, peer } => {
                marks.hit(Mark::InAccepted);
                trace.note("shard", shard, "accepted", || format!("{door:?} {peer}"));
                self.step(running, turn, Input::Accepted { door, peer });
            }
            Done::Arrived { door, moved } => {
                marks.hit(Mark::InArrived);
                trace.note("shard", shard, "arrived", || format!("{door:?} {} bytes", moved.bytes.len()));
                self.step(running, turn, Input::Arrived { door, moved });
            }
            Done::MoveFailed { door, moved } => {
                marks.hit(Mark::InMoveFailed);
                trace.note("shard", shard, "move failed", || format!("{door:?}"));
                self.step(running, turn, Input::MoveFailed { door, moved });
            }
            Done::Received { door, bytes } => {
                marks.hit(Mark::InReceived);
                trace.note("shard", shard, "received", || format!("{door:?} {} bytes", bytes.len()));
                trace.fold_bytes(&bytes);
                let size = bytes.len();
                let padding = self.dice.turns.pick(&[0, 7, 64]);
                let mut buffer = bytes;
                buffer.resize(size + padding, b'}');
                self.step(running, turn, Input::Received { door, buffer: &mut buffer, size });
            }
            Done::SentSome { door } => {
                marks.hit(Mark::InSentSome);
                self.step(running, turn, Input::SentSome { door });
            }
            Done::Sent { door, buf, whole } => {
                marks.hit(if whole { Mark::InSentWhole } else { Mark::InSentFailed });
                trace.note("shard", shard, "sent", || format!("{door:?} whole {whole}"));
                self.step(running, turn, Input::Sent { door, buf, whole });
            }
            Done::Gone { door } => {
                marks.hit(Mark::InGone);
                trace.note("shard", shard, "gone", || format!("{door:?}"));
                let conn = held.expect("looked up above");
                self.conns[conn].place = Place::Gone;
                let early = self.dice.net.percent(50);
                let mut sending = self.take_send(conn);
                if early && let Some(buf) = sending.take() {
                    self.marks.hit(Mark::InSentFailed);
                    self.step(running, turn, Input::Sent { door, buf, whole: false });
                }
                self.step(running, turn, Input::Gone { door });
                self.free_door(turn.shard, door);
                if let Some(buf) = sending {
                    self.marks.hit(Mark::InSentLate);
                    self.arrive(turn.shard, Done::Sent { door, buf, whole: false });
                }
            }
            Done::Order(order) => {
                marks.hit(match order {
                    Order::Settings(_) => Mark::InSettings,
                    Order::Notice { .. } => Mark::InNotice,
                    Order::Drain { .. } => Mark::InDrain,
                    Order::Adopt { .. } => unreachable!("the driver carries it out"),
                });
                trace.note("shard", shard, "order", || format!("{order:?}"));
                self.step(running, turn, Input::Order(order));
            }
            Done::Wrote { buf, result } => {
                marks.hit(if result.is_ok() { Mark::InWrote } else { Mark::InWroteFailed });
                trace.note("shard", shard, "wrote", || format!("{result:?}"));
                self.step(running, turn, Input::Wrote { buf, result });
            }
            Done::WroteSuperblock { result } => {
                marks.hit(if result.is_ok() { Mark::InSuperblock } else { Mark::InSuperblockFailed });
                trace.note("shard", shard, "wrote superblock", || format!("{result:?}"));
                self.step(running, turn, Input::WroteSuperblock { result });
            }
            Done::SegmentReady { segment } => {
                marks.hit(Mark::InSegmentReady);
                trace.note("shard", shard, "segment ready", || format!("{segment}"));
                self.step(running, turn, Input::SegmentReady { segment });
            }
            Done::SegmentFailed { segment, error } => {
                marks.hit(if error == StorageError::Full {
                    Mark::InSegmentFull
                } else {
                    Mark::InSegmentFailed
                });
                trace.note("shard", shard, "segment failed", || format!("{segment} {error:?}"));
                self.step(running, turn, Input::SegmentFailed { segment, error });
            }
            Done::Tick => {
                marks.hit(Mark::InTick);
                self.step(running, turn, Input::Tick);
            }
        }
    }
}

/// What is carried through one turn.
struct Turn {
    shard: u16,
    now: Now,
    effects: Vec<Effect>,
    /// Effects are carried out after each letter, not after all of a mailbox.
    eager: bool,
}

fn mark_letter(marks: &mut Marks, letter: &Letter) {
    marks.hit(match letter {
        Letter::Say { .. } => Mark::LetterSay,
        Letter::Close { .. } => Mark::LetterClose,
        Letter::Listen { .. } => Mark::LetterListen,
        Letter::Pull { .. } => Mark::LetterPull,
        Letter::History { .. } => Mark::LetterHistory,
        Letter::Accept { .. } => Mark::LetterAccept,
        Letter::List { .. } => Mark::LetterList,
        Letter::Assign { .. } => Mark::LetterAssign,
        Letter::AssignResult { .. } => Mark::LetterAssignResult,
        Letter::Event { .. } => Mark::LetterEvent,
        Letter::Hint { .. } => Mark::LetterHint,
        Letter::Row(_) => Mark::LetterRow,
        Letter::Offer { .. } => Mark::LetterOffer,
        Letter::Avail { .. } => Mark::LetterAvail,
        Letter::Position { .. } => Mark::LetterPosition,
        Letter::Head { .. } => Mark::LetterHead,
        Letter::Announce(_) => Mark::LetterAnnounce,
        Letter::AnnounceEnd => Mark::LetterAnnounceEnd,
        Letter::Ticket { .. } => Mark::LetterTicket,
        Letter::Presence { .. } => Mark::LetterPresence,
        Letter::Decline { .. } => Mark::LetterDecline,
        Letter::Lists(_) => Mark::LetterLists,
        Letter::ListsStale => Mark::LetterListsStale,
        Letter::Unlisten(_) => Mark::LetterUnlisten,
        Letter::Cursor { .. } => Mark::LetterCursor,
        Letter::Typing { .. } => Mark::LetterTyping,
        Letter::Spent(_) => Mark::LetterSpent,
        Letter::Answer(_, answer) => match answer {
            Answer::Stored(_) => Mark::AnswerStored,
            Answer::Refused(_) => Mark::AnswerRefused,
            Answer::Listening { .. } => Mark::AnswerListening,
            Answer::NotListening { .. } => Mark::AnswerNotListening,
            Answer::Events { .. } => Mark::AnswerEvents,
            Answer::Text(_) => Mark::AnswerText,
        },
    });
}
