//! Chance, all of it from one seed. Each user has a stream of its own, so that a new question in one place does not change the answers in another.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One stream of chance.
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream of `seed` for one purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Chance {
        let mut key = [0u8; 32];
        for (index, part) in key.chunks_exact_mut(8).enumerate() {
            let word = xxh3_64_with_seed(purpose.as_bytes(), seed.wrapping_add((index as u64) << 56));
            part.copy_from_slice(&word.to_le_bytes());
        }
        Chance(ChaCha8Rng::from_seed(key))
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn u128(&mut self) -> u128 {
        (u128::from(self.u64()) << 64) | u128::from(self.u64())
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something that happens `percent` times in a hundred happens.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Whether something that happens `count` times in a thousand happens.
    pub(crate) fn permille(&mut self, count: u64) -> bool {
        self.below(1000) < count
    }

    /// One of a few.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// One of a few, each as often as its weight says.
    pub(crate) fn weighted<T: Copy>(&mut self, of: &[(u64, T)]) -> T {
        let sum = of.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(sum);
        for &(weight, value) in of {
            if left < weight {
                return value;
            }
            left -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }

    pub(crate) fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn bytes16(&mut self) -> [u8; 16] {
        self.u128().to_le_bytes()
    }
}
