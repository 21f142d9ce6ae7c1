//! One worker process: its share of the connections on one pinned core, driven by lines on its standard input, heard by lines on its standard output.

use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::now_ns;
use crate::conn::End;
use crate::figures::Figures;
use crate::member::Reading;
use crate::scenario::{Kind, Scenario, Storm};
use crate::schedule::Schedule;
use crate::{chat, clock, echo};

/// The server that is measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its public listener.
    pub(crate) address: SocketAddr,
    /// An inbox of its site.
    pub(crate) inbox: String,
    /// Agents' tickets; none where no agent is needed.
    pub(crate) tickets: Vec<String>,
    /// How many shards it has, if that is known: then the share of messages that crossed is known too.
    pub(crate) shards: Option<u16>,
}

/// What one worker is to do; the first line of its input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    /// The run.
    pub(crate) scenario: Scenario,
    /// Where.
    pub(crate) target: Target,
    /// Which of how many workers.
    pub(crate) worker: u32,
    /// How many there are.
    pub(crate) workers: u32,
    /// The core it is pinned to.
    pub(crate) core: Option<usize>,
    /// Addresses that its connections come from, by turns; empty = the host's choice.
    pub(crate) sources: Vec<Ipv4Addr>,
    /// Of all chance.
    pub(crate) seed: u64,
}

impl Share {
    /// This worker's part of a number of things, which all workers together have exactly.
    pub(crate) fn part(&self, of: u32) -> u32 {
        of / self.workers + u32::from(self.worker < of % self.workers)
    }

    /// How visitor `number` of this worker reads.
    pub(crate) fn reading(&self, number: u32) -> Reading {
        let (slow, stuck) = (self.part(self.scenario.slow), self.part(self.scenario.stuck));
        match number {
            number if number < slow => Reading::Slowly,
            number if number < slow + stuck => Reading::Not,
            _ => Reading::Well,
        }
    }

    /// Where connection `number` comes from.
    pub(crate) fn source(&self, number: u32) -> Option<Ipv4Addr> {
        (!self.sources.is_empty()).then(|| self.sources[number as usize % self.sources.len()])
    }
}

/// What the coordinator says after the share, a line each.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// Everybody is connected: begin at this time of the monotonic clock.
    Go(u64),
    /// End now, and say what was measured.
    Stop,
}

/// What a worker says, a line each.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Everything so far, once a second.
    Progress(Figures),
    /// All its connections stand.
    Ready(Figures),
    /// It is done, and this is everything.
    Done(Figures),
    /// It could not do its share.
    Failed(String),
}

/// A run in this process.
pub(crate) struct Run {
    /// What to do.
    pub(crate) share: Share,
    /// What was counted.
    pub(crate) figures: RefCell<Figures>,
    /// When it began; `u64::MAX` before.
    pub(crate) start_ns: Cell<u64>,
    /// Set when it is to end before its time.
    stop: Arc<AtomicBool>,
    go_ns: Arc<AtomicU64>,
    chance: Cell<u64>,
    /// A connection that ends is a fault until then.
    pub(crate) ending: Cell<bool>,
}

/// Longest wait for what was sent and is not answered when the time is over.
const SETTLE: Duration = Duration::from_secs(5);

impl Run {
    /// When the measured time begins.
    pub(crate) fn measured_from_ns(&self) -> u64 {
        self.start_ns.get().saturating_add(self.share.scenario.warm_up.as_nanos() as u64)
    }

    /// When nothing more is sent.
    pub(crate) fn end_ns(&self) -> u64 {
        self.measured_from_ns().saturating_add(self.share.scenario.duration.as_nanos() as u64)
    }

    /// When everybody is cut off: a third of the measured time in.
    pub(crate) fn storm_ns(&self) -> u64 {
        self.measured_from_ns().saturating_add(self.share.scenario.storm_after().as_nanos() as u64)
    }

    /// Whether connections end because of this storm.
    pub(crate) fn is_in_storm(&self, storm: Storm) -> bool {
        self.share.scenario.storm == Some(storm) && now_ns() >= self.storm_ns()
    }

    /// How long number `number` waits before it comes back: everybody another part of the scenario's time.
    pub(crate) fn spread(&self, number: u32) -> Duration {
        let part = f64::from(number.wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX);
        self.share.scenario.storm_spread.mul_f64(part)
    }

    /// A number from `low` to `high`.
    pub(crate) fn chance(&self, low: u64, high: u64) -> u64 {
        let mut next = self.chance.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.chance.set(next);
        low + next % (high - low + 1)
    }

    /// A time from `intended_ns` to now, unless it belongs to the warm-up.
    pub(crate) fn time(&self, name: &str, intended_ns: u64) {
        if intended_ns >= self.measured_from_ns() {
            self.figures.borrow_mut().time(name, now_ns().saturating_sub(intended_ns));
        }
    }

