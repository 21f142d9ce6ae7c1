//! What a worker counted and timed, in a form that travels between processes and adds up.

use data_encoding::BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::verify::Faults;

/// Longest time that is told apart, in nanoseconds: a minute.
const TIME_MAX_NS: u64 = 60_000_000_000;

/// Times in nanoseconds, three digits, 1 ns to 60 s. Longer ones count as 60 s.
#[derive(Clone)]
pub(crate) struct Times(pub Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        Times(Histogram::new_with_bounds(1, TIME_MAX_NS, 3).expect("the bounds are sound"))
    }
}

impl Times {
    /// One more.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    /// Those of another histogram too.
    pub(crate) fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Microseconds at a quantile from 0 to 1.
    pub(crate) fn us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

impl Serialize for Times {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).map_err(S::Error::custom)?;
        to.serialize_str(&BASE64.encode(&bytes))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Times, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(D::Error::custom)?;
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(D::Error::custom)?;
        let mut times = Times::default();
        times.0.add(&read).map_err(D::Error::custom)?;
        Ok(times)
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
        pub(crate) struct Counts {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }
        impl Counts {
            /// Those of another worker too.
            pub(crate) fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }
            /// What was counted since `before`.
            pub(crate) fn since(&self, before: &Counts) -> Counts {
                Counts { $($name: self.$name - before.$name,)* }
            }
        }
    };
}

counts! {
    /// Connections that were made, upgraded and (where that applies) logged in.
    connected,
    /// Of them, those that were closed by their own wish.
    left,
    /// Connections that could not be made or were closed by the other side.
    failed,
    /// Messages sent.
    sent,
    /// Messages that were acknowledged.
    answered,
    /// Messages that were refused.
    refused,
    /// Messages that reached whom they were for.
    received,
    /// Of them, those whose sender and receiver sit on different shards.
    crossed,
    /// Messages to those who read slowly or not at all: nothing waits for their arrival.
    to_slow,
    /// Of them, those that were read.
    slowly_received,
    /// Connections of such readers that the server closed.
    slow_closed,
    /// Notices that were told.
    noticed,
    /// Connections that were cut and made again.
    came_back,
    /// Of them, those whose session went on.
    resumed,
    /// Attempts to come back that did not succeed.
    retries,
    /// Heartbeats answered.
    heartbeats,
    /// Typing hints and receipts that were told.
    hints,
    /// Bytes sent, frames and all.
    bytes_out,
    /// Bytes received, frames and all.
    bytes_in,
}

impl Counts {
    /// Connections that stand now.
    pub(crate) fn standing(&self) -> u64 {
        self.connected - self.left - self.slow_closed
    }
}

/// All that a worker has to say.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Since the worker began.
    pub(crate) counts: Counts,
    /// What was wrong with the streams.
    pub(crate) faults: Faults,
    /// Times by what they measure, without the warm-up.
    pub(crate) times: BTreeMap<String, Times>,
    /// The first errors, in words.
    pub(crate) errors: Vec<String>,
    /// What must be there after a crash: told once, at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acknowledged: Vec<Acknowledged>,
}

/// What was acknowledged in one conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    /// Which.
    pub(crate) c: String,
    /// Numbers of the visitor's messages, and of the agent's, each in order.
    pub(crate) numbers: [Vec<u64>; 2],
}

/// Errors that are kept in words; all are counted.
const ERRORS_KEPT: usize = 8;

impl Figures {
    /// Those of another worker too.
    pub(crate) fn add(&mut self, other: &Figures) {
        self.counts.add(&other.counts);
        self.faults.add(&other.faults);
        for (name, times) in &other.times {
            self.times.entry(name.clone()).or_default().add(times);
        }
        self.acknowledged.extend(other.acknowledged.iter().cloned());
        other.errors.iter().for_each(|error| self.error(error.clone()));
    }

    /// A time of this name.
    pub(crate) fn time(&mut self, name: &str, nanoseconds: u64) {
        match self.times.get_mut(name) {
            Some(times) => times.record(nanoseconds),
            None => self.times.entry(name.to_owned()).or_default().record(nanoseconds),
        }
    }

    /// Something went wrong.
    pub(crate) fn error(&mut self, what: String) {
        if self.errors.len() < ERRORS_KEPT && !self.errors.contains(&what) {
            self.errors.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up_after_a_journey() {
        let mut one = Figures::default();
        one.counts.sent = 3;
        one.faults.lost = 1;
        (1..=1000).for_each(|us| one.time("ack", us * 1000));
        one.time("ack", 600_000_000_000);
        one.error("closed with 4110".into());
        let text = serde_json::to_string(&one).unwrap();
        let mut sum: Figures = serde_json::from_str(&text).unwrap();
        assert_eq!(sum.counts, one.counts);
        sum.add(&one);
        assert_eq!((sum.counts.sent, sum.faults.lost, sum.errors.len()), (6, 2, 1));
        let times = &sum.times["ack"];
        assert_eq!(times.0.len(), 2002);
        assert!((499.0..502.0).contains(&times.us(0.5)), "{}", times.us(0.5));
        assert!((59.9e6..60.1e6).contains(&times.us(1.0)));
    }
}
