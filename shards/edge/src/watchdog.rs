//! Sees a shard that does not turn: writes its stack after two seconds, ends the process after ten.
//!
//! A shard turns at least once a second, whatever happens. The watchdog counts its own looks, not the time between them, so a process that was stopped or
//! a machine that was paused for a minute is not taken for a stuck shard.
//!
//! The stack is taken by a signal on the stuck thread, whose handler only follows frame pointers and stores addresses; names are found on the watchdog's
//! thread. If the thread does not even take the signal, what the kernel says of it is written instead.

use std::fs;
use std::io;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::{exit, sys};

/// What a shard's thread tells the watchdog.
#[derive(Default)]
pub(crate) struct Pulse {
    turns: AtomicU64,
    thread: AtomicI32,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    ended: AtomicBool,
}

impl Pulse {
    /// This thread turns from now on.
    pub(crate) fn begin(&self) {
        let (low, high) = stack_bounds();
        self.stack_low.store(low, Ordering::Relaxed);
        self.stack_high.store(high, Ordering::Relaxed);
        self.thread.store(sys::thread_id(), Ordering::Release);
    }

    /// So many turns were begun.
    pub(crate) fn beat(&self, turns: u64) {
        self.turns.store(turns, Ordering::Relaxed);
    }

    /// The thread turns no more, as it should.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// When the watchdog says what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Between two looks.
    pub(crate) look: Duration,
    /// Looks without a turn until the stack is written.
    pub(crate) stack_looks: u32,
    /// Looks without a turn until the process ends.
    pub(crate) end_looks: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { look: Duration::from_millis(250), stack_looks: 8, end_looks: 40 }
    }
}

/// Starts the watchdog's thread; it ends when all shards have.
pub(crate) fn start(pulses: Vec<Arc<Pulse>>, patience: Patience) -> io::Result<()> {
    install_handler()?;
    thread::Builder::new().name("watchdog".into()).spawn(move || watch(&pulses, patience))?;
    Ok(())
}

