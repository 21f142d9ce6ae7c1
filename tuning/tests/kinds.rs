//! Hosts of other kinds than the one at hand: what each is told, which build it runs, which cores go where.

mod hosts;

use hosts::{Texts, V1, V2, V3, V4, cpuinfo, finding, tuned};
use ringdesk_tuning as tuning;
use tuning::{Build, State, Topology};

fn state(report: &tuning::Report, item: &str) -> State {
    finding(report, item).state
}

/// A virtual machine with two processors of AVX-512, one queue, one virtual disk, nothing tuned, control groups of version 1 beside an empty version 2:
/// its files as they were read.
fn small_vm() -> Texts {
    let flags = format!("{V4} hypervisor constant_tsc");
    let text = cpuinfo(2, "AMD EPYC", &flags).replace('\n', "\\n").replace('\t', "\\t");
    Texts::default().with(&format!("/proc/cpuinfo = {text}")).with(
        r"
        /proc/1/comm = init
        /proc/2/comm = kthreadd
        /proc/cmdline = mitigations=auto,no_guest_host console=ttyS0 quiet -- --init isolcpus=0
        /proc/interrupts =            CPU0       CPU1\n 37:          0          0 PCI-MSIX-0000:00:03.0   0-edge      virtio2-config\n 38:          0       9337 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n 39:       7002          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
        /proc/irq/37/effective_affinity_list = 0
        /proc/irq/38/effective_affinity_list = 1
        /proc/irq/39/effective_affinity_list = 0
        /proc/meminfo = MemTotal:       24684084 kB\nHugePages_Free:        0\nHugepagesize:       2048 kB
        /proc/self/cgroup = 4:memory:/jobs/one\n3:cpuset:/\n2:cpu,cpuacct:/\n0::/
        /proc/self/limits = Limit Soft Hard Units\nMax open files            20000                20000                files     \nMax locked memory         8388608              8388608              bytes
        /proc/self/mountinfo = 27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534
        /proc/self/status = Name:\tringdesk\nGroups:\t\nCapEff:\t000001ffffffffff\nSeccomp:\t0\nCpus_allowed_list:\t0-1
        /proc/stat = cpu  283713 24195 16777 211277 624 0 783 181 0 0
        /sys/dev/block/254:0/uevent = MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk
        @block/vda/mq/0/cpu_list = 0, 1
        @block/vda/queue/fua = 0
        @block/vda/queue/nomerges = 0
        @block/vda/queue/rotational = 1
        @block/vda/queue/scheduler = none [mq-deadline] kyber bfq
        @block/vda/queue/write_cache = write back
        @block/vda/uevent = DEVNAME=vda
        /sys/fs/cgroup/cpu/cpu.cfs_period_us = 100000
        /sys/fs/cgroup/cpu/cpu.cfs_quota_us = -1
        /sys/fs/cgroup/memory/jobs/memory.limit_in_bytes = 9223372036854771712
        /sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes = 8589934592
        @net/lo/operstate = unknown
        @net/ifb0/operstate = down
        @net/eth0/operstate = up
        @net/eth0/mtu = 1400
        @net/eth0/device/device = 0x1041
        @net/eth0/device/../msi_irqs/37 = msix
        @net/eth0/device/../msi_irqs/38 = msix
        @net/eth0/device/../msi_irqs/39 = msix
        @net/eth0/queues/rx-0/rps_cpus = 0
        @net/eth0/queues/rx-0/rps_flow_cnt = 0
        @net/eth0/queues/tx-0/traffic_class = 0
        @cpu/online = 0-1
        @cpu/smt/active = 0
        @cpu/cpu0/topology/thread_siblings_list = 0
        @cpu/cpu1/topology/thread_siblings_list = 1
        /sys/devices/system/clocksource/clocksource0/current_clocksource = kvm-clock
        /sys/devices/system/node/node0/cpulist = 0-1
        @sysctl/net/ipv4/tcp_congestion_control = bbr
        @sysctl/net/core/default_qdisc = pfifo_fast
        ",
    )
}

