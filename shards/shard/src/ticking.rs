//! The end of a turn, and what happens only because time has passed.

use desk::encode;
use desk::record::Record;
use desk::settings::Settings;
use mail::{NoticeScope, Order, Report};
use std::sync::Arc;

use crate::door::{NONE, Phase, tenths};
use crate::effect::Effect;
use crate::input::StorageError;
use crate::log::Landed;
use crate::session::Who;
use crate::shard::Shard;
use crate::stop::Stopping;

/// Grace beyond the heartbeat before a silent peer is taken for gone, in tenths of a second.
const SILENCE: u32 = 100;
/// How long a peer may take to answer our close frame, in tenths of a second.
const CLOSING: u32 = 20;
/// What a slot without conversations takes off the budget: looking at it is not free, and a round over empty ones need not be short. Less where blocks
/// are small, so that a round has about the same number of blocks.
const EMPTY_SLOT_COST: u64 = 512;
/// A whole round over all sockets takes this many ticks.
const SCAN_TICKS: usize = 10;

impl Shard {
    /// After recovery: announce what is there.
    pub(crate) fn begin(&mut self) {
        self.report(Report::Serving);
        self.report(Report::Durable(self.log.durable_offset()));
        self.log.pump(self.now.mono_ms, &mut self.effects);
    }

    pub(crate) fn on_end_of_turn(&mut self) {
        self.post.pay();
        self.open_parked();
        self.take_up_stalled();
        self.write_receipts();
        self.tell_sessions();
        self.ask_homes();
        self.tell_heads();
        self.post_assigns();
        self.announce();
        self.snapshot();
        self.stop_step();
        self.log.pump(self.now.mono_ms, &mut self.effects);
        self.send_all();
    }

    pub(crate) fn on_wrote(&mut self, buf: journal::BlockBuf, result: Result<(), StorageError>) {
        let size = buf.len() as u64;
        match self.log.on_wrote(buf, result) {
            Err(cause) => self.fence(cause),
            Ok(landed) => {
                self.counters.commits += 1;
                self.counters.commit_bytes += size;
                self.on_landed(landed);
                self.fulfil_line();
            }
        }
    }

    pub(crate) fn on_wrote_superblock(&mut self, result: Result<(), StorageError>) {
        match self.log.on_wrote_superblock(result) {
            Err(cause) => self.fence(cause),
            Ok((landed, room_again)) => {
                if room_again {
                    self.report(Report::StorageBack);
                }
                self.on_landed(landed);
            }
        }
    }

    pub(crate) fn on_segment_failed(&mut self, segment: u32, error: StorageError) {
        if self.log.on_segment_failed(segment, self.now.mono_ms) {
            let why = match error {
                StorageError::Full => "no space left on the device".to_owned(),
                StorageError::Failed(why) => why,
            };
            self.report(Report::StorageFull(why));
        }
    }

    fn on_landed(&mut self, landed: Landed) {
        match landed {
            Landed::Nothing => {}
            Landed::Block(end) => self.report(Report::Durable(end)),
            Landed::Sealed(end) => {
                self.stopping = Stopping::Sealed;
                self.report(Report::Sealed(end));
                self.effects.push(Effect::Stop);
            }
        }
    }

    /// Nobody is told anything any more.
    fn fence(&mut self, cause: crate::effect::FenceCause) {
        self.fenced = true;
        self.effects.push(Effect::Fence(cause));
    }

    pub(crate) fn on_order(&mut self, order: Order) {
        match order {
            Order::Settings(settings) => self.apply_settings(settings),
            Order::Notice { text, scope } => self.tell_notice(&text, scope),
            Order::Adopt { .. } => unreachable!("the edge carries it out; the shard sees `Arrived`"),
            Order::Drain { after_ms, grace_ms } => self.drain(after_ms, grace_ms),
        }
    }

    fn apply_settings(&mut self, settings: Arc<Settings>) {
        let version = settings.version;
        let old = core::mem::replace(&mut self.settings, settings);
        for at in 0..self.sessions.agents().len() {
            let index = self.sessions.agents()[at];
            let agent = self.agent_of(index);
            let door = self.sessions.get(index).door;
            let epoch = |settings: &Settings| {
                settings.agent(agent).filter(|agent| agent.enabled).map(|agent| agent.session_epoch)
            };
            if epoch(&old) == epoch(&self.settings) {
                continue;
            }
            // It may not be resumed either.
            self.sessions.at(index).device = self.entropy.u128();
            if door != NONE {
                let door = self.doors.door_at(door).expect("a session's socket is open");
                self.close(door, 4202, "the sessions of this agent were ended");
            }
        }
        self.report(Report::SettingsApplied { version, old });
    }

