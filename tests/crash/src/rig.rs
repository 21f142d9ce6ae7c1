//! A server, a world of clients, and what runs do with them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::chance::Chance;
use crate::client::Client;
use crate::judge::{Both, Verdict, judge};
use crate::readback::Reader;
use crate::record::{Record, Role};
use crate::server::{Plan, Server, Told};
use crate::world::{Manners, World};

/// A start that takes longer has failed.
const SERVE_TIME: Duration = Duration::from_secs(30);
/// Clients that get no answer for so long, while the server runs and nobody says new things, are stuck.
const SETTLE_TIME: Duration = Duration::from_secs(60);
/// Sessions that read back at once.
const READERS: usize = 6;

/// A server and its clients.
pub struct Rig {
    /// What the clients share.
    pub world: Rc<World>,
    /// The server.
    pub server: Server,
    /// What the first start told.
    pub told: Told,
    clients: Vec<JoinHandle<()>>,
    chance: Chance,
}

impl Rig {
    /// Starts a server on a new data directory, logs in, and lets the clients come. Must run in a `LocalSet`.
    ///
    /// # Errors
    /// In words, if the server does not come up.
    pub async fn begin(plan: Plan, manners: Manners) -> Result<Rig, String> {
        let mut server = Server::new(plan).map_err(|error| error.to_string())?;
        server.start().map_err(|error| format!("{}: {error}", server.plan().bin.display()))?;
        let (told, ticket) = first_login(&mut server).await?;
        let log = server.plan().work_dir.join("checker.log");
        let record = Record::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let world = World::new(manners, server.listen(), told.inbox.clone(), ticket, record);
        let chance = Chance::new(world.manners.seed).fork(u64::MAX);
        let mut rig = Rig { world: Rc::new(world), server, told, clients: Vec::new(), chance };
        rig.invite().await?;
        Ok(rig)
    }

