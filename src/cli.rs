//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Complaints, Config, Layer};

/// Self-hosted live chat. Alone it serves, with data in ./ringdesk-data.
#[derive(Parser, Debug)]
#[command(
    name = "ringdesk",
    version,
    after_help = "Exit statuses, signals and every setting: docs/operations.md"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Serve until SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Write a commented configuration file
    Init {
        /// Where to write it; "-" is standard output
        #[arg(long, value_name = "PATH", default_value = "ringdesk.toml")]
        config: PathBuf,
        /// Overwrite the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Check the configuration and print what would be in effect
    Check(Overrides),
    /// Look at this host: kernel, io_uring, limits, disk, port, clock, memory
    Doctor {
        #[command(flatten)]
        overrides: Overrides,
        /// Findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether this host is tuned: limits, kernel, processors, memory, network, disk
    Tune {
        #[command(flatten)]
        args: TuneArgs,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Accounts, while the server runs or not
    Admin {
        #[command(subcommand)]
        verb: AdminVerb,
    },
    /// Read journals; the server should be stopped, or what is being written may look torn
    Journal {
        #[command(subcommand)]
        verb: JournalVerb,
    },
    /// Load a server and report what was measured: chat, echo, idle, peak, storm, slow, broadcast, soak, or a file that ends in .toml
    Bench {
        /// Where the data directory of a server that is started for the run is made: the disk that is measured
        #[arg(long, value_name = "PATH", default_value = ".")]
        dir: PathBuf,
        #[command(subcommand)]
        verb: bench::Verb,
    },
    /// Print the version
    Version,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AdminVerb {
    /// Add an agent
    Add {
        /// The address he logs in with
        email: String,
        /// As visitors see him; without it, what stands before the @
        #[arg(long)]
        name: Option<String>,
        /// Conversations he takes at once, 0 to 500; without it routing.capacity
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=500))]
        capacity: Option<u16>,
        /// He may administer too
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input (one line) instead of making one
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: DataPlace,
    },
    /// Give an agent a new password and end all his sessions
    Passwd {
        /// His address
        email: String,
        /// Read the password from standard input (one line) instead of making one
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: DataPlace,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum JournalVerb {
    /// Print every block and record
    Dump(JournalArgs),
    /// Check every byte; exit status 9 if any is damaged
    Verify(JournalArgs),
}

#[derive(Args, Debug)]
pub(crate) struct JournalArgs {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this shard's journal
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u16>,
    #[command(flatten)]
    pub(crate) place: DataPlace,
}

#[derive(Args, Debug)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    pub(crate) mode: TuneMode,
    /// Findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// End with status 1 if a finding is so bad or worse; without it the status is 0 whatever is found
    #[arg(long, value_name = "STATE")]
    pub(crate) fail_on: Option<FailOn>,
}

/// What to do with the findings. One must be named: a verb that changes hosts has no default.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct TuneMode {
    /// Tell them, and change nothing
    #[arg(long)]
    pub(crate) check: bool,
}

/// How bad a finding must be.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailOn {
    /// It keeps the server from serving, or from keeping what it promised to keep
    Fail,
    /// It could be better
    Warn,
}

/// Where the data are.
#[derive(Args, Debug)]
pub(crate) struct DataPlace {
    /// The configuration file that names the data directory
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<String>,
}

impl DataPlace {
    /// The configuration of which only the place of the data matters.
    pub(crate) fn load(self) -> Result<Config, Complaints> {
        Overrides { config: self.config, data_dir: self.data_dir, ..Overrides::default() }.load()
    }
}

/// Flags that are settings.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct Overrides {
    /// The configuration file; without it every setting has its default
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Where data live [storage.data_dir]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<String>,
    /// The public address [server.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The private address [server.admin_listen]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<String>,
    /// How many shards; 0 lets the host decide [server.shards]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<String>,
    /// "disk" or "memory" [storage.durability]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) durability: Option<String>,
}

impl Overrides {
    /// Reads file, environment and these flags, and checks them whole.
    pub(crate) fn load(self) -> Result<Config, Complaints> {
        let mut flags = Layer::default();
        flags.flag("--data-dir", "storage", "data_dir", self.data_dir);
        flags.flag("--listen", "server", "listen", self.listen);
        flags.flag("--admin-listen", "server", "admin_listen", self.admin_listen);
        flags.flag("--shards", "server", "shards", self.shards);
        flags.flag("--durability", "storage", "durability", self.durability);
        // A variable that is no UTF-8 has no name or value of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(self.config.as_deref(), environment, flags)
    }
}

#[derive(Args, Debug, Default)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(flatten)]
    pub(crate) echo: EchoArgs,
}

/// The echo path, for conformance suites and measurements.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct EchoArgs {
    /// A path on which every message comes back as it is; off without it
    #[arg(long, value_name = "PATH", value_parser = echo_path)]
    pub(crate) echo_path: Option<String>,
    /// Largest message on the echo path, in bytes
    #[arg(long, value_name = "BYTES", requires = "echo_path", value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    pub(crate) echo_max_message: Option<u32>,
    /// Most fragments of a message on the echo path
    #[arg(long, value_name = "N", requires = "echo_path", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) echo_max_fragments: Option<u16>,
}

fn echo_path(path: &str) -> Result<String, String> {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if !path.starts_with('/') || !plain || path.len() > 256 {
        return Err("wants a path such as /echo".to_owned());
    }
    if path.starts_with("/ws/v1") {
        return Err("must not hide the paths of the product".to_owned());
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_it_serves_and_every_verb_parses() {
        assert!(Cli::try_parse_from(["ringdesk"]).unwrap().verb.is_none());
        for line in [
            "serve --config a --data-dir b --listen 0.0.0.0:1 --admin-listen 127.0.0.1:2 --shards 3 --durability memory --echo-path /echo --echo-max-message 16777216 --echo-max-fragments 9000",
            "init",
            "init --config -",
            "check --config x",
            "doctor --json",
            "tune --check",
            "tune --check --json --fail-on=fail --data-dir x",
            "tune --check --fail-on warn",
            "admin passwd agent@localhost --password-stdin --data-dir x",
            "journal dump --data-dir x",
            "journal verify --json --data-dir x",
            "version",
        ] {
            let words = std::iter::once("ringdesk").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_verb_that_will_change_hosts_wants_its_mode_by_name() {
        assert!(Cli::try_parse_from(["ringdesk", "tune"]).is_err());
        assert!(Cli::try_parse_from(["ringdesk", "tune", "--json"]).is_err());
        assert!(Cli::try_parse_from(["ringdesk", "tune", "--check", "--fail-on", "ok"]).is_err());
    }

    #[test]
    fn flags_are_checked_like_the_file_and_named() {
        let overrides = Overrides { shards: Some("many".to_owned()), ..Overrides::default() };
        let told = overrides.load().unwrap_err().to_string();
        assert!(told.starts_with("flag --shards: server.shards: wants a whole number"), "{told}");
    }

    #[test]
    fn the_echo_path_may_not_hide_the_product() {
        for wrong in ["echo", "/ws/v1/visitor", "/a?b", ""] {
            assert!(echo_path(wrong).is_err(), "{wrong}");
        }
        assert!(Cli::try_parse_from(["ringdesk", "serve", "--echo-max-message", "5"]).is_err());
    }
}
