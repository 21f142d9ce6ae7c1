//! A shard: sessions, conversations and a journal behind one function, `step(now, input, &mut effects)`.
//!
//! One way in ([`Input`]), one list out ([`Effect`]). A step never waits and never reads a clock, so a seed replays it. What is lent to the kernel (a send,
//! a block) leaves as an owned value in an effect and comes back in the input that completes it. Nothing here knows about rings, files or threads.
//!
//! | file | the state it owns |
//! |---|---|
//! | `shard` | everything below, and the one way in |
//! | `door`, `admit`, `frames` | sockets: from the first byte to envelopes, and frames to sends |
//! | `session`, `auth` | who is there, what he was told and acknowledged |
//! | `visit`, `agents`, `watch` | what visitors and agents may ask for; what agents here listen to |
//! | `home` | conversations: every durable word is decided and written there |
//! | `log`, `due`, `tell` | the journal; what waits for it; telling what became durable |
//! | `post`, `letters` | mailboxes: what may be posted when; what letters do |
//! | `lists` | the dispatcher and the lists |
//! | `ticking`, `stop` | the end of a turn, time, stopping |
#![forbid(unsafe_code)]

mod admit;
mod agents;
mod auth;
mod counters;
mod door;
mod due;
mod effect;
mod frames;
mod home;
mod input;
mod letters;
mod lists;
mod log;
#[doc(hidden)]
pub mod plant;
mod pool;
mod post;
mod session;
mod shard;
mod stop;
mod tell;
mod ticking;
mod visit;
mod watch;

pub use counters::{CounterKind, CounterName, Counters};
pub use effect::{Effect, FenceCause};
pub use input::{Config, Door, Input, Moved, Now, StorageError};
pub use shard::{Builder, Shard, shard_of};
