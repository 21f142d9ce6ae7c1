//! The control group: time, processors and memory it allows.

use super::{Wanted, unit};
use crate::cgroup;
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, field};
use crate::list::CpuList;
use crate::topology::Topology;

pub(super) fn check(host: &dyn Host, topology: &Topology, wanted: &Wanted) -> Vec<Finding> {
    let process = wanted.process();
    if let Err(error) = host.text(&format!("{process}/cgroup")) {
        let item = Item::new(Area::Cgroup, "cgroup", format!("{process}/cgroup"), "");
        return vec![item.unread(&error), cpus(host, topology, &process)];
    }
    vec![
        quota(host, &process),
        throttled(host, &process),
        cpus(host, topology, &process),
        memory_max(host, &process),
        memory_high(host, &process),
    ]
}

fn quota(host: &dyn Host, process: &str) -> Finding {
    let bound = cgroup::quota(host, process);
    let path = bound.as_ref().map_or(format!("{process}/cgroup"), |bound| bound.path.clone());
    let item = Item::new(
        Area::Cgroup,
        "cpu.max",
        path.clone(),
        "a group that has used up its time stands still until the next period, 100 ms as a rule, and its chats with it; the number of shards follows it",
    )
    .risk("others on the host may get less");
    match bound {
        None => item.fine("no bound", "no group of this process, or above it, bounds its time"),
        Some(bound) => {
            let current = format!("{}.{:02} processors", bound.value / 1_000, bound.value % 1_000 / 10);
            let command = if path.ends_with("cpu.max") {
                unit(host, "CPUQuota=", &format!("echo max > {path}"))
            } else {
                unit(host, "CPUQuota=", &format!("echo -1 > {path}"))
            };
            item.warn(current, "no bound", command)
        }
    }
}

fn throttled(host: &dyn Host, process: &str) -> Finding {
    let (folders, _) = cgroup::folders(host, process, "cpu");
    let read = |folder: &String| {
        let path = format!("{folder}/cpu.stat");
        let text = host.text(&path).ok()?;
        let value = |key: &str| -> Option<u64> {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(name, _)| *name == key)?.1.trim().parse().ok()
        };
        Some((value("nr_throttled")?, value("nr_periods")?, path))
    };
    let item = |path: String| {
        Item::new(
            Area::Cgroup,
            "throttled",
            path,
            "each time the whole server stood still for the rest of a period",
        )
    };
    match folders.iter().filter_map(read).max_by_key(|(throttled, ..)| *throttled) {
        None => item(String::new()).na("no group of this process counts it"),
        Some((0, _, path)) => item(path).fine("never", "its time was never used up"),
        Some((times, periods, path)) => {
            let command = unit(host, "CPUQuota=", "none: give the container more processors");
            item(path).warn(format!("{times} of {periods} periods"), "never", command)
        }
    }
}

fn cpus(host: &dyn Host, topology: &Topology, process: &str) -> Finding {
    let path = format!("{process}/status");
    let item = Item::new(
        Area::Cgroup,
        "cpus allowed",
        path.clone(),
        "shards are planned on what is allowed and no more",
    );
    let text = match host.text(&path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let online = host.word("/sys/devices/system/cpu/online").ok().and_then(|text| CpuList::parse(&text).ok());
    let allowed = field(&text, "Cpus_allowed_list").and_then(|list| CpuList::parse(list).ok());
    match (allowed, online) {
        (Some(allowed), Some(online)) => {
            let both: CpuList = allowed.cpus().iter().copied().filter(|&cpu| online.contains(cpu)).collect();
            item.ok(format!("{both} of {online}; {} cores", topology.cores.len()))
        }
        _ => item.na("neither /proc nor /sys says which processors are online and allowed"),
    }
}

/// Only a container needs a bound; elsewhere it is one more way to die.
fn memory_max(host: &dyn Host, process: &str) -> Finding {
    let bound = cgroup::memory_max(host, process);
    let path = bound.as_ref().map_or(format!("{process}/cgroup"), |bound| bound.path.clone());
    let item = Item::new(
        Area::Cgroup,
        "memory.max",
        path.clone(),
        "buffers of sockets and the kernel's own memory for them are charged to the group: at the bound the kernel kills the server, not a chat",
    )
    .risk("the rest of the host is not protected from this server");
    match bound {
        None => item.fine("no bound", "no group of this process, or above it, bounds its memory"),
        Some(bound) => {
            let none = if path.ends_with("memory.max") { "max" } else { "-1" };
            let command = unit(host, "MemoryMax=infinity", &format!("echo {none} > {path}"));
            item.warn(
                format!("{} MiB", bound.value >> 20),
                "no bound, or well above what `ringdesk check` plans with",
                command,
            )
        }
    }
}

fn memory_high(host: &dyn Host, process: &str) -> Finding {
    let (_, second) = cgroup::folders(host, process, "memory");
    let bound = cgroup::memory_high(host, process);
    let path = bound.as_ref().map_or(format!("{process}/cgroup"), |bound| bound.path.clone());
    let item = Item::new(
        Area::Cgroup,
        "memory.high",
        path.clone(),
        "above it every allocation first has to give memory back: shards stop for that long",
    )
    .risk("the rest of the host is not protected from this server");
    match bound {
        None if second => item.fine("no bound", "no group of this process, or above it, slows it down"),
        None => item.na("control groups of version 1 have no such bound"),
        Some(bound) => {
            let command = unit(host, "MemoryHigh=infinity", &format!("echo max > {path}"));
            item.warn(format!("{} MiB", bound.value >> 20), "no bound", command)
        }
    }
}
