//! Buffers that a kernel may be lent: page-aligned, owned, and made without `unsafe`.

use std::fmt;

const PAGE_SIZE: usize = 4096;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

/// An owned, page-aligned buffer of whole pages with a length in use.
///
/// It does not grow and its address stays the same while it moves from hand to hand, so a write in flight can
/// own it and give it back with its completion.
pub struct BlockBuf {
    pages: Vec<Page>,
    len: usize,
}

impl BlockBuf {
    /// A zeroed buffer of at least `bytes` bytes, with nothing in use yet.
    pub fn with_capacity(bytes: usize) -> Self {
        BlockBuf { pages: vec![Page([0; PAGE_SIZE]); bytes.div_ceil(PAGE_SIZE)], len: 0 }
    }

    /// The bytes in use.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.pages)[..self.len]
    }

    /// The bytes in use, to change.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.pages)[..self.len]
    }

    /// The whole buffer, in use or not. Fresh pages are zero; used ones hold what was there before.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.pages)
    }

    /// How many bytes are in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the buffer can hold.
    pub fn capacity(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// Declares the first `len` bytes to be in use.
    ///
    /// # Panics
    /// When `len` is more than the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "a buffer does not grow");
        self.len = len;
    }
}

impl fmt::Debug for BlockBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockBuf").field("len", &self.len).field("capacity", &self.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::BlockBuf;

    #[test]
    fn a_buffer_is_page_aligned_and_keeps_its_address_when_it_moves() {
        let mut buf = BlockBuf::with_capacity(5000);
        assert_eq!(buf.capacity(), 8192);
        assert!(buf.is_empty());
        buf.set_len(10);
        buf.as_mut_bytes().fill(7);
        let address = buf.as_bytes().as_ptr() as usize;
        assert_eq!(address % 4096, 0);
        let moved = buf;
        assert_eq!(moved.as_bytes().as_ptr() as usize, address);
        assert_eq!(moved.as_bytes(), [7; 10]);
    }
}
