//! The network stack's sysctls.
//!
//! Some that such lists usually name have no effect on this server, and are not asked for: its listeners have a backlog of their own, its sockets set
//! SO_SNDBUF, TCP_NODELAY and TCP_NOTSENT_LOWAT, and it finds dead peers by its own heartbeat and never asks for SO_KEEPALIVE or TCP_FASTOPEN.

use super::{Rule, Sysctl, Wanted, sysctl_path, sysctl_set};
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, Unread};
use crate::list::CpuList;

/// What a receive buffer should begin with, and may grow to, in bytes.
const RMEM: (i64, i64, i64) = (4_096, 16_384, 1_048_576);
/// Pages the stack may need for each connection at once: one on its way in, one on its way out.
const TCP_PAGES: u64 = 2;

pub(super) fn check(host: &dyn Host, wanted: &Wanted) -> Vec<Finding> {
    let backlog = i64::from(wanted.backlog);
    let sysctl =
        |name, rule, reason, risk| Sysctl { area: Area::Network, name, rule, reason, risk }.check(host);
    let mut findings = vec![
        sysctl(
            "net.core.somaxconn",
            Rule::AtLeast(backlog),
            "the backlog each listener asks for: after a restart everybody comes at once",
            "memory under a SYN flood",
        ),
        sysctl(
            "net.ipv4.tcp_max_syn_backlog",
            Rule::AtLeast(backlog),
            "connections that are half open, as many as the listeners' backlog",
            "memory under a SYN flood",
        ),
        sysctl(
            "net.ipv4.tcp_syncookies",
            Rule::OneOf(&[1]),
            "under a SYN flood real visitors still get in",
            "options of TCP are lost while cookies are sent",
        ),
        rmem(host),
        unused(host, "net.ipv4.tcp_wmem", "the server sets SO_SNDBUF of its sockets itself"),
        tcp_mem(host, wanted),
        ports(host, wanted),
        congestion(host),
        sysctl(
            "net.ipv4.tcp_slow_start_after_idle",
            Rule::OneOf(&[0]),
            "a chat is silent and then speaks: it need not begin slowly each time",
            "a burst may meet a path that has changed",
        ),
        unused(host, "net.ipv4.tcp_notsent_lowat", "the server sets TCP_NOTSENT_LOWAT of its sockets itself"),
        unused(
            host,
            "net.ipv4.tcp_keepalive_time",
            "the server's own heartbeat finds dead peers; its sockets do not ask for keepalive",
        ),
        unused(host, "net.ipv4.tcp_fastopen", "the listeners do not ask for TCP_FASTOPEN"),
        sysctl(
            "net.ipv4.tcp_fin_timeout",
            Rule::AtMost(15),
            "after a storm of hang-ups half-closed sockets take memory for that long",
            "a slow peer's last bytes may be lost",
        ),
        sysctl(
            "net.ipv4.tcp_tw_reuse",
            Rule::OneOf(&[1, 2]),
            "a proxy on this host opens many connections to the server, and would run out of ports",
            "",
        ),
        sysctl(
            "net.ipv4.tcp_max_tw_buckets",
            Rule::AtLeast(1_000_000),
            "a storm of hang-ups leaves so many; above it they are cut off with a warning",
            "kernel memory",
        ),
        sysctl(
            "net.ipv4.tcp_max_orphans",
            Rule::AtLeast(262_144),
            "sockets that were closed with bytes left to send; above it they are reset",
            "kernel memory, up to 64 KiB each",
        ),
    ];
    findings.extend([
        conntrack(host, wanted),
        sysctl(
            "net.core.netdev_max_backlog",
            Rule::AtLeast(16_384),
            "packets that wait for a processor in a burst; above it they are dropped",
            "a longer queue",
        ),
        sysctl(
            "net.core.netdev_budget",
            Rule::AtLeast(600),
            "packets that one turn of the network stack may take in a burst",
            "other work waits longer for its turn",
        ),
        sysctl(
            "net.core.busy_poll",
            Rule::OneOf(&[0]),
            "spinning for packets in every program costs processors everywhere",
            "",
        ),
        sysctl(
            "net.core.busy_read",
            Rule::OneOf(&[0]),
            "spinning for packets in every program costs processors everywhere",
            "",
        ),
    ]);
    findings
}

