//! A node: the shards of one process, from their plan to their end.
//!
//! ```text
//!   start: probe the ring -> lock the directory -> bind the port -> measure the disk once
//!       -> one thread a shard: pin, ring, recover, bump the boot id
//!       -> all have recovered: accept
//! ```
//! `start` returns when every shard serves, or says why none does. What the control plane holds from then on is a [`Running`]: a [`ShardPort`] for each
//! shard, one bell for all reports, and the numbers.

mod boot;
mod error;
mod listen;
mod plan;
mod port;
mod wiring;

pub use error::StartError;
pub use plan::{Start, Tuning};
pub use port::{HAND_OVERS_MAX, HandOver, HandOvers, PORT_SIZE, ReportBell, ShardBoot, ShardPort};
pub use shard::{Builder, Config};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder as Thread, JoinHandle};

use journal::Geometry;

use crate::disk::{self, Lock, LockError, Measured, Strategy};
use crate::driven::Recovery;
use crate::metrics::{self, Name};
use crate::probe::{self, Features};
use crate::watchdog::{self, Patience};
use crate::{limits, sys};
use boot::{Go, Journal, Ready};
use wiring::Wiring;

/// Bytes of a shard's stack; untouched pages cost nothing.
const STACK_SIZE: usize = 4 << 20;

