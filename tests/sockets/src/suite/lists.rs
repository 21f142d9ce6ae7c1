//! The queue, its lists, offers and capacity. There is one agent, so these tests leave nothing waiting and him away.

use std::time::Duration;

use serde_json::json;

use super::chat::{accepted, ensure, started};
use crate::peer::Peer;
use crate::site::Site;

async fn avail(agent: &mut Peer, state: &str, cap: Option<u64>) -> Result<(), String> {
    let mut d = json!({ "state": state });
    if let Some(cap) = cap {
        d["cap"] = cap.into();
    }
    let told = agent.ask("avail", d).await.map_err(|error| format!("avail: {error}"))?;
    ensure(told["state"] == state && cap.is_none_or(|cap| told["cap"] == cap), || format!("avail: {told}"))
}

async fn close(site: &Site, agent: &mut Peer, c: &str) -> Result<(), String> {
    agent
        .ask("close", json!({ "c": c, "cid": site.hex() }))
        .await
        .map(|_| ())
        .map_err(|error| format!("close: {error}"))
}

pub(crate) async fn queue_and_mine(site: &Site) -> Result<String, String> {
    let mut agent = site.agent().await?;
    for scope in ["queue", "mine"] {
        agent.ask("sub", json!({ "scope": scope })).await.map_err(|error| format!("sub: {error}"))?;
        let list = agent.push("list", |push| push["d"]["scope"] == scope).await?;
        ensure(list["d"]["convs"].is_array() && list["d"]["total"].is_u64(), || list.to_string())?;
    }
    let mut visitor = site.visitor().await?;
    let c = started(site, &mut visitor, "In the list?").await?;
    let row = agent.push("conv", |push| push["c"] == c && push["d"]["status"] == "waiting").await?;
    ensure(
        row["d"]["name"] == "Ann" && row["d"]["preview"] == "In the list?" && row["d"]["since"].is_u64(),
        || row.to_string(),
    )?;
    // Whoever subscribes later sees it in the list.
    let mut late = site.agent().await?;
    late.ask("sub", json!({ "scope": "queue" })).await.map_err(|error| error.to_string())?;
    let list = late.push("list", |push| push["d"]["scope"] == "queue").await?;
    let rows = list["d"]["convs"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["c"] == c).ok_or_else(|| format!("not in the list: {list}"))?;
    ensure(row["status"] == "waiting" && row["pos"].as_u64().is_some_and(|pos| pos >= 1), || {
        row.to_string()
    })?;
    accepted(site, &mut agent, &c).await?;
    for peer in [&mut agent, &mut late] {
        let row = peer.push("conv", |push| push["c"] == c && push["d"]["status"] == "open").await?;
        let owner = peer.text("me");
        ensure(row["d"]["owner"] == owner, || row.to_string())?;
    }
    late.ask("sub", json!({ "scope": "mine" })).await.map_err(|error| error.to_string())?;
    let list = late.push("list", |push| push["d"]["scope"] == "mine").await?;
    ensure(
        list["d"]["convs"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["c"] == c && row["status"] == "open")),
        || list.to_string(),
    )?;
    late.ask("unsub", json!({ "scope": "queue" })).await.map_err(|error| error.to_string())?;
    late.ask("unsub", json!({ "scope": "mine" })).await.map_err(|error| error.to_string())?;
    late.settle().await?;
    late.told.clear();
    close(site, &mut agent, &c).await?;
    agent.push("conv", |push| push["c"] == c && push["d"]["status"] == "closed").await?;
    late.never("conv").await?;
    Ok(String::new())
}

pub(crate) async fn positions(site: &Site) -> Result<String, String> {
    let mut agent = site.agent().await?;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut visitor = site.visitor().await?;
        let c = started(site, &mut visitor, "I wait").await?;
        let told = visitor.push("queue", |push| push["c"] == c).await?;
        let pos = told["d"]["pos"].as_u64().ok_or_else(|| told.to_string())?;
        waiting.push((visitor, c, pos));
    }
    let places: Vec<u64> = waiting.iter().map(|(_, _, pos)| *pos).collect();
    ensure(places[1] == places[0] + 1 && places[2] == places[1] + 1, || {
        format!("first in, first out: {places:?}")
    })?;
    let (_, first, _) = waiting.remove(0);
    accepted(site, &mut agent, &first).await?;
    for (visitor, c, pos) in &mut waiting {
        let wanted = *pos - 1;
        visitor.push("queue", |push| push["c"] == *c && push["d"]["pos"] == wanted).await?;
    }
    for (_, c, _) in &waiting {
        accepted(site, &mut agent, c).await?;
    }
    for c in waiting.iter().map(|(_, c, _)| c).chain([&first]) {
        close(site, &mut agent, c).await?;
    }
    Ok(String::new())
}

