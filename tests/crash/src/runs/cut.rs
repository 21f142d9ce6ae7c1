//! Power cuts, in two ways. Either ext4 on a loop device is shut down without a flush of its log, so that whatever lies in the kernel's memory is gone;
//! or the device under it forgets what was not flushed, some sectors of it at random. Then the server is killed, and the next mount replays what is left.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use crash::chance::Chance;
use crash::mount::{self, Disk};
use crash::rig::Rig;
use crash::volatile::{Kept, Volatile};

use super::kill::roll;
use super::report::{SYNC, Tally, Totals, clean, manners, plan};
use crate::Loop;

/// What a cut takes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum How {
    /// What the file system has not written
    Shutdown,
    /// What the device has not flushed
    Cache,
    /// One half of the cuts this way, the other half that way
    Both,
}

/// What is cut.
struct Power {
    disk: Disk,
    device: Option<Volatile>,
}

impl Power {
    fn new(how: How, dir: &Path, mb: u64) -> std::io::Result<Power> {
        let point = dir.join("disk");
        if how == How::Shutdown {
            return Ok(Power { disk: Disk::new(&dir.join("image"), mb, &point)?, device: None });
        }
        let device = Volatile::new(&dir.join("image"), mb, &dir.join("device"))?;
        Ok(Power { disk: Disk::on(device.file(), &point)?, device: Some(device) })
    }

    /// The power goes; what that did, in words.
    fn cut(&self, expect_loss: bool, chance: &mut Chance) -> std::io::Result<String> {
        let Some(device) = &self.device else {
            self.disk.cut()?;
            return Ok("shut down".to_owned());
        };
        let kept = match expect_loss {
            // Half of everything since the first flush that was ignored would be no file system.
            true => Kept::Nothing,
            false => [Kept::Nothing, Kept::Sectors, Kept::Blocks, Kept::All][chance.below(4) as usize],
        };
        let (count, left) = device.cut(kept, chance)?;
        Ok(format!("{left} of {count} unflushed sectors kept, {} flushes so far", device.flushes()))
    }

    /// The power is back. Nothing of before is in the kernel's memory any more.
    fn restore(&mut self) -> std::io::Result<()> {
        match &self.device {
            None => {
                self.disk.unmount()?;
                self.disk.mount()
            }
            Some(device) => self.disk.reattach(|| device.restore()),
        }
    }
}

pub(crate) async fn run(run: Loop, how: How, expect_loss: bool, disk_mb: u64) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let halves: &[(How, u32)] = match how {
        How::Both => &[(How::Shutdown, run.cycles.div_ceil(2)), (How::Cache, run.cycles / 2)],
        one => &[(one, run.cycles)],
    };
    for &(how, cycles) in halves {
        let run = Loop { cycles, ..run.clone() };
        half(&run, how, expect_loss, disk_mb, &mut tally).await?;
    }
    Ok(tally)
}

async fn half(
    run: &Loop,
    how: How,
    expect_loss: bool,
    disk_mb: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut totals = Totals::default();
    let (mut round, mut losing) = (0, 0);
    while totals.crashes < run.cycles {
        // What is not flushed is to be missed after each cut, so each is judged by itself.
        let most = if expect_loss { 1 } else { run.round };
        let cycles = most.min(run.cycles - totals.crashes);
        let lost = totals.lost;
        round += 1;
        one_round(run, round, cycles, (how, expect_loss, disk_mb), &mut totals).await?;
        losing += u32::from(totals.lost > lost);
    }
    let kind = format!("cut by {how:?}{}", if expect_loss { ", no flush" } else { "" });
    println!("{}", totals.json(&kind, run));
    let said = format!(
        "{} acknowledged, {} lost, {} doubled, {} wrong",
        totals.acked, totals.lost, totals.doubled, totals.wrong
    );
    // Without a flush a cut may find everything on the disk by luck, but not most of them.
    let good = if expect_loss { losing * 2 > round } else { totals.is_good() };
    let name = match expect_loss {
        true => format!("{} power cuts ({how:?}) without flush must lose, and {losing} did", totals.crashes),
        false => format!("{} power cuts ({how:?}), {} shards", totals.crashes, run.common.shards),
    };
    tally.count(&name, &if good { Ok(said) } else { Err(said) });
    Ok(())
}

