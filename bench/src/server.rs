//! A server of its own for one run: started with a fresh data directory, ended with the run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub(crate) struct Server {
    child: Child,
    bin: PathBuf,
    /// Program and arguments, to start it again.
    words: Vec<String>,
    data: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) inbox: String,
    login: (String, String),
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) fn start(
        bin: &Path,
        dir: &Path,
        shards: u16,
        durability: &str,
        more: &[&str],
    ) -> Result<Server, String> {
        Server::start_on(bin, dir, shards, durability, more, &[])
    }

    /// The same on these cores of the host alone; none = on all.
    pub(crate) fn start_on(
        bin: &Path,
        dir: &Path,
        shards: u16,
        durability: &str,
        more: &[&str],
        cores: &[usize],
    ) -> Result<Server, String> {
        let data = dir.join(format!("ringdesk-bench-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        let config = data.join("bench.toml");
        let limits = "[limits]\nmessage_rate = 10000\nmessage_burst = 100000\n";
        std::fs::write(&config, limits).map_err(|error| format!("{}: {error}", config.display()))?;
        let address = free_port()?;
        let mut admin = free_port()?;
        while admin == address {
            admin = free_port()?;
        }
        let mut words: Vec<String> = Vec::new();
        if !cores.is_empty() {
            // taskset is util-linux: every Debian has it.
            let list: Vec<String> = cores.iter().map(usize::to_string).collect();
            words.extend(["taskset".into(), "--cpu-list".into(), list.join(",")]);
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        words.extend([text(bin), "serve".into(), "--config".into(), text(&config), "--data-dir".into()]);
        words.extend([text(&data.join("data")), "--listen".into(), address.to_string()]);
        words.extend(["--admin-listen".into(), admin.to_string(), "--shards".into(), shards.to_string()]);
        words.extend(["--durability".into(), durability.into()]);
        words.extend(more.iter().map(|&word| word.to_owned()));
        let (mut child, lines) = spawn(&words)?;
        let (mut inbox, mut login) = (None, None);
        for line in lines {
            if let Some(at) = line.find("/chat/") {
                inbox = Some(line[at + 6..].chars().take_while(char::is_ascii_alphanumeric).collect());
            }
            if let Some(rest) = line.split("login:").nth(1) {
                let mut words = rest.split_whitespace();
                let email = words.next().unwrap_or_default().to_owned();
                let password = words.last().unwrap_or_default().to_owned();
                login = Some((email, password));
            }
        }
        let (Some(inbox), Some(login)) = (inbox, login) else {
            let _ = child.kill();
            return Err("the server ended before it printed its pages and the first login".into());
        };
        let server = Server { child, bin: bin.to_owned(), words, data, address, admin, inbox, login };
        server.wait()?;
        Ok(server)
    }

    /// kill -9, and the same server again with the same data. Returns the time from its start until it was ready.
    pub(crate) fn kill_and_restart(&mut self) -> Result<Duration, String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let began = Instant::now();
        (self.child, _) = spawn(&self.words)?;
        self.wait()?;
        Ok(began.elapsed())
    }

    fn wait(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the server does not become ready".into())
    }

    /// A page of the private listener, head included.
    pub(crate) fn get(&self, path: &str) -> Result<String, String> {
        request(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"))
    }

    /// What the private listener wants to be shown.
    pub(crate) fn admin_key(&self) -> Result<String, String> {
        let path = self.data.join("data/admin.key");
        let key = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(key.trim().to_owned())
    }

    /// The first agent's ticket.
    pub(crate) fn ticket(&self) -> Result<String, String> {
        self.ticket_of(&self.login.0, &self.login.1)
    }

    /// Tickets of so many agents; all but the first are added.
    pub(crate) fn tickets(&self, count: u32) -> Result<Vec<String>, String> {
        let mut tickets = vec![self.ticket()?];
        for number in 1..count {
            let email = format!("bench-{number}@localhost");
            let mut adding = Command::new(&self.bin)
                .args(["admin", "add", &email, "--capacity", "500", "--password-stdin", "--data-dir"])
                .arg(self.data.join("data"))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| format!("{}: {error}", self.bin.display()))?;
            adding
                .stdin
                .take()
                .expect("it was asked for")
                .write_all(self.login.1.as_bytes())
                .map_err(|error| format!("admin add: {error}"))?;
            let ended = adding.wait_with_output().map_err(|error| format!("admin add: {error}"))?;
            if !ended.status.success() {
                return Err(format!("admin add {email}: {}", String::from_utf8_lossy(&ended.stderr)));
            }
            // The running server sees it within seconds.
            let until = Instant::now() + Duration::from_secs(20);
            tickets.push(loop {
                match self.ticket_of(&email, &self.login.1) {
                    Ok(ticket) => break ticket,
                    Err(error) if Instant::now() > until => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(1100)),
                }
            });
        }
        Ok(tickets)
    }

    fn ticket_of(&self, email: &str, password: &str) -> Result<String, String> {
        let body = serde_json::json!({"email": email, "password": password}).to_string();
        let answer = post(self.address, "/api/v1/auth/login", "", &body)?;
        let at = answer.find("\"ticket\":\"").ok_or_else(|| format!("no ticket in {answer}"))? + 10;
        Ok(answer[at..].chars().take_while(|&letter| letter != '"').collect())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of the server in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Starts a server and returns what it printed until it told how many connections it holds, which is the last line.
fn spawn(words: &[String]) -> Result<(Child, Vec<String>), String> {
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    let output = child.stdout.take().expect("it was asked for");
    let mut printed = Vec::new();
    let mut lines = BufReader::new(output).lines();
    while let Some(Ok(line)) = lines.next() {
        let last = line.starts_with("holds:");
        printed.push(line);
        if last {
            break;
        }
    }
    // Keep reading, so that the server never waits for us.
    std::thread::spawn(move || for _ in lines {});
    Ok((child, printed))
}

/// Posts JSON; `fields` are further header fields, each with its end of line.
pub(crate) fn post(to: SocketAddr, path: &str, fields: &str, json: &str) -> Result<String, String> {
    let size = json.len();
    request(
        to,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\n{fields}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n{json}"
        ),
    )
}

pub(crate) fn request(to: SocketAddr, text: &str) -> Result<String, String> {
    let doing = |error: std::io::Error| format!("{to}: {error}");
    let mut stream = TcpStream::connect(to).map_err(doing)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(doing)?;
    stream.write_all(text.as_bytes()).map_err(doing)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(doing)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}
