//! Limits and rights of the server's process.

use super::{Rule, Sysctl, Wanted, sysctl_path, sysctl_set, unit};
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, Unread, field};

/// What the unit asks for; more than two full tables of descriptors, the largest the kernel knows.
const NOFILE: u64 = 2_097_152;
/// Descriptors a process needs besides its shards' tables.
const NOFILE_BESIDES: u64 = 1_024;
/// Part of a table that is filled on the average: accepts are spread by a hash.
const TABLE_FILL_PERCENT: u64 = 85;
/// The rights that lift a bound, by their number in `CapEff`.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

pub(super) fn check(host: &dyn Host, wanted: &Wanted) -> Vec<Finding> {
    let process = wanted.process();
    let mut findings = vec![nofile(host, wanted, &process)];
    let files = NOFILE.max(wanted.connections.saturating_mul(2)) as i64;
    for name in ["fs.nr_open", "fs.file-max"] {
        let sysctl = Sysctl {
            area: Area::Process,
            name,
            rule: Rule::AtLeast(files),
            reason: "direct descriptors are files too, and no limit of a process may be above fs.nr_open",
            risk: "kernel memory",
        };
        findings.push(sysctl.check(host));
    }
    findings.extend([
        memlock(host, &process),
        io_uring(host, &process),
        seccomp(host, &process),
        oom(host, &process),
        nice(host, &process),
    ]);
    findings.push(
        Sysctl {
            area: Area::Process,
            name: "kernel.sched_rt_runtime_us",
            rule: Rule::AtLeast(0),
            reason: "without this bound a real-time thread that spins hangs its core for good",
            risk: "",
        }
        .check(host)
        .map_command(sysctl_set("kernel.sched_rt_runtime_us", "950000")),
    );
    let item = Item::new(Area::Process, "watchdog", "", "");
    findings.push(
        item.na(
            "WatchdogSec, Restart and TimeoutStopSec are systemd's and stand in no file of /proc or /sys",
        )
        .look("systemctl show ringdesk -p WatchdogUSec -p Restart -p TimeoutStopUSec"),
    );
    findings
}

impl Finding {
    /// Another command, where there is one to run.
    fn map_command(self, command: String) -> Finding {
        if self.command.is_empty() { self } else { Finding { command, ..self } }
    }
}

/// Soft and hard limit in a line of `/proc/N/limits`; `None` is unlimited.
fn limit(text: &str, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some((next()?, next()?))
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or("unlimited".to_owned(), |number| number.to_string())
}

