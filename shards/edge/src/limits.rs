//! What this host lets one process hold, and so how many connections it can serve, and why not more.

use std::fmt;
use std::fs;
use std::io;

use crate::sys;

/// Largest registered-file table the kernel knows.
pub const TABLE_MAX: u32 = 1 << 20;
/// Kernel and user memory of an idle connection, in bytes: the socket (3,785), its poll (256), our own state and the growth of pools.
pub const CONNECTION_BYTES: u64 = 4_608;
/// Of a table, the part that is filled: accepts are spread by a hash, so some tables are fuller than others.
pub const TABLE_FILL: f64 = 0.85;
/// Of the memory that is free, the part that connections may take.
pub const MEMORY_FILL: f64 = 0.6;

/// The limits that matter to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// RLIMIT_NOFILE, soft: bounds each shard's descriptor table.
    pub nofile: u64,
    /// RLIMIT_NOFILE, hard: how far we may raise the soft one by ourselves.
    pub nofile_hard: u64,
    /// RLIMIT_MEMLOCK in bytes; `None` if unlimited. Root is not bound by it.
    pub memlock: Option<u64>,
    /// Bytes of memory that are available now, or that the control group still allows, whichever is less.
    pub memory: u64,
}

/// What bounds the number of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// Descriptors: shards × 0.85 × RLIMIT_NOFILE.
    Descriptors,
    /// Memory.
    Memory,
    /// The kernel's own limit of a table, 1,048,576 a shard.
    Table,
}

/// How many connections fit, and why not more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// All shards together.
    pub connections: u64,
    /// Entries of each shard's descriptor table.
    pub table: u32,
    /// What would have to grow first.
    pub bound: Bound,
    /// With how many shards.
    pub shards: u16,
    /// RLIMIT_NOFILE at that time.
    pub nofile: u64,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capacity { connections, table, shards, nofile, .. } = self;
        match self.bound {
            Bound::Descriptors => write!(
                f,
                "{connections} connections: {shards} shards × 0.85 × {table} descriptors (RLIMIT_NOFILE is {nofile}; \
                 raise it with `ulimit -n` or systemd LimitNOFILE=, or use more shards)"
            ),
            Bound::Memory => {
                write!(
                    f,
                    "{connections} connections: {CONNECTION_BYTES} bytes each in 60 % of the memory that is free"
                )
            }
            Bound::Table => {
                write!(
                    f,
                    "{connections} connections: {shards} shards × 0.85 × {table}, the kernel's largest table"
                )
            }
        }
    }
}

/// Reads the limits of this process and the memory of this host.
pub fn read() -> io::Result<Limits> {
    let (nofile, nofile_hard) = sys::limit(libc::RLIMIT_NOFILE)?;
    let (memlock, _) = sys::limit(libc::RLIMIT_MEMLOCK)?;
    let memlock = (memlock != libc::RLIM_INFINITY).then_some(memlock);
    Ok(Limits { nofile, nofile_hard, memlock, memory: memory() })
}

/// Raises the soft limit of descriptors to the hard one, which needs no privilege, and reads all limits again.
pub fn raise_nofile() -> io::Result<Limits> {
    let (soft, hard) = sys::limit(libc::RLIMIT_NOFILE)?;
    if soft < hard {
        sys::set_limit(libc::RLIMIT_NOFILE, hard, hard)?;
    }
    read()
}

/// How many connections fit with so many shards (> 0).
pub fn capacity(limits: &Limits, shards: u16) -> Capacity {
    assert!(shards > 0, "a server has a shard");
    let table = limits.nofile.min(u64::from(TABLE_MAX)) as u32;
    let in_tables = (f64::from(table) * TABLE_FILL) as u64 * u64::from(shards);
    let in_memory = (limits.memory as f64 * MEMORY_FILL) as u64 / CONNECTION_BYTES;
    let bound = if in_memory < in_tables {
        Bound::Memory
    } else if limits.nofile > u64::from(TABLE_MAX) {
        Bound::Table
    } else {
        Bound::Descriptors
    };
    Capacity { connections: in_tables.min(in_memory), table, bound, shards, nofile: limits.nofile }
}

/// How many shards hold so many connections, and at least one for each of `cores` chosen cores.
pub fn shards_for(connections: u64, cores: u16, limits: &Limits) -> u16 {
    let table = limits.nofile.min(u64::from(TABLE_MAX)) as f64;
    let per_shard = (table * TABLE_FILL).max(1.0) as u64;
    let needed = connections.div_ceil(per_shard).min(64) as u16;
    needed.max(cores).max(1)
}

fn memory() -> u64 {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)).unwrap_or(1 << 30);
    group_room().map_or(host, |group| group.min(host))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What the control group of this process (version 2) still allows.
fn group_room() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/fs/cgroup{path}/{name}")).ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limits(nofile: u64, memory: u64) -> Limits {
        Limits { nofile, nofile_hard: nofile, memlock: None, memory }
    }

    #[test]
    fn descriptors_bound_a_host_with_few_of_them() {
        let capacity = capacity(&limits(20_000, 16 * GIB), 7);
        assert_eq!(capacity.connections, 119_000);
        assert_eq!(capacity.bound, Bound::Descriptors);
        assert!(capacity.to_string().contains("RLIMIT_NOFILE is 20000"));
    }

    #[test]
    fn memory_bounds_a_small_host() {
        let capacity = capacity(&limits(1 << 20, GIB), 2);
        assert_eq!(capacity.bound, Bound::Memory);
        assert_eq!(capacity.connections, (0.6 * GIB as f64) as u64 / CONNECTION_BYTES);
    }

    #[test]
    fn more_shards_than_cores_where_the_limit_cannot_be_raised() {
        assert_eq!(shards_for(120_000, 2, &limits(20_000, GIB)), 8);
        assert_eq!(shards_for(10_000, 2, &limits(20_000, GIB)), 2);
        assert_eq!(shards_for(0, 0, &limits(20_000, GIB)), 1);
    }

    #[test]
    fn the_limits_of_this_process_can_be_read() {
        let limits = read().unwrap();
        assert!(limits.nofile > 0 && limits.memory > 0);
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
    }
}
