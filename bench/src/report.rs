//! What is said after a run: a table on the terminal, and files.

mod hgrm;
mod host;
mod html;
mod plot;

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

pub(crate) use host::{Host, Tuning};

use crate::audit::Audit;
use crate::figures::Figures;
use crate::observe::{Moment, Spent};
use crate::scenario::{Kind, Scenario, Storm};

/// One second of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Since the first message.
    pub(crate) at_s: f64,
    /// Connections that stand.
    pub(crate) connected: u64,
    /// Messages a second.
    pub(crate) sent: f64,
    /// Messages a second that reached whom they were for.
    pub(crate) received: f64,
    /// Connections that failed so far.
    pub(crate) failed: u64,
    /// Cores that the shards kept busy.
    pub(crate) shard_cores: f64,
    /// Resident memory of the server.
    pub(crate) resident: u64,
    /// Share of the host's time that the hypervisor took.
    pub(crate) steal: f64,
}

impl Second {
    pub(crate) fn between(
        from: &Moment,
        to: &Moment,
        before: &Figures,
        after: &Figures,
        start_ns: u64,
    ) -> Second {
        let seconds = ((to.at_ns - from.at_ns) as f64 / 1e9).max(1e-9);
        let counts = after.counts.since(&before.counts);
        let ticks = (to.all_ticks - from.all_ticks).max(1) as f64;
        Second {
            at_s: (to.at_ns as f64 - start_ns as f64) / 1e9,
            connected: after.counts.standing(),
            sent: counts.sent as f64 / seconds,
            received: counts.received as f64 / seconds,
            failed: after.counts.failed,
            shard_cores: to.shard_cpu_ns.saturating_sub(from.shard_cpu_ns) as f64 / 1e9 / seconds,
            resident: to.resident,
            steal: (to.steal_ticks - from.steal_ticks) as f64 / ticks,
        }
    }

    pub(crate) fn line(&self, sum: &Figures) -> String {
        let mut line = format!(
            "{:>4.0} s  connections {}  sent {:.0}/s  received {:.0}/s",
            self.at_s, self.connected, self.sent, self.received
        );
        if let Some((name, times)) =
            ["delivered", "echo"].iter().find_map(|name| sum.times.get_key_value(*name))
        {
            let _ = write!(line, "  {name} p50 {:.0} µs p99 {:.0} µs", times.us(0.5), times.us(0.99));
        }
        let faults = sum.faults.lost + sum.faults.doubled + sum.faults.reordered + sum.faults.altered;
        let _ = write!(line, "  errors {}", self.failed + sum.counts.refused + faults);
        line
    }
}

/// Seconds that a slope is fitted to, at least.
const GROWTH_LEAST: usize = 60;

/// How memory grows, by a straight line through all seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Bytes an hour.
    pub(crate) per_hour: f64,
    /// Its standard error, bytes an hour.
    pub(crate) error: f64,
    /// Points.
    pub(crate) seconds: usize,
}

impl Growth {
    /// The line of least squares through (seconds, bytes).
    fn fit(points: &[(f64, f64)]) -> Growth {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
        let error = (rest / (count - 2.0) / spread).sqrt();
        Growth { per_hour: slope * 3600.0, error: error * 3600.0, seconds: points.len() }
    }
}

/// A run, whole. This is `report.json`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// As it was typed.
    pub(crate) command_line: String,
    /// What was run, with all that the command line changed.
    pub(crate) scenario: Scenario,
    /// Worker processes.
    pub(crate) workers: u32,
    /// Ctrl-C.
    pub(crate) stopped_early: bool,
    /// Until everybody was connected and logged in.
    pub(crate) connected_in_ms: u64,
    /// In a storm that is a restart: from the start of the process until it was ready.
    #[serde(default)]
    pub(crate) ready_after_ms: Option<u64>,
    /// What all workers measured.
    pub(crate) figures: Figures,
    /// Second by second.
    pub(crate) seconds: Vec<Second>,
    /// What the server spent while it was measured; not of a remote one.
    pub(crate) spent: Option<Spent>,
    /// What was there after kill -9, if that was asked for.
    #[serde(default)]
    pub(crate) audit: Option<Audit>,
    /// The host of the generator.
    pub(crate) host: Host,
    /// Which server.
    pub(crate) server: String,
}

