//! The short list of statuses with which the data plane ends the process.
//!
//! Half a server is worse than none: whatever a shard cannot survive ends the process at once, and the supervisor starts it again from what the disk
//! holds. The statuses say why, so that a supervisor and a person can tell a bad disk from a bad kernel.

/// A write or a flush failed: nothing was acknowledged after it (`Effect::Fence`).
pub const FENCED: i32 = 70;
/// io_uring is missing, refused or too old.
pub const NO_RING: i32 = 71;
/// Another process holds the data directory.
pub const LOCKED: i32 = 72;
/// A shard did not turn for ten seconds.
pub const WATCHDOG: i32 = 73;
/// A shard, or the thread that prepares its segments, panicked.
pub const PANIC: i32 = 74;
/// The listening address is taken or not allowed.
pub const LISTEN: i32 = 75;
/// The data directory cannot be used: permissions, space, a device error.
pub const DISK: i32 = 76;
/// The journal cannot be opened: another site's, another format's, or damaged beyond a safe start.
pub const JOURNAL: i32 = 77;
/// The plan asks for what the host cannot give (cores, threads, memory that may be locked).
pub const PLAN: i32 = 78;

std::thread_local! {
    /// Said when this thread panics, of a thread without which the process ends.
    static LAST_WORDS: std::cell::OnceCell<String> = const { std::cell::OnceCell::new() };
}

/// From now on a panic of this thread says `words` and ends the process, after the hook that was there has said what happened and before anything
/// unwinds.
pub(crate) fn on_panic(words: String) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            // A thread that is ending has nothing left to free.
            let _ = LAST_WORDS.try_with(|words| {
                if let Some(words) = words.get() {
                    log::error!("{words}");
                    now(PANIC);
                }
            });
        }));
    });
    LAST_WORDS.with(|last| last.set(words).expect("a thread says once what its end means"));
}

/// Ends the process now, without running anything else: no destructor, no `atexit`. What is on the disk is the truth.
pub fn now(status: i32) -> ! {
    // SAFETY: `_exit` has no precondition and does not return.
    unsafe { libc::_exit(status) }
}
