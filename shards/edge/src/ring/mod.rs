//! The ring of one shard: set up, filled, entered. Nothing here knows what a completion means.

pub(crate) mod buffers;
mod ops;
mod setup;
pub(crate) mod token;

pub(crate) use ops::{SentAlong, Target, take_moved};
pub(crate) use setup::{Setup, build, prepare};

use std::io;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, SubmissionQueue, Submitter, cqueue, squeue};

use token::Token;

/// A completion, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on and more completions follow.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that it names.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// Whether the socket had more to read.
    pub(crate) fn has_rest(&self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }
}

/// How long an enter may wait, and for how many completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    /// Completions to wait for; 0 does not wait.
    pub(crate) want: u32,
    /// After so many microseconds one completion is enough; 0 waits for all of `want`.
    pub(crate) min_wait_us: u32,
    /// The end of the wait in any case.
    pub(crate) timeout_ns: u64,
}

impl Wait {
    /// Submit, run what is due, do not wait.
    pub(crate) const NONE: Wait = Wait { want: 0, min_wait_us: 0, timeout_ns: 0 };
}

/// The three parts of a ring, for as long as its thread lives.
pub(crate) struct Ring<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    no_iowait: bool,
    /// System calls made.
    pub(crate) enters: u64,
}

impl Ring<'_> {
    /// Queues an entry, and submits what is queued if there is no room.
    ///
    /// # Safety
    /// Whatever memory the entry names must stay where it is, and not be touched in a way that races with the operation, until its completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        if self.submissions.is_full() {
            self.submit();
        }
        // SAFETY: the caller vouches for the memory of the entry.
        let pushed = unsafe { self.submissions.push(entry) };
        pushed.expect("room was just made");
    }

    /// Makes room for a chain of `count` entries: a chain that is split over two submissions is no chain.
    fn reserve(&mut self, count: usize) {
        if self.submissions.capacity() - self.submissions.len() < count {
            self.submit();
        }
    }

    fn submit(&mut self) {
        // A full completion queue or a moment without memory may refuse; the next try finds room, because completions are never lost.
        for _ in 0..1_000 {
            self.enter(Wait::NONE);
            if self.submissions.is_empty() {
                return;
            }
        }
        panic!("the kernel takes no submissions");
    }

    /// Submits what is queued, runs deferred work and waits as `wait` says. One system call.
    pub(crate) fn enter(&mut self, wait: Wait) {
        self.submissions.sync();
        let to_submit = self.submissions.len() as u32;
        let time = Timespec::new()
            .sec(wait.timeout_ns / 1_000_000_000)
            .nsec((wait.timeout_ns % 1_000_000_000) as u32);
        let args = SubmitArgs::new().timespec(&time).min_wait_usec(wait.min_wait_us);
        let mut flags = EnterFlags::EXT_ARG | EnterFlags::GETEVENTS;
        if self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        self.enters += 1;
        // SAFETY: `args` is the structure that EXT_ARG announces, and it and the time it points to outlive the call. What the queued entries name was
        // vouched for when they were pushed.
        let entered = unsafe { self.submitter.enter(to_submit, wait.want, flags.bits(), Some(&args)) };
        if let Err(error) = entered {
            match error.raw_os_error() {
                // The wait ended by its time or by a signal; or the kernel wants completions to be taken first.
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                _ => panic!("io_uring_enter failed, which no input can cause: {error}"),
            }
        }
        self.submissions.sync();
        self.completions.sync();
    }

    /// Copies up to `most` completions out.
    pub(crate) fn take(&mut self, most: usize, into: &mut Vec<Completion>) {
        self.completions.sync();
        for entry in self.completions.by_ref().take(most) {
            let token = Token(entry.user_data());
            into.push(Completion { token, result: entry.result(), flags: entry.flags() });
        }
        self.completions.sync();
    }

    /// Whether completions are waiting to be taken.
    pub(crate) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Whether the completion queue has overflown; nothing is lost, but multishot operations ended.
    pub(crate) fn has_overflown(&self) -> bool {
        self.submissions.cq_overflow()
    }

    /// Lets go of the registered descriptor; without this the ring, and its sockets, would live until the thread ends.
    pub(crate) fn unregister(&mut self) -> io::Result<()> {
        self.submitter.unregister_ring_fd()
    }
}
