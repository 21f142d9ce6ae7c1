//! Each item: what makes it well, what makes it ill, and that nothing else is touched by it.

mod hosts;

use std::collections::BTreeSet;

use hosts::{Texts, finding, tuned};
use ringdesk_tuning as tuning;
use tuning::{Area, Finding, Report, State, Unread};

fn key(f: &Finding) -> (Area, &'static str, Option<String>) {
    (f.area, f.item, f.subject.clone())
}

#[test]
fn a_tuned_host_has_nothing_to_mend() {
    let report = tuned().report();
    let ill: Vec<&Finding> = report.findings.iter().filter(|f| f.state > State::Ok).collect();
    assert!(ill.is_empty(), "{ill:#?}");
    assert_eq!(report.worst(), State::Ok);
    assert!(report.count(State::Ok) > 60, "{}", report.count(State::Ok));
    for area in Area::ALL {
        assert!(report.findings.iter().any(|f| f.area == area && f.state == State::Ok), "{area:?}");
    }
}

/// The item, what is changed on the tuned host, the state that comes of it, a part of the value that is wanted, a part of the command.
type Case = (&'static str, &'static str, State, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        "RLIMIT_NOFILE",
        r"/proc/self/limits = Max open files   1024   524288   files\nMax locked memory   unlimited   unlimited   bytes",
        State::Warn,
        "at least 2097152",
        "LimitNOFILE=2097152",
    ),
    (
        "RLIMIT_MEMLOCK",
        r"/proc/self/limits = Max open files   1024   unlimited   files\nMax locked memory   8388608   8388608   bytes",
        State::Warn,
        "unlimited",
        "LimitMEMLOCK=infinity",
    ),
    (
        "fs.nr_open",
        "@sysctl/fs/nr_open = 1048576",
        State::Warn,
        "at least 2097152",
        "sysctl -w fs.nr_open=2097152",
    ),
    (
        "fs.file-max",
        "@sysctl/fs/file-max = 100000",
        State::Warn,
        "at least 2097152",
        "sysctl -w fs.file-max=2097152",
    ),
    (
        "kernel.io_uring_disabled",
        "@sysctl/kernel/io_uring_disabled = 2",
        State::Fail,
        "0",
        "sysctl -w kernel.io_uring_disabled=0",
    ),
    (
        "kernel.io_uring_disabled",
        "@sysctl/kernel/io_uring_disabled = 1\n@sysctl/kernel/io_uring_group = 7",
        State::Fail,
        "kernel.io_uring_group (7)",
        "sysctl -w kernel.io_uring_disabled=0",
    ),
    (
        "kernel.sched_rt_runtime_us",
        "@sysctl/kernel/sched_rt_runtime_us = -1",
        State::Warn,
        "at least 0",
        "=950000",
    ),
    ("oom_score_adj", "/proc/self/oom_score_adj = 0", State::Warn, "-900", "OOMScoreAdjust=-900"),
    (
        "nice",
        "/proc/self/stat = 7 (a) S 1 700 700 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0",
        State::Warn,
        "-10",
        "Nice=-10",
    ),
    ("cpu.max", "/sys/fs/cgroup/system.slice/cpu.max = 1500000 100000", State::Warn, "no bound", "CPUQuota="),
    (
        "throttled",
        r"/sys/fs/cgroup/system.slice/ringdesk.service/cpu.stat = nr_periods 90\nnr_throttled 12",
        State::Warn,
        "never",
        "CPUQuota=",
    ),
    (
        "memory.max",
        "/sys/fs/cgroup/system.slice/ringdesk.service/memory.max = 4294967296",
        State::Warn,
        "no bound",
        "MemoryMax=infinity",
    ),
    (
        "memory.high",
        "/sys/fs/cgroup/system.slice/memory.high = 4294967296",
        State::Warn,
        "no bound",
        "MemoryHigh=infinity",
    ),
    ("release", "@sysctl/kernel/osrelease = 6.7.12-generic", State::Fail, "6.12", "none: boot"),
    ("release", "@sysctl/kernel/osrelease = 6.11", State::Warn, "6.12", "none: boot"),
    ("isolcpus", "@cpu/isolated = 4-7", State::Warn, "0-6", "isolcpus=0-6"),
    ("nohz_full", "@cpu/nohz_full = 0-3", State::Warn, "0-6", "nohz_full=0-6"),
    ("rcu_nocbs", "/proc/cmdline = quiet rcu_nocbs=0-2", State::Warn, "0-6", "rcu_nocbs=0-6"),
    (
        "mitigations",
        "/proc/cmdline = quiet mitigations=off",
        State::Warn,
        "auto",
        "--remove-args=mitigations",
    ),
    (
        "hugepages",
        r"/proc/meminfo = MemTotal: 65536000 kB\nHugePages_Free: 8192\nHugepagesize: 2048 kB",
        State::Warn,
        "few",
        "vm.nr_hugepages=0",
    ),
    (
        "governor",
        "@cpu/cpu3/cpufreq/scaling_governor = schedutil",
        State::Warn,
        "performance",
        "echo performance",
    ),
    (
        "idle states",
        "@cpu/cpu2/cpuidle/state2/disable = 0",
        State::Warn,
        "at most 10 µs",
        "cpupower idle-set -D 10",
    ),
    (
        "clocksource",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource = hpet",
        State::Warn,
        "tsc",
        "echo tsc >",
    ),
    (
        "irqbalance",
        "/proc/812/comm = irqbalance",
        State::Warn,
        "stopped",
        "systemctl disable --now irqbalance",
    ),
    ("steal", "/proc/stat = cpu  1000 0 500 90000 100 0 50 5000 0 0", State::Warn, "below 1 %", "none: "),
    (
        "transparent_hugepage",
        "/sys/kernel/mm/transparent_hugepage/enabled = [always] madvise never",
        State::Warn,
        "madvise",
        "echo madvise >",
    ),
    (
        "transparent_hugepage defrag",
        "/sys/kernel/mm/transparent_hugepage/defrag = [always] defer madvise never",
        State::Warn,
        "madvise",
        "echo madvise >",
    ),
    (
        "vm.swappiness",
        r"/proc/swaps = Filename Type Size Used Priority\n/dev/sda3 partition 100 0 -2",
        State::Warn,
        "at most 1",
        "vm.swappiness=1",
    ),
    (
        "vm.min_free_kbytes",
        "@sysctl/vm/min_free_kbytes = 67584",
        State::Warn,
        "262144",
        "vm.min_free_kbytes=262144",
    ),
    ("vm.max_map_count", "@sysctl/vm/max_map_count = 1000", State::Warn, "65530", "vm.max_map_count=65530"),
    (
        "net.core.somaxconn",
        "@sysctl/net/core/somaxconn = 128",
        State::Warn,
        "4096",
        "net.core.somaxconn=4096",
    ),
    (
        "net.ipv4.tcp_max_syn_backlog",
        "@sysctl/net/ipv4/tcp_max_syn_backlog = 512",
        State::Warn,
        "4096",
        "=4096",
    ),
    ("net.ipv4.tcp_syncookies", "@sysctl/net/ipv4/tcp_syncookies = 0", State::Warn, "1", "=1"),
    (
        "net.ipv4.tcp_rmem",
        "@sysctl/net/ipv4/tcp_rmem = 4096\t131072\t6291456",
        State::Warn,
        "4096 16384 1048576",
        "='4096 16384 1048576'",
    ),
    (
        "net.ipv4.tcp_mem",
        "@sysctl/net/ipv4/tcp_mem = 9000 12000 18000",
        State::Warn,
        "at least 200000",
        "='150000 200000 300000'",
    ),
    (
        "net.ipv4.ip_local_reserved_ports",
        "@sysctl/net/ipv4/ip_local_port_range = 1024 60999",
        State::Warn,
        "8080,9100",
        "ip_local_reserved_ports=8080,9100",
    ),
    (
        "net.ipv4.tcp_congestion_control",
        "@sysctl/net/ipv4/tcp_congestion_control = bbr\n@sysctl/net/core/default_qdisc = pfifo_fast",
        State::Warn,
        "fq",
        "net.core.default_qdisc=fq",
    ),
    (
        "net.ipv4.tcp_slow_start_after_idle",
        "@sysctl/net/ipv4/tcp_slow_start_after_idle = 1",
        State::Warn,
        "0",
        "=0",
    ),
    ("net.ipv4.tcp_fin_timeout", "@sysctl/net/ipv4/tcp_fin_timeout = 60", State::Warn, "15", "=15"),
    ("net.ipv4.tcp_tw_reuse", "@sysctl/net/ipv4/tcp_tw_reuse = 0", State::Warn, "1 or 2", "=1"),
    (
        "net.ipv4.tcp_max_tw_buckets",
        "@sysctl/net/ipv4/tcp_max_tw_buckets = 16384",
        State::Warn,
        "1000000",
        "=1000000",
    ),
    ("net.ipv4.tcp_max_orphans", "@sysctl/net/ipv4/tcp_max_orphans = 4096", State::Warn, "262144", "=262144"),
    (
        "net.netfilter.nf_conntrack_max",
        "@sysctl/net/netfilter/nf_conntrack_max = 65536",
        State::Warn,
        "400000",
        "=400000",
    ),
    (
        "net.netfilter.nf_conntrack_max",
        "@sysctl/net/netfilter/nf_conntrack_count = 1000000",
        State::Fail,
        "400000",
        "=2097152",
    ),
    (
        "net.core.netdev_max_backlog",
        "@sysctl/net/core/netdev_max_backlog = 1000",
        State::Warn,
        "16384",
        "=16384",
    ),
    ("net.core.netdev_budget", "@sysctl/net/core/netdev_budget = 300", State::Warn, "600", "=600"),
    ("net.core.busy_poll", "@sysctl/net/core/busy_poll = 50", State::Warn, "0", "=0"),
    ("net.core.busy_read", "@sysctl/net/core/busy_read = 50", State::Warn, "0", "=0"),
    (
        "irq affinity",
        "/proc/irq/103/effective_affinity_list = 0",
        State::Warn,
        "0-6",
        "echo 2 > /proc/irq/103/smp_affinity_list",
    ),
    ("rps", "@net/eth0/queues/rx-2/rps_cpus = 00ff", State::Warn, "off", "echo 0 | tee"),
    (
        "xps",
        "@net/eth0/queues/tx-2/xps_cpus = 0000",
        State::Warn,
        "0-6",
        "echo 4 > /sys/class/net/eth0/queues/tx-2/xps_cpus",
    ),
    ("drops", "@net/eth0/statistics/rx_missed_errors = 17", State::Warn, "none", "ethtool -G eth0 rx 2048"),
    ("threaded", "@net/eth0/threaded = 1", State::Warn, "0", "echo 0 > /sys/class/net/eth0/threaded"),
    (
        "gro_flush_timeout",
        "@net/eth0/gro_flush_timeout = 2000000\n@net/eth0/napi_defer_hard_irqs = 100",
        State::Warn,
        "200000",
        "echo 0 > /sys/class/net/eth0/gro_flush_timeout",
    ),
    (
        "file system",
        "/proc/self/mountinfo = 22 1 259:2 / / rw,noatime - btrfs /dev/nvme0n1p2 rw,lazytime",
        State::Warn,
        "xfs or ext4",
        "none: put",
    ),
    (
        "time stamps",
        "/proc/self/mountinfo = 22 1 259:2 / / rw,relatime - ext4 /dev/nvme0n1p2 rw",
        State::Warn,
        "noatime,lazytime",
        "mount -o remount,noatime,lazytime /",
    ),
    (
        "discard",
        "/proc/self/mountinfo = 22 1 259:2 / / rw,noatime - ext4 /dev/nvme0n1p2 rw,lazytime,discard",
        State::Warn,
        "fstrim.timer",
        "remount,nodiscard /; systemctl enable --now fstrim.timer",
    ),
    (
        "barrier",
        "/proc/self/mountinfo = 22 1 259:2 / / rw,noatime - ext4 /dev/nvme0n1p2 rw,lazytime,nobarrier",
        State::Fail,
        "on",
        "remount,barrier /",
    ),
    ("write cache", "@block/nvme0n1/queue/fua = 0", State::Warn, "fua", "none: it takes a disk"),
    (
        "scheduler",
        "@block/nvme0n1/queue/scheduler = none [mq-deadline]",
        State::Warn,
        "none",
        "echo none > /sys/class/block/nvme0n1/queue/scheduler",
    ),
    (
        "nomerges",
        "@block/nvme0n1/queue/nomerges = 0",
        State::Warn,
        "2",
        "echo 2 > /sys/class/block/nvme0n1/queue/nomerges",
    ),
];