#[test]
fn a_small_vm_is_told_what_its_owner_can_change_and_not_what_its_host_decides() {
    let host = small_vm();
    let plan = host.wanted().plan;
    assert_eq!((plan.shard_cpus, plan.irq_cpus, plan.follower_cpus), (vec![0], vec![1], vec![1]));
    let report = host.report();
    assert_eq!(report.build, Some(Build::X86V4));
    for item in ["governor", "idle states", "xps", "isolcpus", "smc", "memory.high"] {
        assert_eq!(state(&report, item), State::Na, "{item}");
    }
    for item in ["queues", "irq affinity", "rps", "clocksource", "RLIMIT_MEMLOCK", "irqbalance", "numa"] {
        assert_eq!(state(&report, item), State::Ok, "{item}: {:#?}", finding(&report, item));
    }
    for item in ["scheduler", "write cache", "discard", "time stamps", "net.ipv4.tcp_congestion_control"] {
        assert_eq!(state(&report, item), State::Warn, "{item}");
    }
    assert_eq!(
        finding(&report, "irq affinity").current,
        "38→1 39→0",
        "the interrupt for its settings is no queue's"
    );
    assert_eq!(finding(&report, "memory.max").current, "8192 MiB");
    assert!(
        finding(&report, "memory.max")
            .command
            .ends_with("> /sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes")
    );
    assert!(finding(&report, "RLIMIT_NOFILE").command.starts_with("ulimit -n"), "there is no systemd to ask");
    assert!(finding(&report, "steal").reason.contains("virtual machine"));
}

/// Two sockets of eight cores, no threads, numbered by turns as some firmware does; device and disk on node 1; one queue for every two shards.
fn two_sockets() -> Texts {
    let text = cpuinfo(16, "Two Sockets", V3).replace('\n', "\\n").replace('\t', "\\t");
    let mut lines = format!("/proc/cpuinfo = {text}\n");
    for cpu in 0..16 {
        lines += &format!("@cpu/cpu{cpu}/topology/thread_siblings_list = {cpu}\n");
    }
    tuned().with(&lines).with(
        r"
        @cpu/smt/active = 0
        @net/eth0/device/numa_node = 1
        @net/eth0/device/infiniband/mlx5_0/node_guid = 1
        /sys/class/infiniband/mlx5_0/node_guid = 1
        /sys/devices/system/node/node0/cpulist = 0,2,4,6,8,10,12,14
        /sys/devices/system/node/node1/cpulist = 1,3,5,7,9,11,13,15
        @sysctl/kernel/numa_balancing = 1
        ",
    )
}

#[test]
fn two_sockets_are_told_to_stay_on_the_one_with_the_device() {
    let host = two_sockets();
    let plan = host.wanted().plan;
    assert_eq!(plan.shard_cpus, (0..15).collect::<Vec<u16>>());
    assert_eq!(plan.irq_cpus, [15]);
    let report = host.report();
    let numa: Vec<_> = report.findings.iter().filter(|f| f.item == "numa").collect();
    assert_eq!(numa.len(), 2);
    assert_eq!((numa[0].state, numa[0].current.as_str()), (State::Warn, "2 nodes, shards on 0 and 1"));
    assert_eq!((numa[1].state, numa[1].subject.as_deref()), (State::Warn, Some("eth0")));
    assert!(numa[1].command.contains("CPUAffinity=1,3,5,7,9,11,13,15"), "{}", numa[1].command);
    assert_eq!(state(&report, "kernel.numa_balancing"), State::Warn);
    assert_eq!(state(&report, "rdma devices"), State::Ok);
    assert_eq!(finding(&report, "rdma").subject.as_deref(), Some("eth0"));
    assert!(finding(&report, "smc").reason.contains("modprobe smc"));
    // 7 queues for 15 cores with shards: packets are carried on by software, and the queues' interrupts leave the shards alone.
    assert!(finding(&report, "queues").command.starts_with("ethtool -L eth0 combined 15"));
    let rps = finding(&report, "rps");
    assert!(
        rps.command.starts_with("echo 7fff | tee /sys/class/net/eth0/queues/rx-*/rps_cpus; echo 4681 | tee"),
        "{}",
        rps.command
    );
    assert!(
        finding(&report, "irq affinity")
            .command
            .starts_with("echo 15 > /proc/irq/101/smp_affinity_list; echo 15 >")
    );
    let there = host.with("@sysctl/net/core/rps_sock_flow_entries = 32768");
    let lines: String = (0..7)
        .map(|q| format!("@net/eth0/queues/rx-{q}/rps_cpus = 7fff\n@net/eth0/queues/rx-{q}/rps_flow_cnt = 4681\n/proc/irq/{}/effective_affinity_list = 15\n", 101 + q))
        .collect();
    let report = there.with(&lines).report();
    assert_eq!((state(&report, "rps"), state(&report, "irq affinity")), (State::Ok, State::Ok));
}

