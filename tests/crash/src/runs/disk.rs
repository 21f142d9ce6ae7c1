//! Bad disks, on small file systems of their own, under load. Whatever happens, what was acknowledged is there in the end.

mod surgery;

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crash::chance::Chance;
use crash::mount::{self, Disk};
use crash::readback::Reader;
use crash::rig::Rig;
use crash::server::{Plan, Server};
use crash::volatile::{Fault, Volatile};

use super::report::{Tally, clean, manners, plan};
use crate::Common;

/// Exit statuses of docs/operations.md that are expected here.
const FENCED: i32 = 70;
const LOCKED: i32 = 72;

/// Clients and messages per second of these tests: enough to be in the middle of something at any time.
const CLIENTS: u16 = 30;
const RATE: f64 = 500.0;

pub(crate) async fn run(common: Common, only: &str) -> Result<Tally, String> {
    let mut tally = Tally::default();
    macro_rules! test {
        ($name:literal, $test:path) => {
            if $name.contains(only) {
                let name = $name.replace(' ', "-");
                let plan = plan(&common, &name)?;
                let work_dir = plan.work_dir.clone();
                std::fs::create_dir_all(&work_dir).map_err(|error| error.to_string())?;
                let outcome = $test(&common, plan).await;
                tally.count($name, &outcome);
                clean(outcome.is_ok(), &work_dir);
            }
        };
    }
    test!("full disk", full_disk);
    test!("full journal budget", full_budget);
    test!("failing flush", failing_flush);
    test!("failing write", failing_write);
    test!("failing device", failing_device);
    test!("mended in place", mended_in_place);
    test!("flush that fails late", failing_late);
    test!("read-only disk", read_only);
    test!("second server", second_server);
    test!("SIGTERM under load", sigterm);
    test!("stuck shard", stuck_shard);
    test!("deleted segment", surgery::deleted);
    test!("truncated segment", surgery::truncated);
    test!("overwritten block", surgery::overwritten);
    test!("destroyed superblock", surgery::superblock);
    Ok(tally)
}

async fn begin(common: &Common, plan: Plan) -> Result<Rig, String> {
    let mut manners = manners(common, CLIENTS, RATE);
    manners.seed ^= 0xd15c;
    let mut rig = Rig::begin(plan, manners).await?;
    rig.talk(Duration::from_secs(2)).await?;
    Ok(rig)
}

/// Judges; `what` is the report if all is well.
async fn finish(rig: Rig, what: String) -> Result<String, String> {
    let world = Rc::clone(&rig.world);
    let verdict = rig.finish().await;
    match verdict.is_good() {
        true => Ok(format!("{what}; {} acknowledged and all there", world.counts.acked.get())),
        false => Err(format!(
            "{what}; {} lost, {} doubled, {} wrong: {}",
            verdict.lost,
            verdict.doubled,
            verdict.wrong,
            verdict.findings.join("\n  ")
        )),
    }
}

/// Waits until somebody is refused with `code`.
async fn refused(rig: &mut Rig, code: &str, time: Duration) -> Result<Duration, String> {
    let began = Instant::now();
    let count = |rig: &Rig| rig.world.refusals.borrow().get(code).copied().unwrap_or(0);
    let before = count(rig);
    while count(rig) == before {
        rig.talk(Duration::from_millis(50)).await?;
        if began.elapsed() > time {
            return Err(format!(
                "nobody was refused with {code} in {} s; refusals: {:?}",
                time.as_secs(),
                rig.world.refusals.borrow()
            ));
        }
    }
    Ok(began.elapsed())
}

/// Waits until something is acknowledged again; how long it took.
async fn acked_again(rig: &mut Rig, time: Duration) -> Result<Duration, String> {
    let began = Instant::now();
    let before = rig.world.counts.acked.get();
    // A refused client waits a little; a handful of acknowledgements is no accident.
    while rig.world.counts.acked.get() < before + 20 {
        rig.talk(Duration::from_millis(20)).await?;
        if began.elapsed() > time {
            return Err(format!(
                "nothing is acknowledged {} s later; refusals: {:?}",
                time.as_secs(),
                rig.world.refusals.borrow()
            ));
        }
    }
    Ok(began.elapsed())
}

