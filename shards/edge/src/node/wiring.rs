//! Who holds which end: mailboxes, bells, doorbells and numbers of all shards, made before any of them runs.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use mail::Letter;
use mail::queue::{Inbox, Outbox, mailbox};
use mail::sleep::{Doorbell, Sleeper, sleep_flag};
use shard::Config;

use super::boot::{Go, Journal, Ready, Seat};
use super::port::{HandOvers, PORT_SIZE, ReportBell, ShardPort};
use super::{Start, StartError};
use crate::disk::{Answers, Lock, Preparer};
use crate::mesh::Peer;
use crate::metrics::Gauges;
use crate::plane::Plane;
use crate::sys;
use crate::turn::Clock;

/// The parts of all shards that know each other.
pub(crate) struct Wiring {
    sleepers: Vec<Sleeper>,
    doorbells: Vec<Doorbell>,
    wakes: Vec<Arc<OwnedFd>>,
    bell: ReportBell,
    hand_overs: HandOvers,
    epoch: u128,
    clock: Clock,
    gauges: usize,
}

/// One end of the mailboxes of one shard, by the other shard.
type Ends<T> = Vec<Option<T>>;

impl Wiring {
    pub(crate) fn new(start: &Start, gauges: usize) -> Result<Wiring, StartError> {
        let count = start.cores.len();
        let (sleepers, doorbells) = (0..count).map(|_| sleep_flag()).unzip();
        let eventfd = |error| StartError::Plan(format!("no descriptor is left: {error} (RLIMIT_NOFILE)"));
        let wakes =
            (0..count).map(|_| sys::eventfd().map(Arc::new)).collect::<Result<_, _>>().map_err(eventfd)?;
        Ok(Wiring {
            sleepers,
            doorbells,
            wakes,
            bell: ReportBell::new().map_err(eventfd)?,
            hand_overs: HandOvers::default(),
            epoch: u128::from_ne_bytes(Start::chance()?),
            clock: Clock { begin_ns: sys::mono_ns() },
            gauges,
        })
    }

    /// Makes every shard's seat, the senders that let it serve, and the control plane's ends.
    #[expect(clippy::type_complexity, reason = "three lists with one entry for each shard")]
    pub(crate) fn seats(
        self,
        start: &Start,
        listeners: Vec<OwnedFd>,
        journal: &Journal,
        table: u32,
        lock: Arc<Lock>,
        ready: &Sender<Result<Ready, StartError>>,
    ) -> Result<(Vec<Seat>, Vec<Sender<Go>>, Vec<ShardPort>), StartError> {
        let count = start.cores.len();
        let (answers, prepared): (Vec<_>, Vec<_>) = (0..count)
            .map(|shard| {
                let (outbox, inbox) = mailbox(PORT_SIZE);
                let doorbell = self.doorbells[shard].clone();
                (Answers { outbox, doorbell, wake: Arc::clone(&self.wakes[shard]) }, inbox)
            })
            .unzip();
        let preparer = Preparer::start(answers)
            .map_err(|error| StartError::Plan(format!("a thread cannot be started: {error}")))?;
        let spare: Arc<[usize]> = spare_of(start).into();
        let (mut seats, mut gos, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        let peers = mesh(count, start.tuning.mailbox as usize, &self.doorbells);
        let shards = self.sleepers.into_iter().zip(peers).zip(prepared).zip(listeners).enumerate();
        for (shard, (((sleeper, peers), prepared), listener)) in shards {
            let (orders_out, orders) = mailbox(PORT_SIZE);
            let (reports, reports_in) = mailbox(PORT_SIZE);
            let asked = Arc::default();
            let gauges = Gauges::new(self.gauges);
            let wake = Arc::clone(&self.wakes[shard]);
            ports.push(ShardPort {
                shard: shard as u16,
                reports: reports_in,
                gauges: gauges.clone(),
                orders: orders_out,
                doorbell: self.doorbells[shard].clone(),
                wake: Arc::clone(&wake),
                asked: Arc::clone(&asked),
            });
            let plane = Plane {
                orders,
                reports,
                waiting: VecDeque::new(),
                bell: self.bell.clone(),
                gauges,
                asked,
                wake,
                hand_overs: self.hand_overs.clone(),
            };
            let (go, wait) = channel();
            gos.push(go);
            seats.push(Seat {
                config: Config {
                    shard: shard as u16,
                    shard_count: count as u16,
                    epoch: self.epoch,
                    seed: Start::chance()?,
                    mailbox_size: start.tuning.mailbox,
                    ..start.config.clone()
                },
                core: start.cores[shard],
                spare: Arc::clone(&spare),
                tuning: start.tuning.clone(),
                table,
                journal: journal.clone(),
                listener,
                peers,
                plane,
                sleeper,
                preparer: preparer.clone(),
                prepared,
                pulse: Arc::default(),
                clock: self.clock,
                ready: ready.clone(),
                go: wait,
                lock: Arc::clone(&lock),
            });
        }
        Ok((seats, gos, ports))
    }
}

/// A mailbox for each ordered pair of shards, sorted by who holds which end.
fn mesh(count: usize, capacity: usize, doorbells: &[Doorbell]) -> Vec<Vec<Option<Peer>>> {
    let mut outs: Vec<Ends<Outbox<Letter>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    let mut ins: Vec<Ends<Inbox<Letter>>> = (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (outbox, inbox) = mailbox(capacity);
            outs[from][to] = Some(outbox);
            ins[to][from] = Some(inbox);
        }
    }
    let peer = |(other, (outbox, inbox)): (usize, (Option<_>, Option<_>))| {
        Some(Peer { outbox: outbox?, inbox: inbox?, doorbell: doorbells[other].clone() })
    };
    let shards = outs.into_iter().zip(ins);
    shards.map(|(outs, ins)| outs.into_iter().zip(ins).enumerate().map(peer).collect()).collect()
}

/// Processors of this process that no shard is pinned to.
fn spare_of(start: &Start) -> Vec<usize> {
    let all = core_affinity::get_core_ids().unwrap_or_default();
    all.into_iter().map(|core| core.id).filter(|core| !start.cores.contains(&Some(*core))).collect()
}
