//! What a run says: a line per cycle, the totals as JSON, and how many of its tests passed.

use std::path::PathBuf;
use std::time::Duration;

use crash::judge::Verdict;
use crash::server::Plan;
use crash::world::{Manners, World};
use serde_json::{Value, json};

use crate::{Common, Loop};

/// How a journal may be written; each round takes one by chance.
pub(crate) const SYNC: [&str; 3] = ["auto", "direct", "buffered"];

/// Tests passed and failed.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Tally {
    /// Counts a test and says how it went.
    pub(crate) fn count(&mut self, name: &str, outcome: &Result<String, String>) {
        match outcome {
            Ok(what) => {
                self.passed += 1;
                println!("ok      {name}: {what}");
            }
            Err(what) => {
                self.failed += 1;
                println!("FAILED  {name}: {what}");
            }
        }
    }
}

/// Totals over the rounds of a run.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) crashes: u32,
    /// Of them, those before the server was ready, and those right after its files had changed.
    pub(crate) recovering: u32,
    pub(crate) rolling: u32,
    pub(crate) said: u64,
    pub(crate) acked: u64,
    pub(crate) messages: u64,
    pub(crate) crossed: u64,
    pub(crate) heard: u64,
    pub(crate) events: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) wrong: u64,
    pub(crate) unknown: u64,
    pub(crate) dups: u64,
    pub(crate) gaps: u64,
    pub(crate) resumed: u64,
    pub(crate) connects: u64,
    pub(crate) loaded: Duration,
    pub(crate) served: Vec<Duration>,
    pub(crate) findings: Vec<String>,
}

impl Totals {
    pub(crate) fn add(&mut self, world: &World, verdict: &Verdict) {
        let counts = &world.counts;
        self.said += verdict.said;
        self.acked += verdict.acked;
        self.heard += verdict.heard;
        self.events += verdict.events;
        self.lost += verdict.lost;
        self.doubled += verdict.doubled;
        self.wrong += verdict.wrong;
        self.unknown += verdict.unknown;
        self.messages += counts.messages.get();
        self.crossed += counts.crossed.get();
        self.dups += counts.dups.get();
        self.gaps += counts.gaps.get();
        self.resumed += counts.resumed.get();
        self.connects += counts.connects.get();
        self.findings.extend(verdict.findings.iter().take(20).cloned());
        for finding in verdict.findings.iter().take(20) {
            println!("  violation: {finding}");
        }
        println!(
            "  sockets ended: {:?}; refusals: {:?}",
            sorted(&world.ends.borrow()),
            sorted(&world.refusals.borrow())
        );
    }

    pub(crate) fn is_good(&self) -> bool {
        // A run in which nothing was acknowledged has shown nothing.
        self.lost + self.doubled + self.wrong == 0 && self.acked > 0
    }

    /// Messages per second while clients talked and the server ran.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.loaded.as_secs_f64().max(0.001)
    }

    /// Whether the loop was loaded as it was meant to be. Half is enough: the machine may have other work; far below it the run has shown little.
    pub(crate) fn load(&self, wanted: f64) -> Result<String, String> {
        let said = format!(
            "{:.0} messages a second while clients talked, of {wanted:.0} that were wanted",
            self.rate()
        );
        if self.rate() >= wanted / 2.0 { Ok(said) } else { Err(said) }
    }

    pub(crate) fn crossed_share(&self) -> f64 {
        self.crossed as f64 / (self.messages as f64).max(1.0)
    }

    pub(crate) fn json(&self, kind: &str, run: &Loop) -> Value {
        let ms = |duration: Duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0;
        let mut served = self.served.clone();
        served.sort_unstable();
        let at = |share: f64| {
            served
                .get(((served.len() as f64 * share) as usize).min(served.len().saturating_sub(1)))
                .map_or(0.0, |&time| ms(time))
        };
        json!({
            "run": kind, "seed": run.common.seed, "shards": run.common.shards, "clients": run.clients,
            "crashes": self.crashes, "recovering": self.recovering, "rolling": self.rolling, "said": self.said, "acked": self.acked, "acked_lost": self.lost, "doubled": self.doubled, "wrong": self.wrong,
            "stored_unacked": self.unknown, "dup_acks": self.dups, "gaps_seen_and_filled": self.gaps, "heard": self.heard, "events": self.events,
            "messages_per_s": self.rate().round(), "crossed_shards": (self.crossed_share() * 1_000.0).round() / 1_000.0,
            "connects": self.connects, "resumed": self.resumed,
            "to_serve_ms": { "count": served.len(), "p50": at(0.5), "p90": at(0.9), "max": at(1.0) },
        })
    }
}

fn sorted(counts: &std::collections::HashMap<String, u64>) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = counts.iter().map(|(name, &count)| (name.clone(), count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// A server's plan in `name` below the work directory.
pub(crate) fn plan(common: &Common, name: &str) -> Result<Plan, String> {
    let work_dir = common.work_dir.join(format!("{name}-{}", std::process::id()));
    // Of an earlier run with the same id, if anything.
    let _ = std::fs::remove_dir_all(&work_dir);
    Ok(Plan {
        bin: crash::server::find_bin(common.bin.as_deref())?,
        data_dir: work_dir.join("data"),
        work_dir,
        shards: common.shards,
        durability: "disk",
        segment_mb: 2,
        settings: String::new(),
        arguments: Vec::new(),
    })
}

/// Clients of a run, three fifths of them visitors.
pub(crate) fn manners(common: &Common, clients: u16, rate: f64) -> Manners {
    let visitors = (u32::from(clients) * 3 / 5).max(1) as u16;
    Manners {
        seed: common.seed,
        visitors,
        agents: clients.saturating_sub(visitors).max(2),
        rate,
        shards: common.shards,
        back_off_max: Duration::from_millis(400),
        level: "disk",
        closes_per_mille: 2,
    }
}

/// Removes the files of a run that went well.
pub(crate) fn clean(good: bool, work_dir: &PathBuf) {
    if good {
        let _ = std::fs::remove_dir_all(work_dir);
    } else {
        println!("  kept: {}", work_dir.display());
    }
}
