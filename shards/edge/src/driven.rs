//! What the loop drives: a core that turns inputs into effects, and how one is made from what a journal holds.
//!
//! `shard::Shard` is the core of the server. The loop is written against these two small traits, so that its own tests can drive an echo over real
//! sockets without a desk behind it.

use journal::{Geometry, Identity, RecordRef, Recovered, Superblock};
use shard::{Effect, Input, Now};

use crate::metrics::Name;

/// A pure machine: one way in, one list out. It never waits and never reads a clock.
pub trait Core: 'static {
    /// Takes one input and appends what is to be done, in order.
    fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>);

    /// Whether work is queued, so that the loop must not wait in the ring.
    fn wants_turn(&self) -> bool;

    /// The names of its numbers.
    fn counter_names() -> Vec<Name>;

    /// Its numbers, in the order of the names; `out` has exactly that many places.
    fn counter_values(&self, out: &mut [u64]);
}

/// Makes a core from a journal's records. Built on the shard's own thread.
pub trait Recovery {
    /// What it makes.
    type Core: Core;

    /// Called for every record that holds, in order.
    fn replay(&mut self, record: &RecordRef<'_>);

    /// Starts the core. `superblock` is of this boot and durable already.
    fn start(
        self,
        now: Now,
        geometry: Geometry,
        identity: Identity,
        recovered: &Recovered,
        superblock: Superblock,
        effects: &mut Vec<Effect>,
    ) -> Self::Core;
}
