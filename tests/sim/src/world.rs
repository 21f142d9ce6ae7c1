//! A world: one server of several shards, its disks, its clients, a heap of events, and one seed.
//!
//! ```text
//!   chaos     people talk; everything fails that may fail; the process dies and comes back
//!   settling  the faults stop; everybody comes back and says again what was not answered
//!   reading   everybody reads everything back from number 1
//!   over      the server stops cleanly, and the checker judges
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use desk::id::{AgentId, Entropy, InboxId, SiteId, Slot};
use desk::settings::{Agent, Inbox, Role as AgentRole, Settings, SigningKey};
use desk::token::{Ticket, sign_ticket};

use crate::chance::Chance;
use crate::check::Checker;
use crate::client::{Around, Client, Evil, Person, Role, Stage, text_of};
use crate::disk::Disk;
use crate::marks::{Mark, Marks};
use crate::net::Conn;
use crate::plan::Plan;
use crate::server::Process;
use crate::trace::Trace;

/// Virtual time that the settling, the reading and the stop may take each, in microseconds.
const PATIENCE_US: u64 = 120_000_000;
/// A world that has not seen enough by then settles nevertheless.
const CHAOS_MAX_US: u64 = 90_000_000;
const CHAOS_EVENTS_MAX: u64 = 300_000;
/// 2026, in milliseconds since 1970.
const WALL_MS: u64 = 1_780_000_000_000;

/// How far a world has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Chaos,
    Settling,
    Reading,
}

/// Something that will happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The process starts.
    Start,
    /// A shard has read its journal.
    Recover {
        boot: u32,
        shard: u16,
    },
    /// A shard takes what has arrived.
    Turn {
        boot: u32,
        shard: u16,
    },
    Tick {
        boot: u32,
        shard: u16,
    },
    /// What is in flight to the disk lands.
    Disk {
        boot: u32,
        shard: u16,
    },
    Segment {
        boot: u32,
        shard: u16,
    },
    /// A connection asks to be accepted.
    Dial(usize),
    /// Bytes of a client arrive.
    Up(usize),
    /// The socket takes bytes of the server.
    Send(usize),
    /// Bytes of the server arrive.
    Down(usize),
    /// The server notices that the client is gone.
    Lost(usize),
    /// The client notices that the server is gone.
    End(usize),
    /// A connection arrives at another shard.
    Moved {
        conn: usize,
        to: u16,
    },
    /// A socket that was closed with a send in flight does not end.
    Linger(usize),
    /// The control plane answers.
    Control(usize),
    /// A client's time has come.
    Client(usize),
    /// The control plane has an order.
    Order {
        boot: u32,
    },
    /// A shard is told to stop.
    Drain {
        boot: u32,
        shard: u16,
    },
    /// It was told long ago.
    DrainTooLong {
        boot: u32,
    },
}

struct Queued {
    at_us: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> core::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// Streams of chance, one for each user.
pub(crate) struct Dice {
    pub(crate) world: Chance,
    pub(crate) net: Chance,
    pub(crate) disk: Chance,
    pub(crate) turns: Chance,
    pub(crate) people: Chance,
    pub(crate) crash: Chance,
}

/// See the top of this file.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now_us: u64,
    heap: BinaryHeap<Reverse<Queued>>,
    order: u64,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) marks: Marks,
    pub(crate) check: Checker,
    pub(crate) phase: Phase,
    phase_began_us: u64,

    pub(crate) disks: Vec<Disk>,
    pub(crate) process: Option<Process>,
    pub(crate) boots: u32,
    pub(crate) kernel_boot: [u8; 16],
    pub(crate) settings: Arc<Settings>,
    pub(crate) wall_jump_ms: i64,
    pub(crate) generation: u32,
    /// Segments are refused until then.
    pub(crate) disk_full_until_us: u64,

    pub(crate) conns: Vec<Conn>,
    pub(crate) clients: Vec<Client>,
    /// The connection of each client.
    pub(crate) links: Vec<Option<usize>>,
    people: Vec<Person>,
    said: u64,
    /// No limit of the server was tight.
    roomy: bool,

    pub(crate) crashes: u64,
    /// Events until the process dies.
    pub(crate) crash_in: Option<u64>,
    pub(crate) crashed_in_boot: bool,
    /// The server stops for the last time.
    pub(crate) stopping: bool,
    pub(crate) stopped: bool,
}

