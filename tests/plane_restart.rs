//! The control plane dies and comes back; nobody's chat notices.

mod plane_support;

use plane_support::{Scratch, Server, Socket, cid, eventually};

fn restart(how: &[(&str, &str)], shards: &str) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &["--shards", shards]);
    let (email, password) = server.login.clone().unwrap();
    let ticket = server.login(&email, &password).json()["ticket"].as_str().unwrap().to_owned();
    let mut agent = Socket::agent(&server, &ticket);
    agent.reply("avail", serde_json::json!({ "state": "online", "cap": 5 }));
    let mut visitor = Socket::visitor(&server);
    let first = serde_json::json!({ "cid": cid(2), "type": "text", "body": "hello" });
    let c = visitor.reply("start", serde_json::json!({ "cid": cid(1), "first": first }))["c"].clone();
    agent.reply("accept", serde_json::json!({ "c": c, "cid": cid(3) }));
    agent.reply("sync", serde_json::json!({ "cursors": [{ "c": c, "s": 0 }] }));

    for life in 2..5 {
        assert_eq!(server.admin_post("/admin/restart-control", how, "").status, 202);
        // While it is away, and while it comes back, both talk.
        for number in 0..20 {
            let body = format!("life {life} message {number}");
            let said = serde_json::json!({ "c": c, "cid": cid(life * 1_000 + number), "type": "text", "body": body });
            visitor.reply("send", said);
            while agent.until("msg")["d"]["body"] != body.as_str() {}
        }
        eventually("the next life", || server.metric("ringdesk_control_starts_total") >= f64::from(life));
    }
    let panics = if how.is_empty() { 0.0 } else { 3.0 };
    assert_eq!(server.metric("ringdesk_control_panics_total"), panics);
    // The new life does all that the first did: logins with the same accounts, pages, followers that go on where they were.
    assert_eq!(server.login(&email, &password).status, 200);
    assert_eq!(server.get(server.public, "/agent").unwrap().status, 200);
    let mut again = Socket::agent(&server, &ticket);
    again.reply("sub", serde_json::json!({ "scope": "mine" }));
    eventually("the follower has all of it", || {
        server.metric("ringdesk_follower_records_total") >= 62.0
            && server.metric("ringdesk_follower_lag_bytes") == 0.0
    });
    let log = std::fs::read_to_string(scratch.0.join("log")).unwrap();
    assert_eq!(log.matches("it begins again").count(), 0, "{log}");
    server.stop();
}

#[test]
fn open_chats_go_on_while_the_control_plane_restarts() {
    restart(&[], "2");
}

#[test]
fn open_chats_go_on_while_the_control_plane_panics() {
    restart(&[("X-How", "panic")], "1");
}

#[test]
fn shards_start_and_serve_without_the_database_and_logins_come_back_with_it() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, &[]);
    let (email, password) = server.login.clone().unwrap();
    let ticket = server.login(&email, &password).json()["ticket"].as_str().unwrap().to_owned();
    server.stop();
    let (database, aside) = (scratch.0.join("data/control.db"), scratch.0.join("aside"));
    std::fs::rename(&database, &aside).unwrap();

    let server = Server::begin(&scratch.0, &[]);
    let mut agent = Socket::agent(&server, &ticket);
    agent.reply("avail", serde_json::json!({ "state": "online", "cap": 5 }));
    let mut visitor = Socket::visitor(&server);
    let first = serde_json::json!({ "cid": cid(2), "type": "text", "body": "hello" });
    let c = visitor.reply("start", serde_json::json!({ "cid": cid(1), "first": first }))["c"].clone();
    agent.reply("accept", serde_json::json!({ "c": c, "cid": cid(3) }));
    assert_eq!(server.readiness(), 503);
    assert_eq!(server.login(&email, &password).status, 503);
    assert!(!database.exists(), "an empty one would know nobody");

    std::fs::rename(&aside, &database).unwrap();
    eventually("ready again", || server.readiness() == 200);
    assert_eq!(server.login(&email, &password).status, 200);
    eventually("the follower has all of it", || server.metric("ringdesk_follower_records_total") >= 3.0);
    server.stop();
}
