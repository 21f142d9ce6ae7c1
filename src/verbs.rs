//! What the binary does besides serving.

mod journal;

pub(crate) use journal::journal;

use std::fs::OpenOptions;
use std::io::{BufRead as _, Write};
use std::path::Path;

use desk::settings::Role;

use crate::boot::Layout;
use crate::cli::{DataPlace, Overrides};
use crate::clock::Clock;
use crate::config::{Config, effective, template};
use crate::exit::Exit;
use crate::password;
use crate::store::{NewAgent, Store, StoreError};

/// Writes to standard output; a reader that went away is no error of ours.
pub(crate) fn say(text: &str) {
    let _ = try_say(text);
}

/// Writes to standard output what must not be lost.
pub(crate) fn try_say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// One error, as people read it.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "ringdesk: {text}");
}

/// `ringdesk version`
pub(crate) fn version() -> Exit {
    say(concat!("ringdesk ", env!("CARGO_PKG_VERSION"), "\n"));
    Exit::Good
}

/// `ringdesk bench`: this very program is the server that is started, and each worker.
pub(crate) fn bench(verb: bench::Verb, dir: &Path) -> std::process::ExitCode {
    let bin = match std::env::current_exe() {
        Ok(bin) => bin,
        Err(error) => {
            complain(format!(
                "this program cannot find itself, and so cannot start a server or workers: {error}"
            ));
            return Exit::Failed.into();
        }
    };
    let worker = vec![bin.to_string_lossy().into_owned(), "bench".into(), "worker".into()];
    bench::run(verb, &bench::Own { bin, worker }, dir)
}

/// `ringdesk init`
pub(crate) fn init(path: &Path, force: bool) -> Exit {
    let text = template();
    if path == Path::new("-") {
        say(&text);
        return Exit::Good;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !force {
        options.create_new(true);
    }
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            say(&format!("{0} is written; start with: ringdesk serve --config {0}\n", path.display()));
            Exit::Good
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            complain(format_args!("{} exists; --force overwrites it", path.display()));
            Exit::Failed
        }
        Err(error) => {
            complain(format_args!("{}: {error}", path.display()));
            Exit::Failed
        }
    }
}

/// `ringdesk check`
pub(crate) fn check(overrides: Overrides) -> Exit {
    let config = match overrides.load() {
        Ok(config) => config,
        Err(complaints) => {
            complain(complaints);
            return Exit::Config;
        }
    };
    say(&effective(&config));
    match Layout::of(&config) {
        Ok(layout) => {
            let lines: Vec<String> = layout.reasons.iter().map(|reason| format!("# {reason}\n")).collect();
            say(&format!("\n# On this host:\n{}", lines.concat()));
            Exit::Good
        }
        Err(error) => {
            complain(error);
            Exit::Edge(edge::exit::PLAN)
        }
    }
}

/// The configuration and its data directory, if there is a control.db in it.
fn with_accounts(place: DataPlace) -> Result<Config, Exit> {
    let config = place.load().map_err(|complaints| {
        complain(complaints);
        Exit::Config
    })?;
    let data_dir = &config.storage.data_dir;
    if data_dir.join("control.db").exists() {
        return Ok(config);
    }
    complain(format_args!(
        "{} has no control.db; name the data directory with --data-dir",
        data_dir.display()
    ));
    Err(Exit::Store)
}

/// The password from standard input, or a new one.
fn password_from(stdin: bool) -> Result<String, Exit> {
    if !stdin {
        return password::make().map_err(|error| {
            complain(error);
            Exit::Store
        });
    }
    let mut line = String::new();
    if let Err(error) = std::io::stdin().lock().read_line(&mut line) {
        complain(format_args!("standard input: {error}"));
        return Err(Exit::Failed);
    }
    let line = line.trim_end_matches(['\r', '\n']).to_owned();
    if let Err(why) = password::acceptable(&line) {
        complain(format_args!("the password {why}"));
        return Err(Exit::Failed);
    }
    Ok(line)
}

/// `ringdesk admin passwd`
pub(crate) fn passwd(email: &str, from_stdin: bool, place: DataPlace) -> Exit {
    let (config, password) =
        match with_accounts(place).and_then(|config| Ok((config, password_from(from_stdin)?))) {
            Ok(both) => both,
            Err(exit) => return exit,
        };
    match set_password(&config.storage.data_dir, email, &password) {
        Ok(true) => {
            if !from_stdin {
                say(&format!("login: {email}  password: {password}\n"));
            }
            complain("the password is set and his sessions end; a running server sees it within seconds");
            Exit::Good
        }
        Ok(false) => {
            complain(format_args!("nobody has the address {:?}", crate::log::escaped(email)));
            Exit::NoAccount
        }
        Err(error) => {
            complain(error);
            Exit::Store
        }
    }
}

/// Most bytes of an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const EMAIL_BYTES_MAX: usize = 254;

/// `ringdesk admin add`
pub(crate) fn add_agent(
    email: &str,
    name: Option<&str>,
    capacity: Option<u16>,
    admin: bool,
    from_stdin: bool,
    place: DataPlace,
) -> Exit {
    let usable =
        |text: &str| !text.is_empty() && !text.chars().any(|letter| letter.is_control() || letter == ' ');
    let parts = email.split_once('@').filter(|(local, domain)| usable(local) && usable(domain));
    let Some((local, _)) = parts.filter(|_| email.len() <= EMAIL_BYTES_MAX) else {
        complain(format_args!(
            "{:?} is no address: name@host, without blanks, at most {EMAIL_BYTES_MAX} bytes",
            crate::log::escaped(email)
        ));
        return Exit::Usage;
    };
    let name = name.unwrap_or(local);
    let most = desk::request::MAX_NAME_CHARS;
    if name.trim().is_empty() || name.chars().any(char::is_control) || name.chars().count() > most {
        complain(format_args!("a name has 1 to {most} characters and no control characters"));
        return Exit::Usage;
    }
    let (config, password) =
        match with_accounts(place).and_then(|config| Ok((config, password_from(from_stdin)?))) {
            Ok(both) => both,
            Err(exit) => return exit,
        };
    let added = password::hash(&password).and_then(|hash| {
        let role = if admin { Role::Admin } else { Role::Agent };
        let capacity = capacity.unwrap_or(config.routing.capacity);
        let new = NewAgent { email, name, role, password: &hash, capacity };
        crate::boot::on_a_runtime(async {
            let store = Store::open_existing(&config.storage.data_dir).await?;
            let added = store.add_agent(&new, Clock::system().wall_ms()).await;
            store.close().await;
            added
        })
    });
    match added {
        Ok(true) => {
            if !from_stdin {
                say(&format!("login: {email}  password: {password}\n"));
            }
            complain("the agent is added; a running server sees it within seconds");
            Exit::Good
        }
        Ok(false) => {
            complain(format_args!(
                "somebody has the address {:?}; `ringdesk admin passwd` gives a new password",
                crate::log::escaped(email)
            ));
            Exit::Failed
        }
        Err(error) => {
            complain(error);
            Exit::Store
        }
    }
}

fn set_password(data_dir: &Path, email: &str, password: &str) -> Result<bool, StoreError> {
    let hash = password::hash(password)?;
    crate::boot::on_a_runtime(async {
        let store = Store::open_existing(data_dir).await?;
        let found = store.set_password(email, &hash).await;
        store.close().await;
        found
    })
}
