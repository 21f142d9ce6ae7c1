//! The process: real shards, and a driver that turns their effects into future events and those into inputs, as the edge does with its ring.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use desk::encode::Status;
use desk::record::{Record, kind};
use desk::settings::Settings;
use journal::{BlockBuf, Damage, DamageKind, Level, Recovered, Superblock};
use mail::{Answer, Letter, NoticeScope, Order, Report};
use shard::{Builder, Config, Door, Effect, FenceCause, Input, Moved, Now, Shard, StorageError};

use crate::disk::Flight;
use crate::marks::{Mark, Marks};
use crate::net::Place;
use crate::world::{Event, Phase, World};

/// A completion, as the driver holds it until the next turn.
pub(crate) enum Done {
    Accepted { door: Door, peer: SocketAddr },
    Arrived { door: Door, moved: Box<Moved> },
    MoveFailed { door: Door, moved: Box<Moved> },
    Received { door: Door, bytes: Vec<u8> },
    SentSome { door: Door },
    Sent { door: Door, buf: Vec<u8>, whole: bool },
    Gone { door: Door },
    Order(Order),
    Wrote { buf: BlockBuf, result: Result<(), StorageError> },
    WroteSuperblock { result: Result<(), StorageError> },
    SegmentReady { segment: u32 },
    SegmentFailed { segment: u32, error: StorageError },
    Tick,
}

/// Whether a completion is the first that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    First,
    Behind,
}

/// How far a shard has come.
enum Stage {
    /// Reads its journal.
    Reading,
    /// Its superblock is being written.
    Booting {
        builder: Box<Builder>,
        recovered: Box<Recovered>,
        superblock: Box<Superblock>,
    },
    Running(Box<Shard>),
    Stopped,
}

/// One place of a descriptor table.
struct Slot {
    generation: u32,
    conn: Option<usize>,
}

/// A shard's thread.
struct Seat {
    stage: Stage,
    inbox: VecDeque<Done>,
    turn_queued: bool,
    slots: Vec<Slot>,
    accepting: bool,
    /// A block that is lent to the disk.
    lent: Option<BlockBuf>,
    history: u32,
}

/// A mailbox from one shard to another.
#[derive(Default)]
struct Mailbox {
    letters: VecDeque<(u64, Letter)>,
    last_us: u64,
}

/// One run of the server.
pub(crate) struct Process {
    seats: Vec<Seat>,
    /// From shard to shard.
    mail: Vec<Mailbox>,
    epoch: u128,
    mono_base_ms: u64,
    draining: bool,
}

impl Process {
    pub(crate) fn arrive(&mut self, shard: u16, done: Done) -> Arrival {
        let seat = &mut self.seats[usize::from(shard)];
        if matches!(seat.stage, Stage::Stopped) {
            return Arrival::Behind;
        }
        seat.inbox.push_back(done);
        match core::mem::replace(&mut seat.turn_queued, true) {
            false => Arrival::First,
            true => Arrival::Behind,
        }
    }

    /// Whether every shard serves.
    pub(crate) fn serves(&self) -> bool {
        self.seats.iter().all(|seat| matches!(seat.stage, Stage::Running(_)))
    }

    pub(crate) fn state(&self) -> String {
        let stage = |seat: &Seat| match &seat.stage {
            Stage::Reading => "reading".into(),
            Stage::Booting { .. } => "booting".into(),
            Stage::Running(_) => format!(
                "running, {} connections",
                seat.slots.iter().filter(|slot| slot.conn.is_some()).count()
            ),
            Stage::Stopped => "stopped".to_owned(),
        };
        let mail: Vec<usize> = self.mail.iter().map(|mailbox| mailbox.letters.len()).collect();
        format!(
            "{:?} draining {} mail {mail:?}",
            self.seats.iter().map(stage).collect::<Vec<_>>(),
            self.draining
        )
    }
}

impl World {
    fn seat(&mut self, shard: u16) -> &mut Seat {
        &mut self.process.as_mut().expect("the process runs").seats[usize::from(shard)]
    }

    fn is_boot(&self, boot: u32) -> bool {
        self.process.is_some() && self.boots == boot
    }

    // Start and end.

