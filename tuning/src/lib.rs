//! What the host looks like, and which of its cores ringdesk takes.
//!
//! Pure: the texts of `/proc` and `/sys` come in as an argument, a plan comes out. Nothing here reads a file, starts a thread or changes the host.
#![forbid(unsafe_code)]

mod list;
mod plan;
mod topology;

pub use list::{CpuList, ListError};
pub use plan::{Plan, SHARD_COUNT_MAX};
pub use topology::{Core, Topology, TopologyError};
