//! Which cores the shards get, and what is left for everybody else.

use crate::topology::Topology;

/// Most shards a process may have.
pub const SHARD_COUNT_MAX: u16 = 64;

/// Of so many cores one is left to the kernel's interrupts and the control plane.
const CORES_PER_HOUSEKEEPER: usize = 16;

/// A plan of cores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The processor of each shard, by shard; 1 to [`SHARD_COUNT_MAX`]. Shards share one when there are more shards than cores.
    pub shard_cpus: Vec<u16>,
    /// Processors for the control plane and the followers; never empty. Overlaps with the shards' only where nothing else is left.
    pub control_cpus: Vec<u16>,
    /// Of these, the ones followers do best on: the other threads of the shards' cores, whose caches have what they read. All, if there are none.
    pub follower_cpus: Vec<u16>,
    /// Processors for the interrupts of network and disk: those of cores without a shard; empty where no core is left, and interrupts are spread over
    /// the shards.
    pub irq_cpus: Vec<u16>,
    /// Why it came out so, one line each, for people.
    pub reasons: Vec<String>,
}

impl Plan {
    /// One shard per physical core that is not left to others, or as many as `shards` says; `at_least` (from the number of connections wanted and
    /// the size of a descriptor table) may ask for more than there are cores.
    pub fn new(topology: &Topology, shards: Option<u16>, at_least: u16) -> Plan {
        let core_count = topology.cores.len();
        let mut reasons =
            vec![format!("{} processors on {core_count} cores may be used", topology.cpu_count())];
        let affordable = match topology.quota_milli {
            Some(milli) => {
                let whole = (milli as usize / 1_000).clamp(1, core_count);
                if whole < core_count {
                    reasons.push(format!(
                        "the control group allows {}.{:02} processors: {whole} cores are planned with",
                        milli / 1_000,
                        milli % 1_000 / 10
                    ));
                }
                whole
            }
            None => core_count,
        };
        let left = if affordable == 1 { 0 } else { affordable.div_ceil(CORES_PER_HOUSEKEEPER) };
        let (shard_count, chosen) = match shards {
            Some(count) => {
                let count = count.clamp(1, SHARD_COUNT_MAX);
                reasons.push(format!("{count} shards, as the settings say"));
                (count, usize::from(count).min(core_count))
            }
            None => {
                let chosen = (affordable - left).min(usize::from(SHARD_COUNT_MAX));
                reasons.push(format!(
                    "{chosen} cores for shards, {left} left for interrupts and the control plane"
                ));
                ((chosen as u16).max(at_least.min(SHARD_COUNT_MAX)), chosen)
            }
        };
        if usize::from(shard_count) > chosen {
            reasons.push(format!("{shard_count} shards share {chosen} cores"));
        }
        let shard_cpus: Vec<u16> =
            (0..usize::from(shard_count)).map(|shard| topology.cores[shard % chosen].cpus[0]).collect();
        let all = topology.cores.iter().flat_map(|core| core.cpus.iter().copied());
        let mut control_cpus: Vec<u16> = all.clone().filter(|cpu| !shard_cpus.contains(cpu)).collect();
        if control_cpus.is_empty() {
            control_cpus = all.collect();
            reasons.push("no core is left: the control plane shares the shards'".to_owned());
        }
        control_cpus.sort_unstable();
        let (mut irq_cpus, mut follower_cpus) = (Vec::new(), Vec::new());
        for core in &topology.cores {
            let others = core.cpus.iter().filter(|cpu| !shard_cpus.contains(cpu));
            if core.cpus.iter().any(|cpu| shard_cpus.contains(cpu)) {
                follower_cpus.extend(others);
            } else {
                irq_cpus.extend(others);
            }
        }
        irq_cpus.sort_unstable();
        follower_cpus.sort_unstable();
        if follower_cpus.is_empty() {
            follower_cpus.clone_from(&control_cpus);
        }
        Plan { shard_cpus, control_cpus, follower_cpus, irq_cpus, reasons }
    }

    /// Whether any processor has more than one shard; such shards never spin.
    pub fn shares_cores(&self) -> bool {
        let mut cpus = self.shard_cpus.clone();
        cpus.sort_unstable();
        cpus.windows(2).any(|pair| pair[0] == pair[1])
    }
}