/// The running shards, as the control plane holds them.
///
/// Dropping it stops nothing: a shard ends by `Order::Drain`, or with the process.
pub struct Running {
    /// Where the shards listen; port 0 is resolved.
    pub listen: SocketAddr,
    /// One for each shard, in their order. The control plane may take them out.
    pub ports: Vec<ShardPort>,
    /// Readable when any shard has reports.
    pub bell: ReportBell,
    /// Counts connections that the control plane has and has not answered yet.
    pub hand_overs: HandOvers,
    /// What each shard's recovery found.
    pub boots: Vec<ShardBoot>,
    /// The names of the numbers in each port's row.
    pub names: Vec<Name>,
    /// What the kernel can do.
    pub features: Features,
    /// How blocks are written; `None`: durability `memory`, not flushed.
    pub strategy: Option<Strategy>,
    /// What was measured of the disk, unless the operator chose the strategy.
    pub measured: Option<Measured>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits until every shard's thread has ended (after `Order::Drain` to all of them). A shard that panics ends the process, so this cannot fail.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Takes the lock of a data directory, so that nobody else writes there; [`Start::lock`] hands it to the node.
///
/// # Errors
/// Another process has it, or the directory cannot be written.
pub fn lock(data_dir: &std::path::Path) -> Result<Lock, StartError> {
    Lock::take(data_dir).map_err(|error| match error {
        LockError::Held { pid } => StartError::LockHeld { data_dir: data_dir.to_owned(), pid },
        LockError::Disk(error) => StartError::Disk(error),
    })
}

/// Starts a node and returns when every shard serves.
///
/// `build` is called once for each shard, on that shard's thread, with its own [`Config`]; it makes what replays the journal:
/// `node::start(start, move |config| node::Builder::new(config, Arc::clone(&settings)))`.
///
/// # Errors
/// See [`StartError`]. Nothing is left running.
pub fn start<R: Recovery>(
    mut start: Start,
    build: impl Fn(Config) -> R + Send + Sync + 'static,
) -> Result<Running, StartError> {
    let geometry = start.check()?;
    let features = probe::probe().map_err(StartError::NoRing)?;
    let data_dir = &start.data_dir;
    let lock = match start.lock.take() {
        Some(lock) => lock,
        None => Arc::new(lock(data_dir)?),
    };
    let count = start.cores.len();
    let (listen, listeners) = listen::open(start.listen, count, &start.tuning)?;
    let (strategy, measured) = disk::remembered_or_measured(data_dir, start.disk, start.level, count as u16)?;
    let align = disk::alignment(data_dir)?;
    let journal = Journal {
        data_dir: data_dir.clone(),
        generation: disk::generation_of(data_dir)?,
        level: start.level,
        geometry: Geometry { align, ..geometry },
        strategy,
    };
    let limits =
        limits::read().map_err(|error| StartError::Plan(format!("limits cannot be read: {error}")))?;
    let table = start.tuning.table.unwrap_or(limits::capacity(&limits, count as u16).table);

    let names = metrics::names_for::<R::Core>();
    let (ready_sender, ready) = channel();
    let wiring = Wiring::new(&start, names.len())?;
    let (seats, gos, ports) = wiring.seats(&start, listeners, &journal, table, lock, &ready_sender)?;
    drop(ready_sender);
    boot::make_journals(&seats)?;
    let pulses = seats.iter().map(|seat| Arc::clone(&seat.pulse)).collect();
    let (bell, hand_overs) = (seats[0].plane.bell.clone(), seats[0].plane.hand_overs.clone());
    let build: Arc<dyn Fn(Config) -> R + Send + Sync> = Arc::new(build);
    let mut threads = Vec::with_capacity(count);
    for seat in seats {
        let build = Arc::clone(&build);
        let thread = Thread::new().name(format!("shard-{}", seat.config.shard)).stack_size(STACK_SIZE);
        let spawned = thread.spawn(move || boot::run(seat, &*build));
        threads
            .push(spawned.map_err(|error| StartError::Plan(format!("a thread cannot be started: {error}")))?);
    }
    let boots = match all_ready(&ready, count, gos) {
        Ok(boots) => boots,
        Err(error) => {
            for thread in threads {
                let _ = thread.join();
            }
            return Err(error);
        }
    };
    if start.tuning.watchdog {
        watchdog::start(pulses, Patience::default())
            .map_err(|error| StartError::Plan(format!("the watchdog cannot be started: {error}")))?;
    }
    Ok(Running { listen, ports, bell, hand_overs, boots, names, features, strategy, measured, threads })
}

/// Waits for every shard's recovery and lets them all serve, or none.
fn all_ready(
    ready: &Receiver<Result<Ready, StartError>>,
    count: usize,
    gos: Vec<Sender<Go>>,
) -> Result<Vec<ShardBoot>, StartError> {
    let mut found: Vec<Option<Ready>> = (0..count).map(|_| None).collect();
    for _ in 0..count {
        let ready = ready.recv().map_err(|_| StartError::Plan("a shard ended before it served".into()))??;
        let place = usize::from(ready.boot.shard);
        found[place] = Some(ready);
    }
    let all = found.into_iter().map(|ready| ready.expect("each shard reports once"));
    let (rings, boots): (Vec<_>, Vec<_>) = all.map(|ready| (ready.ring, ready.boot)).unzip();
    let rings: Arc<[_]> = rings.into();
    for go in gos {
        // The thread waits for this; it cannot be gone.
        let _ = go.send(Go { rings: Arc::clone(&rings) });
    }
    Ok(boots)
}

impl From<disk::DiskError> for StartError {
    fn from(error: disk::DiskError) -> StartError {
        StartError::Disk(error)
    }
}

impl Start {
    /// Says what of the plan is impossible.
    fn check(&self) -> Result<Geometry, StartError> {
        self.tuning.check().map_err(StartError::Plan)?;
        if !(1..=64).contains(&self.cores.len()) {
            return Err(StartError::Plan(format!(
                "{} shards are planned, and 1 to 64 are possible",
                self.cores.len()
            )));
        }
        let geometry = Geometry { segment_size: self.segment_size, align: 4096 };
        geometry.check().map_err(|error| StartError::Plan(error.to_string()))?;
        Ok(geometry)
    }

    /// Random bytes that are fresh in every run.
    fn chance<const N: usize>() -> Result<[u8; N], StartError> {
        let mut bytes = [0; N];
        sys::fill_random(&mut bytes)
            .map_err(|error| StartError::Plan(format!("the kernel gives no random bytes: {error}")))?;
        Ok(bytes)
    }
}