/// Reading works: a fresh session of an agent reads the first conversations whole.
async fn reading(rig: &Rig) -> Result<(), String> {
    let mut chance = Chance::new(3);
    let ticket = rig.world.ticket.borrow().clone();
    let mut reader = Reader::open(rig.server.listen(), "/ws/v1/agent?", Some(&ticket), &mut chance).await?;
    let ids: Vec<String> =
        rig.world.conversations.borrow().iter().take(5).map(|conversation| conversation.id.clone()).collect();
    for id in ids {
        let stream = reader.read(&id).await?;
        if stream.is_empty() {
            return Err(format!("{id} is empty"));
        }
    }
    Ok(())
}

async fn full_disk(common: &Common, mut plan: Plan) -> Result<String, String> {
    let disk = Disk::new(&plan.work_dir.join("image"), 160, &plan.work_dir.join("disk"))
        .map_err(|error| error.to_string())?;
    plan.data_dir = disk.point().join("data");
    plan.segment_mb = 1;
    let mut rig = begin(common, plan).await?;
    let filler = disk.fill(300 << 10).map_err(|error| error.to_string())?;
    let after = refused(&mut rig, "storage_full", Duration::from_secs(90)).await?;
    // Full for a while: nothing dies, reading goes on, new sessions come in.
    for _ in 0..10 {
        rig.talk(Duration::from_millis(200)).await?;
        reading(&rig).await.map_err(|error| format!("reading while the disk is full: {error}"))?;
    }
    let pid = rig.server.pid();
    std::fs::remove_file(filler).map_err(|error| error.to_string())?;
    let back = acked_again(&mut rig, Duration::from_secs(30)).await?;
    if rig.server.pid() != pid {
        return Err("the server was restarted".to_owned());
    }
    rig.talk(Duration::from_secs(1)).await?;
    let what = format!(
        "storage_full after {:.1} s, reading went on, {} ms after there was room it went on by itself",
        after.as_secs_f64(),
        back.as_millis()
    );
    let outcome = finish(rig, what).await;
    drop(disk);
    outcome
}

async fn full_budget(common: &Common, mut plan: Plan) -> Result<String, String> {
    plan.segment_mb = 1;
    plan.settings =
        format!("[storage]\njournal_budget_mb = \"{}MiB\"\n", 16.max(4 * u32::from(common.shards)));
    let mut rig = begin(common, plan).await?;
    let after = refused(&mut rig, "storage_full", Duration::from_secs(120)).await?;
    rig.talk(Duration::from_millis(500)).await?;
    reading(&rig).await.map_err(|error| format!("reading while the journal is full: {error}"))?;
    // More room is a matter of the configuration.
    rig.server.kill().map_err(|error| error.to_string())?;
    rig.server.configure("[storage]\njournal_budget_mb = \"1GiB\"\n").map_err(|error| error.to_string())?;
    rig.start().await?;
    acked_again(&mut rig, Duration::from_secs(30)).await?;
    finish(rig, format!("storage_full after {:.1} s, reading went on", after.as_secs_f64())).await
}

async fn failing_flush(common: &Common, plan: Plan) -> Result<String, String> {
    failing(common, plan, Fault::Flush).await
}

async fn failing_write(common: &Common, plan: Plan) -> Result<String, String> {
    failing(common, plan, Fault::Write).await
}

async fn failing_device(common: &Common, plan: Plan) -> Result<String, String> {
    failing(common, plan, Fault::Both).await
}

