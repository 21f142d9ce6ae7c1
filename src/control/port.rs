//! The only file of the control plane that speaks to shards: orders out, reports in.
//!
//! It belongs to boot and outlives every restart of the control plane. While nobody drains the reports they wait in their queues, and the shards go on.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use desk::settings::Settings;
use edge::metrics::Gauges;
use edge::node::{HandOver, HandOvers, ReportBell, ShardPort};
use journal::LogOffset;
use mail::{NoticeScope, Order, Report};
use tokio::sync::watch;

/// Where the log of a shard stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// Everything before this offset is durable.
    pub(crate) durable: LogOffset,
    /// The journal is sealed: nothing follows.
    pub(crate) sealed: bool,
}

/// What is known of one shard.
struct Known {
    mark: watch::Sender<Mark>,
    settings_sent: AtomicU64,
    settings_applied: AtomicU64,
    storage_full: AtomicBool,
    gauges: Gauges,
}

/// The shards, as the control plane sees them.
pub(crate) struct Ports {
    ports: Mutex<Vec<ShardPort>>,
    known: Vec<Known>,
    bell: ReportBell,
    hand_overs: HandOvers,
    next: AtomicU64,
}

/// A connection that a shard handed over.
pub(crate) struct Handed {
    /// Non-blocking.
    pub(crate) stream: OwnedFd,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// What was read from it and not answered.
    pub(crate) bytes: Vec<u8>,
    /// Its place among the 1,024; to be dropped when the connection has ended.
    pub(crate) place: HandOver,
}

/// A shard as `/readyz` and `/metrics` show it.
#[derive(Clone, Debug)]
pub(crate) struct ShardState {
    /// Version of the settings it uses.
    pub(crate) settings_applied: u64,
    /// New messages are refused for want of room on the disk.
    pub(crate) storage_full: bool,
    /// Its log.
    pub(crate) mark: Mark,
}

/// At least one shard's mailbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

impl Ports {
    /// Takes the ports of shards that serve with settings `version`; `durable` is where each one's log ended at its start.
    pub(crate) fn new(
        ports: Vec<ShardPort>,
        durable: &[LogOffset],
        version: u64,
        bell: ReportBell,
        hand_overs: HandOvers,
    ) -> Ports {
        let known = ports.iter().zip(durable).map(|(port, &durable)| Known {
            mark: watch::Sender::new(Mark { durable, sealed: false }),
            settings_sent: AtomicU64::new(version),
            settings_applied: AtomicU64::new(version),
            storage_full: AtomicBool::new(false),
            gauges: port.gauges.clone(),
        });
        Ports { known: known.collect(), ports: Mutex::new(ports), bell, hand_overs, next: AtomicU64::new(0) }
    }

