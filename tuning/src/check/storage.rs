//! The file system and the disks that hold the data.

use super::Wanted;
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, Unread, chosen, quoted};

const MOUNTS: &str = "/proc/self/mountinfo";
const BLOCK: &str = "/sys/class/block";
/// Devices may stand on devices (a file system on LVM on RAID on partitions); nobody stacks more.
const STACK_MAX: usize = 8;

pub(super) fn check(host: &dyn Host, wanted: &Wanted) -> Vec<Finding> {
    let item = Item::new(Area::Storage, "file system", MOUNTS, "").of(&wanted.data_dir);
    let mount = match host.text(MOUNTS) {
        Ok(text) => Mount::of(&text, &wanted.data_dir),
        Err(error) => return vec![item.unread(&error)],
    };
    let Some(mount) = mount else {
        return vec![item.na(format!("{MOUNTS} does not say what is mounted there"))];
    };
    let mut findings = vec![mount.kind(wanted)];
    if matches!(mount.kind.as_str(), "tmpfs" | "ramfs" | "overlay") {
        let none = |item| mount.item(item, "").na("of no account until the data are on a disk");
        findings.extend(["time stamps", "discard", "barrier"].map(none));
    } else {
        findings.extend([mount.times(), mount.discard(), mount.barrier(wanted)]);
    }
    let disks = mount.disks(host);
    if disks.is_empty() {
        let item = Item::new(Area::Storage, "disk", MOUNTS, "").of(&mount.source);
        findings.push(item.na(format!("{} has no block device that can be seen here", mount.kind)));
    }
    for name in &disks {
        findings.extend(disk(host, name));
    }
    let doctor = |item, what: &str| {
        Item::new(Area::Storage, item, "", "").na(format!("{what}: doctor does")).look("ringdesk doctor")
    };
    findings.extend([
        doctor("alignment", "what direct writes have to be aligned to has to be asked of the file"),
        doctor("latency", "how long a commit takes has to be measured"),
    ]);
    findings
}

/// A line of mountinfo: `36 35 98:0 /root /at rw,noatime shared:1 - ext4 /dev/sda1 rw,lazytime` (proc_pid_mountinfo(5)).
struct Mount {
    number: String,
    at: String,
    options: Vec<String>,
    kind: String,
    source: String,
}

