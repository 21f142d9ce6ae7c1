//! How long an enter waits, and for how much: learned from what the enters before it brought.
//!
//! Idle, the first completion ends the wait. At load the wait goes on for a few microseconds, until many completions are there, because what a system call
//! costs is then shared. (Since 6.13 an enter that wants one completion also delivers only some twenty, so wanting more is what makes batches possible.)

use crate::ring::Wait;

/// Completions per enter, times 100, from which on the loop counts as loaded.
const LOADED_X100: u32 = 400;
const WANT_MIN: u32 = 8;
const WANT_MAX: u32 = 32;

/// The moving average and the bounds.
pub(crate) struct Pace {
    average_x100: u32,
    /// Upper bound of the minimum wait; 0 where the kernel has none or the operator wants none.
    cap_us: u32,
}

impl Pace {
    pub(crate) fn new(cap_us: u32) -> Pace {
        Pace { average_x100: 0, cap_us }
    }

    /// An enter brought so many completions.
    pub(crate) fn brought(&mut self, completions: usize) {
        let new = (completions.min(10_000) as u32) * 100;
        self.average_x100 = (self.average_x100 * 7 + new) / 8;
    }

    pub(crate) fn average_x100(&self) -> u32 {
        self.average_x100
    }

    /// The next wait, at most so long.
    pub(crate) fn wait(&self, timeout_ns: u64) -> Wait {
        if self.cap_us == 0 || self.average_x100 < LOADED_X100 {
            return Wait { want: 1, min_wait_us: 0, timeout_ns };
        }
        let want = (self.average_x100 / 100).clamp(WANT_MIN, WANT_MAX);
        Wait { want, min_wait_us: self.cap_us, timeout_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_learned_and_forgotten() {
        let mut pace = Pace::new(20);
        assert_eq!(pace.wait(5), Wait { want: 1, min_wait_us: 0, timeout_ns: 5 });
        for _ in 0..40 {
            pace.brought(20);
        }
        let wait = pace.wait(5);
        assert!((15..=20).contains(&wait.want) && wait.min_wait_us == 20, "{wait:?}");
        for _ in 0..40 {
            pace.brought(1_000_000);
        }
        assert_eq!(pace.wait(5).want, WANT_MAX);
        for _ in 0..80 {
            pace.brought(1);
        }
        assert_eq!(pace.wait(5).want, 1);
    }

    #[test]
    fn without_a_minimum_wait_one_completion_is_enough() {
        let mut pace = Pace::new(0);
        for _ in 0..40 {
            pace.brought(50);
        }
        assert_eq!(pace.wait(9), Wait { want: 1, min_wait_us: 0, timeout_ns: 9 });
    }
}
