//! What is refused, and how it is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::chat::{Chat, ensure, open, send, started};
use crate::peer::Peer;
use crate::site::Site;

pub(crate) async fn said_twice(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let word = json!({ "c": c, "cid": site.hex(), "type": "text", "body": "Once" });
    let first = agent.ask("send", word.clone()).await.map_err(|error| error.to_string())?;
    let again = agent.ask("send", word.clone()).await.map_err(|error| error.to_string())?;
    ensure(again["dup"] == true && again["s"] == first["s"] && again["ts"] == first["ts"], || {
        format!("{first} {again}")
    })?;
    // At once, before the first is answered.
    let word = json!({ "c": c, "cid": site.hex(), "type": "text", "body": "Twice at once" });
    let (one, two) = (visitor.say("send", word.clone()), visitor.say("send", word.clone()));
    let (one, two) = (
        visitor.reply(one).await.map_err(|error| error.to_string())?,
        visitor.reply(two).await.map_err(|error| error.to_string())?,
    );
    ensure(one["s"] == two["s"] && two["dup"] == true, || format!("{one} {two}"))?;
    let mut other = word;
    other["body"] = "Something else".into();
    let code = visitor.refused("send", other).await?;
    ensure(code == "id_conflict", || format!("the same cid for something else: {code}"))?;
    // The same id from another device is another message.
    let path = format!("{}&s={}", site.visitor_path(), visitor.slot());
    let mut tab = Peer::open(site, &path, Some(&visitor.text("token")), &site.hex(), None).await?;
    let cid = site.hex();
    let one = visitor
        .ask("send", json!({ "c": c, "cid": cid, "type": "text", "body": "Same id" }))
        .await
        .map_err(|error| error.to_string())?;
    let two = tab
        .ask("send", json!({ "c": c, "cid": cid, "type": "text", "body": "Same id" }))
        .await
        .map_err(|error| error.to_string())?;
    ensure(two["s"].as_u64() == one["s"].as_u64().map(|s| s + 1) && two["dup"].is_null(), || {
        format!("{one} {two}")
    })?;
    // Only what was stored was told.
    let mut bodies = Vec::new();
    for _ in 0..4 {
        bodies.push(agent.event(&c).await?["d"]["body"].clone());
    }
    ensure(bodies == ["Once", "Twice at once", "Same id", "Same id"], || format!("{bodies:?}"))?;
    agent.never("msg").await?;
    // A second `start` finds the conversation that is there.
    let told = visitor
        .ask(
            "start",
            json!({ "cid": site.hex(), "first": { "cid": site.hex(), "type": "text", "body": "Again" } }),
        )
        .await
        .map_err(|error| error.to_string())?;
    ensure(told["c"] == c && told["s"] == 7, || told.to_string())?;
    Ok(String::new())
}

pub(crate) async fn tokens(site: &Site) -> Result<String, String> {
    let visitor = site.visitor().await?;
    let token = visitor.text("token");
    let mut damaged = token.clone().into_bytes();
    let place = token.len() - 5;
    damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
    let damaged = String::from_utf8(damaged).map_err(|error| error.to_string())?;
    let longer = format!("{token}AAAA");
    let wrong = [
        ("nonsense", "nonsense"),
        ("damaged", &damaged),
        ("longer", &longer),
        ("a ticket", &site.ticket),
        ("empty", ""),
    ];
    for (what, text) in wrong {
        let mut peer = Peer::knock(site, &site.visitor_path()).await?;
        peer.say("auth", json!({ "device": site.hex(), "token": text }));
        let (code, _) =
            peer.closed(Duration::from_secs(3)).await.map_err(|error| format!("{what}: {error}"))?;
        ensure(code == 4201, || format!("a visitor with {what}: {code}"))?;
    }
    for (what, text) in
        [("nonsense", Some("v1.1.x.y")), ("a visitor's token", Some(token.as_str())), ("nothing", None)]
    {
        let mut peer = Peer::knock(site, "/ws/v1/agent").await?;
        peer.say("auth", json!({ "device": site.hex(), "token": text }));
        let (code, _) =
            peer.closed(Duration::from_secs(3)).await.map_err(|error| format!("{what}: {error}"))?;
        ensure(code == 4201, || format!("an agent with {what}: {code}"))?;
    }
    // Logins: a wrong password and an unknown address are not told apart; the right one opens the door.
    let wrong = crash::http::login(site.listen, &site.email, "wrong horse").await.err().unwrap_or_default();
    let nobody =
        crash::http::login(site.listen, "nobody@localhost", "wrong horse").await.err().unwrap_or_default();
    ensure(wrong == nobody && wrong.contains("401"), || format!("{wrong} and {nobody}"))?;
    let ticket = crash::http::login(site.listen, &site.email, &site.password).await?;
    Peer::open(site, "/ws/v1/agent", Some(&ticket), &site.hex(), None).await?;
    Ok(String::new())
}

