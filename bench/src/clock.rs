//! The host's monotonic clock, the same in every process, and a thread that wakes the runtime when something is to be sent: the runtime's own timer
//! ticks every millisecond.

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::schedule::Schedule;

/// Two wake-ups are at least so far apart; what falls between goes out together. Its cost is in the schedule lag.
const TICK_NS: u64 = 200_000;

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(rustix::time::ClockId::Monotonic);
    tv_sec as u64 * 1_000_000_000 + tv_nsec as u64
}

/// Sleeps until the clock shows `at_ns`.
pub(crate) fn sleep_until(at_ns: u64) {
    let at = Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 };
    while clock_nanosleep_absolute(ClockId::Monotonic, &at).is_err() {}
}

/// Wakes the reader of `bell` whenever a message of the schedule is due, until `end_ns` or until `stop`, and then once more.
pub(crate) fn ring(
    schedule: Schedule,
    start_ns: u64,
    end_ns: u64,
    mut bell: UnixStream,
    stop: Arc<AtomicBool>,
) {
    // A full pipe has woken him already.
    let _ = bell.set_nonblocking(true);
    std::thread::spawn(move || {
        let mut earliest = 0;
        for offset in schedule {
            let at = start_ns + offset;
            if at >= end_ns || stop.load(Ordering::Relaxed) {
                break;
            }
            if at < earliest {
                continue;
            }
            sleep_until(at);
            earliest = now_ns() + TICK_NS;
            let _ = bell.write(&[1]);
        }
        sleep_until(end_ns.min(now_ns() + 1_000_000_000 * u64::from(!stop.load(Ordering::Relaxed))));
        let _ = bell.write(&[0]);
    });
}
