//! Sessions: deadlines, slots, resuming, slow readers.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use crash::chance::Chance;
use crash::server::metric;
use crash::ws::{Frame, Upgrade, Ws};
use serde_json::json;

use super::chat::{accepted, ensure, listens, send, started};
use crate::peer::Peer;
use crate::site::Site;

/// An upgrade from the one origin that the tight site welcomes.
pub(crate) fn from_shop(path: String) -> Upgrade {
    Upgrade { more: "Origin: https://shop.example\r\n".to_owned(), ..Upgrade::to(path) }
}

async fn shopper(site: &Site) -> Result<Peer, String> {
    Peer::open_as(site, &from_shop(site.visitor_path()), None, &site.hex(), None).await
}

pub(crate) async fn auth_in_time(site: &Site) -> Result<String, String> {
    let mut peer = Peer::knock_as(site, &from_shop(site.visitor_path())).await?;
    let began = Instant::now();
    let (code, _) = peer.closed(Duration::from_secs(5)).await?;
    ensure(code == 4200 && began.elapsed() > Duration::from_millis(1_000), || {
        format!("{code} after {} ms", began.elapsed().as_millis())
    })?;
    // A connection that never finishes its head is not kept either.
    let stream = tokio::net::TcpStream::connect(site.listen).await.map_err(|error| error.to_string())?;
    let mut ws = Ws::over(stream, &mut site.chance());
    ws.raw(b"GET /ws/v1/visitor HTTP/1.1\r\nHost: x\r\n");
    let began = Instant::now();
    let end = ws.within(Duration::from_secs(6)).await;
    ensure(end.is_err() && began.elapsed() < Duration::from_secs(5), || {
        format!("a head without an end: {end:?} after {} ms", began.elapsed().as_millis())
    })?;
    Ok(String::new())
}

pub(crate) async fn wrong_slot(site: &Site) -> Result<String, String> {
    let visitor = site.visitor().await?;
    let (token, slot) = (visitor.text("token"), visitor.slot());
    let mut sent = 0;
    for other in 0..site.shards {
        let hint = (slot + other) % 4096;
        let mut peer = Peer::knock(site, &format!("{}&s={hint}", site.visitor_path())).await?;
        let id = peer.say("auth", json!({ "device": site.hex(), "token": token }));
        if other == 0 {
            let ready = peer.reply(id).await.map_err(|error| error.to_string())?;
            ensure(ready["slot"] == slot && ready["me"] == visitor.ready["me"], || ready.to_string())?;
        } else {
            let (code, reason) = peer.closed(Duration::from_secs(3)).await?;
            ensure(code == 4000 && reason == format!("slot={slot}"), || format!("{code} {reason}"))?;
            sent += 1;
        }
    }
    // Nonsense for a slot is no hint.
    for hint in ["4096", "-1", "x", "99999999999999999999"] {
        let peer =
            Peer::open(site, &format!("{}&s={hint}", site.visitor_path()), None, &site.hex(), None).await;
        peer.map_err(|error| format!("s={hint}: {error}"))?;
    }
    Ok(format!("{sent} sent to the right slot"))
}

pub(crate) async fn newer_socket(site: &Site) -> Result<String, String> {
    let device = site.hex();
    let mut one = Peer::open(site, &site.visitor_path(), None, &device, None).await?;
    let path = format!("{}&s={}", site.visitor_path(), one.slot());
    let two = Peer::open(site, &path, Some(&one.text("token")), &device, Some(one.last())).await?;
    ensure(two.ready["resumed"] == true && two.ready["sid"] == one.ready["sid"], || two.ready.to_string())?;
    let (code, _) = one.closed(Duration::from_secs(3)).await?;
    ensure(code == 4301, || format!("the older socket: {code}"))?;
    let mut one = Peer::open(site, "/ws/v1/agent", Some(&site.ticket), &device, None).await?;
    let path = format!("/ws/v1/agent?s={}", one.slot());
    let two = Peer::open(site, &path, Some(&site.ticket), &device, Some(one.last())).await?;
    ensure(two.ready["resumed"] == true, || two.ready.to_string())?;
    let (code, _) = one.closed(Duration::from_secs(3)).await?;
    ensure(code == 4301, || format!("the agent's older socket: {code}"))?;
    Ok(String::new())
}

