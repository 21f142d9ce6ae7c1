//! `cargo sim`: replays one world, or runs many.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use ringdesk_sim::{BUGS, Batch, Verdict, plant, run, run_many};

const USAGE: &str = "\
cargo sim SEED [--trace] [--plant BUG]      replay one world
cargo sim --worlds N [--from S] [--threads T] [--marks] [--all]
                                            run many; --marks fails on marks that no world reached, --all goes on after a failure";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Result<Option<u64>, String> {
        let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
        let value = args.get(at + 1).ok_or(format!("{name} needs a number"))?;
        value.parse().map(Some).map_err(|_| format!("{name} needs a number"))
    };
    if let Some(at) = args.iter().position(|arg| arg == "--plant") {
        let name = args.get(at + 1).cloned().unwrap_or_default();
        if !BUGS.iter().any(|(known, _)| *known == name) {
            eprintln!("there is no bug {name:?} to plant; there are:");
            BUGS.iter().for_each(|(name, what)| eprintln!("  {name:<32} {what}"));
            return ExitCode::from(2);
        }
        if !plant(name.leak()) {
            eprintln!("no bug can be planted: build with --features planted");
            return ExitCode::from(2);
        }
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let parsed = (|| Ok::<_, String>((number("--worlds")?, number("--from")?, number("--threads")?)))();
    let (worlds, from, threads) = match parsed {
        Ok(parsed) => parsed,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match (worlds, args.first().and_then(|arg| arg.parse().ok())) {
        (Some(worlds), _) => {
            many(worlds, from.unwrap_or(1), threads.unwrap_or(1) as usize, flag("--marks"), flag("--all"))
        }
        (None, Some(seed)) => one(seed, flag("--trace")),
        (None, None) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, print: bool) -> ExitCode {
    let verdict = run(seed, print);
    println!(
        "seed {seed}  hash {:016x}  events {}  messages {}  crashes {}  virtual {:.3} s",
        verdict.hash,
        verdict.events,
        verdict.messages,
        verdict.crashes,
        verdict.took_us as f64 / 1e6
    );
    match verdict.violation {
        None => {
            println!("good");
            ExitCode::SUCCESS
        }
        Some(why) => {
            println!("BROKEN: {why}");
            ExitCode::FAILURE
        }
    }
}

fn many(worlds: u64, from: u64, threads: usize, marks: bool, keep_going: bool) -> ExitCode {
    let began = Instant::now();
    let done = Mutex::new((0u64, 0u64));
    let batch = run_many(from, worlds, threads.max(1), keep_going, |verdict: &Verdict| {
        let mut done = done.lock().expect("no panic while it is held");
        done.0 += 1;
        if let Some(why) = verdict.violation.as_ref().filter(|_| keep_going) {
            println!("seed {}: {}", verdict.seed, why.chars().take(300).collect::<String>());
        }
        let tenth = done.0 * 10 / worlds.max(1);
        if tenth > done.1 {
            done.1 = tenth;
            eprintln!("{} worlds, {:.0} s", done.0, began.elapsed().as_secs_f64());
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} worlds, {} events, {} messages, {:.1} s, {:.0} worlds/s/thread, {} thin, longest {} with {} events",
        batch.worlds,
        batch.events,
        batch.messages,
        seconds,
        batch.worlds as f64 / seconds / threads.max(1) as f64,
        batch.thin,
        batch.longest.0,
        batch.longest.1
    );
    let mut good = true;
    if marks {
        good &= tell_marks(&batch);
    }
    if let Some((seed, why)) = &batch.failed {
        println!("BROKEN: seed {seed}: {why}\nreplay: cargo sim {seed} --trace");
        good = false;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_marks(batch: &Batch) -> bool {
    for (name, count) in batch.marks() {
        println!("{count:>12} {name}");
    }
    for (name, why) in Batch::exceptions() {
        println!("need not be reached: {name}: {why}");
    }
    let unreached = batch.unreached();
    for name in &unreached {
        println!("NOT REACHED: {name}");
    }
    unreached.is_empty()
}
