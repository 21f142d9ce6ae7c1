//! Network devices that have hardware behind them, or a hypervisor's idea of it. What only `ethtool` can ask is named and not judged.

use super::network::{mask, unmask};
use super::{Wanted, cpu};
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, Unread, field, quoted};
use crate::list::CpuList;

const NET: &str = "/sys/class/net";

/// Flows that are remembered where packets are steered by software, for all queues together (perftune and rpk take the same).
const RPS_FLOWS: i64 = 32_768;
/// Smallest MTU that is no tunnel's.
const MTU: i64 = 1_500;

pub(super) fn check(host: &dyn Host, wanted: &Wanted) -> Vec<Finding> {
    let mut names = match host.names(NET) {
        Ok(names) => names,
        Err(error) => return vec![Item::new(Area::Nic, "devices", NET, "").unread(&error)],
    };
    names.sort_unstable();
    let devices: Vec<Device<'_>> = names
        .iter()
        .map(|name| Device { host, wanted, name, folder: format!("{NET}/{name}") })
        .filter(|device| device.serves())
        .collect();
    let mut findings = Vec::new();
    if devices.is_empty() {
        let item = Item::new(Area::Nic, "devices", NET, "");
        findings.push(item.na(
            "no device with hardware is up in this network namespace: in a container the host's devices have to be looked at from the host",
        ));
    }
    for device in &devices {
        findings.extend(device.check());
    }
    findings.extend([rdma(host), smc(host, wanted), bypass()]);
    findings
}

struct Device<'a> {
    host: &'a dyn Host,
    wanted: &'a Wanted,
    name: &'a str,
    folder: String,
}

/// An interrupt of a queue, and where it is delivered.
struct Irq {
    number: u32,
    cpus: CpuList,
}