/// The device fails under load, for everybody and until it is mended. (A loop device on a full file system fails too, but tells the error only to whoever
/// flushes first: when that is the database, the journal's flush succeeds and its data are gone. No server can survive that lie.)
async fn failing(common: &Common, mut plan: Plan, fault: Fault) -> Result<String, String> {
    let mut told = Vec::new();
    let work_dir = plan.work_dir.clone();
    let device = Volatile::new(&work_dir.join("image"), 256, &work_dir.join("device"))
        .map_err(|error| error.to_string())?;
    let mut disk = Disk::on(device.file(), &work_dir.join("disk")).map_err(|error| error.to_string())?;
    plan.data_dir = disk.point().join("data");
    // One way of writing the journal, and then the other.
    plan.settings = "[storage]\nsync = \"direct\"\n".to_owned();
    let mut rig = begin(common, plan).await?;
    for next in ["buffered", "auto"] {
        device.fail(fault);
        let began = Instant::now();
        let ended = rig.server.wait(Duration::from_secs(30)).await;
        let status = ended.map_err(|error| format!("{error}\n{}", rig.server.log_tail()))?;
        told.push(format!("{} ms", began.elapsed().as_millis()));
        if status.code() != Some(FENCED) {
            return Err(format!("ended with {status} and not {FENCED}\n{}", rig.server.log_tail()));
        }
        disk.reattach(|| device.mend()).map_err(|error| error.to_string())?;
        heal(&mut disk)?;
        let settings = format!("[storage]\nsync = \"{next}\"\n");
        rig.server.configure(&settings).map_err(|error| error.to_string())?;
        rig.start().await?;
        acked_again(&mut rig, Duration::from_secs(30)).await?;
    }
    let fences = rig.server.log().matches("is fenced").count();
    if fences < 2 {
        return Err(format!("{fences} fences are in the log\n{}", rig.server.log_tail()));
    }
    let outcome = finish(rig, format!("fenced after {}", told.join(" and "))).await;
    drop(disk);
    outcome
}

/// The places where the journal lies fail, and work again before the next start; nothing is mounted anew. After such a write-back Linux keeps the pages and
/// calls them clean: they read back right, and the device does not have them. Who believes them tells what is gone after the next loss of memory.
async fn mended_in_place(common: &Common, mut plan: Plan) -> Result<String, String> {
    let work_dir = plan.work_dir.clone();
    let said = |error: std::io::Error| error.to_string();
    let device = Volatile::new(&work_dir.join("image"), 256, &work_dir.join("device")).map_err(said)?;
    let disk = Disk::on(device.file(), &work_dir.join("disk")).map_err(said)?;
    plan.data_dir = disk.point().join("data");
    plan.settings = "[storage]\nsync = \"buffered\"\n".to_owned();
    let data_dir = plan.data_dir.clone();
    let mut rig = begin(common, plan).await?;
    for _ in 0..3 {
        rig.talk(Duration::from_secs(1)).await?;
        device.fail_at(places_of_journal(&disk, &data_dir)?);
        let ended = rig.server.wait(Duration::from_secs(30)).await;
        let status = ended.map_err(|error| format!("{error}\n{}", rig.server.log_tail()))?;
        if status.code() != Some(FENCED) {
            return Err(format!("ended with {status} and not {FENCED}\n{}", rig.server.log_tail()));
        }
        device.mend();
        rig.start().await?;
        acked_again(&mut rig, Duration::from_secs(30)).await?;
        rig.server.kill().map_err(said)?;
        mount::drop_caches().map_err(said)?;
        rig.start().await?;
    }
    let outcome = finish(rig, "3 times fenced, mended in place, and without memory of it".to_owned()).await;
    drop(disk);
    outcome
}

/// Where all segments lie on the device.
fn places_of_journal(disk: &Disk, data_dir: &Path) -> Result<Vec<Range<u64>>, String> {
    let mut places = Vec::new();
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "seg");
    for segment in surgery::find(data_dir, &is_segment) {
        places.extend(disk.places(&segment).map_err(|error| error.to_string())?);
    }
    Ok(places)
}

