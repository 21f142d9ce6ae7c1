//! A durable message from a visitor to an agent on another shard, open loop. The schedule is fixed; the runtime's timer ticks every millisecond, so latency
//! counts from the moment of sending and the lag behind the schedule is reported beside it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::{Client, field, is_durable};
use crate::floor;
use crate::server::Server;

/// What to do.
pub(crate) struct Plan {
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    pub(crate) visitors: u32,
    pub(crate) shards: u16,
    pub(crate) durability: String,
}

/// What was measured.
struct Measured {
    to_agent: Histogram<u64>,
    to_answer: Histogram<u64>,
    sent: u64,
    received: u64,
    answered: u64,
    late: Histogram<u64>,
}

pub(crate) fn run(bin: &Path, dir: &Path, plan: &Plan) -> Result<(), String> {
    if plan.shards < 2 {
        return Err("an agent on another shard needs at least 2 shards".into());
    }
    let side = Duration::from_secs(2);
    let mut disk = floor::disk(dir, side)?;
    let mut ping = floor::ping_pong(side)?;
    let server = Server::start(bin, dir, plan.shards, &plan.durability, &[])?;
    let ticket = server.ticket()?;
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| error.to_string())?;
    let measured = runtime.block_on(talk(&server, &ticket, plan))?;
    drop(server);
    disk.add(floor::disk(dir, side)?).map_err(|error| error.to_string())?;
    ping.add(floor::ping_pong(side)?).map_err(|error| error.to_string())?;

    println!(
        "durable 1:1, visitor to an agent on another shard, level {}, {} msg/s, {} shards, loopback",
        plan.durability, plan.rate, plan.shards
    );
    println!("{}", floor::line("disk 4 KiB O_DIRECT|O_DSYNC", &disk));
    println!("{}", floor::line("ping-pong 64 B", &ping));
    println!("{}", floor::line("visitor to agent", &measured.to_agent));
    println!("{}", floor::line("visitor to its answer", &measured.to_answer));
    println!("{}", floor::line("schedule lag", &measured.late));
    let at = |times: &Histogram<u64>| times.value_at_quantile(0.5) as f64 / 1000.0;
    let bound = match plan.durability.as_str() {
        "disk" => 1.5 * at(&disk) + 4.0 * at(&ping),
        _ => 4.0 * at(&ping),
    };
    let got = at(&measured.to_agent);
    let verdict = if got <= bound { "within" } else { "ABOVE" };
    println!(
        "p50 {got:.1} µs is {verdict} the goal of {bound:.1} µs ({:.2} of it); crossed shards: 100 %",
        got / bound
    );
    if measured.received != measured.sent || measured.answered != measured.sent {
        return Err(format!(
            "sent {}, answered {}, received {}",
            measured.sent, measured.answered, measured.received
        ));
    }
    Ok(())
}