#[test]
fn each_item_sees_its_own_file_and_no_other_sees_it() {
    let before = tuned().report();
    for &(item, change, state, wanted, command) in CASES {
        // The quota also bounds the number of shards; these have enough of it left.
        let after = tuned().with(change).report();
        let found = finding(&after, item);
        assert_eq!(found.state, state, "{change}: {found:#?}");
        assert!(found.wanted.contains(wanted), "{change}: {found:#?}");
        assert!(found.command.contains(command), "{change}: {found:#?}");
        let others = |report: &Report| -> Vec<_> {
            report.findings.iter().filter(|f| f.item != item).map(|f| (key(f), f.state)).collect()
        };
        assert_eq!(others(&after), others(&before), "{change} changes another item");
    }
}

#[test]
fn whatever_is_judged_has_a_case_that_makes_it_ill() {
    let ill: BTreeSet<&str> = CASES.iter().map(|case| case.0).collect();
    // Those that say only what is there, and those that have tests of their own.
    let others = [
        "seccomp",
        "cpus allowed",
        "boot options",
        "build",
        "smt",
        "numa",
        "kernel.numa_balancing",
        "queues",
        "mtu",
        "net.ipv4.tcp_wmem",
        "net.ipv4.tcp_notsent_lowat",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fastopen",
    ];
    for found in tuned().report().findings.iter().filter(|f| f.state != State::Na) {
        assert!(ill.contains(found.item) || others.contains(&found.item), "{}", found.item);
    }
}

