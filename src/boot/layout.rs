//! What this host and the configuration make of a server: how many shards, on which cores, for how many connections.

use std::fmt;

use edge::limits::{Capacity, Limits, capacity, raise_nofile, shards_for};
use tuning::{Plan, Topology, TopologyError};

use crate::config::Config;

/// Sessions outlive their sockets for a while, so there may be more of them.
const SESSIONS_PER_CONNECTION: u64 = 2;
/// The part of the free memory that conversations may take by default.
const HOT_PART: u64 = 4;

/// The layout of a server.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Cores of the shards and of the control plane.
    pub(crate) plan: Plan,
    /// Connections that fit, and why not more.
    pub(crate) capacity: Capacity,
    /// Entries of each shard's descriptor table, if the configuration asks for fewer than there could be.
    pub(crate) table: Option<u32>,
    /// Sessions of a shard at most.
    pub(crate) sessions_per_shard: u32,
    /// Bytes of conversations a shard keeps in memory.
    pub(crate) hot_bytes_per_shard: usize,
    /// Segments a shard's journal may have.
    pub(crate) segments_per_shard: u32,
    /// Why it came out so, one line each.
    pub(crate) reasons: Vec<String>,
    /// What was asked for and cannot be, one line each; a start says it.
    pub(crate) warnings: Vec<String>,
}

/// Fewest segments of a journal: one written, one ready, two for a checkpoint that turns.
const SEGMENTS_MIN: u64 = 4;

/// The host cannot be understood.
#[derive(Debug)]
pub(crate) enum LayoutError {
    /// Its processors.
    Topology(TopologyError),
    /// Its limits.
    Limits(std::io::Error),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Topology(error) => error.fmt(f),
            LayoutError::Limits(error) => write!(f, "the limits of this process cannot be read: {error}"),
        }
    }
}

impl Layout {
    /// Looks at this host; raises the soft limit of descriptors to the hard one.
    pub(crate) fn of(config: &Config) -> Result<Layout, LayoutError> {
        let topology =
            Topology::read(|path| std::fs::read_to_string(path).ok()).map_err(LayoutError::Topology)?;
        let limits = raise_nofile().map_err(LayoutError::Limits)?;
        Ok(Layout::new(config, &topology, &limits))
    }

    fn new(config: &Config, topology: &Topology, limits: &Limits) -> Layout {
        let wanted = u64::from(config.server.max_connections);
        let asked = (config.server.shards > 0).then_some(config.server.shards);
        let plan = Plan::new(topology, asked, shards_for(wanted, 1, limits));
        let shards = plan.shard_cpus.len() as u64;
        let mut capacity = capacity(limits, shards as u16);
        let mut reasons = plan.reasons.clone();
        let mut warnings = Vec::new();
        let mut table = None;
        if wanted > 0 && wanted <= capacity.connections {
            // Accepts are spread by a hash: a table needs headroom above its mean.
            let entries = (wanted as f64 / shards as f64 / edge::limits::TABLE_FILL).ceil() as u32;
            let entries = entries.clamp(64, capacity.table.max(64));
            (table, capacity.connections) = (Some(entries), wanted);
            reasons.push(format!("{wanted} connections, as the settings say"));
        } else {
            if wanted > 0 {
                warnings.push(format!(
                    "{wanted} connections are asked for [server.max_connections] and do not fit"
                ));
            }
            reasons.push(capacity.to_string());
        }
        let per_shard = capacity.connections.div_ceil(shards);
        let hot = match config.limits.hot_mb.bytes() {
            0 => limits.memory / HOT_PART,
            bytes => bytes,
        };
        let segments =
            u64::from(config.storage.journal_budget_mb.0) / u64::from(config.storage.segment_mb.0) / shards;
        if segments < SEGMENTS_MIN {
            let (budget, segment) = (config.storage.journal_budget_mb.0, config.storage.segment_mb.0);
            let needs = SEGMENTS_MIN * shards * u64::from(segment);
            warnings.push(format!(
                "journals may take {needs} MiB and not {budget} [storage.journal_budget_mb]: {shards} shards need {SEGMENTS_MIN} segments of {segment} MiB each"
            ));
        }
        reasons.extend(warnings.iter().cloned());
        Layout {
            warnings,
            table,
            sessions_per_shard: (per_shard * SESSIONS_PER_CONNECTION).clamp(1_024, 1 << 24) as u32,
            hot_bytes_per_shard: (hot / shards) as usize,
            segments_per_shard: segments.clamp(SEGMENTS_MIN, u64::from(u32::MAX)) as u32,
            plan,
            capacity,
            reasons,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    fn layout(flags: &[(&'static str, &'static str, &str)], nofile: u64) -> Layout {
        let topology = Topology::read(|path| match path {
            "/sys/devices/system/cpu/online" => Some("0-3".to_owned()),
            _ => None,
        });
        let mut layer = Layer::default();
        for &(section, key, value) in flags {
            layer.flag("--test", section, key, Some(value.to_owned()));
        }
        let config = Config::load(None, std::iter::empty(), layer).unwrap();
        let limits = Limits { nofile, nofile_hard: nofile, memlock: None, memory: 8 << 30 };
        Layout::new(&config, &topology.unwrap(), &limits)
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(layout(&[], 20_000).warnings.is_empty());
        let small = layout(&[("storage", "journal_budget_mb", "256")], 20_000);
        assert_eq!(small.segments_per_shard, 4);
        assert!(small.warnings[0].contains("journals may take 768 MiB and not 256"), "{:?}", small.warnings);
        let crowded = layout(&[("server", "max_connections", "1000000"), ("server", "shards", "1")], 20_000);
        assert!(crowded.warnings[0].contains("1000000 connections are asked for"), "{:?}", crowded.warnings);
    }

    #[test]
    fn without_settings_the_host_decides() {
        let layout = layout(&[], 20_000);
        assert_eq!(layout.plan.shard_cpus, [0, 1, 2]);
        assert_eq!((layout.capacity.connections, layout.table), (51_000, None));
        assert_eq!(layout.hot_bytes_per_shard, (2 << 30) / 3);
        assert_eq!(layout.segments_per_shard, 4_096 / 64 / 3);
        assert_eq!(layout.sessions_per_shard, 34_000);
    }

    #[test]
    fn many_connections_with_small_tables_make_more_shards_than_cores() {
        let layout = layout(&[("server", "max_connections", "120000")], 20_000);
        assert_eq!(layout.plan.shard_cpus.len(), 8);
        assert_eq!((layout.capacity.connections, layout.table), (120_000, Some(17_648)));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let layout = layout(&[("server", "max_connections", "4000000"), ("server", "shards", "2")], 1_024);
        assert_eq!((layout.plan.shard_cpus.len(), layout.capacity.connections), (2, 1_740));
        assert!(layout.reasons.iter().any(|reason| reason.contains("do not fit")), "{:?}", layout.reasons);
    }
}
