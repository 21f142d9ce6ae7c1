//! The kernel, and what it was booted with. Its command line is reported and never changed.

use super::Wanted;
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, Unread, boot_option};
use crate::list::CpuList;

/// The first kernel that has all we need, the first that has all we like, and the first that writes with `nowait` whatever the time stamps are.
const NEEDED: (u32, u32) = (6, 8);
const LIKED: (u32, u32) = (6, 12);
const WITHOUT_PUNTS: (u32, u32) = (7, 0);

const COMMAND_LINE: &str = "/proc/cmdline";
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

pub(super) fn check(host: &dyn Host, wanted: &Wanted) -> Vec<Finding> {
    vec![
        release(host),
        set_of_cpus(
            host,
            wanted,
            "isolcpus",
            "/sys/devices/system/cpu/isolated",
            "keeps other threads away from the shards; a list that is not the shards' leaves cores idle, for nobody is put on them",
        ),
        set_of_cpus(
            host,
            wanted,
            "nohz_full",
            "/sys/devices/system/cpu/nohz_full",
            "takes the tick from the shards' cores, and makes each system call there dearer: measure before and after",
        ),
        rcu(host, wanted),
        quiet(host),
        mitigations(host),
        hugepages(host),
    ]
}

fn release(host: &dyn Host) -> Finding {
    let item =
        Item::new(Area::Kernel, "release", "/proc/sys/kernel/osrelease", "ringdesk needs Linux 6.8 or later");
    let release = match host.word(&item.path) {
        Ok(release) => release,
        Err(error) => return item.unread(&error),
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return item.na(format!("{release:?} is no kernel release"));
    };
    let command = "none: boot a newer kernel (Debian: backports; Ubuntu: 24.04 or later)";
    match (major, minor) {
        version if version < NEEDED => item.fail(release, "6.12 or later", command),
        version if version < LIKED => item
            .warn(release, "6.12 or later", command)
            .because("6.12 answers more completions per system call (min-wait)"),
        version if version < WITHOUT_PUNTS => item.fine(
            release,
            "before 7.0 a write that would have to update a time stamp goes to a worker thread; lazytime makes that rare",
        ),
        _ => item.ok(release),
    }
}

/// Whether what the command line sets apart is what the plan gives to shards.
fn set_of_cpus(
    host: &dyn Host,
    wanted: &Wanted,
    name: &'static str,
    path: &str,
    reason: &'static str,
) -> Finding {
    let item = Item::new(Area::Kernel, name, path, reason).risk("a reboot; a wrong list idles cores");
    let text = match host.word(path) {
        Ok(text) => text,
        Err(Unread::Missing) => {
            return item.na(format!("{path} does not exist here: this kernel was built without it"));
        }
        Err(error) => return item.unread(&error),
    };
    // The kernel writes (null) where nohz_full could be set and was not.
    let set = if text == "(null)" { Ok(CpuList::default()) } else { CpuList::parse(&text) };
    let Ok(set) = set else {
        return item.na(format!("{path} says {text:?}"));
    };
    if set.cpus().is_empty() {
        return item.fine("none", "not set; it is worth a measurement, and never set without one");
    }
    let shards: CpuList = wanted.plan.shard_cpus.iter().copied().collect();
    if set == shards {
        return item.ok(set.to_string());
    }
    let command = format!(
        "grubby --update-kernel=ALL --args={name}={shards}  # or {name}={shards} in GRUB_CMDLINE_LINUX and update-grub; then reboot"
    );
    let idle: CpuList = set.cpus().iter().copied().filter(|&cpu| !shards.contains(cpu)).collect();
    let wanted = format!("{shards}, the shards' (or none)");
    if idle.cpus().is_empty() {
        item.warn(set.to_string(), wanted, command)
            .because("only some of the shards have it: they will differ in their tails")
    } else {
        item.warn(set.to_string(), wanted, command)
            .because(format!("{idle} are set apart and no shard is planned there: {reason}"))
    }
}