pub(crate) async fn offers(site: &Site) -> Result<String, String> {
    let mut agent = site.agent().await?;
    avail(&mut agent, "online", Some(100)).await?;
    let path = site.visitor_path();
    let visitor = async || {
        // This inbox welcomes one origin.
        let mut upgrade = crash::ws::Upgrade::to(path.clone());
        upgrade.more = "Origin: https://shop.example\r\n".to_owned();
        Peer::open_as(site, &upgrade, None, &site.hex(), None).await
    };
    let mut one = visitor().await?;
    let c = started(site, &mut one, "Offer me").await?;
    let offer = agent.push("offer", |push| push["c"] == c).await?;
    ensure(
        offer["d"]["ttl_ms"] == 1_200 && offer["d"]["offer"].is_u64() && offer["d"]["preview"] == "Offer me",
        || offer.to_string(),
    )?;
    // It runs out, the round ends, and it comes again with another number.
    let gone = agent.push("offer_gone", |push| push["c"] == c).await?;
    ensure(gone["d"]["offer"] == offer["d"]["offer"], || gone.to_string())?;
    let code =
        agent.refused("accept", json!({ "c": c, "cid": site.hex(), "offer": offer["d"]["offer"] })).await?;
    ensure(code == "stale", || format!("an offer that is gone: {code}"))?;
    let again = agent.push("offer", |push| push["c"] == c).await?;
    ensure(again["d"]["offer"] != offer["d"]["offer"], || again.to_string())?;
    agent
        .ask("decline", json!({ "c": c, "offer": again["d"]["offer"] }))
        .await
        .map_err(|error| format!("decline: {error}"))?;
    agent.push("offer_gone", |push| push["c"] == c && push["d"]["offer"] == again["d"]["offer"]).await?;
    let third = agent.push("offer", |push| push["c"] == c).await?;
    let told = agent
        .ask("accept", json!({ "c": c, "cid": site.hex(), "offer": third["d"]["offer"] }))
        .await
        .map_err(|error| format!("accept: {error}"))?;
    ensure(told["s"] == 2, || told.to_string())?;
    // Who is away gets none, and who is away with one in hand loses it.
    let mut two = visitor().await?;
    let c2 = started(site, &mut two, "Me too").await?;
    agent.push("offer", |push| push["c"] == c2).await?;
    avail(&mut agent, "away", None).await?;
    agent.push("offer_gone", |push| push["c"] == c2).await?;
    let mut three = visitor().await?;
    let c3 = started(site, &mut three, "And me").await?;
    agent.never("offer").await?;
    for c in [&c2, &c3] {
        accepted(site, &mut agent, c).await?;
    }
    for c in [&c, &c2, &c3] {
        close(site, &mut agent, c).await?;
    }
    Ok(String::new())
}

pub(crate) async fn capacity(site: &Site) -> Result<String, String> {
    let (mut agent, mut other) = (site.agent().await?, site.agent().await?);
    let mut open = Vec::new();
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = site.visitor().await?;
        open.push(started(site, &mut visitor, "Room for me?").await?);
        visitors.push(visitor);
    }
    // Conversations of other tests may be open; one place is left above them.
    avail(&mut agent, "busy", Some(500)).await?;
    other.ask("sub", json!({ "scope": "mine" })).await.map_err(|error| error.to_string())?;
    let mine = other.push("list", |push| push["d"]["scope"] == "mine").await?;
    let load = mine["d"]["total"].as_u64().ok_or_else(|| mine.to_string())?;
    avail(&mut agent, "busy", Some(load + 1)).await?;
    let told = other.push("avail", |push| push["d"]["cap"] == load + 1).await?;
    ensure(told["d"]["state"] == "busy" && told["d"]["load"] == load, || told.to_string())?;
    accepted(site, &mut agent, &open[0]).await?;
    // The dispatcher needs a moment to hear of the others too.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let code = agent.refused("accept", json!({ "c": open[1], "cid": site.hex() })).await?;
    ensure(code == "quota", || format!("above his capacity: {code}"))?;
    let code = other.refused("accept", json!({ "c": open[1], "cid": site.hex() })).await?;
    ensure(code == "quota", || format!("above his capacity, by another session: {code}"))?;
    avail(&mut agent, "busy", Some(500)).await?;
    for c in &open[1..] {
        accepted(site, &mut agent, c).await?;
    }
    for c in &open {
        close(site, &mut agent, c).await?;
    }
    Ok(String::new())
}