    pub(crate) fn start(&mut self) {
        let count = usize::from(self.plan.shard_count);
        if self.boots == 0 {
            self.check.boot(level_text(self.plan.level));
        }
        self.boots = self.check.boots.len() as u32;
        self.check.boot(level_text(self.plan.level));
        let table = self.plan.table_size as usize;
        let seats = (0..count)
            .map(|_| Seat {
                stage: Stage::Reading,
                inbox: VecDeque::new(),
                turn_queued: false,
                slots: (0..table).map(|_| Slot { generation: 0, conn: None }).collect(),
                accepting: true,
                lent: None,
                history: 0,
            })
            .collect();
        let mail = (0..count * count).map(|_| Mailbox::default()).collect();
        let epoch = self.dice.world.u128();
        let mono_base_ms = self.dice.world.below(5_000_000);
        self.process = Some(Process { seats, mail, epoch, mono_base_ms, draining: false });
        self.trace.note("process", u64::from(self.boots), "start", String::new);
        if self.phase == Phase::Chaos && self.crash_in.is_none() && self.crashes < self.plan.crashes_min {
            let every = self.plan.crash_every;
            self.crash_in = Some(self.dice.crash.between(every / 2, every * 3 / 2));
        }
        for shard in 0..self.plan.shard_count {
            let delay = self.dice.disk.between(50, 5_000);
            let boot = self.boots;
            self.after(delay, Event::Recover { boot, shard });
        }
        if self.phase == Phase::Chaos && self.plan.orders_permille > 0 {
            let delay = self.dice.world.between(10_000, 3_000_000);
            let boot = self.boots;
            self.after(delay, Event::Order { boot });
        }
    }

