//! The simulator: whole servers of real shards in a world of one seed.
//!
//! Nothing here waits, reads a clock or starts a thread inside a world. Everything that the edge does with a ring, sockets and files is played with a heap
//! of events, byte streams and byte arrays, and everything that can fail does. A checker outside of the server holds it to docs/protocol.md.
//!
//! `cargo sim SEED` replays one world; `cargo sim --worlds N` runs many.
#![forbid(unsafe_code)]

mod bugs;
mod chance;
mod check;
mod client;
mod disk;
mod frames;
mod json;
mod marks;
mod net;
mod plan;
mod run;
mod server;
mod trace;
mod world;

pub use bugs::BUGS;
pub use run::{Batch, Verdict, plant, run, run_many};
