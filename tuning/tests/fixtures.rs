//! Hosts as they were met, and the plan each gets.

use ringdesk_tuning as tuning;
use tuning::{Plan, Topology, TopologyError};

/// A host: processor → the text of its siblings, and what else differs.
struct Host {
    online: &'static str,
    allowed: Option<&'static str>,
    siblings: fn(u16) -> Option<String>,
    cpu_max: Option<&'static str>,
    cpuinfo: &'static str,
}

impl Host {
    fn topology(&self) -> Result<Topology, TopologyError> {
        Topology::read(|path| match path {
            "/proc/cpuinfo" => Some(self.cpuinfo.to_owned()),
            "/proc/self/status" => self
                .allowed
                .map(|list| format!("Name:\tringdesk\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}\n")),
            "/sys/devices/system/cpu/online" => (!self.online.is_empty()).then(|| self.online.to_owned()),
            "/sys/fs/cgroup/cpu.max" => self.cpu_max.map(str::to_owned),
            other => {
                let cpu =
                    other.strip_prefix("/sys/devices/system/cpu/cpu")?.split_once('/')?.0.parse().ok()?;
                (self.siblings)(cpu)
            }
        })
    }

    fn plan(&self, shards: Option<u16>) -> Plan {
        Plan::new(&self.topology().unwrap(), shards, 1)
    }
}

const EPYC_VM: &str = "processor\t: 0\nmodel name\t: AMD EPYC\ncore id\t\t: 0\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\ncore id\t\t: 1\n";

fn small_vm() -> Host {
    Host {
        online: "0-1\n",
        allowed: Some("0-1"),
        siblings: |cpu| Some(format!("{cpu}\n")),
        cpu_max: None,
        cpuinfo: EPYC_VM,
    }
}

/// Eight cores, sixteen threads, numbered as Linux does on x86: siblings are n and n + 8.
fn server_with_threads() -> Host {
    Host {
        online: "0-15\n",
        allowed: Some("0-15"),
        siblings: |cpu| Some(format!("{},{}\n", cpu % 8, cpu % 8 + 8)),
        cpu_max: Some("max 100000\n"),
        cpuinfo: EPYC_VM,
    }
}

#[test]
fn a_vm_with_two_processors_gets_one_shard_and_a_core_for_the_rest() {
    let plan = small_vm().plan(None);
    assert_eq!((plan.shard_cpus, plan.control_cpus), (vec![0], vec![1]));
    assert_eq!(small_vm().topology().unwrap().model, "AMD EPYC");
}

#[test]
fn shards_asked_for_get_cores_of_their_own_as_long_as_there_are_any() {
    let two = small_vm().plan(Some(2));
    assert_eq!((two.shard_cpus.clone(), two.control_cpus.clone()), (vec![0, 1], vec![0, 1]));
    assert!(!two.shares_cores());
    let three = small_vm().plan(Some(3));
    assert_eq!(three.shard_cpus, [0, 1, 0]);
    assert!(three.shares_cores());
}

#[test]
fn threads_of_one_core_never_hold_two_shards() {
    let plan = server_with_threads().plan(None);
    assert_eq!(plan.shard_cpus, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(plan.control_cpus, [7, 8, 9, 10, 11, 12, 13, 14, 15]);
}

#[test]
fn the_process_own_mask_bounds_the_plan() {
    let host = Host { allowed: Some("2-3,10"), ..server_with_threads() };
    let topology = host.topology().unwrap();
    assert_eq!(
        topology.cores.iter().map(|core| core.cpus.clone()).collect::<Vec<_>>(),
        [vec![2, 10], vec![3]]
    );
    let plan = host.plan(None);
    assert_eq!((plan.shard_cpus, plan.control_cpus), (vec![2], vec![3, 10]));
}

#[test]
fn a_control_groups_quota_bounds_the_plan() {
    let host = Host { cpu_max: Some("250000 100000\n"), ..server_with_threads() };
    assert_eq!(host.topology().unwrap().quota_milli, Some(2_500));
    assert_eq!(host.plan(None).shard_cpus, [0]);
    let tiny = Host { cpu_max: Some("50000 100000\n"), ..server_with_threads() };
    assert_eq!(tiny.plan(None).shard_cpus, [0]);
}

#[test]
fn an_arm_host_without_core_ids_in_cpuinfo_is_understood() {
    let host = Host {
        online: "0-3\n",
        allowed: None,
        siblings: |cpu| Some(format!("{cpu}\n")),
        cpu_max: None,
        cpuinfo: "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\n\nprocessor\t: 1\n\nprocessor\t: 2\n\nprocessor\t: 3\n",
    };
    assert_eq!(host.plan(None).shard_cpus, [0, 1, 2]);
    assert_eq!(host.topology().unwrap().model, "unknown");
}

#[test]
fn without_sys_cpuinfo_alone_has_to_do() {
    let host = Host { online: "", allowed: None, siblings: |_| None, cpu_max: None, cpuinfo: EPYC_VM };
    assert_eq!(host.topology().unwrap().cores.len(), 2);
}

#[test]
fn one_processor_is_shared_by_all() {
    let host = Host { online: "0", allowed: Some("0"), ..small_vm() };
    let plan = host.plan(None);
    assert_eq!((plan.shard_cpus, plan.control_cpus), (vec![0], vec![0]));
}

#[test]
fn small_descriptor_tables_make_more_shards_than_cores() {
    let plan = Plan::new(&small_vm().topology().unwrap(), None, 7);
    assert_eq!(plan.shard_cpus, [0; 7]);
    assert_eq!(Plan::new(&small_vm().topology().unwrap(), None, 900).shard_cpus.len(), 64);
}

#[test]
fn nonsense_is_named_and_nothing_allowed_is_an_error() {
    let host = Host { online: "zero", ..small_vm() };
    assert!(host.topology().unwrap_err().to_string().contains("/sys/devices/system/cpu/online"));
    let host = Host { allowed: Some("7"), ..small_vm() };
    assert_eq!(host.topology(), Err(TopologyError::NoProcessor));
}
