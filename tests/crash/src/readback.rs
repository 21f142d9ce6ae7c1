//! Reading everything back, by sessions that know nothing: `sync` from 0, and then `history` down to 1.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::words::{self, Word};
use crate::ws::{Frame, Upgrade, Ws};

/// For one answer.
const TIME: Duration = Duration::from_secs(20);

/// One event as it was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its `op`.
    pub op: String,
    /// Its content, as `words::content`.
    pub content: u64,
    /// Hash of its text, if it has one.
    pub text: u64,
    /// Whose word it is.
    pub word: Option<Word>,
}

/// A stream of a conversation: the event with number `s` at `s - 1`.
pub type Stream = Vec<Event>;

/// A session that asks one thing after the other.
pub struct Reader {
    ws: Ws,
    next_re: u64,
    p: u64,
    acked_p: u64,
    pushed: Vec<Value>,
    /// What `ready` said.
    pub ready: Value,
}

impl Reader {
    /// Opens a session.
    ///
    /// # Errors
    /// In words, if the server does not let it in.
    pub async fn open(
        server: SocketAddr,
        path: &str,
        token: Option<&str>,
        chance: &mut Chance,
    ) -> Result<Reader, String> {
        let mut path = path.to_owned();
        for _ in 0..4 {
            let ws = Ws::connect(server, &Upgrade::to(path.clone()), chance)
                .await
                .map_err(|error| error.to_string())?;
            let mut reader =
                Reader { ws, next_re: 1, p: 0, acked_p: 0, pushed: Vec::new(), ready: Value::Null };
            let mut auth = json!({ "device": chance.hex() });
            if let Some(token) = token {
                auth["token"] = token.into();
            }
            match reader.ask("auth", auth).await {
                Ok(ready) => {
                    reader.ready = ready;
                    return Ok(reader);
                }
                Err(error) => match error.strip_prefix("closed with 4000: slot=") {
                    Some(slot) => path = format!("{}&s={slot}", path.split("&s=").next().unwrap_or_default()),
                    None => return Err(error),
                },
            }
        }
        Err("was sent from slot to slot".to_owned())
    }

    /// Asks, and waits for the reply; pushes are kept.
    ///
    /// # Errors
    /// The refusal or the end of the socket, in words.
    pub async fn ask(&mut self, op: &str, d: Value) -> Result<Value, String> {
        let id = self.next_re;
        self.next_re += 1;
        self.ws.text(&json!({ "id": id, "op": op, "d": d }).to_string());
        loop {
            for envelope in self.more().await? {
                if envelope["re"].as_u64() == Some(id) {
                    let refused = envelope["err"].is_object();
                    return if refused {
                        Err(envelope["err"]["code"].as_str().unwrap_or("refused").to_owned())
                    } else {
                        Ok(envelope["d"].clone())
                    };
                }
            }
        }
    }

    /// The envelopes of the next frame; numbered ones and `sync` are kept too, heartbeats answered.
    async fn more(&mut self) -> Result<Vec<Value>, String> {
        match self.ws.within(TIME).await.map_err(|error| error.to_string())? {
            Frame::Text(text) => {
                let mut envelopes = Vec::new();
                for line in text.split('\n') {
                    let envelope: Value =
                        serde_json::from_str(line).map_err(|_| format!("no JSON: {line}"))?;
                    match envelope["op"].as_str() {
                        Some("msg" | "note" | "agent" | "status") => {
                            self.p += 1;
                            self.pushed.push(envelope.clone());
                        }
                        Some("sync" | "history_lost") => self.pushed.push(envelope.clone()),
                        None if line == "{}" => self.ws.text("{}"),
                        _ => {}
                    }
                    envelopes.push(envelope);
                }
                if self.p - self.acked_p >= 32 {
                    self.ws.text(&json!({ "op": "ack", "d": { "p": self.p } }).to_string());
                    self.acked_p = self.p;
                }
                Ok(envelopes)
            }
            Frame::Close(code, reason) => Err(format!("closed with {code}: {reason}")),
            Frame::Binary(_) => Err("a binary frame".to_owned()),
            Frame::Ping(_) | Frame::Pong(_) => Ok(Vec::new()),
        }
    }

    /// Everything of one conversation, by `sync` from 0 for its end and `history` for the rest. Where the two overlap they must agree.
    ///
    /// # Errors
    /// In words: what is missing, doubled or not the same.
    pub async fn read(&mut self, c: &str) -> Result<Stream, String> {
        let mut events: HashMap<u32, Event> = HashMap::new();
        self.pushed.clear();
        self.ask("sync", json!({ "cursors": [{ "c": c, "s": 0 }], "limit": 500 })).await?;
        let (from, head) = loop {
            if let Some(sync) = self.pushed.iter().find(|push| push["op"] == "sync" && push["c"] == c) {
                let number = |name: &str| sync["d"][name].as_u64().map(|number| number as u32);
                break number("from")
                    .zip(number("head"))
                    .ok_or(format!("sync without from and head: {sync}"))?;
            }
            self.more().await?;
        };
        let mut missing = head + 1 - from;
        loop {
            for push in core::mem::take(&mut self.pushed) {
                let s = push["s"].as_u64().unwrap_or(0) as u32;
                if push["op"] == "history_lost" {
                    return Err(format!("history is lost: {push}"));
                }
                if push["op"] != "sync" && push["c"] == c && s <= head {
                    missing -= u32::from(keep(&mut events, s, &push)?);
                }
            }
            if missing == 0 {
                break;
            }
            self.more().await?;
        }
        // A page that overlaps, then all that are older.
        let mut before = head.min(from.saturating_add(20)) + 1;
        while before > 1 {
            let page = self.ask("history", json!({ "c": c, "before": before, "limit": 200 })).await?;
            let list = page["events"].as_array().ok_or("history without events")?;
            let first = list
                .first()
                .and_then(|event| event["s"].as_u64())
                .ok_or(format!("no event before {before}"))? as u32;
            for (place, event) in list.iter().enumerate() {
                let s = event["s"].as_u64().unwrap_or(0) as u32;
                if s != first + place as u32 {
                    return Err(format!("history before {before} has {s} at place {place}, after {first}"));
                }
                keep(&mut events, s, event)?;
            }
            if first + list.len() as u32 != before || page["more"].as_bool() != Some(first > 1) {
                return Err(format!(
                    "history before {before} tells {first} to {}, more {}",
                    first as usize + list.len() - 1,
                    page["more"]
                ));
            }
            before = first;
        }
        let _ = self.ask("unsync", json!({ "c": c })).await;
        (1..=head).map(|s| events.remove(&s).ok_or(format!("number {s} of {head} is missing"))).collect()
    }
}

/// Keeps an event; false if the same was there.
fn keep(events: &mut HashMap<u32, Event>, s: u32, push: &Value) -> Result<bool, String> {
    let op = push["op"].as_str().unwrap_or_default();
    let body = push["d"]["body"].as_str();
    let event = Event {
        op: op.to_owned(),
        content: words::content(op, &push["d"]),
        text: body.map_or(0, |body| words::hash(body.as_bytes())),
        word: body.and_then(Word::of_body),
    };
    match events.get(&s) {
        Some(known) if *known == event => Ok(false),
        Some(known) => Err(format!("number {s} is told in two ways: {known:?} and {event:?}")),
        None => {
            events.insert(s, event);
            Ok(true)
        }
    }
}
