//! The loop of one shard.
//!
//! ```text
//!   turn:  Rooms → completions → (Rooms → letters) of each shard → orders → segments → Tick if due → EndOfTurn → mail, reports → one enter
//! ```
//! Effects are carried out right after the step that asked for them, so a later completion of the same turn already finds a door closed, paused or given
//! away. That costs nothing: what they submit leaves with the one enter at the end of the turn all the same.

use std::collections::VecDeque;
use std::mem;

use mail::sleep::Sleeper;
use mail::{Order, Report};
use shard::{Door, Effect, FenceCause, Input, Moved, Now};

use crate::accepts::{Accept, Accepts, Adoptions};
use crate::driven::Core;
use crate::exit;
use crate::log::Log;
use crate::mesh::Mesh;
use crate::metrics::Counters;
use crate::pace::Pace;
use crate::plane::Plane;
use crate::ring::buffers::Buffers;
use crate::ring::token::Op;
use crate::ring::{Completion, Ring, Wait, take_moved};
use crate::sockets::{Read, SendEnd, Sockets};
use crate::sys;
use crate::watchdog::Pulse;

/// Completions of one turn; what is more waits for the next, so that no turn is long.
const COMPLETIONS_MAX: usize = 1_024;
const TICK_MS: u64 = 100;
const TICK_IDLE_MS: u64 = 1_000;
/// How long a shard that is done waits for its last sends and closes.
const END_MS: u64 = 3_000;

/// Everything one shard's loop owns.
pub(crate) struct Turning<'r, C> {
    pub(crate) core: C,
    pub(crate) ring: Ring<'r>,
    pub(crate) buffers: Buffers,
    pub(crate) sockets: Sockets,
    pub(crate) accepts: Accepts,
    pub(crate) adoptions: Adoptions,
    pub(crate) log: Log,
    pub(crate) mesh: Mesh,
    pub(crate) plane: Plane,
    pub(crate) sleeper: Sleeper,
    pub(crate) pulse: std::sync::Arc<Pulse>,
    pub(crate) pace: Pace,
    pub(crate) clock: Clock,
    pub(crate) shard: u16,
    pub(crate) scratch: Scratch,
}

/// What is kept from turn to turn only so as not to allocate it again, and the small states of the loop.
#[derive(Default)]
pub(crate) struct Scratch {
    now: Now,
    counters: Counters,
    /// Filled by steps, emptied by `perform`.
    pub(crate) effects: Vec<Effect>,
    batch: Vec<Completion>,
    /// Inputs that answer an effect at once.
    answers: VecDeque<Input<'static>>,
    values: Vec<u64>,
    next_tick_ms: u64,
    /// Set by `Effect::Stop`: until when to wait for what is in flight.
    ending_until_ms: Option<u64>,
    arm_bell: bool,
}

/// Milliseconds since the node began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) begin_ns: u64,
}

impl Clock {
    /// The time, to be read once a turn.
    pub(crate) fn now(self) -> (u64, Now) {
        let ns = sys::mono_ns();
        (ns, Now { mono_ms: (ns - self.begin_ns) / 1_000_000, wall_ms: sys::wall_ms() })
    }
}

