//! Effects: carried out in their order, each as something that will happen later.

use mail::{Letter, Report};
use shard::{Door, Effect, FenceCause, StorageError};

use super::{Done, Slot, Stage};
use crate::disk::Flight;
use crate::marks::Mark;
use crate::net::Place;
use crate::world::{Event, World};

impl World {
    /// Carries effects out in their order; the process may die between any two of them.
    pub(super) fn carry_out(&mut self, shard: u16, effects: Vec<Effect>) {
        for effect in effects {
            if self.process.is_none() || self.crash_is_due() {
                return;
            }
            self.trace.note("shard", u64::from(shard), effect_name(&effect), || effect_text(&effect));
            self.effect(shard, effect);
        }
    }

    pub(super) fn effect(&mut self, shard: u16, effect: Effect) {
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
                self.disks[usize::from(shard)].begin_superblock(&superblock, self.now_us);
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

    pub(super) fn post(&mut self, from: u16, to: u16, letter: Letter) {
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

    pub(super) fn report(&mut self, report: Report) {
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

    pub(super) fn conn_of(&self, shard: u16, door: Door) -> Option<usize> {
        let slot = &self.process.as_ref()?.seats[usize::from(shard)].slots[door.index as usize];
        slot.conn.filter(|_| slot.generation == door.generation)
    }

    pub(super) fn conn_at(&mut self, shard: u16, door: Door) -> usize {
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

    pub(super) fn disk_soon(&mut self, shard: u16) {
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
        let disk = &mut self.disks[usize::from(shard)];
        // The rare write on which acknowledged words hang fails more often than others.
        let odds = if disk.is_flushing_late() { 50 } else { 1 };
        let fails = self.dice.disk.below(10_000) < self.plan.disk_fail * odds;
        let is_block = matches!(disk.flying(), Some(Flight::Block { .. }));
        let result = if fails {
            let forgotten = disk.fail(&mut self.dice.disk);
            self.marks.hit_if(Mark::FlushFailed, forgotten);
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
