//! When to send: fixed before the run, so that a server that stalls does not slow the load down and hide its stall ("coordinated omission").

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// How messages follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// At equal distances.
    Constant,
    /// As independent people write: exponential distances.
    Poisson,
}

/// The intended times of one worker, in nanoseconds after the start. Never ends.
pub(crate) struct Schedule {
    pace: Pace,
    /// Mean distance in nanoseconds.
    step: f64,
    next: f64,
    chance: ChaCha12Rng,
}

impl Schedule {
    /// The share of worker `worker` of `workers` in a load of `rate` a second: together they keep the rate, and a constant pace stays even.
    pub(crate) fn new(pace: Pace, rate: f64, worker: u32, workers: u32, seed: u64) -> Schedule {
        assert!(rate > 0.0 && worker < workers, "a share of a load that exists");
        let whole = 1e9 / rate;
        let mut schedule = Schedule {
            pace,
            step: whole * f64::from(workers),
            next: whole * f64::from(worker),
            chance: ChaCha12Rng::seed_from_u64(seed ^ (u64::from(worker) << 32)),
        };
        if pace == Pace::Poisson {
            schedule.next = schedule.distance();
        }
        schedule
    }

    fn distance(&mut self) -> f64 {
        match self.pace {
            Pace::Constant => self.step,
            Pace::Poisson => {
                // In (0, 1]: its logarithm is finite.
                let unit = ((self.chance.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                -unit.ln() * self.step
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let at = self.next;
        self.next += self.distance();
        Some(at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(pace: Pace, workers: u32, seed: u64) -> Vec<u64> {
        let mut times: Vec<u64> = (0..workers)
            .flat_map(|worker| {
                Schedule::new(pace, 10_000.0, worker, workers, seed).take_while(|&at| at < 10_000_000_000)
            })
            .collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn a_constant_pace_is_even_however_many_workers_share_it() {
        for workers in [1, 3, 7] {
            let times = merged(Pace::Constant, workers, 1);
            assert_eq!(times.len(), 100_000);
            assert!(
                times.windows(2).all(|pair| (99_990..=100_010).contains(&(pair[1] - pair[0]))),
                "{workers}"
            );
        }
    }

    #[test]
    fn a_poisson_pace_keeps_the_rate_and_has_the_spread_of_chance() {
        for workers in [1, 5] {
            let times = merged(Pace::Poisson, workers, 7);
            // 100,000 expected, standard deviation 316.
            assert!((98_700..101_300).contains(&times.len()), "{}", times.len());
            let distances: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = distances.iter().sum::<f64>() / distances.len() as f64;
            let square =
                distances.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / distances.len() as f64;
            // Of an exponential distribution mean and deviation are equal.
            assert!((0.97..1.03).contains(&(square.sqrt() / mean)), "{}", square.sqrt() / mean);
        }
        assert_eq!(merged(Pace::Poisson, 2, 3), merged(Pace::Poisson, 2, 3), "a seed names one schedule");
        assert_ne!(merged(Pace::Poisson, 2, 3), merged(Pace::Poisson, 2, 4));
    }
}