    /// Agents first, so that their doors are known when conversations begin.
    async fn invite(&mut self) -> Result<(), String> {
        let Manners { visitors, agents, .. } = self.world.manners;
        let mut live = |id, role| {
            let client = Client::new(id, role, Rc::clone(&self.world));
            self.clients.push(tokio::task::spawn_local(client.live()));
        };
        (visitors..visitors + agents).for_each(|id| live(id, Role::Agent));
        let began = Instant::now();
        while self.world.doors.borrow().len() < usize::from(agents) {
            if began.elapsed() > SERVE_TIME {
                return Err(format!("agents do not get in: {:?}", self.world.ends.borrow()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (0..visitors).for_each(|id| live(id, Role::Visitor));
        Ok(())
    }

    /// Starts the server again; how long until a new visitor was served.
    ///
    /// # Errors
    /// In words, if it ends or does not serve.
    pub async fn start(&mut self) -> Result<Duration, String> {
        self.server.start().map_err(|error| error.to_string())?;
        self.serving().await
    }

    /// Waits until a new visitor is served; how long it took.
    ///
    /// # Errors
    /// In words, if the server ends or does not serve.
    pub async fn serving(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        let path = format!("/ws/v1/visitor?inbox={}", self.world.inbox.borrow());
        loop {
            match Reader::open(self.server.listen(), &path, None, &mut self.chance).await {
                Ok(_) => return Ok(began.elapsed()),
                Err(error) => {
                    self.is_alive()?;
                    if began.elapsed() > SERVE_TIME {
                        return Err(format!(
                            "does not serve after {} s: {error}\n{}",
                            SERVE_TIME.as_secs(),
                            self.server.log_tail()
                        ));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether the server says now that it serves.
    pub async fn is_ready(&self) -> bool {
        let asked = crate::http::ask(self.server.admin(), "GET", "/readyz", "", "");
        let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
        matches!(answer, Ok(Ok(answer)) if answer.status == 200)
    }

    /// The server has not ended by itself.
    ///
    /// # Errors
    /// Its status and the end of its log.
    pub fn is_alive(&mut self) -> Result<(), String> {
        match self.server.ended().map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(status) => Err(format!("the server ended by itself: {status}\n{}", self.server.log_tail())),
        }
    }

    /// Lets the clients talk for a while.
    ///
    /// # Errors
    /// If the server ends meanwhile.
    pub async fn talk(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            tokio::time::sleep(
                until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)),
            )
            .await;
            self.is_alive()?;
            self.world.pass();
        }
        Ok(())
    }

    /// Nobody says anything new; waits until everything said is answered.
    ///
    /// # Errors
    /// If clients are stuck.
    pub async fn settle(&mut self) -> Result<(), String> {
        self.world.talk.set(false);
        let began = Instant::now();
        while !self.world.is_answered() {
            self.is_alive()?;
            if began.elapsed() > SETTLE_TIME {
                let left: usize = self.world.unanswered.borrow().values().sum();
                return Err(format!("{left} words are not answered after {} s", SETTLE_TIME.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Stops the server as an administrator would; how long it took.
    ///
    /// # Errors
    /// If it takes more than ten seconds or does not end with 0.
    pub async fn stop(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        self.server.signal(libc::SIGTERM);
        let status = self
            .server
            .wait(Duration::from_secs(10))
            .await
            .map_err(|error| format!("{error}\n{}", self.server.log_tail()))?;
        if status.code() != Some(0) {
            return Err(format!("SIGTERM ended with {status}\n{}", self.server.log_tail()));
        }
        Ok(began.elapsed())
    }

    /// Checks every byte of the journals with the server's own tool; the server must be stopped.
    ///
    /// # Errors
    /// What the tool says.
    pub fn verify(&self) -> Result<(), String> {
        let (status, text) = self.server.run(&["journal", "verify"]).map_err(|error| error.to_string())?;
        if status == 0 { Ok(()) } else { Err(format!("journal verify: status {status}: {text}")) }
    }

    /// Settles, stops, verifies, starts again, reads everything back and judges.
    pub async fn finish(mut self) -> Verdict {
        let mut wrong = Vec::new();
        let mut steps = async || {
            self.settle().await?;
            self.stop().await?;
            self.verify()?;
            self.start().await
        };
        if let Err(what) = steps().await {
            wrong.push(what);
            // Whatever is there is still judged.
            if self.server.pid().is_none()
                && let Err(what) = self.start().await
            {
                wrong.push(what);
            }
        }
        self.judge(wrong).await
    }

    /// Reads everything back and judges; `wrong` is what was found before.
    pub async fn judge(mut self, mut wrong: Vec<String>) -> Verdict {
        self.world.talk.set(false);
        let streams = self.read_all(&mut wrong).await;
        self.wait_until_whole(&streams, &mut wrong).await;
        self.world.stop.set(true);
        for client in core::mem::take(&mut self.clients) {
            if client.await.is_err() {
                wrong.push("a client of the checker panicked".to_owned());
            }
        }
        let mut verdict = match self.world.entries() {
            Ok(entries) => judge(&entries, &streams),
            Err(error) => {
                wrong.push(format!("the checker's log: {error}"));
                Verdict::default()
            }
        };
        wrong.append(&mut self.world.complaints.borrow_mut());
        verdict.wrong += wrong.len() as u64;
        wrong.append(&mut verdict.findings);
        verdict.findings = wrong;
        verdict
    }

    /// Both streams of every conversation.
    async fn read_all(&mut self, wrong: &mut Vec<String>) -> HashMap<u32, Both> {
        let count = self.world.conversations.borrow().len() as u32;
        let left = Rc::new(RefCell::new((0..count).collect::<Vec<u32>>()));
        let found = Rc::new(RefCell::new(HashMap::new()));
        let mut readers = Vec::new();
        for n in 0..READERS {
            let (left, found, world, chance) =
                (Rc::clone(&left), Rc::clone(&found), Rc::clone(&self.world), self.chance.fork(n as u64));
            readers.push(tokio::task::spawn_local(read_some(left, found, world, chance)));
        }
        for reader in readers {
            match reader.await {
                Ok(mut some) => wrong.append(&mut some),
                Err(_) => wrong.push("a reader of the checker panicked".to_owned()),
            }
        }
        found.take()
    }

    /// Every client must by itself come to have all there is.
    async fn wait_until_whole(&mut self, streams: &HashMap<u32, Both>, wrong: &mut Vec<String>) {
        let began = Instant::now();
        loop {
            let behind = self.behind(streams);
            if behind.is_empty() {
                return;
            }
            if began.elapsed() > Duration::from_secs(40) {
                wrong.extend(behind.into_iter().take(20));
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn behind(&self, streams: &HashMap<u32, Both>) -> Vec<String> {
        let conversations = self.world.conversations.borrow();
        let reached = self.world.reached.borrow();
        let mut behind = Vec::new();
        for (conv, conversation) in conversations.iter().enumerate() {
            let Some(both) = streams.get(&(conv as u32)) else { continue };
            let (agent, visitor) = (both.agent.len(), both.visitor.len());
            for (client, head) in
                [(conversation.visitor, visitor), (conversation.agent, agent), (conversation.observer, agent)]
            {
                let last = reached.get(&(client, conv as u32)).copied().unwrap_or(0) as usize;
                if last != head {
                    behind.push(format!("client {client} stays at {last} of {head} in conversation {conv}"));
                }
            }
        }
        behind
    }
}

async fn read_some(
    left: Rc<RefCell<Vec<u32>>>,
    found: Rc<RefCell<HashMap<u32, Both>>>,
    world: Rc<World>,
    mut chance: Chance,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let server = world.server.get();
    let ticket = world.ticket.borrow().clone();
    let mut agent = None;
    loop {
        let Some(conv) = left.borrow_mut().pop() else { return wrong };
        let conversation = world.conversations.borrow()[conv as usize].clone();
        let token = world.tokens.borrow().get(&conversation.visitor).cloned();
        let path = format!("/ws/v1/visitor?inbox={}&s={}", world.inbox.borrow(), conversation.slot);
        let read = async {
            if agent.is_none() {
                agent = Some(Reader::open(server, "/ws/v1/agent?", Some(&ticket), &mut chance).await?);
            }
            let reader = agent.as_mut().expect("opened above");
            let agents =
                reader.read(&conversation.id).await.map_err(|error| format!("as an agent: {error}"))?;
            let mut reader = Reader::open(server, &path, token.as_deref(), &mut chance).await?;
            let visitors =
                reader.read(&conversation.id).await.map_err(|error| format!("as the visitor: {error}"))?;
            Ok::<Both, String>(Both { agent: agents, visitor: visitors })
        };
        match read.await {
            Ok(both) => {
                found.borrow_mut().insert(conv, both);
            }
            Err(error) => {
                wrong.push(format!("conversation {conv} ({}) cannot be read back: {error}", conversation.id));
                agent = None;
            }
        }
    }
}

/// Waits for what the first start prints, and for a ticket.
async fn first_login(server: &mut Server) -> Result<(Told, String), String> {
    let began = Instant::now();
    let mut last = "it printed no login".to_owned();
    loop {
        if let Some(told) = server.told() {
            match crate::http::login(server.listen(), &told.email, &told.password).await {
                Ok(ticket) => return Ok((told, ticket)),
                Err(error) => last = error,
            }
        }
        if let Some(status) = server.ended().map_err(|error| error.to_string())? {
            return Err(format!("the server ended by itself: {status}\n{}", server.log_tail()));
        }
        if began.elapsed() > SERVE_TIME {
            return Err(format!("the server does not come up: {last}\n{}", server.log_tail()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
