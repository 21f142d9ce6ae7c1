//! The external checker: clients that speak docs/protocol.md by themselves, over real sockets, and judge what they were told.
//!
//! A run is a world of visitors and agents who talk all the time, each with the whole behaviour of a real client (resume, outbox, gaps, acknowledgements,
//! close codes), while something terrible happens to the server. Whatever they say, hear and have acknowledged goes to a log of their own. In the end
//! everything is read back by fresh sessions, and the log is held against it. Nothing here imports a crate of the project.

pub mod chance;
pub mod client;
pub mod http;
pub mod judge;
pub mod mount;
pub mod readback;
pub mod record;
pub mod rig;
pub mod server;
pub mod volatile;
pub mod words;
pub mod world;
pub mod ws;
