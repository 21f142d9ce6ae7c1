//! The real binary in a folder of its own, and the smallest HTTP and WebSocket clients that do.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For anything that takes a moment; generous, because tests share cores with builds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes away with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Beside the binary and not in /tmp, which may be a memory file system without direct I/O.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = base.join(format!("plane-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary, with small segments and the data below `scratch`.
pub(crate) fn ringdesk(scratch: &Path) -> Command {
    placed(Command::new(env!("CARGO_BIN_EXE_ringdesk")), scratch)
}

/// The same, and a write beyond the limit for files is refused to it instead of ending it by a signal.
pub(crate) fn ringdesk_refused_by_limits(scratch: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ringdesk")]);
    placed(shell, scratch)
}

fn placed(mut command: Command, scratch: &Path) -> Command {
    command
        .current_dir(scratch)
        .env("RINGDESK__STORAGE__SEGMENT_MB", "1")
        .env("RINGDESK__LIMITS__MESSAGE_RATE", "1000")
        .env("RINGDESK__LIMITS__MESSAGE_BURST", "1000")
        .env("RUST_BACKTRACE", "0");
    command
}

/// What a run of the binary that ends by itself said.
pub(crate) fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) inbox: String,
    /// Address and password, at the first start only.
    pub(crate) login: Option<(String, String)>,
    pub(crate) key: String,
    pub(crate) text: Vec<String>,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(scratch: &Path, arguments: &[&str]) -> Server {
        let server = Server::begin(scratch, arguments);
        eventually("ready", || server.readiness() == 200);
        server
    }

    /// The status of `/readyz`; 0 if nobody answers.
    pub(crate) fn readiness(&self) -> u16 {
        self.get(self.admin, "/readyz").map_or(0, |answer| answer.status)
    }

    /// Starts one on ports that the kernel chooses and waits until it has told where it is.
    pub(crate) fn begin(scratch: &Path, arguments: &[&str]) -> Server {
        Server::begin_as(ringdesk(scratch), scratch, arguments)
    }

    pub(crate) fn begin_as(mut command: Command, scratch: &Path, arguments: &[&str]) -> Server {
        let mut child = command
            .args(["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::from(
                fs::File::options().create(true).append(true).open(scratch.join("log")).unwrap(),
            ))
            .spawn()
            .unwrap();
        let mut text = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let last = line.starts_with("holds:");
            text.push(line);
            if last {
                break;
            }
        }
        let told = |what: &str| {
            text.iter().find_map(|line| line.strip_prefix(what)).map(|value| value.trim().to_owned())
        };
        let Some(public) = told("public: http://") else {
            let _ = child.kill();
            panic!("no start: {text:?}\n{}", fs::read_to_string(scratch.join("log")).unwrap_or_default());
        };
        let address = |url: &str| url.split('/').next().unwrap().parse().unwrap();
        let login = told("login:").map(|line| {
            let (email, password) = line.split_once("  password: ").unwrap();
            (email.to_owned(), password.to_owned())
        });
        Server {
            child,
            public: address(&public),
            admin: address(&told("admin: http://").unwrap()),
            inbox: told("visitor:").unwrap().rsplit('/').next().unwrap().to_owned(),
            login,
            key: fs::read_to_string(scratch.join("data/admin.key")).unwrap().trim().to_owned(),
            text,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to stop, and expects a clean end.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0));
    }

    /// One request on a connection of its own; `None` if nobody answers.
    pub(crate) fn get(&self, at: SocketAddr, path: &str) -> Option<Answer> {
        Connection::open(at).ok()?.ask("GET", path, &[], b"").ok()
    }

    pub(crate) fn admin_post(&self, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend_from_slice(fields);
        Connection::open(self.admin).unwrap().ask("POST", path, &all, body.as_bytes()).unwrap()
    }

    pub(crate) fn login(&self, email: &str, password: &str) -> Answer {
        let body = serde_json::json!({ "email": email, "password": password }).to_string();
        let fields = [("Content-Type", "application/json")];
        Connection::open(self.public)
            .unwrap()
            .ask("POST", "/api/v1/auth/login", &fields, body.as_bytes())
            .unwrap()
    }

    /// The sum of a metric over its labels; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get(self.admin, "/metrics").map(|answer| answer.text()).unwrap_or_default();
        let lines = page
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A connection that is kept.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Connection {
    pub(crate) fn open(at: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection(stream))
    }

    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.0.write_all(&bytes)?;
        self.answer()
    }

    /// Reads one answer, byte by byte up to its body, so that nothing of what follows is taken.
    pub(crate) fn answer(&mut self) -> std::io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length =
            fields.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, fields, body })
    }

    /// Asks for an upgrade on this connection, whatever it was used for before.
    pub(crate) fn upgrade(mut self, path: &str) -> Socket {
        let fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "ringdesk.v1.json"),
        ];
        let answer = self.ask("GET", path, &fields, b"").unwrap();
        assert_eq!(answer.status, 101, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.field("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        Socket { stream: self.0, waiting: Vec::new(), next_id: 1 }
    }
}

