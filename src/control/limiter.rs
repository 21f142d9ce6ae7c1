//! How often somebody may try: per address, per account. Bounded in memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Keys remembered at most; at the bound the half that is nearest to being forgotten goes.
const KEYS_MAX: usize = 8_192;

/// So many per minute in the long run, and twice as many at once.
pub(super) struct Limiter<K> {
    interval_ms: u64,
    burst: u64,
    /// When the key would be at rest, had it waited properly (GCRA).
    rest_at_ms: Mutex<HashMap<K, u64>>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// With `per_minute` from 1 to 60,000.
    pub(super) fn new(per_minute: u32) -> Limiter<K> {
        let per_minute = u64::from(per_minute.clamp(1, 60_000));
        Limiter { interval_ms: 60_000 / per_minute, burst: 2 * per_minute, rest_at_ms: Mutex::default() }
    }

    /// Takes one try at `now_ms`, or says in how many milliseconds there is one.
    pub(super) fn take(&self, key: K, now_ms: u64) -> Result<(), u64> {
        let mut table = self.rest_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let rest_at = table.get(&key).copied().unwrap_or(0).max(now_ms);
        let room = (self.burst - 1) * self.interval_ms;
        if rest_at - now_ms > room {
            return Err(rest_at - now_ms - room);
        }
        if table.len() >= KEYS_MAX && !table.contains_key(&key) {
            table.retain(|_, at| *at > now_ms);
            if table.len() >= KEYS_MAX {
                // Half of them at once, so that a crowd costs no search for each of its members.
                let mut rests: Vec<u64> = table.values().copied().collect();
                let (_, &mut middle, _) = rests.select_nth_unstable(KEYS_MAX / 2);
                table.retain(|_, at| *at > middle);
            }
        }
        table.insert(key, rest_at + self.interval_ms);
        Ok(())
    }
}

/// What counts as one address: an IPv6 network of 64 bits is one customer.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_only_the_rate() {
        let limiter = Limiter::new(6);
        for _ in 0..12 {
            assert_eq!(limiter.take("a", 1_000), Ok(()));
        }
        assert_eq!(limiter.take("a", 1_000), Err(10_000));
        assert_eq!(limiter.take("a", 10_999), Err(1));
        assert_eq!(limiter.take("a", 11_000), Ok(()));
        assert_eq!(limiter.take("a", 11_000), Err(10_000));
        assert_eq!(limiter.take("b", 11_000), Ok(()));
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let limiter = Limiter::new(60_000);
        for key in 0..3 * KEYS_MAX {
            assert_eq!(limiter.take(key, 5), Ok(()));
            assert!(limiter.rest_at_ms.lock().unwrap().len() <= KEYS_MAX);
        }
    }

    #[test]
    fn who_waits_longest_is_remembered_when_others_are_forgotten() {
        let limiter = Limiter::new(1);
        assert_eq!((limiter.take(0, 5), limiter.take(0, 5)), (Ok(()), Ok(())));
        for key in 1..2 * KEYS_MAX {
            assert_eq!(limiter.take(key, 5), Ok(()));
        }
        assert!(limiter.take(0, 5).is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_is_ipv4() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
