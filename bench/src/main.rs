//! The load generator without the server around it: to measure one that was built elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Measures a ringdesk from outside")]
struct Arguments {
    /// The server's binary; it is started with a fresh data directory for each run
    #[arg(long, default_value = "target/release/ringdesk")]
    bin: PathBuf,
    /// Where data directories are made; the disk that is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    #[command(subcommand)]
    verb: ringdesk_bench::Verb,
}

fn main() -> ExitCode {
    let Arguments { bin, dir, verb } = Arguments::parse();
    let own = match std::env::current_exe() {
        Ok(own) => own.to_string_lossy().into_owned(),
        Err(error) => {
            eprintln!("this program cannot find itself, and so cannot start workers: {error}");
            return ExitCode::FAILURE;
        }
    };
    ringdesk_bench::run(verb, &ringdesk_bench::Own { bin, worker: vec![own, "worker".into()] }, &dir)
}
