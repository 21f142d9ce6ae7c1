//! Processors: what they can run, how fast they go and wake, whose clock is read, and who else is on them.

use super::{Wanted, sysctl_path, sysctl_set};
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, Unread, field};
use crate::level::Build;
use crate::list::CpuList;
use crate::topology::Topology;

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

/// A wake-up from an idle state may take so long, in microseconds.
const WAKE_US_MAX: i64 = 10;
/// Of a host's time, in thousandths, what a hypervisor may keep before it shows in the tails.
const STEAL_MILLI_MAX: u128 = 10;

pub(super) fn check(host: &dyn Host, topology: &Topology, wanted: &Wanted) -> Vec<Finding> {
    vec![
        build(host, wanted),
        governor(host, wanted),
        idle_states(host, wanted),
        smt(host, topology),
        clocksource(host),
        numa(host, wanted),
        numa_balancing(host),
        irqbalance(host),
        steal(host),
    ]
}

fn build(host: &dyn Host, wanted: &Wanted) -> Finding {
    let item = Item::new(
        Area::Cpu,
        "build",
        "/proc/cpuinfo",
        "a program that was compiled for more than a processor has ends with an illegal instruction",
    );
    let text = match host.text("/proc/cpuinfo") {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let Some(best) = Build::best(&text) else {
        return item.na("/proc/cpuinfo has neither the flags of an x86 nor the features of an Arm processor");
    };
    let built = wanted.build;
    if !built.runs_on(best) {
        let lacking = best.lacking(&text).join(" ");
        return item
            .fail(
                built.name(),
                best.name(),
                format!("cargo build --release  # with RUSTFLAGS=-Ctarget-cpu={best}"),
            )
            .because(format!("the processors of this host lack {lacking}"));
    }
    if built == best {
        return item.fine(built.name(), "the best build for this host");
    }
    item.fine(
        built.name(),
        format!("this host would run {best} too; whether that pays is a matter of measurement"),
    )
}

/// The processors of a plan, once each.
fn shard_cpus(wanted: &Wanted) -> CpuList {
    wanted.plan.shard_cpus.iter().copied().collect()
}

fn governor(host: &dyn Host, wanted: &Wanted) -> Finding {
    let item = Item::new(
        Area::Cpu,
        "governor",
        format!("{CPU}/cpu*/cpufreq/scaling_governor"),
        "a core that has to speed up first answers late",
    )
    .risk("power and heat");
    let mut slow: Vec<(u16, String)> = Vec::new();
    let mut read = 0;
    for &cpu in shard_cpus(wanted).cpus() {
        match host.word(&format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor")) {
            Ok(word) => {
                read += 1;
                if word != "performance" {
                    slow.push((cpu, word));
                }
            }
            Err(Unread::Missing) => {}
            Err(error) => return item.unread(&error),
        }
    }
    if read == 0 {
        return item.na("there is no cpufreq here: the firmware or the hypervisor sets the frequency");
    }
    let Some((_, word)) = slow.first() else {
        return item.ok("performance");
    };
    let cpus: CpuList = slow.iter().map(|&(cpu, _)| cpu).collect();
    item.warn(
        format!("{word} on {cpus}"),
        "performance",
        format!("echo performance | tee {CPU}/cpu*/cpufreq/scaling_governor"),
    )
}

fn idle_states(host: &dyn Host, wanted: &Wanted) -> Finding {
    let item = Item::new(
        Area::Cpu,
        "idle states",
        format!("{CPU}/cpu*/cpuidle"),
        "a core that sleeps deeply needs that long to wake, for every message that comes after a pause",
    )
    .risk("power and heat, and less turbo for the other cores");
    let mut deepest: Option<(i64, String)> = None;
    for &cpu in shard_cpus(wanted).cpus() {
        for state in host.numbered(&format!("{CPU}/cpu{cpu}/cpuidle"), "state") {
            let folder = format!("{CPU}/cpu{cpu}/cpuidle/state{state}");
            let disabled = host.number(&format!("{folder}/disable"));
            let (Ok(0), Ok(latency)) = (disabled, host.number(&format!("{folder}/latency"))) else {
                continue;
            };
            if deepest.as_ref().is_none_or(|(most, _)| latency > *most) {
                let name = host.word(&format!("{folder}/name")).unwrap_or_default();
                deepest = Some((latency, name));
            }
        }
    }
    match deepest {
        None => item.na("there is no cpuidle here: the hypervisor decides how deeply a core sleeps"),
        Some((latency, name)) if latency <= WAKE_US_MAX => item.ok(format!("{name}, {latency} µs to wake")),
        Some((latency, name)) => item.warn(
            format!("down to {name}, {latency} µs to wake"),
            format!("at most {WAKE_US_MAX} µs"),
            format!("cpupower idle-set -D {WAKE_US_MAX}"),
        ),
    }
}

fn smt(host: &dyn Host, topology: &Topology) -> Finding {
    let item = Item::new(Area::Cpu, "smt", format!("{CPU}/smt/active"), "");
    let threads = topology.cores.iter().map(|core| core.cpus.len()).max().unwrap_or(1);
    match host.number(&item.path) {
        Ok(0) => item.fine("off", "each core is one processor"),
        Ok(_) => item.fine(
            format!("on, {threads} threads a core"),
            "the plan gives a core to one shard, and its other threads to followers",
        ),
        Err(error) => item.unread(&error),
    }
}

fn clocksource(host: &dyn Host) -> Finding {
    let path = format!("{CLOCK}/current_clocksource");
    let item = Item::new(
        Area::Cpu,
        "clocksource",
        path.clone(),
        "shards look at the clock in every turn; other sources cost a system call, and a slow register, each time",
    )
    .risk("a TSC that the kernel found unstable makes time jump");
    let source = match host.word(&path) {
        Ok(source) => source,
        Err(error) => return item.unread(&error),
    };
    match source.as_str() {
        "tsc" | "arch_sys_counter" => item.ok(source),
        "kvm-clock" | "hyperv_clocksource_tsc_page" => {
            item.fine(source, "the hypervisor's clock, which is read without a system call too")
        }
        _ => {
            let available = host.word(&format!("{CLOCK}/available_clocksource")).unwrap_or_default();
            match ["tsc", "arch_sys_counter", "kvm-clock"]
                .iter()
                .find(|name| available.split_whitespace().any(|word| word == **name))
            {
                Some(better) => item.warn(source, *better, format!("echo {better} > {path}")),
                None => item.warn(
                    source,
                    "tsc",
                    "none: the kernel does not trust the TSC; `dmesg | grep -i tsc` says why",
                ),
            }
        }
    }
}

/// The nodes and their processors; empty where the kernel knows of none.
pub(super) fn nodes(host: &dyn Host) -> Vec<(u32, CpuList)> {
    host.numbered(NODE, "node")
        .into_iter()
        .filter_map(|node| {
            Some((node, CpuList::parse(&host.word(&format!("{NODE}/node{node}/cpulist")).ok()?).ok()?))
        })
        .collect()
}

/// The nodes shards are on.
pub(super) fn shard_nodes(nodes: &[(u32, CpuList)], wanted: &Wanted) -> Vec<u32> {
    let on = |cpus: &CpuList| wanted.plan.shard_cpus.iter().any(|&cpu| cpus.contains(cpu));
    nodes.iter().filter(|(_, cpus)| on(cpus)).map(|&(node, _)| node).collect()
}

fn numa(host: &dyn Host, wanted: &Wanted) -> Finding {
    let item = Item::new(
        Area::Cpu,
        "numa",
        NODE,
        "memory, network device and disk of another node are farther away, for every packet and every page",
    )
    .risk("the cores of the other nodes are left to others: measure both ways");
    let nodes = nodes(host);
    match nodes.as_slice() {
        [] => item.na("the kernel names no nodes: it was built without NUMA, or hides them here"),
        [_] => item.ok("one node"),
        _ => {
            let on = shard_nodes(&nodes, wanted);
            let names: Vec<String> = on.iter().map(u32::to_string).collect();
            let current = format!("{} nodes, shards on {}", nodes.len(), names.join(" and "));
            if on.len() <= 1 {
                return item.ok(current);
            }
            let cpus = &nodes.iter().find(|(node, _)| *node == on[0]).expect("shards are on it").1;
            let command = super::unit(
                host,
                &format!("CPUAffinity={cpus}"),
                &format!("numactl --cpunodebind={0} --membind={0} ringdesk serve", on[0]),
            );
            item.warn(current, "shards on one node", command)
        }
    }
}

fn numa_balancing(host: &dyn Host) -> Finding {
    const NAME: &str = "kernel.numa_balancing";
    let item = Item::new(
        Area::Cpu,
        NAME,
        sysctl_path(NAME),
        "it takes pages away to see who touches them; pinned shards gain nothing by it and pay the faults",
    )
    .risk("programs that are not pinned may run farther from their memory");
    match host.number(&item.path) {
        Ok(0) => item.ok("0"),
        Ok(number) if nodes(host).len() <= 1 => {
            item.fine(number.to_string(), "there is one node, so it has no effect")
        }
        Ok(number) => item.warn(number.to_string(), "0", sysctl_set(NAME, "0")),
        Err(error) => item.unread(&error),
    }
}

fn irqbalance(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Cpu,
        "irqbalance",
        "/proc/*/comm",
        "it moves interrupts every ten seconds, and so undoes what binds them to cores",
    )
    .risk("interrupts stay where they are put, for good or ill");
    let found = host
        .numbered("/proc", "")
        .into_iter()
        .find(|pid| host.word(&format!("/proc/{pid}/comm")).is_ok_and(|name| name == "irqbalance"));
    if let Some(pid) = found {
        let environment = host.text(&format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
        return match variables.find(|(name, _)| *name == "IRQBALANCE_BANNED_CPULIST") {
            Some((_, list)) if !list.is_empty() => {
                item.fine(format!("process {pid}, kept off {list}"), "it leaves those processors alone")
            }
            _ => item.warn(format!("process {pid}"), "stopped", "systemctl disable --now irqbalance"),
        };
    }
    // The kernel's own threads are seen only from the first namespace of processes; elsewhere a daemon of the host is out of sight.
    match host.word("/proc/2/comm") {
        Ok(name) if name == "kthreadd" => item.ok("does not run"),
        _ => item.na("this process sees its own container only, and not whether it runs on the host"),
    }
}

fn steal(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Cpu,
        "steal",
        "/proc/stat",
        "the hypervisor ran something else while a processor of this host had work",
    );
    let flags = host.text("/proc/cpuinfo").unwrap_or_default();
    let guest =
        field(&flags, "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let text = match host.text("/proc/stat") {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    // cpu user nice system idle iowait irq softirq steal guest guest_nice; the last two are in user and nice already (proc(5)).
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let numbers: Vec<u128> =
        line.unwrap_or("").split_whitespace().filter_map(|word| word.parse().ok()).take(8).collect();
    let [.., steal] = numbers.as_slice() else {
        return item.na("/proc/stat has no line for all processors");
    };
    if numbers.len() < 8 {
        return item.na("this kernel does not count it");
    }
    let milli = steal * 1_000 / numbers.iter().sum::<u128>().max(1);
    let current = format!("{}.{} % of the time since the start", milli / 10, milli % 10);
    if milli > STEAL_MILLI_MAX {
        item.warn(current, "below 1 %", "none: ask for pinned processors, or take bare metal")
    } else if guest {
        item.fine(current, "a core of a virtual machine may take 10 to 50 µs more to wake")
    } else {
        item.ok(current)
    }
}
