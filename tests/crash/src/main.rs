//! `crash`: loops of kill -9 and power cuts, bad disks, and restarts of the control plane, each judged from outside.

mod runs {
    pub(crate) mod control;
    pub(crate) mod cut;
    pub(crate) mod disk;
    pub(crate) mod kill;
    pub(crate) mod report;
}

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use runs::cut::How;
use runs::report::Tally;

#[derive(Parser, Debug)]
#[command(
    name = "crash",
    about = "What must survive anything, judged from outside. Statuses: 0 all passed, 1 something failed, 2 the run itself could not be made."
)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// kill -9 at random moments under load, some of them while the server recovers
    Kill(Loop),
    /// Power cuts under load on an ext4 of its own; needs root
    Cut {
        #[command(flatten)]
        run: Loop,
        /// Nothing is flushed: the server runs with durability "memory", or the device ignores flushes. Passes only if the cuts cost acknowledged messages
        #[arg(long)]
        expect_loss: bool,
        /// What a cut takes away
        #[arg(long, value_enum, default_value_t = How::Both)]
        how: How,
        /// Size of the file system
        #[arg(long, default_value_t = 512)]
        disk_mb: u64,
    },
    /// Full, failing and read-only disks, two servers, missing segments, SIGTERM under load; needs root
    Disk {
        #[command(flatten)]
        common: Common,
        /// Only tests whose name contains this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// The control plane restarts and panics while people talk
    Control(Common),
}

#[derive(Args, Debug, Clone)]
struct Common {
    /// The binary to test; else RINGDESK_BIN; else `ringdesk` beside this one
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Shards of the server
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Where data, logs and images go; kept if something fails
    #[arg(long, default_value = "/tmp/ringdesk-crash")]
    work_dir: PathBuf,
}

#[derive(Args, Debug, Clone)]
struct Loop {
    #[command(flatten)]
    common: Common,
    /// Crashes
    #[arg(long, default_value_t = 20)]
    cycles: u32,
    /// Crashes of one data directory; then all is judged and a new one begins
    #[arg(long, default_value_t = 50)]
    round: u32,
    /// Messages per second of all clients together
    #[arg(long, default_value_t = 2_200.0)]
    rate: f64,
    /// Clients, three fifths of them visitors
    #[arg(long, default_value_t = 110)]
    clients: u16,
    /// Longest time between a start and a crash
    #[arg(long, default_value_t = 2.0)]
    seconds_per_cycle: f64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::from(2);
        }
    };
    let work = async {
        match cli.what {
            What::Kill(run) => runs::kill::run(run).await,
            What::Cut { run, how, expect_loss, disk_mb } => {
                runs::cut::run(run, how, expect_loss, disk_mb).await
            }
            What::Disk { common, only } => runs::disk::run(common, &only).await,
            What::Control(common) => runs::control::run(common).await,
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, work) {
        Ok(Tally { passed, failed }) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::from(2)
        }
    }
}
