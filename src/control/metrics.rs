//! `/metrics`: the text exposition of Prometheus, version 0.0.4. Everything is read when asked; nothing is kept here.

use std::fmt::Write as _;

use edge::metrics::{Gauges, Kind, Name};

use super::counts::Counts;
use super::port::Ports;
use crate::followers::Progress;

/// All of it.
pub(super) fn exposition(ports: &Ports, counts: &Counts, progress: &Progress, uptime_s: u64) -> String {
    let mut page = Page::default();
    page.family("ringdesk_build_info", "gauge", "What runs; always 1.");
    page.value("ringdesk_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    page.family("ringdesk_uptime_seconds", "gauge", "Time since the process began.");
    page.value("ringdesk_uptime_seconds", "", uptime_s);

    shards(&mut page, &edge::metrics::names(), &ports.gauges());
    let states = ports.states();
    page.family("ringdesk_settings_version", "gauge", "Version of the settings a shard uses.");
    for (shard, state) in states.iter().enumerate() {
        page.value("ringdesk_settings_version", &format!("shard=\"{shard}\""), state.settings_applied);
    }
    page.family(
        "ringdesk_journal_durable_offset",
        "gauge",
        "Everything in a shard's journal before this offset is durable.",
    );
    for (shard, state) in states.iter().enumerate() {
        page.value("ringdesk_journal_durable_offset", &format!("shard=\"{shard}\""), state.mark.durable.0);
    }

    let rows = progress.rows();
    for (metric, kind, help, of) in [
        (
            "ringdesk_follower_lag_bytes",
            "gauge",
            "Durable bytes of a journal that a follower has not taken yet.",
            0,
        ),
        ("ringdesk_follower_records_total", "counter", "Records a follower has taken.", 1),
        ("ringdesk_follower_read_bytes_total", "counter", "Bytes of records a follower has taken.", 2),
        (
            "ringdesk_follower_damage_total",
            "counter",
            "Damaged ranges a follower has met since the process began.",
            3,
        ),
    ] {
        page.family(metric, kind, help);
        for row in &rows {
            let durable = states.get(usize::from(row.shard)).map_or(0, |state| state.mark.durable.0);
            let value = [durable.saturating_sub(row.place), row.records, row.bytes, row.damage][of];
            page.value(metric, &format!("follower=\"{}\",shard=\"{}\"", row.follower, row.shard), value);
        }
    }

    page.family(
        "ringdesk_http_connections",
        "gauge",
        "Connections that shards handed over and that have not ended.",
    );
    page.value("ringdesk_http_connections", "", u64::from(ports.hand_overs()));
    let mut last = "";
    for (metric, help, labels, value) in counts.all() {
        if metric != last {
            page.family(metric, "counter", help);
            last = metric;
        }
        page.value(metric, labels, value);
    }
    process(&mut page);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, metric: &str, kind: &str, help: &str) {
        let help = help.trim().replace('\\', "\\\\").replace('\n', " ");
        let _ = writeln!(self.0, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
    }

    fn value(&mut self, metric: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{metric} {value}"),
            labels => writeln!(self.0, "{metric}{{{labels}}} {value}"),
        };
    }
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// The numbers of the shards. A metric's lines stand together, so this walks by name, then by shard.
fn shards(page: &mut Page, names: &[Name], rows: &[&Gauges]) {
    let mut at = 0;
    while at < names.len() {
        let Name { name, help, kind } = names[at];
        let count = names[at..].iter().take_while(|other| other.name == name).count();
        let metric = match kind {
            Kind::Counter => format!("ringdesk_{name}_total"),
            Kind::Gauge => format!("ringdesk_{name}"),
            Kind::Bucket { .. } | Kind::Sum => format!("ringdesk_{name}_seconds"),
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Bucket { .. } | Kind::Sum => "histogram",
        };
        page.family(&metric, kind, help);
        for (shard, row) in rows.iter().enumerate() {
            for (place, name) in names.iter().enumerate().skip(at).take(count) {
                let value = row.value(place);
                match name.kind {
                    Kind::Counter | Kind::Gauge => page.value(&metric, &format!("shard=\"{shard}\""), value),
                    Kind::Bucket { le_us: Some(le) } => {
                        let labels = format!("shard=\"{shard}\",le=\"{}\"", seconds(le));
                        page.value(&format!("{metric}_bucket"), &labels, value);
                    }
                    Kind::Bucket { le_us: None } => {
                        page.value(
                            &format!("{metric}_bucket"),
                            &format!("shard=\"{shard}\",le=\"+Inf\""),
                            value,
                        );
                        page.value(&format!("{metric}_count"), &format!("shard=\"{shard}\""), value);
                    }
                    Kind::Sum => {
                        page.value(&format!("{metric}_sum"), &format!("shard=\"{shard}\""), seconds(value));
                    }
                }
            }
        }
        at += count;
    }
}

/// What every process shows, by the names every dashboard knows.
fn process(page: &mut Page) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kib = |text: &str, key: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    let status = read("/proc/self/status");
    if let Some(resident) = kib(&status, "VmRSS:") {
        page.family("process_resident_memory_bytes", "gauge", "Resident memory.");
        page.value("process_resident_memory_bytes", "", resident * 1024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.family(
            "process_open_fds",
            "gauge",
            "Ordinary descriptors that are open; shards' sockets are not among them.",
        );
        page.value("process_open_fds", "", open.count());
    }
    // Fields 14 and 15 after the name in brackets: user and system time in ticks of a hundredth of a second.
    let stat = read("/proc/self/stat");
    if let Some((_, rest)) = stat.rsplit_once(')') {
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        page.family("process_cpu_seconds_total", "counter", "User and system time.");
        page.value("process_cpu_seconds_total", "", format!("{}.{:02}", ticks / 100, ticks % 100));
    }
}
