//! Where the server would live: the data directory and its disk, the ports.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use edge::disk::{Figures, Lock, Strategy, alignment, measure};

use super::Finding;
use crate::config::{Config, Durability, Sync};

/// A group commit that takes longer than this is felt by people.
const SLOW_COMMIT_US: u64 = 20_000;

/// All of it.
pub(super) fn all(config: &Config, shards: u16) -> Vec<Finding> {
    let data_dir = &config.storage.data_dir;
    let holder = Lock::holder(data_dir);
    let mut findings = vec![directory(data_dir, holder), space(config)];
    findings.push(disk(config, shards));
    findings.push(port("public port", config.server.listen, holder));
    findings.push(port("private port", config.server.admin_listen, holder));
    findings
}

/// The directory itself, or the nearest above it that exists.
pub(crate) fn existing(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    while !path.as_os_str().is_empty() && !path.is_dir() {
        path = path.parent().unwrap_or(Path::new("")).to_owned();
    }
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

fn directory(data_dir: &Path, holder: Option<u32>) -> Finding {
    let found = data_dir.display();
    if let Some(pid) = holder {
        return Finding::ok("data directory", format!("{found}, in use by a running server (process {pid})"));
    }
    if data_dir.exists() && !data_dir.is_dir() {
        let advice = "name a directory with storage.data_dir";
        return Finding {
            status: Some(edge::exit::DISK),
            ..Finding::fail("data directory", format!("{found} is no directory"), advice)
        };
    }
    match rustix::fs::access(existing(data_dir), rustix::fs::Access::WRITE_OK) {
        Ok(()) if data_dir.is_dir() => Finding::ok("data directory", format!("{found}")),
        Ok(()) => Finding::ok("data directory", format!("{found}, made at the first start")),
        Err(error) => {
            let advice = "give ringdesk's user the right to write there";
            Finding {
                status: Some(edge::exit::DISK),
                ..Finding::fail("data directory", format!("{found}: {error}"), advice)
            }
        }
    }
}

fn space(config: &Config) -> Finding {
    let path = existing(&config.storage.data_dir);
    let free = match rustix::fs::statvfs(&path) {
        Ok(stat) => stat.f_bavail * stat.f_frsize,
        Err(error) => {
            return Finding::warn(
                "space",
                format!("{}: {error}", path.display()),
                "is the file system mounted?",
            );
        }
    };
    let budget = config.storage.journal_budget_mb.bytes();
    let used = journal_bytes(&config.storage.data_dir);
    let found = format!(
        "{} MiB are free; journals may grow to {} MiB and have {} MiB",
        free >> 20,
        budget >> 20,
        used >> 20
    );
    if free < budget.saturating_sub(used) {
        Finding::warn(
            "space",
            found,
            "at the end of the disk new messages are refused with `storage_full`: make room, or lower storage.journal_budget_mb",
        )
    } else {
        Finding::ok("space", found)
    }
}

/// Bytes of all files below `journal`.
fn journal_bytes(data_dir: &Path) -> u64 {
    fn below(path: &Path) -> u64 {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(data) if data.is_dir() => below(&entry.path()),
                Ok(data) => data.len(),
                Err(_) => 0,
            })
            .sum()
    }
    below(&data_dir.join("journal"))
}

/// Both ways to write, measured on this disk with as many streams as there would be shards.
fn disk(config: &Config, shards: u16) -> Finding {
    let path = existing(&config.storage.data_dir);
    let measured =
        match alignment(&path).and_then(|align| measure(&path, shards).map(|measured| (align, measured))) {
            Ok(measured) => measured,
            Err(error) => {
                let advice = "the data directory must be on a file system that can be written and flushed";
                return Finding {
                    status: Some(edge::exit::DISK),
                    ..Finding::fail("disk", error.to_string(), advice)
                };
            }
        };
    let (align, measured) = measured;
    let figures = |it: Figures| format!("p50 {} µs, p99 {} µs", it.p50_us, it.p99_us);
    let overwrite = measured.overwrite.map_or("not possible here".to_owned(), figures);
    let (choice, why) = match config.storage.sync {
        Sync::Auto => (measured.choice(), "as measured"),
        Sync::Direct => (Strategy::Overwrite, "as the settings say"),
        Sync::Buffered => (Strategy::WriteThenFlush, "as the settings say"),
    };
    let found = format!(
        "{shards} streams of 4 KiB: overwrite (O_DIRECT, O_DSYNC) {overwrite}; write, then fdatasync {}; alignment {align}; would use {} ({why})",
        figures(measured.flush),
        choice.name(),
    );
    let used = match choice {
        Strategy::Overwrite => measured.overwrite.unwrap_or(measured.flush),
        Strategy::WriteThenFlush => measured.flush,
    };
    if choice == Strategy::Overwrite && measured.overwrite.is_none() {
        Finding::fail(
            "disk",
            found,
            "this file system has no direct I/O: set storage.sync to \"auto\" or \"buffered\"",
        )
    } else if config.storage.durability == Durability::Disk && used.p99_us > SLOW_COMMIT_US {
        Finding::warn(
            "disk",
            found,
            "an acknowledgement waits that long: a disk with power-loss protection answers in a tenth of a millisecond",
        )
    } else {
        Finding::ok("disk", found)
    }
}

fn port(check: &'static str, address: SocketAddr, holder: Option<u32>) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && holder.is_some() => {
            Finding::ok(check, format!("{address} is in use, as it is while the server runs"))
        }
        Err(error) => {
            let advice = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!("`ss -ltnp 'sport = :{}'` names who listens there", address.port())
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE".to_owned()
                }
                _ => "the address must be one of this host".to_owned(),
            };
            Finding {
                status: Some(edge::exit::LISTEN),
                ..Finding::fail(check, format!("{address}: {error}"), advice)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_port_that_is_taken_is_a_failure_unless_our_own_server_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let finding = port("public port", address, None);
        assert_eq!((finding.state, finding.status), (State::Fail, Some(edge::exit::LISTEN)));
        assert!(finding.advice.contains(&address.port().to_string()));
        assert_eq!(port("public port", address, Some(7)).state, State::Ok);
        drop(taken);
        assert_eq!(port("public port", address, None).state, State::Ok);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_looked_for_above() {
        let scratch = crate::scratch::Scratch::new();
        assert_eq!(existing(&scratch.0.join("a/b/c")), scratch.0);
        assert_eq!(existing(Path::new("no/such")), PathBuf::from("."));
        assert_eq!(directory(&scratch.0.join("a/b"), None).state, State::Ok);
        std::fs::write(scratch.0.join("file"), "x").unwrap();
        assert_eq!(directory(&scratch.0.join("file"), None).state, State::Fail);
    }
}
