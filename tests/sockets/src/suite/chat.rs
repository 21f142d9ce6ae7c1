//! A visitor and an agent talk.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::site::Site;

/// Both sides of an open conversation, at different shards where there are some.
pub(crate) struct Chat {
    pub(crate) visitor: Peer,
    pub(crate) agent: Peer,
    pub(crate) c: String,
}

/// A visitor's first words.
pub(crate) async fn started(site: &Site, visitor: &mut Peer, body: &str) -> Result<String, String> {
    let start = json!({ "cid": site.hex(), "name": "Ann", "page": "https://shop.example/cart", "locale": "en",
        "first": { "cid": site.hex(), "type": "text", "body": body } });
    let told = visitor.ask("start", start).await.map_err(|error| format!("start: {error}"))?;
    ensure(told["s"] == 1 && told["level"] == "disk" && told["ts"].is_u64(), || format!("start: {told}"))?;
    Ok(told["c"].as_str().ok_or("start without c")?.to_owned())
}

/// An agent listens from `s` on; the `sync` push.
pub(crate) async fn listens(peer: &mut Peer, c: &str, s: u64) -> Result<Value, String> {
    let told = peer
        .ask("sync", json!({ "cursors": [{ "c": c, "s": s }] }))
        .await
        .map_err(|error| format!("sync: {error}"))?;
    ensure(told["n"] == 1, || format!("sync: {told}"))?;
    peer.push("sync", |push| push["c"] == c).await
}

/// A visitor with his first words, an agent who has accepted, both listening, all told.
pub(crate) async fn open(site: &Site) -> Result<Chat, String> {
    let mut visitor = site.visitor().await?;
    let mut agent = site.agent_away(visitor.slot()).await?;
    let c = started(site, &mut visitor, "Hello?").await?;
    listens(&mut visitor, &c, 0).await?;
    listens(&mut agent, &c, 0).await?;
    accepted(site, &mut agent, &c).await?;
    for peer in [&mut visitor, &mut agent] {
        let (hello, joined) = (peer.event(&c).await?, peer.event(&c).await?);
        ensure(hello["s"] == 1 && hello["d"]["body"] == "Hello?", || hello.to_string())?;
        ensure(joined["s"] == 2 && joined["op"] == "agent", || joined.to_string())?;
    }
    Ok(Chat { visitor, agent, c })
}

/// Accepts; the home may have announced it to the dispatcher only a moment ago.
pub(crate) async fn accepted(site: &Site, agent: &mut Peer, c: &str) -> Result<Value, String> {
    let cid = site.hex();
    for _ in 0..100 {
        match agent.ask("accept", json!({ "c": c, "cid": cid })).await {
            Ok(told) => return Ok(told),
            Err(err) if err["code"] == "not_found" || err["retry"] == true => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            Err(err) => return Err(format!("accept: {err}")),
        }
    }
    Err(format!("accept: {c} is never found"))
}

pub(crate) fn ensure(good: bool, else_say: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(else_say()) }
}

/// The durable send of a text.
pub(crate) async fn send(site: &Site, peer: &mut Peer, c: &str, body: &str) -> Result<Value, String> {
    let told = peer.ask("send", json!({ "c": c, "cid": site.hex(), "type": "text", "body": body })).await;
    told.map_err(|error| format!("send: {error}"))
}