async fn talk(server: &Server, ticket: &str, plan: &Plan) -> Result<Measured, String> {
    let mut agent = Client::agent(server.address, ticket, 0).await?;
    agent.writer.text(r#"{"id":2,"op":"avail","d":{"state":"busy","cap":500}}"#).await?;
    agent.answer(2).await?;
    let shard_of = |slot: u16| slot % plan.shards;
    let mut visitors = Vec::new();
    for number in 0.. {
        let mut visitor = Client::visitor(server.address, &server.inbox, number).await?;
        if shard_of(visitor.slot) == shard_of(agent.slot) {
            continue;
        }
        let c = visitor.start(number).await?;
        accept(&mut agent, &c, number).await?;
        visitors.push((visitor, c));
        if visitors.len() == plan.visitors as usize {
            break;
        }
    }
    let measured = Rc::new(RefCell::new(Measured {
        to_agent: floor::histogram(),
        to_answer: floor::histogram(),
        sent: 0,
        received: 0,
        answered: 0,
        late: floor::histogram(),
    }));
    let epoch = Instant::now();
    monoio::spawn(hear_agent(agent, epoch, Rc::clone(&measured)));
    let mut writers = Vec::new();
    for (visitor, c) in visitors {
        let Client { writer, reader, told, .. } = visitor;
        let writer = Rc::new(RefCell::new(Some(writer)));
        monoio::spawn(hear_visitor(reader, Rc::clone(&writer), told, epoch, Rc::clone(&measured)));
        writers.push((writer, c));
    }
    let warm_up = plan.rate;
    let count = u64::from(plan.rate) * u64::from(plan.seconds) + u64::from(warm_up);
    let step = Duration::from_secs(1) / plan.rate;
    for number in 0..count {
        let intended = epoch + step * number as u32;
        while Instant::now() < intended {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        if number == u64::from(warm_up) {
            let mut measured = measured.borrow_mut();
            measured.to_agent.reset();
            measured.to_answer.reset();
            measured.late.reset();
        }
        let at = epoch.elapsed().as_nanos() as u64;
        let (writer, c) = &writers[number as usize % writers.len()];
        let text = format!(
            r#"{{"id":{},"op":"send","d":{{"c":"{c}","cid":"bench-{number:016}","type":"text","body":"at {at:016} It has been raining here since the morning, and the parcel is still not there. Could you please look where it is?"}}}}"#,
            at / 1000 % 1_000_000_000 + 1_000_000_000
        );
        let mut taken = loop {
            // Taken in a statement of its own: the borrow must not live through the wait.
            let free = writer.borrow_mut().take();
            match free {
                Some(writer) => break writer,
                None => monoio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let late = Instant::now().duration_since(intended).as_nanos() as u64;
        let sent = taken.text(&text).await;
        *writer.borrow_mut() = Some(taken);
        sent?;
        let mut measured = measured.borrow_mut();
        measured.sent += 1;
        measured.late.saturating_record(late.max(1));
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let done = {
            let measured = measured.borrow();
            measured.received == measured.sent && measured.answered == measured.sent
        };
        if done {
            break;
        }
        monoio::time::sleep(Duration::from_millis(5)).await;
    }
    let fresh = Measured {
        to_agent: floor::histogram(),
        to_answer: floor::histogram(),
        sent: 0,
        received: 0,
        answered: 0,
        late: floor::histogram(),
    };
    Ok(measured.replace(fresh))
}

async fn accept(agent: &mut Client, c: &str, number: u32) -> Result<(), String> {
    // The queue learns of a conversation a moment after its first word is durable.
    let mut tries = 0;
    loop {
        agent
            .writer
            .text(&format!(
                r#"{{"id":3,"op":"accept","d":{{"c":"{c}","cid":"bench-accept-{number:08}-{tries:04}"}}}}"#
            ))
            .await?;
        match agent.answer(3).await {
            Ok(_) => break,
            Err(error) if tries > 200 => return Err(error),
            Err(_) => monoio::time::sleep(Duration::from_millis(5)).await,
        }
        tries += 1;
    }
    agent.writer.text(&format!(r#"{{"id":4,"op":"sync","d":{{"cursors":[{{"c":"{c}","s":2}}]}}}}"#)).await?;
    agent.answer(4).await.map(|_| ())
}

async fn hear_agent(mut agent: Client, epoch: Instant, measured: Rc<RefCell<Measured>>) {
    let mut acked = agent.told;
    while let Ok(text) = agent.reader.text().await {
        if text == "{}" {
            let _ = agent.writer.text("{}").await;
        }
        if !is_durable(&text) {
            continue;
        }
        agent.told += 1;
        if let Some(at) =
            field(&text, "body").and_then(|body| body.get(3..19)).and_then(|at| at.parse::<u64>().ok())
        {
            let now = epoch.elapsed().as_nanos() as u64;
            let mut measured = measured.borrow_mut();
            measured.received += 1;
            measured.to_agent.saturating_record(now.saturating_sub(at).max(1));
        }
        if agent.told - acked >= 32 {
            acked = agent.told;
            let _ = agent.writer.text(&format!(r#"{{"op":"ack","d":{{"p":{acked}}}}}"#)).await;
        }
    }
}

async fn hear_visitor(
    mut reader: crate::socket::Reader,
    writer: Rc<RefCell<Option<crate::socket::Writer>>>,
    mut told: u64,
    epoch: Instant,
    measured: Rc<RefCell<Measured>>,
) {
    let mut acked = told;
    while let Ok(text) = reader.text().await {
        if let Some(re) = text
            .strip_prefix("{\"re\":")
            .and_then(|rest| rest.split(',').next())
            .and_then(|re| re.parse::<u64>().ok())
            && re >= 1_000_000_000
        {
            let now = epoch.elapsed().as_nanos() as u64 / 1000 % 1_000_000_000;
            let mut measured = measured.borrow_mut();
            measured.answered += 1;
            measured.to_answer.saturating_record((now.saturating_sub(re - 1_000_000_000) * 1000).max(1));
        }
        told += u64::from(is_durable(&text));
        if text == "{}" || told - acked >= 32 {
            acked = told;
            let free = writer.borrow_mut().take();
            let Some(mut taken) = free else { continue };
            let _ = taken.text(&format!(r#"{{"op":"ack","d":{{"p":{told}}}}}"#)).await;
            *writer.borrow_mut() = Some(taken);
        }
    }
}
