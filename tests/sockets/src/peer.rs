//! A client of one test: it asks, and looks through what it was told.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crash::ws::{Frame, Upgrade, Ws};
use serde_json::{Value, json};

use crate::site::Site;

/// For one answer or one push.
pub(crate) const TIME: Duration = Duration::from_secs(6);

/// An open socket of a visitor or an agent.
pub(crate) struct Peer {
    pub(crate) ws: Ws,
    /// What `hello` said.
    pub(crate) hello: Value,
    /// What `ready` said.
    pub(crate) ready: Value,
    /// Pushes that no test has looked at yet, in order.
    pub(crate) told: VecDeque<Value>,
    /// Replies that no test has looked at yet.
    pub(crate) replies: VecDeque<Value>,
    /// Numbered events told so far, by our own count.
    pub(crate) p: u64,
    /// The last number of each conversation that `event` gave.
    last: HashMap<String, u64>,
    next_id: u64,
}

impl Peer {
    /// Upgrades, hears `hello`, says nothing.
    pub(crate) async fn knock(site: &Site, path: &str) -> Result<Peer, String> {
        Peer::knock_as(site, &Upgrade::to(path)).await
    }

    /// The same with an upgrade request of the test's own.
    pub(crate) async fn knock_as(site: &Site, upgrade: &Upgrade) -> Result<Peer, String> {
        let ws =
            Ws::connect(site.listen, upgrade, &mut site.chance()).await.map_err(|error| error.to_string())?;
        Peer::greeted(ws).await
    }

    /// Hears `hello` on a socket that is open already.
    pub(crate) async fn greeted(ws: Ws) -> Result<Peer, String> {
        let mut peer = Peer {
            ws,
            hello: Value::Null,
            ready: Value::Null,
            told: VecDeque::new(),
            replies: VecDeque::new(),
            p: 0,
            last: HashMap::new(),
            next_id: 1,
        };
        peer.hello = peer.push("hello", |_| true).await?["d"].clone();
        Ok(peer)
    }

    /// Authenticates; follows `slot=N`.
    pub(crate) async fn open(
        site: &Site,
        path: &str,
        token: Option<&str>,
        device: &str,
        last: Option<Value>,
    ) -> Result<Peer, String> {
        Peer::open_as(site, &Upgrade::to(path), token, device, last).await
    }

    /// The same with an upgrade request of the test's own.
    pub(crate) async fn open_as(
        site: &Site,
        upgrade: &Upgrade,
        token: Option<&str>,
        device: &str,
        last: Option<Value>,
    ) -> Result<Peer, String> {
        let mut upgrade = upgrade.clone();
        for _ in 0..3 {
            let mut peer = Peer::knock_as(site, &upgrade).await?;
            let mut auth = json!({ "device": device });
            if let Some(token) = token {
                auth["token"] = token.into();
            }
            if let Some(last) = &last {
                auth["last"] = last.clone();
            }
            match peer.ask("auth", auth).await {
                Ok(ready) => {
                    peer.p = ready["p"].as_u64().ok_or("ready without p")?;
                    peer.ready = ready;
                    return Ok(peer);
                }
                Err(error) => {
                    match error.as_str().and_then(|error| error.strip_prefix("closed 4000 slot=")) {
                        Some(slot) => {
                            let (base, query) = upgrade.path.split_once('?').unwrap_or((&upgrade.path, ""));
                            let kept: Vec<&str> = query
                                .split('&')
                                .filter(|part| !part.is_empty() && !part.starts_with("s="))
                                .collect();
                            upgrade.path = format!("{base}?{}&s={slot}", kept.join("&"));
                        }
                        None => return Err(error.to_string()),
                    }
                }
            }
        }
        Err("was sent from slot to slot".to_owned())
    }

    pub(crate) fn slot(&self) -> u16 {
        self.ready["slot"].as_u64().unwrap_or(0) as u16
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap_or_default().to_owned()
    }

    /// `last` of a later `auth`.
    pub(crate) fn last(&self) -> Value {
        json!({ "sid": self.ready["sid"], "epoch": self.ready["epoch"], "p": self.p })
    }

    /// Says something with an id; returns the id.
    pub(crate) fn say(&mut self, op: &str, d: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.ws.text(&json!({ "id": id, "op": op, "d": d }).to_string());
        id
    }

    /// Says something that has no reply.
    pub(crate) fn tell(&mut self, op: &str, d: Value) {
        self.ws.text(&json!({ "op": op, "d": d }).to_string());
    }

    /// Asks and waits: the reply's `d`, or its `err`, or a string that says how the socket ended.
    pub(crate) async fn ask(&mut self, op: &str, d: Value) -> Result<Value, Value> {
        let id = self.say(op, d);
        self.reply(id).await
    }

    /// The reply to `id`.
    pub(crate) async fn reply(&mut self, id: u64) -> Result<Value, Value> {
        let until = Instant::now() + TIME;
        loop {
            if let Some(at) = self.replies.iter().position(|reply| reply["re"].as_u64() == Some(id)) {
                let reply = self.replies.remove(at).expect("found above");
                return if reply["err"].is_object() {
                    Err(reply["err"].clone())
                } else {
                    Ok(reply["d"].clone())
                };
            }
            self.hear(until).await.map_err(Value::from)?;
        }
    }

