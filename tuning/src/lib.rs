//! What the host looks like, which of its cores ringdesk takes, and what of it could be better.
//!
//! Pure: the texts of `/proc` and `/sys` come in as an argument, a plan and findings come out. Nothing here reads a file, starts a thread or changes the host.
#![forbid(unsafe_code)]

mod cgroup;
mod check;
mod finding;
mod host;
mod level;
mod list;
mod plan;
mod topology;

pub use check::{Report, Wanted};
pub use finding::{Area, Finding, State};
pub use host::{Host, Unread};
pub use level::Build;
pub use list::{CpuList, ListError};
pub use plan::{Plan, SHARD_COUNT_MAX};
pub use topology::{Core, Topology, TopologyError};
