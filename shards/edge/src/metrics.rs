//! What an edge counts, and how the numbers of a shard reach the control plane.
//!
//! A shard keeps plain numbers and copies them, relaxed, into a row of atomics at least every 100 ms while it turns often, at least once a second when it
//! is idle, and when it is asked. So a reader sees numbers that are a little old and never torn, and a shard shares no hot cache line with anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::driven::Core;

/// What a number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Rises until the process ends.
    Counter,
    /// What is there now.
    Gauge,
    /// A bucket of a histogram: how many values were at most `le_us` microseconds (`None` = all of them). Buckets of one name follow each other and
    /// are cumulative; their `Sum` follows them.
    Bucket {
        /// The upper bound in microseconds.
        le_us: Option<u64>,
    },
    /// The sum of a histogram's values in microseconds.
    Sum,
}

/// The name of one number in a shard's row.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Without a prefix: `accepts`, `loop_lag`. The parts of a histogram share their name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// One shard's row: a value for each of [`names`], in that order.
#[derive(Clone)]
pub struct Gauges {
    row: Arc<[AtomicU64]>,
}

impl Gauges {
    pub(crate) fn new(count: usize) -> Gauges {
        Gauges { row: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// The value at `index`, as it was published last.
    ///
    /// # Panics
    /// When `index` is not below [`Gauges::len`].
    pub fn value(&self, index: usize) -> u64 {
        self.row[index].load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, values: &[u64]) {
        assert_eq!(values.len(), self.row.len(), "one value for each name");
        for (place, value) in self.row.iter().zip(values) {
            place.store(*value, Ordering::Relaxed);
        }
    }
}

/// The names of the numbers in a [`Gauges`] of the server's shards, in their order.
pub fn names() -> Vec<Name> {
    names_for::<shard::Shard>()
}

/// The names of a row for shards that run `C`: the edge's own numbers, then the core's.
pub fn names_for<C: Core>() -> Vec<Name> {
    let mut names = Counters::names();
    names.extend(C::counter_names());
    names
}

/// How many buckets a histogram has: at most 1, 2, 4 … 2^20 µs (about a second), and all.
const BUCKETS: usize = 22;

/// A histogram of microseconds with a bucket for each power of two.
#[derive(Clone, Debug)]
pub(crate) struct Log2 {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Default for Log2 {
    fn default() -> Self {
        Log2 { counts: [0; BUCKETS], sum_us: 0 }
    }
}

impl Log2 {
    pub(crate) fn record_ns(&mut self, ns: u64) {
        let us = ns.div_ceil(1000);
        let bucket = if us <= 1 { 0 } else { (64 - (us - 1).leading_zeros()) as usize };
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.sum_us += us;
    }

    fn push_names(names: &mut Vec<Name>, name: &'static str, help: &'static str) {
        for bucket in 0..BUCKETS {
            let le_us = (bucket < BUCKETS - 1).then(|| 1 << bucket);
            names.push(Name { name, help, kind: Kind::Bucket { le_us } });
        }
        names.push(Name { name, help, kind: Kind::Sum });
    }

    fn push_values(&self, values: &mut Vec<u64>) {
        let mut sum = 0;
        for count in self.counts {
            sum += count;
            values.push(sum);
        }
        values.push(self.sum_us);
    }
}

macro_rules! counters {
    ($($kind:ident $name:ident: $help:literal;)*) => {
        /// All numbers of one edge. One writer.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Counters {
            $(#[doc = $help] pub(crate) $name: u64,)*
            /// How long a turn took, from the return of the enter to the next enter.
            pub(crate) loop_lag: Log2,
            /// How long a block took to be written and flushed.
            pub(crate) write_latency: Log2,
        }

        impl Counters {
            fn names() -> Vec<Name> {
                let mut names = vec![$(Name { name: stringify!($name), help: $help, kind: Kind::$kind },)*];
                Log2::push_names(&mut names, "loop_lag", "Time a turn took, from the return of one enter to the next.");
                Log2::push_names(&mut names, "write_latency", "Time a block took to be written and flushed.");
                names
            }

            /// Writes all values in the order of the names.
            pub(crate) fn collect(&self, values: &mut Vec<u64>) {
                values.extend([$(self.$name,)*]);
                self.loop_lag.push_values(values);
                self.write_latency.push_values(values);
            }
        }
    };
}

counters! {
    Gauge doors_open: "Slots of the descriptor table in use.";
    Gauge doors_lingering: "Connections that are closed on our side and wait for their peer's end.";
    Gauge accepts_armed: "Accepts waiting in the ring.";
    Gauge reports_waiting: "Reports that found no room in the control plane's mailbox yet.";
    Gauge completions_per_enter_x100: "Moving average of completions per enter, times 100.";
    Counter turns: "Turns of the loop.";
    Counter enters: "System calls into the ring.";
    Counter waits: "Enters that were allowed to wait.";
    Counter completions: "Completions seen.";
    Counter stale_completions: "Completions of an older use of a slot; nothing but their buffer was touched.";
    Counter cq_overflows: "Turns that found the completion queue overflown.";
    Counter accepts: "Connections accepted.";
    Counter accept_errors: "Accepts that failed; armed again after a pause.";
    Counter receives: "Receives with data.";
    Counter receive_bytes: "Bytes received.";
    Counter receive_rearms: "Receives armed again because the kernel ended them.";
    Counter enobufs: "Receives that found no buffer; armed again when there was one.";
    Counter promotions: "Connections that went from poll to multishot receive.";
    Counter demotions: "Connections that went back to poll after an idle time.";
    Counter sends: "Sends submitted.";
    Counter send_bytes: "Bytes sent.";
    Counter short_sends: "Sends of which only a part went out at once.";
    Counter moves: "Connections sent to another ring.";
    Counter move_failures: "Moves that failed; the connection stayed.";
    Counter arrivals: "Connections that came from another ring.";
    Counter hand_overs: "Connections given to the control plane.";
    Counter hand_overs_refused: "Connections answered 503 because the control plane had too many.";
    Counter adoptions: "Connections taken back from the control plane.";
    Counter adoption_failures: "Connections of the control plane that found no free slot.";
    Counter mail_batches: "Batches of letters published.";
    Counter letters_sent: "Letters published.";
    Counter wakes_sent: "Sleeping shards woken.";
    Counter writes: "Blocks written.";
    Counter write_bytes: "Bytes written to the journal.";
    Counter superblock_writes: "Superblocks written.";
    Counter segments_prepared: "Segments made ready.";
    Counter segment_failures: "Segments that could not be made ready.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_bucket_that_bounds_it() {
        let mut histogram = Log2::default();
        for us in [0u64, 1, 2, 3, 4, 5, 1 << 20, (1 << 20) + 1, 1 << 40] {
            histogram.record_ns(us * 1000);
        }
        let mut values = Vec::new();
        histogram.push_values(&mut values);
        assert_eq!(values[0], 2, "0 and 1");
        assert_eq!(values[1], 3, "2");
        assert_eq!(values[2], 5, "3 and 4");
        assert_eq!(values[3], 6, "5");
        assert_eq!(values[20], 7, "2^20");
        assert_eq!(values[21], 9, "all");
    }

    #[test]
    fn names_and_values_match() {
        let mut values = Vec::new();
        Counters::default().collect(&mut values);
        assert_eq!(values.len(), Counters::names().len());
    }
}
