//! Measures a ringdesk from outside. Its WebSocket client is its own, on monoio, so that client and server do not share a bug.
//!
//! A scenario is run by worker processes, each pinned and with its own share of the connections ([`worker`]); one process starts them, hears their figures
//! and adds them up ([`coordinator`]). Every stream is checked while it is measured ([`verify`]).

mod audit;
mod chat;
mod client;
mod clock;
mod compare;
mod conn;
mod coordinator;
mod crowd;
mod durable;
mod echo;
mod figures;
mod floor;
mod frame;
mod json;
mod member;
mod memory;
mod notices;
mod observe;
mod report;
mod scenario;
mod schedule;
mod server;
mod socket;
mod verify;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How this program is started.
pub struct Own {
    /// The server that is measured.
    pub bin: PathBuf,
    /// Program and arguments that make it a worker.
    pub worker: Vec<String>,
}

/// What can be measured.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Latency of a durable message from a visitor to an agent on another shard, beside the disk's write and a bare ping-pong
    Durable {
        /// Messages a second
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Seconds that are measured
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Visitors who talk, one after the other
        #[arg(long, default_value_t = 20)]
        visitors: u32,
        /// Shards of the server; at least 2
        #[arg(long, default_value_t = 2)]
        shards: u16,
        /// disk or memory
        #[arg(long, default_value = "disk")]
        durability: String,
    },
    /// Memory of idle connections: on the echo path, logged in, and with a conversation of ten messages
    Memory {
        /// Connections of each kind
        #[arg(long, default_value_t = 10_000)]
        connections: u32,
        /// Shards of the server
        #[arg(long, default_value_t = 1)]
        shards: u16,
    },
    /// Two reports as ratios with confidence intervals
    Compare {
        /// What --out named in the first run
        a: PathBuf,
        /// And in the second
        b: PathBuf,
    },
    /// One process of a load; started by a scenario
    #[command(hide = true)]
    Worker,
    /// A scenario by its name, or a file that ends in .toml
    #[command(external_subcommand)]
    Scenario(Vec<String>),
}