pub(crate) async fn resume(site: &Site) -> Result<String, String> {
    let (vdevice, adevice) = (site.hex(), site.hex());
    let mut visitor = Peer::open(site, &site.visitor_path(), None, &vdevice, None).await?;
    let away = format!("/ws/v1/agent?s={}", (visitor.slot() + 1) % 4096);
    let mut agent = Peer::open(site, &away, Some(&site.ticket), &adevice, None).await?;
    let c = started(site, &mut visitor, "Drops").await?;
    listens(&mut visitor, &c, 0).await?;
    listens(&mut agent, &c, 0).await?;
    super::chat::accepted(site, &mut agent, &c).await?;
    visitor.push("agent", |_| true).await?;
    agent.push("agent", |_| true).await?;
    // The visitor's socket is gone, and nobody says goodbye; then the agent's.
    let (token, slot, last) = (visitor.text("token"), visitor.slot(), visitor.last());
    drop(visitor);
    for n in 0..5 {
        send(site, &mut agent, &c, &format!("{n}")).await?;
    }
    let path = format!("{}&s={slot}", site.visitor_path());
    let mut visitor = Peer::open(site, &path, Some(&token), &vdevice, Some(last.clone())).await?;
    ensure(visitor.ready["resumed"] == true && visitor.ready["p"] == last["p"], || {
        visitor.ready.to_string()
    })?;
    for s in 3..=7 {
        let event = visitor.event(&c).await?;
        ensure(event["s"] == s, || event.to_string())?;
    }
    // He heard them and never said so: they are told again to whoever counts from before.
    let old = last;
    let mut again = Peer::open(site, &path, Some(&token), &vdevice, Some(old)).await?;
    ensure(again.ready["resumed"] == true && again.ready["replay"] == 5, || again.ready.to_string())?;
    for s in 3..=7 {
        let event = again.event(&c).await?;
        ensure(event["s"] == s, || event.to_string())?;
    }
    agent.settle().await?;
    let (aslot, alast) = (agent.slot(), agent.last());
    drop(agent);
    for n in 0..5 {
        send(site, &mut again, &c, &format!("v{n}")).await?;
    }
    let path = format!("/ws/v1/agent?s={aslot}");
    let mut agent = Peer::open(site, &path, Some(&site.ticket), &adevice, Some(alast.clone())).await?;
    ensure(agent.ready["resumed"] == true && agent.ready["p"] == alast["p"], || agent.ready.to_string())?;
    while agent.event(&c).await?["s"] != 12 {}
    // A count that cannot be, another epoch and another device are not resumed.
    let mut wrong = vec![];
    let mut far = agent.last();
    far["p"] = 1_000_000.into();
    wrong.push((adevice.clone(), far));
    let mut other = agent.last();
    other["epoch"] = "00000000000000000000000000".into();
    wrong.push((adevice.clone(), other));
    wrong.push((site.hex(), agent.last()));
    for (device, last) in wrong {
        let fresh = Peer::open(site, &path, Some(&site.ticket), &device, Some(last.clone())).await?;
        ensure(fresh.ready["resumed"] == false && fresh.ready["sid"] != agent.ready["sid"], || {
            format!("{last}: {}", fresh.ready)
        })?;
    }
    Ok(String::new())
}

pub(crate) async fn resume_too_late(site: &Site) -> Result<String, String> {
    let device = site.hex();
    let mut visitor = Peer::open_as(site, &from_shop(site.visitor_path()), None, &device, None).await?;
    let c = started(site, &mut visitor, "I will be away").await?;
    listens(&mut visitor, &c, 0).await?;
    visitor.event(&c).await?;
    let (token, slot, last) = (visitor.text("token"), visitor.slot(), visitor.last());
    ensure(visitor.ready["resume_ttl_ms"] == 2_000, || visitor.ready.to_string())?;
    // A shard with a socket looks around every tenth of a second; one without has no hurry to end sessions.
    let upgrade = from_shop(format!("{}&s={slot}", site.visitor_path()));
    let mut other = Peer::open_as(site, &upgrade, Some(&token), &site.hex(), None).await?;
    drop(visitor);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.settle().await?;
    }
    let upgrade = from_shop(format!("{}&s={slot}", site.visitor_path()));
    let mut visitor = Peer::open_as(site, &upgrade, Some(&token), &device, Some(last)).await?;
    ensure(visitor.ready["resumed"] == false && visitor.ready["heads"][0]["c"] == c, || {
        visitor.ready.to_string()
    })?;
    let sync = listens(&mut visitor, &c, 1).await?;
    ensure(sync["d"]["from"] == 2 && sync["d"]["head"] == 1 && sync["d"]["limited"] == false, || {
        sync.to_string()
    })?;
    Ok(String::new())
}

