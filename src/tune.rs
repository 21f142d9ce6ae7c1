//! `ringdesk tune --check`: says whether this host is tuned for the server. Reads, and changes nothing.
//!
//! What is looked at, and how it is judged, is `tuning`'s; here are the real files, the configuration, and the telling. Printing the changes, making
//! them and taking them back (`--dry-run`, `--apply`, `--rollback`) will be modes of their own beside [`check`]: each starts from the same report.

mod files;
mod text;

use serde_json::{Value, json};
use tuning::{Build, Finding, Report, State, Topology, Wanted};

use crate::boot::Layout;
use crate::cli::{FailOn, Overrides, TuneArgs};
use crate::config::{Config, Durability};
use crate::doctor::existing;
use crate::exit::Exit;
use crate::verbs::{complain, say};
use files::Files;

/// Changes with the meaning or the names of what `--json` prints, and not when something is added.
const SCHEMA: u32 = 1;

/// `ringdesk tune`
pub(crate) fn tune(args: TuneArgs, overrides: Overrides) -> Exit {
    let config = match overrides.load() {
        Ok(config) => config,
        Err(complaints) => {
            complain(complaints);
            return Exit::Config;
        }
    };
    // The only mode there is; the command line asks for it by name, so that no later one is ever run by mistake.
    assert!(args.mode.check, "the command line wants a mode");
    check(&config, args.json, args.fail_on)
}

/// Looks at everything and tells it. Ends with 0, or with 1 if something is as bad as `fail_on`.
fn check(config: &Config, json: bool, fail_on: Option<FailOn>) -> Exit {
    let layout = Layout::of(config).map_err(|error| error.to_string());
    let topology = Topology::read(|path| tuning::Host::text(&Files, path).ok());
    let (layout, topology) = match (layout, topology) {
        (Ok(layout), Ok(topology)) => (layout, topology),
        (Err(error), _) => {
            complain(error);
            return Exit::Edge(edge::exit::PLAN);
        }
        (_, Err(error)) => {
            complain(error);
            return Exit::Edge(edge::exit::PLAN);
        }
    };
    let wanted = wanted(config, &layout);
    let report = Report::new(&Files, &topology, &wanted);
    if json {
        say(&format!("{}\n", as_json(&report, &wanted)));
    } else {
        say(&text::of(&report, &wanted));
    }
    let bad = match fail_on {
        None => false,
        Some(FailOn::Fail) => report.worst() >= State::Fail,
        Some(FailOn::Warn) => report.worst() >= State::Warn,
    };
    if bad { Exit::Failed } else { Exit::Good }
}

/// What the server would be with this configuration on this host.
fn wanted(config: &Config, layout: &Layout) -> Wanted {
    let data_dir = existing(&config.storage.data_dir);
    let data_dir = std::fs::canonicalize(&data_dir).unwrap_or(data_dir);
    Wanted {
        data_dir: data_dir.to_string_lossy().into_owned(),
        durable: config.storage.durability == Durability::Disk,
        ports: [config.server.listen, config.server.admin_listen]
            .iter()
            .map(|address| address.port())
            .filter(|&port| port > 0)
            .collect(),
        backlog: edge::node::Tuning::default().backlog,
        connections: layout.capacity.connections,
        connections_asked: config.server.max_connections > 0,
        plan: layout.plan.clone(),
        build: own_build(),
        pid: edge::disk::Lock::holder(&config.storage.data_dir),
    }
}

/// What this program was compiled for.
fn own_build() -> Build {
    if cfg!(target_arch = "aarch64") {
        Build::Aarch64
    } else if cfg!(all(target_feature = "avx512f", target_feature = "avx512vl")) {
        Build::X86V4
    } else if cfg!(all(target_feature = "avx2", target_feature = "bmi2")) {
        Build::X86V3
    } else if cfg!(all(target_feature = "sse4.2", target_feature = "popcnt")) {
        Build::X86V2
    } else {
        Build::X86V1
    }
}

fn as_json(report: &Report, wanted: &Wanted) -> Value {
    let plan = &wanted.plan;
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "state": report.worst().name(),
        "counts": {
            "ok": report.count(State::Ok),
            "warn": report.count(State::Warn),
            "fail": report.count(State::Fail),
            "na": report.count(State::Na),
        },
        "server": wanted.pid,
        "connections": wanted.connections,
        "plan": {
            "shards": plan.shard_cpus,
            "control": plan.control_cpus,
            "followers": plan.follower_cpus,
            "interrupts": plan.irq_cpus,
            "reasons": plan.reasons,
        },
        "build": { "own": wanted.build.name(), "best": report.build.map(Build::name) },
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "area": finding.area.name(),
        "item": finding.item,
        "subject": finding.subject,
        "state": finding.state.name(),
        "current": finding.current,
        "wanted": finding.wanted,
        "reason": finding.reason,
        "risk": finding.risk,
        "command": finding.command,
        "path": finding.path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_runs_was_compiled_for_a_host_like_this() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        assert!(own_build().runs_on(Build::best(&cpuinfo).unwrap()));
    }
}
