//! How a ring is made: disabled at first, given its table, buffers and restrictions, then enabled by the thread that will use it.

use std::io;
use std::mem;
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, squeue};

use super::Ring;
use super::buffers::Buffers;
use crate::probe::{self, Features};

/// `IORING_UNREGISTER_RING_FDS`: the only registration that is allowed once the ring runs.
const UNREGISTER_RING_FDS: u8 = 21;
/// Threads the kernel may start for this ring: for files (flushes), and for what may never end (nothing of ours).
const WORKERS: [u32; 2] = [2, 1];

/// The sizes of a ring.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) submissions: u32,
    pub(crate) completions: u32,
    pub(crate) table: u32,
    pub(crate) buffer_count: u16,
    pub(crate) buffer_size: u32,
    /// Processors that no shard is pinned to: where the kernel's own threads for this ring may run. None: anywhere.
    pub(crate) spare: Arc<[usize]>,
}

/// Makes the ring, disabled. To be called on the thread that will use it.
pub(crate) fn build(setup: &Setup) -> io::Result<IoUring> {
    probe::builder(Some(setup.completions)).setup_r_disabled().build(setup.submissions)
}

/// Registers everything and enables the ring.
///
/// Restrictions make the ring refuse every operation but those of [`probe::OPERATIONS`]: seccomp cannot see what is submitted to a ring, so this is the
/// only fence there is. A kernel that refuses them costs the fence, not the start.
pub(crate) fn prepare<'r>(ring: &'r mut IoUring, setup: &Setup) -> io::Result<(Ring<'r>, Buffers, Features)> {
    let features = probe::features(ring);
    let (mut submitter, submissions, completions) = ring.split();
    submitter.register_files_sparse(setup.table)?;
    let buffers = Buffers::register(&submitter, setup.buffer_count, setup.buffer_size)?;
    submitter.register_iowq_max_workers(&mut WORKERS.clone())?;
    if !setup.spare.is_empty() {
        // They would share the shard's own processor otherwise, and a flush would wait for it. A comfort, so a refusal is no reason not to start.
        let _ = submitter.register_iowq_aff(&set_of(&setup.spare));
    }
    let _ = submitter.register_restrictions(&mut restrictions());
    submitter.register_enable_rings()?;
    submitter.register_ring_fd()?;
    let ring = Ring { submitter, submissions, completions, no_iowait: features.no_iowait, enters: 0 };
    Ok((ring, buffers, features))
}

fn restrictions() -> Vec<Restriction> {
    let flags = squeue::Flags::FIXED_FILE
        | squeue::Flags::IO_LINK
        | squeue::Flags::BUFFER_SELECT
        | squeue::Flags::SKIP_SUCCESS;
    let operations = probe::OPERATIONS.iter().map(|(_, code)| Restriction::sqe_op(*code));
    // Registering and unregistering the ring's own descriptor (20 and 21) reaches nothing but this ring.
    let registrations = [UNREGISTER_RING_FDS - 1, UNREGISTER_RING_FDS].map(Restriction::register_op);
    operations.chain(registrations).chain([Restriction::sqe_flags_allowed(flags.bits())]).collect()
}

fn set_of(processors: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a set of processors is plain bits; all zeros is the empty one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for processor in processors.iter().filter(|it| **it < libc::CPU_SETSIZE as usize) {
        // SAFETY: the number is below the size of the set.
        unsafe { libc::CPU_SET(*processor, &mut set) };
    }
    set
}

#[cfg(test)]
mod tests {
    use io_uring::opcode;

    use super::*;
    use crate::ring::Wait;
    use crate::ring::token::{Op, Token};

    #[test]
    fn a_running_ring_refuses_every_other_operation() {
        let setup = Setup {
            submissions: 64,
            completions: 128,
            table: 16,
            buffer_count: 2,
            buffer_size: 256,
            spare: Arc::from([0]),
        };
        let mut uring = build(&setup).unwrap();
        let (mut ring, buffers, _) = prepare(&mut uring, &setup).unwrap();
        let nop = opcode::Nop::new().build().user_data(Token::new(Op::Ignore, 1, 0).0);
        // SAFETY: a nop names no memory.
        unsafe { ring.push(&nop) };
        ring.cancel(Token::new(Op::Poll, 2, 3));
        let second = 1_000_000_000;
        ring.enter(Wait { want: 2, min_wait_us: 0, timeout_ns: second });
        let mut seen = Vec::new();
        ring.take(8, &mut seen);
        let results: Vec<i32> = seen.iter().map(|completion| completion.result).collect();
        assert_eq!(results, [-libc::EACCES, -libc::ENOENT], "one is refused, the other is tried");
        ring.unregister().unwrap();
        drop(buffers);
    }
}