pub(crate) async fn heartbeats(site: &Site) -> Result<String, String> {
    let mut peer = shopper(site).await?;
    ensure(peer.hello["hb_ms"] == 1_000, || peer.hello.to_string())?;
    let began = Instant::now();
    for _ in 0..3 {
        peer.push("heartbeat", |_| true).await?;
    }
    let took = began.elapsed();
    ensure((Duration::from_millis(1_500)..Duration::from_secs(6)).contains(&took), || {
        format!("three heartbeats in {} ms", took.as_millis())
    })?;
    // Ours is never answered: while we speak and it has nothing to say, its beats go on at their own pace.
    for _ in 0..10 {
        peer.ws.text("{}");
    }
    peer.settle().await?;
    let beats = peer.told.iter().filter(|push| push["op"] == "heartbeat").count();
    ensure(beats <= 1, || format!("{beats} heartbeats answer ten"))?;
    Ok(String::new())
}

/// A peer that is there and says nothing is gone after `hb_ms` + 10 s; one whose machine vanished is the same to the server.
pub(crate) async fn half_open(
    listen: SocketAddr,
    inbox: String,
    mut chance: Chance,
) -> Result<String, String> {
    let upgrade = from_shop(format!("/ws/v1/visitor?inbox={inbox}"));
    let mut ws = Ws::connect(listen, &upgrade, &mut chance).await.map_err(|error| error.to_string())?;
    ws.text(&json!({ "id": 1, "op": "auth", "d": { "device": chance.hex() } }).to_string());
    let began = Instant::now();
    loop {
        match ws.within(Duration::from_secs(25)).await.map_err(|error| error.to_string())? {
            Frame::Close(code, _) => {
                let took = began.elapsed();
                ensure(code == 4101, || format!("a silent peer: {code}"))?;
                ensure((Duration::from_secs(10)..Duration::from_secs(15)).contains(&took), || {
                    format!("closed after {:.1} s", took.as_secs_f64())
                })?;
                return Ok(format!("a silent peer was closed after {:.1} s", took.as_secs_f64()));
            }
            Frame::Text(_) => {}
            other => return Err(format!("{other:?}")),
        }
    }
}

