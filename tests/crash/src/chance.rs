//! Chance from a seed: splitmix64. What a run does is decided by its seed; when it does it, by the machine.

use std::time::Duration;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// A stream of its own for part `n` of a run.
    pub fn fork(&self, n: u64) -> Chance {
        Chance::new(mix(self.0 ^ mix(n)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing is below 0");
        self.bits() % end
    }

    /// True `per_mille` times of a thousand.
    pub fn often(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// A time below `end`.
    pub fn time(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(end.as_micros().max(1) as u64))
    }

    /// 128 random bits as 32 hexadecimal digits: a `device` or a `cid`.
    pub fn hex(&mut self) -> String {
        format!("{:016x}{:016x}", self.bits(), self.bits())
    }
}

/// The finalizer of splitmix64.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_its_forks_differ() {
        let (mut one, mut two) = (Chance::new(7), Chance::new(7));
        assert_eq!(one.bits(), two.bits());
        assert_eq!(one.fork(1).hex(), two.fork(1).hex());
        assert_ne!(one.fork(1).bits(), one.fork(2).bits());
        assert!((0..1_000).all(|_| one.below(10) < 10));
    }
}