/// A new password ends an agent's sessions and his tickets: whoever comes after this test needs another one.
pub(crate) async fn ended_sessions(site: &Site) -> Result<String, String> {
    let ticket = site.ticket.clone();
    let mut agent = Peer::open(site, "/ws/v1/agent", Some(&ticket), &site.hex(), None).await?;
    let (status, text) =
        site.server.borrow().run(&["admin", "passwd", &site.email]).map_err(|error| error.to_string())?;
    ensure(status == 0, || format!("admin passwd: {status} {text}"))?;
    let (code, _) =
        agent.closed(Duration::from_secs(8)).await.map_err(|error| format!("after admin passwd: {error}"))?;
    ensure(code == 4202, || format!("after admin passwd: {code}"))?;
    let mut peer = Peer::knock(site, "/ws/v1/agent").await?;
    peer.say("auth", json!({ "device": site.hex(), "token": ticket }));
    let (code, _) = peer.closed(Duration::from_secs(3)).await?;
    ensure(code == 4202, || format!("an ended ticket: {code}"))?;
    Ok(String::new())
}

pub(crate) async fn foreign_conversations(site: &Site) -> Result<String, String> {
    let Chat { visitor, mut agent, c } = open(site).await?;
    let mut stranger = site.visitor().await?;
    let own = started(site, &mut stranger, "My own").await?;
    // One that is another's, one that nobody has, and one whose home is elsewhere: nothing tells them apart.
    let mut nobodys = c.clone().into_bytes();
    nobodys[20..].copy_from_slice(b"000000");
    let nobodys = String::from_utf8(nobodys).map_err(|error| error.to_string())?;
    for id in [&c, &nobodys] {
        let asks = [
            ("send", json!({ "c": id, "cid": site.hex(), "type": "text", "body": "Let me in" })),
            ("history", json!({ "c": id, "before": 5 })),
            ("close", json!({ "c": id, "cid": site.hex() })),
        ];
        for (op, d) in asks {
            let code = stranger.refused(op, d).await?;
            ensure(code == "not_found", || format!("{op} of a foreign conversation: {code}"))?;
        }
        stranger
            .ask("sync", json!({ "cursors": [{ "c": id, "s": 0 }] }))
            .await
            .map_err(|error| error.to_string())?;
        let sync = stranger.push("sync", |push| push["c"] == *id).await?;
        ensure(sync["err"]["code"] == "not_found" && sync["d"].is_null(), || sync.to_string())?;
    }
    let asks = [
        ("send", json!({ "c": nobodys, "cid": site.hex(), "type": "text", "body": "Anybody?" })),
        ("note", json!({ "c": nobodys, "cid": site.hex(), "body": "Anybody?" })),
        ("history", json!({ "c": nobodys, "before": 5 })),
        ("close", json!({ "c": nobodys, "cid": site.hex() })),
        ("accept", json!({ "c": nobodys, "cid": site.hex() })),
    ];
    for (op, d) in asks {
        let code = agent.refused(op, d).await?;
        ensure(code == "not_found", || format!("an agent's {op} of nothing: {code}"))?;
    }
    // Things without a reply do nothing.
    for (op, d) in [
        ("typing", json!({ "c": c, "on": true })),
        ("seen", json!({ "c": c, "s": 1 })),
        ("ack", json!({ "c": c, "s": 1 })),
    ] {
        stranger.tell(op, d);
    }
    agent.settle().await?;
    ensure(!agent.told.iter().any(|push| push["op"] == "typing"), || "a stranger types".to_owned())?;
    send(site, &mut stranger, &own, "Still mine").await?;
    drop(visitor);
    Ok(String::new())
}

