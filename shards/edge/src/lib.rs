//! The edge: io_uring, sockets, files and pinned threads around the pure shard.
//!
//! One loop for each shard: it reads completions, gives them to `step` as inputs and carries out the effects. It decides nothing about chat, never waits
//! anywhere but in its ring, and is the only place of the data plane with `unsafe`. Memory lent to the kernel belongs to a slot until its completion.

mod accepts;
mod address;
pub mod disk;
mod driven;
pub mod exit;
pub mod limits;
mod log;
mod mesh;
pub mod metrics;
pub mod node;
mod pace;
mod plane;
pub mod probe;
mod ring;
#[cfg(test)]
mod scratch;
mod sockets;
mod sys;
mod turn;
mod watchdog;

pub use driven::{Core, Recovery};