pub(crate) async fn hello_and_ready(site: &Site) -> Result<String, String> {
    let visitor = site.visitor().await?;
    let hello = &visitor.hello;
    ensure(
        hello["v"] == 1
            && hello["server"].as_str().is_some_and(|name| name.starts_with("ringdesk/"))
            && hello["max_frame"] == 65_536
            && hello["hb_ms"] == 25_000
            && hello["max_inflight"] == 256
            && hello["level"] == "disk"
            && hello["epoch"].as_str().is_some_and(|epoch| epoch.len() == 26),
        || hello.to_string(),
    )?;
    let ready = &visitor.ready;
    let id = |name: &str| ready[name].as_str().is_some_and(|id| id.len() == 26);
    ensure(
        id("sid")
            && id("me")
            && ready["epoch"] == hello["epoch"]
            && ready["token"].as_str().is_some_and(|token| token.starts_with("v1."))
            && ready["slot"].as_u64().is_some_and(|slot| slot < 4096)
            && ready["p"] == 0
            && ready["resumed"] == false
            && ready["replay"] == 0
            && ready["heads"] == json!([])
            && ready["ts"].as_u64().is_some_and(|ts| ts > 1_700_000_000_000),
        || ready.to_string(),
    )?;
    let agent = site.agent().await?;
    ensure(agent.ready["name"] == "Agent" && agent.ready["heads"] == json!([]), || agent.ready.to_string())?;
    Ok(String::new())
}

pub(crate) async fn conversation(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    // Both speak; both hear the same in one order.
    let told = send(site, &mut agent, &c, "Good morning 你好 🦀 \"quoted\" \\ \n tab\t").await?;
    ensure(told["s"] == 3 && told["level"] == "disk" && told["dup"].is_null(), || told.to_string())?;
    let told = send(site, &mut visitor, &c, "Where is my parcel?").await?;
    ensure(told["s"] == 4, || told.to_string())?;
    let mut heard = Vec::new();
    for s in 3..=4 {
        let (one, other) = (visitor.event(&c).await?, agent.event(&c).await?);
        ensure(one == other && one["s"] == s && one["op"] == "msg" && one["d"]["type"] == "text", || {
            format!("{one} and {other}")
        })?;
        heard.push(one);
    }
    ensure(heard[0]["d"]["body"] == "Good morning 你好 🦀 \"quoted\" \\ \n tab\t", || {
        heard[0].to_string()
    })?;
    ensure(
        heard[0]["d"]["from"]["kind"] == "agent" && heard[0]["d"]["from"]["id"] == agent.ready["me"],
        || heard[0].to_string(),
    )?;
    ensure(
        heard[1]["d"]["from"]["kind"] == "visitor" && heard[1]["d"]["from"]["id"] == visitor.ready["me"],
        || heard[1].to_string(),
    )?;
    // The owner closes; the visitor's next word opens it again, to wait.
    let told = agent
        .ask("close", json!({ "c": c, "cid": site.hex() }))
        .await
        .map_err(|error| format!("close: {error}"))?;
    ensure(told["s"] == 5, || told.to_string())?;
    for peer in [&mut visitor, &mut agent] {
        let status = peer.event(&c).await?;
        ensure(
            status["s"] == 5
                && status["op"] == "status"
                && status["d"]["status"] == "closed"
                && status["d"]["by"]["kind"] == "agent",
            || status.to_string(),
        )?;
    }
    let code = agent
        .refused("send", json!({ "c": c, "cid": site.hex(), "type": "text", "body": "one more" }))
        .await?;
    ensure(code == "closed", || format!("a send to a closed conversation: {code}"))?;
    let told = send(site, &mut visitor, &c, "And another thing").await?;
    let (status, word) = (agent.event(&c).await?, agent.event(&c).await?);
    ensure(status["d"]["status"] == "waiting" && status["s"] == 6, || status.to_string())?;
    ensure(word["s"] == 7 && told["s"] == 7 && word["d"]["body"] == "And another thing", || {
        format!("{word} {told}")
    })?;
    let code = agent
        .refused("send", json!({ "c": c, "cid": site.hex(), "type": "text", "body": "too early" }))
        .await?;
    ensure(code == "not_owner", || format!("a send without owning it: {code}"))?;
    accepted(site, &mut agent, &c).await?;
    send(site, &mut agent, &c, "Here again").await?;
    let told = visitor
        .ask("close", json!({ "c": c, "cid": site.hex() }))
        .await
        .map_err(|error| format!("close: {error}"))?;
    ensure(told["s"] == 10, || told.to_string())?;
    // A visitor who comes back has what he had.
    let again = Peer::open(
        site,
        &format!("{}&s={}", site.visitor_path(), visitor.slot()),
        Some(&visitor.text("token")),
        &site.hex(),
        None,
    )
    .await?;
    ensure(again.ready["me"] == visitor.ready["me"], || again.ready.to_string())?;
    let head = &again.ready["heads"][0];
    ensure(head["c"] == c && head["s"] == 10 && head["status"] == "closed" && head["e"].is_u64(), || {
        again.ready.to_string()
    })?;
    Ok(String::new())
}

