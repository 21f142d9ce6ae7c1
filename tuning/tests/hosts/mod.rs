//! Hosts as maps of texts, in the layouts that the kernel documents.
//!
//! - proc(5), proc_pid_status(5), proc_pid_limits(5), proc_pid_mountinfo(5), Documentation/filesystems/proc.rst
//! - Documentation/ABI/testing/sysfs-devices-system-cpu, sysfs-class-net, sysfs-class-net-queues, sysfs-bus-pci
//! - Documentation/ABI/stable/sysfs-block, sysfs-devices-node; Documentation/admin-guide/cgroup-v2.rst
//!
//! A host is written as lines `path = text`, with `\n` for a line's end; `@` stands for the folders named below.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use ringdesk_tuning as tuning;
use tuning::{Build, Finding, Host, Plan, Report, Topology, Unread, Wanted};

/// A host.
#[derive(Clone, Default)]
pub(crate) struct Texts(pub(crate) BTreeMap<String, Result<String, Unread>>);

impl Host for Texts {
    fn text(&self, path: &str) -> Result<String, Unread> {
        self.0.get(path).cloned().unwrap_or(Err(Unread::Missing))
    }

    fn names(&self, path: &str) -> Result<Vec<String>, Unread> {
        let prefix = format!("{path}/");
        let mut names: Vec<String> = self
            .0
            .range(prefix.clone()..)
            .map_while(|(key, _)| Some(key.strip_prefix(&prefix)?.split('/').next()?.to_owned()))
            .collect();
        names.dedup();
        if names.is_empty() { Err(Unread::Missing) } else { Ok(names) }
    }
}

impl Texts {
    /// Another host, which differs in these lines; a line without `=` takes away a file, or a folder if it ends with `/`.
    pub(crate) fn with(&self, lines: &str) -> Texts {
        let mut host = self.clone();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let full = line
                .replace("@cpu", "/sys/devices/system/cpu")
                .replace("@sysctl", "/proc/sys")
                .replace("@net", "/sys/class/net")
                .replace("@block", "/sys/class/block");
            match full.split_once(" =") {
                Some((path, text)) => {
                    host.0.insert(
                        path.to_owned(),
                        Ok(text.trim_start().replace("\\n", "\n").replace("\\t", "\t") + "\n"),
                    );
                }
                None if full.ends_with('/') => host.0.retain(|path, _| !path.starts_with(&full)),
                None => {
                    host.0.remove(&full);
                }
            }
        }
        host
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology::read(|path| self.text(path).ok()).unwrap()
    }

    /// What the server would be here if nothing is set.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            data_dir: "/var/lib/ringdesk".to_owned(),
            durable: true,
            ports: vec![8080, 9100],
            backlog: 4_096,
            connections: 100_000,
            connections_asked: false,
            plan: Plan::new(&self.topology(), None, 1),
            build: Build::X86V1,
            pid: None,
        }
    }

    pub(crate) fn report(&self) -> Report {
        self.report_as(|_| {})
    }

    pub(crate) fn report_as(&self, change: impl FnOnce(&mut Wanted)) -> Report {
        let mut wanted = self.wanted();
        change(&mut wanted);
        Report::new(self, &self.topology(), &wanted)
    }
}

/// The finding about an item, of the only or the first subject.
pub(crate) fn finding<'a>(report: &'a Report, item: &str) -> &'a Finding {
    report.findings.iter().find(|f| f.item == item).unwrap_or_else(|| panic!("nothing is said about {item}"))
}

pub(crate) const V1: &str = "fpu cx8 cmov mmx fxsr sse sse2 syscall lm";
pub(crate) const V2: &str =
    "fpu cx8 cmov mmx fxsr sse sse2 syscall lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm";
pub(crate) const V3: &str = "fpu cx8 cmov mmx fxsr sse sse2 syscall lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm fma movbe xsave avx f16c abm bmi1 avx2 bmi2";
pub(crate) const V4: &str = "fpu cx8 cmov mmx fxsr sse sse2 syscall lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm fma movbe xsave avx f16c abm bmi1 avx2 bmi2 avx512f avx512dq avx512cd avx512bw avx512vl";

/// `/proc/cpuinfo` of an x86 with so many processors.
pub(crate) fn cpuinfo(count: u16, model: &str, flags: &str) -> String {
    let one = |cpu| format!("processor\t: {cpu}\nmodel name\t: {model}\nflags\t\t: {flags}\n\n");
    (0..count).map(one).collect()
}