#[test]
fn pinned_to_one_socket_it_is_well() {
    let host = two_sockets().with(r"/proc/self/status = Cpus_allowed_list:\t1,3,5,7,9,11,13,15\nSeccomp:\t0");
    assert_eq!(host.wanted().plan.shard_cpus, [1, 3, 5, 7, 9, 11, 13]);
    let report = host.report();
    assert!(report.findings.iter().filter(|f| f.item == "numa").all(|f| f.state == State::Ok));
}

#[test]
fn an_arm_server_without_smt_or_flags_is_understood() {
    let one = |cpu| {
        format!(
            "processor\\t: {cpu}\\nBogoMIPS\\t: 243.75\\nFeatures\\t: fp asimd evtstrm aes crc32 atomics\\nCPU implementer\\t: 0x41\\n\\n"
        )
    };
    let text: String = (0..4).map(one).collect();
    let host = small_vm().with(&format!("/proc/cpuinfo = {text}")).with(
        r"
        @cpu/online = 0-3
        @cpu/smt/active
        @cpu/cpu2/topology/thread_siblings_list = 2
        @cpu/cpu3/topology/thread_siblings_list = 3
        /proc/self/status = Cpus_allowed_list:\t0-3
        /sys/devices/system/clocksource/clocksource0/current_clocksource = arch_sys_counter
        ",
    );
    assert_eq!(host.wanted().plan.shard_cpus, [0, 1, 2]);
    let report = host.report_as(|wanted| wanted.build = Build::Aarch64);
    assert_eq!(report.build, Some(Build::Aarch64));
    for item in ["build", "clocksource"] {
        assert_eq!(state(&report, item), State::Ok);
    }
    assert_eq!(state(&report, "smt"), State::Na);
    let wrong = host.report();
    assert_eq!(state(&wrong, "build"), State::Fail, "a program for x86 does not run there");
}

/// A container in a network and process namespace of its own, with a quota and a memory bound, data in its own layer, and the host's path of its group.
fn container() -> Texts {
    tuned()
        .with("@net/eth0/\n/proc/1/\n/proc/2/\n/proc/irq/\n/sys/fs/cgroup/\n@sysctl/net/core/netdev_max_backlog\n@sysctl/net/ipv4/tcp_mem\n@sysctl/net/netfilter/")
        .with(
            r"
            /proc/1/comm = ringdesk
            /proc/2/comm = sh
            /proc/self/cgroup = 0::/kubepods.slice/pod7/c1
            /sys/fs/cgroup/cpu.max = 350000 100000
            /sys/fs/cgroup/cpu.stat = usage_usec 9\nnr_periods 800\nnr_throttled 31
            /sys/fs/cgroup/memory.max = 2147483648
            /sys/fs/cgroup/memory.high = max
            /proc/self/mountinfo = 900 899 0:77 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b
            /proc/self/status = Seccomp:\t2\nCapEff:\t00000000a80425fb\nCpus_allowed_list:\t0-15
            @net/eth0/operstate = up
            @net/eth0/queues/rx-0/rps_cpus = 0
            ",
        )
}

#[test]
fn a_container_is_told_of_its_bounds_and_not_of_what_only_its_host_can_see() {
    let report = container().report();
    assert_eq!(
        container().wanted().plan.shard_cpus,
        [0, 1],
        "3.5 processors are three cores, one for the rest"
    );
    assert_eq!(finding(&report, "cpu.max").current, "3.50 processors");
    assert_eq!(finding(&report, "throttled").current, "31 of 800 periods");
    assert_eq!(finding(&report, "memory.max").current, "2048 MiB");
    assert_eq!(
        (state(&report, "file system"), finding(&report, "file system").wanted.as_str()),
        (State::Warn, "a volume")
    );
    for item in
        ["seccomp", "irqbalance", "devices", "disk", "net.core.netdev_max_backlog", "net.ipv4.tcp_mem"]
    {
        assert_eq!(state(&report, item), State::Na, "{item}: {:#?}", finding(&report, item));
    }
    let volume = r"/proc/self/mountinfo = 9 8 0:77 / / rw - overlay o rw\n10 9 259:2 /vol /var/lib/ringdesk rw,noatime - xfs /dev/nvme0n1p2 rw,lazytime";
    let report = container().with(volume).report();
    assert_eq!(state(&report, "file system"), State::Ok);
    assert_eq!(finding(&report, "scheduler").subject.as_deref(), Some("nvme0n1"));
}

