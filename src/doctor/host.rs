//! The host: kernel, io_uring, limits, memory, clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edge::probe::{Refused, probe};

use super::Finding;
use crate::boot::Layout;
use crate::config::Config;

/// The first kernel that has all we need, and the first that has all we like.
const NEEDED: (u32, u32) = (6, 8);
const LIKED: (u32, u32) = (6, 12);
/// Connections below which a host is hardly worth a server.
const FEW_CONNECTIONS: u64 = 2_000;
/// What a ring and its buffers may be charged with.
const RING_BYTES: u64 = 2 << 20;
/// Memory below which a busy server soon refuses new conversations.
const LITTLE_MEMORY: u64 = 512 << 20;
/// The first moment of 2025 in seconds: this program is not older.
const NOT_BEFORE_S: u64 = 1_735_689_600;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The kernel's own name for itself. What it can do, the ring's probe says.
pub(super) fn kernel() -> Finding {
    by_release(&read("/proc/sys/kernel/osrelease"))
}

fn by_release(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return Finding::warn(
            "kernel",
            format!("{release:?} is no kernel release"),
            "see what `uname -r` says",
        );
    };
    match (major, minor) {
        version if version < NEEDED => {
            let advice = "ringdesk needs Linux 6.8 or later: boot a newer kernel (Debian: backports; Ubuntu 24.04 and later have it)";
            Finding { status: Some(edge::exit::NO_RING), ..Finding::fail("kernel", release, advice) }
        }
        version if version < LIKED => Finding::warn(
            "kernel",
            release,
            "6.12 or later answers more completions per system call (min-wait)",
        ),
        _ => Finding::ok("kernel", release),
    }
}

/// A small ring with everything a shard uses.
pub(super) fn ring() -> Finding {
    match probe() {
        Ok(features) => {
            let has = |there, name| if there { name } else { "" };
            let extras: Vec<&str> =
                [has(features.min_wait, "min-wait"), has(features.no_iowait, "no-iowait")]
                    .into_iter()
                    .filter(|name| !name.is_empty())
                    .collect();
            Finding::ok(
                "io_uring",
                format!("every operation that shards use is there; extras: {}", extras.join(", ")),
            )
        }
        Err(refused) => {
            let found = match &refused {
                Refused::Missing { .. } => "io_uring is missing",
                Refused::Forbidden { .. } => "io_uring is not permitted",
                Refused::Disabled { .. } => "io_uring is disabled",
                Refused::TooOld { .. } => "io_uring lacks operations",
                Refused::Memlock { .. } => "too little memory may be locked for a ring",
                Refused::Descriptors { .. } => "no descriptor is left for a ring",
                Refused::Other(_) => "io_uring cannot be set up",
            };
            Finding {
                status: Some(edge::exit::NO_RING),
                ..Finding::fail("io_uring", found, refused.to_string())
            }
        }
    }
}

/// What may refuse a ring to this process or to another of the same user.
pub(super) fn filter() -> Finding {
    let disabled = read("/proc/sys/kernel/io_uring_disabled");
    let status = read("/proc/self/status");
    let filtered =
        status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    let seccomp = if filtered { "a seccomp filter is on this process" } else { "no seccomp filter" };
    let sysctl = match disabled.as_str() {
        "" => "kernel.io_uring_disabled does not exist here".to_owned(),
        value => format!("kernel.io_uring_disabled = {value}"),
    };
    let found = format!("{seccomp}; {sysctl}");
    match disabled.as_str() {
        "" | "0" => Finding::ok("seccomp, sysctl", found),
        _ => Finding::warn(
            "seccomp, sysctl",
            found,
            "`sysctl kernel.io_uring_disabled=0`, or put ringdesk's user into kernel.io_uring_group (value 1)",
        ),
    }
}

/// Connections that fit.
pub(super) fn descriptors(layout: &Layout) -> Finding {
    let found = layout.capacity.to_string();
    if layout.capacity.connections < FEW_CONNECTIONS {
        let advice = "raise RLIMIT_NOFILE: `ulimit -n 1048576` in the shell, LimitNOFILE=2097152 in the unit, --ulimit nofile= for a container; or set server.shards higher";
        Finding::warn("connections", found, advice)
    } else {
        Finding::ok("connections", found)
    }
}