pub(crate) async fn many_conversations(site: &Site) -> Result<String, String> {
    let mut chats = Vec::new();
    for _ in 0..12 {
        chats.push(open(site).await?);
    }
    // All at once, each of both sides ten times.
    for n in 0..10 {
        for chat in &mut chats {
            chat.visitor.say(
                "send",
                json!({ "c": chat.c, "cid": site.hex(), "type": "text", "body": format!("v{n}") }),
            );
            chat.agent.say(
                "send",
                json!({ "c": chat.c, "cid": site.hex(), "type": "text", "body": format!("a{n}") }),
            );
        }
    }
    for chat in &mut chats {
        let (mut visitors, mut agents) = (0, 0);
        for s in 3..23 {
            let (one, other) = (chat.visitor.event(&chat.c).await?, chat.agent.event(&chat.c).await?);
            ensure(one == other && one["s"] == s, || format!("{s}: {one} and {other}"))?;
            let count = if one["d"]["from"]["kind"] == "visitor" { &mut visitors } else { &mut agents };
            let expected =
                format!("{}{count}", if one["d"]["from"]["kind"] == "visitor" { 'v' } else { 'a' });
            ensure(one["d"]["body"] == expected, || format!("{one} and not {expected}"))?;
            *count += 1;
        }
        ensure((visitors, agents) == (10, 10), || format!("{visitors} and {agents}"))?;
    }
    Ok(String::new())
}

pub(crate) async fn notes_and_numbers(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let told = agent
        .ask("note", json!({ "c": c, "cid": site.hex(), "body": "Looks angry" }))
        .await
        .map_err(|error| error.to_string())?;
    ensure(told["s"] == 3, || told.to_string())?;
    let told = send(site, &mut visitor, &c, "After the note").await?;
    ensure(told["s"] == 3, || format!("the visitor's own number: {told}"))?;
    let told = send(site, &mut agent, &c, "And the answer").await?;
    ensure(told["s"] == 5, || format!("the agent's own number: {told}"))?;
    let (note, one, two) = (agent.event(&c).await?, agent.event(&c).await?, agent.event(&c).await?);
    ensure(
        note["op"] == "note"
            && note["s"] == 3
            && note["d"]["body"] == "Looks angry"
            && note["d"]["from"]["kind"] == "agent",
        || note.to_string(),
    )?;
    ensure(one["s"] == 4 && two["s"] == 5, || format!("{one} {two}"))?;
    let (one, two) = (visitor.event(&c).await?, visitor.event(&c).await?);
    ensure(one["s"] == 3 && two["s"] == 4 && two["d"]["body"] == "And the answer", || {
        format!("{one} {two}")
    })?;
    visitor.never("note").await?;
    Ok(String::new())
}

