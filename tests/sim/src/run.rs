//! Running worlds: one, or a batch.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::marks::Marks;
use crate::world::World;

/// What became of a world.
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// All that happened, as one number.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Messages that clients said.
    pub messages: u64,
    /// Ends of the process, asked for or not.
    pub crashes: u64,
    /// Virtual time, in microseconds.
    pub took_us: u64,
    /// What broke the contract, if anything did.
    pub violation: Option<String>,
    marks: Marks,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps a panic's words for the verdict instead of printing them.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let in_world = std::thread::current().name().is_some_and(|name| name.starts_with("world"));
            if !in_world && !IN_WORLD.get() {
                return default(info);
            }
            PANIC.with(|words| *words.borrow_mut() = info.to_string());
        }));
    });
}

thread_local! {
    static IN_WORLD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Plants a bug by its name in this thread; an empty name plants none. Returns whether the program was built with such bugs.
pub fn plant(name: &'static str) -> bool {
    shard::plant::set(name)
}

/// Runs the world of a seed; with `print` every event is a line on the standard output.
pub fn run(seed: u64, print: bool) -> Verdict {
    catch_panics();
    let mut world = World::new(seed, print);
    IN_WORLD.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    IN_WORLD.set(false);
    let violation = match ended {
        Ok(()) => world.check.violation.take(),
        Err(_) => Some(PANIC.with(|words| format!("panic: {}", words.borrow()))),
    };
    Verdict {
        seed,
        hash: world.trace.hash(),
        events: world.trace.events,
        messages: world.messages(),
        crashes: world.crashes,
        took_us: world.now_us,
        violation,
        marks: world.marks.clone(),
    }
}

/// What became of many worlds.
#[derive(Default)]
pub struct Batch {
    /// Worlds that ran.
    pub worlds: u64,
    /// All their events.
    pub events: u64,
    /// All their messages.
    pub messages: u64,
    /// Worlds that saw less than a world must: messages, events or crashes.
    pub thin: u64,
    /// Seed and events of the longest world.
    pub longest: (u64, u64),
    /// The failing world with the lowest seed, and why.
    pub failed: Option<(u64, String)>,
    marks: Marks,
}

impl Batch {
    fn add(&mut self, verdict: Verdict) {
        self.worlds += 1;
        self.events += verdict.events;
        self.messages += verdict.messages;
        self.thin += u64::from(verdict.messages < 50 || verdict.events < 500 || verdict.crashes < 2);
        self.marks.add(&verdict.marks);
        if verdict.events > self.longest.1 {
            self.longest = (verdict.seed, verdict.events);
        }
        if let Some(why) = verdict.violation
            && self.failed.as_ref().is_none_or(|(seed, _)| verdict.seed < *seed)
        {
            self.failed = Some((verdict.seed, why));
        }
    }

    fn join(&mut self, other: Batch) {
        self.worlds += other.worlds;
        self.events += other.events;
        self.messages += other.messages;
        self.thin += other.thin;
        self.marks.add(&other.marks);
        if other.longest.1 > self.longest.1 {
            self.longest = other.longest;
        }
        if let Some((seed, why)) = other.failed
            && self.failed.as_ref().is_none_or(|(first, _)| seed < *first)
        {
            self.failed = Some((seed, why));
        }
    }

    /// Marks that no world reached.
    pub fn unreached(&self) -> Vec<&'static str> {
        self.marks.unreached()
    }

    /// Every mark and how often it was reached.
    pub fn marks(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.marks.iter()
    }

    /// Marks that need not be reached, with the reason.
    pub fn exceptions() -> impl Iterator<Item = (&'static str, &'static str)> {
        Marks::exceptions()
    }
}

/// Runs the worlds `from..from + count` on `threads` threads, each world on one. Stops early when one fails, unless `keep_going`.
pub fn run_many(
    from: u64,
    count: u64,
    threads: usize,
    keep_going: bool,
    told: impl Fn(&Verdict) + Sync,
) -> Batch {
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut batch = Batch::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count || (failed.load(Ordering::Relaxed) && !keep_going) {
                return batch;
            }
            let verdict = run(seed, false);
            failed.fetch_or(verdict.violation.is_some(), Ordering::Relaxed);
            told(&verdict);
            batch.add(verdict);
        }
    };
    let mut all = Batch::default();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        all.join(work());
        for other in others {
            all.join(other.join().expect("panics of worlds are caught"));
        }
    });
    all
}
