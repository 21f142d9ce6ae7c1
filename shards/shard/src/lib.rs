//! A shard: sessions, conversations and a journal behind one function, `step(now, input, &mut effects)`.
//!
//! One way in ([`Input`]), one list out ([`Effect`]). A step never waits and never reads a clock, so a seed replays it. What is lent to the kernel (a send,
//! a block) leaves as an owned value in an effect and comes back in the input that completes it. Nothing here knows about rings, files or threads.
#![forbid(unsafe_code)]

mod effect;
mod input;

pub use effect::{Effect, FenceCause};
pub use input::{Config, Door, Input, Moved, Now, StorageError};
