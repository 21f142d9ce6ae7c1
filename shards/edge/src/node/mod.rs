//! A node: the shards of one process, from their plan to their end.
//!
//! ```text
//!   start: probe the ring -> lock the directory -> bind the port -> measure the disk once
//!       -> one thread a shard: pin, ring, recover, bump the boot id
//!       -> all have recovered: accept
//! ```
//! `start` returns when every shard serves, or says why none does. What the control plane holds from then on is a [`Running`]: a [`ShardPort`] for each
//! shard, one bell for all reports, and the numbers.

mod error;
mod plan;
mod port;

pub use error::StartError;
pub use plan::{Start, Tuning};
pub use port::{HAND_OVERS_MAX, HandOver, HandOvers, PORT_SIZE, ReportBell, ShardBoot, ShardPort};
pub use shard::Config;

use std::net::SocketAddr;
use std::thread::JoinHandle;

use crate::driven::Recovery;
use crate::probe;

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

/// Starts a node and returns when every shard serves.
///
/// `build` is called once for each shard, on that shard's thread, with its own [`Config`]; it makes what replays the journal:
/// `node::start(start, move |config| node::Builder::new(config, Arc::clone(&settings)))`.
///
/// # Errors
/// See [`StartError`]. Nothing is left running.
pub fn start<R: Recovery>(
    start: Start,
    build: impl Fn(Config) -> R + Send + Sync + 'static,
) -> Result<Running, StartError> {
    start.tuning.check().map_err(StartError::Plan)?;
    probe::probe().map_err(StartError::NoRing)?;
    let _ = build;
    Err(StartError::Plan("the loop is not part of this build".into()))
}
