//! Buffers that are used again, so that a message in steady state allocates nothing.

/// Most buffers kept; more are freed.
const KEPT_MAX: usize = 1024;
/// A buffer that grew beyond this is freed rather than kept.
const KEPT_CAPACITY_MAX: usize = 64 * 1024;
/// What a fresh buffer can hold: a few small frames.
const FRESH_CAPACITY: usize = 1024;

/// A stack of empty buffers.
#[derive(Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
    /// Buffers made because none was spare.
    pub(crate) made: u64,
}

impl Pool {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| {
            self.made += 1;
            Vec::with_capacity(FRESH_CAPACITY)
        })
    }

    /// Buffers that are kept.
    pub(crate) fn spare(&self) -> u64 {
        self.spare.len() as u64
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_CAPACITY_MAX || self.spare.len() >= KEPT_MAX {
            return;
        }
        buffer.clear();
        self.spare.push(buffer);
    }
}