impl Report {
    /// What was wrong, a sentence each; empty if nothing was.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let counts = &self.figures.counts;
        let faults = &self.figures.faults;
        for (count, what) in [
            (faults.lost, "messages were lost"),
            (faults.doubled, "messages came twice"),
            (faults.reordered, "messages came out of order"),
            (faults.altered, "messages came altered"),
            (counts.failed, "connections failed"),
            (counts.refused, "messages were refused"),
        ] {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        }
        if self.scenario.kind == Kind::Chat && counts.answered + counts.refused != counts.sent {
            problems.push(format!(
                "{} messages were never answered",
                counts.sent - counts.answered - counts.refused
            ));
        }
        if self.scenario.storm.is_some() && !self.stopped_early {
            let away = counts.standing().saturating_sub(counts.came_back + counts.failed);
            if away > 0 {
                problems.push(format!("{away} connections did not come back"));
            }
        }
        problems.extend(self.audit.iter().flat_map(Audit::problems));
        problems.extend(self.figures.errors.iter().cloned());
        problems
    }

    /// How the server's memory grew while it was measured, if that was long enough to say so.
    pub(crate) fn growth(&self) -> Option<Growth> {
        let from = self.scenario.warm_up.as_secs_f64();
        let points: Vec<(f64, f64)> = self
            .seconds
            .iter()
            .filter(|second| second.at_s >= from && second.resident > 0)
            .map(|second| (second.at_s, second.resident as f64))
            .collect();
        (points.len() >= GROWTH_LEAST).then(|| Growth::fit(&points))
    }

    /// For the terminal. The first line says whether the run is worth reading.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let problems = self.problems();
        match problems.as_slice() {
            [] if self.stopped_early => text.push_str("STOPPED EARLY; what was measured is sound\n"),
            [] => text.push_str("OK: nothing lost, doubled, out of order or altered\n"),
            problems => {
                let _ = writeln!(text, "ERRORS: {}", problems.join("; "));
            }
        }
        let Report { scenario, figures, .. } = self;
        let counts = &figures.counts;
        let _ = writeln!(text, "{}", scenario.about);
        let loop_kind = match scenario.rate {
            _ if scenario.notices > 0.0 => format!("{} notices a second to everybody", scenario.notices),
            _ if scenario.kind == Kind::Idle => "they listen".to_owned(),
            0.0 => "closed loop: it says how much goes through, and nothing about waiting".to_owned(),
            rate => format!("open loop, {rate} messages a second, {:?}", scenario.pace).to_lowercase(),
        };
        let _ = writeln!(
            text,
            "{} connections from {} processes, in {:.1} s; {loop_kind}; {} characters",
            counts.standing(),
            self.workers,
            self.connected_in_ms as f64 / 1000.0,
            scenario.payload
        );
        let _ = writeln!(
            text,
            "server {}: {} shards, durability {}; {} ({} cores), Linux {}",
            self.server,
            scenario.shards,
            scenario.durability,
            self.host.processor,
            self.host.cores,
            self.host.kernel
        );
        if let Some(Tuning { ok, ill }) = &self.host.tuning {
            let _ = writeln!(
                text,
                "host: {ok} items tuned, {} could be better (ringdesk tune --check)",
                ill.len()
            );
        }
        let _ = writeln!(
            text,
            "sent {}  acknowledged {}  received {}  crossed shards {:.0} %  typing and receipts {}  heartbeats {}\n",
            counts.sent,
            counts.answered,
            counts.received,
            100.0 * counts.crossed as f64 / counts.received.max(1) as f64,
            counts.hints,
            counts.heartbeats
        );
        if let Some(storm) = scenario.storm {
            let how = match storm {
                Storm::Cut => "cut off",
                Storm::HalfOpen => "fallen silent",
                Storm::Restart => "cut off by kill -9",
            };
            let _ = write!(
                text,
                "{} connections {how} and back, {} of them resumed; {} attempts failed before",
                counts.came_back, counts.resumed, counts.retries
            );
            match self.ready_after_ms {
                Some(ms) => {
                    let _ = writeln!(text, "; the server was ready after {ms} ms\n");
                }
                None => text.push_str("\n\n"),
            }
        }
        if counts.to_slow > 0 {
            let _ = writeln!(
                text,
                "slow and stuck readers: {} messages for them, {} read; {} of {} readers closed by the server\n",
                counts.to_slow,
                counts.slowly_received,
                counts.slow_closed,
                scenario.slow + scenario.stuck
            );
        }
        if scenario.notices > 0.0 {
            let _ = writeln!(text, "{} notices told\n", counts.noticed);
        }
        if let Some(growth) = self.growth() {
            let _ = writeln!(
                text,
                "resident memory grew by {:.2} MiB an hour (± {:.2}), fitted to {} seconds\n",
                growth.per_hour / 1048576.0,
                growth.error / 1048576.0,
                growth.seconds
            );
        }
        if counts.left > 0 {
            let _ = writeln!(text, "{} visitors left, and as many came\n", counts.left);
        }
        if let Some(audit) = &self.audit {
            let _ = writeln!(
                text,
                "after kill -9: ready in {} ms, {} acknowledged messages read back, {} gone, {} twice, {} numbers missing\n",
                audit.ready_after_ms, audit.acknowledged, audit.lost, audit.doubled, audit.gaps
            );
        }
        let _ = writeln!(
            text,
            "{:<16}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "µs", "count", "p50", "p90", "p99", "p99.9", "max"
        );
        for (name, times) in &figures.times {
            let _ = writeln!(
                text,
                "{name:<16}{:>10}{:>12.1}{:>12.1}{:>12.1}{:>12.1}{:>12.1}",
                times.0.len(),
                times.us(0.5),
                times.us(0.9),
                times.us(0.99),
                times.us(0.999),
                times.us(1.0)
            );
        }
        if let Some(spent) = &self.spent {
            let _ = writeln!(
                text,
                "\nserver, for each million messages: {:.2} CPU seconds of shards, {:.2} of the rest; {:.2} cores busy",
                spent.shard_s_per_million, spent.other_s_per_million, spent.shard_cores
            );
            let _ = writeln!(
                text,
                "for each message: {:.3} enters ({:.1} completions each), {:.3} context switches, {:.0} bytes written; {:.0} commits/s",
                spent.enters_per_message,
                spent.completions_per_enter,
                spent.switches_per_message,
                spent.written_per_message,
                spent.commits_per_second
            );
            let _ = writeln!(
                text,
                "memory: {:.1} MiB resident, {:.1} MiB of the host's kernel; steal {:.2} %",
                spent.resident as f64 / 1048576.0,
                spent.kernel as f64 / 1048576.0,
                spent.steal * 100.0
            );
        }
        text
    }

    /// Writes `report.json`, `report.html` and one `.hgrm` for each kind of time.
    ///
    /// # Errors
    /// In words, with the path.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), String> {
        let doing = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(dir).map_err(|error| doing(dir, error))?;
        let json = serde_json::to_string_pretty(self).expect("a report is JSON");
        let path = dir.join("report.json");
        std::fs::write(&path, json).map_err(|error| doing(&path, error))?;
        let path = dir.join("report.html");
        std::fs::write(&path, html::html(self)).map_err(|error| doing(&path, error))?;
        for (name, times) in &self.figures.times {
            let path = dir.join(format!("{}.hgrm", name.replace(' ', "-")));
            std::fs::write(&path, hgrm::hgrm(times)).map_err(|error| doing(&path, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_told_from_memory_that_swings() {
        let points = |slope: f64| -> Vec<(f64, f64)> {
            (0..600)
                .map(|at| (f64::from(at), 1e8 + slope * f64::from(at) + 1e5 * f64::from(at % 7)))
                .collect()
        };
        let grows = Growth::fit(&points(1000.0));
        assert!((3.5e6..3.7e6).contains(&grows.per_hour), "{grows:?}");
        let swings = Growth::fit(&points(0.0));
        assert!(swings.per_hour.abs() < 3.0 * swings.error, "{swings:?}");
    }
}
