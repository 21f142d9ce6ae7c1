//! Power cuts: ext4 on a loop device is shut down without a flush of its log, the server is killed, and the next mount replays what was flushed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crash::chance::Chance;
use crash::mount::Disk;
use crash::rig::Rig;

use super::report::{Tally, Totals, clean, manners, plan};
use crate::Loop;

pub(crate) async fn run(run: Loop, expect_loss: bool, disk_mb: u64) -> Result<Tally, String> {
    let mut totals = Totals::default();
    let mut round = 0;
    while totals.crashes < run.cycles {
        let cycles = run.round.min(run.cycles - totals.crashes);
        round += 1;
        one_round(&run, round, cycles, expect_loss, disk_mb, &mut totals).await?;
    }
    let kind = if expect_loss { "cut without flush" } else { "cut" };
    println!("{}", totals.json(kind, &run));
    let said = format!(
        "{} acknowledged, {} lost, {} doubled, {} wrong",
        totals.acked, totals.lost, totals.doubled, totals.wrong
    );
    let good = if expect_loss { totals.lost > 0 } else { totals.is_good() };
    let mut tally = Tally::default();
    let name = match expect_loss {
        true => format!("{} power cuts without flush must lose", totals.crashes),
        false => format!("{} power cuts, {} shards", totals.crashes, run.common.shards),
    };
    tally.count(&name, &if good { Ok(said) } else { Err(said) });
    Ok(tally)
}

async fn one_round(
    run: &Loop,
    round: u32,
    cycles: u32,
    expect_loss: bool,
    disk_mb: u64,
    totals: &mut Totals,
) -> Result<(), String> {
    let mut chance = Chance::new(run.common.seed).fork(u64::from(round));
    let mut plan = plan(&run.common, &format!("cut-{round}"))?;
    std::fs::create_dir_all(&plan.work_dir).map_err(|error| error.to_string())?;
    let mut disk = Disk::new(&plan.work_dir.join("image"), disk_mb, &plan.work_dir.join("disk"))
        .map_err(|error| error.to_string())?;
    plan.data_dir = disk.point().join("data");
    plan.segment_mb = [1, 2, 4][chance.below(3) as usize];
    plan.settings = format!("[storage]\njournal_budget_mb = \"{}MiB\"\n", disk_mb * 4 / 5);
    let mut manners = manners(&run.common, run.clients, run.rate);
    manners.seed = chance.bits();
    if expect_loss {
        (plan.durability, manners.level) = ("memory", "memory");
    }
    let work_dir = plan.work_dir.clone();
    let mut rig = Rig::begin(plan, manners).await?;
    let world = Rc::clone(&rig.world);
    let mut trouble = Vec::new();
    for cycle in 0..cycles {
        let time = Duration::from_secs_f64(run.seconds_per_cycle);
        let time = time / 4 + chance.time(time * 3 / 4);
        let (before, began) = (world.counts.acked.get(), Instant::now());
        if let Err(what) = rig.talk(time).await {
            trouble.push(what);
        }
        totals.loaded += began.elapsed();
        world.pass();
        let at_cut = world.counts.acked.get();
        disk.cut().map_err(|error| error.to_string())?;
        // Mostly the server sees its disk fail before it is gone. Whatever it acknowledges now is held against it.
        let left = if chance.often(500) { Duration::ZERO } else { chance.time(Duration::from_millis(200)) };
        tokio::time::sleep(left).await;
        rig.server.kill().map_err(|error| error.to_string())?;
        totals.crashes += 1;
        let mut disk_again = disk;
        disk = tokio::task::spawn_blocking(move || {
            disk_again.unmount()?;
            disk_again.mount()?;
            Ok::<Disk, std::io::Error>(disk_again)
        })
        .await
        .expect("mounting does not panic")
        .map_err(|error| error.to_string())?;
        // Some power comes back only to go again.
        if chance.often(150) && cycle + 1 < cycles {
            rig.server.start().map_err(|error| error.to_string())?;
            tokio::time::sleep(chance.time(Duration::from_millis(300))).await;
            println!(
                "cycle {}: cut after {:.2} s and again while recovering; acked {at_cut} (+{})",
                totals.crashes,
                time.as_secs_f64(),
                at_cut - before
            );
            continue;
        }
        match rig.start().await {
            Ok(served) => {
                totals.served.push(served);
                println!(
                    "cycle {}: cut after {:.2} s; acked {at_cut} (+{}); served again: {:.1} ms",
                    totals.crashes,
                    time.as_secs_f64(),
                    at_cut - before,
                    served.as_secs_f64() * 1e3
                );
            }
            Err(what) => {
                println!("cycle {}: {what}", totals.crashes);
                trouble.push(what);
                break;
            }
        }
    }
    totals.start_retries += rig.start_retries;
    let mut verdict = match rig.serving().await {
        Ok(_) if !expect_loss => rig.finish().await,
        // What is lost confuses clients and is found all the same.
        Ok(_) => {
            let _ = rig.settle().await;
            rig.judge(Vec::new()).await
        }
        Err(what) => {
            trouble.push(what);
            rig.judge(Vec::new()).await
        }
    };
    verdict.wrong += trouble.len() as u64;
    verdict.findings.splice(0..0, trouble);
    totals.add(&world, &verdict);
    drop(disk);
    clean(verdict.is_good() || expect_loss, &work_dir);
    Ok(())
}