/// One socket, eight cores with two threads, a device with a queue for each shard, an NVMe disk, systemd; everything as it should be.
pub(crate) fn tuned() -> Texts {
    let mut lines = format!("/proc/cpuinfo = {}\n", cpuinfo(16, "Eight Cores", V3).replace('\n', "\\n"));
    for cpu in 0..16 {
        lines += &format!("@cpu/cpu{cpu}/topology/thread_siblings_list = {},{}\n", cpu % 8, cpu % 8 + 8);
        lines += &format!("@cpu/cpu{cpu}/cpufreq/scaling_governor = performance\n");
        lines += &format!(
            "@cpu/cpu{cpu}/cpuidle/state0/name = POLL\n@cpu/cpu{cpu}/cpuidle/state0/latency = 0\n@cpu/cpu{cpu}/cpuidle/state0/disable = 0\n"
        );
        lines += &format!(
            "@cpu/cpu{cpu}/cpuidle/state1/name = C1\n@cpu/cpu{cpu}/cpuidle/state1/latency = 2\n@cpu/cpu{cpu}/cpuidle/state1/disable = 0\n"
        );
        lines +=
            &format!("@cpu/cpu{cpu}/cpuidle/state2/name = C6\n@cpu/cpu{cpu}/cpuidle/state2/latency = 133\n");
        lines += &format!("@cpu/cpu{cpu}/cpuidle/state2/disable = 1\n");
    }
    for queue in 0..7 {
        let irq = 101 + queue;
        lines += &format!("@net/eth0/device/msi_irqs/{irq} = msix\n");
        lines += &format!("/proc/irq/{irq}/effective_affinity_list = {queue}\n");
        lines += &format!(
            "@net/eth0/queues/rx-{queue}/rps_cpus = 0000\n@net/eth0/queues/rx-{queue}/rps_flow_cnt = 0\n"
        );
        lines += &format!("@net/eth0/queues/tx-{queue}/xps_cpus = {:04x}\n", 1 << queue);
        lines += &format!("@net/eth0/queues/tx-{queue}/traffic_class = 0\n");
    }
    let interrupts: String = (0..7)
        .map(|queue| {
            format!(" {}:  1  0  IR-PCI-MSIX-0000:01:00.0  {queue}-edge  eth0-TxRx-{queue}\\n", 101 + queue)
        })
        .collect();
    lines += &format!(
        "/proc/interrupts =     CPU0  CPU1\\n 100:  9  0  IR-PCI-MSIX-0000:01:00.0  7-edge  eth0\\n{interrupts}NMI: 0 0 x\n"
    );
    lines += "@net/eth0/device/msi_irqs/100 = msix\n/proc/irq/100/effective_affinity_list = 0\n";
    Texts::default().with(&lines).with(TUNED)
}