    /// A connection ended.
    pub(crate) fn ended(&self, end: &End) {
        if !self.ending.get() {
            let mut figures = self.figures.borrow_mut();
            figures.counts.failed += 1;
            figures.error(end.to_string());
        }
    }

    /// Whether the run is over.
    pub(crate) fn is_over(&self) -> bool {
        self.is_stopped() || now_ns() >= self.end_ns()
    }

    /// Whether it was ended before its time.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for the word to begin.
    pub(crate) async fn go(&self) {
        self.say(|figures| Said::Ready(figures.clone()));
        while self.go_ns.load(Ordering::Acquire) == u64::MAX && !self.is_stopped() {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        self.start_ns.set(self.go_ns.load(Ordering::Acquire));
    }

    /// Rings a bell for every message of this worker's part of the load.
    pub(crate) fn bell(&self) -> std::io::Result<monoio::net::UnixStream> {
        let Share { scenario, worker, workers, seed, .. } = &self.share;
        let (bell, ear) = UnixStream::pair()?;
        clock::ring(
            self.schedule(*worker, *workers, *seed, scenario),
            self.start_ns.get(),
            self.end_ns(),
            bell,
            Arc::clone(&self.stop),
        );
        ear.set_nonblocking(true)?;
        monoio::net::UnixStream::from_std(ear)
    }

    fn schedule(&self, worker: u32, workers: u32, seed: u64, scenario: &Scenario) -> Schedule {
        Schedule::new(scenario.pace, scenario.rate, worker, workers, seed)
    }

    /// Times of this worker's part of the load.
    pub(crate) fn times(&self) -> Schedule {
        let Share { scenario, worker, workers, seed, .. } = &self.share;
        self.schedule(*worker, *workers, *seed, scenario)
    }

    /// Waits until `done` holds, at most for a while.
    pub(crate) async fn settle(&self, done: impl Fn() -> bool) {
        let until = now_ns() + SETTLE.as_nanos() as u64;
        while !done() && now_ns() < until {
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn say(&self, said: impl FnOnce(&Figures) -> Said) {
        let line = serde_json::to_string(&said(&self.figures.borrow())).expect("figures are JSON");
        let mut out = std::io::stdout().lock();
        // A coordinator that is gone needs no words; the end of the input ends the run.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// The whole life of a worker process.
pub(crate) fn main() -> std::process::ExitCode {
    let mut lines = std::io::stdin().lines();
    let share: Share = match lines.next().map(|line| line.map(|line| serde_json::from_str(&line))) {
        Some(Ok(Ok(share))) => share,
        other => {
            eprintln!("a worker is started by the generator, which tells it its share: {other:?}");
            return std::process::ExitCode::FAILURE;
        }
    };
    // The thread below locks the input for good.
    drop(lines);
    // Ctrl-C reaches the whole group; the coordinator alone decides.
    // SAFETY: ignoring a signal has no preconditions, and no thread has been started yet.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    if let Some(core) = share.core {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let go_ns = Arc::new(AtomicU64::new(u64::MAX));
    {
        let (stop, go_ns) = (Arc::clone(&stop), Arc::clone(&go_ns));
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                match line.ok().and_then(|line| serde_json::from_str(&line).ok()) {
                    Some(Word::Go(at)) => go_ns.store(at, Ordering::Release),
                    Some(Word::Stop) | None => break,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    let run = Rc::new(Run {
        chance: Cell::new((share.seed << 16 | u64::from(share.worker)) | 1 << 63),
        share,
        figures: RefCell::default(),
        start_ns: Cell::new(u64::MAX),
        stop,
        go_ns,
        ending: Cell::new(false),
    });
    let runtime =
        monoio::RuntimeBuilder::<monoio::FusionDriver>::new().enable_timer().with_entries(4096).build();
    let result = match runtime {
        Ok(mut runtime) => runtime.block_on(work(Rc::clone(&run))),
        Err(error) => Err(format!("no runtime: {error}")),
    };
    match result {
        Ok(()) => run.say(|figures| Said::Done(figures.clone())),
        Err(error) => run.say(|_| Said::Failed(error)),
    }
    std::process::ExitCode::SUCCESS
}

async fn work(run: Rc<Run>) -> Result<(), String> {
    let reporter = Rc::clone(&run);
    monoio::spawn(async move {
        loop {
            monoio::time::sleep(Duration::from_secs(1)).await;
            reporter.say(|figures| Said::Progress(figures.clone()));
        }
    });
    match run.share.scenario.kind {
        Kind::Echo => echo::work(run).await,
        Kind::Idle | Kind::Chat => chat::work(run).await,
    }
}
