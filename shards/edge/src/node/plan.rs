//! What to start, and the knobs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use journal::Level;
use shard::Config;

use crate::disk::{Choice, Lock};

/// Everything `start` needs to know.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where the node keeps its lock, its journals and what it measured of the disk. Made if it is not there.
    pub data_dir: PathBuf,
    /// The lock of that directory, if it is held already.
    pub lock: Option<Arc<Lock>>,
    /// Where to listen. Port 0 lets the kernel choose; all shards share what it chose.
    pub listen: SocketAddr,
    /// One entry for each shard, 1 to 64: the core its thread is pinned to, or none. Several may share a core.
    pub cores: Vec<Option<usize>>,
    /// What every shard is told. `shard`, `shard_count`, `epoch` and `seed` are filled in by `start`.
    pub config: Config,
    /// What an acknowledgement means.
    pub level: Level,
    /// Bytes of a journal segment of a new journal; an existing one keeps its own. See [`journal::SEGMENT_SIZE_MIN`] and `_MAX`.
    pub segment_size: u32,
    /// How blocks are written and flushed.
    pub disk: Choice,
    /// The knobs.
    pub tuning: Tuning,
}

/// Knobs of the loop. Measure before and after turning one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Entries of a shard's descriptor table; `None` = RLIMIT_NOFILE, at most 1,048,576. One sixteenth of it (at most 256) is kept for connections from
    /// other shards and from the control plane.
    pub table: Option<u32>,
    /// Receive buffers of a shard: a power of two, 2 to 32,768. Untouched ones cost no memory.
    pub buffer_count: u16,
    /// Bytes of one receive buffer, 64 of padding included: a multiple of 64, 256 to 65,536.
    pub buffer_size: u32,
    /// Accepts waiting in the ring, 1 to 64; never more than free slots.
    pub accepts: u16,
    /// Upper bound of the minimum wait at load, in microseconds; 0 never waits for more than one completion. At most 1,000.
    pub min_wait_us: u32,
    /// Entries of the submission queue: a power of two, 64 to 32,768.
    pub submissions: u32,
    /// Entries of the completion queue: a power of two, at least the submissions, at most 65,536.
    pub completions: u32,
    /// SO_SNDBUF of a connection in bytes (the kernel doubles it); a reader that does not read costs no more than that.
    pub send_buffer: u32,
    /// TCP_NOTSENT_LOWAT in bytes.
    pub unsent_low: u32,
    /// TCP_USER_TIMEOUT in milliseconds: how long sent bytes may stay unacknowledged.
    pub user_timeout_ms: u32,
    /// The listener's backlog.
    pub backlog: u32,
    /// Letters a mailbox between two shards holds; `Config::mailbox_size` is set to it.
    pub mailbox: u32,
    /// How long a busy connection may be silent before it goes back to a poll, in milliseconds.
    pub demote_ms: u32,
    /// How long a closed connection may wait for the end of its last send, and then as long for its peer's end, in milliseconds.
    pub linger_ms: u32,
    /// Whether the watchdog runs. Off only under a debugger.
    pub watchdog: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            table: None,
            buffer_count: 2_048,
            buffer_size: 4_096,
            accepts: 32,
            min_wait_us: 20,
            submissions: 4_096,
            completions: 32_768,
            send_buffer: 64 << 10,
            unsent_low: 16 << 10,
            user_timeout_ms: 45_000,
            backlog: 4_096,
            mailbox: 1_024,
            demote_ms: 30_000,
            linger_ms: 2_000,
            watchdog: true,
        }
    }
}

impl Tuning {
    /// Says which knob is out of its bounds, if one is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let power = |value: u32| value.is_power_of_two();
        let checks = [
            (self.table.is_none_or(|table| (16..=crate::limits::TABLE_MAX).contains(&table)), "table"),
            (power(self.buffer_count.into()) && (2..=32_768).contains(&self.buffer_count), "buffer_count"),
            (
                self.buffer_size.is_multiple_of(64) && (256..=65_536).contains(&self.buffer_size),
                "buffer_size",
            ),
            ((1..=64).contains(&self.accepts), "accepts"),
            (self.min_wait_us <= 1_000, "min_wait_us"),
            (power(self.submissions) && (64..=32_768).contains(&self.submissions), "submissions"),
            (
                power(self.completions) && (self.submissions..=65_536).contains(&self.completions),
                "completions",
            ),
            ((64..=65_536).contains(&self.mailbox), "mailbox"),
            ((100..=600_000).contains(&self.demote_ms), "demote_ms"),
            ((1..=60_000).contains(&self.linger_ms), "linger_ms"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, knob)) => Err(format!("tuning.{knob} is out of its bounds")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_out_of_bounds_is_named() {
        assert_eq!(Tuning::default().check(), Ok(()));
        let wrong = Tuning { buffer_count: 3, ..Tuning::default() };
        assert_eq!(wrong.check(), Err("tuning.buffer_count is out of its bounds".into()));
        let wrong = Tuning { completions: 64, ..Tuning::default() };
        assert!(wrong.check().unwrap_err().contains("completions"));
    }
}
