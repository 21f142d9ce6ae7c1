//! Whether this host lets us use io_uring, and what of it: by trying, never by reading a version.
//!
//! There is one back-end. Where it is refused, the server says what refused it and what mends that, and ends with [`exit::NO_RING`](crate::exit::NO_RING).

use std::fmt;
use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

/// What the kernel can do beyond what we need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// A wait with a minimum time (6.12): many completions per system call at load.
    pub min_wait: bool,
    /// Waits need not count as I/O wait (6.15); without it an idle shard looks like a busy disk.
    pub no_iowait: bool,
}

/// Why there is no ring.
#[derive(Debug)]
pub enum Refused {
    /// The kernel was built without io_uring, is older than 5.1, or a seccomp filter answers ENOSYS.
    Missing {
        /// Whether a seccomp filter is on this process, and so the likely cause.
        filtered: bool,
    },
    /// A seccomp filter or a security module said no.
    Forbidden {
        /// Whether a seccomp filter is on this process.
        filtered: bool,
    },
    /// `kernel.io_uring_disabled` is 2 (nobody), or 1 (a group only) and we are not in it.
    Disabled {
        /// The value of the setting.
        value: u8,
    },
    /// The kernel lacks operations or set-up flags that we need: it is older than 6.8.
    TooOld {
        /// Operations it does not know.
        missing: Vec<&'static str>,
        /// Its own name for itself.
        release: String,
    },
    /// Not enough memory may be locked (RLIMIT_MEMLOCK).
    Memlock {
        /// The limit in bytes.
        limit: u64,
    },
    /// No descriptor is left (RLIMIT_NOFILE).
    Descriptors {
        /// The limit.
        limit: u64,
    },
    /// Something else.
    Other(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Missing { filtered: true } => f.write_str(
                "io_uring_setup answers ENOSYS and a seccomp filter is on this process: the container runtime blocks \
                 io_uring. Allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile (docker run \
                 --security-opt seccomp=PROFILE …; in Kubernetes securityContext.seccompProfile)",
            ),
            Refused::Missing { filtered: false } => f.write_str(
                "this kernel has no io_uring (CONFIG_IO_URING is off, or it is older than 5.1): ringdesk needs Linux \
                 6.8 or later; `uname -r` says what runs here",
            ),
            Refused::Forbidden { filtered: true } => f.write_str(
                "io_uring_setup is not permitted: the seccomp filter on this process blocks it, as Docker's and \
                 containerd's defaults do. Allow io_uring_setup, io_uring_enter and io_uring_register in the profile \
                 (docker run --security-opt seccomp=PROFILE …; in Kubernetes securityContext.seccompProfile); under \
                 systemd add @aio to SystemCallFilter=",
            ),
            Refused::Forbidden { filtered: false } => f.write_str(
                "io_uring_setup is not permitted, and no seccomp filter is on this process: a security module refuses \
                 it. Look for io_uring in `journalctl -k | grep -i denied` and allow it for ringdesk",
            ),
            Refused::Disabled { value: 1 } => f.write_str(
                "kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN and the group kernel.io_uring_group may use \
                 io_uring. Run `sysctl kernel.io_uring_disabled=0`, or put ringdesk's user into that group",
            ),
            Refused::Disabled { value } => write!(
                f,
                "kernel.io_uring_disabled is {value}: nobody may use io_uring here. Run `sysctl \
                 kernel.io_uring_disabled=0` and make it stay with a file in /etc/sysctl.d"
            ),
            Refused::TooOld { missing, release } => {
                write!(f, "this kernel ({release}) is too old: ringdesk needs Linux 6.8 or later")?;
                if !missing.is_empty() {
                    write!(f, ", and here is no {}", missing.join(", "))?;
                }
                f.write_str(". Boot a newer kernel (Debian: backports; Ubuntu 24.04 and later have it)")
            }
            Refused::Memlock { limit } => write!(
                f,
                "a ring needs locked memory and RLIMIT_MEMLOCK is {limit} bytes: raise it (`ulimit -l unlimited`; \
                 systemd LimitMEMLOCK=infinity), or use fewer shards"
            ),
            Refused::Descriptors { limit } => write!(
                f,
                "no descriptor is left for a ring (RLIMIT_NOFILE is {limit}): raise it (`ulimit -n`; systemd \
                 LimitNOFILE=)"
            ),
            Refused::Other(error) => write!(f, "io_uring cannot be set up: {error}; run `ringdesk doctor`"),
        }
    }
}

impl std::error::Error for Refused {}