impl World {
    pub(crate) fn new(seed: u64, print: bool) -> World {
        let plan = Plan::of(seed);
        let mut dice = Dice {
            world: Chance::new(seed, "world"),
            net: Chance::new(seed, "net"),
            disk: Chance::new(seed, "disk"),
            turns: Chance::new(seed, "turns"),
            people: Chance::new(seed, "people"),
            crash: Chance::new(seed, "crash"),
        };
        let mut check = Checker::new(plan.shard_count);
        let mut cast = Cast::new(&plan, &mut dice.world, &mut check);
        cast.fill(&plan, &mut dice.world);
        let disks = (0..plan.shard_count)
            .map(|shard| {
                let (uuid, salt) = (cast.settings.site.bits().to_le_bytes(), dice.world.u64());
                Disk::new(&journal::Superblock::new(uuid, salt, shard, plan.shard_count, plan.geometry))
            })
            .collect();
        let mut marks = Marks::default();
        marks.hit_if(Mark::OneShard, plan.shard_count == 1);
        marks.hit_if(Mark::ThreeShards, plan.shard_count == 3);
        marks.hit_if(Mark::ManyTabs, cast.many_tabs);
        marks.hit_if(Mark::ManySessions, cast.many_sessions);
        let kernel_boot = dice.world.bytes16();
        let links = vec![None; cast.clients.len()];
        let mut world = World {
            now_us: 1_000,
            heap: BinaryHeap::new(),
            order: 0,
            dice,
            trace: Trace::new(print),
            marks,
            check,
            phase: Phase::Chaos,
            phase_began_us: 0,
            disks,
            process: None,
            boots: 0,
            kernel_boot,
            settings: Arc::new(cast.settings),
            wall_jump_ms: 0,
            generation: 0,
            disk_full_until_us: 0,
            conns: Vec::new(),
            clients: cast.clients,
            links,
            people: cast.people,
            said: 0,
            roomy: false,
            crashes: 0,
            crash_in: None,
            crashed_in_boot: false,
            stopping: false,
            stopped: false,
            plan,
        };
        world.after(0, Event::Start);
        for client in 0..world.clients.len() {
            let at_us = world.clients[client].again_us;
            world.at(at_us, Event::Client(client));
        }
        world
    }