async fn one_round(
    run: &Loop,
    round: u32,
    cycles: u32,
    (how, expect_loss, disk_mb): (How, bool, u64),
    totals: &mut Totals,
) -> Result<(), String> {
    let mut chance = Chance::new(run.common.seed).fork(u64::from(round));
    let mut plan = plan(&run.common, &format!("cut-{round}"))?;
    std::fs::create_dir_all(&plan.work_dir).map_err(|error| error.to_string())?;
    let mut power = Power::new(how, &plan.work_dir, disk_mb).map_err(|error| error.to_string())?;
    plan.data_dir = power.disk.point().join("data");
    plan.segment_mb = [1, 2, 4][chance.below(3) as usize];
    let sync = SYNC[chance.below(3) as usize];
    plan.settings = format!("[storage]\nsync = \"{sync}\"\njournal_budget_mb = \"{}MiB\"\n", disk_mb * 4 / 5);
    let mut manners = manners(&run.common, run.clients, run.rate);
    manners.seed = chance.bits();
    if expect_loss && how == How::Shutdown {
        (plan.durability, manners.level) = ("memory", "memory");
    }
    let (work_dir, data_dir) = (plan.work_dir.clone(), plan.data_dir.clone());
    println!("round {round}: sync = {sync}, segments of {} MiB", plan.segment_mb);
    let mut rig = Rig::begin(plan, manners).await?;
    let world = Rc::clone(&rig.world);
    if let Some(device) = power.device.as_ref().filter(|_| expect_loss) {
        // What the server, or whoever builds it, leaves out is left out below it.
        mount::sync(power.disk.point()).map_err(|error| error.to_string())?;
        device.deafen();
    }
    let mut trouble = Vec::new();
    for cycle in 0..cycles {
        let time = Duration::from_secs_f64(run.seconds_per_cycle);
        let time = time / 4 + chance.time(time * 3 / 4);
        let (before, began) = (world.counts.acked.get(), Instant::now());
        let rolling = chance.often(300);
        let talked = match rolling {
            // Right after a file was made or a superblock written.
            true => roll(&mut rig, time, &data_dir).await,
            false => rig.talk(time).await.map(|()| false),
        };
        match talked {
            Ok(rolled) => totals.rolling += u32::from(rolled),
            Err(what) => trouble.push(what),
        }
        totals.loaded += began.elapsed();
        world.pass();
        let at_cut = world.counts.acked.get();
        let what = power.cut(expect_loss, &mut chance).map_err(|error| error.to_string())?;
        // Mostly the server sees its disk fail before it is gone. Whatever it acknowledges now is held against it.
        let left = if chance.often(500) { Duration::ZERO } else { chance.time(Duration::from_millis(200)) };
        tokio::time::sleep(left).await;
        rig.server.kill().map_err(|error| error.to_string())?;
        totals.crashes += 1;
        power = tokio::task::spawn_blocking(move || power.restore().map(|()| power))
            .await
            .expect("mounting does not panic")
            .map_err(|error| error.to_string())?;
        // Some power comes back only to go again.
        if chance.often(150) && cycle + 1 < cycles {
            rig.server.start().map_err(|error| error.to_string())?;
            tokio::time::sleep(chance.time(Duration::from_millis(300))).await;
            println!(
                "cycle {}: cut after {:.2} s ({what}) and again while recovering; acked {at_cut} (+{})",
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
                    "cycle {}: cut after {:.2} s ({what}); acked {at_cut} (+{}); served again: {:.1} ms",
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
    drop(power);
    clean(verdict.is_good() || expect_loss, &work_dir);
    Ok(())
}
