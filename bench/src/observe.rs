//! What the server costs while it is measured: its threads, its memory, the host's kernel memory and steal, and its own counters.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::server::request;

/// Everything at one moment.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// `CLOCK_MONOTONIC`.
    pub(crate) at_ns: u64,
    /// CPU nanoseconds of the threads whose names begin with `shard-`, by the scheduler's own account.
    pub(crate) shard_cpu_ns: u64,
    /// Of all its other threads.
    pub(crate) other_cpu_ns: u64,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// Context switches, wanted and unwanted.
    pub(crate) switches: u64,
    /// The host's slab memory in bytes: most of what sockets cost.
    pub(crate) slab: u64,
    /// Pages that TCP buffers take, in bytes.
    pub(crate) tcp_memory: u64,
    /// TCP sockets in use on the host.
    pub(crate) sockets: u64,
    /// Time that the hypervisor took from the host, and all time, in ticks.
    pub(crate) steal_ticks: u64,
    /// See `steal_ticks`.
    pub(crate) all_ticks: u64,
    /// The server's counters, summed over its shards.
    pub(crate) counters: BTreeMap<String, f64>,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

fn number(text: &str, word: usize) -> u64 {
    text.split_whitespace().nth(word).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Looks at a process of this host (`pid`, if it runs here) and at its counters (`admin`, if that can be reached).
pub(crate) fn look(pid: Option<u32>, admin: Option<SocketAddr>) -> Moment {
    let mut moment = Moment { at_ns: crate::clock::now_ns(), ..Moment::default() };
    if let Some(pid) = pid {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let path = task.path();
            let cpu = number(&read(&path.join("schedstat").to_string_lossy()), 0);
            match read(&path.join("comm").to_string_lossy()).starts_with("shard-") {
                true => moment.shard_cpu_ns += cpu,
                false => moment.other_cpu_ns += cpu,
            }
            let status = read(&path.join("status").to_string_lossy());
            moment.switches += ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
                .iter()
                .filter_map(|key| after(&status, key))
                .map(|rest| number(rest, 0))
                .sum::<u64>();
        }
        let status = read(&format!("/proc/{pid}/status"));
        moment.resident = after(&status, "VmRSS:").map_or(0, |rest| number(rest, 0) * 1024);
    }
    moment.slab = after(&read("/proc/meminfo"), "Slab:").map_or(0, |rest| number(rest, 0) * 1024);
    if let Some(tcp) = after(&read("/proc/net/sockstat"), "TCP:") {
        let words: Vec<&str> = tcp.split_whitespace().collect();
        let of =
            |key| words.iter().position(|&word| word == key).and_then(|at| words.get(at + 1)?.parse().ok());
        moment.sockets = of("inuse").unwrap_or(0);
        moment.tcp_memory = of("mem").unwrap_or(0) * 4096;
    }
    if let Some(cpu) = after(&read("/proc/stat"), "cpu ") {
        moment.steal_ticks = number(cpu, 7);
        moment.all_ticks = cpu.split_whitespace().take(8).filter_map(|word| word.parse::<u64>().ok()).sum();
    }
    if let Some(admin) = admin {
        let head = "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        if let Ok(page) = request(admin, head) {
            moment.counters = counters(&page);
        }
    }
    moment
}

/// Counters of an exposition, summed over their labels; buckets of histograms are left out.
fn counters(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("ringdesk_")) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or_default();
        let counted = ["_total", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        if counted && let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

/// What was spent between two moments, for so many messages.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// CPU seconds of the shards for a million messages.
    pub(crate) shard_s_per_million: f64,
    /// CPU seconds of everything else of the server for a million messages.
    pub(crate) other_s_per_million: f64,
    /// Cores that the shards kept busy.
    pub(crate) shard_cores: f64,
    /// System calls into rings for each message.
    pub(crate) enters_per_message: f64,
    /// Completions for each of those.
    pub(crate) completions_per_enter: f64,
    /// Context switches for each message.
    pub(crate) switches_per_message: f64,
    /// Writes to the journals a second.
    pub(crate) commits_per_second: f64,
    /// Bytes written to the journals for each message.
    pub(crate) written_per_message: f64,
    /// Share of the host's time that the hypervisor took.
    pub(crate) steal: f64,
    /// Resident memory of the server at the end.
    pub(crate) resident: u64,
    /// Slab and TCP buffers of the host at the end.
    pub(crate) kernel: u64,
    /// Everything that was counted.
    pub(crate) counters: BTreeMap<String, f64>,
}

impl Spent {
    /// Between `from` and `to`, for `messages`.
    pub(crate) fn between(from: &Moment, to: &Moment, messages: u64) -> Spent {
        let per = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
        let messages = messages as f64;
        let seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
        let counters: BTreeMap<String, f64> = to
            .counters
            .iter()
            .map(|(name, value)| (name.clone(), value - from.counters.get(name).copied().unwrap_or(0.0)))
            .collect();
        let of = |name: &str| counters.get(name).copied().unwrap_or(0.0);
        let shard_ns = to.shard_cpu_ns.saturating_sub(from.shard_cpu_ns) as f64;
        let other_ns = to.other_cpu_ns.saturating_sub(from.other_cpu_ns) as f64;
        Spent {
            shard_s_per_million: per(shard_ns / 1e9, messages / 1e6),
            other_s_per_million: per(other_ns / 1e9, messages / 1e6),
            shard_cores: per(shard_ns / 1e9, seconds),
            enters_per_message: per(of("ringdesk_enters_total"), messages),
            completions_per_enter: per(of("ringdesk_completions_total"), of("ringdesk_enters_total")),
            switches_per_message: per(to.switches.saturating_sub(from.switches) as f64, messages),
            commits_per_second: per(of("ringdesk_writes_total"), seconds),
            written_per_message: per(of("ringdesk_write_bytes_total"), messages),
            steal: per(
                to.steal_ticks.saturating_sub(from.steal_ticks) as f64,
                to.all_ticks.saturating_sub(from.all_ticks) as f64,
            ),
            resident: to.resident,
            kernel: to.slab + to.tcp_memory,
            counters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let page = "# TYPE ringdesk_enters_total counter\nringdesk_enters_total{shard=\"0\"} 4\nringdesk_enters_total{shard=\"1\"} 6\nringdesk_sessions{shard=\"0\"} 9\nother_total 1\nringdesk_turn_seconds_bucket{le=\"1\"} 3\nringdesk_turn_seconds_sum{shard=\"0\"} 0.5\n";
        let sums = counters(page);
        assert_eq!(sums.get("ringdesk_enters_total"), Some(&10.0));
        assert_eq!(sums.get("ringdesk_turn_seconds_sum"), Some(&0.5));
        assert_eq!(sums.len(), 2);
    }

    #[test]
    fn this_process_is_seen() {
        let moment = look(Some(std::process::id()), None);
        assert!(moment.resident > 0 && moment.other_cpu_ns > 0 && moment.all_ticks > 0);
        let spent = Spent::between(&moment, &look(Some(std::process::id()), None), 0);
        assert_eq!(spent.shard_s_per_million, 0.0);
    }
}