fn watch(pulses: &[Arc<Pulse>], patience: Patience) {
    let mut seen: Vec<(u64, u32)> = vec![(0, 0); pulses.len()];
    while pulses.iter().any(|pulse| !pulse.ended.load(Ordering::Acquire)) {
        pause(patience.look);
        for (shard, (pulse, (turns, looks))) in pulses.iter().zip(&mut seen).enumerate() {
            let now = pulse.turns.load(Ordering::Relaxed);
            let serving = pulse.thread.load(Ordering::Acquire) != 0 && !pulse.ended.load(Ordering::Acquire);
            if now != *turns || !serving {
                if *looks >= patience.stack_looks {
                    log::warn!("shard {shard} turns again");
                }
                (*turns, *looks) = (now, 0);
                continue;
            }
            *looks += 1;
            if *looks == patience.stack_looks {
                let time = patience.look * patience.stack_looks;
                log::error!("shard {shard} has not turned for {time:?}; its stack:");
                for line in stack_of(pulse).lines() {
                    log::error!("{line}");
                }
            }
            if *looks >= patience.end_looks {
                let time = patience.look * patience.end_looks;
                log::error!(
                    "shard {shard} has not turned for {time:?}: the process ends, and serves again when it is started"
                );
                exit::now(exit::WATCHDOG);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the watchdog has a thread of its own and nothing else to do")]
fn pause(time: Duration) {
    thread::sleep(time);
}

const FRAMES: usize = 64;

/// Where the handler puts what it finds. One stack is taken at a time.
struct Shot {
    low: AtomicUsize,
    high: AtomicUsize,
    count: AtomicUsize,
    done: AtomicBool,
    frames: [AtomicUsize; FRAMES],
}

static SHOT: Shot = Shot {
    low: AtomicUsize::new(0),
    high: AtomicUsize::new(0),
    count: AtomicUsize::new(0),
    done: AtomicBool::new(false),
    frames: [const { AtomicUsize::new(0) }; FRAMES],
};

fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

fn install_handler() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    // SAFETY: plain numbers; all zeros is a valid value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the action is a valid one that outlives the call, and its handler only touches atomics and its own thread's stack.
    sys::check(unsafe { libc::sigaction(signal(), &raw const action, ptr::null_mut()) }).map(drop)
}

/// Runs on the stuck thread. Follows frame pointers as long as they stay in the thread's stack and rise; takes no lock and allocates nothing.
extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let (pc, mut frame) = registers(context);
    let (low, high) = (SHOT.low.load(Ordering::Relaxed), SHOT.high.load(Ordering::Relaxed));
    SHOT.frames[0].store(pc, Ordering::Relaxed);
    let mut count = 1;
    while count < FRAMES && frame >= low && frame < high.saturating_sub(16) && frame.is_multiple_of(8) {
        let slots = frame as *const usize;
        // SAFETY: the two words are inside this thread's own stack, whose bounds it said itself.
        let next = unsafe { slots.read() };
        // SAFETY: as above; the word behind it is still below `high`.
        let back = unsafe { slots.wrapping_add(1).read() };
        if back == 0 {
            break;
        }
        SHOT.frames[count].store(back, Ordering::Relaxed);
        count += 1;
        if next <= frame {
            break;
        }
        frame = next;
    }
    SHOT.count.store(count, Ordering::Relaxed);
    SHOT.done.store(true, Ordering::Release);
}

#[cfg(target_arch = "x86_64")]
fn registers(context: *mut libc::c_void) -> (usize, usize) {
    // SAFETY: the kernel passes a ucontext_t as the third argument of such a handler.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let register = |name: libc::c_int| context.uc_mcontext.gregs[name as usize] as usize;
    (register(libc::REG_RIP), register(libc::REG_RBP))
}

#[cfg(target_arch = "aarch64")]
fn registers(context: *mut libc::c_void) -> (usize, usize) {
    // SAFETY: the kernel passes a ucontext_t as the third argument of such a handler.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    (context.uc_mcontext.pc as usize, context.uc_mcontext.regs[29] as usize)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn registers(_: *mut libc::c_void) -> (usize, usize) {
    (0, 0)
}

/// The stack of a shard's thread as text, one frame a line.
fn stack_of(pulse: &Pulse) -> String {
    let thread = pulse.thread.load(Ordering::Acquire);
    SHOT.low.store(pulse.stack_low.load(Ordering::Relaxed), Ordering::Relaxed);
    SHOT.high.store(pulse.stack_high.load(Ordering::Relaxed), Ordering::Relaxed);
    SHOT.done.store(false, Ordering::Release);
    let process = std::process::id() as libc::pid_t;
    // SAFETY: no pointers are passed; the signal has a handler.
    let sent = sys::check(unsafe { libc::tgkill(process, thread, signal()) });
    for _ in 0..50 {
        if sent.is_err() || SHOT.done.load(Ordering::Acquire) {
            break;
        }
        pause(Duration::from_millis(2));
    }
    if !SHOT.done.load(Ordering::Acquire) {
        return kernel_view(thread);
    }
    let count = SHOT.count.load(Ordering::Relaxed).min(FRAMES);
    let frames = SHOT.frames[..count].iter().map(|frame| frame.load(Ordering::Relaxed));
    frames.enumerate().map(|(depth, frame)| format!("  {depth:2}: {}\n", name_of(frame, depth > 0))).collect()
}

/// The function an address is in. A return address is one past its call, so callers are looked up a byte earlier.
fn name_of(address: usize, is_return: bool) -> String {
    let mut names = Vec::new();
    let at = address - usize::from(is_return && address > 0);
    backtrace::resolve(at as *mut libc::c_void, |symbol| {
        let Some(name) = symbol.name() else { return };
        let place = match (symbol.filename(), symbol.lineno()) {
            (Some(file), Some(line)) => format!(" ({}:{line})", file.display()),
            _ => String::new(),
        };
        names.push(format!("{name:#}{place}"));
    });
    if names.is_empty() { format!("{address:#x}") } else { names.join(" < ") }
}

/// What the kernel says of a thread that takes no signal: it is inside a system call.
fn kernel_view(thread: i32) -> String {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/self/task/{thread}/{name}"));
        text.map_or_else(|error| format!("({error})"), |text| text.trim_end().replace('\n', "\n    "))
    };
    format!(
        "  it takes no signal; the kernel says:\n  state {}\n  system call {}\n  kernel stack\n    {}\n",
        read("stat"),
        read("syscall"),
        read("stack")
    )
}

/// The stack of this thread.
fn stack_bounds() -> (usize, usize) {
    // SAFETY: plain numbers; the call below fills it in.
    let mut attributes: libc::pthread_attr_t = unsafe { mem::zeroed() };
    // SAFETY: no arguments, cannot fail.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: a thread may ask about itself; the attributes outlive the call.
    let known = unsafe { libc::pthread_getattr_np(this, &raw mut attributes) };
    if known != 0 {
        return (0, 0);
    }
    let (mut start, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the attributes were filled in, and both results outlive the call.
    unsafe { libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size) };
    // SAFETY: the attributes were filled in and are not used again.
    unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    (start as usize, start as usize + size)
}
