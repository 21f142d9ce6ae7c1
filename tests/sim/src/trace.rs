//! What happened, as a number: every event and effect is folded into 64 bits, so that two runs of one seed can be compared. On demand also as text.

use xxhash_rust::xxh3::xxh3_64;

/// The trace of one world.
pub(crate) struct Trace {
    hash: u64,
    /// Events so far.
    pub(crate) events: u64,
    print: bool,
    /// The last lines, for a panic's report.
    now_us: u64,
}

impl Trace {
    pub(crate) fn new(print: bool) -> Trace {
        Trace { hash: 0x9E37_79B9_7F4A_7C15, events: 0, print, now_us: 0 }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The time of what is noted from now on, in microseconds.
    pub(crate) fn at(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.fold(now_us);
    }

    pub(crate) fn fold(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(29) ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        self.hash ^= self.hash >> 32;
    }

    pub(crate) fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(xxh3_64(bytes));
    }

    /// Notes that something happened; `text` is made only when it is printed.
    pub(crate) fn note(&mut self, place: &str, number: u64, what: &str, text: impl FnOnce() -> String) {
        self.fold(number << 8 | what.len() as u64);
        self.fold_bytes(what.as_bytes());
        if self.print {
            println!("{:>12.3} {place:<7}{number:>3} {what:<18} {}", self.now_us as f64 / 1000.0, text());
        }
    }
}
