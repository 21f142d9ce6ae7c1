//! Signals, and the way down: shards say `goaway`, commit, close and seal; followers read what is written; then the end. A second signal ends at once.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edge::node::Running;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::Overrides;
use crate::control::{Shared, Stage};
use crate::exit::Exit;

/// When clients are told to come back.
const AFTER_MS: u32 = 1_000;
/// Between `goaway` and the closing of sockets: time for what is on its way.
const GRACE_MS: u32 = 500;
/// For the shards to seal. Longer means a disk that does not answer.
const SEAL_TIME: Duration = Duration::from_secs(30);
/// For the followers to finish, after that.
const FOLLOW_TIME: Duration = Duration::from_secs(10);

/// A signal's number, for the exit status of an impatient end.
type Number = i32;
const INT: Number = 2;
const TERM: Number = 15;

struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    fn new() -> io::Result<Ends> {
        Ok(Ends { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }
    async fn next(&mut self) -> Number {
        tokio::select! {
            _ = self.term.recv() => TERM,
            _ = self.int.recv() => INT,
        }
    }
}

/// Waits for the first signal to stop. SIGHUP reads the configuration again meanwhile. The runtime goes on to [`stop`] with the handlers installed.
pub(super) fn wait(shared: &Arc<Shared>, overrides: &Overrides) -> io::Result<Stopping> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ends, signal) = runtime.block_on(async {
        let (mut ends, mut hang_up) = (Ends::new()?, signal(SignalKind::hangup())?);
        loop {
            tokio::select! {
                signal = ends.next() => return io::Result::Ok((ends, signal)),
                _ = hang_up.recv() => reload(shared, overrides),
            }
        }
    })?;
    Ok(Stopping { runtime, ends, signal })
}

/// On the way down.
pub(super) struct Stopping {
    runtime: tokio::runtime::Runtime,
    ends: Ends,
    signal: Number,
}

/// Stops everything, in reverse.
pub(super) fn stop(
    shared: &Arc<Shared>,
    control_ended: oneshot::Receiver<()>,
    running: Running,
    stopping: Stopping,
) -> io::Result<Exit> {
    let Stopping { runtime, mut ends, signal } = stopping;
    log::info!("signal {signal}: stopping; a second one ends at once");
    shared.stage.send_replace(Stage::Stopping);
    let down = runtime.block_on(async {
        tokio::select! {
            signal = ends.next() => {
                log::warn!("signal {signal}: ending now");
                // What is on the disk is the truth.
                edge::exit::now(128 + signal)
            }
            down = wind_down(shared, control_ended) => down,
        }
    });
    if down {
        running.join();
        log::info!("stopped");
        Ok(Exit::Good)
    } else {
        Ok(Exit::Failed)
    }
}

/// Whether all journals are sealed.
async fn wind_down(shared: &Shared, control_ended: oneshot::Receiver<()>) -> bool {
    let sealed = async {
        let mut told = vec![false; usize::from(shared.ports.count())];
        while shared.ports.drain_shards(AFTER_MS, GRACE_MS, &mut told).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for shard in 0..shared.ports.count() {
            // An error means the sender is gone, and it lives as long as `shared`.
            let _ = shared.ports.mark(shard).wait_for(|mark| mark.sealed).await;
        }
    };
    if tokio::time::timeout(SEAL_TIME, sealed).await.is_err() {
        log::error!(
            "the shards did not seal in {} s: the disk does not answer; ending anyway, nothing acknowledged is lost",
            SEAL_TIME.as_secs()
        );
        return false;
    }
    if tokio::time::timeout(FOLLOW_TIME, control_ended).await.is_err() {
        log::warn!(
            "followers did not finish in {} s; they go on from their cursors at the next start",
            FOLLOW_TIME.as_secs()
        );
    }
    true
}

/// Takes over what of the configuration is hot; names what is not.
fn reload(shared: &Shared, overrides: &Overrides) {
    match overrides.clone().load() {
        Err(complaints) => log::error!("the configuration is wrong: {complaints}"),
        Ok(fresh) => {
            let mut config = shared.config.write().unwrap_or_else(PoisonError::into_inner);
            let (taken, waiting) = config.taken_over(fresh);
            for setting in waiting {
                log::warn!(
                    "{}.{} has changed and needs a restart; until then it is {}",
                    setting.section,
                    setting.key,
                    setting.show(&taken)
                );
            }
            *config = Arc::new(taken);
            drop(config);
            shared.end.reload.notify_one();
            log::info!("the configuration was read again");
        }
    }
}