/// At level memory words are acknowledged before they are flushed. When that flush fails they are gone, under a kernel that lives on: whoever was told them must
/// learn that this is another history, and what was flushed before must be there.
async fn failing_late(common: &Common, mut plan: Plan) -> Result<String, String> {
    let work_dir = plan.work_dir.clone();
    let said = |error: std::io::Error| error.to_string();
    let device = Volatile::new(&work_dir.join("image"), 256, &work_dir.join("device")).map_err(said)?;
    let disk = Disk::on(device.file(), &work_dir.join("disk")).map_err(said)?;
    plan.data_dir = disk.point().join("data");
    (plan.durability, plan.segment_mb) = ("memory", 1);
    let data_dir = plan.data_dir.clone();
    let mut manners = manners(common, CLIENTS, 2.0 * RATE);
    manners.level = "memory";
    let mut rig = Rig::begin(plan, manners).await?;
    rig.talk(Duration::from_secs(2)).await?;
    device.fail_at(places_of_journal(&disk, &data_dir)?);
    // A checkpoint that passes a segment is the first to want a flush.
    let ended = rig.server.wait(Duration::from_secs(60)).await;
    let status = ended.map_err(|error| format!("{error}\n{}", rig.server.log_tail()))?;
    if status.code() != Some(FENCED) {
        return Err(format!("ended with {status} and not {FENCED}\n{}", rig.server.log_tail()));
    }
    device.mend();
    // That history has changed is told to every client, and is right this time.
    rig.world.quiet.set(true);
    rig.start().await?;
    rig.talk(Duration::from_secs(2)).await?;
    let log = rig.server.log();
    for words in ["may be gone with the flush that failed", "history may have been rewound"] {
        if !log.contains(words) {
            return Err(format!("the log does not say: {words}\n{}", rig.server.log_tail()));
        }
    }
    match rig.world.complaints.borrow().iter().find(|what| what.contains("is unsaid")) {
        Some(unsaid) => Err(format!("heads go back within one history epoch: {unsaid}")),
        None => Ok(format!(
            "{} acknowledged; who was told what is gone is told that too",
            rig.world.counts.acked.get()
        )),
    }
}

fn heal(disk: &mut Disk) -> Result<(), String> {
    disk.unmount().and_then(|()| disk.repair()).and_then(|()| disk.mount()).map_err(|error| error.to_string())
}

async fn read_only(common: &Common, mut plan: Plan) -> Result<String, String> {
    let mut disk = Disk::new(&plan.work_dir.join("image"), 256, &plan.work_dir.join("disk"))
        .map_err(|error| error.to_string())?;
    plan.data_dir = disk.point().join("data");
    let mut rig = begin(common, plan).await?;
    disk.turn_read_only().map_err(|error| error.to_string())?;
    let began = Instant::now();
    let status = rig
        .server
        .wait(Duration::from_secs(30))
        .await
        .map_err(|error| format!("{error}\n{}", rig.server.log_tail()))?;
    let after = began.elapsed();
    if status.code() != Some(FENCED) {
        return Err(format!("ended with {status} and not {FENCED}\n{}", rig.server.log_tail()));
    }
    // While it is read-only no start may look as if it worked.
    rig.server.start().map_err(|error| error.to_string())?;
    let status = rig
        .server
        .wait(Duration::from_secs(20))
        .await
        .map_err(|error| format!("on a read-only disk: {error}"))?;
    if status.success() || status.code().is_none() {
        return Err(format!("a start on a read-only disk ended with {status}"));
    }
    heal(&mut disk)?;
    rig.start().await?;
    acked_again(&mut rig, Duration::from_secs(30)).await?;
    let outcome = finish(
        rig,
        format!("fenced {} ms after the remount; a start on it ends with {status}", after.as_millis()),
    )
    .await;
    drop(disk);
    outcome
}

async fn second_server(common: &Common, plan: Plan) -> Result<String, String> {
    let mut rig = begin(common, plan.clone()).await?;
    let second = Plan { work_dir: plan.work_dir.join("second"), ..plan };
    let mut second = Server::new(second).map_err(|error| error.to_string())?;
    second.start().map_err(|error| error.to_string())?;
    let began = Instant::now();
    let status = loop {
        rig.talk(Duration::from_millis(20)).await?;
        if let Some(status) = second.ended().map_err(|error| error.to_string())? {
            break status;
        }
        if began.elapsed() > Duration::from_secs(20) {
            return Err("a second server on the same data goes on".to_owned());
        }
    };
    if status.code() != Some(LOCKED) {
        return Err(format!("the second server ended with {status} and not {LOCKED}\n{}", second.log_tail()));
    }
    acked_again(&mut rig, Duration::from_secs(5)).await?;
    finish(rig, format!("the second was refused after {:.1} s", began.elapsed().as_secs_f64())).await
}

