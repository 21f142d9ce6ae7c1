//! The receive buffers: one fixed region, lent to the kernel through a ring of entries.
//!
//! ```text
//!   region:  | entries, 16 bytes each, whole pages | buffer 0 | buffer 1 | …            |
//!   buffer:  | what the kernel may fill (size − 64) | 64 bytes it never writes: padding |
//! ```
//! A buffer is either in the kernel's ring or named by exactly one completion. It is read within the turn and goes back at its end, so no peer can hold
//! one. The padding is there because a SIMD parser may read over the end of what was received.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The one buffer group.
pub(crate) const GROUP: u16 = 0;
/// Bytes at the end of every buffer that the kernel never fills.
pub(crate) const PADDING: u32 = 64;
const PAGE: usize = 4096;

/// An anonymous mapping; pages that nobody touches cost nothing.
struct Region {
    start: NonNull<u8>,
    size: usize,
}

impl Region {
    fn new(size: usize) -> io::Result<Region> {
        // SAFETY: an anonymous mapping at no particular address touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Region { start: NonNull::new(start.cast()).expect("no mapping is at address 0"), size })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and whole; whoever lent it to a ring keeps it until the ring has ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// The buffers of one ring.
pub(crate) struct Buffers {
    region: Region,
    /// Where buffer 0 begins in the region.
    first: usize,
    size: usize,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// `count` buffers (a power of two) of `size` bytes each, padding included, registered with the ring of `submitter`.
    pub(crate) fn register(submitter: &Submitter<'_>, count: u16, size: u32) -> io::Result<Buffers> {
        assert!(count.is_power_of_two(), "the kernel wants a power of two");
        let first = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
        let size = size as usize;
        let region = Region::new(first + usize::from(count) * size)?;
        // SAFETY: the region begins with room for `count` entries on whole pages, and lives until the ring has ended.
        unsafe { submitter.register_buf_ring_with_flags(region.start.as_ptr() as u64, count, GROUP, 0) }?;
        let mut buffers = Buffers { region, first, size, count, tail: 0 };
        for id in 0..count {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The whole buffer `id`, padding included. Only for the id of a completion that was not given back yet.
    pub(crate) fn bytes(&mut self, id: u16) -> &mut [u8] {
        let start = self.address(id);
        // SAFETY: the range is inside the region, the kernel does not write to a buffer that it has handed out in a completion, and `&mut self` keeps
        // a second slice away.
        unsafe { std::slice::from_raw_parts_mut(start, self.size) }
    }

    /// Puts buffer `id` back into the ring of entries; `publish` shows it to the kernel.
    pub(crate) fn give_back(&mut self, id: u16) {
        let address = self.address(id) as u64;
        let size = self.size as u32 - PADDING;
        let place = usize::from(self.tail & (self.count - 1));
        let entries = self.region.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `place` is below `count`, so the entry is inside the region.
        let entry = unsafe { entries.add(place) };
        // SAFETY: the kernel does not read entries at or behind the published tail, and nobody else writes them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub(crate) fn publish(&mut self) {
        let entries = self.region.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the pointer is to the first entry of a registered ring, where the tail is kept.
        let tail = unsafe { BufRingEntry::tail(entries) };
        // SAFETY: the tail is two aligned bytes in the region that only this thread writes and the kernel reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn address(&self, id: u16) -> *mut u8 {
        assert!(id < self.count, "the kernel names only buffers that it was given");
        // SAFETY: buffer `id` is inside the region.
        unsafe { self.region.start.as_ptr().add(self.first + usize::from(id) * self.size) }
    }
}