fn rcu(host: &dyn Host, wanted: &Wanted) -> Finding {
    let item = Item::new(
        Area::Kernel,
        "rcu_nocbs",
        COMMAND_LINE,
        "takes the callbacks of RCU from the shards' cores; nohz_full implies it",
    );
    let line = match host.text(COMMAND_LINE) {
        Ok(line) => line,
        Err(error) => return item.unread(&error),
    };
    match boot_option(&line, "rcu_nocbs") {
        None => item.fine("none", "not set; it goes with nohz_full"),
        Some(list) => {
            let covers = list == "all"
                || CpuList::parse(list)
                    .is_ok_and(|set| wanted.plan.shard_cpus.iter().all(|&cpu| set.contains(cpu)));
            let shards: CpuList = wanted.plan.shard_cpus.iter().copied().collect();
            if covers {
                item.ok(list)
            } else {
                let command = format!("grubby --update-kernel=ALL --args=rcu_nocbs={shards}  # then reboot");
                item.risk("a reboot").warn(list, shards.to_string(), command)
            }
        }
    }
}

/// Small things that make jitter; reported together, because each is a trade that only the owner of the host can make.
fn quiet(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Kernel,
        "boot options",
        COMMAND_LINE,
        "skew_tick=1, tsc=reliable, audit=0, nowatchdog and nosmt take away jitter, and observability or safety with it: yours to weigh",
    );
    let line = match host.text(COMMAND_LINE) {
        Ok(line) => line,
        Err(error) => return item.unread(&error),
    };
    const NAMES: [&str; 8] = [
        "skew_tick",
        "tsc",
        "audit",
        "nowatchdog",
        "nosmt",
        "idle",
        "intel_idle.max_cstate",
        "processor.max_cstate",
    ];
    let there: Vec<String> = NAMES
        .iter()
        .filter_map(|name| Some((name, boot_option(&line, name)?)))
        .map(|(name, value)| if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") })
        .collect();
    item.ok(if there.is_empty() { "none of them".to_owned() } else { there.join(" ") })
}

fn mitigations(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Kernel,
        "mitigations",
        VULNERABILITIES,
        "each one that is active makes system calls or switches dearer; how much, only a measurement says. auto is right",
    )
    .risk("programs and guests on this host may read what is not theirs");
    let mut names = match host.names(VULNERABILITIES) {
        Ok(names) => names,
        Err(error) => return item.unread(&error),
    };
    names.sort_unstable();
    let (mut active, mut open) = (Vec::new(), Vec::new());
    for name in names {
        let text = host.word(&format!("{VULNERABILITIES}/{name}")).unwrap_or_default();
        if text.starts_with("Mitigation") {
            active.push(name);
        } else if text.starts_with("Vulnerable") {
            open.push(name);
        }
    }
    let or_none = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    let line = host.text(COMMAND_LINE).unwrap_or_default();
    let option = boot_option(&line, "mitigations").unwrap_or("auto").to_owned();
    let current = format!("{option}; active: {}; vulnerable: {}", or_none(active), or_none(open));
    if option == "off" {
        item.warn(current, "auto", "grubby --update-kernel=ALL --remove-args=mitigations  # then reboot")
            .because("visitors' bytes are on this host: only a machine that runs nothing else may do without")
    } else {
        item.ok(current)
    }
}

fn hugepages(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Kernel,
        "hugepages",
        "/proc/meminfo",
        "memory set apart for huge pages is lost to the server, which asks for none",
    )
    .risk("other programs may need them");
    let text = match host.text(&item.path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let kib = |key| super::memory::kib(&text, key);
    let free = crate::host::field(&text, "HugePages_Free").and_then(|n| n.parse::<u64>().ok());
    let (Some(free), Some(size), Some(total)) = (free, kib("Hugepagesize"), kib("MemTotal")) else {
        return item.na("this kernel has no huge pages");
    };
    let idle = free.saturating_mul(size);
    // An eighth is more than anybody sets apart by mistake and never notices.
    if idle > total / 8 {
        item.warn(format!("{} MiB free", idle >> 10), "as few as others use", "sysctl -w vm.nr_hugepages=0")
    } else {
        item.ok(format!("{} MiB free", idle >> 10))
    }
}
