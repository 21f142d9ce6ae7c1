//! ringdesk: self-hosted live chat. Arguments in, exit status out.
#![forbid(unsafe_code)]

mod boot;
mod cli;
mod clock;
mod config;
mod control;
mod doctor;
mod exit;
mod followers;
mod log;
mod password;
#[cfg(test)]
mod scratch;
#[cfg(test)]
mod small_journal;
mod store;
mod tune;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{AdminVerb, Cli, ServeArgs, Verb};
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no error.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Good };
            let _ = error.print();
            return exit.into();
        }
    };
    let exit = match cli.verb.unwrap_or(Verb::Serve(ServeArgs::default())) {
        Verb::Serve(args) => boot::serve(args),
        Verb::Init { config, force } => verbs::init(&config, force),
        Verb::Check(overrides) => verbs::check(overrides),
        Verb::Doctor { overrides, json } => doctor::doctor(overrides, json),
        Verb::Tune { args, overrides } => tune::tune(args, overrides),
        Verb::Admin { verb: AdminVerb::Add { email, name, capacity, admin, password_stdin, place } } => {
            verbs::add_agent(&email, name.as_deref(), capacity, admin, password_stdin, place)
        }
        Verb::Admin { verb: AdminVerb::Passwd { email, password_stdin, place } } => {
            verbs::passwd(&email, password_stdin, place)
        }
        Verb::Journal { verb } => verbs::journal(verb),
        Verb::Bench { dir, verb } => return verbs::bench(verb, &dir),
        Verb::Version => verbs::version(),
    };
    exit.into()
}
