//! Processors, the cores they belong to, and how much of them this process may use.

use core::fmt;

use crate::cgroup;
use crate::host::{Host, Unread};
use crate::list::{CpuList, ListError};

/// One physical core and the processors (hardware threads) on it that this process may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Core {
    /// Ascending; never empty.
    pub cpus: Vec<u16>,
}

/// What this process may run on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Physical cores, by their first processor; never empty.
    pub cores: Vec<Core>,
    /// The control group's allowance in thousandths of a processor; `None` means no bound.
    pub quota_milli: Option<u32>,
    /// The processor's name, for people.
    pub model: String,
}

/// Why the host could not be understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopologyError {
    /// A file has no list of processors in it.
    List {
        /// Which file.
        path: &'static str,
        /// What it says.
        error: ListError,
    },
    /// No processor is both online and allowed.
    NoProcessor,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyError::List { path, error } => write!(f, "{path}: {error}"),
            TopologyError::NoProcessor => {
                write!(f, "no processor is both online and allowed to this process")
            }
        }
    }
}

const CPUINFO: &str = "/proc/cpuinfo";
const STATUS: &str = "/proc/self/status";
const ONLINE: &str = "/sys/devices/system/cpu/online";

impl Topology {
    /// Reads the host through `read`, which gives the text of a file or `None`.
    ///
    /// Asked for: `/sys/devices/system/cpu/online`, `/sys/devices/system/cpu/cpuN/topology/thread_siblings_list`, `/proc/self/status`,
    /// `/proc/cpuinfo`, and `/proc/self/cgroup` with the quotas of the groups it names. What is missing is replaced by what assumes least: every processor
    /// a core of its own, no bound.
    pub fn read(read: impl Fn(&str) -> Option<String>) -> Result<Topology, TopologyError> {
        let cpuinfo = read(CPUINFO).unwrap_or_default();
        let online = match read(ONLINE) {
            Some(text) => {
                CpuList::parse(&text).map_err(|error| TopologyError::List { path: ONLINE, error })?
            }
            None => values(&cpuinfo, "processor").filter_map(|number| number.parse().ok()).collect(),
        };
        let allowed = match read(STATUS).as_deref().and_then(|text| values(text, "Cpus_allowed_list").next())
        {
            Some(text) => {
                Some(CpuList::parse(text).map_err(|error| TopologyError::List { path: STATUS, error })?)
            }
            None => None,
        };
        let usable: CpuList = online
            .cpus()
            .iter()
            .copied()
            .filter(|&cpu| allowed.as_ref().is_none_or(|a| a.contains(cpu)))
            .collect();

        let mut cores: Vec<Core> = Vec::new();
        for &cpu in usable.cpus() {
            if cores.iter().any(|core| core.cpus.contains(&cpu)) {
                continue;
            }
            let siblings = read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
                .and_then(|text| CpuList::parse(&text).ok());
            let mut cpus: Vec<u16> = siblings
                .iter()
                .flat_map(CpuList::cpus)
                .copied()
                .filter(|&sibling| usable.contains(sibling))
                .collect();
            if !cpus.contains(&cpu) {
                cpus = vec![cpu];
            }
            cores.push(Core { cpus });
        }
        if cores.is_empty() {
            return Err(TopologyError::NoProcessor);
        }
        Ok(Topology {
            cores,
            quota_milli: cgroup::quota(&Reader(&read), "/proc/self").map(|quota| quota.value),
            model: values(&cpuinfo, "model name").next().unwrap_or("unknown").to_owned(),
        })
    }

    /// Processors this process may use.
    pub fn cpu_count(&self) -> usize {
        self.cores.iter().map(|core| core.cpus.len()).sum()
    }
}

/// Files alone make a host that has no folders.
struct Reader<R>(R);

impl<R: Fn(&str) -> Option<String>> Host for Reader<R> {
    fn text(&self, path: &str) -> Result<String, Unread> {
        (self.0)(path).ok_or(Unread::Missing)
    }

    fn names(&self, _path: &str) -> Result<Vec<String>, Unread> {
        Err(Unread::Missing)
    }
}

/// The values of `key : value` lines.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}