#[test]
fn the_levels_are_those_of_the_psabi() {
    for (flags, build) in [(V1, Build::X86V1), (V2, Build::X86V2), (V3, Build::X86V3), (V4, Build::X86V4)] {
        assert_eq!(Build::best(&cpuinfo(2, "x", flags)), Some(build));
        // Without any one of its own features it is the level before.
        for flag in flags.split(' ') {
            let fewer: Vec<&str> = flags.split(' ').filter(|f| *f != flag).collect();
            assert!(Build::best(&cpuinfo(1, "x", &fewer.join(" "))) < Some(build), "{build} without {flag}");
        }
    }
    assert_eq!(Build::best("processor : 0\n"), None);
    assert_eq!(
        Build::X86V3.lacking(&cpuinfo(1, "x", V3)),
        ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]
    );
}

#[test]
fn one_weak_processor_decides_for_all() {
    let mixed = cpuinfo(1, "strong", V4) + &cpuinfo(1, "weak", V3);
    assert_eq!(Build::best(&mixed), Some(Build::X86V3));
}

#[test]
fn a_program_for_more_than_the_host_has_is_a_failure_that_names_what_is_lacking() {
    let text = cpuinfo(16, "Old", V2).replace('\n', "\\n").replace('\t', "\\t");
    let host = tuned().with(&format!("/proc/cpuinfo = {text}"));
    let report = host.report_as(|wanted| wanted.build = Build::X86V3);
    let found = finding(&report, "build");
    assert_eq!((found.state, found.wanted.as_str()), (State::Fail, "x86-64-v2"));
    assert!(found.reason.contains("avx avx2 bmi1"), "{}", found.reason);
    assert!(!found.command.contains("v3"), "never what the host cannot run: {}", found.command);
    assert_eq!(state(&host.report(), "build"), State::Ok);
}

#[test]
fn what_the_settings_ask_for_decides_how_much_is_enough() {
    let host = tuned().with(r"/proc/self/limits = Max open files   1024   65536   files\nMax locked memory   unlimited   unlimited   bytes");
    let asked = |connections| {
        host.report_as(move |wanted| (wanted.connections, wanted.connections_asked) = (connections, true))
    };
    assert_eq!(state(&asked(100_000), "RLIMIT_NOFILE"), State::Ok);
    let more = asked(2_000_000);
    assert_eq!(finding(&more, "RLIMIT_NOFILE").wanted, "at least 337159");
    assert_eq!(finding(&more, "fs.nr_open").wanted, "at least 4000000");
    assert_eq!(
        finding(&more, "net.netfilter.nf_conntrack_max").wanted,
        "at least 8000000, four for each connection"
    );
}

#[test]
fn memory_is_no_disk_and_only_durability_makes_it_a_failure() {
    let host = tuned().with("/proc/self/mountinfo = 1 0 0:5 / /var rw - tmpfs tmpfs rw");
    assert_eq!(state(&host.report(), "file system"), State::Fail);
    assert_eq!(state(&host.report(), "barrier"), State::Na, "there is no cache to flush");
    assert_eq!(state(&host.report_as(|wanted| wanted.durable = false), "file system"), State::Warn);
}

#[test]
fn the_tightest_of_all_groups_above_bounds_and_is_named() {
    let host = tuned().with(
        r"
        /sys/fs/cgroup/system.slice/cpu.max = 300000 100000
        /sys/fs/cgroup/system.slice/ringdesk.service/cpu.max = 800000 100000
        /sys/fs/cgroup/system.slice/memory.max = 9663676416
        /sys/fs/cgroup/system.slice/ringdesk.service/memory.max = 8589934592
        ",
    );
    assert_eq!(host.wanted().plan.shard_cpus, [0, 1]);
    let report = host.report();
    assert_eq!(finding(&report, "cpu.max").path, "/sys/fs/cgroup/system.slice/cpu.max");
    assert_eq!(
        finding(&report, "memory.max").path,
        "/sys/fs/cgroup/system.slice/ringdesk.service/memory.max"
    );
}

