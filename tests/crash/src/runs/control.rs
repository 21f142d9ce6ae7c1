//! The control plane restarts and panics while people talk: nobody's socket notices, and agents come back with the tickets they have.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crash::chance::Chance;
use crash::http;
use crash::readback::Reader;
use crash::rig::Rig;

use super::report::{Tally, Totals, clean, manners, plan};
use crate::Common;

/// So often each way.
const TIMES: u32 = 5;

pub(crate) async fn run(common: Common) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let plan = plan(&common, "control")?;
    let work_dir = plan.work_dir.clone();
    let mut rig = Rig::begin(plan, manners(&common, 40, 400.0)).await?;
    rig.talk(Duration::from_secs(2)).await?;
    for (name, fields) in [("restart", ""), ("panic", "X-How: panic\r\n")] {
        let outcome = restarts(&mut rig, fields, common.seed).await;
        tally.count(&format!("the control plane ends by {name}"), &outcome);
    }
    let world = Rc::clone(&rig.world);
    let verdict = rig.finish().await;
    let mut totals = Totals::default();
    totals.add(&world, &verdict);
    let said = format!(
        "{} acknowledged, {} lost, {} doubled, {} wrong",
        totals.acked, totals.lost, totals.doubled, totals.wrong
    );
    tally.count("nothing is lost", &if verdict.is_good() { Ok(said) } else { Err(said) });
    clean(tally.failed == 0, &work_dir);
    Ok(tally)
}

async fn restarts(rig: &mut Rig, fields: &str, seed: u64) -> Result<String, String> {
    let world = Rc::clone(&rig.world);
    let key = rig.server.admin_key().map_err(|error| format!("admin.key: {error}"))?;
    let fields = format!("Authorization: Bearer {key}\r\n{fields}");
    let mut chance = Chance::new(seed);
    let ended = |world: &crash::world::World| world.ends.borrow().values().sum::<u64>();
    let (ends, acked) = (ended(&world), world.counts.acked.get());
    let mut longest = Duration::ZERO;
    let mut failed_logins = 0;
    for _ in 0..TIMES {
        let answer = loop {
            // The last life may not be there again yet.
            match http::ask(rig.server.admin(), "POST", "/admin/restart-control", &fields, "").await {
                Ok(answer) if answer.status != 503 => break answer,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        if !(200..300).contains(&answer.status) {
            return Err(format!("restart-control: status {}: {}", answer.status, answer.body));
        }
        // Agents and visitors get in at once, whether it is up or not.
        let ticket = world.ticket.borrow().clone();
        for _ in 0..5 {
            let began = Instant::now();
            Reader::open(rig.server.listen(), "/ws/v1/agent?", Some(&ticket), &mut chance)
                .await
                .map_err(|error| format!("an agent with a ticket: {error}"))?;
            let path = format!("/ws/v1/visitor?inbox={}", world.inbox.borrow());
            Reader::open(rig.server.listen(), &path, None, &mut chance)
                .await
                .map_err(|error| format!("a new visitor: {error}"))?;
            longest = longest.max(began.elapsed());
            let before = world.counts.acked.get();
            rig.talk(Duration::from_millis(100)).await?;
            if world.counts.acked.get() == before {
                return Err("nothing was acknowledged for a tenth of a second".to_owned());
            }
        }
        // And in the end people can log in again.
        let began = Instant::now();
        while let Err(error) = http::login(rig.server.listen(), &rig.told.email, &rig.told.password).await {
            failed_logins += 1;
            if began.elapsed() > Duration::from_secs(20) {
                return Err(format!("nobody can log in any more: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let dropped = ended(&world) - ends;
    if dropped > 0 {
        return Err(format!("{dropped} sockets ended: {:?}", world.ends.borrow()));
    }
    let acked = world.counts.acked.get() - acked;
    Ok(format!(
        "{TIMES} times: no socket ended, {acked} acknowledged meanwhile, two sessions opened in {} ms at most, {failed_logins} logins had to be tried again",
        longest.as_millis()
    ))
}