    /// A shard has read its journal: what the disk holds is replayed, and the boot is made known on the disk before anything is appended.
    pub(crate) fn recover(&mut self, boot: u32, shard: u16) {
        if !self.is_boot(boot) {
            return;
        }
        let config = self.config(shard);
        let level = self.plan.level;
        let disk = &mut self.disks[usize::from(shard)];
        let old = match Superblock::decode_best(disk.open(level == Level::Memory)) {
            Ok(superblock) => superblock,
            Err(error) => return self.check.broken(|| format!("shard {shard}: {error}")),
        };
        let mut builder = Builder::new(config, Arc::clone(&self.settings));
        let mut waits = Waits::default();
        let marks = &mut self.marks;
        let recovered = journal::recover(disk, &old, &self.kernel_boot, &mut |record| {
            marks.hit_if(Mark::RecordStarted, record.kind == kind::STARTED);
            mark_record(marks, record.kind);
            if let Ok(record) = Record::read(record.kind, record.version, record.body) {
                waits.see(&record);
            }
            builder.replay(&record);
        });
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) => return self.check.broken(|| format!("shard {shard}: {error}")),
        };
        disk.recovered(&recovered.segments, &recovered.free);
        let superblock = old.begin_boot(&recovered, self.kernel_boot, level);
        self.mark_recovered(&old, &recovered);
        let is_rotten = self.check.is_rotten(boot, shard);
        if !is_rotten && (is_damaged(&recovered.damage) || builder.unread() > 0) {
            let unread = builder.unread();
            return self.check.broken(|| {
                format!(
                    "shard {shard}: nothing was damaged, and recovery says {recovered:?}, unread {unread}"
                )
            });
        }
        self.trace.note("shard", u64::from(shard), "recovered", || {
            format!("{} records to {}", recovered.records, recovered.end)
        });
        self.check.boots[boot as usize].history[usize::from(shard)] = superblock.history_epoch as u32;
        if !is_rotten {
            self.check.boots[boot as usize].waits.extend(waits.done());
        }
        self.disks[usize::from(shard)].begin_superblock(&superblock);
        let seat = self.seat(shard);
        seat.history = superblock.history_epoch as u32;
        seat.stage = Stage::Booting {
            builder: Box::new(builder),
            recovered: Box::new(recovered),
            superblock: Box::new(superblock),
        };
        self.disk_soon(shard);
    }

    fn mark_recovered(&mut self, old: &Superblock, recovered: &Recovered) {
        let marks = &mut self.marks;
        marks.hit_if(Mark::Sealed, recovered.sealed);
        marks.hit_if(Mark::TornTail, recovered.torn_tail.is_some());
        marks.hit_if(Mark::Cut, recovered.cut.is_some());
        marks.hit_if(Mark::Rewound, recovered.rewound);
        marks.hit_if(Mark::Rolled, recovered.segments.len() > 1);
        marks.hit_if(Mark::ReplayMoved, recovered.replay_from > old.geometry.first());
    }

    fn config(&mut self, shard: u16) -> Config {
        let epoch = self.process.as_ref().expect("the process runs").epoch;
        Config {
            shard,
            shard_count: self.plan.shard_count,
            site: self.settings.site,
            epoch,
            seed: self.dice.world.bytes32(),
            mailbox_size: self.plan.mailbox_size,
            hot_bytes_max: self.plan.hot_bytes_max,
            session_count_max: self.plan.session_count_max,
            segment_count_max: self.plan.segment_count_max,
            echo_path: None,
            echo_message_size_max: 1 << 20,
            echo_fragment_count_max: 1024,
            server: "ringdesk/sim".into(),
        }
    }

    fn begin_shard(&mut self, shard: u16) {
        let now = self.now();
        let seat = self.seat(shard);
        let Stage::Booting { builder, recovered, superblock } =
            core::mem::replace(&mut seat.stage, Stage::Reading)
        else {
            unreachable!("its superblock was being written")
        };
        let mut effects = Vec::new();
        let begun = builder.start(now, &recovered, *superblock, &mut effects);
        self.seat(shard).stage = Stage::Running(Box::new(begun));
        let boot = self.boots;
        self.after(10_000, Event::Tick { boot, shard });
        self.queue_turn(shard);
        self.carry_out(shard, effects);
    }

    fn now(&self) -> Now {
        let base = self.process.as_ref().map_or(0, |process| process.mono_base_ms);
        Now { mono_ms: base + self.now_us / 1000, wall_ms: self.wall_ms() }
    }

    /// Counts down to the next crash; says whether it has come.
    pub(crate) fn crash_is_due(&mut self) -> bool {
        let Some(left) = &mut self.crash_in else { return false };
        if self.process.is_none() {
            return false;
        }
        *left = left.saturating_sub(1);
        if *left > 0 {
            return false;
        }
        self.crash_in = None;
        let asked = self.dice.crash.percent(self.plan.drain_percent);
        let process = self.process.as_ref().expect("seen above");
        if asked && !process.draining && process.serves() {
            self.begin_drain();
            let (short, long) = (self.dice.crash.between(1, 300), self.dice.crash.between(20_000, 50_000));
            self.crash_in = Some(if self.dice.crash.percent(50) { short } else { long });
            return false;
        }
        let power = self.dice.crash.percent(self.plan.power_percent);
        self.crash(power);
        true
    }

    /// The process dies, with or without the power.
    pub(crate) fn crash(&mut self, power: bool) {
        self.crashes += 1;
        self.trace.note("process", u64::from(self.boots), "crash", || {
            if power { "power".into() } else { "kill".into() }
        });
        self.marks.hit(if power { Mark::CrashPower } else { Mark::CrashKill });
        let process = self.process.as_ref().expect("only what runs can crash");
        let booting = !process.serves() && !process.draining;
        self.marks.hit_if(Mark::CrashDrain, process.draining);
        self.marks.hit_if(Mark::CrashBoot, booting);
        self.marks.hit_if(Mark::CrashBootTwice, booting && self.crashed_in_boot);
        for shard in 0..self.plan.shard_count {
            self.mark_counters(shard);
            let flying = self.disks[usize::from(shard)].flying();
            self.marks.hit_if(Mark::DropCleared, matches!(flying, Some(Flight::Superblock { .. })));
            self.disks[usize::from(shard)].crash(power, &mut self.dice.disk);
        }
        if self.phase == Phase::Chaos && self.dice.disk.percent(self.plan.rot_percent) {
            let shard = self.dice.disk.below(u64::from(self.plan.shard_count)) as u16;
            if self.disks[usize::from(shard)].rot(&mut self.dice.disk) {
                self.trace.note("disk", u64::from(shard), "rots", String::new);
                self.marks.hit(Mark::Rotten);
                self.check.rots[usize::from(shard)] += 1;
            }
        }
        self.end_process(power);
        // Again, and this time during recovery.
        let again = self.phase == Phase::Chaos && self.dice.crash.percent(self.plan.crash_again_percent);
        if again {
            let soon = u64::from(self.plan.shard_count) * 6;
            self.crash_in = Some(self.dice.crash.between(1, soon));
        }
        self.crashed_in_boot = booting;
        let delay = self.dice.world.between(1_000, 200_000);
        self.after(delay, Event::Start);
    }

    fn end_process(&mut self, power: bool) {
        self.process = None;
        if power {
            self.kernel_boot = self.dice.world.bytes16();
        }
        self.break_conns(power);
        if self.plan.clock_jumps && self.dice.world.percent(40) {
            self.jump();
        }
    }

    fn jump(&mut self) {
        const TEN_YEARS_MS: u64 = 10 * 365 * 86_400_000;
        let jump = self.dice.world.below(TEN_YEARS_MS) as i64;
        self.wall_jump_ms = match self.dice.world.below(3) {
            0 => 0,
            1 => jump,
            _ => -jump,
        };
        self.marks.hit_if(Mark::ClockAhead, self.wall_jump_ms > 0);
        self.marks.hit_if(Mark::ClockBack, self.wall_jump_ms < 0);
    }

    fn begin_drain(&mut self) {
        self.process.as_mut().expect("the process runs").draining = true;
        for shard in 0..self.plan.shard_count {
            let delay = self.dice.world.below(2_000);
            let boot = self.boots;
            self.after(delay, Event::Drain { boot, shard });
        }
        let boot = self.boots;
        self.after(40_000_000, Event::DrainTooLong { boot });
    }

    pub(crate) fn drain(&mut self, boot: u32, shard: u16) {
        if self.is_boot(boot) {
            let grace_ms = self.dice.world.pick(&[0, 50, 500]);
            self.arrive(shard, Done::Order(Order::Drain { after_ms: 100, grace_ms }));
        }
    }

    /// Whoever asked it to stop loses patience.
    pub(crate) fn drain_too_long(&mut self, boot: u32) {
        if self.is_boot(boot) && !self.stopping {
            self.crash(false);
        }
    }

    pub(crate) fn stop_for_good(&mut self) {
        self.stopping = true;
        self.begin_drain();
    }

    fn all_stopped(&mut self) {
        let process = self.process.as_ref().expect("the process runs");
        if !process.seats.iter().all(|seat| matches!(seat.stage, Stage::Stopped)) {
            return;
        }
        self.marks.hit(Mark::CleanStop);
        self.trace.note("process", u64::from(self.boots), "stopped", String::new);
        self.crashes += 1;
        if self.stopping {
            self.stopped = true;
            for shard in 0..self.plan.shard_count {
                self.disks[usize::from(shard)].crash(true, &mut self.dice.disk);
                self.check_sealed(shard);
            }
            return;
        }
        for shard in 0..usize::from(self.plan.shard_count) {
            self.disks[shard].crash(true, &mut self.dice.disk);
        }
        self.crash_in = None;
        // Everything was flushed: the power may go now.
        let power = self.dice.world.percent(50);
        self.end_process(power);
        let delay = self.dice.world.between(1_000, 200_000);
        self.after(delay, Event::Start);
    }

    /// After a clean stop the disk holds a sealed log.
    fn check_sealed(&mut self, shard: u16) {
        let disk = &mut self.disks[usize::from(shard)];
        let superblock = match Superblock::decode_best(disk.open(false)) {
            Ok(superblock) => superblock,
            Err(error) => return self.check.broken(|| format!("shard {shard} after a clean stop: {error}")),
        };
        match journal::verify(disk, &superblock) {
            Ok(_) if self.check.is_rotten(self.boots, shard) => {}
            Ok(report) if report.found.sealed && !is_damaged(&report.found.damage) => {}
            other => self.check.broken(|| format!("shard {shard} after a clean stop: {other:?}")),
        }
    }

    // Turns.

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

    fn rooms(&self, shard: u16) -> Vec<u32> {
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

    // Effects.

    /// Carries effects out in their order; the process may die between any two of them.
    fn carry_out(&mut self, shard: u16, effects: Vec<Effect>) {
        for effect in effects {
            if self.process.is_none() || self.crash_is_due() {
                return;
            }
            self.trace.note("shard", u64::from(shard), effect_name(&effect), || effect_text(&effect));
            self.effect(shard, effect);
        }
    }

    fn effect(&mut self, shard: u16, effect: Effect) {
        match effect {
            Effect::Send { door, buf } => {
                self.marks.hit(Mark::OutSend);
                self.trace.fold_bytes(&buf);
                let conn = self.conn_at(shard, door);
                self.begin_send(conn, buf);
            }
            Effect::Close { door } => {
                self.marks.hit(Mark::OutClose);
                let conn = self.conn_at(shard, door);
                self.close_conn(conn, shard, door);
            }
            Effect::Pause { door } => {
                self.marks.hit(Mark::OutPause);
                let conn = self.conn_at(shard, door);
                self.conns[conn].paused = true;
            }
            Effect::Resume { door } => {
                self.marks.hit(Mark::OutResume);
                let conn = self.conn_at(shard, door);
                self.conns[conn].paused = false;
                self.queue_up(conn);
                self.lost_soon(conn);
            }
            Effect::Move { door, to, moved } => {
                self.marks.hit(Mark::OutMove);
                assert_ne!(to, shard, "a connection moves to another shard");
                let conn = self.conn_at(shard, door);
                self.conns[conn].place = Place::Moving { shard, door };
                self.conns[conn].moved = Some(moved);
                let delay = self.dice.net.between(5, 2_000);
                self.after(delay, Event::Moved { conn, to });
            }
            Effect::HandOver { door, peer: _, bytes } => {
                self.marks.hit(Mark::OutHandOver);
                let conn = self.conn_at(shard, door);
                self.free_door(shard, door);
                self.hand_over(conn, bytes);
            }
            Effect::Write { segment, at, buf } => {
                self.marks.hit(Mark::OutWrite);
                self.trace.fold_bytes(buf.as_bytes());
                self.disks[usize::from(shard)].begin_block(segment, at, buf.as_bytes());
                self.seat(shard).lent = Some(buf);
                self.disk_soon(shard);
            }
            Effect::WriteSuperblock(superblock) => {
                self.marks.hit(Mark::OutSuperblock);
                self.disks[usize::from(shard)].begin_superblock(&superblock);
                self.disk_soon(shard);
            }
            Effect::PrepareSegment { segment } => {
                self.marks.hit(Mark::OutSegment);
                self.disks[usize::from(shard)].begin_segment(segment);
                self.marks.hit_if(Mark::SegmentReused, self.disks[usize::from(shard)].is_wiping());
                let (low, high) = self.plan.segment_us;
                let delay = self.dice.disk.between(low, high);
                let boot = self.boots;
                self.after(delay, Event::Segment { boot, shard });
            }
            Effect::Letter { to, letter } => {
                self.marks.hit(Mark::OutLetter);
                self.post(shard, to, letter);
            }
            Effect::Report(report) => self.report(report),
            Effect::StopAccepting => {
                self.marks.hit(Mark::OutStopAccepting);
                self.seat(shard).accepting = false;
            }
            Effect::Fence(cause) => {
                self.marks.hit(match cause {
                    FenceCause::Journal(_) => Mark::OutFenceJournal,
                    FenceCause::Superblock(_) => Mark::OutFenceSuperblock,
                });
                self.crash(false);
            }
            Effect::Stop => {
                self.marks.hit(Mark::OutStop);
                self.mark_counters(shard);
                let seat = self.seat(shard);
                seat.stage = Stage::Stopped;
                seat.inbox.clear();
                self.all_stopped();
            }
        }
    }

    fn post(&mut self, from: u16, to: u16, letter: Letter) {
        assert_ne!(from, to, "a letter to oneself stays inside");
        let count = usize::from(self.plan.shard_count);
        let size = self.plan.mailbox_size as usize;
        let (low, high) = self.plan.mail_us;
        let delay = self.dice.turns.between(low, high);
        let now_us = self.now_us;
        let mailbox =
            &mut self.process.as_mut().expect("it runs").mail[usize::from(from) * count + usize::from(to)];
        assert!(mailbox.letters.len() < size, "there is room: the shard counted");
        let at_us = (now_us + delay).max(mailbox.last_us);
        mailbox.last_us = at_us;
        mailbox.letters.push_back((at_us, letter));
        let full = mailbox.letters.len() + size / 4 >= size;
        self.marks.hit_if(Mark::FullMailbox, full);
        let boot = self.boots;
        if matches!(self.seat(to).stage, Stage::Stopped) {
            return;
        }
        if !core::mem::replace(&mut self.seat(to).turn_queued, true) {
            self.at(at_us, Event::Turn { boot, shard: to });
        }
    }

    fn report(&mut self, report: Report) {
        self.marks.hit(match report {
            Report::Serving => Mark::OutServing,
            Report::SettingsApplied { .. } => Mark::OutSettings,
            Report::Durable(_) => Mark::OutDurable,
            Report::StorageFull(_) => Mark::OutStorageFull,
            Report::StorageBack => Mark::OutStorageBack,
            Report::Sealed(_) => Mark::OutSealed,
            Report::HandedOver { .. } => unreachable!("made by the edge"),
        });
    }

    // Doors.

    fn conn_of(&self, shard: u16, door: Door) -> Option<usize> {
        let slot = &self.process.as_ref()?.seats[usize::from(shard)].slots[door.index as usize];
        slot.conn.filter(|_| slot.generation == door.generation)
    }

    fn conn_at(&mut self, shard: u16, door: Door) -> usize {
        let slot = &self.seat(shard).slots[door.index as usize];
        assert_eq!(slot.generation, door.generation, "effects name doors that are open");
        slot.conn.expect("effects name doors that are open")
    }

    /// A shard that takes connections.
    pub(crate) fn accepting_shard(&mut self) -> Option<u16> {
        let process = self.process.as_ref()?;
        let open: Vec<u16> = (0..self.plan.shard_count)
            .filter(|&shard| {
                let seat = &process.seats[usize::from(shard)];
                seat.accepting && matches!(seat.stage, Stage::Running(_))
            })
            .collect();
        (!open.is_empty()).then(|| open[self.dice.net.index(open.len())])
    }

    /// A free place of the table, low ones first.
    pub(crate) fn open_door(&mut self, shard: u16, conn: usize) -> Option<Door> {
        self.generation += 1;
        let generation = self.generation;
        let seat = &mut self.process.as_mut()?.seats[usize::from(shard)];
        if !matches!(seat.stage, Stage::Running(_)) {
            return None;
        }
        let index = seat.slots.iter().position(|slot| slot.conn.is_none())?;
        seat.slots[index] = Slot { generation, conn: Some(conn) };
        Some(Door { index: index as u32, generation })
    }

    pub(crate) fn free_door(&mut self, shard: u16, door: Door) {
        let Some(process) = self.process.as_mut() else { return };
        let slot = &mut process.seats[usize::from(shard)].slots[door.index as usize];
        if slot.generation == door.generation {
            slot.conn = None;
        }
    }

    // Disks.

    fn disk_soon(&mut self, shard: u16) {
        let (low, high) = self.plan.disk_us;
        let stall = self.dice.disk.permille(self.plan.disk_stall_permille);
        let delay = self.dice.disk.between(low, high) + if stall { self.plan.disk_stall_us } else { 0 };
        let boot = self.boots;
        self.after(delay, Event::Disk { boot, shard });
    }

    pub(crate) fn disk_lands(&mut self, boot: u32, shard: u16) {
        if !self.is_boot(boot) {
            return;
        }
        let fails = self.dice.disk.below(10_000) < self.plan.disk_fail;
        let disk = &mut self.disks[usize::from(shard)];
        let is_block = matches!(disk.flying(), Some(Flight::Block { .. }));
        let result = if fails {
            disk.fail(&mut self.dice.disk);
            Err(StorageError::Failed("an error of the device".into()))
        } else {
            if !disk.land() {
                // The other half of a superblock.
                return self.disk_soon(shard);
            }
            Ok(())
        };
        if matches!(self.seat(shard).stage, Stage::Booting { .. }) {
            return match result {
                Ok(()) => self.begin_shard(shard),
                Err(_) => self.crash(false),
            };
        }
        if is_block {
            let buf = self.seat(shard).lent.take().expect("a block was lent");
            self.arrive(shard, Done::Wrote { buf, result });
        } else {
            self.arrive(shard, Done::WroteSuperblock { result });
        }
    }

    pub(crate) fn segment_lands(&mut self, boot: u32, shard: u16) {
        if !self.is_boot(boot) {
            return;
        }
        let fails = self.dice.disk.percent(self.plan.segment_fail_percent);
        if fails && self.disk_full_until_us <= self.now_us {
            self.disk_full_until_us = self.now_us + self.plan.full_us;
        }
        let disk = &mut self.disks[usize::from(shard)];
        let done = if self.disk_full_until_us > self.now_us {
            let error = match self.dice.disk.percent(80) {
                true => StorageError::Full,
                false => StorageError::Failed("an error of the device".into()),
            };
            Done::SegmentFailed { segment: disk.segment_failed(&mut self.dice.disk), error }
        } else {
            Done::SegmentReady { segment: disk.segment_ready() }
        };
        self.arrive(shard, done);
    }

    // The control plane.

    pub(crate) fn order(&mut self, boot: u32) {
        if !self.is_boot(boot) || self.phase != Phase::Chaos {
            return;
        }
        if self.dice.world.percent(50) {
            let inbox = self.settings.inboxes[0].id;
            let scope =
                if self.dice.world.percent(50) { NoticeScope::All } else { NoticeScope::Inbox(inbox) };
            for shard in 0..self.plan.shard_count {
                self.arrive(
                    shard,
                    Done::Order(Order::Notice { text: "maintenance \"tonight\"".into(), scope }),
                );
            }
        } else {
            let settings = self.changed_settings();
            self.settings = Arc::new(settings);
            for shard in 0..self.plan.shard_count {
                let settings = Arc::clone(&self.settings);
                self.arrive(shard, Done::Order(Order::Settings(settings)));
            }
            self.hand_out_tickets();
        }
        let delay = 20_000_000 / self.plan.orders_permille;
        self.after(delay, Event::Order { boot });
    }

    fn changed_settings(&mut self) -> Settings {
        let mut settings = (*self.settings).clone();
        settings.version += 1;
        let at = self.dice.world.index(settings.agents.len());
        match self.dice.world.below(3) {
            0 => settings.agents[at].session_epoch += 1,
            1 if settings.agents[at].capacity > 0 => {
                let capacity = self.dice.world.between(1, u64::from(self.plan.capacity) + 1);
                settings.agents[at].capacity = capacity as u16;
                self.check.capacity(settings.agents[at].id.bits(), capacity as u32);
            }
            _ => settings.limits.offer_ttl_ms = self.dice.world.pick(&[1_000, 5_000]),
        }
        settings
    }

    /// The process is about to end: what the shard has counted says what was reached.
    fn mark_counters(&mut self, shard: u16) {
        let marks = &mut self.marks;
        let seat = &mut self.process.as_mut().expect("the process runs").seats[usize::from(shard)];
        let Stage::Running(running) = &mut seat.stage else { return };
        let counters = running.counters();
        marks.hit_if(Mark::FullBehind, counters.deliveries_behind > 0);
        marks.hit_if(Mark::FullParked, counters.letters_parked > 0);
        marks.hit_if(Mark::FullStalled, counters.stalls > 0);
        marks.hit_if(Mark::FullHints, counters.hints_dropped > 0);
        marks.hit_if(Mark::FullStorage, counters.refused_storage > 0);
        marks.hit_if(Mark::FullHot, counters.refused_overloaded > 0);
        marks.hit_if(Mark::FullOutbox, counters.closed_slow > 0);
        marks.hit_if(Mark::Pulled, counters.pulls > 0);
        marks.hit_if(Mark::Crossed, counters.messages_crossed > 0);
        marks.hit_if(Mark::Expired, counters.sessions_expired > 0);
        marks.hit_if(Mark::AckIgnored, counters.acks_ignored > 0);
        marks.hit_if(Mark::Checkpointed, counters.checkpoint_rounds > 0);
        let lost = counters.events_lost;
        if lost > 0 && !self.check.is_rotten(self.boots, shard) {
            self.check.broken(|| format!("shard {shard}: nothing was damaged, and {lost} events are lost"));
        }
    }
}

