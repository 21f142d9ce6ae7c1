//! Pages and logins on the public port, over connections that shards accepted.

mod plane_support;

use plane_support::{Connection, Scratch, Server, Socket, cid, eventually, output, ringdesk};
use std::io::Write as _;
use std::process::Stdio;

#[test]
fn pages_come_with_their_policy_and_their_files() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    for path in [format!("/chat/{}", server.inbox), "/agent".to_owned()] {
        let page = server.get(server.public, &path).unwrap();
        assert_eq!((page.status, page.field("content-type")), (200, "text/html; charset=utf-8"));
        let policy = page.field("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(page.field("x-content-type-options"), "nosniff");
        let text = page.text();
        let script = text.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
        let file = server.get(server.public, script).unwrap();
        assert_eq!((file.status, file.field("content-type")), (200, "text/javascript; charset=utf-8"));
        assert!(file.field("cache-control").contains("immutable"));
        let etag = [("If-None-Match", page.field("etag"))];
        let again = Connection::open(server.public).unwrap().ask("GET", &path, &etag, b"").unwrap();
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    assert_eq!(server.get(server.public, "/chat/6NGBM6D5HAEZHC4N16X50JKTJC").unwrap().status, 404);
    server.stop();
}

#[test]
fn a_connection_is_kept_and_then_given_back_for_an_upgrade() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &["--shards", "2"]);
    // Enough of them that every shard gets some, and some with the hint of another shard's slot.
    for number in 0..8 {
        let mut connection = Connection::open(server.public).unwrap();
        assert_eq!(connection.ask("GET", "/", &[], b"").unwrap().status, 200);
        assert_eq!(connection.ask("GET", "/nothing", &[], b"").unwrap().status, 404);
        let path = format!("/ws/v1/visitor?inbox={}&s={}", server.inbox, number * 512);
        let mut socket = connection.upgrade(&path);
        assert_eq!(socket.until("hello")["d"]["v"], 1);
        let ready = socket.reply("auth", serde_json::json!({ "device": "a-device-of-sixteen-or-more" }));
        assert!(ready["token"].is_string());
        let first = serde_json::json!({ "cid": cid(2), "type": "text", "body": "after a page" });
        assert_eq!(
            socket.reply("start", serde_json::json!({ "cid": cid(1), "first": first }))["level"],
            "disk"
        );
    }
    assert_eq!(server.metric("ringdesk_http_connections_given_back_total"), 8.0);
    eventually("no connection is left behind", || server.metric("ringdesk_http_connections") == 0.0);
    server.stop();
}

#[test]
fn logins_over_the_public_port_open_an_agents_socket() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    let (email, password) = server.login.clone().unwrap();
    let wrong = server.login(&email, "wrong");
    assert_eq!((wrong.status, wrong.field("content-type")), (401, "application/problem+json"));
    assert_eq!(wrong.json()["code"], "auth");
    let good = server.login(&email, &password).json();
    let mut agent = Socket::agent(&server, good["ticket"].as_str().unwrap());
    assert_eq!(agent.reply("avail", serde_json::json!({ "state": "online" }))["state"], "online");

    // A new password, set by another process, ends his sessions within seconds.
    let mut child = ringdesk(&scratch.0)
        .args(["admin", "passwd", &email, "--password-stdin", "--data-dir", "data"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a better password\n").unwrap();
    assert!(child.wait().unwrap().success());
    let code = loop {
        if let Err(code) = agent.next() {
            break code;
        }
    };
    assert_eq!(code, 4202);
    assert_eq!(server.login(&email, &password).status, 401);
    assert_eq!(server.login(&email, "a better password").status, 200);
    let (status, _, errors) =
        output(ringdesk(&scratch.0).args(["admin", "passwd", "nobody@localhost", "--data-dir", "data"]));
    assert_eq!(status, Some(6), "{errors}");
    server.stop();
}

#[test]
fn an_agent_who_is_added_while_the_server_runs_logs_in_and_works() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    let add = |arguments: &[&str]| {
        output(ringdesk(&scratch.0).args(["admin", "add"]).args(arguments).args(["--data-dir", "data"]))
    };
    let (status, text, errors) = add(&["li@example.com", "--name", "李雷", "--capacity", "3"]);
    assert_eq!(status, Some(0), "{errors}");
    let password =
        text.trim().strip_prefix("login: li@example.com  password: ").expect("the new password").to_owned();
    let mut ticket = String::new();
    plane_support::eventually("the new agent", || {
        // Tries are counted, good ones too.
        std::thread::sleep(std::time::Duration::from_secs(1));
        let answer = server.login("li@example.com", &password);
        let known = answer.status == 200;
        if known {
            let body: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
            ticket = body["ticket"].as_str().unwrap().to_owned();
        }
        known
    });
    // The shards hear of him a moment after the database.
    let mut agent = Socket::agent(&server, &ticket);
    let said = agent.reply("avail", serde_json::json!({ "state": "online" }));
    assert_eq!((&said["state"], &said["cap"]), (&"online".into(), &3.into()));
    for (arguments, status, words) in [
        (&["LI@example.com"][..], 1, "somebody has the address"),
        (&["nobody"], 2, "is no address"),
        (&["a b@example.com"], 2, "is no address"),
        (&["x@example.com", "--name", " "], 2, "a name has 1 to 80 characters"),
        (&["x@example.com", "--capacity", "501"], 2, "501"),
    ] {
        let (found, text, errors) = add(arguments);
        assert_eq!(found, Some(status), "{arguments:?}: {text}{errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
    }
    server.stop();
}

#[test]
fn five_hundred_logins_at_once_leave_the_chat_alone() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    let mut visitor = Socket::visitor(&server);
    let first = serde_json::json!({ "cid": cid(2), "type": "text", "body": "before" });
    let c = visitor.reply("start", serde_json::json!({ "cid": cid(1), "first": first }))["c"].clone();
    let body = "{\"email\":\"agent@localhost\",\"password\":\"x\"}";
    let mut connections: Vec<Connection> =
        (0..500).map(|_| Connection::open(server.public).unwrap()).collect();
    for connection in &mut connections {
        let request = format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.0.write_all(request.as_bytes()).unwrap();
    }
    for number in 0..20 {
        let said =
            serde_json::json!({ "c": c, "cid": cid(100 + number), "type": "text", "body": "meanwhile" });
        assert_eq!(visitor.reply("send", said)["s"], number + 2);
    }
    let mut by_status = std::collections::BTreeMap::<u16, u32>::new();
    for connection in &mut connections {
        *by_status.entry(connection.answer().unwrap().status).or_default() += 1;
    }
    assert_eq!(by_status.values().sum::<u32>(), 500);
    assert!(by_status.keys().all(|status| [401, 429, 503].contains(status)), "{by_status:?}");
    assert!(by_status[&429] > 300, "one address and one account get few tries: {by_status:?}");
    server.stop();
}
