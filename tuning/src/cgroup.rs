//! The control groups a process runs in, of both versions: the files that bound it are those of its own group and of every group above it.

use crate::host::Host;

/// A bound, and the file that sets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bound<T> {
    pub(crate) value: T,
    pub(crate) path: String,
}

/// The groups' folders for a controller, the process's own first, and whether they are of version 2.
///
/// `/proc/self/cgroup` has `0::/path` for version 2 and `4:memory:/path` for each hierarchy of version 1. In a container without a namespace of its own for
/// groups the path is the host's and does not exist below the mount; then the mount itself is the process's group.
pub(crate) fn folders(host: &dyn Host, process: &str, controller: &str) -> (Vec<String>, bool) {
    let text = host.text(&format!("{process}/cgroup")).unwrap_or_default();
    let mut own = ("", true);
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.split(',').any(|name| name == controller) {
            own = (path, false);
            break;
        }
        if number == "0" {
            own = (path, true);
        }
    }
    let (path, second) = own;
    let mount = if second { "/sys/fs/cgroup".to_owned() } else { format!("/sys/fs/cgroup/{controller}") };
    let mut folders = Vec::new();
    let mut path = path.trim_end_matches('/');
    while !path.is_empty() {
        folders.push(format!("{mount}{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    folders.push(mount);
    (folders, second)
}

/// The least of what the groups say; `None` if none of them bounds it.
fn least<T: Ord>(bounds: impl Iterator<Item = Bound<T>>) -> Option<Bound<T>> {
    bounds.min_by(|a, b| a.value.cmp(&b.value))
}

/// The processors' time the groups allow, in thousandths of a processor.
pub(crate) fn quota(host: &dyn Host, process: &str) -> Option<Bound<u32>> {
    let (folders, second) = folders(host, process, "cpu");
    least(folders.into_iter().filter_map(|folder| {
        let (path, text) = if second {
            let path = format!("{folder}/cpu.max");
            let text = host.text(&path).ok()?;
            (path, text)
        } else {
            let path = format!("{folder}/cpu.cfs_quota_us");
            let quota = host.word(&path).ok()?;
            let period = host.word(&format!("{folder}/cpu.cfs_period_us")).ok()?;
            (path, format!("{quota} {period}"))
        };
        Some(Bound { value: quota_milli(&text)?, path })
    }))
}

/// `max 100000` or `250000 100000`: microseconds of a period; version 1 says -1 for no bound.
fn quota_milli(text: &str) -> Option<u32> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    u32::try_from(quota.checked_mul(1_000)?.checked_div(period)?).ok()
}

/// Version 1 says "no bound" with the largest number of whole pages; nobody means so much.
const NO_MEMORY_BOUND: u64 = 1 << 60;

/// Bytes of memory above which something is killed.
pub(crate) fn memory_max(host: &dyn Host, process: &str) -> Option<Bound<u64>> {
    let (folders, second) = folders(host, process, "memory");
    let file = if second { "memory.max" } else { "memory.limit_in_bytes" };
    bytes(host, folders, file)
}

/// Bytes of memory above which the process is slowed down. Version 1 has no such bound.
pub(crate) fn memory_high(host: &dyn Host, process: &str) -> Option<Bound<u64>> {
    let (folders, second) = folders(host, process, "memory");
    if second { bytes(host, folders, "memory.high") } else { None }
}

fn bytes(host: &dyn Host, folders: Vec<String>, file: &str) -> Option<Bound<u64>> {
    least(folders.into_iter().filter_map(|folder| {
        let path = format!("{folder}/{file}");
        let value = host.word(&path).ok()?.parse().ok().filter(|&bytes| bytes < NO_MEMORY_BOUND)?;
        Some(Bound { value, path })
    }))
}
