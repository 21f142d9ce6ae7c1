//! Token buckets: eight bytes each, integers only, one per thing that is limited.
//!
//! A bucket does not hold a level, which would have to be refilled, but the time at which it will be full again. Nothing happens to it while nobody asks.

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// A token bucket; `Bucket::default()` is full. Rate and burst come with every call, so a change of settings reaches every bucket at once.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// On the caller's clock, in nanoseconds: 64 bits last for 584 years, so it does not wrap.
    full_at_ns: u64,
}

const _: () = assert!(size_of::<Bucket>() == 8, "a session holds several buckets and has 350 bytes");

impl Bucket {
    /// Takes `cost` tokens out of a bucket of `burst` (> 0) that fills at `rate_per_s` (> 0) tokens a second.
    ///
    /// In any time T at most `burst + rate × T` tokens are taken. A cost above the burst counts as the burst: it needs a full bucket. A clock that jumps back
    /// finds the bucket empty at worst, never in debt; one that jumps ahead finds it full.
    ///
    /// # Errors
    /// The milliseconds (> 0) after which the same call succeeds if nobody takes anything meanwhile. Nothing was taken.
    ///
    /// # Panics
    /// If the rate or the burst is zero: settings do not allow it.
    pub fn take(&mut self, now_ms: u64, rate_per_s: u32, burst: u32, cost: u32) -> Result<(), u32> {
        assert!(rate_per_s > 0, "a bucket that never fills is a ban, not a limit");
        assert!(burst > 0, "a bucket that holds nothing lets nothing through");
        // Rounded up, so that the rate is never passed. At most 2³² × 10⁹, which 64 bits hold.
        let token_ns = NS_PER_S.div_ceil(u64::from(rate_per_s));
        let bucket_ns = token_ns * u64::from(burst);
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let empty_ns = now_ns.saturating_add(bucket_ns);

        self.full_at_ns = self.full_at_ns.clamp(now_ns, empty_ns);
        let after_ns = self.full_at_ns.saturating_add(token_ns * u64::from(cost.min(burst)));
        if after_ns <= empty_ns {
            self.full_at_ns = after_ns;
            return Ok(());
        }
        let wait_ms = (after_ns - empty_ns).div_ceil(NS_PER_MS);
        Err(u32::try_from(wait_ms).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_fresh_bucket_gives_its_burst_and_then_one_token_per_interval() {
        let mut bucket = Bucket::default();
        for _ in 0..5 {
            assert_eq!(bucket.take(1_000, 10, 5, 1), Ok(()));
        }
        assert_eq!(bucket.take(1_000, 10, 5, 1), Err(100));
        assert_eq!(bucket.take(1_099, 10, 5, 1), Err(1));
        assert_eq!(bucket.take(1_100, 10, 5, 1), Ok(()));
        assert_eq!(bucket.take(1_100, 10, 5, 1), Err(100));
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(0, 1, 10, 8), Ok(()));
        assert_eq!(bucket.take(0, 1, 10, 3), Err(1_000));
        assert_eq!(bucket.take(0, 1, 10, 2), Ok(()));
    }

    #[test]
    fn a_cost_above_the_burst_needs_a_full_bucket_and_then_passes() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(0, 4, 4, 1), Ok(()));
        assert_eq!(bucket.take(0, 4, 4, 1_000_000), Err(250));
        assert_eq!(bucket.take(250, 4, 4, 1_000_000), Ok(()));
    }

    #[test]
    fn nothing_wraps_after_49_days_or_after_years() {
        for idle in [49, 50, 99, 365 * 100] {
            let start = 7 * DAY_MS;
            let mut bucket = Bucket::default();
            assert_eq!(bucket.take(start, 1, 3, 3), Ok(()));
            let later = start + idle * DAY_MS;
            assert_eq!(bucket.take(later, 1, 3, 3), Ok(()), "full again after {idle} days");
            assert_eq!(bucket.take(later, 1, 3, 1), Err(1_000), "and no fuller than full");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_costs_at_most_one_filling() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(60 * DAY_MS, 2, 4, 4), Ok(()));
        assert_eq!(bucket.take(1_000, 2, 4, 4), Err(2_000));
        assert_eq!(bucket.take(3_000, 2, 4, 4), Ok(()));
    }

    #[test]
    fn a_smaller_burst_holds_at_once() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(0, 1, 100, 100), Ok(()));
        assert_eq!(bucket.take(0, 1, 2, 2), Err(2_000));
        assert_eq!(bucket.take(2_000, 1, 2, 2), Ok(()));
    }

    #[test]
    fn the_ends_of_the_number_ranges_do_not_overflow() {
        for (rate, burst, cost) in [(1, u32::MAX, u32::MAX), (u32::MAX, u32::MAX, 1), (u32::MAX, 1, u32::MAX)]
        {
            for now in [0, 1, u64::MAX / NS_PER_MS, u64::MAX] {
                let mut bucket = Bucket::default();
                assert_eq!(bucket.take(now, rate, burst, cost), Ok(()));
                let _either = bucket.take(now, rate, burst, cost);
            }
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_allow(
            rate in 1u32..2_000,
            burst in 1u32..500,
            steps in prop::collection::vec((0u64..300, 1u32..20), 1..200),
        ) {
            let mut bucket = Bucket::default();
            let mut now = 5_000u64;
            let mut taken = 0u64;
            let mut time = 0u64;
            for (pass, cost) in steps {
                now += pass;
                time += pass;
                let before = bucket;
                match bucket.take(now, rate, burst, cost) {
                    Ok(()) => taken += u64::from(cost.min(burst)),
                    Err(after_ms) => {
                        prop_assert!(after_ms > 0);
                        let mut patient = before;
                        prop_assert!(patient.take(now + u64::from(after_ms) - 1, rate, burst, cost).is_err());
                        prop_assert_eq!(patient.take(now + u64::from(after_ms), rate, burst, cost), Ok(()));
                    }
                }
                prop_assert!(taken * 1_000 <= u64::from(burst) * 1_000 + u64::from(rate) * time);
            }
        }

        #[test]
        fn whatever_the_clock_does_the_wait_is_at_most_one_filling(
            rate in 1u32..100,
            burst in 1u32..100,
            clock in prop::collection::vec(any::<u64>(), 1..50),
        ) {
            let mut bucket = Bucket::default();
            for now in clock {
                if let Err(after_ms) = bucket.take(now, rate, burst, 1) {
                    prop_assert!(u64::from(after_ms) <= u64::from(burst) * 1_000 / u64::from(rate) + 2);
                }
            }
        }
    }
}
