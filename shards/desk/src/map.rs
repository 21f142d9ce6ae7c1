//! Maps with a fixed hasher, so that the order of iteration follows from the order of insertion alone and a seed replays.

use core::hash::{BuildHasherDefault, Hasher};

/// Hashes what is already random (our 128-bit ids) by folding it, and small integers by a multiplication.
///
/// Keys in these maps are made by the server, or are looked up but never inserted on a client's word, so nobody can choose collisions.
#[derive(Clone, Copy, Default)]
pub struct IdHasher(u64);

const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, i: u8) {
        self.write_u64(u64::from(i));
    }
    fn write_u16(&mut self, i: u16) {
        self.write_u64(u64::from(i));
    }
    fn write_u32(&mut self, i: u32) {
        self.write_u64(u64::from(i));
    }
    fn write_u64(&mut self, i: u64) {
        self.0 = (self.0.rotate_left(23) ^ i).wrapping_mul(SPREAD);
        self.0 ^= self.0 >> 32;
    }
    fn write_u128(&mut self, i: u128) {
        self.write_u64((i as u64) ^ ((i >> 64) as u64));
    }
    fn write_usize(&mut self, i: usize) {
        self.write_u64(i as u64);
    }
}

/// A hash map for ids and indices.
pub type IdMap<K, V> = hashbrown::HashMap<K, V, BuildHasherDefault<IdHasher>>;
/// A hash set for ids and indices.
pub type IdSet<K> = hashbrown::HashSet<K, BuildHasherDefault<IdHasher>>;

/// The hash of an id, for tables that keep indices only and find the id behind them.
pub fn hash(bits: u128) -> u64 {
    let mut hasher = IdHasher::default();
    hasher.write_u128(bits);
    hasher.finish()
}
