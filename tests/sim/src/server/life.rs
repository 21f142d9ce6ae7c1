//! The life of a process: start, recovery, crash, drain, stop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use desk::encode::Status;
use desk::record::{Record, kind};
use journal::{Damage, DamageKind, Level, Recovered, Superblock};
use mail::Order;
use shard::{Builder, Config};

use super::{Done, Mailbox, Process, Seat, Slot, Stage};
use crate::disk::{Disk, Flight};
use crate::marks::{Mark, Marks};
use crate::world::{Event, Phase, World};

impl World {
    pub(crate) fn start(&mut self) {
        let count = usize::from(self.plan.shard_count);
        let flushed_us: Vec<u64> = self.disks.iter().map(Disk::flushed_us).collect();
        if self.boots == 0 {
            self.check.boot(level_text(self.plan.level), flushed_us.clone());
        }
        self.boots = self.check.boots.len() as u32;
        self.check.boot(level_text(self.plan.level), flushed_us);
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
        let old = match Superblock::decode_best(disk.open(level == Level::Memory, self.now_us)) {
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
        self.disks[usize::from(shard)].begin_superblock(&superblock, self.now_us);
        let seat = self.seat(shard);
        seat.history = superblock.history_epoch as u32;
        seat.stage = Stage::Booting {
            builder: Box::new(builder),
            recovered: Box::new(recovered),
            superblock: Box::new(superblock),
        };
        self.disk_soon(shard);
    }

    pub(super) fn mark_recovered(&mut self, old: &Superblock, recovered: &Recovered) {
        let marks = &mut self.marks;
        marks.hit_if(Mark::Sealed, recovered.sealed);
        marks.hit_if(Mark::TornTail, recovered.torn_tail.is_some());
        marks.hit_if(Mark::Cut, recovered.cut.is_some());
        marks.hit_if(Mark::Rewound, recovered.rewound);
        marks.hit_if(Mark::Rolled, recovered.segments.len() > 1);
        marks.hit_if(Mark::ReplayMoved, recovered.replay_from > old.geometry.first());
    }

    pub(super) fn config(&mut self, shard: u16) -> Config {
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

    pub(super) fn begin_shard(&mut self, shard: u16) {
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
        // A fault from before the calm, which a stalled shard has only now met, may have ended the process while it was stopping.
        if self.stopping && self.process.as_ref().is_some_and(|process| process.serves() && !process.draining)
        {
            self.begin_drain();
        }
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

    pub(super) fn end_process(&mut self, power: bool) {
        self.process = None;
        if power {
            self.kernel_boot = self.dice.world.bytes16();
        }
        self.break_conns(power);
        if self.plan.clock_jumps && self.dice.world.percent(40) {
            self.jump();
        }
    }

    pub(super) fn jump(&mut self) {
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

    pub(super) fn begin_drain(&mut self) {
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
        self.check.read = self.check.conversations().collect();
        self.begin_drain();
    }

    pub(super) fn all_stopped(&mut self) {
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
    pub(super) fn check_sealed(&mut self, shard: u16) {
        let disk = &mut self.disks[usize::from(shard)];
        let superblock = match Superblock::decode_best(disk.open(false, self.now_us)) {
            Ok(superblock) => superblock,
            Err(error) => return self.check.broken(|| format!("shard {shard} after a clean stop: {error}")),
        };
        match journal::verify(disk, &superblock) {
            Ok(_) if self.check.is_rotten(self.boots, shard) => {}
            Ok(report) if report.found.sealed && !is_damaged(&report.found.damage) => {}
            other => self.check.broken(|| format!("shard {shard} after a clean stop: {other:?}")),
        }
    }
}

/// Whether anything was lost. A write that was torn in its padding lost nothing, and says so.
fn is_damaged(damage: &[Damage]) -> bool {
    damage.iter().any(|damage| damage.what != DamageKind::Padding)
}

/// Waiting conversations with a ticket, as the journal has them.
#[derive(Default)]
struct Waits(BTreeMap<u128, (Option<u64>, u64, bool)>);

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