pub(crate) async fn roles_and_states(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let asks = [
        ("note", json!({ "c": c, "cid": site.hex(), "body": "x" })),
        ("accept", json!({ "c": c, "cid": site.hex() })),
        ("decline", json!({ "c": c, "offer": 1 })),
        ("unsync", json!({ "c": c })),
        ("avail", json!({ "state": "online" })),
        ("sub", json!({ "scope": "queue" })),
        ("unsub", json!({ "scope": "mine" })),
    ];
    for (op, d) in asks {
        let code = visitor.refused(op, d).await?;
        ensure(code == "forbidden", || format!("a visitor's {op}: {code}"))?;
    }
    let code = agent.refused("start", json!({ "cid": site.hex() })).await?;
    ensure(code == "forbidden", || format!("an agent's start: {code}"))?;
    let code = agent.refused("accept", json!({ "c": c, "cid": site.hex() })).await?;
    ensure(code == "stale", || format!("an open conversation accepted again: {code}"))?;
    Ok(String::new())
}

pub(crate) async fn bounds(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, c, .. } = open(site).await?;
    let long = "ж".repeat(10_000);
    let told = send(site, &mut visitor, &c, &long).await?;
    ensure(told["s"] == 3, || told.to_string())?;
    let word = |body: &str| json!({ "c": c, "cid": site.hex(), "type": "text", "body": body });
    let short = json!({ "c": c, "cid": "short", "type": "text", "body": "x" });
    let html = json!({ "c": c, "cid": site.hex(), "type": "html", "body": "x" });
    let cursors: Vec<Value> = (0..513).map(|s| json!({ "c": c, "s": s })).collect();
    let wrong = [
        ("send", word(&format!("{long}ж")), "too_large"),
        ("send", word(""), "bad_request"),
        ("send", short, "bad_request"),
        ("send", html, "bad_request"),
        ("send", json!({ "c": "nonsense", "cid": site.hex(), "type": "text", "body": "x" }), "bad_request"),
        ("send", json!({ "c": c, "cid": site.hex(), "type": "text" }), "bad_request"),
        ("send", json!([]), "bad_request"),
        ("history", json!({ "c": c, "before": 5, "limit": 201 }), "bad_request"),
        ("history", json!({ "c": c, "before": -1 }), "bad_request"),
        ("sync", json!({ "cursors": cursors }), "bad_request"),
        ("sync", json!({ "cursors": [{ "c": c, "s": 1 }], "limit": 501 }), "bad_request"),
        ("start", json!({ "cid": site.hex(), "name": "n".repeat(81) }), "bad_request"),
        ("dance", json!({}), "bad_request"),
    ];
    for (op, d, wanted) in wrong {
        let code = visitor.refused(op, d.clone()).await?;
        ensure(code == wanted, || {
            format!("{op} {}: {code}", d.to_string().chars().take(120).collect::<String>())
        })?;
    }
    // The socket lives on, and nothing of it was stored.
    let told = send(site, &mut visitor, &c, "Still here").await?;
    ensure(told["s"] == 4, || told.to_string())?;
    Ok(String::new())
}

pub(crate) async fn rate_limit(site: &Site) -> Result<String, String> {
    let mut upgrade = crash::ws::Upgrade::to(site.visitor_path());
    upgrade.more = "Origin: https://shop.example\r\n".to_owned();
    let mut flooder = Peer::open_as(site, &upgrade, None, &site.hex(), None).await?;
    let mut calm = Peer::open_as(site, &upgrade, None, &site.hex(), None).await?;
    let c = started(site, &mut flooder, "Flood").await?;
    let quiet = started(site, &mut calm, "Calm").await?;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(
            flooder.say("send", json!({ "c": c, "cid": site.hex(), "type": "text", "body": format!("{n}") })),
        );
    }
    let (mut stored, mut refused) = (0, 0);
    for id in ids {
        match flooder.reply(id).await {
            Ok(_) => stored += 1,
            Err(err) => {
                ensure(
                    err["code"] == "rate_limited"
                        && err["retry"] == true
                        && err["after_ms"].as_u64().is_some_and(|ms| (1..5_000).contains(&ms)),
                    || err.to_string(),
                )?;
                refused += 1;
            }
        }
    }
    ensure((19..=22).contains(&stored) && refused == 30 - stored, || {
        format!("{stored} stored, {refused} refused")
    })?;
    send(site, &mut calm, &quiet, "I am not limited").await?;
    // After the time it names the next one is taken.
    tokio::time::sleep(Duration::from_millis(500)).await;
    send(site, &mut flooder, &c, "Patient").await?;
    // Whoever never stops is closed.
    for n in 0..60 {
        flooder.tell("send", json!({ "c": c, "cid": site.hex(), "type": "text", "body": format!("{n}") }));
    }
    let (code, _) = flooder.closed(Duration::from_secs(5)).await?;
    ensure(code == 4111, || format!("a flood ends with {code}"))?;
    send(site, &mut calm, &quiet, "Nor am I now").await?;
    Ok(String::new())
}
