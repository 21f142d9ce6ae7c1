//! What the clients of a run share: where the server is, who listens to what, whether to talk, and what was counted. One thread holds all of it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::record::{Entry, Record};

/// A conversation as the checker knows it.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// The client whose it is.
    pub visitor: u16,
    /// The slot of its home.
    pub slot: u16,
    /// The client that answers for the agents.
    pub agent: u16,
    /// A client that listens and writes notes.
    pub observer: u16,
}

/// What the clients of a run are like.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Seed of everything that is random.
    pub seed: u64,
    /// Visitors, each with a conversation.
    pub visitors: u16,
    /// Sessions of agents.
    pub agents: u16,
    /// Messages and notes per second, of all together.
    pub rate: f64,
    /// Shards of the server, to choose doors that are not homes.
    pub shards: u16,
    /// Longest wait before a client connects again.
    pub back_off_max: Duration,
    /// The level that acknowledgements should name.
    pub level: &'static str,
    /// Conversations are closed so many times in a thousand messages.
    pub closes_per_mille: u64,
}

/// Counts of a run.
#[derive(Default, Debug)]
pub struct Counts {
    /// Words acknowledged.
    pub acked: Cell<u64>,
    /// Acknowledged as known already.
    pub dups: Cell<u64>,
    /// Numbered events heard, each time.
    pub heard: Cell<u64>,
    /// Messages and notes whose author's or reader's door is on another shard than the home.
    pub crossed: Cell<u64>,
    /// Messages and notes acknowledged.
    pub messages: Cell<u64>,
    /// Sockets opened to the end of the handshake.
    pub connects: Cell<u64>,
    /// Sessions resumed.
    pub resumed: Cell<u64>,
    /// Numbers above the next one, answered with a `sync`.
    pub gaps: Cell<u64>,
    /// Events told again after a resume.
    pub replayed: Cell<u64>,
    /// Refusals that asked to come again.
    pub refused: Cell<u64>,
    /// Refusals for good.
    pub dropped: Cell<u64>,
    /// `history_lost` pushes.
    pub lost: Cell<u64>,
}

/// Adds to a count.
pub fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

/// The world of a run.
pub struct World {
    /// What its clients are like.
    pub manners: Manners,
    /// The server's public address.
    pub server: Cell<SocketAddr>,
    /// The inbox visitors come to.
    pub inbox: RefCell<String>,
    /// The agents' ticket.
    pub ticket: RefCell<String>,
    /// Whether clients say new things.
    pub talk: Cell<bool>,
    /// Ends every client.
    pub stop: Cell<bool>,
    /// All conversations.
    pub conversations: RefCell<Vec<Conversation>>,
    /// Their places by id.
    pub by_id: RefCell<HashMap<String, u32>>,
    /// Visitors' tokens, by client.
    pub tokens: RefCell<HashMap<u16, String>>,
    /// The slot of every agent's door, by client.
    pub doors: RefCell<HashMap<u16, u16>>,
    /// Words not answered yet, by client.
    pub unanswered: RefCell<HashMap<u16, usize>>,
    /// The last number each client has without a gap, by client and conversation.
    pub reached: RefCell<HashMap<(u16, u32), u32>>,
    /// Refusals by code, for the end of the run.
    pub refusals: RefCell<HashMap<String, u64>>,
    /// How sockets ended, for the end of the run.
    pub ends: RefCell<HashMap<String, u64>>,
    /// What breaks the contract is not told at once: the data were operated on, and whoever did it will judge.
    pub quiet: Cell<bool>,
    /// What broke the contract while it happened.
    pub complaints: RefCell<Vec<String>>,
    /// The last time anything was acknowledged.
    pub acked_at: Cell<Instant>,
    /// Counts.
    pub counts: Counts,
    record: RefCell<Record>,
}

impl World {
    /// A world in which nobody has said anything.
    pub fn new(manners: Manners, server: SocketAddr, inbox: String, ticket: String, record: Record) -> World {
        World {
            manners,
            server: Cell::new(server),
            inbox: RefCell::new(inbox),
            ticket: RefCell::new(ticket),
            talk: Cell::new(true),
            stop: Cell::new(false),
            conversations: RefCell::default(),
            by_id: RefCell::default(),
            tokens: RefCell::default(),
            doors: RefCell::default(),
            unanswered: RefCell::default(),
            reached: RefCell::default(),
            refusals: RefCell::default(),
            ends: RefCell::default(),
            quiet: Cell::new(false),
            complaints: RefCell::default(),
            acked_at: Cell::new(Instant::now()),
            counts: Counts::default(),
            record: RefCell::new(record),
        }
    }

    /// Adds an entry to the log.
    pub fn note(&self, entry: &Entry) {
        self.record.borrow_mut().add(entry);
    }

    /// Passes the log to the disk.
    pub fn pass(&self) {
        self.record.borrow_mut().pass();
    }

    /// Ends the log and reads it.
    ///
    /// # Errors
    /// If it could not be written or read.
    pub fn entries(&self) -> std::io::Result<Vec<Entry>> {
        crate::record::read(&self.record.borrow_mut().finish()?)
    }

    /// The contract was broken.
    pub fn complain(&self, what: String) {
        let mut complaints = self.complaints.borrow_mut();
        if complaints.len() < 200 {
            if !self.quiet.get() {
                eprintln!("violation: {what}");
            }
            complaints.push(what);
        }
    }

    /// Shard of a slot, if the server spreads slots as it does today. Only the share of crossing messages depends on it.
    pub fn shard(&self, slot: u16) -> u16 {
        slot % self.manners.shards.max(1)
    }

    /// Makes a conversation known; two agents begin to listen to it, the first at a door away from its home if there is one.
    pub fn open(&self, id: &str, visitor: u16, slot: u16) -> u32 {
        if let Some(&conv) = self.by_id.borrow().get(id) {
            return conv;
        }
        let mut conversations = self.conversations.borrow_mut();
        let conv = conversations.len() as u32;
        let agents = u32::from(self.manners.agents);
        let doors = self.doors.borrow();
        let client = |n: u32| self.manners.visitors + (n % agents) as u16;
        let away = |&n: &u32| doors.get(&client(n)).is_some_and(|&door| self.shard(door) != self.shard(slot));
        let first = (conv..conv + agents).find(away).unwrap_or(conv);
        let (agent, observer) = (client(first), client(first + 1));
        self.note(&Entry::Conversation(conv, id.to_owned(), visitor));
        conversations.push(Conversation { id: id.to_owned(), visitor, slot, agent, observer });
        self.by_id.borrow_mut().insert(id.to_owned(), conv);
        conv
    }

    /// Whether every client has an answer to everything.
    pub fn is_answered(&self) -> bool {
        self.unanswered.borrow().values().all(|&count| count == 0)
    }

    /// Counts how a socket ended.
    pub fn ended(&self, how: &str) {
        *self.ends.borrow_mut().entry(how.to_owned()).or_default() += 1;
    }
}
