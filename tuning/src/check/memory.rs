//! Memory: huge pages, swap, reserves.

use super::{Rule, Sysctl, sysctl_set};
use crate::finding::{Area, Finding, Item};
use crate::host::{Host, chosen, field};

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// What the kernel keeps free for packets that come in an interrupt, in KiB, and the part of a small host's memory that is enough.
const MIN_FREE_KIB: u64 = 262_144;
const MIN_FREE_PART: u64 = 20;

pub(super) fn check(host: &dyn Host) -> Vec<Finding> {
    let maps = Sysctl {
        area: Area::Memory,
        name: "vm.max_map_count",
        rule: Rule::AtLeast(65_530),
        reason: "rings, buffers, stacks and the allocator each take some maps",
        risk: "",
    };
    vec![thp(host), defrag(host), swap(host), min_free(host), maps.check(host)]
}

/// The KiB of a line of `/proc/meminfo`.
pub(super) fn kib(meminfo: &str, key: &str) -> Option<u64> {
    field(meminfo, key)?.split_whitespace().next()?.parse().ok()
}

fn thp(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Memory,
        "transparent_hugepage",
        format!("{THP}/enabled"),
        "with always, any page fault may stop a shard to look for a huge page, and memory grows by what is rounded up",
    );
    not_always(host, item.risk("other programs may lose huge pages they did not ask for"))
}

fn defrag(host: &dyn Host) -> Finding {
    let item = Item::new(
        Area::Memory,
        "transparent_hugepage defrag",
        format!("{THP}/defrag"),
        "with always, a page fault waits until memory is compacted",
    );
    not_always(host, item)
}

/// Either file of huge pages: all but `always` is well.
fn not_always(host: &dyn Host, item: Item) -> Finding {
    let text = match host.word(&item.path) {
        Ok(text) => text,
        Err(error) => return item.unread(&error),
    };
    match chosen(&text) {
        Some("always") => {
            let command = format!("echo madvise > {}", item.path);
            item.warn("always", "madvise", command)
        }
        Some(word) => item.ok(word),
        None => {
            let said = format!("{} says {text:?}", item.path);
            item.na(said)
        }
    }
}

fn swap(host: &dyn Host) -> Finding {
    const NAME: &str = "vm.swappiness";
    let item = Item::new(
        Area::Memory,
        NAME,
        super::sysctl_path(NAME),
        "a shard that waits for a page from a disk lets all its chats wait",
    )
    .risk("under pressure the page cache goes first");
    let areas = match host.text("/proc/swaps") {
        Ok(text) => text.lines().skip(1).filter(|line| !line.trim().is_empty()).count(),
        // A kernel without swap has no such file.
        Err(crate::host::Unread::Missing) => 0,
        Err(error) => return Item { path: "/proc/swaps".to_owned(), ..item }.unread(&error),
    };
    match host.number(&item.path) {
        Ok(number) if areas == 0 => item.fine(number.to_string(), "there is no swap, so it has no effect"),
        Ok(number) if number <= 1 => item.ok(number.to_string()),
        Ok(number) => item.warn(
            format!("{number}, with {areas} areas of swap"),
            "at most 1, or no swap",
            sysctl_set(NAME, "1"),
        ),
        Err(error) => item.unread(&error),
    }
}

fn min_free(host: &dyn Host) -> Finding {
    const NAME: &str = "vm.min_free_kbytes";
    let item = Item::new(
        Area::Memory,
        NAME,
        super::sysctl_path(NAME),
        "packets that come in an interrupt take memory that is free at that moment, or are dropped",
    )
    .risk("memory that programs cannot use");
    let total = host.text("/proc/meminfo").ok().and_then(|text| kib(&text, "MemTotal"));
    let Some(total) = total else {
        return item.na("/proc/meminfo does not say how much memory there is");
    };
    let needed = MIN_FREE_KIB.min(total / MIN_FREE_PART);
    match host.number(&item.path) {
        Ok(number) if u64::try_from(number).is_ok_and(|number| number >= needed) => {
            item.ok(number.to_string())
        }
        Ok(number) => {
            item.warn(number.to_string(), format!("at least {needed}"), sysctl_set(NAME, &needed.to_string()))
        }
        Err(error) => item.unread(&error),
    }
}