/// OK has neither wanted nor command, WARN and FAIL have both, NA has no value; all say why.
fn well_formed(report: &Report) {
    let mut keys = BTreeSet::new();
    for f in &report.findings {
        assert!(keys.insert(key(f)), "said twice: {f:#?}");
        assert_eq!(f.state == State::Na, f.current.is_empty(), "{f:#?}");
        assert_eq!(f.state > State::Ok, !f.wanted.is_empty(), "{f:#?}");
        if f.state != State::Na {
            assert_eq!(f.state > State::Ok, !f.command.is_empty(), "{f:#?}");
        }
        assert!(!f.reason.is_empty(), "{f:#?}");
        assert!(!f.command.contains('\n') && !f.reason.contains("  "), "{f:#?}");
    }
}

#[test]
fn every_finding_says_what_its_state_demands() {
    well_formed(&tuned().report());
    for &(_, change, ..) in CASES {
        well_formed(&tuned().with(change).report());
    }
    well_formed(&Texts::default().with("/proc/cpuinfo = processor : 0").report());
}

#[test]
fn what_cannot_be_read_is_never_guessed_to_be_ill() {
    let host = tuned();
    // The plan stays that of the whole host: what is tried is reading it.
    let (topology, wanted) = (host.topology(), host.wanted());
    assert_eq!(host.report().worst(), State::Ok);
    for path in host.0.keys() {
        for error in [Unread::Missing, Unread::Refused, Unread::Other("Input/output error".to_owned())] {
            let mut host = host.clone();
            match error {
                Unread::Missing => host.0.remove(path),
                _ => host.0.insert(path.clone(), Err(error)),
            };
            let report = Report::new(&host, &topology, &wanted);
            let ill: Vec<_> = report.findings.iter().filter(|f| f.state > State::Ok).collect();
            assert!(ill.is_empty(), "without {path}: {ill:#?}");
            well_formed(&report);
        }
    }
}