/// Every row of a list, by `sub` and then `list` as long as there is a `next`; and how many pages that took.
async fn read(agent: &mut Peer, scope: &str) -> Result<(Vec<String>, usize), String> {
    agent.told.retain(|push| push["op"] != "list");
    agent.ask("sub", json!({ "scope": scope })).await.map_err(|error| format!("sub: {error}"))?;
    let mut page = agent.push("list", |push| push["d"]["scope"] == scope).await?["d"].clone();
    let (mut rows, mut pages) = (Vec::new(), 1);
    loop {
        let told = page["convs"].as_array().ok_or_else(|| page.to_string())?;
        ensure(told.len() <= 200 && page["scope"] == scope, || format!("{} rows of {scope}", told.len()))?;
        for row in told {
            let pos = (scope == "queue").then_some(rows.len() as u64 + 1);
            ensure(row["pos"].as_u64() == pos, || format!("row {} of {scope}: {row}", rows.len()))?;
            rows.push(row["c"].as_str().unwrap_or_default().to_owned());
        }
        if !page["next"].is_string() {
            ensure(page["total"] == rows.len(), || format!("{} rows of {}", rows.len(), page["total"]))?;
            return Ok((rows, pages));
        }
        ensure(told.len() == 200, || format!("{} rows, and more are left", told.len()))?;
        let next = page["next"].clone();
        page = agent
            .ask("list", json!({ "scope": scope, "after": next }))
            .await
            .map_err(|error| format!("list: {error}"))?;
        pages += 1;
    }
}

/// Lists of more than a page hold every row once, in order, and what is said in a conversation of the last page is heard.
pub(crate) async fn pages(site: &Site) -> Result<String, String> {
    const COUNT: usize = 420;
    let mut agent = site.agent().await?;
    let before = read(&mut agent, "mine").await?.0;
    let waited = read(&mut agent, "queue").await?.0;
    let mut visitors = Vec::new();
    for _ in 0..COUNT {
        let mut visitor = site.visitor().await?;
        let c = started(site, &mut visitor, "One of many").await?;
        visitors.push((c, visitor));
    }
    let (queue, pages) = read(&mut agent, "queue").await?;
    ensure(queue.iter().eq(waited.iter().chain(visitors.iter().map(|(c, _)| c))) && pages >= 3, || {
        format!("{} rows on {pages} pages, in another order than they came", queue.len())
    })?;
    for (c, _) in &visitors {
        accepted(site, &mut agent, c).await?;
    }
    let (mine, pages) = read(&mut agent, "mine").await?;
    let mut all: Vec<&String> = before.iter().chain(visitors.iter().map(|(c, _)| c)).collect();
    all.sort();
    ensure(mine.iter().eq(all) && pages >= 3, || format!("{} of his own on {pages} pages", mine.len()))?;
    let (last, at) = mine
        .iter()
        .rev()
        .find_map(|c| Some((c.clone(), visitors.iter().position(|(other, _)| other == c)?)))
        .ok_or("none of his own is new")?;
    agent
        .ask("sync", json!({ "cursors": [{ "c": last, "s": 2 }] }))
        .await
        .map_err(|error| error.to_string())?;
    let word = json!({ "c": last, "cid": site.hex(), "type": "text", "body": "On the last page" });
    visitors[at].1.ask("send", word).await.map_err(|error| error.to_string())?;
    let event = agent.event(&last).await?;
    ensure(event["d"]["body"] == "On the last page", || event.to_string())?;
    for (c, _) in &visitors {
        close(site, &mut agent, c).await?;
    }
    ensure(read(&mut agent, "mine").await?.0 == before, || "what is closed is his no more".to_owned())?;
    Ok(format!("{COUNT} rows"))
}
