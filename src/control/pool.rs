//! The password pool: few threads that hash, and a short queue before them. Hashing is slow on purpose, so it never runs where anything else waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Hashes at a time. Each takes 19 MiB.
const THREADS: usize = 2;
/// Logins that wait for a thread; with one more the answer is "busy".
pub(super) const WAITING_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The pool. Its threads end with it.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    /// The most that ran at a time.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look at it"))]
    peak: Arc<AtomicUsize>,
}

/// The queue is full: come back later.
#[derive(Debug)]
pub(super) struct Busy;

impl Pool {
    /// Starts the threads.
    pub(super) fn start() -> std::io::Result<Pool> {
        let (jobs, queue) = sync_channel::<Job>(WAITING_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for number in 0..THREADS {
            let (queue, running, peak) = (Arc::clone(&queue), Arc::clone(&running), Arc::clone(&peak));
            std::thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                while let Some(job) = next(&queue) {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // A hash that panics must not cost the pool a thread; whoever waits for it is told "busy".
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        log::error!("a password could not be checked: the work panicked");
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                }
            })?;
        }
        Ok(Pool { jobs, peak })
    }

    /// Runs `work` on a thread of the pool.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody waits any more: the client went away before his turn.
            if !tell.is_closed() {
                let _ = tell.send(work());
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => told.await.map_err(|_| Busy),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }

    #[cfg(test)]
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_logins_at_once_never_run_more_than_two_at_a_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let pool = Arc::new(Pool::start().unwrap());
            let mut tasks = Vec::new();
            for number in 0..500 {
                let pool = Arc::clone(&pool);
                tasks.push(tokio::spawn(async move {
                    let work = move || {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                        number
                    };
                    pool.run(work).await.map(|got| assert_eq!(got, number)).is_ok()
                }));
            }
            let mut done = 0;
            for task in tasks {
                done += usize::from(task.await.unwrap());
            }
            assert_eq!(pool.peak(), THREADS);
            // Those that found the queue full were told at once; nobody waits for minutes.
            assert!((WAITING_MAX..=WAITING_MAX + THREADS + 40).contains(&done), "{done}");
        });
    }
}
