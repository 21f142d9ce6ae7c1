//! What the loop drives: a core that turns inputs into effects, and how one is made from what a journal holds.
//!
//! `shard::Shard` is the core of the server. The loop is written against these two small traits, so that its own tests can drive an echo over real
//! sockets without a desk behind it.

use journal::{RecordRef, Recovered, Superblock};
use shard::{Builder, CounterKind, Counters, Effect, Input, Now, Shard};

use crate::metrics::{Kind, Name};

/// A pure machine: one way in, one list out. It never waits and never reads a clock.
pub trait Core: 'static {
    /// Takes one input and appends what is to be done, in order.
    fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>);

    /// Whether work is queued, so that the loop must not wait in the ring.
    fn wants_turn(&self) -> bool;

    /// The names of its numbers.
    fn counter_names() -> Vec<Name>;

    /// Its numbers, in the order of the names; `out` has exactly that many places.
    fn counter_values(&mut self, out: &mut [u64]);
}

/// Makes a core from a journal's records. Built on the shard's own thread.
pub trait Recovery: 'static {
    /// What it makes.
    type Core: Core;

    /// Called for every record that holds, in order.
    fn replay(&mut self, record: &RecordRef<'_>);

    /// What the operator should know of the replay, as a sentence.
    fn findings(&self) -> Option<String>;

    /// Why this program must not go on with the journal, as a sentence.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// Starts the core. `superblock` is of this boot and durable already.
    fn start(
        self,
        now: Now,
        recovered: &Recovered,
        superblock: Superblock,
        effects: &mut Vec<Effect>,
    ) -> Self::Core;
}

impl Core for Shard {
    fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        Shard::step(self, now, input, effects);
    }

    fn wants_turn(&self) -> bool {
        Shard::wants_turn(self)
    }

    fn counter_names() -> Vec<Name> {
        let kind = |kind| match kind {
            CounterKind::Counter => Kind::Counter,
            CounterKind::Gauge => Kind::Gauge,
        };
        Counters::NAMES.iter().map(|it| Name { name: it.name, help: it.help, kind: kind(it.kind) }).collect()
    }

    fn counter_values(&mut self, out: &mut [u64]) {
        self.counters().values(out);
    }
}

impl Recovery for Builder {
    type Core = Shard;

    fn replay(&mut self, record: &RecordRef<'_>) {
        Builder::replay(self, record);
    }

    fn findings(&self) -> Option<String> {
        let unread = self.unread();
        (unread > 0).then(|| {
            format!(
                "{unread} records of the journal are sound and make no sense: what they follow may be lost"
            )
        })
    }

    fn refusal(&self) -> Option<String> {
        self.newer().map(|error| error.to_string())
    }

    fn start(
        self,
        now: Now,
        recovered: &Recovered,
        superblock: Superblock,
        effects: &mut Vec<Effect>,
    ) -> Shard {
        Builder::start(self, now, recovered, superblock, effects)
    }
}
