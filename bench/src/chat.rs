//! `chat` and `idle`: visitors and agents who are logged in, and some of them talk.

use monoio::io::AsyncReadRent as _;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::clock::now_ns;
use crate::crowd::{churn, open_all, storm};
use crate::figures::{Acknowledged, Counts};
use crate::json::field;
use crate::member::{Member, Reading, Waiting};
use crate::scenario::is_among;
use crate::verify::{Faults, Stream};
use crate::worker::Run;

/// One of the two sides of a conversation, as the other hears it.
#[derive(Default)]
pub(crate) struct Side {
    /// Messages sent to the other.
    sent: u64,
    /// What came from the other, by the other's own count.
    pub(crate) heard: Stream,
    /// All numbered events of the conversation, as this side is told them.
    pub(crate) events: Stream,
    /// The number the events began with is known.
    pub(crate) begun: bool,
    /// Messages of this side that were acknowledged.
    pub(crate) acknowledged: Vec<u64>,
}

/// A conversation between a visitor and an agent's session.
pub(crate) struct Chat {
    pub(crate) c: String,
    visitor: Rc<Member>,
    agent: Rc<Member>,
    /// The visitor's side and the agent's.
    pub(crate) sides: RefCell<[Side; 2]>,
    pub(crate) crosses: bool,
}

/// The first words of a conversation, which nobody counts.
pub(crate) const GREETING: &str = "hello";

impl Chat {
    fn send(self: &Rc<Self>, run: &Run, by_agent: bool, intended_ns: u64, text: &mut String) {
        let from = if by_agent { &self.agent } else { &self.visitor };
        let number = {
            let mut sides = self.sides.borrow_mut();
            let side = &mut sides[usize::from(by_agent)];
            side.sent += 1;
            side.sent
        };
        let scenario = &run.share.scenario;
        if is_among(scenario.typing_percent, number) {
            from.text(&format!("{{\"op\":\"typing\",\"d\":{{\"c\":\"{}\",\"on\":true}}}}", self.c));
        }
        from.send(run, Waiting { re: from.re(), intended_ns, chat: Rc::clone(self), number }, text);
        if by_agent && self.visitor.reading != Reading::Well {
            run.figures.borrow_mut().counts.to_slow += 1;
        }
        run.figures.borrow_mut().counts.sent += 1;
        run.time("schedule lag", intended_ns);
    }
}

pub(crate) async fn work(run: Rc<Run>) -> Result<(), String> {
    let scenario = &run.share.scenario;
    let chats = run.share.part(scenario.chats);
    let agents = chats.div_ceil(scenario.chats_per_agent);
    let all = run.share.part(scenario.connections);
    let visitors = open_all(&run, all.saturating_sub(agents).max(chats), false).await?;
    let agents = open_all(&run, agents, true).await?;
    for agent in &agents {
        let answer = agent.ask("avail", "{\"state\":\"busy\",\"cap\":500}").await?;
        if answer.contains("\"err\":") {
            return Err(format!("an agent's capacity: {answer}"));
        }
    }
    let mut pool = Pool::new(&run, visitors);
    let mut talking = Vec::with_capacity(chats as usize);
    for number in 0..chats {
        let visitor = pool.pick(&run, &agents).ok_or("there are too few visitors")?;
        talking.push(begin(&run, number, &visitor, &agents).await?);
    }
    let idle = Rc::new(RefCell::new(pool.rest()));
    run.go().await;
    if scenario.churn > 0.0 && !idle.borrow().is_empty() {
        monoio::spawn(churn(Rc::clone(&run), Rc::clone(&idle), all));
    }
    if let Some(kind) = scenario.storm {
        let visitors = talking.iter().map(|chat| &chat.visitor);
        let everybody = visitors.chain(idle.borrow().iter()).chain(&agents).map(Rc::clone).collect();
        monoio::spawn(storm(Rc::clone(&run), everybody, kind));
    }
    if talking.is_empty() {
        while !run.is_over() {
            monoio::time::sleep(Duration::from_millis(50)).await;
        }
    } else {
        talk(&run, &talking).await?;
    }
    let notices = match run.is_stopped() {
        // How many there were before the stop is not known here: a gap is seen all the same.
        true => 0,
        false => scenario.notice_times().count() as u64,
    };
    run.settle(|| {
        let Counts { answered, refused, sent, received, to_slow, noticed, connected, .. } =
            run.figures.borrow().counts;
        answered + refused == sent && received + to_slow >= answered && noticed >= notices * connected
    })
    .await;
    if scenario.slow + scenario.stuck > 0 {
        // Those who did not read find out whether they were closed.
        monoio::time::sleep(Duration::from_millis(500)).await;
    }
    run.ending.set(true);
    let idle = idle.borrow();
    let members = || talking.iter().map(|chat| &chat.visitor).chain(&agents).chain(idle.iter());
    let mut faults = Faults::default();
    for chat in &talking {
        let sides = chat.sides.borrow();
        let slow = chat.visitor.reading != Reading::Well;
        for (side, other) in [(0, 1), (1, 0)] {
            // What a slow reader has not read yet is not lost; a gap in what he has read is.
            let sent = if slow && side == 0 { 0 } else { sides[other].sent };
            faults.add(&sides[side].heard.faults(sent));
            faults.add(&sides[side].events.faults(0));
        }
    }
    members().for_each(|member| faults.add(&member.notices.borrow().faults(notices)));
    let mut figures = run.figures.borrow_mut();
    figures.faults = faults;
    figures.acknowledged = talking
        .iter()
        .map(|chat| {
            let mut sides = chat.sides.borrow_mut();
            let numbers = [0, 1].map(|side| core::mem::take(&mut sides[side].acknowledged));
            Acknowledged { c: chat.c.clone(), numbers }
        })
        .collect();
    figures.counts.bytes_out += members().map(|member| member.said()).sum::<u64>();
    Ok(())
}

