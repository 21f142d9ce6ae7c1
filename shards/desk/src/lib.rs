//! The chat itself: conversations, their numbers and records, the queue and the agents' capacity, the client protocol, ids and tokens.
//!
//! Pure: no clock, no I/O, no threads. Time and chance come in as arguments; the same calls give the same state on every machine.
//! It never knows about sockets, frames, shards' queues or files; `shard` composes it with those.
#![forbid(unsafe_code)]

pub mod bucket;
pub mod conversation;
pub mod dispatcher;
pub mod encode;
pub mod id;
pub mod map;
pub mod pages;
#[doc(hidden)]
pub mod plant;
pub mod record;
pub mod request;
pub mod settings;
pub mod store;
pub mod token;