pub(crate) async fn slow_reader(site: &Site) -> Result<String, String> {
    let device = site.hex();
    let mut visitor = Peer::open_as(site, &from_shop(site.visitor_path()), None, &device, None).await?;
    let c = started(site, &mut visitor, "Slowly, please").await?;
    listens(&mut visitor, &c, 0).await?;
    visitor.event(&c).await?;
    let (token, slot, last) = (visitor.text("token"), visitor.slot(), visitor.last());
    // He reads no more, and his pings fill the pipe with pongs; what is told stays in the kernel and in the outbox.
    shrink_buffer(visitor.ws.stream());
    let began = Instant::now();
    for _ in 0..400 {
        for _ in 0..50 {
            visitor.ws.frame(true, 9, &[3; 120]);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut talker = site.agent().await?;
    for n in 0..15 {
        talker
            .ask("note", json!({ "c": c, "cid": site.hex(), "body": format!("{n}") }))
            .await
            .map_err(|error| error.to_string())?;
    }
    tokio::time::sleep(Duration::from_secs(4).saturating_sub(began.elapsed())).await;
    // By now he is closed with 4110; what was in the pipe comes first.
    let mut code = None;
    let until = Instant::now() + Duration::from_secs(10);
    while code.is_none() && Instant::now() < until {
        match visitor.ws.within(Duration::from_secs(8)).await {
            Ok(Frame::Close(told, _)) => code = Some(told),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    ensure(code.is_none_or(|code| code == 4110), || format!("a slow reader: {code:?}"))?;
    let ended = match code {
        Some(code) => format!("closed with {code}"),
        // Who takes nothing cannot be told why: the connection ends.
        None => "cut".to_owned(),
    };
    // He comes back and has missed nothing.
    let upgrade = from_shop(format!("{}&s={slot}", site.visitor_path()));
    let mut visitor = Peer::open_as(site, &upgrade, Some(&token), &device, Some(last)).await?;
    send(site, &mut visitor, &c, "Back").await?;
    if visitor.ready["resumed"] == false {
        listens(&mut visitor, &c, 1).await?;
    }
    visitor.push("msg", |push| push["s"] == 2 && push["d"]["body"] == "Back").await?;
    Ok(ended)
}

pub(crate) async fn lag(site: &Site) -> Result<String, String> {
    let device = site.hex();
    let mut visitor = Peer::open_as(site, &from_shop(site.visitor_path()), None, &device, None).await?;
    let c = started(site, &mut visitor, "I say nothing").await?;
    listens(&mut visitor, &c, 0).await?;
    let mut agent = site.agent_away(visitor.slot()).await?;
    accepted(site, &mut agent, &c).await?;
    visitor.event(&c).await?;
    visitor.event(&c).await?;
    visitor.settle().await?;
    let base = visitor.p;
    visitor.tell("ack", json!({ "p": base }));
    // A visitor's sessions share a limit, and each of an agent's has one: many speak.
    for _ in 0..5 {
        let mut tab = site.agent_away(visitor.slot()).await?;
        for n in 0..20 {
            send(site, &mut tab, &c, &format!("{n}")).await?;
        }
    }
    // He is told 64, then that the server waits, then nothing.
    let lag = visitor.push("lag", |_| true).await?;
    visitor.settle().await?;
    ensure(lag["d"]["p"] == base + 64 && visitor.p == base + 64, || {
        format!("{lag}, counted {} after {base}", visitor.p)
    })?;
    let p = base + 24;
    visitor.tell("ack", json!({ "p": p }));
    visitor.settle().await?;
    ensure(visitor.p == base + 88, || format!("after an acknowledgement of {p}: {}", visitor.p))?;
    let p = visitor.p;
    visitor.tell("ack", json!({ "p": p }));
    // Wrong ones change nothing.
    for wrong in [p - 1, p + 1_000] {
        visitor.tell("ack", json!({ "p": wrong }));
    }
    visitor.settle().await?;
    ensure(visitor.p == base + 100, || format!("in the end {} after {base}", visitor.p))?;
    for s in 3..=102 {
        let event = visitor.event(&c).await?;
        ensure(event["s"] == s, || format!("{s}: {event}"))?;
    }
    // Who never acknowledges is closed and has it all after coming back.
    let mut mute = Peer::open_as(
        site,
        &from_shop(format!("{}&s={}", site.visitor_path(), visitor.slot())),
        Some(&visitor.text("token")),
        &site.hex(),
        None,
    )
    .await?;
    mute.ask("sync", json!({ "cursors": [{ "c": c, "s": 0 }], "limit": 500 }))
        .await
        .map_err(|error| error.to_string())?;
    let (code, _) = mute.closed(Duration::from_secs(8)).await?;
    ensure(code == 4110, || format!("who never acknowledges: {code}"))?;
    Ok(String::new())
}

/// Little room for what is not read, so that the pipe is soon full.
fn shrink_buffer(stream: &tokio::net::TcpStream) {
    let size: libc::c_int = 4096;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a live integer of the length that is given.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const size).cast(),
            length,
        )
    };
}

/// Whoever asks and never reads the answers costs the server no more than an outbox: it stops reading him.
pub(crate) async fn never_reads(site: &Site) -> Result<String, String> {
    const MOST: f64 = 24.0 * 1024.0 * 1024.0;
    let resident =
        async || metric(site.admin, "process_resident_memory_bytes").await.ok_or("no metric of the memory");
    let mut told = Vec::new();
    for what in ["pings", "bad requests"] {
        let mut peer = site.visitor().await?;
        let before = resident().await?;
        let (mut sent, mut stuck) = (0usize, Instant::now());
        // A hundred megabytes, unless it stops taking them.
        while sent < 100 << 20 && stuck.elapsed() < Duration::from_millis(500) {
            if peer.ws.unsent_size() > 256 << 10 {
                let _ = tokio::time::timeout(Duration::from_millis(50), peer.ws.flush()).await;
                if peer.ws.unsent_size() > 256 << 10 {
                    continue;
                }
            }
            stuck = Instant::now();
            for id in 0..500 {
                match what {
                    "pings" => peer.ws.frame(true, 9, &[3; 125]),
                    _ => peer.ws.text(&format!("{{\"id\":{id},\"op\":\"dance\",\"d\":{{}}}}")),
                }
                sent += 127;
            }
            tokio::task::yield_now().await;
        }
        let grown = resident().await? - before;
        ensure(grown < MOST, || {
            format!(
                "{} MiB of {what} unread: the server has grown by {:.0} MiB",
                sent >> 20,
                grown / 1_048_576.0
            )
        })?;
        told.push(format!("{} MiB of {what}: +{:.1} MiB", sent >> 20, grown / 1_048_576.0));
    }
    Ok(told.join(", "))
}
