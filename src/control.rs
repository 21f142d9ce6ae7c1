//! The control plane: HTTP, logins, metrics, settings, followers. It runs beside the shards and may stop without anybody's chat stopping.
//!
//! A **life** is one runtime with everything in it. What must outlive it is in [`Shared`], which belongs to boot: the ports to the shards, the settings in
//! effect, the counters, the listening socket of the private port.

mod admin;
mod connection;
mod counts;
mod key;
mod limiter;
mod login;
mod metrics;
mod pages;
mod pool;
mod port;
mod prefixed;
mod problem;
mod public;
mod refresh;
mod settings;
mod supervise;

pub(crate) use counts::Counts;
pub(crate) use key::AdminKey;
pub(crate) use port::{Mark, Ports};
pub(crate) use settings::Current;
pub(crate) use supervise::run as supervise;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use axum::Router;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::Config;
use crate::followers::{self, Journal, Progress};
use crate::store::{SettingsFile, Store};
use connection::{Ended, Upgrades};
use edge::node::ReportBell;
use login::Logins;
use port::Handed;
use supervise::End;

/// Connections on the private listener at a time.
const ADMIN_CONNECTIONS: usize = 64;
/// How long a life waits for what still runs when it ends.
const WIND_UP: Duration = Duration::from_secs(2);
/// Between two tries to open control.db or to drive a follower.
const PAUSE: Duration = Duration::from_secs(2);

/// How far the server is on its way to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It serves.
    Running,
    /// The shards drain and seal; followers finish.
    Stopping,
}

/// What outlives a life.
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) settings: Arc<Current>,
    pub(crate) config: RwLock<Arc<Config>>,
    pub(crate) settings_file: SettingsFile,
    pub(crate) data_dir: std::path::PathBuf,
    pub(crate) journals: Vec<Journal>,
    pub(crate) echo_path: Option<Arc<str>>,
    pub(crate) admin: TcpListener,
    pub(crate) admin_key: AdminKey,
    pub(crate) counts: Arc<Counts>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stage: watch::Sender<Stage>,
    pub(crate) clock: Clock,
    pub(crate) workers: usize,
    pub(crate) end: EndOfLife,
}

/// Asks a life to end.
#[derive(Default)]
pub(crate) struct EndOfLife {
    asked: Notify,
    hard: AtomicBool,
    /// The configuration has changed.
    pub(crate) reload: Notify,
}

impl Shared {
    /// Ends this life; the next begins at once. `hard`: by a panic, as a fault of ours would.
    fn end_life(&self, hard: bool) {
        self.end.hard.store(hard, Ordering::SeqCst);
        self.end.asked.notify_one();
    }

    /// The configuration in effect.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// What belongs to one life.
struct Life {
    shared: Arc<Shared>,
    /// Empty until control.db is open.
    store: Arc<OnceLock<Store>>,
}

impl std::ops::Deref for Life {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// One life, from the start of a runtime to its end.
pub(crate) fn life(shared: &Arc<Shared>) -> End {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(shared.workers)
        .max_blocking_threads(2 + 2 * shared.journals.len())
        .thread_name("control")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("the control plane has no runtime: {error}");
            return End::Failed;
        }
    };
    let end = runtime.block_on(live(shared));
    runtime.shutdown_timeout(WIND_UP);
    end.unwrap_or_else(|error| {
        log::error!("the control plane cannot go on: {error}");
        End::Failed
    })
}

async fn live(shared: &Arc<Shared>) -> std::io::Result<End> {
    let life = Arc::new(Life { shared: Arc::clone(shared), store: Arc::default() });
    let logins = Logins::new(
        shared.config().limits.login_rate,
        Arc::clone(&life.store),
        Arc::clone(&shared.settings),
        Arc::clone(&shared.counts),
        shared.clock.clone(),
    )?;
    let public = public::router(Arc::clone(&shared.settings), Arc::new(logins));
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&life).listen()?);
    tasks.spawn(Arc::clone(&life).take_reports(public)?);
    tasks.spawn(refresh::keep(Arc::clone(&life)));
    let followed = tokio::spawn(follow(Arc::clone(&life)));
    tokio::select! {
        ended = tasks.join_next() => {
            // These run for ever: one that ended has panicked.
            if let Some(Err(error)) = ended && error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            }
            Ok(End::Failed)
        }
        () = shared.end.asked.notified() => {
            assert!(!shared.end.hard.swap(false, Ordering::SeqCst), "this life was told to end by a panic");
            Ok(End::Restart)
        }
        ended = followed => {
            if let Err(error) = ended {
                // Cancelled it cannot be: its handle is here.
                std::panic::resume_unwind(error.into_panic());
            }
            // All journals are sealed and followed to their ends.
            if let Some(store) = life.store.get() {
                store.clone().close().await;
            }
            Ok(End::Stopped)
        }
    }
}

