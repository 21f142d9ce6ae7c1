//! Everything that is looked at, one file an area.

mod boot;
mod cpu;
mod group;
mod memory;
mod network;
mod nic;
mod process;
mod storage;

use crate::finding::{Area, Finding, Item, State};
use crate::host::{Host, quoted};
use crate::level::Build;
use crate::plan::Plan;
use crate::topology::Topology;

/// What the server will be, as far as the host has to fit it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where the data are or would be: an absolute path without links.
    pub data_dir: String,
    /// Whether acknowledged messages must survive a power cut.
    pub durable: bool,
    /// Ports it listens on.
    pub ports: Vec<u16>,
    /// The backlog it asks for at each listener.
    pub backlog: u32,
    /// Connections it is built for.
    pub connections: u64,
    /// Whether the settings ask for so many, or the host as it is today decided.
    pub connections_asked: bool,
    /// Processors of shards and of everything else.
    pub plan: Plan,
    /// What this program was compiled for.
    pub build: Build,
    /// The server that runs, if one does: its limits are looked at and not those of the process that looks.
    pub pid: Option<u32>,
}

impl Wanted {
    /// The folder of the process whose limits count.
    fn process(&self) -> String {
        self.pid.map_or("/proc/self".to_owned(), |pid| format!("/proc/{pid}"))
    }
}

/// What a host looks like.
#[derive(Clone, Debug)]
pub struct Report {
    /// Findings, by area.
    pub findings: Vec<Finding>,
    /// The best build this host can run; `None` if its processors do not say.
    pub build: Option<Build>,
}

impl Report {
    /// Looks at everything. Reads through `host` alone, and changes nothing.
    pub fn new(host: &dyn Host, topology: &Topology, wanted: &Wanted) -> Report {
        let mut findings = process::check(host, wanted);
        findings.extend(group::check(host, topology, wanted));
        findings.extend(boot::check(host, wanted));
        findings.extend(cpu::check(host, topology, wanted));
        findings.extend(memory::check(host));
        findings.extend(network::check(host, wanted));
        findings.extend(nic::check(host, wanted));
        findings.extend(storage::check(host, wanted));
        let build = host.text("/proc/cpuinfo").ok().and_then(|text| Build::best(&text));
        Report { findings, build }
    }

    /// The worst state; OK if nothing could be read.
    pub fn worst(&self) -> State {
        self.findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok).max(State::Ok)
    }

    /// How many findings have a state.
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }
}

/// The command that gives the unit a setting, or `otherwise` where systemd does not run.
fn unit(host: &dyn Host, setting: &str, otherwise: &str) -> String {
    if host.word("/proc/1/comm").is_ok_and(|name| name == "systemd") {
        let name: String = setting.chars().take_while(|&c| c != '=').collect();
        format!(
            "mkdir -p /etc/systemd/system/ringdesk.service.d && printf '[Service]\\n{setting}\\n' > \
             /etc/systemd/system/ringdesk.service.d/{name}.conf && systemctl daemon-reload && systemctl restart ringdesk"
        )
    } else {
        otherwise.to_owned()
    }
}

/// What a number must be.
#[derive(Clone, Copy, Debug)]
enum Rule {
    AtLeast(i64),
    AtMost(i64),
    /// Any of these; the first is the one to set.
    OneOf(&'static [i64]),
}

impl Rule {
    fn holds(self, number: i64) -> bool {
        match self {
            Rule::AtLeast(least) => number >= least,
            Rule::AtMost(most) => number <= most,
            Rule::OneOf(values) => values.contains(&number),
        }
    }

    /// The number to set.
    fn target(self) -> i64 {
        match self {
            Rule::AtLeast(bound) | Rule::AtMost(bound) => bound,
            Rule::OneOf(values) => values[0],
        }
    }

    fn wanted(self) -> String {
        match self {
            Rule::AtLeast(least) => format!("at least {least}"),
            Rule::AtMost(most) => format!("at most {most}"),
            Rule::OneOf(values) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        }
    }
}

/// A sysctl that holds one number.
struct Sysctl {
    area: Area,
    name: &'static str,
    rule: Rule,
    reason: &'static str,
    risk: &'static str,
}

impl Sysctl {
    fn check(&self, host: &dyn Host) -> Finding {
        let path = sysctl_path(self.name);
        let item = Item::new(self.area, self.name, path.clone(), self.reason).risk(self.risk);
        match host.number(&path) {
            Ok(number) if self.rule.holds(number) => item.ok(number.to_string()),
            Ok(number) => {
                let command = sysctl_set(self.name, &self.rule.target().to_string());
                item.warn(number.to_string(), self.rule.wanted(), command)
            }
            Err(error) => item.unread(&error),
        }
    }
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn sysctl_set(name: &str, value: &str) -> String {
    format!("sysctl -w {name}={}", quoted(value))
}