#[test]
fn nonsense_in_any_file_ends_nobody() {
    let host = tuned();
    let (topology, wanted) = (host.topology(), host.wanted());
    for path in host.0.keys() {
        for text in [
            "",
            "\n",
            "-1",
            "99999999999999999999",
            "9223372036854775807",
            "cpu  18446744073709551615 18446744073709551615 1 1 1 1 1 18446744073709551615",
            "a:b:c - d",
            "[",
            "18446744073709551615 x - \u{1b}[2J",
        ] {
            let mut host = host.clone();
            host.0.insert(path.clone(), Ok(text.to_owned()));
            let report = Report::new(&host, &topology, &wanted);
            well_formed(&report);
            let said =
                format!("{:?}", report.findings.iter().map(|f| (&f.current, &f.wanted)).collect::<Vec<_>>());
            assert!(!said.contains("\\u{1b}"), "{path}");
        }
    }
}

#[test]
fn an_empty_host_is_na_throughout() {
    let report = Texts::default().with("/proc/cpuinfo = processor : 0").report();
    for f in &report.findings {
        assert!(f.state <= State::Ok, "{f:#?}");
    }
    let known: Vec<&str> = report.findings.iter().filter(|f| f.state == State::Ok).map(|f| f.item).collect();
    assert_eq!(known, ["net.netfilter.nf_conntrack_max"], "what is not there can be told only of tracking");
}