/// Every operation the shards submit: what a ring may do after its start, and what the kernel must know.
pub(crate) const OPERATIONS: &[(&str, u8)] = &[
    ("ACCEPT (5.5)", opcode::Accept::CODE),
    ("ASYNC_CANCEL (5.5)", opcode::AsyncCancel::CODE),
    ("CLOSE (5.6)", opcode::Close::CODE),
    ("FILES_UPDATE (5.6)", opcode::FilesUpdate::CODE),
    ("FIXED_FD_INSTALL (6.8)", opcode::FixedFdInstall::CODE),
    ("FSYNC (5.1)", opcode::Fsync::CODE),
    ("MSG_RING (5.18)", opcode::MsgRingData::CODE),
    ("POLL_ADD (5.1)", opcode::PollAdd::CODE),
    ("RECV (5.6)", opcode::Recv::CODE),
    ("SEND (5.6)", opcode::Send::CODE),
    ("WRITE (5.6)", opcode::Write::CODE),
];

/// Tries what a shard needs on a small ring of its own and takes it down again.
pub fn probe() -> Result<Features, Refused> {
    let ring = match builder(None).build(8) {
        Ok(ring) => ring,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // The call is there; a flag is not. A plain ring can still name the operations that are missing.
            let missing = IoUring::new(8).map(|ring| missing(&ring)).unwrap_or_default();
            return Err(Refused::TooOld { missing, release: release() });
        }
        Err(error) => return Err(refusal(error)),
    };
    let missing = missing(&ring);
    if !missing.is_empty() {
        return Err(Refused::TooOld { missing, release: release() });
    }
    Ok(features(&ring))
}

/// What the set-up of this ring said.
pub(crate) fn features(ring: &IoUring) -> Features {
    let params = ring.params();
    Features { min_wait: params.is_feature_min_timeout(), no_iowait: params.is_feature_no_iowait() }
}

/// The flags of every ring: one issuer, completions delivered only when it asks.
pub(crate) fn builder(cq_entries: Option<u32>) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_clamp();
    if let Some(entries) = cq_entries {
        builder.setup_cqsize(entries);
    }
    builder
}

/// Names why `io_uring_setup`, or a registration, failed.
pub(crate) fn refusal(error: io::Error) -> Refused {
    let limit = |which| crate::sys::limit(which).map_or(0, |(soft, _)| soft);
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Refused::Missing { filtered: seccomp_filter() },
        Some(libc::EPERM | libc::EACCES) => match disabled() {
            value @ (1 | 2) => Refused::Disabled { value },
            _ => Refused::Forbidden { filtered: seccomp_filter() },
        },
        Some(libc::ENOMEM) => Refused::Memlock { limit: limit(libc::RLIMIT_MEMLOCK) },
        Some(libc::EMFILE | libc::ENFILE) => Refused::Descriptors { limit: limit(libc::RLIMIT_NOFILE) },
        _ => Refused::Other(error),
    }
}

fn missing(ring: &IoUring) -> Vec<&'static str> {
    let mut probe = Probe::new();
    if ring.submitter().register_probe(&mut probe).is_err() {
        return OPERATIONS.iter().map(|(name, _)| *name).collect();
    }
    OPERATIONS.iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(name, _)| *name).collect()
}

/// Whether `/proc` says that a seccomp filter is on this process.
fn seccomp_filter() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
    })
}

/// `kernel.io_uring_disabled`, 0 where it cannot be read.
fn disabled() -> u8 {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_a_cause_and_a_cure() {
        let refusals = [
            (Refused::Missing { filtered: true }, "io_uring_register in its seccomp profile"),
            (Refused::Missing { filtered: false }, "6.8"),
            (Refused::Forbidden { filtered: true }, "@aio"),
            (Refused::Forbidden { filtered: false }, "security module"),
            (Refused::Disabled { value: 1 }, "io_uring_group"),
            (Refused::Disabled { value: 2 }, "sysctl kernel.io_uring_disabled=0"),
            (
                Refused::TooOld { missing: vec!["FIXED_FD_INSTALL (6.8)"], release: "6.1.0".into() },
                "FIXED_FD",
            ),
            (Refused::Memlock { limit: 65536 }, "LimitMEMLOCK"),
            (Refused::Descriptors { limit: 256 }, "LimitNOFILE"),
        ];
        for (refused, cure) in refusals {
            assert!(refused.to_string().contains(cure), "{refused} does not say {cure}");
        }
    }

    #[test]
    fn errors_of_the_system_call_are_told_apart() {
        let of = |code| refusal(io::Error::from_raw_os_error(code));
        assert!(matches!(of(libc::ENOSYS), Refused::Missing { .. }));
        assert!(matches!(of(libc::ENOMEM), Refused::Memlock { .. }));
        assert!(matches!(of(libc::EMFILE), Refused::Descriptors { .. }));
        assert!(matches!(of(libc::EPERM), Refused::Forbidden { .. } | Refused::Disabled { .. }));
        assert!(matches!(of(libc::EIO), Refused::Other(_)));
    }

    #[test]
    fn this_host_has_a_ring() {
        probe().expect("these tests need io_uring");
    }
}
