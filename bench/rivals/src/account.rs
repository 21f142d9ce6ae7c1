//! What a process has spent, told as one line of JSON when it is asked to end.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that were sent back or passed on.
pub static MESSAGES: AtomicU64 = AtomicU64::new(0);
/// System calls into a ring, or turns of an epoll loop; 0 where nobody counts.
pub static ENTERS: AtomicU64 = AtomicU64::new(0);

/// Counts without a locked instruction: every counter has one writer.
pub fn count(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(|task| of(task.path())).sum()
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Ends the process on SIGTERM or SIGINT with its account as the last line.
pub fn at_the_end() {
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
            .expect("signals can be waited for");
    std::thread::spawn(move || {
        signals.forever().next();
        println!(
            "{{\"messages\":{},\"cpu_ns\":{},\"rss_bytes\":{},\"enters\":{}}}",
            MESSAGES.load(Ordering::Relaxed),
            cpu_ns(),
            resident(),
            ENTERS.load(Ordering::Relaxed)
        );
        std::process::exit(0);
    });
}