async fn talk(run: &Rc<Run>, talking: &[Rc<Chat>]) -> Result<(), String> {
    let mut bell = run.bell().map_err(|error| error.to_string())?;
    let start = run.start_ns.get();
    let mut times = run.times().map(|offset| start + offset).take_while(|&at| at < run.end_ns()).peekable();
    let (mut turn, mut text, mut buffer) = (0usize, String::new(), vec![0; 64]);
    while times.peek().is_some() && !run.is_over() {
        let (_, back) = bell.read(buffer).await;
        buffer = back;
        let now = now_ns();
        while let Some(at) = times.next_if(|&at| at <= now) {
            // Everybody writes by turns, and each side of a conversation by turns.
            let chat = &talking[turn % talking.len()];
            let by_agent = turn / talking.len() % 2 == 1 || chat.visitor.reading != Reading::Well;
            chat.send(run, by_agent, at, &mut text);
            turn += 1;
        }
    }
    Ok(())
}

/// Visitors who do not talk yet.
struct Pool {
    /// Those who read slowly or not, who talk first.
    slow: Vec<Rc<Member>>,
    /// All others, by their shard.
    by_shard: BTreeMap<Option<u16>, Vec<Rc<Member>>>,
}

impl Pool {
    fn new(run: &Run, visitors: Vec<Rc<Member>>) -> Pool {
        let mut pool = Pool { slow: Vec::new(), by_shard: BTreeMap::new() };
        for visitor in visitors {
            match visitor.reading {
                Reading::Well => pool.by_shard.entry(visitor.shard(run)).or_default().push(visitor),
                Reading::Slowly | Reading::Not => pool.slow.push(visitor),
            }
        }
        pool
    }

    /// One for whom an agent on another shard is free, if there is one; of the shard with the most who are left.
    fn pick(&mut self, run: &Run, agents: &[Rc<Member>]) -> Option<Rc<Member>> {
        if let Some(slow) = self.slow.pop() {
            return Some(slow);
        }
        let free: BTreeSet<Option<u16>> = free(run, agents).map(|agent| agent.shard(run)).collect();
        let filled = self.by_shard.iter_mut().filter(|(_, visitors)| !visitors.is_empty());
        filled
            .max_by_key(|(shard, visitors)| (free.iter().any(|free| free != *shard), visitors.len()))?
            .1
            .pop()
    }

    /// Those who never talk.
    fn rest(self) -> Vec<Rc<Member>> {
        self.by_shard.into_values().flatten().chain(self.slow).collect()
    }
}

/// Agents who take one more conversation.
fn free<'a>(run: &Run, agents: &'a [Rc<Member>]) -> impl Iterator<Item = &'a Rc<Member>> {
    let per_agent = run.share.scenario.chats_per_agent as usize;
    agents.iter().filter(move |agent| agent.chats.borrow().len() < per_agent)
}

/// A visitor begins a conversation, and an agent takes it: one on another shard, where there is one.
async fn begin(
    run: &Rc<Run>,
    number: u32,
    visitor: &Rc<Member>,
    agents: &[Rc<Member>],
) -> Result<Rc<Chat>, String> {
    let shard = visitor.shard(run);
    let agent = free(run, agents)
        .find(|agent| agent.shard(run) != shard)
        .or_else(|| free(run, agents).next())
        .ok_or("there are too few agents")?;
    let worker = run.share.worker;
    let answer = visitor
        .ask(
            "start",
            &format!(
                "{{\"cid\":\"bench-start-{worker:04}-{number:08}\",\"first\":{{\"cid\":\"bench-first-{worker:04}-{number:08}\",\"type\":\"text\",\"body\":\"{GREETING}\"}}}}"
            ),
        )
        .await?;
    let c = field(&answer, "c").ok_or_else(|| format!("start: {answer}"))?.to_owned();
    // The queue learns of a conversation a moment after its first word is durable.
    let mut tries = 0;
    loop {
        let d = format!("{{\"c\":\"{c}\",\"cid\":\"bench-accept-{number:08}-{tries:04}\"}}");
        let answer = agent.ask("accept", &d).await?;
        if !answer.contains("\"err\":") {
            break;
        }
        tries += 1;
        if tries > 400 {
            return Err(format!("accept: {answer}"));
        }
        monoio::time::sleep(Duration::from_millis(5)).await;
    }
    let chat = Rc::new(Chat {
        c: c.clone(),
        visitor: Rc::clone(visitor),
        agent: Rc::clone(agent),
        sides: RefCell::default(),
        crosses: agent.shard(run) != shard,
    });
    visitor.chats.borrow_mut().insert(c.clone(), Rc::clone(&chat));
    agent.chats.borrow_mut().insert(c.clone(), Rc::clone(&chat));
    agent.ask("sync", &format!("{{\"cursors\":[{{\"c\":\"{c}\",\"s\":2}}]}}")).await?;
    Ok(chat)
}
