//! The shard's state and the one way in. `step` only dispatches; each part has its own file.

use std::collections::VecDeque;
use std::sync::Arc;

use desk::conversation::Conversations;
use desk::dispatcher::{Dispatcher, Out};
use desk::encode::Level;
use desk::id::{Entropy, SLOT_COUNT, Slot};
use desk::record::{Record, RecordError};
use desk::request::Parser;
use desk::settings::Settings;
use journal::{RecordRef, Recovered, Superblock};
use mail::{Letter, Report};
use wire::PartialPool;

use crate::counters::Counters;
use crate::door::Doors;
use crate::due::Line;
use crate::effect::Effect;
use crate::home::Homes;
use crate::input::{Config, Input, Now};
use crate::lists::Lists;
use crate::log::Log;
use crate::plant;
use crate::pool::Pool;
use crate::post::Post;
use crate::session::Sessions;
use crate::stop::Stopping;
use crate::watch::Watches;

/// Incomplete messages whose buffers are kept for the next ones.
const PARTIALS_KEPT: usize = 256;
/// A larger buffer of an incomplete message is freed.
const PARTIAL_SIZE_KEPT: usize = 64 * 1024;

/// Collects what recovery reads, before the shard begins.
pub struct Builder {
    config: Config,
    settings: Arc<Settings>,
    conversations: Conversations,
    /// Records that could not be read although their checksum holds: what they follow is lost, or our own mistake.
    unread: u64,
    /// The first record that only a newer program knows.
    newer: Option<RecordError>,
}

impl Builder {
    /// A shard with nothing in it yet.
    pub fn new(config: Config, settings: Arc<Settings>) -> Builder {
        assert!(
            config.shard < config.shard_count && config.shard_count <= 64,
            "shards are counted in one word"
        );
        let conversations = Conversations::new(config.hot_bytes_max);
        Builder { config, settings, conversations, unread: 0, newer: None }
    }

    /// One recovered record, in the order of the journal.
    pub fn replay(&mut self, record: &RecordRef<'_>) {
        let read = Record::read(record.kind, record.version, record.body);
        if let Err(error @ (RecordError::UnknownKind(_) | RecordError::UnknownVersion { .. })) = read {
            self.newer.get_or_insert(error);
        }
        let applied = read.ok().and_then(|record| self.conversations.apply(&record).ok());
        self.unread += u64::from(applied.is_none());
    }

    /// Records that could not be understood; any is damage, and what is missing by them is told as `history_lost`.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// The first record that only a newer program knows. To go on without it would give its numbers out again and checkpoint it away: do not start.
    pub fn newer(&self) -> Option<RecordError> {
        self.newer
    }

    /// Begins. `superblock` is this boot's and durable.
    pub fn start(
        mut self,
        now: Now,
        recovered: &Recovered,
        superblock: Superblock,
        effects: &mut Vec<Effect>,
    ) -> Shard {
        let config = self.config;
        assert_eq!(superblock.shard, config.shard, "the journal is this shard's");
        let damage = self.conversations.finish_replay();
        let mut shard = Shard::new(config, self.settings, self.conversations, recovered, superblock, now);
        shard.counters.events_lost = damage.iter().map(lost_events).sum();
        shard.begin();
        effects.append(&mut shard.effects);
        shard
    }
}

fn lost_events(damage: &desk::conversation::Damage) -> u64 {
    match damage {
        desk::conversation::Damage::Missing { from, to, .. } => u64::from(to - from) + 1,
        desk::conversation::Damage::Rebuilt { .. } => 0,
    }
}

/// One shard.
pub struct Shard {
    pub(crate) config: Config,
    pub(crate) settings: Arc<Settings>,
    pub(crate) now: Now,
    pub(crate) entropy: Entropy,
    pub(crate) counters: Counters,
    pub(crate) effects: Vec<Effect>,
    pub(crate) pool: Pool,
    pub(crate) partials: PartialPool,
    pub(crate) parser: Option<Box<Parser>>,
    pub(crate) doors: Doors,
    pub(crate) sessions: Sessions,
    pub(crate) watches: Watches,
    pub(crate) homes: Homes,
    pub(crate) log: Log,
    pub(crate) line: Line,
    pub(crate) post: Post,
    /// Letters that wait for room in the open block, in order.
    pub(crate) parked: VecDeque<(u16, Letter)>,
    pub(crate) lists: Lists,
    /// On the shard of the site's slot only.
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) outs: Vec<Out>,
    /// Sessions that may have something to be told at the end of the turn.
    pub(crate) to_tell: Vec<u32>,
    /// Agents' sessions that wait for a credit: looked at again at the end of the next turn, which an answer or the tick brings.
    pub(crate) starved: Vec<u32>,
    pub(crate) text: Vec<u8>,
    pub(crate) stopping: Stopping,
    pub(crate) fenced: bool,
}