/// A WebSocket of the protocol.
pub(crate) struct Socket {
    stream: TcpStream,
    waiting: Vec<Value>,
    next_id: u32,
}

impl Socket {
    /// A visitor's, logged in as a new one.
    pub(crate) fn visitor(server: &Server) -> Socket {
        let mut socket = Connection::open(server.public)
            .unwrap()
            .upgrade(&format!("/ws/v1/visitor?inbox={}", server.inbox));
        socket.reply("auth", serde_json::json!({ "device": "a-device-of-sixteen-or-more" }));
        socket
    }

    /// An agent's, with his ticket.
    pub(crate) fn agent(server: &Server, ticket: &str) -> Socket {
        let mut socket = Connection::open(server.public).unwrap().upgrade("/ws/v1/agent");
        socket.reply("auth", serde_json::json!({ "device": "an-agents-device-of-sixteen", "token": ticket }));
        socket
    }

    /// Says something and waits for the reply's `d`; a refusal is a failure of the test.
    pub(crate) fn reply(&mut self, op: &str, d: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&serde_json::json!({ "id": id, "op": op, "d": d }).to_string());
        loop {
            let envelope = self.next().expect("the socket is open");
            if envelope["re"] == id {
                assert!(envelope.get("err").is_none(), "{op}: {envelope}");
                return envelope["d"].clone();
            }
        }
    }

    /// Says something and waits for nothing.
    pub(crate) fn say(&mut self, op: &str, d: Value) {
        self.send(&serde_json::json!({ "op": op, "d": d }).to_string());
    }

    /// The next envelope that is no heartbeat, or the close code.
    pub(crate) fn next(&mut self) -> Result<Value, u16> {
        loop {
            if !self.waiting.is_empty() {
                return Ok(self.waiting.remove(0));
            }
            let (opcode, payload) = self.frame().map_err(|_| 1006u16)?;
            match opcode {
                1 => {
                    for line in String::from_utf8(payload).unwrap().lines().filter(|line| *line != "{}") {
                        self.waiting.push(serde_json::from_str(line).unwrap());
                    }
                }
                8 => return Err(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
                _ => {}
            }
        }
    }

    /// Envelopes until one with this operation.
    pub(crate) fn until(&mut self, op: &str) -> Value {
        loop {
            let envelope = self.next().expect("the socket is open");
            if envelope["op"] == op {
                return envelope;
            }
        }
    }

    fn send(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        let mask = [1u8, 2, 3, 4];
        frame.extend_from_slice(&mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).unwrap();
    }

    fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] & 0x7F {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((head[0] & 15, payload))
    }
}

/// A client-made id of 32 characters.
pub(crate) fn cid(number: u32) -> String {
    format!("{number:032}")
}