#[test]
fn every_disk_below_a_stack_of_devices_is_looked_at() {
    let host = tuned().with(
        r"
        /proc/self/mountinfo = 1 0 253:1 / / rw,noatime - xfs /dev/mapper/vg-data rw,lazytime
        /sys/dev/block/253:1/uevent = DEVNAME=dm-1
        @block/dm-1/slaves/md0/x = 1
        @block/dm-1/queue/scheduler = none
        @block/md0/slaves/nvme0n1p2/x = 1
        @block/md0/slaves/sdb1/x = 1
        @block/sdb1/partition = 1
        @block/sdb1/../uevent = DEVNAME=sdb
        @block/sdb/queue/rotational = 1
        @block/sdb/queue/scheduler = none [mq-deadline]
        ",
    );
    let report = host.report();
    let disks: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.item == "scheduler")
        .map(|f| (f.subject.as_deref().unwrap(), f.current.as_str(), f.state))
        .collect();
    assert_eq!(disks, [("nvme0n1", "none", State::Ok), ("sdb", "mq-deadline", State::Ok)]);
}

#[test]
fn the_limits_of_the_server_that_runs_count_and_not_those_of_who_looks() {
    let host = tuned().with(
        r"
        /proc/4242/limits = Max open files   1024   4096   files\nMax locked memory   8388608   8388608   bytes
        /proc/4242/status = CapEff:\t0000000000004000
        /proc/4242/oom_score_adj = 0
        ",
    );
    let report = host.report_as(|wanted| wanted.pid = Some(4_242));
    assert_eq!(finding(&report, "RLIMIT_NOFILE").current, "4096 (hard limit)");
    assert_eq!(finding(&report, "oom_score_adj").path, "/proc/4242/oom_score_adj");
    assert!(finding(&report, "RLIMIT_MEMLOCK").reason.contains("CAP_IPC_LOCK"));
    assert_eq!(state(&report, "nice"), State::Na, "its stat is not there");
}

#[test]
fn a_lists_banned_from_irqbalance_are_respected_and_a_group_admits_to_io_uring() {
    let host = tuned().with("/proc/812/comm = irqbalance");
    let mut banned = host.clone();
    let environment = "PATH=/bin\0IRQBALANCE_BANNED_CPULIST=0-6\0".to_owned();
    banned.0.insert("/proc/812/environ".to_owned(), Ok(environment));
    assert_eq!(
        (state(&host.report(), "irqbalance"), state(&banned.report(), "irqbalance")),
        (State::Warn, State::Ok)
    );
    let member = tuned().with("@sysctl/kernel/io_uring_disabled = 1\n@sysctl/kernel/io_uring_group = 998");
    assert_eq!(state(&member.report(), "kernel.io_uring_disabled"), State::Ok);
}

#[test]
fn isolated_processors_that_the_process_may_not_use_are_named() {
    // isolcpus=domain takes them out of what everybody inherits, so no shard is planned there.
    let host = tuned()
        .with(r"@cpu/isolated = 0-6\n")
        .with(r"/proc/self/status = Cpus_allowed_list:\t7-15\nSeccomp:\t0");
    let report = host.report();
    let found = finding(&report, "isolcpus");
    assert_eq!(found.state, State::Warn);
    assert!(found.reason.starts_with("0-6 are set apart and no shard is planned there"), "{}", found.reason);
    assert!(Topology::read(|path| tuning::Host::text(&host, path).ok()).is_ok());
}

#[test]
fn a_host_with_the_sysctls_that_are_shipped_has_none_to_mend() {
    let shipped = include_str!("../../deploy/sysctl.d/90-ringdesk.conf");
    let lines =
        shipped.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| !name.starts_with('#'));
    let set: Vec<String> = lines
        .map(|(name, value)| format!("@sysctl/{} = {}", name.trim().replace('.', "/"), value.trim()))
        .collect();
    assert!(set.len() > 10, "{set:?}");
    let report = tuned().with(&set.join("\n")).report();
    assert_eq!(
        report.worst(),
        State::Ok,
        "{:#?}",
        report.findings.iter().filter(|f| f.state > State::Ok).collect::<Vec<_>>()
    );
}
