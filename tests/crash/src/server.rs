//! The server under test: the real binary, started, killed and stopped.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::chance::Chance;

/// How to run a server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary.
    pub bin: PathBuf,
    /// Configuration, output and log of the run.
    pub work_dir: PathBuf,
    /// Where its data are.
    pub data_dir: PathBuf,
    /// Shards.
    pub shards: u16,
    /// "disk" or "memory".
    pub durability: &'static str,
    /// Size of a segment; small ones roll often.
    pub segment_mb: u32,
    /// Lines of the configuration file besides those this module writes.
    pub settings: String,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A server, running or not.
pub struct Server {
    plan: Plan,
    listen: SocketAddr,
    admin: SocketAddr,
    config: PathBuf,
    child: Option<Child>,
}

/// What the first start prints.
#[derive(Clone, Debug)]
pub struct Told {
    /// Address of the first agent.
    pub email: String,
    /// His password.
    pub password: String,
    /// The inbox.
    pub inbox: String,
}

impl Server {
    /// Writes the configuration; starts nothing.
    ///
    /// # Errors
    /// If the files cannot be written or no port is free.
    pub fn new(plan: Plan) -> io::Result<Server> {
        std::fs::create_dir_all(&plan.work_dir)?;
        let config = plan.work_dir.join("ringdesk.toml");
        std::fs::write(&config, settings(&plan))?;
        let (listen, admin) = (free_port()?, free_port()?);
        Ok(Server { plan, listen, admin, config, child: None })
    }

    /// The public address.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }
    /// The private address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }
    /// How it is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// How it is run, to change it before the next start.
    pub fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// Writes the configuration anew, for the next start.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&mut self, settings_over: &str) -> io::Result<()> {
        self.plan.settings = settings_over.to_owned();
        std::fs::write(&self.config, settings(&self.plan))
    }

    /// The command of a start.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.plan.bin);
        command.arg("serve").arg("--config").arg(&self.config).arg("--data-dir").arg(&self.plan.data_dir);
        command.args(["--listen", &self.listen.to_string(), "--admin-listen", &self.admin.to_string()]);
        command.args(["--shards", &self.plan.shards.to_string(), "--durability", self.plan.durability]);
        command.args(&self.plan.arguments).stdin(Stdio::null());
        command
    }

    /// Starts the process.
    ///
    /// # Errors
    /// If the binary cannot be run.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "one server at a time");
        let append =
            |name: &str| OpenOptions::new().create(true).append(true).open(self.plan.work_dir.join(name));
        let (out, log) = (append("stdout")?, append("stderr")?);
        self.child = Some(self.command().stdout(out).stderr(log).spawn()?);
        Ok(())
    }

    /// The process's id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: i32) {
        if let Some(pid) = self.pid() {
            // SAFETY: `kill` has no precondition; the child was not waited for, so the number is still its own.
            unsafe { libc::kill(pid as i32, signal) };
        }
    }

    /// kill -9, and wait until it is gone.
    ///
    /// # Errors
    /// If the system does not say that it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            child.wait()?;
        }
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it has not within `time`.
    pub async fn wait(&mut self, time: Duration) -> io::Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if self.child.is_none() {
                return Err(io::Error::other("the server does not run"));
            }
            if began.elapsed() > time {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the server did not end in {} s", time.as_secs()),
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything it ever printed.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn stdout(&self) -> io::Result<String> {
        std::fs::read_to_string(self.plan.work_dir.join("stdout"))
    }

    /// The end of its log, for a report.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.plan.work_dir.join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.plan.work_dir.join("stderr")).unwrap_or_default()
    }

    /// What the first start has told, once it has.
    pub fn told(&self) -> Option<Told> {
        let out = self.stdout().ok()?;
        let login = out.lines().find_map(|line| line.strip_prefix("login: "))?;
        let (email, password) = login.split_once("  password: ")?;
        let inbox = out
            .lines()
            .filter(|line| line.starts_with("visitor: "))
            .find_map(|line| line.rsplit_once("/chat/"))?
            .1;
        Some(Told {
            email: email.trim().to_owned(),
            password: password.trim().to_owned(),
            inbox: inbox.trim().to_owned(),
        })
    }

    /// The key of the private listener.
    ///
    /// # Errors
    /// If the file is not there.
    pub fn admin_key(&self) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.plan.data_dir.join("admin.key"))?.trim().to_owned())
    }

    /// Another subcommand of the binary on the same data: status and output.
    ///
    /// # Errors
    /// If the binary cannot be run.
    pub fn run(&self, arguments: &[&str]) -> io::Result<(i32, String)> {
        let mut command = Command::new(&self.plan.bin);
        command.args(arguments).arg("--data-dir").arg(&self.plan.data_dir);
        let output = command.stdin(Stdio::null()).output()?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code().unwrap_or(-1), text))
    }
}

/// A number of `/metrics` on a private listener, summed over its labels.
pub async fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let page = crate::http::ask(admin, "GET", "/metrics", "", "").await.ok()?;
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values = page.body.lines().filter(is_it);
    let values: Vec<f64> = values.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left running, whatever happened.
        let _ = self.kill();
    }
}

fn settings(plan: &Plan) -> String {
    let base = format!(
        "[storage]\nsegment_mb = \"{}MiB\"\njournal_budget_mb = \"16GiB\"\n[limits]\nmessage_rate = 10000\nmessage_burst = 100000\nrequest_rate = 100000\nrequest_burst = 1000000\nlogin_rate = 6000\n[routing]\ncapacity = 500\n",
        plan.segment_mb
    );
    merge(&base, &plan.settings)
}

/// Lays `over` on `base`, key by key.
fn merge(base: &str, over: &str) -> String {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut section = String::new();
    for line in base.lines().chain(over.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            section = line.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').expect("a setting has a value");
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        if !sections.iter().any(|(name, _)| *name == section) {
            sections.push((section.clone(), Vec::new()));
        }
        let (_, keys) = sections.iter_mut().find(|(name, _)| *name == section).expect("added above");
        match keys.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => keys.push((key, value)),
        }
    }
    let mut text = String::new();
    for (section, keys) in sections {
        text.push_str(&format!("{section}\n"));
        keys.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {value}\n")));
    }
    text
}

/// A port of this host that is free now and is not one that clients are given.
///
/// # Errors
/// If none is.
pub fn free_port() -> io::Result<SocketAddr> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as u64);
    // Two calls within one tick of the clock must not give the same port.
    static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut chance = Chance::new(now ^ (u64::from(std::process::id()) << 32) ^ (call << 48));
    for _ in 0..1_000 {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20_000 + chance.below(10_000) as u16);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
}

/// The binary to test: what was given, or RINGDESK_BIN, or one that was built.
///
/// # Errors
/// If there is none.
pub fn find_bin(given: Option<&Path>) -> Result<PathBuf, String> {
    let variable = std::env::var_os("RINGDESK_BIN").map(PathBuf::from);
    let built = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("ringdesk")));
    let found = given.map(Path::to_owned).or(variable).or(built);
    match found {
        Some(path) if File::open(&path).is_ok() => Ok(path),
        Some(path) => Err(format!(
            "there is no binary at {}; build it or name one with --bin or RINGDESK_BIN",
            path.display()
        )),
        None => Err("name the binary with --bin or RINGDESK_BIN".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_laid_over_each_other() {
        let merged = merge("[a]\nx = 1\ny = 2\n[b]\nz = 3\n", "[a]\ny = 5\n[c]\nw = 6");
        assert_eq!(merged, "[a]\nx = 1\ny = 5\n[b]\nz = 3\n[c]\nw = 6\n");
    }
}