impl<C: Core> Turning<'_, C> {
    /// Turns until the shard is done.
    pub(crate) fn run(mut self) {
        self.scratch.arm_bell = true;
        self.scratch.now = self.clock.now().1;
        self.perform();
        while !self.turn() {}
        self.publish();
        let _ = self.ring.unregister();
        if !self.is_clean() {
            // Something is still lent to the kernel. The ring takes its time to end; the memory must outlive it, and the process ends soon.
            mem::forget(self);
        }
    }

    /// One turn; `true` when it was the last.
    fn turn(&mut self) -> bool {
        let (begin_ns, now) = self.clock.now();
        self.scratch.now = now;
        self.scratch.counters.turns += 1;
        self.pulse.beat(self.scratch.counters.turns);
        self.sockets.set_now(now.mono_ms);
        if self.scratch.arm_bell {
            self.scratch.arm_bell = false;
            self.ring.watch_bell(self.plane.bell_fd());
        }
        self.tell_rooms();
        self.take_completions();
        self.take_letters();
        self.take_orders();
        self.take_prepared();
        self.give_answers();
        self.tick_if_due();
        self.feed(Input::EndOfTurn);
        self.give_answers();
        self.accepts.arm(&mut self.ring, self.sockets.free(), now.mono_ms);
        self.mesh.flush(&mut self.ring, &mut self.scratch.counters);
        self.plane.flush();
        if self.plane.take_asked() {
            self.publish();
        }
        if self.is_over() {
            return true;
        }
        self.scratch.counters.loop_lag.record_ns(sys::mono_ns() - begin_ns);
        self.enter();
        false
    }

    fn tell_rooms(&mut self) {
        if self.scratch.ending_until_ms.is_none() {
            let rooms = Input::Rooms(self.mesh.rooms());
            self.core.step(self.scratch.now, rooms, &mut self.scratch.effects);
            self.perform();
        }
    }

    fn take_completions(&mut self) {
        if self.ring.has_overflown() {
            self.scratch.counters.cq_overflows += 1;
        }
        let mut batch = mem::take(&mut self.scratch.batch);
        self.ring.take(COMPLETIONS_MAX, &mut batch);
        self.scratch.counters.completions += batch.len() as u64;
        self.pace.brought(batch.len());
        for completion in batch.drain(..) {
            self.on_completion(&completion);
        }
        self.scratch.batch = batch;
        self.buffers.publish();
        self.sockets.unpark(&mut self.ring, self.buffers.count());
    }

    fn on_completion(&mut self, completion: &Completion) {
        let Some(op) = completion.token.op() else {
            return self.on_arrival(completion);
        };
        match op {
            Op::Ignore | Op::Wake => {}
            Op::Bell => self.scratch.arm_bell |= !completion.more(),
            Op::Accept => {
                let now_ms = self.scratch.now.mono_ms;
                let accept = self.accepts.completed(completion, now_ms, &mut self.scratch.counters);
                if let Accept::Connection(index, peer) = accept {
                    let door = self.sockets.open(index);
                    self.admit(door, Input::Accepted { door, peer });
                }
            }
            Op::Adopt => {
                if let Some((index, moved)) = self.adoptions.completed(completion, &mut self.scratch.counters)
                {
                    let door = self.sockets.open(index);
                    self.admit(door, Input::Arrived { door, moved });
                }
            }
            Op::Write => {
                let counters = &mut self.scratch.counters;
                let ended = self.log.write_completed(&mut self.ring, completion, counters);
                self.feed_some(ended);
            }
            Op::Flush => {
                let counters = &mut self.scratch.counters;
                let ended = self.log.flush_completed(&mut self.ring, completion, counters);
                self.feed_some(ended);
            }
            Op::Move => {
                let failed = self.sockets.move_completed(completion, &mut self.scratch.counters);
                if let Some((door, moved)) = failed {
                    self.admit(door, Input::MoveFailed { door, moved });
                }
            }
            Op::Install => self.on_install(completion),
            Op::Poll | Op::Receive | Op::ReceiveMany => self.on_read(op, completion),
            Op::Send | Op::Half | Op::Close | Op::CloseLinked => {
                if self.sockets.is_current(completion.token.door()) {
                    self.on_door(op, completion);
                } else {
                    self.scratch.counters.stale_completions += 1;
                }
            }
        }
    }

    /// A connection that another ring sent.
    fn on_arrival(&mut self, completion: &Completion) {
        assert!(completion.result >= 0, "a connection arrives whole or not at all");
        // SAFETY: the completion has no op of ours and is seen for the first time: every completion is taken once.
        let moved = unsafe { take_moved(completion.token) };
        self.scratch.counters.arrivals += 1;
        let door = self.sockets.open(completion.result as u32);
        self.admit(door, Input::Arrived { door, moved });
    }

    /// The shard meets a door, or closes it if it is done.
    fn admit(&mut self, door: Door, input: Input<'_>) {
        if self.scratch.ending_until_ms.is_some() {
            self.sockets.close(&mut self.ring, door);
            return;
        }
        self.feed(input);
        self.sockets.settle(&mut self.ring, door.index);
    }

    fn on_read(&mut self, op: Op, completion: &Completion) {
        let door = completion.token.door();
        if !self.sockets.is_current(door) {
            self.scratch.counters.stale_completions += 1;
        } else {
            match self.sockets.read_completed(op, completion, &mut self.scratch.counters) {
                Read::Nothing => {}
                Read::Gone(door) => self.feed(Input::Gone { door }),
                Read::TakeAlong(door, size) => {
                    let id = completion.buffer().expect("data comes in a buffer");
                    self.sockets.take_along(door, &self.buffers.bytes(id)[..size]);
                }
                Read::Deliver(door, size) => self.deliver(door, completion, size),
            }
            self.sockets.settle(&mut self.ring, door.index);
        }
        // A stale completion has a buffer all the same.
        if let Some(id) = completion.buffer() {
            self.buffers.give_back(id);
        }
    }

    fn deliver(&mut self, door: Door, completion: &Completion, size: usize) {
        if self.scratch.ending_until_ms.is_some() {
            return;
        }
        let id = completion.buffer().expect("data comes in a buffer");
        let buffer = self.buffers.bytes(id);
        assert!(size < buffer.len(), "the kernel leaves the padding alone");
        let input = Input::Received { door, buffer, size };
        self.core.step(self.scratch.now, input, &mut self.scratch.effects);
        self.perform();
    }

    fn on_door(&mut self, op: Op, completion: &Completion) {
        let index = completion.token.index();
        match op {
            Op::Send => {
                let counters = &mut self.scratch.counters;
                match self.sockets.send_completed(&mut self.ring, completion, counters) {
                    SendEnd::Nothing => {}
                    SendEnd::Some(door) => {
                        if self.sockets.is_open(door) {
                            self.feed(Input::SentSome { door });
                        }
                    }
                    SendEnd::Done { door, buf, whole, gone } => {
                        self.feed(Input::Sent { door, buf, whole });
                        if gone {
                            self.feed(Input::Gone { door });
                        }
                    }
                }
                self.sockets.settle(&mut self.ring, index);
            }
            Op::Half => self.sockets.half_completed(&mut self.ring, completion),
            _ => self.sockets.close_completed(op, completion),
        }
    }

    fn on_install(&mut self, completion: &Completion) {
        match self.sockets.install_completed(&mut self.ring, completion) {
            Some(over) => {
                self.scratch.counters.hand_overs += 1;
                let (stream, peer, bytes) = (over.stream, over.peer, over.bytes);
                self.plane.report(Report::HandedOver { stream, peer, bytes });
            }
            None => {
                self.scratch.counters.hand_overs_refused += 1;
                self.plane.hand_overs.release();
            }
        }
    }

    fn take_letters(&mut self) {
        for from in 0..self.mesh.count() {
            let count = self.mesh.arrived(from);
            if count == 0 {
                continue;
            }
            // The sender gave back the room of earlier answers before it published these requests. Room that is looked at after they were counted
            // therefore holds an answer to each; what was seen when the turn began may not.
            self.tell_rooms();
            let Turning { mesh, core, scratch, .. } = self;
            let open = scratch.ending_until_ms.is_none();
            mesh.drain(from, count, |letter| {
                if open {
                    core.step(scratch.now, Input::Letter { from, letter }, &mut scratch.effects);
                }
            });
            self.perform();
        }
    }

    fn take_orders(&mut self) {
        let Turning { plane, adoptions, ring, core, scratch, .. } = self;
        let open = scratch.ending_until_ms.is_none();
        plane.orders.drain(|order: Order| {
            // A shard that is done drops what it is given: a connection ends, settings are freed.
            if open && let Some(order) = adoptions.begin(ring, order) {
                core.step(scratch.now, Input::Order(order), &mut scratch.effects);
            }
        });
        self.perform();
    }

    fn take_prepared(&mut self) {
        let Turning { log, scratch, .. } = self;
        let Scratch { counters, answers, .. } = scratch;
        if log.has_prepared() {
            log.take_prepared(counters, |input| answers.push_back(input));
        }
    }

    fn tick_if_due(&mut self) {
        let now_ms = self.scratch.now.mono_ms;
        if now_ms < self.scratch.next_tick_ms {
            return;
        }
        let idle = self.sockets.in_use() == 0
            && !self.log.is_writing()
            && self.adoptions.in_flight() == 0
            && self.accepts.paused_until_ms() < now_ms;
        self.scratch.next_tick_ms = now_ms + if idle { TICK_IDLE_MS } else { TICK_MS };
        self.feed(Input::Tick);
        self.sockets.tick(&mut self.ring, &mut self.scratch.counters);
        self.publish();
    }

    fn enter(&mut self) {
        let before = self.ring.enters;
        if self.must_not_wait() {
            self.ring.enter(Wait::NONE);
        } else {
            let Turning { sleeper, mesh, plane, log, .. } = self;
            let quiet = sleeper.prepare(|| mesh.is_empty() && plane.is_quiet() && !log.has_prepared());
            if quiet {
                let left_ms = self.scratch.next_tick_ms.saturating_sub(self.scratch.now.mono_ms);
                self.scratch.counters.waits += 1;
                self.ring.enter(self.pace.wait(left_ms.max(1) * 1_000_000));
                self.sleeper.awake();
            } else {
                self.ring.enter(Wait::NONE);
            }
        }
        self.scratch.counters.enters += self.ring.enters - before;
    }

    fn must_not_wait(&self) -> bool {
        self.core.wants_turn() || self.ring.has_completions() || self.sockets.any_parked()
    }

    /// Gives the shard what answers its effects at once.
    fn give_answers(&mut self) {
        while let Some(input) = self.scratch.answers.pop_front() {
            self.feed(input);
        }
    }

    fn feed_some(&mut self, input: Option<Input<'static>>) {
        if let Some(input) = input {
            self.feed(input);
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        if self.scratch.ending_until_ms.is_none() {
            self.core.step(self.scratch.now, input, &mut self.scratch.effects);
            self.perform();
        }
    }

    fn perform(&mut self) {
        if self.scratch.effects.is_empty() {
            return;
        }
        let mut effects = mem::take(&mut self.scratch.effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.scratch.effects = effects;
    }

    fn carry_out(&mut self, effect: Effect) {
        let Turning { ring, sockets, scratch, .. } = self;
        match effect {
            Effect::Send { door, buf } => {
                if buf.is_empty() || !sockets.is_open(door) {
                    let whole = buf.is_empty();
                    scratch.answers.push_back(Input::Sent { door, buf, whole });
                } else {
                    sockets.send(ring, door, buf, &mut scratch.counters);
                }
            }
            Effect::Close { door } => sockets.close(ring, door),
            Effect::Pause { door } => sockets.pause(ring, door),
            Effect::Resume { door } => sockets.resume(ring, door),
            Effect::Move { door, to, moved } => self.move_away(door, to, moved),
            Effect::HandOver { door, peer, bytes } => {
                if !sockets.is_open(door) {
                    // The peer was gone before its request could be given away.
                } else if self.plane.hand_overs.reserve() {
                    sockets.hand_over(ring, door, peer, bytes);
                } else {
                    scratch.counters.hand_overs_refused += 1;
                    sockets.refuse(ring, door);
                }
            }
            Effect::Write { segment, at, buf } => {
                scratch.answers.extend(self.log.write(ring, segment, at, buf))
            }
            Effect::WriteSuperblock(superblock) => self.log.write_superblock(ring, &superblock),
            Effect::PrepareSegment { segment } => scratch.answers.extend(self.log.prepare(segment)),
            Effect::Letter { to, letter } => self.mesh.post(to, letter),
            Effect::Report(report) => self.plane.report(report),
            Effect::StopAccepting => self.accepts.stop(ring),
            Effect::Fence(cause) => self.fence(&cause),
            Effect::Stop => {
                scratch.ending_until_ms = Some(scratch.now.mono_ms + END_MS);
                self.accepts.stop(ring);
                sockets.close_all(ring);
            }
        }
    }

    fn move_away(&mut self, door: Door, to: u16, moved: Box<Moved>) {
        assert!(to < self.mesh.count() && to != self.shard, "a door moves to another shard of this node");
        if self.sockets.is_open(door) {
            self.sockets.give_to(&mut self.ring, door, to, moved);
        }
    }

    /// Nothing was acknowledged after the failure, and nothing will be.
    fn fence(&self, cause: &FenceCause) -> ! {
        let (what, why) = match cause {
            FenceCause::Journal(why) => ("its journal cannot be written", why),
            FenceCause::Superblock(why) => ("its superblock cannot be written", why),
        };
        log::error!(
            "shard {} is fenced: {what} ({why}). Nothing is acknowledged from here on. The process ends now and serves again from what the disk holds \
             when it is started; if this repeats, look at `dmesg` and run `ringdesk doctor`",
            self.shard
        );
        exit::now(exit::FENCED);
    }

    fn publish(&mut self) {
        let Scratch { counters, values, .. } = &mut self.scratch;
        counters.doors_open = self.sockets.in_use().into();
        counters.doors_lingering = self.sockets.lingering().into();
        counters.accepts_armed = self.accepts.armed().into();
        counters.reports_waiting = self.plane.waiting.len() as u64;
        counters.completions_per_enter_x100 = self.pace.average_x100().into();
        values.clear();
        counters.collect(values);
        let own = values.len();
        values.resize(self.plane.gauges.len(), 0);
        self.core.counter_values(&mut values[own..]);
        self.plane.gauges.publish(values);
    }

    /// Whether nothing of ours is lent to the kernel.
    fn is_clean(&self) -> bool {
        self.sockets.in_use() == 0
            && self.accepts.armed() == 0
            && self.adoptions.in_flight() == 0
            && !self.log.is_writing()
    }

    fn is_over(&self) -> bool {
        let Some(until_ms) = self.scratch.ending_until_ms else { return false };
        (self.is_clean() && self.plane.waiting.is_empty()) || self.scratch.now.mono_ms >= until_ms
    }
}