    fn ports(&self) -> MutexGuard<'_, Vec<ShardPort>> {
        // A panic in between leaves whole values: every change is one call.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> u16 {
        self.known.len() as u16
    }

    /// Readable when any shard has reports.
    pub(crate) fn bell(&self) -> ReportBell {
        self.bell.clone()
    }

    /// Takes what the shards have reported. Connections they hand over go to `handed`.
    pub(crate) fn drain(&self, mut handed: impl FnMut(Handed)) {
        self.bell.clear();
        for (port, known) in self.ports().iter_mut().zip(&self.known) {
            let shard = port.shard;
            port.reports.drain(|report| match report {
                Report::Serving => log::debug!("shard {shard} serves"),
                Report::SettingsApplied { version, old } => {
                    known.settings_applied.fetch_max(version, Ordering::Relaxed);
                    drop(old);
                }
                Report::Durable(offset) => {
                    known.mark.send_if_modified(|mark| {
                        let further = offset > mark.durable;
                        mark.durable = mark.durable.max(offset);
                        further
                    });
                }
                Report::HandedOver { stream, peer, bytes } => {
                    let place = self.hand_overs.received();
                    handed(Handed { stream, peer, bytes, place });
                }
                Report::StorageFull(cause) => {
                    known.storage_full.store(true, Ordering::Relaxed);
                    log::error!("shard {shard}: new messages are refused with storage_full: {cause}; make room, it recovers by itself");
                }
                Report::StorageBack => {
                    known.storage_full.store(false, Ordering::Relaxed);
                    log::warn!("shard {shard}: there is room again, new messages are taken");
                }
                Report::Sealed(offset) => {
                    known.mark.send_replace(Mark { durable: offset, sealed: true });
                    log::info!("shard {shard}: journal sealed at {offset}");
                }
            });
        }
    }

    /// The log of a shard, as it moves.
    pub(crate) fn mark(&self, shard: u16) -> watch::Receiver<Mark> {
        self.known[usize::from(shard)].mark.subscribe()
    }

    /// What is known of each shard, in their order.
    pub(crate) fn states(&self) -> Vec<ShardState> {
        self.known
            .iter()
            .map(|known| ShardState {
                settings_applied: known.settings_applied.load(Ordering::Relaxed),
                storage_full: known.storage_full.load(Ordering::Relaxed),
                mark: *known.mark.borrow(),
            })
            .collect()
    }

    /// The numbers of each shard, in their order; asks for fresh ones, which are there a turn later.
    pub(crate) fn gauges(&self) -> Vec<&Gauges> {
        self.ports().iter().for_each(ShardPort::ask_gauges);
        self.known.iter().map(|known| &known.gauges).collect()
    }

    /// Connections that the control plane has.
    pub(crate) fn hand_overs(&self) -> u32 {
        self.hand_overs.count()
    }

    /// Gives the settings to every shard that was not given this version yet. Called again until it says `Ok`.
    pub(crate) fn give_settings(&self, settings: &Arc<Settings>) -> Result<(), Full> {
        let mut result = Ok(());
        for (port, known) in self.ports().iter_mut().zip(&self.known) {
            if known.settings_sent.load(Ordering::Relaxed) < settings.version && !port.is_gone() {
                match port.post(Order::Settings(Arc::clone(settings))) {
                    Ok(()) => known.settings_sent.store(settings.version, Ordering::Relaxed),
                    Err(_) => result = Err(Full),
                }
            }
        }
        result
    }

    /// Tells everybody in scope, or nobody if a mailbox is full.
    pub(crate) fn notice(&self, text: &str, scope: NoticeScope) -> Result<(), Full> {
        let mut ports = self.ports();
        if ports.iter().any(|port| port.room() == 0) {
            return Err(Full);
        }
        for port in ports.iter_mut() {
            let told = port.post(Order::Notice { text: text.into(), scope });
            assert!(told.is_ok(), "there was room, and only we post");
        }
        Ok(())
    }

    /// Gives a connection to a shard that has room, each in turn. It comes back if none has.
    pub(crate) fn adopt(&self, stream: OwnedFd, peer: SocketAddr, bytes: Vec<u8>) -> Result<(), OwnedFd> {
        let mut ports = self.ports();
        let count = ports.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let mut order = Order::Adopt { stream, peer, bytes };
        for turn in 0..count {
            order = match ports[(first + turn) % count].post(order) {
                Ok(()) => return Ok(()),
                Err(order) => order,
            };
        }
        match order {
            Order::Adopt { stream, .. } => Err(stream),
            _ => unreachable!("the order comes back as it was given"),
        }
    }

    /// Tells every shard to stop. Called again until it says `Ok`; a shard is told once.
    pub(crate) fn drain_shards(&self, after_ms: u32, grace_ms: u32, told: &mut [bool]) -> Result<(), Full> {
        let mut result = Ok(());
        for (port, told) in self.ports().iter_mut().zip(told) {
            if !*told && !port.is_gone() {
                match port.post(Order::Drain { after_ms, grace_ms }) {
                    Ok(()) => *told = true,
                    Err(_) => result = Err(Full),
                }
            }
        }
        result
    }
}