impl Device<'_> {
    /// Hardware is behind it, and it is up. A device that cannot tell (`unknown`) counts as up.
    fn serves(&self) -> bool {
        let state = self.host.word(&self.path("operstate")).unwrap_or_default();
        self.host.names(&self.path("device")).is_ok() && matches!(state.as_str(), "up" | "unknown")
    }

    fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.folder)
    }

    fn item(&self, item: &'static str, file: &str, reason: &'static str) -> Item {
        Item::new(Area::Nic, item, self.path(file), reason).of(self.name)
    }

    fn queues(&self, prefix: &str) -> Vec<u32> {
        self.host.numbered(&self.path("queues"), prefix)
    }

    fn shards(&self) -> CpuList {
        self.wanted.plan.shard_cpus.iter().copied().collect()
    }

    fn check(&self) -> Vec<Finding> {
        let name = quoted(self.name);
        let ethtool = |item, what: &str, option: &str| {
            self.item(item, "", "")
                .na(format!("{what}: only ethtool can ask"))
                .look(format!("ethtool {option} {name}"))
        };
        let mut findings = vec![
            self.channels(),
            self.irqs(),
            self.rps(),
            self.xps(),
            self.drops(),
            self.number("threaded", &[0], "threaded", "packets would wait for a thread to be scheduled"),
            self.deferral(),
            self.mtu(),
            self.numa(),
        ];
        findings.extend([
            ethtool("coalescing", "for short tails adaptive off, rx-usecs 0 to 8, tx-usecs 8 to 16", "-c"),
            ethtool("rings", "1024 to 2048 entries; more only where packets are dropped", "-g"),
            ethtool("offloads", "gro, tso and gso on, lro off", "-k"),
            ethtool("rss", "addresses and ports hashed, all queues alike", "-x"),
        ]);
        if let Ok(devices) = self.host.names(&self.path("device/infiniband")) {
            let item = self.item("rdma", "device/infiniband", "");
            findings.push(
                item.na(format!(
                    "{} can do RDMA; as a device for TCP it wants adaptive coalescing and CQE compression off, relaxed ordering on, which only ethtool and the vendor's tool can ask",
                    devices.join(" ")
                ))
                .look(format!("ethtool --show-priv-flags {name}")),
            );
        }
        findings
    }

    fn channels(&self) -> Finding {
        let item = self
            .item(
                "queues",
                "queues",
                "with a queue for each shard, packets arrive on the core that wants them",
            )
            .risk("the link is down for a moment");
        let (rx, tx) = (self.queues("rx-").len(), self.queues("tx-").len());
        let shards = self.shards().cpus().len();
        let current = format!("{rx} rx, {tx} tx");
        if rx == 0 {
            item.na(format!("{} names no queues", self.path("queues")))
        } else if rx < shards {
            let name = quoted(self.name);
            item.warn(
                current,
                format!("{shards}, one for each core with a shard"),
                format!(
                    "ethtool -L {name} combined {shards}  # if `ethtool -l {name}` shows that it has so many"
                ),
            )
        } else {
            item.fine(current, "one for each core with a shard, or more")
        }
    }

    /// The interrupts of the device's queues, by number.
    fn queue_irqs(&self) -> Result<Vec<Irq>, Unread> {
        // A virtio device's interrupts belong to the PCI device above it.
        let numbers = match self.host.names(&self.path("device/msi_irqs")) {
            Err(Unread::Missing) => self.host.names(&self.path("device/../msi_irqs"))?,
            other => other?,
        };
        let mut numbers: Vec<u32> = numbers.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let interrupts = self.host.text("/proc/interrupts")?;
        let is_queue = |number: &u32| {
            let name = field(&interrupts, &number.to_string()).unwrap_or("").to_ascii_lowercase();
            ["input", "output", "txrx", "tx-rx", "-rx", "-tx", "comp", "-fp-"]
                .iter()
                .any(|part| name.contains(part))
        };
        let mut irqs = Vec::new();
        for number in numbers.into_iter().filter(is_queue) {
            let folder = format!("/proc/irq/{number}");
            let effective = self.host.word(&format!("{folder}/effective_affinity_list")).unwrap_or_default();
            let text = match effective.as_str() {
                "" => self.host.word(&format!("{folder}/smp_affinity_list"))?,
                _ => effective,
            };
            let cpus = CpuList::parse(&text).map_err(|error| Unread::Other(error.to_string()))?;
            irqs.push(Irq { number, cpus });
        }
        Ok(irqs)
    }

    fn irqs(&self) -> Finding {
        let item = self
            .item(
                "irq affinity",
                "device/msi_irqs",
                "a queue's interrupt belongs on its shard's core, or on a core without a shard; else it takes the time of some shard and the caches of another",
            )
            .risk("irqbalance undoes it while it runs; interrupts the kernel manages refuse it");
        let irqs = match self.queue_irqs() {
            Ok(irqs) if irqs.is_empty() => {
                return item.na("none of its interrupts has a name that a queue's has");
            }
            Ok(irqs) => irqs,
            Err(error) => return item.unread(&error),
        };
        let (shards, free) = (self.shards(), &self.wanted.plan.irq_cpus);
        // With fewer queues than shards a queue is nobody's, and goes to a core without a shard if there is one.
        let own = self.queues("rx-").len() >= shards.cpus().len() || free.is_empty();
        let most = irqs.len().div_ceil(shards.cpus().len());
        let on = |cpu: u16| irqs.iter().filter(|irq| irq.cpus.contains(cpu)).count();
        let in_place = |irq: &Irq| {
            let all_free = irq.cpus.cpus().iter().all(|cpu| free.contains(cpu));
            let one = matches!(irq.cpus.cpus(), [cpu] if shards.contains(*cpu) && on(*cpu) <= most);
            all_free || own && one
        };
        let places: Vec<String> = irqs.iter().map(|irq| format!("{}→{}", irq.number, irq.cpus)).collect();
        if irqs.iter().all(in_place) {
            return item.ok(places.join(" "));
        }
        let targets = if own { shards.cpus() } else { free };
        let commands: Vec<String> = irqs
            .iter()
            .enumerate()
            .map(|(index, irq)| {
                // A device with two interrupts a queue has them side by side.
                let target = targets[index * targets.len() / irqs.len().max(targets.len())];
                format!("echo {target} > /proc/irq/{}/smp_affinity_list", irq.number)
            })
            .collect();
        let whose = if own { "spread over the shards'" } else { "on those without a shard" };
        let list: CpuList = targets.iter().copied().collect();
        item.warn(places.join(" "), format!("one processor each, {whose}: {list}"), commands.join("; "))
    }

    fn rps(&self) -> Finding {
        const ENTRIES: &str = "/proc/sys/net/core/rps_sock_flow_entries";
        let item = self
            .item("rps", "queues/rx-*/rps_cpus", "with fewer queues than shards, software must carry packets to the shard that wants them; with enough, it is one more interrupt")
            .risk("more interrupts between cores");
        let queues = self.queues("rx-");
        let shards = self.shards();
        let read = |file: &str| -> Result<Vec<String>, Unread> {
            queues
                .iter()
                .map(|queue| self.host.word(&self.path(&format!("queues/rx-{queue}/{file}"))))
                .collect()
        };
        let (masks, flows) = match (read("rps_cpus"), read("rps_flow_cnt")) {
            (Ok(masks), Ok(flows)) if !masks.is_empty() => (masks, flows),
            (Ok(_), Ok(_)) => return item.na("the device names no queues"),
            (Err(error), _) | (_, Err(error)) => return item.unread(&error),
        };
        let Some(sets) = masks.iter().map(|text| unmask(text)).collect::<Option<Vec<_>>>() else {
            return item.na(format!("{masks:?} are no masks of processors"));
        };
        let folder = format!("{}/queues/rx-*", quoted(&self.folder));
        let off = sets.iter().all(|set| set.cpus().is_empty());
        let current = if off {
            "off".to_owned()
        } else {
            format!("masks {}, flows {}", masks.join(" "), flows.join(" "))
        };
        if queues.len() >= shards.cpus().len() {
            return if off {
                item.fine(current, "there are as many queues as cores with shards")
            } else {
                item.warn(current, "off", format!("echo 0 | tee {folder}/rps_cpus"))
            };
        }
        let per_queue = RPS_FLOWS / queues.len() as i64;
        let entries = self.host.number(ENTRIES).unwrap_or(0);
        let counted = flows.iter().all(|flow| flow.parse::<i64>().is_ok_and(|flow| flow >= per_queue));
        if sets.iter().all(|set| *set == shards) && counted && entries >= RPS_FLOWS {
            return item.ok(current);
        }
        item.warn(
            format!("{current}; net.core.rps_sock_flow_entries {entries}"),
            format!("all shards' cores ({shards}), {per_queue} flows a queue"),
            format!(
                "echo {} | tee {folder}/rps_cpus; echo {per_queue} | tee {folder}/rps_flow_cnt; sysctl -w net.core.rps_sock_flow_entries={RPS_FLOWS}",
                mask(&shards)
            ),
        )
    }

    fn xps(&self) -> Finding {
        let item = self.item(
            "xps",
            "queues/tx-*/xps_cpus",
            "each shard sends by a queue of its own, and waits for no lock of another's",
        );
        let queues = self.queues("tx-");
        if queues.len() <= 1 {
            return item.na("there is one queue to send by, so there is nothing to choose");
        }
        let mut sets = Vec::new();
        for queue in &queues {
            match self.host.word(&self.path(&format!("queues/tx-{queue}/xps_cpus"))) {
                Ok(text) => match unmask(&text) {
                    Some(set) => sets.push(set),
                    None => return item.na(format!("{text:?} is no mask of processors")),
                },
                Err(error) => return item.unread(&error),
            }
        }
        let shards = self.shards();
        let served = |cpu: &u16| sets.iter().any(|set| set.contains(*cpu));
        let current = sets.iter().map(mask).collect::<Vec<_>>().join(" ");
        if shards.cpus().iter().all(served) {
            return item.ok(format!("masks {current}"));
        }
        let commands: Vec<String> = (0..queues.len())
            .map(|index| {
                let own = shards.cpus().iter().enumerate().filter(|(shard, _)| shard % queues.len() == index);
                let set: CpuList = own.map(|(_, &cpu)| cpu).collect();
                let path = self.path(&format!("queues/tx-{}/xps_cpus", queues[index]));
                format!("echo {} > {}", mask(&set), quoted(&path))
            })
            .collect();
        item.warn(format!("masks {current}"), format!("a queue for each of {shards}"), commands.join("; "))
    }

    fn drops(&self) -> Finding {
        let item = self
            .item("drops", "statistics", "since the device came up, packets found no place in its ring")
            .risk("a larger ring leaves the caches");
        let mut lost = Vec::new();
        for name in ["rx_missed_errors", "rx_fifo_errors"] {
            match self.host.number(&self.path(&format!("statistics/{name}"))) {
                Ok(0) => {}
                Ok(number) => lost.push(format!("{name} {number}")),
                Err(error) => return item.unread(&error),
            }
        }
        if lost.is_empty() {
            item.fine("none", "no packet was lost for want of a place in the ring")
        } else {
            item.warn(lost.join(", "), "none", format!("ethtool -G {} rx 2048", quoted(self.name)))
        }
    }

    fn number(&self, item: &'static str, values: &[i64], file: &str, reason: &'static str) -> Finding {
        let item = self.item(item, file, reason);
        match self.host.number(&item.path) {
            Ok(number) if values.contains(&number) => item.ok(number.to_string()),
            Ok(number) => {
                let command = format!("echo {} > {}", values[0], quoted(&item.path));
                item.warn(number.to_string(), values[0].to_string(), command)
            }
            Err(error) => item.unread(&error),
        }
    }

    /// Deferred interrupts pay where rings poll the device themselves, which this server's do not; elsewhere each message waits for the timer.
    fn deferral(&self) -> Finding {
        let item = self
            .item(
                "gro_flush_timeout",
                "gro_flush_timeout",
                "packets wait so long, in nanoseconds, when interrupts are deferred, and no ring of this server polls the device meanwhile",
            )
            .risk("more interrupts at load");
        let hard = self.host.number(&self.path("napi_defer_hard_irqs"));
        match (self.host.number(&item.path), hard) {
            (Ok(timeout), Ok(hard)) if timeout > 200_000 && hard > 0 => {
                let command = format!("echo 0 > {}", quoted(&item.path));
                item.warn(format!("{timeout}, napi_defer_hard_irqs {hard}"), "at most 200000", command)
            }
            (Ok(timeout), Ok(hard)) => item.fine(
                format!("{timeout}, napi_defer_hard_irqs {hard}"),
                "no message waits longer than 200 µs for an interrupt that is put off",
            ),
            (Err(error), _) | (_, Err(error)) => item.unread(&error),
        }
    }

    fn mtu(&self) -> Finding {
        let item = self.item("mtu", "mtu", "");
        match self.host.number(&item.path) {
            Ok(mtu) if mtu < MTU => {
                item.fine(mtu.to_string(), "below 1500: the network is a tunnel, and knows why")
            }
            Ok(mtu) => {
                item.fine(mtu.to_string(), "towards visitors 1500; only links to other servers gain by more")
            }
            Err(error) => item.unread(&error),
        }
    }

    fn numa(&self) -> Finding {
        let item = self
            .item(
                "numa",
                "device/numa_node",
                "packets of a device on another node cross between the sockets before a shard sees them",
            )
            .risk("the cores of the other nodes are left to others: measure both ways");
        let nodes = cpu::nodes(self.host);
        if nodes.len() <= 1 {
            return item.na("the kernel names no second node");
        }
        let node = match self.host.number(&item.path) {
            Err(Unread::Missing) => self.host.number(&self.path("device/../numa_node")),
            other => other,
        };
        match node {
            Ok(node) if node < 0 => item.na("the firmware does not say to which node the device belongs"),
            Ok(node) => {
                let on = cpu::shard_nodes(&nodes, self.wanted);
                if on.iter().all(|&shards| i64::from(shards) == node) {
                    return item.ok(format!("node {node}, as the shards"));
                }
                let Some((_, cpus)) = nodes.iter().find(|&&(number, _)| i64::from(number) == node) else {
                    return item.na(format!("it says node {node}, which does not exist"));
                };
                let names: Vec<String> = on.iter().map(u32::to_string).collect();
                let command = super::unit(
                    self.host,
                    &format!("CPUAffinity={cpus}"),
                    &format!("numactl --cpunodebind={node} --membind={node} ringdesk serve"),
                );
                item.warn(
                    format!("node {node}, shards on {}", names.join(" and ")),
                    format!("shards on node {node}"),
                    command,
                )
            }
            Err(error) => item.unread(&error),
        }
    }
}