async fn sigterm(common: &Common, plan: Plan) -> Result<String, String> {
    // As much as clients and server manage on the cores that there are: a stop is to come while frames wait.
    let mut manners = manners(common, 100, 10_000.0);
    manners.seed ^= 0x7e57;
    let mut rig = Rig::begin(plan, manners).await?;
    let (mut longest, mut slowest) = (Duration::ZERO, f64::INFINITY);
    for _ in 0..3 {
        let (before, began) = (rig.world.counts.acked.get(), Instant::now());
        rig.talk(Duration::from_secs(2)).await?;
        let acked = rig.world.counts.acked.get() - before;
        slowest = slowest.min(acked as f64 / began.elapsed().as_secs_f64());
        let ends = |rig: &Rig, how: &str| rig.world.ends.borrow().get(how).copied().unwrap_or(0);
        let (told, cut) = (ends(&rig, "1001"), ends(&rig, "cut"));
        longest = longest.max(rig.stop().await?);
        rig.verify()?;
        let (told, cut) = (ends(&rig, "1001") - told, ends(&rig, "cut") - cut);
        if told < 95 {
            return Err(format!("of 100 sockets {told} were closed with 1001 ({cut} ended without a close)"));
        }
        rig.start().await?;
    }
    finish(
        rig,
        format!(
            "3 times at {slowest:.0} acknowledged messages a second and more, {:.2} s at most, sealed, sockets closed with 1001",
            longest.as_secs_f64()
        ),
    )
    .await
}

/// One thread of the server stands still. The others go on meanwhile; the watchdog sees it, says so, and ends the process.
async fn stuck_shard(common: &Common, plan: Plan) -> Result<String, String> {
    const WATCHDOG: i32 = 73;
    let mut rig = begin(common, plan).await?;
    let pid = rig.server.pid().ok_or("the server does not run")?;
    let thread = shard_thread(pid).ok_or("no thread of the server is called after a shard")?;
    let began = Instant::now();
    stop_thread(thread).map_err(|error| format!("a thread cannot be stopped: {error}"))?;
    let status = loop {
        // The dead thread of a traced process must be waited for, or the process cannot be.
        reap_thread(thread);
        if let Some(status) = rig.server.ended().map_err(|error| error.to_string())? {
            break status;
        }
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("goes on without one of its shards\n{}", rig.server.log_tail()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let after = began.elapsed();
    if status.code() != Some(WATCHDOG) {
        return Err(format!(
            "ended with {status} and not {WATCHDOG} after {:.1} s\n{}",
            after.as_secs_f64(),
            rig.server.log_tail()
        ));
    }
    if !(Duration::from_secs(8)..Duration::from_secs(15)).contains(&after) {
        return Err(format!("ended after {:.1} s and not after ten", after.as_secs_f64()));
    }
    rig.start().await?;
    finish(rig, format!("ended with {WATCHDOG} after {:.1} s", after.as_secs_f64())).await
}

fn shard_thread(pid: u32) -> Option<i32> {
    let mut threads: Vec<(String, i32)> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            Some((name.trim().to_owned(), entry.file_name().to_str()?.parse().ok()?))
        })
        .collect();
    threads.sort();
    threads.into_iter().find(|(name, _)| name.starts_with("shard")).map(|(_, id)| id)
}

fn stop_thread(thread: i32) -> std::io::Result<()> {
    let check = |done: libc::c_long| if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_SEIZE reads no memory of ours; the thread is our child's.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) })?;
    // SAFETY: PTRACE_INTERRUPT reads no memory of ours; the thread was seized above.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) })
}

fn reap_thread(thread: i32) {
    // SAFETY: without a place for the status nothing is written; the thread was seized by this one.
    unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
}

/// Copies a data directory, holes as holes.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let output = std::process::Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from)
        .arg(to)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
