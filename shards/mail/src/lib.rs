//! What may cross a thread boundary, and the bounded queues it crosses in.
//!
//! Letters go from shard to shard, orders from the control plane to a shard, reports back. The three enums are the complete list; nothing else is shared.
//! This crate never touches sockets, files or clocks.
#![forbid(unsafe_code)]

mod letter;
mod order;
pub mod queue;
pub mod sleep;

/// Where shards upgrade to WebSocket, for visitors and for agents. Every other path is the control plane's, but for the echo path.
pub const UPGRADE_PATHS: [&str; 2] = ["/ws/v1/visitor", "/ws/v1/agent"];

pub use letter::{Answer, Ask, Expect, Letter, LetterClass, SaidBy, Stored};
pub use order::{NoticeScope, Order, Report};