/// Opens control.db, however long it takes; then drives every follower along every journal to its seal.
async fn follow(life: Arc<Life>) {
    let store = refresh::store(&life).await;
    let mut drives = JoinSet::new();
    for journal in &life.journals {
        let (shared, journal, store) = (Arc::clone(&life.shared), journal.clone(), store.clone());
        drives.spawn(async move {
            loop {
                let mark = shared.ports.mark(journal.shard);
                let drive = followers::drive(
                    followers::Count,
                    journal.clone(),
                    mark,
                    store.clone(),
                    Arc::clone(&shared.progress),
                );
                match tokio::spawn(drive).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => log::error!("shard {}: a follower stopped: {error}", journal.shard),
                    Err(error) => log::error!("shard {}: a follower panicked: {error}", journal.shard),
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    while let Some(ended) = drives.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Life {
    /// The private listener.
    fn listen(self: Arc<Self>) -> std::io::Result<impl Future<Output = ()> + use<>> {
        let listener = self.admin.try_clone()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = admin::router(Arc::clone(&self));
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
        Ok(async move {
            loop {
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let (router, counts) = (router.clone(), Arc::clone(&self.counts));
                        tokio::spawn(async move {
                            connection::serve(stream, Vec::new(), peer, router, Upgrades::None, counts).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        log::warn!("the private listener: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
    }

    /// Takes the shards' reports as they come, and serves the connections among them.
    fn take_reports(self: Arc<Self>, router: Router) -> std::io::Result<impl Future<Output = ()> + use<>> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; this is sound, because the bell keeps its descriptor open while it lives"
        )]
        let bell = AsyncFd::with_interest(Bell(self.ports.bell()), Interest::READABLE)?;
        Ok(async move {
            // What came while nobody lived is there already.
            self.drain(&router);
            while let Ok(mut ready) = bell.readable().await {
                ready.clear_ready();
                self.drain(&router);
            }
        })
    }

    fn drain(self: &Arc<Self>, router: &Router) {
        self.ports.drain(|handed| {
            Counts::add(&self.counts.taken);
            tokio::spawn(Arc::clone(self).serve(handed, router.clone()));
        });
    }

    async fn serve(self: Arc<Self>, handed: Handed, router: Router) {
        let Handed { stream, peer, bytes, place } = handed;
        let stream = std::net::TcpStream::from(stream);
        // Accepted non-blocking; said again because nothing here may ever block.
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        let Ok(stream) =
            stream.inspect_err(|error| log::warn!("a connection of {peer} cannot be served: {error}"))
        else {
            return;
        };
        let upgrades = Upgrades::Shards(self.echo_path.clone());
        let ended = connection::serve(stream, bytes, peer, router, upgrades, Arc::clone(&self.counts)).await;
        if let Ended::Upgrade(stream, bytes) = ended
            && let Ok(stream) = stream.into_std()
        {
            match self.ports.adopt(stream.into(), peer, bytes) {
                Ok(()) => Counts::add(&self.counts.given_back),
                Err(stream) => {
                    Counts::add(&self.counts.orders_refused);
                    refuse(std::net::TcpStream::from(stream));
                }
            }
        }
        drop(place);
    }
}

/// The bell as something that can be polled.
struct Bell(ReportBell);

impl std::os::fd::AsRawFd for Bell {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(&self.0).as_raw_fd()
    }
}

/// No shard has room for an upgrade: says so and closes. The socket's buffer is empty, so this does not wait.
fn refuse(mut stream: std::net::TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let _ = std::io::Write::write_all(&mut stream, answer);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Binds the private listener.
pub(crate) fn bind_admin(address: SocketAddr) -> std::io::Result<TcpListener> {
    // The sockets of a killed process may outlive it by a moment, while its rings are taken apart.
    let mut tries = 250;
    let listener = loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            bound => break bound?,
        }
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
