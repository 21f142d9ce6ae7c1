//! A running server and what a test needs to know of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crash::chance::Chance;
use crash::http;
use crash::server::{Plan, Server};
use serde_json::json;

use crate::peer::Peer;

/// A server under test.
pub(crate) struct Site {
    pub(crate) server: RefCell<Server>,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) inbox: String,
    pub(crate) ticket: String,
    pub(crate) email: String,
    pub(crate) password: String,
    pub(crate) shards: u16,
    /// Idle connections that a crowd has.
    pub(crate) crowd: usize,
    pub(crate) chance: RefCell<Chance>,
    /// Chats between a visitor and an agent, and how many of them crossed shards.
    pub(crate) chats: Cell<u32>,
    pub(crate) crossed: Cell<u32>,
}

impl Site {
    pub(crate) async fn start(plan: Plan, seed: u64, crowd: usize) -> Result<Site, String> {
        let shards = plan.shards;
        let mut server = Server::new(plan).map_err(|error| error.to_string())?;
        server.start().map_err(|error| error.to_string())?;
        let began = Instant::now();
        let (told, ticket) = loop {
            if let Some(told) = server.told()
                && let Ok(ticket) = http::login(server.listen(), &told.email, &told.password).await
            {
                break (told, ticket);
            }
            if let Some(status) = server.ended().map_err(|error| error.to_string())? {
                return Err(format!("the server ended by itself: {status}\n{}", server.log_tail()));
            }
            if began.elapsed() > Duration::from_secs(30) {
                return Err(format!("the server does not come up\n{}", server.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Ok(Site {
            listen: server.listen(),
            admin: server.admin(),
            server: RefCell::new(server),
            inbox: told.inbox,
            ticket,
            email: told.email,
            password: told.password,
            shards,
            crowd,
            chance: RefCell::new(Chance::new(seed)),
            chats: Cell::new(0),
            crossed: Cell::new(0),
        })
    }

    pub(crate) fn chance(&self) -> Chance {
        Chance::new(self.chance.borrow_mut().bits())
    }

    pub(crate) fn hex(&self) -> String {
        self.chance.borrow_mut().hex()
    }

    pub(crate) fn visitor_path(&self) -> String {
        format!("/ws/v1/visitor?inbox={}", self.inbox)
    }

    /// A new visitor.
    pub(crate) async fn visitor(&self) -> Result<Peer, String> {
        Peer::open(self, &self.visitor_path(), None, &self.hex(), None).await
    }

    /// A session of the agent at any door.
    pub(crate) async fn agent(&self) -> Result<Peer, String> {
        let mut agent = Peer::open(self, "/ws/v1/agent", Some(&self.ticket), &self.hex(), None).await?;
        takes_some(&mut agent).await?;
        Ok(agent)
    }

    /// A session of the agent at a door away from `slot`'s home, where there is one.
    pub(crate) async fn agent_away(&self, slot: u16) -> Result<Peer, String> {
        let path = format!("/ws/v1/agent?s={}", (slot + 1) % 4096);
        let mut agent = Peer::open(self, &path, Some(&self.ticket), &self.hex(), None).await?;
        takes_some(&mut agent).await?;
        self.chats.set(self.chats.get() + 1);
        let crosses = agent.slot() % self.shards != slot % self.shards;
        self.crossed.set(self.crossed.get() + u32::from(crosses));
        if !crosses && self.shards > 1 {
            return Err(format!(
                "the agent asked for slot {} and came to {}",
                (slot + 1) % 4096,
                agent.slot()
            ));
        }
        Ok(agent)
    }

    /// Asks the private listener for something that needs the key.
    pub(crate) async fn administer(&self, path: &str, body: &str) -> Result<http::Answer, String> {
        let key = self.server.borrow().admin_key().map_err(|error| error.to_string())?;
        let fields = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
        http::ask(self.admin, "POST", path, &fields, body).await.map_err(|error| error.to_string())
    }
}

/// Who has said nothing takes nothing. Busy: no offers, conversations are accepted by hand.
async fn takes_some(agent: &mut Peer) -> Result<(), String> {
    let told = agent.ask("avail", json!({ "state": "busy", "cap": 500 })).await;
    told.map(|_| ()).map_err(|error| format!("avail: {error}"))
}
