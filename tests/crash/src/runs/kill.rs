//! kill -9 at any moment: while serving, while recovering, while a segment rolls or a checkpoint turns.

use std::path::Path;
use std::time::{Duration, Instant};

use crash::chance::Chance;
use crash::rig::Rig;

use super::report::{SYNC, Tally, Totals, clean, manners, plan};
use crate::Loop;

/// Of ten kills so many come soon after a start, and so many when files change; by chance a short run might have none of a kind.
const STARTING: usize = 3;
const ROLLING: usize = 2;

/// When the next kill comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After some time of talking.
    Talking(Duration),
    /// So long after the start, whether it serves by then or not.
    Starting(Duration),
    /// When the files of the data directory change next: a segment is made, a superblock written.
    Rolling(Duration),
}

pub(crate) async fn run(run: Loop) -> Result<Tally, String> {
    let mut totals = Totals::default();
    let mut round = 0;
    while totals.crashes < run.cycles {
        let cycles = run.round.min(run.cycles - totals.crashes);
        round += 1;
        one_round(&run, round, cycles, &mut totals).await?;
    }
    println!("{}", totals.json("kill", &run));
    let mut tally = Tally::default();
    let name = format!("kill -9, {} times, {} shards", totals.crashes, run.common.shards);
    let said = format!(
        "{} acknowledged, {} lost, {} doubled, {} wrong",
        totals.acked, totals.lost, totals.doubled, totals.wrong
    );
    tally.count(&name, &if totals.is_good() { Ok(said) } else { Err(said) });
    if run.common.shards > 1 {
        let share = format!("{:.0} % of the messages crossed shards", totals.crossed_share() * 100.0);
        tally.count("crossing", &if totals.crossed_share() >= 0.5 { Ok(share) } else { Err(share) });
    }
    tally.count("load", &totals.load(run.rate));
    if totals.crashes >= 10 {
        let (recovering, rolling) = (totals.recovering, totals.rolling);
        let said = format!(
            "{recovering} kills during recovery, {rolling} when a segment rolled or a checkpoint turned"
        );
        tally.count("moments", &if recovering > 0 && rolling > 0 { Ok(said) } else { Err(said) });
    }
    Ok(tally)
}

async fn one_round(run: &Loop, round: u32, cycles: u32, totals: &mut Totals) -> Result<(), String> {
    let mut chance = Chance::new(run.common.seed).fork(u64::from(round));
    let mut plan = plan(&run.common, &format!("kill-{round}"))?;
    // Small segments roll often.
    plan.segment_mb = [1, 2, 4][chance.below(3) as usize];
    plan.settings = format!("[storage]\nsync = \"{}\"\n", SYNC[chance.below(3) as usize]);
    let (work_dir, data_dir) = (plan.work_dir.clone(), plan.data_dir.clone());
    let mut manners = manners(&run.common, run.clients, run.rate);
    manners.seed = chance.bits();
    let mut rig = Rig::begin(plan, manners).await?;
    let world = std::rc::Rc::clone(&rig.world);
    let mut trouble = Vec::new();
    let mut deck = Vec::new();
    let longest = Duration::from_secs_f64(run.seconds_per_cycle);
    let mut moment = choose(&mut chance, &mut deck, longest);
    for _ in 0..cycles {
        let before = world.counts.acked.get();
        let began = Instant::now();
        match until(&mut rig, moment, &data_dir).await {
            Ok(met) => totals.rolling += u32::from(met && matches!(moment, Moment::Rolling(_))),
            Err(what) => trouble.push(what),
        }
        if matches!(moment, Moment::Starting(_)) {
            totals.recovering += u32::from(!rig.is_ready().await);
        }
        if !matches!(moment, Moment::Starting(_)) {
            totals.loaded += began.elapsed();
        }
        world.pass();
        rig.server.kill().map_err(|error| error.to_string())?;
        totals.crashes += 1;
        let acked = world.counts.acked.get();
        let after = core::mem::replace(&mut moment, choose(&mut chance, &mut deck, longest));
        let mut again = None;
        if !matches!(moment, Moment::Starting(_)) {
            match rig.start().await {
                Ok(time) => {
                    again = Some(time);
                    totals.served.push(time);
                }
                Err(what) => trouble.push(what),
            }
        } else if let Err(error) = rig.server.start() {
            trouble.push(error.to_string());
        }
        let served =
            again.map_or("not waited for".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3));
        println!(
            "cycle {}: {after:?}; acked {acked} (+{}); served again: {served}",
            totals.crashes,
            acked - before
        );
        if trouble.len() > 3 {
            break;
        }
    }
    let mut verdict = match rig.serving().await {
        Ok(_) => rig.finish().await,
        Err(what) => {
            trouble.push(what);
            rig.judge(Vec::new()).await
        }
    };
    verdict.wrong += trouble.len() as u64;
    verdict.findings.splice(0..0, trouble);
    totals.add(&world, &verdict);
    clean(verdict.is_good(), &work_dir);
    Ok(())
}

fn choose(chance: &mut Chance, deck: &mut Vec<usize>, longest: Duration) -> Moment {
    if deck.is_empty() {
        deck.extend(0..10);
    }
    match deck.swap_remove(chance.below(deck.len() as u64) as usize) {
        0..STARTING => Moment::Starting(chance.time(Duration::from_millis(300))),
        card if card < STARTING + ROLLING => Moment::Rolling(longest),
        _ => Moment::Talking(longest / 4 + chance.time(longest * 3 / 4)),
    }
}

/// Waits for the moment; whether it came.
async fn until(rig: &mut Rig, moment: Moment, data_dir: &Path) -> Result<bool, String> {
    match moment {
        Moment::Starting(after) => {
            tokio::time::sleep(after).await;
            rig.is_alive().map(|()| true)
        }
        Moment::Talking(time) => {
            rig.serving().await?;
            rig.talk(time).await.map(|()| true)
        }
        Moment::Rolling(longest) => {
            rig.serving().await?;
            roll(rig, longest * 3, data_dir).await
        }
    }
}

/// Talks until the files of the data directory change, but not longer than `longest`. Whether they did.
pub(super) async fn roll(rig: &mut Rig, longest: Duration, data_dir: &Path) -> Result<bool, String> {
    rig.talk(longest / 4).await?;
    let before = files(data_dir);
    let began = Instant::now();
    while began.elapsed() < longest * 3 / 4 && files(data_dir) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.is_alive()?;
    Ok(files(data_dir) != before)
}

/// Names and sizes of the journals' files, and when the small ones were written: superblocks change when a segment rolls or a checkpoint turns.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, u64, Option<std::time::SystemTime>)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                left.push(path);
            } else if !path.to_string_lossy().contains("control.db") {
                let small = metadata.len() < 256 << 10;
                found.push((path, metadata.len(), metadata.modified().ok().filter(|_| small)));
            }
        }
    }
    found.sort();
    found
}
