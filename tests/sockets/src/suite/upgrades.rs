//! The opening handshake, and HTTP on the same port.

use std::time::Duration;

use crash::http;
use crash::ws::{PROTOCOL, Upgrade, Ws, WsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::chat::ensure;
use super::sessions::from_shop;
use crate::peer::Peer;
use crate::site::Site;

/// Sends a request and tells the status of the answer.
async fn status(site: &Site, request: &str) -> Result<u16, String> {
    let ask = async {
        let mut stream = TcpStream::connect(site.listen).await?;
        stream.write_all(request.as_bytes()).await?;
        Ok::<u16, std::io::Error>(http::answer(&mut stream).await?.status)
    };
    let answer =
        tokio::time::timeout(Duration::from_secs(5), ask).await.map_err(|_| "no answer".to_owned())?;
    answer.map_err(|error| error.to_string())
}

pub(crate) async fn refused(site: &Site) -> Result<String, String> {
    let path = site.visitor_path();
    let good = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    );
    ensure(status(site, &good).await? == 101, || "a good upgrade is refused".to_owned())?;
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "the request has it");
        good.replace(from, to)
    };
    let cases = [
        ("another sub-protocol", with(PROTOCOL, "ringdesk.v9.xml"), 400),
        ("no sub-protocol", with(&format!("Sec-WebSocket-Protocol: {PROTOCOL}\r\n"), ""), 400),
        ("version 8", with("Version: 13", "Version: 8"), 426),
        ("no version", with("Sec-WebSocket-Version: 13\r\n", ""), 426),
        ("no key", with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400),
        ("a short key", with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (
            "two keys",
            with(
                "Sec-WebSocket-Version",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version",
            ),
            400,
        ),
        ("POST", with("GET", "POST"), 405),
        ("HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 505),
        ("no upgrade", with("Upgrade: websocket\r\n", ""), 426),
        ("no connection upgrade", with("Connection: Upgrade", "Connection: keep-alive"), 426),
        ("a body", with("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"), 400),
        ("no such inbox", with(&site.inbox, "00000000000000000000000000"), 404),
        ("no inbox", with(&format!("?inbox={}", site.inbox), ""), 404),
        ("a path that nobody upgrades", with("/ws/v1/visitor", "/ws/v2/visitor"), 404),
        ("no path below /ws/", with("/ws/v1/visitor", "/ws/"), 404),
        ("a slash too many", with("/ws/v1/visitor", "/ws/v1/visitor/"), 404),
        ("another upgrade", with("Upgrade: websocket", "Upgrade: h2c"), 426),
        ("no HTTP", "EHLO mail.example\r\n\r\n".to_owned(), 400),
        ("a smuggled line", with("Host: x", "Host: x\r\n folded: y"), 400),
    ];
    for (what, request, wanted) in cases {
        let got = status(site, &request).await.map_err(|error| format!("{what}: {error}"))?;
        ensure(got == wanted, || format!("{what}: {got} and not {wanted}"))?;
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let got = status(site, &long).await;
    ensure(matches!(got, Ok(400..=499)) || got.is_err(), || format!("a head of 100 kB: {got:?}"))?;
    // Other sub-protocols may be offered beside ours.
    let both = with(PROTOCOL, &format!("graphql-ws, {PROTOCOL}"));
    ensure(status(site, &both).await? == 101, || "one of two sub-protocols".to_owned())?;
    Ok(String::new())
}

pub(crate) async fn origins(site: &Site) -> Result<String, String> {
    let mut chance = site.chance();
    let path = site.visitor_path();
    for origin in ["https://evil.example", "http://shop.example", "https://shop.example.evil.example", "null"]
    {
        let upgrade = Upgrade { more: format!("Origin: {origin}\r\n"), ..Upgrade::to(path.clone()) };
        match Ws::connect(site.listen, &upgrade, &mut chance).await {
            Err(WsError::Http(403, _)) => {}
            Err(error) => return Err(format!("{origin}: {error}")),
            Ok(_) => return Err(format!("{origin} is let in")),
        }
    }
    Peer::open_as(site, &from_shop(path), None, &site.hex(), None).await?;
    Ok(String::new())
}

pub(crate) async fn keep_alive_pages(site: &Site) -> Result<String, String> {
    let error = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(site.listen).await.map_err(error)?;
    let chat = format!("/chat/{}", site.inbox);
    let mut asset = None;
    for path in [chat.as_str(), "/agent", "/", "/nothing/here", chat.as_str()] {
        http::say(&mut stream, site.listen, "GET", path, "", "").await.map_err(error)?;
        let answer = tokio::time::timeout(Duration::from_secs(5), http::answer(&mut stream))
            .await
            .map_err(|_| format!("{path}: no answer"))?
            .map_err(|error| format!("{path}: {error}"))?;
        let wanted = if path == "/nothing/here" { 404 } else { 200 };
        ensure(answer.status == wanted && answer.head.to_ascii_lowercase().contains("text/html"), || {
            format!("{path}: {}", answer.head)
        })?;
        if path == "/agent" {
            asset = answer.body.split(['"', '\'']).find(|part| part.ends_with(".js")).map(str::to_owned);
        }
    }
    let asset = asset.ok_or("the agents' page names no script")?;
    let asset = if asset.starts_with('/') { asset } else { format!("/{}", asset.trim_start_matches("./")) };
    http::say(&mut stream, site.listen, "GET", &asset, "", "").await.map_err(error)?;
    let answer = http::answer(&mut stream).await.map_err(error)?;
    ensure(answer.status == 200 && answer.head.to_ascii_lowercase().contains("javascript"), || {
        format!("{asset}: {}", answer.head)
    })?;
    // A head in pieces, a body in pieces.
    let mut stream = TcpStream::connect(site.listen).await.map_err(error)?;
    let body = "{\"email\":\"nobody@localhost\",\"password\":\"wrong horse\"}";
    let request = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for piece in request.as_bytes().chunks(7) {
        stream.write_all(piece).await.map_err(error)?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = http::answer(&mut stream).await.map_err(error)?;
    ensure(
        answer.status == 401 && answer.head.to_ascii_lowercase().contains("application/problem+json"),
        || answer.head.clone(),
    )?;
    // Two requests in one write.
    let mut stream = TcpStream::connect(site.listen).await.map_err(error)?;
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /agent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await
        .map_err(error)?;
    let mut all = String::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut all)).await;
    read.map_err(|_| "the second of two requests is not closed after".to_owned())?.map_err(error)?;
    ensure(all.matches("HTTP/1.1 200").count() == 2, || {
        format!("two requests at once: {} answers", all.matches("HTTP/1.1").count())
    })?;
    Ok(String::new())
}

/// A proxy may send an upgrade on a connection that spoke HTTP before.
pub(crate) async fn upgrade_after_http(site: &Site) -> Result<String, String> {
    let error = |error: std::io::Error| error.to_string();
    let mut sockets = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(site.listen).await.map_err(error)?;
        http::say(&mut stream, site.listen, "GET", "/agent", "", "").await.map_err(error)?;
        let answer = http::answer(&mut stream).await.map_err(error)?;
        ensure(answer.status == 200, || answer.head.clone())?;
        let ws = Ws::upgrade(stream, site.listen, &Upgrade::to(site.visitor_path()), &mut site.chance())
            .await
            .map_err(|error| error.to_string())?;
        let mut peer = Peer::greeted(ws).await?;
        peer.ready = peer
            .ask("auth", serde_json::json!({ "device": site.hex() }))
            .await
            .map_err(|error| error.to_string())?;
        let c = super::chat::started(site, &mut peer, "Through a proxy").await?;
        ensure(c.len() == 26, || c.clone())?;
        // A proxy keeps the connection for whoever comes next. He is led to his home, wherever it is, and not told to try elsewhere.
        for _ in 0..3 {
            let mut stream = TcpStream::connect(site.listen).await.map_err(error)?;
            http::say(&mut stream, site.listen, "GET", "/agent", "", "").await.map_err(error)?;
            http::answer(&mut stream).await.map_err(error)?;
            let upgrade = Upgrade::to(format!("{}&s={}", site.visitor_path(), peer.slot()));
            let ws = Ws::upgrade(stream, site.listen, &upgrade, &mut site.chance())
                .await
                .map_err(|error| error.to_string())?;
            let mut again = Peer::greeted(ws).await?;
            let ready = again
                .ask("auth", serde_json::json!({ "device": site.hex(), "token": peer.text("token") }))
                .await
                .map_err(|error| format!("slot {}: {error}", peer.slot()))?;
            ensure(ready["me"] == peer.ready["me"], || ready.to_string())?;
        }
        sockets.push(peer);
    }
    Ok(String::new())
}
