//! What the binary does besides serving.

mod journal;

pub(crate) use journal::journal;

use std::fs::OpenOptions;
use std::io::{BufRead as _, Write};
use std::path::Path;

use crate::boot::Layout;
use crate::cli::{DataPlace, Overrides};
use crate::config::{effective, template};
use crate::exit::Exit;
use crate::password;
use crate::store::{Store, StoreError};

/// Writes to standard output; a reader that went away is no error of ours.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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

/// `ringdesk admin passwd`
pub(crate) fn passwd(email: &str, from_stdin: bool, place: DataPlace) -> Exit {
    let config = match place.load() {
        Ok(config) => config,
        Err(complaints) => {
            complain(complaints);
            return Exit::Config;
        }
    };
    let data_dir = &config.storage.data_dir;
    if !data_dir.join("control.db").exists() {
        complain(format_args!(
            "{} has no control.db; name the data directory with --data-dir",
            data_dir.display()
        ));
        return Exit::Store;
    }
    let password = if from_stdin {
        let mut line = String::new();
        if let Err(error) = std::io::stdin().lock().read_line(&mut line) {
            complain(format_args!("standard input: {error}"));
            return Exit::Failed;
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        if let Err(why) = password::acceptable(&line) {
            complain(format_args!("the password {why}"));
            return Exit::Failed;
        }
        line
    } else {
        match password::make() {
            Ok(password) => password,
            Err(error) => {
                complain(error);
                return Exit::Store;
            }
        }
    };
    match set_password(data_dir, email, &password) {
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

fn set_password(data_dir: &Path, email: &str, password: &str) -> Result<bool, StoreError> {
    let hash = password::hash(password)?;
    crate::boot::on_a_runtime(async {
        let store = Store::open_existing(data_dir).await?;
        let found = store.set_password(email, &hash).await;
        store.close().await;
        found
    })
}
