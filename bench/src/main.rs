//! Measures a ringdesk from outside. Its WebSocket client is its own, on monoio, so that client and server do not share a bug.
//!
//! Every figure stands beside its floor, measured in the same run on the same host: hosts differ by a factor of five, ratios do not.

mod client;
mod durable;
mod floor;
mod idle;
mod server;
mod socket;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The server's binary; it is started with a fresh data directory for each run.
    #[arg(long, default_value = "target/release/ringdesk")]
    bin: PathBuf,
    /// Where data directories are made; the disk that is measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Latency of a durable message from a visitor to an agent on another shard, open loop, beside the disk's write and a bare ping-pong.
    Durable {
        /// Messages a second.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Seconds that are measured.
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Visitors who talk, one after the other.
        #[arg(long, default_value_t = 20)]
        visitors: u32,
        /// Shards of the server; at least 2.
        #[arg(long, default_value_t = 2)]
        shards: u16,
        /// `disk` or `memory`.
        #[arg(long, default_value = "disk")]
        durability: String,
    },
    /// Memory of idle connections: on the echo path, logged in, and with a conversation of ten messages.
    Idle {
        /// Connections of each kind.
        #[arg(long, default_value_t = 10_000)]
        connections: u32,
        /// Shards of the server.
        #[arg(long, default_value_t = 1)]
        shards: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.what {
        What::Durable { rate, seconds, visitors, shards, durability } => {
            let plan = durable::Plan { rate, seconds, visitors, shards, durability };
            durable::run(&arguments.bin, &arguments.dir, &plan)
        }
        What::Idle { connections, shards } => idle::run(&arguments.bin, &arguments.dir, connections, shards),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
