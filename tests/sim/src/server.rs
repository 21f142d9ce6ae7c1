//! The process: real shards, and a driver that turns their effects into future events and those into inputs, as the edge does with its ring.

mod effects;
mod life;
mod turn;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use desk::settings::Settings;
use journal::{BlockBuf, Recovered, Superblock};
use mail::{Letter, NoticeScope, Order};
use shard::{Builder, Door, Moved, Now, Shard, StorageError};

use crate::marks::Mark;
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

    fn now(&self) -> Now {
        let base = self.process.as_ref().map_or(0, |process| process.mono_base_ms);
        Now { mono_ms: base + self.now_us / 1000, wall_ms: self.wall_ms() }
    }

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