/// Whether anything was lost. A write that was torn in its padding lost nothing, and says so.
fn is_damaged(damage: &[Damage]) -> bool {
    damage.iter().any(|damage| damage.what != DamageKind::Padding)
}

/// What is carried through one turn.
struct Turn {
    shard: u16,
    now: Now,
    effects: Vec<Effect>,
    /// Effects are carried out after each letter, not after all of a mailbox.
    eager: bool,
}

/// Waiting conversations with a ticket, as the journal has them.
#[derive(Default)]
struct Waits(std::collections::BTreeMap<u128, (Option<u64>, u64, bool)>);

impl Waits {
    fn see(&mut self, record: &Record<'_>) {
        let c = record.conversation().bits();
        match record {
            Record::Started(started) => {
                self.0.insert(c, (None, started.ts_ms, true));
            }
            Record::Reopened(reopened) => {
                self.0.insert(c, (None, reopened.ts_ms, true));
            }
            Record::Assigned(_) | Record::Closed(_) => {
                self.0.remove(&c);
            }
            Record::Queued { ticket, .. } => {
                if let Some(wait) = self.0.get_mut(&c) {
                    wait.0 = Some(*ticket);
                }
            }
            Record::SnapshotConversation(snapshot) => {
                let waiting = snapshot.status == Status::Waiting;
                self.0.insert(c, (snapshot.ticket, snapshot.changed_ms, waiting));
            }
            Record::Message(_) | Record::Note(_) | Record::Receipts { .. } | Record::SnapshotEvents(_) => {}
        }
    }