/// Cores of shards and of everything else.
pub(super) fn cores(layout: &Layout) -> Finding {
    let found = layout.plan.reasons.join("; ");
    if layout.plan.shares_cores() {
        Finding::warn(
            "cores",
            found,
            "shards that share a core take turns: give the server more cores, or fewer shards",
        )
    } else {
        Finding::ok("cores", found)
    }
}

/// RLIMIT_MEMLOCK, to which rings and their buffers are charged.
pub(super) fn locked_memory(shards: u16) -> Finding {
    let needed = u64::from(shards) * RING_BYTES;
    match edge::limits::read() {
        Ok(_) if rustix::process::geteuid().is_root() => Finding::ok("locked memory", "root is not bound"),
        Ok(limits) => match limits.memlock {
            None => Finding::ok("locked memory", "unlimited"),
            Some(bytes) if bytes >= needed => {
                Finding::ok("locked memory", format!("{} KiB may be locked", bytes >> 10))
            }
            Some(bytes) => Finding::warn(
                "locked memory",
                format!("{} KiB may be locked; {shards} rings may need {} KiB", bytes >> 10, needed >> 10),
                "LimitMEMLOCK=infinity in the unit, `ulimit -l unlimited` in the shell, or fewer shards",
            ),
        },
        Err(error) => Finding::warn("locked memory", error.to_string(), "is /proc mounted?"),
    }
}

/// Memory that is free, against what conversations may take.
pub(super) fn memory(config: &Config) -> Finding {
    let available = match edge::limits::read() {
        Ok(limits) => limits.memory,
        Err(error) => return Finding::warn("memory", error.to_string(), "is /proc mounted?"),
    };
    let found = format!("{} MiB are free", available >> 20);
    let hot = config.limits.hot_mb.bytes();
    if hot > available {
        let advice =
            format!("limits.hot_mb = {} is more than that: lower it, or give the server more", hot >> 20);
        Finding::warn("memory", found, advice)
    } else if available < LITTLE_MEMORY {
        Finding::warn(
            "memory",
            found,
            "new conversations will soon be refused with `overloaded`: give the server more",
        )
    } else {
        Finding::ok("memory", found)
    }
}

/// Whether both clocks go, at the same speed, and the wall clock is of this decade.
pub(super) fn clock() -> Finding {
    let (mono, wall) = (Instant::now(), SystemTime::now());
    std::thread::sleep(Duration::from_millis(50));
    let mono_ms = mono.elapsed().as_millis() as i64;
    let wall_ms = wall.elapsed().map_or(-1, |elapsed| elapsed.as_millis() as i64);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if now_s < NOT_BEFORE_S {
        return Finding::warn(
            "clock",
            "the wall clock is years behind",
            "start chrony or systemd-timesyncd; times in chats would be wrong",
        );
    }
    if (wall_ms - mono_ms).abs() > 20 {
        let found = format!("in {mono_ms} ms the wall clock went {wall_ms} ms");
        return Finding::warn(
            "clock",
            found,
            "something sets the wall clock; order and delivery do not depend on it, times in chats do",
        );
    }
    match source.as_str() {
        "tsc" | "kvm-clock" | "arch_sys_counter" | "" => {
            Finding::ok("clock", format!("both clocks go together; source {source}"))
        }
        slow => Finding::warn(
            "clock",
            format!("the clock source is {slow}, which costs a system call for each look"),
            "see why the kernel does not trust the TSC: `dmesg | grep -i tsc`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn kernels_are_told_apart_by_number_not_by_text() {
        for (release, state) in [
            ("5.15.0-generic", State::Fail),
            ("6.7.12", State::Fail),
            ("6.8.0-31-generic", State::Warn),
            ("6.11", State::Warn),
            ("6.12.1", State::Ok),
            ("6.18.44-fc", State::Ok),
            ("7.0.0", State::Ok),
            ("mystery", State::Warn),
        ] {
            assert_eq!(by_release(release).state, state, "{release}");
        }
        assert_eq!(by_release("6.1.0").status, Some(edge::exit::NO_RING));
    }
}