    fn tell_notice(&mut self, text: &str, scope: NoticeScope) {
        let mut push = core::mem::take(&mut self.text);
        push.clear();
        encode::notice(&mut push, text, self.now.wall_ms);
        for index in 0..self.doors.places() as u32 {
            let Some(door) = self.doors.door_at(index) else { continue };
            if self.doors.phase(door) != Some(Phase::Live) {
                continue;
            }
            let session = self.doors.at(index).session;
            let reaches = match (scope, &self.sessions.get(session).who) {
                (NoticeScope::All, _) => true,
                (NoticeScope::Inbox(inbox), Who::Visitor(side)) => side.inbox == inbox,
                (NoticeScope::Inbox(_), Who::Agent(_)) => false,
            };
            if reaches {
                self.counters.notices += 1;
                self.hint(index, &push);
            }
        }
        self.text = push;
    }

    pub(crate) fn on_tick(&mut self) {
        self.scan_doors();
        self.scan_sessions();
        self.tick_dispatcher();
    }

    /// A part of all sockets: heartbeats, silence, slow readers, deadlines of each phase.
    fn scan_doors(&mut self) {
        let places = self.doors.places();
        let count = places.div_ceil(SCAN_TICKS);
        for _ in 0..count {
            let at = self.doors.scan;
            self.doors.scan = (at + 1) % places.max(1);
            if let Some(door) = self.doors.door_at(at as u32) {
                self.scan_door(door);
            }
        }
    }

    fn scan_door(&mut self, door: crate::input::Door) {
        let now = tenths(self.now.mono_ms);
        let limits = self.settings.limits;
        let heartbeat = limits.heartbeat_ms / 100;
        let conn = self.doors.at(door.index);
        let since = now.saturating_sub(conn.since);
        match conn.phase {
            Phase::Head => {
                if since > limits.auth_ms / 100 {
                    conn.phase = Phase::Done;
                    conn.out.clear();
                    self.doors.touch(door.index);
                }
            }
            Phase::Hello => {
                if since > limits.auth_ms / 100 {
                    self.close(door, 4200, "no auth in time");
                }
            }
            // What is lent to the kernel for a peer that does not read may never come back: the edge sees to that.
            Phase::Closing | Phase::Done => {
                if since > CLOSING {
                    self.end_door(door);
                }
            }
            Phase::Echo => {
                if now.saturating_sub(conn.heard_at) > 10 * 60 * 10 {
                    self.close(door, 4101, "nothing was heard for ten minutes");
                }
            }
            Phase::Live => {
                let stuck = limits.stuck_ms / 100;
                let session = conn.session;
                let slow = conn.sending > 0 && since > stuck;
                let silent = now.saturating_sub(conn.heard_at) > heartbeat + SILENCE;
                let quiet =
                    now.saturating_sub(conn.said_at) >= heartbeat && conn.sending == 0 && conn.out.is_empty();
                let lags_since = self.sessions.get(session).lags_since;
                let lags = lags_since > 0 && now.saturating_sub(lags_since) > stuck;
                // While bytes of his wait here unread, his silence is our doing.
                let ours = self.doors.at(door.index).stalled;
                if slow || lags {
                    self.close(door, 4110, "read too slowly; come back and resume");
                } else if silent && !ours {
                    self.close(door, 4101, "nothing was heard from you");
                } else if quiet {
                    self.push(door.index, encode::heartbeat);
                }
            }
        }
    }

    fn scan_sessions(&mut self) {
        let places = self.sessions.places();
        for _ in 0..places.div_ceil(SCAN_TICKS) {
            let at = self.sessions.scan;
            self.sessions.scan = (at + 1) % places.max(1);
            let index = at as u32;
            if !self.sessions.in_use(index) {
                continue;
            }
            let session = self.sessions.get(index);
            if session.door == NONE && self.now.mono_ms >= session.expires_ms {
                self.counters.sessions_expired += 1;
                self.end_session(index);
            }
        }
    }

    /// Rolling snapshots: about a byte for each byte of log.
    fn snapshot(&mut self) {
        if !self.log.takes_snapshots() {
            return;
        }
        let mut left = self.log.snapshot_budget();
        while left > 0 {
            let Some(slot) = self.log.checkpoint.next_slot() else { return };
            if self.log.checkpoint.in_progress().is_none() {
                let from = self.log.next_offset();
                self.log.checkpoint.begin(slot, from);
                self.homes.snapshot_begin(slot);
            }
            let mut spent = 0;
            let log = &mut self.log;
            let done = self.homes.snapshot_step(left, &mut |record: Record<'_>| {
                let size = log.append_snapshot(&record);
                spent += size;
                size
            });
            self.counters.checkpoint_bytes += spent;
            let cost = spent.max(EMPTY_SLOT_COST.min(self.log.block_max() as u64 / 2048));
            self.log.checkpoint.spend(cost);
            left = left.saturating_sub(cost);
            if done {
                let point = self.log.appended();
                self.log.checkpoint.finish(point);
                if u32::from(slot.wrapping_add(self.config.shard_count)) >= u32::from(desk::id::SLOT_COUNT) {
                    self.counters.checkpoint_rounds += 1;
                }
            } else {
                return;
            }
        }
    }
}