/// What is shown because people look for it, and why it is not judged.
fn unused(host: &dyn Host, name: &'static str, why: &'static str) -> Finding {
    let item = Item::new(Area::Network, name, sysctl_path(name), "");
    match host.word(&item.path) {
        Ok(word) => item.fine(word, format!("of no account: {why}")),
        Err(error) => item.unread(&error),
    }
}

/// Exactly three numbers.
fn three(text: &str) -> Option<[i64; 3]> {
    let numbers: Vec<i64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

fn rmem(host: &dyn Host) -> Finding {
    const NAME: &str = "net.ipv4.tcp_rmem";
    let item = Item::new(
        Area::Network,
        NAME,
        sysctl_path(NAME),
        "bounds what a client that sends and is not read can make the kernel keep; chats are small",
    )
    .risk("large uploads through other programs on this host are slower");
    let text = match host.word(&item.path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let (least, first, most) = RMEM;
    match three(&text) {
        Some([_, start, top]) if start <= first && top <= most => item.ok(text),
        Some(_) => item.warn(
            text,
            format!("{least} {first} {most}"),
            sysctl_set(NAME, &format!("{least} {first} {most}")),
        ),
        None => item.na(format!("{text:?} is not three numbers")),
    }
}

fn tcp_mem(host: &dyn Host, wanted: &Wanted) -> Finding {
    const NAME: &str = "net.ipv4.tcp_mem";
    let item = Item::new(
        Area::Network,
        NAME,
        sysctl_path(NAME),
        "above the second number, in pages, the stack shrinks the windows of all connections, and above the third it drops",
    )
    .risk("memory of the host, if that many connections really fill their buffers");
    let text = match host.word(&item.path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let needed = (wanted.connections * TCP_PAGES) as i64;
    match three(&text) {
        Some([_, pressure, _]) if pressure >= needed => item.ok(text),
        Some(_) => {
            // The proportions of perftune: a half and two thirds of the most.
            let most = needed * 3 / 2;
            item.warn(
                text,
                format!(
                    "second number at least {needed}: {TCP_PAGES} pages for each of {} connections",
                    wanted.connections
                ),
                sysctl_set(NAME, &format!("{} {needed} {most}", most / 2)),
            )
        }
        None => item.na(format!("{text:?} is not three numbers")),
    }
}

fn ports(host: &dyn Host, wanted: &Wanted) -> Finding {
    const NAME: &str = "net.ipv4.ip_local_reserved_ports";
    const RANGE: &str = "net.ipv4.ip_local_port_range";
    let item = Item::new(
        Area::Network,
        NAME,
        sysctl_path(NAME),
        "a connection out of this host may take a port of the server while it is down, and the start fails",
    );
    let range = match host.word(&sysctl_path(RANGE)) {
        Ok(range) => range,
        Err(error) => return Item { path: sysctl_path(RANGE), ..item }.unread(&error),
    };
    let bounds: Vec<u16> = range.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [first, last] = bounds[..] else {
        return item.na(format!("{RANGE} says {range:?}"));
    };
    let reserved = match host.word(&item.path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    let is_reserved = |port: u16| {
        reserved.split(',').filter(|part| !part.is_empty()).any(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            matches!((low.trim().parse::<u16>(), high.trim().parse::<u16>()), (Ok(low), Ok(high)) if (low..=high).contains(&port))
        })
    };
    let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let missing: Vec<u16> = wanted
        .ports
        .iter()
        .copied()
        .filter(|port| (first..=last).contains(port) && !is_reserved(*port))
        .collect();
    let current = if reserved.is_empty() { "none".to_owned() } else { reserved.clone() };
    if missing.is_empty() {
        return item.fine(
            current,
            format!(
                "{} are reserved, or outside {first} to {last}, which outgoing connections use",
                ports(&wanted.ports)
            ),
        );
    }
    let all = if reserved.is_empty() { ports(&missing) } else { format!("{reserved},{}", ports(&missing)) };
    item.warn(current, format!("with {}", ports(&missing)), sysctl_set(NAME, &all))
}

fn congestion(host: &dyn Host) -> Finding {
    const NAME: &str = "net.ipv4.tcp_congestion_control";
    const QDISC: &str = "net.core.default_qdisc";
    let item = Item::new(
        Area::Network,
        NAME,
        sysctl_path(NAME),
        "bbr without fq paces every socket by a timer of its own; cubic needs no pacing",
    )
    .risk("devices that are up already keep their queue: `tc qdisc replace dev DEVICE root fq`");
    let control = match host.word(&item.path) {
        Ok(control) => control,
        Err(error) => return item.unread(&error),
    };
    let qdisc = host.word(&sysctl_path(QDISC));
    match (control.as_str(), qdisc.as_deref()) {
        ("cubic", _) => {
            item.fine("cubic", "right in a data centre; towards far visitors bbr with fq may be better")
        }
        ("bbr", Ok("fq")) => item.ok("bbr with fq"),
        ("bbr", Ok(other)) => {
            item.warn(format!("bbr with {other}"), "bbr with fq, or cubic", sysctl_set(QDISC, "fq"))
        }
        ("bbr", Err(error)) => item.na(format!("bbr, and whether it has fq cannot be told: {QDISC} {error}")),
        (other, _) => item
            .warn(other, "cubic, or bbr with fq", sysctl_set(NAME, "cubic"))
            .because("neither of the two that are measured and known"),
    }
}

fn conntrack(host: &dyn Host, wanted: &Wanted) -> Finding {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let item = Item::new(
        Area::Network,
        NAME,
        sysctl_path(NAME),
        "a full table drops new connections silently; each entry costs about 320 bytes and time for every packet",
    )
    .risk("kernel memory; better still is not to track the server's port at all (NOTRACK), if no rule needs it");
    let needed = (wanted.connections * 4) as i64;
    let used = host.number(&sysctl_path("net.netfilter.nf_conntrack_count")).unwrap_or(0);
    match host.number(&item.path) {
        Ok(most) if most <= 0 => item.fine(most.to_string(), "connections are tracked without a bound"),
        Ok(most) if used.saturating_mul(10) >= most.saturating_mul(9) => item
            .fail(
                format!("{most}, of which {used} are used"),
                format!("at least {needed}"),
                sysctl_set(NAME, &needed.max(most.saturating_mul(2)).to_string()),
            )
            .because("the table is nearly full: visitors are about to be dropped silently"),
        Ok(most) if most >= needed => item.ok(format!("{most}, of which {used} are used")),
        Ok(most) => item.warn(
            most.to_string(),
            format!("at least {needed}, four for each connection"),
            sysctl_set(NAME, &needed.to_string()),
        ),
        Err(Unread::Missing) => item.fine("none", "connections are not tracked in this network namespace"),
        Err(error) => item.unread(&error),
    }
}

/// A mask as the kernel writes it for `rps_cpus` and `xps_cpus`: groups of 32 bits in hexadecimal, the highest first, parted by commas.
pub(super) fn mask(cpus: &CpuList) -> String {
    let highest = cpus.cpus().last().map_or(0, |&cpu| usize::from(cpu) / 32);
    let mut groups = vec![0u32; highest + 1];
    for &cpu in cpus.cpus() {
        groups[highest - usize::from(cpu) / 32] |= 1 << (cpu % 32);
    }
    let (first, rest) = groups.split_first().expect("there is at least one group");
    std::iter::once(format!("{first:x}"))
        .chain(rest.iter().map(|group| format!("{group:08x}")))
        .collect::<Vec<_>>()
        .join(",")
}

/// The processors of such a mask.
pub(super) fn unmask(text: &str) -> Option<CpuList> {
    let mut cpus = Vec::new();
    for (index, group) in text.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(group, 16).ok()?;
        let first = u16::try_from(index * 32).ok()?;
        cpus.extend((0..32u16).filter(|bit| bits >> bit & 1 == 1).map(|bit| first + bit));
    }
    Some(cpus.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_and_read_as_the_kernel_does() {
        for (list, text) in [("0", "1"), ("1-3", "e"), ("0,32", "1,00000001"), ("64", "1,00000000,00000000")]
        {
            let cpus = CpuList::parse(list).unwrap();
            assert_eq!(mask(&cpus), text);
            assert_eq!(unmask(text), Some(cpus));
        }
        assert_eq!(unmask("00000000,00000000\n"), Some(CpuList::default()));
        assert_eq!(unmask("x"), None);
    }
}