impl Shard {
    fn new(
        config: Config,
        settings: Arc<Settings>,
        conversations: Conversations,
        recovered: &Recovered,
        superblock: Superblock,
        now: Now,
    ) -> Shard {
        let (me, count) = (config.shard, config.shard_count);
        let slots = (0..SLOT_COUNT).filter(move |number| number % count == me);
        let dispatches = shard_of(config.site.slot(), count) == me;
        Shard {
            now,
            entropy: Entropy::new(config.seed),
            counters: Counters::default(),
            effects: Vec::new(),
            pool: Pool::default(),
            partials: PartialPool::new(PARTIALS_KEPT, PARTIAL_SIZE_KEPT),
            parser: Some(Box::new(Parser::new())),
            doors: Doors::default(),
            sessions: Sessions::new(config.session_count_max),
            watches: Watches::default(),
            homes: Homes::new(conversations),
            log: Log::new(recovered, superblock, slots, config.segment_count_max),
            line: Line::default(),
            post: Post::new(me, count, config.mailbox_size),
            parked: VecDeque::new(),
            lists: Lists::new(count),
            dispatcher: dispatches.then(|| Dispatcher::new(config.site, count)),
            outs: Vec::new(),
            to_tell: Vec::new(),
            starved: Vec::new(),
            text: Vec::new(),
            stopping: Stopping::Serving,
            fenced: false,
            config,
            settings,
        }
    }

    /// Takes one input and appends what is to be done to `effects`, in order. Never waits. After a fence it does nothing.
    pub fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        if self.fenced {
            return;
        }
        assert!(now.mono_ms >= self.now.mono_ms, "monotonic time does not fall");
        self.now = now;
        core::mem::swap(&mut self.effects, effects);
        self.dispatch(input);
        while let Some(letter) = self.post.local.pop_front() {
            self.on_letter(self.config.shard, letter);
        }
        for (to, letter) in self.post.out.drain(..) {
            self.effects.push(Effect::Letter { to, letter });
        }
        core::mem::swap(&mut self.effects, effects);
    }

    fn dispatch(&mut self, input: Input<'_>) {
        match input {
            Input::Rooms(rooms) => self.post.on_rooms(rooms),
            Input::Accepted { door, peer } => self.on_accepted(door, peer),
            Input::Arrived { door, moved } => self.on_arrived(door, *moved),
            Input::MoveFailed { door, moved } => self.on_move_failed(door, *moved),
            Input::Received { door, buffer, size } => self.on_received(door, buffer, size),
            Input::SentSome { door } => self.on_sent_some(door),
            Input::Sent { door, buf, whole } => self.on_sent(door, buf, whole),
            Input::Gone { door } => self.on_gone(door),
            Input::Letter { from, letter } => self.on_letter(from, letter),
            Input::Order(order) => self.on_order(order),
            Input::Wrote { buf, result } => self.on_wrote(buf, result),
            Input::WroteSuperblock { result } => self.on_wrote_superblock(result),
            Input::SegmentReady { segment } => self.log.on_segment_ready(segment),
            Input::SegmentFailed { segment, error } => self.on_segment_failed(segment, error),
            Input::Tick => self.on_tick(),
            Input::EndOfTurn => self.on_end_of_turn(),
        }
    }

    /// What it counts, with the gauges brought up to date.
    pub fn counters(&mut self) -> &Counters {
        self.counters.connections = u64::from(self.doors.count);
        self.counters.sessions = u64::from(self.sessions.count);
        self.counters.conversations = self.homes.convs.len() as u64;
        self.counters.hot_bytes = self.homes.convs.hot_bytes() as u64;
        self.counters.pending = self.line.len() as u64;
        self.counters.letters_posted = self.post.posted;
        self.counters.letters_owed = self.post.owed();
        self.counters.requests_unanswered = self.post.unanswered();
        self.counters.letters_waiting = self.parked.len() as u64;
        self.counters.conversations_behind = self.homes.behind.len() as u64;
        self.counters.pool_spare = self.pool.spare();
        self.counters.pool_grown = self.grown();
        self.counters.records = self.log.appended_records;
        self.counters.storage_full = u64::from(self.log.is_full());
        self.counters.journal_segments = u64::from(self.log.segment_count());
        &self.counters
    }

    /// Whether work waits that needs no input: the driver should not sleep.
    pub fn wants_turn(&self) -> bool {
        !self.fenced && (self.log.wants_turn() || !self.to_tell.is_empty() || !self.doors.dirty.is_empty())
    }

    /// Buffers and slabs made so far because nothing was there to be used again: growth of pools.
    pub fn grown(&self) -> u64 {
        self.pool.made + self.homes.convs.grown()
    }

    /// The shard that holds a slot.
    pub(crate) fn home_of(&self, slot: Slot) -> u16 {
        shard_of(slot, self.config.shard_count)
    }

    pub(crate) fn me(&self) -> u16 {
        self.config.shard
    }

    /// Where the site's queue is.
    pub(crate) fn desk_shard(&self) -> u16 {
        self.home_of(self.config.site.slot())
    }

    /// One of this shard's own slots.
    pub(crate) fn own_slot(&mut self) -> Slot {
        let count = u64::from(self.config.shard_count);
        let me = u64::from(self.config.shard);
        let mine = (u64::from(SLOT_COUNT) - me).div_ceil(count);
        let number = self.entropy.below(mine) * count + me;
        Slot::new(number as u16).expect("the slot is below the count")
    }

    pub(crate) fn level(&self) -> Level {
        match self.log.level() {
            journal::Level::Memory if plant::is("level-raised") => Level::Disk,
            journal::Level::Memory => Level::Memory,
            journal::Level::Disk => Level::Disk,
        }
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }
}

/// The map of slots to shards.
pub fn shard_of(slot: Slot, shard_count: u16) -> u16 {
    slot.number() % shard_count
}