fn rdma(host: &dyn Host) -> Finding {
    const PATH: &str = "/sys/class/infiniband";
    let item = Item::new(Area::Nic, "rdma devices", PATH, "");
    match host.names(PATH) {
        Ok(mut names) if !names.is_empty() => {
            names.sort_unstable();
            item.fine(names.join(" "), "visitors' browsers speak TCP: RDMA serves links between servers only")
        }
        Ok(_) | Err(Unread::Missing) => item.na("there is no device that can do RDMA"),
        Err(error) => item.unread(&error),
    }
}

fn smc(host: &dyn Host, wanted: &Wanted) -> Finding {
    const PATH: &str = "/proc/net/protocols";
    let item = Item::new(
        Area::Nic,
        "smc",
        PATH,
        "for links between servers in one subnet only; on a listener for visitors each connection would pin memory for nothing",
    );
    let there = match host.text(PATH) {
        Ok(text) => text
            .lines()
            .any(|line| line.split_whitespace().next().is_some_and(|name| name.starts_with("SMC"))),
        Err(error) => return item.unread(&error),
    };
    let rdma = host.names("/sys/class/infiniband").is_ok_and(|names| !names.is_empty());
    // A server under smc_run has the library in its environment.
    let environment = host.text(&format!("{}/environ", wanted.process())).unwrap_or_default();
    if environment.split('\0').any(|variable| variable.starts_with("LD_PRELOAD=") && variable.contains("smc"))
    {
        return item.warn(
            "the server runs under smc_run",
            "without",
            "systemctl edit ringdesk  # take smc_run out of ExecStart",
        );
    }
    match (there, rdma) {
        (true, _) => item.ok("the kernel has it"),
        (false, true) => item.fine(
            "not loaded",
            "a link to a server in the same subnet could use it: `modprobe smc`, then smc_run for that peer",
        ),
        (false, false) => item.na("there is no device that can do RDMA, which SMC-R needs"),
    }
}

fn bypass() -> Finding {
    Item::new(Area::Nic, "af_xdp, dpdk", "", "")
        .na("not used: a stack of its own would lose the kernel's TCP, TLS and firewall")
}
