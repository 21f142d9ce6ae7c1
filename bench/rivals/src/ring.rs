//! A bare ring with direct descriptors and provided buffers, and nothing between it and the caller.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::account;

/// The one buffer group.
const GROUP: u16 = 0;
const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 32_768;
const PAGE: usize = 4096;

/// What a completion is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    /// A connection was accepted; the result is its slot.
    Accept = 1,
    /// Bytes came.
    Receive = 2,
    /// Bytes went.
    Send = 3,
    /// A slot is free again.
    Close = 4,
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// What it is of.
    pub op: Op,
    /// The connection.
    pub slot: u32,
    /// As the kernel says it.
    pub result: i32,
    /// The buffer with what came.
    pub buffer: Option<u16>,
    /// Whether its operation goes on.
    pub more: bool,
}

/// A ring of one thread.
pub struct Ring {
    uring: IoUring,
    region: NonNull<u8>,
    first: usize,
    size: usize,
    count: u16,
    tail: u16,
}

impl Ring {
    /// A ring for `slots` connections, with `count` receive buffers (a power of two) of `size` bytes.
    ///
    /// # Panics
    /// When the kernel refuses; every kernel from 6.1 on has all of it.
    pub fn new(slots: u32, count: u16, size: usize) -> Ring {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .expect("a ring can be made");
        uring
            .submitter()
            .register_files_sparse(slots)
            .expect("a table can be registered: is RLIMIT_NOFILE large enough?");
        let first = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
        let whole = first + usize::from(count) * size;
        // SAFETY: an anonymous mapping at no particular address touches nothing that exists.
        let region = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(region, libc::MAP_FAILED, "memory for buffers");
        let region = NonNull::new(region.cast::<u8>()).expect("no mapping is at address 0");
        // SAFETY: the region begins with room for `count` entries on whole pages, and is never unmapped.
        let registered = unsafe {
            uring.submitter().register_buf_ring_with_flags(region.as_ptr() as u64, count, GROUP, 0)
        };
        registered.expect("a buffer ring can be registered");
        let mut ring = Ring { uring, region, first, size, count, tail: 0 };
        (0..count).for_each(|id| ring.give_back(id));
        ring.publish();
        ring
    }

    fn address(&self, id: u16) -> *mut u8 {
        assert!(id < self.count, "the kernel names only buffers that it was given");
        // SAFETY: buffer `id` is inside the region.
        unsafe { self.region.as_ptr().add(self.first + usize::from(id) * self.size) }
    }

    /// The first `size` bytes of a buffer that a completion named and that was not given back.
    ///
    /// The slice does not borrow the ring, so that it can be sent from where it lies: the caller uses it neither after `give_back` nor twice at once.
    #[allow(
        clippy::mut_from_ref,
        reason = "two buffers never overlap, and the kernel does not write to one it has handed out"
    )]
    pub fn bytes(&self, id: u16, size: usize) -> &'static mut [u8] {
        assert!(size <= self.size, "more bytes than a buffer has");
        let start = self.address(id);
        // SAFETY: the range is inside the region, which lives as long as the process; the caller has this buffer alone until it gives it back.
        unsafe { std::slice::from_raw_parts_mut(start, size) }
    }

    /// Puts a buffer back; `publish` shows it to the kernel.
    pub fn give_back(&mut self, id: u16) {
        let address = self.address(id) as u64;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so the entry is inside the region.
        let entry = unsafe { self.region.as_ptr().cast::<BufRingEntry>().add(place) };
        // SAFETY: the kernel does not read entries at or behind the published tail, and nobody else writes them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the pointer is to the first entry of a registered ring, where the tail is kept.
        let tail = unsafe { BufRingEntry::tail(self.region.as_ptr().cast::<BufRingEntry>()) };
        // SAFETY: the tail is two aligned bytes that only this thread writes and the kernel reads.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }

    fn push(&mut self, entry: squeue::Entry, op: Op, slot: u32) {
        let entry = entry.user_data((op as u64) << 32 | u64::from(slot));
        loop {
            // SAFETY: what the entry names lives until its completion: see who calls.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            account::count(&account::ENTERS, 1);
            self.uring.submit().expect("the kernel takes submissions");
        }
    }

    /// Accepts into free slots until it ends by itself.
    pub fn accept(&mut self, listener: i32) {
        let entry = opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build();
        self.push(entry, Op::Accept, 0);
    }

    /// Receives until the peer ends, or the buffers do.
    pub fn receive(&mut self, slot: u32) {
        self.push(opcode::RecvMulti::new(Fixed(slot), GROUP).build(), Op::Receive, slot);
    }

    /// Sends all of it. The bytes stay where they are until the completion: the caller keeps them.
    pub fn send(&mut self, slot: u32, bytes: &[u8]) {
        let entry = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32);
        self.push(entry.flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).build(), Op::Send, slot);
    }

    /// Frees a slot. Nothing of it is in flight.
    pub fn close(&mut self, slot: u32) {
        self.push(opcode::Close::new(Fixed(slot)).build(), Op::Close, slot);
    }

    /// One system call: submits, waits for one completion at least, and takes all there are.
    pub fn turn(&mut self, seen: &mut Vec<Completion>) {
        self.publish();
        account::count(&account::ENTERS, 1);
        match self.uring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => panic!("io_uring_enter: {error}"),
        }
        seen.clear();
        for entry in self.uring.completion() {
            let data = entry.user_data();
            let op = match data >> 32 {
                1 => Op::Accept,
                2 => Op::Receive,
                3 => Op::Send,
                _ => Op::Close,
            };
            seen.push(Completion {
                op,
                slot: data as u32,
                result: entry.result(),
                buffer: cqueue::buffer_select(entry.flags()),
                more: cqueue::more(entry.flags()),
            });
        }
    }
}
