//! As much of HTTP as the checker needs: one request, one answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For one request.
const TIME: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    /// The body, without chunks.
    pub body: String,
}

/// Sends a request on a connection of its own. `more` are further lines, each with its end.
///
/// # Errors
/// If there is no answer within ten seconds, or it is no HTTP.
pub async fn ask(to: SocketAddr, method: &str, path: &str, more: &str, body: &str) -> io::Result<Answer> {
    let ask = async {
        let mut stream = TcpStream::connect(to).await?;
        say(&mut stream, to, method, path, &format!("Connection: close\r\n{more}"), body).await?;
        answer(&mut stream).await
    };
    tokio::time::timeout(TIME, ask).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends a request on `stream`.
///
/// # Errors
/// If the connection fails.
pub async fn say(
    stream: &mut TcpStream,
    host: SocketAddr,
    method: &str,
    path: &str,
    more: &str,
    body: &str,
) -> io::Result<()> {
    let size = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{size}{more}\r\n{body}");
    stream.write_all(request.as_bytes()).await
}

/// Reads one answer from `stream`, and not a byte more.
///
/// # Errors
/// If the connection fails or what arrives is no HTTP.
pub async fn answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(|_| bad("a head that is no text"))?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("no status"))?;
    let lower = head.to_ascii_lowercase();
    let field = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut body = Vec::new();
    if field("transfer-encoding:") == Some("chunked") {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await?);
            }
            let line = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| bad("no size of a chunk"))?;
            let at = body.len();
            body.resize(at + size + 2, 0);
            stream.read_exact(&mut body[at..]).await?;
            body.truncate(at + size);
            if size == 0 {
                break;
            }
        }
    } else if let Some(size) = field("content-length:") {
        body.resize(size.parse().map_err(|_| bad("no length"))?, 0);
        stream.read_exact(&mut body).await?;
    } else if !matches!(status, 101 | 204 | 304) {
        stream.read_to_end(&mut body).await?;
    }
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Logs an agent in: his ticket.
///
/// # Errors
/// The answer, if it is no ticket.
pub async fn login(to: SocketAddr, email: &str, password: &str) -> Result<String, String> {
    let body = serde_json::json!({ "email": email, "password": password }).to_string();
    let answer = ask(to, "POST", "/api/v1/auth/login", "Content-Type: application/json\r\n", &body)
        .await
        .map_err(|error| error.to_string())?;
    let told: serde_json::Value = serde_json::from_str(&answer.body).map_err(|_| answer.body.clone())?;
    match told["ticket"].as_str() {
        Some(ticket) if answer.status == 200 => Ok(ticket.to_owned()),
        _ => Err(format!("login: status {}: {}", answer.status, answer.body)),
    }
}
