//! Just enough of the client protocol to talk: who it is, where it is, and a conversation.

use std::net::SocketAddr;

use crate::socket::{self, Reader, Writer};

const PROTOCOL: &str = "ringdesk.v1.json";

/// An authenticated client.
pub(crate) struct Client {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    /// The slot it was told; modulo the number of shards it names the shard.
    pub(crate) slot: u16,
    /// Durable events it was told.
    pub(crate) told: u64,
}

/// The text or number of a field, or nothing. Only for what this program itself asked for.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let key = format!("\"{name}\":");
    let rest = &text[text.find(&key)? + key.len()..];
    match rest.strip_prefix('"') {
        Some(inner) => Some(&inner[..inner.find('"')?]),
        None => Some(&rest[..rest.find([',', '}', ']'])?]),
    }
}

impl Client {
    async fn auth(to: SocketAddr, path: &str, auth: String) -> Result<Client, String> {
        let (mut writer, reader) = socket::open(to, path, PROTOCOL).await?;
        writer.text(&auth).await?;
        let mut client = Client { writer, reader, slot: 0, told: 0 };
        let ready = client.answer(1).await?;
        client.slot = field(&ready, "slot").and_then(|slot| slot.parse().ok()).ok_or("no slot in ready")?;
        Ok(client)
    }

    /// A new visitor.
    pub(crate) async fn visitor(to: SocketAddr, inbox: &str, number: u32) -> Result<Client, String> {
        let auth = format!(r#"{{"id":1,"op":"auth","d":{{"device":"bench-device-{number:08}"}}}}"#);
        Client::auth(to, &format!("/ws/v1/visitor?inbox={inbox}"), auth).await
    }

    /// An agent.
    pub(crate) async fn agent(to: SocketAddr, ticket: &str, number: u32) -> Result<Client, String> {
        let auth = format!(
            r#"{{"id":1,"op":"auth","d":{{"token":"{ticket}","device":"bench-agent-{number:08}"}}}}"#
        );
        Client::auth(to, "/ws/v1/agent", auth).await
    }

    /// Reads until the answer to request `re`; counts durable events on the way.
    pub(crate) async fn answer(&mut self, re: u32) -> Result<String, String> {
        let key = format!("{{\"re\":{re},");
        loop {
            let text = self.reader.text().await?;
            if text.starts_with(&key) {
                return match text.contains("\"err\":") {
                    true => Err(text),
                    false => Ok(text),
                };
            }
            self.told += u64::from(is_durable(&text));
        }
    }

    /// Begins a conversation and returns its id.
    pub(crate) async fn start(&mut self, number: u32) -> Result<String, String> {
        let text = format!(
            r#"{{"id":2,"op":"start","d":{{"cid":"bench-start-{number:08}","first":{{"cid":"bench-first-{number:08}","type":"text","body":"hello"}}}}}}"#
        );
        self.writer.text(&text).await?;
        let answer = self.answer(2).await?;
        field(&answer, "c").map(str::to_owned).ok_or_else(|| format!("no conversation in {answer}"))
    }
}

/// Whether a push is a numbered event.
pub(crate) fn is_durable(text: &str) -> bool {
    ["msg", "note", "agent", "status"].iter().any(|op| text.starts_with(&format!("{{\"op\":\"{op}\",")))
}