impl Mount {
    /// What the path is on: the deepest mount above it, and of several at one place the last.
    fn of(text: &str, path: &str) -> Option<Mount> {
        let above = |at: &str| {
            at == "/" || path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        text.lines()
            .filter_map(Mount::parse)
            .filter(|mount| above(&mount.at))
            .max_by_key(|mount| mount.at.len())
    }

    fn parse(line: &str) -> Option<Mount> {
        let (first, second) = line.split_once(" - ")?;
        let first: Vec<&str> = first.split(' ').collect();
        let second: Vec<&str> = second.split(' ').collect();
        let options = first.get(5)?.split(',').chain(second.get(2).unwrap_or(&"").split(','));
        Some(Mount {
            number: (*first.get(2)?).to_owned(),
            at: unescaped(first.get(4)?),
            options: options.map(str::to_owned).collect(),
            kind: (*second.first()?).to_owned(),
            source: unescaped(second.get(1)?),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    fn item(&self, item: &'static str, reason: &'static str) -> Item {
        Item::new(Area::Storage, item, MOUNTS, reason).of(&self.at)
    }

    fn remount(&self, options: &str) -> String {
        format!("mount -o remount,{options} {}  # and in /etc/fstab", quoted(&self.at))
    }

    fn kind(&self, wanted: &Wanted) -> Finding {
        let item = self.item(
            "file system",
            "journals are written beside the page cache, and flushed for every group of messages",
        );
        let move_it = "none: put storage.data_dir on XFS or ext4 on a disk of this host";
        match self.kind.as_str() {
            "ext4" | "xfs" => item.ok(&self.kind),
            "tmpfs" | "ramfs" if wanted.durable => item
                .fail(&self.kind, "xfs or ext4", move_it)
                .because("memory is no disk: what was acknowledged is gone after a reboot, and storage.durability promises otherwise"),
            "tmpfs" | "ramfs" => item.warn(&self.kind, "xfs or ext4", move_it).because("what was said is gone after a reboot"),
            "overlay" => item
                .warn(&self.kind, "a volume", "none: mount a volume at storage.data_dir")
                .because("a container's own layer is slow to write, and goes with the container"),
            _ => item
                .warn(&self.kind, "xfs or ext4", move_it)
                .because("only XFS and ext4 are tested; on others direct writes or their flushes may be slow or missing"),
        }
    }

    fn times(&self) -> Finding {
        let item = self
            .item(
                "time stamps",
                "reading and writing a journal also writes its times, now and then in the way of a commit",
            )
            .risk("times of files are written late, and those of reading not at all");
        let there: Vec<&str> =
            ["noatime", "relatime", "strictatime", "lazytime"].into_iter().filter(|o| self.has(o)).collect();
        let current = if there.is_empty() { "neither".to_owned() } else { there.join(",") };
        if self.has("noatime") && self.has("lazytime") {
            item.ok(current)
        } else {
            item.warn(current, "noatime,lazytime", self.remount("noatime,lazytime"))
        }
    }

    fn discard(&self) -> Finding {
        let item = self
            .item("discard", "the disk is told of every freed block at once, and commits wait meanwhile")
            .risk("freed blocks are told of once a week instead");
        if self.has("discard") || self.options.iter().any(|o| o.starts_with("discard=")) {
            let command = format!(
                "{}; systemctl enable --now fstrim.timer",
                self.remount("nodiscard").replace("  # and in /etc/fstab", "")
            );
            item.warn("on", "off, and fstrim.timer", command)
        } else {
            item.fine("off", "freed blocks do not get in the way of commits")
        }
    }

    fn barrier(&self, wanted: &Wanted) -> Finding {
        let item = self.item("barrier", "without it the file system does not flush the disk's cache: a power cut takes what was acknowledged")
            .risk("each commit takes as long as the disk really needs");
        let off = ["nobarrier", "barrier=0"].into_iter().find(|o| self.has(o));
        match off {
            None => item.fine("on", "the file system flushes the disk's cache when it is asked to"),
            Some(option) if wanted.durable => item.fail(option, "on", self.remount("barrier")),
            Some(option) => item.warn(option, "on", self.remount("barrier")),
        }
    }

    /// The whole disks under the file system, by name.
    fn disks(&self, host: &dyn Host) -> Vec<String> {
        let mut disks = Vec::new();
        let name = device_name(host, &format!("/sys/dev/block/{}", self.number)).or_else(|| {
            // File systems that span devices (btrfs) have a number of their own, and name one of the devices.
            let name = self.source.strip_prefix("/dev/")?.replace('/', "!");
            host.has(&format!("{BLOCK}/{name}/uevent")).then_some(name)
        });
        if let Some(name) = name {
            below(host, &name, STACK_MAX, &mut disks);
        }
        disks
    }
}

/// Blanks and the like are written in octal: `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// What the kernel calls the device of a folder; in `/sys` a slash in a name is written as `!`.
fn device_name(host: &dyn Host, folder: &str) -> Option<String> {
    let text = host.text(&format!("{folder}/uevent")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(|name| name.replace('/', "!"))
}

fn below(host: &dyn Host, name: &str, depth: usize, disks: &mut Vec<String>) {
    let whole = if host.has(&format!("{BLOCK}/{name}/partition")) {
        device_name(host, &format!("{BLOCK}/{name}/..")).unwrap_or_else(|| name.to_owned())
    } else {
        name.to_owned()
    };
    let mut parts = host.names(&format!("{BLOCK}/{whole}/slaves")).unwrap_or_default();
    parts.sort_unstable();
    if parts.is_empty() || depth == 0 {
        if !disks.contains(&whole) {
            disks.push(whole);
        }
        return;
    }
    for part in parts {
        below(host, &part, depth - 1, disks);
    }
}

fn disk(host: &dyn Host, name: &str) -> Vec<Finding> {
    vec![write_cache(host, name), scheduler(host, name), nomerges(host, name), queues(host, name)]
}

fn queue(name: &str, file: &str) -> String {
    format!("{BLOCK}/{name}/queue/{file}")
}

fn write_cache(host: &dyn Host, name: &str) -> Finding {
    let item = Item::new(
        Area::Storage,
        "write cache",
        queue(name, "write_cache"),
        "a disk that keeps writes in a volatile cache has to be flushed for each group commit",
    )
    .of(name)
    .risk("never write \"write through\" to this file for a volatile cache: the kernel would stop to flush it, and a power cut would take what was acknowledged");
    let cache = match host.word(&item.path) {
        Ok(cache) => cache,
        Err(error) => return item.unread(&error),
    };
    match (cache.as_str(), host.number(&queue(name, "fua"))) {
        ("write through", _) => item.fine(cache, "what the disk has taken, it keeps: no flush is needed"),
        ("write back", Ok(1)) => item.fine(
            "write back, fua",
            "a single write can be made to last (FUA), without a flush of everything else",
        ),
        ("write back", Ok(_)) => item.warn(
            "write back, no fua",
            "write through, or fua",
            "none: it takes a disk with power-loss protection",
        ),
        ("write back", Err(error)) => {
            item.na(format!("write back, and whether it has FUA cannot be told: queue/fua {error}"))
        }
        (other, _) => item.na(format!("the kernel says {other:?}")),
    }
}

fn scheduler(host: &dyn Host, name: &str) -> Finding {
    let item = Item::new(
        Area::Storage,
        "scheduler",
        queue(name, "scheduler"),
        "the journal is one stream in order: a scheduler has nothing to order, and takes time for it",
    )
    .of(name)
    .risk("other programs' reads may wait behind writes");
    let text = match host.word(&item.path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    // Virtual disks say that they turn, whatever is behind them.
    let turns = host.number(&queue(name, "rotational")).is_ok_and(|number| number == 1)
        && !["vd", "xvd", "nvme"].iter().any(|prefix| name.starts_with(prefix));
    match chosen(&text).unwrap_or(&text) {
        "none" => item.ok("none"),
        word if turns => item.fine(word, "a disk that turns is helped by a scheduler"),
        word => {
            let command = format!("echo none > {}", quoted(&item.path));
            item.warn(word, "none", command)
        }
    }
}

fn nomerges(host: &dyn Host, name: &str) -> Finding {
    let item = Item::new(
        Area::Storage,
        "nomerges",
        queue(name, "nomerges"),
        "blocks of a journal are whole already; looking for neighbours to merge with takes time",
    )
    .of(name)
    .risk("other programs' small writes are not merged");
    match host.number(&item.path) {
        Ok(2) => item.ok("2"),
        Ok(number) => {
            let command = format!("echo 2 > {}", quoted(&item.path));
            item.warn(number.to_string(), "2", command)
        }
        Err(error) => item.unread(&error),
    }
}

/// The kernel binds the interrupts of a disk's queues itself, and spreads them; how many there are is the device's.
fn queues(host: &dyn Host, name: &str) -> Finding {
    let path = format!("{BLOCK}/{name}/mq");
    let item = Item::new(Area::Storage, "queues", path.clone(), "").of(name);
    match host.names(&path) {
        Ok(names) => item.fine(names.len().to_string(), "the kernel spreads them over the processors"),
        Err(Unread::Missing) => item.na("the device has no queues of its own"),
        Err(error) => item.unread(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_above_a_path_is_its_own() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw,noatime shared:3 - xfs /dev/sda2 rw,lazytime\n\
                    3 2 0:9 / /srv/a\\040b rw - tmpfs none rw\n";
        let on = |path| Mount::of(text, path).map(|mount| (mount.number, mount.at));
        assert_eq!(on("/srv/data"), Some(("8:2".to_owned(), "/srv".to_owned())));
        assert_eq!(on("/srvx"), Some(("8:1".to_owned(), "/".to_owned())));
        assert_eq!(on("/srv/a b/c"), Some(("0:9".to_owned(), "/srv/a b".to_owned())));
        let mount = Mount::of(text, "/srv").unwrap();
        assert!(mount.has("noatime") && mount.has("lazytime"), "{:?}", mount.options);
    }

    #[test]
    fn an_escape_that_is_none_stays() {
        assert_eq!(unescaped(r"a\040b\011c\x"), "a b\tc\\x");
    }
}