    pub(crate) fn at(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Queued { at_us: at_us.max(self.now_us), order: self.order, event }));
    }

    pub(crate) fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        (WALL_MS + self.now_us / 1000).saturating_add_signed(self.wall_jump_ms)
    }

    /// Runs until it is over, or the contract is broken.
    pub(crate) fn run(&mut self) {
        while !self.stopped && self.check.violation.is_none() {
            let Some(Reverse(next)) = self.heap.pop() else {
                return self.check.broken(|| "nothing will ever happen again".into());
            };
            self.now_us = next.at_us;
            self.check.now_us = next.at_us;
            self.trace.at(next.at_us);
            self.trace.events += 1;
            self.crash_is_due();
            self.happen(next.event);
            if self.trace.events.is_multiple_of(16) {
                self.look_at_phase();
            }
        }
        if self.check.violation.is_none() {
            self.check.judge();
        }
        self.marks.hit_if(Mark::KeptAtMemory, self.check.kept > 0);
        self.marks.hit_if(Mark::UnsaidAtMemory, self.check.unsaid > 0);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start => self.start(),
            Event::Recover { boot, shard } => self.recover(boot, shard),
            Event::Turn { boot, shard } => self.turn(boot, shard),
            Event::Tick { boot, shard } => self.tick(boot, shard),
            Event::Disk { boot, shard } => self.disk_lands(boot, shard),
            Event::Segment { boot, shard } => self.segment_lands(boot, shard),
            Event::Dial(conn) => self.dial(conn),
            Event::Up(conn) => self.up(conn),
            Event::Send(conn) => self.send(conn),
            Event::Down(conn) => self.down(conn),
            Event::Lost(conn) => self.lost(conn),
            Event::End(conn) => self.end(conn),
            Event::Moved { conn, to } => self.moved(conn, to),
            Event::Linger(conn) => self.linger(conn),
            Event::Control(conn) => self.control(conn),
            Event::Client(client) => self.client_acts(client),
            Event::Order { boot } => self.order(boot),
            Event::Drain { boot, shard } => self.drain(boot, shard),
            Event::DrainTooLong { boot } => self.drain_too_long(boot),
        }
    }

    fn look_at_phase(&mut self) {
        let in_phase_us = self.now_us - self.phase_began_us;
        match self.phase {
            Phase::Chaos => {
                let enough = self.said >= self.plan.messages_min
                    && self.trace.events >= self.plan.events_min
                    && self.crashes >= self.plan.crashes_min;
                if enough || in_phase_us > CHAOS_MAX_US || self.trace.events > CHAOS_EVENTS_MAX {
                    self.calm();
                }
            }
            Phase::Settling => {
                let up_to_date = self.clients.iter().all(|client| client.is_up_to_date(&self.check));
                let quiet = in_phase_us > 400_000
                    && up_to_date
                    && self.process.as_ref().is_some_and(Process::serves)
                    && self.clients.iter().all(|client| {
                        matches!(client.role, Role::Hostile(_))
                            || (client.is_quiet() && client.stage == Stage::Live)
                    });
                if quiet {
                    self.begin_phase(Phase::Reading);
                    self.check.settle();
                    self.check.reading = true;
                    self.each_client(|client, around| client.begin_reading(around));
                } else if in_phase_us > PATIENCE_US {
                    self.report_stuck("does not settle");
                }
            }
            Phase::Reading => {
                let mut read = true;
                if !self.stopping && in_phase_us > 200_000 {
                    self.each_client(|client, around| read &= client.has_read(around));
                    if read {
                        self.stop_for_good();
                    }
                }
                if in_phase_us > PATIENCE_US {
                    self.report_stuck(if self.stopping { "does not stop" } else { "cannot be read back" });
                }
            }
        }
    }

    fn report_stuck(&mut self, what: &str) {
        let mut clients = Vec::new();
        self.each_client(|client, around| {
            if !matches!(client.role, Role::Hostile(_)) {
                let late = if client.is_up_to_date(around.check) { "" } else { ", NOT UP TO DATE" };
                let busy = if client.is_quiet() { "" } else { ", NOT QUIET" };
                clients.push(client.state() + late + busy + &client.unread(around));
            }
        });
        let server = self.process.as_ref().map_or("down".into(), Process::state);
        self.check.broken(|| format!("the world {what}: server {server}\n  {}", clients.join("\n  ")));
    }

    fn begin_phase(&mut self, phase: Phase) {
        self.trace.note("world", 0, "phase", || format!("{phase:?}"));
        self.phase = phase;
        self.phase_began_us = self.now_us;
    }

    /// The faults stop. The server is started once more, with room for everything, unless it has that.
    fn calm(&mut self) {
        self.begin_phase(Phase::Settling);
        let plan = &mut self.plan;
        // A journal that is half full may be full before everything is said, and only a restart gives it more.
        let is_filling = |disk: &Disk| disk.segment_count() * 2 > plan.segment_count_max as usize;
        self.roomy = plan.segment_count_max >= 64
            && !self.disks.iter().any(is_filling)
            && plan.hot_bytes_max >= 8 << 20
            && plan.session_count_max >= 1000
            && plan.table_size >= 64;
        plan.segment_count_max = 4096;
        plan.hot_bytes_max = 64 << 20;
        plan.session_count_max = 4096;
        plan.table_size = 256;
        plan.disk_stall_permille = 0;
        plan.disk_fail = 0;
        plan.segment_fail_percent = 0;
        plan.drop_permille = 0;
        plan.slow_permille = 0;
        plan.turn_us = (1, 40);
        plan.letters_per_turn = 1000;
        self.disk_full_until_us = 0;
        self.crash_in = None;
        for client in 0..self.clients.len() {
            self.clients[client].deaf_until_us = 0;
            if let Some(conn) = self.links[client] {
                self.after(0, Event::Down(conn));
            }
        }
        // Without tight limits the server may as well go on: who was told less than there is must be told the rest.
        let goes_on = self.roomy && self.dice.world.percent(60);
        if self.process.is_some() && !goes_on {
            self.crash(false);
        }
    }

    /// A client that is given what it needs of the world.
    pub(crate) fn with_client<R>(
        &mut self,
        client: usize,
        call: impl FnOnce(&mut Client, &mut Around<'_>) -> R,
    ) -> R {
        let around = &mut Around {
            now_us: self.now_us,
            chance: &mut self.dice.people,
            check: &mut self.check,
            marks: &mut self.marks,
            trace: &mut self.trace,
            people: &mut self.people,
            plan: &self.plan,
            phase: self.phase,
            said: &mut self.said,
            crashed: self.crashes > 0,
        };
        call(&mut self.clients[client], around)
    }

    fn each_client(&mut self, mut call: impl FnMut(&mut Client, &mut Around<'_>)) {
        for client in 0..self.clients.len() {
            self.with_client(client, &mut call);
        }
    }

    fn client_acts(&mut self, client: usize) {
        self.with_client(client, |client, around| client.act(around));
        self.settle_client(client);
        if core::mem::take(&mut self.clients[client].wants_twin) {
            self.make_twin(client);
        }
        let at_us = self.clients[client].again_us.max(self.now_us + 1);
        if !(self.clients[client].done && self.clients[client].stage == Stage::Off) {
            self.at(at_us, Event::Client(client));
        }
    }

    fn make_twin(&mut self, client: usize) {
        let own = &self.clients[client];
        let Some(other) = self.clients.iter().position(|other| other.is_like(own)) else { return };
        // Two tabs of one session: what the one counts is nothing to the other, and numbers alone show a gap.
        self.clients[other].is_twin = true;
        let other = self.clients[other].clone();
        self.with_client(client, |client, around| client.become_twin(around, &other));
        self.settle_client(client);
    }

    pub(crate) fn messages(&self) -> u64 {
        self.said
    }

    pub(crate) fn ticket_of(&self, agent: &Agent, expires_at_s: u64) -> String {
        ticket(&self.settings.keys, agent, expires_at_s)
    }

    /// Agents log in again.
    pub(crate) fn hand_out_tickets(&mut self) {
        let tickets: Vec<(u128, String)> = self
            .settings
            .agents
            .iter()
            .map(|agent| (agent.id.bits(), self.ticket_of(agent, u64::MAX / 2)))
            .collect();
        for (id, text) in tickets {
            for person in self
                .people
                .iter_mut()
                .filter(|person| person.is_agent && person.id == Some(id) && !person.gone)
            {
                person.token = Some(text.clone());
            }
        }
    }
}

fn ticket(keys: &[SigningKey], agent: &Agent, expires_at_s: u64) -> String {
    let mut text = Vec::new();
    let ticket =
        Ticket { agent: agent.id, role: agent.role, session_epoch: agent.session_epoch, expires_at_s };
    sign_ticket(keys, &ticket, &mut text);
    String::from_utf8(text).expect("a ticket is ASCII")
}

/// Everybody who plays.
struct Cast {
    settings: Settings,
    people: Vec<Person>,
    clients: Vec<Client>,
    many_tabs: bool,
    many_sessions: bool,
}

impl Cast {
    fn new(plan: &Plan, chance: &mut Chance, check: &mut Checker) -> Cast {
        let mut entropy = Entropy::new(chance.bytes32());
        let mut slot = || Slot::new(chance.below(4096) as u16).expect("below the count");
        let site = SiteId::mint(slot(), &mut entropy);
        let inboxes = (0..2)
            .map(|number| Inbox {
                id: InboxId::mint(slot(), &mut entropy),
                name: format!("inbox {number}"),
                origins: Vec::new(),
                enabled: true,
            })
            .collect();
        // The last agent is the auditor, and takes nothing.
        let agents = (0..=plan.agent_count)
            .map(|number| Agent {
                id: AgentId::mint(slot(), &mut entropy),
                name: format!("Agent {number}"),
                role: AgentRole::Agent,
                session_epoch: 1,
                capacity: if number < plan.agent_count { plan.capacity } else { 0 },
                enabled: true,
            })
            .collect::<Vec<_>>();
        for agent in &agents {
            check.capacity(agent.id.bits(), u32::from(agent.capacity));
        }
        let keys = vec![SigningKey { id: 1, secret: chance.bytes32() }];
        let settings = Settings { version: 1, site, keys, inboxes, agents, limits: plan.limits };
        settings.check().expect("the plan's settings are good");
        Cast { settings, people: Vec::new(), clients: Vec::new(), many_tabs: false, many_sessions: false }
    }

    fn fill(&mut self, plan: &Plan, chance: &mut Chance) {
        for _ in 0..plan.visitor_count {
            let inbox = text_of(self.settings.inboxes[chance.index(2)].id.bits());
            let devices = chance.weighted(&[(70, 1), (30, 2)]);
            let person = self.person(inbox, devices, chance);
            let tabs = chance.weighted(&[(70, 1), (25, 2), (5, 3)]);
            self.many_tabs |= tabs > 1;
            for tab in 0..tabs.max(devices) {
                let device = self.people[person].devices[tab % devices].clone();
                let client = self.client(person, Role::Visitor, device, plan, chance);
                self.clients[client].is_first_tab = tab == 0;
            }
        }
        for number in 0..=plan.agent_count {
            let person = self.person(String::new(), 2, chance);
            let agent = self.settings.agents[number].clone();
            self.people[person].is_agent = true;
            self.people[person].id = Some(agent.id.bits());
            self.people[person].token = Some(ticket(&self.settings.keys, &agent, u64::MAX / 2));
            let is_auditor = number == plan.agent_count;
            let sessions = if is_auditor { 1 } else { chance.weighted(&[(60, 1), (40, 2)]) };
            self.many_sessions |= sessions > 1;
            for session in 0..sessions {
                let device = self.people[person].devices[session].clone();
                let role = if is_auditor { Role::Auditor } else { Role::Agent };
                self.client(person, role, device, plan, chance);
            }
        }
        for _ in 0..plan.hostile_count {
            let inbox = text_of(self.settings.inboxes[chance.index(2)].id.bits());
            let person = self.person(inbox, 1, chance);
            self.people[person].gone = true;
            self.people[person].token = Some(ticket(&self.settings.keys, &self.settings.agents[0], 1));
            let device = self.people[person].devices[0].clone();
            let evil = Evil::choose(chance);
            self.client(person, Role::Hostile(evil), device, plan, chance);
        }
    }

    fn person(&mut self, inbox: String, devices: usize, chance: &mut Chance) -> usize {
        self.people.push(Person {
            is_agent: false,
            id: None,
            token: None,
            inbox,
            c: None,
            c_boot: 0,
            slot: None,
            owned: Vec::new(),
            known: Vec::new(),
            devices: (0..devices).map(|_| text_of(chance.u128())).collect(),
            gone: false,
        });
        self.people.len() - 1
    }

    fn client(
        &mut self,
        person: usize,
        role: Role,
        device: String,
        plan: &Plan,
        chance: &mut Chance,
    ) -> usize {
        let number = self.clients.len();
        let lazy = chance.percent(plan.lazy_percent) && role != Role::Auditor;
        self.clients.push(Client::new(number, person, role, device, chance, lazy));
        number
    }
}