const TUNED: &str = r"
/proc/1/comm = systemd
/proc/2/comm = kthreadd
/proc/cmdline = BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro quiet
/proc/meminfo = MemTotal:       65536000 kB\nMemFree: 60000000 kB\nHugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB
/proc/net/protocols = protocol  size sockets  memory press maxhdr\nTCP       2368      5       1   no     320
/proc/self/cgroup = 0::/system.slice/ringdesk.service
/proc/self/limits = Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 2097152              files\nMax locked memory         unlimited            unlimited            bytes
/proc/self/mountinfo = 22 1 259:2 / / rw,noatime shared:1 - ext4 /dev/nvme0n1p2 rw,lazytime\n23 22 0:21 / /proc rw - proc proc rw
/proc/self/oom_score_adj = -900
/proc/self/stat = 700 (ring (desk) x) S 1 700 700 0 -1 4194560 0 0 0 0 0 0 0 0 10 -10 1 0 100 0 0
/proc/self/status = Name:\tringdesk\nGid:\t998\t998\t998\t998\nGroups:\t998\nCapEff:\t0000000000000000\nSeccomp:\t0\nCpus_allowed_list:\t0-15
/proc/stat = cpu  1000 0 500 98000 100 0 50 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0
/proc/swaps = Filename Type Size Used Priority
/sys/class/block/nvme0n1/mq/0/cpu_list = 0
/sys/class/block/nvme0n1/mq/1/cpu_list = 1
/sys/class/block/nvme0n1/queue/fua = 1
/sys/class/block/nvme0n1/queue/nomerges = 2
/sys/class/block/nvme0n1/queue/rotational = 0
/sys/class/block/nvme0n1/queue/scheduler = [none] mq-deadline kyber
/sys/class/block/nvme0n1/queue/write_cache = write back
/sys/class/block/nvme0n1/uevent = MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk
/sys/class/block/nvme0n1p2/../uevent = MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk
/sys/class/block/nvme0n1p2/partition = 2
/sys/dev/block/259:2/uevent = MAJOR=259\nMINOR=2\nDEVNAME=nvme0n1p2\nDEVTYPE=partition\nPARTN=2
@net/lo/operstate = unknown
@net/eth0/operstate = up
@net/eth0/mtu = 1500
@net/eth0/threaded = 0
@net/eth0/gro_flush_timeout = 0
@net/eth0/napi_defer_hard_irqs = 0
@net/eth0/statistics/rx_missed_errors = 0
@net/eth0/statistics/rx_fifo_errors = 0
@net/eth0/device/numa_node = 0
@cpu/online = 0-15
@cpu/isolated =
@cpu/nohz_full = (null)
@cpu/smt/active = 1
@cpu/vulnerabilities/meltdown = Not affected
@cpu/vulnerabilities/spectre_v2 = Mitigation: Retpolines
/sys/devices/system/clocksource/clocksource0/current_clocksource = tsc
/sys/devices/system/clocksource/clocksource0/available_clocksource = tsc hpet acpi_pm
/sys/devices/system/node/node0/cpulist = 0-15
/sys/fs/cgroup/system.slice/ringdesk.service/cpu.max = max 100000
/sys/fs/cgroup/system.slice/ringdesk.service/cpu.stat = usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0
/sys/fs/cgroup/system.slice/ringdesk.service/memory.max = max
/sys/fs/cgroup/system.slice/ringdesk.service/memory.high = max
/sys/kernel/mm/transparent_hugepage/enabled = always [madvise] never
/sys/kernel/mm/transparent_hugepage/defrag = always defer defer+madvise [madvise] never
@sysctl/fs/file-max = 9223372036854775807
@sysctl/fs/nr_open = 2097152
@sysctl/kernel/io_uring_disabled = 0
@sysctl/kernel/numa_balancing = 0
@sysctl/kernel/osrelease = 7.0.3
@sysctl/kernel/sched_rt_runtime_us = 950000
@sysctl/net/core/busy_poll = 0
@sysctl/net/core/busy_read = 0
@sysctl/net/core/default_qdisc = fq
@sysctl/net/core/netdev_budget = 600
@sysctl/net/core/netdev_max_backlog = 16384
@sysctl/net/core/rps_sock_flow_entries = 0
@sysctl/net/core/somaxconn = 4096
@sysctl/net/ipv4/ip_local_port_range = 32768 60999
@sysctl/net/ipv4/ip_local_reserved_ports =
@sysctl/net/ipv4/tcp_congestion_control = cubic
@sysctl/net/ipv4/tcp_fastopen = 1
@sysctl/net/ipv4/tcp_fin_timeout = 15
@sysctl/net/ipv4/tcp_keepalive_time = 7200
@sysctl/net/ipv4/tcp_max_orphans = 262144
@sysctl/net/ipv4/tcp_max_syn_backlog = 4096
@sysctl/net/ipv4/tcp_max_tw_buckets = 1000000
@sysctl/net/ipv4/tcp_mem = 760000 1013000 1520000
@sysctl/net/ipv4/tcp_notsent_lowat = 4294967295
@sysctl/net/ipv4/tcp_rmem = 4096 16384 1048576
@sysctl/net/ipv4/tcp_slow_start_after_idle = 0
@sysctl/net/ipv4/tcp_syncookies = 1
@sysctl/net/ipv4/tcp_tw_reuse = 2
@sysctl/net/ipv4/tcp_wmem = 4096 16384 4194304
@sysctl/net/netfilter/nf_conntrack_count = 12
@sysctl/net/netfilter/nf_conntrack_max = 1048576
@sysctl/vm/max_map_count = 1048576
@sysctl/vm/min_free_kbytes = 262144
@sysctl/vm/swappiness = 60
";