fn nofile(host: &dyn Host, wanted: &Wanted, process: &str) -> Finding {
    let path = format!("{process}/limits");
    let item = Item::new(
        Area::Process,
        "RLIMIT_NOFILE",
        path.clone(),
        "it bounds the table of descriptors of each ring, and so the connections of a shard",
    );
    let text = match host.text(&path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    // A start raises the soft limit to the hard one.
    let Some((_, hard)) = limit(&text, "Max open files") else {
        return item.na(format!("{path} has no line Max open files"));
    };
    let shards = wanted.plan.shard_cpus.len().max(1) as u64;
    let needed = if wanted.connections_asked {
        wanted.connections.div_ceil(shards) * 100 / TABLE_FILL_PERCENT + NOFILE_BESIDES
    } else {
        NOFILE
    };
    if hard.is_none_or(|hard| hard >= needed) {
        return item.ok(format!("{} (hard limit)", shown(hard)));
    }
    let command = unit(
        host,
        &format!("LimitNOFILE={NOFILE}"),
        &format!("ulimit -n {NOFILE}  # as root, before the start; for a container --ulimit nofile={NOFILE}"),
    );
    item.warn(format!("{} (hard limit)", shown(hard)), format!("at least {needed}"), command)
}

/// Whether the process has a right that the kernel checks.
fn capable(status: &str, capability: u32) -> bool {
    let mask = field(status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.is_some_and(|mask| mask >> capability & 1 == 1)
}

fn memlock(host: &dyn Host, process: &str) -> Finding {
    let path = format!("{process}/limits");
    let item = Item::new(
        Area::Process,
        "RLIMIT_MEMLOCK",
        path.clone(),
        "the kernel charges rings and their buffers as locked memory; systemd allows 8 MiB",
    );
    let text = match host.text(&path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let Some((soft, _)) = limit(&text, "Max locked memory") else {
        return item.na(format!("{path} has no line Max locked memory"));
    };
    let status = host.text(&format!("{process}/status")).unwrap_or_default();
    match soft {
        None => item.ok("unlimited"),
        Some(bytes) if capable(&status, CAP_IPC_LOCK) => {
            item.fine(format!("{bytes} bytes"), "this process has CAP_IPC_LOCK, which lifts the limit")
        }
        Some(bytes) => {
            let command = unit(
                host,
                "LimitMEMLOCK=infinity",
                "ulimit -l unlimited  # as root, before the start; for a container --ulimit memlock=-1",
            );
            item.warn(format!("{bytes} bytes"), "unlimited", command)
        }
    }
}

fn io_uring(host: &dyn Host, process: &str) -> Finding {
    const NAME: &str = "kernel.io_uring_disabled";
    let path = sysctl_path(NAME);
    let item = Item::new(Area::Process, NAME, path.clone(), "shards do nothing without io_uring")
        .risk("io_uring is a part of the kernel that attackers look at");
    let status = host.text(&format!("{process}/status")).unwrap_or_default();
    let command = sysctl_set(NAME, "0");
    match host.number(&path) {
        Ok(0) => item.ok("0"),
        Ok(1) => {
            let group = host.word(&sysctl_path("kernel.io_uring_group")).unwrap_or_default();
            let member = field(&status, "Groups")
                .is_some_and(|all| all.split_whitespace().any(|g| g == group))
                || field(&status, "Gid").is_some_and(|all| all.split_whitespace().nth(1) == Some(&group));
            if capable(&status, CAP_SYS_ADMIN) {
                item.fine("1", "this process has CAP_SYS_ADMIN; a server without it would be refused")
            } else if member {
                item.fine("1", format!("this process is in kernel.io_uring_group ({group})"))
            } else {
                item.fail("1", format!("0, or the user in kernel.io_uring_group ({group})"), command)
            }
        }
        Ok(number) => item.fail(number.to_string(), "0", command),
        Err(Unread::Missing) => item.na("this kernel has no such sysctl: it came with 6.6"),
        Err(error) => item.unread(&error),
    }
}

fn seccomp(host: &dyn Host, process: &str) -> Finding {
    let path = format!("{process}/status");
    let item = Item::new(Area::Process, "seccomp", path.clone(), "a filter may refuse io_uring");
    match host.text(&path).as_deref().map(|text| field(text, "Seccomp").map(str::to_owned)) {
        Ok(Some(mode)) if mode == "0" => item.ok("no filter"),
        Ok(Some(_)) => item
            .na("a filter is on this process, and what it refuses cannot be read: doctor tries a ring")
            .look("ringdesk doctor"),
        Ok(None) => item.na("this kernel does not say whether there is a filter"),
        Err(error) => {
            let error = error.clone();
            item.unread(&error)
        }
    }
}

fn oom(host: &dyn Host, process: &str) -> Finding {
    let path = format!("{process}/oom_score_adj");
    let item = Item::new(
        Area::Process,
        "oom_score_adj",
        path.clone(),
        "when memory ends the kernel kills somebody; with this process all chats go",
    )
    .risk("something else on the host is killed instead");
    match host.number(&path) {
        Ok(number) if number <= -900 => item.ok(number.to_string()),
        Ok(number) => {
            let command = unit(host, "OOMScoreAdjust=-900", "choom -n -900 -- ringdesk serve");
            item.warn(number.to_string(), "-900 or less", command)
        }
        Err(error) => item.unread(&error),
    }
}

fn nice(host: &dyn Host, process: &str) -> Finding {
    let path = format!("{process}/stat");
    let item = Item::new(
        Area::Process,
        "nice",
        path.clone(),
        "others that run on a shard's core make its tails longer",
    )
    .risk("others wait longer");
    let text = match host.text(&path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    // The name, field 2, may have blanks and brackets in it: what counts begins after the last one. Field 19 is the nice value (proc(5)).
    let value =
        text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16)?.parse::<i64>().ok());
    match value {
        Some(value) if value <= -10 => item.ok(value.to_string()),
        Some(value) => {
            let command = unit(host, "Nice=-10", "nice -n -10 ringdesk serve");
            item.warn(value.to_string(), "-10 or less", command)
        }
        None => item.na(format!("{path} has no field 19")),
    }
}