    fn done(self) -> impl Iterator<Item = (u128, (u64, u64))> {
        self.0
            .into_iter()
            .filter_map(|(c, (ticket, since, waiting))| Some((c, (ticket.filter(|_| waiting)?, since))))
    }
}

fn level_text(level: Level) -> &'static str {
    match level {
        Level::Memory => "memory",
        Level::Disk => "disk",
    }
}

fn mark_record(marks: &mut Marks, number: u16) {
    marks.hit(match number {
        kind::STARTED => Mark::RecordStarted,
        kind::MESSAGE => Mark::RecordMessage,
        kind::NOTE => Mark::RecordNote,
        kind::ASSIGNED => Mark::RecordAssigned,
        kind::CLOSED => Mark::RecordClosed,
        kind::REOPENED => Mark::RecordReopened,
        kind::QUEUED => Mark::RecordQueued,
        kind::RECEIPTS => Mark::RecordReceipts,
        kind::SNAPSHOT_CONVERSATION => Mark::RecordSnapshotConversation,
        kind::SNAPSHOT_EVENTS => Mark::RecordSnapshotEvents,
        _ => return,
    });
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
            Answer::Done => Mark::AnswerDone,
        },
    });
}

fn effect_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Send { .. } => "> send",
        Effect::Close { .. } => "> close",
        Effect::Pause { .. } => "> pause",
        Effect::Resume { .. } => "> resume",
        Effect::Move { .. } => "> move",
        Effect::HandOver { .. } => "> hand over",
        Effect::Write { .. } => "> write",
        Effect::WriteSuperblock(_) => "> superblock",
        Effect::PrepareSegment { .. } => "> segment",
        Effect::Letter { .. } => "> letter",
        Effect::Report(_) => "> report",
        Effect::StopAccepting => "> stop accepting",
        Effect::Fence(_) => "> fence",
        Effect::Stop => "> stop",
    }
}

fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Send { door, buf } => format!("{door:?} {} bytes", buf.len()),
        Effect::Write { segment, at, buf } => format!("{segment} at {at}, {} bytes", buf.len()),
        Effect::HandOver { door, bytes, .. } => format!("{door:?} {} bytes", bytes.len()),
        other => format!("{other:?}"),
    }
}