/// A scenario and what is changed in it.
#[derive(Parser, Debug)]
#[command(name = "ringdesk bench", about = "Loads a server and reports what it measured")]
struct Load {
    /// broadcast, chat, echo, idle, peak, slow, soak, storm, or a file that ends in .toml
    scenario: String,
    /// Connections in all
    #[arg(long)]
    connections: Option<u32>,
    /// Messages a second in all; 0 = a closed loop
    #[arg(long)]
    rate: Option<f64>,
    /// Measured time, as 500ms, 60s or 5m
    #[arg(long, value_parser = scenario::read_span)]
    duration: Option<std::time::Duration>,
    /// Time before it that is not measured
    #[arg(long, value_parser = scenario::read_span)]
    warm_up: Option<std::time::Duration>,
    /// Characters of a message
    #[arg(long)]
    payload: Option<usize>,
    /// Conversations that are talked in
    #[arg(long)]
    chats: Option<u32>,
    /// Of the visitors who do not talk so many leave and come every second
    #[arg(long)]
    churn: Option<f64>,
    /// Everybody loses his connection a third of the measured time in, and comes back
    #[arg(long, value_enum)]
    storm: Option<scenario::Storm>,
    /// Of those who talk so many visitors read a kilobyte a second
    #[arg(long)]
    slow: Option<u32>,
    /// Of those who talk so many visitors read nothing
    #[arg(long)]
    stuck: Option<u32>,
    /// Notices a second that everybody is told
    #[arg(long)]
    notices: Option<f64>,
    /// `disk` or `memory`
    #[arg(long)]
    durability: Option<String>,
    /// Shards of the server
    #[arg(long)]
    shards: Option<u16>,
    /// Worker processes; more are started where the descriptor limit demands it
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// Of all chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Start a server for the run on cores of its own, and end it afterwards; so it is without --server
    #[arg(long, conflicts_with = "server")]
    spawn: bool,
    /// At the end kill the server with -9, start it again and read back every acknowledged message
    #[arg(long, conflicts_with = "server")]
    audit: bool,
    /// A server that runs: its address
    #[arg(long, requires = "inbox")]
    server: Option<std::net::SocketAddr>,
    /// Of that server: its private listener, for its own figures and for notices
    #[arg(long, requires = "server")]
    admin: Option<std::net::SocketAddr>,
    /// Of that server: the file admin.key of its data directory
    #[arg(long, requires = "admin")]
    admin_key: Option<PathBuf>,
    /// Of that server: an inbox
    #[arg(long)]
    inbox: Option<String>,
    /// Of that server: an agent's ticket; may be given several times, one for each 500 conversations
    #[arg(long)]
    ticket: Vec<String>,
    /// Where report.json and the histograms go
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs a verb; data directories are made in `dir`, on the disk that is to be measured. The status is a failure if anything was wrong with what was measured.
pub fn run(verb: Verb, own: &Own, dir: &Path) -> ExitCode {
    let result = match verb {
        Verb::Durable { rate, seconds, visitors, shards, durability } => {
            let plan = durable::Plan { rate, seconds, visitors, shards, durability };
            durable::run(&own.bin, dir, &plan).map(|()| ExitCode::SUCCESS)
        }
        Verb::Memory { connections, shards } => {
            memory::run(&own.bin, dir, connections, shards).map(|()| ExitCode::SUCCESS)
        }
        Verb::Compare { a, b } => {
            compare::read(&a).and_then(|a| compare::read(&b).map(|b| (a, b))).map(|(a, b)| {
                print!("{}", compare::table(&a, &b));
                ExitCode::SUCCESS
            })
        }
        Verb::Worker => return worker::main(),
        Verb::Scenario(words) => {
            match Load::try_parse_from(core::iter::once("ringdesk bench".to_owned()).chain(words)) {
                Ok(load) => scenario_run(own, dir, load),
                Err(error) => {
                    // Help comes this way too, and is no error.
                    let status = error.exit_code() as u8;
                    let _ = error.print();
                    return ExitCode::from(status);
                }
            }
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn scenario_run(own: &Own, dir: &Path, load: Load) -> Result<ExitCode, String> {
    let mut scenario = scenario::Scenario::find(&load.scenario).map_err(|error| error.to_string())?;
    scenario.connections = load.connections.unwrap_or(scenario.connections);
    scenario.rate = load.rate.unwrap_or(scenario.rate);
    scenario.duration = load.duration.unwrap_or(scenario.duration);
    scenario.warm_up = load.warm_up.unwrap_or(scenario.warm_up);
    scenario.payload = load.payload.unwrap_or(scenario.payload);
    scenario.chats = load.chats.unwrap_or(scenario.chats);
    scenario.churn = load.churn.unwrap_or(scenario.churn);
    scenario.storm = load.storm.or(scenario.storm);
    scenario.slow = load.slow.unwrap_or(scenario.slow);
    scenario.stuck = load.stuck.unwrap_or(scenario.stuck);
    scenario.notices = load.notices.unwrap_or(scenario.notices);
    scenario.durability = load.durability.unwrap_or(scenario.durability);
    scenario.shards = load.shards.unwrap_or(scenario.shards);
    scenario.check().map_err(|error| error.to_string())?;
    if scenario.kind == scenario::Kind::Chat && load.server.is_some() && load.ticket.is_empty() {
        return Err("agents of a server that runs need --ticket: POST /api/v1/auth/login gives one".into());
    }
    if scenario.notices > 0.0 && load.server.is_some() && load.admin_key.is_none() {
        return Err(
            "notices to a server that runs need --admin and --admin-key: its private listener takes them"
                .into(),
        );
    }
    if scenario.storm == Some(scenario::Storm::Restart) && load.server.is_some() {
        return Err("only a server that is started for the run is killed: leave --server out".into());
    }
    let place = match load.server {
        Some(address) => coordinator::Place::Remote {
            target: worker::Target {
                address,
                inbox: load.inbox.unwrap_or_default(),
                tickets: load.ticket,
                shards: load.shards,
            },
            admin: load.admin,
            admin_key: match &load.admin_key {
                Some(path) => std::fs::read_to_string(path)
                    .map_err(|error| format!("{}: {error}", path.display()))?
                    .trim()
                    .to_owned(),
                None => String::new(),
            },
        },
        None => coordinator::Place::Spawn { bin: own.bin.clone(), dir: dir.to_owned() },
    };
    let setup = coordinator::Setup {
        place,
        workers: load.workers,
        worker_command: own.worker.clone(),
        seed: load.seed,
        audit: load.audit,
    };
    let command_line = std::env::args().collect::<Vec<_>>().join(" ");
    let report = coordinator::run(&scenario, &setup, command_line)?;
    if let Some(out) = &load.out {
        report.write(out)?;
    }
    print!("{}", report.table());
    Ok(if report.problems().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
