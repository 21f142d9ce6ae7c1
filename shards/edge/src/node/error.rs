//! Why a node does not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use journal::{RecoverError, SuperblockError};

use crate::disk::DiskError;
use crate::exit;
use crate::probe::Refused;

/// Why no shard serves. Each says the likely cause and the next step; [`StartError::exit_status`] is what the process ends with.
#[derive(Debug)]
pub enum StartError {
    /// io_uring is missing, refused or too old.
    NoRing(Refused),
    /// Another process holds the data directory.
    LockHeld {
        /// The directory.
        data_dir: PathBuf,
        /// The holder, if it wrote its number down.
        pid: Option<u32>,
    },
    /// Something listens on that address already.
    PortInUse(SocketAddr),
    /// The address cannot be listened on.
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// A file or directory cannot be made, read, written or flushed.
    Disk(DiskError),
    /// A superblock cannot be used.
    Superblock {
        /// The file.
        path: PathBuf,
        /// Why.
        error: SuperblockError,
    },
    /// The journal is another shard's, another site's, another layout's or a newer program's.
    ForeignJournal {
        /// The superblock, or the journal's directory.
        path: PathBuf,
        /// What differs, as "it belongs to 3 shards and 2 are planned".
        what: String,
    },
    /// The journal cannot be opened without risking what it holds.
    JournalDamaged {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        error: RecoverError,
    },
    /// The plan asks for something impossible.
    Plan(String),
}

impl StartError {
    /// The status to end the process with, from [`exit`].
    pub fn exit_status(&self) -> i32 {
        match self {
            StartError::NoRing(_) => exit::NO_RING,
            StartError::LockHeld { .. } => exit::LOCKED,
            StartError::PortInUse(_) | StartError::Listen { .. } => exit::LISTEN,
            StartError::Disk(_) => exit::DISK,
            StartError::Superblock { .. }
            | StartError::ForeignJournal { .. }
            | StartError::JournalDamaged { .. } => exit::JOURNAL,
            StartError::Plan(_) => exit::PLAN,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoRing(refused) => refused.fmt(f),
            StartError::LockHeld { data_dir, pid } => {
                write!(f, "{} is in use by another ringdesk", data_dir.display())?;
                match pid {
                    Some(pid) => write!(f, " (process {pid}; `ps -fp {pid}`)")?,
                    None => f.write_str(" (`fuser` on its file `lock` names the process)")?,
                }
                f.write_str(": stop it first, or give this one another --data-dir")
            }
            StartError::PortInUse(address) => write!(
                f,
                "something listens on {address} already (`ss -ltnp 'sport = :{}'` names it): stop it, or give another \
                 --listen",
                address.port()
            ),
            StartError::Listen { address, error } => write!(
                f,
                "cannot listen on {address}: {error}. Check that the address is of this host and, below port 1024, \
                 that the process has CAP_NET_BIND_SERVICE"
            ),
            StartError::Disk(error) => error.fmt(f),
            StartError::Superblock { path, error } => write!(f, "{}: {error}", path.display()),
            StartError::ForeignJournal { path, what } => write!(
                f,
                "{}: {what}. Start with what the journal was written with, or give another --data-dir",
                path.display()
            ),
            StartError::JournalDamaged { directory, error } => write!(f, "{}: {error}", directory.display()),
            StartError::Plan(what) => write!(f, "{what}. `ringdesk check` shows the plan"),
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_a_next_step_and_has_a_status_of_its_own() {
        let io = || io::Error::from_raw_os_error(libc::ENOSPC);
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let held = StartError::LockHeld { data_dir: "/d".into(), pid: Some(7) };
        let full =
            StartError::Disk(DiskError { doing: "prepare a segment", path: "/d/1".into(), error: io() });
        let cases = [
            (held, "process 7", exit::LOCKED),
            (StartError::PortInUse(address), "ss -ltnp", exit::LISTEN),
            (StartError::Listen { address, error: io() }, "CAP_NET_BIND_SERVICE", exit::LISTEN),
            (full, "Make room", exit::DISK),
            (StartError::Plan("65 shards".into()), "ringdesk check", exit::PLAN),
        ];
        for (error, step, status) in cases {
            assert!(error.to_string().contains(step), "{error} does not say {step}");
            assert_eq!(error.exit_status(), status);
        }
    }
}
