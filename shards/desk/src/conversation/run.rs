//! A growing array of fixed elements in the [`Store`]: eight bytes in its owner, doubled by copying.

use crate::store::{Block, Store, rounded};

/// An array of elements of `N` bytes with room for `FIRST` (a power of two) at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<const N: usize, const FIRST: u32> {
    block: Block,
    count: u32,
}

impl<const N: usize, const FIRST: u32> Run<N, FIRST> {
    pub(super) const EMPTY: Self = {
        assert!(FIRST.is_power_of_two(), "capacities are powers of two");
        Run { block: Block::NONE, count: 0 }
    };

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn bytes<'a>(&self, store: &'a Store) -> &'a [u8] {
        if self.count == 0 { &[] } else { store.bytes(self.block, self.count as usize * N) }
    }

    /// All elements in their order.
    pub(super) fn iter<'a>(&self, store: &'a Store) -> impl Iterator<Item = &'a [u8; N]> + use<'a, N, FIRST> {
        self.bytes(store).as_chunks::<N>().0.iter()
    }

    pub(super) fn at<'a>(&self, store: &'a Store, index: u32) -> &'a [u8; N] {
        let start = index as usize * N;
        self.bytes(store)[start..start + N].try_into().expect("N bytes were cut")
    }

    pub(super) fn set(&self, store: &mut Store, index: u32, element: [u8; N]) {
        assert!(index < self.count);
        store.bytes_mut(self.block, (index as usize + 1) * N)[index as usize * N..].copy_from_slice(&element);
    }

    pub(super) fn push(&mut self, store: &mut Store, element: [u8; N]) {
        let capacity = Self::capacity(self.count);
        if self.count == 0 {
            self.block = store.take(capacity * N);
        } else if self.count as usize == capacity {
            let larger = store.take(2 * capacity * N);
            store.copy(self.block, larger, capacity * N);
            store.give(self.block, capacity * N);
            self.block = larger;
        }
        self.count += 1;
        self.set(store, self.count - 1, element);
    }

    /// Bytes of the store that the next push takes at most.
    pub(super) fn next_push_size(&self) -> usize {
        let capacity = Self::capacity(self.count);
        match self.count as usize {
            0 => rounded(capacity * N),
            full if full == capacity => rounded(2 * capacity * N),
            _ => 0,
        }
    }

    /// How many elements have room once `count` are there.
    fn capacity(count: u32) -> usize {
        count.next_power_of_two().max(FIRST) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_what_was_pushed_while_it_grows_and_gives_back_what_it_outgrew() {
        let mut store = Store::new(1 << 20);
        let mut run = Run::<4, 8>::EMPTY;
        for number in 0..5000u32 {
            let before = store.used_bytes();
            let bound = run.next_push_size();
            run.push(&mut store, number.to_le_bytes());
            assert!(store.used_bytes() <= before + bound);
        }
        assert_eq!(store.used_bytes(), 8192 * 4);
        run.set(&mut store, 77, [1; 4]);
        for number in 0..5000u32 {
            let expected = if number == 77 { [1; 4] } else { number.to_le_bytes() };
            assert_eq!(*run.at(&store, number), expected);
        }
        assert_eq!(run.iter(&store).count(), 5000);
    }
}