    /// Asks what must be refused; the code.
    pub(crate) async fn refused(&mut self, op: &str, d: Value) -> Result<String, String> {
        match self.ask(op, d).await {
            Err(err) if err["code"].is_string() => Ok(err["code"].as_str().unwrap_or_default().to_owned()),
            Err(other) => Err(other.to_string()),
            Ok(done) => Err(format!("{op} was not refused: {done}")),
        }
    }

    /// The first push `op` of which `which` is true, told already or soon; those before it are left.
    pub(crate) async fn push(&mut self, op: &str, which: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let until = Instant::now() + TIME;
        loop {
            if let Some(at) = self.told.iter().position(|push| push["op"] == op && which(push)) {
                return Ok(self.told.remove(at).expect("found above"));
            }
            self.hear(until).await.map_err(|error| {
                format!(
                    "{error} (waiting for {op}; told {:?})",
                    self.told.iter().map(Value::to_string).collect::<Vec<_>>()
                )
            })?;
        }
    }

    /// The next numbered event of a conversation, whatever it is. One that was told before is passed over, as a client must; a gap is an error.
    pub(crate) async fn event(&mut self, c: &str) -> Result<Value, String> {
        loop {
            let event = self.any_event(c).await?;
            let s = event["s"].as_u64().ok_or_else(|| format!("an event without a number: {event}"))?;
            match self.last.get(c) {
                Some(&last) if s <= last => {}
                Some(&last) if s > last + 1 => return Err(format!("after {last}: {event}")),
                _ => {
                    self.last.insert(c.to_owned(), s);
                    return Ok(event);
                }
            }
        }
    }

    async fn any_event(&mut self, c: &str) -> Result<Value, String> {
        let numbered =
            |push: &Value| matches!(push["op"].as_str(), Some("msg" | "note" | "agent" | "status"));
        let until = Instant::now() + TIME;
        loop {
            if let Some(at) = self.told.iter().position(|push| numbered(push) && push["c"] == c) {
                return Ok(self.told.remove(at).expect("found above"));
            }
            self.hear(until).await.map_err(|error| format!("{error} (waiting for an event of {c})"))?;
        }
    }

    /// Says a round trip's worth of nothing: what the server had to say before is here afterwards.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        // No conversation has this id, so the answer comes from the door; a home's pushes came the same way before.
        tokio::time::sleep(Duration::from_millis(120)).await;
        self.ws.frame(true, 9, b"still there?");
        let until = Instant::now() + TIME;
        loop {
            match self.frame(until).await? {
                Frame::Pong(_) => return Ok(()),
                frame => self.keep(frame)?,
            }
        }
    }

    /// Fails if a push `op` was told. Everything is on its way by now.
    pub(crate) async fn never(&mut self, op: &str) -> Result<(), String> {
        self.settle().await?;
        match self.told.iter().find(|push| push["op"] == op) {
            Some(push) => Err(format!("was told {push}")),
            None => Ok(()),
        }
    }

    /// The close code and reason; what comes before it is kept.
    pub(crate) async fn closed(&mut self, time: Duration) -> Result<(u16, String), String> {
        let until = Instant::now() + time;
        loop {
            match self.frame(until).await? {
                Frame::Close(code, reason) => return Ok((code, reason)),
                frame => self.keep(frame)?,
            }
        }
    }

    /// Waits for one frame and keeps what it says.
    pub(crate) async fn hear(&mut self, until: Instant) -> Result<(), String> {
        match self.frame(until).await? {
            Frame::Close(code, reason) => Err(format!("closed {code} {reason}")),
            frame => self.keep(frame),
        }
    }

    async fn frame(&mut self, until: Instant) -> Result<Frame, String> {
        self.ws
            .within(until.saturating_duration_since(Instant::now()))
            .await
            .map_err(|error| error.to_string())
    }

    fn keep(&mut self, frame: Frame) -> Result<(), String> {
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Binary(_) => return Err("a binary frame".to_owned()),
            Frame::Ping(_) | Frame::Pong(_) | Frame::Close(..) => return Ok(()),
        };
        for line in text.split('\n') {
            let envelope: Value =
                serde_json::from_str(line).map_err(|error| format!("no JSON ({error}): {line}"))?;
            if envelope["re"].is_u64() {
                self.replies.push_back(envelope);
            } else if envelope["op"].is_string() {
                self.p +=
                    u64::from(matches!(envelope["op"].as_str(), Some("msg" | "note" | "agent" | "status")));
                self.told.push_back(envelope);
            } else if envelope.as_object().is_some_and(serde_json::Map::is_empty) {
                self.ws.text("{}");
                self.told.push_back(json!({ "op": "heartbeat" }));
            } else {
                return Err(format!("an envelope of no kind: {line}"));
            }
        }
        Ok(())
    }
}