pub(crate) async fn history_pages(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let mut ids = Vec::new();
    for n in 0..100 {
        let op = if n % 4 == 0 { "note" } else { "send" };
        ids.push(
            agent.say(op, json!({ "c": c, "cid": site.hex(), "type": "text", "body": format!("line {n}") })),
        );
    }
    for id in ids {
        agent.reply(id).await.map_err(|error| error.to_string())?;
    }
    let told =
        agent.ask("history", json!({ "c": c, "before": 51 })).await.map_err(|error| error.to_string())?;
    let numbers = |told: &Value| {
        told["events"]
            .as_array()
            .map(|events| events.iter().filter_map(|event| event["s"].as_u64()).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    ensure(
        told["c"] == c && told["more"] == false && numbers(&told) == (1..=50).collect::<Vec<_>>(),
        || told.to_string(),
    )?;
    let told = agent
        .ask("history", json!({ "c": c, "before": 103, "limit": 7 }))
        .await
        .map_err(|error| error.to_string())?;
    ensure(told["more"] == true && numbers(&told) == (96..=102).collect::<Vec<_>>(), || told.to_string())?;
    let told = visitor
        .ask("history", json!({ "c": c, "before": 1_000, "limit": 200 }))
        .await
        .map_err(|error| error.to_string())?;
    ensure(told["more"] == false && numbers(&told) == (1..=77).collect::<Vec<_>>(), || told.to_string())?;
    let plain = |event: &Value| matches!(event["op"].as_str(), Some("msg" | "agent"));
    ensure(told["events"].as_array().is_some_and(|events| events.iter().all(plain)), || {
        "a visitor was told a note".to_owned()
    })?;
    // A limited sync says so and tells the end.
    let mut late = site.agent().await?;
    late.ask("sync", json!({ "cursors": [{ "c": c, "s": 0 }], "limit": 10 }))
        .await
        .map_err(|error| error.to_string())?;
    let sync = late.push("sync", |_| true).await?;
    ensure(
        sync["d"]["limited"] == true
            && sync["d"]["from"] == 93
            && sync["d"]["head"] == 102
            && sync["d"]["status"] == "open",
        || sync.to_string(),
    )?;
    ensure(
        sync["d"]["owner"] == agent.ready["me"]
            && sync["d"]["visitor"]["name"] == "Ann"
            && sync["d"]["visitor"]["online"] == true,
        || sync.to_string(),
    )?;
    for s in 93..=102 {
        let event = late.event(&c).await?;
        ensure(event["s"] == s, || event.to_string())?;
    }
    // Without `unsync` he hears what follows; after it he does not.
    send(site, &mut agent, &c, "live").await?;
    ensure(late.event(&c).await?["s"] == 103, || "live events do not follow a sync".to_owned())?;
    late.ask("unsync", json!({ "c": c })).await.map_err(|error| error.to_string())?;
    send(site, &mut agent, &c, "unheard").await?;
    late.never("msg").await?;
    Ok(String::new())
}

pub(crate) async fn seen_and_delivered(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    agent
        .ask("note", json!({ "c": c, "cid": site.hex(), "body": "between" }))
        .await
        .map_err(|error| error.to_string())?;
    send(site, &mut agent, &c, "Read this").await?;
    visitor.push("msg", |push| push["s"] == 3).await?;
    let p = visitor.p;
    visitor.tell("ack", json!({ "p": p }));
    // To the agent it is number 4: the note counts on his side.
    agent
        .push("delivered", |push| push["c"] == c && push["d"]["who"] == "visitor" && push["d"]["s"] == 4)
        .await?;
    visitor.tell("seen", json!({ "c": c, "s": 3 }));
    agent.push("seen", |push| push["c"] == c && push["d"]["who"] == "visitor" && push["d"]["s"] == 4).await?;
    send(site, &mut visitor, &c, "Did").await?;
    agent.push("msg", |push| push["s"] == 5).await?;
    agent.tell("seen", json!({ "c": c, "s": 5 }));
    visitor.push("seen", |push| push["d"]["who"] == "agent" && push["d"]["s"] == 4).await?;
    // Backwards is ignored, and what is known is told to whoever comes later.
    agent.tell("seen", json!({ "c": c, "s": 1 }));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut late = site.agent().await?;
    let sync = listens(&mut late, &c, 0).await?;
    ensure(sync["d"]["seen"]["agent"] == 5 && sync["d"]["seen"]["visitor"] == 4, || sync.to_string())?;
    Ok(String::new())
}

pub(crate) async fn typing(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    visitor.tell("typing", json!({ "c": c, "on": true }));
    let push = agent.push("typing", |push| push["c"] == c).await?;
    ensure(
        push["d"]["on"] == true
            && push["d"]["who"]["kind"] == "visitor"
            && push["d"]["who"]["id"] == visitor.ready["me"],
        || push.to_string(),
    )?;
    visitor.tell("typing", json!({ "c": c, "on": false }));
    agent.push("typing", |push| push["c"] == c && push["d"]["on"] == false).await?;
    agent.tell("typing", json!({ "c": c, "on": true }));
    let push = visitor.push("typing", |push| push["c"] == c).await?;
    ensure(push["d"]["who"]["kind"] == "agent", || push.to_string())?;
    Ok(String::new())
}

pub(crate) async fn presence(site: &Site) -> Result<String, String> {
    let Chat { mut visitor, mut agent, c } = open(site).await?;
    let (token, slot) = (visitor.text("token"), visitor.slot());
    visitor.ws.close(1000, "");
    ensure(visitor.closed(Duration::from_secs(3)).await?.0 == 1000, || "a close is not echoed".to_owned())?;
    agent.push("presence", |push| push["c"] == c && push["d"]["visitor"] == "offline").await?;
    let _back =
        Peer::open(site, &format!("{}&s={slot}", site.visitor_path()), Some(&token), &site.hex(), None)
            .await?;
    agent.push("presence", |push| push["c"] == c && push["d"]["visitor"] == "online").await?;
    Ok(String::new())
}

pub(crate) async fn first_words_with_auth(site: &Site) -> Result<String, String> {
    let mut visitor = Peer::knock(site, &site.visitor_path()).await?;
    let auth = json!({ "id": 1, "op": "auth", "d": { "device": site.hex() } });
    let start = json!({ "id": 2, "op": "start", "d": { "cid": site.hex(), "first": { "cid": site.hex(), "type": "text", "body": "Hi" } } });
    visitor.ws.text(&format!("{auth}\n{start}"));
    let ready = visitor.reply(1).await.map_err(|error| error.to_string())?;
    let told = visitor.reply(2).await.map_err(|error| error.to_string())?;
    ensure(ready["resumed"] == false && told["s"] == 1 && told["c"].is_string(), || {
        format!("{ready} {told}")
    })?;
    // Before `auth` nothing else is answered.
    let mut early = Peer::knock(site, &site.visitor_path()).await?;
    let code = early.refused("start", json!({ "cid": site.hex() })).await?;
    ensure(code == "auth", || code)?;
    let mut twice = site.visitor().await?;
    let code = twice.refused("auth", json!({ "device": site.hex() })).await?;
    ensure(code == "auth", || format!("a second auth: {code}"))?;
    Ok(String::new())
}

pub(crate) async fn notice(site: &Site) -> Result<String, String> {
    let (mut visitor, mut agent) = (site.visitor().await?, site.agent().await?);
    let answer = site.administer("/admin/notice", &json!({ "text": "Back at six" }).to_string()).await?;
    ensure(answer.status == 202, || format!("{} {}", answer.status, answer.body))?;
    for peer in [&mut visitor, &mut agent] {
        let push = peer.push("notice", |push| push["d"]["text"] == "Back at six").await?;
        ensure(push["d"]["ts"].is_u64(), || push.to_string())?;
    }
    let answer = site
        .administer("/admin/notice", &json!({ "text": "Visitors only", "scope": site.inbox }).to_string())
        .await?;
    ensure(answer.status == 202, || format!("{} {}", answer.status, answer.body))?;
    visitor.push("notice", |push| push["d"]["text"] == "Visitors only").await?;
    agent.never("notice").await?;
    let answer = crash::http::ask(
        site.admin,
        "POST",
        "/admin/notice",
        "Content-Type: application/json\r\n",
        "{\"text\":\"no key\"}",
    )
    .await
    .map_err(|error| error.to_string())?;
    ensure(answer.status == 401, || format!("without the key: {}", answer.status))?;
    Ok(String::new())
}
