//! The host on which a run was made.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// The host of the generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Of its kernel.
    pub(crate) kernel: String,
    /// As it calls itself.
    pub(crate) processor: String,
    /// Cores that are online.
    pub(crate) cores: usize,
    /// Memory in bytes.
    pub(crate) memory: u64,
    /// What `ringdesk tune --check` said of it, when a server was started here.
    #[serde(default)]
    pub(crate) tuning: Option<Tuning>,
}

/// How the host is tuned: what `ringdesk tune --check --json` says, shortened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Tuning {
    /// Items that are as they should be.
    pub(crate) ok: u64,
    /// Items that could be better, or do not serve.
    pub(crate) ill: Vec<Ill>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ill {
    /// `WARN` or `FAIL`.
    pub(crate) state: String,
    /// What was looked at, and which device.
    pub(crate) item: String,
    /// What is there.
    pub(crate) current: String,
    /// What should be there.
    pub(crate) wanted: String,
}

impl Tuning {
    /// Asks the server's program; none if it does not answer.
    fn ask(bin: &Path, shards: u16) -> Option<Tuning> {
        let output = std::process::Command::new(bin)
            .args(["tune", "--check", "--json", "--shards", &shards.to_string()])
            .stderr(std::process::Stdio::null())
            .output()
            .ok()?;
        Tuning::read(&serde_json::from_slice(&output.stdout).ok()?)
    }

    fn read(said: &serde_json::Value) -> Option<Tuning> {
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let ill = said["findings"]
            .as_array()?
            .iter()
            .filter(|finding| ["WARN", "FAIL"].contains(&finding["state"].as_str().unwrap_or_default()))
            .map(|finding| Ill {
                state: text(finding, "state"),
                item: format!("{} {}", text(finding, "item"), text(finding, "subject")).trim_end().to_owned(),
                current: text(finding, "current"),
                wanted: text(finding, "wanted"),
            })
            .collect();
        Some(Tuning { ok: said["counts"]["ok"].as_u64()?, ill })
    }
}

impl Host {
    /// Looks at `/proc`, and asks the server's program how the host is tuned, if one is started here.
    pub(crate) fn look(started: Option<(&Path, u16)>) -> Host {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        Host {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: memory.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
                * 1024,
            tuning: started.and_then(|(bin, shards)| Tuning::ask(bin, shards)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ill_of_a_host_is_told_and_nothing_else() {
        let said = serde_json::json!({
            "counts": {"ok": 2},
            "findings": [
                {"item": "governor", "subject": null, "state": "OK", "current": "performance", "wanted": ""},
                {"item": "scheduler", "subject": "vda", "state": "WARN", "current": "mq-deadline", "wanted": "none"},
                {"item": "coalescing", "subject": "eth0", "state": "NA", "current": "", "wanted": ""},
            ],
        });
        let tuning = Tuning::read(&said).unwrap();
        assert_eq!((tuning.ok, tuning.ill.len()), (2, 1));
        assert_eq!(tuning.ill[0].item, "scheduler vda");
        assert_eq!(Tuning::read(&serde_json::json!({"findings": 3})), None);
    }
}
