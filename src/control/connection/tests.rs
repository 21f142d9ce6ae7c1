use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// More than the buffers of both ends take.
const BIG: usize = 48 << 20;

/// A connection whose first bytes were read by a shard already: the client's end, and how the server's ends.
async fn connect(front: &[u8]) -> (TcpStream, tokio::task::JoinHandle<Ended>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let router = Router::new()
        .route("/one", get(|| async { "one" }))
        .route("/big", get(|| async { vec![b'x'; BIG] }))
        .route("/echo", post(|body: String| async move { body }));
    let upgrades = Upgrades::Shards(Some(Arc::from("/echo-path")));
    let served = tokio::spawn(serve(stream, front.to_vec(), peer, router, upgrades, Arc::default()));
    (client, served)
}

async fn read_until(client: &mut TcpStream, end: &[u8]) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(end) {
        assert_eq!(client.read(&mut byte).await.unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8(seen).unwrap()
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time") });
}

#[test]
fn bytes_read_by_a_shard_come_first_and_the_connection_is_kept() {
    run(async {
        let (mut client, served) =
            connect(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Le")
                .await;
        let first = read_until(&mut client, b"\r\n\r\none").await;
        assert!(
            first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("x-content-type-options: nosniff\r\n")
        );
        client.write_all(b"ngth: 4\r\n\r\nwxyz").await.unwrap();
        read_until(&mut client, b"\r\n\r\nwxyz").await;
        client.write_all(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut client, b"\r\n\r\none").await;
        drop(client);
        assert!(matches!(served.await.unwrap(), Ended::Closed));
    });
}

const UPGRADE: &str = "GET /ws/v1/visitor?inbox=X&s=7 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n";

async fn upgraded(served: tokio::task::JoinHandle<Ended>) -> (TcpStream, String) {
    match served.await.unwrap() {
        Ended::Upgrade(stream, bytes) => (stream, String::from_utf8(bytes).unwrap()),
        Ended::Closed => panic!("it was closed"),
    }
}

/// Header names may change their case on the way; nothing else does.
fn same_head(a: &str, b: &str) -> bool {
    let split =
        |text: &str| text.split_once("\r\n").map(|(line, rest)| (line.to_owned(), rest.to_lowercase()));
    split(a) == split(b)
}

#[test]
fn an_upgrade_on_a_kept_connection_is_given_back_whole_with_what_follows() {
    run(async {
        let (mut client, served) = connect(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n").await;
        read_until(&mut client, b"\r\n\r\none").await;
        client.write_all(format!("{UPGRADE}early bytes").as_bytes()).await.unwrap();
        let (mut stream, bytes) = upgraded(served).await;
        let head = bytes.strip_suffix("early bytes").unwrap_or_else(|| panic!("{bytes}"));
        assert!(same_head(head, UPGRADE), "{head}");
        // Nothing was answered: the shard says 101 itself.
        stream.write_all(b"HTTP/1.1 101").await.unwrap();
        assert_eq!(read_until(&mut client, b"101").await, "HTTP/1.1 101");
    });
}

#[test]
fn an_upgrade_pipelined_behind_a_long_answer_waits_until_that_is_out() {
    run(async {
        let both = format!("GET /big HTTP/1.1\r\nHost: a\r\n\r\n{UPGRADE}");
        let (mut client, served) = connect(both.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!served.is_finished(), "so much does not fit into a socket");
        read_until(&mut client, b"\r\n\r\n").await;
        let mut body = vec![0; BIG];
        client.read_exact(&mut body).await.unwrap();
        let (_, bytes) = upgraded(served).await;
        assert!(same_head(&bytes, UPGRADE), "{bytes}");
    });
}

#[test]
fn the_echo_path_is_given_back_too_and_others_are_not() {
    run(async {
        let (_client, served) =
            connect(b"GET /echo-path HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").await;
        upgraded(served).await;
        for refused in [
            "GET /one HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "GET /ws/v1/visitor HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
            "GET /ws/v1/visitor HTTP/1.1\r\nHost: a\r\n\r\n",
            // No shard upgrades these: giving them back would go round for ever.
            "GET /ws/v2/visitor HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
            "GET /ws/v1/visitor/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        ] {
            let (mut client, served) = connect(refused.as_bytes()).await;
            read_until(&mut client, b"\r\n\r\n").await;
            drop(client);
            assert!(matches!(served.await.unwrap(), Ended::Closed), "{refused}");
        }
    });
}

#[test]
fn what_is_no_http_is_refused_and_closed() {
    run(async {
        for wrong in [
            "GET /one HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET /one HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "\u{0}\r\n\r\n",
        ] {
            let (mut client, served) = connect(wrong.as_bytes()).await;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{wrong:?}: {answer}");
            assert!(matches!(served.await.unwrap(), Ended::Closed));
        }
        let fields: String = (0..120).map(|number| format!("X-{number}: y\r\n")).collect();
        let (mut client, _) =
            connect(format!("GET /one HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).await;
        assert!(read_until(&mut client, b"\r\n").await.starts_with("HTTP/1.1 431"));
    });
}
